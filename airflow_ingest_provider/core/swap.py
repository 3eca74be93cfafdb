"""Putting a finished hidden table in the place of the live one, with all that hangs on it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import attachments, catalog, statements
from airflow_ingest_provider.core.attachments import Dependent, InboundKey
from airflow_ingest_provider.core.errors import ConcurrentIngestError, DefinitionError
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.locks import exclusively
from airflow_ingest_provider.core.names import Name, default_name, is_temporary, temporary_name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.session import run, sqlstate

_INVALID_TABLE_DEFINITION = "42P16"


@dataclass(frozen=True)
class Replaced:
    """A relation that gave its name to a new one and waits to be dropped."""

    word: str
    name: Name


def swap(conn: sa.Connection, hiddens: Sequence[HiddenTable], options: Options) -> None:
    """Let the hidden tables take the places of the live ones, in the open transaction.

    Takes ACCESS EXCLUSIVE on the tables and on the views that read them, until the transaction ends; how it waits for
    that, `exclusively` says. Tables that refer to others come before them. What hangs on a table
    is read once the locks are held.
    """
    names = [hidden.live.name for hidden in hiddens]
    for hidden in hiddens:
        _refer_inbound_keys(conn, hidden, names)

    def swap_all() -> None:
        for hidden in hiddens:
            _swap_one(conn, hidden)

    exclusively(conn, names, options.lock_timeout, options.lock_patience, swap_all)


def _swap_one(conn: sa.Connection, hidden: HiddenTable) -> None:
    live = hidden.live
    dependents = attachments.dependents(conn, live.oid)
    _lock(conn, live.name, dependents)
    if catalog.table_shape(conn, live.oid) != live or _names(attachments.dependents(conn, live.oid)) != _names(
        dependents
    ):
        raise ConcurrentIngestError(f"{live.name} was altered, or a view on it was, during this run: run again")
    attached = attachments.attached(conn, live.oid, live.name, _gone(hidden))
    old = Replaced("TABLE", live.name.sibling(temporary_name(hidden.token, "old")))
    _give_owner(conn, live.oid, hidden.name)
    run(conn, statements.rename("TABLE", live.name, old.name.name))
    run(conn, statements.rename("TABLE", hidden.name, live.name.name))
    _move_sequences(conn, hidden)
    replaced = [old, *_repoint(conn, hidden, dependents)]
    _move_inbound_keys(conn, hidden)
    for relation in reversed(replaced):
        run(conn, sql.SQL("DROP {} {}").format(sql.SQL(relation.word), relation.name.sql))
    _give_names(conn, hidden)
    _attach(conn, live.name, attached)
    _finish_remade(conn, dependents, {relation.name.name for relation in replaced}, hidden.token)
    for type_ in hidden.retired:
        run(conn, sql.SQL("DROP TYPE {}").format(type_.sql))
    for column in hidden.shape.columns:
        if column.comment is not None:
            place = sql.SQL(".").join((live.name.sql, sql.Identifier(column.name)))
            run(conn, sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, sql.Literal(column.comment)))


def _lock(conn: sa.Connection, table: Name, dependents: Sequence[Dependent]) -> None:
    """Take ACCESS EXCLUSIVE on the views, outermost first, and on the table last: the order in which readers come."""
    for view in reversed(dependents):
        if view.may_alter:
            # LOCK TABLE on a view would lock all that it reads; this locks the view alone and changes nothing.
            run(conn, f"ALTER {view.word} {view.name.quoted} OWNER TO {sql.Identifier(view.owner).as_string(None)}")
    run(conn, sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(table.sql))


def _names(dependents: Iterable[Dependent]) -> list[tuple[int, Name, str]]:
    return [(view.oid, view.name, view.definition) for view in dependents]


def _gone(hidden: HiddenTable) -> set[str]:
    """Names of the live columns, constraints and indexes that the new table has not."""
    return _part_names(hidden.live) - _part_names(hidden.shape)


def _part_names(shape: Any) -> set[str]:
    return {part.name for part in (*shape.columns, *shape.constraints, *shape.foreign_keys, *shape.indexes)}


def _give_owner(conn: sa.Connection, live: int, table: Name) -> None:
    may, role, owner = catalog.may_own(conn, live)
    if may and owner != role:
        run(conn, sql.SQL("ALTER TABLE {} OWNER TO {}").format(table.sql, sql.Identifier(owner)))


def _attach(conn: sa.Connection, name: Name, statements_: Iterable[str]) -> None:
    _, oid = catalog.find(conn, name.schema, name.name)
    for statement in (*attachments.revokes(conn, oid or 0, name), *statements_):
        run(conn, statement)


def _move_sequences(conn: sa.Connection, hidden: HiddenTable) -> None:
    """Owned sequences change hands with their value; an identity's goes on where the old one stopped."""
    table = hidden.live.name
    _, oid = catalog.find(conn, table.schema, table.name)
    for column in catalog.table_shape(conn, oid or 0).columns:
        before = hidden.live.column(column.name)
        if before is None or before.sequence is None:
            continue
        if column.identity and column.sequence:
            run(
                conn,
                sql.SQL("SELECT setval({}, last_value, is_called) FROM {}").format(
                    sql.Literal(column.sequence.quoted), before.sequence.sql
                ),
            )
        elif column.default == before.default:
            owned = sql.SQL(".").join((table.sql, sql.Identifier(column.name)))
            run(conn, sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(before.sequence.sql, owned))


