"""How the rows that are there before a run are replaced: by a swap or in place, and why so."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import acting, callback, catalog, reflection, walls
from airflow_ingest_provider.core.batch_table import BatchTable, share_changed
from airflow_ingest_provider.core.callback import OnBeforeVisible, do_nothing
from airflow_ingest_provider.core.errors import DefinitionError, RowError
from airflow_ingest_provider.core.loaded import LoadedTable, Refresh
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Options, Replace
from airflow_ingest_provider.core.shape import InboundKey

logger = logging.getLogger(__name__)


def choose_refreshes(
    conn: sa.Connection, tables: Sequence[LoadedTable], on_before_visible: OnBeforeVisible, options: Options
) -> None:
    """Decide how the rows of tables are replaced, those that refer to others first; note why, and log it.

    Of tables that foreign keys tie together, all are swapped or none: the old rows of one would hinder, or be hit by,
    what is deleted from another. Raises DefinitionError where the way that the caller insists on, or the only one that
    is left, cannot be had.
    """
    swapped: dict[Name, int] = {}
    for loaded in tables:
        loaded.refresh, why = _choose(conn, loaded, swapped, on_before_visible, options)
        _note(loaded, why)
        if loaded.refresh is Refresh.SWAP:
            swapped[loaded.name] = loaded.live.oid
    for group in _tied(tables):
        in_place = next((loaded for loaded in tables if loaded in group and loaded.refresh is Refresh.IN_PLACE), None)
        if in_place:
            for loaded in group:
                if loaded.refresh is Refresh.SWAP:
                    loaded.refresh = Refresh.IN_PLACE
                    _note(loaded, f"foreign keys tie it to {in_place.name}, which is too")
    for loaded in tables:
        logger.info("%s: rows are %s", loaded.name, loaded.why_so)
        if loaded.refresh is Refresh.IN_PLACE:
            _check_in_place(conn, loaded)


def _note(loaded: LoadedTable, why: str) -> None:
    assert loaded.refresh is not None, "noted once it is chosen"
    loaded.why_so = f"replaced {loaded.refresh.value} ({why})"


def _choose(
    conn: sa.Connection,
    loaded: LoadedTable,
    swapped: Mapping[Name, int],
    on_before_visible: OnBeforeVisible,
    options: Options,
) -> tuple[Refresh, str]:
    """How the rows of one table are best replaced, and why.

    Tables that are `swapped` in the same transaction, with their OIDs, refer to the new table by then.
    """
    if options.replace == Replace.IN_PLACE:
        return Refresh.IN_PLACE, "as asked for"
    in_the_way = walls.walls(conn, [loaded.live.oid], swapped.values())[loaded.live.oid]
    if options.replace == Replace.SWAP:
        if in_the_way:
            raise DefinitionError(
                f"{loaded.name} cannot be replaced by a swap because of {'; '.join(in_the_way)}: "
                f"pass replace={Replace.AUTO!r}, or remove it and put it back afterwards; what a role may not do, "
                "grant it"
            )
        return Refresh.SWAP, "as asked for"
    reasons = [*in_the_way, *obstacles(conn, [loaded], swapped, on_before_visible, keyless_too=False)[loaded]]
    if reasons:
        return Refresh.IN_PLACE, "; ".join(reasons)
    return Refresh.SWAP, "nothing stands against it"


def _tied(tables: Sequence[LoadedTable]) -> list[set[LoadedTable]]:
    """The tables in groups, each of those that foreign keys tie together, live or declared ones."""
    by_name = {loaded.name: loaded for loaded in tables}
    by_table = {loaded.table: loaded for loaded in tables}
    groups: list[set[LoadedTable]] = []
    for loaded in tables:
        live = (by_name.get(key.target) for key in loaded.live.foreign_keys)
        declared = (by_table.get(key.referred_table) for key in loaded.table.foreign_key_constraints)
        group = {loaded, *filter(None, live), *filter(None, declared)}
        for other in [one for one in groups if one & group]:
            groups.remove(other)
            group |= other
        groups.append(group)
    return groups


def obstacles(
    conn: sa.Connection,
    tables: Sequence[LoadedTable],
    swapped: Collection[Name],
    on_before_visible: OnBeforeVisible,
    *,
    keyless_too: bool,
) -> dict[LoadedTable, list[str]]:
    """Why rows had better not come by a swap, though one is possible.

    That others refer to a table without a primary key is no reason unless `keyless_too`.
    """
    oids = [loaded.live.oid for loaded in tables]
    found, inbound = acting.acting(conn, oids), reflection.inbound_keys(conn, oids)
    by_name = on_before_visible is not do_nothing and not callback.takes_table(on_before_visible)
    return {
        loaded: [
            *(f"trigger {trigger} fires on INSERT" for trigger in found[loaded.live.oid].insert_triggers),
            *_referring(inbound[loaded.live.oid] if loaded.key or keyless_too else (), swapped),
            *([_LOOKS_BY_NAME] if by_name else []),
        ]
        for loaded in tables
    }


_LOOKS_BY_NAME = "on_before_visible takes two parameters, and looks for new rows under the table's name"


def _referring(inbound: Iterable[InboundKey], swapped: Collection[Name]) -> Iterator[str]:
    return (f"foreign key {one.name} of {one.table} refers to it" for one in inbound if one.table not in swapped)


def _check_in_place(conn: sa.Connection, loaded: LoadedTable) -> None:
    inbound = reflection.inbound_keys(conn, [loaded.live.oid])[loaded.live.oid]
    if inbound and not loaded.key:
        raise DefinitionError(
            f"{loaded.name}: all rows are to be deleted, and {inbound[0].table} refers to them by {inbound[0].name}; "
            "without a primary key nothing says which rows stay: declare one, or drop the foreign key"
        )
    found = acting.acting(conn, [loaded.live.oid])[loaded.live.oid]
    acting.check_rules(loaded.name, found, (acting.INSERT, acting.UPDATE, acting.DELETE))
    if catalog.cannot_publish_deletes(conn, loaded.live.oid):
        raise DefinitionError(
            f"{loaded.name} is published and has no replica identity, without which PostgreSQL deletes no row of it: "
            "declare a primary key, or ALTER TABLE ... REPLICA IDENTITY FULL"
        )


FEW = 0.1
"""The share of rows up to which replacing in place is the shorter way. Measured with 300,000 rows, a key and an index:
in place with 0, 1, 5, 10 and 20 % changed wrote 0.1, 1, 6, 11 and 27 MB of WAL in 1.1, 1.1, 1.6, 1.6 and 1.9 times
the time of a swap, which always wrote 26 MB."""

_SAMPLED = 2000


def emptied(conn: sa.Connection, parts: Sequence[BatchTable]) -> list[LoadedTable]:
    """Those of a batch's tables whose rows are about to go, and for which none came; in the open transaction."""
    by_refresh = (Refresh.SWAP, Refresh.IN_PLACE)
    bare = [part.loaded for part in parts if part.loaded.refresh in by_refresh and not part.buffer.received]
    filled = catalog.filled(conn, [loaded.name for loaded in bare])
    return [loaded for loaded in bare if loaded.name in filled]


