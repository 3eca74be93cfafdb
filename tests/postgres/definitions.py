"""Definitions of tables: every type, and every option of columns, indexes, constraints and tables.

A definition is a function that makes it from nothing, so that two runs share no object of SQLAlchemy. Parts can be
added to one table, all at once; cases have tables of their own.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import types
from sqlalchemy.dialects import postgresql as pg

DIALECT: sa.Dialect = pg.dialect()  # type: ignore[no-untyped-call]

SQLALCHEMY = tuple(int(part) for part in sa.__version__.split(".")[:2])


@dataclass(frozen=True)
class Part:
    """What adds columns or indexes to a table `t`, given a word to name them with, and what its database has to be."""

    add: Callable[[sa.Table, str], object]
    major: int = 14
    before: str = ""


@dataclass(frozen=True)
class Case:
    """A definition, and what its database has to be: of that major at least, with an extension, with objects."""

    make: Callable[[], sa.MetaData]
    major: int = 14
    extension: str | None = None
    before: str = ""
    refused: bool = False
    """Whether the definition is one that no plan can be made for."""


def together(parts: Iterable[Part]) -> sa.MetaData:
    """The metadata of a table with all these parts."""
    base = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("a", sa.Text),
        sa.Column("b", sa.Integer),
        sa.Column("c c", sa.String(10), key="c"),
        sa.Column("at", sa.DateTime),
        sa.Column("document", pg.JSONB),
        sa.Column("tags", pg.ARRAY(sa.Text)),
        sa.Column("span", pg.INT4RANGE),
        sa.Column("words", pg.TSVECTOR),
        sa.Column("address", pg.INET),
        sa.Column("place", Point),
    )
    for number, part in enumerate(parts):
        part.add(base, f"part{number}")
    return base.metadata


def table(*parts: Any, name: str = "t", metadata: sa.MetaData | None = None, **options: Any) -> sa.MetaData:
    """The metadata of a table of these parts."""
    return sa.Table(name, sa.MetaData() if metadata is None else metadata, *parts, **options).metadata


# ---------------------------------------------------------------------------------------------------- types


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Reversed(sa.TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True


class Documents(sa.TypeDecorator[Any]):
    """Another type on PostgreSQL than elsewhere."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(pg.JSONB() if dialect.name == "postgresql" else sa.Text())


class Colors(sa.TypeDecorator[Any]):
    """A decorated enum, whose type SQLAlchemy creates too."""

    impl = sa.Enum(Color, name="decorated_color")
    cache_ok = True


