"""What each column takes, as COPY text, and what it refuses: with orjson, without, and value by value."""

import dataclasses
import datetime as dt
import enum
import ipaddress
import json
import pickle
import signal
import sqlite3
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from decimal import Decimal, FloatOperation, localcontext
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import msgspec
import numpy as np
import pandas as pd
import pendulum
import psycopg2.extras
import pydantic
import pytest
import sqlalchemy as sa
import sqlalchemy.orm
from psycopg.types.json import Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range
from sqlalchemy.dialects import postgresql

from airflow_ingest_provider.core import encode
from airflow_ingest_provider.core.encode import ColumnFormat, RowEncoder
from airflow_ingest_provider.core.errors import RowError
from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values import render
from tests.ways import WAYS, going

UTC = dt.timezone.utc
NOON = dt.datetime(2020, 1, 2, 12, 0, 0)
FIVE_HOURS = dt.timezone(dt.timedelta(hours=5))


def typed(name: str, *limits: int) -> TypeShape:
    """A type by its pg_type.typname, with the length or precision that SQL would put in brackets."""
    if name == "numeric" and limits:
        precision, scale = limits
        return TypeShape(name, modifier=(precision << 16 | scale & 0x7FF) + 4)
    if name in ("varchar", "bpchar") and limits:
        return TypeShape(name, modifier=limits[0] + 4)
    return TypeShape(name, modifier=limits[0] if limits else -1)


def array(element: TypeShape) -> TypeShape:
    return TypeShape(f"_{element.name}", element=element)


def interval_of(fields: int, places: int = 0xFFFF) -> TypeShape:
    return TypeShape("interval", modifier=fields << 16 | places)


INT2, INT4, INT8, OID = map(typed, ("int2", "int4", "int8", "oid"))
FLOAT4, FLOAT8, NUMERIC, MONEY = map(typed, ("float4", "float8", "numeric", "money"))
BOOL, TEXT, NAME, CHAR, BYTEA, UUID_ = map(typed, ("bool", "text", "name", "char", "bytea", "uuid"))
DATE, TIMESTAMP, TIMESTAMPTZ = map(typed, ("date", "timestamp", "timestamptz"))
TIME, TIMETZ, INTERVAL = map(typed, ("time", "timetz", "interval"))
JSON, JSONB, HSTORE, INET, CIDR = map(typed, ("json", "jsonb", "hstore", "inet", "cidr"))
EXACTLY_ITS_FLOAT = Decimal("0.1000000000000000055511151231257827021181583404541015625")
PRICE = typed("numeric", 10, 2)
MOOD = TypeShape("mood", kind="e")
PAIR = TypeShape("pair", kind="c", fields=(INT4, TEXT))
SALE = TypeShape("sale", kind="c", fields=(PRICE, typed("varchar", 3), TIMESTAMP, DATE, JSONB, array(INT4), PAIR))
INT4RANGE = TypeShape("int4range", kind="r", element=INT4)
TSRANGE = TypeShape("tsrange", kind="r", element=TIMESTAMP)
TSMULTIRANGE = TypeShape("tsmultirange", kind="m", element=TIMESTAMP)
NUMRANGE = TypeShape("numrange", kind="r", element=NUMERIC)
INT4MULTIRANGE = TypeShape("int4multirange", kind="m", element=INT4)
INT4MULTIRANGE_BY_RANGE = TypeShape("int4multirange", kind="m", element=INT4RANGE)


class Whole(enum.IntEnum):
    SEVEN = 7


class Word(str, enum.Enum):
    YES = "sure"


class Shade(enum.Enum):
    RED = "red"
    ONE = 1


class Text(str):
    def __str__(self) -> str:
        return "not the content"


class Amount(Decimal):
    def __str__(self) -> str:
        return "0.1"


class Identifier(uuid.UUID):
    def __str__(self) -> str:
        return "not the UUID"


class Blob(bytes):
    def hex(self, *_: Any) -> str:
        return "00"

    def __bytes__(self) -> bytes:
        return b"not the content"


class Address(ipaddress.IPv4Address):
    def __str__(self) -> str:
        return "9.9.9.9"


class Interface(ipaddress.IPv4Interface):
    def __str__(self) -> str:
        return "9.9.9.9"


class Bounds(Range[Any]):
    """A range that cannot be asked."""

    @property
    def isempty(self) -> bool:
        raise LookupError("hush-hush")


@dataclasses.dataclass
class Point:
    x: int = 1


class NoOffset(dt.tzinfo):
    def utcoffset(self, when: dt.datetime | None) -> None:
        return None

    def dst(self, when: dt.datetime | None) -> None:
        return None

    def tzname(self, when: dt.datetime | None) -> None:
        return None


class Raises(NoOffset):
    """orjson ends the process when it asks such a zone."""

    def utcoffset(self, when: dt.datetime | None) -> None:
        raise RuntimeError("no idea")


@dataclasses.dataclass
class OfDataclasses:
    a: int
    b: int


class OfPydantic(pydantic.BaseModel):
    a: int
    b: int


@attrs.define
class OfAttrs:
    a: int
    b: int


class OfMsgspec(msgspec.Struct):
    a: int
    b: int


class Mapped:
    a: int
    b: int


MAPPED = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, primary_key=True), sa.Column("b", sa.Integer))
sa.orm.registry().map_imperatively(Mapped, MAPPED)


class MappedDataclass(sa.orm.MappedAsDataclass, sa.orm.DeclarativeBase):
    pass


class OfBoth(MappedDataclass):
    __tablename__ = "t"
    a: sa.orm.Mapped[int] = sa.orm.mapped_column(primary_key=True)
    b: sa.orm.Mapped[int]


class OfAsyncpg:
    """A Record of asyncpg has these, and is neither a sequence nor a mapping; only its driver makes one."""

    def keys(self) -> Iterator[str]:
        return iter("ab")

    def __getitem__(self, name: str) -> int:
        return {"a": 1, "b": 2}[name]


Named = namedtuple("Named", ["number", "word"])
OtherWay = namedtuple("OtherWay", ["b", "a"])


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    with going(request.param):
        yield


def test_orjson_is_there_to_be_tested() -> None:
    assert render.orjson is not None


@pytest.mark.parametrize("kind", [dt.date, dt.time, dt.datetime])
def test_no_fraction_of_a_second_is_padded_wrong(kind: type) -> None:
    """orjson 3.11.9 to 3.13.0 write time(microsecond=10000) as 00:00:00.10000."""
    moments: dict[type, list[Any]] = {
        dt.date: [dt.date.fromordinal(day) for day in range(1, 3652059, 9973)],
        dt.time: [dt.time(1, 2, 3, part) for part in range(0, 1000000, 997)],
        dt.datetime: [dt.datetime(2020, 1, 2, 3, 4, 5, part) for part in range(0, 1000000, 997)],
    }
    column = {dt.date: DATE, dt.time: TIME, dt.datetime: TIMESTAMP}[kind]
    assert encoded(column, *moments[kind]) == [value.isoformat() for value in moments[kind]]


