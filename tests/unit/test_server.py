"""The private server of the demo and the tests: starts for anybody, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from airflow_ingest_provider.demo import server as demo_server
from airflow_ingest_provider.demo.errors import ServerError
from airflow_ingest_provider.demo.target import private_target
from tests.waiting import until

BUSY = b"SELECT count(*) FROM generate_series(1, 1000000000000)"

SERVE = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from airflow_ingest_provider.demo import server
with server.running(durable=False) as running:
    print(running.folder, flush=True)
    time.sleep(600)
"""

SERVE_AND_LEAVE = """
from airflow_ingest_provider.demo import server
with server.running(durable=False, keep=True) as running:
    print(running.folder, flush=True)
"""


def test_it_listens_on_a_private_socket_and_nowhere_else() -> None:
    with demo_server.running(durable=False) as server:
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert server.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGHOSTADDR", "127.0.0.1"),
        ("PGSERVICE", "nowhere"),
        ("PGOPTIONS", "-c nonsense"),
        ("PGTARGETSESSIONATTRS", "read-only"),
        ("PGREQUIREAUTH", "scram-sha-256"),
    ],
)
def test_the_demos_server_is_reached_whatever_libpqs_variables_say(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    before = {**os.environ}
    with private_target(keep=False) as target:
        assert target.server is not None
        assert name not in os.environ, "a process that is started here would have it"
        with psycopg.connect(target.dsn) as connection:
            assert connection.execute("SHOW data_directory").fetchone() == (f"{target.server.folder}/data",)
        look = subprocess.run(f"{target.psql} -Atc 'SHOW data_directory'", shell=True, env=before, capture_output=True)
        assert look.stdout.decode() == f"{target.server.folder}/data\n"
    assert {**os.environ} == before


def test_a_name_with_quotes_reaches_the_database_of_that_name() -> None:
    with demo_server.running(durable=False) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("""CREATE DATABASE "it's \\ 100%" """)
        with psycopg.connect(server.dsn("it's \\ 100%")) as connection:
            assert connection.info.dbname == "it's \\ 100%"


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_stopping_ends_busy_backends_and_removes_the_folder(killed: bool) -> None:
    with demo_server.running(durable=False) as server:
        connection = psycopg.connect(server.dsn(), autocommit=True)
        connection.pgconn.send_query(BUSY)
        if killed:
            server.process.kill()
    connection.close()
    assert_gone(server.folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_server_goes_with_the_process_that_started_it(number: signal.Signals) -> None:
    with serving(SERVE) as (process, folder):
        assert demo_server.processes(folder)
        process.send_signal(number)
        process.wait(60)
        assert_gone(folder)


def test_a_server_that_is_kept_goes_on_until_it_is_ended() -> None:
    with serving(SERVE_AND_LEAVE) as (process, folder):
        assert process.wait(60) == 0
        with psycopg.connect(host=str(folder), port=demo_server.PORT, user="postgres") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        postmaster = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGINT)
        assert_gone(folder)


def test_a_long_temporary_folder_gives_way_to_one_whose_socket_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = tmp_path / ("x" * 100)
    longer.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(longer))
    with demo_server.running() as server, psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_a_folder_without_postgres_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    with (
        pytest.raises(ServerError, match=r"PG_BIN.*no initdb and no postgres in") as raised,
        demo_server.running(),
    ):
        pass
    assert str(tmp_path) in str(raised.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerError, match=r"airflow-ingest-provider\[demo\]"):
        demo_server.find_binaries()


@contextmanager
def serving(program: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A Python process that has started a server, and the server's folder."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def assert_gone(folder: Path) -> None:
    """Nothing is left of the server: for a killed starter, its guard needs a moment."""
    until(lambda: not demo_server.processes(folder) and not folder.exists())
