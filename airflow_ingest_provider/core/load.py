"""COPY through psycopg 3 and psycopg2, and ending it: the only place that knows a driver."""

import io
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.errors import IngestError
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.refusals import copy_place, raise_row_error
from airflow_ingest_provider.core.session import QUERY_CANCELED, diagnosis, explained, first_line, sqlstate

_READ_BYTES = 1 << 20

_cancelled: weakref.WeakSet[sa.Connection] = weakref.WeakSet()
"""Those that `cancel` was called with. Not told by their `info`: a pool hands that on to whom it lends them next."""

DRIVERS = ("psycopg", "psycopg2")


def check_connection(conn: object) -> None:
    """Refuse what a run cannot work with, before anything is sent."""
    if not isinstance(conn, sa.Connection):
        raise IngestError(
            f"conn is a {type(conn).__name__}: expected a sqlalchemy.Connection, as engine.connect() gives"
        )
    if conn.closed:
        raise IngestError("conn is closed: expected an open connection, as engine.connect() gives")
    check_dialect("conn", conn.dialect)
    if conn.in_transaction():
        raise IngestError(
            "conn is in a transaction: expected one that is not, since each batch is a transaction of its own; "
            "commit first, or use engine.connect() instead of engine.begin()"
        )
    if _raw(conn).autocommit:
        raise IngestError(
            "conn is in AUTOCOMMIT mode, in which nothing can be rolled back: expected the default isolation level; "
            "pass conn.execution_options(isolation_level='READ COMMITTED')"
        )
    streaming = [option for option in ("stream_results", "yield_per") if conn.get_execution_options().get(option)]
    if streaming:
        raise IngestError(
            f"conn reads all results through cursors of the server, by its execution option {' and '.join(streaming)}: "
            "expected one that does not, since most of a run's statements have none; pass "
            f"conn.execution_options({', '.join(f'{option}=None' for option in streaming)})"
        )
    if getattr(_raw(conn), "prepare_threshold", None) == 0:
        raise IngestError(
            "conn prepares every statement, by its prepare_threshold of 0: expected one that does not, since a run "
            "sends several in one round trip; pass connect_args={'prepare_threshold': None} to create_engine"
        )
    server, client = (_raw(conn).info.parameter_status(f"{end}_encoding") for end in ("server", "client"))
    if server == "SQL_ASCII" and client not in ("UTF8", "SQL_ASCII"):
        raise IngestError(
            f"the database stores texts as they are sent, by its encoding SQL_ASCII, and conn sends them as {client}: "
            "expected UTF8, as a COPY does; pass client_encoding='utf8' to create_engine if that is what the others "
            "who read them expect"
        )


def check_dialect(given: str, dialect: sa.Dialect | type[sa.Dialect]) -> None:
    """Refuse another database, or a driver that a run does not work with; `given` is what names them."""
    if dialect.name != "postgresql" or dialect.driver not in DRIVERS or dialect.is_async:
        driver = dialect.driver + "_async" * (dialect.is_async and "async" not in dialect.driver)
        raise IngestError(
            f"{given} uses {dialect.name}+{driver}: expected {' or '.join(DRIVERS)} with PostgreSQL, "
            "as in create_engine('postgresql+psycopg://...')"
        )


@dataclass(frozen=True)
class Destination:
    """Where a COPY goes: the relation, the columns, and how messages call the table that the rows are for."""

    relation: Name
    columns: tuple[str, ...]
    table: str


