"""Migrations: each case is planned, applied, compared with a table made afresh, and planned again to nothing."""

import functools
import itertools
import re
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from airflow_ingest_provider import (
    DefinitionError,
    Delete,
    HighWatermark,
    IngestPlan,
    Migrate,
    Replace,
    RowError,
    ingest,
    ingest_plan,
)
from airflow_ingest_provider.core import catalog, reflection, trials, widening
from airflow_ingest_provider.core.names import Name, is_temporary
from airflow_ingest_provider.core.plan import Action
from airflow_ingest_provider.core.shape import TableShape
from airflow_ingest_provider.demo.server import Server
from tests.postgres.helpers import is_usable, load, major, people, rows_of, statements_of
from tests.postgres.migrations import CASES, INTEGER, Case, column

BEFORE_ALL = """
    CREATE TYPE mood AS ENUM ('ok', 'sad');
    CREATE TABLE parent (id int PRIMARY KEY);
    INSERT INTO parent VALUES (1);
"""


def declared_table(case: Case) -> sa.Table:
    """The table of the case; of its own metadata, which knows the parent."""
    metadata = sa.MetaData()
    columns: list[Any] = []
    options: dict[str, Any] = {}
    for part in case.declared:
        if isinstance(part, dict):
            options |= part
        else:
            columns.append(part() if callable(part) else part._copy())
    key = options.pop("primary_key", None)
    if key:
        columns.append(sa.PrimaryKeyConstraint("a", **key))
    sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    return sa.Table("t", metadata, *columns, **options)


def only(table: sa.Table) -> sa.MetaData:
    """A metadata that holds the table alone; foreign keys find its parent in the other."""
    metadata = sa.MetaData()
    metadata.tables = type(metadata.tables)({table.key: table})
    return metadata


def make_live(other: sa.Connection, case: Case, *, with_row: bool) -> None:
    if major(other) < case.major:
        pytest.skip(f"PostgreSQL {case.major} is the first that has it")
    other.exec_driver_sql(BEFORE_ALL)
    other.exec_driver_sql(f"CREATE TABLE t ({case.before})")
    if with_row:
        names = ", ".join(
            part.split()[0] for part in re.split(r",\s*(?![^(]*\))", case.before) if "always as" not in part
        )
        other.exec_driver_sql(f"INSERT INTO t ({names}) VALUES ({case.row})")
    for statement in case.more:
        other.exec_driver_sql(statement)


def migrated(conn: sa.Connection, case: Case) -> tuple[str, ...]:
    """What the migration says that it did."""
    result = ingest(conn, only(declared_table(case)), lambda mark: [(1, None, [])], **case.options)
    return result.tables[0].migration


def planned(conn: sa.Connection, case: Case, **options: Any) -> IngestPlan:
    return ingest_plan(conn, only(declared_table(case)), **case.options, **options)


def shape_of(conn: sa.Connection, name: str) -> TableShape:
    with conn.begin():
        ((_, oid),) = catalog.find_all(conn, [("public", name)])
        assert oid is not None
        return reflection.table_shape(conn, oid)


def definition(shape: TableShape) -> Any:
    """What two tables of one definition share, whatever their parts are called."""
    return (
        [
            (one.name, one.type, one.collation, one.not_null, one.identity, one.generated, one.comment)
            for one in shape.columns
        ],
        [(one.kind, one.definition, one.validated) for one in shape.constraints],
        [(key.columns, key.target, key.options, key.validated) for key in shape.foreign_keys],
        [(one.unique, one.definition) for one in shape.indexes],
    )


def everything(conn: sa.Connection) -> Any:
    """The table as it is, whichever relation it is in, and its rows."""
    return replace(shape_of(conn, "t"), oid=0), rows_of(conn, "SELECT t::text FROM t")


@contextmanager
def a_reader(dsn: str) -> Iterator[None]:
    """Somebody who reads the table all the time, and must never wait for long nor fail."""
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SET statement_timeout = '5s'")
            try:
                while not done.is_set():
                    connection.execute("SELECT count(*) FROM t")
            except psycopg.Error as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        done.set()
        reader.join()
    assert not failures


KEPT = (
    "unique that a foreign key needs",
    "unique that is the key from now on, and referred to by the table itself",
    "index that the replica identity needs",
)
"""Cases in which something stays that is not declared."""


@pytest.mark.parametrize("with_row", [True, False], ids=["with a row", "empty"])
@pytest.mark.parametrize("name", CASES)
def test_a_table_gets_to_its_definition(
    conn: sa.Connection, other: sa.Connection, dsn: str, name: str, with_row: bool
) -> None:
    case = CASES[name]
    make_live(other, case, with_row=with_row)
    before = everything(conn)
    plan = planned(conn, case)
    assert (plan.tables[0].action, plan.tables[0].lines, plan.tables[0].refused) == (case.action, case.plan, None)
    assert everything(conn) == before
    with a_reader(dsn):
        assert migrated(conn, case) == case.plan
    live = shape_of(conn, "t")
    with conn.begin():
        stored = [tuple(row) for row in conn.execute(sa.select(declared_table(case)))]
    assert stored == ([case.after] if with_row else [])
    assert not planned(conn, case)
    assert migrated(conn, case) == ()
    if name not in KEPT:
        other.exec_driver_sql("DROP TABLE t CASCADE")
        ingest(conn, only(declared_table(case)), lambda mark: [])
        assert definition(live) == definition(shape_of(conn, "t"))


CHANGES = re.compile(r"(ALTER|CREATE|DROP|INSERT|COMMENT|GRANT|REVOKE|ANALYZE)(?!.*pg_temp)", re.DOTALL)


class Fault(Exception):
    """What the tests let a statement raise."""


@pytest.fixture
def psycopg_engine(server: Server, database: str, dsn: str) -> Iterator[sa.Engine]:
    """What is run at every statement is run with one driver."""
    engine = sa.create_engine(server.url("psycopg", database), poolclass=sa.NullPool)
    yield engine
    engine.dispose()


FAILING = [
    (name, killed)
    for name, case in CASES.items()
    for killed in (False, True)
    if case.plan and (not killed or case.action is Action.STEPS)  # all else is one transaction, however it ends
]


@pytest.mark.parametrize(("name", "killed"), FAILING)
def test_a_migration_that_fails_anywhere_keeps_the_rows_and_can_be_run_again(
    psycopg_engine: sa.Engine, other: sa.Connection, name: str, killed: bool
) -> None:
    case = CASES[name]
    make_live(other, case, with_row=True)
    with psycopg_engine.connect() as conn:
        before = everything(conn)
        left = {one for one in names_of(before[0]) if is_temporary(one)}
        for limit in itertools.count(1):
            with failing(conn, limit, killed=killed) as fault, suppress(Fault):
                migrated(conn, case)
            if not fault.raised:
                break
            assert rows_of(conn, "SELECT count(*) FROM t") == [(1,)]
            now = everything(conn)
            assert killed or left.issuperset(one for one in names_of(now[0]) if is_temporary(one))
            assert now == before or case.action is Action.STEPS or not planned(conn, case)
        assert limit > 2
        assert not planned(conn, case)
        with conn.begin():
            assert [tuple(row) for row in conn.execute(sa.select(declared_table(case)))] == [case.after]


@dataclass
class Faulty:
    """Whether the fault has come."""

    raised: bool = False


@contextmanager
def failing(conn: sa.Connection, limit: int, *, killed: bool) -> Iterator[Faulty]:
    """A connection on which the statement of that number, of those that change something, raises.

    Killed means that no statement after it comes through, and the server ends the connection.
    """
    fault, count = Faulty(), 0

    def fail(*arguments: Any) -> None:
        nonlocal count
        if killed and fault.raised:
            raise Fault
        count += bool(CHANGES.match(arguments[2].lstrip()))
        if count == limit and not fault.raised:
            fault.raised = True
            raise Fault

    sa.event.listen(conn, "before_cursor_execute", fail)
    try:
        yield fault
    finally:
        sa.event.remove(conn, "before_cursor_execute", fail)
    assert is_usable(conn)


def names_of(shape: TableShape) -> list[str]:
    parts: list[Any] = [*shape.constraints, *shape.indexes, *shape.foreign_keys]
    return [part.name for part in parts]


REFUSED = {
    "duplicates": ("a int", (column("a", INTEGER, unique=True),), "1), (1", 'could not create unique index "t_a_key"'),
    "check": (
        "a int",
        (column("a", INTEGER), sa.CheckConstraint("a > 1", name="big")),
        "1",
        'check constraint "big" of relation "t" is violated by some row',
    ),
    "too long": ("a text", (column("a", sa.String(3)),), "'longer'", "'a': 1 values would change"),
    "rounded": ("a numeric", (column("a", sa.Numeric(9, 1)),), "1.25", "'a': 1 values would change"),
    "out of range": ("a bigint", (column("a", INTEGER),), "5000000000", "'a': at least one value"),
    "explicit cast": ("a text", (column("a", INTEGER),), "'1'", "does not assign"),
    "null": ("a int", (column("a", INTEGER, nullable=False),), "NULL", "1 rows hold NULL"),
    "default of another type": (
        "a int default 7",
        (column("a", sa.Date),),
        "NULL",
        "'a' is to be date, and its default 7 is of another type",
    ),
    "an enum that is not there": ("a text", (column("a", sa.Enum("x", name="letter")),), "'x'", "does not assign text"),
    "foreign key between types": (
        "a int unique, b int references t (a)",
        (column("a", INTEGER, unique=True), column("b", sa.Text)),
        "1, 1",
        r"foreign key t_b_fkey of public.t \(b\) to public.t \(a\) does not fit the columns as they are declared",
    ),
    "no default": ("a int", (column("a", INTEGER), column("b", INTEGER, nullable=False)), "1", "server_default"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
def test_what_would_lose_values_is_refused(conn: sa.Connection, other: sa.Connection, refused: Any) -> None:
    before, columns, row, problem = refused
    other.exec_driver_sql(f"CREATE TABLE t ({before}); INSERT INTO t VALUES ({row})")
    live, stored = shape_of(conn, "t"), rows_of(conn, "SELECT * FROM t")
    table = declared_table(Case(before, columns, row, (), (), Action.NOTHING))
    with pytest.raises(DefinitionError, match=problem):
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert (shape_of(conn, "t"), rows_of(conn, "SELECT * FROM t")) == (live, stored)
    assert is_usable(conn)


def test_a_dropped_column_that_a_view_uses_is_refused_by_name(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int, b int); CREATE VIEW v AS SELECT b FROM t")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    with pytest.raises(DefinitionError, match=r"'b' is no longer declared, but is used by .*view v"):
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])


