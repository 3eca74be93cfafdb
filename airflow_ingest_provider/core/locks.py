"""Waiting for locks without keeping anybody else waiting."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import sqlalchemy as sa
from psycopg import sql
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_ingest_provider.core.errors import LockNotAcquired
from airflow_ingest_provider.core.holders import Around, Holder, end, holders_of
from airflow_ingest_provider.core.load import check_not_cancelled
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.session import (
    DEADLOCK_DETECTED,
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
    rolled_back,
    run,
    setting,
    sqlstate,
)

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def one_run_at_a_time(conn: sa.Connection, names: Iterable[Name], patience: timedelta) -> None:
    """Take the tables' advisory locks until the transaction ends: whoever else loads them waits, nobody else does.

    The locks are taken in the order of the names, so that two runs cannot wait for each other. Raises LockNotAcquired
    where another run holds one for longer than `patience`.
    """
    left = sorted(set(names))
    while left:
        taken = conn.scalar(_TAKE_LOCKS, {"keys": [name.lock_key for name in left]})
        left = left[taken:]
        if left:
            _wait_for_turn(conn, left.pop(0), patience)


# How many of the locks could be taken one after the other: none after one that somebody else holds.
_TAKE_LOCKS = sa.text("""
    WITH RECURSIVE lock(place, taken) AS (
        SELECT 1, pg_try_advisory_xact_lock((CAST(:keys AS bigint[]))[1])
      UNION ALL
        SELECT place + 1, pg_try_advisory_xact_lock((CAST(:keys AS bigint[]))[place + 1])
        FROM lock WHERE taken AND place < cardinality(CAST(:keys AS bigint[]))
    )
    SELECT count(*) FILTER (WHERE taken) FROM lock
""")


def _wait_for_turn(conn: sa.Connection, name: Name, patience: timedelta) -> None:
    tables = str(name) if name.name else f"tables of schema {name.schema}"
    logger.info("waiting for another run that loads %s, for %s at most", tables, patience)
    try:
        with setting(conn, "lock_timeout", f"{patience / timedelta(milliseconds=1):.0f}ms"):
            conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": name.lock_key})
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        raise LockNotAcquired(
            f"another run has been loading {tables} for longer than lock_patience ({patience}): try again when it is "
            "done"
        ) from error


def exclusively(
    conn: sa.Connection,
    names: Collection[Name],
    options: Options,
    work: Callable[[], Result],
    *,
    harmless: Sequence[str] = (),
) -> Result:
    """Do work that needs ACCESS EXCLUSIVE in a savepoint, giving way to everybody who stands in the way.

    A statement of `work` that waits longer than `lock_timeout` for a lock gives up; the savepoint is rolled back with
    all its locks, readers pass, and the work is tried again after a random pause. The timeout is kept below half of
    deadlock_timeout, so that it is us who yields and never a reader; it is as it was afterwards. From the call on, all
    tries begin within `lock_patience`, with what is waited for before and between them; there is one at least. Then
    backends that hold locks are ended, where the caller wants that, and it is tried for 10 seconds more. Raises
    LockNotAcquired, naming who holds locks on `names` or on what hangs on them: at once where one of them waits for
    this transaction in turn. What else goes wrong in `work` is raised as it is.
    Where other people's locks of some modes are `harmless`, the work needs a weaker lock, on `names` alone: who has
    such a lock is in nobody's way then, and `released` does not count it.
    """
    deadlock_timeout = timedelta(seconds=conn.execute(_DEADLOCK_TIMEOUT).scalar_one())
    timeout = max(1, round(min(options.lock_timeout, deadlock_timeout / 2) / timedelta(milliseconds=1)))
    relations = conn.scalars(_NAMED if harmless else _RELATED, {"names": [name.quoted for name in names]}).all()
    around = {"oids": list(relations), "harmless": list(harmless)}
    try:
        return _attempts(conn, names, around, timeout, options.lock_patience, work)
    except (_Circle, sa.exc.DBAPIError) as error:
        if not _gave_way(error):
            raise
        in_the_way = holders_of(conn, around)
        if not options.end_blockers:
            raise _not_acquired(names, in_the_way, options.lock_patience, error) from _cause(error)
    end(conn, in_the_way)
    try:
        return _attempts(conn, names, around, timeout, _AFTER_ENDING, work)
    except (_Circle, sa.exc.DBAPIError) as error:
        if not _gave_way(error):
            raise
        raise _in_vain(names, in_the_way, holders_of(conn, around)) from _cause(error)


def _gave_way(error: Exception) -> bool:
    return isinstance(error, _Circle) or _lost_the_race(error)


def _cause(error: Exception) -> Exception | None:
    """The database's error: a circle is none."""
    return None if isinstance(error, _Circle) else error