@pytest.mark.parametrize(("right", "wrong"), [(".010000", ".10"), ("-05:30", "-0530"), ("0001-", "1-")])
def test_an_orjson_that_writes_otherwise_is_not_used(right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        @staticmethod
        def dumps(values: Any) -> str:
            return json.dumps([value.isoformat() for value in values]).replace(right, wrong)

    assert render._writes_like_python()
    monkeypatch.setattr(render, "orjson", Changed)
    assert not render._writes_like_python()


def encoded(type_: TypeShape, *values: Any, **options: Any) -> list[str]:
    """The fields of a table with this one column."""
    encoder = RowEncoder("public.t", [ColumnFormat("c", type_, **options)])
    lines = encoder.encode([(value,) for value in values]).decode().split("\n")
    assert lines.pop() == ""
    return lines


def refusal(type_: TypeShape, *values: Any, **options: Any) -> RowError:
    with pytest.raises(RowError) as caught:
        encoded(type_, *values, **options)
    return caught.value


TAKES: list[tuple[TypeShape, Any, str | tuple[str, ...]]] = [
    # Integers
    (INT2, -32768, "-32768"),
    (INT2, 32767, "32767"),
    (INT4, -(2**31), "-2147483648"),
    (INT4, 2**31 - 1, "2147483647"),
    (INT8, -(2**63), "-9223372036854775808"),
    (INT8, 2**63 - 1, "9223372036854775807"),
    (OID, 2**32 - 1, "4294967295"),
    (INT4, 2.0, "2"),
    (INT4, Decimal("2.00"), "2"),
    (INT8, Decimal("1E+18"), "1" + "0" * 18),
    (INT4, Whole.SEVEN, "7"),
    (INT4, np.int64(5), "5"),
    (INT4, np.float32(5), "5"),
    (INT4, " 17 ", " 17 "),
    # Floats
    (FLOAT8, 1.5, "1.5"),
    (FLOAT8, 0.1, "0.1"),
    (FLOAT8, -0.0, "-0.0"),
    (FLOAT8, 5e-324, "5e-324"),
    (FLOAT8, 1e22, ("1e22", "1e+22")),
    (FLOAT8, float("nan"), "nan"),
    (FLOAT8, float("inf"), "inf"),
    (FLOAT8, float("-inf"), "-inf"),
    (FLOAT8, 2**53, "9007199254740992.0"),
    (FLOAT8, 2**1000, repr(2.0**1000)),
    (FLOAT8, Decimal("0.1"), "0.1"),
    (FLOAT8, EXACTLY_ITS_FLOAT, "0.1"),
    (FLOAT8, Decimal("NaN"), "NaN"),
    (FLOAT8, Decimal("-Infinity"), "-Infinity"),
    (FLOAT8, np.float64(0.25), "0.25"),
    (FLOAT8, np.float32(0.1), "0.10000000149011612"),
    (FLOAT8, Amount("1.5"), "1.5"),
    (FLOAT8, Amount("-Infinity"), "-Infinity"),
    *((FLOAT8, text, text) for text in ("9007199254740992", "0.12345678901234567890123", "9007199254740993.0", "NaN")),
    (FLOAT4, "16777216", "16777216"),
    (FLOAT4, 0.1, "0.1"),
    (FLOAT4, 1 / 3, "0.3333333333333333"),
    (FLOAT4, 2**24, ("16777216.0", "16777216")),
    (FLOAT4, Decimal("0.1"), "0.1"),
    (FLOAT4, Decimal("0.12345679"), "0.12345679"),
    # numeric
    (NUMERIC, 10**5000, "1" + "0" * 5000),
    (NUMERIC, 2**64, str(2**64)),
    (NUMERIC, Decimal("1.2300"), "1.2300"),
    (NUMERIC, Decimal("1E+5"), "1E+5"),
    (NUMERIC, Decimal("1E-7"), "1E-7"),
    (NUMERIC, Decimal("NaN"), "NaN"),
    (NUMERIC, Decimal("Infinity"), "Infinity"),
    (NUMERIC, Amount("1.25"), "1.25"),
    (NUMERIC, 0.1, "0.1"),
    (NUMERIC, float("inf"), ("inf", "Infinity")),
    (NUMERIC, np.float64(0.1), "0.1"),
    (PRICE, 7, "7"),
    (PRICE, Decimal("1.23"), "1.23"),
    (PRICE, Decimal("-1.2300"), "-1.2300"),
    (PRICE, Decimal("1E+3"), "1E+3"),
    (PRICE, Decimal("0E-9"), "0E-9"),
    (PRICE, Decimal("NaN"), "NaN"),
    (PRICE, 1.25, "1.25"),
    (PRICE, 1e7, "10000000.0"),
    (PRICE, float("nan"), "NaN"),
    (PRICE, "1.20", "1.20"),
    (PRICE, " 1.200 ", " 1.200 "),
    (PRICE, "NaN", "NaN"),
    (PRICE, "0x1F", "0x1F"),
    (typed("numeric", 5, 0), Decimal("12.0"), "12.0"),
    (typed("numeric", 5, -2), Decimal(12300), "12300"),
    (typed("numeric", 5, -2), 100, "100"),
    (typed("numeric", 3, 5), Decimal("0.00123"), "0.00123"),
    (MONEY, 12, "12"),
    (MONEY, "12.50", "12.50"),
    # boolean
    (BOOL, True, "t"),
    (BOOL, False, "f"),
    (BOOL, 1, "t"),
    (BOOL, 0, "f"),
    (BOOL, np.bool_(True), "t"),
    (BOOL, "yes", "yes"),
    # Texts
    (TEXT, "", ""),
    (TEXT, "a\tb\nc\rd\\e", "a\\tb\\nc\\rd\\\\e"),
    (TEXT, "\\N", "\\\\N"),
    (TEXT, "\\.", "\\\\."),
    (TEXT, "null None NULL", "null None NULL"),
    (TEXT, "Zürich 東京 🚲", "Zürich 東京 🚲"),
    (TEXT, "\x01\x0b\x0c\x1f\x7f\x85\u2028", "\x01\x0b\x0c\x1f\x7f\x85\u2028"),
    (TEXT, Word.YES, "sure"),
    (TEXT, Text("content"), "content"),
    (TEXT, np.str_("numpy"), "numpy"),
    (typed("varchar", 3), "東京🚲", "東京🚲"),
    (typed("varchar", 1), None, "\\N"),
    (typed("bpchar", 3), "a", "a"),
    (typed("citext"), "Ab", "Ab"),
    (typed("xml"), "<a>\n</a>", "<a>\\n</a>"),
    (NAME, "n" * 63, "n" * 63),
    (CHAR, "a", "a"),
    (CHAR, "\\", "\\\\"),
    (CHAR, b"a", "a"),
    (CHAR, b"\0", ""),
    (CHAR, Blob(b"a"), "a"),
    (CHAR, "", ""),
    (MOOD, "happy", "happy"),
    (MOOD, Word.YES, "sure"),
    # Bytes
    (BYTEA, b"", "\\\\x"),
    (BYTEA, b"\x00\xff\\", "\\\\x00ff5c"),
    (BYTEA, bytearray(b"ab"), "\\\\x6162"),
    (BYTEA, memoryview(b"ab"), "\\\\x6162"),
    (BYTEA, memoryview(b"abcd")[::2], "\\\\x6163"),
    (BYTEA, Blob(b"ab"), "\\\\x6162"),
    # Dates and times
    (DATE, dt.date(1, 1, 1), "0001-01-01"),
    (DATE, dt.date(9999, 12, 31), "9999-12-31"),
    (DATE, dt.datetime(2020, 1, 2), "2020-01-02"),
    (DATE, pd.Timestamp("2020-01-02"), "2020-01-02"),
    (DATE, np.datetime64("2020-01-02"), "2020-01-02"),
    (DATE, "2020-01-02", "2020-01-02"),
    (DATE, "2020-01-02 00:00:00.000", "2020-01-02 00:00:00.000"),
    (DATE, "January 8, 1999", "January 8, 1999"),
    (DATE, "infinity", "infinity"),
    (DATE, "Thu 2-Jan-2020", "Thu 2-Jan-2020"),
    (DATE, "Jan 8, 99 BC", "Jan 8, 99 BC"),
    (DATE, "19990108", "19990108"),
    (DATE, "1999.008", "1999.008"),
    (DATE, "J2451187", "J2451187"),
    (DATE, "today", "today"),
    (TIMESTAMP, dt.datetime(1, 1, 1), "0001-01-01T00:00:00"),
    (TIMESTAMP, dt.datetime(9999, 12, 31, 23, 59, 59, 999999), "9999-12-31T23:59:59.999999"),
    (TIMESTAMP, dt.date(2020, 1, 2), "2020-01-02"),
    (TIMESTAMP, dt.datetime(2020, 1, 2, tzinfo=NoOffset()), "2020-01-02T00:00:00"),
    (TIMESTAMP, pd.Timestamp("2020-01-02 03:04:05.000006"), "2020-01-02T03:04:05.000006"),
    (TIMESTAMP, np.datetime64("2020-01-02T03:04:05.000006000", "ns"), "2020-01-02T03:04:05.000006"),
    (TIMESTAMP, np.datetime64("2020-01-02T03:04", "m"), "2020-01-02T03:04:00"),
    (TIMESTAMP, "2020-01-02 03:04:05.123456", "2020-01-02 03:04:05.123456"),
    (TIMESTAMP, "2020-01-02 03:04:05.123456000", "2020-01-02 03:04:05.123456000"),
    (TIMESTAMP, "2 Jan 2020 3:04 pm", "2 Jan 2020 3:04 pm"),
    (TIMESTAMP, "3:04 Jan 2 2020", "3:04 Jan 2 2020"),
    (TIMESTAMP, "now", "now"),
    (TIMESTAMP, "-infinity", "-infinity"),
    (TIMESTAMP, "20200102T030405", "20200102T030405"),
    (TIMESTAMP, "Thu, 02-Jan-2020 03:04:05.5 PM AD", "Thu, 02-Jan-2020 03:04:05.5 PM AD"),
    (TIMESTAMP, "January 8, 99 BC 3:04", "January 8, 99 BC 3:04"),
    (TIMESTAMP, "today 10:00", "today 10:00"),
    (typed("timestamp", 3), dt.datetime(2020, 1, 2, 3, 4, 5, 123000), "2020-01-02T03:04:05.123000"),
    (typed("timestamp", 0), dt.datetime(2020, 1, 2, 3, 4, 5), "2020-01-02T03:04:05"),
    (typed("timestamp", 3), "2020-01-02 03:04:05.123000", "2020-01-02 03:04:05.123000"),
    (typed("timestamp", 0), "2020.01.02", "2020.01.02"),
    (DATE, "2020/1/2", "2020/1/2"),
    (TIMESTAMP, "2020 1 2 0405", "2020 1 2 0405"),
    (TIMESTAMP, "2020 1 2 10:00", "2020 1 2 10:00"),
    (TIMESTAMPTZ, "10:00 2020/01/02 +05", "10:00 2020/01/02 +05"),
    (TIMESTAMPTZ, NOON.replace(tzinfo=UTC), "2020-01-02T12:00:00+00:00"),
    (TIMESTAMPTZ, NOON.replace(tzinfo=FIVE_HOURS), "2020-01-02T12:00:00+05:00"),
    (TIMESTAMPTZ, NOON.replace(tzinfo=ZoneInfo("Asia/Kolkata")), "2020-01-02T12:00:00+05:30"),
    (
        TIMESTAMPTZ,
        dt.datetime(1930, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam")),
        ("1930-01-01T00:00:00+00:20", "1930-01-01T00:00:00+00:19:32"),
    ),
    (TIMESTAMPTZ, NOON.replace(tzinfo=dt.timezone(dt.timedelta(seconds=1))), "2020-01-02T12:00:00+00:00:01"),
    (
        TIMESTAMPTZ,
        NOON.replace(tzinfo=dt.timezone(dt.timedelta(microseconds=1))),
        "2020-01-02T11:59:59.999999+00:00",
    ),
    (TIMESTAMPTZ, NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=-23))), "2020-01-03T11:00:00+00:00"),
    (TIMESTAMPTZ, pd.Timestamp("2020-01-02 12:00", tz="Asia/Kolkata"), "2020-01-02T12:00:00+05:30"),
    (
        TIMESTAMPTZ,
        pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert(ZoneInfo("Europe/Berlin")),
        "2020-10-25T02:30:00+01:00",
    ),
    (
        TIMESTAMPTZ,
        dt.datetime(2020, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        "2020-10-25T02:30:00+01:00",
    ),
    (TIMESTAMPTZ, "2020-01-02 12:00:00.5 Europe/Berlin", "2020-01-02 12:00:00.5 Europe/Berlin"),
    (TIMESTAMPTZ, "2020-01-02T12:00:00Z", "2020-01-02T12:00:00Z"),
    (TIME, dt.time(1, 2, 3, 4), "01:02:03.000004"),
    (TIME, dt.time(), "00:00:00"),
    (TIME, "04:05:06 PM", "04:05:06 PM"),
    (TIME, "T040506.789", "T040506.789"),
    (TIME, " 0405 ", " 0405 "),
    (TIME, "allballs", "allballs"),
    (typed("time", 1), dt.time(1, 2, 3, 400000), "01:02:03.400000"),
    (TIMETZ, dt.time(1, 2, 3, tzinfo=FIVE_HOURS), "01:02:03+05:00"),
    (TIMETZ, dt.time(1, tzinfo=dt.timezone(-dt.timedelta(seconds=1))), "01:00:00-00:00:01"),
    (TIMETZ, "01:02:03+05", "01:02:03+05"),
    (TIMETZ, "01:02 PM America/New_York", "01:02 PM America/New_York"),
    (TIMETZ, "0102 EST5EDT", "0102 EST5EDT"),
    (TIMESTAMPTZ, "EST 2020-01-02 030405.5", "EST 2020-01-02 030405.5"),
    (INTERVAL, dt.timedelta(0), "+0 day +0 sec +0 usec"),
    (INTERVAL, dt.timedelta(microseconds=-1), "-1 day +86399 sec +999999 usec"),
    (INTERVAL, dt.timedelta.max, "+999999999 day +86399 sec +999999 usec"),
    (INTERVAL, pd.Timedelta(days=1, microseconds=2), "+1 day +0 sec +2 usec"),
    (INTERVAL, np.timedelta64(1500, "ms"), "+0 day +1 sec +500000 usec"),
    (INTERVAL, np.timedelta64(1000, "ns"), "+0 day +0 sec +1 usec"),
    (INTERVAL, pendulum.duration(years=1, months=2, days=3, seconds=4), "+428 day +4 sec +0 usec"),
    (INTERVAL, pendulum.duration(days=-1, microseconds=-1), "-2 day +86399 sec +999999 usec"),
    (INTERVAL, pendulum.duration(days=10**6, microseconds=1), "+1000000 day +0 sec +1 usec"),
    (INTERVAL, pendulum.datetime(2020, 1, 1) - pendulum.datetime(2020, 3, 1, 5), "-61 day +68400 sec +0 usec"),
    (array(INTERVAL), [pendulum.duration(hours=-1)], ("{-1 day +82800 sec +0 usec}", '{"-1 day +82800 sec +0 usec"}')),
    (INTERVAL, "1 year 2 months", "1 year 2 months"),
    *((INTERVAL, text, text) for text in ("1.5 years", "@ 1.5 min ago", "PT0.000001S", "1-2 3 4:05:06.5", "infinity")),
    *((interval_of(0x7FFF, 0), text, text) for text in ("1.5 min", "PT90S", "1 day 04:05:06", "7", "0.5 month")),
    *((interval_of(0x4), text, text) for text in ("24 months", "2", "P3Y", "1 century", "0.0 s")),  # YEAR
    *((interval_of(0x8), text, text) for text in ("1 year 3 days", "2 weeks", "P1M3D", "1 mon -2 d 0:00")),  # DAY
    *((interval_of(0xC08), text, text) for text in ("30 hours 5 min", "1 day 04:05", "P1DT1H")),  # DAY TO MINUTE
    (interval_of(0x7FFF, 2), dt.timedelta(milliseconds=10), "+0 day +0 sec +10000 usec"),
    (interval_of(0xC08), dt.timedelta(days=1, minutes=2), "+1 day +120 sec +0 usec"),  # DAY TO MINUTE
    (interval_of(0x8), pendulum.duration(days=-3), "-3 day +0 sec +0 usec"),
    (interval_of(0x8), dt.timedelta(days=-3), "-3 day +0 sec +0 usec"),  # DAY
    (interval_of(0x6), dt.timedelta(0), "+0 day +0 sec +0 usec"),  # YEAR TO MONTH
    # Identifiers and addresses
    (
        UUID_,
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        ("12345678-1234-5678-1234-567812345678", "12345678123456781234567812345678"),
    ),
    (UUID_, "{12345678123456781234567812345678}", "{12345678123456781234567812345678}"),
    (UUID_, uuid.UUID(int=1), ("00000000-0000-0000-0000-000000000001", "0" * 31 + "1")),
    (UUID_, Identifier(int=2), "00000000-0000-0000-0000-000000000002"),
    (INET, ipaddress.ip_address("::1"), "::1"),
    (INET, Address("10.0.0.1"), "10.0.0.1"),
    (INET, Interface("10.0.0.1/8"), "10.0.0.1/8"),
    (INET, ipaddress.ip_interface("10.0.0.1/8"), "10.0.0.1/8"),
    (CIDR, ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (CIDR, "10/8", "10/8"),
    (typed("macaddr"), "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    # Without rules of ours
    (typed("tsvector"), "'a':1 'b'", "'a':1 'b'"),
    (typed("bit", 3), "101", "101"),
    (typed("ltree"), "a.b", "a.b"),
    (typed("point"), "(1,2)", "(1,2)"),
    (typed("point"), (1.5, 2.5), "(1.5,2.5)"),
    (typed("vector"), "[1,2]", "[1,2]"),
    (typed("xid"), 5, "5"),
    # JSON
    (JSONB, {"a": [1, 2.5, "x", None, True]}, '{"a":[1,2.5,"x",null,true]}'),
    (JSONB, {}, "{}"),
    (JSONB, [], "[]"),
    (JSONB, (1, 2), "[1,2]"),
    (JSONB, "", '""'),
    (JSONB, "null", '"null"'),
    (JSONB, ",\n0,", '",\\\\n0,"'),
    (JSONB, 'quote " backslash \\ tab \t', '"quote \\\\" backslash \\\\\\\\ tab \\\\t"'),
    (JSONB, "Zürich 🚲", '"Zürich 🚲"'),
    (JSONB, "\\u0000", '"\\\\\\\\u0000"'),
    (JSON, "\0", '"\\\\u0000"'),
    (JSON, "a\nb", '"a\\\\nb"'),
    (JSONB, 2**70, str(2**70)),
    (JSONB, 2**64 - 1, str(2**64 - 1)),
    (JSONB, True, "true"),
    (JSONB, 0, "0"),
    (JSONB, 1.5, "1.5"),
    (JSONB, sa.JSON.NULL, "null"),
    (array(JSONB), [sa.JSON.NULL, None], '{"null",NULL}'),
    (JSON, [1e-7, 1.5e-7, -1e-5, 1.5e-5, 2e-324, 5e-324], "[1e-7,1.5e-7,-0.00001,0.000015,0.0,5e-324]"),
    (JSON, {"1e-07": ['"1e-07', "\\", 1e-7]}, '{"1e-07":["\\\\"1e-07","\\\\\\\\",1e-7]}'),
    (JSON, [1e22, -1.5e300], ("[1e+22,-1.5e+300]", "[1e22,-1.5e300]")),
    (JSON, np.float64(1e-7), "1e-7"),
    (JSONB, {2: "a", None: "b", True: "c"}, '{"2":"a","null":"b","true":"c"}'),
    (JSONB, {"a": Whole.SEVEN, "b": Word.YES}, '{"a":7,"b":"sure"}'),
    (JSONB, OrderedDict(a=Named(1, "x")), '{"a":[1,"x"]}'),
    (JSONB, {"a": np.float64(0.5)}, '{"a":0.5}'),
    (JSONB, np.int64(3), "3"),
    (JSONB, [np.int64(1), np.bool_(True), np.float32(0.5)], "[1,true,0.5]"),
    (JSONB, {"a": np.array([[1, 2], [3, 4]])}, '{"a":[[1,2],[3,4]]}'),
    (JSONB, np.array([{"a": 1}, None]), '[{"a":1},null]'),
    (JSONB, Jsonb({"a": None}), '{"a":null}'),
    (JSONB, Jsonb(None), "null"),
    (HSTORE, {}, ""),
    (HSTORE, {"a": "b", 'k"\\ ': "", "n": None}, '"a"=>"b","k\\\\"\\\\\\\\ "=>"","n"=>NULL'),
    (HSTORE, "a=>1", "a=>1"),
    # Arrays
    (array(INT4), [], "{}"),
    (array(INT4), [1, None, 3], ("{1,NULL,3}", '{"1",NULL,"3"}')),
    (array(INT4), (1, 2), '{"1","2"}'),
    (array(INT4), [[1, 2], [3, 4]], '{{"1","2"},{"3","4"}}'),
    (array(INT4), [[[1]], [[None]]], '{{{"1"}},{{NULL}}}'),
    (array(INT4), [[[[[[1]]]]]], '{{{{{{"1"}}}}}}'),
    (array(INT4), "{1,2}", "{1,2}"),
    (array(PRICE), " [2:4]={1.2,null,1.200} ", " [2:4]={1.2,null,1.200} "),
    (array(typed("varchar", 3)), '{"abc", abc ,"",a b}', '{"abc", abc ,"",a b}'),
    (array(TIMESTAMP), '{"2020-01-02 10:00",infinity}', '{"2020-01-02 10:00",infinity}'),
    (array(JSONB), '{1,"{\\"a\\": null}"}', '{1,"{\\\\"a\\\\": null}"}'),
    (array(BYTEA), '{"\\\\x00"}', '{"\\\\\\\\x00"}'),
    (array(SALE), '{"(1.23,abc,,,1,,)"}', '{"(1.23,abc,,,1,,)"}'),
    (array(INT4), np.array([1, 2]), '{"1","2"}'),
    (array(INT4), [np.int64(1), 2], '{"1","2"}'),
    (array(INT4), pd.Series([1, 2]), '{"1","2"}'),
    (array(FLOAT8), np.array([[1.5], [2.5]]), '{{"1.5"},{"2.5"}}'),
    (array(FLOAT8), [float("nan")], ("{nan}", '{"nan"}')),
    (array(TIMESTAMP), np.array(["2020-01-02"], dtype="M8[ns]"), '{"2020-01-02T00:00:00"}'),
    (array(TIMESTAMP), [NOON], ("{2020-01-02T12:00:00}", '{"2020-01-02T12:00:00"}')),
    (array(INTERVAL), [dt.timedelta(1)], ("{+1 day +0 sec +0 usec}", '{"+1 day +0 sec +0 usec"}')),
    (array(BOOL), [True, False], ("{t,f}", '{"t","f"}')),
    (array(PRICE), [Decimal("1.10"), None], ("{1.10,NULL}", '{"1.10",NULL}')),
    (
        array(TEXT),
        ["", "NULL", "null", "a,b", "{}", 'q"', "b\\", " ", None, "t\t"],
        '{"","NULL","null","a,b","{}","q\\\\"","b\\\\\\\\"," ",NULL,"t\\t"}',
    ),
    (array(typed("box")), ["(1,1),(0,0)", "(2,2),(1,1)"], '{"(1,1),(0,0)";"(2,2),(1,1)"}'),
    (array(BYTEA), [b"a"], '{"\\\\\\\\x61"}'),
    (array(JSONB), [{"a": [1]}, [1, 2], None, "x"], '{"{\\\\"a\\\\":[1]}","[1,2]",NULL,"\\\\"x\\\\""}'),
    (array(MOOD), ["happy", None], '{"happy",NULL}'),
    (array(INT4RANGE), [Range(1, 2)], '{"[\\\\"1\\\\",\\\\"2\\\\")"}'),
    (array(INT4MULTIRANGE), [Multirange([Range(1, 2)])], '{"{[\\\\"1\\\\",\\\\"2\\\\")}"}'),
    (array(PAIR), [(1, "x")], '{"(\\\\"1\\\\",\\\\"x\\\\")"}'),
    # Ranges
    (INT4RANGE, Range(1, 5), '["1","5")'),
    (INT4RANGE, Range(1, 5, "(]"), '("1","5"]'),
    (INT4RANGE, Range(None, 5), '(,"5")'),
    (INT4RANGE, Range(empty=True), "empty"),
    (INT4RANGE, postgresql.Range(1, 5, bounds="[]"), '["1","5"]'),
    (INT4RANGE, postgresql.Range(empty=True), "empty"),
    (INT4RANGE, psycopg2.extras.NumericRange(1, 5), '["1","5")'),
    (INT4RANGE, psycopg2.extras.NumericRange(empty=True), "empty"),
    (INT4RANGE, "[1,5)", "[1,5)"),
    (TSRANGE, ' ["2020-01-02 10:00", 2020-01-03] ', ' ["2020-01-02 10:00", 2020-01-03] '),
    (TSRANGE, "empty", "empty"),
    (TSMULTIRANGE, "{}", "{}"),
    (TSMULTIRANGE, "{[,2020-01-03), (2020-01-04,]}", "{[,2020-01-03), (2020-01-04,]}"),
    (TSRANGE, Range(NOON, None), '["2020-01-02T12:00:00",)'),
    (INT4MULTIRANGE, Multirange([Range(1, 2), Range(5, None)]), '{["1","2"),["5",)}'),
    (INT4MULTIRANGE, [postgresql.Range(1, 2)], '{["1","2")}'),
    (INT4MULTIRANGE, [], "{}"),
    (INT4MULTIRANGE_BY_RANGE, [Range(1, 2)], '{["1","2")}'),
    (INT4MULTIRANGE, "{[1,2)}", "{[1,2)}"),
    # Composites
    (PAIR, (1, "a b"), '("1","a b")'),
    (PAIR, (None, ""), '(,"")'),
    (PAIR, (None, None), "(,)"),
    (PAIR, (2.0, 'q"\\,()'), '("2","q\\\\"\\\\\\\\,()")'),
    (PAIR, Named(1, "x"), '("1","x")'),
    (
        SALE,
        (Decimal("1.20"), "abc", NOON, NOON.date(), None, None, None),
        '("1.20","abc","2020-01-02T12:00:00","2020-01-02",,,)',
    ),
    (SALE, (*(None,) * 4, "{}", [1], (1, "x")), '(,,,,"\\\\"{}\\\\"","{\\\\"1\\\\"}","(\\\\"1\\\\",\\\\"x\\\\")")'),
    (SALE, (*(None,) * 4, {"a": 1}, None, None), '(,,,,"{\\\\"a\\\\":1}",,)'),
    (PAIR, "(1,x)", "(1,x)"),
    (
        SALE,
        '(1.2,"a""c",2020-01-02 10:00,2020-01-02,"{""a"": 1}","{1,2}","(1,x)")',
        '(1.2,"a""c",2020-01-02 10:00,2020-01-02,"{""a"": 1}","{1,2}","(1,x)")',
    ),
    (SALE, "(,,,,,,)", "(,,,,,,)"),
]

TIMESTAMPS_WITH_ZONE = (
    *("2020-01-02 10:00:00 America/New_York", "2020-01-02 10:00 ADT", "2020-01-02 10:00 AMT", "2020-01-02 10:00 z"),
    *("2020-01-02 10:00 PM EST", "2020-01-02 10:00:00 PM -05", "2020-01-02 10:00 BC EST", "10:00 Jan 2 2020 EST"),
    *("2020-01-02 040506+08", "2020-01-02 040506-08", "2020-01-02T10+05", "2020-01-02 EST", "10:00:00+02 2020-01-02"),
    *("2020-01-02+05 10:00", "EST 2020-01-02 10:00", "2-Jan-2020 10:00 -05", "2020-01-02 allballs", "now EST"),
)
DATES_AND_MORE = (
    *("2020-01-02 040506", "20200102 0405", "8 Jan 1999 040506", "2020.002 040506", "J2458851 040506"),
    *("2020-01-02+05", "2020-01-02-05", "2020-01-02 EST", "2020-01-02 00:00 PM", "2020-01-02 00:00 z", "today EST"),
)
TIMES_AND_MORE = (
    *("10:00 ADT", "10:00 AMT", "10:00 America/New_York", "040506+08", "040506 EST", "10:00 z", "allballs UTC"),
    *("2020-01-02 10:00:00", "10:00:00 2020-01-02", "10:00 Jan 2 2020", "T10:00 J2458850"),
)

DAY_OR_MONTH_FIRST = (
    *("1/2/2020", "02.01.2020", "01-02-20", "1 2 2020", "1, 2, 2020", "Thu 1/2/2020", "1/2/2020 BC", "20/1/2"),
    *("1/2/2020 00:00", "02.01.2020T00:00:00"),
)
DAY_OR_MONTH_FIRST_AND_MORE = (
    *("1/2/2020 10:00", "10:00 1/2/2020", "02.01.2020T040506.5", "0405 01-02-20", "10:00 PM 1 2 2020"),
)

REFUSES: list[tuple[TypeShape, Any, str]] = [
    # Integers
    (INT2, 32768, "out of range: smallint holds -32768 to 32767"),
    (INT4, 2**31, "out of range"),
    (INT4, -(2**31) - 1, "out of range"),
    (INT8, 2**63, "out of range"),
    (INT8, 2**64, "out of range"),
    (INT8, 10**400, "out of range"),
    (OID, -1, "out of range"),
    (INT4, 1e300, "out of range"),
    (INT4, Decimal("1E+999999"), "out of range"),
    (INT4, 1.9, "round its fraction away"),
    (INT4, Decimal("1.9"), "round its fraction away"),
    (INT4, float("nan"), "not NaN nor Infinity"),
    (INT4, Decimal("sNaN"), "not NaN nor Infinity"),
    (INT4, float("inf"), "not NaN nor Infinity"),
    (INT4, True, "pass an int"),
    (INT4, np.bool_(True), "pass an int"),
    (INT4, Shade.ONE, "pass an int"),
    (INT4, b"1", "pass an int"),
    (INT4, [1], "pass an int"),
    (INT4, "1\0", "NUL"),
    # Floats
    (FLOAT8, 2**53 + 1, "all of its digits"),
    (FLOAT8, 10**400, "all of its digits"),
    (FLOAT8, Decimal("0.12345678901234567890"), "all of its digits"),
    (FLOAT8, Decimal("1E-400"), "all of its digits"),
    (FLOAT8, Decimal("sNaN"), "one NaN"),
    (FLOAT8, " 9007199254740993 ", "all of its digits"),
    (FLOAT4, "-16777217", "all of its digits"),
    (array(FLOAT4), ["16777217"], "of an element (str): real cannot hold all of its digits"),
    (FLOAT8, True, "pass a float"),
    (FLOAT8, Fraction(1, 2), "pass a float"),
    (FLOAT8, 1j, "pass a float"),
    (FLOAT8, np.longdouble(1) / 3, "no type that holds all of it"),
    (FLOAT4, 2**24 + 1, "all of its digits"),
    (FLOAT4, Decimal("0.123456789"), "all of its digits"),
    (FLOAT4, 10**39, "all of its digits"),
    # numeric
    (PRICE, Decimal("1.234"), "round it to 2 decimal places"),
    (PRICE, Decimal("1E-3"), "round it to 2 decimal places"),
    (PRICE, Decimal("0." + "0" * 60 + "1"), "round it to 2 decimal places"),
    (PRICE, 0.125, "round it to 2 decimal places"),
    (PRICE, 1e-7, "round it to 2 decimal places"),
    (PRICE, "1.234", "round it to 2 decimal places"),
    (PRICE, "1e-3", "round it to 2 decimal places"),
    (PRICE, "1_0.0_05", "round it to 2 decimal places"),
    (PRICE, Decimal("Infinity"), "cannot hold Infinity"),
    (PRICE, float("-inf"), "cannot hold Infinity"),
    (NUMERIC, Decimal("sNaN"), "one NaN"),
    (NUMERIC, Decimal("NaN123"), "one NaN"),
    (NUMERIC, Decimal("-NaN"), "one NaN"),
    (NUMERIC, True, "holds numbers"),
    (NUMERIC, Fraction(1, 3), "holds numbers"),
    (typed("numeric", 5, 0), Decimal("0.5"), "round it to 0 decimal places"),
    (typed("numeric", 5, -2), 12345, "round it to -2 decimal places"),
    (typed("numeric", 3, 5), Decimal("0.001234"), "round it to 5 decimal places"),
    (MONEY, Decimal("12.50"), "lc_monetary"),
    (MONEY, 1.5, "lc_monetary"),
    (MONEY, True, "lc_monetary"),
    # boolean
    (BOOL, 2, "true and false"),
    (BOOL, 1.0, "true and false"),
    (BOOL, Decimal(1), "true and false"),
    # Texts
    (TEXT, 1, "text holds text: pass a str, such as str(value)"),
    (TEXT, b"bytes", "text holds text: pass a str, such as value.decode()"),
    (TEXT, {"a": 1}, "text holds text: pass a str, such as json.dumps(value)"),
    (TEXT, [1], "text holds text: pass a str, such as json.dumps(value)"),
    (TEXT, Shade.RED, "text holds text: pass value.name or value.value"),
    (TEXT, Whole.SEVEN, "text holds text: pass value.name or value.value"),
    (TEXT, float("nan"), "text holds text: pass None for a missing value, or the text that stands for NaN"),
    (TEXT, np.float32("nan"), "text holds text: pass None for a missing value, or the text that stands for NaN"),
    (TEXT, Decimal("sNaN"), "text holds text: pass None for a missing value, or the text that stands for NaN"),
    (TEXT, "a\0b", "NUL"),
    (TEXT, "\0", "NUL"),
    (TEXT, "\ud800", "surrogate"),
    (TEXT, Text("\ud800"), "surrogate"),
    (typed("varchar", 3), "abcd", "4 characters and character varying(3) holds 3"),
    (typed("varchar", 3), "abc ", "4 characters"),
    (typed("bpchar", 3), "a   ", "4 characters and character(3) holds 3"),
    (NAME, "ä" * 32, "63 bytes"),
    (CHAR, "ab", "one byte"),
    (CHAR, "ä", "one byte"),
    (CHAR, b"\xff", "one byte"),
    (CHAR, 1, "one byte"),
    (MOOD, Shade.RED, "pass value.name or value.value"),
    (MOOD, float("nan"), "pass None for a missing value"),
    (MOOD, 1, "pass a str that PostgreSQL reads as mood"),
    (BYTEA, "text", "pass bytes"),
    (BYTEA, 1, "pass bytes"),
    # Dates and times
    (DATE, NOON, "drop its time of day"),
    (DATE, dt.datetime(2020, 1, 2, tzinfo=UTC), "drop its time of day or zone"),
    (DATE, dt.datetime(2020, 1, 2, 0, 0, 0, 1), "drop its time of day"),
    (DATE, "2020-01-02 12:00", "drop its time of day"),
    (DATE, "2020-01-02T00:00:00Z", "drop its time of day or zone"),
    (DATE, "20200102T120000", "drop its time of day"),
    *((DATE, text, "drop its time of day or zone") for text in DATES_AND_MORE),
    *(
        (type_, text, "hangs on the session's DateStyle: write YYYY-MM-DD")
        for type_ in (DATE, TIMESTAMP, TIMESTAMPTZ)
        for text in (DAY_OR_MONTH_FIRST if type_ is DATE else (*DAY_OR_MONTH_FIRST, *DAY_OR_MONTH_FIRST_AND_MORE))
    ),
    (TIMESTAMPTZ, "1/2/2020 10:00 Europe/Berlin", "hangs on the session's DateStyle"),
    (array(DATE), "{2020-01-02,1/2/2020}", "of an element (str): the order of its day and month"),
    (DATE, 20200102, "pass a datetime.date"),
    (TIMESTAMP, NOON.replace(tzinfo=UTC), "would drop its zone"),
    (TIMESTAMP, NOON.replace(tzinfo=FIVE_HOURS), "would drop its zone"),
    (TIMESTAMP, "2020-01-02T12:00:00Z", "names a zone"),
    (TIMESTAMP, "2020-01-02 12:00:00.5+02", "names a zone"),
    (TIMESTAMP, "2020-01-02 12:00 Europe/Berlin", "names a zone"),
    (TIMESTAMP, "20200102T120000Z", "names a zone"),
    *((TIMESTAMP, text, "names a zone") for text in TIMESTAMPS_WITH_ZONE),
    (TIMESTAMP, "2020-01-02 12:00:00.1234567", "6 decimal places"),
    (TIMESTAMP, "2020-01-02 040506.1234567", "6 decimal places"),
    (TIMESTAMP, "J2458851.1", "6 decimal places"),
    (typed("timestamp", 0), "2020-01-02 040506.7", "round it to 0 decimal places"),
    (typed("timestamptz", 0), "2020-01-02 040506.7 EST", "round it to 0 decimal places"),
    (TIMESTAMP, 1577966400, "pass a datetime.datetime"),
    (TIMESTAMP, pd.Timestamp("2020-01-02 12:00:00.123456789"), "nanoseconds"),
    (TIMESTAMP, np.datetime64("2020-01-02T12:00:00.123456789"), "nanoseconds"),
    (TIMESTAMP, pd.Timestamp(np.datetime64("20000-01-02", "s")), "1 to 9999"),
    (TIMESTAMP, np.datetime64("20000-01-02", "s"), "no date or duration"),
    (TIMESTAMP, np.datetime64(2**60, "s"), "no date or duration"),
    (TIMESTAMP, pd.NaT, "pass None"),
    (TIMESTAMP, np.datetime64("NaT", "ns"), "pass None"),
    (TEXT, pd.NA, "pass None"),
    (typed("timestamp", 3), dt.datetime(2020, 1, 2, 3, 4, 5, 1), "round it to 3 decimal places"),
    (typed("timestamp", 0), dt.datetime(2020, 1, 2, 3, 4, 5, 500000), "round it to 0 decimal places"),
    (typed("timestamp", 3), "2020-01-02 03:04:05.1234", "round it to 3 decimal places"),
    (typed("timestamptz", 0), dt.datetime(2020, 1, 2, 3, 4, 5, 1, UTC), "round it to 0 decimal places"),
    (TIMESTAMPTZ, NOON, "session's TimeZone"),
    (TIMESTAMPTZ, NOON.replace(tzinfo=NoOffset()), "session's TimeZone"),
    (TIMESTAMPTZ, dt.date(2020, 1, 2), "pass a datetime.datetime with tzinfo"),
    (TIMESTAMPTZ, pd.Timestamp("2020-01-02"), "session's TimeZone"),
    (TIMESTAMPTZ, "2020-01-02 12:00:00.1234567Z", "6 decimal places"),
    (
        TIMESTAMPTZ,
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))),
        "cannot read its offset",
    ),
    (TIME, dt.time(1, tzinfo=UTC), "would drop its zone"),
    (TIME, NOON, "pass a datetime.time"),
    (TIME, "01:02:03+05", "names a zone"),
    *((TIME, text, "names a zone or a date") for text in TIMES_AND_MORE),
    (TIME, "040506.1234567", "6 decimal places"),
    (TIMETZ, "2020-01-02 10:00 America/New_York", "names a date"),
    (typed("time", 1), dt.time(1, 2, 3, 450000), "round it to 1 decimal places"),
    (TIMETZ, dt.time(1), "attach one"),
    (TIMETZ, dt.time(1, tzinfo=ZoneInfo("Europe/Berlin")), "attach one"),
    (TIMETZ, dt.time(1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))), "whole seconds"),
    (typed("timetz", 0), dt.time(1, 2, 3, 1, tzinfo=UTC), "round it to 0 decimal places"),
    (TIMETZ, NOON, "pass a datetime.time"),
    (INTERVAL, 5, "pass a datetime.timedelta"),
    (INTERVAL, pd.Timedelta(1, "ns"), "nanoseconds"),
    (INTERVAL, np.timedelta64(1, "ns"), "nanoseconds"),
    (INTERVAL, np.timedelta64(1, "M"), "no date or duration"),
    (INTERVAL, pd.Timedelta(np.timedelta64(10**15, "s")), "999999999 days"),
    (INTERVAL, "00:00:01.1234567", "6 decimal places"),
    *((INTERVAL, text, "6 decimal places") for text in ("1.12345678 seconds", "PT0.00000051S", "1.0005 ms", "1.55 y")),
    *((INTERVAL, text, "6 decimal places") for text in ("1 1.1234567", "1 fortnight 1:02:03.1234567")),
    *((interval_of(0x7FFF, 0), text, "cannot hold") for text in ("1.5 seconds", "PT1.5S", "0:00:01.5", "1.7", "5 ms")),
    *((interval_of(0x4), text, "cannot hold") for text in ("15 months", "1 year 3 days", "1-2", "0:01")),  # YEAR
    *((interval_of(0x6), text, "cannot hold") for text in ("1 year 3 days", "1.5 mon")),  # YEAR TO MONTH
    *((interval_of(0x8), text, "cannot hold") for text in ("30 hours", "1 day 5 hours", "1.5 d", "1 x")),  # DAY
    (interval_of(0x7FFF, 2), dt.timedelta(milliseconds=1), "cannot hold all of it"),
    (interval_of(0x1000, 0), dt.timedelta(milliseconds=1), "cannot hold all of it"),  # SECOND(0)
    (interval_of(0xC08), dt.timedelta(seconds=1), "cannot hold all of it"),  # DAY TO MINUTE
    (interval_of(0x408), dt.timedelta(minutes=1), "cannot hold all of it"),  # DAY TO HOUR
    (interval_of(0x8), pendulum.duration(hours=1), "cannot hold all of it"),
    (interval_of(0x8), dt.timedelta(hours=1), "cannot hold all of it"),  # DAY
    (interval_of(0x6), dt.timedelta(days=1), "cannot hold all of it"),  # YEAR TO MONTH
    # Identifiers and addresses
    (UUID_, b"0123456789abcdef", "pass a uuid.UUID"),
    (UUID_, 5, "pass a uuid.UUID"),
    (INET, 167772161, "ipaddress"),
    (typed("macaddr"), b"\x08", "pass a str"),
    (typed("tsvector"), {"a": 1}, "pass a str"),
    (typed("point"), {"a": 1}, "pass a str"),
    (typed("point"), object(), "pass a str"),
    # JSON
    (JSONB, float("nan"), "NaN"),
    (JSONB, {"a": [float("inf")]}, "NaN"),
    (JSONB, {"a": Decimal("1.5")}, "json_serializer"),
    (JSONB, {"a": NOON}, "json_serializer"),
    (JSONB, {"a": dt.date(2020, 1, 2)}, "json_serializer"),
    (JSONB, {"a": uuid.UUID(int=1)}, "json_serializer"),
    (JSONB, {"a": Shade.RED}, "json_serializer"),
    (JSONB, [Shade.ONE], "json_serializer"),
    (JSONB, {"a": Point()}, "json_serializer"),
    (JSONB, {"a": {1, 2}}, "json_serializer"),
    (JSONB, {"a": b"x"}, "json_serializer"),
    (JSONB, {(1, 2): "a"}, "json_serializer"),
    (JSONB, [np.datetime64("2020-01-02")], "json_serializer"),
    (JSONB, [np.array(["2020-01-02"], "datetime64[ns]")], "json_serializer"),
    (JSONB, {"a": np.array([float("nan")])}, "NaN"),
    (JSONB, [np.array([{1: "a", "1": "b"}])], "two keys that read the same"),
    (JSONB, {1: "a", "1": "b"}, "two keys that read the same"),
    (JSONB, {"x": [{None: "a", "null": "b"}]}, "two keys that read the same"),
    (JSONB, "\0", "\\u0000"),
    (JSONB, {"a\0": 1}, "\\u0000"),
    (JSONB, "\\\0", "\\u0000"),
    (JSONB, "\ud800", "surrogate"),
    (JSON, {"\udc00": 1}, "surrogate"),
    (JSONB, pd.NaT, "pass None"),
    (JSONB, [1, sa.JSON.NULL], "put None inside"),
    (JSON, {"a": [{"b": sa.JSON.NULL}]}, "put None inside"),
    (JSON, {sa.JSON.NULL: 1}, "put None inside"),
    (INT8, sa.JSON.NULL, "null of JSON"),
    (NUMERIC, sa.JSON.NULL, "null of JSON"),
    (FLOAT8, sa.JSON.NULL, "null of JSON"),
    (MONEY, sa.JSON.NULL, "null of JSON"),
    (TEXT, sa.JSON.NULL, "null of JSON"),
    (array(NUMERIC), [sa.JSON.NULL], "null of JSON"),
    (HSTORE, {"a": 1}, "dict of str to str or None"),
    (HSTORE, {1: "a"}, "dict of str to str or None"),
    (HSTORE, {None: "a"}, "dict of str to str or None"),
    (HSTORE, ["a"], "dict of str to str or None"),
    (HSTORE, {"a": "\0"}, "NUL"),
    # Arrays
    (array(INT4), [1, "x\0"], "of an element (str): it holds a NUL"),
    (array(INT4), [1.5], "of an element (float): integer would round"),
    (array(INT4), [2**31], "of an element (int): it is out of range"),
    (array(INT4), [True], "of an element (bool)"),
    (array(INT4), [[1, 2], [3]], "rectangular"),
    (array(INT4), [[1], 2], "rectangular"),
    (array(INT4), [[1], None], "rectangular"),
    (array(INT4), [[[1]], [2]], "rectangular"),
    (array(INT4), [[], []], "empty inner lists"),
    (array(INT4), [[[[[[[1]]]]]]], "integer[] holds up to 6 dimensions: flatten it"),
    (array(INT4), {1, 2}, "integer[] holds arrays: pass a list"),
    (array(INT4), 5, "pass a list"),
    (array(INT4), np.int64(5), "pass a list"),
    (array(INT4), np.array(5), "pass a list"),
    (array(INT4), range(3), "pass a list"),
    (array(TEXT), ["a\0"], "NUL"),
    (array(PRICE), "{1.23,NULL,{1.234}}", "of an element (str): numeric(10,2) would round it"),
    (array(typed("varchar", 3)), '{"abc   "}', "of an element (str): it has 6 characters"),
    (array(typed("varchar", 3)), "{abc\\ }", "of an element (str): it has 4 characters"),
    (array(typed("varchar", 3)), '{a\\"bc}', "of an element (str): it has 4 characters"),
    (array(TIMESTAMP), '[3:3]={"2020-01-02 10:00+05"}', "of an element (str): it names a zone"),
    (array(DATE), "{ 2020-01-02 , 2020-01-02 10:00 }", "of an element (str): it holds more than a date"),
    (array(TSRANGE), '{"[\\"2020-01-02 10:00+05\\",]"}', "of an element (str): of a bound (str): it names a zone"),
    (array(SALE), '{"(1.234,,,,,,)"}', "of an element (str): of field 1 (str): numeric(10,2) would round it"),
    (array(TEXT), ["\ud800"], "surrogate"),
    (array(TEXT), [1], "of an element (int)"),
    (array(typed("varchar", 2)), ["abc"], "3 characters"),
    (array(PRICE), [Decimal("1.234")], "round it to 2"),
    (array(TIMESTAMPTZ), [NOON], "session's TimeZone"),
    (array(TIMESTAMP), [pd.NaT], "pass None"),
    (array(BYTEA), ["x"], "of an element (str)"),
    # Ranges
    (INT4RANGE, Range(1.5, 2), "of a bound (float): integer would round"),
    (INT4RANGE, (1, 2), "pass a psycopg.types.range.Range"),
    (INT4RANGE, Bounds(1, 2), "reading it for int4range raised LookupError: pass a value of one of Python's own types"),
    (INT4RANGE, range(3), "pass a psycopg.types.range.Range"),
    (TSRANGE, Range(NOON.replace(tzinfo=UTC), None), "of a bound (datetime)"),
    (TSRANGE, "[2020-01-02 10:00+05,]", "of a bound (str): it names a zone"),
    (TSRANGE, '(,"2020-01-02 10:00 ""EST""")', "of a bound (str): it names a zone"),
    (TSMULTIRANGE, "{[2020-01-02,2020-01-03), (2020-01-04,2020-01-05z)}", "of a bound (str): it names a zone"),
    (INT4MULTIRANGE, Range(1, 2), "pass a list of ranges"),
    (INT4MULTIRANGE, [None], "pass a psycopg.types.range.Range"),
    (INT4MULTIRANGE, ["[1,2)"], "not of str"),
    (INT4MULTIRANGE_BY_RANGE, ["[1,2)"], "not of str"),
    (INT4MULTIRANGE, b"[1,2)", "pass a list of ranges"),
    # Composites
    (PAIR, [1, "x"], "pass a tuple"),
    (PAIR, {"a": 1}, "pass a tuple"),
    (PAIR, (1, {"a": 1}), "of field 2 (dict): text holds text"),
    (PAIR, (1, "\0"), "of field 2 (str): it holds a NUL"),
    (PAIR, (1.5, "x"), "of field 1 (float): integer would round"),
    (SALE, "(1.234,,,,,,)", "of field 1 (str): numeric(10,2) would round it"),
    (SALE, '(,"ab""c",,,,,)', "of field 2 (str): it has 4 characters"),
    (SALE, "(,,,2020-01-02 10:00,,,)", "of field 4 (str): it holds more than a date"),
    (PAIR, (1,), "it has 1 fields and pair has 2: pass one for each"),
    (PAIR, (1, "x", None), "it has 3 fields and pair has 2"),
    (SALE, (Decimal("1.234"), *(None,) * 6), "of field 1 (Decimal): numeric(10,2) would round it"),
    (SALE, (None, "abc ", *(None,) * 5), "of field 2 (str): it has 4 characters"),
    (SALE, (None, None, NOON.replace(tzinfo=UTC), *(None,) * 4), "of field 3 (datetime): timestamp without"),
    (SALE, (*(None,) * 3, NOON, *(None,) * 3), "of field 4 (datetime): date would drop its time of day"),
    (SALE, (*(None,) * 6, (1, 2)), "of field 7 (tuple): of field 2 (int): text holds text"),
    (array(PAIR), [(1,)], "of an element (tuple): it has 1 fields"),
]


