"""The DAG in the README runs as it stands there, and does what is said about it."""

import re
from pathlib import Path

import psycopg

from airflow_ingest_provider.demo.airflow_process import worker
from airflow_ingest_provider.demo.target import reach

README = Path(__file__).parents[2] / "README.md"


def test_the_dag_loads_and_a_second_run_finds_nothing_to_do(tmp_path: Path, dsn: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    dag_file = tmp_path / "dags" / "squares.py"
    dag_file.parent.mkdir()
    dag_file.write_text(code)

    with worker(tmp_path / "airflow", reach(dsn).airflow_connection, dag_file, "squares", "ingest") as airflow:
        airflow.answer(meanwhile=lambda: None)
        first, second = (airflow.ask({}, meanwhile=lambda: None) for _ in range(2))
        assert (first["state"], second["state"]) == ("success", "success"), airflow.reason()

    assert (first["result"]["rows"], first["result"]["batches"]) == (1000, 10)
    assert (second["result"]["rows"], second["result"]["first_high_watermark"]) == (0, 1000)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*), max(square) FROM squares").fetchone() == (1000, 1_000_000)
