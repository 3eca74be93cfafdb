"""One Python value -> the text that PostgreSQL's input of a type reads as exactly that value.

`converter(type)` gives the function for a type. It raises `MisfitError` where the type cannot hold the value
as it is: nothing is rounded, cut, shifted or guessed. What a type itself means is no loss: `real` has
single precision, `numeric` and `jsonb` have no negative zero, `jsonb` no order of keys.

A str in a column of another type than text, bytea or JSON is left to PostgreSQL's own input of that
type, for sources that only have text. What that input would drop without a word is refused as far as
the text shows it: decimal places, a time of day for `date`, a zone for `timestamp`, a date for `time`,
and what would be dropped of a part of an array, a range or a composite.

This is the exact path, one call a value. `core.encode` proves for most columns as a whole that they need
none of it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import JSON

from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values import documents, durations, moments, nested, numbers, scalars
from airflow_ingest_provider.core.values.misfit import Convert, MisfitError, spelled
from airflow_ingest_provider.core.values.unwrap import is_numpy_type, unwrap

__all__ = ["Convert", "MisfitError", "converter", "is_numpy_type", "spelled", "unwrap"]

_FIXED: Mapping[str, Convert] = {
    "bool": scalars.boolean,
    "bytea": scalars.binary,
    "char": scalars.single_byte,
    "date": moments.calendar_date,
    "hstore": nested.hstore,
    "money": numbers.money,
    "uuid": scalars.unique_id,
}
_BY_TYPE: Mapping[str, Callable[[TypeShape], Convert]] = {
    **dict.fromkeys(numbers.INTEGERS, numbers.integer),
    **dict.fromkeys(("float4", "float8"), numbers.floating),
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "citext", "xml"), scalars.characters),
    **dict.fromkeys(("macaddr", "macaddr8", "bit", "varbit", "tsvector", "jsonpath"), scalars.texts_only),
    **dict.fromkeys(("inet", "cidr"), scalars.network),
    "interval": durations.interval,
    "numeric": numbers.numeric,
    "time": moments.time_of_day,
    "timestamp": moments.timestamp,
    "timestamptz": moments.timestamp_with_zone,
    "timetz": moments.time_with_zone,
}


def converter(type_: TypeShape, serialize_json: Callable[[Any], str] | None = None) -> Convert:
    """The conversion of values, other than None, of one type.

    `serialize_json` is the engine's json_serializer, if it has one of its own.
    """
    if type_.name in ("json", "jsonb"):
        document = documents.json_value(type_, serialize_json)
        return lambda value: document(unwrap(value))
    convert = _converter(type_, serialize_json)
    return lambda value: convert(_plain(value))


def _plain(value: Any) -> Any:
    if value is JSON.NULL:
        raise MisfitError("it stands for the null of JSON, and the column holds none: pass None")
    return unwrap(value)


def _converter(type_: TypeShape, serialize_json: Callable[[Any], str] | None) -> Convert:
    if type_.kind == "e":
        return scalars.texts_only(type_)
    if type_.kind == "c":
        return nested.composite(type_, [converter(field, serialize_json) for field in type_.fields])
    if type_.element is not None:
        element = converter(type_.element, serialize_json)
        made_of = {"r": nested.range_, "m": nested.multirange}.get(type_.kind, nested.array)
        return made_of(type_, element)
    return _FIXED.get(type_.name) or _BY_TYPE.get(type_.name, scalars.other)(type_)
