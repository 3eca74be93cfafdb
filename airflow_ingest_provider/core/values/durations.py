"""Intervals: what the declared fields and decimal places would cut is refused.

Signed units read the same under every IntervalStyle.
https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-INTERVAL-INPUT
"""

import re
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from typing import Any

from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values.misfit import MICROSECONDS, Convert, MisfitError, text

_FULL_RANGE = 0x7FFF
"""The fields of an interval's modifier where none are named (timestamp.h, INTERVAL_FULL_RANGE)."""

# INTERVAL_MASK of MINUTE, HOUR and DAY, finest first: what an interval of these fields is cut to.
_INTERVAL_UNITS = (
    (1 << 11, timedelta(minutes=1)),
    (1 << 10, timedelta(hours=1)),
    (1 << 3, timedelta(days=1)),
)
_INTERVAL_SECOND = 1 << 12
_INTERVAL_YEAR = 1 << 2


def interval(type_: TypeShape) -> Convert:
    """interval: days, seconds and microseconds of a timedelta, each as it is."""
    _, unit = interval_limits(type_.modifier)
    fits = _text_fits(type_.modifier)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            content = text(value)
            if not fits(content):
                raise too_fine()
            return content
        if not isinstance(value, timedelta):
            raise MisfitError("interval holds durations: pass a datetime.timedelta")
        duration = _plain_duration(value)
        if duration and (unit is None or duration % unit):
            raise too_fine()
        return interval_text(duration)

    def too_fine() -> MisfitError:
        if type_.modifier < 0:
            return MisfitError(f"interval would round it to {MICROSECONDS} decimal places: round it in the source")
        return MisfitError("the declared fields or digits cannot hold all of it: round it, or declare interval")

    return convert


def _plain_duration(value: timedelta) -> timedelta:
    """The timedelta itself; of a subclass the timedelta that it equals.

    Subclasses count in their own ways: pendulum's Duration has days and seconds with a sign each, and no `%`.
    """
    if getattr(value, "nanoseconds", 0):
        raise MisfitError("interval would drop its nanoseconds: round it in the source")
    if not hasattr(value, "to_pytimedelta"):
        return timedelta.__add__(value, timedelta(0))
    try:
        plain: timedelta = value.to_pytimedelta()
    except OverflowError:  # pandas' go further
        raise MisfitError("Python's durations have up to 999999999 days: pass a str that PostgreSQL reads") from None
    return plain


def interval_text(value: timedelta) -> str:
    return f"{value.days:+d} day {value.seconds:+d} sec {value.microseconds:+d} usec"


def interval_limits(modifier: int) -> tuple[int, timedelta | None]:
    """Decimal places, and the unit of the values that are kept; None where only years and months are."""
    if modifier < 0:
        return MICROSECONDS, timedelta(microseconds=1)
    fields, places = modifier >> 16 & _FULL_RANGE, modifier & 0xFFFF
    places = min(places, MICROSECONDS)
    if fields & _INTERVAL_SECOND:
        return places, timedelta(microseconds=10 ** (MICROSECONDS - places))
    return places, next((unit for mask, unit in _INTERVAL_UNITS if fields & mask), None)


_MONTHS = {"millennium": 12000, "century": 1200, "decade": 120, "year": 12, "quarter": 3, "month": 1}
_DAYS = {"week": 7, "day": 1}
_MICROSECONDS = {
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
    "millisecond": 1000,
    "microsecond": 1,
}
_ALIASES = {
    "millennium": "millennia mil mils",
    "century": "centuries c cent",
    "decade": "dec decs",
    "year": "y yr yrs",
    "quarter": "qtr",
    "month": "mon mons",
    "week": "w",
    "day": "d",
    "hour": "h hr hrs",
    "minute": "m min mins",
    "second": "s sec secs",
    "millisecond": "ms msec msecs",
    "microsecond": "us usec usecs",
}
_UNITS = {alias: unit for unit, others in _ALIASES.items() for alias in (unit, f"{unit}s", *others.split())}

