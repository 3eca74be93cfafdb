"""Putting a finished hidden table in the place of the live one, with all that hangs on it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import attachments, catalog, dependents, proof, statements, walls
from airflow_ingest_provider.core.dependents import Dependent, StatisticsObject
from airflow_ingest_provider.core.errors import ConcurrentIngestError, DefinitionError
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.locks import exclusively
from airflow_ingest_provider.core.names import Name, default_name, is_temporary, temporary_name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.session import run, sqlstate
from airflow_ingest_provider.core.steps import create_index

_INVALID_TABLE_DEFINITION = "42P16"
_DEPENDENT_OBJECTS_STILL_EXIST = "2BP01"


@dataclass(frozen=True)
class Replaced:
    """A relation that gave its name to a new one and waits to be dropped."""

    word: str
    name: Name


@dataclass(frozen=True)
class Hanging:
    """What hangs on the live table, read once nobody can change it any more."""

    views: tuple[Dependent, ...]
    attached: tuple[str, ...]
    statistics: tuple[StatisticsObject, ...]
    sequences: tuple[tuple[str, Name], ...]
    identities: Mapping[str, tuple[str, ...]]
    """What hangs on the sequences of identity columns, by column."""


def swap(conn: sa.Connection, hiddens: Sequence[HiddenTable], options: Options) -> None:
    """Let the hidden tables take the places of the live ones, in the open transaction.

    Takes ACCESS EXCLUSIVE on the tables and on the views that read them, until the transaction ends; how it waits for
    that, `exclusively` says. Tables that refer to others come before them. What hangs on a table is read once the
    locks are held, and again at the end: raises DefinitionError where anything is lost that was not meant to go.
    """
    names = [hidden.live.name for hidden in hiddens]
    for hidden in hiddens:
        _refer_inbound_keys(conn, hidden, names)

    def swap_all() -> None:
        proofs = [_swap_one(conn, hidden) for hidden in hiddens]
        for hidden, before in zip(hiddens, proofs, strict=True):
            proof.check(conn, before, hidden)

    exclusively(conn, names, options, swap_all)


def _swap_one(conn: sa.Connection, hidden: HiddenTable) -> proof.Properties:
    live, table = hidden.live, hidden.live.name
    _lock(conn, hidden)
    hanging = _read(conn, hidden)
    before = proof.properties(conn, live.oid, table, _gone(hidden))
    old = Replaced("TABLE", table.sibling(temporary_name(hidden.token, "old")))
    _give_owner(conn, live.oid, hidden.name)
    run(conn, statements.rename("TABLE", table, old.name.name))
    run(conn, statements.rename("TABLE", hidden.name, table.name))
    _move_sequences(conn, hidden, hanging)
    replaced = [old, *_repoint(conn, hidden, hanging.views)]
    _move_inbound_keys(conn, hidden)
    with _explained(table):
        for relation in reversed(replaced):
            run(conn, sql.SQL("DROP {} {}").format(sql.SQL(relation.word), relation.name.sql))
    _give_names(conn, hidden, hanging)
    _attach(conn, table, hanging.attached)
    _finish_remade(conn, hanging.views, {relation.name.name for relation in replaced}, hidden.token)
    for type_ in hidden.retired:
        run(conn, sql.SQL("DROP TYPE {}").format(type_.sql))
    for column in hidden.shape.columns:
        if column.comment is not None:
            place = sql.SQL(".").join((table.sql, sql.Identifier(column.name)))
            run(conn, sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, sql.Literal(column.comment)))
    return before


def _lock(conn: sa.Connection, hidden: HiddenTable) -> None:
    """Take ACCESS EXCLUSIVE on the views, outermost first, and on the table last: the order in which readers come."""
    live = hidden.live
    views = dependents.dependents(conn, live.oid)
    for view in reversed(views):
        if view.may_alter:
            # LOCK TABLE on a view would lock all that it reads; this locks the view alone and changes nothing.
            run(conn, f"ALTER {view.word} {view.name.quoted} OWNER TO {sql.Identifier(view.owner).as_string(None)}")
    run(conn, sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(live.name.sql))
    now = dependents.dependents(conn, live.oid)
    if catalog.table_shape(conn, live.oid) != live or _names(now) != _names(views):
        raise ConcurrentIngestError(f"{live.name} was altered, or a view on it was, during this run: run again")


def _names(views: Iterable[Dependent]) -> list[tuple[int, Name, str]]:
    return [(view.oid, view.name, view.definition) for view in views]


def _read(conn: sa.Connection, hidden: HiddenTable) -> Hanging:
    live = hidden.live
    kept = {column.name for column in hidden.shape.columns if live.column(column.name) == column}
    identities = {}
    for column in live.columns:
        if column.identity and column.sequence is not None:
            _, oid = catalog.find(conn, column.sequence.schema, column.sequence.name)
            own = attachments.attached(conn, oid or 0, column.sequence)
            # The limits of a sequence belong to the type of its column.
            as_it_was = [one for one in own if column.name in kept or " AS " not in one.partition(" INCREMENT")[0]]
            identities[column.name] = tuple(as_it_was)
    return Hanging(
        views=dependents.dependents(conn, live.oid),
        attached=attachments.attached(conn, live.oid, live.name, _gone(hidden)),
        statistics=tuple(hidden.statistics_objects(conn)),
        sequences=dependents.owned_sequences(conn, live.oid),
        identities=identities,
    )


def _gone(hidden: HiddenTable) -> frozenset[str]:
    """Names of the live columns, constraints and indexes that the new table has not."""
    return hidden.live.part_names - hidden.shape.part_names


@contextmanager
def _explained(table: Name) -> Iterator[None]:
    """What still depends on an old relation, as an error that names it."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != _DEPENDENT_OBJECTS_STILL_EXIST:
            raise
        diagnosis = getattr(error.orig, "diag", None)
        detail = (diagnosis and diagnosis.message_detail) or str(error.orig)
        raise DefinitionError(
            f"{table} cannot be replaced by a new table, which cannot be because of what is not understood: {detail}: "
            "remove it and put it back afterwards"
        ) from None


