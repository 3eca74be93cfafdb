"""From the live table to its definition: creating it, planning, and carrying the plan out."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import (
    catalog,
    dependents,
    hidden,
    reflection,
    sequences,
    statements,
    steps,
    swap,
    trials,
    walls,
    watermark,
)
from airflow_ingest_provider.core.comparison import plan
from airflow_ingest_provider.core.conversions import conversions_of
from airflow_ingest_provider.core.creation import create, create_schemas
from airflow_ingest_provider.core.declared import EnumShape, declared_enums, live_and_declared
from airflow_ingest_provider.core.differences import (
    ColumnAdded,
    CommentChanged,
    Difference,
    EnumChanged,
    ForeignKeyAdded,
    Way,
)
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.locks import OF_READERS, exclusively, one_run_at_a_time, run_each, shorten
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.plan import Facts, Planned
from airflow_ingest_provider.core.refusals import reason
from airflow_ingest_provider.core.session import first_line, run, sqlstate, transaction
from airflow_ingest_provider.core.shape import ForeignKeyShape, TableShape


def create_missing(
    conn: sa.Connection, metadata: sa.MetaData, names: Mapping[sa.Table, Name], options: Options
) -> tuple[Name, ...]:
    """Create the schemas and tables that are not there, whole, in the open transaction; which tables they were.

    Takes SHARE ROW EXCLUSIVE on tables that are there and that they refer to.
    """
    oids = catalog.oids_of(conn, list(names.values()))
    missing = {table: name for (table, name), oid in zip(names.items(), oids, strict=True) if not oid}
    # Two runs that make the same schema, or an enum type of it, for two tables would fail each other.
    schemas = sorted({name.schema for name in missing.values()})
    one_run_at_a_time(conn, [Name(schema, "") for schema in schemas], options.lock_patience)
    create_schemas(conn, schemas)
    referred = {key.column.table for table in missing for key in table.foreign_keys} - missing.keys()
    there = [name for name, oid in catalog.find_tables(conn, list(referred)) if oid] if referred else []

    def create_all() -> None:
        shorten(conn, among=len(there))
        create(conn, metadata, missing)

    if there:
        exclusively(conn, there, options, create_all, harmless=OF_READERS)
    elif missing:
        create(conn, metadata, missing)
    # A reflected table's comment holds the state of another run.
    stored = {name: watermark.parse(table.comment) for table, name in missing.items()}
    watermark.save(conn, {name: watermark.State(state.text) for name, state in stored.items() if state.stored})
    return tuple(missing.values())


def lacks_labels(conn: sa.Connection, table: sa.Table) -> bool:
    """Whether an enum type of the table is there, and lacks labels that are declared; outside a transaction."""
    if not declared_enums(conn, table):
        return False
    with transaction(conn):
        there = [(enum, catalog.enum_labels(conn, enum.schema, enum.name)) for enum in declared_enums(conn, table)]
    return any(labels is not None and not set(enum.labels) <= set(labels) for enum, labels in there)


def add_enum_labels(conn: sa.Connection, table: sa.Table, differences: Collection[Difference]) -> None:
    """Add the labels that the table's enum types lack, each behind the one that is declared before it.

    To be committed before the labels are used. Types that are made anew, by one of the differences, are left alone.
    """
    made_anew = [(one.before, one.after) for one in differences if isinstance(one, EnumChanged)]
    for enum in declared_enums(conn, table):
        there = catalog.enum_labels(conn, enum.schema, enum.name)
        if there is None or (there, enum.labels) in made_anew:
            continue
        for before, label in zip((None, *enum.labels), enum.labels, strict=False):
            if label not in there:
                run(conn, _add_label(enum, label, before, there))


def _add_label(enum: EnumShape, label: str, before: str | None, there: Sequence[str]) -> sql.Composable:
    place: sql.Composable = sql.SQL("")
    if before is not None:
        place = sql.SQL(" AFTER {}").format(statements.literal(before))
    elif there:
        place = sql.SQL(" BEFORE {}").format(statements.literal(there[0]))
    add = sql.SQL("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{}")
    return add.format(sql.SQL(enum.quoted), statements.literal(label), place)


def planned(
    conn: sa.Connection, tables: Sequence[tuple[sa.Table, Name, watermark.State]], conversions: Mapping[str, str]
) -> list[Planned]:
    """Compare live tables with their definitions. Changes nothing and locks nobody out."""
    pairs = live_and_declared(conn, [(table, name) for table, name, _ in tables])
    plans = []
    for (table, name, state), (live, declared) in zip(tables, pairs, strict=True):
        own = conversions_of(conversions, name, [column.name for column in table.columns])
        comment = watermark.parse(table.comment).text  # a reflected table's holds the state of a run
        plans.append(_planned(conn, live, declared, Facts(state.text, comment, conversions=own)))
    return plans


def keys_to_put_off(conn: sa.Connection, this: Planned, waiting: Mapping[Name, Planned]) -> tuple[ForeignKeyShape, ...]:
    """The declared foreign keys that may fit only once the tables that they refer to are migrated too, and `waiting`.

    These are new ones, and those whose new types do not fit the old ones at the other end.
    """
    assert this.plan.target is not None, "a table that is there has a target"
    new = [one.foreign_key for one in this.plan.differences if isinstance(one, ForeignKeyAdded)]
    declared = this.plan.target.foreign_keys[: len(this.declared.foreign_keys)]  # those that people added come last
    return tuple(
        key
        for key in declared
        if key.target in waiting and (key in new or not _fits(conn, key, this, waiting[key.target]))
    )


def _fits(conn: sa.Connection, key: ForeignKeyShape, this: Planned, parent: Planned) -> bool:
    """Whether the foreign key can refer to its target as it is, though both get columns of other types."""
    retyped, of_parent = this.live.retyped(this.declared), parent.live.retyped(parent.declared)
    if not set(key.columns) & set(retyped) or not set(key.target_columns) & set(of_parent):
        return True
    return trials.fits(conn, key, this.declared, parent.live)


def without_keys(this: Planned, keys: Collection[ForeignKeyShape]) -> Planned:
    """The plan without some foreign keys of the definition."""
    assert this.plan.target is not None, "a table that is there has a target"
    differences = [
        one for one in this.plan.differences if not (isinstance(one, ForeignKeyAdded) and one.foreign_key in keys)
    ]
    left = tuple(key for key in this.plan.target.foreign_keys if key not in keys)
    target = replace(this.plan.target, foreign_keys=left)
    return replace(this, plan=replace(this.plan, differences=tuple(differences), target=target))


def _planned(conn: sa.Connection, live: TableShape, declared: TableShape, facts: Facts) -> Planned:
    as_is = plan(live, declared, facts)
    if not as_is.differences:
        return Planned(as_is, live, declared, facts)
    facts = replace(
        facts,
        pinned=catalog.pinned_columns(conn, live.oid),
        computed_from=catalog.computed_from(conn, live.oid),
        rechecked=_rechecked(conn, live.oid),
        needed=catalog.needed_indexes(conn, live.oid),
        numbered=catalog.numbered_columns(conn, live.oid),
        inbound=reflection.inbound_keys(conn, [live.oid])[live.oid],
        bytes=catalog.size(conn, live.oid),
        carried=dependents.described(conn, live.oid),
        statistics=tuple((one.name, one.columns) for one in dependents.statistics_objects(conn, [live.oid])[live.oid]),
        time_zone=catalog.time_zone(conn),
    )
    return Planned(plan(live, declared, facts), live, declared, facts)


def _rechecked(conn: sa.Connection, oid: int) -> tuple[str, ...]:
    """Columns whose type is better changed by a rebuild, where one can be had."""
    columns = catalog.rechecked_columns(conn, oid)
    return columns if columns and not walls.walls(conn, [oid])[oid] else ()


def apply_in_place(
    conn: sa.Connection, this: Planned, state: watermark.State, options: Options, *, rows_stay: bool
) -> watermark.State:
    """Carry out what PostgreSQL does in its catalog alone, under ACCESS EXCLUSIVE for milliseconds; the new state.

    A column without a value for rows that do not stay is left to the table that comes without them.
    """
    new = with_text(state, this.plan.differences)
    changes = steps.in_order(this.plan.of_way(Way.CATALOG))
    in_place = [
        statements.migrate_in_place(this.live.name, one, new.comment)
        for one in changes
        if rows_stay or not (isinstance(one, ColumnAdded) and one.needs_values)
    ]
    if in_place:
        exclusively(conn, [this.live.name], options, lambda: run_each(conn, in_place))
    return new


def with_text(state: watermark.State, differences: Collection[Difference]) -> watermark.State:
    """The state with the text that the table's comment is to have."""
    for difference in differences:
        if isinstance(difference, CommentChanged) and difference.column is None:
            return watermark.State(difference.after, state.stored)
    return state


