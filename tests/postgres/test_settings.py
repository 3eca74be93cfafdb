"""Sessions with settings of their own: what is loaded and migrated is the same."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg2.extras import NamedTupleCursor

from airflow_ingest_provider import DefinitionError, Delete, HighWatermark, IngestError, Replace, ingest, ingest_plan
from airflow_ingest_provider.demo.server import Server
from tests.postgres.helpers import give, load, oid_of, people, rows_of

Connect = Callable[..., sa.Connection]


@pytest.fixture
def connected(server: Server, database: str, dsn: str, driver: str) -> Iterator[Connect]:
    """A function that connects with settings, given as the server's command line takes them."""
    opened: list[sa.Connection] = []

    def connect(settings: str) -> sa.Connection:
        url = server.url(driver, database)
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"options": settings})
        opened.append(engine.connect())
        return opened[-1]

    yield connect
    for conn in opened:
        conn.close()
        conn.engine.dispose()


def family(**options: Any) -> tuple[sa.MetaData, sa.Table, sa.Table]:
    """A parent, and a child with a key, an enum, an index and a check; all of them in schemas that are named."""
    metadata = sa.MetaData(schema="public")
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    child = sa.Table(
        "child",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent", sa.ForeignKey(parent.c.id)),
        sa.Column("mood", sa.Enum("ok", "sad", name="mood", schema="public")),
        sa.Column("name", options.get("name", sa.Text), index=True),
        sa.CheckConstraint("name <> ''", name="named"),
        schema="elsewhere",
    )
    return metadata, parent, child


CHILDREN = "SELECT id, parent, mood::text, name FROM elsewhere.child ORDER BY 1"


@pytest.mark.parametrize("rows", [3, 700])
def test_qualified_tables_are_loaded_along_an_empty_search_path(
    connected: Connect, other: sa.Connection, rows: int
) -> None:
    conn = connected("-c search_path=")
    metadata, parent, child = family()

    def run(name: str, **options: Any) -> list[tuple[Any, ...]]:
        children = [(number, 1, "sad", name) for number in range(rows)]
        pairs = [(parent, (1,)), *((child, row) for row in children)]
        ingest(conn, metadata, give(*pairs), high_watermark=HighWatermark.EARLIEST, **options)
        assert not ingest_plan(conn, metadata)
        return children

    first = run("first")
    assert rows_of(conn, CHILDREN) == first
    upserted = run("upserted")
    assert rows_of(conn, CHILDREN) == upserted
    other.exec_driver_sql("CREATE VIEW v AS SELECT name FROM elsewhere.child")
    other.exec_driver_sql("CREATE MATERIALIZED VIEW names AS SELECT DISTINCT name FROM elsewhere.child")
    for replace in (Replace.AUTO, Replace.SWAP, Replace.IN_PLACE):
        replaced = run(replace, delete=Delete.BEFORE_FIRST_BATCH, replace=replace)
        assert rows_of(conn, CHILDREN) == replaced
        assert rows_of(conn, "SELECT DISTINCT name FROM public.v") == [(replace,)]
        assert rows_of(conn, "SELECT * FROM public.names") == [("swap" if replace == Replace.IN_PLACE else replace,)]
    metadata, parent, child = family(name=sa.String(99))
    rebuilt = run("rebuilt")
    assert rows_of(conn, CHILDREN) == rebuilt
    assert rows_of(conn, "SHOW search_path") == [("",)]


@pytest.mark.parametrize("rows", [2, 700])
@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
@pytest.mark.parametrize("key", [True, False])
def test_null_in_an_array_is_stored_as_null_though_the_session_reads_it_as_a_word(
    connected: Connect, rows: int, delete: str, key: bool
) -> None:
    conn = connected("-c array_nulls=off")
    table = sa.Table(
        "lists",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=key, autoincrement=False),
        sa.Column("numbers", sa.ARRAY(sa.Integer)),
        sa.Column("words", sa.ARRAY(sa.Text)),
    )
    given = [(number, [1, None, number], ["a", None, "NULL", "null"]) for number in range(rows)]
    for _ in range(2):
        load(conn, table, given, delete=delete, high_watermark=HighWatermark.EARLIEST)
        found = rows_of(conn, "SELECT DISTINCT id, numbers, words FROM lists ORDER BY id")
        assert found == given
    nulls = "SELECT DISTINCT numbers[2] IS NULL, words[2] IS NULL, words[3] IS NULL FROM lists"
    assert rows_of(conn, nulls) == [(True, True, False)]
    assert rows_of(conn, "SHOW array_nulls") == [("off",)]


