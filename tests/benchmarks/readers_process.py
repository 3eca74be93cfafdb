"""One reader in a process of its own: no work of the loading process, and no GIL of its, makes a read wait."""

import json
import select
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field

import psycopg

CONTROL = "others"
"""A table like the one that is loaded, which nobody writes: what reads of it wait for is the machine."""

# Every relation has the column; a statement that sees more than one version of the table is torn.
_READ = "SELECT count(*), min(version), max(version) FROM {}"


@dataclass(frozen=True)
class Reader:
    """What a reader reads, over and over: a statement each, in one transaction where they are several."""

    relations: tuple[str, ...]
    sleep: float = 0.0
    """Seconds that it sleeps inside its transaction, after its first read."""
    pause: float = 0.003
    """Seconds between two turns. Readers without a pause would measure how two cores serve eight processes."""


READERS = {
    "table": Reader(("prices",)),
    "view": Reader(("cheap",)),
    "view of a view": Reader(("cheapest",)),
    "materialized view": Reader(("price_counts",)),
    "view of both": Reader(("all_prices",)),
    "sleeps in its transaction": Reader(("prices", "prices"), sleep=0.3, pause=0.2),
    "view, then table": Reader(("cheap", "prices")),
    "table, then view": Reader(("prices", "cheap")),
}


@dataclass(frozen=True)
class Job:
    """Which reader reads where, and how many rows each relation has in every version."""

    reader: str
    dsn: str
    counts: dict[str, int]


@dataclass
class Seen:
    """What a reader saw: its reads in microseconds, the torn ones, and its failures by their messages."""

    reads: list[int] = field(default_factory=list)
    control: list[int] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def main(text: str) -> int:
    """Read until the input ends, which it does when the parent says so, or dies; then tell what was seen."""
    job = Job(**json.loads(text))
    watch = Watch(job)
    watch.turn()
    watch.seen = Seen(torn=watch.seen.torn, failures=watch.seen.failures)  # the first turn plans and fills caches
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], READERS[job.reader].pause)[0]:
        watch.turn()
    watch.close()
    sys.stdout.write(json.dumps(vars(watch.seen)) + "\n")
    return 0


class Watch:
    """A reader at work."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._reader = READERS[job.reader]
        self._newest = 0
        self._connection = self._connect()
        self.seen = Seen()

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._job.dsn, autocommit=True, application_name=self._job.reader)

    def close(self) -> None:
        self._connection.close()

    def turn(self) -> None:
        """One read of the control, and all reads of the reader; a failure is noted, and the next turn starts anew."""
        try:
            self.seen.control.append(self._timed(CONTROL))
            several = len(self._reader.relations) > 1
            with self._connection.transaction() if several else nullcontext():
                for place, relation in enumerate(self._reader.relations):
                    if place == 1 and self._reader.sleep:
                        self._connection.execute("SELECT pg_sleep(%s)", [self._reader.sleep])
                    self.seen.reads.append(self._timed(relation))
        except psycopg.Error as error:
            self.seen.failures[f"{error.sqlstate}: {str(error).splitlines()[0]}"] += 1
            if self._connection.closed:
                self._connection = self._connect()

    def _timed(self, relation: str) -> int:
        began = time.perf_counter()
        row = self._connection.execute(_READ.format(relation).encode()).fetchone()
        took = time.perf_counter() - began
        assert row is not None
        if relation != CONTROL:
            self._check(relation, *row)
        return round(took * 1e6)

    def _check(self, relation: str, count: int, oldest: int | None, newest: int | None) -> None:
        """A whole version, and none older than one seen before."""
        if count == self._job.counts[relation] and oldest == newest and (newest or 0) >= self._newest:
            self._newest = newest or 0
        else:
            seen = f"{count} rows of versions {oldest} to {newest} after {self._newest}"
            self.seen.torn.append(f"{relation}: {seen}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
