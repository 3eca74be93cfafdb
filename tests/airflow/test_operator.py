"""The operator, run by Airflow."""

import copy
import itertools
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest
import sqlalchemy as sa
from airflow.sdk import DAG, Asset, Param, task
from airflow.utils.session import create_session
from packaging.version import Version
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from airflow_ingest_provider import Delete, HighWatermark, IngestError, Upsert, Visibility
from airflow_ingest_provider.operators.arguments import metadata_of
from airflow_ingest_provider.operators.ingest import IngestOperator
from tests.waiting import until

if TYPE_CHECKING:
    from tests.airflow.conftest import Connect, Run, Runner

metadata = sa.MetaData()
numbers = sa.Table("numbers", metadata, sa.Column("number", sa.Integer, primary_key=True))

dag_numbers = itertools.count(1)

keeps_dag_param = pytest.mark.skipif(
    Version(version("apache-airflow-core")) < Version("3.2.2"),
    reason="Airflow before 3.2.2 cannot store a DAG that has dag.param() in a templated field",
)

ROWS = "SELECT array_agg(number ORDER BY number) FROM numbers"


def dag_of(params: dict[str, Any] | None = None, native: Any = False, **arguments: Any) -> DAG:
    """A DAG of one task, with these arguments of the operator."""
    given: dict[str, Any] = {"metadata": numbers, "batches": one_batch, **arguments}
    name = f"test_{next(dag_numbers)}"  # Airflow remembers what a name meant
    with DAG(name, schedule=None, params=params, render_template_as_native_obj=native) as dag:
        IngestOperator(task_id="ingest", **given)
    return dag


def one_batch(high_watermark: Any) -> Iterator[Any]:
    yield 1, "metadata of the batch", [(numbers, (1,))]


def one_batch_of(high_watermark: Any, number: int) -> Iterator[Any]:
    yield 1, None, [(numbers, (number,))]


class Recorder:
    """A `batches` that gives none, and remembers what it was called with."""

    def __init__(self) -> None:
        self.high_watermark: Any = "never called"
        self.arguments: dict[str, Any] = {}

    def __call__(self, high_watermark: Any, **arguments: Any) -> list[Any]:
        self.high_watermark = high_watermark
        self.arguments = arguments
        return []


def fetch(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn) as connection:
        (value,) = connection.execute(query.encode()).fetchone() or (None,)
        return value


# Templates


def test_every_constant_is_a_template(run: "Runner", connect: "Connect", database: str, dsn: str) -> None:
    params = {
        "conn_id": "chosen",
        "database": database,
        "high_watermark": "2013-06-30",
        "visibility": Visibility.AFTER_EACH_BATCH,
        "upsert": Upsert.OFF,
        "delete": Delete.BEFORE_FIRST_BATCH,
    }
    connect("chosen", schema="elsewhere")
    batches = Recorder()
    arguments = {name: f"{{{{ params.{name} }}}}" for name in params}
    op_kwargs = {"nested": {"until": "{{ params.until }}"}}
    dag = dag_of(params=dict.fromkeys([*params, "until"], ""), batches=batches, op_kwargs=op_kwargs, **arguments)
    done = run(dag, **params, until="2013-12-31")
    assert done.state == "success"
    assert batches.high_watermark == "2013-06-30"
    assert batches.arguments["nested"] == {"until": "2013-12-31"}
    assert params.items() <= rendered(done).items()


