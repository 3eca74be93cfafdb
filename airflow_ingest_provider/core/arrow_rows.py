"""Arrow columns -> rows of the Python values that a row would hold. Imports pyarrow."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pyarrow as pa
from psycopg.types.json import Json

from airflow_ingest_provider.core.encode import ColumnFormat
from airflow_ingest_provider.core.errors import RowError


def as_rows(given: Sequence[Any], table: str, columns: Sequence[ColumnFormat], first_row: int) -> list[tuple[Any, ...]]:
    """Rows of the columns, each given as a pyarrow.Array or as a list of Python values.

    RowError for the first value that Python has none for.
    """
    values = [
        one if isinstance(one, list) else _as_python(column, one, table, first_row)
        for column, one in zip(columns, given, strict=True)
    ]
    return list(zip(*values, strict=True))


def _as_python(column: ColumnFormat, given: Any, table: str, first_row: int) -> list[Any]:
    coarser, convert = _coarser(given), _from_python(column, given.type)
    if _takes_instants(column, coarser.type):
        coarser, convert = coarser.view(pa.int64()), _instant
    try:
        values: list[Any] = coarser.to_pylist()
        return [None if value is None else convert(value) for value in values] if convert else values
    except (ValueError, OverflowError, TypeError):
        number = first_row + _first_strange(coarser, convert)
        problem = (
            "Python has no value that equals it, as for a year before 1 or after 9999, or a map with two equal keys: "
            "cast or mend the column in the source"
        )
        raise RowError(
            problem, table=table, column=column.name, row_number=number, value_type=str(given.type)
        ) from None


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _takes_instants(column: ColumnFormat, given: Any) -> bool:
    """Whether datetimes in UTC do for those of a zone: the instant is stored, and no code of a type sees them."""
    plain = column.prepare is None and column.type.name == "timestamptz"
    return plain and pa.types.is_timestamp(given) and given.tz is not None and given.unit == "us"


def _instant(microseconds: int) -> datetime:
    """A fifth of the time that pyarrow's to_pylist() takes, which looks each offset up."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _coarser(given: Any) -> Any:
    """Times of nanoseconds as those of microseconds, which Python has, where they are the same.

    Days of milliseconds as times too, since they may have a time of day.
    """
    try:
        if pa.types.is_date64(given.type):
            return given.cast(pa.timestamp("ms"))
        if pa.types.is_timestamp(given.type):
            return given.cast(pa.timestamp("us", given.type.tz))
        if pa.types.is_duration(given.type):
            return given.cast(pa.duration("us"))
        if pa.types.is_time64(given.type):
            return given.cast(pa.time64("us"))
    except pa.ArrowException:
        pass
    return given


def _first_strange(given: Any, convert: Callable[[Any], Any] | None) -> int:
    return next((place for place, value in enumerate(given) if not _has_python_value(value, convert)), 0)


def _has_python_value(given: Any, convert: Callable[[Any], Any] | None) -> bool:
    try:
        value = given.as_py()
        if convert and value is not None:
            convert(value)
    except (ValueError, OverflowError, TypeError):
        return False
    return True


def _from_python(column: ColumnFormat, given: Any) -> Callable[[Any], Any] | None:
    """What makes of pyarrow's Python value the one that a row would hold."""
    name = column.type.name
    if name in ("json", "jsonb") and extension(given) == "arrow.json":
        return lambda text: Json(text, dumps=str)
    if name == "uuid" and pa.types.is_fixed_size_binary(given) and given.byte_width == 16:
        return lambda raw: UUID(bytes=raw)
    if name == "interval" and column.type.modifier < 0 and pa.types.is_interval(given):
        return _interval
    return _with_dictionaries(given)


def extension(type_: Any) -> str | None:
    """The name of an extension type; None for others."""
    return getattr(type_, "extension_name", None)


def _with_dictionaries(given: Any) -> Callable[[Any], Any] | None:
    """What makes dictionaries of the maps that a value is or holds, of which pyarrow makes pairs; None for others."""
    if pa.types.is_map(given):
        item = _with_dictionaries(given.item_type)
        return lambda pairs: _dictionary([(key, _or_null(item, value)) for key, value in pairs])
    if pa.types.is_struct(given):
        of_field = {field.name: make for field in given if (make := _with_dictionaries(field.type))}
        if of_field:
            return lambda value: value | {name: _or_null(make, value[name]) for name, make in of_field.items()}
    elif hasattr(given, "value_type") and not pa.types.is_dictionary(given):
        of_element = _with_dictionaries(given.value_type)
        if of_element:
            return lambda values: [_or_null(of_element, value) for value in values]
    return None


def _or_null(make: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if make is None or value is None else make(value)


def _dictionary(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("two keys are the same")
    return made


def _interval(value: Any) -> Any:
    """Months, days and nanoseconds, as PostgreSQL reads them; as it is where they have no form there.

    Each with its sign: with IntervalStyle = sql_standard a first one without is that of all.
    """
    if value.nanoseconds % 1000:
        return value
    return f"{value.months:+d} mons {value.days:+d} days {value.nanoseconds // 1000:+d} usec"
