"""A column of values of one exact Python type -> their texts, as a whole, where that is exact.

`bulks(type)` tells for a PostgreSQL type which Python types can be converted so. Such a function gives
None where it cannot prove that the type keeps every value as it is: the caller then goes value by value.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import chain, islice
from types import NoneType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values import render
from airflow_ingest_provider.core.values.documents import holds_nul
from airflow_ingest_provider.core.values.durations import interval_limits, interval_text
from airflow_ingest_provider.core.values.literals import array_items
from airflow_ingest_provider.core.values.misfit import MICROSECONDS, VARHDRSZ, numeric_limits
from airflow_ingest_provider.core.values.moments import FAR, precision
from airflow_ingest_provider.core.values.nested import READ_OTHERWISE, delimiter, quoted
from airflow_ingest_provider.core.values.numbers import EXACT_DIGITS
from airflow_ingest_provider.core.values.spellings import DAY, OFFSET, clock

Texts = Sequence[str | None]
Convert = Callable[[Sequence[Any], str], Texts | None]


@dataclass(frozen=True)
class Bulk:
    """How a column of one Python type is converted as a whole.

    `texts` takes the values and the text that stands for None ("" if there is none among them), and
    gives None where it proves nothing. With `plain`, the texts hold nothing that COPY or an array literal
    has to quote; without it, None stays None.
    """

    texts: Convert
    plain: bool = True


ANY_TYPE = object
"""The key of a Bulk that takes values of any mix of types."""


def bulks(type_: TypeShape, serialize_json: Callable[[Any], str] | None = None) -> Mapping[type, Bulk]:
    """Python type -> how a column of it is converted; columns of other types go value by value."""
    if type_.kind == "b" and type_.element is not None:
        return {**(_texts(type_) or _array_texts(type_.element)), list: Bulk(_arrays(type_.element), plain=False)}
    if type_.kind == "b" and type_.name in ("json", "jsonb"):
        return {} if serialize_json else {ANY_TYPE: Bulk(_json_values(type_.name == "jsonb"), plain=False)}
    if type_.kind == "b" and type_.name in _BY_TYPE:
        return _BY_TYPE[type_.name](type_)
    return _FIXED.get(type_.name, _TEXTS) if type_.kind == "b" else _texts(type_)


def _texts(type_: TypeShape) -> Mapping[type, Bulk]:
    """Texts of a type made of others, where none of those drops a part of any text."""
    parts = (type_.element,) if type_.element else type_.fields
    return _TEXTS if all(map(_keeps_any_text, parts)) else {}


def _keeps_any_text(part: TypeShape) -> bool:
    return part.name in READ_OTHERWISE or bulks(part).get(str) is _AS_THEY_ARE


def _as_they_are(values: Sequence[Any], _null: str) -> Texts:
    return values


_AS_THEY_ARE = Bulk(_as_they_are, plain=False)
_TEXTS: Mapping[type, Bulk] = {str: _AS_THEY_ARE}


def _present(values: Sequence[Any], null: str) -> Sequence[Any]:
    return [value for value in values if value is not None] if null else values


# Numbers


_CODES = {"int2": "h", "int4": "i", "int8": "q", "oid": "I"}
"""struct's format of each integer type."""


def _integers(type_: TypeShape) -> Mapping[type, Bulk]:
    code = _CODES[type_.name]

    def texts(values: Sequence[Any], null: str) -> Texts | None:
        numbers = _present(values, null)
        try:
            # A fifth of the time of min() and max(): 5 ns a value.
            struct.pack(f"={len(numbers)}{code}", *numbers)
        except struct.error:
            return None
        return render.integers(values, null)

    return {int: Bulk(texts), str: _AS_THEY_ARE}


