"""The tables of a batch: filled with its rows, and merged in an order that their foreign keys allow."""

import logging
import time
from collections.abc import Iterator, Sequence
from itertools import chain

import sqlalchemy as sa

from airflow_ingest_provider.core import analyze, catalog, hidden, reflection
from airflow_ingest_provider.core.batch_table import BatchTable
from airflow_ingest_provider.core.batches import Chunk
from airflow_ingest_provider.core.in_place import Reference
from airflow_ingest_provider.core.load import copy_rows
from airflow_ingest_provider.core.merge import Merged
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Options
from airflow_ingest_provider.core.refusals import check_deferred
from airflow_ingest_provider.core.routing import Run, recogniser, runs
from airflow_ingest_provider.core.session import explained, reserved

logger = logging.getLogger(__name__)

_PROGRESS_SECONDS = 5.0


def copy_parts(conn: sa.Connection, parts: Sequence[BatchTable], chunks: Iterator[Chunk]) -> None:
    """Copy a batch's rows to where each table has them until they are merged."""
    by_name = {part.buffer.table: part for part in parts}
    skipped: set[str] = set()
    spellings = {spelling: part.buffer for part in parts for spelling in part.loaded.spellings}
    recognise = recogniser({part.loaded.table: part.buffer for part in parts}, skipped.add, spellings)
    with reserved(conn) as reservation:
        for run in runs(chunks, recognise):
            part = by_name[run.table]
            with reservation.for_us(), explained():
                destination = part.destination(conn)
            part.written += copy_rows(conn, destination, _with_progress(run, part), run.first_row, binary=run.binary)
    if skipped:
        alone = not any(part.buffer.received for part in parts)
        logger.warning(
            "rows of %s were skipped: not in the metadata%s",
            ", ".join(sorted(skipped)),
            "; no others came, and the high watermark moves on" * alone,
        )


def _with_progress(run: Run, part: BatchTable) -> Iterator[bytes]:
    """The run's chunks, while the log says how many rows have come."""
    began = said = time.monotonic()
    before = part.buffer.received
    for chunk in run.chunks:
        yield chunk
        if time.monotonic() - said >= _PROGRESS_SECONDS:
            said = time.monotonic()
            rate = (part.buffer.received - before) / (said - began)
            logger.info("%s: %s rows so far in this batch, %.0f a second", run.table, part.buffer.received, rate)


def merge_parts(conn: sa.Connection, parts: Sequence[BatchTable], options: Options) -> dict[str, Merged]:
    """Delete from children before parents, and merge into parents before children.

    What rows of children refer to yet, or of the same table, goes after these were merged.
    """
    references = _references(parts)
    names = [part.loaded.name for part in parts]
    with explained():
        deleted = {}
        for part in reversed(parts):
            with part.rows_explained():
                deleted[part.buffer.table] = part.delete_vanished(conn, references[part.loaded.name])
        has_left = any(part.has_left for part in parts)
        hit = _may_be_hit(conn, parts) if has_left or any(deleted.values()) else set()
        merged = {}
        for place, part in enumerate(parts):
            with part.rows_explained(later=names[place + 1 :]):
                merged[part.buffer.table] = _merge_one(conn, part, options, compare_again=part in hit)
        if has_left:
            for part in reversed(parts):
                with part.rows_explained():
                    deleted[part.buffer.table] += part.delete_left(conn, references[part.loaded.name])
            for part in (one for one in parts if one in hit):
                with part.rows_explained():
                    part.restore(conn)
        _add_foreign_keys(conn, parts, options)
        check_deferred(conn)
    return {
        name: Merged(one.inserted, one.updated, one.unchanged, one.superseded, deleted[name])
        for name, one in merged.items()
    }


def _may_be_hit(conn: sa.Connection, parts: Sequence[BatchTable]) -> set[BatchTable]:
    """The tables of which a delete from one of them may take rows along: by a foreign key, or anybody's trigger."""
    by_key = {part for part in parts if part.loaded.live.foreign_keys}
    if len(by_key) == len(parts):
        return by_key
    oids, names = [part.loaded.live.oid for part in parts], {part.loaded.name for part in parts}
    inbound = chain.from_iterable(reflection.inbound_keys(conn, oids).values())
    leads_out = any(key.acts_on_delete and key.table not in names for key in inbound)  # to tables that may have some
    return {*parts} if leads_out or catalog.have_triggers(conn, oids) else by_key


def _merge_one(conn: sa.Connection, part: BatchTable, options: Options, *, compare_again: bool) -> Merged:
    merged = part.merge(conn, compare_again=compare_again)
    if part.hidden:
        superseded = hidden.finish(conn, part.hidden, last_row_wins=options.upserts)
        merged = Merged(inserted=merged.inserted - superseded, superseded=merged.superseded + superseded)
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


def _references(parts: Sequence[BatchTable]) -> dict[Name, list[Reference]]:
    """The foreign keys of the batch's tables to each of them, but for those that only check, once all is done."""
    found: dict[Name, list[Reference]] = {part.loaded.name: [] for part in parts}
    for part in parts:
        for key in part.loaded.live.foreign_keys:
            if key.target in found and (key.acts_on_delete or not key.is_deferred):
                found[key.target].append(Reference(part.loaded.live, key))
    return found
