"""Peers that load whole tables: pandas' `to_sql`, ADBC's ingest and dlt."""

import os
from importlib import import_module
from typing import Any

import sqlalchemy as sa

from tests.benchmarks.data import arrow_table, arrow_types
from tests.benchmarks.peers.base import Run, make_table, table_name
from tests.benchmarks.scenarios import SCHEMA, TABLE, Job, Kind


def prepare_pandas(job: Job) -> Run:
    """`DataFrame.to_sql` into the table, in chunks of 10,000 rows."""
    if job.scenario.kind is Kind.LOAD:
        make_table(job)
    frame = _arrow(job).to_pandas(types_mapper=_nullable())
    engine = sa.create_engine(job.url)
    engine.connect().close()
    types = {column.name: column.type for column in job.table().columns}  # it would guess text for decimals
    existing = "delete_rows" if job.scenario.kind is Kind.REFRESH else "append"
    options = {"schema": SCHEMA, "if_exists": existing, "index": False, "chunksize": 10_000, "dtype": types}
    return lambda: frame.to_sql(TABLE, engine, **options)


def _nullable() -> Any:
    """pandas' integers that can be missing; its others would become floats."""
    import pandas as pd
    import pyarrow as pa

    return {pa.int16(): pd.Int16Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get


def prepare_adbc(job: Job) -> Run:
    """`adbc_ingest` into the table, which it wants in the very types of the Arrow data."""
    if job.scenario.kind is Kind.LOAD:
        make_table(job)
    source = _arrow(job)
    connection = import_module("adbc_driver_postgresql.dbapi").connect(job.url.replace("+psycopg", ""))
    cursor = connection.cursor()

    def run() -> None:
        if job.scenario.kind is Kind.REFRESH:
            cursor.execute(f"TRUNCATE {table_name()}")
        cursor.adbc_ingest(TABLE, source, mode="append", db_schema_name=SCHEMA)
        connection.commit()

    return run


def prepare_dlt(job: Job) -> Run:
    """`pipeline.run` of an Arrow table, through Parquet files and ADBC, three times as fast as by its CSV files."""
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DLT_DATA_DIR": job.folder}
    dlt = import_module("dlt")
    disposition = {Kind.LOAD: "append", Kind.REFRESH: "replace"}.get(job.scenario.kind, "merge")
    source = dlt.resource(
        _arrow(job),
        name=TABLE,
        write_disposition={"disposition": "merge", "strategy": "upsert"} if disposition == "merge" else disposition,
        primary_key="id" if job.scenario.keyed else None,
        columns={
            field.name: {"data_type": "timestamp", "timezone": field.type.timezone}  # or each would get a zone
            for field in job.shape.fields
            if isinstance(field.type, sa.DateTime)
        },
    )
    pipeline = dlt.pipeline(
        "measured",
        pipelines_dir=os.path.join(job.folder, "pipelines"),
        destination=dlt.destinations.postgres(_with_host_and_password(job.url)),
        dataset_name=SCHEMA,
    )
    return lambda: pipeline.run(source, loader_file_format="parquet").raise_on_failed_jobs()


def _with_host_and_password(url: str) -> str:
    """The URL with what dlt insists on and our server does not need; the socket's folder in its query still counts."""
    complete = sa.make_url(url).set(drivername="postgresql", host="localhost", password="none")
    return complete.render_as_string(hide_password=False)


def _arrow(job: Job) -> Any:
    return arrow_table(job.shape, job.keys, arrow_types(job.shape), job.scenario.changes)
