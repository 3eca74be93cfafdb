"""An autovacuum of the table gives way to a run: on a server of its own, where autovacuum is on."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from airflow_ingest_provider.demo import server
from tests.postgres.helpers import load, people

_IS_VACUUMED = """
    SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'people'::regclass AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
      AND a.backend_type = 'autovacuum worker'
"""


@pytest.fixture(scope="module")
def vacuuming_engine() -> Iterator[sa.Engine]:
    with server.running() as running:
        engine = sa.create_engine(running.url("psycopg"), poolclass=sa.NullPool)
        yield engine
        engine.dispose()


def test_an_autovacuum_gives_way_to_a_migration_and_to_a_swap(vacuuming_engine: sa.Engine) -> None:
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
                deadline = time.monotonic() + 60
                while not other.exec_driver_sql(_IS_VACUUMED).scalar():
                    assert time.monotonic() < deadline, "no autovacuum has come"
                    time.sleep(0.05)
                rows = [(number, "b", number, "x") for number in range(20_000)]
                load(conn, declared, rows, lock_patience=timedelta(seconds=15), **options)