OF_READERS = ("AccessShareLock", "RowShareLock")
"""Locks that go with SHARE and SHARE ROW EXCLUSIVE, as pg_locks has them."""

OF_WRITERS = (*OF_READERS, "RowExclusiveLock")
"""Locks that go with SHARE UPDATE EXCLUSIVE."""


class _Circle(Exception):
    """Somebody who holds one of the locks waits for a lock that this transaction keeps: neither can go on."""


_AFTER_ENDING = timedelta(seconds=10)
"""How long to go on trying once those who stood in the way were ended: a backend takes a moment to end."""


def _let_autovacuum_yield(conn: sa.Connection, oids: Sequence[int], deadline: float) -> None:
    """Wait for the lock that an autovacuum holds for longer than deadlock_timeout, if the deadline allows it.

    By then PostgreSQL cancels it, since somebody waits; an attempt gives up before. Neither readers nor writers queue
    behind this lock, which is given back at once. One that goes on, against wraparound, is left to the attempts.
    """
    for name in conn.scalars(_VACUUMED, {"oids": list(oids)}).all():
        left = round((deadline - time.monotonic()) * 1000)
        if left > 0:
            _wait_for_vacuum(conn, name, left)


def _wait_for_vacuum(conn: sa.Connection, name: str, milliseconds: int) -> None:
    try:
        with rolled_back(conn):
            conn.execute(_LONG_TIMEOUT, {"most": milliseconds})
            run(conn, f"LOCK TABLE ONLY {name} IN SHARE UPDATE EXCLUSIVE MODE")
    except sa.exc.DBAPIError as error:
        if not (_lost_the_race(error) or sqlstate(error) == INSUFFICIENT_PRIVILEGE):
            raise


def hold_writers(conn: sa.Connection, tables: Collection[Name], options: Options) -> None:
    """Take SHARE on the tables until the transaction ends: their rows stay as they are, and readers go on."""

    def work() -> None:
        for name in tables:
            shorten(conn)
            run(conn, sql.SQL("LOCK TABLE {} IN SHARE MODE").format(name.sql))

    exclusively(conn, tables, options, work, harmless=OF_READERS)


def _attempts(
    conn: sa.Connection,
    names: Collection[Name],
    around: Around,
    milliseconds: int,
    patience: timedelta,
    work: Callable[[], Result],
) -> Result:
    deadline = time.monotonic() + patience.total_seconds()
    pause = wait_random_exponential(multiplier=0.02, max=2)
    attempts = Retrying(
        retry=retry_if_exception(_lost_the_race),
        stop=stop_after_delay(patience),
        wait=lambda state: min(pause(state), max(0.0, deadline - time.monotonic())),
        before_sleep=_Waiting(conn, names, around, patience),
        reraise=True,
    )
    result: Result = attempts(_attempt, conn, around, milliseconds, deadline, work)
    return result


def _attempt(
    conn: sa.Connection, around: Around, milliseconds: int, deadline: float, work: Callable[[], Result]
) -> Result:
    kept = Kept() if around["harmless"] else conn.info.setdefault(_KEPT, Kept())
    _let_autovacuum_yield(conn, around["oids"], deadline)
    _wait_for_a_gap(conn, around, deadline)
    if conn.scalar(_WAITS_FOR_US, around):
        raise _Circle
    began = time.monotonic()
    kept.attempts += 1
    conn.info[_UNTIL] = began + milliseconds / 1000
    try:
        with conn.begin_nested(), setting(conn, "lock_timeout", f"{milliseconds}ms"):
            result = work()
    except BaseException:
        kept.seconds += time.monotonic() - began
        raise
    kept.since = kept.since or began
    return result