class Point(sa.types.UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "point"


class Price(sa.types.UserDefinedType[str]):
    """A spelling that PostgreSQL shortens."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "DECIMAL ( 10 , 2 )"


Type = Callable[[], types.TypeEngine[Any]]

ABSTRACT: dict[type, str] = {
    types.TypeEngine: "the base of all types",
    types.TupleType: "of expressions, never of columns",
    types.NullType: "what SQLAlchemy uses where it knows no type",
    vars(types)["_Binary"]: "the base of the binary types",
    pg.NamedType: "the base of ENUM and DOMAIN",
    vars(pg)["AbstractRange"]: "the base of ranges and multiranges",
    vars(pg)["AbstractSingleRange"]: "the base of the ranges",
    vars(pg)["AbstractMultiRange"]: "the base of the multiranges",
}
"""Classes that no column has, and why."""

FOREIGN: dict[type, str] = {
    types.BINARY: "SQL Server's and MySQL's",
    types.VARBINARY: "SQL Server's and MySQL's",
    types.BLOB: "SQLite's, MySQL's and Oracle's",
    types.CLOB: "Oracle's",
    types.DATETIME: "SQLite's, MySQL's and SQL Server's",
    types.DOUBLE: "MySQL's",
    types.NVARCHAR: "SQL Server's",
}
"""Classes whose names PostgreSQL does not know, and whose they are."""

EXTENSIONS: dict[type, str] = {pg.HSTORE: "hstore", pg.CITEXT: "citext"}
"""The extension that a class needs."""

_TIMES: Callable[[Any], tuple[Type, ...]] = lambda kind: (  # noqa: E731 - the table below reads as a table
    kind,
    lambda: kind(timezone=True),
    *(lambda zone=zone, digits=digits: kind(zone, digits) for zone in (False, True) for digits in (0, 3, 6)),
)

ARGUMENTS: dict[type, tuple[Type, ...]] = {
    types.String: (
        sa.String,
        lambda: sa.String(1),
        lambda: sa.String(10485760),
        lambda: sa.String(5, collation="C"),
        lambda: sa.String(collation="default"),
        lambda: sa.String(1).with_variant(sa.Text(), "postgresql"),
        lambda: sa.String(1).with_variant(sa.BigInteger(), "mysql"),
    ),
    types.VARCHAR: (sa.VARCHAR, lambda: sa.VARCHAR(5), lambda: sa.VARCHAR(5, collation="POSIX")),
    types.CHAR: (sa.CHAR, lambda: sa.CHAR(1), lambda: sa.CHAR(7), lambda: sa.CHAR(7, collation="C")),
    types.NCHAR: (sa.NCHAR, lambda: sa.NCHAR(7)),
    types.Text: (sa.Text, lambda: sa.Text(collation="C"), lambda: sa.Text(collation="ucs_basic")),
    types.TEXT: (sa.TEXT, lambda: sa.TEXT(collation="POSIX")),
    types.Unicode: (sa.Unicode, lambda: sa.Unicode(5)),
    types.UnicodeText: (sa.UnicodeText, lambda: sa.UnicodeText(collation="C")),
    types.LargeBinary: (sa.LargeBinary, lambda: sa.LargeBinary(10)),
    types.Numeric: (
        sa.Numeric,
        lambda: sa.Numeric(5),
        lambda: sa.Numeric(5, 0),
        lambda: sa.Numeric(1000, 500),
        lambda: sa.Numeric(10, 2, asdecimal=False),
    ),
    types.NUMERIC: (sa.NUMERIC, lambda: sa.NUMERIC(10, 2)),
    types.DECIMAL: (sa.DECIMAL, lambda: sa.DECIMAL(10, 2), lambda: sa.DECIMAL(38)),
    types.Float: (
        sa.Float,
        *(lambda bits=bits: sa.Float(bits) for bits in (1, 24, 25, 53)),
        lambda: sa.Float(asdecimal=True),
    ),
    types.FLOAT: (sa.FLOAT, lambda: sa.FLOAT(24), lambda: sa.FLOAT(53)),
    types.REAL: (sa.REAL, lambda: sa.REAL(24)),
    types.Double: (sa.Double, lambda: sa.Double(53), lambda: sa.Double(asdecimal=True)),
    types.Boolean: (sa.Boolean, lambda: sa.Boolean(create_constraint=True, name="is_true")),
    types.DateTime: (sa.DateTime, lambda: sa.DateTime(timezone=True)),
    types.TIMESTAMP: (sa.TIMESTAMP, lambda: sa.TIMESTAMP(timezone=True)),
    types.Time: (sa.Time, lambda: sa.Time(timezone=True)),
    types.TIME: (sa.TIME, lambda: sa.TIME(timezone=True)),
    pg.TIMESTAMP: _TIMES(pg.TIMESTAMP),
    pg.TIME: _TIMES(pg.TIME),
    types.Interval: (sa.Interval, lambda: sa.Interval(native=False), lambda: sa.Interval(second_precision=3)),
    pg.INTERVAL: (
        pg.INTERVAL,
        *(lambda digits=digits: pg.INTERVAL(precision=digits) for digits in (0, 3, 6)),
        *(
            lambda fields=fields: pg.INTERVAL(fields=fields)
            for fields in (
                *("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND", "YEAR TO MONTH", "DAY TO HOUR"),
                *("DAY TO MINUTE", "DAY TO SECOND", "HOUR TO MINUTE", "HOUR TO SECOND", "MINUTE TO SECOND"),
            )
        ),
        lambda: pg.INTERVAL(fields="SECOND", precision=3),
        lambda: pg.INTERVAL(fields="day to second", precision=0),
    ),
    types.Uuid: (sa.Uuid, lambda: sa.Uuid(as_uuid=False), lambda: sa.Uuid(native_uuid=False)),
    types.UUID: (sa.UUID, lambda: sa.UUID(as_uuid=False)),
    types.JSON: (sa.JSON, lambda: sa.JSON(none_as_null=True), lambda: sa.JSON().with_variant(pg.JSONB(), "postgresql")),
    pg.JSON: (pg.JSON, lambda: pg.JSON(astext_type=sa.Text(collation="C"))),
    pg.JSONB: (pg.JSONB, lambda: pg.JSONB(none_as_null=True)),
    types.PickleType: (sa.PickleType, lambda: sa.PickleType(impl=sa.Text)),
    pg.BIT: (
        pg.BIT,
        *(lambda length=length: pg.BIT(length) for length in (1, 3, 1000)),
        *(lambda length=length: pg.BIT(length, varying=True) for length in (None, 1, 3)),
    ),
    pg.BYTEA: (pg.BYTEA, lambda: pg.BYTEA(10)),
    types.Enum: (
        lambda: sa.Enum("a", "b", name="letter"),
        lambda: sa.Enum("it's", 'b"\\', "50%", ":c", "é🎉", "", " ", "x" * 63, name="odd labels"),
        lambda: sa.Enum("a", name="A.B"),
        lambda: sa.Enum(*map(str, range(300)), name="many"),
        lambda: sa.Enum(Color),
        lambda: sa.Enum(Color, name="order"),
        lambda: sa.Enum(Color, name="hue", values_callable=lambda colors: [str(color.value) for color in colors]),
        lambda: sa.Enum("a", "b", name="letter", schema="elsewhere"),
        lambda: sa.Enum("a", "b", name="letter", metadata=sa.MetaData()),
        lambda: sa.Enum("a", "b", name="letter", metadata=sa.MetaData(schema="elsewhere")),
        lambda: sa.Enum("a", "b", name="letter", native_enum=False),
        lambda: sa.Enum("a", "b", native_enum=False, length=20),
        lambda: sa.Enum("a", "b", name="letter", native_enum=False, create_constraint=True),
        lambda: sa.Enum("it's", "50%", ":c", native_enum=False, create_constraint=True, name="odd"),
        lambda: sa.Enum(Color, native_enum=False, create_constraint=True),
        lambda: sa.Enum("a", "b", name="letter").with_variant(sa.Text(), "postgresql"),
        lambda: sa.Text().with_variant(sa.Enum("a", "b", name="letter"), "postgresql"),
    ),
    pg.ENUM: (
        lambda: pg.ENUM("a", "b", name="letter"),
        lambda: pg.ENUM("a", "b", name="letter", schema="elsewhere"),
        lambda: pg.ENUM(Color, name="color", metadata=sa.MetaData()),
        lambda: pg.ENUM("here", "too", name="made_before", create_type=False),
    ),
    pg.DOMAIN: (
        lambda: pg.DOMAIN("amount", sa.Integer),
        lambda: pg.DOMAIN("price", sa.Numeric(10, 2), check="VALUE > 0", constraint_name="above_zero"),
        lambda: pg.DOMAIN("seven", sa.Integer, not_null=True, default=sa.text("7")),
        lambda: pg.DOMAIN("word", sa.Text, collation="C", default="it's", check=sa.text("VALUE !~ '\\s'")),
        lambda: pg.DOMAIN("My Word", sa.String(5)),
        lambda: pg.DOMAIN("word", sa.Text, schema="elsewhere"),
        lambda: pg.DOMAIN("words", pg.ARRAY(sa.Text)),
        lambda: pg.DOMAIN("made_before_too", sa.Integer, create_type=False),
    ),
    types.ARRAY: (
        lambda: sa.ARRAY(sa.Integer),
        lambda: sa.ARRAY(sa.String(5), dimensions=2),
        lambda: sa.ARRAY(sa.Enum("a", "b", name="letter")),
    ),
    pg.ARRAY: (
        lambda: pg.ARRAY(sa.String(5)),
        lambda: pg.ARRAY(sa.Numeric(10, 2), dimensions=3, zero_indexes=True, as_tuple=True),
        lambda: pg.ARRAY(sa.Text(collation="C")),
        lambda: pg.ARRAY(Point()),
        lambda: pg.ARRAY(sa.Integer).with_variant(sa.JSON(), "sqlite"),
    ),
    types.TypeDecorator: (Reversed, Documents, Colors),
    types.UserDefinedType: (Point, Price),
    types.Variant: (
        lambda: sa.Text().with_variant(sa.String(5), "postgresql", "mysql"),
        lambda: sa.JSON().with_variant(pg.HSTORE(), "sqlite"),
        lambda: Reversed().with_variant(pg.JSONB(), "postgresql"),
    ),
}
"""How each class is built that needs arguments, or has interesting ones; all others without."""

BEFORE_TYPES = """
    CREATE SCHEMA elsewhere;
    CREATE TYPE made_before AS ENUM ('here', 'too');
    CREATE DOMAIN made_before_too AS int;
"""


def type_classes() -> list[type[types.TypeEngine[Any]]]:
    """Every type class that SQLAlchemy offers for PostgreSQL, abstract ones too."""
    found = {id(one): one for module in (types, pg) for one in vars(module).values() if isinstance(one, type)}
    return sorted(
        (one for one in found.values() if issubclass(one, types.TypeEngine)),
        key=lambda one: (one.__name__, one.__module__),
    )


def typed(make: Type) -> Part:
    """A column of the type, and one of arrays of it where there can be."""

    def add(table: sa.Table, name: str) -> None:
        table.append_column(sa.Column(name, make()))
        kind = make()
        constrained = isinstance(kind, sa.Enum) and kind.create_constraint
        if not constrained and not isinstance(kind.dialect_impl(DIALECT), sa.ARRAY):
            table.append_column(sa.Column(f"{name}s", pg.ARRAY(kind)))

    return Part(add, before=BEFORE_TYPES)


def _types() -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for one in type_classes():
        if one not in ABSTRACT.keys() | FOREIGN.keys() | EXTENSIONS.keys():
            module = "types" if one.__module__.startswith("sqlalchemy.sql") else "postgresql"
            for make in ARGUMENTS.get(one, (one,)):
                name = f"{module}.{make()!r}" if one in ARGUMENTS else f"{module}.{one.__name__}()"
                same = sum(other.startswith(name) for other in parts)
                parts[f"{name}, {same + 1}" if same else name] = typed(make)
    return parts


TYPES: dict[str, Part] = _types()


def of_type(make: Type) -> sa.MetaData:
    return table(sa.Column("a", make()), sa.Column("several", pg.ARRAY(make())))


def _vector() -> types.TypeEngine[Any]:
    from pgvector.sqlalchemy import VECTOR

    vector: types.TypeEngine[Any] = VECTOR(3)
    return vector


EXTENSION_TYPES: dict[str, Case] = {
    **{
        f"{kind.__name__}()": Case(lambda kind=kind: of_type(kind), extension=name)  # type: ignore[misc]
        for kind, name in EXTENSIONS.items()
    },
    "VECTOR(3)": Case(lambda: of_type(_vector), extension="vector"),
}


# -------------------------------------------------------------------------------------------------- columns


def column(kind: Any, *parts: Callable[[], Any], major: int = 14, before: str = "", **options: Any) -> Part:
    """A column with these options."""
    return Part(
        lambda table, name: table.append_column(sa.Column(name, kind, *(part() for part in parts), **options)),
        major,
        before,
    )


def default(kind: Any, value: Any, **options: Any) -> Part:
    return column(kind, server_default=value, **options)


def identity(kind: Any = sa.Integer, **options: Any) -> Part:
    return column(kind, lambda: sa.Identity(**options))


def computed(kind: Any, expression: Any, *, persisted: bool | None = True, major: int = 14) -> Part:
    return column(kind, lambda: sa.Computed(expression, persisted=persisted), major=major)


def key(kind: Any, *parts: Callable[[], Any], **options: Any) -> Case:
    """A definition whose one column is the key."""
    return Case(lambda: table(sa.Column("a", kind, *(part() for part in parts), primary_key=True, **options)))


def drawn(make: Callable[[], tuple[sa.Sequence, dict[str, Any]]], before: str = "") -> Case:
    """A column that draws from a sequence, given as it and the column's options."""

    def from_it() -> sa.MetaData:
        sequence, options = make()
        return table(sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.BigInteger, sequence, **options))

    return Case(from_it, before=before)


