"""Connections of both drivers to a test's own database, and a look at what the test left behind."""

import time
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from airflow_ingest_provider.demo.server import Server

# A backend ends a moment after its client has closed the connection.
_PATIENCE = 10.0

_BACKENDS = """
    SELECT pid, application_name, state, left(query, 200)
    FROM pg_stat_activity
    WHERE datname = %s AND backend_type = 'client backend'
"""

# Tables, indexes, sequences, views; types and functions too, in any schema.
_LEFTOVERS = r"""
    SELECT format('%s %s.%I', what, namespace::regnamespace, name)
    FROM (
        SELECT 'relation', relnamespace, relname FROM pg_class
        UNION ALL SELECT 'type', typnamespace, typname FROM pg_type WHERE typtype <> 'c' AND typelem = 0
        UNION ALL SELECT 'function', pronamespace, proname FROM pg_proc
        UNION ALL SELECT 'constraint', connamespace, conname FROM pg_constraint
        UNION ALL SELECT 'schema', oid, nspname FROM pg_namespace
    ) AS everything (what, namespace, name)
    WHERE name LIKE '\_ingest\_%'
"""


@pytest.fixture(autouse=True)
def leaves_nothing(admin: psycopg.Connection, database: str, dsn: str) -> Iterator[None]:
    """Fails the test that leaves a connection open, or a temporary relation of ours in its database."""
    yield
    deadline = time.monotonic() + _PATIENCE
    while (backends := admin.execute(_BACKENDS, [database]).fetchall()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not backends, f"connections left open: {backends}"
    with psycopg.connect(dsn) as connection:
        leftovers = [name for (name,) in connection.execute(_LEFTOVERS)]
    assert not leftovers, f"left in the database: {leftovers}"


@pytest.fixture(params=["psycopg", "psycopg2"])
def driver(request: pytest.FixtureRequest) -> str:
    """The driver's name: what uses it, or an engine, runs once for each."""
    return str(request.param)


@pytest.fixture
def engine(server: Server, database: str, dsn: str, driver: str) -> Iterator[sa.Engine]:
    """An engine on the test's database, of each driver in turn, that keeps no connections."""
    engine = sa.create_engine(server.url(driver, database), poolclass=sa.NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def conn(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection of the engine, not in a transaction."""
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def other(server: Server, database: str, dsn: str) -> Iterator[sa.Connection]:
    """A second connection to the same database, AUTOCOMMIT, for looking from outside."""
    engine = sa.create_engine(server.url("psycopg", database), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


ROLES = ("ingest_reader", "ingest_writer", "ingest_owner")


@pytest.fixture
def roles(other: sa.Connection) -> Iterator[None]:
    """Roles to grant things to, and to own some."""
    for role in ROLES:
        other.exec_driver_sql(f"CREATE ROLE {role}")
    yield
    for role in ROLES:
        other.exec_driver_sql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
