"""The way from a live table to its definition, as a value: what differs, and whether rows must be rewritten for it."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from airflow_ingest_provider.core.differences import (
    CollationChanged,
    ColumnAdded,
    ColumnDropped,
    ColumnsMoved,
    CommentChanged,
    ComputationChanged,
    ConstraintAdded,
    ConstraintDropped,
    DefaultChanged,
    Difference,
    ForeignKeyAdded,
    IndexAdded,
    IndexDropped,
    NotNullAdded,
    NotNullDropped,
    TypeChanged,
)
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.shape import ColumnShape, ConstraintShape, ForeignKeyShape, IndexShape, TableShape


class Action(Enum):
    """What a migration takes, the cheapest first."""

    NOTHING = "nothing"
    IN_PLACE = "in place"
    REBUILD = "rebuild"


@dataclass(frozen=True)
class TablePlan:
    """How one table gets to its definition.

    `target` is the definition and all that people added to the live table; equal inputs give equal plans.
    """

    table: Name
    differences: tuple[Difference, ...]
    target: TableShape

    @property
    def action(self) -> Action:
        if not self.differences:
            return Action.NOTHING
        return Action.IN_PLACE if all(difference.in_place for difference in self.differences) else Action.REBUILD

    @property
    def in_place(self) -> tuple[Difference, ...]:
        """The differences that need no rewrite."""
        return tuple(difference for difference in self.differences if difference.in_place)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The columns that go."""
        return tuple(one.column.name for one in self.differences if isinstance(one, ColumnDropped))

    @property
    def lines(self) -> tuple[str, ...]:
        """Each difference, for people."""
        return tuple(map(str, self.differences))

    def __str__(self) -> str:
        return f"{self.table}: {self.action.value}" + "".join(f"\n  {line}" for line in self.lines)


def plan(
    live: TableShape, declared: TableShape, text: str | None, comment: str | None, pinned: Collection[str]
) -> TablePlan:
    """Compare a live table with its definition.

    `text` is the part of the live comment that people wrote, `comment` the declared one, and `pinned` are the
    live columns that other objects use. Names of indexes and constraints do not count; what is live, not declared, and
    not the definition's to decide, stays.
    """
    differences = (
        *_columns(live, declared, pinned),
        *_constraints(live, declared),
        *_indexes(live, declared),
        *_foreign_keys(live, declared),
        *_comments(live, declared, text, comment),
    )
    return TablePlan(live.name, differences, merged(live, declared))


def merged(live: TableShape, declared: TableShape) -> TableShape:
    """The declared table with what people added to the live one: checks, foreign keys, defaults, comments and such."""
    return replace(
        live,
        columns=tuple(_merged_column(live.column(column.name), column) for column in declared.columns),
        constraints=(
            *_named_alike(live.constraints, declared.constraints),
            *_beyond(live.of_kind("c") + live.of_kind("x"), declared.constraints),
        ),
        foreign_keys=(
            *(_live_foreign_key(live, wanted) or wanted for wanted in declared.foreign_keys),
            *(key for key in live.foreign_keys if not any(_same_key(key, wanted) for wanted in declared.foreign_keys)),
        ),
        indexes=_named_alike(live.indexes, declared.indexes),
    )


def _columns(live: TableShape, declared: TableShape, pinned: Collection[str]) -> Iterator[Difference]:
    wanted = {column.name for column in declared.columns}
    there = {column.name for column in live.columns}
    dropped = [column for column in live.columns if column.name not in wanted]
    # What is computed goes first: PostgreSQL does not drop a column that another is computed from.
    yield from (ColumnDropped(column) for column in sorted(dropped, key=lambda column: not column.generated))
    kept_live = [column.name for column in live.columns if column.name in wanted]
    kept_declared = [column.name for column in declared.columns if column.name in there]
    if kept_live != kept_declared:
        yield ColumnsMoved(tuple(column.name for column in declared.columns))
    for place, column in enumerate(declared.columns):
        before = live.column(column.name)
        if before is None:
            yield ColumnAdded(column, at_end=all(name.name not in there for name in declared.columns[place:]))
        else:
            yield from _column(before, column, column.name in pinned)


