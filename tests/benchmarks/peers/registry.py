"""Everybody who takes part, and what they do not do."""

from tests.benchmarks.peers import floor, frames, ingesting, inserting
from tests.benchmarks.peers.base import Peer
from tests.benchmarks.scenarios import Kind

_ADDS = {Kind.UPSERT: "it only adds rows"}
_ONE_TABLE = {Kind.SPREAD: "it loads one table at a time"}
_FRAMES = {Kind.SPREAD: "Arrow data comes a table at a time"}
_KNOWS_NO_DEFINITION = {Kind.MIGRATE: "it does not compare a table with a definition"}

_OURS = "airflow-ingest-provider"
_HOOKS = "apache-airflow-providers-postgres"

FLOOR = Peer("psql", "psql \\copy", "psycopg", "psycopg", floor.prepare)

PEERS = {
    peer.name: peer
    for peer in (
        FLOOR,
        Peer("rows", "this package, rows", _OURS, "airflow_ingest_provider", ingesting.prepare_rows, fills=True),
        Peer("arrow", "this package, Arrow", _OURS, "pgpq", ingesting.prepare_arrow, fills=True, lacks=_FRAMES),
        Peer(
            "pg-bulk-ingest",
            "pg-bulk-ingest",
            "pg-bulk-ingest",
            "pg_bulk_ingest",
            ingesting.prepare_pg_bulk_ingest,
            fills=True,
        ),
        Peer(
            "write-row",
            "psycopg write_row",
            "psycopg",
            "psycopg",
            floor.prepare_write_row,
            lacks=_ONE_TABLE | _ADDS | _KNOWS_NO_DEFINITION,
        ),
        Peer(
            "adbc",
            "ADBC ingest",
            "adbc-driver-postgresql",
            "adbc_driver_postgresql",
            frames.prepare_adbc,
            lacks=_ONE_TABLE | _ADDS | _KNOWS_NO_DEFINITION,
        ),
        Peer("dlt", "dlt", "dlt", "dlt", frames.prepare_dlt, fills=True, lacks=_ONE_TABLE | _KNOWS_NO_DEFINITION),
        Peer(
            "sqlalchemy",
            "SQLAlchemy executemany",
            "sqlalchemy",
            "sqlalchemy",
            inserting.prepare_sqlalchemy,
            lacks=_ONE_TABLE | _KNOWS_NO_DEFINITION,
        ),
        Peer(
            "to-sql",
            "pandas to_sql",
            "pandas",
            "pandas",
            frames.prepare_pandas,
            lacks=_ONE_TABLE | _ADDS | _KNOWS_NO_DEFINITION,
        ),
        Peer(
            "insert-rows",
            "PostgresHook.insert_rows",
            _HOOKS,
            "airflow",
            inserting.prepare_hook,
            lacks=_ONE_TABLE | _KNOWS_NO_DEFINITION | {Kind.REFRESH: "it only adds and replaces rows"},
        ),
    )
}