def _server_drawn(sequence: sa.Sequence, *parts: Any) -> sa.MetaData:
    return table(sa.Column("a", sa.BigInteger, *parts, server_default=sequence.next_value()))


def _with_sequence(sequence: sa.Sequence, metadata: sa.MetaData) -> sa.MetaData:
    return table(sa.Column("a", sa.BigInteger, server_default=sequence.next_value()), metadata=metadata)


TEXTS = (
    "",
    "x",
    "it's",
    "100%",
    "%(a)s",
    "a:b",
    ":bound",
    "back\\slash",
    'quo"te',
    "é🎉",
    "new\nline",
    " blanks ",
    "NULL",
)

COLUMNS: dict[str, Part] = {
    "nullable": column(sa.Integer, nullable=True),
    "not nullable": column(sa.Integer, nullable=False),
    "default in Python": column(sa.Integer, default=7, onupdate=8),
    "quoted": column(sa.Integer, quote=True),
    "another key": column(sa.Integer, key="other"),
    "doc and info": column(sa.Integer, doc="told to Python", info={"a": 1}),
    "inserted default": column(sa.Integer, insert_default=7),
    **{f"default {text!r}": default(sa.Text, text) for text in TEXTS},
    **{f"comment {text!r}": column(sa.Text, comment=text) for text in (*TEXTS, "long " * 500)},
    "default 7": default(sa.Integer, "7"),
    "default text 7": default(sa.Integer, sa.text("7")),
    "default -7": default(sa.Integer, sa.text("-7")),
    "default literal": default(sa.Integer, sa.literal(7)),
    "default literal text": default(sa.Text, sa.literal("it's 100%")),
    "default 1.50": default(sa.Numeric(10, 2), "1.50"),
    "default 1.567, rounded": default(sa.Numeric(10, 2), "1.567"),
    "default 1e10": default(sa.Float, sa.text("1e10")),
    "default true": default(sa.Boolean, sa.true()),
    "default 'f'": default(sa.Boolean, "f"),
    "default NULL": default(sa.Integer, sa.text("NULL")),
    "default null()": default(sa.Integer, sa.null()),
    "default now()": default(sa.DateTime(timezone=True), sa.func.now()),
    "default now() without a zone": default(sa.DateTime, sa.func.now()),
    "default CURRENT_TIMESTAMP": default(sa.DateTime, sa.text("CURRENT_TIMESTAMP")),
    "default CURRENT_TIMESTAMP(3)": default(sa.DateTime, sa.text("CURRENT_TIMESTAMP(3)")),
    "default current_date": default(sa.Date, sa.func.current_date()),
    "default in UTC": default(sa.DateTime, sa.text("timezone('utc', now())")),
    "default AT TIME ZONE": default(sa.DateTime, sa.text("(now() AT TIME ZONE 'utc')")),
    "default statement_timestamp": default(sa.DateTime(True), sa.text("statement_timestamp()")),
    "default of an hour ago": default(sa.DateTime(True), sa.func.now() - sa.text("interval '1 hour'")),
    "default 2020-01-01": default(sa.DateTime(True), "2020-01-01"),
    "default timestamp": default(sa.DateTime, sa.text("TIMESTAMP '2020-01-01 00:00'")),
    "default infinity": default(sa.DateTime, "infinity"),
    "default '1 day'": default(sa.Interval, "1 day"),
    "default 90 minutes": default(sa.Interval, sa.text("'90 minutes'::interval")),
    "default current_user": default(sa.Text, sa.text("CURRENT_USER")),
    "default gen_random_uuid()": default(sa.Uuid, sa.text("gen_random_uuid()")),
    "default func": default(sa.Uuid, sa.func.gen_random_uuid()),
    "default cast": default(sa.Text, sa.cast("x", sa.Text)),
    "default cast to varchar": default(sa.Text, sa.cast("x", sa.String(5))),
    "default cast to json": default(pg.JSONB, sa.text("'{\"a\": [1, 2]}'::jsonb")),
    "default '{}' of jsonb": default(pg.JSONB, "{}"),
    "default '{ }' of json": default(sa.JSON, "{ }"),
    "default of a function of json": default(pg.JSONB, sa.func.jsonb_build_object("a", 1)),
    "default '{}' of an array": default(pg.ARRAY(sa.Integer), "{}"),
    "default ARRAY[]": default(pg.ARRAY(sa.Text), sa.text("ARRAY[]::text[]")),
    "default array()": default(pg.ARRAY(sa.Integer), pg.array([1, 2])),
    "default of bytes": default(sa.LargeBinary, sa.text("'\\xdeadbeef'::bytea")),
    "default of an enum": default(sa.Enum("a", "b", name="letter"), "a"),
    "default of an enum, cast": default(sa.Enum("a", "b", name="letter"), sa.text("'a'::letter")),
    "default of an enum as text": default(sa.Enum("a", "b", native_enum=False), "a"),
    "default of char": default(sa.CHAR(5), "ab"),
    "default of bit": default(pg.BIT(3), sa.text("B'101'")),
    "default of inet": default(pg.INET, "10.0.0.1"),
    "default of a range": default(pg.INT4RANGE, "[1,2]"),
    "default of money": default(pg.MONEY, "12.34"),
    "default of point": default(Point(), "(1,2)"),
    "default of regclass": default(pg.REGCLASS, sa.text("'pg_class'::regclass")),
    "default of CASE": default(sa.Integer, sa.text("CASE WHEN random() > 0.5 THEN 1 ELSE 2 END")),
    "default of arithmetic": default(sa.Integer, sa.text("(1 + 2) * 3")),
    "default of concatenation": default(sa.Text, sa.text("'a' || 'b'")),
    "default collated": default(sa.Text, sa.text("'a' COLLATE \"C\"")),
    "default of a setting": default(sa.Text, sa.text("current_setting('application_name')")),
    "default escaped colon": default(sa.Text, sa.text("'a\\:b'")),
    "default of a function of ours": default(
        sa.Integer, sa.text("seven()"), before="CREATE FUNCTION seven() RETURNS int LANGUAGE sql AS 'SELECT 7'"
    ),
    "default of a function elsewhere": default(
        sa.Integer,
        sa.text("elsewhere.seven()"),
        before="CREATE SCHEMA elsewhere; CREATE FUNCTION elsewhere.seven() RETURNS int LANGUAGE sql AS 'SELECT 7'",
    ),
    "default and not nullable": column(sa.Integer, server_default="7", nullable=False),
    "default FetchedValue": default(sa.Integer, sa.FetchedValue()),
    "onupdate of the server": column(sa.DateTime, server_default=sa.func.now(), server_onupdate=sa.FetchedValue()),
    "identity": identity(),
    "identity always": identity(always=True),
    "identity, nullable": column(sa.Integer, lambda: sa.Identity(), nullable=False),
    "identity of smallint": identity(sa.SmallInteger),
    "identity of bigint": identity(sa.BigInteger),
    "identity from 100": identity(start=100),
    "identity by 10": identity(increment=10),
    "identity downwards": identity(increment=-1),
    "identity between": identity(minvalue=-5, maxvalue=5, start=0),
    "identity from 0": identity(minvalue=0, start=0),
    "identity without bounds": identity(nominvalue=True, nomaxvalue=True),
    "identity in a cycle": identity(cycle=True, maxvalue=10),
    "identity not in a cycle": identity(cycle=False),
    "identity cached": identity(cache=50),
    "identity with all": identity(
        sa.BigInteger, always=True, start=3, increment=2, minvalue=1, maxvalue=99, cycle=True, cache=5
    ),
    "stored": computed(sa.Integer, "b * 2"),
    "stored of an expression": computed(sa.Integer, sa.column("b") * 2 + 1),
    "stored text": computed(sa.Text, sa.text("\"c c\" || ' 100%'")),
    "stored, of a function": computed(sa.Text, sa.func.lower(sa.column("c c"))),
    "stored tsvector": computed(pg.TSVECTOR, "to_tsvector('english', coalesce(\"c c\", ''))"),
    "stored, cast": computed(sa.Numeric(10, 2), "b::numeric / 3"),
    "virtual": computed(sa.Integer, "b * 2", persisted=False, major=18),
    "virtual unless said": computed(sa.Integer, "b * 2", persisted=None, major=18),
    "sequence of the server, as text": default(
        sa.Integer, sa.text("nextval('made_before')"), before="CREATE SEQUENCE made_before"
    ),
}

