"""Differences that rows have to be read for, in steps that let readers go on.

Each step is a transaction of its own: one that adds a constraint and validates it would keep its ACCESS EXCLUSIVE
through the scan. What the steps make has temporary names until the last one, so that what a killed run left is known.
https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import catalog, reflection, statements
from airflow_ingest_provider.core.differences import (
    ColumnAdded,
    ColumnDropped,
    ConstraintAdded,
    ConstraintDropped,
    ConstraintValidated,
    Difference,
    ForeignKeyAdded,
    ForeignKeyDropped,
    IndexAdded,
    IndexDropped,
    NotNullAdded,
    TypeChanged,
    Way,
)
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.locks import OF_READERS, OF_WRITERS, exclusively, hold_writers, run_each
from airflow_ingest_provider.core.names import Name, free_name, is_temporary, temporary_name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.plan import TablePlan
from airflow_ingest_provider.core.session import (
    DATATYPE_MISMATCH,
    FEATURE_NOT_SUPPORTED,
    INVALID_FOREIGN_KEY,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    SYNTAX_ERROR,
    run,
    sqlstate,
)
from airflow_ingest_provider.core.shape import ConstraintShape, ForeignKeyShape, IndexShape, TableShape
from airflow_ingest_provider.core.watermark import State

Step = Callable[[sa.Connection], None]


def _comes_first(difference: Difference) -> bool:
    """Whether later steps may build on it, or it takes away what a killed run left."""
    match difference:
        case ColumnAdded() | TypeChanged():
            return True
        case ConstraintDropped(ConstraintShape(name)) | IndexDropped(IndexShape(name)):
            return is_temporary(name)
        case ForeignKeyDropped(key):
            return is_temporary(key.name)
    return False


class Steps:
    """The steps of one table's plan, to be run in their order, each in a transaction that is committed."""

    def __init__(self, live: TableShape, plan: TablePlan, token: str, state: State, options: Options) -> None:
        self.state = state
        """What the table's comment is to hold in the end."""
        self._live = live
        self._table = plan.table
        self._plan = plan
        self.token = token
        self._options = options

    def __iter__(self) -> Iterator[Step]:
        first = [one for one in in_order(self._plan.of_way(Way.CATALOG)) if _comes_first(one)]
        if first:
            yield self._catalog_changes(first)
        for place, difference in enumerate(self._plan.of_way(Way.STEPS)):
            yield from self._of_difference(difference, temporary_name(self.token, f"step{place}"))
        if self._has_last:
            yield self._last

    @property
    def _has_last(self) -> bool:
        """Whether anything is left to do once rows were read: a constraint that was validated is as it is to be."""
        catalog_changes = (one for one in self._plan.of_way(Way.CATALOG) if not _comes_first(one))
        made = (one for one in self._plan.of_way(Way.STEPS) if not isinstance(one, ConstraintValidated))
        return any(True for _ in chain(catalog_changes, made))

    def known_as(self, text: str) -> str:
        """A text, in which what the steps make has the names that it will have."""
        for place, difference in enumerate(self._plan.of_way(Way.STEPS)):
            text = text.replace(temporary_name(self.token, f"step{place}"), self._wanted_name(difference))
        return text

    def _of_difference(self, difference: Difference, name: str) -> Iterator[Step]:
        match difference:
            case NotNullAdded(column):
                check = sql.SQL("CHECK ({} IS NOT NULL)").format(sql.Identifier(column))
                yield self._exclusive(statements.add_unvalidated(self._table, name, check))
                yield self._validate(name)
            case ConstraintAdded(ConstraintShape(kind="c") as check_):
                yield self._exclusive(statements.add_unvalidated(self._table, name, sql.SQL(check_.definition)))
                if check_.validated:
                    yield self._validate(name)
            case ConstraintAdded(key) if self._live.kind == "p":
                # PostgreSQL has no USING INDEX for them.
                yield self._exclusive(
                    *self._changes(self._in_the_way(difference)), statements.add_constraint(self._table, key, key.name)
                )
            case ConstraintAdded(key):
                assert key.index is not None, "keys without a b-tree are left to a rebuild"
                unique = IndexShape(name, key.index, unique=True, tablespace=key.tablespace, options=key.options)
                yield self._index(unique, name)
            case IndexAdded(index):
                yield self._index(index, name)
            case ForeignKeyAdded(foreign_key) if self._live.kind == "p":
                # There is no NOT VALID for them before PostgreSQL 18, and partitions would keep a temporary name.
                yield self._foreign_key(foreign_key, foreign_key.name, self._in_the_way(difference), valid=True)
            case ForeignKeyAdded(foreign_key):
                yield self._foreign_key(foreign_key, name, (), valid=False)
                if foreign_key.validated:
                    yield self._validate(name)
            case ConstraintValidated(known):
                yield self._validate(known)

    def _in_the_way(self, added: Difference) -> Sequence[Difference]:
        """What has to go before a key of a partitioned table can be added, which has its name from the beginning."""
        if self._live.kind != "p":
            return ()
        return [one for one in self._plan.of_way(Way.CATALOG) if _excludes(one, added)]

    def _changes(self, differences: Sequence[Difference]) -> list[sql.Composable]:
        return [statements.migrate_in_place(self._table, one, self.state.comment) for one in differences]

    def _exclusive(self, *steps: sql.Composable) -> Step:
        return lambda conn: exclusively(conn, [self._table], self._options, lambda: run_each(conn, steps))

    def _validate(self, name: str) -> Step:
        """Read the rows for a constraint, under SHARE UPDATE EXCLUSIVE: readers and writers go on."""
        step = [statements.validate(self._table, name)]
        names, options = [self._table], self._options
        return lambda conn: exclusively(conn, names, options, lambda: run_each(conn, step), harmless=OF_WRITERS)

    def _foreign_key(self, key: ForeignKeyShape, name: str, instead: Sequence[Difference], *, valid: bool) -> Step:
        """Add a foreign key, under SHARE ROW EXCLUSIVE on both tables, or ACCESS EXCLUSIVE where one goes for it."""
        step = [*self._changes(instead), statements.add_foreign_key(self._table, key, name, key.target, valid=valid)]
        names, options, harmless = {self._table, key.target}, self._options, () if instead else OF_READERS

        def add(conn: sa.Connection) -> None:
            with fitting(key, self._table):
                exclusively(conn, names, options, lambda: run_each(conn, step, among=len(names)), harmless=harmless)

        return add

    def _catalog_changes(self, differences: Sequence[Difference]) -> Step:
        return self._exclusive(*self._changes(differences))

    def _index(self, index: IndexShape, name: str) -> Step:
        def build(conn: sa.Connection) -> None:
            hold_writers(conn, [self._table], self._options)
            create_index(conn, self._table, index, name)

        return build

    def _last(self, conn: sa.Connection) -> None:
        """Take away what goes, and give what was made its place and name."""
        exclusively(conn, [self._table], self._options, lambda: run_each(conn, self._last_changes(conn)))

    def _last_changes(self, conn: sa.Connection) -> Iterator[sql.Composable]:
        differences = self._plan.of_way(Way.STEPS)
        yield from (
            statements.set_not_null(self._table, one.column) for one in differences if isinstance(one, NotNullAdded)
        )
        gone = [one for difference in differences for one in self._in_the_way(difference)]
        for difference in in_order(self._plan.of_way(Way.CATALOG)):
            if not _comes_first(difference) and difference not in gone:
                yield statements.migrate_in_place(self._table, difference, self.state.comment)
        for place, difference in enumerate(differences):
            yield from self._settle(conn, difference, temporary_name(self.token, f"step{place}"))

    def _settle(self, conn: sa.Connection, difference: Difference, name: str) -> Iterator[sql.Composable]:
        wanted = self._wanted_name(difference)
        match difference:
            case NotNullAdded():
                yield statements.drop_constraint(self._table, name)
            case ConstraintAdded(ConstraintShape(kind="c")):
                yield statements.rename_constraint(self._table, name, wanted)
            case ConstraintAdded() | ForeignKeyAdded() if self._live.kind == "p":
                pass
            case ForeignKeyAdded():
                yield statements.rename_constraint(self._table, name, wanted)
            case ConstraintAdded(key):
                yield statements.add_key_using_index(self._table, key, self._free_name(conn, wanted), name)
            case IndexAdded():
                yield statements.rename("INDEX", self._table.sibling(name), self._free_name(conn, wanted))

    def _free_name(self, conn: sa.Connection, wanted: str) -> str:
        """The name, or one like it that neither relations of the schema have nor another part of the table."""
        assert self._plan.target is not None, "a table that is there has a target"
        others = catalog.taken_names(conn, {self._live.oid: [wanted]})[self._live.oid]
        return free_name(wanted, others | (self._plan.target.names - {wanted}))

    def _wanted_name(self, difference: Difference) -> str:
        match difference:
            case ConstraintAdded(constraint):
                return constraint.name
            case IndexAdded(index):
                return index.name
            case ForeignKeyAdded(key):
                return key.name
            case NotNullAdded(column):
                return column
        return str(difference)


