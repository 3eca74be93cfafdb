"""A full refresh and a rebuild replace a live table: what hangs on it stays, and readers go on."""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from airflow_ingest_provider import (
    ConcurrentIngestError,
    DefinitionError,
    Delete,
    IngestError,
    LockNotAcquired,
    Replace,
    RowError,
    Upsert,
    ingest,
)
from airflow_ingest_provider.core import locks, reflection
from airflow_ingest_provider.core import swap as swap_module
from airflow_ingest_provider.core.batch_table import BatchTable, Route
from airflow_ingest_provider.core.dependents import Dependent
from airflow_ingest_provider.core.heirs import move_sequences
from airflow_ingest_provider.core.loaded import LoadedTable, Refresh
from airflow_ingest_provider.core.watermark import State
from airflow_ingest_provider.demo.server import Server
from tests.postgres.helpers import hanging, is_usable, load, oid_of, people, rows_of
from tests.waiting import until


class Shape(sa.types.UserDefinedType[str]):
    """A type whose modifier 2 is printed as none, as PostGIS' geometry has one."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "shape(2)"


HANGING = """
    GRANT SELECT ON people TO PUBLIC;
    GRANT ALL ON people TO ingest_writer WITH GRANT OPTION;
    GRANT UPDATE (name) ON people TO ingest_reader;
    ALTER TABLE people ADD CONSTRAINT adult CHECK (age > 0);
    ALTER TABLE people ALTER COLUMN name SET DEFAULT 'nobody', ALTER COLUMN name SET STORAGE EXTERNAL;
    ALTER TABLE people ALTER COLUMN age SET STATISTICS 7, SET (fillfactor = 70, autovacuum_enabled = false);
    CREATE STATISTICS people_stats ON name, age FROM people;
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER watched BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION watch();
    CREATE TRIGGER unwatched BEFORE DELETE ON people FOR EACH ROW EXECUTE FUNCTION watch();
    ALTER TABLE people DISABLE TRIGGER unwatched;
    CREATE RULE quiet AS ON DELETE TO people WHERE old.id < 0 DO INSTEAD NOTHING;
    CREATE POLICY own ON people FOR SELECT TO ingest_reader USING (id > 0);
    ALTER TABLE people ENABLE ROW LEVEL SECURITY;
    ALTER TABLE people REPLICA IDENTITY FULL;
    CLUSTER people USING people_pkey;
    COMMENT ON COLUMN people.name IS 'its name';
    COMMENT ON CONSTRAINT adult ON people IS 'its check';
    COMMENT ON INDEX people_pkey IS 'its index';
    COMMENT ON TRIGGER watched ON people IS 'its trigger';
    COMMENT ON POLICY own ON people IS 'its policy';
    CREATE VIEW named WITH (security_barrier) AS SELECT name, id FROM people WHERE id > 0 WITH CHECK OPTION;
    GRANT SELECT ON named TO ingest_reader;
    COMMENT ON VIEW named IS 'its view';
    CREATE VIEW above AS SELECT count(*) FROM named;
    CREATE MATERIALIZED VIEW ages AS SELECT age, count(*) FROM people GROUP BY age;
    CREATE UNIQUE INDEX ages_index ON ages (age);
    GRANT SELECT ON ages TO ingest_reader;
    CREATE MATERIALIZED VIEW later AS SELECT * FROM above WITH NO DATA;
