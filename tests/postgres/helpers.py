"""What the tests of the core have in common: a small table, and ways to load it and to look at it."""

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider import IngestResult, ingest
from airflow_ingest_provider.core import attachments, catalog, dependents, reflection

Rows = Iterable[tuple[Any, ...]]


def people(*columns: sa.Column[Any], age: Any = sa.Integer, **table: Any) -> sa.Table:
    """A table `people` of id (the key), name and age, and more columns where they are given."""
    return sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("age", age),
        *columns,
        **table,
    )


def batches_of(table: sa.Table, *batches: Rows, mark: Any = None) -> Callable[[Any], Any]:
    """A batches function that gives these batches; their watermarks count from 1 unless `mark` is given."""

    def give(high_watermark: Any) -> Any:
        for number, rows in enumerate(batches, start=1):
            yield number if mark is None else mark, f"batch {number}", ((table, row) for row in rows)

    return give


def give(*rows: Any) -> Callable[[Any], Any]:
    """A batches function that gives one batch of (table, row) pairs."""
    return lambda mark: [(1, None, rows)]


def load(conn: sa.Connection, table: sa.Table, *batches: Rows, mark: Any = None, **options: Any) -> IngestResult:
    """Ingest batches of rows of one table."""
    return ingest(conn, table.metadata, batches_of(table, *batches, mark=mark), **options)


def rows_of(conn: sa.Connection, query: str = "SELECT * FROM people ORDER BY 1") -> list[tuple[Any, ...]]:
    """What a query finds now, outside any transaction."""
    with conn.begin():
        return [tuple(row) for row in conn.execute(sa.text(query))]


def major(conn: sa.Connection) -> int:
    """The server's."""
    assert conn.dialect.server_version_info is not None
    return int(conn.dialect.server_version_info[0])


def statements_of(conn: sa.Connection) -> list[str]:
    """The statements that the connection sends from now on: the list grows with them."""
    sent: list[str] = []
    sa.event.listen(conn, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
    return sent


def is_usable(conn: sa.Connection) -> bool:
    """Whether the connection is outside a transaction and takes statements."""
    return not conn.in_transaction() and rows_of(conn, "SELECT 1") == [(1,)]


def hanging(conn: sa.Connection, name: str = "people") -> Any:
    """All that hangs on a relation and on the views over it, as statements; without the state in the comment."""
    with conn.begin():
        ((_, oid),) = catalog.find_all(conn, [("public", name)])
        assert oid is not None
        own = [one.statement for one in attachments.attached(conn, [oid])[oid] if not one.holds_state]
        views = [
            (
                one.name,
                one.kind,
                one.definition,
                one.options,
                one.populated,
                one.owner,
                one.attached,
                one.statistics,
                one.shape and one.shape.indexes,
            )
            for one in dependents.dependents(conn, [oid])
        ]
        shape = reflection.table_shape(conn, oid)
        parts: list[Any] = [*shape.constraints, *shape.foreign_keys, *shape.indexes]
        names = sorted(one.name for one in parts)
        tuning = [(one.name, one.tuning, one.default, one.sequence, one.comment) for one in shape.columns]
        settings, inbound = attachments.settings(conn, [oid])[oid], reflection.inbound_keys(conn, [oid])[oid]
        return own, views, names, tuning, settings, inbound


def oid_of(conn: sa.Connection, name: str) -> int:
    ((oid,),) = rows_of(conn, f"SELECT '{name}'::regclass::oid::bigint")
    return int(oid)
