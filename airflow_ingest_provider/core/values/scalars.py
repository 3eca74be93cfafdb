"""Texts, bytes, and types without a family: what a value holds counts, whatever a subclass shows of it."""

import ipaddress
import math
import uuid
from decimal import Decimal
from enum import Enum
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer

from airflow_ingest_provider.core.names import MAX_BYTES
from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values.misfit import VARHDRSZ, Convert, MisfitError, spelled, text

# Interfaces are addresses too.
_NETWORK = (
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)


def boolean(value: Any) -> str:
    if isinstance(value, str):
        return text(value)
    if not isinstance(value, int) or value not in (0, 1):
        raise MisfitError("boolean holds true and false: pass a bool")
    return "t" if value else "f"


def characters(type_: TypeShape) -> Convert:
    """text, varchar(n), bpchar(n), name and what reads like them: a str, every character of it."""
    name = spelled(type_)
    most = type_.modifier - VARHDRSZ if type_.modifier >= 0 else None

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise MisfitError(f"{name} holds text: pass {_as_text(value)}")
        content = text(value)
        if most is not None and len(content) > most:
            raise MisfitError(
                f"it has {len(content)} characters and {name} holds {most}: cut it, or declare a longer one"
            )
        if type_.name == "name" and len(content.encode()) > MAX_BYTES:
            raise MisfitError(f"name holds {MAX_BYTES} bytes and would cut it: shorten it, or declare text")
        return content

    return convert


def _as_text(value: Any) -> str:
    """What to pass in place of a value that is no str."""
    made = "value.decode()" if isinstance(value, bytes | bytearray) else "str(value)"
    if isinstance(value, dict | list):
        made = "json.dumps(value)"
    return _special(value) or f"a str, such as {made}"


def _special(value: Any) -> str | None:
    """What to pass in place of a value whose own text is hardly what is wanted."""
    if isinstance(value, Enum):
        return "value.name or value.value"
    if math.isnan(value) if isinstance(value, float) else isinstance(value, Decimal) and value.is_nan():
        return "None for a missing value, or the text that stands for NaN"
    return None


def single_byte(value: Any) -> str:
    """ "char": one byte. Above ASCII its text form is another before PostgreSQL 16."""
    is_bytes = isinstance(value, bytes | bytearray | memoryview)
    content = memoryview(value).tobytes().decode("latin-1") if is_bytes else value
    if not isinstance(content, str) or len(content) > 1 or not content.isascii():
        raise MisfitError('"char" holds one byte: pass a str or bytes of one ASCII character')
    return "" if content == "\0" else str.__str__(content)


def binary(value: Any) -> str:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise MisfitError("bytea holds bytes: pass bytes (of a str: value.encode())")
    return f"\\x{memoryview(value).hex()}"


def unique_id(value: Any) -> str:
    if isinstance(value, str):
        return text(value)
    if not isinstance(value, uuid.UUID):
        raise MisfitError("uuid holds UUIDs: pass a uuid.UUID, or a str of one")
    return uuid.UUID.__str__(value)


def network(type_: TypeShape) -> Convert:
    """inet, cidr."""

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return text(value)
        for kind in _NETWORK:
            if isinstance(value, kind):
                return kind.__str__(value)
        raise MisfitError(f"{type_.name} holds addresses: pass one of the ipaddress module, or a str")

    return convert


def texts_only(type_: TypeShape) -> Convert:
    """Types without a Python type of their own, and enums: a str, for PostgreSQL to read."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            special = _special(value)
            raise MisfitError(f"pass {special or f'a str that PostgreSQL reads as {type_.name}'}")
        return text(value)

    return convert


def other(type_: TypeShape) -> Convert:
    """Any other type: a str as it is, the rest as psycopg would send it, if it can."""
    transformer = Transformer()

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return text(value)
        try:
            dumped = transformer.get_dumper(value, PyFormat.TEXT).dump(value)
        except (psycopg.Error, ValueError, TypeError, OverflowError):
            dumped = None
        if dumped is None:
            raise MisfitError(f"psycopg cannot send it: pass a str that PostgreSQL reads as {type_.name}")
        return text(bytes(dumped).decode())

    return convert
