"""The demo, whole: on a database that it is given, as a role that is no superuser."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from airflow_ingest_provider import cli


@pytest.fixture
def visitor_dsn(dsn: str, database: str) -> str:
    """A dsn of a role that may log in, and no more."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS demo_visitor")
        connection.execute("CREATE ROLE demo_visitor LOGIN")
    return make_conninfo(dsn, user="demo_visitor", application_name="visitor's")


def test_it_loads_half_a_year_then_the_rest_then_nothing(
    dsn: str, visitor_dsn: str, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"GRANT CREATE ON DATABASE {database} TO demo_visitor".encode())

    assert cli.main(["demo", "--dsn", visitor_dsn]) == 0

    shown = capfd.readouterr().out
    assert re.search(r"up to June +none +166,158 .* 2013-06-30", shown)
    assert re.search(r"the rest +2013-06-30 +170,618 .* 2013-12-31", shown)
    assert re.search(r"once more +2013-12-31 +0 .* 2013-12-31", shown)
    assert "nycflights13.flights holds 336,776 rows" in shown
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM nycflights13.flights").fetchone() == (336_776,)


def test_a_database_that_goes_away_is_one_line(visitor_dsn: str, capfd: pytest.CaptureFixture[str]) -> None:
    impatient = make_conninfo(visitor_dsn, options="-c idle_session_timeout=100ms")  # Airflow takes seconds to start
    assert cli.main(["demo", "--dsn", impatient]) == 1
    told = capfd.readouterr().err
    assert told.startswith("airflow-ingest: the demo cannot go on, since PostgreSQL says: ")
    assert "due to idle-session timeout" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(("there", "denied"), [(False, "permission denied for database"), (True, "nycflights13")])
def test_a_failed_run_tells_why_and_keeps_the_log(
    there: bool, denied: str, dsn: str, visitor_dsn: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if there:
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE SCHEMA nycflights13")
    assert cli.main(["demo", "--dsn", visitor_dsn]) == 1

    told = capfd.readouterr().err
    assert re.search(rf"the DAG run is failed\. .*{denied}", told)
    log = Path(told.rpartition("Airflow's log: ")[2].strip())
    assert "permission denied" in log.read_text()
    log.unlink()
    log.parent.rmdir()