@pytest.mark.parametrize("columns", [("b",), ("a", "b")])
def test_a_dropped_key_that_a_foreign_key_refers_to_is_refused_by_name(
    conn: sa.Connection, other: sa.Connection, columns: tuple[str, ...]
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE child (a int REFERENCES t)")
    live = shape_of(conn, "t")
    table = sa.Table("t", sa.MetaData(), *(sa.Column(name, sa.Integer, nullable=name == "b") for name in columns))
    with pytest.raises(DefinitionError, match=r"key \(a\) is no longer declared, but foreign key child_a_fkey"):
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert shape_of(conn, "t") == live


@pytest.mark.parametrize("kind", [sa.Integer, sa.BigInteger], ids=["in place", "rebuild"])
def test_a_dropped_key_that_the_table_itself_refers_to_is_refused_by_name(
    conn: sa.Connection, other: sa.Connection, kind: Any
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES t)")
    live = shape_of(conn, "t")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", kind, nullable=False), sa.Column("b", kind))
    with pytest.raises(DefinitionError, match=r"key \(a\) is no longer declared, but foreign key t_b_fkey of public.t"):
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert shape_of(conn, "t") == live


@pytest.mark.parametrize("refresh", [False, True])
@pytest.mark.parametrize("itself", [False, True])
def test_a_key_that_a_foreign_key_refers_to_and_that_becomes_deferrable_is_refused_by_name(
    conn: sa.Connection, other: sa.Connection, itself: bool, refresh: bool
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY, b int)")
    refers = "ALTER TABLE t ADD CONSTRAINT up" if itself else "CREATE TABLE child (b int, CONSTRAINT up"
    other.exec_driver_sql(f"{refers} FOREIGN KEY (b) REFERENCES t{')' * (not itself)}")
    live = shape_of(conn, "t")
    columns = (sa.Column("a", sa.Integer), sa.Column("b", sa.Integer))
    table = sa.Table("t", sa.MetaData(), *columns, sa.PrimaryKeyConstraint("a", deferrable=True))
    options: dict[str, Any] = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.SWAP} if refresh else {}
    problem = rf"key \(a\) is declared DEFERRABLE, but foreign key up of public.{'t' if itself else 'child'}"
    (plan,) = ingest_plan(conn, table.metadata, **options).tables
    assert re.search(problem, plan.refused or "the plan is not refused")
    with pytest.raises(DefinitionError, match=problem):
        load(conn, table, [], **options)
    assert shape_of(conn, "t") == live


def test_a_key_that_the_table_itself_refers_to_goes_with_the_reference(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY, b int UNIQUE, c int CONSTRAINT up REFERENCES t (a))")
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("a", sa.Integer),
        sa.Column("b", sa.Integer, unique=True),
        sa.Column("c", sa.Integer, sa.ForeignKey("t.b", name="up")),
    )
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert [key.target_columns for key in shape_of(conn, "t").foreign_keys] == [("b",)]
    assert shape_of(conn, "t").primary_key is None


def test_a_full_refresh_moves_a_key_from_a_column_that_gets_another_type(conn: sa.Connection) -> None:
    before = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("a", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("b", sa.Integer, nullable=False),
    )
    after = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("a", sa.BigInteger),
        sa.Column("b", sa.Integer, primary_key=True, autoincrement=False),
    )
    load(conn, before, [(1, 2)])
    load(conn, after, [(None, 3)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT * FROM t") == [(None, 3)]


def test_a_foreign_key_of_another_table_that_does_not_fit_a_new_type_is_refused_by_name(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE child (a int REFERENCES t)")
    live = shape_of(conn, "t")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Text, primary_key=True))
    with pytest.raises(
        DefinitionError, match=r"foreign key child_a_fkey of public.child \(a\) to public.t \(a\) does not fit"
    ):
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert shape_of(conn, "t") == live


def test_a_check_of_somebody_else_goes_only_where_one_of_its_name_is_added(
    conn: sa.Connection, other: sa.Connection
) -> None:
    def checked(*conditions: str) -> sa.Table:
        return sa.Table("t", sa.MetaData(), sa.Column("v", sa.Integer), *map(sa.CheckConstraint, conditions))

    def checks() -> dict[str, str]:
        return {one.name: one.definition for one in shape_of(conn, "t").constraints}

    other.exec_driver_sql("CREATE TABLE t (v int CHECK (v < 100), CONSTRAINT mine CHECK (v > 0))")
    for _ in range(2):
        load(conn, checked("v > 0"), [(1,)])
        assert checks() == {"t_v_check": "CHECK ((v < 100))", "mine": "CHECK ((v > 0))"}
    load(conn, checked("v > 5"), [(6,)], delete=Delete.BEFORE_FIRST_BATCH)
    assert checks() == {"t_v_check": "CHECK ((v > 5))", "mine": "CHECK ((v > 0))"}


@pytest.mark.parametrize(
    ("table", "columns"),
    [("c", ["p"]), ("c" * 60, ["p" * 9]), ("c" * 9, ["p" * 60]), ("é" * 25, ["ü" * 20, "ö" * 20])],
)
def test_a_foreign_key_without_a_name_is_known_by_that_which_postgresql_gave_it(
    conn: sa.Connection, other: sa.Connection, table: str, columns: list[str]
) -> None:
    def referring(**options: Any) -> sa.MetaData:
        metadata = sa.MetaData()
        keys = [f"id{place}" for place, _ in enumerate(columns)]
        parent = [sa.Column(key, sa.Integer, primary_key=True, autoincrement=False) for key in keys]
        sa.Table("parent", metadata, *parent)
        child = [sa.Column(name, sa.Integer) for name in columns]
        refers = sa.ForeignKeyConstraint(columns, [f"parent.{key}" for key in keys], **options)
        sa.Table(table, metadata, *child, refers)
        return metadata

    def keys_of() -> set[tuple[str, str]]:
        return {(one.name, one.options) for one in shape_of(conn, table).foreign_keys}

    ingest(conn, referring(), lambda mark: [(1, None, [])])
    ((name, _),) = keys_of()
    person = ", ".join(f'"{column}"' for column in columns)
    other.exec_driver_sql(f'ALTER TABLE "{table}" ADD CONSTRAINT mine FOREIGN KEY ({person}) REFERENCES parent')
    for _ in range(2):
        ingest(conn, referring(ondelete="CASCADE"), lambda mark: [(1, None, [])])
        assert keys_of() == {(name, " ON DELETE CASCADE"), ("mine", "")}
    assert not ingest_plan(conn, referring(ondelete="CASCADE"))


def test_a_full_refresh_brings_values_for_a_new_column_that_needs_them(conn: sa.Connection) -> None:
    before = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    after = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("b", sa.Integer, nullable=False))
    load(conn, before, [(1,)])
    with pytest.raises(DefinitionError, match="NOT NULL without a server_default"):
        load(conn, after, [(2, 3)])
    load(conn, after, [(2, 3)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT * FROM t") == [(2, 3)]
    assert not ingest_plan(conn, after.metadata)


@pytest.mark.parametrize("rows", [2, 1000])
@pytest.mark.parametrize("before", ["int", "int generated always as identity", "serial", "numeric"])
def test_a_full_refresh_moves_the_sequence_of_a_new_identity_past_its_rows(
    conn: sa.Connection, other: sa.Connection, before: str, rows: int
) -> None:
    other.exec_driver_sql(f"CREATE TABLE t (a {before}, b int); INSERT INTO t (b) VALUES (1)")
    columns = (sa.Column("a", sa.Integer, sa.Identity(), primary_key=True), sa.Column("b", sa.Integer))
    table = sa.Table("t", sa.MetaData(), *columns)
    load(conn, table, [(number, 0) for number in range(1, rows + 1)], delete=Delete.BEFORE_FIRST_BATCH)
    other.exec_driver_sql("INSERT INTO t (b) VALUES (7)")
    assert rows_of(conn, "SELECT a FROM t WHERE b = 7") == [(rows + 1,)]


@pytest.mark.parametrize(
    ("kind", "key"),
    [(sa.Text, "x"), (sa.Uuid, uuid.UUID(int=7)), (sa.Date, date(2000, 1, 1)), (sa.Numeric(30), Decimal(10**20))],
)
def test_a_key_that_is_no_integer_any_more_has_no_sequence(conn: sa.Connection, kind: Any, key: Any) -> None:
    load(conn, sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, primary_key=True)), [(1,)])
    table = sa.Table("t", sa.MetaData(), sa.Column("a", kind, primary_key=True))
    for _ in range(2):
        load(conn, table, [(key,)], delete=Delete.BEFORE_FIRST_BATCH, high_watermark=HighWatermark.EARLIEST)
    assert not ingest_plan(conn, table.metadata)
    assert rows_of(conn, "SELECT * FROM t") == [(key,)]
    assert shape_of(conn, "t").columns[0].default is None
    assert rows_of(conn, "SELECT count(*) FROM pg_sequences") == [(0,)]


@pytest.mark.parametrize(
    ("kind", "key", "drawn"),
    [("text", "x", "1"), ("numeric(30)", Decimal(10**20), None), ("numeric", Decimal("1.5"), 3), ("float8", 7.0, 8)],
)
def test_a_sequence_that_people_let_a_column_draw_from_stays(
    conn: sa.Connection, other: sa.Connection, kind: str, key: Any, drawn: Any
) -> None:
    other.exec_driver_sql(f"""
        CREATE TABLE t (a {kind} PRIMARY KEY);
        CREATE SEQUENCE s OWNED BY t.a; ALTER TABLE t ALTER a SET DEFAULT nextval('s')
    """)
    kinds: dict[str, Any] = {"text": sa.Text, "numeric(30)": sa.Numeric(30), "numeric": sa.Numeric, "float8": sa.Double}
    table = sa.Table("t", sa.MetaData(), sa.Column("a", kinds[kind], primary_key=True))
    load(conn, table, [(key,)])
    if drawn is not None:
        assert rows_of(conn, "INSERT INTO t DEFAULT VALUES RETURNING a") == [(drawn,)]


@pytest.mark.parametrize("options", [{}, {"delete": Delete.BEFORE_FIRST_BATCH}], ids=["in place", "full refresh"])
@pytest.mark.parametrize("schema", [None, "other"])
@pytest.mark.parametrize("in_array", [False, True], ids=["plain", "array"])
def test_a_new_column_brings_its_domain(
    conn: sa.Connection, other: sa.Connection, schema: str | None, options: Any, in_array: bool
) -> None:
    other.exec_driver_sql("CREATE SCHEMA other")
    domain = postgresql.DOMAIN("above none", sa.Integer, check=sa.text("VALUE > 0"), schema=schema)
    load(conn, sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, primary_key=True)), [(1,)])
    kind = postgresql.ARRAY(domain) if in_array else domain
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, primary_key=True), sa.Column("b", kind))
    load(conn, table, [(1, [4] if in_array else 4)], **options)
    assert rows_of(conn, "SELECT a, array_to_json(ARRAY[b])::text FROM t") == [(1, "[[4]]" if in_array else "[4]")]
    with pytest.raises(RowError, match="above none"):
        load(conn, table, [(2, [0] if in_array else 0)])
    assert not ingest_plan(conn, table.metadata)


@pytest.mark.parametrize("options", [{}, {"delete": Delete.BEFORE_FIRST_BATCH}], ids=["rebuild", "full refresh"])
def test_the_sequence_of_a_wider_serial_goes_as_far_as_its_column(
    conn: sa.Connection, other: sa.Connection, options: Any
) -> None:
    def of(kind: Any) -> sa.Table:
        return sa.Table("t", sa.MetaData(), sa.Column("a", kind, primary_key=True), sa.Column("b", sa.Text))

    load(conn, of(sa.SmallInteger), [(1, "x")])
    load(conn, of(sa.BigInteger), [(2**40, "y")], **options)
    other.exec_driver_sql("INSERT INTO t (b) VALUES ('theirs')")
    assert rows_of(conn, "SELECT a FROM t WHERE b = 'theirs'") == [(2**40 + 1,)]
    assert rows_of(conn, "SELECT data_type::text, max_value FROM pg_sequences") == [("bigint", 2**63 - 1)]


def test_a_sequence_that_goes_further_than_its_column_stays_as_it_is(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE t (a smallint PRIMARY KEY); CREATE SEQUENCE s AS bigint MAXVALUE 100")
    other.exec_driver_sql("ALTER SEQUENCE s OWNED BY t.a; ALTER TABLE t ALTER a SET DEFAULT nextval('s')")
    load(conn, sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, primary_key=True)), [(7,)])
    assert rows_of(conn, "SELECT data_type::text, max_value, last_value FROM pg_sequences") == [("bigint", 100, 7)]


