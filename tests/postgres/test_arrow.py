"""Arrow data in place of rows: the same values are stored, in order, and nothing but a piece of it is in memory."""

import datetime as dt
import itertools
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Json
from sqlalchemy.dialects import postgresql as pg

from airflow_ingest_provider import IngestError, RowError, Upsert, ingest
from airflow_ingest_provider.core import arrow
from airflow_ingest_provider.demo.server import Server
from tests.postgres.helpers import is_usable, load, people, rows_of


@dataclass(frozen=True)
class Case:
    """A column's type, the Arrow type of the data, values, and what a row would hold for one."""

    column: Any
    arrow: Any
    values: st.SearchStrategy[Any]
    in_a_row: Callable[[Any], Any] = lambda value: value
    goes_binary: bool = True


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\\\t\n ,{}'"))
MOMENTS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))
NAIVE_SECONDS = MOMENTS.map(lambda moment: moment.replace(microsecond=0))
IN_UTC = MOMENTS.map(lambda moment: moment.replace(tzinfo=dt.timezone.utc))
FLOATS_32 = st.floats(width=32)


def whole(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def decimals(places: int, digits: int) -> st.SearchStrategy[Decimal]:
    # Not st.decimals: its limits are rounded to the 28 digits of decimal's context.
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda number: Decimal(f"{number}e-{places}"))


def json_text(text: str) -> Json:
    """What a row holds for text that is JSON already."""
    return Json(text, dumps=str)


