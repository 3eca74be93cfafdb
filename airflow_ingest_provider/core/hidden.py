"""A hidden table: built beside the live one, filled, and finished before anybody sees it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import analyze, attachments, catalog, dependents, reflection, statements
from airflow_ingest_provider.core.attachments import Attached
from airflow_ingest_provider.core.dependents import StatisticsObject
from airflow_ingest_provider.core.differences import EnumChanged
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.locks import OF_READERS, exclusively, shorten
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.plan import TablePlan
from airflow_ingest_provider.core.session import (
    INSUFFICIENT_PRIVILEGE,
    UNDEFINED_OBJECT,
    UNIQUE_VIOLATION,
    first_line,
    rolled_back,
    run,
    sqlstate,
)
from airflow_ingest_provider.core.shape import ColumnShape, PartName, TableShape
from airflow_ingest_provider.core.steps import create_index, fitting
from airflow_ingest_provider.core.widening import sorts_alike


@dataclass(frozen=True)
class HiddenTable:
    """A table that will take the name of `live`; `shape` is its definition, under the names that it will have."""

    name: Name
    live: TableShape
    shape: TableShape
    token: str
    retired: tuple[Name, ...] = ()
    """Enum types of the live table that go with it, under the temporary names that they have by then."""
    granted: tuple[str, ...] = ()
    """What a callback granted on it, as statements for the name that it will have."""
    revoked: frozenset[str] = frozenset()
    """What it took away of that which is granted on the live table, as the statements that would grant it."""
    commented: frozenset[str] = frozenset()
    """The columns whose comments it changed: `shape` has them."""

    @property
    def gone(self) -> frozenset[PartName]:
        """Names of the live columns, constraints and indexes that the new table has not."""
        return self.live.part_names - self.shape.part_names

    def carries(self, one: Attached) -> bool:
        """Whether what hangs on the live table belongs on this one."""
        if one.part in self.gone or one.statement in self.revoked:
            return False
        return not (one.comments_on_column and one.part and one.part[1] in self.commented)

    @property
    def retypes(self) -> bool:
        """Whether a column has another type or collation: views over it cannot be pointed at the new table in place."""
        return bool(self.live.retyped(self.shape))

    def temporary(self, place: int) -> str:
        """What the index or constraint at that place is called until the swap: its own name is still taken."""
        return temporary_name(self.token, f"index{place}")

    def of_columns_that_stay(self, statistics: Iterable[StatisticsObject]) -> list[StatisticsObject]:
        """Those extended statistics of the live table that the new one can have too."""
        there = {column.name for column in self.shape.columns}
        return [one for one in statistics if there.issuperset(one.columns)]

    def known_as(self, text: str) -> str:
        """A text, in which the table and its parts have the names that people know."""
        text = text.replace(self.name.name, self.live.name.name)
        parts = [one.name for one in self.shape.constraints] + [one.name for one in self.shape.indexes]
        for place, name in enumerate(parts):
            text = text.replace(self.temporary(place), name)
        return text


def prepare(conn: sa.Connection, plan: TablePlan, live: TableShape, token: str) -> HiddenTable:
    """Name the hidden table, and make the enum types anew that it needs; `create` or `copy` then makes it."""
    assert plan.target is not None, "a table that is not there is created, and not rebuilt"
    # All of it goes where the live table has it, and not where the role makes its new tables.
    run(conn, "SET LOCAL default_tablespace = ''")
    retired = _retire_enums(conn, plan, token)
    if retired:
        live = reflection.table_shape(conn, live.oid)
    return HiddenTable(live.name.sibling(temporary_name(token)), live, plan.target, token, retired)


def create(conn: sa.Connection, hidden: HiddenTable) -> None:
    """Create the table with its columns and checks, for new rows; keys and indexes come after them."""
    _create_empty(conn, hidden)
    _add_checks(conn, hidden)


def give_owners(conn: sa.Connection, hiddens: Sequence[HiddenTable]) -> None:
    """Give the tables to the owners of the live ones that are there, where the role may."""
    found = catalog.access(conn, [hidden.live.oid for hidden in hiddens])
    for hidden in hiddens:
        access = found.get(hidden.live.oid)
        if access and access.may_own and access.owner != access.role:
            run(conn, statements.give_owner("TABLE", hidden.name, access.owner))


def comments_on_columns(table: Name, shape: TableShape) -> Iterator[sql.Composable]:
    """The statements that give the table's columns their comments."""
    for column in shape.columns:
        if column.comment is not None:
            yield statements.comment_on_column(table, column.name, column.comment)