"""


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize("owner", ["postgres", "ingest_owner"])
def test_a_full_refresh_keeps_all_that_hangs_on_the_table(
    conn: sa.Connection, other: sa.Connection, owner: str
) -> None:
    load(conn, people(), [(1, "a", 1), (2, "b", 2)])
    other.exec_driver_sql(HANGING)
    other.exec_driver_sql(f"ALTER TABLE people OWNER TO {owner}")
    before, table, view = hanging(conn), oid_of(conn, "people"), oid_of(conn, "named")
    load(conn, people(), [(number, "c", number) for number in range(3, 9)], delete=Delete.BEFORE_FIRST_BATCH)
    assert hanging(conn) == before
    assert oid_of(conn, "people") != table
    assert oid_of(conn, "named") == view
    assert rows_of(conn, "SELECT count(*) FROM named") == [(6,)]
    assert rows_of(conn, "SELECT * FROM above") == [(6,)]
    assert rows_of(conn, "SELECT count(*) FROM ages") == [(6,)]


@pytest.mark.usefixtures("roles")
def test_a_rebuild_keeps_all_that_hangs_on_the_table(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1), (2, "b", 2)])
    other.exec_driver_sql(HANGING)
    other.exec_driver_sql("CREATE TABLE child (id int PRIMARY KEY, person int REFERENCES people ON DELETE CASCADE)")
    other.exec_driver_sql("INSERT INTO child VALUES (1, 2)")
    before, view = hanging(conn), oid_of(conn, "named")
    moved = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("name", sa.Text),
        sa.Column("age", sa.Integer),
        sa.Column("id", sa.Integer, primary_key=True),
    )
    result = load(conn, moved, [("c", 3, 3)])
    assert result.tables[0].migration == ("columns in the order name, age, id",)
    own, views, names, tuning, *rest = hanging(conn)
    assert (own, views, names, sorted(tuning), *rest) == (*before[:3], sorted(before[3]), *before[4:])
    assert oid_of(conn, "named") == view
    assert rows_of(conn) == [("a", 1, 1), ("b", 2, 2), ("c", 3, 3)]


def test_a_modifier_that_is_not_printed_is_none(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("""
        CREATE TYPE shape;
        CREATE FUNCTION shape_in(cstring) RETURNS shape LANGUAGE internal IMMUTABLE STRICT AS 'textin';
        CREATE FUNCTION shape_out(shape) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
        CREATE TYPE shape (INPUT = shape_in, OUTPUT = shape_out, LIKE = text,
                           TYPMOD_IN = bittypmodin, TYPMOD_OUT = varchartypmodout);
    """)
    table = people(sa.Column("outline", Shape))
    for refresh in (Delete.OFF, Delete.BEFORE_FIRST_BATCH, Delete.BEFORE_FIRST_BATCH):
        result = load(conn, table, [(1, "a", 1, "round")], delete=refresh, replace=Replace.SWAP)
        assert result.tables[0].migration == ()
    assert rows_of(conn) == [(1, "a", 1, "round")]


@pytest.mark.usefixtures("roles")
def test_views_over_a_retyped_column_are_made_again(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql(
        """
        CREATE VIEW v AS SELECT age FROM people;
        CREATE VIEW w AS SELECT age + 1 AS next FROM v;
        GRANT SELECT ON v TO ingest_reader;
        GRANT SELECT ON w TO ingest_reader;
        ALTER VIEW v OWNER TO ingest_owner;
        GRANT SELECT ON people TO ingest_owner;
        """
    )
    before = hanging(conn)[1]
    table = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("age", sa.BigInteger),
    )
    load(conn, table, [(2, "b", 5_000_000_000)])
    assert hanging(conn)[1] == before
    assert rows_of(conn, "SELECT next FROM w ORDER BY 1") == [(2,), (5_000_000_001,)]


def test_default_privileges_add_nothing(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    before = hanging(conn)
    load(conn, people(), [(1, "a", 1)], delete=Delete.BEFORE_FIRST_BATCH)
    assert hanging(conn) == before


def test_what_the_callback_grants_on_the_new_table_stays(
    conn: sa.Connection, other: sa.Connection, roles: None
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    other.exec_driver_sql("GRANT SELECT ON people TO ingest_writer; ALTER TABLE people OWNER TO ingest_owner")

    def grant(conn: sa.Connection, ingest_table: sa.Table, batch_metadata: Any) -> None:
        for columns in ("", "(name)"):
            conn.execute(sa.text(f"GRANT SELECT {columns} ON {ingest_table} TO ingest_reader"))

    load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace="swap", on_before_visible=grant)
    grants = "SELECT relacl::text FROM pg_class WHERE oid = 'people'::regclass"
    ((granted,),) = rows_of(conn, grants)
    assert {"ingest_reader=r/ingest_owner", "ingest_writer=r/ingest_owner"} == {
        one for one in granted.strip("{}").split(",") if not one.startswith("ingest_owner=")
    }
    of_columns = "SELECT attacl::text FROM pg_attribute WHERE attrelid = 'people'::regclass AND attname = 'name'"
    assert rows_of(conn, of_columns) == [("{ingest_reader=r/ingest_owner}",)]


@pytest.mark.parametrize("way", ["swap", "in_place", "first load"])
def test_what_the_callback_revokes_and_comments_counts(
    conn: sa.Connection, other: sa.Connection, roles: None, way: str
) -> None:
    table = people(sa.Column("city", sa.Text, comment="declared"))
    load(conn, table, [] if way == "first load" else [(1, "a", 1, "c")])
    other.exec_driver_sql(
        """
        GRANT SELECT, INSERT ON people TO ingest_reader; GRANT SELECT (age), UPDATE (age) ON people TO ingest_writer;
        GRANT DELETE ON people TO ingest_writer; ALTER TABLE people OWNER TO ingest_owner;
        COMMENT ON COLUMN people.name IS 'a name'; COMMENT ON COLUMN people.age IS 'an age';
        ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO ingest_writer
        """
    )

    def change(conn: sa.Connection, ingest_table: sa.Table, batch_metadata: Any) -> None:
        for statement in (
            f"REVOKE SELECT ON {ingest_table} FROM ingest_reader",
            f"REVOKE UPDATE (age) ON {ingest_table} FROM ingest_writer",
            f"REVOKE SELECT ON {ingest_table} FROM ingest_writer",
            f"GRANT TRUNCATE ON {ingest_table} TO ingest_reader WITH GRANT OPTION",
            f"COMMENT ON TABLE {ingest_table} IS 'everybody'",
            f"COMMENT ON COLUMN {ingest_table}.id IS 'a number'",
            f"COMMENT ON COLUMN {ingest_table}.age IS NULL",
        ):
            conn.exec_driver_sql(statement)

    rows = [(number, "b", 2, "c") for number in range(600)]
    options: dict[str, Any] = {} if way == "first load" else {"delete": Delete.BEFORE_FIRST_BATCH, "replace": way}
    load(conn, table, rows, on_before_visible=change, **options)
    acl = """
        SELECT a.attname, acl.grantee::regrole::text, acl.privilege_type, acl.is_grantable
        FROM pg_attribute a, aclexplode(a.attacl) acl WHERE a.attrelid = 'people'::regclass
        UNION ALL SELECT '', grantee::regrole::text, privilege_type, is_grantable
        FROM pg_class c, aclexplode(relacl) WHERE c.oid = 'people'::regclass AND grantee <> relowner ORDER BY 1, 2, 3
    """
    assert rows_of(conn, acl) == [
        ("", "ingest_reader", "INSERT", False),
        ("", "ingest_reader", "TRUNCATE", True),
        ("", "ingest_writer", "DELETE", False),
    ]
    comments = "SELECT col_description('people'::regclass, number) FROM generate_series(1, 4) number"
    assert rows_of(conn, comments) == [("a number",), ("a name",), (None,), ("declared",)]
    ((comment,),) = rows_of(conn, "SELECT obj_description('people'::regclass)")
    assert comment.startswith("everybody\n{")
    assert load(conn, table, [(601, "b", 2, "c")]).first_high_watermark == 1


NOT_TAKEN_ALONG = {
    "index people_name_idx": "CREATE INDEX ON {} (name)",
    "constraint adult": "ALTER TABLE {} ADD CONSTRAINT adult CHECK (age > 0)",
    "column name": "ALTER TABLE {} ALTER name SET DEFAULT 'b'",
    "column city": "ALTER TABLE {} ADD city text",
    "CREATE TRIGGER t": "CREATE TRIGGER t BEFORE UPDATE ON {} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE POLICY p ON public.people": "CREATE POLICY p ON {}",
    "statistics public.s": "CREATE STATISTICS s ON name, age FROM {}",
    "its owner": "ALTER TABLE {} OWNER TO ingest_owner",
    "its storage": "ALTER TABLE {} SET (fillfactor = 50)",
    "view public.v": "CREATE VIEW v AS SELECT * FROM {}",
    "publication p": "CREATE PUBLICATION p FOR TABLE {}",
    "foreign key .* of public.child": "CREATE TABLE child (person int REFERENCES {})",
}


@pytest.mark.parametrize("what", NOT_TAKEN_ALONG)
def test_what_the_callback_changes_and_a_swap_does_not_carry_fails_the_run(
    conn: sa.Connection, roles: None, what: str
) -> None:
    load(conn, people(), [(1, "a", 1)])

    def change(conn: sa.Connection, ingest_table: sa.Table, batch_metadata: Any) -> None:
        conn.exec_driver_sql(NOT_TAKEN_ALONG[what].format(ingest_table))

    options: dict[str, Any] = {"delete": Delete.BEFORE_FIRST_BATCH, "on_before_visible": change}
    with pytest.raises(IngestError, match=f"on_before_visible changed more of ingest_table than .*{what}.*declared"):
        load(conn, people(), [(2, "b", 2)], replace="swap", **options)
    assert rows_of(conn) == [(1, "a", 1)]


@pytest.mark.parametrize("replace", ["swap", "in_place"])
@pytest.mark.parametrize("move", ["DROP TABLE {}", "ALTER TABLE {} RENAME TO elsewhere"])
def test_a_callback_that_moves_a_table_is_told_so(conn: sa.Connection, replace: str, move: str) -> None:
    load(conn, people(), [(1, "a", 1)])

    def callback(conn: sa.Connection, ingest_table: sa.Table, batch_metadata: Any) -> None:
        conn.exec_driver_sql(move.format(ingest_table))

    options: dict[str, Any] = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": replace}
    with pytest.raises(IngestError, match=r"on_before_visible dropped, renamed or moved public\.people"):
        load(conn, people(), [(2, "b", 2)], on_before_visible=callback, **options)
    assert rows_of(conn) == [(1, "a", 1)]


@pytest.mark.parametrize("parameters", [2, 3])
@pytest.mark.parametrize(
    "write", ["INSERT INTO people VALUES (3)", "UPDATE people SET age = 3", "DELETE FROM public.people"]
)
def test_a_callback_cannot_write_to_rows_that_are_about_to_go(conn: sa.Connection, parameters: int, write: str) -> None:
    load(conn, people(), [(1, "a", 1)])
    two = lambda conn, batch_metadata: conn.exec_driver_sql(write)  # noqa: E731
    three = lambda conn, ingest_table, batch_metadata: conn.exec_driver_sql(write)  # noqa: E731
    options: dict[str, Any] = {"delete": Delete.BEFORE_FIRST_BATCH, "on_before_visible": {2: two, 3: three}[parameters]}
    with pytest.raises(IngestError, match=r"on_before_visible wrote to public\.people, whose rows are about to go"):
        load(conn, people(), [(2, "b", 2)], replace="swap", **options)
    assert rows_of(conn) == [(1, "a", 1)]
    load(conn, people(), [(2, "b", 2)], replace="in_place", **options)


def test_sequences_go_on(conn: sa.Connection, other: sa.Connection) -> None:
    table = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, sa.Identity(start=100)),
    )
    load(conn, table, [(40, 150)])
    for delete in (Delete.BEFORE_FIRST_BATCH, Delete.OFF):
        load(conn, table, [(7, 120)], delete=delete)
        insert = "INSERT INTO people (id) VALUES (DEFAULT) RETURNING id, number"
        assert other.exec_driver_sql(insert).one() == ((41, 151) if delete == Delete.BEFORE_FIRST_BATCH else (42, 152))


IN_PLACE = {
    "exclusion": "ALTER TABLE people ADD EXCLUDE (id WITH =, (people IS NULL) WITH =)",
    "exclusion of some": "ALTER TABLE people ADD EXCLUDE (id WITH =) WHERE (people IS NOT NULL)",
    "publication": "CREATE PUBLICATION p FOR TABLE people",
    "row type": "CREATE TABLE uses (person people)",
    "inheritance": "CREATE TABLE heir () INHERITS (people)",
    "function": "CREATE FUNCTION f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM people; END",
    "rule": "CREATE TABLE t (a int); CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM people",
    "policy": "CREATE TABLE t (a int); CREATE POLICY p ON t USING (EXISTS (SELECT FROM people))",
    "foreign key": "CREATE TABLE child (person int REFERENCES people); INSERT INTO child VALUES (2)",
    "insert trigger": """
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION f()""",
}


@pytest.mark.parametrize("statement", IN_PLACE.values(), ids=IN_PLACE.keys())
def test_what_a_swap_cannot_carry_is_refreshed_in_place(
    conn: sa.Connection, other: sa.Connection, statement: str
) -> None:
    load(conn, people(), [(1, "a", 1), (2, "b", 2), (3, "c", 3)])
    other.exec_driver_sql(statement)
    before, oid = hanging(conn), oid_of(conn, "people")
    result = load(conn, people(), [(2, "b", 2), (3, "z", 3), (4, "d", 4)], delete=Delete.BEFORE_FIRST_BATCH)
    assert (hanging(conn), oid_of(conn, "people")) == (before, oid)
    assert rows_of(conn, "SELECT * FROM ONLY people ORDER BY 1") == [(2, "b", 2), (3, "z", 3), (4, "d", 4)]
    counts = result.tables[0]
    assert (counts.deleted, counts.inserted, counts.updated, counts.unchanged) == (1, 1, 1, 1)


@pytest.mark.parametrize("kind", ["publication", "row type", "inheritance", "function", "rule", "policy"])
def test_a_rebuild_that_cannot_carry_something_is_refused_by_name(
    conn: sa.Connection, other: sa.Connection, kind: str
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql(IN_PLACE[kind])
    before = hanging(conn)
    table = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("name", sa.Text),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("age", sa.Integer),
    )
    with pytest.raises(DefinitionError, match=r"has to be replaced by a new table .* cannot be because of"):
        load(conn, table, [("b", 2, 2)])
    assert hanging(conn) == before
    assert rows_of(conn, "SELECT * FROM ONLY people") == [(1, "a", 1)]


def test_tables_that_refer_to_each_other_are_refreshed_together(conn: sa.Connection) -> None:
    metadata = sa.MetaData()
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    child = sa.Table(
        "child",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent_id", sa.ForeignKey(parent.c.id)),
        sa.Column("twin", sa.ForeignKey("child.id")),
    )
    for first in (1, 5, 9):
        rows = [(child, (first, first, first + 1)), (child, (first + 1, first, None)), (parent, (first,))]
        ingest(conn, metadata, lambda mark, rows=rows: [(1, None, rows)], delete=Delete.BEFORE_FIRST_BATCH)  # type: ignore[misc]
        assert rows_of(conn, "SELECT * FROM parent") == [(first,)]
        assert rows_of(conn, "SELECT * FROM child ORDER BY 1") == [(first, first, first + 1), (first + 1, first, None)]


def test_readers_go_on_during_refreshes(conn: sa.Connection, other: sa.Connection, server: Any, database: str) -> None:
    load(conn, people(), [(number, "x", 0) for number in range(1000)])
    other.exec_driver_sql("CREATE VIEW v AS SELECT * FROM people")
    done, failures, reads = threading.Event(), [], []
    engine = sa.create_engine(server.url("psycopg", database), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")

    def read(query: str) -> None:
        with engine.connect() as reader:
            try:
                while not done.is_set():
                    reads.append(reader.scalar(sa.text(query)))
            except sa.exc.DBAPIError as error:
                failures.append(error)

    readers = [threading.Thread(target=read, args=[f"SELECT count(*) FROM {name}"]) for name in ("people", "v")]
    for reader in readers:
        reader.start()
    try:
        for age in range(15):
            load(conn, people(), [(number, "x", age) for number in range(1000)], delete=Delete.BEFORE_FIRST_BATCH)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert failures == []
    assert set(reads) == {1000}


def test_a_reader_in_the_way_is_named_once_patience_is_over(conn: sa.Connection, engine: sa.Engine) -> None:
    load(conn, people(), [(1, "a", 1)])
    with engine.connect() as reader:
        pid = reader.scalar(sa.text("SELECT pg_backend_pid() FROM people"))
        with pytest.raises(LockNotAcquired, match=f"pid {pid} of postgres"):
            load(
                conn,
                people(),
                [(2, "b", 2)],
                delete=Delete.BEFORE_FIRST_BATCH,
                lock_timeout=timedelta(milliseconds=20),
                lock_patience=timedelta(milliseconds=200),
            )
    assert rows_of(conn) == [(1, "a", 1)]
    assert is_usable(conn)


def test_it_is_the_swap_that_gives_way_in_a_deadlock_and_never_a_reader(
    conn: sa.Connection, other: sa.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout for each of six views would add up to more than deadlock_timeout, and the reader would be ended."""
    monkeypatch.setattr(locks, "_GAP_PATIENCE", 0.0)
    load(conn, people(), [(1, "a", 1)])
    for number in range(6):
        other.exec_driver_sql(f"CREATE VIEW v{number} AS SELECT id FROM people")
    with ExitStack() as stack:
        holders = [stack.enter_context(psycopg.connect(dsn)) for _ in range(5)]
        for number, holder in enumerate(holders):
            holder.execute(f"SELECT count(*) FROM v{number} WHERE false")
        reader = stack.enter_context(psycopg.connect(dsn))
        reader.execute("SELECT count(*) FROM people")
        refresh = threading.Thread(
            target=load,
            args=(conn, people(), [(2, "b", 2)]),
            kwargs={"delete": Delete.BEFORE_FIRST_BATCH, "lock_timeout": timedelta(milliseconds=200)},
        )
        refresh.start()
        waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'v4'::regclass")
        until(lambda: other.scalar(waits))
        reading = threading.Thread(target=reader.execute, args=("SELECT count(*) FROM v5",))
        reading.start()
        for holder in reversed(holders):
            reading.join(0.18)
            holder.commit()
        reading.join()
        reader.commit()  # fails where the reader was ended
        refresh.join()
    assert rows_of(conn) == [(2, "b", 2)]


