"""What the tests of the core have in common: a small table, and ways to load it and to look at it."""

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider import IngestResult, ingest

Rows = Iterable[tuple[Any, ...]]


def people(*columns: sa.Column[Any], **table: Any) -> sa.Table:
    """A table `people` of id (the key), name and age, and more columns where they are given."""
    return sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("age", sa.Integer),
        *columns,
        **table,
    )


def batches_of(table: sa.Table, *batches: Rows, mark: Any = None) -> Callable[[Any], Any]:
    """A batches function that gives these batches; their watermarks count from 1 unless `mark` is given."""

    def give(high_watermark: Any) -> Any:
        for number, rows in enumerate(batches, start=1):
            yield number if mark is None else mark, f"batch {number}", ((table, row) for row in rows)

    return give


def load(conn: sa.Connection, table: sa.Table, *batches: Rows, **options: Any) -> IngestResult:
    """Ingest batches of rows of one table."""
    return ingest(conn, table.metadata, batches_of(table, *batches), **options)


def rows_of(conn: sa.Connection, query: str = "SELECT * FROM people ORDER BY 1") -> list[tuple[Any, ...]]:
    """What a query finds now, outside any transaction."""
    with conn.begin():
        return [tuple(row) for row in conn.execute(sa.text(query))]


def is_usable(conn: sa.Connection) -> bool:
    """Whether the connection is outside a transaction and takes statements."""
    return not conn.in_transaction() and rows_of(conn, "SELECT 1") == [(1,)]
