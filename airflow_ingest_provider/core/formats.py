"""What each column's values go through on their way to COPY: SQLAlchemy's part of it."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from airflow_ingest_provider.core.encode import ColumnFormat
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.shape import ColumnShape
from airflow_ingest_provider.core.values.nested import listed

Prepare = Callable[[Any], Any]


def column_formats(table: sa.Table, columns: Sequence[ColumnShape], dialect: sa.Dialect) -> list[ColumnFormat]:
    """The formats of the columns, in the order of the columns."""
    serialize_json = getattr(dialect, "_json_serializer", None)
    # By the names in the database, which the keys in Python need not be.
    kinds = {column.name: column.type for column in table.columns}
    for column in columns:
        if column.name not in kinds:
            raise DefinitionError(
                f"table {table.fullname!r} has a column {column.name!r} that its definition lacks, from a table that "
                "it inherits: declare that column too"
            )
    return [
        ColumnFormat(column.name, column.value, _prepare(kinds[column.name], dialect), serialize_json)
        for column in columns
    ]


def _prepare(kind: TypeEngine[Any], dialect: sa.Dialect) -> Prepare | None:
    """The conversion in Python that the type asks for, and that a value needs before PostgreSQL's type takes it.

    It takes None too, as SQLAlchemy's processors do: a type may have something to store for it.

    The processors of SQLAlchemy's own types are left out: they make what a driver wants as a parameter.
    """
    actual = kind.dialect_impl(dialect)  # the variant for PostgreSQL, where there is one
    if isinstance(actual, sa.PickleType):
        return _pickled(actual)
    if _converts_by_itself(actual):
        return _bind_processor(actual, dialect)
    if isinstance(actual, sa.TypeDecorator):
        return _decorated(actual, dialect)
    if isinstance(actual, sa.Enum) and actual.enum_class is not None:
        return _bind_processor(actual, dialect)
    if isinstance(actual, sa.ARRAY):
        return _nested(_prepare(actual.item_type, dialect), actual.dimensions)
    return None


def _converts_by_itself(kind: TypeEngine[Any]) -> bool:
    """Whether the type's processor is somebody's own, or SQLAlchemy's for a column of another type than it is for."""
    if isinstance(kind, sa.Uuid):
        return not kind.native_uuid
    definer = next(one for one in type(kind).__mro__ if "bind_processor" in vars(one))
    return isinstance(kind, sa.Interval) or definer.__module__.partition(".")[0] != "sqlalchemy"


def _bind_processor(kind: TypeEngine[Any], dialect: sa.Dialect) -> Prepare | None:
    return kind.bind_processor(dialect)


def _pickled(kind: sa.PickleType) -> Prepare:
    dumps, protocol = kind.pickler.dumps, kind.protocol
    return lambda value: None if value is None else dumps(value, protocol)


def _decorated(kind: sa.TypeDecorator[Any], dialect: sa.Dialect) -> Prepare | None:
    inner = _prepare(kind.load_dialect_impl(dialect), dialect)
    if type(kind).process_bind_param is sa.TypeDecorator.process_bind_param:
        return inner
    if inner is None:
        return lambda value: kind.process_bind_param(value, dialect)
    return lambda value: inner(kind.process_bind_param(value, dialect))


def _nested(prepare: Prepare | None, dimensions: int | None) -> Prepare | None:
    """The elements' conversion, for arrays of so many dimensions, or of any: then a list in a list is one more."""
    if prepare is None:
        return None

    def each(value: Any, depth: int | None) -> Any:
        items = listed(value) if depth != 0 else None
        return prepare(value) if items is None else [each(item, depth and depth - 1) for item in items]

    return lambda value: None if value is None else each(value, dimensions)
