"""An Airflow of the tests' own: its settings must be there before anything imports it."""

import atexit
import json
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from airflow.sdk import DAG

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "example_dags"

HOME = tempfile.mkdtemp(prefix="ingest-airflow-")
# Not by a fixture: Airflow writes logs until the end of the process.
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}

# Airflow and what it stands on warn about each other, on import too; we answer for our own modules.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_module("airflow.sdk.definitions.decorators")
WARNINGS = pytest.mark.filterwarnings("ignore", "error:::airflow_ingest_provider")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(WARNINGS)


@dataclass(frozen=True)
class Run:
    """How the run of a DAG of one task ended: what the task returned, or what it raised."""

    state: str
    result: Any
    error: BaseException | None
    dag_run: Any


Runner = Callable[..., Run]
Connect = Callable[..., None]


@pytest.fixture(scope="session")
def airflow() -> None:
    """Airflow's own database, made once a session, which takes some seconds."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def connect(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """A function that defines an Airflow connection: to the test's database, but for what it is told."""

    def define(conn_id: str = "postgres_default", **fields: Any) -> None:
        found = conninfo_to_dict(dsn)
        base = {
            "conn_type": "postgres",
            "host": found["host"],
            "port": int(found["port"] or 0),
            "login": found["user"],
            "schema": found["dbname"],
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(base | fields))

    return define


@pytest.fixture
def run(airflow: None, connect: Connect, errors: list[BaseException]) -> Iterator[Runner]:
    """A function that runs a DAG of one task, with `postgres_default` leading to the test's database."""
    connect()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield lambda dag, **conf: _run(dag, conf, errors)
    for number, handler in handlers.items():  # a task that is run in this process leaves its own
        signal.signal(number, handler)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What tasks raise, which `dag.test()` only logs."""
    from airflow_ingest_provider.operators.ingest import IngestOperator

    execute = IngestOperator.execute
    raised: list[BaseException] = []

    def noting(self: IngestOperator, context: Any) -> Any:
        try:
            return execute(self, context)
        except BaseException as error:
            raised.append(error)
            raise

    monkeypatch.setattr(IngestOperator, "execute", noting)
    return raised


def _run(dag: "DAG", conf: dict[str, Any], errors: list[BaseException]) -> Run:
    (task,) = dag.tasks
    _make_known(dag)
    dag_run = dag.test(run_conf=conf)
    result = None
    if not task.is_mapped:
        (task_instance,) = dag_run.get_task_instances()
        task_instance.task = task
        result = task_instance.xcom_pull(task.task_id)
    return Run(str(dag_run.state), result, next(iter(errors), None), dag_run)


def _make_known(dag: "DAG") -> None:
    """A DAG that is in no file of the DAGs folder has to be stored before it can be run."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:  # before 3.2
        from airflow.models.dagbag import DagBag, sync_bag_to_db  # type: ignore[no-redef]
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
    sync_bag_to_db(bag, "dags-folder", None)
