"""`ingest_plan`: what a run would do to the tables' definitions, without doing it."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import sqlalchemy as sa

from airflow_ingest_provider.core import migrate as migration
from airflow_ingest_provider.core import watermark
from airflow_ingest_provider.core.callback import OnBeforeVisible, do_nothing
from airflow_ingest_provider.core.declared import tables_of
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.load import check_connection
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Delete, Migrate, Options, Replace
from airflow_ingest_provider.core.plan import IngestPlan, TablePlan
from airflow_ingest_provider.core.refresh import choose_refresh
from airflow_ingest_provider.core.session import transaction
from airflow_ingest_provider.core.target import LoadedTable, Refresh, find_tables


def ingest_plan(
    conn: sa.Connection,
    metadata: sa.MetaData,
    on_before_visible: OnBeforeVisible = do_nothing,
    delete: str = Delete.OFF,
    *,
    migrate: str = Migrate.AUTO,
    conversions: Mapping[str, str] = MappingProxyType({}),
    replace: str = Replace.AUTO,
) -> IngestPlan:
    """What `ingest` with these arguments would do before its first batch, a plan for each table.

    Nothing is changed: the declared tables are compared as temporary ones, in a transaction that is rolled back. Takes
    no lock on the tables but that of a reader, and needs TEMPORARY on the database. Where values have to be checked
    against new types, rows are read. A plan that would be refused says so, and `str()` of it is for people.

    Raises ValueError for an unknown option, DefinitionError for metadata that can never be loaded.
    """
    options = Options(delete=delete, migrate=migrate, conversions=conversions, replace=replace)
    check_connection(conn)
    tables = tables_of(metadata)
    with transaction(conn):
        swapped: dict[Name, int] = {}
        return IngestPlan(tuple(_plan(conn, table, on_before_visible, options, swapped) for table in tables))


def _plan(
    conn: sa.Connection, table: sa.Table, on_before_visible: OnBeforeVisible, options: Options, swapped: dict[Name, int]
) -> TablePlan:
    """The plan of one table; `swapped` are those that were planned before it and are swapped."""
    ((name, oid),) = find_tables(conn, [table])
    if oid is None:
        refused = f"migrate is {Migrate.OFF!r}" if options.migrate == Migrate.OFF else None
        return TablePlan(name, (), None, refused=refused)
    loaded = LoadedTable(table, name, watermark.read(conn, [name])[name])
    (found,) = migration.planned(conn, [(loaded.table, loaded.name, loaded.state)], options.conversions)
    loaded.shape = found.live
    plan = found.plan
    try:
        if options.replaces:
            loaded.refresh = choose_refresh(conn, loaded, swapped, on_before_visible, options)
            plan = dataclasses.replace(plan, replaces=loaded.why_so)
            if loaded.refresh is Refresh.SWAP:
                swapped[loaded.name] = oid
        migration.check(conn, found, options, rows_stay=loaded.refresh is not Refresh.SWAP)
    except DefinitionError as error:
        return dataclasses.replace(plan, refused=str(error).partition("\n")[0])
    return plan
