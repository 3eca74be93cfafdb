"""The DAG in the README runs as it stands there, and does what is said about it."""

import re
from pathlib import Path
from typing import Any

import psycopg

from airflow_ingest_provider.demo.airflow_process import worker
from airflow_ingest_provider.demo.target import reach

README = Path(__file__).parents[2] / "README.md"
ONE_MORE_BATCH = ("1001", "1101")


def test_the_dag_loads_then_finds_nothing_to_do_then_migrates(tmp_path: Path, dsn: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    first, second = results_of(code, 2, tmp_path / "first", dsn)
    (third,) = results_of(code.replace("BigInteger", "Numeric").replace(*ONE_MORE_BATCH), 1, tmp_path / "second", dsn)

    assert (first["rows"], first["batches"]) == (1000, 10)
    assert (second["rows"], second["first_high_watermark"]) == (0, 1000)
    assert (third["rows"], third["tables"][0]["migration"]) == (100, ["square: bigint -> numeric"])
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT count(*), max(square), pg_typeof(max(square))::text FROM squares")
        assert found.fetchone() == (1100, 1_210_000, "numeric")


def results_of(code: str, runs: int, folder: Path, dsn: str) -> list[dict[str, Any]]:
    """What the task of the DAG of this code returned, for each of its runs."""
    dag_file = folder / "dags" / "squares.py"
    dag_file.parent.mkdir(parents=True)
    dag_file.write_text(code)
    with worker(folder / "airflow", reach(dsn).airflow_connection, dag_file, "squares", "ingest") as airflow:
        airflow.answer(meanwhile=lambda: None)
        answers = [airflow.ask({}, meanwhile=lambda: None) for _ in range(runs)]
        assert [answer["state"] for answer in answers] == ["success"] * runs, airflow.reason()
    return [answer["result"] for answer in answers]
