"""From any definition to any other: the migration is done, or refused by an error of ours with nothing changed."""

import datetime as dt
import os
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from airflow_ingest_provider import Delete, IngestError, ingest_plan
from airflow_ingest_provider.core.names import is_temporary
from tests.postgres.helpers import load, rows_of

EXAMPLES = int(os.environ.get("INGEST_EXAMPLES", "100"))

# Types, with a value for a number below 1,000 that no other has.
INTEGERS: dict[Any, Callable[[int], Any]] = dict.fromkeys((sa.SmallInteger(), sa.Integer(), sa.BigInteger()), int)
TYPES: dict[Any, Callable[[int], Any]] = {
    **INTEGERS,
    sa.Text(): str,
    sa.String(5): str,
    sa.String(20): str,
    sa.Numeric(6, 1): Decimal,
    sa.Numeric(10, 2): Decimal,
    sa.Float(): float,
    sa.Date(): lambda number: dt.date(2020, 1, 1) + dt.timedelta(number),
}

KINDS = ("plain", "plain", "plain", "key", "unique", "identity", "default", "computed")


@st.composite
def tables(draw: st.DrawFn) -> sa.Table:
    """A table of columns a to e, in any order, of any types, with what else a definition may hold."""
    names = draw(st.lists(st.sampled_from("abcde"), min_size=1, unique=True))
    columns = [draw(columns_called(name)) for name in names]
    assume(any(column.computed is None for column in columns))
    indexable = [column.name for column in columns if column.computed is None]
    more: list[Any] = []
    if draw(st.booleans()):
        indexed = draw(st.lists(st.sampled_from(indexable), min_size=1, max_size=2, unique=True))
        more.append(sa.Index(draw(st.sampled_from(("first", "second"))), *indexed))
    checked = draw(st.none() | st.sampled_from(indexable))
    if checked:
        more.append(sa.CheckConstraint(f"{checked} IS NOT NULL", name=draw(st.sampled_from(("sound", "whole")))))
    whole = [one for one in columns if one.computed is None and one.type in INTEGERS]
    primary = [one.name for one in columns if one.primary_key]
    keys = [one.name for one in whole if one.unique or primary == [one.name]]
    referring = [one.name for one in whole if one.nullable and not one.unique and one.name != checked]
    if draw(st.booleans()) and keys and referring:
        more.append(sa.ForeignKeyConstraint([draw(st.sampled_from(referring))], [f"t.{draw(st.sampled_from(keys))}"]))
    return sa.Table("t", sa.MetaData(), *columns, *more)


@st.composite
def columns_called(draw: st.DrawFn, name: str) -> sa.Column[Any]:
    kind = draw(st.sampled_from(KINDS))
    types = INTEGERS if kind in ("identity", "default", "computed") else TYPES
    more: list[Any] = []
    options: dict[str, Any] = {"comment": draw(st.sampled_from((None, None, "first", "second")))}
    match kind:
        case "key":
            options |= {"primary_key": True, "autoincrement": False}
        case "unique":
            options["unique"] = True
        case "identity":
            more.append(sa.Identity(always=draw(st.booleans())))
        case "default":
            options["server_default"] = sa.text("7")
        case "computed":
            more.append(sa.Computed(str(draw(st.integers(1, 2))), persisted=True))
    if kind in ("plain", "unique", "default"):
        options["nullable"] = draw(st.booleans())
    return sa.Column(name, draw(st.sampled_from(list(types))), *more, **options)


def rows_for(table: sa.Table, first: int, count: int) -> list[tuple[Any, ...]]:
    """Rows that the table takes, each with a number's values; NULL where it refers to others."""
    filled = [column for column in table.columns if column.computed is None]
    return [
        tuple(None if column.foreign_keys else TYPES[column.type](number) for column in filled)
        for number in range(first, first + count)
    ]


def refusal(conn: sa.Connection, table: sa.Table, rows: list[tuple[Any, ...]], delete: str) -> str | None:
    """Load the rows; what the error of ours said that came instead."""
    try:
        load(conn, table, rows, delete=delete)
    except IngestError as error:
        return str(error)
    return None


def count(conn: sa.Connection) -> int:
    return int(rows_of(conn, "SELECT count(*) FROM t")[0][0])


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    before=tables(),
    after=tables(),
    stored=st.sampled_from((0, 2, 600)),
    new=st.sampled_from((0, 2, 600)),
    delete=st.sampled_from((Delete.OFF, Delete.BEFORE_FIRST_BATCH)),
    viewed=st.booleans(),
)
def test_any_definition_gets_to_any_other_or_is_refused(
    conn: sa.Connection, before: sa.Table, after: sa.Table, stored: int, new: int, delete: str, viewed: bool
) -> None:
    with conn.begin():
        conn.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    load(conn, before, rows_for(before, 1, stored))
    if viewed:
        with conn.begin():
            conn.exec_driver_sql("CREATE VIEW v AS SELECT * FROM t")
    (plan,) = ingest_plan(conn, after.metadata, delete=delete).tables
    error = refusal(conn, after, rows_for(after, 2 if delete == Delete.BEFORE_FIRST_BATCH else 300, new), delete)
    if error is None:
        assert plan.refused is None
        assert not (again := ingest_plan(conn, after.metadata)), f"{plan}\n{again}"
        assert count(conn) == new if delete == Delete.BEFORE_FIRST_BATCH else count(conn) >= stored
    else:
        assert not re.search("_ingest_|sqlalche.me", error)
        assert plan.refused is None or error.startswith(plan.refused)
        assert count(conn) == stored
    assert not [name for (name,) in rows_of(conn, "SELECT relname FROM pg_class") if is_temporary(name)]