def _repoint(conn: sa.Connection, hidden: HiddenTable, dependents: Sequence[Dependent]) -> list[Replaced]:
    """Let the views read the new table: in place where PostgreSQL can, made again where it cannot.

    A materialized view that reads the table is built anew; one that reads a view stays as it is.
    """
    stale = {hidden.live.oid}
    replaced = []
    for place, view in enumerate(dependents):
        if not view.reads & stale or (view.kind == "v" and _replaced_in_place(conn, view)):
            continue
        old = Replaced(view.word, view.name.sibling(temporary_name(hidden.token, f"view{place}")))
        run(conn, statements.rename(view.word, view.name, old.name.name))
        run(conn, _create_view(view))
        stale.add(view.oid)
        replaced.append(old)
    return replaced


def _replaced_in_place(conn: sa.Connection, view: Dependent) -> bool:
    try:
        with conn.begin_nested():
            run(conn, f"CREATE OR REPLACE VIEW {view.name.quoted}{view.options} AS {view.definition}")
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != _INVALID_TABLE_DEFINITION:
            raise
        return False
    return True


def _create_view(view: Dependent) -> str:
    if view.kind == "v":
        return f"CREATE VIEW {view.name.quoted}{view.options} AS {view.definition}"
    data = "WITH DATA" if view.populated else "WITH NO DATA"
    return f"CREATE MATERIALIZED VIEW {view.name.quoted}{view.storage} AS {view.definition} {data}"


def _finish_remade(conn: sa.Connection, dependents: Sequence[Dependent], replaced: set[str], token: str) -> None:
    """Give the views that were made again their owner, indexes, grants and all else."""
    for place, view in enumerate(dependents):
        if temporary_name(token, f"view{place}") in replaced:
            run(conn, f"ALTER {view.word} {view.name.quoted} OWNER TO {sql.Identifier(view.owner).as_string(None)}")
            for index in view.indexes:
                run(conn, index)
            _attach(conn, view.name, view.attached)


def _refer_inbound_keys(conn: sa.Connection, hidden: HiddenTable, swapped: Collection[Name]) -> None:
    """Let the tables that refer to the live one refer to the hidden one too, with every row checked."""
    inbound = [key for key in attachments.inbound_keys(conn, hidden.live.oid) if key.table not in swapped]
    for place, key in enumerate(inbound):
        name = _inbound_name(hidden, place)
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}){} NOT VALID")
        run(
            conn,
            add.format(
                key.table.sql,
                sql.Identifier(name),
                statements.columns(key.columns),
                hidden.name.sql,
                statements.columns(key.target_columns),
                sql.SQL(key.options),
            ),
        )
        if key.validated:
            run(conn, sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(key.table.sql, sql.Identifier(name)))


def _move_inbound_keys(conn: sa.Connection, hidden: HiddenTable) -> None:
    for place, key in enumerate(attachments.inbound_keys(conn, hidden.live.oid)):
        _drop_constraint(conn, key)
        rename = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}")
        temporary = sql.Identifier(_inbound_name(hidden, place))
        run(conn, rename.format(key.table.sql, temporary, sql.Identifier(key.name)))


def _drop_constraint(conn: sa.Connection, key: InboundKey) -> None:
    run(conn, sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(key.table.sql, sql.Identifier(key.name)))


def _inbound_name(hidden: HiddenTable, place: int) -> str:
    return temporary_name(hidden.token, f"fkey{place}")


def _give_names(conn: sa.Connection, hidden: HiddenTable) -> None:
    """Give indexes, constraints and sequences their names, which the old table's had until now."""
    table = hidden.live.name
    for place, constraint in enumerate(hidden.shape.constraints):
        if constraint.kind != "c":
            rename = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}")
            name = sql.Identifier(catalog.free_name(conn, table, constraint.name))
            run(conn, rename.format(table.sql, sql.Identifier(hidden.temporary(place)), name))
    for place, index in enumerate(hidden.shape.indexes, start=len(hidden.shape.constraints)):
        run(
            conn,
            statements.rename(
                "INDEX", table.sibling(hidden.temporary(place)), catalog.free_name(conn, table, index.name)
            ),
        )
    _, oid = catalog.find(conn, table.schema, table.name)
    for column in catalog.table_shape(conn, oid or 0).columns:
        if column.sequence and is_temporary(column.sequence.name):
            before = hidden.live.column(column.name)
            wanted = (
                before.sequence.name if before and before.sequence else default_name(table.name, column.name, "seq")
            )
            run(conn, statements.rename("SEQUENCE", column.sequence, catalog.free_name(conn, table, wanted)))


def check_swappable(conn: sa.Connection, oid: int, name: Name, why: str) -> None:
    """Raise DefinitionError, before anything is loaded, where something on the table cannot be carried over."""
    walls = attachments.walls(conn, oid)
    if walls:
        raise DefinitionError(
            f"{name} has to be replaced by a new table for this change ({why}), and cannot be because of "
            f"{'; '.join(walls)}: remove it and put it back afterwards, or change the definition"
        )
