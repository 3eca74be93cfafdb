"""Materialized views that read a table, built on the new one before anybody is kept waiting for the swap."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import dependents, statements
from airflow_ingest_provider.core.dependents import Dependent
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.session import run, run_all
from airflow_ingest_provider.core.steps import create_index


@dataclass(frozen=True)
class Built:
    """A materialized view that is ready to take the place of a live one."""

    view: Dependent
    name: Name

    @property
    def indexes(self) -> list[str]:
        """What its indexes are called until the swap."""
        return [f"{self.name.name}_{place}" for place in range(len(self.view.indexes))]

    def name_indexes(self) -> Iterator[sql.Composable]:
        """Give the indexes their names, once nobody else has them."""
        for index, temporary in zip(self.view.indexes, self.indexes, strict=True):
            yield statements.rename("INDEX", self.name.sibling(temporary), index.name)


def build_early(conn: sa.Connection, hidden: HiddenTable, swapped: Collection[int]) -> Mapping[int, Built]:
    """Run the queries of the live table's materialized views on the hidden one; what was built, by the live view's OID.

    PostgreSQL reads a query by the names in it, so the hidden table is called as the live one until it has read them,
    in a schema of its own: without CREATE on the database nothing is built. Nor is what reads other tables that
    are `swapped`, or views on this one, which have the old rows until the swap; or a view of somebody who may not see
    all rows, since grants and policies come with the swap.
    """
    views = dependents.dependents(conn, hidden.live.oid)
    not_yet = ({view.oid for view in views} | set(swapped)) - {hidden.live.oid}
    early = [
        view
        for view in views
        if view.kind == "m"
        and view.may_alter
        and not view.reads & not_yet
        and conn.scalar(_SEES_ALL, {"owner": view.owner, "oid": hidden.live.oid})
    ]
    if not early or not conn.scalar(_MAY_CREATE):
        return {}
    table, schema = hidden.live.name, temporary_name(hidden.token, "schema")
    before = sql.Literal(conn.scalar(sa.text("SELECT current_setting('search_path')")))
    aside = Name(schema, hidden.name.name)
    run_all(
        conn,
        [
            sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)),
            _set_schema(hidden.name, schema),
            statements.rename("TABLE", aside, table.name),
            sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(table.schema)),
        ],
    )
    queries = {view: str(conn.scalar(_QUERY, {"oid": view.oid})).rstrip(" ;") for view in early}
    run(conn, sql.SQL("SET LOCAL search_path = {}, {}").format(sql.Identifier(schema), sql.Identifier(table.schema)))
    built = {}
    for place, view in enumerate(early):
        built[view.oid] = one = Built(view, view.name.sibling(temporary_name(hidden.token, f"stored{place}")))
        run(conn, create(view, one.name, queries[view]))
    run_all(
        conn,
        [
            sql.SQL("SELECT set_config('search_path', {}, true)").format(before),
            statements.rename("TABLE", Name(schema, table.name), aside.name),
            _set_schema(aside, table.schema),
            sql.SQL("DROP SCHEMA {}").format(sql.Identifier(schema)),
        ],
    )
    for one in built.values():
        run(conn, statements.grant_select(hidden.name, one.view.owner))  # until the swap gives it its own grants
        finish(conn, one.view, one.name, one.indexes)
        analyze(conn, one.view, one.name)
    return built


def create(view: Dependent, name: Name, query: str) -> str:
    """The statement that makes a materialized view, without its rows."""
    return f"CREATE MATERIALIZED VIEW {name.quoted}{view.storage} AS {query} WITH NO DATA"


def finish(conn: sa.Connection, view: Dependent, name: Name, indexes: Collection[str]) -> None:
    """Give a view that was made again its owner and, if it is a materialized one, its rows, settings and indexes.

    The rows come by REFRESH, which runs the query as the owner: he sees no more than he may, and his functions do no
    more.
    """
    run(conn, statements.give_owner(view.word, name, view.owner))
    if view.kind == "m" and view.populated:
        refresh = f"REFRESH MATERIALIZED VIEW {name.quoted}"
        run_all(conn, ["SET LOCAL row_security = on", refresh, "SET LOCAL row_security = off"])
    if view.shape is not None:
        for statement in statements.tune(name, view.shape):
            run(conn, statement)
    for index, called in zip(view.indexes, indexes, strict=True):
        create_index(conn, name, index, called)


def analyze(conn: sa.Connection, view: Dependent, name: Name) -> None:
    """Gather the planner's statistics of a materialized view that has rows."""
    if view.kind == "m" and view.populated:
        run(conn, f"ANALYZE {name.quoted}")


def _set_schema(table: Name, schema: str) -> sql.Composable:
    return sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table.sql, sql.Identifier(schema))


# Names of the search_path's schemas are printed bare.
_QUERY = sa.text("SELECT pg_get_viewdef(CAST(:oid AS oid))")

_SEES_ALL = sa.text("""
    SELECT has_table_privilege(r.oid, c.oid, 'SELECT')
           AND (NOT c.relrowsecurity OR r.rolsuper OR r.rolbypassrls
                OR NOT c.relforcerowsecurity AND pg_has_role(r.oid, c.relowner, 'USAGE'))
    FROM pg_class c, pg_roles r
    WHERE c.oid = :oid AND r.rolname = :owner
""")

_MAY_CREATE = sa.text("SELECT has_database_privilege(current_database(), 'CREATE')")