def _numerics(type_: TypeShape) -> Mapping[type, Bulk]:
    scale = numeric_limits(type_.modifier)[1] if type_.modifier >= 0 else None
    if scale is not None and scale < 0:
        return {}
    # The literal point in front lets the search skip from number to number: 13 ns a value.
    lost = re.compile(rf"\.[0-9]{{{scale}}}[0-9]*[1-9]") if scale is not None else None

    def decimals(values: Sequence[Any], null: str) -> Texts | None:
        parts = [null if value is None else str(value) for value in values] if null else list(map(str, values))
        shown = "\0".join(parts)
        hidden = lost and ("E" in shown or "e" in shown or "I" in shown or lost.search(shown))
        # sNaN, -NaN and NaN123 are none of PostgreSQL's.
        return None if "aN" in shown or hidden else parts

    def floats(values: Sequence[Any], null: str) -> Texts | None:
        parts = render.floats(values, null)
        if lost:
            shown = "\0".join(parts)
            if "e" in shown or "n" in shown or lost.search(shown):
                return None
        return parts

    def strings(values: Sequence[Any], null: str) -> Texts | None:
        shown = "\0".join(_present(values, null))
        hidden = lost and ("e" in shown or "E" in shown or "_" in shown or lost.search(shown))
        return None if hidden else values

    return {
        Decimal: Bulk(decimals),
        int: Bulk(render.integers),
        float: Bulk(floats),
        str: Bulk(strings, plain=False) if lost else _AS_THEY_ARE,
    }


def _floats(type_: TypeShape) -> Mapping[type, Bulk]:
    # A whole number of fewer digits is exact. The literal NUL in front lets the search skip from value to value.
    large = re.compile(rf"\0[-+\s]*[0-9]{{{EXACT_DIGITS[type_.name] + 1},}}\s*\0")

    def strings(values: Sequence[Any], null: str) -> Texts | None:
        return None if large.search("\0".join(("", *_present(values, null), ""))) else values

    return {float: Bulk(render.floats), str: Bulk(strings, plain=False)}


def _booleans(values: Sequence[Any], null: str) -> Texts:
    forms = {True: "t", False: "f", None: null}
    return [forms[value] for value in values]


# Texts


def _characters(type_: TypeShape) -> Mapping[type, Bulk]:
    if type_.modifier < 0:
        return {str: _AS_THEY_ARE}
    most = type_.modifier - VARHDRSZ

    def texts(values: Sequence[Any], null: str) -> Texts | None:
        return values if max(map(len, _present(values, null))) <= most else None

    return {str: Bulk(texts, plain=False)}


def _bytes(values: Sequence[Any], _null: str) -> Texts:
    return [None if value is None else "\\x" + value.hex() for value in values]


# Dates and times


def _read_as(pattern: str) -> Bulk:
    """A column of str that PostgreSQL reads whole, if all of them look like the pattern."""
    proof = re.compile(rf"(?:{pattern}\0)*")

    def texts(values: Sequence[Any], null: str) -> Texts | None:
        return values if proof.fullmatch("\0".join((*_present(values, null), ""))) else None

    return Bulk(texts, plain=False)


def _dates(values: Sequence[Any], null: str) -> Texts:
    return render.isoformats(date, values, null)


def _isoformats(type_: TypeShape, kind: type, are_provable: Callable[[Sequence[Any]], bool]) -> Bulk:
    """Values of the kind as isoformat shows them, if none has more decimal places than the type keeps."""
    places = precision(type_)
    lost = re.compile(rf"\.[0-9]{{{places}}}[0-9]*[1-9]")

    def texts(values: Sequence[Any], null: str) -> Texts | None:
        if not are_provable(values):
            return None
        parts = render.isoformats(kind, values, null)
        return None if places < MICROSECONDS and lost.search("\0".join(parts)) else parts

    return Bulk(texts)


def _zones(values: Sequence[Any]) -> list[Any]:
    """The tzinfos of a column, looked at before orjson does: one that raises ends the process there."""
    return [value.tzinfo for value in values if value is not None]


def _are_naive(values: Sequence[Any]) -> bool:
    zones = _zones(values)
    return zones.count(None) == len(zones)


def _timestamps(type_: TypeShape) -> Mapping[type, Bulk]:
    strings = _read_as(f"{DAY}(?:[ T]{clock(precision(type_))})?")
    return {datetime: _isoformats(type_, datetime, _are_naive), date: Bulk(_dates), str: strings}


def _timestamps_with_zone(type_: TypeShape) -> Mapping[type, Bulk]:
    strings = _read_as(f"{DAY}(?:[ T]{clock(precision(type_))}{OFFSET})?")
    return {datetime: _isoformats(type_, datetime, _offsets_are_whole_minutes), str: strings}


