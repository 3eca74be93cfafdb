"""What every test may ask for: a PostgreSQL server of its own worker, and a fresh database on it."""

import itertools
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from airflow_ingest_provider.demo import server as demo_server
from airflow_ingest_provider.demo.errors import ServerError

TEMPLATE = "template_test"

_numbers = itertools.count(1)


def pytest_report_header() -> str:
    try:
        binaries = demo_server.find_binaries()
    except ServerError as error:
        return f"PostgreSQL: {error}"
    return f"PostgreSQL: {demo_server.version(binaries)} from {binaries}"


@pytest.fixture(scope="session")
def server() -> Iterator[demo_server.Server]:
    """This worker's PostgreSQL server: the major that PG_BIN names; gone at the end with all its children."""
    with demo_server.running(durable=False) as running:
        yield running
    assert not demo_server.processes(running.folder)
    assert not running.folder.exists()


@pytest.fixture(scope="session")
def admin(server: demo_server.Server) -> Iterator[psycopg.Connection]:
    """An AUTOCOMMIT connection to a database that no test uses: for making others, and looking at them."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} IS_TEMPLATE true").format(sql.Identifier(TEMPLATE)))
        yield connection


@pytest.fixture
def database(admin: psycopg.Connection) -> Iterator[str]:
    """The name of a fresh database, dropped after the test."""
    names = {"name": sql.Identifier(f"test_{next(_numbers)}"), "template": sql.Identifier(TEMPLATE)}
    # Copying files takes a third of the time of the default, which goes through the WAL.
    strategy = "STRATEGY file_copy" if admin.info.server_version >= 150000 else ""
    admin.execute(sql.SQL("CREATE DATABASE {name} TEMPLATE {template} " + strategy).format(**names))
    yield names["name"].as_string(None).strip('"')
    admin.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


@pytest.fixture
def dsn(server: demo_server.Server, database: str, request: pytest.FixtureRequest) -> str:
    """A libpq connection string of a fresh database, with the extensions that the test is marked with."""
    text = server.dsn(database)
    for mark in request.node.iter_markers("extension"):
        create_extension(text, *mark.args)
    return text


@pytest.fixture
def extension(dsn: str) -> Callable[[str], None]:
    """A function that creates an extension in the test's database, or skips where the server has none.

    Drivers look for extension types when an engine first connects: call it before that, or use the
    marker `extension(name)`, which always comes first.
    """
    return lambda name: create_extension(dsn, name)


def create_extension(dsn: str, name: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        offered = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = %s", [name])
        if not offered.fetchone():
            pytest.skip(f"PostgreSQL {connection.info.server_version} at hand has no extension {name}")
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name)))
