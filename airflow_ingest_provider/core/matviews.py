"""Materialized views that a swap makes anew, built on the new tables before anybody is kept waiting."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import analyze, attachments, catalog, dependents, statements
from airflow_ingest_provider.core.dependents import Dependent
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.hidden import HiddenTable, create_statistics, name_statistics
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.session import INSUFFICIENT_PRIVILEGE, first_line, run, run_all, searching, sqlstate
from airflow_ingest_provider.core.steps import create_index


@dataclass(frozen=True)
class StandIn:
    """A relation that is to take the place of a live one, under the name that it has until then."""

    live: Name
    name: Name


@dataclass(frozen=True)
class Built:
    """A view that is ready to take the place of a live one."""

    view: Dependent
    name: Name
    revokes: tuple[str, ...]
    """What takes away the grants that it has until the swap."""


def build_early(conn: sa.Connection, hiddens: Sequence[HiddenTable], views: Sequence[Dependent]) -> Mapping[int, Built]:
    """Build the materialized views that read one of the live tables on the hidden ones, and run their queries.

    They come by the live view's OID. `views` are all views on the tables, those that others read first. A materialized
    view that reads another one that is built, or a view whose columns change their types, is built as well, and so is
    that view. Left out is what cannot be built without keeping readers waiting: a query that reads a view which shows
    the old rows until the swap, one of somebody from whom policies keep rows, and all of them where the role may not
    create the schema in which a query finds new relations under live names.
    """
    if not any(view.kind == "m" for view in views) or not conn.scalar(_MAY_CREATE):
        return {}
    site = _Site(conn, hiddens, {view.owner for view in views})
    read_by_matviews = _read_by_matviews(views)
    retypes = any(hidden.retypes for hidden in hiddens)
    not_yet: set[int] = set()  # views that show old rows until the swap
    with site.schema():
        for place, view in enumerate(views):
            late = bool(view.reads & not_yet)
            if view.kind == "v" and (late or view.reads & site.stand_ins.keys()):
                if late or not (retypes and view.oid in read_by_matviews and site.build(view, place)):
                    not_yet.add(view.oid)
            elif view.kind == "m" and view.may_alter and not (late or (view.populated and site.hides_rows_from(view))):
                site.build(view, place)
    return {oid: site.finished(view) for oid, view in site.built.items()}


def _read_by_matviews(views: Sequence[Dependent]) -> set[int]:
    """The OIDs of all that materialized views read, at any depth."""
    read: set[int] = set()
    for view in reversed(views):
        if view.kind == "m" or view.oid in read:
            read |= view.reads
    return read


class _Site:
    """Where views are built: the hidden tables, and in a schema of the transaction's own for a while."""

    def __init__(self, conn: sa.Connection, hiddens: Sequence[HiddenTable], readers: Collection[str]) -> None:
        self.stand_ins = {hidden.live.oid: StandIn(hidden.live.name, hidden.name) for hidden in hiddens}
        self.built: dict[int, Dependent] = {}
        self._conn = conn
        self._tables = list(self.stand_ins)
        self._readers = list(readers)
        self._token = hiddens[0].token
        self._schema = temporary_name(self._token, "schema")
        for oid, stand_in in self.stand_ins.items():
            self._let_read(oid, stand_in.name)

    @contextmanager
    def schema(self) -> Iterator[None]:
        name = sql.Identifier(self._schema)
        run(self._conn, sql.SQL("CREATE SCHEMA {}").format(name))
        yield
        run(self._conn, sql.SQL("DROP SCHEMA {}").format(name))

    def hides_rows_from(self, view: Dependent) -> bool:
        """Whether policies, which come with the swap, keep rows from those as whom the view's query runs."""
        under = list(self._under(view))
        tables = {oid for one in under for oid in one.reads if oid in self._tables}
        return bool(self._conn.scalar(_HIDES_ROWS, {"oids": list(tables), "roles": [one.owner for one in under]}))

    def _under(self, view: Dependent) -> Iterator[Dependent]:
        """The view, and the built ones whose queries run with its own."""
        yield view
        for oid in view.reads & self.built.keys():
            if self.built[oid].kind == "v":
                yield from self._under(self.built[oid])

    def build(self, view: Dependent, place: int) -> bool:
        """Make the view on what stands in for relations that it reads; whether that can take its place in the swap.

        A view can where its columns are of other types: the one that is there has to stay otherwise.
        """
        conn, read = self._conn, view.reads & self.stand_ins.keys()
        new = StandIn(view.name, view.name.sibling(temporary_name(self._token, f"stored{place}")))
        names = {self.stand_ins[oid].live.name for oid in read}
        if not read or len(names) < len(read):
            return False
        with _explained(view, new.name):
            self._create(view, new.name, [self.stand_ins[oid] for oid in sorted(read)])
        oid = catalog.oid_of(conn, new.name)
        found_live = conn.scalar(_READS, {"oid": oid, "oids": list(read)})
        if found_live or (view.kind == "v" and conn.scalar(_SAME_COLUMNS, {"live": view.oid, "new": oid})):
            run(conn, sql.SQL("DROP {} {}").format(sql.SQL(view.word), new.name.sql))
            return False
        with _explained(view, new.name):
            finish(conn, view, new.name, new.name)
        self._let_read(view.oid, new.name)
        self.stand_ins[view.oid] = new
        self.built[view.oid] = view
        return True

    def finished(self, view: Dependent) -> Built:
        """What is to be known of a view that was built, once nothing more is."""
        name = self.stand_ins[view.oid].name
        oid = catalog.oid_of(self._conn, name)
        return Built(view, name, attachments.revokes(self._conn, {oid: view.name})[oid])

    def _create(self, view: Dependent, name: Name, read: Sequence[StandIn]) -> None:
        """Create the view by its own query, which finds what stands in for relations under their names.

        PostgreSQL reads names that are printed bare by the search_path.
        """
        conn, aside = self._conn, self._schema
        schemas = list(dict.fromkeys(one.live.schema for one in read))
        query = dependents.query(conn, view.oid, schemas)
        run_all(conn, (step for one in read for step in _called_as_live(one, aside)))
        with searching(conn, [aside, *schemas]):
            run(conn, create(view, name, query))
        run_all(conn, (step for one in read for step in _called_as_before(one, aside)))

    def _let_read(self, live: int, new: Name) -> None:
        """Let the readers read of the new relation what they may read of the live one; the swap brings its own grants.

        Their queries run as themselves, and what they may not see is kept from their functions too, whatever default
        privileges let them see.
        """
        oid = catalog.oid_of(self._conn, new)
        columns = {"live": live, "new": oid, "roles": self._readers}
        readable = self._conn.execute(_READABLE, columns).all()
        grants = [statements.grant_select(new, row.role, row.columns) for row in readable]
        run_all(self._conn, [*attachments.revokes(self._conn, {oid: new})[oid], *grants])