def test_backends_in_the_way_are_ended_if_asked_for(conn: sa.Connection, other: sa.Connection, dsn: str) -> None:
    load(conn, people(), [(1, "a", 1)])
    impatient = {"delete": Delete.BEFORE_FIRST_BATCH, "lock_patience": timedelta(milliseconds=300)}
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT * FROM people")
        with pytest.raises(LockNotAcquired, match=rf"pid {reader.info.backend_pid} of postgres .*end_blockers=True"):
            load(conn, people(), [(2, "b", 2)], **impatient)
        assert reader.execute("SELECT count(*) FROM people").fetchone() == (1,)
        result = load(conn, people(), [(3, "c", 3)], end_blockers=True, **impatient)
        with pytest.raises(psycopg.OperationalError):
            reader.execute("SELECT 1")
    assert rows_of(conn) == [(3, "c", 3)]
    assert result.lock_attempts > 1
    assert 0 < result.readers_kept < 60


def test_nobody_is_ended_in_a_copy_of_the_database(
    server: Server, admin: psycopg.Connection, database: str, engine: sa.Engine, dsn: str
) -> None:
    """There the table has the same OID."""
    with engine.connect() as conn:
        load(conn, people(), [(1, "a", 1)])
    copy = f"{database}_copy"
    admin.execute(f"CREATE DATABASE {copy} TEMPLATE {database}")
    with psycopg.connect(server.dsn(copy)) as elsewhere, psycopg.connect(dsn) as reader, engine.connect() as conn:
        for connection in (elsewhere, reader):
            connection.execute("SELECT * FROM people")
        load(
            conn,
            people(),
            [(2, "b", 2)],
            delete=Delete.BEFORE_FIRST_BATCH,
            lock_patience=timedelta(milliseconds=200),
            end_blockers=True,
        )
        assert elsewhere.execute("SELECT id FROM people").fetchall() == [(1,)]
        with pytest.raises(psycopg.OperationalError):
            reader.execute("SELECT 1")
    admin.execute(f"DROP DATABASE {copy} WITH (FORCE)")


