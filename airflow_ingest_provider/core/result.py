"""What a run did, as values."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TableResult:
    """What a run did to one table; counts are rows.

    Every row received was `inserted`, `updated`, found `unchanged`, or `superseded` by a later row of
    the same key in the same batch. Those that a trigger of the table keeps out are none of these. A count that
    PostgreSQL cannot tell is None.
    """

    table: str
    received: int = 0
    inserted: int | None = 0
    updated: int | None = 0
    unchanged: int | None = 0
    superseded: int | None = 0
    deleted: int | None = 0
    migration: tuple[str, ...] = ()
    """What was changed of the table's definition, a line each; empty if nothing was."""


@dataclass(frozen=True)
class IngestResult:
    """What a run did.

    `first_high_watermark` is what `batches` was called with, `last_high_watermark` what the next
    `HighWatermark.LATEST` run starts from: as JSON gives it back, a tuple as a list.
    """

    tables: tuple[TableResult, ...]
    batches: int
    first_high_watermark: Any
    last_high_watermark: Any
    seconds: float
    lock_attempts: int = 0
    """How often ACCESS EXCLUSIVE locks were tried for, over all migrations and swaps."""
    readers_kept: float = 0.0
    """Seconds in which readers may have had to wait for those, all together."""

    @property
    def rows(self) -> int:
        """Rows received, over all tables."""
        return sum(table.received for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, as XCom and JSON want them."""
        plain = asdict(self) | {"rows": self.rows}
        plain["tables"] = [table | {"migration": list(table["migration"])} for table in plain["tables"]]
        return plain