CASES = {
    "bool": Case(sa.Boolean, pa.bool_(), st.booleans()),
    "int8 into smallint": Case(sa.SmallInteger, pa.int8(), whole(8)),
    "int64 into integer": Case(sa.Integer, pa.int64(), whole(32)),
    "int64 out of range": Case(sa.Integer, pa.int64(), whole(64), goes_binary=False),
    "uint64 into bigint": Case(sa.BigInteger, pa.uint64(), st.integers(0, 2**64 - 1), goes_binary=False),
    "float64 into integer": Case(sa.Integer, pa.float64(), st.sampled_from([1.0, 3.7, -2.0]), goes_binary=False),
    "float32 into real": Case(sa.REAL, pa.float32(), FLOATS_32),
    "float64 into real": Case(sa.REAL, pa.float64(), st.floats(), goes_binary=False),
    "float16 into double": Case(sa.Double, pa.float16(), st.floats(width=16)),
    "float64 into double": Case(sa.Double, pa.float64(), st.floats()),
    "integer into double": Case(sa.Double, pa.int64(), whole(64), goes_binary=False),
    "decimal into numeric": Case(sa.Numeric, pa.decimal128(38, 9), decimals(9, 38)),
    "decimal into numeric(10, 2)": Case(sa.Numeric(10, 2), pa.decimal128(9, 2), decimals(2, 9)),
    "decimal with more places": Case(sa.Numeric(10, 2), pa.decimal128(20, 3), decimals(3, 20), goes_binary=False),
    "decimal256": Case(sa.Numeric, pa.decimal256(70, 30), decimals(30, 70), goes_binary=False),
    "integer into numeric": Case(sa.Numeric, pa.int64(), whole(64)),
    "uint64 into numeric": Case(sa.Numeric(22, 2), pa.uint64(), st.integers(0, 2**64 - 1)),
    "float64 into numeric": Case(sa.Numeric, pa.float64(), st.floats(), goes_binary=False),
    "string": Case(sa.Text, pa.string(), WORDS),
    "large string": Case(sa.Text, pa.large_string(), WORDS),
    "dictionary": Case(sa.Text, pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["a", "b", ""])),
    "varchar(3)": Case(sa.String(3), pa.string(), WORDS, goes_binary=False),
    "char(3)": Case(sa.CHAR(3), pa.string(), st.text("aä🚲", max_size=3)),
    "text of spaces in varchar(3)": Case(sa.String(3), pa.string(), st.text(" a", max_size=5), goes_binary=False),
    "enum": Case(sa.Enum("sad", "it's \\ok", name="mood"), pa.string(), st.sampled_from(["sad", "it's \\ok"])),
    "number into text": Case(sa.Text, pa.int64(), whole(8), goes_binary=False),
    "bytes": Case(sa.LargeBinary, pa.binary(), st.binary()),
    "large bytes": Case(sa.LargeBinary, pa.large_binary(), st.binary()),
    "fixed bytes": Case(sa.LargeBinary, pa.binary(3), st.binary(min_size=3, max_size=3)),
    "uuid": Case(sa.Uuid, pa.uuid(), st.uuids().map(lambda it: it.bytes), lambda raw: UUID(bytes=raw)),
    "uuid as bytes": Case(sa.Uuid, pa.binary(16), st.uuids().map(lambda it: it.bytes), lambda raw: UUID(bytes=raw)),
    "uuid as text": Case(sa.Uuid, pa.string(), st.uuids().map(str), goes_binary=False),
    "json": Case(sa.JSON, pa.json_(), st.sampled_from(['{"a": 1.0}', "[1, null]", '"x"']), json_text),
    "jsonb": Case(pg.JSONB, pa.json_(), st.sampled_from(['{"a": "\\u00e4"}', "[1, null]", "3"]), json_text),
    "text into json": Case(sa.JSON, pa.string(), WORDS, goes_binary=False),
    "struct into jsonb": Case(
        pg.JSONB,
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        st.fixed_dictionaries({"a": whole(8), "b": st.lists(st.text("ab\\"), max_size=3)}),
        goes_binary=False,
    ),
    "map into jsonb": Case(
        pg.JSONB,
        pa.map_(pa.string(), pa.int64()),
        st.dictionaries(WORDS, whole(8)).map(lambda it: list(it.items())),
        dict,
        False,
    ),
    "date32": Case(sa.Date, pa.date32(), st.dates()),
    "date64": Case(sa.Date, pa.date64(), st.dates(), goes_binary=False),
    "time64": Case(sa.Time, pa.time64("us"), st.times()),
    "time32": Case(sa.Time, pa.time32("s"), st.times().map(lambda time: time.replace(microsecond=0))),
    "time(1)": Case(pg.TIME(precision=1), pa.time64("us"), st.times(), goes_binary=False),
    "timestamp in microseconds": Case(sa.DateTime, pa.timestamp("us"), MOMENTS),
    "timestamp in seconds": Case(sa.DateTime, pa.timestamp("s"), NAIVE_SECONDS),
    "timestamp(0)": Case(pg.TIMESTAMP(precision=0), pa.timestamp("us"), NAIVE_SECONDS),
    "timestamp(0) of microseconds": Case(
        pg.TIMESTAMP(precision=0), pa.timestamp("us"), MOMENTS.filter(lambda it: it.microsecond), goes_binary=False
    ),
    "timestamptz": Case(sa.DateTime(True), pa.timestamp("us", "UTC"), IN_UTC),
    "timestamptz elsewhere": Case(
        sa.DateTime(True),
        pa.timestamp("ms", "Asia/Kathmandu"),
        IN_UTC.map(lambda moment: moment.replace(microsecond=0)),
    ),
    "zone into timestamp": Case(sa.DateTime, pa.timestamp("us", "UTC"), IN_UTC, goes_binary=False),
    "no zone into timestamptz": Case(sa.DateTime(True), pa.timestamp("us"), MOMENTS, goes_binary=False),
    "duration into interval": Case(
        sa.Interval, pa.duration("us"), st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)), goes_binary=False
    ),
    "list of integers": Case(pg.ARRAY(sa.Integer), pa.list_(pa.int64()), st.lists(st.none() | whole(32), max_size=4)),
    "list of texts": Case(pg.ARRAY(sa.Text), pa.large_list(pa.string()), st.lists(st.none() | WORDS, max_size=4)),
    "list of floats": Case(pg.ARRAY(sa.Double), pa.list_(pa.float32()), st.lists(FLOATS_32, max_size=4)),
    "list of timestamps": Case(
        pg.ARRAY(sa.DateTime), pa.list_(pa.timestamp("us")), st.lists(MOMENTS, max_size=3), goes_binary=False
    ),
    "list of varchars": Case(pg.ARRAY(sa.String(2)), pa.list_(pa.string()), st.lists(WORDS), goes_binary=False),
    "list of lists": Case(
        pg.ARRAY(sa.Integer, dimensions=2),
        pa.list_(pa.list_(pa.int32())),
        st.lists(st.lists(whole(8), min_size=2, max_size=2), max_size=3),
        goes_binary=False,
    ),
}


