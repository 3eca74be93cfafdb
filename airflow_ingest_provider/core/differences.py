"""How a live table may differ from its definition: one frozen class a kind of difference, that explains itself."""

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.shape import ColumnShape, ConstraintShape, ForeignKeyShape, IndexShape
from airflow_ingest_provider.core.widening import holds_all, widens


class Way(Enum):
    """What it takes to bring a difference about, the cheapest first."""

    CATALOG = "in the catalog"
    """PostgreSQL changes its catalog alone: no row is read or written."""
    STEPS = "in steps"
    """Rows are read, with readers going on; each step commits."""
    REBUILD = "by a rebuild"
    """Rows are copied into a new table, which takes the place of the old one."""


@dataclass(frozen=True)
class Cost:
    """Which lock is held for how long, and who waits for it meanwhile."""

    lock: str
    waits: str


BRIEFLY = Cost("ACCESS EXCLUSIVE", "all, for milliseconds")
BY_REBUILD = Cost("SHARE", "writers, for the copy; all, for the swap's milliseconds")
BY_SWAP = Cost("none before the swap", "all, for the swap's milliseconds")
_ROWS_READ = Cost("SHARE UPDATE EXCLUSIVE", "all, for milliseconds; nobody, while rows are read")
_INDEX_BUILT = Cost("SHARE", "writers, while the index is built")
_NOBODY = Cost("SHARE UPDATE EXCLUSIVE", "nobody")


@dataclass(frozen=True)
class Difference:
    """One thing that the migration changes."""

    way: ClassVar[Way] = Way.REBUILD
    statement: ClassVar[str]
    """The kind of statement that does it by itself."""
    cost: ClassVar[Cost] = BRIEFLY
    """What it costs by itself; a rebuild has one cost for all."""

    @property
    def risk(self) -> str | None:
        """What may go wrong, or be lost."""
        return None


@dataclass(frozen=True)
class CatalogDifference(Difference):
    """What PostgreSQL changes in its catalog alone, unless the live table has what only a rebuild takes away."""

    by_rebuild: bool = field(default=False, kw_only=True)
    """Whether something of the live table is against it until then."""

    @property
    def way(self) -> Way:  # type: ignore[override]
        return Way.REBUILD if self.by_rebuild else Way.CATALOG


@dataclass(frozen=True)
class ColumnAdded(Difference):
    statement = "ADD COLUMN"
    column: ColumnShape
    at_end: bool
    conversion: str | None = None
    has_room: bool = True
    """Whether the table can have one more: PostgreSQL counts those that were dropped, until it is rebuilt."""

    @property
    def way(self) -> Way:  # type: ignore[override]
        """A default that is the same for all rows is kept in the catalog; what is drawn or computed is written."""
        computed = self.column.generated or self.column.identity or self.column.serial or self.conversion
        stable = self.column.default is None or is_stable(self.column.default)
        return Way.CATALOG if self.at_end and self.has_room and not computed and stable else Way.REBUILD

    @property
    def needs_values(self) -> bool:
        """Whether rows that are there would have no value, and may not be without one."""
        column = self.column
        fills_itself = column.default is not None or column.generated or column.identity or column.serial
        return column.not_null and not (fills_itself or self.conversion)

    @property
    def risk(self) -> str | None:
        if self.needs_values:
            return f"{self.column.name} is NOT NULL without a default: refused if there are rows"
        return None

    def __str__(self) -> str:
        made = f", made by {self.conversion}" if self.conversion else ""
        return f"{self.column.name}: added as {self.column.type}{made}"


@dataclass(frozen=True)
class ColumnDropped(CatalogDifference):
    statement = "DROP COLUMN"
    column: ColumnShape
    statistics: tuple[Name, ...] = ()
    """Extended statistics that go with it."""

    def __str__(self) -> str:
        gone = f" and extended statistics {', '.join(map(str, self.statistics))}" if self.statistics else ""
        return f"{self.column.name}: dropped, with any values in it{gone}"


@dataclass(frozen=True)
class ColumnsMoved(Difference):
    statement = "CREATE TABLE"
    order: tuple[str, ...]

    def __str__(self) -> str:
        return f"columns in the order {', '.join(self.order)}"


