"""What a callback did to the tables of a batch: what is granted and commented counts, and nothing of it is lost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import attachments, callback, catalog, hidden, proof, walls, watermark
from airflow_ingest_provider.core.batch_table import BatchTable
from airflow_ingest_provider.core.callback import OnBeforeVisible, do_nothing
from airflow_ingest_provider.core.errors import IngestError
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.loaded import LoadedTable
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.proof import Observed
from airflow_ingest_provider.core.session import explained, run_all
from airflow_ingest_provider.core.shape import TableShape


def call_back(
    conn: sa.Connection, parts: Sequence[BatchTable], on_before_visible: OnBeforeVisible, batch_metadata: Any
) -> list[LoadedTable]:
    """Call it in the batch's transaction, once for all tables or for each; those whose comments it changed.

    Raises IngestError where it changed of a hidden table what the swap would not carry, or wrote to a table whose rows
    are about to go.
    """
    if on_before_visible is do_nothing:
        return []
    known_by = {part.loaded.name: part.loaded for part in parts}
    swapped = [part for part in parts if part.hidden]
    written = _written(conn, swapped)
    if callback.takes_table(on_before_visible):
        with explained():
            seen = _dress(conn, swapped)
        for part in parts:
            callback.call(conn, on_before_visible, part.ingest_table, batch_metadata)
        _take_over(conn, swapped, seen)
        known_by = {one.hidden.name: part.loaded for part, one in zip(swapped, seen, strict=True)} | known_by
    else:
        callback.call(conn, on_before_visible, batch_metadata)
    for part, before, now in zip(swapped, written, _written(conn, swapped), strict=True):
        if now != before:
            raise IngestError(
                f"on_before_visible wrote to {part.loaded.name}, whose rows are about to go: a new table takes its "
                "place; expected ingest_table to be written to, the second of three parameters, or "
                "replace='in_place' to be passed"
            )
    return _commented(conn, known_by)


@dataclass(frozen=True)
class _Seen:
    """A hidden table as the callback found it."""

    hidden: HiddenTable
    oid: int
    table: Observed
    walls: Sequence[str]
    grants: tuple[str, ...]


def _dress(conn: sa.Connection, parts: Sequence[BatchTable]) -> list[_Seen]:
    """Give hidden tables the owners, grants and comments of the live ones, which the callback may change then."""
    hiddens = [part.hidden for part in parts if part.hidden]
    if not hiddens:
        return []
    hidden.give_owners(conn, hiddens)
    oids = catalog.oids_of(conn, [one.name for one in hiddens])
    revokes = attachments.revokes(conn, {oid: one.name for oid, one in zip(oids, hiddens, strict=True)})
    grants = attachments.grants(conn, {one.live.oid: oid for oid, one in zip(oids, hiddens, strict=True)})
    for part, one, oid in zip(parts, hiddens, oids, strict=True):
        there = {column.name for column in one.shape.columns}
        live = replace(one.live, columns=tuple(column for column in one.live.columns if column.name in there))
        run_all(
            conn,
            [
                *revokes[oid],
                *(grant.statement for grant in grants[one.live.oid] if one.carries(grant)),
                *hidden.comments_on_columns(one.name, live),
                *hidden.comments_on_columns(one.name, one.shape),
            ],
        )
        watermark.save(conn, {one.name: part.loaded.state})
    tables, found = proof.observe(conn, oids), walls.walls(conn, oids)
    granted = _granted(conn, oids, hiddens)
    return [_Seen(one, oid, tables[oid], found[oid], granted[oid]) for one, oid in zip(hiddens, oids, strict=True)]


def _take_over(conn: sa.Connection, parts: Sequence[BatchTable], seen: Sequence[_Seen]) -> None:
    """Let the swap know what was granted and revoked, and which columns were commented."""
    if not seen:
        return
    oids, hiddens = [one.oid for one in seen], [one.hidden for one in seen]
    if catalog.oids_of(conn, [one.name for one in hiddens]) != oids:
        raise _moved(part.loaded.name for part in parts)
    tables, found = proof.observe(conn, oids), walls.walls(conn, oids)
    granted = _granted(conn, oids, hiddens)
    for part, one in zip(parts, seen, strict=True):
        now = tables[one.oid]
        if changed := [*proof.changes(one.table, now), *sorted(set(one.walls) ^ set(found[one.oid]))]:
            raise _changed(one.hidden, changed)
        before = {column.name: column.comment for column in one.table.shape.columns}
        comments = {column.name: column.comment for column in now.shape.columns}
        part.hidden = replace(
            one.hidden,
            shape=_with_comments(one.hidden, comments),
            commented=frozenset(name for name in comments if comments[name] != before[name]),
            granted=_new(one.grants, granted[one.oid]),
            revoked=frozenset(one.grants) - frozenset(granted[one.oid]),
        )


def _with_comments(one: HiddenTable, comments: Mapping[str, str | None]) -> TableShape:
    columns = (replace(column, comment=comments[column.name]) for column in one.shape.columns)
    return replace(one.shape, columns=tuple(columns))


def _granted(conn: sa.Connection, oids: Sequence[int], hiddens: Sequence[HiddenTable]) -> dict[int, tuple[str, ...]]:
    """What is granted on hidden tables now, as statements for the names that they will have."""
    found = attachments.grants(conn, {oid: one.live.oid for oid, one in zip(oids, hiddens, strict=True)})
    return {oid: tuple(grant.statement for grant in found[oid]) for oid in found}


def _new(before: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """The grants that were not there before, with the roles that made them."""
    new = tuple(grant for grant in now if grant not in before or not grant.startswith("GRANT "))
    return new if any(grant.startswith("GRANT ") for grant in new) else ()


def _written(conn: sa.Connection, parts: Sequence[BatchTable]) -> list[int]:
    """How many rows the transaction has written to the live tables so far."""
    oids = [part.loaded.live.oid for part in parts]
    return list(conn.scalars(_WRITTEN, {"oids": oids})) if oids else []


def _commented(conn: sa.Connection, known_by: Mapping[Name, LoadedTable]) -> list[LoadedTable]:
    """The tables whose comments are not what they were: what a person wrote now stands in front of the state.

    A hidden table has its comment beside the live one's; where both changed, the last of the names counts.
    """
    found = watermark.read(conn, known_by)
    if len(found) < len(known_by):
        raise _moved(loaded.name for name, loaded in known_by.items() if name not in found)
    commented = [(name, loaded) for name, loaded in known_by.items() if found[name] != loaded.state]
    for name, loaded in commented:
        loaded.state = replace(loaded.state, text=found[name].text)
    return [loaded for _, loaded in commented]


def _moved(tables: Iterable[Name]) -> IngestError:
    return IngestError(
        f"on_before_visible dropped, renamed or moved {', '.join(map(str, tables))}: expected the tables of the batch "
        "to be left where they are"
    )


def _changed(one: HiddenTable, changed: Iterable[str]) -> IngestError:
    return IngestError(
        "on_before_visible changed more of ingest_table than rows, grants, and comments on it and its columns: "
        f"{one.known_as('; '.join(changed))}; it takes the place of {one.live.name} with what the definition and that "
        "one have: expected the rest to be declared, or done before the run or after it"
    )


_WRITTEN = sa.text("""
    SELECT pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid)
           + pg_stat_get_xact_tuples_deleted(oid)
    FROM unnest(CAST(:oids AS oid[])) WITH ORDINALITY asked(oid, place) ORDER BY place
""")