def label(value: object) -> str:
    if isinstance(value, TypeShape):
        return f"{value.name}.{value.modifier}" if value.modifier >= 0 else value.name
    return type(value).__name__


@pytest.mark.parametrize(("type_", "value", "expected"), TAKES, ids=label)
def test_a_value_that_fits_is_encoded_exactly(type_: TypeShape, value: Any, expected: str | tuple[str, ...]) -> None:
    accepted = (expected,) if isinstance(expected, str) else expected
    for way in WAYS:
        with going(way):
            (field,) = encoded(type_, value)
            beside_nulls = encoded(type_, None, value, value, None)
        if type_.element is not None and "{" in field:
            # Quotes around an element that needs none make no difference.
            accepted = (*accepted, *(text.replace('"', "") for text in accepted))
        assert field in accepted, way
        assert beside_nulls == ["\\N", field, field, "\\N"], way


@pytest.mark.parametrize(("type_", "value", "problem"), REFUSES, ids=label)
def test_a_value_that_does_not_fit_is_refused_and_named(type_: TypeShape, value: Any, problem: str) -> None:
    fits = [good for of, good, _ in TAKES if of == type_ and type(good) is type(value)]
    for way in WAYS:
        with going(way):
            error = refusal(type_, None, value)
            among_others = refusal(type_, *fits, value, *fits)
        assert problem in error.problem, way
        assert error.problem[0].islower() or error.problem.startswith(("JSON", "Python", '"char"')), way
        assert (error.table, error.column, error.row_number) == ("public.t", "c", 2), way
        assert error.value_type == type(value).__name__, way
        assert among_others.row_number == len(fits) + 1, way


