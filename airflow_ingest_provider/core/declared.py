"""What the metadata declares, in PostgreSQL's own words.

Types, defaults, constraints and indexes have many spellings, and PostgreSQL stores one. So the declared table
is created as a temporary table, in a savepoint that is rolled back, and read with the queries that read the live
one: two equal definitions are then two equal shapes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, conv

from airflow_ingest_provider.core import catalog, reflection, statements
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name, free_name, temporary_name
from airflow_ingest_provider.core.session import (
    DATATYPE_MISMATCH,
    INSUFFICIENT_PRIVILEGE,
    INVALID_FOREIGN_KEY,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    first_line,
    rolled_back,
    run,
    run_all,
    sqlstate,
)
from airflow_ingest_provider.core.shape import ColumnShape, ConstraintShape, ForeignKeyShape, IndexShape, TableShape


@dataclass(frozen=True)
class EnumShape:
    """A declared enum type and its labels, in order; its schema as it is on the connection."""

    schema: str | None
    name: str
    labels: tuple[str, ...]

    @property
    def quoted(self) -> str:
        """Its name in SQL, found along the search_path where it has no schema."""
        parts = [self.schema, self.name] if self.schema else [self.name]
        return sql.Identifier(*parts).as_string(None)


def create(conn: sa.Connection, metadata: sa.MetaData, missing: Mapping[sa.Table, Name]) -> None:
    """Create tables as SQLAlchemy does, events and all; in the open transaction.

    Where they refer to tables of the metadata that are there, and not yet as the foreign keys need them, the migration
    adds those. Indexes without a name get one that is free. Raises DefinitionError where PostgreSQL does not take what
    is declared.
    """
    try:
        with conn.begin_nested(), _accepted(missing):
            _create_with_keys(conn, metadata, missing)
    except sa.exc.DBAPIError as error:
        if sqlstate(error) in (_DUPLICATE_TABLE, _DUPLICATE_OBJECT):
            _check_names(conn, missing)
        raise


def _check_names(conn: sa.Connection, missing: Mapping[sa.Table, Name]) -> None:
    """Raise DefinitionError where a constraint or index of the tables has a name that another thing has."""
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
def _accepted(tables: Collection[sa.Table]) -> Iterator[None]:
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


_DUPLICATE_TABLE, _DUPLICATE_OBJECT = "42P07", "42710"
_OF_DEFINITIONS = ("0A", "22", "3F", "42", "54")
"""SQLSTATE classes: not supported, a value such as a default's, no such schema, syntax, whatever is not there, too many
columns."""
_OF_OTHERS = (INSUFFICIENT_PRIVILEGE, _DUPLICATE_TABLE, _DUPLICATE_OBJECT)
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
    wanted = [missing[table].sibling(str(index.name)) for table in tables for index in _unnamed(table)]
    taken = catalog.relations_called(conn, wanted) if wanted else set()
    alike = len(set(wanted)) < len(wanted) or not taken.isdisjoint(wanted)
    if without or alike or any(map(_is_concurrent, indexes)):
        source = sa.MetaData(naming_convention=metadata.naming_convention)
        referred = [key.referred_table for table in tables for key in table.foreign_key_constraints]
        known = {table.key: table for table in (*referred, *metadata.tables.values())}
        copies = {key: copied(table, source) for key, table in known.items()}
        tables = [_not_concurrent(copies[table.key]) for table in tables]
        for table, name in zip(tables, missing.values(), strict=True):
            for key in tuple(table.foreign_key_constraints):
                if (table.key, _references(key)) in without:
                    table.constraints.discard(key)
            _name_apart(conn, table, {one.name for one in taken if one.schema == name.schema})
            taken = taken | {name.sibling(str(index.name)) for index in table.indexes}
    source.create_all(conn, tables=tables)


def _unnamed(table: sa.Table) -> list[sa.Index]:
    """The table's indexes that SQLAlchemy names, after the first of their columns: several may get the same name."""
    return [index for index in table.indexes if isinstance(index.name, conv)]


def _name_apart(conn: sa.Connection, table: sa.Table, taken: Collection[str]) -> None:
    """Give the table's indexes that have no name of their own names that are neither taken nor another index's."""
    unnamed = _unnamed(table)
    used = {*taken, *(str(index.name) for index in table.indexes if index not in unnamed)}
    names = {str(index.name) for index in unnamed}
    if len(names) == len(unnamed) and not names & used:
        return
    for index in sorted(unnamed, key=lambda index: str(CreateIndex(index).compile(dialect=conn.dialect))):
        name = free_name(str(index.name), used)
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


