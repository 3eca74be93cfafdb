"""What PostgreSQL stores from our COPY text is what it stores from psycopg's parameters."""

import datetime as dt
import ipaddress
import itertools
import json
import string
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.types.hstore import register_hstore
from psycopg.types.json import Json, Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from airflow_ingest_provider.core.encode import ColumnFormat, RowEncoder
from airflow_ingest_provider.core.errors import RowError
from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values import literals
from tests.ways import WAYS, going

TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "good", \\ {very}');
    CREATE TYPE pair AS (number integer, word text);
"""

SHAPE = """
    SELECT typname, typtype::text, -1, CASE typtype
        WHEN 'r' THEN (SELECT rngsubtype FROM pg_range WHERE rngtypid = pg_type.oid)
        WHEN 'm' THEN (SELECT rngsubtype FROM pg_range WHERE rngmultitypid = pg_type.oid)
        ELSE CASE WHEN typcategory = 'A' THEN typelem ELSE 0 END END
    FROM pg_type WHERE oid = %s
"""


@dataclass(frozen=True)
class Case:
    """A type, values of it, how psycopg has to be told about one, and what to compare when it comes back."""

    type: str
    values: st.SearchStrategy[Any]
    parameter: Callable[[Any], Any] = lambda value: value
    major: int = 14
    reads: Callable[[Any], Any] | None = None


ENCODABLE: Any = ("L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Cn", "Co")


def texts(max_size: int = 12) -> st.SearchStrategy[str]:
    """Characters that PostgreSQL stores, those that COPY and literals escape among them."""
    characters = st.characters(exclude_characters="\0", categories=ENCODABLE)
    return st.text(characters | st.sampled_from("\\\t\n\r\"'{},N ()[]"), max_size=max_size) | st.sampled_from(
        ["", "\\N", "\\.", "NULL", "null", "None", '","', "\\", "\\\\", "🚲", " "]
    )


def decimals(places: int | None = None, digits: int = 8) -> st.SearchStrategy[Decimal]:
    if places is None:
        return st.decimals(allow_nan=True, allow_infinity=True).filter(
            lambda number: (
                str(number) not in ("sNaN", "-sNaN", "-NaN")
                and (not number.is_finite() or -200 < number.adjusted() < 200)
            )
        )
    return st.decimals(-(10**digits) + 1, 10**digits - 1, places=places, allow_nan=False)


def json_values() -> st.SearchStrategy[Any]:
    characters = st.characters(exclude_characters="\0", categories=ENCODABLE)
    words = st.text(characters, max_size=8)
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    # -0.0 is 0 in jsonb either way, but psycopg sends what json.dumps writes: the same text.
    return st.recursive(
        st.booleans() | numbers | words | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
        max_leaves=8,
    ).filter(lambda value: value is not None)


def in_json(wrapper: type[Json] | type[Jsonb]) -> Callable[[Any], Any]:
    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    return lambda value: wrapper(value, dumps=compact)


def ranges(bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[Range[Any]]:
    def ordered(low: Any, high: Any, kind: str) -> Range[Any]:
        if low is not None and high is not None and high < low:
            low, high = high, low
        return Range(low, high, kind)

    pairs = st.builds(ordered, st.none() | bounds, st.none() | bounds, st.sampled_from(["[)", "(]", "[]", "()"]))
    return pairs | st.just(Range(empty=True))


def same(value: Any) -> Any:
    """What equal values have in common, with a NaN equal to itself."""
    return value if value == value else "NaN"


def in_utc(value: dt.datetime | None) -> dt.datetime | None:
    """The instant: a time that a zone skips or repeats equals no time of another zone (PEP 495)."""
    return value and value.astimezone(dt.timezone.utc)


def as_floats(value: Any) -> Any:
    """JSON without types of numbers: jsonb gives 1e22 back as an integer of as many digits."""
    return json.loads(json.dumps(value), parse_int=float)


def zones() -> st.SearchStrategy[dt.tzinfo]:
    seconds = st.integers(-15 * 3600 + 1, 15 * 3600 - 1)
    fixed = seconds.map(lambda offset: dt.timezone(dt.timedelta(seconds=offset)))
    minutes = st.integers(-899, 899).map(lambda offset: dt.timezone(dt.timedelta(minutes=offset)))
    return st.just(dt.timezone.utc) | minutes | fixed | st.timezones()


def whole(places: int) -> Callable[[Any], Any]:
    """Cuts a time or datetime to these decimal places of a second."""
    unit = 10 ** (6 - places)
    return lambda value: value.replace(microsecond=value.microsecond // unit * unit)


def multiple_of(**unit: float) -> Callable[[dt.timedelta], dt.timedelta]:
    """Cuts an interval to a multiple of timedelta(**unit)."""
    return lambda value: value // dt.timedelta(**unit) * dt.timedelta(**unit)


SMALL = st.integers(-(2**31), 2**31 - 1)
# A day away from the end of the calendar: psycopg reads no year 10000.
INSTANTS = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29), timezones=zones())
INTERVALS = st.timedeltas(dt.timedelta(days=-(10**6)), dt.timedelta(days=10**6))
ADDRESSES = st.ip_addresses()

BOXES = st.sampled_from(["(2,2),(1,1)", "(0,0),(0,0)"])

CASES = [
    Case("smallint", st.integers(-(2**15), 2**15 - 1), reads=same),
    Case("integer", SMALL, reads=same),
    Case("bigint", st.integers(-(2**63), 2**63 - 1), reads=same),
    Case("oid", st.integers(0, 2**32 - 1), reads=same),
    Case("real", st.floats(width=32)),
    Case("double precision", st.floats(), reads=same),
    Case("double precision", st.integers(-(2**53), 2**53) | st.floats()),
    Case("numeric", decimals(), reads=same),
    Case("numeric", st.integers(), reads=same),
    Case("numeric", st.floats(), lambda value: Decimal(repr(value))),
    Case("numeric(10,2)", decimals(2) | decimals(0), reads=same),
    Case("numeric(10,0)", decimals(0)),
    Case("numeric(4,-2)", st.integers(-9999, 9999).map(lambda number: number * 100), major=15),
    Case("numeric(3,5)", st.integers(-999, 999).map(lambda number: Decimal(number).scaleb(-5)), major=15),
    Case("boolean", st.booleans(), reads=same),
    Case("text", texts(), reads=same),
    Case("varchar(12)", texts(12), reads=same),
    Case("char(12)", texts(12)),
    Case("varchar", texts()),
    Case("name", texts()),
    Case('"char"', st.characters(max_codepoint=127, exclude_characters="\0")),
    Case("bytea", st.binary(max_size=20), reads=same),
    Case("date", st.dates(), reads=same),
    Case("timestamp", st.datetimes(), reads=same),
    Case("timestamp", st.dates()),
    Case("timestamp(3)", st.datetimes().map(whole(3)), reads=same),
    Case("timestamp(0)", st.datetimes().map(whole(0))),
    Case("timestamptz", INSTANTS, reads=in_utc),
    Case("timestamptz(3)", INSTANTS.map(whole(3))),
    Case("time", st.times(), reads=same),
    Case("time(2)", st.times().map(whole(2))),
    Case("timetz", st.times(timezones=zones()).filter(dt.time.utcoffset)),
    Case("interval", INTERVALS, reads=same),
    Case("interval(3)", INTERVALS.map(multiple_of(milliseconds=1)), reads=same),
    Case("interval day to minute", INTERVALS.map(multiple_of(minutes=1)), reads=same),
    Case("uuid", st.uuids(), reads=same),
    Case("inet", ADDRESSES | ADDRESSES.map(ipaddress.ip_interface)),
    Case("cidr", ADDRESSES.map(ipaddress.ip_network)),
    Case("json", json_values(), in_json(Json), reads=same),
    Case("jsonb", json_values(), in_json(Jsonb), reads=as_floats),
    Case("mood", st.sampled_from(["sad", "ok", 'it\'s "good", \\ {very}'])),
    Case("pair", st.tuples(st.none() | SMALL, st.none() | texts())),
    Case("pair[]", st.lists(st.tuples(st.none() | SMALL, st.none() | texts()), max_size=3)),
    Case("point", st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(str)),
    Case("integer[]", st.lists(st.none() | SMALL, max_size=4), reads=same),
    Case("integer[]", st.lists(st.lists(SMALL, min_size=2, max_size=2), max_size=3)),
    Case("double precision[]", st.lists(st.floats(), max_size=4)),
    Case("numeric(10,2)[]", st.lists(decimals(2), max_size=4)),
    Case("text[]", st.lists(st.none() | texts(), max_size=4), reads=same),
    Case("text[]", st.lists(st.lists(texts(), min_size=1, max_size=1), max_size=3)),
    Case("bytea[]", st.lists(st.binary(max_size=4), max_size=3)),
    Case("timestamp[]", st.lists(st.none() | st.datetimes(), max_size=3), reads=same),
    Case("interval[]", st.lists(INTERVALS, max_size=3)),
    Case("boolean[]", st.lists(st.none() | st.booleans(), max_size=4)),
    Case("uuid[]", st.lists(st.uuids(), max_size=3)),
    Case("mood[]", st.lists(st.sampled_from(["sad", 'it\'s "good", \\ {very}']), max_size=3)),
    Case("jsonb[]", st.lists(json_values(), max_size=3), lambda value: [in_json(Jsonb)(item) for item in value]),
    Case("box[]", st.lists(BOXES, max_size=3), lambda items: "{" + ";".join(items) + "}"),
    Case("int4range", ranges(st.integers(-9, 9))),
    Case("numrange", ranges(decimals(3))),
    Case("daterange", ranges(st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)))),
    Case("tsrange", ranges(st.datetimes())),
    Case("tstzrange", ranges(st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=zones()))),
    Case("int4range[]", st.lists(ranges(st.integers(-9, 9)), max_size=3)),
    Case("int4multirange", st.lists(ranges(st.integers(-9, 9)), max_size=3).map(Multirange)),
    Case("tsmultirange", st.lists(ranges(st.datetimes()), max_size=3).map(Multirange)),
    # A str is PostgreSQL's to read.
    Case("integer", SMALL.map(str)),
    Case("numeric(10,2)", decimals(2).map(str)),
    Case("timestamp", st.datetimes().map(str)),
    Case("timestamptz", INSTANTS.map(str)),
    Case("date", st.dates().map(str)),
    Case("uuid", st.uuids().map(str)),
    Case("integer[]", st.lists(SMALL, max_size=3).map(lambda items: "{" + ",".join(map(str, items)) + "}")),
]


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TYPES)
        yield connection


FIELDS = """
    SELECT atttypid, atttypmod FROM pg_attribute JOIN pg_type ON typrelid = attrelid
    WHERE pg_type.oid = %s AND typtype = 'c' AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