@pytest.mark.parametrize("type_", list({type_: None for type_, *_ in TAKES}), ids=label)
def test_a_column_of_all_values_at_once_gives_each_the_same_text(way: None, type_: TypeShape) -> None:
    values = [value for of, value, _ in TAKES if of == type_]
    quotes = type_.element is not None
    together = encoded(type_, *values)
    for value, field in zip(values, together, strict=True):
        (alone,) = encoded(type_, value)
        assert field.replace('"', "") == alone.replace('"', "") if quotes else same(field, alone)


def same(left: str, right: str) -> bool:
    """Whether two texts are one value, in the forms that the ways differ in."""
    forms = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
    left, right = (forms.get(text, text).replace("e+", "e") for text in (left, right))
    return left == right or left.replace("-", "") == right.replace("-", "")


def test_all_null_columns_of_every_type(way: None) -> None:
    for type_ in {type_: None for type_, *_ in TAKES}:
        assert encoded(type_, None, None) == ["\\N", "\\N"]


def test_columns_of_many_types_meet_in_rows(way: None) -> None:
    encoder = RowEncoder("t", [ColumnFormat("a", INT4), ColumnFormat("b", TEXT), ColumnFormat("c", DATE)])
    rows = [(1, "x", dt.date(2020, 1, 2)), [None, "tab\t", None], (3, None, dt.date(2020, 1, 3))]
    assert encoder.encode(rows) == b"1\tx\t2020-01-02\n\\N\ttab\\t\t\\N\n3\t\\N\t2020-01-03\n"


