"""The page of the documentation: tables with what they stand on."""

import datetime as dt
import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from airflow_ingest_provider.demo import server
from tests.benchmarks.peers.registry import FLOOR, PEERS
from tests.benchmarks.scenarios import SCENARIOS, Kind
from tests.benchmarks.suite import Case, Found, Plan
from tests.benchmarks.summary import Line, beside_one_table, cases, lines, stored_otherwise

_HEAD = (
    "peer",
    "rows/s",
    "time ÷ floor",
    "client CPU",
    "server CPU",
    "peak memory",
    "of it by the run",
    "WAL",
)

_HOW = """\
Every figure is the median over the rounds, and every ratio is to the floor in the same round, so that what else the
machine did hits both: **1 is the floor's time, 3 is three times as long**. Client and server CPU are multiples of the
CPU that the floor took on both sides together, and empty where that is too little to be measured; on a busy machine
they are steadier than time. Compare the ratios: the rows per second are this machine's.

- **The floor** is {floor}: a file that is ready, and around it the SQL that somebody would write by hand, in one
  transaction: the key after the rows of a first load, TRUNCATE for a refresh, a temporary table and
  `INSERT ... ON CONFLICT DO UPDATE` for an upsert, ALTER TABLE for a migration. Peers may beat it: by COPY's binary
  format, or by leaving unchanged rows alone.
- **Each measurement** is a process and a database of its own; peers take turns in every round. Importing, connecting
  and building the source come before the clock starts, as far as a peer lets them: psql's start is inside, some 10 ms,
  and what dlt prepares in a run, about a second.
- **The source** is what suits the peer best: a generator of tuples, at less than half a microsecond a row; an Arrow
  table for "this package, Arrow", ADBC and dlt; a DataFrame for pandas.
- **Statistics**: of a table that it has filled whole, this package gathers the planner's statistics (ANALYZE, a sample
  of 30,000 rows whatever the size). Nobody else does, and it is in the time of its first load with a key and refresh. A
  rewrite takes over those that there are, from PostgreSQL 18 on.
- **dlt** knows the key but builds no index for it, so it writes less.
- **An upsert** brings every fifth row of the table, **a full refresh** all: half of them changed, or none. This package
  replaces in place what hardly changed, which takes longer than a swap and writes next to no WAL.
- **A migration** adds a nullable column at the end, which changes the catalog alone, or makes the key bigint, which
  rewrites the table; the run brings one new row.
- **Tables in turns**: the same rows dealt out to 2 and to 20 tables, one after the other, in one batch; for the floor,
  a file for each table.
- **Rows/s** are the rows of the batch; for a migration, those of the table.
- **Memory** is the client's: the peak of the process, modules and source included, and by how much the run raised it.
- **WAL** is what the server wrote for the run, in bytes per row as counted above.
- **Narrow** is an integer `id`, varchar, timestamp and numeric(12, 2). **Wide** is 20 columns, one value in ten NULL.
- **The same values**: after each run the values in the table are compared with those that the floor stored.
"""


@dataclass(frozen=True)
class Setting:
    """Where and when it was measured."""

    date: str
    postgresql: str
    durable: bool
    has_psql: bool
    arguments: tuple[str, ...]
    load: float

    @classmethod
    def of(cls, running: server.Server, durable: bool, arguments: Sequence[str]) -> "Setting":
        today = dt.datetime.now(dt.timezone.utc).date().isoformat()
        has_psql = (running.binaries / "psql").exists()
        return cls(today, server.version(running.binaries), durable, has_psql, tuple(arguments), os.getloadavg()[2])


def markdown(found: Found, plan: Plan, setting: Setting, plot: str | None) -> str:
    """The whole page."""
    floor = "`psql \\copy`" if setting.has_psql else "psycopg writing a file's bytes to COPY, for want of a psql,"
    parts = ["# Benchmark", _HOW.format(floor=floor)]
    if plot:
        parts.append(f"![Time as a multiple of the floor's, for each scenario and peer]({plot})")
    for case in cases(found):
        parts += [f"## {_title(case)}", _table(found, case), *_remarks(found, case)]
    parts += ["## Setting", "\n".join(_setting(plan, setting)), "## Versions", "\n".join(_versions(plan))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _title(case: Case) -> str:
    return f"{SCENARIOS[case.scenario].title}: {case.shape}, {case.rows:,} rows"


def _table(found: Found, case: Case) -> str:
    rows = [_cells(case, line) for line in lines(found, case)]
    ruled = ["---", *["---:"] * (len(_HEAD) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (_HEAD, ruled, *rows))


def _cells(case: Case, line: Line) -> list[str]:
    title = PEERS[line.peer].title
    return [
        f"**{title}**" if title.startswith("this package") else title,
        f"{line.rows_per_second:,.0f}",
        f"{line.ratio:.2f}",
        "" if line.client_cpu is None else f"{line.client_cpu:.2f}",
        "" if line.server_cpu is None else f"{line.server_cpu:.2f}",
        f"{line.peak_memory / 2**20:,.0f} MB",
        f"{line.memory_growth / 2**20:,.0f} MB",
        f"{line.wal_bytes / case.counted:,.1f} B/row",
    ]


def _remarks(found: Found, case: Case) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for (left_case, peer), reason in found.left_out.items():
        if left_case == case:
            reasons.setdefault(reason, []).append(PEERS[peer].title)
    if reasons:
        yield "Left out: " + "; ".join(f"{', '.join(titles)} ({why})" for why, titles in reasons.items()) + "."
    beside = beside_one_table(found, case, "rows")
    if SCENARIOS[case.scenario].kind is Kind.SPREAD and beside is not None:
        yield f"This package took {beside:.2f} times as long as for one table with as many rows."
    others = stored_otherwise(found, case)
    if others:
        yield f"Other values than the floor's were stored by {', '.join(PEERS[peer].title for peer in others)}."


def _setting(plan: Plan, setting: Setting) -> Iterator[str]:
    yield f"- Date: {setting.date}"
    yield f"- Command: `{' '.join(['python -m tests.benchmarks', shlex.join(setting.arguments)]).strip()}`"
    yield "- The peers: `pip install -e '.[test,benchmark]'`"
    yield f"- Rounds: {plan.rounds}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs for client and server together"
    yield f"- Machine: {machine}; load average over 15 minutes {setting.load:.1f}"
    durable = "PostgreSQL's own settings" if setting.durable else _FAST
    yield f"- Server: PostgreSQL {setting.postgresql} on a Unix socket, {durable}"


_FAST = (
    "data in memory where there is room, with fsync, synchronous_commit, full_page_writes and autovacuum off, so that "
    "no disk is measured"
)


def _versions(plan: Plan) -> Iterator[str]:
    yield f"- Python {platform.python_version()}"
    names = {PEERS[name].distribution for name in plan.peers if name != FLOOR.name}
    yield from (f"- {name} {_version(name)}" for name in sorted(names | {"psycopg", "orjson", "pgpq", "pyarrow"}))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "is not installed"
