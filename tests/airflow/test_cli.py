"""`airflow-ingest plan --conn-id`: by a connection of Airflow's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from airflow_ingest_provider import cli

if TYPE_CHECKING:
    from tests.airflow.conftest import Connect

COMMAND = "import sys; from airflow_ingest_provider.cli import main; sys.exit(main())"

THINGS = """
import sqlalchemy as sa
things = sa.Table("things", sa.MetaData(), sa.Column("id", sa.Integer))
"""

DRY_RUN = """
from airflow.sdk import DAG
from airflow_ingest_provider.operators.ingest import IngestOperator
from definitions import things

with DAG("dry", schedule=None) as dag:
    IngestOperator(task_id="ingest", metadata=things, batches=print, conn_id="stored")
dag.get_task("ingest").dry_run()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module `definitions`, that defines `things`."""
    (tmp_path / "definitions.py").write_text(THINGS)
    return tmp_path


@pytest.fixture
def stored(airflow: None, dsn: str) -> Iterator[None]:
    """A connection `stored` to the test's database, where Admin > Connections keeps it."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    found = conninfo_to_dict(dsn)
    fields: Any = {"host": found["host"], "port": found["port"], "login": found["user"], "schema": found["dbname"]}
    with create_session() as session:
        session.add(Connection(conn_id="stored", conn_type="postgres", **fields))
    yield
    with create_session() as session:
        session.query(Connection).filter_by(conn_id="stored").delete()


def python(
    folder: Path, program: str, *arguments: str, packages: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """What became of a program in a process of its own, since Airflow keeps what it finds when it is imported.

    With `packages` it has none but those of that folder.
    """
    options = ["-S"] if packages else []
    return subprocess.run(
        [sys.executable, *options, "-c", program, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{Path(cli.__file__).parents[1]}:{packages or ''}"},
        capture_output=True,
        text=True,
    )


def test_what_airflow_logs_is_not_printed_with_the_plan(connect: "Connect", dsn: str, folder: Path) -> None:
    connect()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE things (id int)")
    done = python(folder, COMMAND, "plan", "--conn-id", "postgres_default", "--replace-rows", "definitions:things")
    assert done.returncode == 0
    assert done.stdout.startswith("public.things: nothing to do\n  rows: replaced by a new table")
    assert done.stdout.count("\n") == 2
    assert "rows are replaced by a new table" in done.stderr


def test_a_connection_that_is_not_there_is_one_line(airflow: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--conn-id", "no_such", "sqlalchemy:MetaData"]) == 1
    assert capsys.readouterr().err.startswith("airflow-ingest: there is no connection 'no_such': expected one of")


def test_a_plan_finds_the_connections_of_the_metadata_database(stored: None, folder: Path) -> None:
    done = python(folder, COMMAND, "plan", "--conn-id", "stored", "definitions:things")
    assert (done.stdout, done.returncode) == ("public.things: create\n", 2)


def test_a_dry_run_in_a_script_finds_the_connections_of_the_metadata_database(stored: None, folder: Path) -> None:
    done = python(folder, DRY_RUN)
    assert done.returncode == 0
    assert "public.things: create" in done.stdout + done.stderr


def test_airflow_looks_where_it_did_before_once_a_plan_is_made(connect: "Connect") -> None:
    connect()
    before = {**os.environ}
    cli.main(["plan", "--conn-id", "postgres_default", "sqlalchemy:MetaData"])
    assert {**os.environ} == before


@pytest.fixture
def without_the_provider(tmp_path: Path) -> Path:
    """A folder of all packages that are installed here, but for Airflow's postgres provider."""
    import airflow

    installed, packages = Path(airflow.__file__).parents[1], tmp_path / "packages"
    for part, missing in (
        (".", "apache_airflow_providers_postgres*"),
        ("airflow", "providers"),
        ("airflow/providers", "postgres"),
    ):
        (packages / part).mkdir(parents=True)
        for found in (installed / part).iterdir():
            if found.name != "airflow" and not found.match(missing):
                (packages / part / found.name).symlink_to(found)
    return packages


def test_a_plan_without_the_postgres_provider_says_what_to_install(folder: Path, without_the_provider: Path) -> None:
    arguments = ["plan", "--conn-id", "postgres_default", "definitions:things"]
    done = python(folder, COMMAND, *arguments, packages=without_the_provider)
    assert done.returncode == 1
    assert "--conn-id needs Airflow with its postgres provider (No module named 'airflow.providers.p" in done.stderr
    assert "pip install 'airflow-ingest-provider[airflow]', or pass --url" in done.stderr


def test_a_demo_without_the_postgres_provider_says_what_to_install(folder: Path, without_the_provider: Path) -> None:
    done = python(folder, COMMAND, "demo", packages=without_the_provider)
    assert done.returncode == 1
    assert done.stderr == (
        "airflow-ingest: the demo needs apache-airflow-providers-postgres: "
        "pip install 'airflow-ingest-provider[demo]'\n"
    )
