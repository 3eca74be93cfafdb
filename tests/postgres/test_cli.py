"""`airflow-ingest plan`: what a run would do, and an exit code for scripts."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import cli
from airflow_ingest_provider.demo.server import Server

DEFINITION = """
import sqlalchemy as sa

metadata = sa.MetaData()
things = sa.Table("things", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
others = sa.Table("others", metadata, sa.Column("id", sa.Integer, primary_key=True))
def talking():
    print("one moment")
    return things
"""


@pytest.fixture
def url(
    server: Server, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """The test's database, from a folder with definitions in a module of its own name."""
    (tmp_path / f"definitions_{database}.py").write_text(DEFINITION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    return server.url("psycopg", database).render_as_string(hide_password=False)


def test_a_plan_is_printed_and_told_by_the_exit_code(
    url: str, database: str, other: sa.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    things, everything = f"definitions_{database}:things", f"definitions_{database}:metadata"
    assert cli.main(["plan", "--url", url, everything]) == 2
    assert capsys.readouterr().out == "public.things: create\npublic.others: create\n"
    other.exec_driver_sql("CREATE TABLE things (id int PRIMARY KEY, name text)")
    assert cli.main(["plan", "--url", url, things]) == 0
    assert capsys.readouterr().out == "public.things: nothing to do\n"
    other.exec_driver_sql("ALTER TABLE things DROP COLUMN name")
    assert cli.main(["plan", "--url", url, "--migrate", "off", "--replace-rows", things]) == 3
    printed = capsys.readouterr().out
    assert "name: added as text  ADD COLUMN  ACCESS EXCLUSIVE  all, for milliseconds" in printed
    assert "rows: replaced by a new table" in printed
    assert "refused: public.things differs from its definition, and migrate is 'off'" in printed


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nowhere:metadata"], "leads nowhere"),
        (["json:decoder"], "metadata gave a module"),
        (["json:dumps"], "dumps() cannot be called: missing a required argument: 'obj'"),
        (["--database", "none", "sqlalchemy:MetaData"], 'database "none" does not exist'),
    ],
)
def test_what_cannot_be_told_is_one_line(
    url: str, arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", "--url", url, *arguments]) == 1
    assert error in capsys.readouterr().err


def test_standard_output_is_the_plan_alone(url: str, database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--url", url, f"definitions_{database}:talking"]) == 2
    assert capsys.readouterr() == ("public.things: create\n", "one moment\n")


def test_a_plan_is_that_of_a_run_with_conversions_and_a_way_to_replace_rows(
    url: str, database: str, other: sa.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    other.exec_driver_sql("CREATE TABLE things AS SELECT 'no. 7' AS id, '' AS name")
    arguments = ["plan", "--url", url, f"definitions_{database}:things"]
    assert cli.main(arguments) == 3
    assert "PostgreSQL does not assign text to integer" in capsys.readouterr().out
    conversions = ["--conversion", "id=CAST(substr(id, 5) AS int)", "--conversion", "name=NULLIF(name, '')"]
    assert cli.main([*arguments, *conversions]) == 2
    assert "refused:" not in capsys.readouterr().out
    assert cli.main([*arguments, *conversions, "--replace-rows", "--replace", "in_place"]) == 2
    assert "rows: replaced in place" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mark", "deletes"),
    [(None, False), ("__LATEST__", False), ("__EARLIEST__", True), ("null", True), ('{"day": 7}', True)],
)
def test_a_plan_is_that_of_a_run_from_a_high_watermark(
    url: str, database: str, other: sa.Connection, capsys: pytest.CaptureFixture[str], mark: str | None, deletes: bool
) -> None:
    other.exec_driver_sql("CREATE TABLE things (id int PRIMARY KEY, name text)")
    state = '{"pg-bulk-ingest": {"high-watermark": 1}, "airflow-ingest-provider": {"unfinished": true}}'
    other.exec_driver_sql(f"COMMENT ON TABLE things IS '{state}'")
    options = [] if mark is None else ["--high-watermark", mark]
    assert cli.main(["plan", "--url", url, "--replace-rows", *options, f"definitions_{database}:things"]) == 0
    assert ("rows: replaced by a new table" in capsys.readouterr().out) == deletes


@pytest.mark.parametrize("mark", ['"__earliest__"', "NaN"])
def test_a_high_watermark_that_a_run_would_refuse_gives_no_plan(
    url: str, database: str, capsys: pytest.CaptureFixture[str], mark: str
) -> None:
    assert (
        cli.main(["plan", "--url", url, "--replace-rows", "--high-watermark", mark, f"definitions_{database}:things"])
        == 1
    )
    assert "airflow-ingest: high_watermark is " in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgres+psycopg"])
def test_a_url_without_a_driver_or_of_libpqs_kind_is_psycopgs(
    url: str, scheme: str, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = url.replace("postgresql+psycopg", scheme)
    assert cli.main(["plan", "--url", given, f"definitions_{database}:things"]) == 2
    assert capsys.readouterr().out == "public.things: create\n"