def test_a_sequence_that_another_table_draws_from_too_is_not_dropped(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, primary_key=True)), [(1,)])
    other.exec_driver_sql("CREATE TABLE u (a int DEFAULT nextval('t_a_seq'))")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Text, primary_key=True))
    with pytest.raises(DefinitionError, match="default value for column a of table u depends on sequence t_a_seq"):
        load(conn, table, [("2",)])
    assert rows_of(conn, "SELECT * FROM t") == [(1,)]


def test_a_rebuild_moves_the_sequence_of_a_new_identity_past_the_stored_rows(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (3, 1)")
    columns = (sa.Column("a", sa.Integer, sa.Identity(), primary_key=True), sa.Column("b", sa.Integer))
    table = sa.Table("t", sa.MetaData(), *columns)
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    other.exec_driver_sql("INSERT INTO t (b) VALUES (7)")
    assert rows_of(conn, "SELECT a FROM t WHERE b = 7") == [(4,)]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
@pytest.mark.parametrize(
    ("before", "identity", "next_value"),
    [
        ("int generated by default as identity", sa.Identity(), 5_000_000_001),
        ("serial", sa.Identity(start=100, minvalue=100), 5_000_000_001),
        ("serial", sa.Identity(start=6_000_000_000), 6_000_000_000),
    ],
)
def test_an_identity_that_gets_wider_goes_on_after_its_rows(
    conn: sa.Connection, other: sa.Connection, before: str, identity: sa.Identity, next_value: int, delete: str
) -> None:
    other.exec_driver_sql(f"CREATE TABLE t (a {before} PRIMARY KEY, b int); INSERT INTO t (b) VALUES (1)")
    columns = (sa.Column("a", sa.BigInteger, identity, primary_key=True), sa.Column("b", sa.Integer))
    table = sa.Table("t", sa.MetaData(), *columns)
    load(conn, table, [(5_000_000_000, 1)], delete=delete)
    other.exec_driver_sql("INSERT INTO t (b) VALUES (7)")
    assert rows_of(conn, "SELECT a FROM t WHERE b = 7") == [(next_value,)]


def test_an_index_for_which_a_foreign_key_stays_gives_way_to_a_constraint(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i ON t (a)")
    other.exec_driver_sql("ALTER TABLE t ADD CONSTRAINT up FOREIGN KEY (b) REFERENCES t (a)")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, unique=True), sa.Column("b", sa.Integer))
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    shape = shape_of(conn, "t")
    assert (shape.indexes, names_of(shape)) == ((), ["t_a_key", "up"])


NAMESAKES: dict[str, tuple[str, Any]] = {
    "index that the cluster mark needs": (
        "CREATE INDEX mine ON t (a); ALTER TABLE t CLUSTER ON mine",
        lambda: sa.Index("mine", "a", "b"),
    ),
    "index that the replica identity needs": (
        "CREATE UNIQUE INDEX mine ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX mine",
        lambda: sa.Index("mine", "a", "b"),
    ),
    "unique constraint that a foreign key needs": (
        "ALTER TABLE t ADD CONSTRAINT mine UNIQUE (a); CREATE TABLE k (a int REFERENCES t (a))",
        lambda: sa.UniqueConstraint("a", "b", name="mine"),
    ),
    "unique constraint that is declared DEFERRABLE": (
        "ALTER TABLE t ADD CONSTRAINT mine UNIQUE (a); CREATE TABLE k (a int REFERENCES t (a))",
        lambda: sa.UniqueConstraint("a", name="mine", deferrable=True),
    ),
    "constraint that is called as a check": (
        "ALTER TABLE t ADD CONSTRAINT mine UNIQUE (a); CREATE TABLE k (a int REFERENCES t (a))",
        lambda: sa.CheckConstraint("a > 0", name="mine"),
    ),
    "exclusion constraint": (
        "ALTER TABLE t ADD CONSTRAINT mine EXCLUDE USING btree (a WITH =)",
        lambda: sa.Index("mine", "a", "b"),
    ),
    "primary key of another name": (
        "ALTER TABLE t RENAME CONSTRAINT t_pkey TO mine",
        lambda: sa.Index("mine", "a", "b"),
    ),
}


@pytest.mark.parametrize("way", ["steps", "rebuild", "swap"])
@pytest.mark.parametrize("namesake", NAMESAKES.values(), ids=NAMESAKES.keys())
def test_what_is_new_gives_way_to_what_stays_and_has_its_name(
    conn: sa.Connection, other: sa.Connection, namesake: tuple[str, Any], way: str
) -> None:
    live, declared = namesake
    other.exec_driver_sql(
        f"CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int); INSERT INTO t VALUES (1, 2, 3); {live}"
    )
    other.exec_driver_sql("CREATE TABLE mine1 (a int)")
    before = shape_of(conn, "t")
    columns = (column("id", INTEGER, primary_key=True), column("a", INTEGER, nullable=False))
    table = sa.Table("t", sa.MetaData(), *columns, column("b", sa.Text if way == "rebuild" else INTEGER), declared())
    refresh: dict[str, Any] = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.SWAP} if way == "swap" else {}
    assert ingest_plan(conn, table.metadata, **refresh).tables[0].refused is None
    load(conn, table, [(1, 2, "3" if way == "rebuild" else 3)], **refresh)
    after = shape_of(conn, "t")
    assert set(before.parts) < set(after.parts)
    assert len(after.parts) == len(before.parts) + 1
    assert "_ingest_" not in str(names_of(after))
    assert not ingest_plan(conn, table.metadata)


def test_names_of_indexes_go_round(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int, b int); CREATE INDEX one ON t (a); CREATE INDEX two ON t (b)")
    columns = (column("a", INTEGER), column("b", INTEGER), sa.Index("one", "b"), sa.Index("two", "b", "a"))
    table = sa.Table("t", sa.MetaData(), *columns)
    load(conn, table, [])
    assert names_of(shape_of(conn, "t")) == ["two", "two1"]
    assert not ingest_plan(conn, table.metadata)


@pytest.mark.parametrize("kind", [sa.Integer, sa.Text], ids=["steps", "rebuild"])
def test_names_of_foreign_keys_go_round(conn: sa.Connection, other: sa.Connection, kind: Any) -> None:
    other.exec_driver_sql(
        """CREATE TABLE parent (id int PRIMARY KEY);
           CREATE TABLE t (a int CONSTRAINT one REFERENCES parent, b int, c int)"""
    )
    metadata = sa.MetaData()
    sa.Table("parent", metadata, column("id", INTEGER, primary_key=True))
    keys = [sa.ForeignKey("parent.id", name=name) for name in ("two", "one")]
    columns = (column("a", INTEGER, keys[0]), column("b", INTEGER, keys[1]), column("c", kind))
    table = sa.Table("t", metadata, *columns)
    ingest(conn, only(table), lambda mark: [(1, None, [])])
    assert names_of(shape_of(conn, "t")) == ["one", "one1"]
    assert not ingest_plan(conn, only(table))


def test_a_full_refresh_computes_a_column_from_another_one_than_the_one_that_goes(conn: sa.Connection) -> None:
    def table(*columns: str, computed: str) -> sa.Table:
        plain = [sa.Column(name, sa.Integer) for name in columns]
        return sa.Table("t", sa.MetaData(), *plain, sa.Column("c", sa.Integer, sa.Computed(computed, persisted=True)))

    load(conn, table("a", "b", computed="b * 2"), [(1, 2)])
    load(conn, table("a", computed="a * 3"), [(5,)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT * FROM t") == [(5, 15)]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_key_that_becomes_unique_and_nullable_is_referred_to_on(
    conn: sa.Connection, other: sa.Connection, delete: str
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES t)")
    columns = (sa.Column("a", sa.Integer, unique=True), sa.Column("b", sa.Integer, sa.ForeignKey("t.a")))
    table = sa.Table("t", sa.MetaData(), *columns)
    load(conn, table, [(1, None), (2, 1)], delete=delete)
    assert names_of(shape_of(conn, "t")) == ["t_a_key", "t_b_fkey"]
    assert not ingest_plan(conn, table.metadata)


KEPT_A = (column("id", INTEGER, primary_key=True), column("a", INTEGER))
WITHOUT_A = (column("id", INTEGER, primary_key=True),)
LEAVING: dict[str, tuple[str, Any, list[str]]] = {
    "NOT NULL that goes": (
        "ALTER TABLE t ALTER a SET NOT NULL; COMMENT ON CONSTRAINT t_a_not_null ON t IS 'gone'",
        KEPT_A,
        [],
    ),
    "NOT NULL that stays": (
        "ALTER TABLE t ALTER a SET NOT NULL; COMMENT ON CONSTRAINT t_a_not_null ON t IS 'stays'",
        (*WITHOUT_A, column("a", INTEGER, nullable=False)),
        ["stays"],
    ),
    "NOT NULL of a column that goes": (
        "ALTER TABLE t ALTER a SET NOT NULL; COMMENT ON CONSTRAINT t_a_not_null ON t IS 'gone'",
        WITHOUT_A,
        [],
    ),
    "NOT NULL of a key that goes": (
        "COMMENT ON CONSTRAINT t_id_not_null ON t IS 'gone'",
        (column("id", INTEGER), column("a", INTEGER)),
        [],
    ),
    "index that is called as a column": (
        "CREATE INDEX a ON t (b); COMMENT ON INDEX a IS 'gone'; COMMENT ON COLUMN t.a IS 'stays'",
        KEPT_A,
        ["stays"],
    ),
    "unique constraint that is called as a column": (
        """ALTER TABLE t ADD CONSTRAINT a UNIQUE (b); COMMENT ON CONSTRAINT a ON t IS 'gone';
           COMMENT ON INDEX a IS 'gone'; COMMENT ON COLUMN t.a IS 'stays'""",
        KEPT_A,
        ["stays"],
    ),
    "column that is called as a check": (
        """ALTER TABLE t ADD CONSTRAINT a CHECK (id > 0); COMMENT ON CONSTRAINT a ON t IS 'stays';
           COMMENT ON COLUMN t.a IS 'gone'; GRANT SELECT (a) ON t TO PUBLIC""",
        WITHOUT_A,
        ["stays"],
    ),
    "check that is called as a column": (
        """ALTER TABLE t ADD CONSTRAINT id CHECK (a > 0); COMMENT ON CONSTRAINT id ON t IS 'gone';
           COMMENT ON COLUMN t.id IS 'stays'""",
        WITHOUT_A,
        ["stays"],
    ),
}

COMMENTS = """
    SELECT description FROM pg_description d LEFT JOIN pg_constraint k ON k.oid = objoid
    LEFT JOIN pg_index i ON i.indexrelid = objoid
    WHERE 't'::regclass IN (objoid, k.conrelid, i.indrelid) AND NOT (objoid = 't'::regclass AND objsubid = 0)
"""


@pytest.mark.parametrize("leaving", LEAVING.values(), ids=LEAVING.keys())
def test_what_hangs_on_a_part_that_goes_does_not_hinder_a_rebuild(
    conn: sa.Connection, other: sa.Connection, leaving: tuple[str, Any, list[str]]
) -> None:
    live, columns, comments = leaving
    if "_not_null" in live and major(conn) < 18:
        pytest.skip("PostgreSQL 18 is the first that has it")
    other.exec_driver_sql(f"CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t VALUES (1, 2, 3); {live}")
    declared = [one._copy() for one in columns]
    table = sa.Table("t", sa.MetaData(), *declared, column("b", sa.Text))
    load(conn, table, [])
    assert rows_of(conn, "SELECT b FROM t") == [("3",)]
    assert [text for (text,) in rows_of(conn, COMMENTS)] == comments
    assert not ingest_plan(conn, table.metadata)


def test_an_exclusion_constraint_goes_with_a_column_of_its_expression(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int, b int, c int, EXCLUDE USING gist (int4range(a, b) WITH &&))")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("c", sa.BigInteger))
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert names_of(shape_of(conn, "t")) == []


def test_a_full_refresh_without_an_identity_leaves_its_sequence(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int GENERATED BY DEFAULT AS IDENTITY, b int)")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Float), sa.Column("b", sa.Integer, primary_key=True))
    load(conn, table, [(number / 2, number) for number in range(1000)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT max(a) FROM t") == [(499.5,)]


OTHER_STATISTICS = {
    "none": ("", '("c")'),
    "of an expression": ("CREATE INDEX ON t (lower(b))", ""),
    "of several columns": ("CREATE STATISTICS both_of (dependencies) ON a, b FROM t", ""),
}


@pytest.mark.parametrize("other_statistics", OTHER_STATISTICS.values(), ids=OTHER_STATISTICS.keys())
def test_a_rebuild_has_statistics_of_all_columns_and_gathers_only_those_that_it_has_to(
    conn: sa.Connection, other: sa.Connection, other_statistics: tuple[str, str]
) -> None:
    makes, gathered = other_statistics
    other.exec_driver_sql(
        f"CREATE TABLE t (gone int, a int, b text, c int GENERATED ALWAYS AS (7) STORED); {makes};"
        "INSERT INTO t SELECT 1, n, mod(n, 7) FROM generate_series(1, 1000) n; ANALYZE t"
    )
    columns = """
        SELECT attname::text, n_distinct, most_common_vals::text, histogram_bounds::text, avg_width
        FROM pg_stats WHERE tablename = 't' AND attname <> 'gone' ORDER BY 1
    """
    before = rows_of(conn, columns)
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("a", sa.BigInteger),
        sa.Column("b", sa.Text),
        sa.Column("c", sa.Integer, sa.Computed("7", persisted=True)),
    )
    if "lower" in makes:
        sa.Index("t_lower_idx", sa.func.lower(table.c.b))
    sent = statements_of(conn)
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    a, *others = before
    assert rows_of(conn, columns) == [(*a[:-1], 8), *others]
    assert rows_of(conn, "SELECT reltuples FROM pg_class WHERE relname = 't'") == [(1000,)]
    if major(conn) >= 18:
        assert [one.partition('" ')[2] for one in sent if one.startswith("ANALYZE")] == [gathered]


def test_a_rebuild_of_an_indexed_table_with_wider_types_gathers_no_statistics(
    conn: sa.Connection, other: sa.Connection
) -> None:
    if major(conn) < 18:
        pytest.skip("PostgreSQL 18 is the first to which statistics can be given")
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)")
    other.exec_driver_sql("ANALYZE t")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.BigInteger, primary_key=True, autoincrement=False))
    sent = statements_of(conn)
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert not [one for one in sent if one.startswith("ANALYZE")]
    assert rows_of(conn, "SELECT reltuples FROM pg_class WHERE relname = 't'") == [(1000,)]
    assert rows_of(conn, "SELECT n_distinct, correlation FROM pg_stats WHERE tablename = 't'") == [(-1, 1)]


