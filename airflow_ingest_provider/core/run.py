"""The steps of a run, each a transaction or several: creating, migrating, and loading batches."""

import copy
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import callback, catalog, checks, migrate, watermark
from airflow_ingest_provider.core.batches import Arrived
from airflow_ingest_provider.core.callback import OnBeforeVisible, do_nothing
from airflow_ingest_provider.core.claim import Claim
from airflow_ingest_provider.core.conversions import check_conversions
from airflow_ingest_provider.core.declared import Metadata, create_types, metadata_of, tables_of
from airflow_ingest_provider.core.differences import EnumExtended
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.loaded import (
    BatchTable,
    LoadedTable,
    Refresh,
    Route,
    locate,
    plan_tables,
    route,
    schemas_of,
)
from airflow_ingest_provider.core.locks import hold_writers
from airflow_ingest_provider.core.merge import Merged
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import HighWatermark, Migrate, Options, Replace
from airflow_ingest_provider.core.order import parents_first
from airflow_ingest_provider.core.parts import copy_parts, merge_parts
from airflow_ingest_provider.core.plan import Action, Planned
from airflow_ingest_provider.core.refresh import (
    apart,
    changed_after_all,
    check_rules,
    choose_refreshes,
    emptied,
    first_loads,
    hardly_changes,
)
from airflow_ingest_provider.core.result import IngestResult
from airflow_ingest_provider.core.session import explained, transaction
from airflow_ingest_provider.core.shape import ForeignKeyShape
from airflow_ingest_provider.core.steps import Steps, clear_leftovers
from airflow_ingest_provider.core.swap import swap
from airflow_ingest_provider.core.walls import INSERT, UPDATE
from airflow_ingest_provider.core.watermark import State

logger = logging.getLogger(__name__)


