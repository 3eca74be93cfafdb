"""`ingest`: batches of rows into PostgreSQL tables, each batch wholly visible or not at all."""

import dataclasses
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import callback, catalog, hidden, migrate, watermark
from airflow_ingest_provider.core.batches import Arrived, Chunk, Run, closed_after, recogniser, runs, started, triple
from airflow_ingest_provider.core.callback import OnBeforeVisible, do_nothing
from airflow_ingest_provider.core.declared import create_types, tables_of
from airflow_ingest_provider.core.differences import EnumExtended
from airflow_ingest_provider.core.errors import ConcurrentIngestError, DefinitionError, IngestError
from airflow_ingest_provider.core.load import check_connection, copy_rows, raise_row_error
from airflow_ingest_provider.core.locks import hold_writers, one_run_at_a_time, released
from airflow_ingest_provider.core.merge import Merged
from airflow_ingest_provider.core.migrate import Planned
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Delete, HighWatermark, Migrate, Options, Replace, Upsert, Visibility
from airflow_ingest_provider.core.plan import Action
from airflow_ingest_provider.core.refresh import (
    changed_after_all,
    check_rules,
    choose_refresh,
    hardly_changes,
    is_first_load,
)
from airflow_ingest_provider.core.result import IngestResult
from airflow_ingest_provider.core.session import set_maintenance_work_mem, sqlstate, transaction
from airflow_ingest_provider.core.steps import Steps, clear_leftovers
from airflow_ingest_provider.core.swap import swap
from airflow_ingest_provider.core.target import BatchTable, LoadedTable, Refresh, Way, find_tables, way
from airflow_ingest_provider.core.walls import INSERT, UPDATE
from airflow_ingest_provider.core.watermark import State

logger = logging.getLogger(__name__)

Batches = Callable[[Any], Iterable[Any]]

_PROGRESS_SECONDS = 5.0

_INSUFFICIENT_PRIVILEGE = "42501"


def ingest(
    conn: sa.Connection,
    metadata: sa.MetaData,
    batches: Batches,
    on_before_visible: OnBeforeVisible = do_nothing,
    high_watermark: Any = HighWatermark.LATEST,
    visibility: str = Visibility.AFTER_EACH_BATCH,
    upsert: str = Upsert.IF_PRIMARY_KEY,
    delete: str = Delete.OFF,
    *,
    migrate: str = Migrate.AUTO,
    conversions: Mapping[str, str] = MappingProxyType({}),
    replace: str = Replace.AUTO,
    end_blockers: bool = False,
    lock_timeout: timedelta = timedelta(milliseconds=50),
    lock_patience: timedelta = timedelta(minutes=5),
    maintenance_work_mem: str | None = None,
) -> IngestResult:
    """Load batches of rows into the table of `metadata`, creating and migrating it first.

    Each batch is one transaction: its rows, its high watermark and, for the first batch of a run that deletes, the
    deletion become visible together, or not at all. Schema changes are committed before the first batch.

    Arguments:
        conn: a SQLAlchemy connection through psycopg or psycopg2, not in a transaction and not AUTOCOMMIT. It is
            outside a transaction again when this returns or raises.
        metadata: holds the table to load; several tables are loaded in the same transactions, and the high watermark
            is kept with the first.
        batches: called with a high watermark, gives an iterable of `(high_watermark, batch_metadata, rows)`. The
            watermark is a JSON-encodable value, or a function of no arguments called when the rows were read. `rows`
            is an iterable of `(table, row)`, and `row` a tuple of the columns' values in the order of the table's
            definition, computed columns left out; or, in place of one row, an object with the Arrow PyCapsule
            interface, whose columns are matched by name. Rows of other tables are skipped. The rows of a batch are
            read to their end before the next batch is asked for.
        on_before_visible: called with `(conn, batch_metadata)` in the batch's transaction before it commits; with
            `(conn, ingest_table, batch_metadata)`, once a table, where it takes three parameters. Nothing of the batch
            becomes visible when it raises.
        high_watermark: `HighWatermark.LATEST`, `HighWatermark.EARLIEST`, or the JSON-encodable value to start after.
        visibility: `Visibility.AFTER_EACH_BATCH`.
        upsert: `Upsert.IF_PRIMARY_KEY` or `Upsert.OFF`.
        delete: `Delete.OFF` or `Delete.BEFORE_FIRST_BATCH`.
        migrate: `Migrate.AUTO` brings the live table to its definition in the cheapest way, `Migrate.SAFE` refuses to
            drop a column with values in it, `Migrate.OFF` refuses every difference, with the plan in the error.
        conversions: SQL expressions over the live table's columns, by the column that they fill where its type changes
            or where it is new: `{"day": "to_date(day, 'DD.MM.YYYY')"}`, or `{"name": "old_name"}`. With several tables
            the column may be written as "table.column" or "schema.table.column".
        replace: how `Delete.BEFORE_FIRST_BATCH` replaces rows: `Replace.SWAP` and `Replace.IN_PLACE` insist on a way,
            `Replace.AUTO` takes the one that loses and disturbs least.
        end_blockers: whether to end backends that stand in the way of an exclusive lock for longer than
            `lock_patience`; the role has to be allowed to.
        lock_timeout: how long a statement that needs ACCESS EXCLUSIVE waits, and lets readers wait behind it, before
            it gives way and is tried again.
        lock_patience: how long all tries together may take, and how long another run into the table is waited for.
        maintenance_work_mem: the memory that a key, index or foreign key of a new table is built with, such as "1GB";
            set with SET LOCAL. None leaves the server's setting.

    Locks: readers are kept out only for the catalog changes of a migration or swap. A transaction-level advisory lock
    keeps other runs out. docs/locks.md has the list.

    Raises:
        ValueError: an option is none of its constants.
        IngestError: its subclasses say who can mend it: DefinitionError, BatchError, RowError, LockNotAcquired,
            ConcurrentIngestError. Batches committed before stay, with their high watermark.
        Whatever `batches` or `on_before_visible` raise, as it is.
    """
    options = Options(
        high_watermark,
        visibility,
        upsert,
        delete,
        migrate=migrate,
        conversions=conversions,
        replace=replace,
        end_blockers=end_blockers,
        lock_timeout=lock_timeout,
        lock_patience=lock_patience,
        maintenance_work_mem=maintenance_work_mem,
    )
    check_connection(conn)
    run = _Run(conn, metadata, on_before_visible, options)
    run.create_missing()
    start = run.starting_high_watermark()
    with closed_after(batches(start)) as all_batches:
        for batch in all_batches:
            mark, batch_metadata, rows = triple(batch)
            arrived = started(rows)
            run.migrate_once()
            run.load(mark, batch_metadata, arrived)
    run.finish()
    return run.result()


