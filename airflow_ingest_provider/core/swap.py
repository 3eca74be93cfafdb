"""Putting a finished hidden table in the place of the live one, with all that hangs on it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import (
    attachments,
    catalog,
    dependents,
    matviews,
    proof,
    reflection,
    sequences,
    statements,
    walls,
)
from airflow_ingest_provider.core.dependents import Dependent
from airflow_ingest_provider.core.errors import ConcurrentIngestError, DefinitionError
from airflow_ingest_provider.core.heirs import hang_on, heirs_of, move_sequences, sequence_names
from airflow_ingest_provider.core.hidden import HiddenTable, comments_on_columns, give_owners, name_statistics
from airflow_ingest_provider.core.locks import OF_READERS, exclusively, shorten
from airflow_ingest_provider.core.matviews import Built
from airflow_ingest_provider.core.names import Name, default_name, free_name, temporary_name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.proof import Observed
from airflow_ingest_provider.core.refusals import still_referred
from airflow_ingest_provider.core.session import FOREIGN_KEY_VIOLATION, diagnosis, major_version, run, run_all, sqlstate
from airflow_ingest_provider.core.shape import InboundKey, TableShape
from airflow_ingest_provider.core.steps import fitting

_INVALID_TABLE_DEFINITION = "42P16"
_DEPENDENT_OBJECTS_STILL_EXIST = "2BP01"


@dataclass(frozen=True)
class Replaced:
    """A view that gave its name to a new one and waits to be dropped."""

    view: Dependent
    name: Name
    parts: Name
    """What the names begin with that the new one's indexes and statistics have until they get their own."""


@dataclass(frozen=True)
class Prepared:
    """What a swap has to know of a live table and what hangs on it, read before anybody is kept waiting for it."""

    hidden: HiddenTable
    fingerprint: str
    live: Observed
    new: TableShape
    """The hidden table as it is before the swap, its sequences included."""
    revokes: tuple[str, ...]
    on_sequences: tuple[str, ...]
    """The statements that hang on the sequences of identity columns what hangs on the live ones."""
    inbound: tuple[InboundKey, ...]
    partial_keys: Mapping[str, tuple[str, ...]]
    """What the new table's foreign keys to partitioned tables have for each partition under passing names, and the
    columns."""
    taken: frozenset[str]
    """Names that other relations of the schema have, of those that the new table's parts are to have."""

    @property
    def table(self) -> Name:
        return self.hidden.live.name

    @property
    def old(self) -> Name:
        """What the live table is called until it is dropped."""
        return self.table.sibling(temporary_name(self.hidden.token, "old"))

    @property
    def attached(self) -> list[str]:
        """What hangs on the live table and belongs on the new one."""
        return [one.statement for one in self.live.attached if self.hidden.carries(one)]


def swap(conn: sa.Connection, hiddens: Sequence[HiddenTable], options: Options) -> list[TableShape]:
    """Let the hidden tables take the places of the live ones, in the open transaction; the shapes that they have there.

    Takes ACCESS EXCLUSIVE on the tables and on the views that read them, until the transaction ends; how it waits for
    that, `exclusively` says. Tables that refer to others come before them. What hangs on a table is read before, and
    known to be the same once the locks are held. It is read again at the end: raises DefinitionError where anything is
    lost that was not meant to go, and RowError where rows of other tables refer to keys that the new one lacks.
    """
    _refer_inbound_keys(conn, hiddens, options)
    give_owners(conn, hiddens)
    views = dependents.dependents(conn, [hidden.live.oid for hidden in hiddens])
    built = matviews.build_early(conn, hiddens, views)
    prepared = _prepare(conn, hiddens, views)

    def swap_all() -> list[TableShape]:
        _lock(conn, prepared, views)
        _swap_all(conn, prepared, views, built)
        seen = proof.observe(conn, [one.new.oid for one in prepared], before=[one.live for one in prepared])
        for one in prepared:
            proof.check(one.live, seen[one.new.oid], one.hidden)
        return [seen[one.new.oid].shape for one in prepared]

    return exclusively(conn, [hidden.live.name for hidden in hiddens], options, swap_all)


