"""Peers that send INSERT statements with tuples or dicts as parameters: SQLAlchemy and Airflow's PostgresHook."""

import os
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from typing import Any

import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.dialects import postgresql

from tests.benchmarks.peers.base import Run, make_table, table_name
from tests.benchmarks.scenarios import Job, Kind

CHUNK = 10_000
"""Rows given to one executemany."""


def prepare_sqlalchemy(job: Job) -> Run:
    """`connection.execute(insert, dicts)`, all in one transaction; ON CONFLICT for an upsert."""
    if job.scenario.kind is Kind.LOAD:
        make_table(job)
    table, rows = job.table(), job.rows_now()
    statement = postgresql.insert(table)
    if job.scenario.kind is Kind.UPSERT:
        new = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=new)
    connection = sa.create_engine(job.url).connect()

    def run() -> None:
        with connection.begin():
            if job.scenario.kind is Kind.REFRESH:
                connection.execute(sa.text(f"TRUNCATE {table_name()}"))
            for chunk in _chunks(rows, job.shape.columns):
                connection.execute(statement, chunk)

    return run


def _chunks(rows: Iterator[Any], names: list[str]) -> Iterator[list[dict[str, Any]]]:
    while chunk := [dict(zip(names, row, strict=True)) for row in islice(rows, CHUNK)]:
        yield chunk


def prepare_hook(job: Job) -> Run:
    """`PostgresHook.insert_rows`, which commits every 10,000 rows."""
    os.environ["AIRFLOW_HOME"] = os.path.join(job.folder, "airflow")
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
    if job.scenario.kind is Kind.LOAD:
        make_table(job)
    rows, columns = job.rows_now(), job.shape.columns
    place = conninfo_to_dict(job.dsn)
    connection = import_module("airflow.sdk").Connection(
        conn_id="measured", conn_type="postgres", login=place["user"], schema=place["dbname"], host=place["host"]
    )
    hook = import_module("airflow.providers.postgres.hooks.postgres").PostgresHook(
        postgres_conn_id="measured", connection=connection
    )
    options: dict[str, Any] = {"target_fields": columns, "commit_every": CHUNK}
    if job.scenario.kind is Kind.UPSERT:
        options |= {"replace": True, "replace_index": ["id"]}
    return lambda: hook.insert_rows(table_name(), rows, **options)