KEYS: dict[str, Case] = {
    "key identity": key(sa.Integer, lambda: sa.Identity()),
    "key identity always": key(sa.BigInteger, lambda: sa.Identity(always=True, start=1000)),
    "key serial": key(sa.Integer),
    "key bigserial": key(sa.BigInteger),
    "key smallserial": key(sa.SmallInteger),
    "key of a decorated integer": key(sa.Integer().with_variant(sa.BigInteger(), "postgresql")),
    "key without autoincrement": key(sa.Integer, autoincrement=False),
    "key with autoincrement": key(sa.Integer, autoincrement=True),
    "key ignoring foreign keys": key(sa.Integer, autoincrement="ignore_fk"),
    "key of text": key(sa.Text),
    "key of uuid": key(sa.Uuid, server_default=sa.text("gen_random_uuid()")),
    "key with a default": key(sa.Integer, server_default="7"),
    "key with a default in Python": key(sa.Integer, default=7),
    "key of an enum": key(sa.Enum("a", "b", name="letter")),
    "keys, the second serial": Case(
        lambda: table(
            sa.Column("a", sa.Integer, primary_key=True),
            sa.Column("b", sa.Integer, primary_key=True, autoincrement=True),
        )
    ),
    "sequence": drawn(lambda: (sa.Sequence("s"), {})),
    "sequence with options": drawn(lambda: (sa.Sequence("s", start=5, increment=2, cache=3, cycle=True), {})),
    "sequence of bigint": drawn(lambda: (sa.Sequence("s", data_type=sa.BigInteger), {})),
    "sequence optional": drawn(lambda: (sa.Sequence("s", optional=True), {})),
    "sequence with a hostile name": drawn(lambda: (sa.Sequence('A "q" % é'), {})),
    "sequence elsewhere": drawn(lambda: (sa.Sequence("s", schema="elsewhere"), {}), "CREATE SCHEMA elsewhere"),
    "sequence of a key": key(sa.Integer, lambda: sa.Sequence("s", start=10)),
    "sequence of the server": Case(lambda: _with_sequence(sa.Sequence("s", metadata=(here := sa.MetaData())), here)),
    "sequence of the server, of the column too": Case(lambda: _server_drawn((it := sa.Sequence("s")), it)),
    "sequence of the server, made before": Case(
        lambda: _server_drawn(sa.Sequence("made_before")), before="CREATE SEQUENCE made_before"
    ),
    "sequence of the server, elsewhere": Case(
        lambda: _server_drawn(sa.Sequence("s", schema="elsewhere")),
        before="CREATE SCHEMA elsewhere; CREATE SEQUENCE elsewhere.s",
    ),
    "system column": Case(
        lambda: table(sa.Column("id", sa.Integer, primary_key=True), sa.Column("xmin", sa.Integer, system=True))
    ),
}
"""Columns that a table has one of, or that draw from sequences."""


# ---------------------------------------------------------------------------------------------------- names

NAMES = (
    *(
        "two words",
        'quo"te',
        "apo'strophe",
        "100%",
        "%s",
        "%(a)s",
        "a:b",
        ":a",
        "MixedCase",
        "UPPER",
        "é🎉",
        "1st",
        "a.b",
    ),
    *("select", "user", "order", "a\\b", "$1", "(a)", "a;--", "x" * 63, "é" * 31, " ", "ctid_", "a,b", "INDEX i ON t "),
)


def _named(name: str) -> sa.MetaData:
    """Everything that has a name has this one."""
    column: sa.Column[Any] = sa.Column(name, sa.Enum(name, "other", name=f"t{name}"[:32]), server_default=name)
    return table(
        (number := sa.Column("id", sa.Integer, sa.Sequence(f"{name[-31:]}s"), primary_key=True)),
        column,
        sa.Column("parent", sa.ForeignKey(number)),
        sa.Column("text", sa.Text, index=True, unique=True, comment=name),
        sa.Column("stored", sa.Boolean, sa.Computed(column == name, persisted=True)),
        sa.CheckConstraint(column != "other", name=name),
        sa.Index(f"i{name}"[:32], column, postgresql_where=column != "other", postgresql_include=["id"]),
        sa.Index("expression", sa.func.num_nulls(column)),
        name=name,
        schema=name,
    )


HOSTILE: dict[str, Case] = {repr(name): Case(lambda name=name: _named(name)) for name in NAMES}  # type: ignore[misc]


# -------------------------------------------------------------------------------------------------- indexes


