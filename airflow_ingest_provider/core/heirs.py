"""The sequences of a table that takes another one's place: its own go on where the old ones stopped."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import attachments, catalog, statements
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.names import Name, default_name, free_name, is_temporary
from airflow_ingest_provider.core.shape import TableShape


@dataclass(frozen=True)
class Heir:
    """The sequence of a new identity column, which takes the place of that of the live identity or serial column."""

    table: int
    before: Name
    sequence: Name
    called: Name
    keeps_limits: bool
    """The limits of a sequence belong to the type of its column, which may be another one."""


def heirs_of(hidden: HiddenTable, new: TableShape, taken: Collection[str]) -> Iterator[Heir]:
    """The sequences of the hidden table that inherit; `new` is the hidden table as it is, its sequences included."""
    for name, called in sequence_names(hidden, new, taken):
        before, after = hidden.live.column(name), new.column(name)
        if before and after and (before.identity or before.serial) and before.sequence and after.sequence:
            same = hidden.shape.column(name) == before
            yield Heir(hidden.live.oid, before.sequence, after.sequence, called, same)


def sequence_names(hidden: HiddenTable, new: TableShape, taken: Collection[str] = ()) -> Iterator[tuple[str, Name]]:
    """The columns whose sequence came with the hidden table, and what it is to be called."""
    table = hidden.live.name
    for column in new.columns:
        if column.sequence and is_temporary(column.sequence.name):
            before = hidden.live.column(column.name)
            named = before.sequence.name if before and before.sequence else None
            yield column.name, table.sibling(free_name(named or default_name(table.name, [column.name], "seq"), taken))


def hang_on(conn: sa.Connection, heirs: Sequence[Heir]) -> dict[int, list[str]]:
    """The statements that hang on the heirs what hangs on the sequences before them, by the OID of the live table."""
    if not heirs:
        return {}
    found: dict[int, list[str]] = {heir.table: [] for heir in heirs}
    live_oids = catalog.oids_of(conn, [heir.before for heir in heirs])
    new_oids = catalog.oids_of(conn, [heir.sequence for heir in heirs])
    attached = attachments.attached(conn, live_oids)
    revokes = attachments.revokes(conn, dict(zip(new_oids, (heir.called for heir in heirs), strict=True)))
    for heir, live_oid, new_oid in zip(heirs, live_oids, new_oids, strict=True):
        own = [one.statement for one in attached[live_oid]]
        if not heir.keeps_limits:
            own = [one for one in own if " AS " not in one.partition(" INCREMENT")[0]]
        found[heir.table] += [*revokes[new_oid], *own]
    return found


def move_sequences(live: TableShape, new: TableShape, owned: Iterable[tuple[str, Name]]) -> Iterator[sql.Composable]:
    """Owned sequences change hands with their value; an identity's goes on where the old one stopped.

    `owned` are the live table's, each with its column; the new table has the live one's name by now.
    """
    for column in new.columns:
        before = live.column(column.name)
        if before is not None and before.sequence is not None and column.identity and column.sequence:
            yield _GO_ON.format(
                name=statements.literal(column.sequence.quoted), new=column.sequence.sql, old=before.sequence.sql
            )
    for name, sequence in owned:
        column_, before = new.column(name), live.column(name)
        drawn_from = before is not None and before.serial and before.sequence == sequence
        if column_ is not None and (not drawn_from or (before and column_.default == before.default)):
            owner = sql.SQL(".").join((live.name.sql, sql.Identifier(name)))
            yield sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(sequence.sql, owner)


# Not back, where the new one stands further on already, and within its limits.
_GO_ON = sql.SQL("""
    SELECT setval({name}, greatest(seqmin, least(seqmax, old.last_value)), old.is_called)
    FROM {old} old, {new} new, pg_sequence
    WHERE seqrelid = {name}::regclass AND CASE WHEN seqincrement > 0
        THEN (old.last_value, old.is_called) > (new.last_value, new.is_called)
        ELSE old.last_value < new.last_value OR old.last_value = new.last_value AND old.is_called END
""")
