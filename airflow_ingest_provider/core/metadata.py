"""The tables that the caller gives to be loaded: what is taken for them, and what cannot be loaded at all."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from airflow_ingest_provider.core.errors import DefinitionError, kind_of
from airflow_ingest_provider.core.names import check_length

Metadata = sa.MetaData | sa.Table | type[Any]
"""What says which tables to load: a MetaData all of its own; a Table, or a class mapped to one, that one alone."""


def table_of(given: object) -> sa.Table | None:
    """The table that is given in place of a metadata, by itself or by a class that SQLAlchemy maps to it."""
    table = getattr(given, "__table__", None) if isinstance(given, type) else given
    return table if isinstance(table, sa.Table) else None


def metadata_of(given: object) -> sa.MetaData:
    """The metadata, or of a table or mapped class one that holds nothing else; DefinitionError for what is neither.

    The table is not copied: it keeps its foreign keys to tables of its own metadata, and its rows are recognised by
    identity.
    """
    if isinstance(given, sa.MetaData):
        return given
    table = table_of(given)
    if table is None:
        raise DefinitionError(
            f"metadata is {kind_of(given)}: expected a sqlalchemy.MetaData that holds the tables to load, or the Table "
            f"or mapped class of one{hint_of_base(given)}"
        )
    one = sa.MetaData(schema=table.metadata.schema, naming_convention=table.metadata.naming_convention)
    one.tables = type(one.tables)({table.key: table})
    return one


def hint_of_base(given: object) -> str:
    """What to do where a class that others are mapped by is given, which has no table of its own."""
    if isinstance(given, type) and isinstance(getattr(given, "metadata", None), sa.MetaData):
        return f"; pass {given.__name__}.metadata for all tables of its base"
    return ""


def tables_of(given: object) -> tuple[sa.Table, ...]:
    """The tables to load, in the order of the metadata; DefinitionError for what cannot be loaded."""
    tables = tuple(metadata_of(given).tables.values())
    if not tables:
        raise DefinitionError("the metadata holds no table: define one with sqlalchemy.Table(name, metadata, ...)")
    for table in tables:
        _check(table)
    return tables


def _check(table: sa.Table) -> None:
    if not table.columns:
        raise DefinitionError(f"table {table.fullname!r} has no columns: there is nothing to load into it")
    if all(column.computed for column in table.columns):
        raise DefinitionError(f"table {table.fullname!r} has computed columns alone: there is nothing to load into it")
    if any(str(prefix).upper() in ("TEMP", "TEMPORARY") for prefix in table._prefixes):
        raise DefinitionError(f"table {table.fullname!r} is a temporary one: expected one that outlives the run")
    identifiers = [table.name, *(column.name for column in table.columns), *filter(None, [table.schema])]
    try:
        for identifier in (*identifiers, *_type_names(table)):
            check_length(identifier)
            _check_quoting(identifier)
    except ValueError as error:
        raise DefinitionError(f"table {table.fullname!r}: {error}") from error
    try:
        _ = [key.column for key in table.foreign_keys]
    except sa.exc.NoReferenceError as error:
        raise DefinitionError(
            f"table {table.fullname!r}: {error}: define the table that it refers to in the metadata, to be loaded as "
            "well, or in a MetaData of its own and refer to its column, as in ForeignKey(parent.c.id)"
        ) from error
    for column in table.columns:
        if column.computed is None and _converts_in_sql(column.type):
            raise DefinitionError(
                f"table {table.fullname!r}, column {column.name!r}: its type converts values in SQL (bind_expression), "
                "and COPY takes them as they are: convert them in its process_bind_param, or in the source, for a "
                "column of the type that it stores"
            )
    untyped = [column.name for column in table.columns if isinstance(_unwrapped(column.type), sa.types.NullType)]
    if untyped:
        raise DefinitionError(f"table {table.fullname!r}: columns without a type: {', '.join(untyped)}: give them one")


def _check_quoting(identifier: str) -> None:
    """Raise ValueError for a name by which PostgreSQL knows nothing, since it makes small what is not quoted."""
    if getattr(identifier, "quote", None) is False and identifier != identifier.lower():
        raise ValueError(
            f"the name {str(identifier)!r} is not to be quoted (quote=False), and PostgreSQL would read it as "
            f"{identifier.lower()!r}: write it so, or let it be quoted"
        )


_DIALECT: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

_READ_LIKE_TEXT = ("st_geomfromewkt", "st_geomfromtext", "st_geogfromtext", "st_geographyfromtext")
"""PostGIS' functions that make of a text what the type's own input makes of it."""


def _converts_in_sql(kind: TypeEngine[Any]) -> bool:
    """Whether the type's bind_expression makes something else of a value than a cast to the type does."""
    value = sa.bindparam("value", type_=kind)
    made: Any = kind.dialect_impl(_DIALECT).bind_expression(value)
    if made is None or made is value:
        return False
    name = kind.compile(_DIALECT)
    if isinstance(made, sa.Cast):
        return made.clause is not value or made.type.compile(_DIALECT) != name
    if not isinstance(made, sa.sql.functions.Function):
        return True
    takes_others = any(one is not value for one in made.clauses)
    return takes_others or made.name.lower() not in (*_READ_LIKE_TEXT, name.lower())


def _type_names(table: sa.Table) -> Iterator[str]:
    """The names of the enum and domain types of the table's columns."""
    for column in table.columns:
        kind = _unwrapped(column.type)
        if isinstance(kind, sa.Enum | postgresql.DOMAIN) and kind.name:
            yield kind.name


def _unwrapped(kind: Any) -> Any:
    """What a type is made of: the elements of an array, and what a decorator stores."""
    while isinstance(kind, sa.TypeDecorator | sa.ARRAY):
        kind = kind.item_type if isinstance(kind, sa.ARRAY) else kind.impl_instance
    return kind
