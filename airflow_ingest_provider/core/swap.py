"""Putting a finished hidden table in the place of the live one, with all that hangs on it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import attachments, catalog, dependents, matviews, proof, statements, walls
from airflow_ingest_provider.core.dependents import Dependent, InboundKey, StatisticsObject
from airflow_ingest_provider.core.errors import ConcurrentIngestError, DefinitionError
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.locks import exclusively, shorten
from airflow_ingest_provider.core.matviews import Built
from airflow_ingest_provider.core.names import Name, default_name, free_name, is_temporary, temporary_name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.proof import Observed
from airflow_ingest_provider.core.session import run, run_all, sqlstate
from airflow_ingest_provider.core.shape import TableShape

_INVALID_TABLE_DEFINITION = "42P16"
_DEPENDENT_OBJECTS_STILL_EXIST = "2BP01"


@dataclass(frozen=True)
class Replaced:
    """A relation that gave its name to a new one and waits to be dropped."""

    word: str
    name: Name


@dataclass(frozen=True)
class Prepared:
    """What a swap has to know of a live table and what hangs on it, read before anybody is kept waiting for it."""

    hidden: HiddenTable
    fingerprint: str
    live: Observed
    identities: Mapping[str, tuple[str, ...]]
    """What hangs on the sequences of identity columns, by column."""
    new: TableShape
    """The hidden table as it is before the swap, its sequences included."""
    revokes: tuple[str, ...]
    inbound: tuple[InboundKey, ...]
    taken: frozenset[str]
    """Names that other relations of the schema have, of those that the new table's parts are to have."""
    built: Mapping[int, Built]
    """The materialized views that are ready, by the OID of the live one."""

    @property
    def table(self) -> Name:
        return self.hidden.live.name

    @property
    def views(self) -> tuple[Dependent, ...]:
        return self.live.views

    @property
    def statistics(self) -> list[StatisticsObject]:
        return self.hidden.of_columns_that_stay(self.live.statistics)

    @property
    def attached(self) -> list[str]:
        """What hangs on the live table and belongs on the new one."""
        return [one.statement for one in self.live.attached if one.part not in self.hidden.gone]


def swap(conn: sa.Connection, hiddens: Sequence[HiddenTable], options: Options) -> list[TableShape]:
    """Let the hidden tables take the places of the live ones, in the open transaction; the shapes that they have there.

    Takes ACCESS EXCLUSIVE on the tables and on the views that read them, until the transaction ends; how it waits for
    that, `exclusively` says. Tables that refer to others come before them. What hangs on a table is read before, and
    known to be the same once the locks are held. It is read again at the end: raises DefinitionError where anything is
    lost that was not meant to go.
    """
    names = [hidden.live.name for hidden in hiddens]
    for hidden in hiddens:
        _refer_inbound_keys(conn, hidden, names)
        _give_owner(conn, hidden.live.oid, hidden.name)
    oids = [hidden.live.oid for hidden in hiddens]
    built = [matviews.build_early(conn, hidden, oids) for hidden in hiddens]
    prepared = [_prepare(conn, hidden, names, ready) for hidden, ready in zip(hiddens, built, strict=True)]

    def swap_all() -> list[TableShape]:
        for one in prepared:
            _lock(conn, one)
        for one in prepared:
            _swap_one(conn, one)
        return [proof.check(conn, one.live, one.hidden) for one in prepared]

    return exclusively(conn, names, options, swap_all)


def _prepare(
    conn: sa.Connection, hidden: HiddenTable, swapped: Collection[Name], built: Mapping[int, Built]
) -> Prepared:
    table = hidden.live.name
    fingerprint = dependents.fingerprint(conn, hidden.live.oid)
    live = proof.observe(conn, hidden.live.oid)
    if live.shape != hidden.live or not {one.view for one in built.values()} <= set(live.views):
        raise _altered(table)
    new = catalog.table_shape(conn, catalog.oid_of(conn, hidden.name))
    wanted = [part.name for part in hidden.shape.parts] + [name.name for _, name in _sequence_names(hidden, new)]
    return Prepared(
        hidden,
        fingerprint,
        live,
        _attached_to_identities(conn, hidden),
        new,
        attachments.revokes(conn, new.oid, table),
        tuple(key for key in live.inbound if key.table not in swapped),
        catalog.taken_names(conn, hidden.live.oid, wanted),
        built,
    )


def _altered(table: Name) -> ConcurrentIngestError:
    return ConcurrentIngestError(f"{table} was altered, or a view on it was, during this run: run again")