def _prepare(conn: sa.Connection, hiddens: Sequence[HiddenTable], views: Sequence[Dependent]) -> list[Prepared]:
    names, oids = [hidden.live.name for hidden in hiddens], [hidden.live.oid for hidden in hiddens]
    new_oids = catalog.oids_of(conn, [hidden.name for hidden in hiddens])
    fingerprints = dependents.fingerprints(conn, oids)
    seen = proof.observe(conn, [*oids, *new_oids])
    new_walls = walls.walls(conn, oids)
    for hidden in hiddens:
        now = seen.get(hidden.live.oid)
        if new_walls[hidden.live.oid]:
            raise _altered(hidden.live.name, new_walls[hidden.live.oid])
        if now is None or now.shape != hidden.live or not set(now.views) <= set(views):
            raise _altered(hidden.live.name)
    new = {oid: seen[new_oid].shape for oid, new_oid in zip(oids, new_oids, strict=True)}
    revokes = attachments.revokes(conn, dict(zip(new_oids, names, strict=True)))
    taken = catalog.taken_names(conn, {one.live.oid: list(_wanted(one, new[one.live.oid])) for one in hiddens})
    heirs = [heir for one in hiddens for heir in heirs_of(one, new[one.live.oid], taken[one.live.oid])]
    on_sequences = hang_on(conn, heirs)
    # From 18 on their names come from that of their foreign key.
    by_table = major_version(conn) < 18 and any(one.shape.foreign_keys for one in hiddens)
    partial_keys = dependents.partial_keys(conn, new_oids) if by_table else {}
    return [
        Prepared(
            hidden,
            fingerprints[oid],
            seen[oid],
            new[oid],
            revokes[new[oid].oid],
            tuple(on_sequences.get(oid, ())),
            tuple(_from_outside(seen[oid].inbound, names)),
            partial_keys.get(new[oid].oid, {}),
            taken[oid],
        )
        for oid, hidden in zip(oids, hiddens, strict=True)
    ]


def _altered(table: Name, walls_found: Collection[str] = ()) -> ConcurrentIngestError:
    told = f" ({'; '.join(walls_found)})" if walls_found else ""
    return ConcurrentIngestError(
        f"{table} was altered or dropped, or a view on it was, during this run{told}: run again"
    )


def _from_outside(inbound: Iterable[InboundKey], swapped: Collection[Name]) -> Iterator[InboundKey]:
    """The foreign keys of tables that stay."""
    return (key for key in inbound if key.table not in swapped)


def _wanted(hidden: HiddenTable, new: TableShape) -> Iterator[str]:
    """The names that the new table's parts are to have."""
    yield from (part.name for part in hidden.shape.parts)
    yield from (name.name for _, name in sequence_names(hidden, new))


def _lock(conn: sa.Connection, prepared: Sequence[Prepared], views: Sequence[Dependent]) -> None:
    """Take ACCESS EXCLUSIVE on the views, outermost first, and on the tables last: the order in which readers come."""
    for view in reversed(views):
        if view.may_alter:
            shorten(conn)
            # LOCK TABLE on a view would lock all that it reads; this locks the view alone and changes nothing.
            run(conn, statements.give_owner(view.word, view.name, view.owner))
    for one in prepared:
        shorten(conn)
        run(conn, sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(one.table.sql))
    now = dependents.fingerprints(conn, [one.hidden.live.oid for one in prepared])
    for one in prepared:
        if now.get(one.hidden.live.oid) != one.fingerprint:
            raise _altered(one.table)


def _swap_all(
    conn: sa.Connection, prepared: Sequence[Prepared], views: Sequence[Dependent], built: Mapping[int, Built]
) -> None:
    run_all(conn, chain.from_iterable(map(_take_place, prepared)))
    replaced = _repoint(conn, prepared, views, built)
    for one in prepared:
        for place, key in enumerate(one.inbound):
            shorten(conn)
            run_all(conn, _move_inbound_key(key, _inbound_name(one.hidden, place)))
    _drop_old(conn, prepared, replaced)
    run_all(conn, chain.from_iterable(map(_complete, prepared)))
    for one in prepared:
        sequences.widen(conn, one.hidden.live, replace(one.hidden.shape, name=one.table))
    for view in replaced:
        _finish_view(conn, view, built)


