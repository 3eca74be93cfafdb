"""Every type that a table can be defined with: made, loaded, read again as it was, and never planned again."""

import enum
import ipaddress
import re
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.types import UserDefinedType

from airflow_ingest_provider import Delete, RowError, ingest
from tests.postgres.helpers import load, rows_of


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Reversed(sa.TypeDecorator[str]):
    """Text that is stored backwards."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value and value[::-1]

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value and value[::-1]


class Blank(sa.TypeDecorator[str]):
    """Text with "" for None."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str:
        return value or ""


class Pair(sa.TypeDecorator[tuple[int, int]]):
    """A tuple of two numbers, stored as 1:2."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: tuple[int, int] | None, dialect: sa.Dialect) -> str | None:
        return value and "{}:{}".format(*value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return value and tuple(map(int, value.split(":")))


class Cast(sa.TypeDecorator[str]):
    """A number that is given as text, for the server to read."""

    impl = sa.Numeric(10, 2)
    cache_ok = True

    def bind_expression(self, bindparam: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        return sa.cast(bindparam, self)


class Shouted(sa.TypeDecorator[str]):
    """Text in capitals, by a processor of its own."""

    impl = sa.Text
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return lambda value: value and value.upper()


class Negated(sa.Boolean):
    """A truth that is stored as its contrary."""

    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return lambda value: None if value is None else not value


class Reprs:
    """A pickler that is none of pickle's."""

    @staticmethod
    def dumps(value: Any, protocol: int) -> bytes:
        return f"{protocol} {value!r}".encode()

    @staticmethod
    def loads(content: bytes) -> Any:
        return content


WHEN = datetime(2024, 2, 29, 23, 59, 59, 999999)
ZONED = WHEN.replace(tzinfo=timezone(timedelta(hours=5, minutes=30)))
TEXTS = ["", "\\N", "\\.", "tab\tnew\nreturn\rback\\slash", "quote'\"{},", "é🎉\u2028", " blanks "]
UUID = uuid.UUID(int=7)

