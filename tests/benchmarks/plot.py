"""The figure of the documentation: each peer's time as a multiple of the floor's."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.registry import FLOOR, PEERS
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.suite import Case, Found
from tests.benchmarks.summary import cases, lines

_OURS, _OTHERS = "#1f77b4", "#b0b0b0"


def write(found: Found, file: Path) -> bool:
    """Draw the figure, the same file for the same figures; False where matplotlib is missing."""
    if find_spec("matplotlib") is None or not found.measured:
        return False
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "benchmark", "svg.fonttype": "none", "font.size": 8}
    pyplot: Any = import_module("matplotlib.pyplot")
    known = cases(found)
    columns = list(dict.fromkeys((case.rows, case.shape) for case in known))
    rows = list(dict.fromkeys(case.scenario for case in known))
    heights = [2 + max(len(lines(found, case)) for case in known if case.scenario == row) for row in rows]
    figure, axes = pyplot.subplots(
        len(rows),
        len(columns),
        figsize=(4.6 * len(columns), 0.8 + 0.2 * sum(heights)),
        squeeze=False,
        sharex=True,
        height_ratios=heights,
        layout="constrained",
    )
    for case in known:
        _panel(axes[rows.index(case.scenario)][columns.index((case.rows, case.shape))], found, case)
    figure.supxlabel("time as a multiple of psql \\copy's (logarithmic; less is better)")
    figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return True


def _panel(axis: Any, found: Found, case: Case) -> None:
    drawn = [line for line in lines(found, case) if line.peer != FLOOR.name][::-1]
    titles = [PEERS[line.peer].title for line in drawn]
    colours = [_OURS if title.startswith("this package") else _OTHERS for title in titles]
    unclipped: dict[str, Any] = {"clip_on": False}  # clipping names its frame by a hash that differs between runs
    axis.barh(titles, [line.ratio - 1 for line in drawn], left=1, color=colours, **unclipped)
    for number, line in enumerate(drawn):
        axis.text(max(line.ratio, 1) * 1.05, number, f"{line.ratio:.2g}", verticalalignment="center")
    axis.axvline(1, color="black", linewidth=0.8, **unclipped)
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_title(f"{SCENARIOS[case.scenario].title}\n{case.shape}, {case.rows:,} rows", loc="left")
    axis.spines[["top", "right"]].set_visible(False)
