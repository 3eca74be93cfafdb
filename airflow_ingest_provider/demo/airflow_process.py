"""A worker process with an Airflow of its own: temporary home, SQLite metadata, one connection."""

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_ingest_provider.demo.errors import DemoError

CONNECTION = "POSTGRES_DEFAULT"


@dataclass(frozen=True)
class Worker:
    """A running worker: see the module `worker` for what it is asked and answers."""

    process: subprocess.Popen[str]
    log: Path

    def ask(self, request: dict[str, Any], meanwhile: Callable[[], None]) -> dict[str, Any]:
        """The answer to a request; `meanwhile` is called a few times a second until it comes."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self.answer(meanwhile)

    def answer(self, meanwhile: Callable[[], None]) -> dict[str, Any]:
        """The worker's next answer; DemoError if it has none."""
        answers = self.process.stdout
        assert answers is not None
        while not select.select([answers], [], [], 0.25)[0]:
            meanwhile()
        line = answers.readline()
        if not line:
            raise DemoError(f"Airflow ended without an answer. {self.reason()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def reason(self) -> str:
        """The last exception in Airflow's log, or else its last lines; and where the log is."""
        log = self.log.read_text(errors="replace")
        raised = re.findall(r"^[A-Za-z_][\w.]*: .+", log, re.MULTILINE)
        told = raised[-1:] or log.splitlines()[-10:]
        return "\n".join([*told, f"Airflow's log: {self.log}"])


@contextmanager
def worker(home: Path, connection: str, dag_file: Path, dag_id: str, task_id: str) -> Iterator[Worker]:
    """A worker for one DAG, ended with the block.

    `home` is the folder to make for all that Airflow writes; a log of the same name is put beside it.
    `connection` is the JSON of the connection postgres_default.
    """
    log = home.with_suffix(".log")
    module = "airflow_ingest_provider.demo.worker"
    home.mkdir()
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(dag_file), dag_id, task_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=home,
            env=_environment(home, connection, dag_file.parent),
            start_new_session=True,  # Ctrl-C reaches us alone, and we end it
        )
    with process:
        try:
            yield Worker(process, log)
        finally:
            process.kill()  # nothing of it is worth keeping: its metadata database goes too


def _environment(home: Path, connection: str, dags: Path) -> dict[str, str]:
    """Ours without settings of another Airflow, whose metadata database is none of our business."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        f"AIRFLOW_CONN_{CONNECTION}": connection,
    }
