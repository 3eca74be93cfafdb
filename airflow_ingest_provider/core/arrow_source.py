"""Objects with Arrow data -> their record batches, or why there are none. Imports pyarrow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from airflow_ingest_provider.core import arrow_pandas
from airflow_ingest_provider.core.errors import RowError


@dataclass(frozen=True)
class Begun:
    """The record batches of an object, and what that is.

    `objects` are columns of Python values, as numpy arrays by name, of which the record batches hold the places.
    `index` are the names of pandas' index, which is no column of theirs where it only counts.
    """

    schema: Any
    batches: Iterable[Any]
    kind: str
    objects: Mapping[str, Any]
    index: Sequence[Any] = ()


NO_ARROW = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What is raised where an object's data has no form in Arrow, pandas' included."""

_NO_TABLE = (
    "its Arrow data is no table of columns: pass a table, a record batch or a stream of them, or a row as a tuple"
)

_ADDRESSES = (
    "polars gives the addresses of Python objects in place of their values: cast the column to a type of polars, such "
    "as UUIDs to String, or pass the rows as tuples, as iter_rows() gives them"
)


def refusal(source: Any, table: str, first_row: int) -> RowError:
    """Why an object gives no record batches: by the column, where one is found."""
    problem, column, kind = _NO_TABLE, None, type(source).__name__
    objects = _columns_of_objects(source)
    if objects:
        problem, column, kind = _ADDRESSES, objects[0], "Object"
    else:
        for name, dtype, alone in _single_columns(source):
            if not _has_form(alone):
                problem, column, kind = _NO_FORM, str(name), str(dtype)
                break
    return RowError(problem, table=table, column=column, row_number=first_row, value_type=kind)


_NO_FORM = (
    "its type, or a value of it, has no form in Arrow: cast the column to another type, or pass the rows as tuples"
)


def _has_form(frame: Any) -> bool:
    try:
        _reader(frame)
    except NO_ARROW:
        return False
    return True


def _single_columns(source: Any) -> Iterator[tuple[Any, Any, Any]]:
    """The columns of a pandas or polars frame: name, type, and a frame of that one."""
    if arrow_pandas.is_frame(source):
        frame = arrow_pandas.without_objects(source, kept=frozenset())[0].reset_index(drop=True)
        for place, (name, dtype) in enumerate(frame.dtypes.items()):
            yield name, dtype, frame.iloc[:, [place]]
    elif _is_polars(source):
        for name, dtype in zip(source.columns, source.dtypes, strict=True):
            yield name, dtype, source[[name]]


def _is_polars(source: Any) -> bool:
    """Whether the object is a DataFrame of polars."""
    return type(source).__module__.partition(".")[0] == "polars" and hasattr(source, "columns")


def _columns_of_objects(source: Any) -> list[str]:
    """The columns of a polars frame that are or hold Python objects."""
    if not _is_polars(source):
        return []
    return [name for name, dtype in zip(source.columns, source.dtypes, strict=True) if _holds_objects(dtype)]


def _holds_objects(dtype: Any) -> bool:
    inner = [getattr(dtype, "inner", None), *(field.dtype for field in getattr(dtype, "fields", ()))]
    return str(dtype) == "Object" or any(_holds_objects(one) for one in inner if one is not None)


def begin(source: Any) -> Begun:
    """The object's record batches, none of which is read; one of `NO_ARROW` where there are none."""
    if isinstance(source, Begun):
        return source
    if _columns_of_objects(source):
        raise TypeError(_ADDRESSES)
    if not arrow_pandas.is_frame(source):
        return _read(source, {})
    try:
        return _read(*arrow_pandas.without_objects(source), like=source)
    except NO_ARROW:
        # An int or a text that only Python holds.
        return _read(*arrow_pandas.without_objects(source, kept=frozenset()), like=source)


def _read(source: Any, objects: Mapping[int, Any], like: Any = None) -> Begun:
    reader = _reader(source)
    by_name = {reader.schema.names[place]: values for place, values in objects.items()}
    index = () if like is None else tuple(like.index.names)
    return Begun(reader.schema, reader, type(source if like is None else like).__name__, by_name, index)


def _reader(source: Any) -> Any:
    if isinstance(source, pa.RecordBatchReader):
        return source
    if hasattr(source, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(source)
    batch = pa.record_batch(source)
    return pa.RecordBatchReader.from_batches(batch.schema, [batch])
