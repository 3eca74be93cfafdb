"""What readers of a table notice while it is refreshed and rebuilt under them, beside pg-bulk-ingest's.

`python -m tests.benchmarks.readers` starts a server of its own, runs 500 full refreshes and 100 rebuilds of a small
table under eight readers, and writes docs/readers.md and docs/readers.svg.
"""

import argparse
import shlex
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import psycopg

from airflow_ingest_provider.demo import server as demo_server
from tests.benchmarks.readers_report import write_report
from tests.benchmarks.readers_runs import OURS, PEER, Plan, measure


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Measure both packages as the command line says, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.readers", description=__doc__)
    parser.add_argument("--refreshes", type=int, default=500)
    parser.add_argument("--rebuilds", type=int, default=100)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--lock-timeout", type=int, help="milliseconds; ingest's own default if left out")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/readers.md"),
        metavar="FILE",
        help="where the report goes, its plot beside it (default: docs/readers.md)",
    )
    given = parser.parse_args(arguments)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    options = {"lock_timeout": timedelta(milliseconds=given.lock_timeout)} if given.lock_timeout else {}
    plan = Plan(given.refreshes, given.rebuilds, given.rows, options=options)
    measured = []
    with demo_server.running(durable=False) as server, psycopg.connect(server.dsn(), autocommit=True) as admin:
        for package in (OURS, PEER):
            if find_spec(package) is None:
                continue
            admin.execute(f"CREATE DATABASE {package}".encode())
            url = server.url("psycopg", package)
            measured.append(measure(server.dsn(package), url, package, plan, _say))
        command = shlex.join(["python", "-m", "tests.benchmarks.readers", *arguments])
        version = demo_server.version(server.binaries)
    write_report(given.output, measured, plan, command, version)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
