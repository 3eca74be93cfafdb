"""What can only be told by trying: whether types, defaults, keys and values go together. Nothing of it stays."""

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.refusals import reason
from airflow_ingest_provider.core.session import DATATYPE_MISMATCH, UNDEFINED_OBJECT, rolled_back, run, sqlstate
from airflow_ingest_provider.core.shape import ColumnShape, ForeignKeyShape, TableShape


def takes_default(conn: sa.Connection, column: ColumnShape) -> bool:
    """Whether the column's default is of a type that PostgreSQL assigns to the column, or to one yet to be made."""
    assert column.default is not None, "called for columns that have one"
    create = sql.SQL("CREATE TEMPORARY TABLE {} (it {} DEFAULT {})")
    name = sql.Identifier(temporary_name("default"))
    try:
        with rolled_back(conn):
            run(conn, create.format(name, sql.SQL(column.type), sql.SQL(column.default)))
    except sa.exc.DBAPIError as error:
        if sqlstate(error) not in (DATATYPE_MISMATCH, UNDEFINED_OBJECT):
            raise
        return sqlstate(error) == UNDEFINED_OBJECT
    return True


def fits(conn: sa.Connection, key: ForeignKeyShape, table: TableShape, target: TableShape) -> bool:
    """Whether PostgreSQL lets columns of the table's types refer to columns of the target's."""
    names = [Name("pg_temp", temporary_name(which)) for which in ("target", "referring")]
    sides = ((target, key.target_columns), (table, key.columns))
    try:
        with rolled_back(conn):
            for name, (shape, columns) in zip(names, sides, strict=True):
                run(conn, statements.create_referred(name, [one for one in map(shape.column, columns) if one]))
            run(conn, statements.add_foreign_key(names[1], key, key.name, names[0], valid=True))
    except sa.exc.DBAPIError as error:
        if (sqlstate(error) or "")[:2] != "42":
            raise
        return False
    return True


def lossy(conn: sa.Connection, table: Name, before: ColumnShape, after: ColumnShape) -> str | None:
    """How many values of a column another type would change or refuse; None where it holds all."""
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
        return f"at least one value cannot be cast ({reason(sqlstate(error) or '')})"
    return f"{count} values would change" if count else None
