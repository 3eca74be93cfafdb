"""A hidden table: built beside the live one, filled, and finished before anybody sees it."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import attachments, statements
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name, default_name, temporary_name
from airflow_ingest_provider.core.session import run, sqlstate
from airflow_ingest_provider.core.shape import ColumnShape, TableShape

_UNIQUE_VIOLATION = "23505"
_DATATYPE_MISMATCH = "42804"


@dataclass(frozen=True)
class HiddenTable:
    """A table that will take the name of `live`; `shape` is its definition, under the names that it will have."""

    name: Name
    live: TableShape
    shape: TableShape
    token: str

    def temporary(self, place: int) -> str:
        """What the index or constraint at that place is called until the swap: its own name is still taken."""
        return temporary_name(self.token, f"index{place}")

    def explained(self, error: sa.exc.DBAPIError) -> str:
        """PostgreSQL's message, in which the table and its parts have the names that people know."""
        return self.known_as(str(error.orig).splitlines()[0].strip())

    def known_as(self, text: str) -> str:
        """A text, in which the table and its parts have the names that people know."""
        text = text.replace(self.name.name, self.live.name.name)
        parts = [one.name for one in self.shape.constraints] + [one.name for one in self.shape.indexes]
        for place, name in enumerate(parts):
            text = text.replace(self.temporary(place), name)
        return text


def build(conn: sa.Connection, live: TableShape, target: TableShape, token: str) -> HiddenTable:
    """Create the hidden table with its columns and checks; keys and indexes come after the rows."""
    hidden = HiddenTable(live.name.sibling(temporary_name(token)), live, target, token)
    run(conn, statements.create_hidden(hidden.name, target, attachments.settings(conn, live.oid)))
    for statement in statements.tune(hidden.name, target):
        run(conn, statement)
    for check in target.of_kind("c"):
        run(conn, statements.add_constraint(hidden.name, check, check.name))
    return hidden


def fill(conn: sa.Connection, hidden: HiddenTable) -> None:
    """Copy the live table's rows, with the casts that PostgreSQL allows in an assignment.

    Raises DefinitionError where a column's new type has no such cast.
    """
    shared = [column.name for column in hidden.shape.loaded_columns if hidden.live.column(column.name)]
    columns = statements.columns(shared)
    # Rows without a column in common are kept as well: with no columns at all, the new ones get their defaults.
    listed = sql.SQL("({}) OVERRIDING SYSTEM VALUE").format(columns) if shared else sql.SQL("")
    insert = sql.SQL("INSERT INTO {} {} SELECT {} FROM {}")
    try:
        run(conn, insert.format(hidden.name.sql, listed, columns, hidden.live.name.sql))
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != _DATATYPE_MISMATCH:
            raise
        message = str(error.orig).splitlines()[0].strip()
        raise DefinitionError(
            f"{hidden.live.name}: PostgreSQL does not assign values of the old type to the new one ({message}): "
            "convert the column with ALTER TABLE ... USING first, or declare its old type"
        ) from error


def finish(conn: sa.Connection, hidden: HiddenTable, renamed: Mapping[Name, Name], *, last_row_wins: bool) -> int:
    """Add keys, indexes and foreign keys, and gather statistics; how many rows a later one of their key replaced.

    `renamed` says what other tables that are about to be swapped are called for now. Rows of one key are an error
    unless the last one wins.
    """
    superseded = _add_keys(conn, hidden, last_row_wins)
    for place, index in enumerate(hidden.shape.indexes, start=len(hidden.shape.constraints)):
        if index.tablespace:
            run(conn, sql.SQL("SET LOCAL default_tablespace = {}").format(sql.Literal(index.tablespace)))
        run(conn, statements.create_index(hidden.name, index, hidden.temporary(place)))
        if index.tablespace:
            run(conn, "SET LOCAL default_tablespace TO DEFAULT")
    for key in hidden.shape.foreign_keys:
        target = hidden.name if key.target == hidden.live.name else renamed.get(key.target, key.target)
        name = key.name or default_name(hidden.live.name.name, *key.columns, "fkey")
        run(conn, statements.add_foreign_key(hidden.name, key, name, target, valid=key.validated))
    run(conn, sql.SQL("ANALYZE {}").format(hidden.name.sql))
    return superseded


def _add_keys(conn: sa.Connection, hidden: HiddenTable, last_row_wins: bool) -> int:
    superseded = 0
    for place, constraint in enumerate(hidden.shape.constraints):
        if constraint.kind == "c":
            continue
        add = statements.add_constraint(hidden.name, constraint, hidden.temporary(place))
        if constraint.kind != "p" or not last_row_wins:
            run(conn, add)
            continue
        try:
            with conn.begin_nested():
                run(conn, add)
        except sa.exc.DBAPIError as error:
            if sqlstate(error) != _UNIQUE_VIOLATION:
                raise
            superseded = _keep_last(conn, hidden.name, constraint.columns)
            run(conn, add)
    return superseded


def _keep_last(conn: sa.Connection, table: Name, key: tuple[str, ...]) -> int:
    """Delete all rows of a key but the last; how many they were. In a table that its own transaction created, rows
    lie in the order of their arrival: COPY and INSERT do not look for free space there, they append."""
    keys = statements.columns(key)
    duplicates = sql.SQL(
        "DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM ("
        "SELECT ctid, row_number() OVER (PARTITION BY {keys} ORDER BY ctid DESC) AS place FROM {table}"
        ") ranked WHERE place > 1)"
    )
    return run(conn, duplicates.format(table=table.sql, keys=keys)).rowcount


def lossy_columns(conn: sa.Connection, live: TableShape, target: TableShape) -> dict[str, str]:
    """Retyped columns with values that the new type would change or refuse, and how many they are."""
    lossy = {}
    for column in target.columns:
        before = live.column(column.name)
        if before is not None and before.type != column.type and not column.generated:
            found = _lossy(conn, live.name, before, column)
            if found:
                lossy[column.name] = found
    return lossy


def _lossy(conn: sa.Connection, table: Name, before: ColumnShape, after: ColumnShape) -> str | None:
    changed = sql.SQL(
        "SELECT count(*) FROM {table} WHERE {name} IS NOT NULL"
        " AND CAST(CAST({name} AS {after}) AS {before}){compared} IS DISTINCT FROM {name}{compared}"
    ).format(
        table=table.sql,
        name=sql.Identifier(before.name),
        after=sql.SQL(after.type),
        before=sql.SQL(before.type),
        # As text, since not every type has an equality; but 1 and 1.00 are the same number.
        compared=sql.SQL("" if before.value.name == "numeric" else "::text"),
    )
    try:
        with conn.begin_nested():
            count = run(conn, changed).scalar_one()
    except sa.exc.DBAPIError as error:
        if (sqlstate(error) or "")[:2] not in ("22", "23", "42"):
            raise
        return f"at least one value cannot be cast ({str(error.orig).splitlines()[0].strip()})"
    return f"{count} values would change" if count else None