def test_a_rebuild_keeps_null_in_an_array_though_the_session_reads_it_as_a_word(
    connected: Connect, other: sa.Connection
) -> None:
    conn = connected("-c array_nulls=off")
    other.exec_driver_sql(
        "CREATE TABLE lists (id int PRIMARY KEY, words text[]); INSERT INTO lists VALUES (1, '{a,NULL}')"
    )
    before = oid_of(conn, "lists")
    table = sa.Table(
        "lists",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("words", sa.ARRAY(sa.Text)),
    )
    load(conn, table, [(2, ["b", None])])
    assert oid_of(conn, "lists") != before
    assert rows_of(conn, "SELECT id, words[2] IS NULL FROM lists ORDER BY 1") == [(1, True), (2, True)]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_session_that_takes_no_writes_is_told(connected: Connect, other: sa.Connection, is_there: bool) -> None:
    table = sa.Table("numbers", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    if is_there:
        other.exec_driver_sql("CREATE TABLE numbers (id int PRIMARY KEY)")
    conn = connected("-c default_transaction_read_only=on")
    refused = r"the connection takes no writes: .*in a read-only transaction: expected the primary"
    with pytest.raises(IngestError, match=refused):
        load(conn, table, [(1,)])
    if is_there:
        with pytest.raises(IngestError, match=refused):
            ingest_plan(conn, table)
    if is_there:
        assert other.exec_driver_sql("SELECT * FROM numbers").all() == []
    else:
        assert other.scalar(sa.text("SELECT to_regclass('numbers')")) is None


def test_a_function_that_reads_the_old_rows_is_found_though_the_session_takes_backslashes_for_escapes(
    connected: Connect, other: sa.Connection
) -> None:
    conn = connected("-c standard_conforming_strings=off -c escape_string_warning=off")
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("""
        CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.people';
        CREATE MATERIALIZED VIEW stored AS SELECT id FROM people WHERE total() < 2
    """)
    insisting: Any = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.SWAP}
    with pytest.raises(DefinitionError, match=r"whose function total\(\) names people too"):
        load(conn, people(), [(1, "a", 1), (2, "b", 1)], **insisting)


def test_a_migration_takes_the_cheapest_way_though_the_session_quotes_all_names(connected: Connect) -> None:
    conn = connected("-c quote_all_identifiers=on")
    load(conn, people(), [(1, "a", 1)])
    before = oid_of(conn, "people")
    with conn.begin():
        conn.exec_driver_sql("ALTER TABLE people ALTER name TYPE varchar(9)")
    assert "name: character varying(9) -> text" in str(ingest_plan(conn, people()))
    load(conn, people(), [(1, "a", 1)])
    assert oid_of(conn, "people") == before
    assert rows_of(conn, "SHOW quote_all_identifiers") == [("on",)]


def test_texts_are_stored_as_they_are_though_another_connection_of_the_process_has_another_encoding(
    connected: Connect, dsn: str
) -> None:
    conn = connected("-c client_encoding=utf8")
    labels = ["日本", "é'", "\\é", "gone é"]

    def words(*labels: str) -> sa.Table:
        key: sa.Column[Any] = sa.Column("id", sa.Integer, primary_key=True)
        mood: sa.Column[Any] = sa.Column("mood", sa.Enum(*labels, name="mood"), comment="日本'é")
        return sa.Table("words", sa.MetaData(), key, mood, comment="it's \\ é")

    comments = "SELECT obj_description('words'::regclass), col_description('words'::regclass, 2)"
    with psycopg.connect(dsn, client_encoding="EUC_JP"):
        for given in (labels[1:], labels, labels[:3]):
            load(conn, words(*given), [(number, label) for number, label in enumerate(given[:2])])
            assert rows_of(conn, "SELECT mood::text FROM words ORDER BY id") == [(label,) for label in given[:2]]
            ((stored, of_column),) = rows_of(conn, comments)
            assert (stored.partition("\n")[0], of_column) == ("it's \\ é", "日本'é")
            assert not ingest_plan(conn, words(*given))
        with conn.begin():
            conn.exec_driver_sql("UPDATE words SET mood = '日本'")
        with pytest.raises(DefinitionError, match="2 rows hold a label that mood no longer has"):
            load(conn, words(*labels[1:3]), [])


def test_texts_of_two_encodings_are_not_mixed_where_the_database_keeps_bytes(
    server: Server, database: str, driver: str, other: sa.Connection
) -> None:
    name = f"{database}_bytes"
    other.exec_driver_sql(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")

    def connect(encoding: str) -> sa.Connection:
        url = server.url(driver, name)
        return sa.create_engine(url, poolclass=sa.NullPool, client_encoding=encoding).connect()

    with connect("latin1") as conn, pytest.raises(IngestError, match=r"SQL_ASCII, .* LATIN1: expected UTF8"):
        load(conn, people(), [(1, "é", 1)])
    with connect("utf8") as conn:
        load(conn, people(), [(1, "é", 1)])
        assert rows_of(conn) == [(1, "é", 1)]
    other.exec_driver_sql(f"DROP DATABASE {name}")


def test_a_connection_that_left_its_pool_is_loaded_through(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        conn.detach()
        load(conn, people(), [(1, "a", 1)])
        assert rows_of(conn) == [(1, "a", 1)]


def test_rows_may_be_named_tuples_by_default(server: Server, database: str, driver: str, other: sa.Connection) -> None:
    named: Any = {
        "psycopg": {"row_factory": psycopg.rows.namedtuple_row},
        "psycopg2": {"cursor_factory": NamedTupleCursor},
    }
    engine = sa.create_engine(server.url(driver, database), poolclass=sa.NullPool, connect_args=named[driver])
    with engine.connect() as conn:
        for name in ("a", "b"):
            for options in ({}, {"delete": Delete.BEFORE_FIRST_BATCH}):
                rows = [(number, name, 1) for number in range(600)]
                load(conn, people(), rows, high_watermark=HighWatermark.EARLIEST, **options)
                assert rows_of(other) == rows
