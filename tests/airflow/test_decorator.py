"""`@task.ingest`: a function that gives batches is a task."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa
from airflow.sdk import DAG, task

from airflow_ingest_provider import HighWatermark
from airflow_ingest_provider.decorators.ingest import IngestDecoratedOperator, ingest_task

if TYPE_CHECKING:
    from tests.airflow.conftest import Runner

numbers = sa.Table("numbers", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True))


def stored(dsn: str) -> Any:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT array_agg(number ORDER BY number) FROM numbers").fetchone()


def test_the_function_gives_the_batches(run: "Runner", dsn: str) -> None:
    seen: list[Any] = []
    with DAG("gives_batches", schedule=None, params={"step": 2}) as dag:

        @task.ingest(metadata=numbers, high_watermark=HighWatermark.LATEST)
        def load(high_watermark: Any = None, params: Any = None, *, until: int, name: str = "none") -> Iterator[Any]:
            """What it does."""
            seen.append((high_watermark, name))
            for number in range((high_watermark or 0) + params["step"], until, params["step"]):
                yield number, None, [(numbers, (number,))]

        load(until=6, name="{{ task.task_id }}")

    first, second = run(dag), run(dag)
    assert seen == [(None, "load"), (4, "load")]
    assert (first.result["rows"], second.result["rows"]) == (2, 0)
    assert stored(dsn) == ([2, 4],)
    (operator,) = dag.tasks
    assert operator.doc_md == "What it does."
    assert operator.operator_name == "@task.ingest"


def test_the_high_watermark_may_be_called_as_one_likes(run: "Runner") -> None:
    with DAG("any_name", schedule=None) as dag:

        @task.ingest(metadata=numbers, high_watermark=7)
        def load(ds: Any = None) -> Iterator[Any]:
            yield ds, None, [(numbers, (ds,))]

        load()
    assert run(dag).result["last_high_watermark"] == 7


def test_the_plain_decorator_is_the_same(run: "Runner") -> None:
    with DAG("plain_decorator", schedule=None) as dag:

        @ingest_task(metadata=numbers, task_id="other")
        def load(high_watermark: Any = None, dag_run: Any = None) -> Iterator[Any]:
            assert dag_run.dag_id == "plain_decorator"
            yield 1, None, [(numbers, (1,))]

        load()
    (operator,) = dag.tasks
    assert isinstance(operator, IngestDecoratedOperator)
    assert run(dag).result["rows"] == 1


def test_upstream_results_are_arguments(run: "Runner") -> None:
    with DAG("upstream_results", schedule=None) as dag:

        @task.ingest(metadata=numbers)
        def load(high_watermark: Any = None, *, values: Any) -> Iterator[Any]:
            yield 1, None, [(numbers, (value,)) for value in values]

        load(values=[3, 4])
    assert run(dag).result["rows"] == 2


def test_it_can_be_mapped(run: "Runner", dsn: str) -> None:
    with DAG("mapped_function", schedule=None, max_active_tasks=1) as dag:

        @task.ingest(metadata=numbers, high_watermark=None)
        def load(high_watermark: Any, number: int, factor: int) -> Iterator[Any]:
            yield number, None, [(numbers, (number * factor,))]

        load.partial(factor=10).expand(number=[1, 2])
    assert run(dag).state == "success"
    assert stored(dsn) == ([10, 20],)


@pytest.mark.parametrize(("positional", "named"), [((5,), {}), ((), {"high_watermark": 5})])
def test_the_high_watermark_is_not_the_callers_to_give(positional: Any, named: Any) -> None:
    def load(high_watermark: Any, until: int = 0) -> list[Any]:
        return []

    with (
        DAG("callers_watermark", schedule=None),
        pytest.raises(TypeError, match="'high_watermark', which is the high waterm"),
    ):
        ingest_task(load, metadata=numbers)(*positional, **named)


def test_a_function_without_parameters_is_refused() -> None:
    def load() -> list[Any]:
        return []

    decorate: Any = ingest_task
    with DAG("no_parameters", schedule=None), pytest.raises(TypeError, match="takes no positional argument: exp"):
        decorate(load, metadata=numbers)()


def test_a_missing_argument_is_refused_when_the_dag_is_parsed() -> None:
    def load(high_watermark: Any, until: int) -> list[Any]:
        return []

    decorate: Any = ingest_task
    with DAG("missing_argument", schedule=None), pytest.raises(TypeError, match="missing a required argument: 'until'"):
        decorate(load, metadata=numbers)()
