"""The steps of a run, each a transaction or several: creating and migrating the tables, and loading batches."""

import copy
import logging
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import catalog, migrate, watermark
from airflow_ingest_provider.core.acting import DELETE, INSERT, UPDATE, acting, check_rules
from airflow_ingest_provider.core.batch_table import BatchTable, Route, route
from airflow_ingest_provider.core.batches import Arrived
from airflow_ingest_provider.core.callback import OnBeforeVisible
from airflow_ingest_provider.core.called import call_back
from airflow_ingest_provider.core.claim import Claim
from airflow_ingest_provider.core.conversions import check_conversions
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.loaded import LoadedTable, Refresh
from airflow_ingest_provider.core.location import locate
from airflow_ingest_provider.core.locks import hold_writers
from airflow_ingest_provider.core.merge import Merged
from airflow_ingest_provider.core.metadata import Metadata, metadata_of, tables_of
from airflow_ingest_provider.core.migration import Migration
from airflow_ingest_provider.core.options import HighWatermark, Migrate, Options, Replace
from airflow_ingest_provider.core.order import parents_first
from airflow_ingest_provider.core.parts import copy_parts, merge_parts
from airflow_ingest_provider.core.refresh import (
    apart,
    changed_after_all,
    emptied,
    hardly_changes,
)
from airflow_ingest_provider.core.result import IngestResult
from airflow_ingest_provider.core.session import explained, transaction
from airflow_ingest_provider.core.swap import swap
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
            located = list(zip(declared, locate(conn, declared), strict=True))
        check_conversions(options.conversions, [(table, found.name) for table, found in located])
        self._missing = [found.name for _, found in located if found.oid is None]
        self._tables = [LoadedTable(table, found.name, State(), schemas=found.schemas) for table, found in located]
        self._claim = Claim(conn, self._tables, options)
        self._migrated = False
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
        if not self._migrated:
            Migration(self._conn, self._claim, self._on_before_visible, self._options, deletes=self._deletes).run()
            self._migrated = True

    def load(self, mark: Any, batch_metadata: Any, arrived: Arrived) -> None:
        """One batch, one transaction: all of it or nothing."""
        began = time.monotonic()
        with self._claim.alone():
            # Rows that are here already are soon merged: the lock may as well be taken before the states are read.
            self._claim.hold([self._claim.first] if arrived.all_read else [])
            tried = self._try_in_place(arrived)
            parts = self._parts(arrived)
            self._claim.hold([part.loaded for part in parts if part.route is Route.DIRECT])
            copy_parts(self._conn, parts, arrived.chunks)
            changed = [part.loaded for part in parts if part.takes_part and part.loaded is not self._claim.first]
            self._claim.hold([self._claim.first, *changed])
            with explained():
                gone = emptied(self._conn, parts)
                self._swap_after_all([part for part in parts if part.loaded in tried])
            resolved = watermark.resolved(mark)
            merged = merge_parts(self._conn, parts, self._options)
            commented = call_back(self._conn, parts, self._on_before_visible, batch_metadata)
            with explained():
                self._swap(parts)
                self._claim.batches += 1
                self._claim.unfinished = self._claim.unfinished or self._deletes
                touched = dict.fromkeys([self._claim.first, *changed, *commented])
                self._claim.save(list(touched), resolved)
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

    def _parts(self, arrived: Arrived) -> list[BatchTable]:
        upserts = self._options.upserts
        with explained():
            self._settle_first_loads(few=arrived.all_read)
            routes = {one: route(one, self._tables, upserts=upserts) for one in parents_first(self._tables)}
            triggered = self._triggered(routes, may_write=not arrived.is_empty)
            return [
                BatchTable(
                    self._conn,
                    loaded,
                    self._claim.token(loaded, str(self._claim.batches)),
                    way,
                    upserts=upserts,
                    all_keyed=loaded not in triggered,
                )
                for loaded, way in routes.items()
            ]

    def _triggered(self, routes: Mapping[LoadedTable, Route], *, may_write: bool) -> set[LoadedTable]:
        """Those whose staged rows fire triggers, which may give them their keys.

        Raises DefinitionError where a rule would take the place of statements that the batch `may_write` with.
        """
        staged = [loaded for loaded, way in routes.items() if way in _STATEMENTS]
        found = acting(self._conn, [loaded.live.oid for loaded in staged])
        if may_write:
            for loaded in staged:
                check_rules(loaded.name, found[loaded.live.oid], _STATEMENTS[routes[loaded]])
        return {loaded for loaded in staged if found[loaded.live.oid].insert_triggers}

    def _settle_first_loads(self, *, few: bool) -> None:
        """An empty table is replaced by a full one, unless the rows are few, or somebody else wrote some meanwhile.

        Takes SHARE on those that may be replaced.
        """
        waiting = {loaded.name: loaded for loaded in self._tables if loaded.refresh is Refresh.FIRST_LOAD}
        not_so = list(waiting)
        if waiting and not few:
            hold_writers(self._conn, waiting.keys(), self._options)
            not_so = catalog.filled(self._conn, list(waiting))
        for name in not_so:
            waiting[name].refresh = None

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


_STATEMENTS = {
    Route.STAGED: (INSERT,),
    Route.UPSERT: (INSERT, UPDATE),
    Route.REPLACE: (INSERT, UPDATE, DELETE),
}
"""What brings staged rows into their tables, and may meet a rule; COPY and a swap do not."""
