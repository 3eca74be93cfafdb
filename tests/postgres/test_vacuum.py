"""An autovacuum of the table gives way to a run: on a server of its own, where autovacuum is on."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import LockNotAcquired
from airflow_ingest_provider.demo import server
from tests.postgres.helpers import load, people
from tests.waiting import until

_IS_VACUUMED = """
    SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'people'::regclass AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
      AND a.backend_type = 'autovacuum worker'
"""


@pytest.fixture(scope="module")
def vacuuming() -> Iterator[server.Server]:
    with server.running() as running:
        yield running


@pytest.fixture
def other(vacuuming: server.Server) -> Iterator[sa.Connection]:
    """A superuser's, AUTOCOMMIT."""
    engine = sa.create_engine(vacuuming.url("psycopg"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET autovacuum_naptime = '5s'")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
        yield connection
    engine.dispose()


@pytest.fixture(params=["postgres", "ordinary"])
def conn(request: pytest.FixtureRequest, vacuuming: server.Server, other: sa.Connection) -> Iterator[sa.Connection]:
    """A superuser's, and one of a role that does not see what autovacuum does."""
    other.exec_driver_sql("CREATE ROLE ordinary LOGIN")
    other.exec_driver_sql("GRANT CREATE ON SCHEMA public TO ordinary")
    engine = sa.create_engine(vacuuming.url("psycopg").set(username=request.param), poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()
    other.exec_driver_sql("DROP TABLE people; DROP OWNED BY ordinary; DROP ROLE ordinary")


def cancelled(running: server.Server) -> int:
    """How many autovacuums have been cancelled for somebody who waited, by the server's log."""
    return Path(running.folder, "server.log").read_text().count("canceling autovacuum task")


def keep_vacuuming(other: sa.Connection) -> None:
    """Have an autovacuum of the table that takes far longer than a test."""
    other.exec_driver_sql("""
        ALTER TABLE people SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
                                autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_cost_delay = 100)
    """)
    other.exec_driver_sql("UPDATE people SET age = age + 1")
    until(lambda: other.exec_driver_sql(_IS_VACUUMED).scalar(), patience=60)


def test_an_autovacuum_gives_way_to_a_migration_and_to_a_swap(
    vacuuming: server.Server, conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(number, "a", number) for number in range(20_000)])
    declared = people(sa.Column("note", sa.Text))
    for options in ({}, {"delete": "__BEFORE_FIRST_BATCH__", "replace": "swap"}):
        keep_vacuuming(other)
        before = cancelled(vacuuming)
        rows = [(number, "b", number, "x") for number in range(20_000)]
        load(conn, declared, rows, lock_patience=timedelta(seconds=15), **options)
        assert cancelled(vacuuming) > before


def test_an_autovacuum_is_waited_for_as_long_as_patience_lasts(
    vacuuming: server.Server, conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(number, "a", number) for number in range(20_000)])
    keep_vacuuming(other)
    before = cancelled(vacuuming)
    began = time.monotonic()
    with pytest.raises(LockNotAcquired, match=r"within lock_patience .* of a background process"):
        load(conn, people(sa.Column("note", sa.Text)), [], lock_patience=timedelta(seconds=0.1))
    assert time.monotonic() - began < 2
    assert cancelled(vacuuming) == before