@pytest.fixture
def ordinary(engine: sa.Engine, other: sa.Connection, roles: None) -> Iterator[sa.Connection]:
    """A connection of a role that may create tables, and does not see what other roles' backends do."""
    other.exec_driver_sql("ALTER ROLE ingest_owner LOGIN; GRANT CREATE ON SCHEMA public TO ingest_owner")
    own = sa.create_engine(engine.url.set(username="ingest_owner"), poolclass=sa.NullPool)
    with own.connect() as connection:
        yield connection
    own.dispose()
    other.exec_driver_sql("ALTER ROLE ingest_owner NOLOGIN")


def test_an_ordinary_role_asks_for_no_lock_while_somebody_reads_for_long(
    ordinary: sa.Connection, other: sa.Connection, dsn: str
) -> None:
    load(ordinary, people(), [(1, "a", 1)])
    reads = sa.text("SELECT count(*) FROM pg_locks WHERE relation = 'people'::regclass AND pid = :pid")
    with psycopg.connect(dsn) as reader:
        reading = threading.Thread(target=reader.execute, args=("SELECT pg_sleep(1) FROM people; COMMIT",))
        reading.start()
        until(lambda: other.scalar(reads, {"pid": reader.info.backend_pid}))
        result = load(ordinary, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
        reading.join()
    assert result.lock_attempts == 1
    assert rows_of(ordinary) == [(2, "b", 2)]


def test_backends_of_others_are_not_ended_without_the_right_to(ordinary: sa.Connection, dsn: str) -> None:
    load(ordinary, people(), [(1, "a", 1)])
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT * FROM people")
        holder = rf"pid {reader.info.backend_pid} of postgres"
        with pytest.raises(LockNotAcquired, match=rf"^{holder} stands in the way and the role may not end it"):
            load(
                ordinary,
                people(),
                [(2, "b", 2)],
                delete=Delete.BEFORE_FIRST_BATCH,
                lock_patience=timedelta(milliseconds=300),
                end_blockers=True,
            )
        assert reader.execute("SELECT count(*) FROM people").fetchone() == (1,)
    assert is_usable(ordinary)


def test_the_way_to_replace_rows_can_be_insisted_on(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1), (2, "b", 2)])
    table = oid_of(conn, "people")
    result = load(conn, people(), [(2, "b", 3)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.IN_PLACE)
    assert (oid_of(conn, "people"), result.tables[0].deleted, result.tables[0].updated) == (table, 1, 1)
    other.exec_driver_sql("CREATE FUNCTION of_row(people) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with pytest.raises(DefinitionError, match=r"cannot be replaced by a swap because of function of_row\(people\)"):
        load(conn, people(), [(3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert rows_of(conn) == [(2, "b", 3)]
    other.exec_driver_sql("DROP FUNCTION of_row")
    load(conn, people(), [(3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert oid_of(conn, "people") != table
    with pytest.raises(ValueError, match="replace is 'swapped'"):
        load(conn, people(), replace="swapped")


def other_column(conn: sa.Connection, view: Dependent) -> bool:
    """Point a view at the new table, by another column."""
    return replaced_in_place(conn, replace(view, definition=view.definition.replace("id > 0", "age > 0")))


replaced_in_place = swap_module._replaced_in_place

LOST: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "names": ("constraint people_pkey", "_give_names", lambda prepared: []),
    "owner": ("its owner", "give_owners", lambda conn, hiddens: None),
    "sequence": (
        r"column id; sequence public\.spare",
        "move_sequences",
        lambda live, new, owned: move_sequences(live, new, []),
    ),
    "view": (r"columns that .*named uses; definition of view public\.named", "_replaced_in_place", other_column),
    "what a view has": (
        r"indexes of public\.ages; materialized view public\.ages",
        "_finish_view",
        lambda conn, view, built: None,
    ),
}


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize(("lost", "step", "instead"), LOST.values(), ids=LOST.keys())
def test_what_a_swap_would_lose_stops_it_by_name(
    conn: sa.Connection,
    other: sa.Connection,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
    step: str,
    instead: Callable[..., Any],
) -> None:
    load(conn, people(), [(1, "a", 1)])
    if "spare" in lost:
        other.exec_driver_sql("CREATE SEQUENCE spare OWNED BY people.id")
    other.exec_driver_sql("""
        ALTER TABLE people ALTER id DROP DEFAULT;
        DROP SEQUENCE people_id_seq;
        ALTER TABLE people OWNER TO ingest_owner;
        GRANT SELECT ON people TO ingest_reader;
        CREATE VIEW named AS SELECT name FROM people WHERE id > 0;
        CREATE MATERIALIZED VIEW ages AS SELECT age FROM people;
        CREATE INDEX ages_index ON ages (age);
        GRANT SELECT ON ages TO ingest_reader
    """)
    table = oid_of(conn, "people")
    monkeypatch.setattr(swap_module, step, instead)
    with pytest.raises(DefinitionError, match=rf"which would not have as they are: {lost}; the old table stays"):
        load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert (oid_of(conn, "people"), rows_of(conn)) == (table, [(1, "a", 1)])


def refreshed(conn: sa.Connection, rows: list[Any], **options: Any) -> Any:
    """What a full refresh says that it did, and whether the table is another one afterwards."""
    before = oid_of(conn, "people")
    result = load(conn, people(), rows, delete=Delete.BEFORE_FIRST_BATCH, **options)
    return result.tables[0], oid_of(conn, "people") != before


def test_a_refresh_that_hardly_changes_anything_is_done_in_place(conn: sa.Connection, other: sa.Connection) -> None:
    rows = [(n, f"name {n}", n) for n in range(20_000)]
    load(conn, people(), rows)
    where = sa.text("SELECT pg_current_wal_insert_lsn() - '0/0'")
    before = other.scalar(where)
    assert refreshed(conn, rows, replace=Replace.SWAP)[1]
    between = other.scalar(where)
    result, is_swapped = refreshed(conn, rows)
    assert (is_swapped, result.unchanged, result.inserted, result.updated, result.deleted) == (False, 20_000, 0, 0, 0)
    assert other.scalar(where) - between < (between - before) / 4
    result, is_swapped = refreshed(conn, rows[200:] + [(n, "changed", n) for n in range(100, 200)])
    assert (is_swapped, result.unchanged, result.updated, result.deleted) == (False, 19_800, 100, 100)


@pytest.mark.parametrize("changed", [100, 5000])
def test_arrow_data_that_hardly_changes_anything_is_replaced_in_place(conn: sa.Connection, changed: int) -> None:
    rows = [(n, f"name {n}", n) for n in range(20_000)]
    load(conn, people(), rows)
    ids = pa.array(range(20_000), pa.int64())
    names = [f"name {n}" if n < 20_000 - changed else "changed" for n in range(20_000)]
    source = pa.table({"age": ids, "name": names, "id": ids})

    def batches(high_watermark: Any) -> Any:
        yield None, None, [(table, source)]

    table, before = people(), oid_of(conn, "people")
    counts = ingest(conn, table.metadata, batches, delete=Delete.BEFORE_FIRST_BATCH).tables[0]
    in_place = changed == 100
    assert (oid_of(conn, "people") == before) == in_place
    assert (counts.received, counts.unchanged) == (20_000, 20_000 - changed if in_place else 0)
    assert rows_of(conn, "SELECT count(*) FROM people WHERE name = 'changed'") == [(changed,)]
    assert rows_of(conn, "SELECT count(*) FROM people WHERE id = age") == [(20_000,)]


@pytest.mark.parametrize("way", ["object", "record batch", "both"])
@pytest.mark.parametrize("changed", [10, 2000])
def test_arrow_data_that_begins_without_rows_is_replaced_as_the_rows_behind_are(
    conn: sa.Connection, way: str, changed: int
) -> None:
    rows = [(n, f"name {n}", n) for n in range(2000)]
    load(conn, people(), rows)
    names = [f"name {n}" if n >= changed else "changed" for n in range(2000)]
    full = pa.table({"age": range(2000), "name": names, "id": range(2000)})
    none = full.slice(0, 0).combine_chunks()
    without = pa.Table.from_batches([pa.RecordBatch.from_pylist([], full.schema), *full.to_batches()])
    items = {"object": [none, full], "record batch": [without], "both": [none, none, without]}[way]
    result, is_swapped = refreshed(conn, items)
    assert (is_swapped, result.received) == (changed == 2000, 2000)
    assert rows_of(conn, "SELECT count(*) FROM people WHERE name = 'changed'") == [(changed,)]


def test_a_refresh_by_arrow_data_without_rows_is_as_one_without_rows(conn: sa.Connection) -> None:
    rows = [(1, "a", 1), (2, "b", 2)]
    none = pa.table({"age": [1], "name": ["a"], "id": [1]}).slice(0, 0)
    for items in ([], [none], [none, none]):
        load(conn, people(), rows)
        result, is_swapped = refreshed(conn, items)
        assert (is_swapped, result.received, result.inserted) == (True, 0, 0)
        assert rows_of(conn) == []
    with pytest.raises(RowError, match="lacks 'age'"):
        refreshed(conn, [none.drop_columns("age")])


def test_a_refresh_that_changes_more_than_its_first_rows_do_is_swapped_after_all(conn: sa.Connection) -> None:
    rows = [(n, f"name {n}", n) for n in range(5000)]
    load(conn, people(), rows)
    changed = rows[:1000] + [(n, "changed", n) for n in range(1000, 5000)] + [(4999, "last", 1)]
    result, is_swapped = refreshed(conn, changed)
    assert (is_swapped, result.received, result.inserted, result.superseded) == (True, 5001, 5000, 1)
    assert rows_of(conn, "SELECT count(*) FILTER (WHERE name = 'changed'), max(name) FROM people") == [
        (3999, "name 999")
    ]
    assert rows_of(conn, "SELECT * FROM people WHERE id = 4999") == [(4999, "last", 1)]
    result, is_swapped = refreshed(conn, rows[:1000])
    assert is_swapped
    assert rows_of(conn, "SELECT count(*) FROM people") == [(1000,)]


def test_the_last_row_of_a_key_wins_in_a_refresh_that_is_swapped_after_all(conn: sa.Connection) -> None:
    """Rows of many widths: what is inserted goes to wherever there is room, and not behind the rows before it."""
    random = Random(5)

    def wide(number: int) -> str:
        return f"{number} " + random.randbytes(random.choice([20, 400, 900])).hex()

    first = [(n, "as before", n) for n in range(1000)]
    load(conn, people(), first)
    keys = [n for n in range(1000, 3000) for _ in range(n % 3 + 1)]
    random.shuffle(keys)
    rows = [*first, *((key, wide(place), place) for place, key in enumerate(keys))]
    result, is_swapped = refreshed(conn, rows)
    last = {key: age for key, _, age in rows}
    assert is_swapped
    assert dict(rows_of(conn, "SELECT id, age FROM people")) == last
    assert (result.received, result.inserted, result.superseded) == (len(rows), len(last), len(rows) - len(last))


def test_a_key_that_comes_twice_in_a_refresh_that_is_swapped_after_all_is_an_error_with_upsert_off(
    conn: sa.Connection,
) -> None:
    rows = [(n, f"name {n}", n) for n in range(5000)]
    load(conn, people(), rows)
    changed = rows[:1000] + [(n, "changed", n) for n in range(1000, 5000)]
    for twice in ([(4999, "last", 1)], []):
        with pytest.raises(RowError, match="people_pkey") if twice else nullcontext():
            assert refreshed(conn, changed + twice, upsert=Upsert.OFF)[1]
    assert rows_of(conn, "SELECT count(*), max(age) FROM people WHERE name = 'changed'") == [(4000, 4999)]


@pytest.mark.parametrize(
    "wall",
    ["CREATE PUBLICATION p FOR TABLE people", "COMMENT ON TYPE people IS 'x'", "GRANT USAGE ON TYPE people TO PUBLIC"],
)
def test_what_cannot_be_carried_over_and_appears_during_the_load_stops_the_run(
    conn: sa.Connection, other: sa.Connection, wall: str
) -> None:
    load(conn, people(), [(1, "a", 1)])

    def rows() -> Iterator[tuple[int, str, int]]:
        yield from ((number, "b", 1) for number in range(1000))
        other.exec_driver_sql(wall)

    with pytest.raises(ConcurrentIngestError, match=r"public.people was altered .*during this run \(.*\): run again"):
        load(conn, people(), rows(), delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.AUTO)
    assert rows_of(conn) == [(1, "a", 1)]
    load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn) == [(2, "b", 2)]


@pytest.mark.parametrize("change", ["GRANT SELECT ON people TO PUBLIC", "CREATE VIEW ids AS SELECT id FROM people"])
def test_what_changes_just_before_a_swap_has_its_locks_stops_the_run(
    conn: sa.Connection, other: sa.Connection, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    load(conn, people(), [(1, "a", 1)])
    lock = swap_module._lock

    def late(*arguments: Any) -> None:
        other.exec_driver_sql(change)
        lock(*arguments)

    monkeypatch.setattr(swap_module, "_lock", late)
    with pytest.raises(ConcurrentIngestError, match=r"public.people was altered .*during this run: run again"):
        load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert rows_of(conn) == [(1, "a", 1)]


def test_a_first_row_that_does_not_fit_is_told_as_ever(conn: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1)])
    with pytest.raises(RowError) as refused:
        load(conn, people(), [(1, "a", 1), (2, "b", "x")], delete=Delete.BEFORE_FIRST_BATCH)
    assert (refused.value.column, refused.value.row_number) == ("age", 2)
    assert rows_of(conn) == [(1, "a", 1)]


def test_expressions_that_are_printed_otherwise_once_they_were_read_stay_and_plan_nothing(
    conn: sa.Connection, other: sa.Connection
) -> None:
    table = sa.Table(
        "orders",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("status", sa.String(9), server_default=sa.text("(ARRAY['new'::varchar, 'old'::varchar]::text[])[1]")),
        sa.Column("is_open", sa.Boolean, sa.Computed("status IN ('new', 'paid')", persisted=True)),
        sa.CheckConstraint("status IN ('new', 'paid', 'done') AND status NOT IN ('x', 'y')", name="known"),
        sa.CheckConstraint("status BETWEEN 'a' AND 'z' AND id > -1", name="ordered"),
        sa.Index("open_orders", "id", postgresql_where=sa.text("status IN ('new', 'paid')")),
        sa.Index("open_first", sa.text("(status IN ('new', 'paid'))")),
    )
    rows = [(1, "new"), (2, "done")]
    load(conn, table, rows)
    for statement in (
        "CREATE VIEW open_orders_view AS SELECT * FROM orders WHERE status IN ('new', 'paid') AND id IN (1, 2)",
        "CREATE POLICY mine ON orders FOR SELECT USING (status IN ('new', 'paid'))",
        "CREATE STATISTICS open_stats ON (status IN ('new', 'paid')), id FROM orders",
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER tell AFTER DELETE ON orders FOR ROW WHEN (OLD.status IN ('a', 'b')) EXECUTE FUNCTION nothing()",
    ):
        other.exec_driver_sql(statement)
    for _ in range(3):
        before = oid_of(conn, "orders")
        result = load(conn, table, rows, delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
        assert result.tables[0].migration == ()
        assert oid_of(conn, "orders") != before
        assert rows_of(conn, "SELECT id FROM open_orders_view") == [(1,)]


def test_an_expression_that_casts_otherwise_is_another_definition(conn: sa.Connection) -> None:
    def checked(kind: str) -> sa.Table:
        limit = sa.CheckConstraint(f"value::{kind} < 100", name="limited")
        return sa.Table("measured", sa.MetaData(), sa.Column("value", sa.Numeric), limit)

    load(conn, checked("integer"), [(1,)])
    changes = load(conn, checked("bigint"), [(2,)]).tables[0].migration
    assert "bigint" in "".join(changes)


def test_a_temporary_view_of_another_session_is_no_error(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql(
        "CREATE VIEW names AS SELECT name FROM people; CREATE TEMPORARY VIEW t AS SELECT * FROM names"
    )
    load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert other.exec_driver_sql("SELECT * FROM t").all() == [("b",)]
    other.exec_driver_sql("CREATE TEMPORARY VIEW u AS SELECT id FROM people")
    with pytest.raises(DefinitionError, match=r"view pg_temp_\d+.u, a temporary one of another session"):
        load(conn, people(), [(3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    load(conn, people(), [(3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH)
    assert other.exec_driver_sql("SELECT * FROM u").all() == [(3,)]


@pytest.mark.parametrize(("is_key", "replace"), [(False, Replace.AUTO), (True, Replace.SWAP)])
def test_rows_of_others_that_refer_to_a_key_that_goes_are_told_by_their_foreign_key(
    conn: sa.Connection, other: sa.Connection, is_key: bool, replace: str
) -> None:
    column = sa.Column("code", sa.Integer, primary_key=is_key, unique=not is_key, autoincrement=False)
    table = sa.Table("codes", sa.MetaData(), column)
    load(conn, table, [(1,), (424242,)])
    other.exec_driver_sql("CREATE TABLE uses (code int CONSTRAINT of_code REFERENCES codes (code))")
    other.exec_driver_sql("INSERT INTO uses VALUES (424242)")
    options = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": replace}
    with pytest.raises(
        RowError, match=r"of public\.uses, column 'code': .* of_code .*new rows of public\.codes lack"
    ) as refused:
        load(conn, table, [(1,), (3,)], **options)
    told = "".join(traceback.format_exception(refused.value))
    assert "424242" not in told
    assert "_ingest_" not in told.replace("_ingest_provider", "")
    assert rows_of(conn, "SELECT * FROM codes ORDER BY 1") == [(1,), (424242,)]
    load(conn, table, [(424242,), (3,)], **options)
    assert rows_of(conn, "SELECT * FROM codes ORDER BY 1") == [(3,), (424242,)]


def test_a_refresh_that_leaves_most_rows_of_a_table_without_statistics_out_is_swapped(
    conn: sa.Connection, other: sa.Connection
) -> None:
    """Its first rows are unchanged, and nothing says beforehand how many rows there are."""
    other.exec_driver_sql(
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int) WITH (autovacuum_enabled = false);"
        "INSERT INTO people SELECT n, 'name ' || n, n FROM generate_series(0, 99999) n"
    )
    assert rows_of(conn, "SELECT reltuples FROM pg_class WHERE relname = 'people'") == [(-1,)]
    rows = [(n, f"name {n}", n) for n in range(5000)]
    counts, is_swapped = refreshed(conn, rows)
    assert (is_swapped, counts.received) == (True, 5000)
    assert rows_of(conn) == rows


@pytest.mark.parametrize("rows", [3, 5000])
@pytest.mark.parametrize("statement", ["DROP TABLE people", "ALTER TABLE people RENAME TO persons"])
def test_a_table_that_is_dropped_while_a_new_one_is_loaded_is_told_as_somebody_elses_doing(
    conn: sa.Connection, other: sa.Connection, rows: int, statement: str
) -> None:
    table = sa.Table("people", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True, autoincrement=False))
    load(conn, table, [(1,)])
    other.exec_driver_sql("SET lock_timeout = '10s'")

    def dropping() -> Iterator[tuple[int]]:
        yield from ((number,) for number in range(rows))
        other.exec_driver_sql(statement)
        yield from ((number,) for number in range(rows, 2 * rows))

    with pytest.raises(ConcurrentIngestError, match=r"^public\.people was (altered or )?dropped.*run again"):
        load(conn, table, dropping(), delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert is_usable(conn)
    assert rows_of(conn, "SELECT to_regclass('people')") == [(None,)]
    load(conn, table, [(1,)])
    assert rows_of(conn) == [(1,)]


def test_rows_of_a_new_table_that_was_never_planned_go_nowhere_else(conn: sa.Connection) -> None:
    """In a temporary table, which takes nobody's place, they would be lost without a word."""
    table = people()
    load(conn, table, [(1, "a", 1)])
    oid = oid_of(conn, "people")
    with conn.begin():
        live = reflection.table_shape(conn, oid)
        loaded = LoadedTable(table, live.name, State(), live, Refresh.SWAP)
        with pytest.raises(AssertionError, match="is planned before a new one can take its place"):
            BatchTable(conn, loaded, "token", Route.HIDDEN, upserts=True)