def test_no_rows_and_no_columns() -> None:
    assert RowEncoder("t", [ColumnFormat("a", INT4)]).encode([]) == b""
    assert RowEncoder("t", []).encode([(), ()]) == b"\n\n"


def test_more_rows_than_a_chunk_are_all_there() -> None:
    rows = [(number, None if number % 7 == 0 else str(number)) for number in range(3 * encode.CHUNK_ROWS + 1)]
    encoder = RowEncoder("t", [ColumnFormat("a", INT4), ColumnFormat("b", TEXT)])
    expected = [f"{number}\t" + ("\\N" if word is None else word) for number, word in rows]
    assert encoder.encode(rows).decode().splitlines() == expected


def test_the_row_number_counts_on_from_where_the_caller_is() -> None:
    rows: list[tuple[Any, ...]] = [(1,)] * (2 * encode.CHUNK_ROWS) + [("a\0",)]
    with pytest.raises(RowError) as caught:
        RowEncoder("t", [ColumnFormat("a", INT4)]).encode(rows, first_row_number=1001)
    assert caught.value.row_number == 1001 + 2 * encode.CHUNK_ROWS


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ((1,), "it has 1 values and the table takes 2"),
        ((1, 2, 3), "it has 3 values and the table takes 2"),
        ([], "it has 0 values and the table takes 2"),
        ("ab", "has to be a tuple"),
        (b"ab", "has to be a tuple"),
        ({"a": 1}, "lacks 'b': pass one for each column"),
        ({"a": 1, "b": 2, None: [3]}, "has beyond them None: pass one"),
        ({"a": 1, "B": 2}, "lacks 'b' and has beyond them 'B': pass one"),
        (defaultdict(int, a=1, c=2), "lacks 'b' and has beyond them 'c'"),
        (OtherWay(1, 2), "its fields are b, a, and the table's columns a, b: values are taken in their order"),
        ({1, 2}, "has to be a tuple"),
        (iter((1, 2)), "has to be a tuple"),
        (None, "has to be a tuple"),
        (OfDataclasses, "has to be a tuple"),
        (7, "has to be a tuple"),
    ],
)
def test_a_row_of_another_shape_is_refused(row: Any, problem: str) -> None:
    encoder = RowEncoder("t", [ColumnFormat("a", INT4), ColumnFormat("b", INT4)])
    with pytest.raises(RowError) as caught:
        encoder.encode([(1, 2), row, (1, 2)], first_row_number=11)
    assert problem in caught.value.problem
    assert (caught.value.row_number, caught.value.column) == (12, None)
    assert caught.value.value_type == type(row).__name__


