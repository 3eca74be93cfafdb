"""Refreshes and rebuilds of a table, with readers at work on it and on its views."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import psycopg
import sqlalchemy as sa

from tests.benchmarks.readers_process import CONTROL, READERS, Job, Seen

ROOT = Path(__file__).parents[2]
OURS, PEER = "airflow_ingest_provider", "pg_bulk_ingest"

_PATIENCE = 60.0
"""Seconds until a reader that does not end is given up."""

RELATIONS = ("prices", "cheap", "cheapest", "price_counts", "all_prices")

_VIEWS = f"""
    CREATE VIEW cheap AS SELECT id, name, price, version FROM prices WHERE price < 50;
    CREATE VIEW cheapest AS SELECT id, price, version FROM cheap WHERE price < 10;
    CREATE MATERIALIZED VIEW price_counts AS SELECT name, version, count(*) AS items FROM prices GROUP BY name, version;
    CREATE UNIQUE INDEX price_counts_key ON price_counts (name, version);
    CREATE VIEW all_prices AS SELECT name, version FROM prices UNION ALL SELECT name, version FROM price_counts;
    CREATE TABLE {CONTROL} (LIKE prices INCLUDING INDEXES);
    INSERT INTO {CONTROL} SELECT * FROM prices;
    ANALYZE {CONTROL};
"""


@dataclass(frozen=True)
class Plan:
    """How much is run, under which readers; `options` go to every `ingest`, of this package alone."""

    refreshes: int = 500
    rebuilds: int = 100
    rows: int = 2000
    readers: tuple[str, ...] = tuple(READERS)
    options: Mapping[str, Any] = field(default_factory=dict)

    def steps(self) -> Iterator[bool]:
        """Whether each run is a rebuild, with the rebuilds spread evenly among the refreshes."""
        total = self.refreshes + self.rebuilds
        for number in range(total):
            yield (number + 1) * self.rebuilds // total > number * self.rebuilds // total


@dataclass
class Measured:
    """What happened to the runs of a package and to its table's readers."""

    package: str
    version: str
    runs: list[float] = field(default_factory=list)
    """The seconds of each run, failed or not."""
    replaced: int = 0
    """Runs after which another table had the name."""
    failed_runs: Counter[str] = field(default_factory=Counter)
    deadlocks: int = 0
    seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def reads(self) -> list[int]:
        """Microseconds of every read, of all readers."""
        return sorted(read for seen in self.seen.values() for read in seen.reads)

    @property
    def control(self) -> list[int]:
        """Microseconds of every read of the control."""
        return sorted(read for seen in self.seen.values() for read in seen.control)

    @property
    def torn(self) -> list[str]:
        return [read for seen in self.seen.values() for read in seen.torn]

    @property
    def failures(self) -> Counter[str]:
        return sum((seen.failures for seen in self.seen.values()), Counter())


class Loader:
    """Loads the table `prices` with a package whose `ingest` takes what ours takes."""

    def __init__(self, engine: sa.Engine, package: str, plan: Plan) -> None:
        self._engine = engine
        self._package: Any = import_module(package)
        self._options = plan.options if package == OURS else {}
        self._rows = plan.rows
        self._stock: type[sa.Integer] = sa.Integer
        self.version = 0

    def refresh(self) -> None:
        """Replace all rows by those of the next version."""
        self._ingest(self.version + 1, range(self._rows), delete=self._package.Delete.BEFORE_FIRST_BATCH)
        self.version += 1

    def rebuild(self) -> None:
        """Give a column, which no view reads, the other one of two types; with one row, as it is."""
        before = self._stock
        self._stock = sa.BigInteger if before is sa.Integer else sa.Integer
        try:
            self._ingest(self.version, range(1))
        except BaseException:
            self._stock = before
            raise

    def _ingest(self, version: int, ids: range, **options: Any) -> None:
        prices = sa.Table(
            "prices",
            sa.MetaData(),
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("name", sa.String, index=True),
            sa.Column("price", sa.Numeric(10, 2)),
            sa.Column("stock", self._stock),
            sa.Column("version", sa.Integer),
            schema="public",
        )

        def batches(high_watermark: Any) -> Any:
            rows = ((number, f"item {number % 20}", f"{number % 100}.50", number, version) for number in ids)
            yield version, None, ((prices, row) for row in rows)

        options |= {"high_watermark": self._package.HighWatermark.EARLIEST, **self._options}
        with self._engine.connect() as connection:
            self._package.ingest(connection, prices.metadata, batches, **options)


def measure(
    dsn: str, url: sa.URL, package: str, plan: Plan, say: Callable[[str], object] = lambda line: None
) -> Measured:
    """Fill an empty database, then refresh and rebuild the table in it under the plan's readers."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    loader = Loader(engine, package, plan)
    loader.refresh()
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(_VIEWS.encode())
        counts = {name: _value(admin, f"SELECT count(*) FROM {name}") for name in RELATIONS}
        deadlocks = _value(admin, _DEADLOCKS)
        measured = Measured(package, version(package))
        with _reading([Job(name, dsn, counts) for name in plan.readers]) as seen:
            for number, rebuilds in enumerate(plan.steps(), start=1):
                _run(admin, loader.rebuild if rebuilds else loader.refresh, measured)
                if number % 50 == 0:
                    say(f"{package}: {number} runs, {sum(measured.failed_runs.values())} failed")
        measured.seen = dict(zip(plan.readers, seen, strict=True))
        measured.deadlocks = _value(admin, _DEADLOCKS) - deadlocks
    engine.dispose()
    return measured


# The readers have ended, and with that told their counts; the loader's backends have too.
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def _value(admin: psycopg.Connection, query: str) -> int:
    row = admin.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _run(admin: psycopg.Connection, work: Callable[[], None], measured: Measured) -> None:
    before = _value(admin, "SELECT 'prices'::regclass::oid::bigint")
    began = time.monotonic()
    try:
        work()
    except Exception as error:  # noqa: BLE001 - a failed run is a result, whoever failed
        measured.failed_runs[f"{type(error).__name__}: {str(error).splitlines()[0]}"] += 1
    measured.runs.append(time.monotonic() - began)
    measured.replaced += before != _value(admin, "SELECT 'prices'::regclass::oid::bigint")


@contextmanager
def _reading(jobs: list[Job]) -> Iterator[list[Seen]]:
    """Readers at work during the block; what they saw is in the list after it."""
    seen: list[Seen] = []
    processes: list[subprocess.Popen[str]] = []
    try:
        processes.extend(_start(job) for job in jobs)  # those that did start are ended, should one fail to
        for process in processes:
            if _stream(process.stdout).readline() != "ready\n":
                raise RuntimeError(f"a reader did not start: {process.communicate(timeout=_PATIENCE)[1]}")
        yield seen
        for process in processes:
            _stream(process.stdin).close()
            process.stdin = None  # communicate would flush it
        for process in processes:
            told, complaint = process.communicate(timeout=_PATIENCE)
            if process.returncode:
                raise RuntimeError(f"a reader broke: {complaint}")
            found = json.loads(told)
            seen.append(Seen(**found | {"failures": Counter(found["failures"])}))
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def _start(job: Job) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.readers_process", json.dumps(asdict(job))]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
