"""Calls that a type checker must accept, and, where an error is ignored by its code, must refuse. None is run."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from airflow_ingest_provider import Delete, HighWatermark, IngestPlan, IngestResult, Replace, ingest, ingest_plan
from airflow_ingest_provider.decorators.ingest import ingest_task
from airflow_ingest_provider.hooks.ingest import IngestHook
from airflow_ingest_provider.operators.ingest import IngestOperator


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)


PEOPLE = sa.Table("people", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))


def batches(high_watermark: str | None) -> Iterator[tuple[str, dict[str, int], Iterator[tuple[sa.Table, tuple[int]]]]]:
    yield "a", {"page": 1}, ((PEOPLE, (number,)) for number in range(3))


def pages(size: int, high_watermark: Any) -> list[tuple[int, None, list[tuple[sa.Table, tuple[int]]]]]:
    return [(1, None, [(PEOPLE, (size,))])]


def of_arrow(frame: Any, high_watermark: Any) -> Iterator[tuple[Any, None, list[tuple[sa.Table, Any]]]]:
    yield lambda: "counted afterwards", None, [(PEOPLE, frame), (PEOPLE, (1,))]


def of_orm(high_watermark: Any) -> Iterator[tuple[None, None, list[tuple[Any, tuple[int]]]]]:
    yield None, None, [(Person.__table__, (1,))]


def check(conn: sa.Connection, batch_metadata: dict[str, int]) -> None: ...


def check_table(conn: sa.Connection, ingest_table: sa.Table, batch_metadata: Any) -> bool:
    return conn.scalar(sa.select(sa.func.count()).select_from(ingest_table)) == 3


def accepted(conn: sa.Connection) -> IngestResult:
    ingest(conn, PEOPLE.metadata, batches)
    ingest(conn, PEOPLE.metadata, partial(pages, 500), check, HighWatermark.EARLIEST)
    ingest(conn, Base.metadata, of_orm, check_table, delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.IN_PLACE)
    ingest(conn, PEOPLE.metadata, lambda mark: [(mark, None, [(PEOPLE, (1,))])], lambda conn, batch_metadata: None)
    ingest(conn, PEOPLE.metadata, partial(of_arrow, object()), conversions={"id": "1"}, lock_timeout=timedelta(1))
    ingest(conn, PEOPLE, batches)
    ingest(conn, Person, of_orm)
    of_table: IngestPlan = ingest_plan(conn, Person)
    assert of_table == ingest_plan(conn, PEOPLE)
    plan: IngestPlan = ingest_plan(conn, PEOPLE.metadata, check, Delete.BEFORE_FIRST_BATCH, high_watermark=None)
    first: str = plan.tables[0].lines[0]
    return ingest(conn, PEOPLE.metadata, batches, high_watermark=first)


def accepted_in_airflow() -> int:
    IngestOperator(task_id="load", metadata=PEOPLE, batches=batches, on_before_visible=check)
    IngestOperator(task_id="load", metadata="warehouse.PEOPLE", batches="warehouse.batches", high_watermark="{{ ds }}")
    IngestOperator(task_id="load", metadata=Person, batches=of_orm)
    IngestHook("warehouse").ingest_plan(Person)
    IngestHook("warehouse").ingest(Person, of_orm)
    IngestOperator.partial(task_id="load", metadata=Base.metadata).expand(batches=["warehouse.batches"])
    ingest_task(metadata=PEOPLE)(batches)()
    ingest_task(batches, metadata=PEOPLE)()
    return IngestHook("warehouse").ingest(PEOPLE.metadata, batches, check_table).tables[0].inserted or 0


def refused(conn: sa.Connection, engine: sa.Engine) -> None:
    ingest(engine, PEOPLE.metadata, batches)  # type: ignore[arg-type]
    ingest(conn, "people", batches)  # type: ignore[arg-type]
    ingest(conn, Person(), of_orm)  # type: ignore[arg-type]
    ingest(conn, PEOPLE.metadata, batches(None))  # type: ignore[arg-type]
    ingest(conn, PEOPLE.metadata, lambda mark: [(PEOPLE, (1,))])  # type: ignore[list-item]
    ingest(conn, PEOPLE.metadata, batches, lambda conn: None)  # type: ignore[arg-type]
    ingest(conn, PEOPLE.metadata, batches, None)  # type: ignore[arg-type]
    ingest(conn, PEOPLE.metadata, batches, lock_timeout=5)  # type: ignore[arg-type]
    ingest(conn, PEOPLE.metadata, batches, if_exists="replace")  # type: ignore[call-arg]
