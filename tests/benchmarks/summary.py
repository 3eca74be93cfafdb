"""Medians over the rounds, each round compared with the floor of the same round."""

from dataclasses import dataclass, replace
from statistics import median

from tests.benchmarks.peers.registry import FLOOR, PEERS
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.suite import Case, Found

_MEASURABLE = 0.05
"""CPU seconds that a ratio can stand on: the server's are counted in steps of 0.01."""


@dataclass(frozen=True)
class Line:
    """How a peer did; memory and WAL are bytes.

    `ratio` is its time as a multiple of the floor's in the same round. The CPU of each side is a multiple of what the
    floor took of both together; None where that is too little to be measured.
    """

    peer: str
    rows_per_second: float
    ratio: float
    client_cpu: float | None
    server_cpu: float | None
    peak_memory: float
    memory_growth: float
    wal_bytes: float


def lines(found: Found, case: Case) -> list[Line]:
    """All who were measured, the fastest first."""
    of_case = [one for one in found.measured if one.case == case]
    floors = {one.round: one.used for one in of_case if one.peer == FLOOR.name}
    enough = min((floor.cpu for floor in floors.values()), default=0) > _MEASURABLE
    summed = []
    for peer in PEERS:
        runs = [(one.used, floors[one.round]) for one in of_case if one.peer == peer]
        if runs:
            summed.append(
                Line(
                    peer,
                    median(case.counted / used.seconds for used, _ in runs),
                    median(used.seconds / floor.seconds for used, floor in runs),
                    median(used.client_cpu / floor.cpu for used, floor in runs) if enough else None,
                    median(used.server_cpu / floor.cpu for used, floor in runs) if enough else None,
                    median(used.peak_memory for used, _ in runs),
                    median(used.memory_growth for used, _ in runs),
                    median(used.wal_bytes for used, _ in runs),
                )
            )
    return sorted(summed, key=lambda line: line.ratio)


def beside_one_table(found: Found, case: Case, peer: str) -> float | None:
    """The peer's time as a multiple of that for one table with as many rows; None where that was not measured."""
    one_table = replace(case, scenario=SCENARIOS[case.scenario].of_one_table)
    alone = {one.round: one.used.seconds for one in found.measured if (one.case, one.peer) == (one_table, peer)}
    runs = [one for one in found.measured if (one.case, one.peer) == (case, peer) and one.round in alone]
    return median(one.used.seconds / alone[one.round] for one in runs) if runs else None


def cases(found: Found) -> list[Case]:
    """What was measured, in the order of the tables."""
    return list(dict.fromkeys(one.case for one in found.measured))


def stored_otherwise(found: Found, case: Case) -> list[str]:
    """The peers after whom the table did not hold the values that the floor has stored."""
    of_case = [one for one in found.measured if one.case == case]
    right = {one.stored for one in of_case if one.peer == FLOOR.name}
    return sorted({one.peer for one in of_case if one.stored not in right})
