"""What the demo shows: each step while it runs, and a report at the end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text


class _RowsColumn(ProgressColumn):
    """Rows so far, for the steps that load any."""

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed):,} rows" if task.total else "")


@dataclass(frozen=True)
class Display:
    """A terminal with live progress; where output goes to a file or a pipe, a line for each step done."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))

    @contextmanager
    def step(self, doing: str, rows: int | None = None) -> Iterator[Callable[[int | None], None]]:
        """Shows that something is being done; gives a function that takes the rows so far, out of `rows`."""
        started = time.monotonic()
        columns = SpinnerColumn("line"), TextColumn("{task.description}"), BarColumn(), _RowsColumn()
        live = Progress(
            *columns,
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with live:
            task = live.add_task(doing, total=rows)
            yield lambda completed: live.update(task, completed=completed)
        self.say(f"{doing}: {time.monotonic() - started:.1f} s")

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def report(self, runs: list[tuple[str, dict[str, Any]]]) -> None:
        """A line a run: the high watermark that it found, what it loaded, and the one that it left."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for heading in ("DAG run", "watermark before", "rows", "seconds", "rows/s", "watermark after"):
            numbers = heading in ("rows", "seconds", "rows/s")
            table.add_column(heading, justify="right" if numbers else "left", no_wrap=True)
        for name, result in runs:
            table.add_row(name, *_cells(result))
        self.console.print()
        self.console.print(table)


def _cells(result: dict[str, Any]) -> Iterator[str]:
    rows, seconds = result["rows"], result["seconds"]
    yield _watermark(result["first_high_watermark"])
    yield f"{rows:,}"
    yield f"{seconds:.1f}"
    yield f"{rows / seconds:,.0f}" if rows else "-"
    yield _watermark(result["last_high_watermark"])


def _watermark(value: Any) -> str:
    return "none" if value is None else str(value)