CASES: dict[str, tuple[Any, list[Any]]] = {
    "SmallInteger": (sa.SmallInteger(), [-32768, 32767, 0]),
    "Integer": (sa.Integer(), [-(2**31), 2**31 - 1]),
    "BigInteger": (sa.BigInteger(), [-(2**63), 2**63 - 1]),
    "Numeric": (sa.Numeric(), [Decimal("1.00"), Decimal("-123456789012345678901234567890.5"), Decimal("1E-20")]),
    "NUMERIC(10, 2)": (sa.NUMERIC(10, 2), [Decimal("-12345678.90"), Decimal("0.01")]),
    "Float": (sa.Float(), [0.1, -1e300, float("inf"), float("-inf"), 5e-324]),
    "Double": (sa.Double(), [0.1, 1 / 3]),
    "REAL": (sa.REAL(), [0.5, -2.25]),
    "Text": (sa.Text(), TEXTS),
    "String": (sa.String(), TEXTS),
    "VARCHAR(100)": (sa.VARCHAR(100), TEXTS),
    "CHAR(3)": (sa.CHAR(3), ["abc"]),
    "Unicode": (sa.Unicode(), TEXTS),
    "LargeBinary": (sa.LargeBinary(), [b"", b"\\x00\x00\xff\n"]),
    "BYTEA": (pg.BYTEA(), [bytes(range(256))]),
    "Boolean": (sa.Boolean(), [True, False]),
    "Date": (sa.Date(), [date.min, date.max]),
    "Time": (sa.Time(), [time(23, 59, 59, 10000)]),
    "TIME(0)": (pg.TIME(precision=0), [time(1, 2, 3)]),
    "Time with zone": (sa.Time(timezone=True), [time(1, 2, tzinfo=timezone.utc)]),
    "DateTime": (sa.DateTime(), [WHEN, datetime.min]),
    "TIMESTAMP with zone": (sa.TIMESTAMP(timezone=True), [ZONED, ZONED.astimezone(timezone.utc)]),
    "TIMESTAMP(3)": (pg.TIMESTAMP(precision=3), [datetime(2024, 1, 1, 1, 1, 1, 123000)]),
    "Interval": (sa.Interval(), [timedelta(days=-3, microseconds=1), timedelta(days=400, hours=30)]),
    "INTERVAL": (pg.INTERVAL(), [timedelta(seconds=1.5)]),
    "Uuid": (sa.Uuid(), [UUID]),
    "Uuid as text": (sa.Uuid(as_uuid=False), [str(UUID)]),
    "JSON": (sa.JSON(), [{"a": [1, None, "é\n\\"]}, [], "text", 1.5, False]),
    "JSONB": (pg.JSONB(), [{"a": [1, None, "é\n\\"]}, [], "text", 1.5, False]),
    "ARRAY(Integer)": (sa.ARRAY(sa.Integer), [[], [1, None, 3], [[1, 2], [3, 4]]]),
    "ARRAY(Text)": (pg.ARRAY(sa.Text), [TEXTS, ["NULL", None, "null"], [["{"], ["}"]]]),
    "ARRAY(TIMESTAMP)": (pg.ARRAY(sa.TIMESTAMP), [[WHEN, None]]),
    "ARRAY(JSONB)": (pg.ARRAY(pg.JSONB), [[{"a": 1}, None]]),
    "Enum": (sa.Enum("a", 'b"\\ c', "d'", name="letter"), ["a", 'b"\\ c', "d'"]),
    "Enum of Python": (sa.Enum(Color, name="color"), [Color.RED, Color.BLUE]),
    "Enum as text": (sa.Enum(Color, name="hue", native_enum=False, create_constraint=True), [Color.RED]),
    "ARRAY(Enum)": (pg.ARRAY(sa.Enum(Color, name="color")), [[Color.RED, Color.BLUE]]),
    "PickleType": (sa.PickleType(), [{"any": {1, 2}}]),
    "TypeDecorator": (Reversed(), ["abc"]),
    "TypeDecorator with_variant": (Reversed().with_variant(sa.Text(), "postgresql"), ["abc"]),
    "PickleType with_variant": (sa.PickleType().with_variant(pg.JSONB(), "postgresql"), [[1]]),
    "with_variant of a TypeDecorator": (sa.Text().with_variant(Reversed(), "postgresql"), ["abc"]),
    "ARRAY(TypeDecorator)": (pg.ARRAY(Reversed()), [["abc", None], [["ab"], ["cd"]]]),
    "ARRAY(TypeDecorator of tuples)": (pg.ARRAY(Pair(), dimensions=1), [[(1, 2), (3, 4), None], []]),
    "with_variant": (sa.String(1).with_variant(sa.Text(), "postgresql"), ["longer than one"]),
    "INT4RANGE": (pg.INT4RANGE(), [pg.Range(1, 5), pg.Range(None, 5), pg.Range(empty=True)]),
    "TSTZRANGE": (pg.TSTZRANGE(), [pg.Range(ZONED, None, bounds="()")]),
    "NUMRANGE": (pg.NUMRANGE(), [pg.Range(Decimal("1.5"), Decimal("2.50"), bounds="[]")]),
    "DATERANGE": (pg.DATERANGE(), [pg.Range(date(2024, 1, 1), date(2024, 2, 1))]),
    "BIT(3)": (pg.BIT(3), ["101"]),
    "BIT VARYING": (pg.BIT(varying=True), ["10101"]),
    "MACADDR": (pg.MACADDR(), ["08:00:2b:01:02:03"]),
    "MONEY": (pg.MONEY(), ["$12.34"]),
    "TSVECTOR": (pg.TSVECTOR(), ["'a' 'b':1A"]),
    "TSQUERY": (pg.TSQUERY(), ["'a' & 'b'"]),
    "OID": (pg.OID(), [4294967295]),
}


@pytest.mark.parametrize(("kind", "values"), CASES.values(), ids=CASES.keys())
def test_values_come_back_as_they_were(conn: sa.Connection, kind: Any, values: list[Any]) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", kind))
    rows = list(enumerate([*values, None]))
    refresh = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": "swap"}
    for options in ({}, {}, refresh, refresh):
        result = load(conn, table, rows, **options)
        assert result.tables[0].migration == ()
        with conn.begin():
            stored = [tuple(row) for row in conn.execute(sa.select(table).order_by("id"))]
        assert repr(stored) == repr(rows) or stored == rows
    assert result.tables[0].inserted == len(rows)


