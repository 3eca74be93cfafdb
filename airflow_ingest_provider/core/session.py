"""A run's transactions, and the one way in which SQL of our own is run."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.errors import IngestError, LockNotAcquired

_UNPARSED = {"no_parameters": True}

_BEGIN = """
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET LOCAL row_security = off;
    SET LOCAL array_nulls = on;
    SET LOCAL extra_float_digits = 1;
    SET LOCAL quote_all_identifiers = off;
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL jit = off
"""


def run(conn: sa.Connection, statement: str | sql.Composable) -> sa.CursorResult[Any]:
    """Run one statement as it stands: neither `:word` nor `%` means anything in it."""
    text = statement if isinstance(statement, str) else statement.as_string(None)
    return conn.exec_driver_sql(text, execution_options=_UNPARSED)


def run_all(conn: sa.Connection, statements: Iterable[str | sql.Composable]) -> None:
    """Run statements in their order, in one round trip."""
    texts = [one if isinstance(one, str) else one.as_string(None) for one in statements]
    if texts:
        run(conn, ";\n".join(texts))


@contextmanager
def transaction(conn: sa.Connection) -> Iterator[None]:
    """A transaction of a run: committed at the end of the block, rolled back when it raises.

    It is READ COMMITTED whatever the engine says, so that after waiting for a lock it sees what the
    holder committed; with row_security off, so that a policy that would hide rows from the run is an error
    instead of a loss; with NULL in arrays taken for NULL, floats printed with all digits, and types and other names
    printed as plans know them; for as long as the source and the callback take, though it is idle meanwhile; and
    without JIT, which takes longer to compile a query of the catalog than that takes to run.
    """
    with conn.begin():
        run(conn, _BEGIN)
        yield


def major_version(conn: sa.Connection) -> int:
    """The server's, as SQLAlchemy asked for it when it connected."""
    return int((conn.dialect.server_version_info or (0,))[0])


def set_maintenance_work_mem(conn: sa.Connection, amount: str | None) -> None:
    """Set the memory for building indexes and keys, until the transaction ends; None leaves it as it is.

    Raises ValueError for an amount that the server does not take: its range is another in each release.
    """
    if amount is None:
        return
    try:
        run(conn, sql.SQL("SET LOCAL maintenance_work_mem = {}").format(statements.literal(amount.strip())))
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != INVALID_PARAMETER_VALUE:
            raise
        raise ValueError(
            f"maintenance_work_mem is {amount!r}, and the server says: {first_line(error)}: expected an amount of "
            "memory that it takes, such as '1GB', or None"
        ) from error


@contextmanager
def rolled_back(conn: sa.Connection) -> Iterator[None]:
    """A savepoint that is always rolled back: for trying something out, locks and all."""
    savepoint = conn.begin_nested()
    try:
        yield
    finally:
        if savepoint.is_active:
            savepoint.rollback()


@contextmanager
def searching(conn: sa.Connection, schemas: Iterable[str]) -> Iterator[None]:
    """The search_path is these schemas, and pg_temp last, which would come first if it was not in there.

    It is put back as `setting` does it.
    """
    path = [sql.Identifier(schema).as_string(None) for schema in (*schemas, "pg_temp")]
    with setting(conn, "search_path", ", ".join(path)):
        yield


@contextmanager
def setting(conn: sa.Connection, name: str, value: str) -> Iterator[None]:
    """A parameter of the server has this value until the block ends.

    Where the block raises, it is the caller's rollback, of the transaction or of a savepoint around it, that puts back
    what was before: PostgreSQL takes no other statement after an error, and undoes a `set_config` that is local.
    """
    before = conn.scalar(_GET, {"name": name})
    conn.execute(_SET, {"name": name, "value": value})
    yield
    conn.execute(_SET, {"name": name, "value": before})


_GET = sa.text("SELECT current_setting(:name)")
_SET = sa.text("SELECT set_config(:name, :value, true)")


def transaction_id(conn: sa.Connection) -> int:
    """The id of the open transaction; another one means that somebody ended ours."""
    return int(conn.scalar(sa.text("SELECT pg_current_xact_id()::text")) or 0)


def diagnosis(error: Exception, field: str) -> str | None:
    """A field of what PostgreSQL says of an error, such as "message_hint", to a driver or through SQLAlchemy.

    https://www.postgresql.org/docs/current/libpq-exec.html#LIBPQ-PQRESULTERRORFIELD
    """
    said: str | None = getattr(getattr(getattr(error, "orig", error), "diag", None), field, None)
    return said


def first_line(error: Exception) -> str:
    """What PostgreSQL says, to a driver or through SQLAlchemy, without the DETAIL and CONTEXT, which quote rows."""
    return str(getattr(error, "orig", error)).partition("\n")[0].strip()