def live_and_declared(
    conn: sa.Connection, tables: Sequence[tuple[sa.Table, Name]]
) -> list[tuple[TableShape, TableShape]]:
    """The shapes that tables have, and those that they have once they are created as declared; nothing of that stays.

    PostgreSQL prints some expressions otherwise once it has read its own printing, which is how a rebuild makes them:
    a declared expression is given as the live table has it, where that is one of its two prints.

    Takes no lock on the live tables. Needs TEMPORARY on the database, as loading does. Enum types whose labels are
    declared otherwise give up their names in the savepoint, so that the declared ones are made. Raises DefinitionError
    for what is no table, or not there any more, and for a definition that PostgreSQL does not take.
    """
    try:
        pairs = _created(conn, tables)
    except sa.exc.DBAPIError as error:
        # Tables of two schemas, or their indexes, may have the same name, and there is one schema for temporary ones.
        if len(tables) == 1 or sqlstate(error) != _DUPLICATE_TABLE:
            raise
        return [live_and_declared(conn, [one])[0] for one in tables]
    return [
        (live, replace(shape, name=name, foreign_keys=tuple(_foreign_keys(conn, table, name))))
        for (live, shape), (table, name) in zip(pairs, tables, strict=True)
    ]


def _created(conn: sa.Connection, tables: Sequence[tuple[sa.Table, Name]]) -> list[tuple[TableShape, TableShape]]:
    """Both are read at once: these queries are most of what a run of few rows takes."""
    names = [name for _, name in tables]
    oids = catalog.oids_of(conn, names)
    with rolled_back(conn):
        # Else a temporary table that is called as a type or a relation of the catalog would be taken for it.
        conn.execute(_TEMPORARY_LAST)
        before: dict[int, TableShape] = {}
        renamed = count()
        for table, _ in tables:
            for enum in declared_enums(conn, table):
                there = catalog.enum_labels(conn, enum.schema, enum.name)
                if there is not None and there != enum.labels:
                    before = before or reflection.table_shapes(conn, oids)  # with the names that their types have
                    name = temporary_name("declared", f"type{next(renamed)}")
                    run(conn, statements.rename_type(enum.quoted, name))
            copy = _not_concurrent(copied(table, sa.MetaData(naming_convention=table.metadata.naming_convention)))
            for key in tuple(copy.foreign_key_constraints):
                copy.constraints.discard(key)
            _name_apart(conn, copy, ())
            copy.schema = "pg_temp"
            with _accepted([table]):
                copy.create(conn, checkfirst=True)  # for the enum types, which are there from the second run on
        temporary = _temporary_oids(conn, [table.name for table, _ in tables])
        found = reflection.table_shapes(conn, [*oids, *temporary]) | before
        lives = [_of_table(name, found.get(oid)) for name, oid in zip(names, oids, strict=True)]
        shapes = [found[oid] for oid in temporary]
        again = [
            place for place, live in enumerate(lives) if not _expressions(live).issuperset(_expressions(shapes[place]))
        ]
        for place, reprinted in zip(again, _reprinted(conn, [shapes[place] for place in again]), strict=True):
            shapes[place] = _printed_as(lives[place], shapes[place], reprinted)
        return list(zip(lives, shapes, strict=True))


def _of_table(name: Name, shape: TableShape | None) -> TableShape:
    if shape is None:
        raise DefinitionError(f"{name} was dropped during this run: run again to create it anew")
    if shape.kind not in ("r", "p"):
        raise DefinitionError(
            f"{name} is not a table (relkind {shape.kind!r}): expected a table, or nothing, of that name"
        )
    return shape


def _temporary_oids(conn: sa.Connection, names: Sequence[str]) -> list[int]:
    return list(conn.scalars(_TEMPORARY_TABLES, {"names": list(names)}))


# The search_path may be empty.
_TEMPORARY_LAST = sa.text("""
    SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), 'pg_temp'), true)
""")

# The temporary tables of the names, in their order.
_TEMPORARY_TABLES = sa.text("""
    SELECT to_regclass('pg_temp.' || quote_ident(name))::oid::bigint
    FROM unnest(CAST(:names AS text[])) WITH ORDINALITY wanted(name, place) ORDER BY place
""")


def _reprinted(conn: sa.Connection, shapes: Sequence[TableShape]) -> list[TableShape]:
    """The shapes, once PostgreSQL has read its own printing of them."""
    if not shapes:
        return []
    tokens = [f"declared{place}" for place, _ in enumerate(shapes)]
    made = [_again(token, shape) for token, shape in zip(tokens, shapes, strict=True)]
    run_all(conn, chain.from_iterable(create for create, _ in made))
    oids = _temporary_oids(conn, list(map(temporary_name, tokens)))
    there = reflection.table_shapes(conn, oids)
    return [
        replace(
            again,
            constraints=tuple(replace(one, name=known[one.name]) for one in again.constraints if one.name in known),
            indexes=tuple(replace(one, name=known[one.name]) for one in again.indexes),
        )
        for again, (_, known) in zip((there[oid] for oid in oids), made, strict=True)
    ]


def _again(token: str, shape: TableShape) -> tuple[list[sql.Composable], dict[str, str]]:
    """The statements that create a table of the shape; what its parts are called in the shape, by their names here."""
    name = Name("pg_temp", temporary_name(token))
    create = [statements.create_hidden(name, shape, "")]
    called = {}
    parts: list[ConstraintShape | IndexShape] = [*shape.constraints, *shape.indexes]
    for place, part in enumerate(parts):
        passing = temporary_name(token, f"part{place}")  # its own name is taken, by the table that was read
        called[passing] = part.name
        if isinstance(part, ConstraintShape):
            create.append(statements.add_constraint(name, part, passing))
        else:
            create.append(statements.create_index(name, part, passing))
    return create, called


