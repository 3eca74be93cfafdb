"""`ingest_plan`: what a run would do to the tables' definitions, without doing it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import callback, catalog, checks, watermark
from airflow_ingest_provider.core.callback import OnBeforeVisible, do_nothing
from airflow_ingest_provider.core.checks import check_role
from airflow_ingest_provider.core.conversions import check_conversions
from airflow_ingest_provider.core.creation import check_names
from airflow_ingest_provider.core.declared import check_definition
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.hidden import try_conversions
from airflow_ingest_provider.core.load import check_connection
from airflow_ingest_provider.core.loaded import LoadedTable, Refresh, plan_tables
from airflow_ingest_provider.core.location import locate
from airflow_ingest_provider.core.metadata import Metadata, tables_of
from airflow_ingest_provider.core.migrate import stored_rows_explained
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Delete, HighWatermark, Migrate, Options, Replace
from airflow_ingest_provider.core.order import parents_first
from airflow_ingest_provider.core.plan import IngestPlan, Planned, TablePlan
from airflow_ingest_provider.core.refresh import choose_refreshes
from airflow_ingest_provider.core.session import explained, transaction


def ingest_plan(
    conn: sa.Connection,
    metadata: Metadata,
    on_before_visible: OnBeforeVisible = do_nothing,
    delete: str = Delete.OFF,
    *,
    high_watermark: Any = HighWatermark.LATEST,
    migrate: str = Migrate.AUTO,
    conversions: Mapping[str, str] = MappingProxyType({}),
    replace: str = Replace.AUTO,
) -> IngestPlan:
    """What `ingest` with these arguments would do before its first batch, a plan for each table.

    Nothing is changed: the declared tables are compared as temporary ones, in a savepoint that is rolled back. Takes
    no lock on the tables but that of a reader, and needs TEMPORARY on the database. Where values have to be checked
    against new types, rows are read. A plan that would be refused says so, and `str()` of it is for people.

    The `high_watermark` tells whether a run that deletes carries an unfinished replacement on, or begins it anew.

    Raises ValueError for an unknown option, DefinitionError for metadata that can never be loaded.
    """
    options = Options(high_watermark, delete=delete, migrate=migrate, conversions=conversions, replace=replace)
    check_connection(conn)
    callback.check(on_before_visible)
    tables = tables_of(metadata)
    with transaction(conn), explained():
        located = list(zip(tables, locate(conn, tables), strict=True))
        check_conversions(options.conversions, [(table, found.name) for table, found in located])
        there = [(table, found.name) for table, found in located if found.oid is not None]
        first_is_there = located[0][1].oid is not None
        plans = _plans(conn, there, on_before_visible, options, first_is_there=first_is_there) if there else {}
        plans |= _plans_of_missing(conn, {table: found.name for table, found in located if found.oid is None}, options)
        return IngestPlan(tuple(plans[found.name] for _, found in located))


def _plans_of_missing(conn: sa.Connection, missing: Mapping[sa.Table, Name], options: Options) -> dict[Name, TablePlan]:
    """The plans of tables that are to be created; DefinitionError where PostgreSQL would not take one's definition."""
    if options.migrate == Migrate.OFF:
        off = f"migrate is {Migrate.OFF!r}"
        return {name: TablePlan(name, (), None, refused=off) for name in missing.values()}
    refusals = {name: _refusal(checks.check_may_create, conn, name) for name in missing.values()}
    check_names(conn, missing)
    for table, name in missing.items():
        if not refusals[name]:
            check_definition(conn, table, name)
    return {name: TablePlan(name, (), None, refused=refused) for name, refused in refusals.items()}


def _plans(
    conn: sa.Connection,
    there: Sequence[tuple[sa.Table, Name]],
    on_before_visible: OnBeforeVisible,
    options: Options,
    *,
    first_is_there: bool,
) -> dict[Name, TablePlan]:
    """The plans of tables that are there already; the high watermark is kept with the first of all."""
    states = watermark.read(conn, [name for _, name in there])
    tables = [LoadedTable(table, name, states[name]) for table, name in there]
    planned = plan_tables(conn, tables, options.conversions)
    access = catalog.access(conn, [found.live.oid for found in planned.values()])
    refusals = {loaded: _refusal(check_role, loaded.name, access[loaded.live.oid]) for loaded in tables}
    free = [loaded for loaded in parents_first(tables)[::-1] if not refusals[loaded]]
    if options.replaces and not (first_is_there and tables[0].state.is_carried_on_from(options.high_watermark)):
        whole = _refusal(choose_refreshes, conn, free, on_before_visible, options)
        refusals |= dict.fromkeys(free, whole) if whole else {}
    for loaded, found in planned.items():
        if not refusals[loaded]:
            rows_stay = loaded.refresh is not Refresh.SWAP
            refusals[loaded] = _refusal(checks.check, conn, found, options, rows_stay=rows_stay)
            if rows_stay and not refusals[loaded]:
                refusals[loaded] = _refusal(_try_conversions, conn, found)
    return {
        loaded.name: dataclasses.replace(
            found.plan,
            replaces=loaded.why_so,
            by_swap=loaded.refresh is Refresh.SWAP,
            refused=refusals[loaded],
        )
        for loaded, found in planned.items()
    }


def _try_conversions(conn: sa.Connection, found: Planned) -> None:
    with stored_rows_explained(found.live.name, str):
        try_conversions(conn, found.plan, found.live, found.facts.conversions)


def _refusal(check: Callable[..., object], *arguments: Any, **options: Any) -> str | None:
    """Why a check refuses the plan, if it does."""
    try:
        check(*arguments, **options)
    except DefinitionError as error:
        return str(error).partition("\n")[0]
    return None