def shape(connection: psycopg.Connection) -> TypeShape:
    """The type of the column `value` of the table `stored`."""
    query = "SELECT atttypid, atttypmod FROM pg_attribute WHERE attrelid = 'stored'::regclass AND attnum = 3"
    oid, modifier = connection.execute(query).fetchall()[0]
    return _shape(connection, oid, modifier)


def _shape(connection: psycopg.Connection, oid: int, modifier: int) -> TypeShape:
    name, kind, _, element = connection.execute(SHAPE, [oid]).fetchall()[0]
    # The modifier of an array is that of its elements.
    of = _shape(connection, element, modifier) if element else None
    fields = tuple(_shape(connection, *field) for field in connection.execute(FIELDS, [oid]).fetchall())
    return TypeShape(name, kind=kind, modifier=modifier, element=of, fields=fields)


def store(connection: psycopg.Connection, type_: TypeShape, rows: Sequence[Sequence[Any]]) -> None:
    columns = [TypeShape("text"), TypeShape("int4"), type_]
    formats = [ColumnFormat(f"c{number}", column) for number, column in enumerate(columns)]
    encoded = RowEncoder("stored", formats).encode(rows)
    with connection.cursor().copy("COPY stored FROM STDIN (FORMAT text, ENCODING 'UTF8')") as copy:
        copy.write(encoded)


