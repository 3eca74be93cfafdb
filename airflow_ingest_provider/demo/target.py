"""The database that the demo loads into: one on a private server, or the one that a dsn names."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg.conninfo import conninfo_to_dict

from airflow_ingest_provider.demo import server as private
from airflow_ingest_provider.demo.errors import DemoError, sentence

DATABASE = "demo"


@dataclass(frozen=True)
class Target:
    """A database, and how Airflow and we reach it; `server` is the private server it is on, if it is.

    `misleading` are variables of libpq's which the caller has, and which do not hold for it.
    """

    dsn: str
    version: str
    database: str
    airflow_connection: str
    server: private.Server | None = None
    misleading: tuple[str, ...] = ()

    @property
    def psql(self) -> str:
        """The command for a look at it; a private server's own psql, since there may be no other."""
        program = "psql"
        if self.server and (self.server.binaries / "psql").exists():
            program = str(self.server.binaries / "psql")
        without = ["env", *(f"-u {name}" for name in self.misleading)] if self.misleading else []
        return " ".join([*without, program, f'"{self.dsn}"'])


@contextmanager
def private_target(*, keep: bool) -> Iterator[Target]:
    """A new database on a server of its own, which ends with the block unless it is to be kept.

    Until then this process, and those that it starts, have no variables of libpq's.
    """
    with _no_libpq_variables() as misleading, private.running(keep=keep) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}".encode())
        yield replace(reach(server.dsn(DATABASE), server), misleading=misleading)


@contextmanager
def _no_libpq_variables() -> Iterator[tuple[str, ...]]:
    """PGHOSTADDR, PGSERVICE and the like are gone for the length of the block; gives their names.

    They are about other servers: libpq follows them in whatever a connection string leaves open. PG_BIN is ours.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith("PG") and name != "PG_BIN"}
    for name in given:
        del os.environ[name]
    try:
        yield tuple(given)
    finally:
        os.environ.update(given)


def reach(dsn: str, server: private.Server | None = None) -> Target:
    """The database of a libpq connection string, if it answers; DemoError otherwise."""
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            info = connection.info
            version = info.parameter_status("server_version") or "of an unknown version"
            return Target(dsn, version, info.dbname, _airflow_connection(dsn, info), server)
    except psycopg.Error as error:
        raise DemoError(
            f"cannot connect: {sentence(error)} Expected a libpq connection string or URL of a "
            "running server, such as 'host=localhost dbname=test user=me' or 'postgresql://me@localhost/test'"
        ) from error


def _airflow_connection(dsn: str, info: psycopg.ConnectionInfo) -> str:
    """The connection as JSON for an AIRFLOW_CONN_ variable; what it has no field for goes to its extras."""
    elsewhere = ("host", "port", "user", "password", "dbname")
    extra = {name: value for name, value in conninfo_to_dict(dsn).items() if name not in elsewhere}
    fields = {
        "conn_type": "postgres",
        "host": info.host,
        "port": info.port,
        "login": info.user,
        "password": info.password,
        "schema": info.dbname,
        "extra": extra,
    }
    return json.dumps(fields)
