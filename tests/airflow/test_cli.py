"""`airflow-ingest plan --conn-id`: by a connection of Airflow's."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from airflow_ingest_provider import cli

if TYPE_CHECKING:
    from tests.airflow.conftest import Connect

COMMAND = "import sys; from airflow_ingest_provider.cli import main; sys.exit(main())"


def test_what_airflow_logs_is_not_printed_with_the_plan(connect: "Connect", dsn: str, tmp_path: Path) -> None:
    connect()
    (tmp_path / "definitions.py").write_text(
        "import sqlalchemy as sa\nthings = sa.Table('things', sa.MetaData(), sa.Column('id', sa.Integer))\n"
    )
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE things (id int)")
    # In a process of its own: Airflow keeps the standard output that it finds when it is imported.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            COMMAND,
            "plan",
            "--conn-id",
            "postgres_default",
            "--replace-rows",
            "definitions:things",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("public.things: nothing to do\n  rows: replaced by a new table")
    assert done.stdout.count("\n") == 2
    assert "rows are replaced by a new table" in done.stderr


def test_a_connection_that_is_not_there_is_one_line(airflow: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--conn-id", "no_such", "sqlalchemy:MetaData"]) == 1
    assert capsys.readouterr().err.startswith("airflow-ingest: there is no connection 'no_such': expected one of")