@pytest.mark.parametrize(
    ("row", "instead"),
    [
        (OfDataclasses(1, 2), "dataclasses.asdict(row)"),
        (OfPydantic(a=1, b=2), "row.model_dump()"),
        (OfAttrs(1, 2), "attrs.asdict(row)"),
        (OfMsgspec(1, 2), "msgspec.structs.asdict(row)"),
        (OfAsyncpg(), "dict(row)"),
    ],
)
def test_the_error_about_an_object_names_what_makes_a_row_of_it(row: Any, instead: str) -> None:
    encoder = RowEncoder("t", [ColumnFormat("a", INT4), ColumnFormat("b", INT4)])
    with pytest.raises(RowError) as caught:
        encoder.encode([row])
    assert caught.value.problem.endswith(f": pass {instead}")
    modules = {"dataclasses": dataclasses, "attrs": attrs, "msgspec": msgspec, "dict": dict}
    assert encoder.encode([eval(instead, modules, {"row": row})]) == b"1\t2\n"


@pytest.mark.parametrize("row", [Mapped(), OfBoth(a=1, b=2)])
def test_the_error_about_a_mapped_object_says_to_select_from_the_table(row: Any) -> None:
    with pytest.raises(RowError, match=r"pass a row of select\(table\), or a dict of its attributes"):
        RowEncoder("t", [ColumnFormat("a", INT4)]).encode([row])


