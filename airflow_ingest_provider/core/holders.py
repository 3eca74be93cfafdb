"""Who holds locks that stand in a run's way, and ending them."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core.errors import LockNotAcquired

logger = logging.getLogger(__name__)

Around = Mapping[str, Any]
"""The `oids` of relations on which others may hold locks, and which of those are `harmless`."""


@dataclass(frozen=True)
class Holder:
    """A backend that holds a lock, and for how many seconds its query or transaction has been going.

    A role that may not see what others do is not told the time. Of a prepared transaction there is the name, and no
    backend.
    """

    pid: int | None
    prepared: str | None
    user: str
    seconds: int | None

    def __str__(self) -> str:
        since = "" if self.seconds is None else f" (for {timedelta(seconds=self.seconds)})"
        name = f"pid {self.pid}" if self.prepared is None else f"prepared transaction {self.prepared!r}"
        return f"{name} of {self.user}{since}"


def holders_of(conn: sa.Connection, around: Around) -> list[Holder]:
    """Who else holds a lock on one of the relations that is not harmless."""
    found = conn.execute(_HOLDERS, around)
    return [Holder(row.pid, row.gid, row.usename, row.seconds) for row in found]


def end(conn: sa.Connection, holders: Iterable[Holder]) -> None:
    """End the backends; LockNotAcquired where the role may not. A prepared transaction is not theirs any more."""
    for holder in (one for one in holders if one.pid is not None):
        logger.warning("ending %s, which stands in the way of an exclusive lock", holder)
        try:
            with conn.begin_nested():
                conn.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": holder.pid})
        except sa.exc.DBAPIError as error:
            raise LockNotAcquired(
                f"{holder} stands in the way and the role may not end it: expected a member of pg_signal_backend, "
                f"or of {holder.user}; try again when it is done"
            ) from error


# The lock's database is compared, since a copy of this one (CREATE DATABASE ... TEMPLATE) has relations of the same
# OIDs. A prepared transaction is known by the lock on its own number, and keeps the virtual one of who prepared it. In
# seconds: drivers read no interval of another IntervalStyle.
_HOLDERS = sa.text("""
    SELECT a.pid, NULL AS gid, coalesce(a.usename::text, 'a background process') AS usename,
           extract(epoch FROM clock_timestamp() - min(coalesce(a.query_start, a.xact_start)))::int AS seconds
    FROM pg_locks l
    JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.relation = ANY (CAST(:oids AS oid[])) AND l.granted AND l.pid <> pg_backend_pid()
      AND l.mode <> ALL (CAST(:harmless AS text[]))
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY a.pid, a.usename
    UNION
    SELECT NULL, p.gid, p.owner::text, extract(epoch FROM clock_timestamp() - p.prepared)::int
    FROM pg_prepared_xacts p
    JOIN pg_locks own ON own.transactionid = p.transaction AND own.granted AND own.pid IS NULL
    JOIN pg_locks l ON l.virtualtransaction = own.virtualtransaction AND l.pid IS NULL
    WHERE l.relation = ANY (CAST(:oids AS oid[])) AND l.mode <> ALL (CAST(:harmless AS text[]))
      AND p.database = current_database()
    ORDER BY 1, 2
""")