class _Run:
    """What a run knows between its transactions."""

    def __init__(
        self, conn: sa.Connection, metadata: sa.MetaData, on_before_visible: OnBeforeVisible, options: Options
    ) -> None:
        self._conn = conn
        self._metadata = metadata
        self._declared = tables_of(metadata)
        self._tables: list[LoadedTable] = []
        self._on_before_visible = on_before_visible
        self._options = options
        self._id = str(uuid.uuid4())
        self._began = time.monotonic()
        self._batches = 0
        self._migrated = False
        self._deletes = options.replaces
        self._unfinished = False
        self._lock_attempts = 0
        self._readers_kept = 0.0
        self._first_mark: Any = None
        self._last_mark: Any = None

    @property
    def _first(self) -> LoadedTable:
        return self._tables[0]

    @property
    def _names(self) -> list[Name]:
        return [loaded.name for loaded in self._tables]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A transaction that no other run into these tables can be in at the same time."""
        try:
            with transaction(self._conn):
                one_run_at_a_time(self._conn, self._names, self._options.lock_patience)
                set_maintenance_work_mem(self._conn, self._options.maintenance_work_mem)
                yield
        finally:
            kept = released(self._conn)
            self._lock_attempts += kept.attempts
            self._readers_kept += kept.seconds
            if kept.attempts:
                logger.info("exclusive locks: %s attempts, readers kept for %.3f s", kept.attempts, kept.seconds)

    def create_missing(self) -> None:
        """Create what is missing, whole, and commit."""
        conn = self._conn
        with transaction(conn), _explained():
            found = find_tables(conn, self._declared)
        self._tables = [
            LoadedTable(table, name, State()) for table, (name, _) in zip(self._declared, found, strict=True)
        ]
        if all(oid is not None for _, oid in found):
            return
        with self._alone(), _explained():
            names = {one.table: one.name for one in self._tables}
            self._check_may_create(names[table] for table, (_, oid) in zip(names, found, strict=True) if oid is None)
            created = migrate.create_missing(conn, self._metadata, names, self._options.lock_patience)
        logger.info("created %s", ", ".join(map(str, created)) or "nothing: another run was faster")

    def _check_may_create(self, missing: Iterable[Name]) -> None:
        if self._options.migrate == Migrate.OFF:
            raise DefinitionError(
                f"there is no table {', '.join(map(str, missing))}, and migrate is {Migrate.OFF!r}: create it first, "
                f"or pass migrate={Migrate.AUTO!r}"
            )

    def starting_high_watermark(self) -> Any:
        """Read the stored state, once no other run is inside a batch, and say what `batches` is called with."""
        with self._alone(), _explained():
            for loaded, now in self._stored():
                loaded.state = now
        stored, wanted = self._first.state, self._options.high_watermark
        self._last_mark = stored.high_watermark
        self._unfinished = stored.unfinished
        if wanted == HighWatermark.LATEST:
            self._first_mark = stored.high_watermark
        elif wanted != HighWatermark.EARLIEST:
            self._first_mark = wanted
        carries_on = wanted == HighWatermark.LATEST and stored.unfinished and stored.high_watermark is not None
        if self._deletes and carries_on:
            self._deletes = False
            logger.info(
                "a run that replaces the rows of %s stopped before its end: carrying on from its high watermark, "
                "and not deleting again",
                self._first.name,
            )
        logger.info("high watermark of %s: starting after %r", self._first.name, self._first_mark)
        return self._first_mark

    def migrate_once(self) -> None:
        """Before the first batch: bring the tables to their definition, claim them for this run, and commit."""
        if self._migrated:
            return
        tables = self._parents_first()[::-1]
        for loaded in self._settle(tables) if len(tables) > 1 else tables:
            self._extend_enums(loaded)
            self._migrate_alone(loaded)
        self._migrated = True

    def _settle(self, tables: list[LoadedTable]) -> list[LoadedTable]:
        """Have done with those of the tables that are as they are declared, all at once; the others are given back."""
        with self._alone(), _explained():
            self._check_untouched()
            self._check_role(tables)
            planned = self._plan(tables)
            left = [loaded for loaded in tables if planned[loaded].plan.differences]
            if left and self._deletes:
                return tables  # how a parent's rows are replaced depends on what became of its children
            settled = [loaded for loaded in tables if loaded not in left]
            for loaded in settled:
                self._migrate(loaded, planned[loaded])
                self._get_ready(loaded, planned[loaded])
            self._save(settled)
        return left

    def _migrate_alone(self, loaded: LoadedTable) -> None:
        """One table, in transactions of its own: if it is swapped, it is held under ACCESS EXCLUSIVE to the commit."""
        with self._alone(), _explained():
            self._check_untouched()
            self._check_role([loaded])
            planned = self._plan([loaded])[loaded]
            steps = self._migrate(loaded, planned)
            self._save([loaded])
            if not planned.plan.differences:
                self._get_ready(loaded, planned)
                return
        if steps is not None:
            self._run(steps, loaded)
        with self._alone(), _explained():
            self._check_untouched()
            self._get_ready(loaded, self._plan([loaded])[loaded])

    def _parents_first(self) -> list[LoadedTable]:
        """The tables, those that others refer to by foreign keys first."""
        order = {table.key: place for place, table in enumerate(self._metadata.sorted_tables)}
        return sorted(self._tables, key=lambda loaded: order[loaded.table.key])

    def _plan(self, tables: Sequence[LoadedTable]) -> dict[LoadedTable, Planned]:
        """Compare live tables with their definitions, and take their shapes for what they are."""
        described = [(loaded.table, loaded.name, loaded.state) for loaded in tables]
        planned = dict(
            zip(tables, migrate.planned(self._conn, described, conversions=self._options.conversions), strict=True)
        )
        for loaded, found in planned.items():
            loaded.shape = found.live
        return planned

    def _extend_enums(self, loaded: LoadedTable) -> None:
        """Committed before the table is migrated: PostgreSQL does not let a new label be used at once."""
        if not migrate.lacks_labels(self._conn, loaded.table):
            return
        with self._alone(), _explained():
            self._check_untouched()
            self._check_role([loaded])
            planned = self._plan([loaded])[loaded]
            migrate.check(self._conn, planned, self._options, rows_stay=not self._deletes)
            migrate.add_enum_labels(self._conn, loaded.table)
            self._note_migration(
                loaded, [str(one) for one in planned.plan.differences if isinstance(one, EnumExtended)]
            )
            self._save([loaded])

    def _migrate(self, loaded: LoadedTable, planned: Planned) -> Steps | None:
        """What is done in the open transaction; the steps that are left where each takes one of its own."""
        conn, options = self._conn, self._options
        if self._deletes:
            loaded.refresh = choose_refresh(conn, loaded, self._swapped(), self._on_before_visible, options)
        by_swap = loaded.refresh is Refresh.SWAP
        rebuilds = planned.plan.action is Action.REBUILD and not by_swap
        if rebuilds:
            # From before the rows are checked to the commit: a row written in between would be copied unchecked.
            hold_writers(conn, loaded.name, options)
        migrate.check(conn, planned, options, rows_stay=not by_swap)
        if planned.plan.differences:
            logger.info("plan for %s", planned.plan)
            create_types(conn, loaded.table)
        if planned.plan.dropped:
            logger.warning("%s: columns go with their values: %s", loaded.name, ", ".join(planned.plan.dropped))
        self._note_migration(loaded, planned.plan.lines)
        if rebuilds:
            loaded.state = migrate.with_text(loaded.state, planned.plan.differences)
            migrate.rebuild(conn, planned, self._token(loaded, "rebuild"), options)
        elif planned.plan.action is Action.STEPS and not by_swap:
            state = migrate.with_text(loaded.state, planned.plan.differences)
            return Steps(planned.live, planned.plan, self._token(loaded, "steps"), state, options)
        else:
            loaded.state = migrate.apply_in_place(conn, planned, loaded.state, options)
        return None

    def _swapped(self) -> dict[Name, int]:
        """The tables that a new one is known to take the place of with the first batch, and their OIDs."""
        by_swap = (Refresh.SWAP, Refresh.FIRST_LOAD)
        return {one.name: one.live.oid for one in self._tables if one.refresh in by_swap}

    def _run(self, steps: Steps, loaded: LoadedTable) -> None:
        try:
            for step in steps:
                with self._alone(), _explained(), migrate.explained(loaded.name, steps.known_as):
                    self._check_untouched()
                    step(self._conn)
                    loaded.state = dataclasses.replace(loaded.state, text=steps.state.text)
                    self._save([loaded])
        except BaseException:
            with suppress(Exception), self._alone():
                clear_leftovers(self._conn, loaded.live.oid, self._options)
            raise

    def _get_ready(self, loaded: LoadedTable, planned: Planned) -> None:
        """See how the migrated table's first rows will come."""
        conn, options = self._conn, self._options
        if loaded.refresh is None and is_first_load(
            conn, loaded, self._swapped(), self._on_before_visible, upserts=options.upserts
        ):
            loaded.refresh = Refresh.FIRST_LOAD
        if loaded.refresh in (Refresh.SWAP, Refresh.FIRST_LOAD):
            loaded.planned = planned

    def load(self, mark: Any, batch_metadata: Any, arrived: Arrived) -> None:
        """One batch, one transaction: all of it or nothing."""
        conn = self._conn
        began = time.monotonic()
        with self._alone():
            self._check_untouched()
            tried = self._try_in_place(arrived)
            parts = self._parts(few=arrived.all_read)
            for part in parts:
                if part.way is Way.UPSERT and not arrived.is_empty:
                    check_rules(conn, part.loaded, INSERT, UPDATE)
            self._copy(parts, arrived.chunks)
            with _explained():
                self._swap_after_all([part for part in parts if part.loaded in tried])
            resolved = watermark.resolved(mark)
            merged = self._merge(parts)
            self._call_back(parts, batch_metadata)
            with _explained():
                self._swap(parts)
                self._batches += 1
                self._unfinished = self._unfinished or self._deletes
                self._save(self._tables, resolved)
        self._last_mark = resolved.value
        self._committed(parts, merged, time.monotonic() - began)

    def _try_in_place(self, arrived: Arrived) -> list[LoadedTable]:
        """Tables to be swapped of which the first rows hardly changed: those are replaced in place, if it stays so."""
        if self._options.replace != Replace.AUTO:
            return []
        tried = []
        for loaded in [one for one in self._tables if one.refresh is Refresh.SWAP]:
            rows = arrived.first_of(loaded.is_of)
            with _explained():
                if hardly_changes(self._conn, loaded, rows, self._token(loaded, "first rows")):
                    loaded.refresh = Refresh.IN_PLACE
                    tried.append(loaded)
        return tried

    def _swap_after_all(self, parts: list[BatchTable]) -> None:
        for part in parts:
            if changed_after_all(self._conn, part):
                part.loaded.refresh = Refresh.SWAP
                part.turn_to_hidden(self._conn, self._token(part.loaded, "after all"))
            else:
                logger.info("%s: few rows are new or changed, so they are replaced in place", part.loaded.name)

    def _parts(self, *, few: bool) -> list[BatchTable]:
        upserts = self._options.upserts
        with _explained():
            self._settle_first_loads(few=few)
            return [
                BatchTable(
                    self._conn,
                    loaded,
                    self._token(loaded, str(self._batches)),
                    way(loaded, self._tables, upserts=upserts),
                    upserts=upserts,
                )
                for loaded in self._parents_first()
            ]

    def _settle_first_loads(self, *, few: bool) -> None:
        """An empty table is replaced by a full one, unless the rows are few, or somebody else wrote some meanwhile."""
        for loaded in self._tables:
            if loaded.refresh is Refresh.FIRST_LOAD and (few or not self._held_empty(loaded)):
                loaded.refresh = None

    def _held_empty(self, loaded: LoadedTable) -> bool:
        hold_writers(self._conn, loaded.name, self._options)
        return not catalog.has_rows(self._conn, loaded.name)

    def _copy(self, parts: list[BatchTable], chunks: Iterator[Chunk]) -> None:
        targets = {part.buffer.table: part for part in parts}
        buffers = {name: part.buffer for name, part in targets.items()}
        recognise = recogniser({part.loaded.table: part.buffer for part in parts})
        for run in runs(chunks, buffers, recognise):
            part = targets[run.table]
            copy_rows(self._conn, part.copy_target, self._progress(run, part), run.first_row, binary=run.binary)

    def _progress(self, run: Run, part: BatchTable) -> Iterator[bytes]:
        began = said = time.monotonic()
        before = part.buffer.received
        for chunk in run.chunks:
            yield chunk
            if time.monotonic() - said >= _PROGRESS_SECONDS:
                said = time.monotonic()
                rate = (part.buffer.received - before) / (said - began)
                logger.info("%s: %s rows so far in this batch, %.0f a second", run.table, part.buffer.received, rate)

    def _merge(self, parts: list[BatchTable]) -> dict[str, Merged]:
        """Delete from children before parents, and merge into parents before children."""
        with _explained():
            deleted = {}
            for part in reversed(parts):
                with _rows_explained(part):
                    deleted[part.buffer.table] = part.delete_vanished(self._conn)
            merged = {part.buffer.table: self._merge_one(part, parts) for part in parts}
        return {
            name: Merged(one.inserted, one.updated, one.unchanged, one.superseded, deleted[name])
            for name, one in merged.items()
        }

    def _merge_one(self, part: BatchTable, parts: list[BatchTable]) -> Merged:
        with _rows_explained(part):
            merged = part.merge(self._conn)
            if part.hidden:
                renamed = {one.loaded.name: one.hidden.name for one in parts if one.hidden}
                superseded = hidden.finish(self._conn, part.hidden, renamed, last_row_wins=self._options.upserts)
                merged = Merged(inserted=merged.inserted - superseded, superseded=superseded)
            part.advance_sequences(self._conn)
        return merged

    def _call_back(self, parts: list[BatchTable], batch_metadata: Any) -> None:
        if self._on_before_visible is do_nothing:
            return
        if not callback.takes_table(self._on_before_visible):
            callback.call(self._conn, self._on_before_visible, batch_metadata)
            return
        for part in parts:
            callback.call(self._conn, self._on_before_visible, part.ingest_table, batch_metadata)

    def _swap(self, parts: list[BatchTable]) -> None:
        """Children before parents."""
        hiddens = {part.loaded: part.hidden for part in reversed(parts) if part.hidden}
        if hiddens:
            shapes = swap(self._conn, list(hiddens.values()), self._options)
            for loaded, shape in zip(hiddens, shapes, strict=True):
                loaded.shape = shape

    def _committed(self, parts: list[BatchTable], merged: dict[str, Merged], seconds: float) -> None:
        for part in parts:
            loaded = part.loaded
            unread = loaded.refresh is Refresh.SWAP
            loaded.count(part.buffer.received, merged[part.buffer.table], old_rows_unread=unread)
            loaded.refresh = None
        received = sum(part.buffer.received for part in parts)
        logger.info(
            "committed batch %s: %s rows in %.2f s, %.0f a second; high watermark %r",
            self._batches,
            received,
            seconds,
            received / seconds,
            self._last_mark,
        )

    def finish(self) -> None:
        """Take back the mark of an unfinished replacement, where all of it is there now."""
        replaced = self._deletes and self._batches > 0
        carried_on = not self._deletes and self._options.high_watermark == HighWatermark.LATEST
        if not (self._unfinished and (replaced or carried_on)):
            return
        self._unfinished = False
        with self._alone(), _explained():
            self._check_untouched()
            self._save(self._tables)

    def result(self) -> IngestResult:
        return IngestResult(
            tables=tuple(loaded.result for loaded in self._tables),
            batches=self._batches,
            first_high_watermark=self._first_mark,
            last_high_watermark=self._last_mark,
            seconds=time.monotonic() - self._began,
            lock_attempts=self._lock_attempts,
            readers_kept=self._readers_kept,
        )

    def _stored(self) -> Iterator[tuple[LoadedTable, State]]:
        """The tables, each with its state as it is now."""
        states = watermark.read(self._conn, self._names)
        for loaded in self._tables:
            if loaded.name not in states:
                raise ConcurrentIngestError(f"{loaded.name} was dropped during this run: run again to create it anew")
            yield loaded, states[loaded.name]

    def _check_untouched(self) -> None:
        """Raise ConcurrentIngestError where a table's state is not the one that this run left or found."""
        for loaded, now in self._stored():
            if now.stored != loaded.state.stored:
                raise ConcurrentIngestError(
                    f"another run has loaded {loaded.name} since this one last did: expected to be alone; nothing of "
                    "this batch was kept: let the other run finish, then run again"
                )
            loaded.state = now

    def _save(self, tables: Sequence[LoadedTable], mark: watermark.Mark | None = None) -> None:
        """Store that this run has the tables; the high watermark, where one is given, with the first of all."""
        for loaded in tables:
            own = mark if loaded is self._first else None
            loaded.state = loaded.state.after(self._id, self._batches, self._unfinished, own)
        watermark.save(self._conn, {loaded.name: loaded.state for loaded in tables})

    def _check_role(self, tables: Sequence[LoadedTable]) -> None:
        found = catalog.find_all(self._conn, [(loaded.name.schema, loaded.name.name) for loaded in tables])
        access = catalog.access(self._conn, [oid or 0 for _, oid in found])
        for name, oid in found:
            this = access[oid or 0]
            if not this.may_own:
                raise DefinitionError(
                    f"role {this.role!r} does not own {name}, and the high watermark is kept in the table's comment: "
                    f"expected the owner {this.owner!r} or a member of it; GRANT {this.owner} TO {this.role}, or "
                    "connect as the owner"
                )
            if this.hides_rows:
                raise DefinitionError(
                    f"{name} has row security forced on its owner, which may hide rows from role {this.role!r}: "
                    "expected to see all of them; ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, or use a role with "
                    "BYPASSRLS"
                )

    def _note_migration(self, loaded: LoadedTable, lines: Iterable[str]) -> None:
        result = loaded.result
        loaded.result = type(result)(result.table, migration=(*result.migration, *lines))

    def _token(self, loaded: LoadedTable, use: str) -> str:
        """Unique to a run, a table and a use, in 20 characters."""
        return uuid.uuid5(uuid.UUID(self._id), f"{loaded.name} {use}").hex[:20]


@contextmanager
def _explained() -> Iterator[None]:
    """A missing privilege, as an error that says what to do about it."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise
        message = str(error.orig).splitlines()[0].strip()
        raise IngestError(
            f"the role lacks a privilege: {message}: expected to be allowed to; GRANT it, or use another role"
        ) from error


@contextmanager
def _rows_explained(part: BatchTable) -> Iterator[None]:
    """What PostgreSQL refuses of the rows, as a RowError."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if isinstance(error.orig, Exception):
            known_as = part.hidden.known_as if part.hidden else str
            raise_row_error(error.orig, part.buffer.table, known_as=known_as)
        raise