def index(*make: Callable[[Any], sa.Index], major: int = 14) -> Part:
    """Indexes, each given as a function of the table's columns."""

    def add(table: sa.Table, name: str) -> None:
        for number, one in enumerate(make):
            made = one(table.c)
            made.name = made.name and sa.sql.quoted_name(
                f"{name}_{number}", quote=None
            )  # a schema has one index of a name

    return Part(add, major)


def _using(method: str, column: str, *, ops: str | None = None, **options: Any) -> Part:
    """An index of one column, of an access method with its options."""
    chosen: dict[str, Any] = {"postgresql_ops": {column: ops}} if ops else {}
    return index(lambda c: sa.Index("i", c[column], postgresql_using=method, postgresql_with=options, **chosen))


_OPERATOR_CLASSES = {
    "btree": {
        "a": ("text_ops", "text_pattern_ops", "varchar_pattern_ops"),
        "b": ("int4_ops",),
        "at": ("timestamp_ops",),
    },
    "hash": {"a": ("text_ops", "text_pattern_ops"), "b": ("int4_ops",)},
    "gin": {"document": ("jsonb_ops", "jsonb_path_ops"), "tags": ("array_ops",), "words": ("tsvector_ops",)},
    "gist": {
        "span": ("range_ops",),
        "words": ("tsvector_ops", "tsvector_ops(siglen=100)"),
        "address": ("inet_ops",),
        "place": ("point_ops",),
    },
    "spgist": {
        "a": ("text_ops",),
        "span": ("range_ops",),
        "address": ("inet_ops",),
        "place": ("quad_point_ops", "kd_point_ops"),
    },
    "brin": {
        "a": ("text_minmax_ops", "text_bloom_ops"),
        "b": ("int4_minmax_ops", "int4_bloom_ops(n_distinct_per_range=100)", "int4_minmax_multi_ops"),
        "at": ("timestamp_minmax_ops", "timestamp_minmax_multi_ops(values_per_range=16)"),
        "span": ("range_inclusion_ops",),
        "address": ("inet_minmax_ops", "inet_inclusion_ops"),
    },
}


def _vectors(method: str, **options: Any) -> sa.MetaData:
    return table(
        sa.Column("a", _vector()),
        sa.Index("i", "a", postgresql_using=method, postgresql_with=options, postgresql_ops={"a": "vector_l2_ops"}),
    )


CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_STORAGE: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "btree": (
        "b",
        ({"fillfactor": 50}, {"fillfactor": "90", "deduplicate_items": "off"}, {"deduplicate_items": False}),
    ),
    "hash": ("b", ({"fillfactor": 75},)),
    "gin": ("tags", ({"fastupdate": "off"}, {"fastupdate": True, "gin_pending_list_limit": 128})),
    "gist": ("span", ({"buffering": "on"}, {"buffering": "auto", "fillfactor": 80})),
    "spgist": ("a", ({"fillfactor": 70},)),
    "brin": ("b", ({"pages_per_range": 32}, {"pages_per_range": 16, "autosummarize": True})),
}

INDEXES: dict[str, Part] = {
    **{
        f"{method} of {column}, {ops}": _using(method, column, ops=ops)
        for method, columns in _OPERATOR_CLASSES.items()
        for column, classes in columns.items()
        for ops in classes
    },
    **{
        f"{method} with {options}": _using(method, column, **options)
        for method, (column, several) in _STORAGE.items()
        for options in several
    },
    "using in capitals": index(lambda c: sa.Index("i", c.b, postgresql_using="BTREE")),
    "of two columns": index(lambda c: sa.Index("i", c.a, c.b)),
    "of a column with another key": index(lambda c: sa.Index("i", c.c)),
    "unnamed": index(lambda c: sa.Index(None, c.a)),
    "unique": index(lambda c: sa.Index("i", c.a, unique=True)),
    "unique, NULL once": index(lambda c: sa.Index("i", c.a, unique=True, postgresql_nulls_not_distinct=True), major=15),
    "unique, NULL often": index(
        lambda c: sa.Index("i", c.a, unique=True, postgresql_nulls_not_distinct=False), major=15
    ),
    "two alike": index(lambda c: sa.Index("i", c.a), lambda c: sa.Index("j", c.a)),
    "one of them unique": index(lambda c: sa.Index("i", c.a), lambda c: sa.Index("j", c.a, unique=True)),
    "both ways": index(lambda c: sa.Index("i", c.a, c.b), lambda c: sa.Index("j", c.b, c.a)),
    "one of them partial": index(
        lambda c: sa.Index("i", c.a), lambda c: sa.Index("j", c.a, postgresql_where=c.b.is_(None))
    ),
    "descending": index(lambda c: sa.Index("i", c.a.desc())),
    "ascending": index(lambda c: sa.Index("i", c.a.asc())),
    "nulls first": index(lambda c: sa.Index("i", c.a.nulls_first())),
    "nulls last": index(lambda c: sa.Index("i", c.a.nulls_last())),
    "descending, nulls first": index(lambda c: sa.Index("i", c.a.desc().nulls_first())),
    "descending, nulls last": index(lambda c: sa.Index("i", c.a.desc().nulls_last(), c.b)),
    "descending as text": index(lambda c: sa.Index("i", sa.text("a DESC NULLS LAST"), _table=c.a.table)),
    "include": index(lambda c: sa.Index("i", c.a, postgresql_include=["b"])),
    "include two": index(lambda c: sa.Index("i", c.a, postgresql_include=[c.b, "c"], unique=True)),
    "include in gist": index(lambda c: sa.Index("i", c.span, postgresql_using="gist", postgresql_include=["b"])),
    "concurrently": index(lambda c: sa.Index("i", c.a, postgresql_concurrently=True)),
    "in a tablespace": index(lambda c: sa.Index("i", c.a, postgresql_tablespace="pg_default")),
    "operator classes of two": index(
        lambda c: sa.Index("i", c.a, c.c, postgresql_ops={"a": "text_pattern_ops", "c": "varchar_pattern_ops"})
    ),
    "operator class of an expression": index(
        lambda c: sa.Index("i", sa.func.lower(c.a).label("low"), postgresql_ops={"low": "text_pattern_ops"})
    ),
    "operator class, descending": index(lambda c: sa.Index("i", c.a.desc(), postgresql_ops={"a": "text_pattern_ops"})),
    "collated": index(lambda c: sa.Index("i", c.a.collate("C"))),
    "collated, descending": index(lambda c: sa.Index("i", c.a.collate("POSIX").desc())),
    "collated as it is": index(lambda c: sa.Index("i", c.a.collate("default"))),
    "lower": index(lambda c: sa.Index("i", sa.func.lower(c.a))),
    "lower, unique": index(lambda c: sa.Index("i", sa.func.lower(c.a), unique=True)),
    "lower and more": index(lambda c: sa.Index("i", sa.func.lower(c.a).desc(), c.b, sa.func.abs(c.b))),
    "coalesce": index(lambda c: sa.Index("i", sa.func.coalesce(c.a, "it's 100%"))),
    "arithmetic": index(lambda c: sa.Index("i", (c.b + 1) * 2)),
    "remainder": index(lambda c: sa.Index("i", c.b % 10)),
    "concatenation": index(lambda c: sa.Index("i", c.a + " " + c.c)),
    "cast": index(lambda c: sa.Index("i", sa.cast(c.b, sa.Text))),
    "cast to varchar": index(lambda c: sa.Index("i", sa.cast(c.a, sa.String(5)))),
    "cast to date": index(lambda c: sa.Index("i", sa.cast(c.at, sa.Date))),
    "date_trunc": index(lambda c: sa.Index("i", sa.func.date_trunc("day", c.at))),
    "extract": index(lambda c: sa.Index("i", sa.extract("year", c.at))),
    "part of a document": index(lambda c: sa.Index("i", c.document["a"].astext)),
    "part of a document, deeper": index(lambda c: sa.Index("i", c.document[("a", "b")])),
    "part of a document, cast": index(lambda c: sa.Index("i", c.document["a"].astext.cast(sa.Integer))),
    "part of a document, subscripted": index(lambda c: sa.Index("i", c.document["a"])),
    "element": index(lambda c: sa.Index("i", c.tags[1])),
    "to_tsvector": index(
        lambda c: sa.Index("i", sa.func.to_tsvector(sa.text("'english'"), c.a), postgresql_using="gin")
    ),
    "case": index(lambda c: sa.Index("i", sa.func.lower(sa.case((c.b > 0, c.a), else_="x")))),
    "condition": index(lambda c: sa.Index("i", c.b > 5)),
    "text": index(lambda c: sa.Index("i", sa.text("lower(a)"), _table=c.a.table)),
    "text in brackets": index(lambda c: sa.Index("i", sa.text("(a || 'x')"), _table=c.a.table)),
    "text with the table": index(lambda c: sa.Index("i", sa.text("lower(t.a)"), _table=c.a.table)),
    "literal_column": index(lambda c: sa.Index("i", sa.literal_column("(b * 2)"), _table=c.a.table)),
    "where": index(lambda c: sa.Index("i", c.a, postgresql_where=c.b > 5)),
    "where, as text": index(lambda c: sa.Index("i", c.a, postgresql_where=sa.text("b > 5 AND a <> 'x'"))),
    "where, as a str": index(lambda c: sa.Index("i", c.a, postgresql_where="b IS NOT NULL")),
    "where IN": index(lambda c: sa.Index("i", c.b, postgresql_where=c.a.in_(["x", "it's", "100%"]))),
    "where NOT IN": index(lambda c: sa.Index("i", c.b, postgresql_where=c.b.not_in([1, 2]))),
    "where LIKE": index(lambda c: sa.Index("i", c.b, postgresql_where=c.a.like("50%"))),
    "where startswith": index(lambda c: sa.Index("i", c.b, postgresql_where=c.a.startswith("50%", autoescape=True))),
    "where AND OR NOT": index(
        lambda c: sa.Index("i", c.a, postgresql_where=sa.or_(~(c.b > 5), sa.and_(c.a.is_(None), c.b.between(1, 2))))
    ),
    "where of varchar": index(lambda c: sa.Index("i", c.b, postgresql_where=c.c == "x")),
    "where of a date": index(lambda c: sa.Index("i", c.b, postgresql_where=c.at > datetime(2020, 1, 1))),
    "where of a document": index(lambda c: sa.Index("i", c.b, postgresql_where=c.document.has_key("a"))),
    "where of an array": index(lambda c: sa.Index("i", c.b, postgresql_where=c.tags.contains(["x"]))),
    "everything": index(
        lambda c: sa.Index(
            "I x",
            c.a.desc().nulls_last(),
            sa.func.lower(c.c),
            unique=True,
            postgresql_include=["b"],
            postgresql_where=c.b > 5,
            postgresql_with={"fillfactor": 50},
            postgresql_using="btree",
        )
    ),
}