def apart(tables: Sequence[LoadedTable]) -> list[LoadedTable]:
    """Those of the tables that no foreign key ties to another one of them: with one, all are swapped or none is."""
    return [loaded for group in _tied(tables) if len(group) == 1 for loaded in group]


def hardly_changes(conn: sa.Connection, loaded: LoadedTable, rows: list[Any], frame: Any, token: str) -> bool:
    """Whether few of the first rows of a table to be swapped are new or changed: in place is then worth trying.

    The `frame` is an Arrow object with more of them, or None.
    """
    if not (rows or frame is not None) or not loaded.key or loaded.planned is None or loaded.planned.plan.differences:
        return False
    if not _takes_any_order(loaded):
        return False
    try:
        _check_in_place(conn, loaded)
        changed = share_changed(conn, loaded, rows, frame, token)
    except (DefinitionError, RowError):
        return False  # a row that does not fit is told by the load
    logger.info("%s: %.0f %% of the first rows are new or changed", loaded.name, 100 * changed)
    return changed <= FEW


def _takes_any_order(loaded: LoadedTable) -> bool:
    """Whether rows can become others one after the other, whatever they become, as they can all at once."""
    live = loaded.live
    refers_to_itself = any(key.target == loaded.name for key in live.foreign_keys)
    keeps_values = any(column.identity == "a" and column.name not in loaded.key for column in live.columns)
    return not (live.checks_each_row or refers_to_itself or keeps_values)


def changed_after_all(conn: sa.Connection, part: BatchTable) -> bool:
    """Whether many of all rows are new, changed or gone, though few of the first were."""
    received = part.buffer.received
    if catalog.has_more_rows(conn, part.loaded.name, than=int(received * (1 + FEW))):
        return True
    return part.share_changed(conn, _SAMPLED) > FEW


def first_loads(
    conn: sa.Connection,
    tables: Sequence[LoadedTable],
    swapped: Mapping[Name, int],
    on_before_visible: OnBeforeVisible,
    *,
    upserts: bool,
) -> list[LoadedTable]:
    """Those of the tables that are empty and have keys or indexes, which are built faster once the rows are there.

    `swapped` are the tables that a new one takes the place of in the same transaction.
    """
    indexed = [one for one in tables if _has_indexes(one) or (upserts and one.key)]
    filled = catalog.filled(conn, [one.name for one in indexed])
    empty = [one for one in indexed if one.name not in filled]
    against = obstacles(conn, empty, (), on_before_visible, keyless_too=True) if empty else {}
    free = [one for one in empty if not against[one]]
    in_the_way = walls.walls(conn, [one.live.oid for one in free], swapped.values()) if free else {}
    return [one for one in free if not in_the_way[one.live.oid]]


def _has_indexes(loaded: LoadedTable) -> bool:
    return bool(loaded.live.indexes) or any(one.kind != "c" for one in loaded.live.constraints)