def test_rows_may_be_named_tuples_and_lists() -> None:
    encoder = RowEncoder("t", [ColumnFormat("a", INT4), ColumnFormat("b", TEXT)])
    assert encoder.encode([Named(1, "x"), [2, "y"]]) == b"1\tx\n2\ty\n"


def test_rows_may_be_mappings_whose_values_are_matched_by_name() -> None:
    encoder = RowEncoder("t", [ColumnFormat("a", INT4), ColumnFormat("b", TEXT)])
    row = {"b": "x", "a": 1}
    assert encoder.encode([row, row]) == b"1\tx\n" * 2
    assert encoder.encode([row, (1, "x"), MappingProxyType(row), OrderedDict(row)]) == b"1\tx\n" * 4
    assert RowEncoder("t", [ColumnFormat("a", INT4)]).encode([{"a": 1}, {"a": None}]) == b"1\n\\N\n"
    with pytest.raises(RowError) as caught:
        encoder.encode([row, {"b": "x", "A": 1}], first_row_number=11)
    assert caught.value.row_number == 12


def of_sqlite(query: str) -> Any:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query).fetchone()


def of_sqlalchemy(query: str) -> Any:
    with sa.create_engine("sqlite://").connect() as connection:
        return connection.execute(sa.text(query)).one()