def _trigrams(method: str, operators: str) -> Case:
    return Case(
        lambda: table(
            sa.Column("a", sa.Text), sa.Index("i", "a", postgresql_using=method, postgresql_ops={"a": operators})
        ),
        extension="pg_trgm",
    )


INDEXED: dict[str, Case] = {
    "index=True": Case(lambda: table(sa.Column("a", sa.Integer, index=True), sa.Column("b b", sa.Text, index=True))),
    "unique=True": Case(lambda: table(sa.Column("a", sa.Integer, unique=True), sa.Column("b b", sa.Text, unique=True))),
    "both": Case(lambda: table(sa.Column("a", sa.Integer, index=True, unique=True))),
    "index=True of a key": Case(lambda: table(sa.Column("a", sa.Integer, primary_key=True, index=True))),
    "index=True of a key, unique": Case(
        lambda: table(sa.Column("a", sa.Integer, primary_key=True, index=True, unique=True))
    ),
    "names too long": Case(
        lambda: table(
            sa.Column("a" * 60, sa.Integer, index=True), sa.Column("b" * 60, sa.Integer, unique=True), name="t" * 60
        )
    ),
    "in a schema": Case(
        lambda: table(
            (a := sa.Column("a", sa.Text)),
            sa.Index("i", sa.func.lower(a), postgresql_where=a > "a"),
            sa.Index("j", sa.text("lower(a)")),
            schema="elsewhere",
        )
    ),
    "named by a convention": Case(
        lambda: table(
            sa.Column("a", sa.Integer, index=True),
            sa.Column("b", sa.Integer, unique=True),
            sa.Column("c", sa.Integer, sa.CheckConstraint("c > 0", name="positive"), primary_key=True),
            sa.Column("d", sa.ForeignKey("t.c")),
            sa.Column("e", sa.Enum("x", native_enum=False, create_constraint=True, name="e")),
            sa.Index(None, "a", "b"),
            metadata=sa.MetaData(naming_convention=CONVENTION),
        )
    ),
    "trigrams": _trigrams("gin", "gin_trgm_ops"),
    "trigrams with options": _trigrams("gist", "gist_trgm_ops(siglen=32)"),
    "vectors, hnsw": Case(lambda: _vectors("hnsw", m=8, ef_construction=32), extension="vector"),
    "vectors, ivfflat": Case(lambda: _vectors("ivfflat", lists=10), extension="vector"),
}
"""Tables whose indexes come from elsewhere, or need an extension."""


# ---------------------------------------------------------------------------------------------- constraints


def constraint(
    *make: Callable[[], sa.Constraint], major: int = 14, extension: str | None = None, schema: str | None = None
) -> Case:
    """A definition with constraints, of a table without a key."""
    return Case(
        lambda: table(
            sa.Column("a", sa.Integer),
            sa.Column("b", sa.Integer),
            sa.Column("c c", sa.Text, key="c"),
            sa.Column("span", pg.INT4RANGE),
            *(one() for one in make),
            schema=schema,
        ),
        major,
        extension,
    )


def check(condition: Any, **options: Any) -> Case:
    return constraint(lambda: sa.CheckConstraint(condition, **options))


def reference(*, major: int = 14, **options: Any) -> Case:
    """A foreign key to another table."""
    return Case(lambda: _family(lambda: sa.ForeignKeyConstraint(["a"], ["parent.id"], **options)), major)


def _family(*make: Callable[[], Any], schema: str | None = None, home: str | None = None) -> sa.MetaData:
    """A table and its parent."""
    metadata = sa.MetaData()
    table(
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("Other id", sa.Integer, key="other"),
        sa.UniqueConstraint("id", "other"),
        name="parent",
        metadata=metadata,
        schema=home,
    )
    return table(
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("a", sa.Integer),
        sa.Column("B b", sa.Integer, key="b"),
        *(one() for one in make),
        metadata=metadata,
        schema=schema,
    )


def _of_itself(*make: Callable[[], Any], **options: Any) -> Case:
    """A foreign key to the table's own key."""
    return Case(
        lambda: table(
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("a", sa.Integer),
            *(one() for one in make),
            **options,
        )
    )


