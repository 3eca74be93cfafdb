"""A prepared transaction in the way of a run, of which there is no backend: on a server of its own, which allows it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import LockNotAcquired
from airflow_ingest_provider.core import locks
from airflow_ingest_provider.demo import server
from tests.postgres.helpers import load, people, rows_of


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(server._SETTINGS, "max_prepared_transactions", "1")
        with server.running(durable=False) as running:
            yield sa.create_engine(running.url("psycopg"), poolclass=sa.NullPool)


def test_a_prepared_transaction_in_the_way_is_named_and_stays(
    conn: sa.Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load(conn, people(), [(1, "a", 1)])
    conn.exec_driver_sql("LOCK TABLE people IN ACCESS SHARE MODE")
    conn.exec_driver_sql("PREPARE TRANSACTION 'in doubt'")
    conn.rollback()
    monkeypatch.setattr(locks, "_AFTER_ENDING", timedelta(seconds=0.2))
    wider, short = people(age=sa.BigInteger), timedelta(seconds=0.2)
    with (
        caplog.at_level("INFO"),
        pytest.raises(LockNotAcquired, match=r"in the way: prepared transaction 'in doubt' of postgres \(for "),
    ):
        load(conn, wider, [], lock_patience=short)
    assert "exclusive locks: 1 attempts" in caplog.text
    with pytest.raises(LockNotAcquired, match=r"no backend to end for it; in the way now: prepared transaction 'in do"):
        load(conn, wider, [], lock_patience=short, end_blockers=True)
    assert "ending" not in caplog.text
    with conn.execution_options(isolation_level="AUTOCOMMIT").begin():
        conn.exec_driver_sql("ROLLBACK PREPARED 'in doubt'")
    conn.execution_options(isolation_level="READ COMMITTED")
    load(conn, wider, [(2, "b", 2)])
    assert rows_of(conn) == [(1, "a", 1), (2, "b", 2)]