def copy(conn: sa.Connection, hidden: HiddenTable, conversions: Mapping[str, str]) -> int:
    """Create the table with the live one's rows, converted, or cast as PostgreSQL casts in an assignment; how many."""
    if all(_comes_with_query(hidden, column, conversions) for column in hidden.shape.columns):
        rows = _create_as(conn, hidden)
    else:
        _create_empty(conn, hidden)
        rows = _insert(conn, hidden, conversions) if catalog.has_rows(conn, hidden.live.name) else 0
    _add_checks(conn, hidden)
    return rows


def _create_empty(conn: sa.Connection, hidden: HiddenTable) -> None:
    settings = attachments.settings(conn, [hidden.live.oid])[hidden.live.oid]
    run(conn, statements.create_hidden(hidden.name, hidden.shape, settings))
    for statement in statements.tune(hidden.name, hidden.shape):
        run(conn, statement)


def _add_checks(conn: sa.Connection, hidden: HiddenTable) -> None:
    """Put the checks to all rows; those that are live as NOT VALID, to the ones to come."""
    for check in hidden.shape.of_kind("c"):
        run(conn, statements.add_constraint(hidden.name, check, check.name))


def _comes_with_query(hidden: HiddenTable, column: ColumnShape, conversions: Mapping[str, str]) -> bool:
    """Whether a query of the live table gives the column just as it is to be stored."""
    before = hidden.live.column(column.name)
    if before is None or column.name in conversions or column.generated or column.tuning or column.new_sequence:
        return False
    if before.type == column.type:
        return before.collation == column.collation
    return column.value.name in _CAST_AS_ASSIGNED and column.value.modifier == -1


_CAST_AS_ASSIGNED = frozenset(
    {"int2", "int4", "int8", "float4", "float8", "numeric", "date", "timestamp", "timestamptz"}
)
"""Types without a collation, to which CAST does what an assignment does where they have no modifier."""


def _create_as(conn: sa.Connection, hidden: HiddenTable) -> int:
    """CREATE TABLE AS takes two thirds of the time of INSERT, which looks for a place for each row."""
    settings = attachments.settings(conn, [hidden.live.oid])[hidden.live.oid]
    rows = run(conn, statements.create_hidden_as(hidden.name, hidden.shape, settings, hidden.live.name)).rowcount
    for statement in statements.complete(hidden.name, hidden.shape):
        run(conn, statement)
    return rows


def _retire_enums(conn: sa.Connection, plan: TablePlan, token: str) -> tuple[Name, ...]:
    """Make the changed enum types anew, with owner and comment; what the old ones are called from now on."""
    changed = {one.type: one for one in plan.differences if isinstance(one, EnumChanged)}
    retired = []
    for place, (type_, one) in enumerate(changed.items()):
        name, owner, comment = catalog.type_owner(conn, type_)
        old = name.sibling(temporary_name(token, f"type{place}"))
        run(conn, statements.rename_type(name.quoted, old.name))
        run(conn, statements.create_enum(name.quoted, one.after))
        run(conn, statements.give_owner("TYPE", name, owner))
        if comment is not None:
            run(conn, sql.SQL("COMMENT ON TYPE {} IS {}").format(name.sql, statements.literal(comment)))
        retired.append(old)
    return tuple(retired)


def _insert(conn: sa.Connection, hidden: HiddenTable, conversions: Mapping[str, str]) -> int:
    filled = [
        column
        for column in hidden.shape.loaded_columns
        if hidden.live.column(column.name) or column.name in conversions
    ]
    # Rows without a column in common are kept as well: with no columns at all, the new ones get their defaults.
    columns = statements.columns([column.name for column in filled])
    listed = sql.SQL("({}) OVERRIDING SYSTEM VALUE").format(columns) if filled else sql.SQL("")
    values = sql.SQL(", ").join(_value(hidden, column, conversions) for column in filled)
    insert = sql.SQL("INSERT INTO {} {} SELECT {} FROM {}")
    with _understood(hidden.live.name, conversions):
        rows = run(conn, insert.format(hidden.name.sql, listed, values, hidden.live.name.sql)).rowcount
    if conversions:
        _check_count(conn, hidden.live.name, rows, conversions)
    return rows