def _offsets_are_whole_minutes(values: Sequence[Any]) -> bool:
    """Whether isoformat and orjson show offsets alike, and as PostgreSQL reads them."""
    zones = _zones(values)
    # Counting the same object takes a third of the time of a set, which asks each zone for its hash.
    if zones.count(timezone.utc) == len(zones):
        return True
    if not {type(zone) for zone in zones} <= {timezone, ZoneInfo}:
        return False
    offsets = {value.utcoffset() for value in values if value is not None}
    return all(abs(offset) < FAR and not offset % timedelta(minutes=1) for offset in offsets)


def _times(type_: TypeShape) -> Mapping[type, Bulk]:
    return {time: _isoformats(type_, time, _are_naive), str: _read_as(clock(precision(type_)))}


def _times_with_zone(type_: TypeShape) -> Mapping[type, Bulk]:
    return {str: _read_as(clock(precision(type_)) + OFFSET)}


def _intervals(type_: TypeShape) -> Mapping[type, Bulk]:
    if interval_limits(type_.modifier) != interval_limits(-1):
        return {}

    def texts(values: Sequence[Any], null: str) -> Texts:
        return [null if value is None else interval_text(value) for value in values]

    return {timedelta: Bulk(texts)}


# Types made of other values


def _json_values(binary: bool) -> Convert:
    def texts(values: Sequence[Any], null: str) -> Texts | None:
        shown = render.json_column(values)
        if shown is None or (binary and holds_nul(shown)):
            return None
        parts = shown.split(render.BETWEEN_JSON)
        if not null:
            return parts
        return [None if value is None else part for value, part in zip(values, parts, strict=True)]

    return texts


def _array_texts(element: TypeShape) -> Mapping[type, Bulk]:
    """Literals: all that PostgreSQL will find in those of the chunk is one column, of the element's type."""
    inner = bulks(element).get(str)
    if inner is None:
        return {}

    def texts(values: Sequence[Any], null: str) -> Texts | None:
        found = chain.from_iterable(map(array_items, _present(values, null)))
        items = [item for item in found if item is not None]
        return values if not items or inner.texts(items, "") is not None else None

    return {str: Bulk(texts, plain=False)}


def _arrays(element: TypeShape) -> Convert:
    """One-dimensional lists: all elements of the chunk are one column, of the element's type."""
    inner = bulks(element)
    between = delimiter(element)

    def texts(values: Sequence[Any], null: str) -> Texts | None:
        lists = _present(values, null)
        items = list(chain.from_iterable(lists))
        types = set(map(type, items))
        null_item = "NULL" if NoneType in types else ""
        types.discard(NoneType)
        bulk = inner.get(types.pop()) if len(types) == 1 else None
        parts = bulk.texts(items, null_item) if bulk else None
        if bulk is None or parts is None:
            return None
        rest = iter(["NULL" if part is None else part if bulk.plain else quoted(part) for part in parts])
        literals = ["{" + between.join(islice(rest, len(items))) + "}" for items in lists]
        if not null:
            return literals
        each = iter(literals)
        return [None if value is None else next(each) for value in values]

    return texts


_FIXED: Mapping[str, Mapping[type, Bulk]] = {
    "bool": {bool: Bulk(_booleans), str: _AS_THEY_ARE},
    "bytea": {bytes: Bulk(_bytes, plain=False)},
    "char": {},
    "date": {date: Bulk(_dates), str: _read_as(DAY)},
    "name": {},
    "uuid": {UUID: Bulk(render.uuids), str: _AS_THEY_ARE},
}
_BY_TYPE: Mapping[str, Callable[[TypeShape], Mapping[type, Bulk]]] = {
    **dict.fromkeys(_CODES, _integers),
    **dict.fromkeys(("varchar", "bpchar"), _characters),
    **dict.fromkeys(EXACT_DIGITS, _floats),
    "interval": _intervals,
    "numeric": _numerics,
    "time": _times,
    "timestamp": _timestamps,
    "timestamptz": _timestamps_with_zone,
    "timetz": _times_with_zone,
}
