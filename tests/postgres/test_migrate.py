"""Migrations: each case is planned, applied, compared with a table made afresh, and planned again to nothing."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from airflow_ingest_provider import DefinitionError, ingest
from airflow_ingest_provider.core import catalog, hidden
from airflow_ingest_provider.core.shape import TableShape
from tests.postgres.helpers import is_usable, rows_of


@dataclass(frozen=True)
class Case:
    """SQL of the live table's columns, the declared columns, a row before and after, and what the plan says."""

    before: str
    declared: tuple[Any, ...]
    row: str
    after: tuple[Any, ...]
    plan: tuple[str, ...]
    more: tuple[str, ...] = ()


def column(name: str, kind: Any, *more: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, *more, **options)


INTEGER, TEXT = sa.Integer(), sa.Text()

CASES = {
    "nothing": Case("a int, b text", (column("a", INTEGER), column("b", TEXT)), "1, 'x'", (1, "x"), ()),
    "added": Case("a int", (column("a", INTEGER), column("b", TEXT)), "1", (1, None), ("b: added as text",)),
    "added with a constant": Case(
        "a int",
        (column("a", INTEGER), column("b", TEXT, server_default="x", nullable=False)),
        "1",
        (1, "x"),
        ("b: added as text",),
    ),
    "added in front": Case("a int", (column("b", TEXT), column("a", INTEGER)), "1", (None, 1), ("b: added as text",)),
    "added and drawn from an identity": Case(
        "a int", (column("a", INTEGER), column("b", INTEGER, sa.Identity())), "7", (7, 1), ("b: added as integer",)
    ),
    "added and computed": Case(
        "a int",
        (column("a", INTEGER), column("b", INTEGER, sa.Computed("a * 2", persisted=True))),
        "7",
        (7, 14),
        ("b: added as integer",),
    ),
    "dropped": Case("a int, b text", (column("a", INTEGER),), "1, 'x'", (1,), ("b: dropped, with its values",)),
    "all columns others": Case(
        "a int", (column("b", INTEGER),), "1", (None,), ("a: dropped, with its values", "b: added as integer")
    ),
    "moved": Case(
        "a int, b text", (column("b", TEXT), column("a", INTEGER)), "1, 'x'", ("x", 1), ("columns in the order b, a",)
    ),
    "varchar widened": Case(
        "a varchar(3)",
        (column("a", sa.String(9)),),
        "'x'",
        ("x",),
        ("a: character varying(3) -> character varying(9)",),
    ),
    "varchar to text": Case("a varchar(3)", (column("a", TEXT),), "'x'", ("x",), ("a: character varying(3) -> text",)),
    "text to varchar": Case(
        "a text", (column("a", sa.String(3)),), "'x'", ("x",), ("a: text -> character varying(3)",)
    ),
    "numeric widened": Case(
        "a numeric(4,2)",
        (column("a", sa.Numeric(9, 2, asdecimal=False)),),
        "1.25",
        (1.25,),
        ("a: numeric(4,2) -> numeric(9,2)",),
    ),
    "numeric rescaled": Case(
        "a numeric(4,2)",
        (column("a", sa.Numeric(9, 1, asdecimal=False)),),
        "1.50",
        (1.5,),
        ("a: numeric(4,2) -> numeric(9,1)",),
    ),
    "numeric limited": Case(
        "a numeric", (column("a", sa.Numeric(9, 2, asdecimal=False)),), "1", (1.0,), ("a: numeric -> numeric(9,2)",)
    ),
    "int to bigint": Case("a int", (column("a", sa.BigInteger),), "1", (1,), ("a: integer -> bigint",)),
    "bigint to int": Case("a bigint", (column("a", INTEGER),), "1", (1,), ("a: bigint -> integer",)),
    "int to text": Case("a int", (column("a", TEXT),), "1", ("1",), ("a: integer -> text",)),
    "json to jsonb": Case("a json", (column("a", postgresql.JSONB),), "'[1]'", ([1],), ("a: json -> jsonb",)),
    "collated": Case(
        "a text", (column("a", sa.Text(collation="C")),), "'x'", ("x",), ('a: collation default -> pg_catalog."C"',)
    ),
    "not null": Case("a int", (column("a", INTEGER, nullable=False),), "1", (1,), ("a: NOT NULL",)),
    "null allowed": Case("a int not null", (column("a", INTEGER),), "1", (1,), ("a: NULL allowed",)),
    "default": Case("a int", (column("a", INTEGER, server_default="7"),), "1", (1,), ("a: default 7",)),
    "comment": Case("a int", (column("a", INTEGER, comment="It's"),), "1", (1,), ("a: comment",)),
    "key added": Case(
        "a int not null", (column("a", INTEGER, primary_key=True),), "1", (1,), ("added PRIMARY KEY (a)",)
    ),
    "key dropped": Case(
        "a int primary key", (column("a", INTEGER, nullable=False),), "1", (1,), ("dropped t_pkey: PRIMARY KEY (a)",)
    ),
    "key changed": Case(
        "a int primary key, b int not null",
        (column("a", INTEGER, primary_key=True), column("b", INTEGER, primary_key=True)),
        "1, 2",
        (1, 2),
        ("dropped t_pkey: PRIMARY KEY (a)", "added PRIMARY KEY (a, b)"),
    ),
    "unique added": Case("a int", (column("a", INTEGER, unique=True),), "1", (1,), ("added UNIQUE (a)",)),
    "unique dropped": Case("a int unique", (column("a", INTEGER),), "1", (1,), ("dropped t_a_key: UNIQUE (a)",)),
    "check added": Case(
        "a int",
        (column("a", INTEGER), sa.CheckConstraint("a > 0", name="positive")),
        "1",
        (1,),
        ("added CHECK ((a > 0))",),
    ),
    "index added": Case("a int", (column("a", INTEGER, index=True),), "1", (1,), ("added index USING btree (a)",)),
    "index dropped": Case(
        "a int", (column("a", INTEGER),), "1", (1,), ("dropped index i: USING btree (a)",), ("CREATE INDEX i ON t (a)",)
    ),
    "index of another name": Case(
        "a int", (column("a", INTEGER), lambda: sa.Index("j", "a")), "1", (1,), (), ("CREATE INDEX i ON t (a)",)
    ),
    "index options changed": Case(
        "a int, b text",
        (
            column("a", INTEGER),
            column("b", TEXT),
            lambda: sa.Index(
                "i", sa.text("lower(b) text_pattern_ops"), postgresql_where=sa.text("a > 0"), postgresql_include=["a"]
            ),
        ),
        "1, 'x'",
        (1, "x"),
        (
            "dropped index i: USING btree (b)",
            "added index USING btree (lower(b) text_pattern_ops) INCLUDE (a) WHERE (a > 0)",
        ),
        ("CREATE INDEX i ON t (b)",),
    ),
    "no longer computed": Case(
        "a int, b int generated always as (a * 2) stored",
        (column("a", INTEGER), column("b", INTEGER)),
        "7",
        (7, 14),
        ("b: computed or identity as declared",),
    ),
    "several at once": Case(
        "a int, b text, c int",
        (
            column("c", sa.BigInteger, index=True),
            column("a", INTEGER, nullable=False),
            column("d", TEXT, server_default="d"),
        ),
        "1, 'x', 3",
        (3, 1, "d"),
        (
            "b: dropped, with its values",
            "columns in the order c, a, d",
            "c: integer -> bigint",
            "a: NOT NULL",
            "d: added as text",
            "added index USING btree (c)",
        ),
    ),
}


