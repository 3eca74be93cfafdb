"""From a connection id of Airflow to a SQLAlchemy connection, and `ingest` on it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]  # its home moved in 3.2
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import Connection

from airflow_ingest_provider.core import catalog, load
from airflow_ingest_provider.core.callback import OnBeforeVisible, do_nothing
from airflow_ingest_provider.core.errors import IngestError
from airflow_ingest_provider.core.ingest import Batches, ingest
from airflow_ingest_provider.core.metadata import Metadata, tables_of
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Delete, HighWatermark, Migrate, Replace, Upsert, Visibility
from airflow_ingest_provider.core.plan import IngestPlan
from airflow_ingest_provider.core.preview import ingest_plan
from airflow_ingest_provider.core.result import IngestResult

CONNECTION_TYPES = ("postgres", "postgresql")


class IngestHook(PostgresHook):
    """A `PostgresHook` that loads batches of rows.

    `conn_id` is a connection of type "postgres". `database` overrides its database. What else a
    `PostgresHook` takes, such as `options`, is taken by name.
    """

    conn_name_attr = "conn_id"

    def __init__(
        self, conn_id: str = PostgresHook.default_conn_name, database: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self._running: sa.Connection | None = None

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """The connection, known to be PostgreSQL's; an error that says what to do where it is not."""
        if not conn_id:
            raise ValueError(f"conn_id is {conn_id!r}: expected the id of a connection, such as 'postgres_default'")
        try:
            connection: Connection = super().get_connection(conn_id)
        except AirflowNotFoundException as error:
            raise AirflowNotFoundException(
                f"there is no connection {conn_id!r}: expected one of type 'postgres'; add it under Admin > "
                f"Connections, or with the variable AIRFLOW_CONN_{conn_id.upper()}, where a script outside of a "
                "task finds it too"
            ) from error
        if connection.conn_type not in CONNECTION_TYPES:
            raise IngestError(
                f"connection {conn_id!r} is of type {connection.conn_type!r}: expected 'postgres'; "
                f"{_advice(connection.conn_type or '')}"
            )
        return connection

    def get_sqlalchemy_engine(self, engine_kwargs: dict[str, Any] | None = None) -> sa.Engine:
        """An engine that connects as `get_conn` does, with the connection's extras.

        It keeps no connections. Where the extra `iam` is set, each connect fetches a token of its own:
        they expire after minutes.
        """
        url = self._url()
        load.check_dialect(f"connection {self.get_conn_id()!r}", url.get_dialect())
        given = dict(engine_kwargs or {})
        connect_args = self._connect_args(url) | given.pop("connect_args", {})
        engine = sa.create_engine(url, **({"poolclass": sa.NullPool} | given), connect_args=connect_args)
        if self.connection_extra.get("iam"):
            sa.event.listen(engine, "do_connect", self._log_in_with_token, named=True)
        sa.event.listen(engine, "invalidate", _cancel_abandoned, named=True)
        return engine

    def ingest(
        self,
        metadata: Metadata,
        batches: Batches,
        on_before_visible: OnBeforeVisible = do_nothing,
        high_watermark: Any = HighWatermark.LATEST,
        visibility: str = Visibility.AFTER_EACH_BATCH,
        upsert: str = Upsert.IF_PRIMARY_KEY,
        delete: str = Delete.OFF,
        *,
        migrate: str = Migrate.AUTO,
        conversions: Mapping[str, str] = MappingProxyType({}),
        replace: str = Replace.AUTO,
        end_blockers: bool = False,
        lock_timeout: timedelta = timedelta(milliseconds=50),
        lock_patience: timedelta = timedelta(minutes=5),
        maintenance_work_mem: str | None = None,
    ) -> IngestResult:
        """Load batches of rows, as `airflow_ingest_provider.ingest` does, on a connection made for it.

        Commits each batch, and migrations before the first. The tables become output assets of the task's hook-level
        lineage.

        Raises what `airflow_ingest_provider.ingest` raises, AirflowNotFoundException where there is no such connection,
        and IngestError where it is not one to PostgreSQL, or of an async driver.
        """
        with self.get_sqlalchemy_engine().connect() as conn:
            self._running = conn
            try:
                result = ingest(
                    conn,
                    metadata,
                    batches,
                    on_before_visible,
                    high_watermark,
                    visibility,
                    upsert,
                    delete,
                    migrate=migrate,
                    conversions=conversions,
                    replace=replace,
                    end_blockers=end_blockers,
                    lock_timeout=lock_timeout,
                    lock_patience=lock_patience,
                    maintenance_work_mem=maintenance_work_mem,
                )
            finally:
                self._running = None
            # What goes wrong from here on must not fail the task, whoever wrote the collector.
            try:
                self._add_lineage(conn, metadata)
            except Exception:
                self.log.warning("the rows are committed, but not in the lineage", exc_info=True)
        return result

    def ingest_plan(
        self,
        metadata: Metadata,
        on_before_visible: OnBeforeVisible = do_nothing,
        delete: str = Delete.OFF,
        *,
        high_watermark: Any = HighWatermark.LATEST,
        migrate: str = Migrate.AUTO,
        conversions: Mapping[str, str] = MappingProxyType({}),
        replace: str = Replace.AUTO,
    ) -> IngestPlan:
        """What `ingest` would do to the tables' definitions, as `airflow_ingest_provider.ingest_plan` says it."""
        with self.get_sqlalchemy_engine().connect() as conn:
            return ingest_plan(
                conn,
                metadata,
                on_before_visible,
                delete,
                high_watermark=high_watermark,
                migrate=migrate,
                conversions=conversions,
                replace=replace,
            )

    def cancel(self) -> None:
        """Cancel what `ingest` runs, if anything; from another thread or a signal handler.

        Its statement ends, and where it runs none, it ends before it would commit or begin another transaction.
        psycopg2 lets no signal handler run before the statement has ended; psycopg 3 does.
        """
        conn = self._running
        if conn is None:
            return
        try:
            load.cancel(conn)
        except sa.exc.InvalidRequestError:
            self.log.debug("the running statement came to its end before it was cancelled")
        except Exception:  # it would hide what the task is ended by
            self.log.warning("the running statement could not be cancelled", exc_info=True)

    def _url(self) -> sa.URL:
        connection = self.connection
        # The parent reads it from 7.1 on. "postgresql" alone names no driver.
        scheme: str = getattr(self, "sqlalchemy_scheme", None) or self.connection_extra.get("sqlalchemy_scheme") or ""
        return sa.URL.create(
            scheme if "+" in scheme else "postgresql+psycopg",
            username=connection.login or None,
            password=connection.password or None,
            host=connection.host or None,
            port=connection.port or None,
            database=self.database or connection.schema or None,
            query=self.connection_extra.get("sqlalchemy_query") or {},
        )

    def _connect_args(self, url: sa.URL) -> dict[str, Any]:
        """What `get_conn` passes on: the hook's options and the connection's extras for libpq."""
        arguments: dict[str, Any] = {}
        if url.get_driver_name() == "psycopg":
            arguments["prepare_threshold"] = None  # proxies that pool transactions know no prepared statements
        if self.options:
            arguments["options"] = self.options
        extras = self.connection_extra
        return arguments | {name: extras[name] for name in extras if name not in self.ignored_extra_options}

    def _log_in_with_token(self, cparams: dict[str, Any], **_: Any) -> None:
        user, token, port = self.get_iam_token(self.connection)
        cparams.update(user=user, password=token, port=port)

    def _add_lineage(self, conn: sa.Connection, metadata: Metadata) -> None:
        with conn.begin():
            found = catalog.find_tables(conn, tables_of(metadata))
        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        for name, _ in found:
            collector.add_output_asset(context=self, uri=_asset_uri(conn, name))


