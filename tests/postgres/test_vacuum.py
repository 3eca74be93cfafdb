"""An autovacuum of the table gives way to a run: on a server of its own, where autovacuum is on."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

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
def vacuuming_engine(vacuuming: server.Server) -> Iterator[sa.Engine]:
    engine = sa.create_engine(vacuuming.url("psycopg"), poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def cancelled(running: server.Server) -> int:
    """How many autovacuums have been cancelled for somebody who waited, by the server's log."""
    return Path(running.folder, "server.log").read_text().count("canceling autovacuum task")


def test_an_autovacuum_gives_way_to_a_migration_and_to_a_swap(
    vacuuming: server.Server, vacuuming_engine: sa.Engine
) -> None:
    with vacuuming_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.exec_driver_sql("ALTER SYSTEM SET autovacuum_naptime = '5s'")
        other.exec_driver_sql("SELECT pg_reload_conf()")
        with vacuuming_engine.connect() as conn:
            load(conn, people(), [(number, "a", number) for number in range(20_000)])
            for declared, options in (
                (people(sa.Column("note", sa.Text)), {}),
                (people(sa.Column("note", sa.Text)), {"delete": "__BEFORE_FIRST_BATCH__", "replace": "swap"}),
            ):
                other.exec_driver_sql("""
                    ALTER TABLE people SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
                                            autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_cost_delay = 100)
                """)
                other.exec_driver_sql("UPDATE people SET age = age + 1")
                until(lambda: other.exec_driver_sql(_IS_VACUUMED).scalar(), patience=60)
                before = cancelled(vacuuming)
                rows = [(number, "b", number, "x") for number in range(20_000)]
                load(conn, declared, rows, lock_patience=timedelta(seconds=15), **options)
                assert cancelled(vacuuming) > before