def _take_place(prepared: Prepared) -> Iterator[sql.Composable]:
    yield statements.rename("TABLE", prepared.table, prepared.old.name)
    yield statements.rename("TABLE", prepared.hidden.name, prepared.table.name)
    yield from move_sequences(prepared.hidden.live, prepared.new, prepared.live.sequences)


def _drop_old(conn: sa.Connection, prepared: Sequence[Prepared], replaced: Sequence[Replaced]) -> None:
    drop = sql.SQL("DROP {} {}")
    views = [drop.format(sql.SQL(one.view.word), one.name.sql) for one in reversed(replaced)]
    tables = sql.SQL(", ").join(one.old.sql for one in prepared)
    referred = {key.target for one in prepared for key in one.hidden.live.foreign_keys}
    shorten(conn, among=len(referred))
    with _explained(prepared, replaced):
        run_all(conn, [*views, sql.SQL("DROP TABLE {}").format(tables)])


def _complete(prepared: Prepared) -> Iterator[str | sql.Composable]:
    """Hang on the new table what hung on the old one, once that has gone."""
    yield from _give_names(prepared)
    yield from prepared.revokes
    yield from prepared.attached
    yield from prepared.hidden.granted
    for type_ in prepared.hidden.retired:
        yield sql.SQL("DROP TYPE {}").format(type_.sql)
    yield from comments_on_columns(prepared.table, prepared.hidden.shape)
    yield from prepared.on_sequences


@contextmanager
def _explained(prepared: Sequence[Prepared], replaced: Sequence[Replaced]) -> Iterator[None]:
    """What still depends on an old relation, as an error that names it."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != _DEPENDENT_OBJECTS_STILL_EXIST:
            raise
        detail = diagnosis(error, "message_detail") or str(error.orig)
        known_as = {one.old.name: one.table.name for one in prepared}
        known_as |= {one.name.name: one.view.name.name for one in replaced}
        for passing, name in known_as.items():
            detail = detail.replace(passing, name)
        tables = ", ".join(str(one.table) for one in prepared)
        raise DefinitionError(
            f"{tables} cannot be replaced by a new table, which cannot be because of what is not "
            f"understood: {detail}: remove it and put it back afterwards"
        ) from None


def _repoint(
    conn: sa.Connection, prepared: Sequence[Prepared], views: Sequence[Dependent], built: Mapping[int, Built]
) -> list[Replaced]:
    """Let the views read the new tables: in place where PostgreSQL can; where it cannot, new ones take their places.

    A materialized view that reads a view which stays does so as well, with its rows.
    """
    stale = {one.hidden.live.oid for one in prepared}
    replaced = []
    for place, view in enumerate(views):
        if not view.reads & stale or (view.oid not in built and view.kind == "v" and _replaced_in_place(conn, view)):
            continue
        old = view.name.sibling(temporary_name(prepared[0].hidden.token, f"view{place}"))
        run(conn, statements.rename(view.word, view.name, old.name))
        if view.oid in built:
            run(conn, statements.rename(view.word, built[view.oid].name, view.name.name))
        else:
            _check_quick(view)
            run(conn, matviews.create(view, view.name, view.definition))
        stale.add(view.oid)
        replaced.append(Replaced(view, old, built[view.oid].name if view.oid in built else old))
    return replaced


def _check_quick(view: Dependent) -> None:
    """Raise DefinitionError for a materialized view whose query readers would have to wait for."""
    if view.populated and view.kind == "m":
        raise DefinitionError(
            f"materialized view {view.name} has to be made anew on the new table, and its query cannot be run before "
            "others have to wait for it: it reads a view that shows the old rows until then, policies keep rows from "
            "its owner, or the role lacks CREATE on the database: drop it and create it again afterwards"
        )


def _replaced_in_place(conn: sa.Connection, view: Dependent) -> bool:
    try:
        with conn.begin_nested():
            run(conn, f"CREATE OR REPLACE VIEW {view.name.quoted}{view.options} AS {view.definition}")
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != _INVALID_TABLE_DEFINITION:
            raise
        return False
    return True


def _finish_view(conn: sa.Connection, replaced: Replaced, built: Mapping[int, Built]) -> None:
    """Give a view that took another one's place its grants and all that hung on that."""
    view = replaced.view
    if view.oid not in built:
        matviews.finish(conn, view, view.name, replaced.parts)
    revokes = built[view.oid].revokes if view.oid in built else attachments.revokes_of(conn, view.name)
    run_all(conn, [*matviews.name_parts(view, replaced.parts), *revokes, *view.attached])


