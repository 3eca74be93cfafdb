"""Rows that are merged into a table: those that differ are touched, and none is lost."""

from typing import Any

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import Delete, Replace, RowError, Upsert, ingest
from tests.postgres.helpers import load, people, rows_of


def test_a_refresh_in_place_sees_what_its_own_deletes_did_to_rows_that_stay(
    conn: sa.Connection, other: sa.Connection
) -> None:
    metadata = sa.MetaData()
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    child = sa.Table(
        "child",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent_id", sa.ForeignKey(parent.c.id, ondelete="SET NULL")),
    )

    def give(*rows: Any) -> Any:
        return lambda mark: [(1, None, rows)]

    ingest(conn, metadata, give((parent, (1,)), (parent, (2,)), (child, (1, 1)), (child, (2, 2))))
    in_place: Any = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.IN_PLACE}
    with pytest.raises(RowError, match="23503"):
        ingest(conn, metadata, give((parent, (1,)), (child, (1, 1)), (child, (2, 2))), **in_place)
    assert rows_of(conn, "SELECT * FROM child ORDER BY 1") == [(1, 1), (2, 2)]
    result = ingest(conn, metadata, give((parent, (1,)), (child, (1, 1)), (child, (2, None))), **in_place)
    assert rows_of(conn, "SELECT * FROM child ORDER BY 1") == [(1, 1), (2, None)]
    assert [(one.deleted, one.unchanged) for one in result.tables] == [(1, 1), (0, 2)]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_all_rows_that_a_trigger_gives_a_key_are_kept(conn: sa.Connection, other: sa.Connection, delete: str) -> None:
    load(conn, people(), [(1, "a", 1), (2, "b", 2)])
    other.exec_driver_sql("""
        CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN NEW.id = coalesce(NEW.id, nextval(''people_id_seq'')); RETURN NEW; END';
        CREATE TRIGGER numbered BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION number();
    """)
    result = load(conn, people(), [(1, "a", 1), (None, "c", 3), (None, "d", 4), (None, "c", 3)], delete=delete)
    kept = ["a", "c", "c", "d"] if delete == Delete.BEFORE_FIRST_BATCH else ["a", "b", "c", "c", "d"]
    assert rows_of(conn, "SELECT name FROM people ORDER BY 1") == [(name,) for name in kept]
    assert (result.tables[0].inserted, result.tables[0].superseded) == (3, 0)


@pytest.mark.parametrize("keys", [12_000, 11_000], ids=["distinct", "some twice"])
def test_a_refresh_in_place_of_many_rows_counts_them_all(conn: sa.Connection, keys: int) -> None:
    load(conn, people(), [(number, "a", number) for number in range(11_000)])
    rows = [(number % keys + 500, "a" if number % 10 else "b", number % keys + 500) for number in range(12_000)]
    result = load(conn, people(), rows, delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.IN_PLACE).tables[0]
    expected = {row[0]: row for row in rows}
    assert rows_of(conn) == sorted(expected.values())
    assert result.deleted == 500
    assert result.superseded == 12_000 - keys
    assert result.inserted == len(expected.keys() - set(range(11_000)))
    assert (result.updated or 0) + (result.unchanged or 0) == len(expected) - result.inserted
    assert result.updated == sum(row[1] == "b" for row in expected.values() if row[0] < 11_000)


@pytest.mark.parametrize(
    ("unique", "upsert"), [(False, Upsert.IF_PRIMARY_KEY), (True, Upsert.IF_PRIMARY_KEY), (True, Upsert.OFF)]
)
def test_few_rows_for_a_large_table_do_not_have_it_read_to_move_its_sequences(
    conn: sa.Connection, unique: bool, upsert: str
) -> None:
    metadata = sa.MetaData()
    line = sa.Column("line", sa.Integer, sa.Identity(), unique=unique)
    table = sa.Table("people", metadata, sa.Column("id", sa.Integer, primary_key=True), line)
    read: list[Any] = []

    def look(conn: sa.Connection, batch_metadata: Any) -> None:
        counted = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'people'"
        read.append(conn.exec_driver_sql(counted).scalar())

    def bring(keys: range) -> None:
        rows = [(table, (number, number)) for number in keys]
        ingest(conn, metadata, lambda mark: [(1, None, rows)], on_before_visible=look, upsert=upsert)

    bring(range(1, 20_001))
    bring(range(30_000, 30_003))
    assert read[-1] < 10  # counted with what the session has read just before
    assert rows_of(conn, "INSERT INTO people DEFAULT VALUES RETURNING *") == [(30_003, 30_003)]


def test_few_rows_for_a_partitioned_table_are_looked_up(conn: sa.Connection, other: sa.Connection) -> None:
    metadata = sa.MetaData()
    key = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
    table = sa.Table("people", metadata, key, sa.Column("name", sa.Text), postgresql_partition_by="RANGE (id)")
    other.exec_driver_sql("""
        CREATE TABLE people (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
        CREATE TABLE people_0 PARTITION OF people FOR VALUES FROM (0) TO (10000);
        CREATE TABLE people_1 PARTITION OF people FOR VALUES FROM (10000) TO (20000);
        INSERT INTO people SELECT n, repeat('a', 100) FROM generate_series(0, 9998) n;
        INSERT INTO people SELECT n, repeat('a', 100) FROM generate_series(10000, 19998) n;
        ANALYZE people;
    """)
    read: list[Any] = []

    def look(conn: sa.Connection, batch_metadata: Any) -> None:
        counted = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname LIKE 'people%%'"
        read.append(conn.exec_driver_sql(counted).scalar())

    rows = [(table, (number, "b")) for number in (1, 9_999, 10_000, 19_999)]
    result = ingest(conn, metadata, lambda mark: [(1, None, rows)], on_before_visible=look).tables[0]
    assert (result.inserted, result.updated) == (2, 2)
    assert read[-1] < 10  # counted with what the session has read just before
    assert rows_of(conn, "SHOW enable_hashjoin") == [("on",)]


def test_a_row_that_does_not_fit_is_named_though_few_of_the_first_rows_changed(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(number, "a", 1) for number in range(1000)])
    other.exec_driver_sql("ALTER TABLE people ADD CONSTRAINT adult CHECK (age > 0)")
    rows = [(number, "a", 1 if number < 900 else -number) for number in range(5000)]
    with pytest.raises(RowError, match="'adult'") as raised:
        load(conn, people(), rows, delete=Delete.BEFORE_FIRST_BATCH)
    assert "-900" not in str(raised.value)