@contextmanager
def explained() -> Iterator[None]:
    """A missing privilege, a server that takes no writes or no more locks, and locks, as errors that say what to do."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            raise IngestError(
                f"the role lacks a privilege: {first_line(error)}: expected to be allowed to; GRANT it, or use another "
                "role"
            ) from error
        if sqlstate(error) == READ_ONLY_SQL_TRANSACTION:
            raise IngestError(
                f"the connection takes no writes: {first_line(error)}: expected the primary, and "
                "default_transaction_read_only off for the role and the database; target_session_attrs=read-write "
                "finds the primary among several hosts"
            ) from error
        if sqlstate(error) == OUT_OF_MEMORY and _is_about_locks(error):
            raise IngestError(
                f"the server has no room for more locks: {first_line(error)}: expected some for each table of a run, "
                "and for each index and partition; raise max_locks_per_transaction, or load fewer tables in a run"
            ) from error
        if sqlstate(error) == LOCK_NOT_AVAILABLE:
            raise LockNotAcquired(
                "a lock was not to be had within the lock_timeout that the role or the database has: nothing of the "
                "batch or migration was kept; try again, or set lock_timeout = 0 for the role"
            ) from error
        if sqlstate(error) == DEADLOCK_DETECTED:
            raise LockNotAcquired(
                "this run and another transaction waited for locks of each other, and PostgreSQL chose to end this "
                "one: nothing of the batch or migration was kept; try again when others do not write to these tables"
            ) from error
        raise


def _is_about_locks(error: sa.exc.DBAPIError) -> bool:
    """Whether PostgreSQL's hint names the setting, which it does in every language."""
    return "max_locks_per_transaction" in (diagnosis(error, "message_hint") or "")


def check_left_alone(conn: sa.Connection) -> None:
    """Raise IngestError where the source left the connection in a transaction, which is rolled back."""
    if conn.get_transaction() is None:
        return
    conn.rollback()
    raise IngestError(
        "batches used conn and left it in a transaction, which was rolled back: expected conn outside a transaction, "
        "since each batch is one of its own; use another connection in batches, as engine.connect() gives, or "
        "`with conn.begin():` before the batch is given"
    )


class Reserved:
    """A connection that the source of a batch's rows cannot use while they are read.

    PostgreSQL takes no statement during a COPY, and psycopg2 loses the connection.
    """

    def __init__(self, conn: sa.Connection) -> None:
        self._conn = conn
        self._is_ours = False

    @contextmanager
    def for_us(self) -> Iterator[None]:
        """In the block, the run itself uses it."""
        self._is_ours = True
        try:
            yield
        finally:
            self._is_ours = False

    def refuse(self, *_: Any) -> None:
        if not self._is_ours:
            raise IngestError(
                "the rows of a batch used conn while they were read: expected it to be left to the run, which is in "
                "the batch's transaction by then; use another connection in batches, as engine.connect() gives"
            )

    def roll_back(self) -> None:
        """End the transaction on the server where SQLAlchemy takes it for ended, by the commit that was refused."""
        if not (self._conn.in_transaction() or self._conn.closed):
            self._conn.connection.rollback()


_USES = ("before_execute", "before_cursor_execute", "set_connection_execution_options", "commit", "rollback")
"""Not the second alone: by then there may be a cursor of the server's, which psycopg2 would close there."""


@contextmanager
def reserved(conn: sa.Connection) -> Iterator[Reserved]:
    """In the block, a use of the connection by others than the run is an IngestError, where it is tried."""
    reservation = Reserved(conn)
    for use in _USES:
        sa.event.listen(conn, use, reservation.refuse)
    try:
        yield reservation
    finally:
        for use in _USES:
            sa.event.remove(conn, use, reservation.refuse)
        reservation.roll_back()


FEATURE_NOT_SUPPORTED = "0A000"
OBJECT_NOT_IN_PREREQUISITE_STATE = "55000"
INVALID_PARAMETER_VALUE = "22023"
FOREIGN_KEY_VIOLATION = "23503"
UNIQUE_VIOLATION = "23505"
EXCLUSION_VIOLATION = "23P01"
DEADLOCK_DETECTED = "40P01"
OUT_OF_MEMORY = "53200"
QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
READ_ONLY_SQL_TRANSACTION = "25006"
IN_FAILED_SQL_TRANSACTION = "25P02"
SYNTAX_ERROR = "42601"
INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"
UNDEFINED_OBJECT = "42704"
INVALID_FOREIGN_KEY = "42830"
DATATYPE_MISMATCH = "42804"


def sqlstate(error: Exception) -> str | None:
    """The five-character SQLSTATE of a database error, of either driver or through SQLAlchemy."""
    original = getattr(error, "orig", error)
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
