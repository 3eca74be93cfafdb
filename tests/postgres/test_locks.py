"""Tables at the other end of a foreign key are waited for in short tries, and whoever writes to them goes on."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import DefinitionError, Delete, LockNotAcquired, Replace, ingest
from airflow_ingest_provider.core import locks
from tests.postgres.helpers import is_usable, load, people, rows_of
from tests.waiting import until

HAS_SHARE = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'ShareLock' AND relation = CAST(:name AS regclass)"


def child(kind: Any = sa.Integer) -> sa.Table:
    """A table whose foreign key is not declared, so that no parent is loaded with it."""
    columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("parent", sa.Integer), sa.Column("value", kind)]
    return sa.Table("child", sa.MetaData(), *columns)


def parent(kind: Any = sa.Integer) -> sa.Table:
    return sa.Table("parent", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", kind))


@pytest.fixture(autouse=True)
def family(conn: sa.Connection, other: sa.Connection) -> None:
    """The two tables, with a row each; whoever waits for a lock without a timeout of their own fails after a while."""
    load(conn, parent(), [(1, 1)])
    load(conn, child(), [(1, 1, 1)])
    other.exec_driver_sql("ALTER TABLE child ADD CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parent")
    conn.exec_driver_sql("SET lock_timeout = '10s'")
    conn.commit()


NEW_CHILD = sa.Table(
    "grandchild",
    child().metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("child", sa.ForeignKey("child.id")),
)

RUNS: dict[str, tuple[str, sa.Table, dict[str, Any]]] = {
    "refresh": ("parent", child(), {"delete": Delete.BEFORE_FIRST_BATCH}),
    "rebuild": ("parent", child(sa.Text), {}),
    "rebuild of the parent": ("child", parent(sa.Text), {}),
    "creation": ("child", NEW_CHILD, {}),
}


@pytest.mark.parametrize("written", RUNS.keys())
def test_a_writer_at_the_other_end_is_named_once_patience_is_over(
    conn: sa.Connection, engine: sa.Engine, written: str
) -> None:
    name, table, options = RUNS[written]
    before = rows_of(conn, "SELECT * FROM child")
    with engine.connect() as writer:
        writer.exec_driver_sql(f"UPDATE {name} SET value = 2")
        pid = writer.scalar(sa.text("SELECT pg_backend_pid()"))
        with pytest.raises(LockNotAcquired, match=rf"within lock_patience .* pid {pid} of postgres"):
            ingest(conn, table.metadata, lambda mark: [(1, None, [])], lock_patience=timedelta(seconds=0.2), **options)
    assert rows_of(conn, "SELECT * FROM child") == before
    assert is_usable(conn)


@pytest.mark.parametrize("patience", [0.001, 0.5, 2.5])
def test_patience_is_over_when_it_is_said_to_be(conn: sa.Connection, engine: sa.Engine, patience: float) -> None:
    """Of the locks of a rebuild the first is not in anybody's way: the time is that of the second."""
    with engine.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM child")
        began = time.monotonic()
        with pytest.raises(LockNotAcquired, match="within lock_patience"):
            load(conn, child(sa.Text), [], lock_patience=timedelta(seconds=patience))
        took = time.monotonic() - began
    assert patience < took < patience + 1.5


@pytest.mark.parametrize("style", ["sql_standard", "postgres_verbose", "iso_8601"])
def test_who_is_in_the_way_is_named_whatever_style_intervals_have(
    conn: sa.Connection, engine: sa.Engine, style: str
) -> None:
    conn.exec_driver_sql(f"SET IntervalStyle = {style}")
    conn.commit()
    with engine.connect() as writer:
        writer.exec_driver_sql("UPDATE child SET value = 2")
        writer.exec_driver_sql("SELECT pg_sleep(1)")
        with pytest.raises(LockNotAcquired, match=r"of postgres \(for 0:\d\d:\d\d\)"):
            load(conn, child(sa.Text), [], lock_patience=timedelta(seconds=0.2))