@contextmanager
def _explained(view: Dependent, name: Name) -> Iterator[None]:
    """What PostgreSQL refuses of a view on the new rows, as a DefinitionError that names it."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        state = sqlstate(error) or ""
        if not state.startswith(_REFUSED) or state == INSUFFICIENT_PRIVILEGE:
            raise
        message = first_line(error)
        # Backwards: the name of the second index is the beginning of the eleventh one's.
        for index, temporary in reversed([*zip(view.indexes, _index_names(view, name), strict=True)]):
            message = message.replace(temporary, index.name)
        raise DefinitionError(
            f"{view.word.lower()} {view.name} cannot be made anew on the new table: {message}: mend it or the rows, or "
            "drop it and create it again afterwards"
        ) from None  # its DETAIL quotes values of a row


_REFUSED = ("0A000", "21", "22", "23", "42", "55000", "P0")
"""What SQLSTATE begins with where a query or its functions fail on rows or types, or a constraint does not hold."""


def _called_as_live(one: StandIn, schema: str) -> Iterator[sql.Composable]:
    yield _set_schema(one.name, schema)
    yield statements.rename("TABLE", Name(schema, one.name.name), one.live.name)


def _called_as_before(one: StandIn, schema: str) -> Iterator[sql.Composable]:
    yield statements.rename("TABLE", Name(schema, one.live.name), one.name.name)
    yield _set_schema(Name(schema, one.name.name), one.name.schema)


def _set_schema(table: Name, schema: str) -> sql.Composable:
    return sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table.sql, sql.Identifier(schema))


def create(view: Dependent, name: Name, query: str) -> str:
    """The statement that makes a view by a query, a materialized one without its rows."""
    storage, no_data = (view.storage, " WITH NO DATA") if view.kind == "m" else (view.options, "")
    return f"CREATE {view.word} {name.quoted}{storage} AS {query}{no_data}"


def finish(conn: sa.Connection, view: Dependent, name: Name, parts: Name) -> None:
    """Give a view that was made again its owner and, if it is a materialized one, its rows and all that a table has.

    The rows come by REFRESH, which runs the query as the owner: he sees no more than he may, and his functions do no
    more. Indexes and statistics have temporary names until `name_parts`, which begin with `parts`.
    """
    run(conn, statements.give_owner(view.word, name, view.owner))
    if view.shape is None:
        return
    if view.populated:
        refresh = f"REFRESH MATERIALIZED VIEW {name.quoted}"
        run_all(conn, ["SET LOCAL row_security = on", refresh, "SET LOCAL row_security = off"])
    run_all(conn, statements.tune(name, view.shape))
    for index, called in zip(view.indexes, _index_names(view, parts), strict=True):
        create_index(conn, name, index, called)
    create_statistics(conn, name, view.statistics, parts)
    if view.populated:
        analyze.whole(conn, name)


def name_parts(view: Dependent, parts: Name) -> Iterator[sql.Composable]:
    """Give indexes and statistics of a view, whose names began with `parts` when it was finished, their own names."""
    for index, temporary in zip(view.indexes, _index_names(view, parts), strict=True):
        yield statements.rename("INDEX", view.name.sibling(temporary), index.name)
    yield from name_statistics(parts, view.statistics)


def _index_names(view: Dependent, parts: Name) -> list[str]:
    return [f"{parts.name}_{place}" for place in range(len(view.indexes))]


_MAY_CREATE = sa.text("SELECT has_database_privilege(current_database(), 'CREATE')")

# Whether a view's query names one of the relations.
_READS = sa.text("""
    SELECT EXISTS (
        SELECT FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        WHERE r.ev_class = :oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (CAST(:oids AS oid[])))
