"""What is measured: the scenarios, and one measurement as a value that can be sent to a process of its own."""

import json
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import sqlalchemy as sa

from tests.benchmarks.data import SHAPES, Shape

TABLE = "measured"
SCHEMA = "public"

UPSERT_STEP = 5
"""An upsert brings every fifth key of the table."""


class Kind(Enum):
    """What a run does to the table."""

    LOAD = "load"
    REFRESH = "refresh"
    UPSERT = "upsert"
    MIGRATE = "migrate"
    SPREAD = "spread"


@dataclass(frozen=True)
class Scenario:
    """A thing to do, with or without a primary key. All but a first load find the table with all its rows."""

    name: str
    title: str
    kind: Kind
    keyed: bool = True
    changes: bool = False
    """Of an upsert or a refresh: whether half of its rows differ from those stored."""
    rewrites: bool = False
    """Of a migration: whether it needs every row to be written anew."""
    tables: int = 1
    """Of a first load: how many tables the rows are dealt out to, one after the other."""

    @property
    def of_one_table(self) -> str:
        """The first load of one table, to be compared with that of several."""
        return "first-load-key" if self.keyed else "first-load"


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("first-load", "First load, no key", Kind.LOAD, keyed=False),
        Scenario("first-load-key", "First load, primary key", Kind.LOAD),
        Scenario("tables-2", "First load, 2 tables in turns", Kind.SPREAD, keyed=False, tables=2),
        Scenario("tables-20", "First load, 20 tables in turns", Kind.SPREAD, keyed=False, tables=20),
        Scenario("tables-20-key", "First load, 20 tables in turns, primary keys", Kind.SPREAD, tables=20),
        Scenario("refresh", "Full refresh, half changed", Kind.REFRESH, changes=True),
        Scenario("refresh-unchanged", "Full refresh, none changed", Kind.REFRESH),
        Scenario("upsert-half", "Upsert, half changed", Kind.UPSERT, changes=True),
        Scenario("upsert-unchanged", "Upsert, none changed", Kind.UPSERT),
        Scenario("migrate-catalog", "Migration of the catalog", Kind.MIGRATE),
        Scenario("migrate-rewrite", "Migration with a rewrite", Kind.MIGRATE, rewrites=True),
    )
}


@dataclass(frozen=True)
class Job:
    """One measurement: who does what, with how many rows, where."""

    peer: str
    scenario_name: str
    shape_name: str
    rows: int
    dsn: str = ""
    url: str = ""
    psql: str | None = None
    postmaster: int = 0
    folder: str = ""

    @property
    def scenario(self) -> Scenario:
        return SCENARIOS[self.scenario_name]

    @property
    def shape(self) -> Shape:
        return SHAPES[self.shape_name]

    @property
    def all_keys(self) -> range:
        return range(self.rows)

    @property
    def keys(self) -> range:
        """The keys of the rows that the measured run brings; one new row for a migration."""
        if self.scenario.kind is Kind.MIGRATE:
            return range(self.rows, self.rows + 1)
        return range(0, self.rows, UPSERT_STEP) if self.scenario.kind is Kind.UPSERT else self.all_keys

    @property
    def filling(self) -> "Job":
        """The first load that comes before the measured run."""
        return replace(self, scenario_name="first-load-key")

    def rows_now(self) -> Any:
        """The tuples that the measured run brings, for `table()`."""
        rows = self.shape.rows(self.keys, self.scenario.changes)
        return ((*row, None) for row in rows) if self._adds_column else rows

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables that the rows are dealt out to."""
        return TABLE, *(f"{TABLE}_{number}" for number in range(1, self.scenario.tables))

    def keys_of(self, place: int) -> range:
        """The keys of the rows that come to the table at that place."""
        return self.keys[place :: self.scenario.tables]

    def metadata(self) -> sa.MetaData:
        """All tables, as they are after the measured run."""
        metadata = sa.MetaData()
        for name in self.tables:
            self.table().to_metadata(metadata, name=name)
        return metadata

    def table(self) -> sa.Table:
        """The first table, and in most scenarios the only one, as it is after the measured run."""
        scenario = self.scenario
        rewritten = scenario.kind is Kind.MIGRATE and scenario.rewrites
        key = sa.BigInteger() if rewritten else sa.Integer()
        columns: list[sa.Column[Any]] = [
            sa.Column("id", key, primary_key=scenario.keyed, autoincrement=False, nullable=not scenario.keyed)
        ]
        columns += [sa.Column(field.name, field.type) for field in self.shape.fields]
        if self._adds_column:
            columns.append(sa.Column("note", sa.Text()))
        return sa.Table(TABLE, sa.MetaData(), *columns, schema=SCHEMA)

    @property
    def _adds_column(self) -> bool:
        return self.scenario.kind is Kind.MIGRATE and not self.scenario.rewrites

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        return cls(**json.loads(text))