def test_an_index_that_is_built_concurrently_and_a_batch_do_not_wait_for_each_other(
    conn: sa.Connection, engine: sa.Engine, other: sa.Connection
) -> None:
    """The index waits for all who write, and the batch's comment for the index: one of them would have to end."""
    table = sa.Table("log", sa.MetaData(), sa.Column("id", sa.Integer))
    load(conn, table, [(1,)])
    building = threading.Thread(target=lambda: other.exec_driver_sql("CREATE INDEX CONCURRENTLY ON log (id)"))

    def rows() -> Iterator[tuple[int]]:
        yield from ((number,) for number in range(1000))
        building.start()
        with engine.connect() as watching:
            until(lambda: watching.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
        yield from ((number,) for number in range(1000))

    load(conn, table, rows())
    building.join(60)
    assert rows_of(conn, "SELECT count(*) FROM log") == [(2001,)]
    assert rows_of(conn, "SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 'log'::regclass") == [(True,)]


def test_a_lock_timeout_of_the_role_is_told_as_what_it_is(conn: sa.Connection, engine: sa.Engine) -> None:
    conn.exec_driver_sql("SET lock_timeout = '100ms'")
    conn.commit()
    with engine.connect() as writer:
        writer.exec_driver_sql("UPDATE child SET value = 2")
        with pytest.raises(LockNotAcquired, match="within the lock_timeout that the role or the database has"):
            load(conn, child(), [(1, 1, 3)])
    assert is_usable(conn)


@pytest.mark.parametrize("lock", ["UPDATE people SET age = 5 WHERE id = 1", "SELECT FROM people FOR UPDATE"])
@pytest.mark.parametrize("delete", [{}, {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.IN_PLACE}])
def test_a_lock_timeout_of_the_role_bounds_the_wait_for_rows(
    conn: sa.Connection, engine: sa.Engine, lock: str, delete: Any
) -> None:
    load(conn, people(), [(1, "a", 1)])
    conn.exec_driver_sql("SET lock_timeout = '100ms'")
    conn.commit()
    with engine.begin() as holder:
        holder.exec_driver_sql(lock)
        with pytest.raises(LockNotAcquired, match="within the lock_timeout that the role or the database has"):
            load(conn, people(), [(1, "b", 2)], **delete)
    assert is_usable(conn)


def test_readers_at_the_other_end_do_not_keep_a_table_from_being_created(
    conn: sa.Connection, engine: sa.Engine
) -> None:
    with engine.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM child")
        ingest(conn, NEW_CHILD.metadata, lambda mark: [], lock_patience=timedelta(seconds=0.2))
    assert rows_of(conn, "SELECT count(*) FROM grandchild") == [(0,)]


@pytest.mark.parametrize("rebuilt", ["child", "parent"])
def test_whoever_writes_to_both_ends_goes_on_and_the_run_gives_way(
    conn: sa.Connection, engine: sa.Engine, other: sa.Connection, rebuilt: str
) -> None:
    tables = {"child": child(sa.Text), "parent": parent(sa.Text)}
    (first,) = tables.keys() - {rebuilt}
    errors = []

    def rebuild() -> None:
        try:
            load(conn, tables[rebuilt], [])
        except LockNotAcquired as error:
            errors.append(str(error))

    with engine.begin() as writer:
        writer.exec_driver_sql(f"UPDATE {first} SET value = 2")
        run = threading.Thread(target=rebuild)
        run.start()
        until(lambda: other.scalar(sa.text(HAS_SHARE), {"name": rebuilt}))
        writer.exec_driver_sql(f"UPDATE {rebuilt} SET value = 3")
    run.join()
    assert len(errors) == 1
    assert "wait for this run in turn" in errors[0]
    assert rows_of(conn, "SELECT child.value, parent.value FROM child, parent") in ([(2, 3)], [(3, 2)])
    assert is_usable(conn)


def test_of_two_runs_that_wait_for_each_other_the_less_patient_one_gives_way(
    conn: sa.Connection, engine: sa.Engine, other: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_GAP_PATIENCE", 0.1)
    other.exec_driver_sql("DELETE FROM child")
    errors = []

    def rebuild() -> None:
        try:
            with engine.connect() as second:
                load(second, parent(sa.Text), [], lock_patience=timedelta(seconds=1))
        except LockNotAcquired as error:
            errors.append(str(error))

    run = threading.Thread(target=rebuild)

    def rows() -> Iterator[tuple[int, int, int]]:
        yield from ((number, 1, 1) for number in range(1000))
        run.start()
        until(lambda: other.scalar(sa.text(HAS_SHARE), {"name": "parent"}))
        yield (1000, 1, 1)

    load(conn, child(), rows(), lock_patience=timedelta(seconds=30))
    run.join()
    assert len(errors) == 1
    assert rows_of(conn, "SELECT count(*) FROM child JOIN parent ON parent.id = child.parent") == [(1001,)]


VALIDATED = (
    "SELECT conname::text, convalidated FROM pg_constraint WHERE contype = 'f' AND conrelid = 'referring'::regclass"
)


def referring() -> sa.Table:
    """A table of the database whose foreign key to the parent is declared, and to be added in steps."""
    metadata = sa.MetaData()
    columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("parent", sa.ForeignKey(parent().c.id))]
    return sa.Table("referring", metadata, *columns)


@pytest.fixture
def rows_without_key(conn: sa.Connection, other: sa.Connection) -> None:
    """The table as it is before."""
    other.exec_driver_sql("CREATE TABLE referring (id int PRIMARY KEY, parent int)")
    other.exec_driver_sql("INSERT INTO referring SELECT number, 1 FROM generate_series(1, 1000) number")


@pytest.mark.usefixtures("rows_without_key")
def test_a_writer_to_the_table_that_a_new_foreign_key_refers_to_is_named_or_ended(
    conn: sa.Connection, engine: sa.Engine
) -> None:
    with engine.connect() as writer:
        writer.exec_driver_sql("UPDATE parent SET value = 2")
        pid = writer.scalar(sa.text("SELECT pg_backend_pid()"))
        with pytest.raises(LockNotAcquired, match=rf"within lock_patience .* pid {pid} of postgres"):
            load(conn, referring(), [(1001, 1)], lock_patience=timedelta(seconds=0.2))
        assert rows_of(conn, "SELECT count(*) FROM referring") == [(1000,)]
        assert is_usable(conn)
        load(conn, referring(), [(1001, 1)], lock_patience=timedelta(seconds=0.2), end_blockers=True)
        with pytest.raises(sa.exc.DBAPIError):
            writer.exec_driver_sql("SELECT 1")
        writer.invalidate()
    assert rows_of(conn, "SELECT value FROM parent") == [(1,)]
    assert rows_of(conn, "SELECT count(*) FROM referring") == [(1001,)]
    assert rows_of(conn, VALIDATED) == [("referring_parent_fkey", True)]


@pytest.mark.usefixtures("rows_without_key")
@pytest.mark.parametrize("statement", ["SELECT * FROM referring", "SELECT * FROM referring FOR UPDATE"])
def test_a_reader_is_neither_waited_for_nor_ended_while_rows_are_read_for_a_foreign_key(
    conn: sa.Connection, engine: sa.Engine, other: sa.Connection, statement: str
) -> None:
    other.exec_driver_sql("ALTER TABLE referring ADD CONSTRAINT known FOREIGN KEY (parent) REFERENCES parent NOT VALID")
    with engine.connect() as reader:
        reader.exec_driver_sql(statement)
        result = load(conn, referring(), [(1001, 1)], lock_patience=timedelta(seconds=0.2), end_blockers=True)
        assert result.tables[0].migration == ("validated known",)
        assert rows_of(conn, VALIDATED) == [("known", True)]
        assert reader.scalar(sa.text("SELECT count(*) FROM referring")) == 1001


@pytest.mark.usefixtures("rows_without_key")
def test_a_foreign_key_is_validated_without_an_exclusive_lock(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("ALTER TABLE referring ADD CONSTRAINT known FOREIGN KEY (parent) REFERENCES parent NOT VALID")
    result = load(conn, referring(), [(1001, 1)])
    assert rows_of(conn, VALIDATED) == [("known", True)]
    assert result.lock_attempts == 0


def test_what_the_rows_themselves_forbid_is_told_as_that_where_blockers_were_ended(
    conn: sa.Connection, engine: sa.Engine, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE referring (id int PRIMARY KEY, parent int) PARTITION BY RANGE (id)")
    other.exec_driver_sql("CREATE TABLE referring_all PARTITION OF referring DEFAULT")
    other.exec_driver_sql("INSERT INTO referring VALUES (0, 99)")
    with engine.connect() as writer:
        writer.exec_driver_sql("UPDATE parent SET value = 2")
        with pytest.raises(DefinitionError, match="referring_parent_fkey"):
            load(conn, referring(), [], lock_patience=timedelta(seconds=0.2), end_blockers=True)
        with pytest.raises(sa.exc.DBAPIError):
            writer.exec_driver_sql("SELECT 1")
        writer.invalidate()
    assert is_usable(conn)


def test_who_comes_after_the_blockers_that_were_ended_is_named(
    conn: sa.Connection, engine: sa.Engine, other: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_AFTER_ENDING", timedelta(seconds=0.5))
    pids = sa.text("SELECT pg_backend_pid()")
    waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'child'::regclass")
    with engine.connect() as first, engine.connect() as second:
        ended, there = first.scalar(pids), second.scalar(pids)
        first.exec_driver_sql("UPDATE child SET value = 2")
        follows = threading.Thread(
            target=second.exec_driver_sql, args=("LOCK TABLE child IN SHARE ROW EXCLUSIVE MODE",)
        )
        follows.start()
        until(lambda: other.scalar(waits))
        with pytest.raises(
            LockNotAcquired, match=rf"ended \(pid {ended} .*\): others came; .* now: pid {there} "
        ) as said:
            load(conn, child(sa.Text), [], lock_patience=timedelta(seconds=0.2), end_blockers=True)
        assert "end_blockers" not in str(said.value)
        follows.join()
        first.invalidate()
    assert is_usable(conn)
