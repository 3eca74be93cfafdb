"""The benchmark works, and what it shows that does not depend on the machine. Memory is held by tests/postgres."""

from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from airflow_ingest_provider import Upsert, ingest
from airflow_ingest_provider.demo.server import Server
from tests.benchmarks.__main__ import main
from tests.benchmarks.data import NARROW
from tests.benchmarks.scenarios import Job
from tests.benchmarks.suite import Found, Plan, Suite
from tests.benchmarks.summary import beside_one_table, cases, stored_otherwise

OURS = ("rows", "arrow")

NEXT_TO_NOTHING = 64 * 1024
"""Bytes of WAL; it is 18 kB for 4,000 rows, and writing the rows takes 1,400 kB."""

STATEMENTS_OF_A_TABLE = 2
"""Whether its declared one can be created, and creating it: all else is asked for all tables at once."""


def measure(server: Server, **plan: Any) -> Found:
    return Suite(server, Plan(rounds=1, **plan), lambda text: None).run()


def test_everybody_stores_the_same_values(server: Server) -> None:
    found = measure(server, rows=(1_000,), shapes=("wide",), scenarios=("first-load-key",))
    assert set(found.left_out.values()) <= {"not installed"}
    (case,) = cases(found)
    assert {one.peer for one in found.measured} >= {"psql", "rows", "arrow", "write-row", "to-sql", "insert-rows"}
    assert stored_otherwise(found, case) == []


def test_rows_that_are_there_already_write_next_to_nothing(server: Server) -> None:
    found = measure(server, rows=(20_000,), shapes=("narrow",), scenarios=("upsert-unchanged",), peers=OURS)
    written = {one.peer: one.used.wal_bytes for one in found.measured}
    assert max(written[peer] for peer in OURS) < NEXT_TO_NOTHING < written["psql"]


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    before = psutil.Process().children()
    asked = ["--rows", "500", "--rounds", "1", "--shape", "narrow", "--scenario", "migrate-rewrite"]
    assert main([*asked, "--peer", "rows", "write-row", "--output", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text()
    assert "## Migration with a rewrite: narrow, 500 rows" in page
    assert page.count("| **this package, rows** |") == 1
    assert "Left out: psycopg write_row (it does not compare a table with a definition)." in page
    assert f"`python -m tests.benchmarks {' '.join(asked)}" in page
    assert "Other values" not in page
    assert psutil.Process().children() == before


def test_the_number_of_statements_does_not_depend_on_the_number_of_rows(server: Server, database: str) -> None:
    assert statements(server, database, 1_000) == statements(server, database, 5_000) > 0


def test_each_table_more_takes_the_same_few_statements(server: Server, database: str) -> None:
    one, two, seven = (statements(server, database, 1_000, tables) for tables in (1, 2, 7))
    assert seven - one == 6 * (two - one)
    assert two - one <= STATEMENTS_OF_A_TABLE


def test_rows_in_turns_are_measured_beside_one_table(server: Server) -> None:
    scenarios = ("first-load", "first-load-key", "tables-2", "tables-20", "tables-20-key")
    found = measure(server, rows=(12_000,), shapes=("narrow",), scenarios=scenarios, peers=OURS)
    assert all(stored_otherwise(found, case) == [] for case in cases(found))
    beside = {case.scenario: beside_one_table(found, case, "rows") for case in cases(found)}
    assert beside["first-load"] == beside["first-load-key"] == 1
    assert None not in beside.values()


def statements(server: Server, database: str, rows: int, tables: int = 1) -> int:
    """How many a run sends that adds one batch to tables that are there."""
    metadata = sa.MetaData()
    for number in range(tables):
        Job("rows", "first-load", "narrow", rows).table().to_metadata(metadata, name=f"statements_{number}")
    engine = sa.create_engine(server.url("psycopg", database), poolclass=sa.NullPool)
    sent: list[str] = []

    def batches(high_watermark: Any) -> Any:
        yield None, None, ((table, row) for row in NARROW.rows(range(rows)) for table in metadata.sorted_tables)

    with engine.connect() as connection:
        ingest(connection, metadata, batches, upsert=Upsert.OFF)
        sa.event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
        ingest(connection, metadata, batches, upsert=Upsert.OFF)
    return len(sent)
