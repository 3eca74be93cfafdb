"""Sequences of identity and serial columns, which go on behind the values that were loaded."""

from dataclasses import replace

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.session import run
from airflow_ingest_provider.core.shape import INTEGERS, ColumnShape, TableShape


def advance(conn: sa.Connection, shape: TableShape, staged: Name | None = None) -> None:
    """Move the sequences of identity and serial columns past the highest value; never back.

    The index of a primary key or unique constraint knows the highest value of its first column. That of another column
    is looked for among the `staged` rows, if the rows came that way, since the table may be a large one. Text that
    people draw from a sequence is no value that it could go on behind.
    """
    indexed = _indexed(shape)
    for column in shape.columns:
        if column.sequence is None or not (column.identity or column.serial) or column.value.name not in _NUMBERS:
            continue
        statement = sql.SQL(
            "SELECT setval({sequence}, greatest(seqmin, least(seqmax, loaded.extreme))::bigint)"
            " FROM (SELECT CASE WHEN seqincrement > 0 THEN (SELECT max({column}) FROM {rows})"
            " ELSE (SELECT min({column}) FROM {rows}) END::numeric AS extreme, seqincrement, seqmin, seqmax"
            " FROM pg_sequence WHERE seqrelid = {sequence}::regclass OFFSET 0) loaded, {name} now"
            " WHERE CASE WHEN seqincrement > 0 THEN loaded.extreme > now.last_value OR NOT now.is_called"
            " AND loaded.extreme >= now.last_value ELSE loaded.extreme < now.last_value OR NOT now.is_called"
            " AND loaded.extreme <= now.last_value END"
        )
        run(
            conn,
            statement.format(
                sequence=statements.literal(column.sequence.quoted),
                column=sql.Identifier(column.name),
                rows=shape.name.sql if staged is None or column.name in indexed else staged.sql,
                name=column.sequence.sql,
            ),
        )


def widen(conn: sa.Connection, live: TableShape, shape: TableShape) -> None:
    """Let the sequences of serial columns go as far as the new types of their columns, and on behind their values.

    `shape` is the table's as it is now. No rows are read for a column that is not the first of a key.
    """
    wider = []
    for column in shape.columns:
        before = live.column(column.name)
        if before is None or not (before.serial and column.serial) or before.sequence != column.sequence:
            continue
        if column.sequence is None or _width(column) <= _width(before):
            continue
        name, type_ = column.sequence, sql.Identifier(column.value.name)
        if (conn.scalar(_BYTES, {"sequence": name.quoted}) or 0) < _width(column):
            run(conn, sql.SQL("ALTER SEQUENCE {} AS {}").format(name.sql, type_))
            wider.append(column)
    indexed = _indexed(shape)
    advance(conn, replace(shape, columns=tuple(column for column in wider if column.name in indexed)))


def _indexed(shape: TableShape) -> set[str]:
    return {key.columns[0] for key in (*shape.of_kind("p"), *shape.of_kind("u"))}


def _width(column: ColumnShape) -> int:
    return _WIDTHS.get(column.value.name, 0)


_WIDTHS = {"int2": 2, "int4": 4, "int8": 8}
"""The integer types, and their bytes."""

# The bytes of the type that a sequence counts in.
_BYTES = sa.text("""
    SELECT typlen FROM pg_sequence JOIN pg_type t ON t.oid = seqtypid WHERE seqrelid = CAST(:sequence AS regclass)
""")

_NUMBERS = INTEGERS | {"numeric", "float4", "float8"}
"""The types whose values a sequence can go on behind; numbers that no bigint holds leave it at its end."""