@pytest.mark.parametrize("row_of", [of_sqlite, of_sqlalchemy])
def test_rows_whose_fields_are_in_another_order_are_refused_wherever_they_come(row_of: Callable[[str], Any]) -> None:
    encoder = RowEncoder("t", [ColumnFormat("a", INT4), ColumnFormat("b", INT4)])
    one, other = row_of("SELECT 1 AS a, 2 AS b"), row_of("SELECT 2 AS b, 1 AS a")
    assert encoder.encode([one, row_of("SELECT 3 AS x, 4 AS y")]) == b"1\t2\n3\t4\n"
    with pytest.raises(RowError, match="its fields are b, a, and the table's columns a, b") as caught:
        encoder.encode([one, other, one])
    assert caught.value.row_number == 2


SECRETS: list[tuple[TypeShape, Any]] = [
    (INT4, 98765432101),
    (FLOAT8, 2**60 + 98765),
    (PRICE, Decimal("98765.4321")),
    (PRICE, "98765.4321"),
    (array(PRICE), "{98765.4321}"),
    (INTERVAL, "98765.4321987 s"),
    (TEXT, "hush-hush\0"),
    (TEXT, "hush-hush\ud800"),
    (TEXT, b"hush-hush"),
    (typed("varchar", 3), "hush-hush"),
    (TIMESTAMP, dt.datetime(1987, 6, 5, tzinfo=UTC)),
    (DATE, "1987-06-05 12:34"),
    (JSONB, {"hush-hush": float("nan")}),
    (JSONB, {"hush-hush": Point()}),
    (HSTORE, {"hush-hush": 98765}),
    (array(INT4), [1, "hush-hush\0"]),
    (PAIR, ("hush-hush", {"hush-hush": 1})),
    (INT4RANGE, Bounds(1, 2)),
]


@pytest.mark.parametrize(("type_", "value"), SECRETS, ids=label)
def test_errors_never_show_the_value(way: None, type_: TypeShape, value: Any) -> None:
    error = refusal(type_, value)
    assert error.__cause__ is None
    assert error.__suppress_context__
    for secret in ("hush", "98765", "1987"):
        assert secret not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_errors_of_conversions_in_python_never_show_the_value() -> None:
    def fails(value: Any) -> Any:
        raise LookupError(f"{value} is not among the defined values")

    error = refusal(TEXT, "ok", prepare=fails)
    assert "LookupError" in error.problem
    error = refusal(JSONB, "hush-hush", serialize_json=fails)
    assert "hush" not in str(error)
    assert error.__suppress_context__


class Reversed(sa.types.TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value[::-1]


def bind_processor(type_: sa.types.TypeEngine[Any]) -> Callable[[Any], Any]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    processor = type_._cached_bind_processor(dialect)
    assert processor is not None
    return processor


def test_prepare_comes_before_the_type(way: None) -> None:
    assert encoded(TEXT, "abc", None, "x\ty", prepare=bind_processor(Reversed())) == ["cba", "\\N", "y\\tx"]
    shades = bind_processor(sa.Enum(Shade, validate_strings=True))
    assert encoded(MOOD, Shade.RED, None, prepare=shades) == ["RED", "\\N"]
    error = refusal(MOOD, "GREEN", prepare=shades)
    assert (error.row_number, error.value_type) == (1, "str")
    assert "GREEN" not in str(error)


def test_prepare_may_give_none_and_what_it_gives_is_checked(way: None) -> None:
    assert encoded(INT4, "", "5", prepare=lambda value: int(value) if value else None) == ["\\N", "5"]
    error = refusal(INT4, "5", "99999999999", prepare=int)
    assert (error.row_number, error.value_type) == (2, "str")


def test_serialize_json_is_used_where_the_engine_has_one(way: None) -> None:
    def serialize(value: Any) -> str:
        return json.dumps(value, default=str, indent=1)

    assert encoded(JSONB, {"a": Decimal("1.5")}, serialize_json=serialize) == ['{\\n "a": "1.5"\\n}']
    assert encoded(JSONB, sa.JSON.NULL, None, serialize_json=serialize) == ["null", "\\N"]
    assert "\\u0000" in refusal(JSONB, "\0", serialize_json=serialize).problem
    assert "put None inside" in refusal(JSONB, [sa.JSON.NULL], serialize_json=json.dumps).problem
    assert "it must give a str" in refusal(JSONB, 1, serialize_json=lambda value: value).problem


@pytest.mark.parametrize("type_", [TIMESTAMP, TIMESTAMPTZ, TIME, TIMETZ], ids=label)
def test_a_zone_that_raises_does_not_end_the_process(type_: TypeShape) -> None:
    when = NOON.replace(tzinfo=Raises())
    value = when.timetz() if type_ in (TIME, TIMETZ) else when
    with pytest.raises(RowError):
        encoded(type_, value)


def test_a_pytz_like_zone_keeps_the_instant_that_python_gives_it() -> None:
    class LocalMeanTime(dt.tzinfo):
        """Like a pytz zone that was attached without localize(): orjson would take another offset."""

        def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(minutes=53)

        def dst(self, when: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(0)

        def tzname(self, when: dt.datetime | None) -> str:
            return "LMT"

        def normalize(self, when: dt.datetime) -> dt.datetime:
            return when.astimezone(UTC)

    value = NOON.replace(tzinfo=LocalMeanTime())
    assert encoded(TIMESTAMPTZ, value, value) == ["2020-01-02T12:00:00+00:53"] * 2


def test_the_decimal_context_changes_nothing(way: None) -> None:
    with localcontext() as context:
        context.prec, context.capitals = 3, 0
        context.traps[FloatOperation] = True
        assert encoded(PRICE, Decimal("123456.78")) == ["123456.78"]
        assert encoded(INT4, 2.0, Decimal(2)) == ["2", "2"]
        assert encoded(FLOAT8, Decimal("0.123456")) == ["0.123456"]
        assert "2 decimal places" in refusal(PRICE, Decimal("1E-7")).problem


def test_a_value_that_contains_itself_is_refused(way: None) -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "contains itself" in refusal(JSONB, loop).problem
    assert "dimensions" in refusal(array(INT4), loop).problem
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deeply" in refusal(JSONB, deep).problem


def test_text_that_looks_like_the_separators_stays_in_its_field(way: None) -> None:
    words = ['","', "null", "None", "NULL", '"', ",", "a\0b"[:1], "\\N", ", ", "],[", ",\n0,", ""]
    fields = encoded(TEXT, *words, None)
    assert [unescaped(field) for field in fields] == [*words, None]
    assert [json.loads(str(unescaped(field))) for field in encoded(JSONB, *words)] == words


def unescaped(field: str) -> str | None:
    """What COPY reads from a field of text."""
    if field == "\\N":
        return None
    return field.encode("latin-1", "backslashreplace").decode("unicode_escape")


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (array(INT4), "{1,2}"),
        (array(TEXT), '{"a"}'),
        (array(JSONB), "{1}"),
        (array(NUMERIC), "{1.5}"),
        (array(PRICE), "{1.50,NULL}"),
        (array(TIMESTAMP), '{"2020-01-02 10:00",2020-01-03}'),
        (INT4RANGE, "[1,2)"),
        (PAIR, "(1,x)"),
        (FLOAT8, "1.23456789012345678"),
        (FLOAT4, "1234567"),
        (TIMESTAMP, "2020-01-02T03:04:05.6"),
        (DATE, "2020-01-02"),
    ],
    ids=label,
)
def test_a_column_of_texts_that_lose_nothing_takes_the_fast_way(
    type_: TypeShape, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode._Column, "_one_by_one", None)
    assert len(encoded(type_, value, None, value)) == 3


@pytest.mark.parametrize("type_", [INT4, FLOAT8, NUMERIC, PRICE, TEXT, TIMESTAMP, JSONB], ids=label)
def test_a_column_of_one_type_takes_the_fast_way(type_: TypeShape, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip that sends every column value by value would pass all other tests."""

    def slow(*_: Any) -> Sequence[str]:
        raise AssertionError("value by value")

    monkeypatch.setattr(encode._Column, "_one_by_one", slow)
    values: dict[str, Any] = {
        "int4": 1,
        "float8": 1.5,
        "numeric": Decimal("1.25"),
        "text": "tab\t",
        "timestamp": NOON,
        "jsonb": {"a": None},
    }
    assert len(encoded(type_, values[type_.name], None, values[type_.name])) == 3


ENDLESS = ('"', "\\", "[", "[,", '""', " ", "1 ", "a ", "1:", "+", '{"')
TAKEN_APART = {
    "numeric[]": TypeShape("_numeric", element=TypeShape("numeric", modifier=(5 << 16 | 2) + 4)),
    "tsrange": TypeShape("tsrange", "r", element=TypeShape("timestamp")),
    "tsmultirange": TypeShape("tsmultirange", "m", element=TypeShape("tsrange", "r", element=TypeShape("timestamp"))),
    "composite": TypeShape("pair", "c", fields=(TypeShape("date"), TypeShape("numeric"))),
    "interval": TypeShape("interval", modifier=0x7FFF << 16),
    "timestamp": TypeShape("timestamp"),
    "float": TypeShape("float8"),
}


@pytest.mark.parametrize("type_", TAKEN_APART.values(), ids=TAKEN_APART.keys())
@pytest.mark.parametrize("piece", ENDLESS)
def test_no_text_takes_long_to_be_taken_apart(type_: TypeShape, piece: str) -> None:
    """Sixty quotes kept an expression that has several ways to read them busy for years."""

    def give_up(*_: Any) -> None:
        raise AssertionError("it takes more than 20 seconds")

    encoder = RowEncoder("t", [ColumnFormat("c", type_)])
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    try:
        for begin in ("", "{", "[", "("):
            with suppress(RowError):
                encoder.encode([(begin + piece * 20_000,)], 1)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
