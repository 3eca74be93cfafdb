"""An Airflow task that loads batches of rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import MappingProxyType, MethodType
from typing import Any, ClassVar

import sqlalchemy as sa
from airflow.sdk import Asset, BaseOperator, Context
from airflow.sdk.definitions.asset import AssetRef
from airflow.sdk.definitions.mappedoperator import OperatorPartial

from airflow_ingest_provider.core.batches import Batch
from airflow_ingest_provider.core.callback import do_nothing
from airflow_ingest_provider.core.metadata import Metadata, table_of
from airflow_ingest_provider.core.options import Delete, HighWatermark, Migrate, Options, Replace, Upsert, Visibility
from airflow_ingest_provider.core.result import IngestResult
from airflow_ingest_provider.hooks.ingest import IngestHook, stored_connections
from airflow_ingest_provider.operators.arguments import (
    check_batches,
    check_metadata,
    check_on_before_visible,
    imported_function,
    keyword_arguments,
    metadata_of,
    storable,
    storable_arguments,
)


class IngestOperator(BaseOperator):
    """Loads batches of rows into the tables of a metadata, creating and migrating them first.

    Arguments:
        metadata: a MetaData of the tables to load; or the Table, or a class mapped to it, to load that one alone; or
            a callable that returns one of these, or an import path "package.module:name" of any.
        batches: a callable, or its import path. It is called with the high watermark and, where it names
            them or takes `**kwargs`, with context variables and `op_kwargs`. It gives an iterable of
            `(high_watermark, batch_metadata, rows)`.
        conn_id: a connection of type "postgres". (templated)
        database: the database, where it is not the connection's own. (templated)
        on_before_visible: a callable, or its import path, called with `(conn, batch_metadata)` or
            `(conn, ingest_table, batch_metadata)` before a batch becomes visible.
        high_watermark, visibility, upsert, delete: constants, or for the high watermark any value that
            JSON holds. Templates render to text, whatever they are made of; a function of the context and the
            Jinja environment, an upstream task's output and, from Airflow 3.2.2 on, `dag.param("name")` keep
            their type. (templated)
        op_kwargs: more arguments for `batches`, and for `metadata` if that is a callable. (templated)
        migrate: "auto", "safe" (no column with values is dropped) or "off" (every difference is refused). (templated)
        conversions: SQL expressions that fill retyped and new columns, by column. (templated)
        replace: how rows are replaced: "auto", "swap" or "in_place". (templated)
        end_blockers: whether to end backends that stand in the way for longer than `lock_patience`: True, False,
            or the text that a template makes of them. (templated)
        lock_timeout: how long one try for an exclusive lock may keep readers waiting.
        lock_patience: how long all tries of a step together may take, a migration's or a swap's, and how long another
            run into a table is waited for.
        maintenance_work_mem: the memory that keys and indexes of a new table are built with, such as "1GB".

    In a subclass the callables may be methods, such as `batches=self.batches_of_a_day`: they see its template
    fields rendered.

    Returns `IngestResult.as_dict()`. Rows and high watermark are put on the event of each asset in
    `outlets`. A task that is killed cancels its statement; batches committed before stay.
    """

    template_fields: Sequence[str] = (
        "conn_id",
        "database",
        "high_watermark",
        "visibility",
        "upsert",
        "delete",
        "migrate",
        "conversions",
        "replace",
        "end_blockers",
        "op_kwargs",
        "tables",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_kwargs": "py", "tables": "py"}
    shallow_copy_attrs: Sequence[str] = ("op_kwargs",)
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        metadata: Metadata | Callable[..., Metadata] | str,
        batches: Callable[..., Iterable[Batch]] | str,
        conn_id: str = IngestHook.default_conn_name,
        database: str | None = None,
        on_before_visible: Callable[..., Any] | str = do_nothing,
        high_watermark: Any = HighWatermark.LATEST,
        visibility: str = Visibility.AFTER_EACH_BATCH,
        upsert: str = Upsert.IF_PRIMARY_KEY,
        delete: str = Delete.OFF,
        op_kwargs: Mapping[str, Any] | None = None,
        migrate: str = Migrate.AUTO,
        conversions: Mapping[str, str] | str = MappingProxyType({}),
        replace: str = Replace.AUTO,
        end_blockers: bool | str = False,
        lock_timeout: timedelta = timedelta(milliseconds=50),
        lock_patience: timedelta = timedelta(minutes=5),
        maintenance_work_mem: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**storable_arguments(kwargs))
        check_metadata(metadata)
        check_batches(batches)
        check_on_before_visible(on_before_visible)
        # Those that are no templates, and known by now.
        Options(lock_timeout=lock_timeout, lock_patience=lock_patience, maintenance_work_mem=maintenance_work_mem)
        self.metadata = metadata
        self.batches = batches
        self.conn_id = conn_id
        self.database = database
        self.on_before_visible = on_before_visible
        self.high_watermark = high_watermark
        self.visibility = visibility
        self.upsert = upsert
        self.delete = delete
        self.op_kwargs = storable(op_kwargs or {})
        self.migrate = migrate
        # Templates are rendered later. A read-only mapping, as the default is, cannot be copied or stored.
        self.conversions: Any = storable(dict(conversions) if isinstance(conversions, Mapping) else conversions)
        self.replace = replace
        self.end_blockers = end_blockers
        self.lock_timeout = lock_timeout
        self.lock_patience = lock_patience
        self.maintenance_work_mem = maintenance_work_mem
        self.tables = _table_names(metadata)
        self._own_methods = frozenset(
            name
            for name in ("metadata", "batches", "on_before_visible")
            if getattr(getattr(self, name), "__self__", None) is self
        )
        self._hook: IngestHook | None = None

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """The operator with these arguments, to be mapped over others with `expand` or `expand_kwargs`."""
        return super().partial(**storable_arguments(kwargs))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # Airflow copies tasks now and then, but the rows go on carrying the tables of the metadata.
        for shared in (self.metadata, self.batches, self.on_before_visible):
            memo[id(shared)] = shared
        return super().__deepcopy__(memo)

    def execute(self, context: Context) -> dict[str, Any]:
        """Load what `batches` gives; commits each batch, and migrations before the first.

        Raises ValueError for an import path that leads nowhere, a function that cannot be called with what it is given,
        a metadata that is none and a high watermark of "None" or "", and what `IngestHook.ingest` raises: of that,
        LockNotAcquired and ConcurrentIngestError are worth a retry.
        """
        _check_high_watermark(self.high_watermark)
        variables: Mapping[str, Any] = {**context}
        batches = imported_function("batches", self._argument("batches"))
        arguments = keyword_arguments(batches, 1, variables, self.op_kwargs)
        self._hook = IngestHook(self.conn_id, database=self.database)
        result = self._hook.ingest(
            metadata_of(self._argument("metadata"), variables, self.op_kwargs),
            partial(batches, **arguments),
            imported_function("on_before_visible", self._argument("on_before_visible")),
            self.high_watermark,
            self.visibility,
            self.upsert,
            self.delete,
            migrate=self.migrate,
            conversions=self.conversions,
            replace=self.replace,
            end_blockers=_truth(self.end_blockers),
            lock_timeout=self.lock_timeout,
            lock_patience=self.lock_patience,
            maintenance_work_mem=self.maintenance_work_mem,
        )
        self.log.info("%s", _summary(result))
        self._put_on_asset_events(context, result)
        return result.as_dict()

    def dry_run(self) -> None:
        """Log what a run would do to the definitions of the tables, without doing it.

        For use from Python, as in `dag.get_task("ingest").dry_run()`. Templates are not rendered: of high watermark,
        delete, migrate, conversions and replace the default counts where the run alone knows the value, and the log
        says so. On the command line, `airflow-ingest plan` does the same for a metadata.
        """
        _check_high_watermark(self.high_watermark)
        super().dry_run()
        with stored_connections():
            plan = IngestHook(self.conn_id, database=self.database).ingest_plan(
                metadata_of(self._argument("metadata"), {}, self.op_kwargs),
                imported_function("on_before_visible", self._argument("on_before_visible")),
                self._as_far_as_known("delete", Delete.OFF),
                high_watermark=self._as_far_as_known("high_watermark", HighWatermark.LATEST),
                migrate=self._as_far_as_known("migrate", Migrate.AUTO),
                conversions=self._as_far_as_known("conversions", {}),
                replace=self._as_far_as_known("replace", Replace.AUTO),
            )
        self.log.info("Plan:\n%s", plan)

    def on_kill(self) -> None:
        """Cancel the run: its statement ends, if one is running, and its batch is rolled back."""
        if self._hook is not None:
            self._hook.cancel()

    def _argument(self, name: str) -> Any:
        """The argument; a method of the task itself is that of the copy that runs, whose templates are rendered."""
        value = getattr(self, name)
        return MethodType(value.__func__, self) if name in self._own_methods else value

    def _as_far_as_known(self, name: str, default: Any) -> Any:
        """The argument; its default where a template, a function or another task's output gives it at the run."""
        value = getattr(self, name)
        is_template = isinstance(value, str) and ("{{" in value or "{%" in value)
        if not (is_template or callable(value) or hasattr(value, "resolve")):
            return value
        self.log.info("%s is known when the task runs: the plan is that of a run with %r", name, default)
        return default

    def _put_on_asset_events(self, context: Context, result: IngestResult) -> None:
        extra = {
            "rows": result.rows,
            "high_watermark": result.last_high_watermark,
            "tables": {table.table: table.received for table in result.tables},
        }
        for outlet in self.outlets:
            if isinstance(outlet, Asset | AssetRef):
                context["outlet_events"][outlet].extra.update(extra)


