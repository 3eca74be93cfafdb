"""Bringing the tables of a run to their definitions, before its first batch."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

import sqlalchemy as sa

from airflow_ingest_provider.core import catalog, checks, migrate
from airflow_ingest_provider.core.callback import OnBeforeVisible
from airflow_ingest_provider.core.claim import Claim
from airflow_ingest_provider.core.declared import create_types
from airflow_ingest_provider.core.differences import EnumExtended
from airflow_ingest_provider.core.loaded import LoadedTable, Refresh, plan_tables
from airflow_ingest_provider.core.locks import hold_writers
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.order import parents_first
from airflow_ingest_provider.core.plan import Action, Planned
from airflow_ingest_provider.core.refresh import choose_refreshes, first_loads
from airflow_ingest_provider.core.session import explained
from airflow_ingest_provider.core.shape import ForeignKeyShape
from airflow_ingest_provider.core.steps import Steps, clear_leftovers

logger = logging.getLogger(__name__)


class Migration:
    """That of the tables of a claim: those that are as declared at once, the others each in transactions of its own."""

    def __init__(
        self, conn: sa.Connection, claim: Claim, on_before_visible: OnBeforeVisible, options: Options, *, deletes: bool
    ) -> None:
        self._conn = conn
        self._claim = claim
        self._on_before_visible = on_before_visible
        self._options = options
        self._deletes = deletes
        """Whether the rows that are there go with the first batch."""
        self._waiting: dict[Name, Planned] = {}
        self._put_off: dict[LoadedTable, tuple[ForeignKeyShape, ...]] = {}

    def run(self) -> None:
        """Do it, and claim the tables for the run."""
        tables = parents_first(self._claim.tables)[::-1]
        for loaded in self._settle(tables) if len(tables) > 1 else tables:
            self._waiting.pop(loaded.name, None)
            self._extend_enums(loaded)
            self._migrate_alone(loaded)
        self._add_keys_put_off()

    def _add_keys_put_off(self) -> None:
        """Foreign keys between the tables that could not be while one of them was still to be migrated."""
        for loaded, keys in self._put_off.items():
            targets = [one for one in self._claim.tables if one.name in {key.target for key in keys}]
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
            self._run_steps(steps, loaded)
        with self._claim.alone(), explained():
            self._claim.check_untouched()
            # A rebuilt table that holds rows gets more of them in the usual way, and its shape is known already.
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
        return {one.name: one.live.oid for one in self._claim.tables if one.refresh in by_swap}

    def _run_steps(self, steps: Steps, loaded: LoadedTable) -> None:
        try:
            for step in steps:
                with self._claim.alone(), explained(), migrate.stored_rows_explained(loaded.name, steps.known_as):
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