def _give_owner(conn: sa.Connection, live: int, table: Name) -> None:
    may, role, owner = catalog.may_own(conn, live)
    if may and owner != role:
        run(conn, sql.SQL("ALTER TABLE {} OWNER TO {}").format(table.sql, sql.Identifier(owner)))


def _attach(conn: sa.Connection, name: Name, statements_: Iterable[str]) -> None:
    _, oid = catalog.find(conn, name.schema, name.name)
    for statement in (*attachments.revokes(conn, oid or 0, name), *statements_):
        run(conn, statement)


def _move_sequences(conn: sa.Connection, hidden: HiddenTable, hanging: Hanging) -> None:
    """Owned sequences change hands with their value; an identity's goes on where the old one stopped."""
    table = hidden.live.name
    _, oid = catalog.find(conn, table.schema, table.name)
    now = catalog.table_shape(conn, oid or 0)
    for column in now.columns:
        before = hidden.live.column(column.name)
        if before is not None and before.sequence is not None and column.identity and column.sequence:
            run(
                conn,
                sql.SQL("SELECT setval({}, last_value, is_called) FROM {}").format(
                    sql.Literal(column.sequence.quoted), before.sequence.sql
                ),
            )
    for name, sequence in hanging.sequences:
        column_, before = now.column(name), hidden.live.column(name)
        drawn_from = before is not None and before.serial and before.sequence == sequence
        if column_ is not None and (not drawn_from or (before and column_.default == before.default)):
            owner = sql.SQL(".").join((table.sql, sql.Identifier(name)))
            run(conn, sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(sequence.sql, owner))


def _repoint(conn: sa.Connection, hidden: HiddenTable, views: Sequence[Dependent]) -> list[Replaced]:
    """Let the views read the new table: in place where PostgreSQL can, made again where it cannot.

    A materialized view that reads the table is built anew; one that reads a view stays as it is.
    """
    stale = {hidden.live.oid}
    replaced = []
    for place, view in enumerate(views):
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