def copy_rows(
    conn: sa.Connection, destination: Destination, chunks: Iterator[bytes], first_row: int, *, binary: bool
) -> int:
    """Stream encoded rows into a relation, in the open transaction; how many PostgreSQL wrote.

    `first_row` is the number of the first row within its batch. Raises RowError for a row that PostgreSQL refuses, and
    what else it says as SQLAlchemy does; what the source of the chunks raises passes through as it is.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT {}, ENCODING 'UTF8')").format(
        destination.relation.sql,
        statements.columns(destination.columns),
        sql.SQL("binary" if binary else "text"),
    )
    source = _Source(chunks, conn)
    try:
        with _raw(conn).cursor() as cursor:
            if conn.dialect.driver == "psycopg2":
                cursor.copy_expert(statement.as_string(None), source, size=_READ_BYTES)
            else:
                with cursor.copy(statement) as copy:
                    for chunk in source:
                        copy.write(chunk)
            return int(cursor.rowcount)
    except Exception as error:
        if source.error is not None:
            raise source.error from None  # psycopg2 hides it behind a QueryCanceled of its own
        line, column = copy_place(diagnosis(error, "context") or "", destination.relation, destination.columns)
        raise_row_error(error, destination.table, (line and first_row + line - 1, column))
        if sqlstate(error) == QUERY_CANCELED:
            raise IngestError(
                f"{destination.table}: PostgreSQL ended the COPY ({first_line(error)}): nothing of this batch was "
                "kept; where that is a statement_timeout, raise it for the role: a COPY takes as long as its source"
            ) from None
        if not isinstance(error, conn.dialect.loaded_dbapi.Error):
            raise
        with explained():
            raise _as_of_sqlalchemy(conn, error, statement) from None


def _as_of_sqlalchemy(conn: sa.Connection, error: Exception, statement: sql.Composable) -> sa.exc.DBAPIError:
    """The error as SQLAlchemy raises those of its statements, without the CONTEXT of a COPY, which quotes the row."""
    text = statement.as_string(None)
    wrapped = sa.exc.DBAPIError.instance(text, None, error, conn.dialect.loaded_dbapi.Error, dialect=conn.dialect)
    assert isinstance(wrapped, sa.exc.DBAPIError), "every error of a driver has a class of SQLAlchemy's"
    wrapped.args = (f"({type(error).__module__}.{type(error).__name__}) {first_line(error)}",)
    return wrapped


def cancel(conn: sa.Connection) -> None:
    """Cancel the run on a connection, from another thread than its own or in a handler of signals.

    A statement that runs ends at once, and a COPY with its next rows. Without one the run ends before it tries for a
    lock again, its next transaction begins, or the open one is committed.
    """
    _cancelled.add(conn)
    raw = _raw(conn)
    if conn.dialect.driver == "psycopg2":
        raw.cancel()
    else:
        raw.cancel_safe(timeout=5)


@contextmanager
def cancellable(conn: sa.Connection) -> Iterator[None]:
    """The block is a run: a `cancel` on the connection, which may have come before it, is forgotten when it ends."""
    try:
        yield
    finally:
        forget_cancel(conn)


def forget_cancel(conn: sa.Connection) -> None:
    """Go on as if `cancel` had not been called: the run is over, or ends with what it takes back."""
    _cancelled.discard(conn)


def check_not_cancelled(conn: sa.Connection) -> None:
    """Raise IngestError where `cancel` was called. What the server says of a COPY is read at its end only."""
    if conn in _cancelled:
        raise IngestError(
            "the run was cancelled: batches committed before stay, and nothing of another was kept; run again to carry "
            "on"
        )


def _raw(conn: sa.Connection) -> Any:
    return conn.connection.dbapi_connection


@contextmanager
def _unlocked(raw: Any) -> Iterator[None]:
    """In the block, psycopg 3 raises an error where the connection is used, instead of waiting for the COPY to end.

    It would wait for ever where the source of the COPY is what uses it, or closes a cursor or the connection itself.
    """
    lock = getattr(raw, "lock", None)
    if lock is None or not lock.locked():
        yield
        return
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


class _Source(io.RawIOBase):
    """Chunks, to be iterated or read as a file, that remembers what their source raised."""

    def __init__(self, chunks: Iterator[bytes], conn: sa.Connection) -> None:
        self._chunks = chunks
        self._conn = conn
        self._raw = _raw(conn)
        self._left = b""
        self.error: BaseException | None = None

    def __next__(self) -> bytes:
        try:
            check_not_cancelled(self._conn)
            with _unlocked(self._raw):
                return next(self._chunks)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise

    def read(self, size: int = -1) -> bytes:
        while not self._left:
            following = next(self, None)
            if following is None:
                return b""
            self._left = following
        chunk, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return chunk