@pytest.fixture
def psycopg_engine(server: Server, database: str, dsn: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(server.url("psycopg", database))
    yield engine
    engine.dispose()


def loaded(conn: sa.Connection, table: sa.Table, items: list[Any]) -> list[Any] | tuple[str | None, int | None]:
    """What is stored of one batch, as PostgreSQL shows it; or the column and row that were refused."""
    try:
        ingest(conn, table.metadata, lambda mark: [(1, None, [(table, item) for item in items])], upsert=Upsert.OFF)
    except RowError as error:
        return error.column, error.row_number
    with conn.begin():
        shown = list(conn.scalars(sa.text("SELECT value::text FROM t ORDER BY number")))
        conn.execute(sa.text("TRUNCATE t"))
    return shown


@pytest.mark.parametrize("name", CASES)
def test_arrow_data_is_stored_as_the_same_rows_are(psycopg_engine: sa.Engine, name: str) -> None:
    case = CASES[name]
    table = sa.Table("t", sa.MetaData(), sa.Column("value", case.column), sa.Column("number", sa.Integer))

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.none() | case.values, min_size=1, max_size=40))
    def same(values: list[Any]) -> None:
        column = pa.array(values, case.arrow)
        numbers = list(range(len(values)))
        data = pa.table({"number": numbers, "value": column})
        as_rows = [None if value is None else case.in_a_row(value) for value in plain(column)]
        with psycopg_engine.connect() as conn:
            wanted = loaded(conn, table, list(zip(as_rows, numbers, strict=True)))
            assert loaded(conn, table, [data]) == wanted

    same()


def plain(column: Any) -> list[Any]:
    values: list[Any] = (column.storage if isinstance(column, pa.ExtensionArray) else column).to_pylist()
    return values


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.goes_binary])
def test_what_fits_goes_as_binary(psycopg_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*arguments: Any) -> Any:
        raise AssertionError("the record batch was taken apart into rows")

    monkeypatch.setattr(arrow, "as_rows", refuse)
    case = CASES[name]
    table = sa.Table("t", sa.MetaData(), sa.Column("value", case.column), sa.Column("number", sa.Integer))
    with psycopg_engine.connect() as conn:
        assert loaded(conn, table, [pa.table({"value": pa.nulls(1, case.arrow), "number": [1]})]) == [None]


def people_in_arrow(*rows: tuple[Any, ...]) -> Any:
    """The rows of people, as a pyarrow.Table."""
    return pa.table(dict(zip(["id", "name", "age"], map(list, zip(*rows, strict=True)), strict=True)))


FRAMES: dict[str, Callable[[Any], Any]] = {
    "pyarrow table": lambda data: data,
    "pyarrow record batch": lambda data: data.to_batches()[0],
    "pyarrow reader": lambda data: data.to_reader(),
    "pandas": lambda data: data.to_pandas(),
    "pandas, filtered": lambda data: data.to_pandas()[lambda frame: frame["id"] > 0].iloc[::-1],
    "polars": pl.from_arrow,
    "duckdb": lambda data: duckdb.from_arrow(data),
    "array only": lambda data: ArrayOnly(data.to_batches()[0]),
}


