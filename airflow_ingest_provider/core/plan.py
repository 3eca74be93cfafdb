"""The way from a live table to its definition, as a value: what differs, what it takes, and what it risks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from airflow_ingest_provider.core.differences import (
    BY_REBUILD,
    BY_SWAP,
    ColumnAdded,
    ColumnDropped,
    Cost,
    Difference,
    Way,
)
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.shape import InboundKey, TableShape

MAX_COLUMNS = 1600
"""Of a table, those that were dropped among them. https://www.postgresql.org/docs/current/limits.html"""


class Action(Enum):
    """What a migration takes, the cheapest first."""

    NOTHING = "nothing to do"
    CREATE = "create"
    IN_PLACE = "in place"
    STEPS = "in place, in steps"
    REBUILD = "rebuild and swap"


@dataclass(frozen=True)
class Facts:
    """What a plan has to know besides the two shapes.

    `text` is the part of the live comment that people wrote, `comment` the declared one. `pinned` are columns that
    other objects use, and which; `computed_from` those that generated columns use, and `rechecked` those for whose
    type PostgreSQL reads all rows, where a rebuild can be had instead. `needed` are indexes that something else
    needs, and what; `numbered` is how many columns the table has or had, `inbound` the foreign keys of other tables
    to this one. `bytes` is the size of the table with its indexes, `carried` what else hangs on it. `conversions` are
    expressions of the caller's for values. `statistics` are extended statistics with the columns that they go with,
    `time_zone` is the session's.
    """

    text: str | None = None
    comment: str | None = None
    pinned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    computed_from: tuple[str, ...] = ()
    rechecked: tuple[str, ...] = ()
    needed: Mapping[str, str] = field(default_factory=dict)
    numbered: int = 0
    inbound: tuple[InboundKey, ...] = ()
    bytes: int = 0
    carried: tuple[str, ...] = ()
    conversions: Mapping[str, str] = field(default_factory=dict)
    statistics: tuple[tuple[Name, tuple[str, ...]], ...] = ()
    time_zone: str | None = None


@dataclass(frozen=True)
class TablePlan:
    """How one table gets to its definition.

    `target` is the definition and all that people added to the live table, `kept` what is live, not declared, and
    stays, with the reason; equal inputs give equal plans. `str()` is for people.
    """

    table: Name
    differences: tuple[Difference, ...]
    target: TableShape | None
    kept: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    bytes: int = 0
    refused: str | None = None
    """Why it cannot be carried out, as far as could be told without trying."""
    replaces: str | None = None
    """How a full refresh replaces the rows, and why so."""
    by_swap: bool = False
    """Whether it does that by a new table: that has the definition before it has rows, and no old row is read for it.
    What PostgreSQL changes in its catalog alone is changed before, in the old one."""

    @property
    def action(self) -> Action:
        if self.target is None:
            return Action.CREATE
        ways = {difference.way for difference in self.differences}
        if Way.REBUILD in ways:
            return Action.REBUILD
        if Way.STEPS in ways:
            return Action.STEPS
        return Action.IN_PLACE if ways else Action.NOTHING

    def of_way(self, way: Way) -> tuple[Difference, ...]:
        """The differences that take no more than that."""
        return tuple(difference for difference in self.differences if difference.way is way)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The columns that go."""
        return tuple(one.column.name for one in self.differences if isinstance(one, ColumnDropped))

    @property
    def lines(self) -> tuple[str, ...]:
        """Each difference, for people."""
        return tuple(map(str, self.differences))

    @property
    def risks(self) -> tuple[str, ...]:
        """What may go wrong, or be lost."""
        if self.by_swap:
            return ()
        return tuple(difference.risk for difference in self.differences if difference.risk)

    def __str__(self) -> str:
        anew = self.action is Action.REBUILD or (self.by_swap and self.action is Action.STEPS)
        rebuilt = anew and not self.by_swap
        ways = [(one, *self._way(one)) for one in self.differences]
        rows = [(str(one), by, cost.lock, cost.waits) for one, by, cost in ways]
        lines = [f"{self.table}: {'with the new rows' if anew and self.by_swap else self.action.value}"]
        if rows:
            lines += aligned([("difference", "by", "lock", "who waits"), *rows])
        if rebuilt:
            lines.append(f"  rewrites the table and its indexes, about {_size(self.bytes)}")
        if anew:
            lines += [f"  carries over: {carried}" for carried in self.carried]
        lines += [f"  keeps: {one}" for one in self.kept]
        lines += [f"  risk: {risk}" for risk in self.risks]
        if self.replaces:
            lines.append(f"  rows: {self.replaces}")
        if self.refused:
            lines.append(f"  refused: {self.refused}")
        return "\n".join(lines)

    def _way(self, one: Difference) -> tuple[str, Cost]:
        """What brings a difference about, and what that costs."""
        lacks_values = isinstance(one, ColumnAdded) and one.needs_values
        if self.by_swap and (one.way is not Way.CATALOG or lacks_values):
            return "new table", BY_SWAP
        if self.action is Action.REBUILD and not self.by_swap:
            return "rebuild", BY_REBUILD
        return one.statement, one.cost


@dataclass(frozen=True)
class Planned:
    """A plan, with what it was made from."""

    plan: TablePlan
    live: TableShape
    declared: TableShape
    facts: Facts


@dataclass(frozen=True)
class IngestPlan:
    """What a run would do to the definitions of its tables; true where there is anything to do."""

    tables: tuple[TablePlan, ...]

    def __bool__(self) -> bool:
        return any(table.action is not Action.NOTHING for table in self.tables)

    def __str__(self) -> str:
        return "\n".join(map(str, self.tables))


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """The rows of a table, in columns as wide as they need."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in table]


def _size(amount: int) -> str:
    """As pg_size_pretty shows it."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    size = float(amount)
    while size >= 10 * 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}"