def _wait_for_a_gap(conn: sa.Connection, around: Around, deadline: float) -> None:
    """Wait a while, in no queue, as long as somebody holds a lock for longer than a quick query takes.

    Whoever stood in the queue behind us would wait for them too. For how long they have held it is told by looking
    again: when another role's transaction began, only who may read all statistics is told.
    """
    began = time.monotonic()
    end = min(deadline, began + _GAP_PATIENCE)
    since: dict[str, float] = {}
    while (now := time.monotonic()) < end:
        check_not_cancelled(conn)
        since = {holder: since.get(holder, now) for holder in conn.scalars(_HOLDING, around)}
        first = min(since.values(), default=now)
        if not since or (now - began >= _QUICK and now - first < _QUICK):
            return
        time.sleep(min(_GAP_PAUSE, end - now))


_GAP_PATIENCE = 2.0
_GAP_PAUSE = 0.01
_QUICK = 0.02
"""Seconds that a query may take and be no reason to wait; there is no pause where nobody holds anything."""


def shorten(conn: sa.Connection, among: int = 1) -> None:
    """Let the next statement of an attempt wait for no longer than what is left of the attempt's time.

    PostgreSQL has a timeout for each lock: where the statement takes several, the time is divided `among` them. Their
    sum would decide who yields in a deadlock otherwise: a reader, in the end.
    """
    left = conn.info[_UNTIL] - time.monotonic()
    run(conn, f"SET LOCAL lock_timeout = '{max(1, round(left * 1000 / max(among, 1)))}ms'")


def run_each(conn: sa.Connection, steps: Iterable[sql.Composable], among: int = 1) -> None:
    """Run statements that each wait for so many locks, in an attempt."""
    for step in steps:
        shorten(conn, among)
        run(conn, step)


@dataclass
class Kept:
    """How often exclusive locks were asked for, and how long others had to wait behind that, at most."""

    attempts: int = 0
    seconds: float = 0.0
    since: float | None = None
    """When the attempt began whose locks are held until the transaction ends, on the monotonic clock."""


_KEPT = "airflow_ingest_provider.kept"
_UNTIL = "airflow_ingest_provider.until"
"""When the attempt gives up waiting for locks, on the monotonic clock."""


def released(conn: sa.Connection) -> Kept:
    """What the transaction that has just ended asked of others; counting starts anew."""
    if conn.closed or conn.invalidated:
        return Kept()  # its `info` would be that of a new connection, made for it
    kept: Kept = conn.info.pop(_KEPT, None) or Kept()
    if kept.since is not None:
        kept.seconds += time.monotonic() - kept.since
    return kept


def _lost_the_race(error: BaseException) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and sqlstate(error) in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED)


class _Waiting:
    """Says who is waited for, when a first try has given way and every so often."""

    def __init__(self, conn: sa.Connection, names: Collection[Name], around: Around, patience: timedelta) -> None:
        self._conn = conn
        self._names = names
        self._around = around
        self._patience = patience
        self._said: float | None = None

    def __call__(self, _: RetryCallState) -> None:
        now = time.monotonic()
        if self._said is not None and now - self._said < _SAY_SECONDS:
            return
        self._said = now
        logger.info(
            "waiting for a lock on %s, for %s at most; in the way: %s",
            _listed(self._names),
            self._patience,
            _listed(holders_of(self._conn, self._around)) or "nobody any more",
        )


_SAY_SECONDS = 10.0


def _listed(these: Iterable[object]) -> str:
    return ", ".join(map(str, these))