def rendered(done: "Run") -> dict[str, Any]:
    """What the page of rendered templates shows."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    (task_instance,) = done.dag_run.get_task_instances()
    return RenderedTaskInstanceFields.get_templated_fields(task_instance) or {}


def test_the_rendered_templates_name_the_tables(run: "Runner") -> None:
    fields = rendered(run(dag_of(high_watermark="{{ params.start }}", params={"start": "7"})))
    assert (fields["tables"], fields["high_watermark"]) == (["numbers"], "7")


@pytest.mark.parametrize(
    ("argument", "accepted"),
    [
        ("visibility", "__AFTER_EACH_BATCH__"),
        ("upsert", "__OFF__, __IF_PRIMARY_KEY__"),
        ("delete", "__OFF__, __BEFORE_FIRST_BATCH__"),
    ],
)
def test_a_template_that_gives_no_constant_is_refused(argument: str, accepted: str, run: "Runner", dsn: str) -> None:
    done = run(dag_of(params={"it": ""}, **{argument: "{{ params.it }}"}), it="SOMETIMES")
    assert isinstance(done.error, ValueError)
    assert str(done.error) == f"{argument} is 'SOMETIMES': expected one of {accepted}"
    assert fetch(dsn, "SELECT to_regclass('numbers')") is None


CONVERSIONS = {"number": "was::int"}


def load_with_conversions(run: "Runner", dsn: str, conversions: Any, native: bool = False) -> Any:
    """A run for which `number` is a new column, with these conversions or what their template gives."""
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT '7' AS was")
    done = run(dag_of(params={"it": Param({})}, native=native, conversions=conversions), it=CONVERSIONS)
    return fetch(dsn, ROWS) if done.error is None else done.error


@pytest.mark.parametrize(
    ("conversions", "native"),
    [
        (MappingProxyType(CONVERSIONS), False),
        ({"number": "{{ params.it.number }}"}, False),
        ("{{ params.it }}", True),
        (lambda context, jinja_env: context["params"]["it"], False),
    ],
    ids=["mapping", "template in it", "native template", "callable"],
)
def test_conversions_are_a_template(conversions: Any, native: bool, run: "Runner", dsn: str) -> None:
    assert load_with_conversions(run, dsn, conversions, native) == [1, 7]


@keeps_dag_param
def test_conversions_may_be_a_parameter(run: "Runner", dsn: str) -> None:
    assert load_with_conversions(run, dsn, DAG("any").param("it")) == [1, 7]


@pytest.mark.parametrize("conversions", ["{{ params.it }}", None, 3])
def test_conversions_that_are_no_mapping_are_refused(conversions: Any, run: "Runner", dsn: str) -> None:
    error = load_with_conversions(run, dsn, conversions)
    assert isinstance(error, ValueError)
    assert "expected a mapping of columns to SQL expressions" in str(error)


@pytest.mark.parametrize(("value", "native"), [(False, False), (True, False), (True, True)])
def test_whether_blockers_are_ended_is_a_template(value: bool, native: bool, run: "Runner", dsn: str) -> None:
    dag = dag_of(
        params={"it": Param(False, type="boolean")},
        native=native,
        end_blockers="{{ params.it }}",
        lock_patience=timedelta(milliseconds=100),
    )
    with suppress(psycopg.errors.AdminShutdown), psycopg.connect(dsn) as reader:
        reader.execute("CREATE TABLE numbers (number int PRIMARY KEY, gone int)")
        reader.commit()
        reader.execute("SELECT FROM numbers")
        done = run(dag, it=value)
        there = fetch(dsn, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {reader.info.backend_pid}")
        assert (there, done.state) == ((0, "success") if value else (1, "failed"))


@pytest.mark.parametrize("value", [None, ""])
def test_a_template_that_gives_no_high_watermark_is_refused(value: Any, run: "Runner") -> None:
    batches = Recorder()
    dag = dag_of(params={"start": Param(None)}, high_watermark="{{ params.start }}", batches=batches)
    done = run(dag, start=value)
    assert isinstance(done.error, ValueError)
    assert "write high_watermark=lambda context, jinja_env: context['params']['name']" in str(done.error)
    assert batches.high_watermark == "never called"


@keeps_dag_param
@pytest.mark.parametrize("value", [5, None, 2.5, "2024", {"page": 3}, [1, "a"], HighWatermark.EARLIEST])
def test_dag_param_keeps_the_type(value: Any, run: "Runner") -> None:
    batches = Recorder()
    with DAG(f"test_{next(dag_numbers)}", schedule=None, params={"start": Param(None)}) as dag:
        IngestOperator(task_id="ingest", metadata=numbers, batches=batches, high_watermark=dag.param("start"))
    assert run(dag, start=value).state == "success"
    assert batches.high_watermark == (None if value == HighWatermark.EARLIEST else value)


@pytest.mark.parametrize("value", [5, None, {"page": 3}])
def test_a_callable_gives_a_high_watermark_of_any_type(value: Any, run: "Runner") -> None:
    def start(context: Any, jinja_env: Any) -> Any:
        return context["params"]["it"]

    batches = Recorder()
    run(dag_of(params={"it": Param(None)}, batches=batches, high_watermark=start), it=value)
    assert batches.high_watermark == value


def test_constants_survive_native_rendering(run: "Runner", dsn: str) -> None:
    params = {"high_watermark": HighWatermark.EARLIEST, "upsert": Upsert.IF_PRIMARY_KEY, "delete": Delete.OFF}
    arguments = {name: f"{{{{ params.{name} }}}}" for name in params}
    dag = dag_of(params=params, native=True, **arguments)
    assert run(dag).result["first_high_watermark"] is None
    assert run(dag).result["tables"][0]["unchanged"] == 1


@pytest.mark.parametrize("given", [metadata, numbers, pytest.param(type("Mapped", (), {"__table__": numbers}))])
def test_the_tables_names_are_of_the_type_that_airflow_can_store(given: Any) -> None:
    operator = IngestOperator(task_id="ingest", metadata=given, batches=one_batch)
    assert [(type(name), name) for name in operator.tables] == [(str, "numbers")]


# What is called, and with what


def test_batches_gets_the_context_variables_and_op_kwargs_that_it_names(run: "Runner") -> None:
    seen: list[Any] = []

    def batches(high_watermark: Any, dag_run: Any, source: str, params: Any = None, unknown: int = 7) -> list[Any]:
        seen.extend([high_watermark, type(dag_run).__name__, source, params["size"], unknown])
        return []

    run(dag_of(batches=batches, op_kwargs={"source": "s3", "ignored": 1}, params={"size": 3}, high_watermark=9))
    assert seen == [9, "DagRun", "s3", 3, 7]


def test_a_first_parameter_named_like_a_context_variable_is_the_high_watermark(run: "Runner") -> None:
    seen: list[Any] = []

    def batches(ds: Any, **context: Any) -> list[Any]:
        seen.extend([ds, "ds" in context, context["params"]["size"]])
        return []

    run(dag_of(batches=batches, high_watermark="mine", params={"size": 3}))
    assert seen == ["mine", False, 3]


def test_op_kwargs_cannot_replace_the_high_watermark(run: "Runner") -> None:
    done = run(dag_of(batches=one_batch, op_kwargs={"high_watermark": 3}))
    assert isinstance(done.error, ValueError)
    assert "op_kwargs holds 'high_watermark', which the run gives one_batch by position" in str(done.error)


def of_nothing() -> list[Any]:
    return []


async def awaited(high_watermark: Any, batch_metadata: Any = None) -> list[Any]:
    return []


async def awaiting(high_watermark: Any, size: int) -> AsyncIterator[Any]:
    yield 1, None, []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"batches": lambda high_watermark, source: []},
            "<lambda>() cannot be called: missing a required argument: 'source'; expected a function of 1",
        ),
        (
            {"batches": f"{__name__}:of_nothing"},
            "of_nothing() cannot be called: too many positional arguments; expected a function of 1 arguments by",
        ),
        (
            {"metadata": lambda source: numbers},
            "<lambda>() cannot be called: missing a required argument: 'source'; expected a function of 0",
        ),
    ],
)
def test_a_function_that_cannot_be_called_with_what_there_is_is_refused(
    arguments: dict[str, Any], message: str, run: "Runner"
) -> None:
    done = run(dag_of(**arguments))
    assert isinstance(done.error, ValueError)
    assert message in str(done.error)


class FromSource(IngestOperator):
    """An operator with a template field of its own, which its methods read."""

    template_fields = (*IngestOperator.template_fields, "source")

    def __init__(self, source: str, **kwargs: Any) -> None:
        super().__init__(metadata=self.make, batches=self.read, on_before_visible=self.check, **kwargs)
        self.source = source

    def make(self) -> sa.Table:
        return sa.Table(self.source, sa.MetaData(), sa.Column("id", sa.Integer))

    def read(self, high_watermark: Any) -> Iterator[Any]:
        yield self.source, None, [(self.make(), (1,))]

    def check(self, conn: sa.Connection, batch_metadata: Any) -> None:
        conn.exec_driver_sql(f"CREATE TABLE checked_{self.source} ()")


@pytest.mark.parametrize("copied", [False, True])
def test_methods_of_a_subclass_see_its_rendered_fields(copied: bool, run: "Runner", dsn: str) -> None:
    with DAG(f"test_{next(dag_numbers)}", schedule=None, params={"it": ""}) as dag:
        FromSource(task_id="ingest", source="{{ params.it }}")
    result = run(copy.deepcopy(dag) if copied else dag, it="things").result
    assert (result["rows"], result["last_high_watermark"], result["tables"][0]["table"]) == (
        1,
        "things",
        "public.things",
    )
    assert fetch(dsn, "SELECT to_regclass('checked_things')::text") == "checked_things"


def test_import_paths_are_resolved_where_the_task_runs(
    run: "Runner", dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    dag = dag_of(
        metadata="elsewhere_in:metadata", batches="elsewhere_in:Source.batches", on_before_visible="elsewhere_in:check"
    )
    (tmp_path / "elsewhere_in.py").write_text(
        "import sqlalchemy as sa\n"
        "metadata = sa.MetaData()\n"
        "numbers = sa.Table('numbers', metadata, sa.Column('number', sa.Integer))\n"
        "class Source:\n"
        "    def batches(high_watermark, ti):\n"
        "        yield 1, ti.task_id, [(numbers, (1,))]\n"
        "def check(conn, batch_metadata):\n"
        "    conn.exec_driver_sql(f'CREATE TABLE checked_{batch_metadata} ()')\n"
    )
    assert run(dag).result["rows"] == 1
    assert fetch(dsn, "SELECT to_regclass('checked_ingest')::text") == "checked_ingest"


@pytest.mark.parametrize("argument", ["metadata", "batches", "on_before_visible"])
@pytest.mark.parametrize("path", ["no.such.module:name", "json:no_such_name"])
def test_an_import_path_that_leads_nowhere_is_named(argument: str, path: str, run: "Runner", dsn: str) -> None:
    done = run(dag_of(None, **{argument: path}))
    assert isinstance(done.error, ValueError)
    assert f"{argument} is the import path '{path}', which leads nowhere (" in str(done.error)
    assert fetch(dsn, "SELECT to_regclass('numbers')") is None


@pytest.mark.parametrize("argument", ["batches", "on_before_visible"])
def test_an_import_path_that_leads_to_no_callable_is_refused(argument: str, run: "Runner") -> None:
    done = run(dag_of(None, **{argument: "math:pi"}))
    assert isinstance(done.error, ValueError)
    assert str(done.error) == f"{argument} is the import path 'math:pi', which leads to a float: expected a callable"


@pytest.mark.parametrize(("argument", "name"), [("batches", "function"), ("metadata", "metadata")])
def test_the_example_of_an_import_path_is_of_the_argument(argument: str, name: str, run: "Runner") -> None:
    assert f"expected 'package.module:{name}', with" in str(run(dag_of(None, **{argument: "json:no_such_name"})).error)


def test_op_kwargs_that_are_no_mapping_are_refused(run: "Runner") -> None:
    done = run(dag_of(op_kwargs=["source"]))
    assert isinstance(done.error, ValueError)
    assert str(done.error) == "op_kwargs is a list: expected a mapping of names to values"


def test_metadata_may_be_made_when_the_task_runs(run: "Runner", dsn: str) -> None:
    def make(params: dict[str, Any], schema: str) -> sa.Table:
        columns = [sa.Column(name, sa.Integer) for name in params["columns"]]
        return sa.Table("made", sa.MetaData(schema=schema), *columns)

    def batches(high_watermark: Any, schema: str) -> Iterator[Any]:
        yield 1, None, [(make({"columns": "ab"}, schema), (1, 2))]

    dag = dag_of(metadata=make, batches=batches, op_kwargs={"schema": "here"}, params={"columns": ["a", "b"]})
    assert run(dag).result["rows"] == 1
    assert fetch(dsn, "SELECT array_agg(m::text) FROM here.made m") == ["(1,2)"]


def test_a_table_is_loaded_without_the_others_of_its_metadata(run: "Runner", dsn: str) -> None:
    both = sa.MetaData(naming_convention={"pk": "key_of_%(table_name)s"})
    sa.Table("parents", both, sa.Column("id", sa.Integer, primary_key=True))
    children = sa.Table("children", both, sa.Column("id", sa.ForeignKey("parents.id"), primary_key=True))
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE parents (id bigint PRIMARY KEY, kept text)")
        connection.execute("INSERT INTO parents VALUES (1)")
    done = run(dag_of(metadata=children, batches=lambda high_watermark: [(1, None, [(children, (1,))])]))
    assert [table["table"] for table in done.result["tables"]] == ["public.children"]
    assert fetch(dsn, "SELECT count(kept) FROM parents") == 0
    keys = "SELECT array_agg(conname::text ORDER BY 1) FROM pg_constraint WHERE conrelid = 'children'::regclass"
    assert "key_of_children" in fetch(dsn, keys + " AND contype = 'p'")
    assert fetch(dsn, keys + " AND contype = 'f'")


@pytest.mark.parametrize("callback", ["two", "three"])
def test_on_before_visible_is_called_before_others_see_the_batch(callback: str, run: "Runner", dsn: str) -> None:
    seen: list[Any] = []

    def two(conn: sa.Connection, batch_metadata: Any) -> None:
        seen.extend([conn.scalar(sa.text("SELECT count(*) FROM numbers")), batch_metadata])
        seen.append(fetch(dsn, "SELECT count(*) FROM numbers"))

    def three(conn: sa.Connection, ingest_table: sa.Table, batch_metadata: Any) -> None:
        seen.extend([conn.scalar(sa.select(sa.func.count()).select_from(ingest_table)), batch_metadata])
        seen.append(fetch(dsn, "SELECT count(*) FROM numbers"))

    assert run(dag_of(on_before_visible=two if callback == "two" else three)).state == "success"
    assert seen == [1, "metadata of the batch", 0]


def test_a_batch_that_on_before_visible_refuses_stays_invisible(run: "Runner", dsn: str) -> None:
    def refuse(conn: sa.Connection, batch_metadata: Any) -> None:
        raise ArithmeticError("implausible")

    done = run(dag_of(on_before_visible=refuse))
    assert isinstance(done.error, ArithmeticError)
    assert fetch(dsn, "SELECT count(*) FROM numbers") == 0


# Refused when the DAG is parsed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batches": 3}, r"batches is 3: expected a callable, or an import path such as 'package\.module:function'"),
        ({"batches": "not a path"}, r"batches is 'not a path': expected a callable, or an import path"),
        ({"batches": [(1, None, [(numbers, (1,))])]}, "batches is a list: expected a callable"),
        ({"on_before_visible": []}, "on_before_visible is a list: expected a callable"),
        (
            {"metadata": "numbers"},
            r"metadata is 'numbers': expected a sqlalchemy\.MetaData, a Table or a mapped class, ",
        ),
        ({"metadata": None}, r"metadata is None: expected"),
        ({"lock_timeout": 5}, r"lock_timeout is 5: expected a datetime\.timedelta"),
        ({"lock_patience": 5}, r"lock_patience is 5: expected a datetime\.timedelta"),
        ({"maintenance_work_mem": 65536}, r"maintenance_work_mem is 65536: expected an amount of memory"),
    ],
)
def test_arguments_that_cannot_work_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dag_of(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"on_before_visible": lambda conn: None},
            IngestError,
            r"on_before_visible takes \(conn\): expected a function of",
        ),
        ({"on_before_visible": lambda *, conn: None}, IngestError, r"on_before_visible takes \(\*, conn\): expected"),
        ({"batches": awaited}, ValueError, r"batches is an async function, and nothing would await it: expected one"),
        ({"batches": partial(awaiting, size=1)}, ValueError, r"batches is an async function"),
        ({"on_before_visible": awaited}, IngestError, r"on_before_visible is an async function"),
        ({"batches": of_nothing}, ValueError, r"batches takes \(\) -> .*: expected a function of the high watermark"),
        (
            {"batches": lambda *, source: []},
            ValueError,
            r"batches takes \(\*, source\): expected a function of the high w",
        ),
    ],
)
def test_functions_that_cannot_be_called_are_refused_at_once(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dag_of(**arguments)


def test_what_a_function_takes_besides_is_known_when_the_task_runs() -> None:
    dag_of(batches=lambda high_watermark, params, source: [], on_before_visible=lambda *arguments: None)
    dag_of(batches=dict)  # whose parameters Python cannot tell


class Base(DeclarativeBase):
    pass


class Number(Base):
    __tablename__ = "numbers"
    number: Mapped[int] = mapped_column(primary_key=True)


def test_the_base_of_mapped_classes_is_no_metadata() -> None:
    message = r"the class Base: expected a sqlalchemy\.MetaData, .*; pass Base\.metadata for all tables of its base$"
    with pytest.raises(ValueError, match=message):
        dag_of(metadata=Base)
    with pytest.raises(ValueError, match=message):
        metadata_of(f"{__name__}:Base", {}, {})


class Other(Base):
    __tablename__ = "others"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize("given", [Number, f"{__name__}:Number", lambda: Number], ids=["class", "path", "callable"])
def test_the_table_of_a_mapped_class_is_loaded_alone(given: Any, run: "Runner", dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE others (id int PRIMARY KEY); INSERT INTO others VALUES (7)")
    batches = [(1, None, [(Number.__table__, (1,))])]
    dag = dag_of(metadata=given, batches=lambda high_watermark: batches, delete=Delete.BEFORE_FIRST_BATCH)
    assert [table["table"] for table in run(dag).result["tables"]] == ["public.numbers"]
    assert fetch(dsn, "SELECT count(*) FROM others") == 1


def test_metadata_that_turns_out_to_be_none_is_refused(run: "Runner") -> None:
    done = run(dag_of(metadata=lambda: 3))
    assert isinstance(done.error, ValueError)
    assert "metadata gave a int: expected a sqlalchemy.MetaData, a Table or a mapped class" in str(done.error)


# What comes of it


def test_the_result_is_plain_json(run: "Runner") -> None:
    result = run(dag_of()).result
    assert json.loads(json.dumps(result)) == result
    assert (result["rows"], result["batches"], result["last_high_watermark"]) == (1, 1, 1)


def test_rows_and_high_watermark_are_on_the_events_of_the_outlets(run: "Runner") -> None:
    from airflow.models.asset import AssetEvent

    outlets = [Asset("numbers"), Asset(name="table", uri="postgres://localhost:5432/test/public/numbers")]
    assert run(dag_of(outlets=outlets)).state == "success"
    with create_session() as session:
        events = session.scalars(sa.select(AssetEvent).order_by(AssetEvent.id.desc()).limit(2)).all()
        extras = {event.asset.name: event.extra for event in events}
    expected = {"rows": 1, "high_watermark": 1, "tables": {"public.numbers": 1}}
    assert extras == {"numbers": expected, "table": expected}


@pytest.mark.parametrize("given", [metadata, numbers], ids=["metadata", "table"])
def test_a_copied_operator_keeps_the_tables_that_the_rows_carry(given: Any) -> None:
    batches = Recorder()
    operator = IngestOperator(task_id="ingest", metadata=given, batches=batches)
    copied = copy.deepcopy(operator)
    assert copied is not operator
    assert copied.metadata is given
    assert copied.batches is batches


def test_it_can_be_mapped(run: "Runner", dsn: str) -> None:
    def batches(high_watermark: Any, number: int) -> Iterator[Any]:
        yield number, None, [(numbers, (number,))]

    with DAG("mapped", schedule=None) as dag:
        IngestOperator.partial(task_id="ingest", max_active_tis_per_dagrun=1, metadata=numbers, batches=batches).expand(
            op_kwargs=[{"number": 1}, {"number": 2}]
        )
    assert run(dag).state == "success"
    assert fetch(dsn, ROWS) == [1, 2]


def stored(dag: DAG) -> Any:
    """What Airflow stores of a DAG, as its DAG processor sends it to another process."""
    module: Any = import_module("airflow.serialization.serialized_objects")
    kind = getattr(module, "DagSerialization", None) or module.SerializedDAG  # the latter before 3.2
    return msgspec.msgpack.decode(msgspec.msgpack.encode(kind.to_dict(dag)))


@pytest.mark.parametrize("given", [metadata, numbers, Number], ids=["metadata", "table", "class"])
def test_a_dag_of_mapped_tasks_can_be_stored(given: Any) -> None:
    with DAG("mapped", schedule=None) as dag:
        IngestOperator.partial(task_id="ingest", metadata=given, batches=one_batch).expand(high_watermark=[1, 2])
        task.ingest(metadata=given)(one_batch_of).expand(number=[1, 2])
    assert len(stored(dag)["dag"]["tasks"]) == 2


@pytest.mark.parametrize("nested", [False, True])
def test_a_dag_whose_arguments_hold_tables_and_their_names_can_be_stored(nested: bool, run: "Runner") -> None:
    def batches(high_watermark: Any, tables: Any, size: int) -> Iterator[Any]:
        yield 1, None, [(tables[0] if nested else tables, (size,))]

    op_kwargs = {"tables": [numbers] if nested else numbers, "size": "{{ 3 }}"}
    with DAG(f"test_{next(dag_numbers)}", schedule=None) as dag:
        IngestOperator(
            task_id=numbers.name,
            metadata=numbers,
            batches=batches,
            op_kwargs=op_kwargs,
            conversions={"number": numbers.c.number.name},
        )
    assert stored(dag)["dag"]["task_group"]["children"].keys() == {"numbers"}
    assert run(dag).result["rows"] == 1


# Killed


@pytest.fixture
def asleep(dsn: str) -> Callable[[], bool]:
    """A function that says whether somebody sleeps in the test's database."""
    query = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    return lambda: bool(fetch(dsn, query))


