"""Dates, times and timestamps: no zone guessed or dropped, no digit rounded.

ISO 8601 reads the same under every DateStyle.
"""

from datetime import MAXYEAR, MINYEAR, date, datetime, time, timedelta, timezone
from typing import Any

from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values import spellings
from airflow_ingest_provider.core.values.misfit import MICROSECONDS, Convert, MisfitError, spelled

FAR = timedelta(hours=15)
"""Offsets from here on are turned into UTC: PostgreSQL reads those of less than 16 hours, and Python's reach to 24."""


def precision(type_: TypeShape) -> int:
    """Decimal places of the seconds that a time or timestamp keeps."""
    return MICROSECONDS if type_.modifier < 0 else min(type_.modifier, MICROSECONDS)


def calendar_date(value: Any) -> str:
    if isinstance(value, str):
        return spellings.date_text(value)
    if isinstance(value, datetime):
        value = _standard(value, "date")
        if value.tzinfo is not None or value.time() != time.min:
            raise MisfitError("date would drop its time of day or zone: pass value.date(), or declare timestamp")
    elif not isinstance(value, date):
        raise MisfitError("date holds dates: pass a datetime.date")
    return f"{value.year:04}-{value.month:02}-{value.day:02}"


def timestamp(type_: TypeShape) -> Convert:
    """timestamp: naive datetimes, and dates as their midnight."""
    name, places = spelled(type_), precision(type_)
    read = spellings.timestamp_text(name, places)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return read(value)
        if isinstance(value, datetime):
            value = _standard(value, name)
            if offset_of(value) is not None:
                raise MisfitError(
                    f"{name} would drop its zone: pass value.astimezone(timezone.utc).replace(tzinfo=None), "
                    "or declare timestamp with time zone"
                )
            _check_places(value.microsecond, places, name)
            return datetime.isoformat(value.replace(tzinfo=None))
        if not isinstance(value, date):
            raise MisfitError(f"{name} holds dates with a time: pass a datetime.datetime without tzinfo")
        return date.isoformat(value)

    return convert


def timestamp_with_zone(type_: TypeShape) -> Convert:
    """timestamptz: aware datetimes; what is stored is the instant."""
    name, places = spelled(type_), precision(type_)
    read = spellings.timestamp_with_zone_text(name, places)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return read(value)
        if not isinstance(value, datetime):
            raise MisfitError(f"{name} holds instants: pass a datetime.datetime with tzinfo")
        value = _standard(value, name)
        if offset_of(value) is None:
            raise MisfitError(f"the instant depends on the session's TimeZone: attach a zone, such as {_ATTACH}")
        _check_places(value.microsecond, places, name)
        return datetime.isoformat(_readable(value, name))

    return convert


_ATTACH = "value.replace(tzinfo=timezone.utc)"


def _readable(value: datetime, name: str) -> datetime:
    """The same instant with an offset that PostgreSQL reads, of whole seconds and not too far from UTC."""
    offset = offset_of(value)
    assert offset is not None
    if abs(offset) < FAR and not offset.microseconds:
        return value
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise MisfitError(f"{name} cannot read its offset: pass it in UTC") from None


def time_of_day(type_: TypeShape) -> Convert:
    """time: naive times."""
    name, places = spelled(type_), precision(type_)
    read = spellings.time_text(name, places)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return read(value)
        if not isinstance(value, time):
            raise MisfitError(f"{name} holds times of day: pass a datetime.time")
        if value.tzinfo is not None:
            raise MisfitError(f"{name} would drop its zone: take it off, or declare the type with time zone")
        _check_places(value.microsecond, places, name)
        return time.isoformat(value)

    return convert


def time_with_zone(type_: TypeShape) -> Convert:
    """timetz: times with a fixed offset."""
    name, places = spelled(type_), precision(type_)
    read = spellings.time_with_zone_text(name, places)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return read(value)
        if not isinstance(value, time):
            raise MisfitError(f"{name} holds times of day: pass a datetime.time with tzinfo")
        offset = offset_of(value)
        if offset is None:
            raise MisfitError(f"{name} needs an offset without a date: attach one, such as {_ATTACH}")
        if offset.microseconds:
            raise MisfitError(f"{name} holds offsets of whole seconds: round it in the source")
        _check_places(value.microsecond, places, name)
        return time.isoformat(value)

    return convert


def offset_of(value: datetime | time) -> timedelta | None:
    """What utcoffset() gives."""
    try:
        return value.utcoffset()
    except Exception as error:  # noqa: BLE001 - whatever a zone's own code raises
        raise MisfitError(f"its tzinfo raised {type(error).__name__}: attach another zone") from None


def _standard(value: datetime, name: str) -> datetime:
    """The datetime itself; of a pandas Timestamp the datetime that it equals."""
    if getattr(value, "nanosecond", 0):
        raise MisfitError(f"{name} would drop its nanoseconds: round it in the source")
    if not hasattr(value, "to_pydatetime"):
        return value
    # pandas' years go further, and its Timestamp of such a year is some other datetime.
    if not MINYEAR <= value.year <= MAXYEAR:
        raise MisfitError(f"Python's years are 1 to 9999: pass a str that PostgreSQL reads as {name}")
    plain: datetime = value.to_pydatetime()
    return plain


def _check_places(microsecond: int, places: int, name: str) -> None:
    if microsecond % 10 ** (MICROSECONDS - places):
        raise MisfitError(f"{name} would round it to {places} decimal places: round it in the source")
