"""The tables of a run: what each is, how its rows are replaced, and what has become of them so far."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import sqlalchemy as sa

from airflow_ingest_provider.core import migrate
from airflow_ingest_provider.core.merge import Merged
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.plan import Planned
from airflow_ingest_provider.core.result import TableResult
from airflow_ingest_provider.core.shape import TableShape
from airflow_ingest_provider.core.watermark import State


class Refresh(Enum):
    """How the rows that are there before the run are replaced."""

    SWAP = "by a new table that takes the old one's place"
    FIRST_LOAD = "by a new table too, since there are none"
    IN_PLACE = "in place"


@dataclass(eq=False)
class LoadedTable:
    """A declared table, its live one, and the counts of the run."""

    table: sa.Table
    name: Name
    state: State
    shape: TableShape | None = None
    refresh: Refresh | None = None
    why_so: str | None = None
    """How the rows of the table are replaced, and the reasons."""
    planned: Planned | None = None
    schemas: frozenset[str | None] = frozenset()
    """With which a Table of its name means it, too."""
    result: TableResult = field(init=False)

    def __post_init__(self) -> None:
        self.result = TableResult(str(self.name))

    def is_of(self, table: object) -> bool:
        """Whether rows that come with the table are rows of this one."""
        return table is self.table or (isinstance(table, sa.Table) and (table.schema, table.name) in self.spellings)

    @property
    def spellings(self) -> set[tuple[str | None, str]]:
        """The schemas and names of Tables that mean it."""
        return {(schema, self.table.name) for schema in (self.table.schema, *self.schemas)}

    @property
    def live(self) -> TableShape:
        """The live table's shape, known once the run has migrated it."""
        assert self.shape is not None, "the shape is read when the table is migrated"
        return self.shape

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns, in its order; empty without one."""
        return self.live.key

    def note_migration(self, lines: Iterable[str]) -> None:
        """Add what a migration did to the result, in which nothing is counted yet."""
        self.result = TableResult(self.result.table, migration=(*self.result.migration, *lines))

    def count(self, received: int, merged: Merged, *, old_rows_unread: bool) -> None:
        """Add what became of a batch's rows; an old table that is dropped unread leaves its rows uncounted."""
        was = self.result
        deleted = None if old_rows_unread or was.deleted is None else was.deleted + merged.deleted
        self.result = replace(
            was,
            received=was.received + received,
            inserted=(was.inserted or 0) + merged.inserted,
            updated=(was.updated or 0) + merged.updated,
            unchanged=(was.unchanged or 0) + merged.unchanged,
            superseded=(was.superseded or 0) + merged.superseded,
            deleted=deleted,
        )


def plan_tables(
    conn: sa.Connection, tables: Sequence[LoadedTable], conversions: Mapping[str, str]
) -> dict[LoadedTable, Planned]:
    """Compare live tables with their definitions, and take their shapes for what they are."""
    described = [(loaded.table, loaded.name, loaded.state) for loaded in tables]
    planned = dict(zip(tables, migrate.planned(conn, described, conversions), strict=True))
    for loaded, found in planned.items():
        loaded.shape = found.live
    return planned