def _expressions(shape: TableShape) -> set[str | None]:
    """The texts of columns, constraints and indexes that may hold an expression."""
    columns = {column.default for column in shape.columns}
    constraints = {constraint.definition for constraint in shape.constraints}
    return columns | constraints | {text for index in shape.indexes for text in (index.definition, index.predicate)}


def _printed_as(live: TableShape, shape: TableShape, again: TableShape) -> TableShape:
    """The shape, with those expressions as they are printed again that the live table has so."""
    there = _expressions(live)
    constraints = {one.name: one for one in again.constraints}
    indexes = {one.name: one for one in again.indexes}

    def column_of(one: ColumnShape) -> ColumnShape:
        other = again.column(one.name)
        return replace(one, default=other.default) if other and other.default in there else one

    def constraint_of(one: ConstraintShape) -> ConstraintShape:
        other = constraints.get(one.name, one)
        return replace(one, definition=other.definition, index=other.index) if other.definition in there else one

    def index_of(one: IndexShape) -> IndexShape:
        other = indexes[one.name]
        if other.definition in there:
            one = replace(one, definition=other.definition)
        return replace(one, predicate=other.predicate) if other.predicate in there else one

    return replace(
        shape,
        columns=tuple(map(column_of, shape.columns)),
        constraints=tuple(map(constraint_of, shape.constraints)),
        indexes=tuple(map(index_of, shape.indexes)),
    )


_NAMED = (sa.Enum, postgresql.DOMAIN)


def copied(table: sa.Table, metadata: sa.MetaData, **options: Any) -> sa.Table:
    """What Table.to_metadata gives, but with the schemas and variants of named types, which it loses."""
    copy = table.to_metadata(metadata, **options)
    for there, here in zip(table.columns, copy.columns, strict=True):
        if isinstance(there.type, _NAMED) and isinstance(here.type, _NAMED):
            here.type.schema = there.type.schema
            here.type._variant_mapping = there.type._variant_mapping
    return copy


def declared_enums(conn: sa.Connection, table: sa.Table) -> tuple[EnumShape, ...]:
    """The enum types that the table's columns use and SQLAlchemy creates."""
    found = {}
    for column in table.columns:
        kind: Any = column.type.dialect_impl(conn.dialect)
        while isinstance(kind, sa.TypeDecorator):
            kind = kind.impl_instance.dialect_impl(conn.dialect)
        while isinstance(kind, sa.ARRAY):
            kind = kind.item_type.dialect_impl(conn.dialect)
        if isinstance(kind, postgresql.ENUM) and kind.name:
            schema = conn.schema_for_object(kind)  # type: ignore[arg-type]
            found[schema, kind.name] = EnumShape(schema, kind.name, tuple(kind.enums))
    return tuple(found.values())


def create_types(conn: sa.Connection, table: sa.Table) -> None:
    """Create the enum types of the table's columns that are not there, in the open transaction."""
    for enum in declared_enums(conn, table):
        if catalog.enum_labels(conn, enum.schema, enum.name) is None:
            run(conn, statements.create_enum(enum.quoted, enum.labels))


def _foreign_keys(conn: sa.Connection, table: sa.Table, name: Name) -> Iterator[ForeignKeyShape]:
    for constraint in sorted(table.foreign_key_constraints, key=lambda key: tuple(key.column_keys)):
        target = constraint.referred_table
        yield ForeignKeyShape(
            name=str(constraint.name or ""),
            columns=tuple(column.name for column in constraint.columns),
            target=name if target is table else catalog.find_tables(conn, [target])[0][0],
            target_columns=tuple(element.column.name for element in constraint.elements),
            options=_foreign_key_options(constraint),
            validated=not constraint.dialect_options["postgresql"]["not_valid"],
        )


def _foreign_key_options(constraint: sa.ForeignKeyConstraint) -> str:
    """What pg_get_constraintdef prints behind the referred columns, but for columns in parentheses: as declared."""
    options = ""
    if constraint.match and constraint.match.upper() != "SIMPLE":
        options += f" MATCH {constraint.match.upper()}"
    for event, declared in (("UPDATE", constraint.onupdate), ("DELETE", constraint.ondelete)):
        action, parenthesis, of_columns = (declared or "").partition("(")  # SET NULL (column)
        words = " ".join(action.upper().split())
        if words and words != "NO ACTION":
            options += f" ON {event} {words}" + f" ({of_columns}" * bool(parenthesis)
    deferred = bool(constraint.initially and constraint.initially.upper() == "DEFERRED")
    if constraint.deferrable or deferred:
        options += " DEFERRABLE"
    if deferred:
        options += " INITIALLY DEFERRED"
    return options


def _is_concurrent(index: sa.Index) -> bool:
    return bool(index.dialect_options["postgresql"]["concurrently"])


def _not_concurrent(table: sa.Table) -> sa.Table:
    """The table, its indexes to be created in a transaction, where CONCURRENTLY is refused."""
    for index in table.indexes:
        index.dialect_options["postgresql"]["concurrently"] = False
    return table