""")

# What CREATE OR REPLACE VIEW asks for.
_SAME_COLUMNS = sa.text("""
    SELECT array_agg((attname, atttypid, atttypmod, attcollation) ORDER BY attnum) FILTER (WHERE attrelid = :live)
         = array_agg((attname, atttypid, atttypmod, attcollation) ORDER BY attnum) FILTER (WHERE attrelid = :new)
    FROM pg_attribute WHERE attrelid IN (:live, :new) AND attnum > 0
""")

# Roles, and the columns that they may read of the live relation and the new one has (NULL: all of them).
_READABLE = sa.text("""
    SELECT r.rolname::text AS role, CASE WHEN NOT has_table_privilege(r.oid, CAST(:live AS oid), 'SELECT')
                                         THEN array_agg(live.attname::text) END AS columns
    FROM pg_roles r, pg_attribute live JOIN pg_attribute new ON new.attname = live.attname
    WHERE r.rolname = ANY (CAST(:roles AS name[])) AND live.attrelid = :live AND new.attrelid = :new
      AND live.attnum > 0 AND NOT live.attisdropped
      AND has_column_privilege(r.oid, live.attrelid, live.attnum, 'SELECT')
    GROUP BY r.oid, r.rolname
""")

# Whether policies of the tables apply to queries of one of the roles.
_HIDES_ROWS = sa.text("""
    SELECT EXISTS (
        SELECT FROM pg_class c, pg_roles r
        WHERE c.oid = ANY (CAST(:oids AS oid[])) AND r.rolname = ANY (CAST(:roles AS name[])) AND c.relrowsecurity
          AND NOT r.rolsuper AND NOT r.rolbypassrls
          AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE')))
""")