ACTIONS = ("CASCADE", "RESTRICT", "SET NULL", "SET DEFAULT", "NO ACTION", "cascade")

CONSTRAINTS: dict[str, Case] = {
    "primary key": constraint(lambda: sa.PrimaryKeyConstraint("a")),
    "primary key, named": constraint(lambda: sa.PrimaryKeyConstraint("a", name="My key")),
    "primary key of two": constraint(lambda: sa.PrimaryKeyConstraint("a", "b")),
    "primary key in another order": constraint(lambda: sa.PrimaryKeyConstraint("c", "b", "a")),
    "primary key, deferrable": constraint(lambda: sa.PrimaryKeyConstraint("a", deferrable=True)),
    "primary key, deferred": constraint(lambda: sa.PrimaryKeyConstraint("a", deferrable=True, initially="DEFERRED")),
    "primary key, not deferred": constraint(
        lambda: sa.PrimaryKeyConstraint("a", deferrable=True, initially="IMMEDIATE")
    ),
    "primary key, including": constraint(lambda: sa.PrimaryKeyConstraint("a", postgresql_include=["b", "c"])),
    "unique": constraint(lambda: sa.UniqueConstraint("a")),
    "unique, named": constraint(lambda: sa.UniqueConstraint("a", name="My unique")),
    "unique of two": constraint(lambda: sa.UniqueConstraint("b", "a")),
    "unique, twice": constraint(lambda: sa.UniqueConstraint("a", name="x"), lambda: sa.UniqueConstraint("a", name="y")),
    "unique, and index": constraint(
        lambda: sa.UniqueConstraint("a", name="x"),
        lambda: sa.Index("y", "a", unique=True),  # type: ignore[arg-type, return-value]
    ),
    "unique, deferrable": constraint(lambda: sa.UniqueConstraint("a", deferrable=True)),
    "unique, deferred": constraint(lambda: sa.UniqueConstraint("a", deferrable=True, initially="deferred")),
    "unique, including": constraint(lambda: sa.UniqueConstraint("a", postgresql_include=["b"])),
    "unique, NULL once": constraint(lambda: sa.UniqueConstraint("a", postgresql_nulls_not_distinct=True), major=15),
    "unique, NULL often": constraint(lambda: sa.UniqueConstraint("a", postgresql_nulls_not_distinct=False), major=15),
    "check": check("a > 0"),
    "check, named": check("a > 0", name="above zero"),
    "check of text": check(sa.text("\"c c\" <> 'it''s 100% \\:b'")),
    "check of columns": check(sa.and_(sa.column("a") > 0, sa.column("b").in_([1, 2, 3]))),
    "check of a pattern": check(sa.column("c c").like("a%")),
    "check of a regular expression": check(sa.column("c c").regexp_match("^[a-z]+$")),
    "check with the table": check("t.a > t.b"),
    "check in brackets": check("((a) > (0))"),
    "check of nothing": check("true"),
    "check BETWEEN": check("a BETWEEN 1 AND 5 OR a IS NULL"),
    "check of a function": check(sa.func.length(sa.column("c c")) > 3),
    "check with a comment": check("a > 0", name="x", comment="it's"),
    "check, not inherited": check("a > 0 ) NO INHERIT --"),
    "check, not valid": check("a > 0", name="x", postgresql_not_valid=True),
    "check, twice": constraint(lambda: sa.CheckConstraint("a > 0"), lambda: sa.CheckConstraint("a > 0")),
    "check, for another database": constraint(
        lambda: sa.CheckConstraint("a > 0").ddl_if(dialect="sqlite"), lambda: sa.CheckConstraint("b > 0")
    ),
    "check, in a schema": constraint(lambda: sa.CheckConstraint("a > 0"), schema="elsewhere"),
    "check, in a schema, with the table": constraint(lambda: sa.CheckConstraint("t.a > 0"), schema="elsewhere"),
    "check of the column": Case(lambda: table(sa.Column("a", sa.Integer, sa.CheckConstraint("a > 0")))),
    "exclude": constraint(lambda: pg.ExcludeConstraint(("span", "&&"))),
    "exclude, named": constraint(lambda: pg.ExcludeConstraint(("span", "&&"), name="Apart", using="gist")),
    "exclude, where": constraint(lambda: pg.ExcludeConstraint(("span", "&&"), where=sa.text("a > 0"))),
    "exclude, where a column": constraint(lambda: pg.ExcludeConstraint(("span", "&&"), where=sa.column("a") > 0)),
    "exclude, deferred": constraint(
        lambda: pg.ExcludeConstraint(("span", "&&"), deferrable=True, initially="DEFERRED")
    ),
    "exclude, operator class": constraint(lambda: pg.ExcludeConstraint(("span", "&&"), ops={"span": "range_ops"})),
    "exclude, an expression": constraint(
        lambda: pg.ExcludeConstraint((sa.func.int4range(sa.column("a"), sa.column("b")), "&&"))
    ),
    "exclude, btree": constraint(lambda: pg.ExcludeConstraint(("a", "="), using="btree")),
    "exclude, hash": constraint(lambda: pg.ExcludeConstraint(("a", "="), using="hash")),
    "exclude, two": constraint(lambda: pg.ExcludeConstraint(("a", "="), ("span", "&&")), extension="btree_gist"),
    "reference": reference(),
    "reference, named": reference(name="My reference"),
    **{f"reference, on delete {action}": reference(ondelete=action) for action in ACTIONS},
    **{f"reference, on update {action}": reference(onupdate=action) for action in ACTIONS},
    "reference, on delete and update": reference(ondelete="CASCADE", onupdate="SET NULL"),
    "reference, deferrable": reference(deferrable=True),
    "reference, not deferrable": reference(deferrable=False),
    "reference, deferred": reference(deferrable=True, initially="DEFERRED"),
    "reference, deferred without deferrable": reference(initially="DEFERRED"),
    "reference, not deferred": reference(deferrable=True, initially="IMMEDIATE"),
    **{f"reference, match {match}": reference(match=match) for match in ("FULL", "SIMPLE", "full")},
    "reference, all at once": reference(
        ondelete="SET NULL", onupdate="CASCADE", deferrable=True, initially="DEFERRED", match="FULL"
    ),
    "reference, not valid": reference(name="x", postgresql_not_valid=True),
    "reference, use_alter": reference(name="x", use_alter=True),
    "reference, on delete of some columns": reference(ondelete="SET NULL (a)", major=15),
    "reference, of some hostile columns": Case(
        lambda: _family(
            lambda: sa.ForeignKeyConstraint(["a", "b"], ["parent.id", "parent.other"], ondelete='SET NULL ("B b")')
        ),
        major=15,
    ),
    "reference of two": Case(
        lambda: _family(lambda: sa.ForeignKeyConstraint(["a", "b"], ["parent.id", "parent.other"]))
    ),
    "reference of two, in another order": Case(
        lambda: _family(lambda: sa.ForeignKeyConstraint(["b", "a"], ["parent.other", "parent.id"]))
    ),
    "reference, twice": Case(
        lambda: _family(
            lambda: sa.ForeignKeyConstraint(["a"], ["parent.id"], name="x"),
            lambda: sa.ForeignKeyConstraint(["a"], ["parent.id"], name="y"),
        )
    ),
    "references, two": Case(
        lambda: _family(
            lambda: sa.ForeignKeyConstraint(["a"], ["parent.id"]), lambda: sa.ForeignKeyConstraint(["b"], ["parent.id"])
        )
    ),
    "reference from a schema": Case(
        lambda: _family(lambda: sa.ForeignKeyConstraint(["a"], ["parent.id"]), schema="elsewhere")
    ),
    "reference to a schema": Case(
        lambda: _family(lambda: sa.ForeignKeyConstraint(["a"], ["elsewhere.parent.id"]), home="elsewhere")
    ),
    "reference within a schema": Case(
        lambda: _family(
            lambda: sa.ForeignKeyConstraint(["a"], ["elsewhere.parent.id"]), schema="elsewhere", home="elsewhere"
        )
    ),
    "reference of the column": Case(
        lambda: _family(lambda: sa.Column("c", sa.ForeignKey("parent.id", ondelete="CASCADE"), index=True))
    ),
    "reference of the key": Case(lambda: _family(lambda: sa.ForeignKeyConstraint(["id"], ["parent.id"]))),
    "reference to itself": _of_itself(lambda: sa.ForeignKeyConstraint(["a"], ["t.id"])),
    "reference to itself, with options": _of_itself(
        lambda: sa.ForeignKeyConstraint(["a"], ["t.id"], ondelete="CASCADE", deferrable=True, initially="DEFERRED")
    ),
    "reference to itself, use_alter": _of_itself(
        lambda: sa.ForeignKeyConstraint(["a"], ["t.id"], name="x", use_alter=True)
    ),
    "reference to itself, not valid": _of_itself(
        lambda: sa.ForeignKeyConstraint(["a"], ["t.id"], name="x", postgresql_not_valid=True)
    ),
    "reference to itself in a schema": _of_itself(
        lambda: sa.ForeignKeyConstraint(["a"], ["elsewhere.t.id"]), schema="elsewhere"
    ),
}


