"""What the metadata declares, in PostgreSQL's own words.

Types, defaults, constraints and indexes have many spellings, and PostgreSQL stores one. So the declared table
is created as a temporary table, in a savepoint that is rolled back, and read with the queries that read the live
one: two equal definitions are then two equal shapes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from airflow_ingest_provider.core import catalog, reflection, statements
from airflow_ingest_provider.core.creation import (
    DUPLICATE_TABLE,
    accepted,
    copied,
    create_schemas,
    name_apart,
    not_concurrent,
    type_taken,
    types_of,
)
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.session import rolled_back, run, run_all, sqlstate
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
    if len(tables) > _AT_ONCE:
        some = (tables[start : start + _AT_ONCE] for start in range(0, len(tables), _AT_ONCE))
        return [pair for group in some for pair in live_and_declared(conn, group)]
    try:
        pairs = _created(conn, tables)
    except sa.exc.DBAPIError as error:
        # Tables of two schemas, or their indexes, may have the same name, and there is one schema for temporary ones.
        if len(tables) == 1 or sqlstate(error) != DUPLICATE_TABLE:
            raise
        return [live_and_declared(conn, [one])[0] for one in tables]
    return [
        (live, replace(shape, name=name, foreign_keys=tuple(_foreign_keys(conn, table, name))))
        for (live, shape), (table, name) in zip(pairs, tables, strict=True)
    ]


_AT_ONCE = 30
"""Tables that are created for it before they go again: each takes some 16 of the server's locks, which has 6,400."""


def check_definition(conn: sa.Connection, table: sa.Table, name: Name) -> None:
    """Raise DefinitionError where PostgreSQL would not take the definition of a table that is yet to be created.

    It is tried as `live_and_declared` tries it: without its foreign keys.
    """
    with rolled_back(conn):
        create_schemas(conn, [name.schema])  # its types may be in there
        conn.execute(_TEMPORARY_LAST)
        _create_temporary(conn, table, _relabelled(conn, table), count())


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
            relabelled = _relabelled(conn, table)
            if relabelled and not before:
                before = reflection.table_shapes(conn, oids)  # with the names that their types have
            _create_temporary(conn, table, relabelled, renamed)
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


def _relabelled(conn: sa.Connection, table: sa.Table) -> list[EnumShape]:
    """The table's enum types that are there with other labels than the declared ones.

    Raises DefinitionError where something else than an enum type has the name of one.
    """
    relabelled = []
    for enum in declared_enums(conn, table):
        there = catalog.enum_labels(conn, enum.schema, enum.name)
        if there is None and catalog.has_type(conn, enum.schema, enum.name, of_rows=True):
            raise type_taken(table, enum.name)
        if there is not None and there != enum.labels:
            relabelled.append(enum)
    return relabelled


def _create_temporary(
    conn: sa.Connection, table: sa.Table, relabelled: Sequence[EnumShape], renamed: Iterator[int]
) -> None:
    """Create a temporary table as declared, without its foreign keys; the relabelled enum types make way for it.

    Those get names by the numbers, of which there is a new one for each.
    """
    for enum in relabelled:
        run(conn, statements.rename_type(enum.quoted, temporary_name("declared", f"type{next(renamed)}")))
    copy = not_concurrent(copied(table, sa.MetaData(naming_convention=table.metadata.naming_convention)))
    for key in tuple(copy.foreign_key_constraints):
        copy.constraints.discard(key)
    name_apart(conn, copy, ())
    copy.schema = "pg_temp"
    with accepted([table]):
        copy.create(conn, checkfirst=True)  # for the enum types, which are there from the second run on


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
    oids = _temporary_oids(conn, [shape.name.name for shape in shapes])
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
    """The statements that create a table of the shape; what its parts are called in the shape, by their names here.

    It takes over the name of the table that was read: an expression over whole rows names the table.
    """
    name = Name("pg_temp", shape.name.name)
    create = [statements.rename("TABLE", name, temporary_name(token)), statements.create_hidden(name, shape, "")]
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


def declared_enums(conn: sa.Connection, table: sa.Table) -> tuple[EnumShape, ...]:
    """The enum types that the table's columns use and SQLAlchemy creates."""
    found = {}
    for kind in types_of(conn, table):
        if isinstance(kind, postgresql.ENUM) and kind.name:
            schema = conn.schema_for_object(kind)  # type: ignore[arg-type]
            found[schema, kind.name] = EnumShape(schema, kind.name, tuple(kind.enums))
    return tuple(found.values())


def create_types(conn: sa.Connection, table: sa.Table) -> None:
    """Create the enum types and domains of the table's columns that are not there, in the open transaction."""
    for enum in declared_enums(conn, table):
        if catalog.enum_labels(conn, enum.schema, enum.name) is None:
            run(conn, statements.create_enum(enum.quoted, enum.labels))
    for kind in types_of(conn, table):
        if isinstance(kind, postgresql.DOMAIN):
            kind.create(conn, checkfirst=True)


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