def _table_names(metadata: object) -> list[str]:
    """For the page of rendered templates, as far as they are known when the DAG is parsed."""
    one = table_of(metadata)
    tables: Iterable[sa.Table] = () if one is None else (one,)
    if isinstance(metadata, sa.MetaData):
        tables = metadata.tables.values()
    return [str(table.fullname) for table in tables]  # SQLAlchemy's own kind of str cannot be stored


def _check_high_watermark(high_watermark: Any) -> None:
    """Refuse what a template made of nothing: taken literally, it would load everything, or nothing."""
    if isinstance(high_watermark, str) and high_watermark in ("", "None"):
        raise ValueError(
            f"high_watermark is the text {high_watermark!r}, as from a template that had no value: expected a "
            "constant or a value. To pass a parameter with its type, None included, write "
            "high_watermark=lambda context, jinja_env: context['params']['name'], or from Airflow 3.2.2 on "
            "high_watermark=dag.param('name'); for a default, write '{{ params.name or \"__LATEST__\" }}'"
        )


def _truth(value: Any) -> Any:
    """True and False for the text that a template makes of them; anything else as it is, to be checked by the run."""
    return {"True": True, "False": False}.get(value, value) if isinstance(value, str) else value


def _summary(result: IngestResult) -> str:
    tables = ", ".join(f"{table.received:,} rows into {table.table}" for table in result.tables)
    changes = [f"{table.table}: {line}" for table in result.tables for line in table.migration]
    return (
        f"loaded {tables} in {result.seconds:.1f} s; batches: {result.batches}; "
        f"high watermark: {result.first_high_watermark!r} -> {result.last_high_watermark!r}; "
        f"changed definitions: {', '.join(changes) or 'none'}"
    )
