"""on_before_visible: called with two arguments or three, and held to leaving the transaction open."""

import inspect
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core.errors import IngestError, kind_of
from airflow_ingest_provider.core.functions import ASYNC, accepts, is_async, signature_of
from airflow_ingest_provider.core.session import IN_FAILED_SQL_TRANSACTION, sqlstate, transaction_id

OnBeforeVisible = Callable[[sa.Connection, Any], object] | Callable[[sa.Connection, sa.Table, Any], object]


def do_nothing(conn: sa.Connection, latest_batch_metadata: Any) -> None:
    """What is called where the caller gives no callback."""


def check(on_before_visible: object) -> None:
    """Raise IngestError for what cannot be called with two arguments or three, or is an async function."""
    wanted = "expected a function of (conn, batch_metadata), or of (conn, ingest_table, batch_metadata)"
    if not callable(on_before_visible):
        raise IngestError(f"on_before_visible is {kind_of(on_before_visible)}: {wanted}")
    if is_async(on_before_visible):
        raise IngestError(f"on_before_visible {ASYNC}")
    signature = signature_of(on_before_visible)
    if signature and not (accepts(signature, 2) or accepts(signature, 3)):
        raise IngestError(f"on_before_visible takes {signature}: {wanted}")


def takes_table(on_before_visible: OnBeforeVisible) -> bool:
    """Whether the callback wants (conn, ingest_table, batch_metadata), and cannot be called with two arguments."""
    signature = signature_of(on_before_visible)
    return signature is not None and not accepts(signature, 2) and accepts(signature, 3)


def call(conn: sa.Connection, on_before_visible: Callable[..., object], *arguments: Any) -> None:
    """Call it in the open transaction. What it raises passes through; a transaction that it ended, or in which it let a
    statement fail, is an IngestError. The settings that the rest of the batch goes by are as they were afterwards."""
    transaction = conn.get_transaction()
    before = transaction_id(conn)
    settings = {row.name: row.value for row in conn.execute(_READ, {"names": _SETTINGS})}
    given = on_before_visible(conn, *arguments)
    if inspect.isawaitable(given) or inspect.isgenerator(given) or inspect.isasyncgen(given):
        if inspect.iscoroutine(given) or inspect.isgenerator(given):
            given.close()
        raise IngestError(
            f"on_before_visible returned {kind_of(given)}, which nobody runs: expected a function that has done its "
            "work when it returns, without yield and await"
        )
    if conn.get_transaction() is not transaction or not (transaction and transaction.is_active):
        raise IngestError(_ENDED)
    try:
        after = transaction_id(conn)
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != IN_FAILED_SQL_TRANSACTION:
            raise
        raise IngestError(_FAILED) from error
    if after != before:
        raise IngestError(_ENDED)
    conn.execute(_RESTORE, {"names": list(settings), "settings": list(settings.values())})


# The role first: it may be what is allowed to set the others.
_SETTINGS = [
    "role",
    "search_path",
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "row_security",
    "session_replication_role",
    "quote_all_identifiers",
    "standard_conforming_strings",
    "check_function_bodies",
    "default_tablespace",
    "default_table_access_method",
    "maintenance_work_mem",
]
"""What the swap and the state depend on."""

_READ = sa.text("SELECT name, current_setting(name) AS value FROM unnest(CAST(:names AS text[])) name")

_RESTORE = sa.text("""
    SELECT set_config(name, setting, true)
    FROM unnest(CAST(:names AS text[]), CAST(:settings AS text[])) WITH ORDINALITY was(name, setting, place)
    WHERE current_setting(name) <> setting ORDER BY place
""")


_ENDED = (
    "on_before_visible ended the transaction: expected it to leave commit and rollback to the run, "
    "and to raise an exception where the batch must not become visible"
)


_FAILED = (
    "a statement of on_before_visible failed, and it returned all the same: PostgreSQL does nothing more in that "
    "transaction; expected the error to be raised, or statements that may fail to be run in conn.begin_nested()"
)