def _attached_to_identities(conn: sa.Connection, hidden: HiddenTable) -> dict[str, tuple[str, ...]]:
    kept = {column.name for column in hidden.shape.columns if hidden.live.column(column.name) == column}
    identities = {}
    for column in hidden.live.columns:
        if column.identity and column.sequence is not None:
            own = [one.statement for one in attachments.attached(conn, catalog.oid_of(conn, column.sequence))]
            # The limits of a sequence belong to the type of its column.
            as_it_was = [one for one in own if column.name in kept or " AS " not in one.partition(" INCREMENT")[0]]
            identities[column.name] = tuple(as_it_was)
    return identities


def _lock(conn: sa.Connection, prepared: Prepared) -> None:
    """Take ACCESS EXCLUSIVE on the views, outermost first, and on the table last: the order in which readers come."""
    for view in reversed(prepared.views):
        if view.may_alter:
            shorten(conn)
            # LOCK TABLE on a view would lock all that it reads; this locks the view alone and changes nothing.
            run(conn, statements.give_owner(view.word, view.name, view.owner))
    shorten(conn)
    run(conn, sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(prepared.table.sql))
    if dependents.fingerprint(conn, prepared.hidden.live.oid) != prepared.fingerprint:
        raise _altered(prepared.table)


def _swap_one(conn: sa.Connection, prepared: Prepared) -> None:
    hidden, table = prepared.hidden, prepared.table
    old = Replaced("TABLE", table.sibling(temporary_name(hidden.token, "old")))
    run_all(
        conn,
        [
            statements.rename("TABLE", table, old.name.name),
            statements.rename("TABLE", hidden.name, table.name),
            *_move_sequences(prepared),
        ],
    )
    replaced = [old, *_repoint(conn, prepared)]
    for place, key in enumerate(prepared.inbound):
        shorten(conn)
        run_all(conn, _move_inbound_key(key, _inbound_name(hidden, place)))
    drops = [sql.SQL("DROP {} {}").format(sql.SQL(one.word), one.name.sql) for one in reversed(replaced)]
    with _explained(table):
        run_all(conn, drops)
    run_all(
        conn,
        [
            *_give_names(prepared),
            *prepared.revokes,
            *prepared.attached,
            *(sql.SQL("DROP TYPE {}").format(type_.sql) for type_ in hidden.retired),
            *_comments(table, hidden.shape),
        ],
    )
    for column, name in _sequence_names(hidden, prepared.new, prepared.taken):
        if column in prepared.identities:
            _attach(conn, name, prepared.identities[column])
    _finish_remade(conn, prepared, {relation.name.name for relation in replaced})


def _comments(table: Name, shape: TableShape) -> Iterator[sql.Composable]:
    for column in shape.columns:
        if column.comment is not None:
            place = sql.SQL(".").join((table.sql, sql.Identifier(column.name)))
            yield sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, sql.Literal(column.comment))


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
        run(conn, statements.give_owner("TABLE", table, owner))


def _attach(conn: sa.Connection, name: Name, statements_: Iterable[str]) -> None:
    for statement in (*attachments.revokes(conn, catalog.oid_of(conn, name), name), *statements_):
        run(conn, statement)


def _move_sequences(prepared: Prepared) -> Iterator[sql.Composable]:
    """Owned sequences change hands with their value; an identity's goes on where the old one stopped."""
    live, new = prepared.hidden.live, prepared.new
    for column in new.columns:
        before = live.column(column.name)
        if before is not None and before.sequence is not None and column.identity and column.sequence:
            yield sql.SQL("SELECT setval({}, last_value, is_called) FROM {}").format(
                sql.Literal(column.sequence.quoted), before.sequence.sql
            )
    for name, sequence in prepared.live.sequences:
        column_, before = new.column(name), live.column(name)
        drawn_from = before is not None and before.serial and before.sequence == sequence
        if column_ is not None and (not drawn_from or (before and column_.default == before.default)):
            owner = sql.SQL(".").join((prepared.table.sql, sql.Identifier(name)))
            yield sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(sequence.sql, owner)


