"""Tables as SQLAlchemy makes them: in a transaction, under names that are free, or with an error that says why not."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, conv

from airflow_ingest_provider.core import catalog
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name, free_name, kept_of
from airflow_ingest_provider.core.session import (
    DATATYPE_MISMATCH,
    INSUFFICIENT_PRIVILEGE,
    INVALID_FOREIGN_KEY,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    first_line,
    run,
    sqlstate,
)


def create_schemas(conn: sa.Connection, schemas: Collection[str]) -> None:
    """Create the schemas that are not there, in the open transaction."""
    for schema in schemas:
        if not catalog.schema_exists(conn, schema):
            run(conn, sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))


def create(conn: sa.Connection, metadata: sa.MetaData, missing: Mapping[sa.Table, Name]) -> None:
    """Create tables as SQLAlchemy does, events and all; in the open transaction.

    Where they refer to tables of the metadata that are there, and not yet as the foreign keys need them, the migration
    adds those. Indexes without a name get one that is free. Raises DefinitionError where PostgreSQL does not take what
    is declared.
    """
    try:
        with conn.begin_nested(), accepted(missing):
            _create_with_keys(conn, metadata, missing)
    except sa.exc.DBAPIError as error:
        if sqlstate(error) in (DUPLICATE_TABLE, _DUPLICATE_OBJECT):
            check_names(conn, missing)
        raise


def check_names(conn: sa.Connection, missing: Mapping[sa.Table, Name]) -> None:
    """Raise DefinitionError where a constraint or index of the tables has a name that another thing has."""
    types = _types_called(conn, missing)
    for table, name in missing.items():
        declared = (conn.schema_for_object(table), table.name)
        if declared in types or catalog.has_type(conn, name.schema, name.name, of_rows=False):
            raise type_taken(table, name.name)
    used = {name: f"that of the table {name}" for name in missing.values()}
    parts: dict[Name, Name] = {}
    for table, name in missing.items():
        _check_apart(table, name)
        for part in map(name.sibling, _relations(table)):
            if part in used:
                raise _name_taken(part, name, used[part])
            used[part] = f"that of one of {name}"
            parts[part] = name
    for part, owner in catalog.tables_with(conn, list(parts)).items():
        whose = f"that of the relation {owner}" if owner == part else f"that of one of {owner}"
        raise _name_taken(part, parts[part], whose)


def _types_called(conn: sa.Connection, tables: Collection[sa.Table]) -> set[tuple[str | None, str]]:
    """The schemas and names of the types that come with the tables."""
    stored: list[Any] = [kind for table in tables for kind in types_of(conn, table) if isinstance(kind, _STORED)]
    return {(conn.schema_for_object(kind), kind.name) for kind in stored if kind.name}


def types_of(conn: sa.Connection, table: sa.Table) -> Iterator[Any]:
    """The dialect's types of the columns, of arrays those of their elements."""
    for column in table.columns:
        kind: Any = column.type.dialect_impl(conn.dialect)
        while isinstance(kind, sa.TypeDecorator):
            kind = kind.impl_instance.dialect_impl(conn.dialect)
        while isinstance(kind, sa.ARRAY):
            kind = kind.item_type.dialect_impl(conn.dialect)
        yield kind


def type_taken(table: sa.Table, name: str) -> DefinitionError:
    return DefinitionError(
        f"table {str(table.fullname)!r}: the name {name!r} would be that of two types, since the rows of a relation "
        "have one of its name: expected types and relations to have names of their own; give one of them another"
    )


def _check_apart(table: sa.Table, name: Name) -> None:
    names = [str(one.name) for one in table.constraints if isinstance(one.name, str)]
    for called in sorted(names):
        if names.count(called) > 1:
            raise _name_taken(name.sibling(called), name, "that of another of its constraints")


def _relations(table: sa.Table) -> list[str]:
    """What the table's keys and indexes are called as relations, but for indexes that get a name that is free."""
    keys = [one for one in table.constraints if isinstance(one, _WITH_INDEX)]
    indexes = table.indexes.difference(_unnamed(table))
    return sorted(str(part.name) for part in (*keys, *indexes) if isinstance(part.name, str))


_WITH_INDEX = (sa.PrimaryKeyConstraint, sa.UniqueConstraint, postgresql.ExcludeConstraint)


def _name_taken(part: Name, table: Name, whose: str) -> DefinitionError:
    return DefinitionError(
        f"{table}: the name {part.name!r} of a constraint or index is {whose} too: expected one that nothing else in "
        "the schema has; give it another (to_metadata repeats the names of the table that it copies), or none"
    )


def _create_with_keys(conn: sa.Connection, metadata: sa.MetaData, missing: Mapping[sa.Table, Name]) -> None:
    keys = {(table.key, _references(key)) for table in missing for key in _to_others(table, metadata, missing)}
    if not keys:
        _create(conn, metadata, missing, ())
        return
    try:
        with conn.begin_nested():
            _create(conn, metadata, missing, ())
    except sa.exc.DBAPIError as error:
        if sqlstate(error) not in _NOT_YET:
            raise
        _create(conn, metadata, missing, keys)


@contextmanager
def accepted(tables: Collection[sa.Table]) -> Iterator[None]:
    """DefinitionError where SQLAlchemy or PostgreSQL does not take the definition of one of the tables."""
    names = ", ".join(repr(str(table.fullname)) for table in tables)
    try:
        yield
    except (sa.exc.IdentifierError, sa.exc.CompileError) as error:
        raise DefinitionError(
            f"table{'s' * (len(tables) > 1)} {names}: SQLAlchemy makes no SQL of the definition: {error}: mend it"
        ) from error
    except sa.exc.DBAPIError as error:
        state = sqlstate(error) or ""
        if state[:2] not in _OF_DEFINITIONS or state in _OF_OTHERS:
            raise
        raise DefinitionError(
            f"table{'s' * (len(tables) > 1)} {names}: PostgreSQL does not take the definition: {first_line(error)}: "
            "mend it, or first create what it names, as CREATE EXTENSION does for types of an extension"
        ) from error


