"""Whether what people hung on a table fits a new definition: tried on an empty temporary table, which does not stay."""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import attachments, dependents, hidden, statements
from airflow_ingest_provider.core.dependents import Dependent, StatisticsObject
from airflow_ingest_provider.core.differences import DefaultChanged, EnumExtended
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.plan import TablePlan
from airflow_ingest_provider.core.session import (
    FEATURE_NOT_SUPPORTED,
    QUERY_CANCELED,
    SYNTAX_ERROR,
    first_line,
    rolled_back,
    run,
    run_all,
    setting,
    sqlstate,
)
from airflow_ingest_provider.core.shape import ColumnShape, TableShape

_USE = "rehearsal"


def check(conn: sa.Connection, plan: TablePlan, live: TableShape) -> None:
    """Raise DefinitionError for a default, constraint, index, policy, trigger, rule, view or extended statistics that
    a new table of the plan's could not have as they are, or for a foreign key that a computed column cannot have.

    What else PostgreSQL refuses of them is left to the migration itself. Keeps nobody waiting. The definition's own
    parts fit: PostgreSQL has made them to compare them.
    """
    assert plan.target is not None, "a table that is there has a target"
    if not (plan.carried or plan.kept or any(map(_has_default, plan.target.columns))):
        return
    labels_come = any(isinstance(one, EnumExtended) for one in plan.differences)
    with rolled_back(conn):
        stage = _Stage(conn, hidden.prepare(conn, plan, live, _USE), labels_come=labels_come)
        if stage.is_set():
            stage.try_parts()
            stage.try_foreign_keys()
            stage.try_attached()
            stage.try_statistics()
            stage.try_views()


