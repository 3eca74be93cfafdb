"""What the conversions share: the error, and how a type is called in it."""

from collections.abc import Callable
from typing import Any

from airflow_ingest_provider.core.shape import TypeShape

Convert = Callable[[Any], str]
"""One value, never None -> the text that PostgreSQL's input of the type reads."""

VARHDRSZ = 4
"""What PostgreSQL adds to the lengths and precisions that a type's modifier holds."""

MICROSECONDS = 6
"""Decimal places of a second that PostgreSQL and Python keep."""

_SPELLINGS = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "varchar": "character varying",
    "bpchar": "character",
    "char": '"char"',
    "time": "time without time zone",
    "timetz": "time with time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}


class MisfitError(Exception):
    """The column cannot hold the value as it is; the message says what it holds and what to do."""


def spelled(type_: TypeShape) -> str:
    """The type as SQL spells it, for messages: `numeric(10,2)`, `time(3) with time zone`, `integer[]`."""
    if type_.is_array and type_.element is not None:
        return f"{spelled(type_.element)}[]"
    name = _SPELLINGS.get(type_.name, type_.name)
    if type_.modifier < 0:
        return name
    if type_.name in ("varchar", "bpchar"):
        return f"{name}({type_.modifier - VARHDRSZ})"
    if type_.name == "numeric":
        return "{}({},{})".format(name, *numeric_limits(type_.modifier))
    if type_.name in ("time", "timetz", "timestamp", "timestamptz"):
        word, _, zone = name.partition(" ")
        return f"{word}({type_.modifier}) {zone}"
    return name


def numeric_limits(modifier: int) -> tuple[int, int]:
    """Precision and scale of a numeric, as numerictypmodin packs them; the scale can be negative."""
    packed = modifier - VARHDRSZ
    return packed >> 16 & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024


def text(value: str) -> str:
    """The characters of a str, of a subclass too (StrEnum), if UTF-8 and PostgreSQL can hold them."""
    content = str.__str__(value)
    if "\0" in content:
        raise MisfitError("it holds a NUL character, which PostgreSQL cannot store: take it out")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise MisfitError("it holds half of a surrogate pair, which UTF-8 cannot hold: mend it") from None
    return content
