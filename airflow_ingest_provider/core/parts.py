"""The tables of a batch, merged in an order that their foreign keys allow."""

from collections.abc import Sequence

import sqlalchemy as sa

from airflow_ingest_provider.core import analyze, hidden
from airflow_ingest_provider.core.in_place import Reference
from airflow_ingest_provider.core.load import check_deferred
from airflow_ingest_provider.core.merge import Merged
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.session import explained
from airflow_ingest_provider.core.target import BatchTable, LoadedTable


def merge_parts(conn: sa.Connection, parts: Sequence[BatchTable], options: Options) -> dict[str, Merged]:
    """Delete from children before parents, and merge into parents before children.

    What rows of children refer to yet, or of the same table, goes after these were merged.
    """
    references = {part: _references(part.loaded, parts) for part in parts}
    with explained():
        deleted = {}
        for part in reversed(parts):
            with part.rows_explained():
                deleted[part.buffer.table] = part.delete_vanished(conn, references[part])
        after_deletes = any(deleted.values())
        merged = {}
        for place, part in enumerate(parts):
            with part.rows_explained(later=[one.loaded.name for one in parts[place + 1 :]]):
                merged[part.buffer.table] = _merge_one(conn, part, options, after_deletes=after_deletes)
        if any(part.has_left for part in parts):
            for part in reversed(parts):
                with part.rows_explained():
                    deleted[part.buffer.table] += part.delete_left(conn, references[part])
            for part in parts:
                with part.rows_explained():
                    part.restore(conn)
        _add_foreign_keys(conn, parts, options)
        check_deferred(conn)
    return {
        name: Merged(one.inserted, one.updated, one.unchanged, one.superseded, deleted[name])
        for name, one in merged.items()
    }


def _merge_one(conn: sa.Connection, part: BatchTable, options: Options, *, after_deletes: bool) -> Merged:
    merged = part.merge(conn, after_deletes=after_deletes)
    if part.hidden:
        superseded = hidden.finish(conn, part.hidden, last_row_wins=options.upserts)
        merged = Merged(inserted=merged.inserted - superseded, superseded=superseded)
        analyze.whole(conn, part.hidden.name)
    part.advance_sequences(conn)
    return merged


def _add_foreign_keys(conn: sa.Connection, parts: Sequence[BatchTable], options: Options) -> None:
    """To hidden tables that may refer to each other in a circle: all of them have their keys by now."""
    hidden.add_foreign_keys(conn, [part.hidden for part in parts if part.hidden], options)
    for part in parts:
        if part.hidden:
            with part.rows_explained():
                hidden.check_foreign_keys(conn, part.hidden)


def _references(loaded: LoadedTable, parts: Sequence[BatchTable]) -> list[Reference]:
    """The foreign keys of the batch's tables to one of them."""
    return [
        Reference(part.loaded.live, key)
        for part in parts
        for key in part.loaded.live.foreign_keys
        if key.target == loaded.name
    ]
