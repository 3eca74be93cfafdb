"""A column of one exact Python type -> its texts, with orjson where there is one; nothing is judged here.

orjson renders a whole column in one call, 5 to 20 times faster than a call a value. It is kept away from
what it changes (times: 3.11.9 to 3.13.0 write 00:00:00.01 as 00:00:00.10000; offsets that are not whole
minutes; pytz zones) and what it dies of (zones that raise).

Every function takes the text that stands for None among the values, "" if there is none among them.
"""

import json
from collections.abc import Sequence
from datetime import datetime, time, timedelta, timezone
from importlib import import_module
from typing import Any

try:
    orjson: Any = import_module("orjson")
except ImportError:
    orjson = None


def _writes_like_python() -> bool:
    """Whether this orjson pads and signs as isoformat does: some did not, and changed values silently."""
    fractions = [int("123456"[:digits]) * 10**zeros for digits in range(1, 7) for zeros in range(7 - digits)]
    whens = [
        datetime(year, 2, 3, 4, 5, 6, part)  # noqa: DTZ001 - naive ones are checked too
        for year in (1, 10, 999, 2020)
        for part in fractions
    ]
    offsets = [timedelta(minutes=minutes) for minutes in (-899, -330, -1, 0, 1, 330, 899)]
    aware = [when.replace(tzinfo=timezone(offset)) for when in whens for offset in offsets]
    values = [*whens, *aware, *(when.date() for when in whens)]
    return bool(json.loads(orjson.dumps(values)) == [value.isoformat() for value in values])


if orjson is not None and not (hasattr(orjson, "Fragment") and _writes_like_python()):
    orjson = None

BETWEEN_JSON = ",\n0,"
"""Between two values of `json_column`: JSON, and a raw newline is nowhere else in what orjson writes."""


def integers(values: Sequence[Any], null: str) -> list[str] | None:
    """Of any size; None for more digits than Python writes (sys.set_int_max_str_digits)."""
    try:
        if orjson is not None:
            return _split(orjson.dumps(values)[1:-1], "null", null)
    except TypeError:
        pass  # over 64 bits
    try:
        shown = repr(list(values))[1:-1]
    except ValueError:
        return None
    return (shown.replace("None", null) if null else shown).split(", ")


def floats(values: Sequence[Any], null: str) -> list[str]:
    """As repr shows them, or shorter: 1e16, nan, inf."""
    if orjson is not None:
        shown = orjson.dumps(values)[1:-1]
        # Each null that is no None was NaN or Infinity.
        if (shown.count(b"null") if b"null" in shown else 0) == (values.count(None) if null else 0):
            return _split(shown, "null", null)
    return [null if value is None else repr(value) for value in values]


def isoformats(kind: Any, values: Sequence[Any], null: str) -> list[str]:
    """Of `kind`, which is date, time or datetime; offsets have to be whole minutes."""
    if orjson is not None and kind is not time:
        return _between_quotes(values, null)
    if null:
        return [null if value is None else value.isoformat() for value in values]
    return list(map(kind.isoformat, values))


def uuids(values: Sequence[Any], null: str) -> list[str]:
    """With hyphens or without, which PostgreSQL reads too."""
    if orjson is not None:
        return _between_quotes(values, null)
    # A fifth of the time of str().
    return [null if value is None else f"{value.int:032x}" for value in values]


def json_column(values: Sequence[Any]) -> str | None:
    """The values as json.dumps writes them, one after the other; None where orjson might not agree with it.

    One call for all, since a call a value takes as long as json.dumps.
    """
    if orjson is None:
        return None
    items: list[Any] = [orjson.Fragment(b"\n0")] * (2 * len(values) - 1)
    items[::2] = values
    options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    try:
        shown = orjson.dumps(items, option=options | orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:
        return None
    # Read back equal: no NaN became null, and nothing that json.dumps refuses (UUID, Enum) became a str.
    return shown[1:-1].decode() if orjson.loads(shown)[::2] == list(values) else None


def json_float(shown: str) -> str:
    """A float with an exponent, which its repr shows, as it is spelled in a `json_column`."""
    if orjson is not None:
        return str(orjson.dumps(float(shown)), "ascii")
    mantissa, _, exponent = shown.partition("e")
    if exponent == "-05":
        sign = "-" if mantissa.startswith("-") else ""
        return f"{sign}0.0000{mantissa.lstrip('-').replace('.', '')}"
    return f"{mantissa}e{int(exponent):+d}"


def _between_quotes(values: Sequence[Any], null: str) -> list[str]:
    """What orjson shows as strings without escapes."""
    shown = orjson.dumps(values)
    if not null:
        return str(shown[2:-2], "ascii").split('","')
    return _split(shown[1:-1].replace(b'"', b""), "null", null)


def _split(shown: bytes, missing: str, null: str) -> list[str]:
    text = shown.decode()
    return (text.replace(missing, null) if null else text).split(",")
