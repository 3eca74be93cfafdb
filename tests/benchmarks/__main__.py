"""The command `python -m tests.benchmarks`: measures, and writes a page, docs/benchmark.md, and its plot."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_ingest_provider.demo import server
from tests.benchmarks import plot, report
from tests.benchmarks.data import SHAPES
from tests.benchmarks.peers.registry import PEERS
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.suite import Plan, Suite


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, telling how it goes, and write the report."""
    chosen = _parser().parse_args(arguments)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        tuple(sorted(chosen.rows)),
        chosen.rounds,
        tuple(chosen.scenario),
        tuple(chosen.shape),
        tuple(chosen.peer),
        chosen.patience,
    )
    with server.running(durable=chosen.durable) as running:
        found = Suite(running, plan, _say).run()
        setting = report.Setting.of(running, chosen.durable, sys.argv[1:] if arguments is None else arguments)
    picture = chosen.output.with_suffix(".svg")
    drawn = plot.write(found, picture)
    if not drawn:
        _say("no plot: matplotlib is not installed")
    chosen.output.write_text(report.markdown(found, plan, setting, picture.name if drawn else None))
    _say(f"wrote {chosen.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Loads the same rows in many ways into a private PostgreSQL, and compares each with psql \\copy.",
    )
    of: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000], help="sizes of the table (default: 100000)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured (default: 3)")
    parser.add_argument("--scenario", choices=SCENARIOS, default=list(SCENARIOS), help=", ".join(SCENARIOS), **of)
    parser.add_argument("--shape", choices=SHAPES, default=list(SHAPES), help=", ".join(SHAPES), **of)
    parser.add_argument("--peer", choices=PEERS, default=list(PEERS), help=", ".join(PEERS), **of)
    parser.add_argument(
        "--patience",
        type=float,
        default=Plan.patience,
        metavar="SECONDS",
        help="leave out at a larger size who would take longer, going by a smaller one (default: 60)",
    )
    parser.add_argument(
        "--durable", action="store_true", help="a server that flushes to disk; without, it runs in memory where it can"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/benchmark.md"),
        metavar="FILE",
        help="where the report goes, its plot beside it (default: docs/benchmark.md)",
    )
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
