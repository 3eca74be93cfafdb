"""One measurement in a process of its own, so that its memory and CPU are nobody else's: a job in, JSON out."""

import json
import sys
from dataclasses import asdict
from typing import Any

import psycopg

from tests.benchmarks.meter import measure
from tests.benchmarks.peers.base import fill, table_name
from tests.benchmarks.peers.registry import PEERS
from tests.benchmarks.scenarios import Job


def main(task: str, text: str) -> int:
    """Do the task, "fill" or "measure", and write what came of it as the last line of the output."""
    job = Job.from_json(text)
    outcome = _fill(job) if task == "fill" else _measure(job)
    sys.stdout.write(f"\n{json.dumps(outcome)}\n")
    return 0


def _fill(job: Job) -> dict[str, Any]:
    """Give a database the table with all its rows: with a peer's own first load, or with a COPY for all others."""
    if job.peer:
        PEERS[job.peer].prepare(job.filling)()
    else:
        fill(job)
    with psycopg.connect(job.dsn, autocommit=True) as connection:
        connection.execute("VACUUM (FREEZE, ANALYZE)")
    return {}


def _measure(job: Job) -> dict[str, Any]:
    used = measure(PEERS[job.peer].prepare(job), job.dsn, job.postmaster)
    return {"used": asdict(used), "stored": _stored(job)}


def _stored(job: Job) -> str:
    """A figure for the values that the tables hold now: the same for the same values, in whatever order."""
    columns = ", ".join(job.shape.columns)
    rows = " UNION ALL ".join(f"SELECT ROW({columns})::text AS row FROM {table_name(name)}" for name in job.tables)
    query = f"SELECT count(*) || ' ' || sum(hashtextextended(row, 0)) FROM ({rows}) stored"
    with psycopg.connect(job.dsn) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(query.encode()).fetchone()
    assert found is not None
    return str(found[0])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