def sleep(conn: sa.Connection, batch_metadata: Any) -> None:
    conn.execute(sa.text("SELECT pg_sleep(60)"))


def test_a_killed_task_cancels_its_statement(run: "Runner", asleep: Callable[[], bool], dsn: str) -> None:
    def kill() -> None:
        until(asleep)
        os.kill(os.getpid(), signal.SIGTERM)  # which Airflow answers with on_kill

    killer = threading.Thread(target=kill)
    killer.start()
    done = run(dag_of(on_before_visible=sleep))
    killer.join()
    assert "canceling statement due to user request" in str(done.error)
    assert not asleep()
    assert fetch(dsn, "SELECT count(*) FROM numbers") == 0


def test_a_task_that_takes_too_long_leaves_no_statement_behind(run: "Runner", asleep: Callable[[], bool]) -> None:
    done = run(dag_of(on_before_visible=sleep, execution_timeout=timedelta(seconds=1)))
    assert type(done.error).__name__ == "AirflowTaskTimeout"
    until(lambda: not asleep())


def test_a_dry_run_logs_the_plan_and_changes_nothing(
    connect: "Connect", dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    connect()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE numbers (number int NOT NULL)")
        IngestOperator(task_id="ingest", metadata=numbers, batches=one_batch).dry_run()
        shown = capsys.readouterr()
        assert "public.numbers: in place, in steps" in shown.out + shown.err
        assert "added PRIMARY KEY (number)" in shown.out + shown.err
        assert connection.execute("SELECT to_regclass('numbers_pkey')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("mark", "deletes"),
    [
        (HighWatermark.LATEST, False),
        (HighWatermark.EARLIEST, True),
        (7, True),
        ("{{ params.mark }}", False),
        (lambda context, jinja_env: None, False),
    ],
)
def test_a_dry_run_knows_whether_an_unfinished_replacement_is_carried_on(
    connect: "Connect", dsn: str, capsys: pytest.CaptureFixture[str], mark: Any, deletes: bool
) -> None:
    connect()
    state = '{"pg-bulk-ingest": {"high-watermark": 1}, "airflow-ingest-provider": {"unfinished": true}}'
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE numbers (number int PRIMARY KEY); COMMENT ON TABLE numbers IS '{state}'")
    IngestOperator(
        task_id="ingest",
        metadata=numbers,
        batches=one_batch,
        high_watermark=mark,
        delete=Delete.BEFORE_FIRST_BATCH,
    ).dry_run()
    shown = capsys.readouterr()
    assert ("rows: replaced by a new table" in shown.out + shown.err) == deletes


@pytest.mark.parametrize("value", ["{{ params.choice }}", lambda context, jinja_env: None])
@pytest.mark.parametrize("argument", ["delete", "migrate", "conversions", "replace"])
def test_a_dry_run_takes_the_default_for_what_the_run_alone_knows_and_says_so(
    connect: "Connect", capsys: pytest.CaptureFixture[str], argument: str, value: Any
) -> None:
    connect()
    given: dict[str, Any] = {argument: value}
    IngestOperator(task_id="ingest", metadata=numbers, batches=one_batch, **given).dry_run()
    shown = capsys.readouterr()
    assert f"{argument} is known when the task runs: the plan is that of a run with" in shown.out + shown.err
    assert "public.numbers: create" in shown.out + shown.err
