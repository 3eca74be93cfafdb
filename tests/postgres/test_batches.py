"""Batches are streamed, sorted by table, and closed."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from airflow_ingest_provider import DefinitionError, Delete, IngestError, ingest
from airflow_ingest_provider.core import load as load_module
from airflow_ingest_provider.core.claim import Claim
from airflow_ingest_provider.demo.server import Server
from tests.postgres.helpers import is_usable, load, people, rows_of, statements_of
from tests.waiting import until

PEAK = """
import resource, sys
import sqlalchemy as sa
from airflow_ingest_provider import ingest

table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("name", sa.Text))
with sa.create_engine(sys.argv[1], poolclass=sa.NullPool).connect() as conn:
    ingest(conn, table.metadata, lambda mark: [(1, None, ((table, (n, "some name")) for n in range(int(sys.argv[2]))))])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


WIDE = """
import resource, sys
import pyarrow as pa
import sqlalchemy as sa
from airflow_ingest_provider import ingest

types = {"bytes": sa.LargeBinary, "document": sa.JSON}
values = {"text": lambda n: str(n) * 500_000, "bytes": lambda n: b"%d" % n * 500_000, "document": lambda n: [n] * 9**5}
kind = sys.argv[3]
wide = values.get(kind, values["text"])
table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("doc", types.get(kind, sa.Text)))
other = sa.Table("o", table.metadata, sa.Column("id", sa.Integer))
another = sa.Table("a", table.metadata, sa.Column("id", sa.Integer))

def rows(count):
    for number in range(count):
        yield other, (number,)
        yield table, (number, None if kind == "narrow first" and number % 100 < 8 else wide(number % 10))
        if kind == "in the middle":
            yield another, (number,)

def frames(count):
    yield table, pa.table({"id": pa.array(range(count), pa.int32()), "doc": ["x" * 500_000] * count})

with sa.create_engine(sys.argv[1], poolclass=sa.NullPool).connect() as conn:
    ingest(conn, table.metadata, lambda mark: [(1, None, frames(1) if kind == "arrow" else rows(1))])
    given = list(frames(int(sys.argv[2]))) if kind == "arrow" else rows(int(sys.argv[2]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ingest(conn, table.metadata, lambda mark: [(1, None, given)])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


ENDLESS = """
import itertools, sys
import sqlalchemy as sa
from airflow_ingest_provider import ingest