class IngestRun:
    """What a run knows between its transactions; where its tables are is looked up when it begins."""

    def __init__(
        self, conn: sa.Connection, metadata: Metadata, on_before_visible: OnBeforeVisible, options: Options
    ) -> None:
        self._began = time.monotonic()
        self._conn = conn
        self._metadata = metadata_of(metadata)
        self._on_before_visible = on_before_visible
        self._options = options
        declared = tables_of(self._metadata)
        with transaction(conn), explained():
            found = locate(conn, declared)
            named = [(table, name) for table, (name, _) in zip(declared, found, strict=True)]
            schemas = schemas_of(conn, named)
        check_conversions(options.conversions, named)
        self._missing = [name for name, oid in found if oid is None]
        self._tables = [
            LoadedTable(table, name, State(), schemas=known_by)
            for (table, name), known_by in zip(named, schemas, strict=True)
        ]
        self._claim = Claim(conn, self._tables, options)
        self._migrated = False
        self._waiting: dict[Name, Planned] = {}
        self._put_off: dict[LoadedTable, tuple[ForeignKeyShape, ...]] = {}
        self._deletes = options.replaces
        self._emptied: list[LoadedTable] = []
        self._carried_on = False
        self._first_mark: Any = None
        self._last_mark: Any = None

    def create_missing(self) -> None:
        """Create what is missing, whole, and commit."""
        if not self._missing:
            return
        if self._options.migrate == Migrate.OFF:
            raise DefinitionError(
                f"there is no table {', '.join(map(str, self._missing))}, and migrate is {Migrate.OFF!r}: create it "
                f"first, or pass migrate={Migrate.AUTO!r}"
            )
        with self._claim.alone(), explained():
            names = {one.table: one.name for one in self._tables}
            created = migrate.create_missing(self._conn, self._metadata, names, self._options)
        logger.info("created %s", ", ".join(map(str, created)) or "nothing: another run was faster")

    def starting_high_watermark(self) -> Any:
        """Read the stored state, once no other run is inside a batch, and say what `batches` is called with."""
        with self._claim.alone(), explained():
            for loaded, now in self._claim.stored():
                loaded.state = now
        stored, wanted = self._claim.first.state, self._options.high_watermark
        given: Any = None
        self._last_mark = stored.high_watermark
        self._claim.unfinished = stored.unfinished
        if wanted == HighWatermark.LATEST:
            given = stored.high_watermark
        elif wanted != HighWatermark.EARLIEST:
            given = wanted
        self._first_mark = watermark.resolved(given).value
        if self._deletes and stored.is_carried_on_from(wanted):
            self._deletes = False
            logger.info(
                "a run that replaces the rows of %s stopped before its end: carrying on from its high watermark, "
                "and not deleting again",
                self._claim.first.name,
            )
        self._warn_of_marks()
        logger.info("high watermark of %s: starting after %r", self._claim.first.name, self._first_mark)
        self._carried_on = not self._deletes and self._first_mark == stored.high_watermark
        return copy.deepcopy(given)  # the source may change it

    def _warn_of_marks(self) -> None:
        """Say where the high watermark may not be what the caller thinks of."""
        first = self._claim.first
        marked = next((loaded for loaded in self._tables if loaded.state.high_watermark is not None), None)
        if marked and first.state.high_watermark is None:
            logger.warning(
                "%s has no high watermark, and %s has: that of the first table of the metadata counts",
                first.name,
                marked.name,
            )
        new = [loaded.name for loaded in self._tables if not loaded.state.stored]
        carries_on = self._options.high_watermark == HighWatermark.LATEST and self._first_mark is not None
        if new and carries_on and not self._deletes:
            logger.warning(
                "%s: not loaded by a run before, and batches is asked for rows after the high watermark %r: pass "
                "high_watermark=%r once, so that it gives the earlier ones too",
                ", ".join(map(str, new)),
                self._first_mark,
                HighWatermark.EARLIEST,
            )
        if self._deletes and self._first_mark is not None:
            logger.warning(
                "%s: all rows go, and batches is asked for those after the high watermark %r: pass high_watermark=%r "
                "where it gives no others then",
                first.name,
                self._first_mark,
                HighWatermark.EARLIEST,
            )

    def migrate_once(self) -> None:
        """Before the first batch: bring the tables to their definition, claim them for this run, and commit."""
        if self._migrated:
            return
        tables = parents_first(self._tables)[::-1]
        for loaded in self._settle(tables) if len(tables) > 1 else tables:
            self._waiting.pop(loaded.name, None)
            self._extend_enums(loaded)
            self._migrate_alone(loaded)
        self._add_keys_put_off()
        self._migrated = True

    def _add_keys_put_off(self) -> None:
        """Foreign keys between the tables that could not be while one of them was still to be migrated."""
        for loaded, keys in self._put_off.items():
            targets = [one for one in self._tables if one.name in {key.target for key in keys}]
            self._migrate_alone(loaded)
            for one in targets:
                if one.refresh is Refresh.FIRST_LOAD:
                    one.refresh = None  # rows that refer to its rows come before a swap

    def _settle(self, tables: list[LoadedTable]) -> list[LoadedTable]:
        """Have done with those of the tables that are as they are declared, all at once; the others are given back."""
        with self._claim.alone(), explained():
            self._claim.check_untouched()
            self._claim.check_role(tables)
            planned = self._plan(tables)
            self._choose_refreshes(tables)
            left = [loaded for loaded in tables if planned[loaded].plan.differences]
            self._waiting = {loaded.name: planned[loaded] for loaded in left}
            settled = [loaded for loaded in tables if loaded not in left]
            for loaded in settled:
                self._migrate(loaded, planned[loaded])
            self._get_ready(settled, planned)
            self._claim.save(settled)
        return left

    def _migrate_alone(self, loaded: LoadedTable) -> None:
        """One table, in transactions of its own: if it is swapped, it is held under ACCESS EXCLUSIVE to the commit."""
        with self._claim.alone(), explained():
            self._claim.check_untouched()
            self._claim.check_role([loaded])
            planned = self._plan([loaded])
            steps = self._migrate(loaded, planned[loaded])
            self._claim.save([loaded])
            if not planned[loaded].plan.differences:
                self._get_ready([loaded], planned)
                return
        if steps is not None:
            self._run(steps, loaded)
        with self._claim.alone(), explained():
            self._claim.check_untouched()
            was_rebuilt = loaded.live.oid != planned[loaded].live.oid
            if not (was_rebuilt and catalog.has_rows(self._conn, loaded.name)):
                self._get_ready([loaded], self._plan([loaded]))

    def _plan(self, tables: Sequence[LoadedTable]) -> dict[LoadedTable, Planned]:
        return plan_tables(self._conn, tables, self._options.conversions)

    def _extend_enums(self, loaded: LoadedTable) -> None:
        """Committed before the table is migrated: PostgreSQL does not let a new label be used at once."""
        if not migrate.lacks_labels(self._conn, loaded.table):
            return
        with self._claim.alone(), explained():
            self._claim.check_untouched()
            self._claim.check_role([loaded])
            planned = self._plan([loaded])[loaded]
            checks.check(self._conn, planned, self._options, rows_stay=not self._deletes)
            migrate.add_enum_labels(self._conn, loaded.table, planned.plan.differences)
            loaded.note_migration(str(one) for one in planned.plan.differences if isinstance(one, EnumExtended))
            self._claim.save([loaded])

    def _migrate(self, loaded: LoadedTable, planned: Planned) -> Steps | None:
        """What is done in the open transaction; the steps that are left where each takes one of its own."""
        conn, options = self._conn, self._options
        if loaded.refresh is None:
            self._choose_refreshes([loaded])
        by_swap = loaded.refresh is Refresh.SWAP
        keys = () if by_swap else migrate.keys_to_put_off(conn, planned, self._waiting)
        if keys:
            self._put_off[loaded] = keys
            planned = migrate.without_keys(planned, keys)
        rebuilds = planned.plan.action is Action.REBUILD and not by_swap
        if rebuilds:
            # From before the rows are checked to the commit: a row written in between would be copied unchecked.
            hold_writers(conn, [loaded.name], options)
        if planned.plan.differences:
            create_types(conn, loaded.table)
        checks.check(conn, planned, options, rows_stay=not by_swap)
        if planned.plan.differences:
            logger.info("plan for %s", dataclasses.replace(planned.plan, by_swap=by_swap))
        if planned.plan.dropped:
            logger.warning("%s: columns go with their values: %s", loaded.name, ", ".join(planned.plan.dropped))
        loaded.note_migration(planned.plan.lines)
        if rebuilds:
            loaded.state = migrate.with_text(loaded.state, planned.plan.differences)
            loaded.shape = migrate.rebuild(conn, planned, self._claim.token(loaded, "rebuild"), options)
        elif planned.plan.action is Action.STEPS and not by_swap:
            state = migrate.with_text(loaded.state, planned.plan.differences)
            return Steps(planned.live, planned.plan, self._claim.token(loaded, "steps"), state, options)
        else:
            loaded.state = migrate.apply_in_place(conn, planned, loaded.state, options, rows_stay=not by_swap)
        return None

    def _choose_refreshes(self, tables: Sequence[LoadedTable]) -> None:
        if self._deletes:
            choose_refreshes(self._conn, tables, self._on_before_visible, self._options)

    def _swapped(self) -> dict[Name, int]:
        """The tables that a new one is known to take the place of with the first batch, and their OIDs."""
        by_swap = (Refresh.SWAP, Refresh.FIRST_LOAD)
        return {one.name: one.live.oid for one in self._tables if one.refresh in by_swap}

    def _run(self, steps: Steps, loaded: LoadedTable) -> None:
        try:
            for step in steps:
                with self._claim.alone(), explained(), migrate.explained(loaded.name, steps.known_as):
                    self._claim.check_untouched()
                    step(self._conn)
                    loaded.state = dataclasses.replace(loaded.state, text=steps.state.text)
                    self._claim.save([loaded])
        except BaseException:
            with suppress(Exception), self._claim.alone(cleaning_up=True):
                clear_leftovers(self._conn, loaded.live.oid, steps.token, self._options.for_clean_up)
            raise

    def _get_ready(self, tables: Sequence[LoadedTable], planned: Mapping[LoadedTable, Planned]) -> None:
        """See how the first rows of migrated tables will come."""
        undecided = [loaded for loaded in tables if loaded.refresh is None]
        upserts = self._options.upserts
        for loaded in first_loads(self._conn, undecided, self._swapped(), self._on_before_visible, upserts=upserts):
            loaded.refresh = Refresh.FIRST_LOAD
        for loaded in tables:
            if loaded.refresh in (Refresh.SWAP, Refresh.FIRST_LOAD):
                loaded.planned = planned[loaded]

    def load(self, mark: Any, batch_metadata: Any, arrived: Arrived) -> None:
        """One batch, one transaction: all of it or nothing."""
        began = time.monotonic()
        with self._claim.alone():
            self._claim.check_untouched()
            tried = self._try_in_place(arrived)
            parts = self._parts(few=arrived.all_read)
            if not arrived.is_empty:
                events = {Route.UPSERT: (INSERT, UPDATE), Route.STAGED: (INSERT,)}
                check_rules(self._conn, {part.loaded: events[part.route] for part in parts if part.route in events})
            direct = [part.loaded for part in parts if part.route is Route.DIRECT]
            self._claim.hold(direct)
            copy_parts(self._conn, parts, arrived.chunks)
            changed = [part.loaded for part in parts if part.takes_part and part.loaded is not self._claim.first]
            self._claim.hold([loaded for loaded in (self._claim.first, *changed) if loaded not in direct])
            with explained():
                gone = emptied(self._conn, parts)
                self._swap_after_all([part for part in parts if part.loaded in tried])
            resolved = watermark.resolved(mark)
            merged = merge_parts(self._conn, parts, self._options)
            self._call_back(parts, batch_metadata)
            with explained():
                self._swap(parts)
                self._claim.batches += 1
                self._claim.unfinished = self._claim.unfinished or self._deletes
                self._claim.save([self._claim.first, *changed], resolved)
        if self._carried_on and resolved.value is None and self._last_mark is not None:
            logger.warning(
                "%s: the batch's high watermark is None, and takes the place of %r: the next run starts from the "
                "beginning; give the old one where a batch brings nothing new",
                self._claim.first.name,
                self._last_mark,
            )
        self._last_mark = resolved.value
        self._committed(parts, merged, time.monotonic() - began)
        if gone and not any(part.buffer.received for part in parts):
            names = ", ".join(str(loaded.name) for loaded in gone)
            logger.warning("a batch without rows replaces all rows: %s is empty now", names)
        else:
            self._emptied += gone

    def _try_in_place(self, arrived: Arrived) -> list[LoadedTable]:
        """Tables to be swapped of which the first rows hardly changed: those are replaced in place, if it stays so."""
        if self._options.replace != Replace.AUTO:
            return []
        tried = []
        for loaded in apart([one for one in self._tables if one.refresh is Refresh.SWAP]):
            rows, frame = arrived.first_of(loaded.is_of)
            with explained():
                if hardly_changes(self._conn, loaded, rows, frame, self._claim.token(loaded, "first rows")):
                    loaded.refresh = Refresh.IN_PLACE
                    tried.append(loaded)
        return tried

    def _swap_after_all(self, parts: list[BatchTable]) -> None:
        for part in parts:
            if changed_after_all(self._conn, part):
                part.loaded.refresh = Refresh.SWAP
                with part.rows_explained():
                    part.turn_to_hidden(self._conn, self._claim.token(part.loaded, "after all"))
            else:
                logger.info("%s: few rows are new or changed, so they are replaced in place", part.loaded.name)

    def _parts(self, *, few: bool) -> list[BatchTable]:
        upserts = self._options.upserts
        with explained():
            self._settle_first_loads(few=few)
            return [
                BatchTable(
                    self._conn,
                    loaded,
                    self._claim.token(loaded, str(self._claim.batches)),
                    route(loaded, self._tables, upserts=upserts),
                    upserts=upserts,
                )
                for loaded in parents_first(self._tables)
            ]

    def _settle_first_loads(self, *, few: bool) -> None:
        """An empty table is replaced by a full one, unless the rows are few, or somebody else wrote some meanwhile."""
        waiting = {loaded.name: loaded for loaded in self._tables if loaded.refresh is Refresh.FIRST_LOAD}
        not_so = list(waiting)
        if waiting and not few:
            hold_writers(self._conn, waiting.keys(), self._options)
            not_so = catalog.filled(self._conn, list(waiting))
        for name in not_so:
            waiting[name].refresh = None

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
            self._claim.batches,
            received,
            seconds,
            received / seconds,
            self._last_mark,
        )

    def finish(self) -> None:
        """Take back the mark of an unfinished replacement, where all of it is there now.

        A run that does not delete has completed it if it began where the other stopped, or at the beginning. From
        another high watermark, rows in between may be missing.

        All batches are committed, so that another run which has loaded a table since is no error, but the mark of that
        table is left to it. It has found the mark, and either went on from the last batch, or began anew: at its end
        it takes the mark back by these same rules. Where it stops before, the mark has to stay.
        """
        bare = [loaded.name for loaded in self._emptied if not loaded.result.received]
        if bare:
            logger.warning(
                "%s: all rows were to be replaced, and none came: empty now; where they should have stayed, load the "
                "table on its own",
                ", ".join(map(str, bare)),
            )
        began_anew = self._claim.batches > 0 and (self._deletes or self._first_mark is None)
        if not (self._claim.unfinished and (began_anew or self._carried_on)):
            return
        self._claim.unfinished = False
        with self._claim.alone(), explained():
            taken = self._claim.taken()
            self._claim.save([loaded for loaded in self._tables if loaded not in taken])
        if taken:
            logger.warning(
                "another run has loaded %s since this one last did: all batches of this one are committed, and the "
                "mark of an unfinished replacement is left to that run",
                ", ".join(str(loaded.name) for loaded in taken),
            )

    def result(self) -> IngestResult:
        return IngestResult(
            tables=tuple(loaded.result for loaded in self._tables),
            batches=self._claim.batches,
            first_high_watermark=self._first_mark,
            last_high_watermark=self._last_mark,
            seconds=time.monotonic() - self._began,
            lock_attempts=self._claim.lock_attempts,
            readers_kept=self._claim.readers_kept,
        )