@pytest.mark.parametrize(
    ("kind", "values", "spelling"),
    [
        (
            pg.INET(),
            [ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_address("::1"), "1.2.3.4"],
            ["10.0.0.1/8", "::1/128", "1.2.3.4/32"],
        ),
        (pg.CIDR(), [ipaddress.ip_network("10.0.0.0/8")], ["10.0.0.0/8"]),
        (sa.Float(), [float("nan"), -0.0, 1], ["NaN", "-0", "1"]),
        (sa.Numeric(), [Decimal("NaN"), 1.5, 7], ["NaN", "1.5", "7"]),
        (sa.Integer(), [7.0, "8", Decimal(9)], ["7", "8", "9"]),
        (sa.Date(), ["2024-02-29"], ["2024-02-29"]),
        (pg.INT8MULTIRANGE(), [[pg.Range(1, 2), pg.Range(5, 9)], []], ["{[1,2),[5,9)}", "{}"]),
        (pg.JSONB(), [sa.JSON.NULL], ["null"]),
    ],
)
def test_values_of_another_kind_that_say_the_same_are_taken(
    conn: sa.Connection, kind: Any, values: Any, spelling: Any
) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("value", kind))
    load(conn, table, list(enumerate(values)))
    assert [value for (value,) in rows_of(conn, "SELECT value::text FROM t ORDER BY id")] == spelling


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Blank(), None),
        (Blank(), "x"),
        (pg.ARRAY(Blank()), ["x", None]),
        (pg.ARRAY(Blank()), None),
        (Reversed().with_variant(sa.Text(), "postgresql"), "abc"),
        (sa.PickleType(pickler=Reprs, protocol=3), [1]),
        (sa.PickleType(), None),
        (sa.Enum(Color, name="color"), None),
        (Cast(), "1.50"),
        (Shouted(), "abc"),
        (pg.ARRAY(Shouted()), ["abc", None]),
        (Negated(), True),
        (Negated(), None),
        (sa.Uuid(native_uuid=False), UUID),
        (sa.Uuid(native_uuid=False, as_uuid=False), str(UUID)),
        (sa.Interval(native=False), timedelta(days=1, seconds=2.5)),
    ],
)
def test_a_type_that_converts_in_python_stores_what_sqlalchemy_stores(
    conn: sa.Connection, kind: Any, value: Any
) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("value", kind))
    load(conn, table, [(value,)])
    with conn.begin():
        conn.execute(table.insert(), [{"value": value}])
    ours, theirs = rows_of(conn, "SELECT value::text FROM t")
    assert ours == theirs


def test_a_type_may_have_something_for_none_in_a_column_that_is_not_null(conn: sa.Connection) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("value", Blank(), nullable=False))
    load(conn, table, [(None,)])
    assert rows_of(conn, "SELECT value FROM t") == [("",)]


@pytest.mark.extension("hstore")
def test_hstore(conn: sa.Connection) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("value", pg.HSTORE))
    load(conn, table, [({"a": 'q"\\', "é": None, "": ""},)])
    with conn.begin():
        assert conn.scalar(sa.select(table.c.value)) == {"a": 'q"\\', "é": None, "": ""}
    assert load(conn, table, [({},)]).tables[0].migration == ()


