"""COPY through psycopg 3 and psycopg2: the only place that knows a driver."""

import io
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.errors import IngestError, RowError
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.session import QUERY_CANCELED, explained, first_line, run, sqlstate

_DATA_EXCEPTION = "22"
_CONSTRAINT_VIOLATION = "23"
_TOO_LARGE = "54000"

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
        raise_row_error(error, destination.table, _copy_place(error, destination, first_row))
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


def check_deferred(conn: sa.Connection) -> None:
    """Check what constraints have put off to the commit, and put off nothing more in this transaction.

    Raises RowError, for the table whose constraint does not hold: the error at COMMIT would quote values of the row.
    """
    try:
        run(conn, "SET CONSTRAINTS ALL IMMEDIATE")
    except sa.exc.DBAPIError as error:
        diagnosis = getattr(error.orig, "diag", None)
        if isinstance(error.orig, Exception) and diagnosis and diagnosis.table_name:
            raise_row_error(error.orig, str(Name(diagnosis.schema_name, diagnosis.table_name)))
        raise


def raise_row_error(
    error: Exception,
    table: str,
    place: tuple[int | None, str | None] = (None, None),
    known_as: Callable[[str], str] = str,
    remedies: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise the RowError that a driver's error means, where it is about a row; return where it is not.

    `known_as` gives the name by which people know a constraint, `remedies` what to do about one where it may not be the
    source that is to be mended. The driver's own error is left out of the traceback: its DETAIL quotes values of the
    row.
    """
    state = sqlstate(error) or ""
    if state[:2] not in (_DATA_EXCEPTION, _CONSTRAINT_VIOLATION) and state != _TOO_LARGE:
        return
    diagnosis: Any = error.diag  # type: ignore[attr-defined]  # both drivers' errors with a SQLSTATE have it
    name = diagnosis.constraint_name
    constraint = f" (constraint {known_as(name)!r})" if name else ""
    row_number, column = place
    remedy = remedies.get(name or "", _REMEDIES.get(state, "mend the source"))
    raise RowError(
        f"{reason(state, constraint)}: {remedy}",
        table=table,
        column=diagnosis.column_name or column,
        row_number=row_number,
    ) from None


def still_referred(referring: Name, key: str, lacking: str, column: str | None = None) -> RowError:
    """The error for a row of a table that refers, by its foreign key, to a key that goes; `lacking` says where."""
    return RowError(
        f"its foreign key {key} refers to a key {lacking}: bring that row too, or first delete or change the rows of "
        f"{referring}, or drop the foreign key",
        table=str(referring),
        column=column,
    )


def reason(state: str, constraint: str = "") -> str:
    """What a SQLSTATE says of a value or a row, without the value."""
    return f"{_REASONS.get(state, 'PostgreSQL refused it')}{constraint}, SQLSTATE {state}"


def _copy_place(error: Exception, destination: Destination, first_row: int) -> tuple[int | None, str | None]:
    """Row number and column from the CONTEXT of a failed COPY, which quotes no names: so they are looked for whole."""
    diagnosis = getattr(error, "diag", None)
    context = (diagnosis and diagnosis.context) or ""
    line = re.search(rf"^COPY {re.escape(destination.relation.name)}, line (\d+)", context, re.MULTILINE)
    if line is None:
        return None, None
    rest = context[line.end() :]
    named = [name for name in destination.columns if re.match(rf", column {re.escape(name)}(:|$)", rest, re.MULTILINE)]
    return first_row + int(line[1]) - 1, max(named, key=len, default=None)


_REASONS = {
    "22000": "PostgreSQL refused the value (of a range: its lower bound is above its upper one)",
    "22001": "the value is too long for the column",
    "22003": "the number is out of the column's range",
    "22007": "the text is no valid date or time",
    "22008": "the date or time is out of range",
    "22021": "the text holds bytes that are no characters of its encoding",
    "22026": "the text is shorter or longer than the column's type",
    "22P02": "the text is not valid for the column's type",
    "22P05": "the text holds characters that the database's encoding lacks",
    "23502": "the column is NOT NULL and the value is None",
    "23503": "no row of the referred table has this key",
    "23505": "a row with this key is there already",
    "23514": "the check constraint does not hold",
    "23P01": "the exclusion constraint does not hold",
    "54000": "the value is too large, for its index as a rule",
}

_EMPTY = "mend the source; where an empty text stands for no value, as in a CSV file, pass None"
_REMEDIES = {"22007": _EMPTY, "22P02": _EMPTY}
"""What to do about a row. The text may be an empty one: the message never shows it."""


def _raw(conn: sa.Connection) -> Any:
    return conn.connection.driver_connection


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