@dataclass(frozen=True)
class TypeChanged(Difference):
    statement = "ALTER COLUMN TYPE"
    column: str
    before: str
    after: ColumnShape
    pinned: bool
    """Whether something uses the column for which PostgreSQL refuses to change it in place, or reads all rows."""
    conversion: str | None = None
    sequence: Name | None = None
    """The sequence of a serial column that goes, since the new type counts no integers."""
    time_zone: str | None = None
    """The session's, by which values become others where one type has a time zone and the other has none."""

    @property
    def way(self) -> Way:  # type: ignore[override]
        in_place = not self.conversion and not self.pinned and widens(self.before, self.after.type)
        return Way.CATALOG if in_place else Way.REBUILD

    @property
    def risk(self) -> str | None:
        if self.conversion or holds_all(self.before, self.after.type):
            return None
        zone = f", in the session's TimeZone {self.time_zone}" if self.time_zone and self.has_zone_once else ""
        return f"refused if a value of {self.column} would change as {self.after.type}{zone}"

    @property
    def has_zone_once(self) -> bool:
        """Whether one of the two types has a time zone, and the other has none."""
        return ("with time zone" in self.before) != ("with time zone" in self.after.type)

    def __str__(self) -> str:
        made = f", made by {self.conversion}" if self.conversion else ""
        gone = f", without its sequence {self.sequence}" if self.sequence else ""
        return f"{self.column}: {self.before} -> {self.after.type}{made}{gone}"


@dataclass(frozen=True)
class EnumExtended(Difference):
    """Labels that the declared enum has and the live type lacks; all others are in the declared order."""

    way = Way.CATALOG
    statement = "ALTER TYPE ADD VALUE"
    cost = Cost("none on the table", "nobody")
    type: str
    labels: tuple[str, ...]

    @property
    def risk(self) -> str | None:
        return f"labels of {self.type} are committed first, and stay if the rest fails"

    def __str__(self) -> str:
        return f"{self.type}: added {', '.join(map(repr, self.labels))}"


@dataclass(frozen=True)
class EnumChanged(Difference):
    """Labels are taken away or in another order, which PostgreSQL only does in a new type."""

    statement = "CREATE TYPE"
    column: str
    type: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def risk(self) -> str | None:
        return f"refused if {self.column} holds a label that goes"

    def __str__(self) -> str:
        return f"{self.column}: {self.type} of {', '.join(map(repr, self.after))}"


@dataclass(frozen=True)
class CollationChanged(Difference):
    statement = "ALTER COLUMN TYPE"
    column: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.column}: collation {self.before or 'default'} -> {self.after or 'default'}"


@dataclass(frozen=True)
class NotNullAdded(Difference):
    way = Way.STEPS
    statement = "SET NOT NULL"
    cost = _ROWS_READ
    column: str

    @property
    def risk(self) -> str | None:
        return f"refused if {self.column} holds NULL"

    def __str__(self) -> str:
        return f"{self.column}: NOT NULL"


@dataclass(frozen=True)
class NotNullDropped(CatalogDifference):
    statement = "DROP NOT NULL"
    column: str

    def __str__(self) -> str:
        return f"{self.column}: NULL allowed"


@dataclass(frozen=True)
class DefaultChanged(CatalogDifference):
    statement = "SET DEFAULT"
    column: str
    after: str

    def __str__(self) -> str:
        return f"{self.column}: default {self.after}"


@dataclass(frozen=True)
class ComputationChanged(Difference):
    """The column becomes computed, becomes an identity column, stops to be one, or is computed otherwise."""

    statement = "CREATE TABLE"
    column: str

    def __str__(self) -> str:
        return f"{self.column}: computed or identity as declared"


@dataclass(frozen=True)
class CommentChanged(Difference):
    way = Way.CATALOG
    statement = "COMMENT"
    cost = _NOBODY
    column: str | None
    after: str

    def __str__(self) -> str:
        return f"{self.column}: comment" if self.column else "comment of the table"


@dataclass(frozen=True)
class ConstraintAdded(Difference):
    statement = "ADD CONSTRAINT"
    constraint: ConstraintShape

    @property
    def way(self) -> Way:  # type: ignore[override]
        """A key takes over a ready-made index, a check is added first and validated later."""
        in_steps = self.constraint.kind == "c" or self.constraint.has_btree
        return Way.STEPS if in_steps else Way.REBUILD

    @property
    def cost(self) -> Cost:  # type: ignore[override]
        return _ROWS_READ if self.constraint.kind == "c" else _INDEX_BUILT

    @property
    def risk(self) -> str | None:
        return f"refused if stored rows do not satisfy {self.constraint.definition}"

    def __str__(self) -> str:
        return f"added {self.constraint.definition}"