def _repoint(conn: sa.Connection, prepared: Prepared) -> list[Replaced]:
    """Let the views read the new table: in place where PostgreSQL can, made again where it cannot.

    A materialized view that reads the table is built anew, if it is not yet; one that reads a view stays as it is.
    """
    stale = {prepared.hidden.live.oid}
    replaced = []
    for place, view in enumerate(prepared.views):
        if not view.reads & stale or (view.kind == "v" and _replaced_in_place(conn, view)):
            continue
        old = Replaced(view.word, view.name.sibling(temporary_name(prepared.hidden.token, f"view{place}")))
        run(conn, statements.rename(view.word, view.name, old.name.name))
        if view.oid in prepared.built:
            run(conn, statements.rename(view.word, prepared.built[view.oid].name, view.name.name))
        else:
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
    return matviews.create(view, view.name, view.definition)


def _finish_remade(conn: sa.Connection, prepared: Prepared, replaced: set[str]) -> None:
    """Give the views that were made again their owner, indexes, grants and all else."""
    for place, view in enumerate(prepared.views):
        if temporary_name(prepared.hidden.token, f"view{place}") not in replaced:
            continue
        if view.oid in prepared.built:
            run_all(conn, prepared.built[view.oid].name_indexes())
        else:
            matviews.finish(conn, view, view.name, [index.name for index in view.indexes])
        _attach(conn, view.name, view.attached)
        if view.oid not in prepared.built or any("CREATE STATISTICS" in one for one in view.attached):
            matviews.analyze(conn, view, view.name)


def _refer_inbound_keys(conn: sa.Connection, hidden: HiddenTable, swapped: Collection[Name]) -> None:
    """Let the tables that refer to the live one refer to the hidden one too, with every row checked."""
    inbound = [key for key in dependents.inbound_keys(conn, hidden.live.oid) if key.table not in swapped]
    for place, key in enumerate(inbound):
        name = _inbound_name(hidden, place)
        run(conn, statements.add_foreign_key(key.table, key, name, hidden.name, valid=False))
        if key.validated:
            run(conn, statements.validate(key.table, name))


def _move_inbound_key(key: InboundKey, temporary: str) -> Iterator[sql.Composable]:
    yield statements.drop_constraint(key.table, key.name)
    yield statements.rename_constraint(key.table, temporary, key.name)
    if key.comment is not None:
        comment = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
        yield comment.format(sql.Identifier(key.name), key.table.sql, sql.Literal(key.comment))


def _inbound_name(hidden: HiddenTable, place: int) -> str:
    return temporary_name(hidden.token, f"fkey{place}")


def _give_names(prepared: Prepared) -> Iterator[sql.Composable]:
    """Give indexes, constraints, statistics and sequences their names, which the old table's had until now."""
    hidden, table = prepared.hidden, prepared.table
    for place, constraint in enumerate(hidden.shape.constraints):
        if constraint.kind != "c":
            free = free_name(constraint.name, prepared.taken)
            yield statements.rename_constraint(table, hidden.temporary(place), free)
    for place, index in enumerate(hidden.shape.indexes, start=len(hidden.shape.constraints)):
        free = free_name(index.name, prepared.taken)
        yield statements.rename("INDEX", table.sibling(hidden.temporary(place)), free)
    for place, one in enumerate(prepared.statistics):
        yield statements.rename("STATISTICS", hidden.statistics_name(place, one), one.name.name)
        yield statements.give_owner("STATISTICS", one.name, one.owner)
        if one.comment is not None:
            yield sql.SQL("COMMENT ON STATISTICS {} IS {}").format(one.name.sql, sql.Literal(one.comment))
    for column, name in _sequence_names(hidden, prepared.new, prepared.taken):
        now = prepared.new.column(column)
        if now is not None and now.sequence is not None:
            yield statements.rename("SEQUENCE", now.sequence, name.name)


def _sequence_names(hidden: HiddenTable, new: TableShape, taken: Collection[str] = ()) -> Iterator[tuple[str, Name]]:
    """The columns whose sequence came with the hidden table, and what it is to be called."""
    table = hidden.live.name
    for column in new.columns:
        if column.sequence and is_temporary(column.sequence.name):
            before = hidden.live.column(column.name)
            named = before.sequence.name if before and before.sequence else None
            yield column.name, table.sibling(free_name(named or default_name(table.name, column.name, "seq"), taken))


def check_swappable(conn: sa.Connection, oid: int, name: Name, why: str) -> None:
    """Raise DefinitionError, before anything is loaded, where something on the table cannot be carried over."""
    found = walls.walls(conn, oid)
    if found:
        raise DefinitionError(
            f"{name} has to be replaced by a new table for this change ({why}), and cannot be because of "
            f"{'; '.join(found)}: remove it and put it back afterwards, or change the definition"
        )
