"""The demo itself: Airflow runs the flights DAG three times, and each run carries on from the one before."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from airflow_ingest_provider.demo.airflow_process import Worker, worker
from airflow_ingest_provider.demo.display import Display
from airflow_ingest_provider.demo.errors import DemoError, sentence
from airflow_ingest_provider.demo.target import Target, private_target, reach

DAG_ID = "flights_incremental"
TASK_ID = "flights"
SCHEMA, TABLE = "nycflights13", "flights"
FLIGHTS = 336_776
"""All flights that left New York City in 2013."""

RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("up to June", {"until": "2013-06-30"}),
    ("the rest", {"until": None}),
    ("once more", {"until": None}),
)
"""What each run is about, and the configuration it is triggered with."""

_COUNT = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(SCHEMA, TABLE))


def run(*, dsn: str | None, keep: bool) -> None:
    """Show the package at work, in a private PostgreSQL or the database of `dsn`; DemoError if it fails."""
    display = Display()
    dag_file = find_example(DAG_ID)
    try:
        with ExitStack() as stack:
            target = _target(stack, display, dsn, keep)
            results = _load(display, target, dag_file)
            display.report([(name, result) for (name, _), result in zip(RUNS, results, strict=True)])
            _say_what_is_there(display, target)
    except psycopg.Error as error:
        raise DemoError(f"the demo cannot go on, since PostgreSQL says: {sentence(error)}") from error
    _say_where_to_look(display, target, keep)


def find_example(dag_id: str) -> Path:
    """The file of an example DAG: inside the package where that is installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    places = (package / "example_dags", package.parent / "example_dags")
    found = [place / f"{dag_id}.py" for place in places if (place / f"{dag_id}.py").exists()]
    if not found:
        raise DemoError(f"no {dag_id}.py in {places[0]} or {places[1]}: install the package again")
    return found[0]


def _target(stack: ExitStack, display: Display, dsn: str | None, keep: bool) -> Target:
    if dsn is None:
        with display.step("Starting a private PostgreSQL"):
            return stack.enter_context(private_target(keep=keep))
    target = reach(dsn)
    display.say(f"Using the schema {SCHEMA} of database {target.database}, PostgreSQL {target.version}")
    return target


def _load(display: Display, target: Target, dag_file: Path) -> list[dict[str, Any]]:
    """What the task returned, for each of the runs."""
    with (
        _scratch_folder() as folder,
        worker(folder / "airflow", target.airflow_connection, dag_file, DAG_ID, TASK_ID) as airflow,
        psycopg.connect(target.dsn, autocommit=True) as watching,
    ):
        with display.step("Starting Airflow"):
            airflow.answer(meanwhile=lambda: None)
        return [_run_dag(display, airflow, watching, *described) for described in RUNS]


def _run_dag(
    display: Display, airflow: Worker, watching: psycopg.Connection, name: str, configuration: dict[str, Any]
) -> dict[str, Any]:
    with display.step(f"Running the DAG {DAG_ID}, {name}", rows=FLIGHTS) as show:
        answer = airflow.ask(configuration, meanwhile=lambda: show(_rows_so_far(watching)))
    if answer["state"] != "success":
        raise DemoError(f"the DAG run is {answer['state']}. {airflow.reason()}")
    result: dict[str, Any] = answer["result"]
    return result


def _rows_so_far(watching: psycopg.Connection) -> int | None:
    """Rows that others can see by now; None where the table is not there yet, or busy, or not ours to read."""
    errors = psycopg.errors
    with (
        suppress(errors.UndefinedTable, errors.LockNotAvailable, errors.QueryCanceled, errors.InsufficientPrivilege),
        watching.transaction(),
    ):
        watching.execute("SET LOCAL lock_timeout = '100ms'")
        watching.execute("SET LOCAL statement_timeout = '1s'")
        row = watching.execute(_COUNT).fetchone()
        return int(row[0]) if row else None
    return None


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """A temporary folder, of which a log stays if the demo fails: the error names it."""
    folder = Path(tempfile.mkdtemp(prefix="airflow-ingest-demo-"))
    try:
        yield folder
    except DemoError:
        shutil.rmtree(folder / "airflow", ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _say_what_is_there(display: Display, target: Target) -> None:
    with psycopg.connect(target.dsn) as connection:
        (rows,) = connection.execute(_COUNT).fetchone() or (0,)
    display.say(f"\nThe table {SCHEMA}.{TABLE} holds {rows:,} rows.")


def _say_where_to_look(display: Display, target: Target, keep: bool) -> None:
    if target.server is None:
        display.say(f"It stays. Remove it with: DROP SCHEMA {SCHEMA} CASCADE")
    elif keep:
        display.say(f"The server goes on. Look at it:  {target.psql}")
        display.say(f"End it, and its files with it:   kill -INT {target.server.process.pid}")
    else:
        display.say("The server is gone again; with --keep it stays for a look with psql.")
