"""`ingest`: batches of rows into PostgreSQL tables, each batch wholly visible or not at all."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import callback
from airflow_ingest_provider.core.batches import Batch, check_batches, closed_after, closed_if_it_fails, started, triple
from airflow_ingest_provider.core.callback import OnBeforeVisible, do_nothing
from airflow_ingest_provider.core.load import cancellable, check_connection
from airflow_ingest_provider.core.metadata import Metadata
from airflow_ingest_provider.core.options import Delete, HighWatermark, Migrate, Options, Replace, Upsert, Visibility
from airflow_ingest_provider.core.result import IngestResult
from airflow_ingest_provider.core.run import IngestRun
from airflow_ingest_provider.core.session import check_left_alone

Batches = Callable[[Any], Iterable[Batch]]


def ingest(
    conn: sa.Connection,
    metadata: Metadata,
    batches: Batches,
    on_before_visible: OnBeforeVisible = do_nothing,
    high_watermark: Any = HighWatermark.LATEST,
    visibility: str = Visibility.AFTER_EACH_BATCH,
    upsert: str = Upsert.IF_PRIMARY_KEY,
    delete: str = Delete.OFF,
    *,
    migrate: str = Migrate.AUTO,
    conversions: Mapping[str, str] = MappingProxyType({}),
    replace: str = Replace.AUTO,
    end_blockers: bool = False,
    lock_timeout: timedelta = timedelta(milliseconds=50),
    lock_patience: timedelta = timedelta(minutes=5),
    maintenance_work_mem: str | None = None,
) -> IngestResult:
    """Load batches of rows into the tables of `metadata`, creating and migrating them first.

    Each batch is one transaction: its rows, its high watermark and, for the first batch of a run that deletes, the
    deletion become visible together, or not at all. Schema changes are committed before the first batch.

    Arguments:
        conn: a SQLAlchemy connection through psycopg or psycopg2, not in a transaction and not AUTOCOMMIT. It is
            outside a transaction again when this returns or raises. `batches` had better use another one: it may use
            this one before it gives a batch, if it ends its transaction, and not at all in a batch's rows.
        metadata: a MetaData, all of whose tables are loaded; or a Table, or a class that SQLAlchemy maps to one, which
            is loaded without the others of its metadata. Several tables are loaded in the same transactions, and the
            high watermark is kept with the first.
        batches: called with a high watermark, gives an iterable of `(high_watermark, batch_metadata, rows)`. The
            watermark is a JSON-encodable value, or a function of no arguments called when the rows were read. `rows`
            is an iterable of `(table, row)`, and `row` a tuple of the columns' values in the order of the table's
            definition, computed columns left out, or a dict of them by name; or, in place of one row, an object with
            the Arrow PyCapsule interface, whose columns are matched by name. Rows of other tables are skipped, with a
            warning. The rows of a batch are read to their end before the next one is asked for.
        on_before_visible: called with `(conn, batch_metadata)` in the batch's transaction before it commits; with
            `(conn, ingest_table, batch_metadata)`, once a table, where it takes three parameters. Nothing of the batch
            becomes visible when it raises.
        high_watermark: `HighWatermark.LATEST`, `HighWatermark.EARLIEST`, or the JSON-encodable value to start after.
        visibility: `Visibility.AFTER_EACH_BATCH`.
        upsert: `Upsert.IF_PRIMARY_KEY` or `Upsert.OFF`.
        delete: `Delete.OFF` or `Delete.BEFORE_FIRST_BATCH`.
        migrate: `Migrate.AUTO` brings the live table to its definition in the cheapest way, `Migrate.SAFE` refuses to
            drop a column with values in it, `Migrate.OFF` refuses every difference, with the plan in the error.
        conversions: SQL expressions over the live table's columns, by the column that they fill where its type changes
            or where it is new: `{"day": "to_date(day, 'DD.MM.YYYY')"}`, or `{"name": "old_name"}`. With several tables
            the column may be written as "table.column" or "schema.table.column".
        replace: how `Delete.BEFORE_FIRST_BATCH` replaces rows: `Replace.SWAP` and `Replace.IN_PLACE` insist on a way,
            `Replace.AUTO` takes the one that loses and disturbs least.
        end_blockers: whether to end backends that stand in the way of an exclusive lock for longer than
            `lock_patience`; the role has to be allowed to.
        lock_timeout: how long a try for ACCESS EXCLUSIVE, or for a lock that writers wait for, lets others wait behind
            it before it gives way and is made again; never longer than half of the server's deadlock_timeout, so that
            of two that wait for each other it is the try that ends, and not a reader.
        lock_patience: within which time all tries of a step begin, a migration's or a swap's, the first in any case;
            and how long another run into a table is waited for.
        maintenance_work_mem: the memory that a key, index or foreign key of a new table is built with, such as "1GB";
            set with SET LOCAL. None leaves the server's setting.

    Returns what was done: batches, rows by what became of them, changes of the definitions, the first and the last high
    watermark, seconds.

    Locks: readers are kept out only for the catalog changes of a migration or swap. A transaction-level advisory lock
    keeps other runs out. docs/locks.md has the list.

    Raises:
        ValueError: an option is none of its constants, or not what it has to be.
        IngestError: its subclasses say who can mend it: DefinitionError, BatchError, RowError, LockNotAcquired,
            ConcurrentIngestError. Batches committed before stay, with their high watermark.
        Whatever `batches` or `on_before_visible` raise, as it is.
    """
    options = Options(
        high_watermark,
        visibility,
        upsert,
        delete,
        migrate=migrate,
        conversions=conversions,
        replace=replace,
        end_blockers=end_blockers,
        lock_timeout=lock_timeout,
        lock_patience=lock_patience,
        maintenance_work_mem=maintenance_work_mem,
    )
    check_connection(conn)
    with cancellable(conn):
        check_batches(batches)
        callback.check(on_before_visible)
        run = IngestRun(conn, metadata, on_before_visible, options)
        run.create_missing()
        start = run.starting_high_watermark()
        try:
            with closed_after(batches(start)) as all_batches:
                for batch in all_batches:
                    mark, batch_metadata, rows = triple(batch)
                    with closed_if_it_fails(rows) as given:
                        arrived = started(given)
                        check_left_alone(conn)
                        run.migrate_once()
                        run.load(mark, batch_metadata, arrived)
            check_left_alone(conn)
        finally:
            conn.rollback()  # what a source began that raised
        run.finish()
        return run.result()
