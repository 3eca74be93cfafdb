"""The floor: a ready file, sent by `psql \\copy` as it is, with the SQL that somebody would write by hand around it."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.benchmarks.meter import ChildPeak
from tests.benchmarks.peers.base import Run, pieces, script
from tests.benchmarks.scenarios import Job


def prepare(job: Job) -> Run:
    """`psql`, or psycopg writing the files' bytes where there is no psql."""
    files = [Path(job.folder, f"{name}.txt") for name in job.tables]
    for place, file in enumerate(files):
        with file.open("wb") as written:
            written.writelines(pieces(job.shape.lines(job.keys_of(place), job.scenario.changes)))
    return _psql(job, files) if job.psql else _psycopg(job, files)


def _psql(job: Job, files: Sequence[Path]) -> Run:
    load = script(job)
    copies = [f"\\copy {into} from '{file}'" for into, file in zip(load.into, files, strict=True)]
    options = [option for command in (*load.before, *copies, *load.after, _PEAK) for option in ("-c", command)]
    line = [str(job.psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", *options, job.dsn]

    def run() -> ChildPeak | None:
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        return ChildPeak(int(done.stdout.split()[1]) * 1024) if done.stdout else None

    return run


_PEAK = "\\! grep VmHWM /proc/$PPID/status 2>/dev/null || true"
"""Has psql say how much memory it took, at its end."""


def _psycopg(job: Job, files: Sequence[Path]) -> Run:
    load = script(job)
    connection = psycopg.connect(job.dsn)

    def run() -> None:
        with connection:
            for statement in load.before:
                connection.execute(statement.encode())
            for into, file in zip(load.into, files, strict=True):
                with file.open("rb") as ready, connection.cursor().copy(f"COPY {into} FROM STDIN".encode()) as copy:
                    while piece := ready.read(1 << 20):
                        copy.write(piece)
            for statement in load.after:
                connection.execute(statement.encode())

    return run


def prepare_write_row(job: Job) -> Run:
    """psycopg's `Copy.write_row`, a Python tuple at a time."""
    load, rows = script(job), job.rows_now()
    connection = psycopg.connect(job.dsn)

    def run() -> None:
        with connection:
            for statement in load.before:
                connection.execute(statement.encode())
            with connection.cursor().copy(f"COPY {load.into[0]} FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
            for statement in load.after:
                connection.execute(statement.encode())

    return run