DUPLICATE_TABLE, _DUPLICATE_OBJECT = "42P07", "42710"
_OF_DEFINITIONS = ("0A", "22", "3F", "42", "54")
"""SQLSTATE classes: not supported, a value such as a default's, no such schema, syntax, whatever is not there, too many
columns."""
_OF_OTHERS = (INSUFFICIENT_PRIVILEGE, DUPLICATE_TABLE, _DUPLICATE_OBJECT)
"""A role that may not, and somebody who has created the same meanwhile."""

_UNDEFINED_COLUMN = "42703"
_NOT_YET = (_UNDEFINED_COLUMN, INVALID_FOREIGN_KEY, DATATYPE_MISMATCH, OBJECT_NOT_IN_PREREQUISITE_STATE)
"""What PostgreSQL says of a foreign key to columns or a key that are yet to be, or to one that is DEFERRABLE yet."""

References = tuple[tuple[str, ...], tuple[str, ...]]
"""The columns of a foreign key, and what it refers to, as it is declared."""


def _create(
    conn: sa.Connection,
    metadata: sa.MetaData,
    missing: Mapping[sa.Table, Name],
    without: Collection[tuple[str, References]],
) -> None:
    source, tables = metadata, list(missing)
    indexes = [index for table in tables for index in table.indexes]
    wanted = [missing[table].sibling(_stored_name(conn, index)) for table in tables for index in _unnamed(table)]
    taken = catalog.relations_called(conn, wanted) if wanted else set()
    alike = len(set(wanted)) < len(wanted) or not taken.isdisjoint(wanted)
    if without or alike or any(map(_is_concurrent, indexes)):
        source = sa.MetaData(naming_convention=metadata.naming_convention)
        referred = [key.referred_table for table in tables for key in table.foreign_key_constraints]
        known = {table.key: table for table in (*referred, *metadata.tables.values())}
        copies = {key: copied(table, source) for key, table in known.items()}
        tables = [not_concurrent(copies[table.key]) for table in tables]
        for table, name in zip(tables, missing.values(), strict=True):
            for key in tuple(table.foreign_key_constraints):
                if (table.key, _references(key)) in without:
                    table.constraints.discard(key)
            name_apart(conn, table, {one.name for one in taken if one.schema == name.schema})
            taken = taken | {name.sibling(str(index.name)) for index in table.indexes}
    source.create_all(conn, tables=tables)


def _unnamed(table: sa.Table) -> list[sa.Index]:
    """The table's indexes that SQLAlchemy names, after the first of their columns: several may get the same name."""
    return [index for index in table.indexes if isinstance(index.name, conv)]


def _stored_name(conn: sa.Connection, index: sa.Index) -> str:
    """What an index is called in the database that SQLAlchemy names: it cuts at 63 characters, PostgreSQL at bytes."""
    assert isinstance(index.name, conv), "called for indexes without a name of their own"
    rendered = conn.dialect.identifier_preparer.truncate_and_render_index_name(index.name, _alembic_quote=False)
    return kept_of(rendered)


def name_apart(conn: sa.Connection, table: sa.Table, taken: Collection[str]) -> None:
    """Give the table's indexes that have no name of their own names that are neither taken nor another index's."""
    unnamed = {index: _stored_name(conn, index) for index in _unnamed(table)}
    used = {*taken, *(str(index.name) for index in table.indexes if index not in unnamed)}
    names = set(unnamed.values())
    if len(names) == len(unnamed) and not names & used:
        return
    for index in sorted(unnamed, key=lambda index: str(CreateIndex(index).compile(dialect=conn.dialect))):
        name = free_name(unnamed[index], used)
        if name != index.name:
            index.name = sa.sql.quoted_name(name, quote=None)
        used.add(name)


def _to_others(
    table: sa.Table, metadata: sa.MetaData, missing: Collection[sa.Table]
) -> Iterator[sa.ForeignKeyConstraint]:
    """The table's foreign keys to tables of the metadata that are there."""
    there = [one for one in metadata.tables.values() if one not in missing]
    return (key for key in table.foreign_key_constraints if key.referred_table in there)


def _references(key: sa.ForeignKeyConstraint) -> References:
    return tuple(key.column_keys), tuple(element.target_fullname for element in key.elements)


_STORED = (postgresql.ENUM, postgresql.DOMAIN)
"""Types that are made in the database; an Enum that is not native is a text with a check."""

_NAMED = (sa.Enum, postgresql.DOMAIN)


def copied(table: sa.Table, metadata: sa.MetaData, **options: Any) -> sa.Table:
    """What Table.to_metadata gives, but with the schemas and variants of named types, which it loses."""
    copy = table.to_metadata(metadata, **options)
    for there, here in zip(table.columns, copy.columns, strict=True):
        if isinstance(there.type, _NAMED) and isinstance(here.type, _NAMED):
            here.type.schema = there.type.schema
            here.type._variant_mapping = there.type._variant_mapping
    return copy


def _is_concurrent(index: sa.Index) -> bool:
    return bool(index.dialect_options["postgresql"]["concurrently"])


def not_concurrent(table: sa.Table) -> sa.Table:
    """The table, its indexes to be created in a transaction, where CONCURRENTLY is refused."""
    for index in table.indexes:
        index.dialect_options["postgresql"]["concurrently"] = False
    return table
