"""Bringing staged rows into a table: upsert on the primary key, and replacement of all rows in place."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.session import UNIQUE_VIOLATION, rolled_back, run, setting, sqlstate
from airflow_ingest_provider.core.shape import ColumnShape, ForeignKeyShape, TableShape

STAGING_SCHEMA = "pg_temp"

# The size in pages of the table and its partitions: reading one takes about as long as looking one or two keys up.
_PAGES = sa.text("""
    SELECT sum(pg_relation_size(relid)) / current_setting('block_size')::int FROM (
        SELECT relid FROM pg_partition_tree(CAST(:oid AS oid)) UNION SELECT CAST(:oid AS oid)) tree
""")

_MANY_ROWS = 10_000
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
    columns = statements.columns([column.name for column in shape.loaded_columns])
    statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}")
    return Merged(inserted=run(conn, statement.format(shape.name.sql, columns, columns, staged.sql)).rowcount)


def upsert(
    conn: sa.Connection,
    staged: Name,
    shape: TableShape,
    key: Sequence[str],
    received: int,
    *,
    all_keyed: bool,
    has_triggers: bool,
) -> Merged:
    """Insert and update on the primary key; of staged rows with one key the last one counts.

    Rows that are there already, to the byte, are not touched: no WAL, no dead rows. Takes ROW EXCLUSIVE. Unless they
    are `all_keyed`, some rows may have NULL in the key, and get it from a trigger.
    """
    if not received:
        return Merged()
    _analyze_keys(conn, staged, key, received)
    latest = _last_rows(staged, key, all_keyed=all_keyed)
    keys, differing, inserted, updated = _merge(conn, latest, received, shape, key, count_differing=has_triggers)
    return Merged(inserted, updated, keys - differing, superseded=received - keys)


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


def compare(
    conn: sa.Connection,
    staged: Name,
    shape: TableShape,
    key: Sequence[str],
    token: str,
    received: int,
    *,
    all_keyed: bool,
) -> Compared:
    """See in one pass over both what staged rows change in a table that is to hold them and no others.

    Unless they are `all_keyed`, some rows may have NULL in the key, and get it from a trigger.
    """
    _analyze_keys(conn, staged, key, received)
    latest, keys = _latest(conn, staged, key, received, all_keyed=all_keyed)
    rows, differing = _compare(conn, latest, shape, key, temporary_name(token, "compared"))
    return Compared(latest, rows, differing, keys, received)


def compare_again(conn: sa.Connection, before: Compared, shape: TableShape, key: Sequence[str], name: str) -> Compared:
    """The same once rows of the table may be others, in a temporary table of that name."""
    rows, differing = _compare(conn, before.latest, shape, key, name)
    return replace(before, rows=rows, differing=differing)


def _compare(
    conn: sa.Connection, latest: sql.Composable, shape: TableShape, key: Sequence[str], name: str
) -> tuple[Name, int]:
    """A temporary table of what differs, and how many of its rows are new or changed."""
    others = [column.name for column in shape.loaded_columns if column.name not in key]
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
            keys=sql.SQL(", ").join(of_both.format(sql.Identifier(name)) for name in key),
            others=sql.SQL("").join(sql.SQL("latest.{}, ").format(sql.Identifier(name)) for name in others),
            first=sql.Identifier(key[0]),
            stays=_STAYS,
            rows=_rows_of(shape),
            latest=latest,
            matching=_matching(key, "latest"),
            unchanged=_unchanged(_updates(shape, key)),
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


def delete_gone(
    conn: sa.Connection, compared: Compared, shape: TableShape, key: Sequence[str], references: Sequence[Reference]
) -> int:
    """Delete the rows whose key is not among the staged ones, so that foreign keys to rows that stay do not fire.

    Those that a row which stays refers to, by one of the `references` or by way of others that are gone, are left:
    ON DELETE would be a reason to refuse, delete or change the row that stays, though it may be about to change.
    """
    free = sql.SQL(" AND NOT EXISTS (SELECT FROM held WHERE {})").format(_same(key, "held", "gone"))
    statement = sql.SQL("{ctes} DELETE FROM {rows} AS live USING gone WHERE {is_it}{free}").format(
        ctes=_gone(compared, shape, key, references),
        rows=_rows_of(shape),
        is_it=_matching(key, "gone"),
        free=free if references else sql.SQL(""),
    )
    return run(conn, statement).rowcount


def holds_gone(
    conn: sa.Connection, compared: Compared, shape: TableShape, key: Sequence[str], references: Sequence[Reference]
) -> bool:
    """Whether there are rows that `delete_gone` has to leave."""
    if not references:
        return False
    statement = sql.SQL("{} SELECT EXISTS (SELECT FROM held)").format(_gone(compared, shape, key, references))
    return bool(run(conn, statement).scalar_one())


def _gone(compared: Compared, shape: TableShape, key: Sequence[str], references: Sequence[Reference]) -> sql.Composable:
    """WITH the rows that are `gone`, and, where there are references, with those of them that are `held`.

    They have the columns of the key and those by which foreign keys lead to them and on.
    """
    own = [one.key for one in references if one.referring.oid == shape.oid]
    names = [*key, *(name for one in references for name in one.key.target_columns)]
    names += [name for one in own for name in one.columns]
    gone = sql.SQL(
        "WITH RECURSIVE gone AS MATERIALIZED (SELECT {} FROM {} AS live JOIN {} AS compared ON {}{})"
    ).format(
        sql.SQL(", ").join(sql.SQL("live.{}").format(sql.Identifier(name)) for name in dict.fromkeys(names)),
        _rows_of(shape),
        compared.rows.sql,
        _matching(key, "compared"),
        sql.SQL(" WHERE NOT {}").format(_STAYS),
    )
    if not references:
        return gone
    stays = sql.SQL(" AND NOT EXISTS (SELECT FROM gone AS also WHERE {})").format(_same(key, "also", "referring"))
    by_rows = [
        sql.SQL("SELECT gone.* FROM gone WHERE EXISTS (SELECT FROM {} AS referring WHERE {}{})").format(
            _rows_of(one.referring), _refers(one.key, "referring"), stays if one.key in own else sql.SQL("")
        )
        for one in references
    ]
    held: list[sql.Composable] = [sql.SQL("({})").format(sql.SQL(" UNION ").join(by_rows))]
    if own:
        onward = sql.SQL(" OR ").join(_refers(one, "held") for one in own)
        held.append(sql.SQL("SELECT gone.* FROM held JOIN gone ON {}").format(onward))
    return sql.SQL("{}, held AS ({})").format(gone, sql.SQL(" UNION ").join(held))


def _refers(key: ForeignKeyShape, referring: str) -> sql.Composable:
    pairs = zip(key.columns, key.target_columns, strict=True)
    return sql.SQL("({})").format(
        sql.SQL(" AND ").join(
            sql.SQL("{}.{} = gone.{}").format(sql.Identifier(referring), sql.Identifier(own), sql.Identifier(target))
            for own, target in pairs
        )
    )


def merge_differing(conn: sa.Connection, compared: Compared, shape: TableShape, key: Sequence[str]) -> Merged:
    """Insert the rows that are new and update those that are changed."""
    latest = sql.SQL("SELECT * FROM {} WHERE {}").format(compared.rows.sql, _STAYS)
    inserted = updated = 0
    if compared.differing:
        *_, inserted, updated = _merge(conn, latest, compared.differing, shape, key, count_differing=False)
    unchanged, superseded = compared.keys - compared.differing, compared.received - compared.keys
    return Merged(inserted, updated, unchanged, superseded)


def _analyze_keys(conn: sa.Connection, staged: Name, key: Sequence[str], received: int) -> None:
    if received > _MANY_ROWS:
        run(conn, sql.SQL("ANALYZE {} ({})").format(staged.sql, statements.columns(key)))


def _last_rows(staged: Name, key: Sequence[str], *, all_keyed: bool) -> sql.Composable:
    """The last row of each key: in a table of this transaction, rows lie in the order in which COPY wrote them.

    Each row without a key counts for itself.
    """
    keys = statements.columns(key)
    if not all_keyed:
        lacking = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(name)) for name in key)
        keys += sql.SQL(", CASE WHEN {} THEN ctid END").format(lacking)
    return sql.SQL("SELECT DISTINCT ON ({0}) * FROM {1} ORDER BY {0}, ctid DESC").format(keys, staged.sql)


def _latest(
    conn: sa.Connection, staged: Name, key: Sequence[str], received: int, *, all_keyed: bool
) -> tuple[sql.Composable, int]:
    """A query for the last row of each key, which sorts only where some have the same, and how many rows it gives."""
    if received > _MANY_ROWS and _is_unique(conn, staged, statements.columns(key)):
        return sql.SQL("SELECT * FROM {}").format(staged.sql), received
    last = _last_rows(staged, key, all_keyed=all_keyed)
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


def _merge(
    conn: sa.Connection,
    latest: sql.Composable,
    rows: int,
    shape: TableShape,
    key: Sequence[str],
    *,
    count_differing: bool,
) -> tuple[int, int, int, int]:
    """Merge a query's rows, about so many, each with a key of its own: how many, new or changed, inserted, and updated.

    All that are new or changed are inserted or updated, unless a trigger keeps them out: then they have to be counted.
    """
    primary = shape.primary_key
    look_up = rows < int(conn.scalar(_PAGES, {"oid": shape.oid}) or 0)
    if shape.kind == "p" or (primary is not None and primary.deferrable):
        return _update_then_insert(conn, latest, shape, key, look_up=look_up, count_differing=count_differing)
    statement = _insert_or_update(latest, shape, key, look_up=look_up, count_differing=count_differing)
    counts: Any = run(conn, statement).one()
    return int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3])


def count_unchanged(
    conn: sa.Connection, staged: Name, shape: TableShape, key: Sequence[str], percent: float = 100.0
) -> tuple[int, int]:
    """Of a random share of the staged rows: how many they are, and how many are in the table to the byte."""
    sample = sql.SQL(" TABLESAMPLE BERNOULLI ({})").format(sql.Literal(percent)) if percent < 100 else sql.SQL("")
    statement = sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE unchanged) FROM (SELECT EXISTS (SELECT FROM {rows} AS live"
        " WHERE {matching}{same} OFFSET 0) AS unchanged FROM {staged} AS latest{sample}) looked_up"
    ).format(
        rows=_rows_of(shape),
        matching=_matching(key, "latest"),
        same=_unchanged(_updates(shape, key)),
        staged=staged.sql,
        sample=sample,
    )
    found: Any = run(conn, statement).one()
    return int(found[0]), int(found[1])


def delete_all(conn: sa.Connection, shape: TableShape) -> int:
    """Delete every row; readers go on with the rows that they see until the transaction commits."""
    return run(conn, sql.SQL("DELETE FROM {}").format(_rows_of(shape))).rowcount


def _rows_of(shape: TableShape) -> sql.Composable:
    """The table without those that inherit from it; a partitioned one with its partitions."""
    return shape.name.sql if shape.kind == "p" else sql.SQL("ONLY {}").format(shape.name.sql)


def _insert_or_update(
    latest: sql.Composable, shape: TableShape, key: Sequence[str], *, look_up: bool, count_differing: bool
) -> sql.Composable:
    """One statement: how many rows there are, new or changed, inserted, and updated.

    Sorting by the key saves a third of the time: the index is walked once, and not at random. With `look_up`, each
    row's key is looked up in the index: OFFSET 0 keeps the planner from joining, which it does by reading the
    whole table as long as that has no more than some hundred thousand rows.
    """
    updates = _updates(shape, key)
    conflict: sql.Composable = sql.SQL("DO NOTHING")
    if updates:
        assignments = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column.name)) for column in updates]
        conflict = sql.SQL("DO UPDATE SET {}").format(sql.SQL(", ").join(assignments))
    differing: sql.Composable = sql.SQL("latest WHERE {}").format(_differs(shape, key, look_up=look_up))
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
        " SELECT (SELECT count(*) FROM latest), {counted}, count(*) FILTER (WHERE is_new),"
        " count(*) FILTER (WHERE NOT is_new) FROM merged"
    ).format(
        latest=latest,
        kept=kept,
        table=shape.name.sql,
        columns=statements.columns([column.name for column in shape.loaded_columns]),
        differing=differing,
        key=statements.columns(key),
        conflict=conflict,
        counted=counted,
    )


def _differs(shape: TableShape, key: Sequence[str], *, look_up: bool) -> sql.Composable:
    """Whether a row of `latest` is not in the table to the byte."""
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS live WHERE {}{}{})").format(
        _rows_of(shape),
        _matching(key, "latest"),
        _unchanged(_updates(shape, key)),
        sql.SQL(" OFFSET 0" if look_up else ""),
    )


def _update_then_insert(
    conn: sa.Connection,
    latest: sql.Composable,
    shape: TableShape,
    key: Sequence[str],
    *,
    look_up: bool,
    count_differing: bool,
) -> tuple[int, int, int, int]:
    """The same where PostgreSQL has no ON CONFLICT (deferrable keys) or tells nothing of it (partitioned tables)."""
    count = sql.SQL("SELECT count(*) FROM ({}) AS latest").format(latest)
    rows = run(conn, count).scalar_one()
    differing = 0
    if count_differing:
        differing = run(conn, count + sql.SQL(" WHERE ") + _differs(shape, key, look_up=look_up)).scalar_one()
    updates, updated = _updates(shape, key), 0
    if updates:
        with _looking_up(conn) if look_up else nullcontext():
            updated = run(conn, _update(shape, key, updates, latest)).rowcount
    insert_new = sql.SQL(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM ({latest}) AS latest"
        " WHERE NOT EXISTS (SELECT FROM {rows} AS live WHERE {matching}{look_up}) ORDER BY {key}"
    ).format(
        table=shape.name.sql,
        rows=_rows_of(shape),
        columns=statements.columns([column.name for column in shape.loaded_columns]),
        latest=latest,
        matching=_matching(key, "latest"),
        look_up=sql.SQL(" OFFSET 0" if look_up else ""),
        key=statements.columns(key),
    )
    inserted = run(conn, insert_new).rowcount
    return rows, differing if count_differing else inserted + updated, inserted, updated


@contextmanager
def _looking_up(conn: sa.Connection) -> Iterator[None]:
    """The planner looks each row up in an index: by itself, it would read all partitions for a few rows."""
    with setting(conn, "enable_hashjoin", "off"), setting(conn, "enable_mergejoin", "off"):
        yield


def _update(
    shape: TableShape, key: Sequence[str], updates: Sequence[ColumnShape], latest: sql.Composable
) -> sql.Composable:
    assignments = [sql.SQL("{0} = latest.{0}").format(sql.Identifier(column.name)) for column in updates]
    return sql.SQL("UPDATE {} AS live SET {} FROM ({}) AS latest WHERE {} AND NOT (true{})").format(
        _rows_of(shape), sql.SQL(", ").join(assignments), latest, _matching(key, "latest"), _unchanged(updates)
    )


def _matching(key: Sequence[str], other: str) -> sql.Composable:
    return _same(key, "live", other)


def _same(key: Sequence[str], one: str, other: str) -> sql.Composable:
    pair = sql.SQL("{1}.{0} = {2}.{0}")
    names = map(sql.Identifier, key)
    return sql.SQL(" AND ").join(pair.format(name, sql.Identifier(one), sql.Identifier(other)) for name in names)


def _unchanged(columns: Sequence[ColumnShape]) -> sql.Composable:
    """Whether the two rows are the same to the byte: for json and point, which have no equality, and for 1.0 and
    1.00, which are equal, too. https://www.postgresql.org/docs/current/functions-comparisons.html"""
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


def _updates(shape: TableShape, key: Sequence[str]) -> list[ColumnShape]:
    """The columns that an update sets: the key too where equal keys may look different, as 1.0 and 1.00 do.

    Setting the key takes a stronger row lock, which foreign keys wait for. GENERATED ALWAYS refuses it.
    """
    return [
        column
        for column in shape.loaded_columns
        if column.identity != "a" and not (column.name in key and _equal_is_same(column))
    ]


def _equal_is_same(column: ColumnShape) -> bool:
    exact_text = column.value.name in _TEXT_KEYS and column.collation is None
    return column.value.kind == "e" or column.value.name in _EXACT_KEYS or exact_text