def _not_acquired(
    names: Iterable[Name], in_the_way: Iterable[Holder], patience: timedelta, error: Exception
) -> LockNotAcquired:
    described, tables = _listed(in_the_way) or "nobody any more", _listed(names)
    if isinstance(error, _Circle):
        return LockNotAcquired(
            f"no exclusive lock on {tables}, since those who hold others wait for this run in turn; in the way: "
            f"{described}: try again while they do not write to these tables, or pass end_blockers=True"
        )
    return LockNotAcquired(
        f"no exclusive lock on {tables} within lock_patience ({patience}); in the way: {described}: "
        "try again when they are done, be more patient, or pass end_blockers=True"
    )


def _in_vain(names: Iterable[Name], before: Iterable[Holder], now: Iterable[Holder]) -> LockNotAcquired:
    ended = _listed(one for one in before if one.pid is not None)
    happened = f"though those in the way were ended ({ended}): others came" if ended else "and no backend to end for it"
    return LockNotAcquired(
        f"no exclusive lock on {_listed(names)}, {happened}; in the way now: {_listed(now) or 'nobody any more'}: try "
        "again when they are done"
    )


# pg_settings, which would give it as a number, reads all settings for it.
_DEADLOCK_TIMEOUT = sa.text("SELECT extract(epoch FROM current_setting('deadlock_timeout')::interval)::float8")

# The relations, the views over them, and the tables at the other end of a foreign key.
_RELATED = sa.text("""
    WITH RECURSIVE named AS (
        SELECT to_regclass(name)::oid AS oid FROM unnest(CAST(:names AS text[])) name
    ), above(oid) AS (
        SELECT oid FROM named
        UNION
        SELECT r.ev_class FROM above JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = above.oid
        JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    )
    SELECT oid::bigint FROM above
    UNION
    SELECT unnest(ARRAY[k.conrelid, k.confrelid])::bigint
    FROM pg_constraint k JOIN named ON named.oid IN (k.conrelid, k.confrelid) WHERE k.contype = 'f'
""")

# The relations alone.
_NAMED = sa.text("SELECT to_regclass(name)::oid::bigint FROM unnest(CAST(:names AS text[])) name")

# In the queries below a lock's database is compared, since a copy of this one (CREATE DATABASE ... TEMPLATE) has
# relations of the same OIDs.

# The transactions of others that hold a lock on one of them: a backend's next one has another number. No backend has
# the prepared ones.
_HOLDING = sa.text("""
    SELECT DISTINCT l.virtualtransaction FROM pg_locks l
    WHERE l.relation = ANY (CAST(:oids AS oid[])) AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND l.mode <> ALL (CAST(:harmless AS text[]))
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")

# Whether somebody who holds a lock on one of them has waited for us for more than half of deadlock_timeout. An attempt
# is over in the other half: nobody who is not found here is ended because of it.
_WAITS_FOR_US = sa.text("""
    SELECT EXISTS (
        SELECT FROM pg_locks l JOIN pg_locks w ON w.pid = l.pid AND NOT w.granted
        WHERE l.relation = ANY (CAST(:oids AS oid[])) AND l.granted AND l.pid <> pg_backend_pid()
          AND l.mode <> ALL (CAST(:harmless AS text[]))
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND w.waitstart < clock_timestamp() - current_setting('deadlock_timeout')::interval / 2
          AND pg_backend_pid() = ANY (pg_blocking_pids(w.pid)))
""")

_LONG_TIMEOUT = sa.text("""
    SELECT set_config('lock_timeout', least(2 * setting::bigint, CAST(:most AS bigint))::text, true)
    FROM pg_settings WHERE name = 'deadlock_timeout'
""")

# Tables, and partitions of them, on which a background process holds the lock of VACUUM: as nobody's, which is all that
# an ordinary role sees of it.
_VACUUMED = sa.text("""
    SELECT DISTINCT format('%I.%I', n.nspname, c.relname)
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid AND a.usesysid IS NULL
    JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
    JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p') JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.pid <> pg_backend_pid()
      AND (c.oid = ANY (CAST(:oids AS oid[])) OR EXISTS (
           SELECT FROM pg_partition_ancestors(c.oid) WHERE relid = ANY (CAST(:oids AS oid[]))))
""")
