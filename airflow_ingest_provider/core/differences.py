"""How a live table may differ from its definition: one frozen class a kind of difference, that explains itself."""

from dataclasses import dataclass
from typing import ClassVar

from airflow_ingest_provider.core.shape import ColumnShape, ConstraintShape, ForeignKeyShape, IndexShape


@dataclass(frozen=True)
class Difference:
    """One thing that the migration changes.

    `in_place` says that PostgreSQL does it in its catalog alone, without reading or writing rows.
    """

    in_place: ClassVar[bool] = False


@dataclass(frozen=True)
class ColumnAdded(Difference):
    column: ColumnShape
    at_end: bool

    @property
    def in_place(self) -> bool:  # type: ignore[override]
        """A constant default is kept in the catalog; a column that draws from a sequence or is computed is written."""
        computed = self.column.generated or self.column.identity or self.column.serial
        return self.at_end and not computed and (self.column.default is None or _is_constant(self.column.default))

    def __str__(self) -> str:
        return f"{self.column.name}: added as {self.column.type}"


@dataclass(frozen=True)
class ColumnDropped(Difference):
    in_place = True
    column: ColumnShape

    def __str__(self) -> str:
        return f"{self.column.name}: dropped, with its values"


@dataclass(frozen=True)
class ColumnsMoved(Difference):
    order: tuple[str, ...]

    def __str__(self) -> str:
        return f"columns in the order {', '.join(self.order)}"


@dataclass(frozen=True)
class TypeChanged(Difference):
    column: str
    before: str
    after: ColumnShape
    pinned: bool
    """Whether something uses the column, so that PostgreSQL refuses to change it in place."""

    @property
    def in_place(self) -> bool:  # type: ignore[override]
        return not self.pinned and widens(self.before, self.after.type)

    def __str__(self) -> str:
        return f"{self.column}: {self.before} -> {self.after.type}"


@dataclass(frozen=True)
class CollationChanged(Difference):
    column: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.column}: collation {self.before or 'default'} -> {self.after or 'default'}"


@dataclass(frozen=True)
class NotNullAdded(Difference):
    column: str

    def __str__(self) -> str:
        return f"{self.column}: NOT NULL"


@dataclass(frozen=True)
class NotNullDropped(Difference):
    in_place = True
    column: str

    def __str__(self) -> str:
        return f"{self.column}: NULL allowed"


@dataclass(frozen=True)
class DefaultChanged(Difference):
    in_place = True
    column: str
    after: str

    def __str__(self) -> str:
        return f"{self.column}: default {self.after}"


@dataclass(frozen=True)
class ComputationChanged(Difference):
    """The column becomes computed, becomes an identity column, stops to be one, or is computed otherwise."""

    column: str

    def __str__(self) -> str:
        return f"{self.column}: computed or identity as declared"


@dataclass(frozen=True)
class CommentChanged(Difference):
    in_place = True
    column: str | None
    after: str

    def __str__(self) -> str:
        return f"{self.column}: comment" if self.column else "comment of the table"


@dataclass(frozen=True)
class ConstraintAdded(Difference):
    constraint: ConstraintShape

    def __str__(self) -> str:
        return f"added {self.constraint.definition}"


@dataclass(frozen=True)
class ConstraintDropped(Difference):
    in_place = True
    constraint: ConstraintShape

    def __str__(self) -> str:
        return f"dropped {self.constraint.name}: {self.constraint.definition}"


@dataclass(frozen=True)
class ForeignKeyAdded(Difference):
    foreign_key: ForeignKeyShape

    def __str__(self) -> str:
        return f"added a foreign key to {self.foreign_key.target}"


@dataclass(frozen=True)
class IndexAdded(Difference):
    index: IndexShape

    def __str__(self) -> str:
        return f"added {'unique ' if self.index.unique else ''}index {self.index.definition}"


@dataclass(frozen=True)
class IndexDropped(Difference):
    in_place = True
    index: IndexShape

    def __str__(self) -> str:
        return f"dropped index {self.index.name}: {self.index.definition}"


def widens(before: str, after: str) -> bool:
    """Whether every value of one type is the same value, in the same bytes, of the other.

    The changes for which PostgreSQL rewrites nothing: https://www.postgresql.org/docs/current/sql-altertable.html
    """
    old, old_limits = _parsed(before)
    new, new_limits = _parsed(after)
    if old in _UNLIMITED and new == _UNLIMITED[old] and not new_limits:
        return True
    if old != new or old not in _WIDENABLE:
        return False
    if not new_limits:
        return True
    if not old_limits:
        return False
    if old == "numeric":
        return new_limits[0] >= old_limits[0] and new_limits[1] == old_limits[1]
    return new_limits[0] >= old_limits[0]


_WIDENABLE = frozenset({"character varying", "numeric", "bit varying"})
_UNLIMITED = {"character varying": "text"}


def _parsed(spelling: str) -> tuple[str, tuple[int, ...]]:
    """format_type's spelling, taken apart: the name and its modifiers."""
    name, bracket, rest = spelling.partition("(")
    if not bracket or not rest.endswith(")"):
        return spelling, ()
    return name, tuple(int(limit) for limit in rest[:-1].split(","))


def _is_constant(expression: str) -> bool:
    """Whether the default is a plain literal, with or without a cast: then it needs no rewrite, whatever it is."""
    literal, _, _ = expression.partition("::")
    is_text = len(literal) > 1 and literal[0] == literal[-1] == "'" and "'" not in literal[1:-1]
    is_number = literal.lstrip("-").replace(".", "", 1).isdigit()
    return is_text or is_number or literal in ("true", "false", "NULL")