def _check_count(conn: sa.Connection, table: Name, rows: int, conversions: Mapping[str, str]) -> None:
    """Raise DefinitionError for aggregates and functions that return sets, which make another number of rows."""
    there = run(conn, sql.SQL("SELECT count(*) FROM {}").format(table.sql)).scalar_one()
    if rows != there:
        raise DefinitionError(
            f"{table}: conversions={dict(conversions)!r} make {rows} rows of {there}: expected SQL expressions that "
            "give one value for each row"
        )


def try_conversions(conn: sa.Connection, plan: TablePlan, live: TableShape, conversions: Mapping[str, str]) -> None:
    """Convert the live rows as `copy` would, into a temporary table that does not stay.

    Raises DefinitionError where a conversion is no expression over the table, and what PostgreSQL says where it fails
    on a row.
    """
    assert plan.target is not None, "a table that is there has a target"
    converted = tuple(column for column in plan.target.loaded_columns if column.name in conversions)
    if not converted:
        return
    shape = replace(plan.target, name=Name("pg_temp", temporary_name("converted")), columns=converted)
    try:
        with rolled_back(conn):
            run(conn, statements.create_staging(shape.name.name, shape, not_null=True))
            _insert(conn, HiddenTable(shape.name, live, shape, token=""), conversions)
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != UNDEFINED_OBJECT:  # a type that is yet to be made
            raise


@contextmanager
def _understood(table: Name, conversions: Mapping[str, str]) -> Iterator[None]:
    """Raise DefinitionError where a conversion is no expression over the table."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        state = sqlstate(error) or ""
        if not conversions or not state.startswith("42") or state == INSUFFICIENT_PRIVILEGE:
            raise
        raise DefinitionError(
            f"{table}: PostgreSQL does not take conversions={dict(conversions)!r}: "
            f"{first_line(error)}: expected SQL expressions over the columns that the table has "
            "now, of the types that it is to have"
        ) from error


def _value(hidden: HiddenTable, column: ColumnShape, conversions: Mapping[str, str]) -> sql.Composable:
    """What a column is filled with; labels of an enum type that was made anew go by their names."""
    before = hidden.live.column(column.name)
    if before is not None and before.type == column.type:
        return sql.Identifier(column.name)
    if column.name in conversions:
        return sql.SQL("({})").format(sql.SQL(conversions[column.name]))
    if hidden.retired and column.value.enum:
        text = sql.SQL("text[]" if column.value.is_array else "text")
        return sql.SQL("CAST(CAST({} AS {}) AS {})").format(sql.Identifier(column.name), text, sql.SQL(column.type))
    return sql.Identifier(column.name)


def finish(conn: sa.Connection, hidden: HiddenTable, *, last_row_wins: bool) -> int:
    """Add keys, indexes and extended statistics; how many rows a later one of their key replaced.

    Rows of one key are an error unless the last one wins. Foreign keys come once all hidden tables have their keys.
    """
    superseded = _add_keys(conn, hidden, last_row_wins)
    for place, index in enumerate(hidden.shape.indexes, start=len(hidden.shape.constraints)):
        create_index(conn, hidden.name, index, hidden.temporary(place))
    live_statistics = dependents.statistics_objects(conn, [hidden.live.oid])[hidden.live.oid]
    create_statistics(conn, hidden.name, hidden.of_columns_that_stay(live_statistics), hidden.name)
    return superseded


def add_foreign_keys(conn: sa.Connection, hiddens: Sequence[HiddenTable], options: Options) -> None:
    """Add the foreign keys of hidden tables, for rows to come; `check_foreign_keys` reads those that are there.

    Takes SHARE ROW EXCLUSIVE on the tables that they refer to, but for those that are about to be swapped as well.
    """
    renamed = {one.live.name: one.name for one in hiddens}
    keys = [(one, key) for one in hiddens for key in one.shape.foreign_keys]

    def add() -> None:
        for hidden, key in keys:
            shorten(conn)
            target = renamed.get(key.target, key.target)
            with fitting(key, hidden.live.name):
                run(conn, statements.add_foreign_key(hidden.name, key, key.name, target, valid=False))

    if keys:
        exclusively(conn, {key.target for _, key in keys} - renamed.keys(), options, add, harmless=OF_READERS)


def check_foreign_keys(conn: sa.Connection, hidden: HiddenTable) -> None:
    """Read the rows for the foreign keys that are valid on the live table too; the locks for it are held already."""
    for key in hidden.shape.foreign_keys:
        if key.validated:
            run(conn, statements.validate(hidden.name, key.name))


def with_sequences(conn: sa.Connection, hidden: HiddenTable) -> TableShape:
    """The hidden table's columns that draw from sequences: of identities its own, of serial ones the live table's."""
    drawing = [column for column in hidden.shape.columns if column.identity or column.serial]
    has_own = any(column.identity or column.new_sequence for column in drawing)
    own = reflection.table_shape(conn, catalog.oid_of(conn, hidden.name)).columns if has_own else ()
    sequences = {column.name: column.sequence for column in own if column.sequence}
    columns = (replace(one, sequence=sequences.get(one.name, one.sequence)) for one in drawing)
    return replace(hidden.shape, name=hidden.name, columns=tuple(columns))


def with_new_sequences(conn: sa.Connection, hidden: HiddenTable) -> TableShape:
    """Of these columns those that drew from no sequence before."""
    drew = {column.name for column in hidden.live.columns if column.sequence}
    shape = with_sequences(conn, hidden)
    return replace(shape, columns=tuple(column for column in shape.columns if column.name not in drew))


def analyze_copy(conn: sa.Connection, hidden: HiddenTable, conversions: Mapping[str, str], rows: int) -> None:
    """Gather the planner's statistics of a table that `copy` filled with so many rows."""
    stored = [column for column in hidden.shape.columns if column.generated != "v"]
    same = [one.name for one in stored if one.name not in conversions and _has_same_values(hidden, one)]
    analyze.copied(conn, hidden.name, rows, hidden.live.oid, [column.name for column in stored], same)


