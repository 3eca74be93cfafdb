"""Replacing all rows of a table in place: what differs is merged, and what is gone is deleted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.merge import (
    MANY_ROWS,
    STAGING_SCHEMA,
    Merged,
    analyze_keys,
    and_unchanged,
    columns_to_update,
    equals,
    last_rows,
    merge_rows,
    rows_of,
    same_key,
)
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.session import UNIQUE_VIOLATION, rolled_back, run, sqlstate
from airflow_ingest_provider.core.shape import ForeignKeyShape, TableShape


@dataclass(frozen=True)
class Compared:
    """What all staged rows change in a table: the `rows` that are new or changed, and the keys of those that are gone.

    `differing` are how many are new or changed, `keys` how many the staged rows have, and `received` how many rows were
    staged; `latest` is a query for the last of them of each key.
    """

    latest: sql.Composable
    rows: Name
    differing: int
    keys: int
    received: int

    @property
    def unchanged(self) -> int:
        """How many of the keys have a row that is in the table to the byte."""
        return self.keys - self.differing

    @property
    def superseded(self) -> int:
        """How many staged rows a later one of their key replaces."""
        return self.received - self.keys


def compare(
    conn: sa.Connection,
    staged: Name,
    shape: TableShape,
    token: str,
    received: int,
    *,
    all_keyed: bool,
) -> Compared:
    """See in one pass over both what staged rows change in a table that is to hold them and no others.

    Unless they are `all_keyed`, some rows may have NULL in the key, and get it from a trigger.
    """
    analyze_keys(conn, staged, shape.key, received)
    latest, keys = _latest(conn, staged, shape.key, received, all_keyed=all_keyed)
    rows, differing = _compare(conn, latest, shape, temporary_name(token, "compared"))
    return Compared(latest, rows, differing, keys, received)


def compare_again(conn: sa.Connection, before: Compared, shape: TableShape, name: str) -> Compared:
    """The same once rows of the table may be others, in a temporary table of that name."""
    rows, differing = _compare(conn, before.latest, shape, name)
    return replace(before, rows=rows, differing=differing)


def _latest(
    conn: sa.Connection, staged: Name, key: Sequence[str], received: int, *, all_keyed: bool
) -> tuple[sql.Composable, int]:
    """A query for the last row of each key, which sorts only where some have the same, and how many rows it gives."""
    if received > MANY_ROWS and _is_unique(conn, staged, statements.columns(key)):
        return sql.SQL("SELECT * FROM {}").format(staged.sql), received
    last = last_rows(staged, key, all_keyed=all_keyed)
    return last, int(run(conn, sql.SQL("SELECT count(*) FROM ({}) AS latest").format(last)).scalar_one())


def _is_unique(conn: sa.Connection, staged: Name, keys: sql.Composable) -> bool:
    """Whether no two of many rows have the same key.

    An index says it in a third of the time of DISTINCT, since it is built with maintenance_work_mem. It does not stay:
    where rows lie in no order, the planner underrates by far what it takes to read them by it.
    """
    try:
        with rolled_back(conn):
            run(conn, sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(staged.sql, keys))
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != UNIQUE_VIOLATION:
            raise
        return False
    return True


def _compare(conn: sa.Connection, latest: sql.Composable, shape: TableShape, name: str) -> tuple[Name, int]:
    """A temporary table of what differs, and how many of its rows are new or changed."""
    others = [column.name for column in shape.loaded_columns if column.name not in shape.key]
    statement = sql.SQL(
        "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {keys}, {others}latest.{stays} IS NOT NULL AS {stays}"
        " FROM {rows} AS live FULL JOIN (SELECT *, true AS {stays} FROM ({latest}) AS latest) AS latest ON {matching}"
        " WHERE live.{first} IS NULL OR latest.{stays} IS NULL OR NOT (true{unchanged})"
    )
    of_both = sql.SQL("coalesce(latest.{0}, live.{0}) AS {0}")
    run(
        conn,
        statement.format(
            name=sql.Identifier(name),
            keys=sql.SQL(", ").join(of_both.format(sql.Identifier(name)) for name in shape.key),
            others=sql.SQL("").join(sql.SQL("latest.{}, ").format(sql.Identifier(name)) for name in others),
            first=sql.Identifier(shape.key[0]),
            stays=_STAYS,
            rows=rows_of(shape),
            latest=latest,
            matching=same_key(shape, "live", "latest"),
            unchanged=and_unchanged(columns_to_update(shape)),
        ),
    )
    rows = Name(STAGING_SCHEMA, name)
    count = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(rows.sql, _STAYS)
    return rows, int(run(conn, count).scalar_one())


_STAYS = sql.Identifier(temporary_name("stays", "row"))


@dataclass(frozen=True)
class Reference:
    """A foreign key to a table, and the table that has it."""

    referring: TableShape
    key: ForeignKeyShape


def delete_gone(conn: sa.Connection, compared: Compared, shape: TableShape, references: Sequence[Reference]) -> int:
    """Delete the rows whose key is not among the staged ones, so that foreign keys to rows that stay do not fire.

    Those that a row which stays refers to, by one of the `references` or by way of others that are gone, are left:
    ON DELETE would be a reason to refuse, delete or change the row that stays, though it may be about to change.
    """
    free = sql.SQL(" AND NOT EXISTS (SELECT FROM held WHERE {})").format(same_key(shape, "held", "gone"))
    statement = sql.SQL("{ctes} DELETE FROM {rows} AS live USING gone WHERE {is_it}{free}").format(
        ctes=_gone(compared, shape, references),
        rows=rows_of(shape),
        is_it=same_key(shape, "live", "gone"),
        free=free if references else sql.SQL(""),
    )
    return run(conn, statement).rowcount


def holds_gone(conn: sa.Connection, compared: Compared, shape: TableShape, references: Sequence[Reference]) -> bool:
    """Whether there are rows that `delete_gone` has to leave."""
    if not references:
        return False
    statement = sql.SQL("{} SELECT EXISTS (SELECT FROM held)").format(_gone(compared, shape, references))
    return bool(run(conn, statement).scalar_one())


def _gone(compared: Compared, shape: TableShape, references: Sequence[Reference]) -> sql.Composable:
    """WITH the rows that are `gone`, and, where there are references, with those of them that are `held`.

    They have the columns of the key and those by which foreign keys lead to them and on.
    """
    own = [one.key for one in references if one.referring.oid == shape.oid]
    names = [*shape.key, *(name for one in references for name in one.key.target_columns)]
    names += [name for one in own for name in one.columns]
    gone = sql.SQL(
        "WITH RECURSIVE gone AS MATERIALIZED (SELECT {} FROM {} AS live JOIN {} AS compared ON {}{})"
    ).format(
        sql.SQL(", ").join(sql.SQL("live.{}").format(sql.Identifier(name)) for name in dict.fromkeys(names)),
        rows_of(shape),
        compared.rows.sql,
        same_key(shape, "live", "compared"),
        sql.SQL(" WHERE NOT {}").format(_STAYS),
    )
    if not references:
        return gone
    stays = sql.SQL(" AND NOT EXISTS (SELECT FROM gone AS also WHERE {})").format(same_key(shape, "also", "referring"))
    by_rows = [
        sql.SQL("SELECT gone.* FROM gone WHERE EXISTS (SELECT FROM {} AS referring WHERE {}{})").format(
            rows_of(one.referring), _refers(shape, one.key, "referring"), stays if one.key in own else sql.SQL("")
        )
        for one in references
    ]
    held: list[sql.Composable] = [sql.SQL("({})").format(sql.SQL(" UNION ").join(by_rows))]
    if own:
        onward = sql.SQL(" OR ").join(_refers(shape, one, "held") for one in own)
        held.append(sql.SQL("SELECT gone.* FROM held JOIN gone ON {}").format(onward))
    return sql.SQL("{}, held AS ({})").format(gone, sql.SQL(" UNION ").join(held))


def _refers(shape: TableShape, key: ForeignKeyShape, referring: str) -> sql.Composable:
    """A condition: the row of `referring` refers to that of `gone`."""
    pairs = zip(key.columns, key.target_columns, strict=True)
    return sql.SQL("({})").format(
        sql.SQL(" AND ").join(
            sql.SQL("{}.{} {} gone.{}").format(
                sql.Identifier(referring), sql.Identifier(own), equals(shape, target), sql.Identifier(target)
            )
            for own, target in pairs
        )
    )


def insert_last(conn: sa.Connection, staged: Name, shape: TableShape, received: int, *, all_keyed: bool) -> int:
    """Insert the last staged row of each key into an empty table; how many rows these superseded.

    INSERT looks for free space, as COPY into a table of its own transaction does not: in what it wrote nothing tells
    any more which of two rows came last.
    """
    latest, rows = _latest(conn, staged, shape.key, received, all_keyed=all_keyed)
    columns = statements.loaded_columns(shape)
    statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM ({}) AS latest")
    run(conn, statement.format(shape.name.sql, columns, columns, latest))
    return received - rows


def merge_differing(conn: sa.Connection, compared: Compared, shape: TableShape) -> Merged:
    """Insert the rows that are new and update those that are changed."""
    latest = sql.SQL("SELECT * FROM {} WHERE {}").format(compared.rows.sql, _STAYS)
    inserted = updated = 0
    if compared.differing:
        *_, inserted, updated = merge_rows(conn, latest, compared.differing, shape, all_differ=True)
    return Merged(inserted, updated, compared.unchanged, compared.superseded)


def rewrite_differing(conn: sa.Connection, compared: Compared, shape: TableShape) -> Merged:
    """The same by deleting the rows that are changed and inserting them anew, in one statement.

    So rows may exchange the values of a unique constraint, which updates may not, one after the other. Foreign keys
    that do nothing ON DELETE are checked once it is over.
    """
    statement = sql.SQL(
        "WITH gone AS (DELETE FROM {rows} AS live USING {compared} AS changed WHERE {is_it} AND {stays} RETURNING 1),"
        " deleted AS (SELECT count(*) AS rows FROM gone),"
        " written AS (INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
        " SELECT {columns} FROM {compared}, deleted WHERE {stays} AND deleted.rows >= 0 RETURNING 1)"
        " SELECT (SELECT rows FROM deleted), (SELECT count(*) FROM written)"
    ).format(
        rows=rows_of(shape),
        compared=compared.rows.sql,
        is_it=same_key(shape, "live", "changed"),
        stays=_STAYS,
        table=shape.name.sql,
        columns=statements.loaded_columns(shape),
    )
    counts: Any = run(conn, statement).one()
    deleted, written = int(counts[0]), int(counts[1])
    return Merged(written - deleted, deleted, compared.unchanged, compared.superseded)


def delete_all(conn: sa.Connection, shape: TableShape) -> int:
    """Delete every row; readers go on with the rows that they see until the transaction commits."""
    return run(conn, sql.SQL("DELETE FROM {}").format(rows_of(shape))).rowcount