def _finish_remade(conn: sa.Connection, views: Sequence[Dependent], replaced: set[str], token: str) -> None:
    """Give the views that were made again their owner, indexes, grants and all else."""
    for place, view in enumerate(views):
        if temporary_name(token, f"view{place}") not in replaced:
            continue
        run(conn, f"ALTER {view.word} {view.name.quoted} OWNER TO {sql.Identifier(view.owner).as_string(None)}")
        if view.kind == "m":
            for column in view.shape.columns:
                for action in column.tuning:
                    name = sql.Identifier(column.name).as_string(None)
                    run(conn, f"ALTER MATERIALIZED VIEW {view.name.quoted} ALTER COLUMN {name} {action}")
            for index in view.shape.indexes:
                create_index(conn, view.name, index, index.name)
        _attach(conn, view.name, view.attached)
        if view.kind == "m" and view.populated:
            run(conn, f"ANALYZE {view.name.quoted}")


def _refer_inbound_keys(conn: sa.Connection, hidden: HiddenTable, swapped: Collection[Name]) -> None:
    """Let the tables that refer to the live one refer to the hidden one too, with every row checked."""
    inbound = [key for key in dependents.inbound_keys(conn, hidden.live.oid) if key.table not in swapped]
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
    for place, key in enumerate(dependents.inbound_keys(conn, hidden.live.oid)):
        run(conn, statements.drop_constraint(key.table, key.name))
        run(conn, statements.rename_constraint(key.table, _inbound_name(hidden, place), key.name))
        if key.comment is not None:
            comment = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
            run(conn, comment.format(sql.Identifier(key.name), key.table.sql, sql.Literal(key.comment)))


def _inbound_name(hidden: HiddenTable, place: int) -> str:
    return temporary_name(hidden.token, f"fkey{place}")


def _give_names(conn: sa.Connection, hidden: HiddenTable, hanging: Hanging) -> None:
    """Give indexes, constraints, statistics and sequences their names, which the old table's had until now."""
    table = hidden.live.name
    for place, constraint in enumerate(hidden.shape.constraints):
        if constraint.kind != "c":
            free = catalog.free_name(conn, table, constraint.name)
            run(conn, statements.rename_constraint(table, hidden.temporary(place), free))
    for place, index in enumerate(hidden.shape.indexes, start=len(hidden.shape.constraints)):
        free = catalog.free_name(conn, table, index.name)
        run(conn, statements.rename("INDEX", table.sibling(hidden.temporary(place)), free))
    for place, one in enumerate(hanging.statistics):
        run(conn, statements.rename("STATISTICS", hidden.statistics_name(place, one), one.name.name))
        run(conn, sql.SQL("ALTER STATISTICS {} OWNER TO {}").format(one.name.sql, sql.Identifier(one.owner)))
        if one.comment is not None:
            run(conn, sql.SQL("COMMENT ON STATISTICS {} IS {}").format(one.name.sql, sql.Literal(one.comment)))
    _, oid = catalog.find(conn, table.schema, table.name)
    for column in catalog.table_shape(conn, oid or 0).columns:
        if column.sequence and is_temporary(column.sequence.name):
            before = hidden.live.column(column.name)
            named = before.sequence.name if before and before.sequence else None
            free = catalog.free_name(conn, table, named or default_name(table.name, column.name, "seq"))
            run(conn, statements.rename("SEQUENCE", column.sequence, free))
            if column.name in hanging.identities:
                _attach(conn, table.sibling(free), hanging.identities[column.name])


def check_swappable(conn: sa.Connection, oid: int, name: Name, why: str) -> None:
    """Raise DefinitionError, before anything is loaded, where something on the table cannot be carried over."""
    found = walls.walls(conn, oid)
    if found:
        raise DefinitionError(
            f"{name} has to be replaced by a new table for this change ({why}), and cannot be because of "
            f"{'; '.join(found)}: remove it and put it back afterwards, or change the definition"
        )
