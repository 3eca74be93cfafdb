"""What was measured of readers, as a page and a plot."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.readers_process import CONTROL, READERS, Reader
from tests.benchmarks.readers_runs import OURS, PEER, Measured, Plan

TITLES = {OURS: "airflow-ingest-provider", PEER: "pg-bulk-ingest"}
_COLORS = {OURS: "#0072b2", PEER: "#d55e00"}

_SHARES = (50, 99, 99.9)


def share(ordered: Sequence[int], percent: float) -> float:
    """The milliseconds that so many percent of the reads took at most."""
    place = min(len(ordered) - 1, int(len(ordered) * percent / 100))
    return ordered[place] / 1000


def write_report(file: Path, measured: Sequence[Measured], plan: Plan, command: str, server: str) -> None:
    """Write the page, and its plot beside it where matplotlib is installed."""
    picture = file.with_suffix(".svg") if find_spec("matplotlib") else None
    if picture:
        _draw(picture, measured)
    page = f"""# Readers during refreshes and rebuilds

{plan.refreshes:,} full refreshes and {plan.rebuilds:,} rebuilds of a table of {plan.rows:,} rows, under
{len(plan.readers)} readers, each a process of its own. A refresh changes every row; a rebuild changes a column's type,
to bigint and back. [Locks](locks.md) says who waits for whom, and why.

{_table(measured)}
Times are in milliseconds. A read is torn if it saw another number of rows than a version has, rows of two versions, or
a version older than one seen before. The control is a table of the same shape that nobody writes: the same readers
read it in turn with the others, so its times show what the machine alone makes a read wait.
{_left_out(measured)}{_picture(picture)}
## The longest wait of each reader

{_by_reader(measured, plan)}
## What failed

{_failures(measured)}
## How it was measured

```
{command}
```

{_settings(measured, plan, server)}"""
    file.write_text(page)


def _table(measured: Sequence[Measured]) -> str:
    lines: dict[str, list[str]] = {
        "": [TITLES[one.package] for one in measured],
        "runs": [f"{len(one.runs):,}" for one in measured],
        "runs that replaced the table": [f"{one.replaced:,}" for one in measured],
        "failed runs": [f"{one.failed_runs.total():,}" for one in measured],
        "reads": [f"{len(one.reads):,}" for one in measured],
        "failed reads": [f"{one.failures.total():,}" for one in measured],
        "torn reads": [f"{len(one.torn):,}" for one in measured],
        "deadlocks": [f"{one.deadlocks:,}" for one in measured],
        "reads over 100 ms": [f"{sum(read > 100_000 for read in one.reads):,}" for one in measured],
    }
    lines["run, median"] = [f"{median(one.runs) * 1000:.1f}" for one in measured]
    lines["run, longest"] = [f"{max(one.runs) * 1000:.1f}" for one in measured]
    for percent in _SHARES:
        lines[f"read, p{percent}"] = [f"{share(one.reads, percent):.1f}" for one in measured]
    lines["read, longest"] = [f"{share(one.reads, 100):.1f}" for one in measured]
    for percent in _SHARES:
        lines[f"control, p{percent}"] = [f"{share(one.control, percent):.1f}" for one in measured]
    lines["control, longest"] = [f"{share(one.control, 100):.1f}" for one in measured]
    return _markdown(lines)


def _left_out(measured: Sequence[Measured]) -> str:
    names = {one.package for one in measured}
    return "".join(
        f"\n{title} is left out: it is not installed.\n" for name, title in TITLES.items() if name not in names
    )


def _by_reader(measured: Sequence[Measured], plan: Plan) -> str:
    lines = {"reader": [TITLES[one.package] for one in measured]}
    for name in plan.readers:
        lines[name] = [f"{max(one.seen[name].reads) / 1000:.1f}" for one in measured]
    return _markdown(lines)


def _markdown(lines: dict[str, list[str]]) -> str:
    (head, titles), *rest = lines.items()
    rows = [f"| {head} | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    rows += [f"| {name} | {' | '.join(values)} |" for name, values in rest]
    return "\n".join(rows) + "\n"


def _failures(measured: Sequence[Measured]) -> str:
    lines = []
    for one in measured:
        title = TITLES[one.package]
        kinds = (("run", one.failed_runs), ("read", one.failures), ("torn read", Counter(one.torn)))
        found = [
            f"- {title}, {number:,} x {kind}: `{text}`"
            for kind, texts in kinds
            for text, number in texts.most_common(5)
        ]
        lines += found or [f"- {title}: nothing."]
    return "\n".join(lines) + "\n"


def _picture(file: Path | None) -> str:
    return f"\n![How many reads took longer than so many milliseconds]({file.name})\n" if file else ""


def _settings(measured: Sequence[Measured], plan: Plan, server: str) -> str:
    versions = [f"{TITLES[one.package]} {one.version}" for one in measured]
    versions += [f"{name} {version(name)}" for name in ("sqlalchemy", "psycopg")]
    readers = "\n".join(f"| {name} | {_described(READERS[name])} |" for name in plan.readers)
    return f"""- {datetime.now(timezone.utc):%Y-%m-%d}; Python {platform.python_version()}, PostgreSQL {server},
  {", ".join(versions)}.
- {os.cpu_count()} cores, shared by the server, the readers and the loading process.
- The server flushes nothing to disk. The packages were measured one after the other, in a database each.
- `cheap` is a view on `prices`, `cheapest` a view on `cheap`, `price_counts` a materialized view on `prices`,
  `all_prices` a view on `prices` and `price_counts`, `{CONTROL}` the control.
- Each reader has a connection of its own, which prepares statements as psycopg does by itself.

| reader | reads, over and over |
| --- | --- |
{readers}
"""


def _described(reader: Reader) -> str:
    sleep = f"; sleeps {reader.sleep:g} s in between" if reader.sleep else ""
    return f"{', '.join(f'`{name}`' for name in reader.relations)}{sleep}; then a pause of {reader.pause * 1000:g} ms"


def _draw(path: Path, measured: Sequence[Measured]) -> None:
    """How many of the reads took longer than so long, both scales logarithmic."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("svg")
    # A picture of the same numbers is the same file; text stays text.
    matplotlib.rcParams |= {"svg.hashsalt": "readers", "svg.fonttype": "none", "font.size": 10}
    plt: Any = import_module("matplotlib.pyplot")
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for one in measured:
        title, color = TITLES[one.package], _COLORS[one.package]
        axes.plot(*_curve(one.reads), color=color, label=title, drawstyle="steps-pre")
        axes.plot(*_curve(one.control), color=color, label=f"{title}: control", linestyle=":", drawstyle="steps-pre")
    axes.axvline(100, color="#999999", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="milliseconds", ylabel="share of reads that took longer")
    axes.legend(frameon=False)
    axes.grid(color="#e5e5e5")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _curve(ordered: Sequence[int], points: int = 300) -> tuple[list[float], list[float]]:
    """Milliseconds, and the share of reads that took at least so many; denser towards the longest."""
    total = len(ordered)
    ranks = sorted({max(1, round(total ** (place / points))) for place in range(points + 1)}, reverse=True)
    return [ordered[-rank] / 1000 for rank in ranks], [rank / total for rank in ranks]
