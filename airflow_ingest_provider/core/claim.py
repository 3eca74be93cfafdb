"""A run's hold on its tables: no other run is inside a transaction with them, and none has loaded them in between."""

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import catalog, watermark
from airflow_ingest_provider.core.checks import check_role
from airflow_ingest_provider.core.errors import ConcurrentIngestError
from airflow_ingest_provider.core.load import check_not_cancelled, forget_cancel
from airflow_ingest_provider.core.loaded import LoadedTable
from airflow_ingest_provider.core.locks import one_run_at_a_time, released
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.session import (
    UNDEFINED_TABLE,
    explained,
    run_all,
    set_maintenance_work_mem,
    sqlstate,
    transaction,
)
from airflow_ingest_provider.core.watermark import State

logger = logging.getLogger(__name__)


class Claim:
    """The tables of a run, with what it leaves in their states at each commit, and how long it kept others."""

    def __init__(self, conn: sa.Connection, tables: Sequence[LoadedTable], options: Options) -> None:
        self.tables = tables
        self.batches = 0
        """How many were committed."""
        self.unfinished = False
        """Whether rows are being replaced, and not all are there."""
        self.lock_attempts = 0
        self.readers_kept = 0.0
        self._lockable: set[Name] = set()
        self._held: set[Name] | None = None
        """Those that `hold` has locked in the open transaction; None before it was called."""
        self._conn = conn
        self._options = options
        self._run_id = str(uuid.uuid4())

    @property
    def first(self) -> LoadedTable:
        """The table with which the high watermark is kept."""
        return self.tables[0]

    @contextmanager
    def alone(self, *, cleaning_up: bool = False) -> Iterator[None]:
        """A transaction that no other run into these tables can be in at the same time.

        Raises IngestError where the run was cancelled: before it begins, or before it commits. Where a run that fails
        is `cleaning_up` it does not, and waits less for others.
        """
        options = self._options.for_clean_up if cleaning_up else self._options
        if cleaning_up:
            forget_cancel(self._conn)
        else:
            check_not_cancelled(self._conn)
        self._held = None
        try:
            with transaction(self._conn):
                with explained():
                    one_run_at_a_time(self._conn, [loaded.name for loaded in self.tables], options.lock_patience)
                set_maintenance_work_mem(self._conn, options.maintenance_work_mem)
                yield
                if not cleaning_up:
                    check_not_cancelled(self._conn)
        finally:
            kept = released(self._conn)
            self.lock_attempts += kept.attempts
            self.readers_kept += kept.seconds
            if kept.attempts:
                logger.info("exclusive locks: %s attempts, readers kept for %.3f s", kept.attempts, kept.seconds)

    def stored(self) -> Iterator[tuple[LoadedTable, State]]:
        """The tables, each with its state as it is now."""
        states = watermark.read(self._conn, [loaded.name for loaded in self.tables])
        for loaded in self.tables:
            if loaded.name not in states:
                raise _dropped(loaded.name)
            yield loaded, states[loaded.name]

    def taken(self) -> list[LoadedTable]:
        """The tables whose state is not the one that this run left or found; that of the others is read anew."""
        taken = []
        for loaded, now in self.stored():
            if now.stored == loaded.state.stored:
                loaded.state = now
            else:
                taken.append(loaded)
        return taken

    def check_untouched(self) -> None:
        """Raise ConcurrentIngestError where another run has taken a table."""
        if taken := self.taken():
            raise ConcurrentIngestError(
                f"another run has loaded {taken[0].name} since this one last did: expected to be alone; nothing of "
                "this batch was kept: let the other run finish, then run again"
            )

    def hold(self, tables: Sequence[LoadedTable]) -> None:
        """Take SHARE UPDATE EXCLUSIVE on tables, as their comments will, and read these once more.

        Before anything is written to them: whoever builds an index CONCURRENTLY has that lock, and waits for all who
        write. Nobody else changes the comments from here on. Tables that the role may not lock are left out. Where
        nothing is left to be locked, the comments are read if they were not yet in this transaction.
        """
        lock = sql.SQL("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE")
        free = self._lockable - (self._held or set())
        names = [loaded.name for loaded in tables if loaded.name in free]
        if not names and self._held is not None:
            return
        with explained():
            try:
                run_all(self._conn, [lock.format(name.sql) for name in names])
            except sa.exc.DBAPIError as error:
                if sqlstate(error) != UNDEFINED_TABLE:
                    raise
                raise _dropped(*names) from error
            self._held = {*(self._held or ()), *names}
            self.check_untouched()

    def save(self, tables: Sequence[LoadedTable], mark: watermark.Mark | None = None) -> None:
        """Store that this run has the tables; the high watermark, where one is given, with the first of all."""
        for loaded in tables:
            own = mark if loaded is self.first else None
            loaded.state = loaded.state.after(self._run_id, self.batches, self.unfinished, own)
        watermark.save(self._conn, {loaded.name: loaded.state for loaded in tables})

    def check_role(self, tables: Sequence[LoadedTable]) -> None:
        """Raise DefinitionError where the role may not keep the state, or would not see all rows.

        Which of the tables it may lock is known from here on, for `hold`.
        """
        names = [loaded.name for loaded in tables]
        oids = catalog.oids_of(self._conn, names)
        access = catalog.access(self._conn, oids)
        for name, oid in zip(names, oids, strict=True):
            if oid not in access:
                raise _dropped(name)
            check_role(name, access[oid])
            if access[oid].may_lock:
                self._lockable.add(name)

    def token(self, loaded: LoadedTable, use: str) -> str:
        """Unique to a run, a table and a use, in 20 characters."""
        return uuid.uuid5(uuid.UUID(self._run_id), f"{loaded.name} {use}").hex[:20]


def _dropped(*names: Name) -> ConcurrentIngestError:
    one_of = "one of " * (len(names) > 1)
    return ConcurrentIngestError(
        f"{one_of}{', '.join(map(str, names))} was dropped during this run: run again to create it anew"
    )
