"""Arguments that cannot work are refused before anything is created, with what was found and what was expected."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from airflow_ingest_provider import BatchError, DefinitionError, IngestError, ingest, ingest_plan
from tests.postgres.helpers import batches_of, is_usable, people, rows_of

CREATED = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
    UNION ALL SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$|public$)'
"""


@pytest.fixture(autouse=True)
def creates_nothing(conn: sa.Connection) -> Iterator[None]:
    """Fails the test in which something was created, or whose connection cannot go on."""
    yield
    assert is_usable(conn)
    assert rows_of(conn, CREATED) == []


def table(*parts: Any, name: str = "t") -> sa.MetaData:
    """The metadata of a table that could be created, but for these parts; another one that can be comes before it."""
    metadata = sa.MetaData()
    sa.Table("first", metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), *parts)
    return metadata


class Lowered(sa.TypeDecorator[str]):
    """Text that the server makes small."""

    impl = sa.Text
    cache_ok = True

    def bind_expression(self, bindparam: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        return sa.func.lower(bindparam)


class Encrypted(sa.types.UserDefinedType[str]):
    """Text that the server keeps secret."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "bytea"

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        return sa.func.pgp_sym_encrypt(bindvalue, "key")


LONG = "é" * 32

DEFINITIONS: dict[str, tuple[Callable[[], sa.MetaData], str]] = {
    "a long name of an enum type": (
        lambda: table(sa.Column("a", sa.Enum("x", name=LONG))),
        f"table 't': the identifier '{LONG}' takes 64 bytes; PostgreSQL keeps 1 to 63",
    ),
    "a long name of an enum type in an array": (
        lambda: table(sa.Column("a", sa.ARRAY(sa.Enum("x", name="x" * 64)))),
        r"takes 64 bytes",
    ),
    "a long name of a domain": (lambda: table(sa.Column("a", postgresql.DOMAIN(LONG, sa.Text))), r"takes 64 bytes"),
    "a long name of a column": (lambda: table(sa.Column(LONG, sa.Text)), r"takes 64 bytes"),
    "a long name of a table": (lambda: table(name=LONG), r"takes 64 bytes"),
    "a long name of a column with a short key": (
        lambda: table(sa.Column(LONG, sa.Text, key="a")),
        rf"table 't': the identifier '{LONG}' takes 64 bytes",
    ),
    "a table's name that is not to be quoted": (
        lambda: table(name=sa.sql.quoted_name("Mine", quote=False)),
        r"table 'Mine': the name 'Mine' is not to be quoted \(quote=False\), and .* read it as 'mine': write it so, or",
    ),
    "a column's name that is not to be quoted": (
        lambda: table(sa.Column("A", sa.Integer, quote=False)),
        r"table 't': the name 'A' is not to be quoted",
    ),
    "a schema's name that is not to be quoted": (
        lambda: sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), schema="Mine", quote_schema=False).metadata,
        r"table 'Mine.t': the name 'Mine' is not to be quoted",
    ),
    "a name of an enum type that is not to be quoted": (
        lambda: table(sa.Column("a", sa.Enum("x", name=sa.sql.quoted_name("Mood", quote=False)))),
        r"table 't': the name 'Mood' is not to be quoted",
    ),
    "a foreign key to no table": (
        lambda: table(sa.Column("a", sa.Integer, sa.ForeignKey("nowhere.id"))),
        r"table 't': .*'nowhere'.*: define the table that it refers to in the metadata",
    ),
    "a foreign key to no column": (
        lambda: table(sa.Column("a", sa.Integer, sa.ForeignKey("first.nothing"))),
        r"table 't': .*'nothing'.*: define the table",
    ),
    "a foreign key of several columns to no table": (
        lambda: table(sa.Column("a", sa.Integer), sa.ForeignKeyConstraint(["a", "id"], ["nowhere.a", "nowhere.b"])),
        r"table 't': .*'nowhere'",
    ),
    "columns without a type": (
        lambda: table(sa.Column("a"), sa.Column("b", sa.Text), sa.Column("c")),
        r"table 't': columns without a type: a, c: give them one",
    ),
    "a type that converts in SQL": (
        lambda: table(sa.Column("a", Lowered)),
        r"table 't', column 'a': its type converts values in SQL \(bind_expression\), and COPY takes .* as they are",
    ),
    "a type that encrypts in SQL": (lambda: table(sa.Column("a", Encrypted)), r"'a': its type converts values in SQL"),
    "a variant that converts in SQL": (
        lambda: table(sa.Column("a", sa.Text().with_variant(Lowered(), "postgresql"))),
        r"'a': its type converts values in SQL",
    ),
}


@pytest.mark.parametrize(("make", "problem"), DEFINITIONS.values(), ids=DEFINITIONS.keys())
def test_a_definition_that_cannot_be_created_is_refused(
    conn: sa.Connection, make: Callable[[], sa.MetaData], problem: str
) -> None:
    check_refused(conn, make(), problem)


def check_refused(conn: sa.Connection, metadata: sa.MetaData | sa.Table, problem: str) -> None:
    """Neither a plan nor a run takes the definition."""
    with pytest.raises(DefinitionError, match=problem):
        ingest_plan(conn, metadata)
    with pytest.raises(DefinitionError, match=problem):
        ingest(conn, metadata, lambda mark: [(1, None, [])])


def test_names_that_are_not_to_be_quoted_and_need_not_be_are_taken(conn: sa.Connection, other: sa.Connection) -> None:
    lower = functools.partial(sa.sql.quoted_name, quote=False)
    there = sa.Table(lower("mine"), sa.MetaData(), sa.Column(lower("id"), sa.Integer, primary_key=True))
    for _ in range(2):
        assert ingest(conn, there, batches_of(there, [(1,)])).rows == 1
    other.exec_driver_sql("DROP TABLE mine")


def test_a_column_whose_type_is_that_of_a_column_which_is_not_there_is_told_so(conn: sa.Connection) -> None:
    with pytest.raises(DefinitionError, match=r"table 't': .*'nowhere'.*: define the table that it refers to"):
        ingest(conn, table(sa.Column("a", sa.ForeignKey("nowhere.id"))), lambda mark: [(1, None, [])])


def test_an_array_without_a_type_is_refused(conn: sa.Connection) -> None:
    with pytest.raises(DefinitionError, match=r"table 't': columns without a type: a: give them one"):
        ingest(conn, table(sa.Column("a", sa.ARRAY(sa.types.NullType()))), lambda mark: [(1, None, [])])


class Vector(sa.types.UserDefinedType[Any]):
    """A type of an extension that is not there."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "vector(3)"


REFUSED = {
    "a type that is not there": (Vector, {}, 'type "vector" does not exist: .*CREATE EXTENSION'),
    "a default of another type": (sa.Integer, {"server_default": "abc"}, "invalid input syntax for type integer"),
    "a function that is not there": (sa.Text, {"server_default": sa.text("nope()")}, r"function nope\(\) does not"),
    "a type without equality": (postgresql.JSON, {"unique": True}, "data type json has no default operator class"),
}


@pytest.mark.parametrize(("type_", "options", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_a_definition_that_postgresql_does_not_take_is_refused(
    conn: sa.Connection, other: sa.Connection, type_: Any, options: dict[str, Any], problem: str
) -> None:
    metadata = table(sa.Column("a", type_, **options))
    expected = rf"tables? .*'t': PostgreSQL does not take the definition: {problem}"
    check_refused(conn, metadata, expected)
    other.exec_driver_sql("CREATE TABLE first (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)")
    check_refused(conn, metadata, expected)
    other.exec_driver_sql("DROP TABLE first, t")


UNSPOKEN: dict[str, Callable[[], sa.MetaData]] = {
    "a long name of a constraint": lambda: table(sa.UniqueConstraint("id", name="u" * 64)),
    "a long name of an index": lambda: table(sa.Index("i" * 64, "id")),
    "a type of another database": lambda: table(sa.Column("a", mysql.TINYINT)),
}


@pytest.mark.parametrize("make", UNSPOKEN.values(), ids=UNSPOKEN.keys())
def test_a_definition_that_sqlalchemy_makes_no_sql_of_is_refused(
    conn: sa.Connection, other: sa.Connection, make: Callable[[], sa.MetaData]
) -> None:
    expected = r"tables? .*'t': SQLAlchemy makes no SQL of the definition: "
    check_refused(conn, make(), expected)
    other.exec_driver_sql("CREATE TABLE first (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)")
    with pytest.raises(DefinitionError, match=expected):
        ingest_plan(conn, make())
    other.exec_driver_sql("DROP TABLE first, t")


def test_a_table_of_more_columns_than_postgresql_has_is_refused(conn: sa.Connection) -> None:
    metadata = table(*(sa.Column(f"c{number}", sa.Integer) for number in range(1600)))
    with pytest.raises(DefinitionError, match="does not take the definition: tables can have at most 1600 columns"):
        ingest(conn, metadata, lambda mark: [(1, None, [])])


def with_key(name: str, *parts: Any) -> sa.Table:
    columns = (sa.Column("id", sa.Integer), sa.Column("v", sa.Integer))
    return sa.Table(name, sa.MetaData(), *columns, *parts)


PARTS: dict[str, Callable[[], Any]] = {
    "primary key": lambda: sa.PrimaryKeyConstraint("id", name="mine"),
    "unique constraint": lambda: sa.UniqueConstraint("v", name="mine"),
    "exclusion constraint": lambda: postgresql.ExcludeConstraint(("v", "="), name="mine", using="btree"),
    "index": lambda: sa.Index("mine", "v"),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("together", [True, False])
def test_a_copied_table_whose_parts_are_called_as_those_of_the_first_is_refused(
    conn: sa.Connection, other: sa.Connection, part: Callable[[], Any], together: bool
) -> None:
    first = with_key("first", part())
    metadata = first.metadata if together else sa.MetaData()
    first.to_metadata(metadata, name="second")
    if not together:
        ingest(conn, first, lambda mark: [])
    taken = r"^public\.second: the name 'mine' of a constraint or index is that of one of public\.first"
    check_refused(conn, metadata, taken)
    other.exec_driver_sql("DROP TABLE IF EXISTS first")


@pytest.mark.parametrize(
    ("parts", "whose"),
    [
        (lambda: [sa.Index("t", "v")], r"the name 't' .* is that of the table public\.t too"),
        (lambda: [sa.Index("mine", "v")], r"the name 'mine' .* is that of the relation public\.mine too"),
        (
            lambda: [sa.UniqueConstraint("v", name="c"), sa.CheckConstraint("v > 0", name="c")],
            r"the name 'c' .* is that of another of its constraints too",
        ),
    ],
)
def test_an_index_or_constraint_whose_name_is_taken_is_refused(
    conn: sa.Connection, other: sa.Connection, parts: Callable[[], list[Any]], whose: str
) -> None:
    other.exec_driver_sql("CREATE SEQUENCE mine")
    check_refused(conn, with_key("t", *parts()), whose)
    other.exec_driver_sql("DROP SEQUENCE mine")


def with_enum(table: str, name: str) -> sa.Table:
    return with_key(table, sa.Column("k", sa.Enum("x", "y", name=name)))


def test_a_table_that_is_called_as_a_type_is_refused(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE DOMAIN whole AS int")
    for table in (with_key("whole"), with_enum("status", "status")):
        check_refused(conn, table, f"'{table.name}' would be that of two types")
    other.exec_driver_sql("DROP DOMAIN whole")


def test_a_table_may_be_called_as_an_enum_that_is_stored_as_text(conn: sa.Connection, other: sa.Connection) -> None:
    table = with_key("status", sa.Column("k", sa.Enum("x", "y", name="status", native_enum=False)))
    assert str(ingest_plan(conn, table)) == "public.status: create"
    ingest(conn, table, lambda mark: [(1, None, [(table, (1, 2, "x"))])])
    other.exec_driver_sql("DROP TABLE status")


def test_a_new_enum_type_that_is_called_as_a_relation_is_refused(conn: sa.Connection, other: sa.Connection) -> None:
    ingest(conn, with_key("status"), lambda mark: [])
    for name in ("status", "_status"):  # of its rows, and of arrays of them
        check_refused(conn, with_enum("status", name), f"'{name}' would be that of two types")
    other.exec_driver_sql("DROP TABLE status")


class Base(DeclarativeBase):
    """What classes of the ORM come from."""


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (Person(), r"metadata is a Person: expected .* mapped class of one$"),
        (Base, r"metadata is the class Base: expected .*; pass Base\.metadata for all tables of its base$"),
        (sa.MetaData, r"metadata is the class MetaData: expected a sqlalchemy\.MetaData that holds .* of one$"),
        (None, r"metadata is a NoneType: expected"),
        ("t", r"metadata is a str: expected"),
    ],
)
def test_what_is_no_metadata_is_named(conn: sa.Connection, given: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        ingest(conn, given, lambda mark: [(1, None, [])])


async def awaited(*arguments: Any) -> list[Any]:
    return []


async def awaiting(size: int, high_watermark: Any) -> AsyncIterator[Any]:
    yield 1, None, []


class Awaited:
    async def __call__(self, high_watermark: Any) -> list[Any]:
        return []


def generated() -> Iterator[Any]:
    """A generator, where a function that gives one is expected."""
    yield 1, None, []


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (generated(), "batches is a generator: expected a function .* pass the function itself"),
        ([(1, None, [])], "batches is a list: expected a function"),
        (None, "batches is a NoneType: expected a function"),
        ("batches", "batches is a str: expected a function"),
        (awaited, "batches is an async function, and nothing would await it: expected one that is defined with def"),
        (functools.partial(awaiting, 1), "batches is an async function"),
        (Awaited(), "batches is an async function"),
        (lambda: None, r"batches takes \(\): expected a function of the high watermark alone"),
        (lambda mark, other: [], r"batches takes \(mark, other\): expected a function of the high watermark alone"),
    ],
    ids=["generator", "list", "None", "str", "async", "async generator", "async object", "no argument", "two"],
)
def test_batches_that_are_no_function_are_refused(conn: sa.Connection, given: Any, problem: str) -> None:
    with pytest.raises(BatchError, match=problem):
        ingest(conn, people().metadata, given)


def of_one(conn: sa.Connection) -> None: ...


def of_four(conn: sa.Connection, table: sa.Table, metadata: Any, more: Any) -> None: ...


def of_names(*, conn: sa.Connection, batch_metadata: Any) -> None: ...


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "on_before_visible is a NoneType: expected a function of"),
        ("look", "on_before_visible is a str: expected a function of"),
        (awaited, "on_before_visible is an async function, and nothing would await it"),
        (of_one, r"on_before_visible takes \(conn: .*\) -> None: expected a function of \(conn, batch_metadata\)"),
        (of_four, r"on_before_visible takes \(conn: .*more: .*: expected a function of"),
        (of_names, r"on_before_visible takes \(\*, conn: .*: expected a function of"),
        (functools.partial(of_four, more=1, metadata=2, table=people()), r"on_before_visible takes \(conn: .*expected"),
        (lambda: None, r"on_before_visible takes \(\): expected a function of"),
    ],
    ids=["None", "str", "async", "one", "four", "by name", "partial", "nothing"],
)
def test_a_callback_that_cannot_be_called_is_refused(conn: sa.Connection, given: Any, problem: str) -> None:
    with pytest.raises(IngestError, match=problem):
        ingest(conn, people().metadata, batches_of(people(), [(1, "a", 1)]), given)


@pytest.mark.parametrize("patience", [timedelta(days=24, milliseconds=1), timedelta(days=365), timedelta.max])
def test_patience_that_postgresql_cannot_count_is_refused(conn: sa.Connection, patience: timedelta) -> None:
    with pytest.raises(ValueError, match=r"lock_patience is .*: expected .* at most 24 days"):
        ingest(conn, people().metadata, batches_of(people(), [(1, "a", 1)]), lock_patience=patience)