def _refer_inbound_keys(conn: sa.Connection, hiddens: Sequence[HiddenTable], options: Options) -> None:
    """Let the tables that refer to live ones refer to the hidden ones too, with every row checked."""
    names = [hidden.live.name for hidden in hiddens]
    inbound = reflection.inbound_keys(conn, [hidden.live.oid for hidden in hiddens])
    keys = [
        (hidden, key, _inbound_name(hidden, place))
        for hidden in hiddens
        for place, key in enumerate(_from_outside(inbound[hidden.live.oid], names))
    ]

    def refer() -> None:
        for hidden, key, name in keys:
            shorten(conn)
            with fitting(key, key.table):
                run(conn, statements.add_foreign_key(key.table, key, name, hidden.name, valid=False))

    if keys:
        exclusively(conn, {key.table for _, key, _ in keys}, options, refer, harmless=OF_READERS)
    for hidden, key, name in keys:
        if key.validated:
            with _keys_found(key, hidden.live.name):
                run(conn, statements.validate(key.table, name))


@contextmanager
def _keys_found(key: InboundKey, table: Name) -> Iterator[None]:
    """A row of another table that refers to a key which is about to go, as an error that says whose it is."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != FOREIGN_KEY_VIOLATION:
            raise
        lacking = f"({', '.join(key.target_columns)}) that the new rows of {table} lack"
        column = key.columns[0] if len(key.columns) == 1 else None
        raise still_referred(key.table, key.name, lacking, column) from None  # its DETAIL quotes the key


def _move_inbound_key(key: InboundKey, temporary: str) -> Iterator[sql.Composable]:
    yield statements.drop_constraint(key.table, key.name)
    yield statements.rename_constraint(key.table, temporary, key.name)
    if key.comment is not None:
        comment = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
        yield comment.format(sql.Identifier(key.name), key.table.sql, statements.literal(key.comment))


def _inbound_name(hidden: HiddenTable, place: int) -> str:
    return temporary_name(hidden.token, f"fkey{place}")


def _give_names(prepared: Prepared) -> Iterator[sql.Composable]:
    """Give indexes, constraints, statistics and sequences their names, which the old table's had until now."""
    hidden, table = prepared.hidden, prepared.table
    own = hidden.shape.names
    for place, constraint in enumerate(hidden.shape.constraints):
        if constraint.kind != "c":
            free = free_name(constraint.name, prepared.taken | (own - {constraint.name}))
            yield statements.rename_constraint(table, hidden.temporary(place), free)
    for place, index in enumerate(hidden.shape.indexes, start=len(hidden.shape.constraints)):
        free = free_name(index.name, prepared.taken | (own - {index.name}))
        yield statements.rename("INDEX", table.sibling(hidden.temporary(place)), free)
    yield from _name_partial_keys(prepared)
    yield from name_statistics(hidden.name, hidden.of_columns_that_stay(prepared.live.statistics))
    for column, name in sequence_names(hidden, prepared.new, prepared.taken):
        now = prepared.new.column(column)
        if now is not None and now.sequence is not None:
            yield statements.rename("SEQUENCE", now.sequence, name.name)


def _name_partial_keys(prepared: Prepared) -> Iterator[sql.Composable]:
    """Give them the names that PostgreSQL gives them where a table has its own from the beginning."""
    hidden, table = prepared.hidden, prepared.table
    known = {*hidden.shape.names, *prepared.partial_keys}
    for passing, columns in prepared.partial_keys.items():
        names = (default_name(table.name, columns, f"fkey{number or ''}") for number in count())
        name = next(name for name in names if name not in known)
        known.add(name)
        yield statements.rename_constraint(table, passing, name)