@contextmanager
def fitting(key: ForeignKeyShape, table: Name) -> Iterator[None]:
    """Raise DefinitionError where the table's foreign key cannot be on the columns that there will be."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        why = _UNFIT.get(sqlstate(error) or "")
        if why is None:
            raise
        raise DefinitionError(
            f"foreign key {key.name} of {table} ({', '.join(key.columns)}) to {key.target} "
            f"({', '.join(key.target_columns)}) does not fit the columns as they are declared, {why}: drop it, or "
            "change the definition"
        ) from error


_COMPUTED = "computed or of types without a common equality"
_UNFIT = {
    DATATYPE_MISMATCH: _COMPUTED,
    FEATURE_NOT_SUPPORTED: _COMPUTED,
    SYNTAX_ERROR: "computed, so that no action of the key can set them",
    INVALID_FOREIGN_KEY: "since no primary key or unique constraint is on those that it refers to",
    OBJECT_NOT_IN_PREREQUISITE_STATE: "since the key on those that it refers to is DEFERRABLE",
}


def _excludes(dropped: Difference, added: Difference) -> bool:
    """Whether one of them can only be added once the other has gone: they share a name, or are primary keys."""
    match dropped, added:
        case ForeignKeyDropped(old_key), ForeignKeyAdded(new_key):
            return old_key.name == new_key.name
        case ConstraintDropped(old), ConstraintAdded(new):
            return new.kind != "c" and (old.name == new.name or old.kind == new.kind == "p")
    return False


def in_order(differences: Sequence[Difference]) -> list[Difference]:
    """The differences, so that none stands in another one's way.

    Foreign keys go before the keys that they refer to, and those before their columns may be NULL. Columns go last:
    they would take their constraints and indexes along.
    """
    return sorted(differences, key=_place)


def _place(difference: Difference) -> int:
    match difference:
        case ForeignKeyDropped():
            return 0
        case ConstraintDropped():
            return 1
        case ColumnDropped():
            return 3
    return 2


def create_index(conn: sa.Connection, table: Name, index: IndexShape, name: str) -> None:
    """Build an index under a name, with all that is its own."""
    run(conn, statements.create_index(table, index, name))
    for statement in statements.tune_index(table.sibling(name), index):
        run(conn, statement)


def clear_leftovers(conn: sa.Connection, oid: int, token: str, options: Options) -> None:
    """Drop what the steps of that token have made and not settled, in the open transaction.

    What those of another run have made may be in use: it is at its own steps.
    """
    live = reflection.table_shape(conn, oid)
    constraints = [one.name for one in live.constraints] + [one.name for one in live.foreign_keys]
    indexes = [live.name.sibling(one.name) for one in live.indexes]
    drops = [
        *(statements.drop_constraint(live.name, name) for name in constraints if _is_of(name, token)),
        *(sql.SQL("DROP INDEX {}").format(name.sql) for name in indexes if _is_of(name.name, token)),
    ]
    if drops:
        exclusively(conn, [live.name], options, lambda: run_each(conn, drops))


def _is_of(name: str, token: str) -> bool:
    return is_temporary(name) and name.endswith(f"_{token}")
