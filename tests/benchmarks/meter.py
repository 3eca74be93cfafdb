"""What a run takes: time, CPU of both sides, WAL and memory."""

import gc
import re
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg


@dataclass(frozen=True)
class Used:
    """What one run took. Memory is the client's: the peak of its process, and how far that rose during the run."""

    seconds: float
    client_cpu: float
    server_cpu: float
    wal_bytes: int
    peak_memory: int
    memory_growth: int

    @property
    def cpu(self) -> float:
        """CPU seconds of both sides."""
        return self.client_cpu + self.server_cpu


@dataclass(frozen=True)
class ChildPeak:
    """What a run gives that leaves the work to a child process: how much memory that took, in bytes."""

    size: int


def measure(run: Callable[[], object], dsn: str, postmaster: int) -> Used:
    """What a run takes, on a server that does nothing else."""
    with psycopg.connect(dsn, autocommit=True) as watching:
        watching.execute("CHECKPOINT")
        gc.collect()
        reset_peak()
        before = peak_memory()
        wal, server, client = _wal_position(watching), server_cpu(postmaster), _client_cpu()
        began = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - began
        client_after, server_after = _client_cpu(), server_cpu(postmaster)
        peak, growth = peak_memory(), peak_memory() - before
        if isinstance(result, ChildPeak):
            peak = growth = result.size
        return Used(seconds, client_after - client, server_after - server, _wal_position(watching) - wal, peak, growth)


def server_cpu(postmaster: int) -> float:
    """CPU seconds that the server's processes have used so far, those that have ended included."""
    process = psutil.Process(postmaster)
    used = 0.0
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            used += times.user + times.system
    own: Any = process.cpu_times()
    return float(used + own.user + own.system + own.children_user + own.children_system)


def _client_cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in times)


def _wal_position(connection: psycopg.Connection) -> int:
    # where the next record goes: the position written to disk lags behind it without synchronous_commit
    found = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
    assert found is not None
    return int(found[0])


def reset_peak() -> None:
    """Forget the peak that building the source has left, where the system can: on Linux."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The most memory, in bytes, that this process has had since the last reset."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