def rebuild(conn: sa.Connection, this: Planned, token: str, options: Options) -> TableShape:
    """Copy the rows into a new table of the definition and let it take the old one's place, in the open transaction.

    Gives the shape that it has there. The caller holds writers off since before it checked the rows.
    """
    new = hidden.prepare(conn, this.plan, this.live, token)
    with stored_rows_explained(this.live.name, new.known_as):
        rows = hidden.copy(conn, new, this.facts.conversions)
        hidden.finish(conn, new, last_row_wins=False)
        hidden.add_foreign_keys(conn, [new], options)
        hidden.check_foreign_keys(conn, new)
        sequences.advance(conn, hidden.with_new_sequences(conn, new))
        hidden.analyze_copy(conn, new, this.facts.conversions, rows)
    return swap.swap(conn, [new], options)[0]


@contextmanager
def stored_rows_explained(table: Name, known_as: Callable[[str], str]) -> Iterator[None]:
    """What PostgreSQL refuses of the stored rows, as a DefinitionError."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        state = sqlstate(error) or ""
        if state[:2] not in _REFUSED:
            raise
        # What is said of a value quotes it; so does the DETAIL of what is said of a constraint.
        is_of_value = state.startswith("22")
        message = reason(state) if is_of_value else known_as(first_line(error))
        raise DefinitionError(
            f"{table}: rows that are stored do not satisfy the definition: {message}: "
            "mend them first, or change the definition"
        ) from None


_REFUSED = ("22", "23", "54")
"""Classes of SQLSTATE: data exceptions, which conversions may raise, constraints that do not hold, and values that are
too large for an index."""