@pytest.mark.extension("vector")
def test_vector(conn: sa.Connection) -> None:
    from pgvector.sqlalchemy import VECTOR

    table = sa.Table("t", sa.MetaData(), sa.Column("value", VECTOR(3)))
    load(conn, table, [([1, 2.5, 3],), (None,)])
    assert rows_of(conn, "SELECT value::text FROM t") == [("[1,2.5,3]",), (None,)]
    assert load(conn, table, [([1, 2, 3],)]).tables[0].migration == ()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (sa.Integer(), 1.9),
        (sa.Integer(), True),
        (sa.SmallInteger(), 40000),
        (sa.Numeric(10, 2), Decimal("1.005")),
        (sa.TIMESTAMP(), ZONED),
        (sa.TIMESTAMP(timezone=True), WHEN),
        (sa.Date(), WHEN),
        (sa.Text(), "a\0b"),
        (sa.Text(), 5),
        (sa.Text(), b"x"),
        (sa.String(3), "long "),
        (sa.LargeBinary(), "text"),
        (sa.JSON(), float("nan")),
        (pg.JSONB(), {"a": "\0"}),
        (sa.ARRAY(sa.Integer), [[1], [2, 3]]),
        (sa.Enum(Color, name="color"), "GREEN"),
        (sa.TIMESTAMP(), "2020-01-01 10:00 PM EST"),
        (sa.Date(), "2020-01-01 040506"),
        (sa.Time(), "2020-01-01 10:00"),
        (pg.INTERVAL(precision=0), "1.5 seconds"),
        (pg.INTERVAL(fields="YEAR"), "15 months"),
        (sa.REAL(), "16777217"),
        (pg.ARRAY(sa.Numeric(5, 2)), "{1.239}"),
        (pg.ARRAY(sa.String(3)), '{"abc   "}'),
        (pg.TSRANGE(), "[2020-01-01 10:00+05,]"),
        (pg.TSMULTIRANGE(), "{[2020-01-01 10:00+05,]}"),
    ],
)
def test_what_would_be_changed_is_refused(conn: sa.Connection, kind: Any, value: Any) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("value", kind))
    with pytest.raises(RowError) as caught:
        load(conn, table, [(1, None), (2, value)])
    assert (caught.value.table, caught.value.column, caught.value.row_number) == ("public.t", "value", 2)
    assert rows_of(conn, "SELECT * FROM t") == []


class Sale(UserDefinedType[Any]):
    """The composite type `sale`, which SQLAlchemy has no type for."""

    cache_ok = True

    def __init__(self, name: str = "sale") -> None:
        self._name = name

    def get_col_spec(self, **_: Any) -> str:
        return self._name


MAKE_SALE = """
    CREATE DOMAIN code AS varchar(3);
    CREATE TYPE place AS (x numeric(5, 2), gone integer, y real);
    ALTER TYPE place DROP ATTRIBUTE gone;
    CREATE TYPE sale AS
        (price numeric(5, 2), code code, at timestamp, on_day date, note jsonb, where_to place, blob bytea);
"""