def test_columns_that_were_dropped_leave_room_for_new_ones(conn: sa.Connection, other: sa.Connection) -> None:
    table = people()
    load(conn, table, [(1, "a", 2)])
    for change in ("ADD COLUMN c{} int", "DROP COLUMN c{}"):
        other.exec_driver_sql(f"ALTER TABLE people {', '.join(change.format(number) for number in range(1597))}")
    load(conn, people(sa.Column("note", sa.Text)), [(2, "b", 3, "new")], mark=2)
    assert rows_of(conn) == [(1, "a", 2, None), (2, "b", 3, "new")]


def test_writers_are_held_off_before_the_rows_of_a_rebuild_are_checked(
    conn: sa.Connection, other: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a numeric); INSERT INTO t VALUES (1.25); SET lock_timeout = '50ms'")
    found = trials.lossy

    def write_afterwards(*arguments: Any) -> str | None:
        lossy = found(*arguments)
        with pytest.raises(sa.exc.DBAPIError, match="lock timeout"):
            other.exec_driver_sql("INSERT INTO t VALUES (1.239)")
        return lossy

    monkeypatch.setattr(trials, "lossy", write_afterwards)
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Numeric(10, 2)))
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert rows_of(conn, "SELECT a::text FROM t") == [("1.25",)]


def test_a_run_that_fails_takes_back_its_own_steps_and_no_other_runs(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    theirs = "_ingest_step0_0123456789abcdef0123"
    add = f"ALTER TABLE t ADD CONSTRAINT {theirs} CHECK (a > 0) NOT VALID"

    @sa.event.listens_for(conn, "before_cursor_execute")
    def fail(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "VALIDATE" in statement:
            other.exec_driver_sql(add)
            raise RuntimeError("killed")

    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, nullable=False))
    with pytest.raises(RuntimeError, match="killed"):
        load(conn, table, [])
    assert rows_of(conn, "SELECT conname::text FROM pg_constraint WHERE conrelid = 't'::regclass") == [(theirs,)]
    sa.event.remove(conn, "before_cursor_execute", fail)
    load(conn, table, [])
    assert rows_of(conn, "SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conname ~ '_ingest_'") == [(0,)]


EXTREMES = {
    "smallint": ("-32768", "0", "32767"),
    "integer": ("-2147483648", "16777217", "2147483647"),
    "bigint": ("-9223372036854775808", "9007199254740993", "9223372036854775807"),
    "real": ("-Infinity", "NaN", "1e-45", "0.1", "-0", "3.4028235e38"),
}


@pytest.mark.parametrize(
    ("before", "after"), [(one, other) for one, others in widening.WIDER.items() for other in others]
)
def test_types_whose_rows_are_not_looked_at_hold_every_value(conn: sa.Connection, before: str, after: str) -> None:
    listed = ", ".join(f"('{value}'::{before})" for value in EXTREMES[before])
    with conn.begin():
        conn.exec_driver_sql(f"CREATE TABLE t (a) AS VALUES {listed}")
    (column,) = shape_of(conn, "t").columns
    assert widening.holds_all(column.type, after)
    with conn.begin():
        assert trials.lossy(conn, Name("public", "t"), column, replace(column, type=after)) is None


def test_without_batches_nothing_changes(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int)")
    live = shape_of(conn, "t")
    table = sa.Table("t", sa.MetaData(), sa.Column("b", sa.Text))
    ingest(conn, table.metadata, lambda mark: [])
    assert shape_of(conn, "t") == live


def test_what_people_added_stays(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql(
        """
        CREATE TABLE parent (id int PRIMARY KEY);
        CREATE TABLE t (a int CONSTRAINT positive CHECK (a > 0) DEFAULT 5, b int REFERENCES parent);
        COMMENT ON COLUMN t.a IS 'a comment';
        """
    )
    live = shape_of(conn, "t")
    for kind in (sa.Integer, sa.BigInteger):  # in place, then by a rebuild
        table = sa.Table("t", sa.MetaData(), sa.Column("a", kind), sa.Column("b", sa.Integer), sa.Column("c", sa.Text))
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])
        now = shape_of(conn, "t")
        assert (now.constraints, now.foreign_keys) == (live.constraints, live.foreign_keys)
        assert (now.columns[0].default, now.columns[0].comment) == ("5", "a comment")


def test_enum_labels_are_added_in_their_order(conn: sa.Connection) -> None:
    def run(*labels: str) -> tuple[str, ...]:
        table = sa.Table("t", sa.MetaData(), sa.Column("mood", sa.Enum(*labels, name="mood")))
        return ingest(conn, table.metadata, lambda mark: [(1, None, [(table, (labels[0],))])]).tables[0].migration

    run("b", "d")
    assert run("a", "b", "c", "d", "e") == ("mood: added 'a', 'c', 'e'",)
    assert rows_of(conn, "SELECT unnest(enum_range(NULL::mood))::text") == [(label,) for label in "abcde"]
    assert run("a", "b", "c", "d", "e") == ()


def test_labels_are_not_added_when_the_migration_is_refused(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE t (a mood); INSERT INTO t VALUES (NULL)")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Enum("ok", "sad", name="mood"), nullable=False))
    with pytest.raises(DefinitionError, match="1 rows hold NULL"):
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert rows_of(conn, "SELECT enum_range(NULL::mood)::text") == [("{ok}",)]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("INSERT INTO t VALUES ('ok')", "1 rows hold a label that mood no longer has"),
        ("CREATE TABLE another (b mood[])", r"used by column b of table another too"),
        ("CREATE VIEW v AS SELECT a FROM t", r"used by .*view v"),
    ],
)
def test_a_label_that_is_used_is_not_taken_away(
    conn: sa.Connection, other: sa.Connection, more: str, problem: str
) -> None:
    other.exec_driver_sql("CREATE TYPE mood AS ENUM ('ok', 'sad'); CREATE TABLE t (a mood)")
    other.exec_driver_sql(more)
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Enum("sad", name="mood")))
    with pytest.raises(DefinitionError, match=problem):
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert rows_of(conn, "SELECT enum_range(NULL::mood)::text") == [("{ok,sad}",)]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_safe_refuses_to_drop_a_column_only_if_it_holds_values(
    conn: sa.Connection, other: sa.Connection, delete: str
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int, b text, c text); INSERT INTO t VALUES (1, NULL, 'x')")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("c", sa.Text))
    ingest(conn, table.metadata, lambda mark: [(1, None, [])], migrate=Migrate.SAFE)
    fewer = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    with pytest.raises(
        DefinitionError, match=r"c would be dropped with values, and migrate is 'safe'(?s:.*)c: dropped"
    ):
        ingest(conn, fewer.metadata, lambda mark: [(1, None, [])], migrate=Migrate.SAFE, delete=delete)
    assert rows_of(conn, "SELECT c FROM t") == [("x",)]
    ingest(conn, fewer.metadata, lambda mark: [(1, None, [])], delete=delete)


def test_off_refuses_every_difference_with_the_plan(conn: sa.Connection, other: sa.Connection) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, index=True))

    def run() -> None:
        ingest(conn, table.metadata, lambda mark: [(1, None, [(table, (1,))])], migrate=Migrate.OFF)

    with pytest.raises(DefinitionError, match=r"there is no table public\.t, and migrate is 'off'"):
        run()
    other.exec_driver_sql("CREATE TABLE t (a int)")
    with pytest.raises(DefinitionError, match=r"migrate is 'off'(?s:.*)added index USING btree \(a\)"):
        run()
    other.exec_driver_sql("CREATE INDEX ON t (a)")
    run()
    assert rows_of(conn, "SELECT a FROM t") == [(1,)]


@pytest.mark.parametrize("key", ["nmae", "Name", "other.name", "public.people.nmae"])
def test_a_conversion_of_no_declared_column_is_refused_before_its_source_is_dropped(
    conn: sa.Connection, other: sa.Connection, key: str
) -> None:
    other.exec_driver_sql("CREATE TABLE people (id int PRIMARY KEY, old_name text, age int)")
    other.exec_driver_sql("INSERT INTO people VALUES (1, 'a', 2)")
    for run in (ingest_plan, functools.partial(ingest, batches=lambda mark: [(1, None, [])])):
        with pytest.raises(
            DefinitionError, match=rf"names '{key}', .* one of public\.people\.id, public\.people\.name"
        ):
            run(conn, people().metadata, conversions={key: "old_name"})
    assert rows_of(conn) == [(1, "a", 2)]


@pytest.mark.parametrize("conversion", ["nowhere", "nowhere(age)", "age +", "point(1, 1)"])
def test_a_conversion_that_is_no_expression_over_the_table_is_shown(
    conn: sa.Connection, other: sa.Connection, conversion: str
) -> None:
    load(conn, people(), [(1, "a", 2)])
    with pytest.raises(DefinitionError, match=rf"conversions={{'age': '{re.escape(conversion)}'}}: .*expected SQL"):
        load(conn, people(age=sa.BigInteger), [(2, "b", 3)], conversions={"age": conversion})
    assert rows_of(conn) == [(1, "a", 2)]