class ArrayOnly:
    """An object with one of the two methods, as small libraries have it."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self._batch.__arrow_c_array__(requested_schema)


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_of_every_library_are_taken(conn: sa.Connection, frame: str) -> None:
    rows = [(1, "a", 10), (2, "b", None), (3, None, 30)]
    # Among them are floats: pandas makes those of integers of which one is missing.
    data = FRAMES[frame](people_in_arrow(*rows))
    result = load(conn, people(), [data])
    assert rows_of(conn) == rows
    assert (result.tables[0].received, result.tables[0].inserted) == (3, 3)


def test_rows_and_frames_may_be_mixed_and_the_last_row_of_a_key_wins(conn: sa.Connection) -> None:
    table = people()
    items = [
        (1, "row", 1),
        people_in_arrow((1, "arrow", 2), (2, "arrow", 2)),
        people_in_arrow((3, "arrow", 3)),
        (2, "row", 4),
        people_in_arrow((4, "arrow", 4)),
        (4, "row", 5),
    ]
    result = load(conn, table, items)
    assert rows_of(conn) == [(1, "arrow", 2), (2, "row", 4), (3, "arrow", 3), (4, "row", 5)]
    assert (result.tables[0].received, result.tables[0].superseded) == (7, 3)


def test_frames_of_several_tables_may_be_mixed(conn: sa.Connection) -> None:
    metadata = sa.MetaData()
    tables = [sa.Table(f"t{n}", metadata, sa.Column("id", sa.Integer)) for n in range(3)]
    other = sa.Table("other", sa.MetaData(), sa.Column("id", sa.Integer))

    def items() -> Iterator[tuple[sa.Table, Any]]:
        for n in range(600):
            yield tables[n % 3], (n,)
            if n % 75 == 0:
                yield tables[n % 2], pa.table({"id": [n, n]})
                yield other, pa.table({"nobody": ["reads this"]})

    result = ingest(conn, metadata, lambda mark: [(1, None, items())])
    assert [table.received for table in result.tables] == [200 + 8, 200 + 8, 200]
    total = sum(range(0, 600, 3)) + 2 * sum(range(0, 600, 150))
    assert rows_of(conn, "SELECT count(*), sum(id) FROM t0") == [(208, total)]


def test_a_batch_that_fits_no_binary_is_followed_by_one_that_does(conn: sa.Connection) -> None:
    table = people()
    schema = pa.schema([("age", pa.int32()), ("id", pa.float64()), ("name", pa.string())])
    narrow = pa.schema([("age", pa.decimal128(5, 1)), ("id", pa.int64()), ("name", pa.string())])
    ones = pa.table({"age": [1, 2], "id": [1.0, 2.0], "name": ["a", "b"]}, schema=schema)
    twos = pa.table({"age": [Decimal("3.0")], "id": [3], "name": ["c"]}, schema=narrow)
    load(conn, table, [ones, people_in_arrow((4, "d", 4)), twos, people_in_arrow((5, "e", 5))])
    assert rows_of(conn) == [(n, "_abcde"[n], n) for n in range(1, 6)]


@pytest.mark.parametrize("bad", [1, 20_000, 99_999])
def test_a_value_that_does_not_fit_is_named_by_its_row(conn: sa.Connection, bad: int) -> None:
    ages = [2**40 if n == bad else n for n in range(1, 100_001)]
    data = pa.table({"id": range(1, 100_001), "name": ["x"] * 100_000, "age": ages})
    with pytest.raises(RowError, match="integer") as refused:
        load(conn, people(), [(0, "first", 0), data])
    assert (refused.value.row_number, refused.value.column) == (bad + 1, "age")
    assert is_usable(conn)
    assert rows_of(conn) == []


def test_what_only_postgresql_refuses_is_named_by_its_row_too(conn: sa.Connection) -> None:
    table = people()
    with pytest.raises(RowError) as refused:
        load(conn, table, [people_in_arrow((1, "a", 1), (2, "b\0", 1))])
    assert (refused.value.row_number, refused.value.column) == (2, "name")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["id", "name"], "lacks 'age'"),
        (["id", "name", "age", "size"], "has beyond them 'size'"),
        (["id", "name", "age", "age"], "has twice 'age'"),
    ],
)
def test_columns_that_are_not_the_tables_are_refused_by_name(
    conn: sa.Connection, names: list[str], message: str
) -> None:
    data = pa.table([pa.array([1], pa.int64())] * len(names), names=names)
    with pytest.raises(RowError, match=message) as refused:
        load(conn, people(), [data])
    assert refused.value.value_type == "Table"
    assert is_usable(conn)


@pytest.mark.parametrize("column", [pa.array([1]), pl.Series([1])])
def test_a_single_column_is_no_table(conn: sa.Connection, column: Any) -> None:
    with pytest.raises(RowError, match=r"\((Int64Array|Series)\): its Arrow data is no table of columns: pass a table"):
        load(conn, people(), [column])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            pd.DataFrame({"id": [1, "private"], "name": ["a", "b"], "age": [1, 1]}),
            "row 2 of public.people, column 'id'",
        ),
        (pd.DataFrame({"id": [1], "name": ["private"], "age": [1]}).iloc[0], "no table of columns.* a row as a tuple"),
        (pd.DataFrame([[1, "private", "b", 1]], columns=["id", "name", "name", "age"]), "no table of columns"),
    ],
    ids=["a column of several types", "a row of a frame", "two columns of a name"],
)
def test_what_pandas_cannot_convert_is_named_without_its_values(conn: sa.Connection, given: Any, message: str) -> None:
    with pytest.raises(RowError, match=message) as refused:
        load(conn, people(), [given])
    assert "private" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            pl.DataFrame({"id": [1], "age": [1], "name": ["private"]}, schema_overrides={"age": pl.Int128}),
            r"column 'age' \(Int128\): its type, or a value of it, has no form in Arrow",
        ),
        (
            pd.DataFrame({"id": [1], "age": pd.arrays.SparseArray([1]), "name": ["private"]}),
            r"column 'age' \(Sparse\[int64, 0\]\): its type, or a value of it, has no form in Arrow",
        ),
        (
            pd.DataFrame({"age": [1], "name": ["private"]}, index=pd.RangeIndex(1, name="id")),
            r"lacks 'id': .*; 'id' is in its index: pass frame.reset_index\(\)",
        ),
        (pl.LazyFrame({"id": [1], "age": [1], "name": ["private"]}), r"\(LazyFrame\): .* collect\(\)"),
        (duckdb.connect(), r"\(DuckDBPyConnection\): .* sql\(\) or to_arrow_table\(\)"),
    ],
    ids=["polars type", "pandas type", "index", "LazyFrame", "connection"],
)
def test_frames_that_cannot_be_taken_say_what_to_pass(conn: sa.Connection, given: Any, message: str) -> None:
    with pytest.raises(RowError, match=message) as refused:
        load(conn, people(), [given])
    assert "private" not in "".join(traceback.format_exception(refused.value))
    assert is_usable(conn)


@pytest.mark.parametrize("type_", [sa.LargeBinary, sa.Uuid])
def test_python_objects_of_polars_are_refused(conn: sa.Connection, type_: Any) -> None:
    """What polars gives for them are addresses."""
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("value", type_))
    frame: Any = pl.DataFrame({"id": [1], "value": pl.Series([UUID(int=1)], dtype=pl.Object)})
    with pytest.raises(RowError, match=r"column 'value' \(Object\): polars gives the addresses .* as tuples"):
        load(conn, table, [frame])
    assert is_usable(conn)
    if type_ is sa.Uuid:
        load(conn, table, frame.iter_rows())
        assert rows_of(conn, "SELECT value FROM t") == [(UUID(int=1),)]


OBJECTS: dict[str, tuple[Any, list[Any]]] = {
    "other keys": (pg.JSONB, [{"a": 1}, {"b": True}, {}]),
    "integers and floats in documents": (pg.JSONB, [{"a": 1}, {"a": 1.5}, {"a": 2**70}]),
    "documents of any kind": (pg.JSONB, [{"a": [1, "x"]}, [True], [1, 2.5], "text", 1, True]),
    "NaN in a document": (pg.JSONB, [{"a": 1}, {"a": float("nan")}]),
    "booleans and integers": (pg.JSONB, [True, 1, 1.0]),
    "dates and datetimes into date": (sa.Date, [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 7)]),
    "dates and datetimes into timestamp": (sa.DateTime, [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 7)]),
    "a datetime without zone among others": (sa.DateTime(True), [dt.datetime.now(dt.timezone.utc), dt.datetime.now()]),
    "datetimes of other zones": (
        sa.DateTime(True),
        [dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=hours))) for hours in (0, 1, -15)],
    ),
    "a datetime with a zone among others": (
        sa.DateTime,
        [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))],
    ),
    "a time with a zone": (sa.Time, [dt.time(1, tzinfo=dt.timezone.utc)]),
    "nanoseconds": (sa.DateTime, [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01 00:00:00.000000001")]),
    "a duration and an integer": (sa.Interval, [dt.timedelta(1), 5]),
    "decimals of other places": (sa.Numeric, [Decimal("1.1"), Decimal("2.22"), Decimal("3E+2")]),
    "decimals of the same places": (sa.Numeric, [Decimal("1.10"), Decimal("2.22"), Decimal("0.00")]),
    "infinite decimals": (sa.Numeric, [Decimal("Infinity"), Decimal("-Infinity")]),
    "large integers": (sa.Numeric, [2**63, 2**64, 1]),
    "texts": (sa.Text, ["a", "", "\\"]),
    "half a surrogate pair": (sa.Text, ["a", "\ud800"]),
    "texts and bytes": (sa.Text, ["a", b"b"]),
    "bytes": (sa.LargeBinary, [b"a", b""]),
    "UUIDs": (sa.Uuid, [UUID(int=1), UUID(int=2)]),
    "lists": (pg.ARRAY(sa.Double), [[1, 2.5], [], [float("nan"), None]]),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_python_objects_of_pandas_are_stored_as_in_rows(psycopg_engine: sa.Engine, name: str) -> None:
    type_, values = OBJECTS[name]
    table = sa.Table("t", sa.MetaData(), sa.Column("value", type_), sa.Column("number", sa.Integer))
    # Backwards too: the type that pyarrow would find depends on the order.
    for objects in (values, values[::-1]):
        with_missing = [*objects, None, float("nan"), pd.NaT, pd.NA]
        frame = pd.DataFrame({"value": pd.Series(with_missing, dtype=object), "number": range(len(objects) + 4)})
        rows = [(value, number) for number, value in enumerate([*objects, None, None, None, None])]
        with psycopg_engine.connect() as conn:
            wanted = loaded(conn, table, rows)
            assert loaded(conn, table, [frame]) == wanted
            assert loaded(conn, table, [frame.set_index("value")]) == wanted


def test_an_index_of_several_levels_of_pandas_is_stored_as_in_rows(conn: sa.Connection) -> None:
    days = [dt.date(2020, 1, 1), dt.datetime(2020, 1, 2, 7), dt.date(2020, 1, 3)]
    levels = [[1, 2, 3], pd.Index(days, dtype=object), ["a", "b", "c"]]
    frame = pd.DataFrame({"id": [1, 2, 3]}, pd.MultiIndex.from_arrays(levels, names=["n", "at", None]))
    table = sa.Table("t", sa.MetaData(), *(sa.Column(name, sa.Integer) for name in ("id", "n")))
    table.append_column(sa.Column("at", sa.DateTime))
    load(conn, table, [frame])
    assert rows_of(conn, "SELECT n, at::text FROM t WHERE id = n ORDER BY n") == [
        (1, "2020-01-01 00:00:00"),
        (2, "2020-01-02 07:00:00"),
        (3, "2020-01-03 00:00:00"),
    ]


def test_categories_of_pandas_are_stored_as_in_rows(conn: sa.Connection) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("value", pg.JSONB), sa.Column("name", sa.Text))
    values = pd.Categorical([2.5, None, True, 2.5, "a"], categories=pd.Index(["a", 2.5, True], dtype=object))
    load(conn, table, [pd.DataFrame({"value": values, "name": pd.Categorical(["a", "b", "b", "b", None])})])
    assert rows_of(conn, "SELECT value, name FROM t") == [
        (2.5, "a"),
        (None, "b"),
        (True, "b"),
        (2.5, "b"),
        ("a", None),
    ]


def test_texts_of_pandas_among_other_objects_are_in_their_rows(conn: sa.Connection) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("doc", pg.JSONB))
    frame = pd.DataFrame({"id": range(50_000), "doc": [{f"k{n}": n} if n % 2 else f"k{n}" for n in range(50_000)]})
    load(conn, table, [frame[frame["id"] >= 100]])
    wrong = "doc <> CASE WHEN id % 2 = 1 THEN jsonb_build_object('k' || id, id) ELSE to_jsonb('k' || id) END"
    assert rows_of(conn, f"SELECT count(*), count(*) FILTER (WHERE {wrong}), min(id) FROM t") == [(49_900, 0, 100)]


def test_nanoseconds_that_postgresql_would_drop_are_refused(conn: sa.Connection) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("at", sa.DateTime))
    kept = pa.table({"at": pa.array([1_000_000_000_000_000_000], pa.timestamp("ns"))})
    load(conn, table, [kept])
    lost = pa.table({"at": pa.array([0, 1], pa.timestamp("ns"))})
    with pytest.raises(RowError) as refused:
        load(conn, table, [lost])
    assert (refused.value.row_number, refused.value.column) == (2, "at")
    assert rows_of(conn, "SELECT at::text FROM t") == [("2001-09-09 01:46:40",)]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "+15:59"])
def test_instants_that_go_by_rows_are_the_same_as_binary_ones(conn: sa.Connection, zone: str) -> None:
    table = sa.Table(
        "t", sa.MetaData(), *(sa.Column(name, sa.DateTime(True)) for name in ("a", "b")), sa.Column("n", sa.Numeric)
    )
    moments = [0, -1, 1, 1_603_587_600_000_000, None, -62_135_510_400_000_000, 253_402_214_400_000_000]
    instants = pa.array(moments, pa.timestamp("us", "UTC")).cast(pa.timestamp("us", zone))
    count = len(moments)
    # Floats for numeric take the others along as rows.
    load(conn, table, [pa.table({"a": instants, "b": instants, "n": [float(n) for n in range(count)]})])
    load(conn, table, [pa.table({"a": instants, "b": instants, "n": range(count, 2 * count)})])
    shown = rows_of(conn, "SELECT a::text, b::text FROM t ORDER BY n")
    assert shown[:count] == shown[count:]
    late = pa.array([0, 2**60], pa.timestamp("us", zone))
    with pytest.raises(RowError, match="Python has no value that equals it") as refused:
        load(conn, table, [pa.table({"a": late, "b": late, "n": [0.5, 1.5]})])
    assert (refused.value.row_number, refused.value.column) == (2, "a")


@pytest.mark.parametrize("style", ["postgres", "sql_standard", "iso_8601"])
def test_months_days_and_nanoseconds_are_an_interval(engine: sa.Engine, style: str) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("lasts", sa.Interval), sa.Column("number", sa.Integer))
    lasts = pa.array([(1, 2, 3000), (-1, 2, 3000), (1, -2, -3000), (-14, 0, 0)], pa.month_day_nano_interval())
    styled = {"options": f"-c intervalstyle={style}"}
    with sa.create_engine(engine.url, poolclass=sa.NullPool, connect_args=styled).connect() as conn:
        load(conn, table, [pa.table({"lasts": lasts, "number": range(4)})])
    parts = "extract(year FROM lasts), extract(month FROM lasts), extract(day FROM lasts), extract(us FROM lasts)"
    with engine.connect() as conn:
        assert rows_of(conn, f"SELECT {parts} FROM t ORDER BY number") == [
            (0, 1, 2, 3),
            (0, -1, 2, 3),
            (0, 1, -2, -3),
            (-1, -2, 0, 0),
        ]


MAP = pa.map_(pa.string(), pa.int32())


@pytest.mark.parametrize(
    ("type_", "given", "stored"),
    [
        (MAP, [("k", 1)], {"k": 1}),
        (
            pa.struct([("m", MAP), ("n", MAP), ("o", pa.int8())]),
            {"m": [("k", 1)], "o": 1},
            {"m": {"k": 1}, "n": None, "o": 1},
        ),
        (pa.list_(MAP), [[("k", 1)], None, []], [{"k": 1}, None, {}]),
        (pa.map_(pa.string(), pa.large_list(MAP)), [("k", [[("l", 1)]]), ("m", None)], {"k": [{"l": 1}], "m": None}),
    ],
    ids=["alone", "in a struct", "in a list", "in a map"],
)
def test_maps_are_objects_wherever_they_are(conn: sa.Connection, type_: Any, given: Any, stored: Any) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("value", pg.JSONB))
    load(conn, table, [pa.table({"value": pa.array([given, None], type_)})])
    assert rows_of(conn, "SELECT value FROM t ORDER BY value") == [(stored,), (None,)]


@pytest.mark.parametrize("type_", [MAP, pa.list_(MAP)], ids=str)
def test_a_map_with_two_equal_keys_is_refused(conn: sa.Connection, type_: Any) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("value", pg.JSONB))
    pairs: list[Any] = [("private", 1), ("private", 2)]
    given = pa.array([None, pairs if type_ == MAP else [pairs]], type_)
    with pytest.raises(RowError, match="a map with two equal keys") as refused:
        load(conn, table, [pa.table({"value": given})])
    assert (refused.value.row_number, refused.value.column) == (2, "value")
    assert "private" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("column", "type_", "earliest"),
    [
        (sa.Date, pa.date32(), -2440588),
        (pg.ARRAY(sa.Date), pa.list_(pa.date32()), -2440588),
        (sa.DateTime, pa.timestamp("us"), -2440588 * 86_400_000_000),
        (sa.DateTime(True), pa.timestamp("us", "UTC"), -2440588 * 86_400_000_000),
    ],
    ids=str,
)
def test_what_is_earlier_than_postgresql_counts_is_refused(
    conn: sa.Connection, column: Any, type_: Any, earliest: int
) -> None:
    """Some of it would be -infinity."""
    table = sa.Table("t", sa.MetaData(), sa.Column("value", column), sa.Column("number", sa.Integer))
    bits = 32 if pa.types.is_date32(type_) or pa.types.is_list(type_) else 64
    infinite = {32: -(2**31) + 10957, 64: -(2**63) + 946_684_800_000_000}[bits]

    def column_of(*numbers: int) -> Any:
        flat = pa.array(numbers, pa.int32() if bits == 32 else pa.int64())
        if pa.types.is_list(type_):
            return pa.ListArray.from_arrays(range(len(numbers) + 1), flat.cast(type_.value_type))
        return flat.cast(type_)

    load(conn, table, [pa.table({"value": column_of(earliest), "number": [1]})])
    for number in (earliest - 1, infinite, infinite - 1, -(2 ** (bits - 1))):
        with pytest.raises(RowError, match="Python has no value that equals it") as refused:
            load(conn, table, [pa.table({"value": column_of(0, number), "number": [3, 4]})])
        assert (refused.value.row_number, refused.value.column) == (2, "value")
    assert rows_of(conn, "SELECT number, value::text LIKE '%4714-11-24% BC%' FROM t") == [(1, True)]


def test_days_of_milliseconds_keep_their_time_of_day(conn: sa.Connection) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("at", sa.DateTime))
    given = pa.array([86_400_000, 90_000_000], pa.int64()).view(pa.date64())
    load(conn, table, [pa.table({"at": given})])
    assert rows_of(conn, "SELECT at::text FROM t ORDER BY 1") == [("1970-01-02 00:00:00",), ("1970-01-02 01:00:00",)]


def test_what_the_stream_raises_comes_out_as_it_is(conn: sa.Connection) -> None:
    class SourceError(Exception):
        pass

    def batches() -> Iterator[Any]:
        yield from people_in_arrow((1, "a", 1)).to_batches()
        raise SourceError

    reader = pa.RecordBatchReader.from_batches(people_in_arrow((1, "a", 1)).schema, batches())
    with pytest.raises(SourceError):
        load(conn, people(), [reader])
    assert is_usable(conn)
    assert rows_of(conn) == []


def test_no_transaction_is_open_before_the_first_record_batch(conn: sa.Connection, other: sa.Connection) -> None:
    seen: list[Any] = []

    def batches() -> Iterator[Any]:
        seen.extend(rows_of(other, "SELECT state FROM pg_stat_activity WHERE state LIKE 'idle in%'"))
        seen.append(conn.in_transaction())
        yield from people_in_arrow((1, "a", 1)).to_batches()

    load(conn, people(), [pa.RecordBatchReader.from_batches(people_in_arrow((1, "a", 1)).schema, batches())])
    assert seen == [False]


def test_no_object_is_read_before_the_one_in_front_of_it_was_sent(conn: sa.Connection) -> None:
    table, given, left = people(), itertools.count(), []

    def frames() -> Iterator[Any]:
        for number in range(5):
            yield reader(number)

    def reader(number: int) -> Any:
        next(given)
        data = people_in_arrow((number, "a", 1))

        def batches() -> Iterator[Any]:
            yield from data.to_batches()
            left.append(number)

        return pa.RecordBatchReader.from_batches(data.schema, batches())

    def counted() -> Iterator[Any]:
        for number, frame in enumerate(frames()):
            assert len(left) >= number - 1
            yield frame

    load(conn, table, counted())
    assert left == [0, 1, 2, 3, 4]


def test_without_the_extra_the_error_says_what_to_install(conn: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pgpq", None)
    monkeypatch.delitem(sys.modules, "airflow_ingest_provider.core.arrow")
    monkeypatch.delattr("airflow_ingest_provider.core.arrow")
    with pytest.raises(IngestError, match=r"airflow-ingest-provider\[arrow\]"):
        load(conn, people(), [people_in_arrow((1, "a", 1))])
    assert is_usable(conn)


PEAK = """
import resource, sys
import pyarrow as pa
import sqlalchemy as sa
from airflow_ingest_provider import ingest

