"""Waiting for locks without keeping anybody else waiting."""

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

import sqlalchemy as sa
from psycopg import sql
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_ingest_provider.core.errors import LockNotAcquired
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.session import run, sqlstate

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK_DETECTED = "40P01"


def one_run_at_a_time(conn: sa.Connection, names: Iterable[Name], patience: timedelta) -> None:
    """Take the tables' advisory locks until the transaction ends: whoever else loads them waits, nobody else does.

    The locks are taken in the order of the names, so that two runs cannot wait for each other. Raises LockNotAcquired
    where another run holds one for longer than `patience`.
    """
    before = _set_lock_timeout(conn, f"{patience / timedelta(milliseconds=1):.0f}ms")
    for name in sorted(set(names)):
        _take_turn(conn, name, patience)
    _set_lock_timeout(conn, before)


def _take_turn(conn: sa.Connection, name: Name, patience: timedelta) -> None:
    try:
        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": name.lock_key})
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != _LOCK_NOT_AVAILABLE:
            raise
        raise LockNotAcquired(
            f"another run has been loading {name} for longer than lock_patience ({patience}): try again when it is done"
        ) from error


def exclusively(
    conn: sa.Connection,
    names: Iterable[Name],
    timeout: timedelta,
    patience: timedelta,
    work: Callable[[], Result],
) -> Result:
    """Do work that needs ACCESS EXCLUSIVE in a savepoint, giving way to everybody who stands in the way.

    A statement of `work` that waits longer than `timeout` for a lock gives up; the savepoint is rolled back with all
    its locks, readers pass, and the work is tried again after a random pause, up to `patience`. `lock_timeout` is
    kept below half of deadlock_timeout, so that it is us who yields and never a reader; it is as it was
    afterwards. Raises LockNotAcquired, naming who holds the locks on `names`.
    """
    deadlock_timeout = conn.scalar(sa.text("SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'"))
    milliseconds = max(1, min(round(timeout / timedelta(milliseconds=1)), int(deadlock_timeout or 1000) // 2))
    attempts = Retrying(
        retry=retry_if_exception(_lost_the_race),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.02, max=2),
        before_sleep=_log_attempt,
        reraise=True,
    )
    try:
        result: Result = attempts(_attempt, conn, milliseconds, work)
    except sa.exc.DBAPIError as error:
        if not _lost_the_race(error):
            raise
        raise LockNotAcquired(
            f"no ACCESS EXCLUSIVE lock within lock_patience ({patience}); in the way: {_holders(conn, names)}: "
            "try again when they are done, or be more patient"
        ) from error
    return result


def hold_writers(conn: sa.Connection, table: Name, timeout: timedelta, patience: timedelta) -> None:
    """Take SHARE on the table until the transaction ends: its rows stay as they are, and readers go on."""
    share = sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table.sql)
    exclusively(conn, [table], timeout, patience, lambda: run(conn, share))


def _attempt(conn: sa.Connection, milliseconds: int, work: Callable[[], Result]) -> Result:
    with conn.begin_nested():
        before = _set_lock_timeout(conn, f"{milliseconds}ms")
        result = work()
        _set_lock_timeout(conn, before)
    return result


def _set_lock_timeout(conn: sa.Connection, value: str) -> str:
    """Set lock_timeout for the rest of the transaction, and say what it was."""
    before = str(conn.scalar(sa.text("SELECT current_setting('lock_timeout')")))
    run(conn, f"SET LOCAL lock_timeout = '{value}'")
    return before


def _lost_the_race(error: BaseException) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and sqlstate(error) in (_LOCK_NOT_AVAILABLE, _DEADLOCK_DETECTED)


def _log_attempt(state: RetryCallState) -> None:
    logger.debug("attempt %s for ACCESS EXCLUSIVE gave way to others", state.attempt_number)


def _holders(conn: sa.Connection, names: Iterable[Name]) -> str:
    holders = conn.execute(_HOLDERS, {"names": [name.quoted for name in names]})
    described = [f"pid {row.pid} of {row.usename} (for {row.age})" for row in holders]
    return ", ".join(described) or "nobody any more"


# Who else holds any lock on one of the relations, with the age of the statement or transaction it is held for.
_HOLDERS = sa.text("""
    SELECT DISTINCT a.pid, a.usename, date_trunc('second', clock_timestamp() - a.xact_start) AS age
    FROM pg_locks l
    JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.relation = ANY (SELECT to_regclass(name)::oid FROM unnest(CAST(:names AS text[])) name)
      AND l.granted AND l.pid <> pg_backend_pid()
    ORDER BY a.pid
""")