def test_each_field_of_a_composite_type_is_stored_as_it_is(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql(MAKE_SALE)
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("sold", Sale("sale[]")))
    sold = (Decimal("1.20"), 'a"\\', WHEN, date(2024, 2, 29), {"a": ['"']}, (Decimal("0.5"), 1.5), b"\x00\\")
    load(conn, table, [(1, [sold, (None,) * 7, None]), (2, [])])
    assert load(conn, table, []).tables[0].migration == ()
    parts = "(sold[1]).price, (sold[1]).code, (sold[1]).at, (sold[1]).on_day, (sold[1]).note"
    more = "((sold[1]).where_to).x, ((sold[1]).where_to).y, (sold[1]).blob, sold[2] IS NULL, sold[3] IS NULL"
    ((*first, x, y, blob, second_is_null, third_is_null),) = rows_of(
        conn, f"SELECT {parts}, {more} FROM t WHERE id = 1"
    )
    assert (*first, (x, y), bytes(blob)) == sold
    assert (second_is_null, third_is_null) == (True, True)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        (0, Decimal("1.234"), "of field 1 (Decimal): numeric(5,2) would round it to 2 decimal places"),
        (1, "abc ", "of field 2 (str): it has 4 characters and character varying(3) holds 3"),
        (2, ZONED, "of field 3 (datetime): timestamp without time zone would drop its zone"),
        (3, WHEN, "of field 4 (datetime): date would drop its time of day"),
        (5, (1, 2**24 + 1), "of field 6 (tuple): of field 2 (int): real cannot hold all of its digits"),
        (5, (1,), "of field 6 (tuple): it has 1 fields and place has 2"),
    ],
)
def test_what_a_field_of_a_composite_type_would_change_is_refused(
    conn: sa.Connection, other: sa.Connection, field: int, value: Any, problem: str
) -> None:
    other.exec_driver_sql(MAKE_SALE)
    table = sa.Table("t", sa.MetaData(), sa.Column("sold", Sale()))
    sold: list[Any] = [None] * 7
    sold[field] = value
    with pytest.raises(RowError, match=re.escape(problem)):
        load(conn, table, [(tuple(sold),)])


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (pg.BIT(3), "10", "the text is shorter or longer than the column's type, SQLSTATE 22026"),
        (pg.INT4RANGE(), pg.Range(5, 1), "its lower bound is above its upper one), SQLSTATE 22000"),
        (sa.Integer(), "one", "the text is not valid for the column's type, SQLSTATE 22P02"),
        (pg.JSONB(), Jsonb(None, dumps=lambda _: "[nothing"), "not valid for the column's type, SQLSTATE 22P02"),
    ],
)
def test_what_postgresql_refuses_is_said_in_words(conn: sa.Connection, kind: Any, value: Any, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        load(conn, sa.Table("t", sa.MetaData(), sa.Column("value", kind)), [(value,)])
    assert reason in caught.value.problem
    assert (caught.value.column, caught.value.row_number) == ("value", 1)


class ByInput(sa.types.UserDefinedType[str]):
    """A type whose input alone says what it takes."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


CHOOSY = """
    CREATE FUNCTION choosy(value text) RETURNS bool LANGUAGE plpgsql AS $$
    BEGIN
        IF value = 'hush' THEN RAISE '%% is refused', value USING ERRCODE = '{state}'; END IF;
        RETURN true;
    END $$;
    CREATE DOMAIN choosy AS text CHECK (choosy(VALUE))
"""


@pytest.mark.parametrize("state", ["XX000", "P0001"])
def test_a_value_that_a_types_own_code_refuses_is_told_by_its_place(
    conn: sa.Connection, other: sa.Connection, state: str
) -> None:
    other.exec_driver_sql(CHOOSY.format(state=state))
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("value", ByInput("choosy")))
    with pytest.raises(RowError, match=f"PostgreSQL refused it, SQLSTATE {state}") as caught:
        load(conn, table, [(1, "fine"), (2, "hush")])
    assert (caught.value.table, caught.value.column, caught.value.row_number) == ("public.t", "value", 2)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(("kind", "fine"), [("tsquery", "a & b"), ("jsonpath", "$.a"), ("regclass", "pg_class")])
def test_a_text_that_is_refused_as_sql_is_told_by_its_place(conn: sa.Connection, kind: str, fine: str) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("value", ByInput(kind)))
    with pytest.raises(RowError, match="PostgreSQL refused it, SQLSTATE 42") as caught:
        load(conn, table, [(1, fine), (2, "$$hush$$ &")])
    assert (caught.value.table, caught.value.column, caught.value.row_number) == ("public.t", "value", 2)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("kind", [sa.Integer(), sa.Numeric(), sa.Boolean(), sa.Date(), sa.TIMESTAMP(), sa.Interval()])
@pytest.mark.parametrize("value", ["", "confidential"])
def test_what_a_text_may_have_been_meant_for_is_said_without_the_text(
    conn: sa.Connection, kind: Any, value: str
) -> None:
    with pytest.raises(RowError, match=r"an empty text stands for no value.*pass None$") as caught:
        load(conn, sa.Table("t", sa.MetaData(), sa.Column("value", kind)), [(value,)])
    assert "confidential" not in str(caught.value)


INDEXES = {
    "expression": lambda table: sa.Index("i", sa.func.lower(table.c.a)),
    "partial": lambda table: sa.Index("i", table.c.a, postgresql_where=table.c.b > 5),
    "include": lambda table: sa.Index("i", table.c.a, postgresql_include=["b"]),
    "operator class": lambda table: sa.Index("i", table.c.a, postgresql_ops={"a": "text_pattern_ops"}),
    "hash": lambda table: sa.Index("i", table.c.a, postgresql_using="hash"),
    "gin": lambda table: sa.Index("i", table.c.c, postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    "descending": lambda table: sa.Index("i", table.c.a.desc().nulls_last(), table.c.b),
    "collated": lambda table: sa.Index("i", table.c.a.collate("C")),
    "concurrently": lambda table: sa.Index("i", table.c.a, postgresql_concurrently=True),
    "unique": lambda table: sa.Index("i", table.c.a, table.c.b, unique=True),
}


@pytest.mark.parametrize("make", INDEXES.values(), ids=INDEXES.keys())
def test_an_index_with_any_option_is_made_once(conn: sa.Connection, make: Any) -> None:
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("a", sa.Text),
        sa.Column("b", sa.Integer),
        sa.Column("c", sa.ARRAY(sa.Integer)),
    )
    make(table)
    before = None
    full: list[Any] = [("x", 1, [1]), ("y", 2, None)]
    for rows, options in ((full, {}), ([], {}), (full, {"delete": Delete.BEFORE_FIRST_BATCH}), ([], {})):
        assert load(conn, table, rows, **options).tables[0].migration == ()
        index = rows_of(conn, "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 't'")
        assert len(index) == 1
        assert before in (None, index)
        before = index


def test_a_table_is_made_whole(conn: sa.Connection, other: sa.Connection) -> None:
    metadata = sa.MetaData(
        schema="warehouse",
        naming_convention={"pk": "pk_%(table_name)s", "ck": "ck_%(constraint_name)s", "ix": "ix_%(column_0_label)s"},
    )
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True), comment="parents")
    child = sa.Table(
        "child",
        metadata,
        sa.Column("id", sa.Integer, sa.Identity(always=True, start=10), primary_key=True),
        sa.Column("parent_id", sa.ForeignKey(parent.c.id, ondelete="CASCADE"), index=True),
        sa.Column("price", sa.Numeric(10, 2), server_default="1.50", comment="in euros"),
        sa.Column("double", sa.Numeric(10, 2), sa.Computed("price * 2", persisted=True)),
        sa.Column("mood", sa.Enum("good", "bad", name="mood")),
        sa.CheckConstraint("price >= 0", name="no_debts"),
        sa.UniqueConstraint("parent_id", "price", deferrable=True),
        pg.ExcludeConstraint(("price", "="), using="btree", name="once"),
    )
    rows = [(child, (12, 1, "1.5", "good")), (parent, (1,))]
    for _ in range(2):
        result = ingest(conn, metadata, lambda mark: [(1, None, rows)])
        assert [table.migration for table in result.tables] == [(), ()]
    assert rows_of(conn, "SELECT id, double FROM warehouse.child") == [(12, Decimal("3.00"))]
    insert = "INSERT INTO warehouse.child (price) VALUES (2) RETURNING id"
    assert other.exec_driver_sql(insert).scalar() == 13
    names = rows_of(
        conn, "SELECT conname FROM pg_constraint WHERE contype <> 'n' AND connamespace = 'warehouse'::regnamespace"
    )
    assert {"pk_child", "pk_parent", "ck_no_debts", "once", "child_parent_id_fkey"} <= {name for (name,) in names}


def test_indexes_without_a_name_may_begin_with_the_same_column(conn: sa.Connection) -> None:
    """SQLAlchemy names both after their first column, and `ix_` where that is text; others may have the names too."""

    def table(name: str, *indexes: sa.Index) -> sa.Table:
        return sa.Table(name, sa.MetaData(), sa.Column("a", sa.Text), sa.Column("b", sa.Integer), *indexes)

    def unnamed() -> list[sa.Index]:
        return [sa.Index(None, "a"), sa.Index(None, "a", "b"), sa.Index(None, sa.text("lower(a)"))]

    with conn.begin():
        conn.execute(sa.text("CREATE VIEW ix_created_a AS SELECT 1"))
    load(conn, table("changed"), [("x", 1)])
    for name in ("created", "changed"):
        load(conn, table(name, *unnamed()), [("x", 1)])
        for options in ({}, {"delete": Delete.BEFORE_FIRST_BATCH}):
            assert load(conn, table(name, *unnamed()), [("y", 2)], **options).tables[0].migration == ()
    found = rows_of(conn, "SELECT tablename, indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2")
    assert found == [
        ("changed", "ix_1"),
        ("changed", "ix_changed_a"),
        ("changed", "ix_changed_a1"),
        ("created", "ix_"),
        ("created", "ix_created_a1"),
        ("created", "ix_created_a2"),
    ]


def test_indexes_without_a_name_of_several_tables_may_be_called_alike(conn: sa.Connection) -> None:
    metadata = sa.MetaData()
    for name in ("first", "second"):
        sa.Table(name, metadata, sa.Column("a", sa.Text), sa.Index(None, sa.text("lower(a)")))
    for _ in range(2):
        result = ingest(conn, metadata, lambda mark: [(1, None, [(metadata.tables["second"], ("x",))])])
        assert [table.migration for table in result.tables] == [(), ()]
    assert rows_of(conn, "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1") == [
        ("ix_",),
        ("ix_1",),
    ]