def as_written(connection: psycopg.Connection) -> list[list[str | None]]:
    """The values of each of our ways, to the letter: a row that only reads the same would be updated."""
    query = "SELECT array_agg(value::text ORDER BY number) FROM stored WHERE way <> 'inserted' GROUP BY way"
    return [texts for (texts,) in connection.execute(query)]


def stored(connection: psycopg.Connection, type_name: str = "") -> dict[str, list[str | None]]:
    """The values as PostgreSQL shows them, by the way in which they came."""
    shown: dict[str, list[str | None]] = {}
    # json keeps the text: 1e-08 of json.dumps is 1e-8 of orjson.
    column = "value::jsonb" if type_name == "json" else "value"
    for way, value in connection.execute(f"SELECT way, {column}::text FROM stored ORDER BY way, number"):
        shown.setdefault(way, []).append(value)
    return shown


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type)
def test_copied_values_are_stored_as_inserted_ones(connection: psycopg.Connection, case: Case) -> None:
    if connection.info.server_version // 10000 < case.major:
        pytest.skip(f"{case.type} comes with PostgreSQL {case.major}")
    connection.execute(f"CREATE TABLE stored (way text, number integer, value {case.type})")
    type_ = shape(connection)

    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.none() | case.values, min_size=1, max_size=12))
    def check(values: list[Any]) -> None:
        with connection.transaction(force_rollback=True):
            for way in WAYS:
                with going(way):
                    store(connection, type_, [(way, number, value) for number, value in enumerate(values)])
            connection.cursor().executemany(
                "INSERT INTO stored VALUES ('inserted', %s, %s)",
                [(number, None if value is None else case.parameter(value)) for number, value in enumerate(values)],
            )
            if case.type == "json":
                assert len(set(map(tuple, as_written(connection)))) == 1
            shown = stored(connection, case.type)
            expected = shown.pop("inserted")
            assert shown == dict.fromkeys(WAYS, expected)
            if case.reads is not None:
                query = "SELECT value FROM stored WHERE way = 'orjson' ORDER BY number"
                back = [value for (value,) in connection.execute(query)]
                assert list(map(case.reads, back)) == list(map(case.reads, values))

    check()