def _has_same_values(hidden: HiddenTable, column: ColumnShape) -> bool:
    before = hidden.live.column(column.name)
    if before is None or before.generated or column.generated or before.collation != column.collation:
        return False
    # Labels of an enum that was made anew may be sorted otherwise.
    return sorts_alike(before.type, column.type) and not (hidden.retired and column.value.enum)


def create_statistics(conn: sa.Connection, table: Name, statistics: Iterable[StatisticsObject], parts: Name) -> None:
    """Create the extended statistics that a live relation has on the one that is to take its place.

    They have temporary names until `name_statistics`, which begin with `parts`.
    """
    for place, one in enumerate(statistics):
        named = _statistics_name(parts, place, one)
        for statement in statements.create_statistics(named, one.kinds, one.on, one.target, table):
            run(conn, statement)


def name_statistics(parts: Name, statistics: Iterable[StatisticsObject]) -> Iterator[sql.Composable]:
    """Give them their names, owners and comments, once the live ones are gone."""
    for place, one in enumerate(statistics):
        yield statements.rename("STATISTICS", _statistics_name(parts, place, one), one.name.name)
        yield statements.give_owner("STATISTICS", one.name, one.owner)
        if one.comment is not None:
            yield sql.SQL("COMMENT ON STATISTICS {} IS {}").format(one.name.sql, statements.literal(one.comment))


def _statistics_name(parts: Name, place: int, statistics: StatisticsObject) -> Name:
    return statistics.name.sibling(f"{parts.name}_stats{place}")


def _add_keys(conn: sa.Connection, hidden: HiddenTable, last_row_wins: bool) -> int:
    superseded = 0
    for place, constraint in enumerate(hidden.shape.constraints):
        if constraint.kind == "c":
            continue
        add = statements.add_constraint(hidden.name, constraint, hidden.temporary(place))
        if constraint.kind != "p" or not last_row_wins:
            run(conn, add)
            continue
        try:
            with conn.begin_nested():
                run(conn, add)
        except sa.exc.DBAPIError as error:
            if sqlstate(error) != UNIQUE_VIOLATION:
                raise
            superseded = _keep_last(conn, hidden.name, constraint.columns)
            run(conn, add)
    return superseded


def _keep_last(conn: sa.Connection, table: Name, key: tuple[str, ...]) -> int:
    """Delete all rows of a key but the last; how many they were. In a table of its own transaction,
    rows that COPY wrote lie in the order of their arrival: it does not look for free space there, as INSERT does."""
    keys = statements.columns(key)
    duplicates = sql.SQL(
        "DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM ("
        "SELECT ctid, row_number() OVER (PARTITION BY {keys} ORDER BY ctid DESC) AS place FROM {table}"
        ") ranked WHERE place > 1)"
    )
    return run(conn, duplicates.format(table=table.sql, keys=keys)).rowcount