_ISO_8601 = re.compile(r"\s*P([\d.YMWD+-]*)(?:T([\d.HMS+-]*))?\s*", re.ASCII)
_ISO_DATE = {"Y": " year ", "M": " month ", "W": " week ", "D": " day "}
_ISO_TIME = {"H": " hour ", "M": " minute ", "S": " second "}

_PART = re.compile(
    r"""
    [-+\s]* (?: (?P<hours>\d+) : (?P<minutes>\d\d?) (?: : (?P<seconds>\d\d?(?:\.\d+)?) )?
              | (?P<number> \d+(?:\.\d*)? | \.\d+ ) \s* (?P<unit>[a-z]*) ) [\s,]*
    """,
    re.ASCII | re.VERBOSE,
)

_Part = tuple[Fraction, Fraction, Fraction]
"""Months, days and microseconds."""


def _text_fits(modifier: int) -> Callable[[str], bool]:
    """Whether a column of this modifier keeps all of a text, as far as its parts can be told."""
    months, days, microseconds = _steps(modifier)
    limited = modifier >= 0

    def keeps(part: _Part) -> bool:
        whole_days, rest = divmod(part[1], 1)
        time = part[2] + rest * 24 * _MICROSECONDS["hour"]
        return not (part[0] % months or (whole_days and not days) or (time % microseconds if microseconds else time))

    def fits(content: str) -> bool:
        if not limited and "." not in content:
            return True
        parts = _parts(content, alone=limited)
        if parts is not None:
            return all(map(keeps, parts))
        # PostgreSQL refuses a text without a digit, but for infinity.
        return not re.search(r"\d" if limited else rf"\.\d{{{MICROSECONDS}}}\d*[1-9]", content)

    return fits


def _steps(modifier: int) -> tuple[int, bool, int]:
    """What kept months are a multiple of, whether days are kept, and the same of microseconds: 0 where none are."""
    _, unit = interval_limits(modifier)
    fields = modifier >> 16 & _FULL_RANGE
    if unit is None:
        return 12 if fields == _INTERVAL_YEAR else 1, False, 0
    return 1, True, 0 if unit == timedelta(days=1) else unit // timedelta(microseconds=1)


def _parts(content: str, *, alone: bool) -> list[_Part] | None:
    """The parts of a text; None where it has others. A number without a unit has to stand `alone`, or means seconds."""
    rest = _in_words(content).strip().lower().removeprefix("@").removesuffix("ago").strip()
    parts = []
    place = 0
    while place < len(rest):
        found = _PART.match(rest, place)
        part = found and _part(found)
        if found is None or part is None or (alone and not found["hours"] and not found["unit"] and found[0] != rest):
            return None
        parts.append(part)
        place = found.end()
    return parts or None


def _in_words(content: str) -> str:
    """ISO 8601's P1Y2M3DT4H5M6.7S with the names of its units; any other text as it is."""
    found = _ISO_8601.fullmatch(content)
    if found is None:
        return content
    date, time = found[1], found[2] or ""
    return "".join([_ISO_DATE.get(c, c) for c in date] + [_ISO_TIME.get(c, c) for c in time])


def _part(found: re.Match[str]) -> _Part | None:
    none = Fraction(0)
    if found["hours"]:
        minutes = 60 * int(found["hours"]) + int(found["minutes"])
        return none, none, (60 * minutes + Fraction(found["seconds"] or 0)) * _MICROSECONDS["second"]
    number = Fraction(found["number"])
    if not found["unit"] and number.denominator == 1:
        return none, none, none  # of the column's finest field
    unit = _UNITS.get(found["unit"] or "second")
    if unit in _DAYS:
        return none, number * _DAYS[unit], none
    if unit == "month":  # a part of one is read as days, 30 a month
        return number // 1 + none, number % 1 * 30, none
    if unit in _MONTHS:
        return number * _MONTHS[unit], none, none
    return (none, none, number * _MICROSECONDS[unit]) if unit else None
