"""Bringing staged rows into a table: insert, and upsert on the primary key."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.session import run, setting
from airflow_ingest_provider.core.shape import ColumnShape, TableShape

STAGING_SCHEMA = "pg_temp"

# The size in pages of the table and its partitions: reading one takes about as long as looking one or two keys up.
# And whether people put triggers on it.
_PAGES_AND_TRIGGERS = sa.text("""
    SELECT sum(pg_relation_size(relid)) / current_setting('block_size')::int AS pages,
           EXISTS (SELECT FROM pg_trigger WHERE tgrelid = :oid AND NOT tgisinternal) AS has_triggers
    FROM (SELECT relid FROM pg_partition_tree(CAST(:oid AS oid)) UNION SELECT CAST(:oid AS oid)) tree
""")

MANY_ROWS = 10_000
"""From here on statistics of the staged keys, or an index on them, are worth their milliseconds."""


@dataclass(frozen=True)
class Merged:
    """What became of the staged rows."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    deleted: int = 0


def stage(conn: sa.Connection, shape: TableShape, token: str, *, not_null: bool) -> Name:
    """Create the temporary table that a batch's rows are copied to; it goes with the transaction."""
    name = temporary_name(token, "staging")
    run(conn, statements.create_staging(name, shape, not_null=not_null))
    return Name(STAGING_SCHEMA, name)


def insert(conn: sa.Connection, staged: Name, shape: TableShape) -> Merged:
    """Insert all staged rows; a row whose key is there already is an error."""
    columns = statements.loaded_columns(shape)
    statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}")
    return Merged(inserted=run(conn, statement.format(shape.name.sql, columns, columns, staged.sql)).rowcount)


def upsert(
    conn: sa.Connection,
    staged: Name,
    shape: TableShape,
    received: int,
    *,
    all_keyed: bool,
) -> Merged:
    """Insert and update on the primary key; of staged rows with one key the last one counts.

    Rows that are there already, to the byte, are not touched: no WAL, no dead rows. Takes ROW EXCLUSIVE. Unless they
    are `all_keyed`, some rows may have NULL in the key, and get it from a trigger.
    """
    if not received:
        return Merged()
    analyze_keys(conn, staged, shape.key, received)
    latest = last_rows(staged, shape.key, all_keyed=all_keyed)
    keys, differing, inserted, updated = merge_rows(conn, latest, received, shape)
    return Merged(inserted, updated, keys - differing, superseded=received - keys)


def analyze_keys(conn: sa.Connection, staged: Name, key: Sequence[str], received: int) -> None:
    """Gather the planner's statistics of the staged keys, where they are many."""
    if received > MANY_ROWS:
        run(conn, sql.SQL("ANALYZE {} ({})").format(staged.sql, statements.columns(key)))


def last_rows(staged: Name, key: Sequence[str], *, all_keyed: bool) -> sql.Composable:
    """The last row of each key: in a table of this transaction, rows lie in the order in which COPY wrote them.

    Each row without a key counts for itself.
    """
    keys = statements.columns(key)
    if not all_keyed:
        lacking = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(name)) for name in key)
        keys += sql.SQL(", CASE WHEN {} THEN ctid END").format(lacking)
    return sql.SQL("SELECT DISTINCT ON ({0}) * FROM {1} ORDER BY {0}, ctid DESC").format(keys, staged.sql)


def merge_rows(
    conn: sa.Connection,
    latest: sql.Composable,
    rows: int,
    shape: TableShape,
    *,
    all_differ: bool = False,
) -> tuple[int, int, int, int]:
    """Merge a query's rows, about so many, each with a key of its own: how many, new or changed, inserted, and updated.

    All that are new or changed are inserted or updated, unless a trigger keeps them out: then they have to be counted,
    where it is not known that they `all_differ`.
    """
    primary = shape.primary_key
    pages, has_triggers = conn.execute(_PAGES_AND_TRIGGERS, {"oid": shape.oid}).one()
    look_up, count_differing = rows < int(pages or 0), has_triggers and not all_differ
    if shape.kind == "p" or (primary is not None and primary.deferrable):
        return _update_then_insert(conn, latest, shape, look_up=look_up, count_differing=count_differing)
    statement = _insert_or_update(latest, shape, look_up=look_up, count_differing=count_differing)
    counts: Any = run(conn, statement).one()
    return int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3])