def _column(before: ColumnShape, after: ColumnShape, pinned: bool) -> Iterator[Difference]:
    if before.type != after.type:
        yield TypeChanged(after.name, before.type, after, pinned)
    elif before.collation != after.collation:
        yield CollationChanged(after.name, before.collation, after.collation)
    if _computation(before, after):
        yield ComputationChanged(after.name)
    elif not after.generated and not after.serial and after.default is not None and before.default != after.default:
        yield DefaultChanged(after.name, after.default)
    if after.not_null and not before.not_null:
        yield NotNullAdded(after.name)
    if before.not_null and not after.not_null:
        yield NotNullDropped(after.name)


def _computation(before: ColumnShape, after: ColumnShape) -> bool:
    if before.generated != after.generated:
        return True
    if after.generated:
        return before.default != after.default
    if after.serial:
        return False
    return (before.identity, before.sequence_options) != (after.identity, after.sequence_options)


def _constraints(live: TableShape, declared: TableShape) -> Iterator[Difference]:
    decided = live.of_kind("p") + live.of_kind("u")
    yield from (ConstraintDropped(constraint) for constraint in _beyond(decided, declared.constraints))
    yield from (ConstraintAdded(constraint) for constraint in _beyond(declared.constraints, live.constraints))


def _indexes(live: TableShape, declared: TableShape) -> Iterator[Difference]:
    valid = tuple(index for index in live.indexes if index.valid)
    yield from (IndexDropped(index) for index in live.indexes if not index.valid)
    yield from (IndexDropped(index) for index in _beyond(valid, declared.indexes))
    yield from (IndexAdded(index) for index in _beyond(declared.indexes, valid))


def _foreign_keys(live: TableShape, declared: TableShape) -> Iterator[Difference]:
    yield from (ForeignKeyAdded(wanted) for wanted in declared.foreign_keys if not _live_foreign_key(live, wanted))


def _comments(live: TableShape, declared: TableShape, text: str | None, comment: str | None) -> Iterator[Difference]:
    if comment is not None and comment != text:
        yield CommentChanged(None, comment)
    for column in declared.columns:
        before = live.column(column.name)
        if before is not None and column.comment is not None and column.comment != before.comment:
            yield CommentChanged(column.name, column.comment)


def _merged_column(live: ColumnShape | None, declared: ColumnShape) -> ColumnShape:
    if live is None:
        return replace(declared, default=None, sequence=None) if declared.serial else replace(declared, sequence=None)
    keeps_default = not declared.generated and not declared.identity and (declared.serial or declared.default is None)
    keeps_identity = bool(live.identity and (declared.serial or declared.identity))
    return replace(
        declared,
        default=live.default if keeps_default and not live.generated else declared.default,
        identity=(live.identity if declared.serial else declared.identity) if keeps_identity else declared.identity,
        sequence=live.sequence if keeps_identity or keeps_default else None,
        sequence_options=live.sequence_options if declared.serial else declared.sequence_options,
        serial=live.serial if keeps_default else declared.serial,
        comment=declared.comment if declared.comment is not None else live.comment,
        not_null_name=live.not_null_name or declared.not_null_name,
        tuning=live.tuning or declared.tuning,
    )


Described = TypeVar("Described", ConstraintShape, IndexShape)


def _identity(described: ConstraintShape | IndexShape) -> tuple[object, str]:
    """What makes two of them the same, whatever they are called."""
    kind = described.unique if isinstance(described, IndexShape) else described.kind
    return kind, described.definition


def _beyond(these: Iterable[Described], those: Iterable[Described]) -> Iterator[Described]:
    """These that have no equal of their own among those: two equal indexes need two."""
    left = Counter(map(_identity, those))
    for one in these:
        if left[_identity(one)]:
            left[_identity(one)] -= 1
        else:
            yield one


def _named_alike(live: Iterable[Described], declared: Iterable[Described]) -> tuple[Described, ...]:
    """The declared ones, each as the live one with its definition where there is one: names and comments stay."""
    left: dict[tuple[object, str], list[Described]] = {}
    for one in live:
        left.setdefault(_identity(one), []).append(one)
    return tuple(left[_identity(one)].pop(0) if left.get(_identity(one)) else one for one in declared)


def _live_foreign_key(live: TableShape, wanted: ForeignKeyShape) -> ForeignKeyShape | None:
    return next((key for key in live.foreign_keys if _same_key(key, wanted)), None)


def _same_key(one: ForeignKeyShape, other: ForeignKeyShape) -> bool:
    pairs = set(zip(one.columns, one.target_columns, strict=True))
    return (
        pairs == set(zip(other.columns, other.target_columns, strict=True))
        and one.target == other.target
        and one.options == other.options
    )
