"""Runs the measurements, peers taking turns, each in a process and a database of its own."""

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from airflow_ingest_provider.demo.server import Server
from tests.benchmarks.meter import Used
from tests.benchmarks.peers.base import Peer
from tests.benchmarks.peers.registry import FLOOR, PEERS
from tests.benchmarks.scenarios import SCENARIOS, UPSERT_STEP, Job, Kind

ROOT = Path(__file__).parents[2]

_LONGEST = 1800.0
"""Seconds after which a measurement is given up."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured. `patience` is how many seconds a peer may be expected to take at a larger size."""

    rows: tuple[int, ...] = (100_000,)
    rounds: int = 3
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    shapes: tuple[str, ...] = ("narrow", "wide")
    peers: tuple[str, ...] = tuple(PEERS)
    patience: float = 60.0


@dataclass(frozen=True)
class Case:
    """What peers are compared at."""

    rows: int
    shape: str
    scenario: str

    @property
    def counted(self) -> int:
        """The rows that a run is said to have done: those of its batch, or of the table that it migrates."""
        return self.rows // UPSERT_STEP if SCENARIOS[self.scenario].kind is Kind.UPSERT else self.rows


@dataclass(frozen=True)
class Measured:
    """One measurement; `stored` stands for the values that the table held afterwards."""

    case: Case
    peer: str
    round: int
    used: Used
    stored: str


@dataclass
class Found:
    """All that was measured, and why the rest was not."""

    measured: list[Measured] = field(default_factory=list)
    left_out: dict[tuple[Case, str], str] = field(default_factory=dict)

    def seconds(self, case: Case, peer: str) -> float | None:
        """The longest that the peer took."""
        return max((one.used.seconds for one in self.measured if (one.case, one.peer) == (case, peer)), default=None)


Template = Callable[[str, str], str]
"""The name of the database that a peer has filled with a shape's rows; clones of it are measured."""


class Suite:
    """Measures on a server, and tells `say` how it goes."""

    def __init__(self, server: Server, plan: Plan, say: Callable[[str], object]) -> None:
        psql = server.binaries / "psql"
        self._server = server
        self._plan = plan
        self._say = say
        self._psql = str(psql) if psql.exists() else None
        self._numbers = itertools.count(1)
        self._admin = psycopg.connect(server.dsn(), autocommit=True)

    def run(self) -> Found:
        """Everything that is planned, the floor always."""
        found = Found()
        peers = [PEERS[name] for name in self._plan.peers if name != FLOOR.name]
        with self._admin:
            for rows in self._plan.rows:
                with self._filled(rows) as template:
                    turns = itertools.product(range(self._plan.rounds), self._plan.shapes, self._plan.scenarios)
                    for number, shape, name in turns:
                        first = number % max(len(peers), 1)  # not the same one every time
                        for peer in (FLOOR, *peers[first:], *peers[:first]):
                            self._one(found, Case(rows, shape, name), peer, number, template)
        return found

    def _one(self, found: Found, case: Case, peer: Peer, number: int, template: Template) -> None:
        if (case, peer.name) in found.left_out:
            return
        reason = self._obstacle(found, case, peer)
        if reason is None:
            try:
                outcome = self._measure(case, peer, template)
            except subprocess.SubprocessError as error:
                if peer is FLOOR:
                    raise
                reason = _why(error)
        if reason is None:
            used = Used(**outcome["used"])
            found.measured.append(Measured(case, peer.name, number, used, outcome["stored"]))
            told = f"{case.counted / used.seconds:,.0f} rows/s"
        else:
            found.left_out[case, peer.name] = told = f"{reason}"
        self._say(f"round {number + 1}: {case.rows:,} {case.shape} {case.scenario}: {peer.title}: {told}")

    def _obstacle(self, found: Found, case: Case, peer: Peer) -> str | None:
        kind = SCENARIOS[case.scenario].kind
        if kind in peer.lacks:
            return peer.lacks[kind]
        if find_spec(peer.module) is None:
            return "not installed"
        for rows in (rows for rows in self._plan.rows if rows < case.rows):
            took = found.seconds(replace(case, rows=rows), peer.name)
            if took and took * case.rows / rows > self._plan.patience:
                return f"would take more than {self._plan.patience:g} seconds"
        return None

    def _measure(self, case: Case, peer: Peer, template: Template) -> dict[str, Any]:
        job = Job(peer.name, case.scenario, case.shape, case.rows, psql=self._psql, postmaster=self._server.process.pid)
        starts_empty = job.scenario.kind in (Kind.LOAD, Kind.SPREAD)
        source = "template1" if starts_empty else template(peer.name if peer.fills else "", case.shape)
        with self._database(source) as name:
            return self._work("measure", job, name)

    @contextmanager
    def _filled(self, rows: int) -> Iterator[Template]:
        """Gives a function that names a database filled by a peer, or by none of them, made when it is needed."""
        made: dict[tuple[str, str], str] = {}

        def template(filler: str, shape: str) -> str:
            if (filler, shape) not in made:
                name = self._create("template1")
                self._work("fill", Job(filler, "first-load-key", shape, rows), name)
                made[filler, shape] = name
            return made[filler, shape]

        try:
            yield template
        finally:
            for name in made.values():
                self._drop(name)

    @contextmanager
    def _database(self, source: str) -> Iterator[str]:
        name = self._create(source)
        try:
            yield name
        finally:
            self._drop(name)

    def _create(self, source: str) -> str:
        name = f"bench_{next(self._numbers)}"
        how = "STRATEGY file_copy" if self._admin.info.server_version >= 150000 else ""
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {source} {how}".encode())
        return name

    def _drop(self, name: str) -> None:
        self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def _work(self, task: str, job: Job, database: str) -> dict[str, Any]:
        """What the worker found; SubprocessError where it failed."""
        folder = tempfile.mkdtemp(prefix="benchmark-")
        try:
            url = self._server.url("psycopg", database).render_as_string(hide_password=False)
            job = replace(job, dsn=self._server.dsn(database), url=url, folder=folder)
            command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.worker", task, job.to_json()]
            kept: dict[str, Any] = {"cwd": ROOT, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
            done = subprocess.run(command, check=True, timeout=_LONGEST, **kept)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return outcome


def _why(error: subprocess.SubprocessError) -> str:
    """The last line of what a worker has to say about its failure."""
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return f"failed: {lines[-1]}"