def declared_table(case: Case, name: str = "t") -> sa.Table:
    parts = [part() if callable(part) else part._copy() for part in case.declared]
    return sa.Table(name, sa.MetaData(), *parts)


def shape_of(conn: sa.Connection, name: str) -> TableShape:
    with conn.begin():
        _, oid = catalog.find(conn, "public", name)
        assert oid is not None
        return catalog.table_shape(conn, oid)


def definition(shape: TableShape) -> Any:
    """What two tables of one definition share, whatever their parts are called."""
    return (
        [
            (one.name, one.type, one.collation, one.not_null, one.identity, one.generated, one.comment)
            for one in shape.columns
        ],
        [(one.kind, one.definition) for one in shape.constraints],
        [(one.unique, one.definition) for one in shape.indexes],
    )


@pytest.mark.parametrize("with_row", [True, False], ids=["with a row", "empty"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_table_gets_to_its_definition(conn: sa.Connection, other: sa.Connection, case: Case, with_row: bool) -> None:
    computed = "generated" in case.before
    other.exec_driver_sql(f"CREATE TABLE t ({case.before})")
    for statement in case.more:
        other.exec_driver_sql(statement)
    if with_row:
        other.exec_driver_sql(f"INSERT INTO t {'(a)' if computed else ''} VALUES ({case.row})")
    table = declared_table(case)
    result = ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert result.tables[0].migration == case.plan
    live = shape_of(conn, "t")
    with conn.begin():
        stored = [tuple(row) for row in conn.execute(sa.select(table))]
    assert stored == ([case.after] if with_row else [])
    assert ingest(conn, table.metadata, lambda mark: [(2, None, [])]).tables[0].migration == ()
    other.exec_driver_sql("DROP TABLE t")
    ingest(conn, declared_table(case).metadata, lambda mark: [])
    assert definition(live) == definition(shape_of(conn, "t"))


REFUSED = {
    "duplicates": ("a int", (column("a", INTEGER, unique=True),), "1), (1", 'could not create unique index "t_a_key"'),
    "check": (
        "a int",
        (column("a", INTEGER), sa.CheckConstraint("a > 1", name="big")),
        "1",
        'relation "t" violates check constraint "big"',
    ),
    "too long": ("a text", (column("a", sa.String(3)),), "'longer'", "'a': 1 values would change"),
    "rounded": ("a numeric", (column("a", sa.Numeric(9, 1)),), "1.25", "'a': 1 values would change"),
    "out of range": ("a bigint", (column("a", INTEGER),), "5000000000", "'a': at least one value"),
    "explicit cast": ("a text", (column("a", INTEGER),), "'1'", "does not assign"),
    "null": ("a int", (column("a", INTEGER, nullable=False),), "NULL", "1 rows hold NULL"),
    "no default": ("a int", (column("a", INTEGER), column("b", INTEGER, nullable=False)), "1", "server_default"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
def test_what_would_lose_values_is_refused(conn: sa.Connection, other: sa.Connection, refused: Any) -> None:
    before, columns, row, problem = refused
    other.exec_driver_sql(f"CREATE TABLE t ({before}); INSERT INTO t VALUES ({row})")
    live, stored = shape_of(conn, "t"), rows_of(conn, "SELECT * FROM t")
    table = declared_table(Case(before, columns, row, (), ()))
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


def test_writers_are_held_off_before_the_rows_of_a_rebuild_are_checked(
    conn: sa.Connection, other: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a numeric); INSERT INTO t VALUES (1.25); SET lock_timeout = '50ms'")
    found = hidden.lossy_columns

    def write_afterwards(*arguments: Any) -> dict[str, str]:
        lossy = found(*arguments)
        with pytest.raises(sa.exc.DBAPIError, match="lock timeout"):
            other.exec_driver_sql("INSERT INTO t VALUES (1.239)")
        return lossy

    monkeypatch.setattr(hidden, "lossy_columns", write_afterwards)
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Numeric(10, 2)))
    ingest(conn, table.metadata, lambda mark: [(1, None, [])])
    assert rows_of(conn, "SELECT a::text FROM t") == [("1.25",)]


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
    assert run("a", "b", "c", "d", "e") == ("enum mood: added 'a'", "enum mood: added 'c'", "enum mood: added 'e'")
    assert rows_of(conn, "SELECT unnest(enum_range(NULL::mood))::text") == [(label,) for label in "abcde"]
    assert run("a", "b", "c", "d", "e") == ()


@pytest.mark.parametrize("declared", ["rebuilt", "in place"])
def test_a_migration_that_fails_anywhere_leaves_the_old_table(
    conn: sa.Connection, other: sa.Connection, declared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.exec_driver_sql("CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'x')")
    live = shape_of(conn, "t")
    kind = sa.BigInteger if declared == "rebuilt" else sa.Integer
    table = sa.Table("t", sa.MetaData(), sa.Column("a", kind, primary_key=True), sa.Column("c", sa.Text))
    statements = 0
    limit = 0

    @sa.event.listens_for(conn, "before_cursor_execute")
    def count(*arguments: Any) -> None:
        nonlocal statements
        statements += 1
        if statements == limit:
            raise ConnectionError("injected")

    for limit in range(1, 200):
        statements = 0
        try:
            ingest(conn, table.metadata, lambda mark: [(1, None, [])])
        except ConnectionError:
            statements = limit + 1
            now = shape_of(conn, "t")
            if now.columns != live.columns:  # the migration is committed, and a later step failed
                assert [one.name for one in now.columns] == ["a", "c"]
            else:
                assert replace(now, oid=0) == replace(live, oid=0)
            assert rows_of(conn, "SELECT a FROM t") == [(1,)]
            assert is_usable(conn)
        else:
            break
    assert 20 < limit < 199