def count_unchanged(conn: sa.Connection, staged: Name, shape: TableShape, percent: float = 100.0) -> tuple[int, int]:
    """Of a random share of the staged rows: how many they are, and how many are in the table to the byte."""
    sample = sql.SQL(" TABLESAMPLE BERNOULLI ({})").format(sql.Literal(percent)) if percent < 100 else sql.SQL("")
    statement = sql.SQL(
        "SELECT count(*) AS rows, count(*) FILTER (WHERE unchanged) AS unchanged"
        " FROM (SELECT EXISTS (SELECT FROM {rows} AS live WHERE {matching}{same} OFFSET 0) AS unchanged"
        " FROM {staged} AS latest{sample}) looked_up"
    ).format(
        rows=rows_of(shape),
        matching=same_key(shape, "live", "latest"),
        same=and_unchanged(columns_to_update(shape)),
        staged=staged.sql,
        sample=sample,
    )
    found: Any = run(conn, statement).one()
    return int(found[0]), int(found[1])


def rows_of(shape: TableShape) -> sql.Composable:
    """The table without those that inherit from it; a partitioned one with its partitions."""
    return shape.name.sql if shape.kind == "p" else sql.SQL("ONLY {}").format(shape.name.sql)


def _insert_or_update(
    latest: sql.Composable, shape: TableShape, *, look_up: bool, count_differing: bool
) -> sql.Composable:
    """One statement: how many rows there are, new or changed, inserted, and updated.

    Sorting by the key saves a third of the time: the index is walked once, and not at random. With `look_up`, each
    row's key is looked up in the index: OFFSET 0 keeps the planner from joining, which it does by reading the
    whole table as long as that has no more than some hundred thousand rows.
    """
    updates = columns_to_update(shape)
    conflict: sql.Composable = sql.SQL("DO NOTHING")
    if updates:
        assignments = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column.name)) for column in updates]
        conflict = sql.SQL("DO UPDATE SET {}").format(sql.SQL(", ").join(assignments))
    differing: sql.Composable = sql.SQL("latest WHERE {}").format(_differs(shape, look_up=look_up))
    kept: sql.Composable = sql.SQL("")
    counted = sql.SQL("count(*)")
    if count_differing:
        kept = sql.SQL(" differing AS MATERIALIZED (SELECT * FROM {}),").format(differing)
        differing, counted = sql.SQL("differing"), sql.SQL("(SELECT count(*) FROM differing)")
    return sql.SQL(
        "WITH latest AS MATERIALIZED ({latest}),{kept}"
        " merged AS (INSERT INTO {table} AS live ({columns}) OVERRIDING SYSTEM VALUE"
        " SELECT {columns} FROM {differing} ORDER BY {key}"
        " ON CONFLICT ({key}) {conflict} RETURNING (xmax = 0) AS is_new)"
        " SELECT (SELECT count(*) FROM latest) AS keys, {counted} AS differing,"
        " count(*) FILTER (WHERE is_new) AS inserted, count(*) FILTER (WHERE NOT is_new) AS updated FROM merged"
    ).format(
        latest=latest,
        kept=kept,
        table=shape.name.sql,
        columns=statements.loaded_columns(shape),
        differing=differing,
        key=statements.columns(shape.key),
        conflict=conflict,
        counted=counted,
    )


def _differs(shape: TableShape, *, look_up: bool) -> sql.Composable:
    """Whether a row of `latest` is not in the table to the byte."""
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS live WHERE {}{}{})").format(
        rows_of(shape),
        same_key(shape, "live", "latest"),
        and_unchanged(columns_to_update(shape)),
        sql.SQL(" OFFSET 0" if look_up else ""),
    )