# --------------------------------------------------------------------------------------------------- tables


def _with(name: str = "t", *, before: str = "", major: int = 14, refused: bool = False, **options: Any) -> Case:
    """A table with options of its own."""

    def make() -> sa.MetaData:
        return table(
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("a", sa.Text, index=True, unique=True),
            name=name,
            **options,
        )

    return Case(make, major, before=before, refused=refused)


def _in(metadata: Callable[[], sa.MetaData]) -> Case:
    """A table with an enum, a key, an index and a sequence, in a metadata with options of its own."""
    return Case(
        lambda: (
            table(
                sa.Column("id", sa.Integer, sa.Sequence("s"), primary_key=True),
                sa.Column("a", sa.Enum("a", "b", name="letter"), index=True),
                sa.Column("parent", sa.ForeignKey("t.id")),
                metadata=metadata(),
            )
            if not metadata().schema
            else table(
                sa.Column("id", sa.Integer, sa.Sequence("s"), primary_key=True),
                sa.Column("a", sa.Enum("a", "b", name="letter"), index=True),
                metadata=metadata(),
            )
        )
    )


def _sharing() -> sa.MetaData:
    metadata = sa.MetaData()
    letter = sa.Enum("a", "b", name="letter", metadata=metadata)
    for name in ("t", "u"):
        table(sa.Column("a", letter), sa.Column("b", pg.ARRAY(letter)), name=name, metadata=metadata)
    return metadata


TABLES: dict[str, Case] = {
    **{f"comment {text!r}": _with(comment=text) for text in (*TEXTS, "two\nlines\n", '{"a": 1}', "x\n{}", "[1]")},
    "schema": _with(schema="elsewhere"),
    "schema public": _with(schema="public"),
    "schema of the metadata": _in(lambda: sa.MetaData(schema="elsewhere")),
    "naming convention": _in(lambda: sa.MetaData(naming_convention=CONVENTION)),
    "quoted schema of the metadata": _in(lambda: sa.MetaData(schema="Else where", quote_schema=True)),
    "quoted": _with(quote=True),
    "named as a relation of the catalog": _with("pg_class", refused=True),
    **{
        f"named as the type {name}": Case(lambda name=name, kind=kind: table(sa.Column("a", kind), name=name))  # type: ignore[misc]
        for name, kind in {"text": sa.Text, "date": sa.Date, "uuid": sa.Uuid, "money": pg.MONEY, "point": Point}.items()
    },
    "named as the type oid": _with("oid"),
    "enum of another schema than the table's": Case(
        lambda: table(sa.Column("a", sa.Enum("a", "b", name="letter", schema="elsewhere")), schema="here"),
        before="CREATE SCHEMA elsewhere",
    ),
    "enum of the public schema": Case(
        lambda: table(sa.Column("a", sa.Enum("a", "b", name="letter", schema="public")), schema="here")
    ),
    "enum of the first schema": Case(lambda: table(sa.Column("a", sa.Enum("a", "b", name="letter")), schema="here")),
    "domain of another schema than the table's": Case(
        lambda: table(sa.Column("a", pg.DOMAIN("word", sa.Text, schema="elsewhere")), schema="here"),
        before="CREATE SCHEMA elsewhere",
    ),
    "info": _with(info={"a": 1}),
    "options of another dialect": _with(mysql_engine="InnoDB", sqlite_strict=True),
    "implicit_returning": _with(implicit_returning=False),
    "access method": _with(postgresql_using="heap"),
    "tablespace": _with(postgresql_tablespace="pg_default"),
    "ignoring the search_path": _with(postgresql_ignore_search_path=True),
    "unlogged": _with(prefixes=["UNLOGGED"]),
    "inherits": _with(postgresql_inherits="parent", before="CREATE TABLE parent (id int)"),
    "inherits two": _with(
        postgresql_inherits=("parent", "Other"),
        before='CREATE TABLE parent (id int, a text); CREATE TABLE "Other" (id int)',
    ),
    "partitioned by list": Case(
        lambda: table(
            sa.Column("a", sa.Integer, primary_key=True),
            sa.Column("b", sa.Integer, index=True),
            postgresql_partition_by="LIST (a)",
        )
    ),
    "partitioned by hash": Case(
        lambda: table(
            sa.Column("a", sa.Integer, primary_key=True),
            sa.Column("b", sa.Integer, index=True),
            postgresql_partition_by="HASH (a)",
        )
    ),
    "partitioned by range, in a schema": Case(
        lambda: table(
            sa.Column("at", sa.DateTime),
            sa.Index("i", "at"),
            postgresql_partition_by="RANGE (at, date_trunc('day', at))",
            schema="elsewhere",
        )
    ),
    "temporary": _with(prefixes=["TEMPORARY"], refused=True),
    "temporary, of a transaction": _with(prefixes=["TEMPORARY"], postgresql_on_commit="DROP", refused=True),
    "two tables that share an enum": Case(_sharing),
    "many columns": Case(lambda: table(*(sa.Column(f"c{number}", sa.Integer) for number in range(1000)))),
}

if SQLALCHEMY >= (2, 1):
    TABLES |= {
        "storage": _with(postgresql_with={"fillfactor": 70, "autovacuum_enabled": False}),
        "storage, of toast": _with(postgresql_with={"toast.autovacuum_enabled": "off"}),
    }


UNTESTED: dict[tuple[type, str], str] = {
    (sa.Index, "invalid"): "only ever reflected",
    (sa.Table, "with_oids"): "PostgreSQL 12 dropped it",
}
"""Options of the dialect that no definition has, and why."""