table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("name", sa.Text))
batch = pa.record_batch({"id": range(50_000), "name": ["some name"] * 50_000})
reader = pa.RecordBatchReader.from_batches(batch.schema, (batch for _ in range(int(sys.argv[2]) // 50_000)))
with sa.create_engine(sys.argv[1], poolclass=sa.NullPool).connect() as conn:
    ingest(conn, table.metadata, lambda mark: [(1, None, [(table, reader)])])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's here")
def test_memory_does_not_grow_with_a_stream(server: Server, database: str, dsn: str, driver: str) -> None:
    url = server.url(driver, database).render_as_string(hide_password=False)
    peaks = [
        int(subprocess.run([sys.executable, "-c", PEAK, url, rows], capture_output=True, text=True, check=True).stdout)
        for rows in ("200000", "4000000")
    ]
    assert peaks[1] - peaks[0] < 5 * 1024


def test_pandas_missing_values_are_null(conn: sa.Connection) -> None:
    table = sa.Table(
        "t", sa.MetaData(), sa.Column("a", sa.Double), sa.Column("b", sa.Text), sa.Column("c", sa.DateTime)
    )
    frame = pd.DataFrame({"a": [1.5, float("nan")], "b": ["x", None], "c": [pd.Timestamp("2020-01-01"), pd.NaT]})
    load(conn, table, [frame])
    assert rows_of(conn, "SELECT a, b, c::text FROM t") == [(1.5, "x", "2020-01-01 00:00:00"), (None, None, None)]