@pytest.mark.extension("hstore")
def test_hstore_values_are_stored_as_inserted_ones(dsn: str, connection: psycopg.Connection) -> None:
    found = psycopg.types.TypeInfo.fetch(connection, "hstore")
    assert found is not None
    register_hstore(found, connection)
    words = texts(6)
    values = st.dictionaries(words, st.none() | words, max_size=4)
    test_copied_values_are_stored_as_inserted_ones(connection, Case("hstore", values))


ANYTHING: list[Any] = [
    True,
    0,
    1,
    -1,
    2**31,
    2**53 + 1,
    2**64,
    1.0,
    1.5,
    1e300,
    float("nan"),
    float("inf"),
    Decimal("1.00"),
    Decimal("1.239"),
    Decimal("1E-30"),
    Decimal("Infinity"),
    "",
    "1",
    "1.239",
    "abc   ",
    "2020-01-02",
    "2020-01-02 03:04:05.1234567",
    "2020-01-02T03:04:05+02:00",
    b"\x01",
    dt.date(2020, 1, 2),
    dt.datetime(2020, 1, 2),
    dt.datetime(2020, 1, 2, 3, 4, 5, 678901),
    dt.datetime(2020, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    dt.time(1, 2, 3, 456789),
    dt.time(1, tzinfo=dt.timezone.utc),
    dt.timedelta(days=1, microseconds=1),
    [],
    [1],
    [1.5],
    ["1.239"],
    (1, 2),
    {},
    {"a": 1},
    {"a": None},
    Range(1, 2),
]

TYPE_NAMES = [
    *("smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(3,2)", "money"),
    *("boolean", "text", "varchar(3)", "char(3)", "bytea", "bit(3)", "uuid", "inet", "xml", "json", "jsonb"),
    *("date", "timestamp", "timestamp(3)", "timestamptz", "time", "time(0)", "timetz"),
    *("interval", "interval(3)", "interval day"),
    *("integer[]", "numeric(3,2)[]", "text[]", "int4range", "int4multirange", "mood", "pair", "point"),
]


def test_what_we_let_through_postgresql_stores_unchanged_or_refuses(connection: psycopg.Connection) -> None:
    """Every odd value for every type: all ways agree, and what is stored is the value."""
    for type_name in TYPE_NAMES:
        connection.execute(f"CREATE TABLE stored (way text, number integer, value {type_name})")
        type_ = shape(connection)
        for value in ANYTHING:
            outcomes = {way: outcome(connection, type_, way, value) for way in WAYS}
            assert len(set(outcomes.values())) == 1, (type_name, value, outcomes)
            shown = outcomes["orjson"]
            # What PostgreSQL makes of a str is its own; containers are tested above.
            if shown is not None and not isinstance(value, str | list | tuple | dict | Range):
                assert unchanged(shown, value, type_name), (type_name, value, shown)
        connection.execute("DROP TABLE stored")


def outcome(connection: psycopg.Connection, type_: TypeShape, way: str, value: Any) -> str | None:
    """What is shown of the stored value; None if we or PostgreSQL refuse it."""
    try:
        with going(way), connection.transaction(force_rollback=True):
            store(connection, type_, [(way, 1, value)])
            return stored(connection)[way][0]
    except (RowError, psycopg.DataError, psycopg.NotSupportedError):
        return None


def unchanged(shown: str, value: Any, type_name: str) -> bool:
    """Whether the text that PostgreSQL shows is the value, for values that are not containers."""
    if isinstance(value, bool):
        return shown == ("true" if value else "false")
    if isinstance(value, int | float | Decimal):
        return same_number(shown, value, type_name)
    if isinstance(value, bytes):
        return shown == "\\x" + value.hex()
    if isinstance(value, dt.timedelta):
        return shown == "1 day 00:00:00.000001"
    if isinstance(value, dt.datetime):
        return shown.removesuffix("+00") in (
            value.isoformat(" "),
            value.astimezone(dt.timezone.utc).replace(tzinfo=None).isoformat(" ") if value.tzinfo else "",
            str(value.date()) if value.time() == dt.time.min else "",
        )
    if isinstance(value, dt.time):
        return shown.removesuffix("+00") == value.replace(tzinfo=None).isoformat()
    assert isinstance(value, dt.date)
    return shown in (str(value), f"{value} 00:00:00")


def same_number(shown: str, value: int | float | Decimal, type_name: str) -> bool:
    bare = {"true": "1", "false": "0"}.get(shown, shown.replace("$", "").replace(",", ""))
    if isinstance(value, int) and type_name in ("real", "double precision"):
        number = float(bare)
        return value == (struct.unpack("f", struct.pack("f", number))[0] if type_name == "real" else number)
    # A float is what its shortest form says.
    found, wanted = Decimal(bare), Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return found == wanted or (found.is_nan() and wanted.is_nan())


STYLES = ("postgres", "sql_standard", "iso_8601", "postgres_verbose")


@pytest.mark.parametrize("date_style", ["ISO, DMY", "SQL, MDY", "German", "Postgres, YMD"])
def test_no_setting_of_the_session_changes_what_is_stored(connection: psycopg.Connection, date_style: str) -> None:
    connection.execute("CREATE TABLE settled (a date, b timestamp, c timestamptz, d time, e interval, f float8)")
    row = (
        dt.date(2003, 2, 1),
        dt.datetime(2003, 2, 1, 4, 5, 6, 7),
        dt.datetime(2003, 2, 1, 4, 5, 6, 7, tzinfo=dt.timezone.utc),
        dt.time(4, 5, 6, 7),
        dt.timedelta(days=-1, seconds=5, microseconds=7),
        0.1,
    )
    names = ("date", "timestamp", "timestamptz", "time", "interval", "float8")
    encoder = RowEncoder("settled", [ColumnFormat(name, TypeShape(name)) for name in names])
    for style in STYLES:
        connection.execute(f"SET DateStyle = '{date_style}'; SET IntervalStyle = {style}; SET TimeZone = 'Asia/Tokyo'")
        with connection.cursor().copy("COPY settled FROM STDIN (FORMAT text, ENCODING 'UTF8')") as copy:
            copy.write(encoder.encode([row]))
    connection.execute("SET DateStyle = 'ISO'; SET IntervalStyle = postgres; SET TimeZone = 'UTC'")
    assert connection.execute("SELECT * FROM settled").fetchall() == [row] * len(STYLES)


def test_the_text_does_not_depend_on_the_client_encoding(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE stored (way text, number integer, value text); SET client_encoding = 'LATIN1'")
    store(connection, TypeShape("text"), [("a", 1, "Zürich 🚲")])
    connection.execute("SET client_encoding = 'UTF8'")
    assert stored(connection) == {"a": ["Zürich 🚲"]}


def test_every_printable_character_and_line_end_survives(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE stored (way text, number integer, value text)")
    characters = [*string.printable, *map(chr, range(1, 0x300)), "\u2028", "\ufeff", "\U0010ffff"]
    for way in WAYS:
        with going(way):
            store(connection, TypeShape("text"), [(way, number, c) for number, c in enumerate(characters)])
    assert stored(connection) == dict.fromkeys(WAYS, characters)


DATES = (
    *("2020-01-02", "20200102", "1/2/2020", "02.01.2020", "2020.002", "J2458850", "12020-01-02", "2020-01-02 BC"),
    *("01-02-20", "1 2 2020", "2020/1/2", "2020.01.02", "2020 1 2"),
    *("Jan 2 2020", "January 2, 2020", "2-Jan-2020", "2020-Jan-02", "Thu Jan-02-2020", "Sat 2020-01-04"),
)
CLOCKS = (
    *("", "00:00", "00:00:00.000", "10:00:00", "040506", "0405", "10:00:00.5", "040506.5", "10:00 PM", "T040506"),
    *("T0405", "24:00", "allballs", "04:05.5", "040506 PM", "00:00 am"),
)
ZONE_NAMES = ("", "Z", "+05", "-05", " -0530", " EST", " AMT", " ADT", " Europe/Berlin", " EST5EDT", " <+03>-3", " LMT")

READS = """
    CREATE FUNCTION reads(value text, type text) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE shown text;
        BEGIN
            EXECUTE format('SELECT (%L::%s)::text', value, type) INTO shown;
            RETURN shown;
        EXCEPTION WHEN OTHERS THEN
            RETURN NULL;
        END
    $$
"""


def moments_as_text() -> Iterator[str]:
    """Dates, times of day and zones, one after the other in any order."""
    for date, clock, zone in itertools.product(DATES, CLOCKS, ZONE_NAMES):
        parts = (f"{date} {clock}{zone}", f"{clock}{zone} {date}", f"{date}{zone} {clock}", f"{clock} {date}{zone}")
        yield from (*parts, f"{date}T{clock}{zone}", f"{clock}{zone}")


def test_no_text_passes_of_which_postgresql_would_drop_a_part(connection: psycopg.Connection) -> None:
    texts = sorted(set(moments_as_text()))
    connection.execute(READS)

    def reads(type_name: str, zone: str = "UTC") -> list[str | None]:
        query = "SELECT reads(value, %s) FROM unnest(%s::text[]) WITH ORDINALITY each(value, place) ORDER BY place"
        connection.execute(f"SET TimeZone = '{zone}'")
        return [shown for (shown,) in connection.execute(query, [type_name, texts])]

    here, there = (reads("timestamptz AT TIME ZONE 'UTC'", zone) for zone in ("UTC", "Asia/Tokyo"))
    timestamps, days, times = reads("timestamp"), reads("date"), reads("time")
    for value, one, other, timestamp, day, clock in zip(texts, here, there, timestamps, days, times, strict=True):
        has_zone = one is not None and one == other
        if timestamp and passes(TypeShape("timestamp"), value):
            assert not has_zone, value
        if day and passes(TypeShape("date"), value):
            assert not has_zone, value
            assert "00:00:00" in str(timestamp), value
        if clock and passes(TypeShape("time"), value):
            assert not any(zone and value.endswith(zone) for zone in ZONE_NAMES), value
            assert not any(date in value for date in DATES), value


def test_no_date_of_numbers_passes_that_another_date_style_reads_as_another_day(connection: psycopg.Connection) -> None:
    texts = sorted(set(moments_as_text()))
    connection.execute(READS)
    for name in ("date", "timestamp", "timestamptz"):
        query = "SELECT reads(value, %s) FROM unnest(%s::text[]) WITH ORDINALITY each(value, place) ORDER BY place"
        read = []
        for order in ("MDY", "DMY", "YMD"):
            connection.execute(f"SET DateStyle = 'ISO, {order}'")
            read.append([shown for (shown,) in connection.execute(query, [name, texts])])
        for value, *shown in zip(texts, *read, strict=True):
            if len(set(shown)) > 1 and "Jan" not in value:
                assert not passes(TypeShape(name), value), value


def passes(type_: TypeShape, value: str) -> bool:
    try:
        RowEncoder("stored", [ColumnFormat("c", type_)]).encode([(value,)])
    except RowError:
        return False
    return True


def test_the_parts_of_a_text_are_those_that_postgresql_finds(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TYPE words AS RANGE (subtype = text, subtype_opclass = text_ops, collation = 'C')")
    query = """
        SELECT %(items)s::text[]::text, ARRAY[%(items)s::text[]]::text, ROW(%(low)s::text, %(high)s::text, NULL)::text,
               words(%(low)s, %(high)s, '[]')::text, multirange(words(%(low)s, %(high)s, '[]'))::text
    """

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.none() | texts(), min_size=1, max_size=4), texts(), texts())
    @example(["\xa0"], "", "")
    def check(items: list[str | None], one: str, other: str) -> None:
        low, high = sorted((one, other), key=str.encode)
        shown = connection.execute(query, {"items": items, "low": low, "high": high}).fetchall()[0]
        array, nested, row, bounds, multirange = map(str, shown)
        assert literals.array_items(array) == literals.array_items(nested) == items
        assert literals.composite_fields(row) == [low, high, None]
        assert literals.range_bounds(bounds) == [low, high]
        assert literals.ranges(multirange) == [bounds]

    check()


INTERVALS_AS_TEXT = [
    *(
        f"{number} {unit}"
        for number in ("2", "15", "48", "1.5", "0.1", "-3", "60", "1.123456", ".5")
        for unit in (*("years", "mon", "week", "d", "hours", "min", "s", "ms", "us", "decades", "qtr", "y"),)
    ),
    *(
        "1 year 2 months",
        "1 day 04:05",
        "1 day 04:05:06.5",
        "12 months 1.5 sec",
        "1 year -3 hours ago",
        "@ 1 minute ago",
    ),
    *("P1Y", "P15M", "PT1.5S", "P1DT2H", "P1W", "P0.5M", "PT36H", "P1Y2M3DT4H5M6.7S", "P-1D", "P0001-02-03T04:05:06"),
    *("1-2", "1-2 3 4:05:06", "0:00:01.5", "04:05:00", "1 fortnight", "1 12:00", "24:00:00", "", "x"),
]


@pytest.mark.parametrize(
    "fields",
    [
        "YEAR",
        "MONTH",
        "YEAR TO MONTH",
        "DAY",
        "HOUR",
        "DAY TO MINUTE",
        "SECOND(0)",
        "DAY TO SECOND(2)",
        "(0)",
    ],
)
def test_no_text_passes_of_which_an_interval_would_drop_a_part(connection: psycopg.Connection, fields: str) -> None:
    connection.execute(READS)
    connection.execute(f"CREATE TABLE stored (way text, number integer, value interval {fields})")
    type_ = shape(connection)
    query = """
        SELECT reads(value, 'interval'), reads(value, %s)
        FROM unnest(%s::text[]) WITH ORDINALITY each(value, place) ORDER BY place
    """
    results = connection.execute(query, [f"interval {fields}", INTERVALS_AS_TEXT]).fetchall()
    assert {whole == kept for whole, kept in results} == {True, False}
    for value, (whole, kept) in zip(INTERVALS_AS_TEXT, results, strict=True):
        assert kept in (None, whole) or not passes(type_, value), value