@contextmanager
def stored_connections() -> Iterator[None]:
    """Airflow's metadata database is searched for connections too, for the length of the block.

    Outside of a task Airflow 3 looks in environment variables and secrets backends alone, unless this variable says
    otherwise, as it does for `airflow connections get`. It is read at each search.
    """
    variable = "_AIRFLOW_PROCESS_CONTEXT"
    if variable in os.environ:
        yield
        return
    os.environ[variable] = "server"
    try:
        yield
    finally:
        del os.environ[variable]


def _advice(conn_type: str) -> str:
    """What to do about a connection of another type; a URL of SQLAlchemy's names the driver in it."""
    scheme, _, driver = conn_type.partition("+")
    if driver and scheme in CONNECTION_TYPES:
        return (
            f"leave +{driver} out; where the driver matters, name it in the connection's extras, as in "
            f"{{'sqlalchemy_scheme': 'postgresql+{driver}'}}"
        )
    return "name a connection to PostgreSQL, or change the type of this one"


def _cancel_abandoned(dbapi_connection: Any, **_: Any) -> None:
    """Cancel what the server does for a connection that is given up in the midst of it.

    That happens when execution_timeout ends a task: closed alone, the connection's backend would finish
    its statement first, and keep the locks that the next try needs.
    """
    with suppress(Exception):  # the connection is lost either way
        if hasattr(dbapi_connection, "cancel_safe"):
            dbapi_connection.cancel_safe(timeout=5)
        else:
            dbapi_connection.cancel()


def _asset_uri(conn: sa.Connection, name: Name) -> str:
    """That of the postgres provider's assets: where the connection really leads, sockets included."""
    info: Any = conn.connection.driver_connection.info  # type: ignore[union-attr]
    host = info.host if info.host and not info.host.startswith(("/", "@")) else "localhost"
    path = "/".join(quote(part, safe="") for part in (info.dbname, name.schema, name.name))
    return f"postgres://{f'[{host}]' if ':' in host else host}:{info.port}/{path}"
