"""This package, with rows and with Arrow data, and pg-bulk-ingest: they create, migrate and load in one call."""

from importlib import import_module
from itertools import cycle
from typing import Any

import sqlalchemy as sa

import airflow_ingest_provider
from tests.benchmarks.data import arrow_table, arrow_types
from tests.benchmarks.peers.base import Run
from tests.benchmarks.scenarios import Job, Kind


def prepare_rows(job: Job) -> Run:
    """This package, fed with tuples."""
    return _prepare(airflow_ingest_provider, job, as_rows=True)


def prepare_arrow(job: Job) -> Run:
    """This package, fed with one Arrow table."""
    import_module("airflow_ingest_provider.core.arrow")  # which it imports when the first Arrow data comes
    return _prepare(airflow_ingest_provider, job, as_rows=False)


def prepare_pg_bulk_ingest(job: Job) -> Run:
    """pg-bulk-ingest, fed with tuples."""
    return _prepare(import_module("pg_bulk_ingest"), job, as_rows=True)


def _prepare(package: Any, job: Job, *, as_rows: bool) -> Run:
    metadata = job.metadata()
    tables = tuple(metadata.tables.values())
    source = zip(cycle(tables), job.rows_now(), strict=False) if as_rows else iter([(tables[0], _frame(job))])
    connection = sa.create_engine(job.url, pool_size=1).connect()
    connection.connection.cursor().close()  # connects
    options: dict[str, Any] = {}
    if job.scenario.kind is Kind.REFRESH:
        options = {"delete": package.Delete.BEFORE_FIRST_BATCH, "high_watermark": package.HighWatermark.EARLIEST}
    if not job.scenario.keyed:
        options = {"upsert": package.Upsert.OFF}

    def batches(high_watermark: Any) -> Any:
        yield 1, None, source

    return lambda: package.ingest(connection, metadata, batches, **options)


def _frame(job: Job) -> Any:
    frame = arrow_table(job.shape, job.keys, arrow_types(job.shape), job.scenario.changes)
    if len(job.table().columns) > len(frame.column_names):
        import pyarrow as pa

        frame = frame.append_column("note", pa.nulls(frame.num_rows, pa.string()))
    return frame
