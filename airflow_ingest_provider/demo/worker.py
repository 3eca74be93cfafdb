"""The process in which Airflow runs a DAG for the demo: a request a line in, an answer a line out, in JSON.

It is a process of its own so that Airflow finds its settings in the environment when it is imported,
and so that whatever it prints can go elsewhere. A request is the configuration of a DAG run; the answer
is the run's state and what its task returned.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG


def main(dag_file: str, dag_id: str, task_id: str) -> None:
    """Answer until the input ends; a first answer, unasked, says that Airflow is ready, and which one."""
    answers = _take_stdout()
    for answer in _answers(Path(dag_file), dag_id, task_id):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _take_stdout() -> IO[str]:
    """Standard output for the answers alone: what else is printed joins standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _answers(dag_file: Path, dag_id: str, task_id: str) -> Iterator[dict[str, Any]]:
    from airflow import __version__
    from airflow.utils.db import initdb

    initdb()
    dag = _find_dag(dag_file, dag_id)
    yield {"airflow": __version__}
    for request in sys.stdin:
        run = dag.test(run_conf=json.loads(request))
        task = run.get_task_instance(task_id)
        result = task.xcom_pull(task_id) if task else None
        yield {"state": str(run.state), "result": result}


def _find_dag(dag_file: Path, dag_id: str) -> "DAG":
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    bag = DagBag(str(dag_file))
    if bag.import_errors:
        raise ImportError("; ".join(bag.import_errors.values()))
    return bag.dags[dag_id]


if __name__ == "__main__":
    main(*sys.argv[1:])
