"""The command line: what it says when it cannot do what it is asked to."""

from pathlib import Path

import pytest

from airflow_ingest_provider import __version__, cli
from airflow_ingest_provider.demo import run


def test_a_dsn_that_nobody_answers_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--dsn", f"host={tmp_path} dbname=test user=me"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("airflow-ingest: cannot connect: ")
    assert "accepting connections on that socket? Expected a libpq connection string" in error
    assert "postgresql://me@localhost/test" in error
    assert error.count("\n") == 1


def test_a_sqlalchemy_url_is_not_a_dsn(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--dsn", "postgresql+psycopg://me@localhost/test"]) == 1
    assert "in connection info string. Expected a libpq connection string" in capsys.readouterr().err


def test_a_folder_without_postgres_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    assert cli.main(["demo"]) == 1
    assert f"found no initdb and no postgres in {tmp_path}" in capsys.readouterr().err


def test_without_its_extra_the_demo_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_DEMO_NEEDS", (*cli._DEMO_NEEDS, "nonesuch-package"))
    assert cli.main(["demo"]) == 1
    error = capsys.readouterr().err
    assert "needs nonesuch-package: pip install 'airflow-ingest-provider[demo]'" in error


def test_ctrl_c_is_told_in_a_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(**options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupted)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "airflow-ingest: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["demo", "--keep", "--dsn", "dbname=test"], "airflow-ingest demo: error: argument --dsn: not allowed with"),
        (["plan", "--url", "x", "--migrate", "of", "x:y"], "airflow-ingest plan: error: argument --migrate: invalid"),
        (
            ["plan", "--url", "x", "--conversion", "day", "x:y"],
            "argument --conversion: 'day': expected COLUMN=EXPRESSION",
        ),
        (["plan", "--url", "x", "--replace", "on", "x:y"], "argument --replace: invalid choice: 'on'"),
        (
            ["plan", "--url", "x", "--high-watermark", "2024-01-02", "x:y"],
            "argument --high-watermark: '2024-01-02': expected one of __LATEST__, __EARLIEST__ or a JSON value",
        ),
        (
            ["plan", "--url", "x", "--replace", "in_place", "x:y"],
            "airflow-ingest plan: error: argument --replace: not allowed without argument --replace-rows",
        ),
        (
            ["plan", "--url", "x", "--replace", "auto", "x:y"],
            "argument --replace: not allowed without argument --replace-rows",
        ),
        (
            ["plan", "--url", "x", "--high-watermark", "null", "x:y"],
            "argument --high-watermark: not allowed without argument --replace-rows",
        ),
        (
            ["plan", "--url", "x", "--conversion", "day=a", "--conversion", "week=b", "--conversion", "day=c", "x:y"],
            "argument --conversion: 'day' comes twice",
        ),
        (["plan", "--url", "x"], "airflow-ingest plan: error: the following arguments are required: metadata"),
        ([], "airflow-ingest: error: the following arguments are required: COMMAND"),
    ],
)
def test_a_usage_error_is_not_taken_for_a_plan_with_something_to_do(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 1
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql+psycopg_async://localhost/test", "postgresql+psycopg_async"),
        ("postgresql+asyncpg://localhost/test", "postgresql+asyncpg"),
        ("mysql://localhost/test", "mysql+mysqldb"),
    ],
)
def test_a_driver_that_no_run_works_with_is_named(url: str, driver: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--url", url, "sqlalchemy:MetaData"]) == 1
    assert f"--url uses {driver}: expected psycopg or psycopg2 with PostgreSQL" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"airflow-ingest {__version__}\n"