@dataclass(frozen=True)
class ConstraintDropped(CatalogDifference):
    statement = "DROP CONSTRAINT"
    constraint: ConstraintShape

    def __str__(self) -> str:
        return f"dropped {self.constraint.name}: {self.constraint.definition}"


@dataclass(frozen=True)
class ConstraintValidated(Difference):
    """A check or foreign key that is declared, and live as NOT VALID."""

    way = Way.STEPS
    statement = "VALIDATE CONSTRAINT"
    cost = Cost("SHARE UPDATE EXCLUSIVE", "nobody, while rows are read")
    name: str

    @property
    def risk(self) -> str | None:
        return f"refused if stored rows do not satisfy {self.name}"

    def __str__(self) -> str:
        return f"validated {self.name}"


@dataclass(frozen=True)
class ForeignKeyAdded(Difference):
    way = Way.STEPS
    statement = "ADD FOREIGN KEY"
    cost = Cost("SHARE ROW EXCLUSIVE", "writers of both tables, for milliseconds; nobody, while rows are read")
    foreign_key: ForeignKeyShape

    @property
    def risk(self) -> str | None:
        return f"refused if stored rows refer to no row of {self.foreign_key.target}"

    def __str__(self) -> str:
        return f"added a foreign key to {self.foreign_key.target}"


@dataclass(frozen=True)
class ForeignKeyDropped(Difference):
    way = Way.CATALOG
    statement = "DROP CONSTRAINT"
    foreign_key: ForeignKeyShape

    def __str__(self) -> str:
        return f"dropped {self.foreign_key.name}: a foreign key to {self.foreign_key.target}"


@dataclass(frozen=True)
class IndexAdded(Difference):
    way = Way.STEPS
    statement = "CREATE INDEX"
    cost = _INDEX_BUILT
    index: IndexShape

    @property
    def risk(self) -> str | None:
        return "refused if stored rows share a key" if self.index.unique else None

    def __str__(self) -> str:
        return f"added {'unique ' if self.index.unique else ''}index {self.index}"


@dataclass(frozen=True)
class IndexDropped(CatalogDifference):
    statement = "DROP INDEX"
    index: IndexShape

    def __str__(self) -> str:
        return f"dropped index {self.index.name}: {self.index}"


@dataclass(frozen=True)
class IndexTuned(Difference):
    """Declared storage parameters; pages that are there keep theirs until the index is built again."""

    way = Way.CATALOG
    statement = "ALTER INDEX SET"
    cost = _NOBODY
    index: str
    options: str

    def __str__(self) -> str:
        return f"index {self.index}: {self.options}"


def is_stable(expression: str) -> bool:
    """Whether the default is surely the same for all rows: a literal, or of the statement, with or without casts."""
    literal, _, _ = expression.partition("::")
    is_text = len(literal) > 1 and literal[0] == literal[-1] == "'" and "'" not in literal[1:-1]
    is_number = literal.lstrip("-").replace(".", "", 1).isdigit()
    return is_text or is_number or literal in ("true", "false", "NULL") or _is_of_statement(expression)


def _is_of_statement(expression: str) -> bool:
    bare = _CAST_OR_ZONE.sub("", expression)
    while bare.startswith("(") and bare.endswith(")"):
        bare = bare[1:-1]
    return _OF_STATEMENT.fullmatch(bare) is not None


_CAST_OR_ZONE = re.compile(
    r"::(date|(time|timestamp)(\(\d\))? with(out)? time zone|text|name|character varying(\(\d+\))?)"
    r"| AT TIME ZONE '[^']*'"
)
_OF_STATEMENT = re.compile(
    r"(now|transaction_timestamp|statement_timestamp)\(\)"
    r"|(CURRENT_TIMESTAMP|CURRENT_TIME|LOCALTIMESTAMP|LOCALTIME)(\(\d\))?|CURRENT_DATE|CURRENT_USER|SESSION_USER"
)
