"""From the live table to its definition: creating it, planning, and carrying the plan out."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import attachments, catalog, hidden, statements, swap, watermark
from airflow_ingest_provider.core.declared import create, declared_enums, declared_shape
from airflow_ingest_provider.core.differences import (
    ColumnAdded,
    CommentChanged,
    ConstraintDropped,
    Difference,
    NotNullAdded,
    TypeChanged,
)
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.locks import exclusively, one_run_at_a_time
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.plan import Action, TablePlan, plan
from airflow_ingest_provider.core.session import run
from airflow_ingest_provider.core.shape import TableShape

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """A plan, with what it was made from."""

    plan: TablePlan
    live: TableShape
    declared: TableShape
    pinned: Mapping[str, tuple[str, ...]]


def create_missing(
    conn: sa.Connection, metadata: sa.MetaData, names: Mapping[sa.Table, Name], patience: timedelta
) -> tuple[Name, ...]:
    """Create the schemas and tables that are not there, whole, in the open transaction; which tables they were."""
    missing = [table for table, name in names.items() if catalog.find(conn, name.schema, name.name)[1] is None]
    # Two runs that make the same schema, or an enum type of it, for two tables would fail each other.
    schemas = sorted({names[table].schema for table in missing})
    one_run_at_a_time(conn, [Name(schema, "") for schema in schemas], patience)
    for schema in schemas:
        if not catalog.schema_exists(conn, schema):
            run(conn, sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    if missing:
        create(conn, metadata, missing)
    return tuple(names[table] for table in missing)


def add_enum_labels(conn: sa.Connection, table: sa.Table) -> tuple[str, ...]:
    """Add the labels that the table's enum types lack, in their declared order; which they were.

    To be committed before the labels are used. Labels that are not declared stay: PostgreSQL cannot take them away.
    """
    added = []
    for enum in declared_enums(conn, table):
        there = catalog.enum_labels(conn, enum.schema, enum.name)
        if there is None:
            continue
        beyond = [label for label in there if label not in enum.labels]
        if beyond:
            logger.warning("enum type %s keeps the labels %s, which are not declared", enum.name, beyond)
        for before, label in zip((None, *enum.labels), enum.labels, strict=False):
            if label not in there:
                run(conn, _add_label(enum.schema, enum.name, label, before, there))
                added.append(f"enum {enum.name}: added {label!r}")
    return tuple(added)


def _add_label(schema: str | None, name: str, label: str, before: str | None, there: Sequence[str]) -> sql.Composable:
    kind = sql.Identifier(schema, name) if schema else sql.Identifier(name)
    place: sql.Composable = sql.SQL("")
    if before is not None:
        place = sql.SQL(" AFTER {}").format(sql.Literal(before))
    elif there:
        place = sql.SQL(" BEFORE {}").format(sql.Literal(there[0]))
    return sql.SQL("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{}").format(kind, sql.Literal(label), place)


def planned(conn: sa.Connection, table: sa.Table, name: Name, state: watermark.State) -> Planned:
    """Compare the live table with its definition. Changes nothing and locks nobody out."""
    _, oid = catalog.find(conn, name.schema, name.name)
    if oid is None:
        raise DefinitionError(f"{name} was dropped during this run: run again to create it anew")
    live = catalog.table_shape(conn, oid)
    if live.kind not in ("r", "p"):
        raise DefinitionError(
            f"{name} is not a table (relkind {live.kind!r}): expected a table, or nothing, of that name"
        )
    declared = declared_shape(conn, table, name)
    pinned = catalog.pinned_columns(conn, oid)
    untouchable = {*pinned, *catalog.computed_from(conn, oid)}
    return Planned(plan(live, declared, state.text, table.comment, untouchable), live, declared, pinned)


def check(conn: sa.Connection, this: Planned, *, rows_stay: bool) -> None:
    """Raise DefinitionError where the plan cannot be carried out without losing something that must stay."""
    for column in this.plan.dropped:
        if column in this.pinned:
            raise DefinitionError(
                f"{this.live.name}: column {column!r} is no longer declared, but is used by "
                f"{', '.join(this.pinned[column])}: declare it again, or remove what uses it"
            )
    _check_inbound_keys(conn, this)
    if this.plan.action is Action.REBUILD:
        swap.check_swappable(conn, this.live.oid, this.live.name, "; ".join(this.plan.lines))
    if rows_stay and catalog.has_rows(conn, this.live.name):
        _check_rows(conn, this)


def _check_inbound_keys(conn: sa.Connection, this: Planned) -> None:
    """Foreign keys of other tables need the key that they refer to."""
    left = [frozenset(one.columns) for one in this.plan.target.constraints if one.kind in ("p", "u")]
    dropped = [one.constraint for one in this.plan.differences if isinstance(one, ConstraintDropped)]
    for key in attachments.inbound_keys(conn, this.live.oid):
        referred = frozenset(key.target_columns)
        if referred not in left and any(referred == frozenset(one.columns) for one in dropped):
            raise DefinitionError(
                f"{this.live.name}: the key ({', '.join(key.target_columns)}) is no longer declared, but foreign key "
                f"{key.name} of {key.table} refers to it: declare it again, or drop the foreign key"
            )


def _check_rows(conn: sa.Connection, this: Planned) -> None:
    for difference in this.plan.differences:
        if isinstance(difference, ColumnAdded):
            column = difference.column
            fills_itself = column.default is not None or column.generated or column.identity or column.serial
            if column.not_null and not fills_itself:
                raise DefinitionError(
                    f"{this.live.name} has rows, and the new column {column.name!r} is NOT NULL without a "
                    "server_default: give it one, or let it be nullable"
                )
        if isinstance(difference, NotNullAdded):
            nulls = sa.select(sa.func.count()).select_from(sa.table(this.live.name.name, schema=this.live.name.schema))
            count = conn.scalar(nulls.where(sa.column(difference.column).is_(None)))
            if count:
                raise DefinitionError(
                    f"{this.live.name}: column {difference.column!r} is declared NOT NULL and {count} rows hold NULL: "
                    "fill them first, or let it be nullable"
                )
    if any(isinstance(difference, TypeChanged) for difference in this.plan.differences):
        lossy = hidden.lossy_columns(conn, this.live, this.declared)
        if lossy:
            described = "; ".join(f"column {name!r}: {found}" for name, found in lossy.items())
            raise DefinitionError(f"{this.live.name}: the new type does not hold every stored value: {described}")


def apply_in_place(conn: sa.Connection, this: Planned, state: watermark.State, options: Options) -> watermark.State:
    """Carry out what PostgreSQL does in its catalog alone, under ACCESS EXCLUSIVE for milliseconds; the new state."""
    name, differences = this.live.name, this.plan.in_place
    new = with_text(state, differences)
    steps = [statements.migrate_in_place(name, difference, new.comment) for difference in differences]
    if steps:
        exclusively(
            conn, [name], options.lock_timeout, options.lock_patience, lambda: [run(conn, step) for step in steps]
        )
    return new


def with_text(state: watermark.State, differences: Collection[Difference]) -> watermark.State:
    """The state with the text that the table's comment is to have."""
    for difference in differences:
        if isinstance(difference, CommentChanged) and difference.column is None:
            return watermark.State(difference.after, state.stored)
    return state


def rebuild(conn: sa.Connection, this: Planned, token: str, options: Options) -> None:
    """Copy the rows into a new table of the definition and let it take the old one's place, in the open transaction.

    The caller holds writers off since before it checked the rows.
    """
    new = hidden.build(conn, this.live, this.plan.target, token)
    try:
        if catalog.has_rows(conn, this.live.name):
            hidden.fill(conn, new)
        hidden.finish(conn, new, {}, last_row_wins=False)
    except sa.exc.IntegrityError as error:
        raise DefinitionError(
            f"{this.live.name}: rows that are stored do not satisfy the definition: {new.explained(error)}: "
            "mend them first, or change the definition"
        ) from None  # its DETAIL quotes values of a row
    swap.swap(conn, [new], options)


def hold_writers(conn: sa.Connection, table: Name, options: Options) -> None:
    """Take SHARE on the table until the transaction ends: its rows stay as they are, and readers go on."""
    share = sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table.sql)
    exclusively(conn, [table], options.lock_timeout, options.lock_patience, lambda: run(conn, share))
