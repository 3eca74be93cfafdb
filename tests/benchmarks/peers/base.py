"""What a peer is, and the plain SQL that several of them need."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from tests.benchmarks.scenarios import SCHEMA, TABLE, Job, Kind

PIECE = 1 << 20
"""Characters sent to COPY at once."""

Run = Callable[[], object]

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Peer:
    """Somebody who loads rows. `prepare` builds the source and connects, and gives what is timed.

    `lacks` says, for what the peer does not do, why. A peer that keeps state beside the rows fills the table for later
    runs by itself.
    """

    name: str
    title: str
    distribution: str
    module: str
    prepare: Callable[[Job], Run]
    fills: bool = False
    lacks: Mapping[Kind, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Script:
    """A load by hand: a COPY for each table, with statements before and after them, in one transaction."""

    before: tuple[str, ...]
    into: tuple[str, ...]
    after: tuple[str, ...] = ()


def table_name(name: str = TABLE) -> str:
    return f"{SCHEMA}.{name}"


def create_table(job: Job) -> str:
    return _create(job.table())


def _create(table: sa.Table) -> str:
    return str(CreateTable(table).compile(dialect=_DIALECT))


def make_table(job: Job) -> None:
    """The empty table, for peers that leave that to others; outside of what is timed."""
    with psycopg.connect(job.dsn) as connection:
        connection.execute(create_table(job).encode())


def script(job: Job) -> Script:
    """What somebody who knows PostgreSQL would do for the job."""
    table, columns = table_name(), job.shape.columns
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    match job.scenario.kind:
        case Kind.LOAD | Kind.SPREAD:
            into = tuple(map(table_name, job.tables))
            create = [_create(one).replace(", \n\tPRIMARY KEY (id)", "") for one in job.metadata().tables.values()]
            keys = [f"ALTER TABLE {name} ADD PRIMARY KEY (id)" for name in into if job.scenario.keyed]
            return Script(tuple(create), into, tuple(keys))
        case Kind.REFRESH:
            return Script((f"TRUNCATE {table}",), (table,))
        case Kind.UPSERT:
            new = f"CREATE TEMPORARY TABLE incoming (LIKE {table}) ON COMMIT DROP"
            merge = f"INSERT INTO {table} SELECT * FROM incoming ON CONFLICT (id) DO UPDATE SET {sets}"
            return Script((new,), ("incoming",), (merge,))
        case Kind.MIGRATE:
            change = "ALTER id TYPE bigint" if job.scenario.rewrites else "ADD note text"
            return Script((f"ALTER TABLE {table} {change}",), (f"{table} ({', '.join(columns)})",))


def pieces(lines: Iterator[str]) -> Iterator[bytes]:
    """The lines in large pieces."""
    waiting: list[str] = []
    size = 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= PIECE:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()


def fill(job: Job) -> None:
    """The table with all its rows, as a run before would have left it."""
    load = script(job.filling)
    with psycopg.connect(job.dsn) as connection:
        for statement in load.before:
            connection.execute(statement.encode())
        with connection.cursor().copy(f"COPY {load.into[0]} FROM STDIN".encode()) as copy:
            for piece in pieces(job.shape.lines(job.all_keys)):
                copy.write(piece)
        for statement in load.after:
            connection.execute(statement.encode())
