"""Readers notice nothing of refreshes and rebuilds: the benchmark in small, and queries that outlast a swap."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from airflow_ingest_provider.demo.server import Server
from tests.benchmarks.readers import main
from tests.benchmarks.readers_process import READERS, Job, Seen, Watch
from tests.benchmarks.readers_report import share, write_report
from tests.benchmarks.readers_runs import OURS, PEER, Loader, Measured, Plan, measure

_LONGEST_WAIT = 5.0
"""Seconds. Not the promise, which a busy machine would break: only that nobody waits for a run as a whole."""

_SLOWLY = "SELECT count(*), min(version), max(version), count(pg_sleep(0.001)) FROM prices"
_ROWS = 500


def test_no_read_and_no_run_fails_under_refreshes_and_rebuilds(server: Server, database: str) -> None:
    readers = ("view of a view", "view of both", "sleeps in its transaction", "table, then view")
    plan = Plan(refreshes=15, rebuilds=6, rows=_ROWS, readers=readers)
    found = measure(server.dsn(database), server.url("psycopg", database), OURS, plan)
    assert found.failed_runs == {}
    assert (len(found.runs), found.replaced) == (21, 21)
    assert (found.failures, found.torn, found.deadlocks) == ({}, [], 0)
    assert all(seen.reads for seen in found.seen.values())
    assert max(found.reads) < _LONGEST_WAIT * 1e6


def test_a_query_that_began_before_the_swap_ends_with_the_rows_of_then(server: Server, database: str) -> None:
    engine = sa.create_engine(server.url("psycopg", database), poolclass=sa.NullPool)
    loader = Loader(engine, OURS, Plan(rows=_ROWS))
    loader.refresh()
    results: list[tuple[object, ...] | None] = []

    def query() -> None:
        results.append(slow.execute(_SLOWLY).fetchone())

    with psycopg.connect(server.dsn(database)) as slow, psycopg.connect(server.dsn(database), autocommit=True) as other:
        querying = threading.Thread(target=query)
        querying.start()
        wait_until(lambda: holds_lock(other, slow.info.backend_pid))
        refreshing = threading.Thread(target=loader.refresh)
        refreshing.start()
        querying.join()
        still_old = refreshing.is_alive()
        slow.commit()
        refreshing.join()
        now = other.execute("SELECT count(*), min(version), max(version) FROM prices").fetchone()
    assert results == [(_ROWS, 1, 1, _ROWS)]
    assert still_old
    assert (loader.version, now) == (2, (_ROWS, 2, 2))


def test_a_cursor_that_was_opened_before_the_swap_gives_the_rows_of_then(server: Server, database: str) -> None:
    engine = sa.create_engine(server.url("psycopg", database), poolclass=sa.NullPool)
    loader = Loader(engine, OURS, Plan(rows=_ROWS))
    loader.refresh()
    with psycopg.connect(server.dsn(database)) as slow, slow.cursor("slow") as cursor:
        versions = set(cursor.execute("SELECT version FROM prices").fetchmany(10))
        refreshing = threading.Thread(target=loader.refresh)
        refreshing.start()
        time.sleep(0.5)
        assert refreshing.is_alive()
        rest = cursor.fetchall()
        slow.commit()
        refreshing.join()
    assert (len(rest), versions | set(rest)) == (_ROWS - 10, {(1,)})
    assert loader.version == 2


def test_a_reader_notices_torn_reads_and_failed_ones(server: Server, database: str) -> None:
    with psycopg.connect(server.dsn(database), autocommit=True) as admin:
        admin.execute("CREATE TABLE prices (version int); CREATE TABLE others AS SELECT 1 AS version")
        watch = Watch(Job("table", server.dsn(database), {"prices": 2}))
        for rows in ("(2), (2)", "(2)", "(2), (3)", "(1), (1)"):
            admin.execute(f"TRUNCATE prices; INSERT INTO prices VALUES {rows}".encode())
            watch.turn()
        admin.execute("DROP TABLE prices")
        watch.turn()
        watch.close()
    assert [torn.partition(" after")[0] for torn in watch.seen.torn] == [
        "prices: 1 rows of versions 2 to 2",
        "prices: 2 rows of versions 2 to 3",
        "prices: 2 rows of versions 1 to 1",
    ]
    assert watch.seen.failures == {'42P01: relation "prices" does not exist': 1}


def test_the_report_shows_both_packages(tmp_path: Path) -> None:
    seen = {name: Seen(reads=[500, 1_000, 120_000], control=[400]) for name in READERS}
    failing = {
        **seen,
        "view": Seen(reads=[2_000_000], control=[400], torn=["prices: 3 rows of versions 1 to 2 after 1"]),
    }
    measured = [Measured(OURS, "1.0", [0.2], 1, seen=seen), Measured(PEER, "0.1", [1.5], 0, seen=failing, deadlocks=1)]
    measured[1].failed_runs["DeadlockDetected: deadlock detected"] += 1
    write_report(tmp_path / "readers.md", measured, Plan(), "python -m tests.benchmarks.readers", "18.6")
    page = (tmp_path / "readers.md").read_text()
    assert "| read, longest | 120.0 | 2000.0 |" in page
    assert "- airflow-ingest-provider: nothing." in page
    assert "- pg-bulk-ingest, 1 x run: `DeadlockDetected: deadlock detected`" in page


def test_the_command_makes_the_folder_of_its_page(tmp_path: Path) -> None:
    file = tmp_path / "not" / "there" / "readers.md"
    assert main(["--refreshes", "1", "--rebuilds", "1", "--rows", "20", "--output", str(file)]) == 0
    assert "1 full refreshes and 1 rebuilds of a table of 20 rows" in file.read_text()


def test_rebuilds_are_spread_among_the_refreshes() -> None:
    steps = list(Plan(refreshes=500, rebuilds=100).steps())
    assert (len(steps), sum(steps)) == (600, 100)
    assert all(sum(steps[start : start + 6]) == 1 for start in range(0, 600, 6))


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 51.0), (99.9, 100.0), (100, 100.0)])
def test_a_share_of_the_reads_took_at_most_so_long(percent: float, expected: float) -> None:
    assert share([number * 1000 for number in range(1, 101)], percent) == expected


def holds_lock(other: psycopg.Connection, pid: int) -> bool:
    query = "SELECT 1 FROM pg_locks WHERE pid = %s AND granted AND relation = 'prices'::regclass"
    return other.execute(query, [pid]).fetchone() is not None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