@pytest.mark.parametrize(
    ("kind", "more", "options"),
    [
        (sa.Integer, None, {"conversions": {"a": "a::int"}}),
        (sa.Date, None, {"conversions": {"a": "a::date"}}),
        (sa.Text, lambda: sa.Index("i", sa.text("(a::int)")), {}),
        (sa.Text, lambda: sa.CheckConstraint("a::int > 0"), {}),
    ],
    ids=["conversion", "date", "index", "check"],
)
def test_a_value_that_hinders_a_migration_is_not_told(
    conn: sa.Connection, other: sa.Connection, kind: Any, more: Any, options: Any
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a text)")
    other.exec_driver_sql("INSERT INTO t VALUES ('s3cret')")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", kind), *([more()] if more else []))
    with pytest.raises(DefinitionError, match="SQLSTATE 22") as raised:
        ingest(conn, table.metadata, lambda mark: [(1, None, [])], **options)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_a_conversion_that_fails_is_refused(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE t (a text); INSERT INTO t VALUES ('secret')")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    with pytest.raises(DefinitionError, match="rows that are stored do not satisfy the definition"):
        ingest(conn, table.metadata, lambda mark: [(1, None, [])], conversions={"a": "a::int"})
    assert rows_of(conn, "SELECT a FROM t") == [("secret",)]


def test_a_partitioned_table_stays_one(conn: sa.Connection, other: sa.Connection) -> None:
    def declared(*more: Any, kind: Any = sa.Integer) -> sa.Table:
        return sa.Table(
            "t",
            sa.MetaData(),
            sa.Column("a", sa.Integer, primary_key=True),
            sa.Column("b", kind),
            *more,
            postgresql_partition_by="RANGE (a)",
        )

    ingest(conn, declared().metadata, lambda mark: [])
    other.exec_driver_sql("CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (5); INSERT INTO t VALUES (1, 1)")
    other.exec_driver_sql("CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (5) TO (9)")
    more = declared(sa.Column("c", sa.Text, index=True), sa.CheckConstraint("b > 0", name="positive"))
    rows = [(more, (1, 2, "x")), (more, (7, 3, "y"))]
    result = ingest(conn, more.metadata, lambda mark: [(1, None, rows)])
    assert len(result.tables[0].migration) == 3
    assert rows_of(conn, "SELECT tableoid::regclass::text, * FROM t ORDER BY a") == [
        ("t1", 1, 2, "x"),
        ("t2", 7, 3, "y"),
    ]
    assert (result.tables[0].inserted, result.tables[0].updated) == (1, 1)
    assert ingest(conn, more.metadata, lambda mark: [(1, None, [])]).tables[0].migration == ()
    fresh = [(more, (8, 1, "z"))]
    ingest(conn, more.metadata, lambda mark: [(1, None, fresh)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT * FROM t") == [(8, 1, "z")]
    with pytest.raises(DefinitionError, match="partitioned"):
        ingest(conn, declared(kind=sa.BigInteger).metadata, lambda mark: [(1, None, fresh)])
    assert rows_of(conn, "SELECT * FROM t") == [(8, 1, "z")]


def test_the_plan_is_for_people(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql(
        "CREATE TABLE t (a bigint, b text, CONSTRAINT positive CHECK (a > 0)); CREATE VIEW v AS SELECT a FROM t;"
        "GRANT SELECT ON t TO PUBLIC"
    )
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("b", sa.Text, index=True))
    assert str(ingest_plan(conn, table.metadata)) == (
        "public.t: rebuild and swap\n"
        "  difference                   by       lock   who waits\n"
        "  a: bigint -> integer         rebuild  SHARE  writers, for the copy; all, for the swap's milliseconds\n"
        "  added index USING btree (b)  rebuild  SHARE  writers, for the copy; all, for the swap's milliseconds\n"
        "  rewrites the table and its indexes, about 8192 bytes\n"
        "  carries over: view public.v\n"
        "  carries over: 1 x grant\n"
        "  keeps: positive CHECK ((a > 0)), which is not declared\n"
        "  risk: refused if a value of a would change as integer"
    )
    only_b = sa.Table("t", sa.MetaData(), sa.Column("b", sa.Text))
    assert "  refused: public.t: column 'a' is no longer declared, but is used by" in str(
        ingest_plan(conn, only_b.metadata)
    )
    missing = sa.Table("missing", sa.MetaData(), sa.Column("b", sa.Text))
    assert str(ingest_plan(conn, missing.metadata)) == "public.missing: create"


def test_the_plan_of_a_table_in_a_schema_that_is_missing_leaves_nothing(
    conn: sa.Connection, other: sa.Connection
) -> None:
    metadata = sa.MetaData(schema="elsewhere")
    mood = sa.Enum("sad", "happy", name="mood", metadata=metadata)
    first = sa.Table("first", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("mood", mood))
    sa.Table("second", metadata, sa.Column("first", sa.ForeignKey(first.c.id)), sa.Column("mood", mood))
    assert str(ingest_plan(conn, metadata)) == "elsewhere.first: create\nelsewhere.second: create"
    assert not sa.inspect(other).has_schema("elsewhere")
    ingest(conn, metadata, lambda mark: [(None, None, [(first, (1, "sad"))])])
    assert not ingest_plan(conn, metadata)
    other.exec_driver_sql("DROP SCHEMA elsewhere CASCADE")


def test_the_plan_of_a_refresh_says_what_the_new_table_costs(conn: sa.Connection, other: sa.Connection) -> None:
    """No old row is read for it: none stands against a type or NOT NULL, and no lock is held while rows are loaded."""
    other.exec_driver_sql("CREATE TABLE t (a text, gone text); INSERT INTO t VALUES ('abc', 'x'), (NULL, 'y')")
    needed = sa.Column("b", sa.Integer, nullable=False)
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, nullable=False, index=True), needed)
    swap = "new table    none before the swap  all, for the swap's milliseconds"
    plan = ingest_plan(conn, table.metadata, delete=Delete.BEFORE_FIRST_BATCH)
    assert str(plan) == (
        "public.t: with the new rows\n"
        "  difference                            by           lock                  who waits\n"
        "  gone: dropped, with any values in it  DROP COLUMN  ACCESS EXCLUSIVE      all, for milliseconds\n"
        f"  a: text -> integer                    {swap}\n"
        f"  a: NOT NULL                           {swap}\n"
        f"  b: added as integer                   {swap}\n"
        f"  added index USING btree (a)           {swap}\n"
        "  rows: replaced by a new table that takes the old one's place (nothing stands against it)"
    )
    load(conn, table, [(1, 2)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT * FROM t") == [(1, 2)]


@pytest.mark.parametrize(
    ("conversion", "refusal"),
    [
        ("nowhere", 'column "nowhere" does not exist'),
        ("max(DATE '2026-11-24')", "make 1 rows of 2: expected SQL expressions that give one value for each row"),
        ("unnest(ARRAY[DATE '2026-11-24', DATE '2026-11-25'])", "make 4 rows of 2"),
        ("1; DROP TABLE t", "syntax error"),
        ("to_date(day, 'DD.MM.YYYY')", "rows that are stored do not satisfy the definition"),
        ("to_date(nullif(day, 'never'), 'DD.MM.YYYY')", None),
    ],
)
def test_the_plan_says_whether_a_conversion_can_be(
    conn: sa.Connection, other: sa.Connection, conversion: str, refusal: str | None
) -> None:
    other.exec_driver_sql("CREATE TABLE t (day text); INSERT INTO t VALUES ('24.11.2026'), ('never')")
    table = sa.Table("t", sa.MetaData(), sa.Column("day", sa.Date))
    options: Any = {"conversions": {"day": conversion}}
    (plan,) = ingest_plan(conn, table.metadata, **options).tables
    assert (refusal or "") in (plan.refused or "")
    assert bool(plan.refused) == bool(refusal)
    assert rows_of(conn, "SELECT count(*) FROM t WHERE pg_typeof(day)::text = 'text'") == [(2,)]
    with nullcontext() if refusal is None else pytest.raises(DefinitionError, match=re.escape(refusal)):
        load(conn, table, [], **options)


DOMAINS = """
    CREATE DOMAIN whole AS integer; CREATE DOMAIN positive AS whole CHECK (value > 0);
    CREATE DOMAIN small AS positive CHECK (value < 100);
    CREATE DOMAIN word AS varchar(9); CREATE DOMAIN short AS word CHECK (length(value) < 5);
"""

OVER_DOMAINS: dict[str, tuple[str, Any, str, Any]] = {
    "to a wider type": ("small", sa.BigInteger(), "7", 7),
    "to the type below all": ("small", sa.Integer(), "7", 7),
    "to text": ("short", sa.Text(), "'abc'", "abc"),
    "to the domain below": ("small", postgresql.DOMAIN("whole", sa.Integer, create_type=False), "7", 7),
    "to the one on top": ("bigint", postgresql.DOMAIN("small", sa.Integer, create_type=False), "7", 7),
    "to another one": ("whole", postgresql.DOMAIN("small", sa.Integer, create_type=False), "7", 7),
}


@pytest.mark.parametrize(("before", "after", "given", "stored"), OVER_DOMAINS.values(), ids=OVER_DOMAINS.keys())
def test_a_domain_over_a_domain_is_migrated(
    conn: sa.Connection, other: sa.Connection, before: str, after: Any, given: str, stored: Any
) -> None:
    other.exec_driver_sql(DOMAINS)
    other.exec_driver_sql(f"CREATE TABLE t (a {before}, b int); INSERT INTO t VALUES ({given}, 1), (NULL, 2)")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", after), sa.Column("b", sa.Integer))
    assert len(ingest(conn, table.metadata, lambda mark: [(1, None, [])]).tables[0].migration) == 1
    with conn.begin():
        assert conn.execute(sa.select(table).order_by(table.c.b)).all() == [(stored, 1), (None, 2)]
    assert not ingest_plan(conn, table.metadata)


@pytest.mark.parametrize("before", ["small[]", "whole[]"])
def test_an_array_of_a_domain_is_migrated(conn: sa.Connection, other: sa.Connection, before: str) -> None:
    other.exec_driver_sql(DOMAINS)
    other.exec_driver_sql(f"CREATE TABLE t (a {before}); INSERT INTO t VALUES ('{{7,8}}')")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.ARRAY(sa.BigInteger)))
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert rows_of(conn, "SELECT * FROM t") == [([7, 8],)]


def test_a_value_that_a_domain_over_a_domain_refuses_is_told_before_the_load(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql(DOMAINS)
    other.exec_driver_sql("CREATE TABLE t (a bigint); INSERT INTO t VALUES (7), (-424242), (500)")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", postgresql.DOMAIN("small", sa.Integer, create_type=False)))
    with pytest.raises(DefinitionError, match="column 'a'") as refused:
        ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert "424242" not in "".join(traceback.format_exception(refused.value))
    assert rows_of(conn, "SELECT a, pg_typeof(a)::text FROM t ORDER BY a DESC") == [
        (500, "bigint"),
        (7, "bigint"),
        (-424242, "bigint"),
    ]


@pytest.mark.parametrize("kind", ["mood", "mood[]"])
def test_a_label_is_not_added_to_a_type_that_is_made_anew_when_the_rebuild_fails(
    conn: sa.Connection, other: sa.Connection, kind: str
) -> None:
    other.exec_driver_sql(f"CREATE TYPE mood AS ENUM ('ok', 'sad'); CREATE TABLE t (a {kind}, b int)")
    other.exec_driver_sql("INSERT INTO t VALUES (NULL, 1)")
    mood: Any = sa.Enum("sad", "new", "ok", name="mood")

    def declared(least: int) -> sa.Table:
        limit = sa.CheckConstraint(f"b > {least}", name="least")
        column = sa.Column("a", sa.ARRAY(mood) if "[" in kind else mood)
        return sa.Table("t", sa.MetaData(), column, sa.Column("b", sa.Integer), limit)

    with pytest.raises(DefinitionError, match="least"):
        ingest(conn, declared(1).metadata, lambda mark: [(1, None, [])])
    assert rows_of(conn, "SELECT enum_range(NULL::mood)::text") == [("{ok,sad}",)]
    ingest(conn, declared(0).metadata, lambda mark: [(1, None, [])])
    assert rows_of(conn, "SELECT enum_range(NULL::mood)::text") == [("{sad,new,ok}",)]


@pytest.mark.parametrize("prefix", ["", "t.", "public.t."])
def test_a_column_with_a_dot_is_converted(conn: sa.Connection, other: sa.Connection, prefix: str) -> None:
    other.exec_driver_sql("""CREATE TABLE t ("day.raw" text, day text); INSERT INTO t VALUES ('24.12.2025', 'x')""")
    table = sa.Table(
        "t", sa.MetaData(), sa.Column("day.raw", sa.Date), sa.Column("day", sa.Text), sa.Column("t.day", sa.Text)
    )
    ingest(
        conn,
        table.metadata,
        lambda mark: [(1, None, [])],
        conversions={f"{prefix}day.raw": "to_date(\"day.raw\", 'DD.MM.YYYY')", f"{prefix}t.day": "upper(day)"},
    )
    assert rows_of(conn, "SELECT * FROM t") == [(date(2025, 12, 24), "x", "X")]
    assert not ingest_plan(conn, table.metadata)


A_PARTITION = """
    CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
    CREATE TABLE whole (id int, p int REFERENCES parent, v varchar(5) NOT NULL, PRIMARY KEY (id), UNIQUE (id, p))
        PARTITION BY RANGE (id);
    CREATE INDEX by_v ON whole (v);
    CREATE TABLE t PARTITION OF whole FOR VALUES FROM (0) TO (100);
    INSERT INTO t VALUES (1, 1, 'x')
"""
OF_PARTITION = {
    "id": column("id", INTEGER, primary_key=True, autoincrement=False),
    "p": column("p", INTEGER, sa.ForeignKey("parent.id")),
    "v": column("v", sa.String(5), nullable=False),
}


def a_partition(*more: Any, **columns: Any) -> sa.Table:
    """The partition as it is declared, with some columns otherwise, or None."""
    those = [one for one in (OF_PARTITION | columns).values() if one is not None]
    return declared_table(Case("", (*those, *more), "", (), (), Action.NOTHING))


def test_a_partition_keeps_what_comes_with_its_parent(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql(A_PARTITION)
    before = names_of(shape_of(conn, "t"))
    table = a_partition()
    (result,) = ingest(conn, only(table), lambda mark: [(1, None, [(table, (1, 1, "y"))])]).tables
    assert (result.migration, result.inserted, result.updated) == ((), 0, 1)
    indexed = a_partition(lambda: sa.Index("by_p", "p"))
    (result,) = ingest(conn, only(indexed), lambda mark: [(1, None, [])]).tables
    assert result.migration == ("added index USING btree (p)",)
    assert {*names_of(shape_of(conn, "t"))} == {*before, "by_p"}
    assert not ingest_plan(conn, only(indexed))
    assert "keeps: index t_v_idx, which is not declared: it is part of index by_v" in str(
        ingest_plan(conn, only(a_partition()))
    )


@pytest.mark.parametrize(
    ("more", "columns", "problem"),
    [
        ([column("n", INTEGER)], {}, "n: added as integer: .* its parent whole has the columns"),
        ([], {"v": None}, "v: dropped, with any values in it: .* its parent whole has the column"),
        ([], {"v": column("v", sa.Text, nullable=False)}, r"v: .* -> text: .* its parent whole has the column"),
        ([], {"v": column("v", sa.String(5))}, "v: NULL allowed: .* its parent whole has it NOT NULL"),
        ([], {"id": column("id", INTEGER, nullable=False)}, "dropped t_pkey: .* its parent whole has the constraint"),
        (
            [],
            {"p": column("p", INTEGER, sa.ForeignKey("parent.id", name="whole_p_fkey", ondelete="CASCADE"))},
            "dropped whole_p_fkey: .* its parent whole has the constraint",
        ),
    ],
)
def test_what_only_its_parent_can_change_of_a_partition_is_refused(
    conn: sa.Connection, other: sa.Connection, more: Any, columns: Any, problem: str
) -> None:
    other.exec_driver_sql(A_PARTITION)
    refused_as_planned(conn, only(a_partition(*more, **columns)), problem)


def refused_as_planned(conn: sa.Connection, metadata: sa.MetaData, problem: str) -> None:
    """The plan says so, the run raises it, and nothing has changed."""
    before = everything(conn)
    (plan,) = (one for one in ingest_plan(conn, metadata).tables if one.differences)
    assert re.search(problem, plan.refused or "the plan is not refused")
    with pytest.raises(DefinitionError, match=problem) as raised:
        ingest(conn, metadata, lambda mark: [(1, None, [])])
    assert "_ingest_" not in str(raised.value)
    assert everything(conn) == before
    assert is_usable(conn)


FIXED = {
    "column of a heir": (
        "CREATE TABLE a_parent (b int); CREATE TABLE t (a int) INHERITS (a_parent)",
        [column("a", INTEGER)],
        "b: dropped, .* its parent a_parent has the column",
    ),
    "check of a heir": (
        "CREATE TABLE a_parent (b int CONSTRAINT c CHECK (b > 0)); CREATE TABLE t () INHERITS (a_parent)",
        [column("b", INTEGER), lambda: sa.CheckConstraint("b > 5", name="c")],
        "dropped c: .* its parent a_parent has the constraint",
    ),
    "column of a typed table": (
        "CREATE TYPE kind AS (a int, b int); CREATE TABLE t OF kind",
        [column("a", INTEGER)],
        "b: dropped, .* its type kind has the column",
    ),
    "new column of a typed table": (
        "CREATE TYPE kind AS (a int); CREATE TABLE t OF kind",
        [column("a", INTEGER), column("b", INTEGER)],
        "b: added as integer: .* its type kind has the columns",
    ),
    "dropped partition key": (
        "CREATE TABLE t (a int, b int) PARTITION BY LIST (b); CREATE TABLE t1 PARTITION OF t DEFAULT",
        [column("a", INTEGER)],
        r"b: dropped, .* it is in the partition key, LIST \(b\)",
    ),
    "widened partition key": (
        "CREATE TABLE t (a varchar(5)) PARTITION BY LIST (lower(a)); CREATE TABLE t1 PARTITION OF t DEFAULT",
        [column("a", sa.Text)],
        r"a: character varying\(5\) -> text: .* it is in the partition key, LIST \(lower",
    ),
    "key beside the partition key": (
        "CREATE TABLE t (a int, b int) PARTITION BY LIST (b); CREATE TABLE t1 PARTITION OF t DEFAULT",
        [column("a", INTEGER, primary_key=True, autoincrement=False), column("b", INTEGER)],
        r"added PRIMARY KEY \(a\): .* lacks the column 'b' of the partition key",
    ),
    "unique index beside the partition key": (
        "CREATE TABLE t (a int, b int) PARTITION BY LIST (b); CREATE TABLE t1 PARTITION OF t DEFAULT",
        [column("a", INTEGER), column("b", INTEGER), lambda: sa.Index("i", "a", unique=True)],
        r"added unique index .* lacks the column 'b' of the partition key",
    ),
    "nullable replica identity": (
        """CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX i ON t (a);
           ALTER TABLE t REPLICA IDENTITY USING INDEX i""",
        [column("a", INTEGER)],
        "a: NULL allowed: .* index i of its replica identity has it",
    ),
}


@pytest.mark.parametrize("fixed", FIXED.values(), ids=FIXED.keys())
def test_what_something_else_decides_is_refused_before_anything_is_done(
    conn: sa.Connection, other: sa.Connection, fixed: Any
) -> None:
    live, columns, problem = fixed
    other.exec_driver_sql(live)
    table = declared_table(Case("", tuple(columns), "", (), (), Action.NOTHING))
    refused_as_planned(conn, only(table), problem)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_typed_table_stays_one(conn: sa.Connection, other: sa.Connection, rebuilt: bool) -> None:
    other.exec_driver_sql("CREATE TYPE kind AS (a int, b int); CREATE TABLE t OF kind (PRIMARY KEY (a))")
    b = column("b", INTEGER, sa.Identity() if rebuilt else sa.FetchedValue())
    table = sa.Table("t", sa.MetaData(), column("a", INTEGER, primary_key=True, autoincrement=False), b)
    if rebuilt:
        with pytest.raises(DefinitionError, match="because of type kind, of which it is a table"):
            load(conn, table, [(1, 1)])
    else:
        load(conn, table, [(1, 1)], delete=Delete.BEFORE_FIRST_BATCH)
        assert rows_of(conn, "SELECT * FROM t") == [(1, 1)]
    assert rows_of(conn, "SELECT reloftype::regtype::text FROM pg_class WHERE oid = 't'::regclass") == [("kind",)]


UNFIT = {
    "check": ("ALTER TABLE t ADD CONSTRAINT mine CHECK (n > 5)", r"mine CHECK \(\(n > 5\)\)"),
    "exclusion": ("ALTER TABLE t ADD CONSTRAINT mine EXCLUDE USING gist (int4range(n, n) WITH &&)", "mine EXCLUDE"),
    "index that the cluster mark needs": (
        "CREATE INDEX mine ON t ((n + 1)); ALTER TABLE t CLUSTER ON mine",
        "index mine",
    ),
    "policy": ("CREATE POLICY mine ON t USING (n > 5)", "CREATE POLICY mine"),
    "trigger": (
        """CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
           CREATE TRIGGER mine BEFORE UPDATE ON t FOR EACH ROW WHEN (new.n > 5) EXECUTE FUNCTION f()""",
        "CREATE TRIGGER mine",
    ),
    "rule": ("CREATE RULE mine AS ON DELETE TO t WHERE old.n > 5 DO ALSO SELECT 1", "CREATE RULE mine"),
    "statistics": ("CREATE STATISTICS mine ON (n + 1), id FROM t", "extended statistics public.mine"),
    "view": ("CREATE VIEW mine AS SELECT n + 1 AS m FROM t", "view public.mine"),
    "view of another schema": ("CREATE SCHEMA s; CREATE VIEW s.t AS SELECT n + 1 AS m FROM t", "view s.t"),
    "view over a view": (
        "CREATE VIEW v AS SELECT n FROM t; CREATE VIEW mine AS SELECT m.n + 1 AS m FROM v m",
        "view public.mine",
    ),
    "materialized view": ("CREATE MATERIALIZED VIEW mine AS SELECT n + 1 AS m FROM t", "materialized view public.mine"),
}


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT.keys())
def test_what_does_not_fit_a_new_type_is_refused_by_name_before_anything_is_loaded(
    conn: sa.Connection, other: sa.Connection, unfit: Any, delete: str
) -> None:
    more, problem = unfit
    other.exec_driver_sql(f"CREATE TABLE t (id int, n int); INSERT INTO t VALUES (1, 9); {more}")
    table = sa.Table("t", sa.MetaData(), column("id", INTEGER), column("n", sa.Text))
    before = everything(conn)
    problem = f"{problem}.* does not fit"
    (plan,) = ingest_plan(conn, table.metadata, delete=delete).tables
    assert re.search(problem, plan.refused or "it is not")
    with pytest.raises(DefinitionError, match=problem) as raised:
        load(conn, table, [(1, "x")], delete=delete)
    assert "_ingest_" not in str(raised.value)
    assert everything(conn) == before


UNSORTED = {
    "statistics": ("CREATE STATISTICS mine ON n, id FROM t", "extended statistics public.mine does not fit"),
    "statistics of a materialized view": (
        "CREATE MATERIALIZED VIEW m AS SELECT id, n FROM t; CREATE STATISTICS mine ON n, id FROM m",
        "extended statistics public.mine of materialized view public.m does not fit",
    ),
    "second index of a materialized view": (
        "CREATE MATERIALIZED VIEW m AS SELECT id, n FROM t; CREATE INDEX i ON m (id); CREATE INDEX mine ON m (n)",
        "index mine of materialized view public.m does not fit",
    ),
}


@pytest.mark.parametrize("unsorted", UNSORTED.values(), ids=UNSORTED.keys())
def test_what_needs_an_order_that_a_new_type_lacks_is_refused_by_name(
    conn: sa.Connection, other: sa.Connection, unsorted: tuple[str, str]
) -> None:
    more, problem = unsorted
    other.exec_driver_sql(f"CREATE TABLE t (id int, n jsonb); {more}")
    table = sa.Table("t", sa.MetaData(), column("id", INTEGER), column("n", sa.JSON))
    refused_as_planned(conn, table.metadata, problem)


MINE = "ALTER TABLE t ADD CONSTRAINT mine"
UNCOMPUTED = {
    "statistics": ("CREATE STATISTICS mine ON id, n FROM t", False),
    "exclusion": (f"{MINE} EXCLUDE USING btree (n WITH =)", False),
    "index that the cluster mark needs": ("CREATE INDEX mine ON t (n); ALTER TABLE t CLUSTER ON mine", False),
    "unique that a foreign key needs": (f"{MINE} UNIQUE (n); CREATE TABLE child (n int REFERENCES t (n))", False),
    "foreign key": (f"{MINE} FOREIGN KEY (n) REFERENCES parent", False),
    "foreign key that is set to NULL": (f"{MINE} FOREIGN KEY (n) REFERENCES parent ON DELETE SET NULL", True),
    "foreign key that is updated": (f"{MINE} FOREIGN KEY (n) REFERENCES parent ON UPDATE CASCADE", True),
    "foreign key to the table": (f"{MINE} FOREIGN KEY (n) REFERENCES t ON UPDATE CASCADE", True),
}


@pytest.mark.parametrize("uncomputed", UNCOMPUTED.values(), ids=UNCOMPUTED.keys())
def test_what_a_computed_column_cannot_have_is_refused_by_name(
    conn: sa.Connection, other: sa.Connection, uncomputed: tuple[str, bool]
) -> None:
    more, stored = uncomputed
    if not stored and major(conn) < 18:
        pytest.skip("PostgreSQL 18 is the first that has virtual columns")
    other.exec_driver_sql(
        f"CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, n int); {more}"
    )
    n = column("n", INTEGER, sa.Computed("id * 2", persisted=stored))
    table = sa.Table("t", sa.MetaData(), column("id", INTEGER, primary_key=True), n)
    refused_as_planned(conn, table.metadata, "mine .*does not fit")


def test_a_foreign_key_without_actions_stays_on_a_column_that_becomes_computed(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE t (id int PRIMARY KEY, n int REFERENCES t); INSERT INTO t VALUES (1, 1)")
    n = column("n", INTEGER, sa.Computed("id * 1", persisted=True))
    table = sa.Table("t", sa.MetaData(), column("id", INTEGER, primary_key=True), n)
    load(conn, table, [(2,)])
    assert rows_of(conn, "SELECT * FROM t") == [(1, 1), (2, 2)]
    assert names_of(shape_of(conn, "t")) == ["t_pkey", "t_n_fkey"]


def test_a_virtual_column_has_no_statistics_target(conn: sa.Connection, other: sa.Connection) -> None:
    if major(conn) < 18:
        pytest.skip("PostgreSQL 18 is the first that has virtual columns")
    other.exec_driver_sql(
        "CREATE TABLE t (id int, n int); ALTER TABLE t ALTER n SET STATISTICS 5, ALTER n SET (n_distinct = 5)"
    )
    n = column("n", INTEGER, sa.Computed("id * 2", persisted=False))
    table = sa.Table("t", sa.MetaData(), column("id", INTEGER), n)
    load(conn, table, [(2,)])
    assert [one.tuning for one in shape_of(conn, "t").columns] == [(), ("SET (n_distinct=5)",)]
    assert not ingest_plan(conn, table.metadata)


def test_a_view_to_which_a_new_column_is_ambiguous_is_refused_by_name(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql(
        """CREATE TABLE t (id int, v text); CREATE TABLE u (id int, y int); CREATE TABLE w (y int, x int);
           CREATE TABLE z (x int); CREATE VIEW mine AS SELECT v, x FROM t JOIN u USING (id) JOIN w USING (y)
           JOIN z USING (x)"""
    )
    table = sa.Table("t", sa.MetaData(), column("id", INTEGER), column("x", INTEGER), column("v", sa.Text))
    refused_as_planned(conn, table.metadata, "view public.mine does not fit .* appears more than once")


LABELS = {
    "default": ("ALTER TABLE t ALTER m SET DEFAULT 'c'", "default 'c'::mood of column 'm' does not fit"),
    "check": ("ALTER TABLE t ADD CONSTRAINT mine CHECK (m <> 'c')", "mine CHECK .* does not fit"),
    "exclusion": (
        "ALTER TABLE t ADD CONSTRAINT mine EXCLUDE USING btree (id WITH =) WHERE (m <> 'c')",
        "mine EXCLUDE .* does not fit",
    ),
}


@pytest.mark.parametrize("of", LABELS.values(), ids=LABELS.keys())
def test_a_label_that_people_use_is_not_taken_away_from_them(
    conn: sa.Connection, other: sa.Connection, of: tuple[str, str]
) -> None:
    more, problem = of
    other.exec_driver_sql(f"CREATE TYPE mood AS ENUM ('a', 'b', 'c'); CREATE TABLE t (id int, m mood); {more}")
    other.exec_driver_sql("INSERT INTO t VALUES (1, 'a')")
    table = sa.Table("t", sa.MetaData(), column("id", INTEGER), column("m", sa.Enum("a", "b", name="mood")))
    refused_as_planned(conn, table.metadata, problem)


def test_a_new_label_is_no_hindrance_to_a_rebuild(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (id int, m mood); INSERT INTO t VALUES (1)")
    mood = column("m", sa.Enum("a", "b", name="mood"), server_default="b")
    table = sa.Table("t", sa.MetaData(), column("id", sa.BigInteger), mood)
    assert ingest_plan(conn, table.metadata).tables[0].refused is None
    load(conn, table, [(2, "b")])
    assert rows_of(conn, "SELECT id, m::text FROM t ORDER BY 1") == [(1, None), (2, "b")]


@pytest.mark.parametrize("ended", ["pg_terminate_backend", "pg_cancel_backend"])
@pytest.mark.parametrize("tried", ['CREATE TABLE "pg_temp"', "CREATE TEMPORARY VIEW"])
def test_a_run_that_is_ended_while_it_tries_a_definition_says_so(
    conn: sa.Connection, other: sa.Connection, tried: str, ended: str
) -> None:
    other.exec_driver_sql("CREATE TABLE t (id int); CREATE VIEW v AS SELECT 1 AS one FROM t")

    @sa.event.listens_for(conn, "before_cursor_execute", retval=True)
    def end(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return (f"SELECT {ended}(pg_backend_pid())" if tried in statement else statement), parameters

    with pytest.raises(sa.exc.OperationalError, match=r"terminating|closed the connection|canceling"):
        load(conn, sa.Table("t", sa.MetaData(), column("id", sa.BigInteger)), [(1,)])
    assert is_usable(conn)


def test_what_reads_its_own_table_too_and_relations_of_its_name_is_no_hindrance(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql(
        """CREATE SCHEMA s; CREATE TABLE s.t (n int); CREATE TABLE "T x" (n int);
           CREATE TABLE t (id int, n int); INSERT INTO t VALUES (1, 2);
           CREATE POLICY own ON t FOR INSERT WITH CHECK (n IN (SELECT o.n FROM t o));
           CREATE RULE again AS ON DELETE TO t WHERE old.id < 0 DO INSTEAD UPDATE t SET n = old.n WHERE t.id = old.n;
           CREATE VIEW both_of AS SELECT a.id, b.n, c.n AS m FROM t a, s.t b, "T x" c;
           CREATE VIEW with_name AS WITH t AS (SELECT 1 AS n) SELECT o.n, t.n AS m FROM public.t o, t;
           CREATE VIEW over AS SELECT * FROM with_name JOIN t USING (n)"""
    )
    table = sa.Table("t", sa.MetaData(), column("id", sa.BigInteger), column("n", sa.BigInteger))
    assert ingest_plan(conn, table.metadata).tables[0].refused is None
    load(conn, table, [(3, 4)])
    assert rows_of(conn, "SELECT * FROM t ORDER BY 1") == [(1, 2), (3, 4)]


def test_a_table_called_like_what_runs_make_is_loaded_as_any_other(conn: sa.Connection, other: sa.Connection) -> None:
    columns = [column("id", INTEGER, sa.Identity(), primary_key=True), column("v", sa.Text, index=True)]
    table = sa.Table("_ingest_log", sa.MetaData(), *columns, sa.CheckConstraint("id > 0", name="_ingest_check"))
    load(conn, table, [(1, "a")])
    for options in ({}, {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.SWAP}):
        before = replace(shape_of(conn, "_ingest_log"), oid=0)
        (result,) = load(conn, table, [(1, "b"), (2, "c")], **options).tables
        assert result.migration == ()
        assert replace(shape_of(conn, "_ingest_log"), oid=0) == before
    other.exec_driver_sql("DROP TABLE _ingest_log")


@pytest.mark.parametrize(
    ("column_name", "action"),
    [
        ("p", "SET NULL(p)"),
        ("p", "set default  ( P )"),
        ("user", 'SET NULL ("user")'),
        ('a "b", (c)', 'SET NULL ("a ""b"", (c)", q)'),
    ],
)
def test_a_foreign_key_that_sets_some_columns_is_known_however_they_are_spelled(
    conn: sa.Connection, column_name: str, action: str
) -> None:
    if major(conn) < 15:
        pytest.skip("PostgreSQL 15 is the first that sets some columns")

    def declared() -> sa.MetaData:
        metadata = sa.MetaData()
        keys = [sa.Column(name, sa.Integer, primary_key=True, autoincrement=False) for name in "xy"]
        sa.Table("parent", metadata, *keys)
        refers = sa.ForeignKeyConstraint([column_name, "q"], ["parent.x", "parent.y"], ondelete=action)
        sa.Table("t", metadata, column(column_name, INTEGER), column("q", INTEGER), refers)
        return metadata

    ingest(conn, declared(), lambda mark: [(1, None, [])])
    assert not ingest_plan(conn, declared())
    with conn.begin():
        conn.exec_driver_sql("ALTER TABLE t DROP CONSTRAINT " + shape_of_key(conn))
    ingest(conn, declared(), lambda mark: [(1, None, [])])
    assert not ingest_plan(conn, declared())


def shape_of_key(conn: sa.Connection) -> str:
    """The quoted name of the only foreign key of the table."""
    name = conn.scalar(sa.text("SELECT quote_ident(conname) FROM pg_constraint WHERE contype = 'f'"))
    return str(name)


def test_keys_of_a_partitioned_table_have_their_names_on_its_partitions_too_and_change(
    conn: sa.Connection, other: sa.Connection
) -> None:
    def declared(key: tuple[str, ...], **options: Any) -> sa.MetaData:
        metadata = sa.MetaData()
        sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
        refers = sa.ForeignKey("parent.id", name="up", **options)
        columns = [column("a", INTEGER, nullable=False), column("b", INTEGER, refers, nullable=False)]
        sa.Table("t", metadata, *columns, sa.PrimaryKeyConstraint(*key), postgresql_partition_by="RANGE (a)")
        return metadata

    other.exec_driver_sql(
        """CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
           CREATE TABLE t (a int NOT NULL, b int NOT NULL) PARTITION BY RANGE (a);
           CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (9); INSERT INTO t VALUES (1, 1)"""
    )
    for metadata in (declared(("a",)), declared(("b", "a"), ondelete="CASCADE")):
        ingest(conn, metadata, lambda mark: [(1, None, [])])
        assert not ingest_plan(conn, metadata)
        assert rows_of(conn, "SELECT conname::text FROM pg_constraint WHERE contype = 'f'") == [("up",), ("up",)]
    assert (primary := shape_of(conn, "t").primary_key)
    assert primary.columns == ("b", "a")


def test_an_identity_in_the_place_of_a_serial_has_what_hung_on_its_sequence(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql(
        """CREATE TABLE t (a serial PRIMARY KEY, b int); INSERT INTO t (b) VALUES (1);
           GRANT USAGE ON SEQUENCE t_a_seq TO PUBLIC; COMMENT ON SEQUENCE t_a_seq IS 'its sequence'"""
    )
    hung = "SELECT relacl::text, obj_description(oid) FROM pg_class WHERE relname = 't_a_seq'"
    before = rows_of(conn, hung)
    table = sa.Table("t", sa.MetaData(), column("a", INTEGER, sa.Identity(), primary_key=True), column("b", INTEGER))
    load(conn, table, [])
    assert rows_of(conn, hung) == before
    assert not ingest_plan(conn, table.metadata)
    assert rows_of(conn, "INSERT INTO t (b) VALUES (7) RETURNING a") == [(2,)]


def test_the_plan_names_statistics_that_go_with_a_column(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int, b int, c int); CREATE STATISTICS s ON b, c FROM t")
    table = sa.Table("t", sa.MetaData(), column("a", INTEGER), column("b", INTEGER))
    dropped = "c: dropped, with any values in it and extended statistics public.s"
    assert ingest_plan(conn, table.metadata).tables[0].lines == (dropped,)
    assert load(conn, table, []).tables[0].migration == (dropped,)
    assert rows_of(conn, "SELECT count(*) FROM pg_statistic_ext") == [(0,)]


def test_the_plan_names_the_time_zone_in_which_timestamps_are_converted(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE t (at timestamp, day date); INSERT INTO t VALUES ('2026-01-01', '2026-01-01')")
    table = sa.Table("t", sa.MetaData(), column("at", sa.DateTime(timezone=True)), column("day", sa.DateTime))
    with conn.begin():
        conn.exec_driver_sql("SET TimeZone = 'America/New_York'")
    assert ingest_plan(conn, table.metadata).tables[0].risks == (
        "refused if a value of at would change as timestamp with time zone, in the session's TimeZone America/New_York",
        "refused if a value of day would change as timestamp without time zone",
    )
    load(conn, table, [])
    assert rows_of(conn, "SELECT at AT TIME ZONE 'UTC' = '2026-01-01 05:00' FROM t") == [(True,)]


def test_a_partitioned_table_that_refers_to_one_that_is_to_be_rebuilt_is_a_wall_before_18(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1)")
    other.exec_driver_sql("CREATE TABLE divided (a int CONSTRAINT up REFERENCES t) PARTITION BY LIST (a)")
    table = sa.Table("t", sa.MetaData(), column("a", sa.BigInteger, primary_key=True, autoincrement=False))
    if major(conn) >= 18:
        load(conn, table, [(2,)])
        assert rows_of(conn, "SELECT a FROM t ORDER BY 1") == [(1,), (2,)]
    else:
        refused_as_planned(conn, table.metadata, "because of foreign key up of divided, which is partitioned")


CLASHES = {
    "unique": ("UNIQUE", lambda: sa.UniqueConstraint("b", name="mine")),
    "check": ("CHECK", lambda: sa.CheckConstraint("b > 1", name="mine")),
    "foreign key": ("a foreign key", lambda: sa.ForeignKeyConstraint(["b"], ["parent.id"], name="checked")),
    "unique, as one of NOT NULL": ("UNIQUE", lambda: sa.UniqueConstraint("b", name="filled")),
    "check, as one of NOT NULL": ("CHECK", lambda: sa.CheckConstraint("b > 1", name="filled")),
    "foreign key, as one of NOT NULL": (
        "a foreign key",
        lambda: sa.ForeignKeyConstraint(["b"], ["parent.id"], name="filled"),
    ),
}


@pytest.mark.parametrize("clash", CLASHES.values(), ids=CLASHES.keys())
def test_a_constraint_called_as_one_of_people_that_stays_is_refused(
    conn: sa.Connection, other: sa.Connection, clash: Any
) -> None:
    word, constraint = clash
    if constraint().name == "filled" and major(conn) < 18:
        pytest.skip("PostgreSQL 18 is the first whose NOT NULL constraints have names")
    other.exec_driver_sql(
        """CREATE TABLE parent (id int PRIMARY KEY);
           CREATE TABLE t (a int CONSTRAINT mine REFERENCES parent, b int CONSTRAINT checked CHECK (b > 0),
                           c int CONSTRAINT filled NOT NULL);
           INSERT INTO parent VALUES (1); INSERT INTO t VALUES (1, 2, 3)"""
    )
    columns = (column("a", INTEGER), column("b", INTEGER), column("c", INTEGER, nullable=False))
    table = declared_table(Case("", (*columns, constraint), "", (), (), Action.NOTHING))
    refused_as_planned(conn, only(table), f"added {word} .* name '(mine|checked|filled)' is that of a .* that stays")


@pytest.mark.parametrize(
    "more",
    [
        "ADD CONSTRAINT t_a_not_null CHECK (a > 0)",
        "ADD CONSTRAINT t_a_not_null FOREIGN KEY (a) REFERENCES t",
        "RENAME CONSTRAINT t_id_not_null TO t_a_not_null",
    ],
)
@pytest.mark.parametrize("kind", [sa.Integer, sa.Text], ids=["steps", "rebuild"])
def test_a_new_not_null_constraint_gives_way_to_one_of_its_name(
    conn: sa.Connection, other: sa.Connection, more: str, kind: Any
) -> None:
    if major(conn) < 18:
        pytest.skip("PostgreSQL 18 is the first whose NOT NULL constraints have names")
    other.exec_driver_sql(f"CREATE TABLE t (id int PRIMARY KEY, a int, b int); ALTER TABLE t {more}")
    columns = (column("id", INTEGER, primary_key=True), column("a", INTEGER, nullable=False), column("b", kind))
    table = sa.Table("t", sa.MetaData(), *columns)
    load(conn, table, [])
    names = [one.not_null_name for one in shape_of(conn, "t").columns]
    assert names[1] == "t_a_not_null1"
    assert not ingest_plan(conn, table.metadata)


def test_the_name_of_a_not_null_constraint_that_goes_is_free(conn: sa.Connection, other: sa.Connection) -> None:
    if major(conn) < 18:
        pytest.skip("PostgreSQL 18 is the first whose NOT NULL constraints have names")
    for kind in (sa.Integer, sa.Text):
        other.exec_driver_sql("DROP TABLE IF EXISTS t; CREATE TABLE t (a int CONSTRAINT mine NOT NULL)")
        table = sa.Table("t", sa.MetaData(), column("a", kind), sa.UniqueConstraint("a", name="mine"))
        load(conn, table, [])
        assert names_of(shape_of(conn, "t")) == ["mine"]


@pytest.mark.parametrize(
    ("kind", "referred", "problem"),
    [
        (sa.Text, "id", "without a common equality"),
        (sa.Integer, "k", "no primary key or unique constraint"),
        (sa.Integer, "late", "is DEFERRABLE"),
    ],
)
def test_a_foreign_key_that_cannot_be_is_refused_by_its_name(
    conn: sa.Connection, other: sa.Connection, kind: Any, referred: str, problem: str
) -> None:
    other.exec_driver_sql("CREATE TABLE parent (id int PRIMARY KEY, k int, late int UNIQUE DEFERRABLE)")
    metadata = sa.MetaData()
    columns = (column("id", INTEGER, primary_key=True), column("k", INTEGER), column("late", INTEGER))
    sa.Table("parent", metadata, *columns)
    for keys in ([], [sa.ForeignKey(f"parent.{referred}")]):
        table = sa.Table("t", metadata, column("a", kind, *keys), extend_existing=True)
        if not keys:
            ingest(conn, only(table), lambda mark: [(1, None, [])])
    with pytest.raises(
        DefinitionError, match=rf"foreign key t_a_fkey of public.t .* does not fit .*{problem}"
    ) as raised:
        ingest(conn, only(table), lambda mark: [(1, None, [])])
    assert "_ingest_" not in str(raised.value)
    assert names_of(shape_of(conn, "t")) == []


def test_what_stands_against_dropping_an_old_view_is_told_by_names_that_are_known(
    conn: sa.Connection, other: sa.Connection
) -> None:
    other.exec_driver_sql(
        """CREATE TABLE t (n int); CREATE VIEW v AS SELECT sum(n) AS s FROM t;
           CREATE FUNCTION of_row(v) RETURNS int LANGUAGE sql AS 'SELECT 1'"""
    )
    table = sa.Table("t", sa.MetaData(), column("n", sa.BigInteger))
    with pytest.raises(DefinitionError, match=r"function of_row\(v\) depends on type v") as raised:
        load(conn, table, [(1,)])
    assert "_ingest_" not in str(raised.value)


def test_a_foreign_key_to_a_partitioned_table_keeps_no_passing_names(conn: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql(
        f"""CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id);
            CREATE TABLE parent_1 PARTITION OF parent FOR VALUES FROM (0) TO (5);
            CREATE TABLE parent_2 PARTITION OF parent DEFAULT; INSERT INTO parent VALUES (1), (7);
            CREATE TABLE t (id int REFERENCES parent, {"long" * 15} int REFERENCES parent);
            INSERT INTO t VALUES (1, 7)"""
    )
    names = "SELECT conname::text FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'f' ORDER BY 1"
    before = rows_of(conn, names)
    table = sa.Table("t", sa.MetaData(), column("long" * 15, INTEGER), column("id", INTEGER))
    for rows, options in (([], {}), ([(1, 1)], {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.SWAP})):
        load(conn, table, rows, **options)
        now = rows_of(conn, names)
        assert now == before or major(conn) >= 18  # which counts on
        assert len(now) == len(before)
        assert "_ingest_" not in str(now)


WHOLE_ROW: dict[str, Callable[[], Any]] = {
    "index": lambda: sa.Index("whole", sa.text("(people IS NOT NULL)")),
    "partial index": lambda: sa.Index("whole", "id", postgresql_where=sa.text("people IS NOT NULL")),
    "check": lambda: sa.CheckConstraint("people IS NOT NULL", name="whole"),
}


@pytest.mark.parametrize("part", WHOLE_ROW.values(), ids=WHOLE_ROW.keys())
def test_what_reads_the_whole_row_can_be_declared(conn: sa.Connection, part: Callable[[], Any]) -> None:
    narrow = sa.Table("people", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), part())
    wide = sa.Table(
        "people", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text), part()
    )
    for table, row in ((narrow, (1,)), (wide, (2, "b"))):
        load(conn, table, [row])
        assert not ingest_plan(conn, table.metadata)
    load(conn, wide, [(3, "c")], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn) == [(3, "c")]