table = sa.Table("people", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
rows = ((table, (n, "new")) for n in itertools.count())
with sa.create_engine(sys.argv[1], poolclass=sa.NullPool).connect() as conn:
    ingest(conn, table.metadata, lambda mark: [(1, None, rows)], delete=sys.argv[2])
"""


def peak_kilobytes(url: str, rows: int, script: str = PEAK, *arguments: str) -> int:
    """The peak memory of a process that loads that many rows as one batch. (Linux counts it in kilobytes.)"""
    command = [sys.executable, "-c", script, url, str(rows), *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's here")
def test_memory_does_not_grow_with_a_batch(server: Server, database: str, dsn: str, driver: str) -> None:
    url = server.url(driver, database)
    growth = peak_kilobytes(url.render_as_string(hide_password=False), 2_000_000) - peak_kilobytes(
        url.render_as_string(hide_password=False), 200_000
    )
    assert growth < 5 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's here")
@pytest.mark.parametrize("kind", ["text", "bytes", "document", "arrow", "narrow first", "in the middle"])
def test_memory_does_not_grow_with_the_width_of_rows(
    server: Server, database: str, dsn: str, driver: str, kind: str
) -> None:
    """Rows of half a megabyte: 500 of them at a time took 1 GB."""
    url = server.url(driver, database).render_as_string(hide_password=False)
    assert peak_kilobytes(url, 200, WIDE, kind) < 100 * 1024


@pytest.mark.parametrize("slow", ["frames", "high watermark", "callback"])
def test_a_server_that_ends_idle_transactions_lets_a_slow_source_go_on(
    engine: sa.Engine, other: sa.Connection, slow: str
) -> None:
    table = people()
    idle = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' "
        "AND clock_timestamp() > state_change + interval '0.2 s'"
    )

    def wait(at: str) -> None:
        if at == slow:
            until(lambda: bool(other.scalar(idle)))

    def frames() -> Iterator[Any]:
        for number in range(3):
            yield table, pa.table({"id": [number], "name": ["a"], "age": [number]})
            wait("frames")

    def mark() -> int:
        wait("high watermark")
        return 1

    impatient = {"options": "-c idle_in_transaction_session_timeout=50"}
    with sa.create_engine(engine.url, poolclass=sa.NullPool, connect_args=impatient).connect() as conn:
        ingest(conn, table.metadata, lambda _: [(mark, None, frames())], lambda *_: wait("callback"))
        assert rows_of(conn, "SELECT count(*) FROM people") == [(3,)]
        assert rows_of(conn, "SHOW idle_in_transaction_session_timeout") == [("50ms",)]


@pytest.mark.parametrize("key", [True, False])
def test_rows_of_several_tables_may_come_mixed(conn: sa.Connection, key: bool) -> None:
    metadata = sa.MetaData()
    tables = [sa.Table(f"t{n}", metadata, sa.Column("id", sa.Integer, primary_key=key)) for n in range(7)]
    rows = ((tables[n % 7], (n,)) for n in range(7000))
    result = ingest(conn, metadata, lambda mark: [(1, None, rows)])
    assert [table.received for table in result.tables] == [1000] * 7
    for place in range(7):
        assert rows_of(conn, f"SELECT id FROM t{place} ORDER BY id") == [(n,) for n in range(place, 7000, 7)]


@pytest.mark.parametrize("bad", [None, 0, 3, 5000, 7999])
def test_generators_are_closed_when_a_run_fails(conn: sa.Connection, bad: int | None) -> None:
    """Those of rows before the one of batches; None for a run that fails after its rows."""
    closed: list[str] = []

    table = people()

    def rows() -> Iterator[Any]:
        try:
            for number in range(8000):
                yield table, (number, "a", 1.5 if number == bad else number)
        finally:
            closed.append("rows")

    def batches(mark: Any) -> Iterator[Any]:
        try:
            yield 1, None, rows()
        finally:
            closed.append("batches")

    def fail(conn: sa.Connection, batch_metadata: Any) -> None:
        raise ValueError("its age")

    with pytest.raises(Exception, match="age") as raised:
        ingest(conn, table.metadata, batches, fail)
    assert closed == ["rows", "batches"], raised  # while the error holds its frames


def test_a_source_may_be_a_query_of_the_same_server(conn: sa.Connection, engine: sa.Engine) -> None:
    """What the source's own driver raises passes through, and is not taken for an error of the target."""
    table = people()
    load(conn, table, [(number, "x", number) for number in range(2000)])
    with engine.connect() as source:
        query = source.execution_options(stream_results=True).execute(
            sa.text("SELECT id, name, 10 / (age - 1500) FROM people ORDER BY id")
        )
        with pytest.raises(sa.exc.DataError, match="division by zero"):
            ingest(conn, table.metadata, lambda mark: [(1, None, ((table, tuple(row)) for row in query))])
    assert rows_of(conn, "SELECT count(*), max(age) FROM people") == [(2000, 1999)]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_killed_task_leaves_nothing_and_its_retry_succeeds(
    conn: sa.Connection, other: sa.Connection, engine: sa.Engine, delete: str
) -> None:
    table = sa.Table("people", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
    load(conn, table, [(1, "old")])
    url = engine.url.render_as_string(hide_password=False)
    task = subprocess.Popen([sys.executable, "-c", ENDLESS, url, delete])
    copying = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY %'"
    )
    try:
        until(lambda: task.poll() is not None or other.scalar(copying))
        assert task.poll() is None
    finally:
        task.kill()
        task.wait()
    assert rows_of(conn) == [(1, "old")]
    load(conn, table, [(2, "new")], delete=delete)
    assert rows_of(conn) == ([(1, "old"), (2, "new")] if delete == Delete.OFF else [(2, "new")])


def test_a_cancelled_copy_ends_though_its_source_goes_on(conn: sa.Connection) -> None:
    table = people()

    def rows() -> Any:
        for number in itertools.count():
            if number == 5000:
                load_module.cancel(conn)
            yield table, (number, "x", None)

    with pytest.raises(IngestError, match="cancelled"):
        ingest(conn, table.metadata, lambda mark: [(1, None, rows())])
    assert rows_of(conn) == []
    load(conn, table, [(1, "a", 1)])


def test_a_run_that_is_cancelled_while_its_source_thinks_commits_nothing_more(conn: sa.Connection) -> None:
    table = people()

    seen = []

    def batches(mark: Any) -> Any:
        yield 1, "first", [(table, (1, "a", 1))]
        load_module.cancel(conn)
        yield 2, "second", []
        yield 3, "third", []

    def called(conn: sa.Connection, batch_metadata: Any) -> None:
        seen.append(batch_metadata)

    with pytest.raises(IngestError, match="the run was cancelled: batches committed before stay"):
        ingest(conn, table.metadata, batches, called)
    assert seen == ["first"]
    assert is_usable(conn)
    assert load(conn, table, [(2, "b", 2)]).first_high_watermark == 1


def test_a_run_that_is_cancelled_between_its_tries_for_a_lock_ends(
    conn: sa.Connection, other: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    load(conn, people(), [(1, "a", 1)])

    def cancelling() -> None:
        until(lambda: "waiting for a lock on public.people" in caplog.text)
        load_module.cancel(conn)

    other.exec_driver_sql("BEGIN; SELECT FROM people")
    with caplog.at_level("INFO"), ThreadPoolExecutor() as pool:
        done = pool.submit(cancelling)
        with pytest.raises((IngestError, sa.exc.OperationalError), match=r"run was cancelled|canceling statement"):
            load(conn, people(age=sa.BigInteger), [(2, "b", 2)], lock_patience=PATIENT)
        done.result()
    other.exec_driver_sql("ROLLBACK")
    assert rows_of(conn) == [(1, "a", 1)]


PATIENT = timedelta(seconds=20)


def test_a_run_that_is_cancelled_inside_a_batch_does_not_commit_it(conn: sa.Connection) -> None:
    table = people()

    def cancelling(conn: sa.Connection, batch_metadata: Any) -> None:
        load_module.cancel(conn)

    with pytest.raises(IngestError, match="the run was cancelled"):
        ingest(conn, table.metadata, lambda mark: [(1, None, [(table, (1, "a", 1))])], cancelling)
    assert rows_of(conn) == []
    load(conn, table, [(1, "a", 1)])


def test_a_run_that_is_cancelled_before_its_first_transaction_changes_nothing(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load_module.cancel(conn)
    with pytest.raises(IngestError, match="the run was cancelled"):
        load(conn, people(), [(1, "a", 1)])
    assert other.scalar(sa.text("SELECT to_regclass('people')")) is None
    load(conn, people(), [(1, "a", 1)])


def test_a_cancel_that_is_not_heard_before_the_run_ends_is_over_with_it(conn: sa.Connection) -> None:
    table = people()

    def batches(mark: Any, error: Exception | None = None) -> Any:
        yield 1, None, [(table, (1, "a", 1))]
        load_module.cancel(conn)
        if error is not None:
            raise error

    assert ingest(conn, table.metadata, batches).rows == 1
    with pytest.raises(ConnectionError):
        ingest(conn, table.metadata, lambda mark: batches(mark, ConnectionError("the source went away")))
    load_module.cancel(conn)
    with pytest.raises(DefinitionError):
        load(conn, sa.Table("empty", sa.MetaData()))
    load(conn, table, [(2, "b", 2)])


def test_what_a_cancelled_migration_has_made_is_taken_back(
    conn: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(conn, people(), [(1, "a", 1)])
    indexed = people()
    sa.Index("by_name", indexed.c.name)
    begun: list[list[str]] = []

    def cancelling(claim: Claim) -> None:
        check_untouched(claim)
        begun.append(indexes(conn))
        if len(begun) == 3:  # the plan, the index by a temporary name, its own name
            load_module.cancel(conn)

    check_untouched = Claim.check_untouched
    monkeypatch.setattr(Claim, "check_untouched", cancelling)
    with pytest.raises(IngestError, match="the run was cancelled"):
        load(conn, indexed, [(2, "b", 2)])
    assert begun == [["people_pkey"], ["people_pkey"], ["_ingest_", "people_pkey"]]
    assert rows_of(conn, INDEXES) == [("people_pkey",)]


INDEXES = "SELECT relname FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace ORDER BY 1"


def indexes(conn: sa.Connection) -> list[str]:
    """The indexes, temporary ones by the beginning of their names."""
    return [name[:8] if name.startswith("_ingest_") else name for name in conn.scalars(sa.text(INDEXES))]


def query(conn: sa.Connection) -> None:
    conn.scalar(sa.text("SELECT 1"))


def transaction(conn: sa.Connection) -> None:
    with conn.begin():
        query(conn)


def insert(conn: sa.Connection) -> None:
    conn.exec_driver_sql("INSERT INTO people VALUES (100, 'by the source')")


@pytest.mark.parametrize("use", [query, insert])
@pytest.mark.parametrize("at", ["called", "first", "rows", "second", "end"])
def test_a_source_that_leaves_the_connection_in_a_transaction_is_told_so(
    conn: sa.Connection, at: str, use: Callable[[sa.Connection], None]
) -> None:
    table = people()
    load(conn, table, [(0, "a", 0)])

    def batches() -> Iterator[Any]:
        for number, place in enumerate(("first", "second", "end"), start=1):
            if at == place:
                use(conn)
            if place != "end":
                yield number, None, rows(number)

    def rows(number: int) -> Iterator[Any]:
        if at == "rows":
            use(conn)
        yield table, (number, "a", number)

    def called(mark: Any) -> Iterator[Any]:
        if at == "called":
            use(conn)
        return batches()

    with pytest.raises(IngestError, match=r"^batches used conn and left it in a transaction.*another connection"):
        ingest(conn, table.metadata, called)
    assert is_usable(conn)
    kept = {"second": 1, "end": 2}.get(at, 0)
    assert rows_of(conn, "SELECT id FROM people ORDER BY id") == [(number,) for number in range(kept + 1)]


def test_a_source_may_use_the_connection_in_a_transaction_that_it_ends(conn: sa.Connection) -> None:
    table = people()

    def batches(mark: Any) -> Iterator[Any]:
        for number in (1, 2):
            transaction(conn)
            yield number, None, [(table, (number, "a", number))]
        transaction(conn)

    assert ingest(conn, table.metadata, batches).rows == 2


def test_a_source_that_gives_batches_in_its_own_transaction_is_told_so(conn: sa.Connection) -> None:
    table = people()

    def batches(mark: Any) -> Iterator[Any]:
        with conn.begin():
            yield 1, None, [(table, (1, "a", 1))]

    with pytest.raises(IngestError, match="left it in a transaction"):
        ingest(conn, table.metadata, batches)
    assert is_usable(conn)


def test_a_query_of_a_source_that_fails_leaves_the_connection_outside_a_transaction(conn: sa.Connection) -> None:
    def batches(mark: Any) -> Iterator[Any]:
        conn.execute(sa.text("SELECT 1 / 0"))
        yield 1, None, []

    with pytest.raises(sa.exc.DataError, match="division by zero"):
        ingest(conn, people().metadata, batches)
    assert is_usable(conn)


def stream(conn: sa.Connection) -> None:
    conn.execution_options(stream_results=True).scalar(sa.text("SELECT 1"))


def stream_once(conn: sa.Connection) -> None:
    conn.execute(sa.text("SELECT 1"), execution_options={"yield_per": 10})


def stream_text(conn: sa.Connection) -> None:
    conn.exec_driver_sql("SELECT 1", execution_options={"stream_results": True})


def inspect(conn: sa.Connection) -> None:
    sa.inspect(conn).get_table_names()


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize(
    "use",
    [
        query,
        stream,
        stream_once,
        stream_text,
        inspect,
        transaction,
        sa.Connection.commit,
        sa.Connection.rollback,
        sa.Connection.begin_nested,
    ],
)
@pytest.mark.parametrize("frame", [True, False])
def test_rows_that_use_the_connection_while_they_are_read_are_told_so(
    conn: sa.Connection, use: Callable[[sa.Connection], None], key: bool, frame: bool, driver: str
) -> None:
    if use is stream_text and driver == "psycopg2":
        pytest.skip("psycopg2 closes the cursor on the server, and loses the connection")
    id_ = sa.Column("id", sa.Integer, primary_key=key, autoincrement=False)
    table = sa.Table("people", sa.MetaData(), id_)
    load(conn, table, [(-1,)])

    def rows() -> Iterator[Any]:
        yield from ((table, (number,)) for number in range(5000))
        if frame:
            yield table, pa.table({"id": pa.array([5000], pa.int32())})
        use(conn)

    with pytest.raises((IngestError, sa.exc.InvalidRequestError)) as raised:
        ingest(conn, table.metadata, lambda mark: [(2, None, rows())])
    if use is not transaction:  # which SQLAlchemy refuses by itself
        assert "the rows of a batch used conn while they were read" in str(raised.value)
    assert is_usable(conn)
    assert rows_of(conn) == [(-1,)]
    load(conn, table, [(1,)])


def with_block(conn: sa.Connection) -> None:
    with conn:
        pass


@pytest.mark.parametrize("use", [sa.Connection.close, with_block])
def test_rows_that_close_the_connection_while_they_are_read_are_told_so(
    conn: sa.Connection, other: sa.Connection, use: Callable[[sa.Connection], None]
) -> None:
    table = people()
    load(conn, table, [(-1, "a", 1)])

    def rows() -> Iterator[Any]:
        yield from ((table, (number, "a", 1)) for number in range(5000))
        use(conn)

    with pytest.raises(IngestError, match="the rows of a batch used conn while they were read"):
        ingest(conn, table.metadata, lambda mark: [(2, None, rows())])
    assert conn.closed or is_usable(conn)  # SQLAlchemy 2.0 does not take it for closed
    assert rows_of(other) == [(-1, "a", 1)]


@pytest.mark.parametrize("driver", ["psycopg"])  # psycopg2 loses the connection, and says so
def test_rows_that_use_the_connection_of_the_driver_are_told_so(conn: sa.Connection) -> None:
    table = people()
    raw = conn.connection.driver_connection
    assert raw is not None

    def rows() -> Iterator[Any]:
        yield from ((table, (number, "a", 1)) for number in range(5000))
        raw.cursor().execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError, match="another command is already in progress"):
        ingest(conn, table.metadata, lambda mark: [(2, None, rows())])
    assert is_usable(conn)
    assert rows_of(conn) == []


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
@pytest.mark.parametrize("count", [1, 1_000])
def test_rows_may_be_dicts_by_the_names_of_the_columns(conn: sa.Connection, delete: str, count: int) -> None:
    table = people()
    load(conn, table, [(number, "old", 0) for number in range(count)])
    source = f"SELECT 7 AS age, 'new' AS name, number AS id FROM generate_series(1, {count}) number"
    with conn.begin():
        found = conn.execute(sa.text(source)).mappings().all()
    rows: list[Any] = [*found, {"name": "last", "id": 0, "age": None}]
    load(conn, table, rows, delete=delete)
    assert rows_of(conn, "SELECT id, name, age FROM people ORDER BY id") == [
        (0, "last", None),
        *((number, "new", 7) for number in range(1, count + 1)),
    ]


@pytest.mark.parametrize("few", [True, False])
def test_a_batch_locks_before_it_last_reads_the_state(conn: sa.Connection, few: bool) -> None:
    table = people()
    load(conn, table, [(number, None, None) for number in range(1000)])
    rows = [(table, (number, "x", None)) for number in range(10 if few else 1000)]
    sent = statements_of(conn)
    ingest(conn, table.metadata, lambda mark: [(mark, None, rows), (mark, None, rows)])
    second = [place for place, one in enumerate(sent) if "ISOLATION LEVEL" in one][-1]
    batch = sent[second:]
    (lock,) = (place for place, one in enumerate(batch) if one.startswith("LOCK TABLE"))
    read = [place for place, one in enumerate(batch) if "obj_description" in one]
    assert read == ([lock + 1] if few else [2, lock + 1])
    assert len(batch) == (11 if few else 12)  # with one for the sequence of the key