def _update_then_insert(
    conn: sa.Connection,
    latest: sql.Composable,
    shape: TableShape,
    *,
    look_up: bool,
    count_differing: bool,
) -> tuple[int, int, int, int]:
    """The same where PostgreSQL has no ON CONFLICT (deferrable keys) or tells nothing of it (partitioned tables)."""
    count = sql.SQL("SELECT count(*) FROM ({}) AS latest").format(latest)
    rows = run(conn, count).scalar_one()
    differing = 0
    if count_differing:
        differing = run(conn, count + sql.SQL(" WHERE ") + _differs(shape, look_up=look_up)).scalar_one()
    updates, updated = columns_to_update(shape), 0
    if updates:
        with _looking_up(conn) if look_up else nullcontext():
            updated = run(conn, _update(shape, updates, latest)).rowcount
    insert_new = sql.SQL(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM ({latest}) AS latest"
        " WHERE NOT EXISTS (SELECT FROM {rows} AS live WHERE {matching}{look_up}) ORDER BY {key}"
    ).format(
        table=shape.name.sql,
        rows=rows_of(shape),
        columns=statements.loaded_columns(shape),
        latest=latest,
        matching=same_key(shape, "live", "latest"),
        look_up=sql.SQL(" OFFSET 0" if look_up else ""),
        key=statements.columns(shape.key),
    )
    inserted = run(conn, insert_new).rowcount
    return rows, differing if count_differing else inserted + updated, inserted, updated


@contextmanager
def _looking_up(conn: sa.Connection) -> Iterator[None]:
    """The planner looks each row up in an index: by itself, it would read all partitions for a few rows."""
    with setting(conn, "enable_hashjoin", "off"), setting(conn, "enable_mergejoin", "off"):
        yield


def _update(shape: TableShape, updates: Sequence[ColumnShape], latest: sql.Composable) -> sql.Composable:
    assignments = [sql.SQL("{0} = latest.{0}").format(sql.Identifier(column.name)) for column in updates]
    return sql.SQL("UPDATE {} AS live SET {} FROM ({}) AS latest WHERE {} AND NOT (true{})").format(
        rows_of(shape),
        sql.SQL(", ").join(assignments),
        latest,
        same_key(shape, "live", "latest"),
        and_unchanged(updates),
    )


def same_key(shape: TableShape, one: str, other: str) -> sql.Composable:
    """A condition: the rows of both have the same key."""
    return sql.SQL(" AND ").join(
        sql.SQL("{1}.{0} {3} {2}.{0}").format(
            sql.Identifier(name), sql.Identifier(one), sql.Identifier(other), equals(shape, name)
        )
        for name in shape.key
    )


def equals(shape: TableShape, name: str) -> sql.Composable:
    """The operator by which two values of the column are equal for its indexes, whatever the search_path is.

    A bare `=` between two citext, whose schema is not in the path, would be that of text.
    """
    column = shape.column(name)
    assert column is not None, "keys are of columns that are there"
    return sql.SQL("OPERATOR({}.=)").format(sql.Identifier(column.value.equality))


def and_unchanged(columns: Sequence[ColumnShape]) -> sql.Composable:
    """One more condition: `live` and `latest` have the same values in the columns, to the byte.

    So json and point can be compared, which have no equality, and 1.0 and 1.00 differ, which are equal.
    https://www.postgresql.org/docs/current/functions-comparisons.html
    """
    if not columns:
        return sql.SQL("")
    live = [sql.SQL("live.{}").format(sql.Identifier(column.name)) for column in columns]
    latest = [sql.SQL("latest.{}").format(sql.Identifier(column.name)) for column in columns]
    return sql.SQL(" AND record_image_eq(ROW({}), ROW({}))").format(
        sql.SQL(", ").join(live), sql.SQL(", ").join(latest)
    )


_EXACT_KEYS = frozenset(
    {"int2", "int4", "int8", "oid", "bool", "uuid", "date", "timestamp", "timestamptz", "time", "bytea", "name"}
)
_TEXT_KEYS = frozenset({"text", "varchar"})


def columns_to_update(shape: TableShape) -> list[ColumnShape]:
    """The columns that an update sets: the key too where equal keys may look different, as 1.0 and 1.00 do.

    Setting the key takes a stronger row lock, which foreign keys wait for. GENERATED ALWAYS refuses it.
    """
    return [
        column
        for column in shape.loaded_columns
        if column.identity != "a" and not (column.name in shape.key and _equal_is_same(column))
    ]


def _equal_is_same(column: ColumnShape) -> bool:
    exact_text = column.value.name in _TEXT_KEYS and column.deterministic
    return column.value.kind == "e" or column.value.name in _EXACT_KEYS or exact_text