class _Stage:
    """A temporary table that has the live one's name and no rows, for all that hangs on that."""

    def __init__(self, conn: sa.Connection, new: HiddenTable, *, labels_come: bool) -> None:
        self._conn = conn
        self._live = new.live.name
        self._oid = oid = new.live.oid
        self._new = new
        self._name = Name("pg_temp", new.live.name.name)
        # A label that is yet to be added is none that is missing.
        self._telling = _OF_DEFINITIONS - {_INVALID_TEXT} if labels_come else _OF_DEFINITIONS
        # Read as long as the live table's name means that.
        self._attached = attachments.attached(conn, [oid])[oid]
        self._statistics = new.of_columns_that_stay(dependents.statistics_objects(conn, [oid])[oid])
        self._views = dependents.dependents(conn, [oid])

    def is_set(self) -> bool:
        """Whether the table could be created: not if a type is yet to be made."""
        columns = tuple(replace(one, default=None) if _has_default(one) else one for one in self._new.shape.columns)
        try:
            with self._conn.begin_nested():
                run(self._conn, statements.create_hidden(self._name, replace(self._new.shape, columns=columns), ""))
        except sa.exc.DBAPIError as error:
            if _is_interrupted(error):
                raise
            return False
        self._conn.execute(_TEMPORARY_FIRST)
        return True

    def try_parts(self) -> None:
        """Defaults, constraints and indexes."""
        shape, name = self._new.shape, self._name
        for column in filter(_has_default, shape.columns):
            set_default = statements.migrate_in_place(name, DefaultChanged(column.name, str(column.default)), None)
            self._try(f"default {column.default} of column {column.name!r}", set_default)
        for constraint in shape.constraints:
            add = statements.add_constraint(name, replace(constraint, tablespace=None), constraint.name)
            self._try(f"{constraint.name} {constraint.definition}", add)
        for index in shape.indexes:
            self._try(f"index {index.name}", statements.create_index(name, replace(index, tablespace=None), index.name))

    def try_foreign_keys(self) -> None:
        """Those of computed columns, which no action may set; whether types fit is known when both ends have them."""
        computed = {column.name for column in self._new.shape.columns if column.generated}
        for place, key in enumerate(self._new.shape.foreign_keys):
            columns = [column for column in map(self._new.shape.column, key.columns) if column]
            if computed.isdisjoint(key.columns):
                continue
            target = Name("pg_temp", temporary_name(_USE, f"target{place}"))
            tried = replace(key, target_columns=key.columns)
            self._try(
                f"foreign key {key.name} to {key.target}",
                statements.create_referred(target, columns),
                statements.add_foreign_key(self._name, tried, key.name, target, valid=True),
                telling=_OF_COMPUTED_KEYS,
            )

    def try_attached(self) -> None:
        """Policies, triggers and rules."""
        quoted = str(self._conn.scalar(_QUOTED, {"schema": self._live.schema, "name": self._live.name}))
        table = re.compile(rf'(?<![\w.$"]){re.escape(quoted)}(?![\w$"])')
        for one in self._attached:
            statement, count = table.subn(lambda _: self._name.quoted, one.statement)
            if one.what in ("policy", "trigger", "rule") and count == 1:
                self._try(" ".join(one.statement.split()), statement)

    def try_statistics(self) -> None:
        """Extended statistics."""
        self._try_statistics(self._statistics, self._name, temporary_name(_USE))

    def try_views(self) -> None:
        """Views, each over those below it; those over two relations of one name are left out."""
        stand_in = {self._oid: self._live}
        replaced = {self._oid, *(view.oid for view in self._views)}
        for place, view in enumerate(self._views):
            read = view.reads & replaced
            if not read <= stand_in.keys():
                continue
            is_taken = any(view.name.name == name.name for name in stand_in.values())
            called = temporary_name(_USE, f"view{place}") if is_taken else view.name.name
            if self._try_view(view, called, [stand_in[oid] for oid in read]):
                self._try_parts_of(view, called, Name("pg_temp", temporary_name(_USE, f"stored{place}")))
                if not is_taken:
                    stand_in[view.oid] = view.name

    def _try_view(self, view: Dependent, called: str, read: Collection[Name]) -> bool:
        schemas = {name.schema for name in read}
        query = dependents.query(self._conn, view.oid, schemas)
        if any(re.search(rf'"?{re.escape(one.schema)}"?[.]"?{re.escape(one.name)}"?', query) for one in read):
            return False
        path = [sql.Identifier(schema).as_string(None) for schema in ("pg_temp", *schemas)]
        create = sql.SQL("CREATE TEMPORARY VIEW {} AS {}").format(sql.Identifier(called), sql.SQL(query))
        with setting(self._conn, "search_path", ", ".join(path)):
            return self._try(f"{view.word.lower()} {view.name}", create)

    def _try_parts_of(self, view: Dependent, called: str, stored: Name) -> None:
        """Indexes and extended statistics of a materialized view, on a table of its columns."""
        if not (view.indexes or view.statistics):
            return
        of_view = f" of {view.word.lower()} {view.name}"
        create = sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT * FROM {} WITH NO DATA")
        if not self._try(of_view.strip(), create.format(sql.Identifier(stored.name), Name("pg_temp", called).sql)):
            return
        for place, index in enumerate(view.indexes):
            bare = replace(index, tablespace=None)
            self._try(
                f"index {index.name}{of_view}", statements.create_index(stored, bare, f"{stored.name}_index{place}")
            )
        self._try_statistics(view.statistics, stored, stored.name, of_view)

    def _try_statistics(
        self, statistics: Iterable[StatisticsObject], table: Name, parts: str, of_view: str = ""
    ) -> None:
        for place, one in enumerate(statistics):
            name = Name("pg_temp", f"{parts}_stats{place}")
            self._try(
                f"extended statistics {one.name}{of_view}",
                *statements.create_statistics(name, one.kinds, one.on, None, table),
            )

    def _try(self, what: str, *steps: str | sql.Composable, telling: Collection[str] = ()) -> bool:
        """Whether the steps could be taken; DefinitionError where they do not fit the definition."""
        try:
            with self._conn.begin_nested():
                run_all(self._conn, steps)
        except sa.exc.DBAPIError as error:
            if _is_interrupted(error):
                raise
            if sqlstate(error) not in (telling or self._telling):
                return False
            raise DefinitionError(
                f"{self._live}: {what} does not fit the columns as they are declared: {first_line(error)}: "
                "remove it and put back afterwards what fits, or change the definition"
            ) from error
        return True


def _is_interrupted(error: sa.exc.DBAPIError) -> bool:
    """Whether the statement was cancelled or the connection lost, which says nothing of what was tried."""
    return error.connection_invalidated or sqlstate(error) == QUERY_CANCELED


def _has_default(column: ColumnShape) -> bool:
    return column.default is not None and not column.generated and not column.new_sequence


_OF_COMPUTED_KEYS = frozenset({FEATURE_NOT_SUPPORTED, SYNTAX_ERROR})
_INVALID_TEXT = "22P02"
_OF_DEFINITIONS = frozenset(
    {
        FEATURE_NOT_SUPPORTED,  # no default operator class for statistics, or of a virtual column
        _INVALID_TEXT,  # a literal that the type does not take, or a label that is gone
        "22003",
        "22007",
        "22008",
        "42701",
        "42702",
        "42703",
        "42704",  # no operator class
        "42725",
        "42804",
        "42846",
        "42883",
        "42P17",  # not immutable
        "42P18",
        "42P21",
        "42P22",
    }
)
"""What PostgreSQL says of expressions that do not fit the types, names and collations of columns.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

_QUOTED = sa.text("SELECT format('%I.%I', CAST(:schema AS text), CAST(:name AS text))")

# The search_path may be empty.
_TEMPORARY_FIRST = sa.text("""
    SELECT set_config('search_path', concat_ws(', ', 'pg_temp', nullif(current_setting('search_path'), '')), true)
""")
