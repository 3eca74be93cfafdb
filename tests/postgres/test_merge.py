"""Rows that are merged into a table: those that differ are touched, and none is lost."""

import traceback
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from airflow_ingest_provider import (
    DefinitionError,
    Delete,
    HighWatermark,
    Replace,
    RowError,
    Upsert,
    ingest,
    ingest_plan,
)
from tests.postgres.helpers import give, load, major, people, rows_of

IN_PLACE: Any = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.IN_PLACE}


def family(ondelete: str) -> tuple[sa.MetaData, sa.Table, sa.Table]:
    """Parents, and children that refer to them."""
    metadata = sa.MetaData()
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    refers: sa.Column[Any] = sa.Column("parent_id", sa.ForeignKey(parent.c.id, ondelete=ondelete))
    child = sa.Table("child", metadata, sa.Column("id", sa.Integer, primary_key=True), refers)
    return metadata, parent, child


ACTIONS = pytest.mark.parametrize("ondelete", ["NO ACTION", "RESTRICT", "CASCADE", "SET NULL"])


@pytest.mark.parametrize("referring", [False, True])
def test_rows_that_are_replaced_in_place_may_exchange_the_values_of_a_unique_constraint(
    conn: sa.Connection, other: sa.Connection, referring: bool
) -> None:
    table = sa.Table(
        "ranks",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("rank", sa.Integer, unique=True),
        sa.Column("name", sa.Text),
    )
    load(conn, table, [(1, 1, "a"), (2, 2, "b"), (3, 3, "c"), (4, 9, "gone")])
    if referring:
        other.exec_driver_sql("CREATE TABLE medals (id int REFERENCES ranks); INSERT INTO medals VALUES (1), (2)")
    result = load(conn, table, [(1, 2, "a"), (2, 1, "b"), (3, 3, "c"), (5, 5, "new")], **IN_PLACE).tables[0]
    assert rows_of(conn, "SELECT * FROM ranks ORDER BY 1") == [(1, 2, "a"), (2, 1, "b"), (3, 3, "c"), (5, 5, "new")]
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (1, 2, 1, 1)
    with pytest.raises(RowError, match=r"constraint 'ranks_rank_key'.*declare it DEFERRABLE"):
        load(conn, table, [(1, 7, "a"), (2, 7, "b")], **IN_PLACE)
    assert len(rows_of(conn, "SELECT * FROM ranks")) == 4


@pytest.mark.parametrize("initially", ["IMMEDIATE", "DEFERRED"])
def test_rows_that_are_upserted_exchange_the_values_of_a_deferrable_constraint(
    conn: sa.Connection, initially: str
) -> None:
    def ranks(**options: Any) -> sa.Table:
        columns: list[sa.Column[Any]] = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("rank", sa.Integer)]
        return sa.Table("ranks", sa.MetaData(), *columns, sa.UniqueConstraint("rank", **options))

    load(conn, ranks(), [(1, 1), (2, 2)])
    with pytest.raises(RowError, match=r"'ranks_rank_key'.*where rows exchange these values, declare it DEFERRABLE"):
        load(conn, ranks(), [(1, 2), (2, 1)])
    deferrable = ranks(deferrable=True, initially=initially)
    load(conn, deferrable, [(1, 2), (2, 1)])
    assert rows_of(conn, "SELECT * FROM ranks ORDER BY 1") == [(1, 2), (2, 1)]
    with pytest.raises(RowError, match=r"'ranks_rank_key'.*mend the source$"):
        load(conn, deferrable, [(1, 7), (2, 7)])


def test_rows_that_foreign_keys_act_on_are_never_deleted_to_exchange_values(
    conn: sa.Connection, other: sa.Connection
) -> None:
    rank: sa.Column[Any] = sa.Column("rank", sa.Integer, unique=True)
    table = sa.Table("ranks", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), rank)
    load(conn, table, [(1, 1), (2, 2)])
    other.exec_driver_sql("CREATE TABLE medals (id int REFERENCES ranks ON DELETE CASCADE)")
    other.exec_driver_sql("INSERT INTO medals VALUES (1), (2)")
    with pytest.raises(RowError, match="where rows exchange these values, declare it DEFERRABLE"):
        load(conn, table, [(1, 2), (2, 1)], **IN_PLACE)
    assert rows_of(conn, "SELECT * FROM medals ORDER BY 1") == [(1,), (2,)]


@ACTIONS
def test_a_refresh_in_place_moves_rows_that_stay_before_what_they_referred_to_goes(
    conn: sa.Connection, other: sa.Connection, ondelete: str
) -> None:
    metadata, parent, child = family(ondelete)
    ingest(conn, metadata, give((parent, (1,)), (parent, (2,)), (child, (10, 1)), (child, (20, 2)), (child, (30, 1))))
    other.exec_driver_sql("CREATE TABLE notes (child int REFERENCES child ON DELETE CASCADE)")
    other.exec_driver_sql("INSERT INTO notes VALUES (10), (20)")
    result = ingest(
        conn, metadata, give((parent, (3,)), (parent, (2,)), (child, (10, 3)), (child, (20, 2))), **IN_PLACE
    )
    assert rows_of(conn, "SELECT * FROM child ORDER BY 1") == [(10, 3), (20, 2)]
    assert rows_of(conn, "SELECT * FROM parent ORDER BY 1") == [(2,), (3,)]
    assert rows_of(conn, "SELECT * FROM notes ORDER BY 1") == [(10,), (20,)]
    counts = [(one.inserted, one.updated, one.unchanged, one.deleted) for one in result.tables]
    assert counts == [(1, 0, 1, 1), (0, 1, 1, 1)]


@ACTIONS
def test_a_row_that_refers_to_one_that_is_gone_is_an_error_and_loses_nothing(
    conn: sa.Connection, other: sa.Connection, ondelete: str
) -> None:
    metadata, parent, child = family(ondelete)
    rows = [(parent, (1,)), (parent, (2,)), (child, (10, 1)), (child, (20, 2))]
    ingest(conn, metadata, give(*rows))
    with pytest.raises(RowError, match=r"public\.child: .*child_parent_id_fkey.*23503"):
        ingest(conn, metadata, give(rows[0], *rows[2:]), **IN_PLACE)
    assert rows_of(conn, "SELECT * FROM child ORDER BY 1") == [(10, 1), (20, 2)]
    assert rows_of(conn, "SELECT * FROM parent ORDER BY 1") == [(1,), (2,)]


def test_a_row_of_a_table_that_is_not_loaded_is_told_where_the_key_that_it_refers_to_goes(
    conn: sa.Connection, other: sa.Connection
) -> None:
    table = sa.Table("codes", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    table.append_column(sa.Column("code", sa.Integer, unique=True))
    load(conn, table, [(1, 10), (2, 424242)])
    other.exec_driver_sql("CREATE TABLE uses (code int CONSTRAINT of_code REFERENCES codes (code))")
    other.exec_driver_sql("INSERT INTO uses VALUES (424242)")
    for rows, options in (([(1, 10)], IN_PLACE), ([(2, 20)], {})):
        with pytest.raises(RowError, match=r"of public\.uses: .* of_code refers to a key that .*23503") as refused:
            load(conn, table, rows, **options)
        assert refused.value.table == "public.uses"
        assert "424242" not in "".join(traceback.format_exception(refused.value))
    assert rows_of(conn, "SELECT * FROM codes ORDER BY 1") == [(1, 10), (2, 424242)]


@pytest.mark.parametrize("replace", [Replace.AUTO, Replace.IN_PLACE])
@ACTIONS
def test_a_tree_may_lose_a_branch_whose_leaves_move(
    conn: sa.Connection, other: sa.Connection, ondelete: str, replace: str
) -> None:
    metadata = sa.MetaData()
    key, name = sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text, unique=True)
    tree = sa.Table("tree", metadata, key, name, sa.Column("up", sa.ForeignKey("tree.id", ondelete=ondelete)))
    leaves = [(tree, (number, f"leaf {number}", 0)) for number in range(100, 200)]
    root, branch, twig, leaf = (0, "root", None), (1, "branch", 0), (2, "twig", 1), (3, "leaf", 2)
    ingest(conn, metadata, give(*((tree, row) for row in (root, branch, twig, leaf)), *leaves))
    other.exec_driver_sql("CREATE TABLE notes (tree int REFERENCES tree ON DELETE CASCADE)")
    other.exec_driver_sql("INSERT INTO notes VALUES (3)")
    moved = [(tree, root), (tree, (3, "leaf", 0)), *leaves]
    ingest(conn, metadata, give(*moved), delete=Delete.BEFORE_FIRST_BATCH, replace=replace)
    assert rows_of(conn, "SELECT * FROM tree WHERE id < 100 ORDER BY 1") == [root, (3, "leaf", 0)]
    assert rows_of(conn, "SELECT * FROM notes") == [(3,)]
    # A branch of which nothing stays goes first, so that its names are free.
    again = [(tree, root), (tree, (5, "leaf", 0)), *leaves]
    ingest(conn, metadata, give(*again), delete=Delete.BEFORE_FIRST_BATCH, replace=replace)
    assert rows_of(conn, "SELECT * FROM tree WHERE id < 100 ORDER BY 1") == [root, (5, "leaf", 0)]


def test_what_is_deleted_by_way_of_a_table_that_is_not_loaded_comes_back(
    conn: sa.Connection, other: sa.Connection
) -> None:
    metadata, parent, child = family("CASCADE")
    ingest(conn, metadata, give((parent, (1,)), (parent, (2,)), (child, (10, 1)), (child, (20, 2))))
    other.exec_driver_sql("CREATE TABLE between (id int PRIMARY KEY REFERENCES parent ON DELETE CASCADE)")
    other.exec_driver_sql("INSERT INTO between VALUES (1)")
    other.exec_driver_sql("ALTER TABLE child ADD also int DEFAULT 1")
    other.exec_driver_sql("UPDATE child SET also = 1")
    other.exec_driver_sql("ALTER TABLE child ADD FOREIGN KEY (also) REFERENCES between ON DELETE CASCADE")
    moved = sa.MetaData()
    sa.Table("parent", moved, sa.Column("id", sa.Integer, primary_key=True))
    refers: sa.Column[Any] = sa.Column("parent_id", sa.ForeignKey("parent.id", ondelete="CASCADE"))
    also = sa.Column("also", sa.Integer, server_default="1")
    sa.Table("child", moved, sa.Column("id", sa.Integer, primary_key=True), refers, also)
    parent, child = moved.tables.values()
    rows = [(parent, (2,)), (child, (10, 2, None)), (child, (20, 2, None))]
    ingest(conn, moved, give(*rows), **IN_PLACE)
    assert rows_of(conn, "SELECT * FROM child ORDER BY 1") == [(10, 2, None), (20, 2, None)]


def test_what_a_trigger_deletes_of_rows_that_stay_comes_back(conn: sa.Connection, other: sa.Connection) -> None:
    metadata, parent, child = family("NO ACTION")
    stay = [(parent, (2,)), (child, (20, 2))]
    ingest(conn, metadata, give((parent, (1,)), *stay))
    other.exec_driver_sql("""
        CREATE FUNCTION clear() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM child; RETURN OLD; END';
        CREATE TRIGGER cleared AFTER DELETE ON parent FOR EACH ROW EXECUTE FUNCTION clear();
    """)
    ingest(conn, metadata, give(*stay), **IN_PLACE)
    assert rows_of(conn, "SELECT * FROM parent") == [(2,)]
    assert rows_of(conn, "SELECT * FROM child") == [(20, 2)]


@pytest.mark.parametrize("by_way_of", ["the table", "a table that is not loaded"])
def test_what_a_trigger_of_another_table_deletes_of_rows_that_stay_comes_back(
    conn: sa.Connection, other: sa.Connection, by_way_of: str
) -> None:
    metadata = sa.MetaData()
    first = sa.Table("first", metadata, sa.Column("id", sa.Integer, primary_key=True))
    second = sa.Table("second", metadata, sa.Column("id", sa.Integer, primary_key=True))
    ingest(conn, metadata, give((first, (1,)), (first, (2,)), (second, (1,)), (second, (2,))))
    other.exec_driver_sql("""
        CREATE FUNCTION clear() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM second; RETURN OLD; END';
        CREATE TABLE watched (id int REFERENCES first ON DELETE CASCADE);
        INSERT INTO watched VALUES (1)
    """)
    watched = "first" if by_way_of == "the table" else "watched"
    other.exec_driver_sql(f"CREATE TRIGGER cleared AFTER DELETE ON {watched} FOR EACH ROW EXECUTE FUNCTION clear()")
    ingest(conn, metadata, give((first, (2,)), (second, (1,)), (second, (2,))), **IN_PLACE)
    assert rows_of(conn, "SELECT * FROM first") == [(2,)]
    assert rows_of(conn, "SELECT * FROM second ORDER BY 1") == [(1,), (2,)]


@pytest.mark.parametrize(
    "options",
    [{"unique": True}, {"unique": True, "index": True}, {}],
    ids=["constraint", "index", "generated always"],
)
def test_rows_that_exchange_values_are_swapped_at_once(conn: sa.Connection, options: Any) -> None:
    metadata = sa.MetaData()
    name = sa.Column("name", sa.BigInteger, *([sa.Identity(always=True)] if not options else []), **options)
    table = sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True), name)
    names = list(range(100))
    refresh: Any = {"delete": Delete.BEFORE_FIRST_BATCH}
    ingest(conn, metadata, give(*((table, row) for row in enumerate(names))), **refresh)
    names[:2] = names[1::-1]
    ingest(conn, metadata, give(*((table, row) for row in enumerate(names))), **refresh)
    assert rows_of(conn, "SELECT * FROM t ORDER BY 1 LIMIT 2") == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    "wall",
    [
        "CREATE TABLE outside (parent int REFERENCES parent); INSERT INTO outside VALUES (1)",
        """CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
           CREATE TRIGGER x BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION f()""",
    ],
    ids=["foreign key", "trigger"],
)
def test_children_of_a_table_that_is_replaced_in_place_are_too(
    conn: sa.Connection, other: sa.Connection, wall: str
) -> None:
    metadata, parent, child = family("NO ACTION")
    ingest(conn, metadata, give((parent, (1,)), (parent, (2,)), (child, (10, 1)), (child, (20, 2))))
    other.exec_driver_sql(wall)
    plan = ingest_plan(conn, metadata, delete=Delete.BEFORE_FIRST_BATCH)
    assert all("replaced in place" in str(one.replaces) for one in plan.tables)
    assert "foreign keys tie it to public.parent" in str(plan.tables[1].replaces)
    result = ingest(
        conn, metadata, give((parent, (1,)), (child, (30, 1)), (child, (40, 1))), delete=Delete.BEFORE_FIRST_BATCH
    )
    assert rows_of(conn, "SELECT * FROM child ORDER BY 1") == [(30, 1), (40, 1)]
    assert [(one.deleted, one.inserted) for one in result.tables] == [(1, 0), (2, 2)]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_all_rows_that_a_trigger_gives_a_key_are_kept(conn: sa.Connection, other: sa.Connection, delete: str) -> None:
    load(conn, people(), [(1, "a", 1), (2, "b", 2)])
    other.exec_driver_sql("""
        CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN NEW.id = coalesce(NEW.id, nextval(''people_id_seq'')); RETURN NEW; END';
        CREATE TRIGGER numbered BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION number();
    """)
    result = load(conn, people(), [(1, "a", 1), (None, "c", 3), (None, "d", 4), (None, "c", 3)], delete=delete)
    kept = ["a", "c", "c", "d"] if delete == Delete.BEFORE_FIRST_BATCH else ["a", "b", "c", "c", "d"]
    assert rows_of(conn, "SELECT name FROM people ORDER BY 1") == [(name,) for name in kept]
    assert (result.tables[0].inserted, result.tables[0].superseded) == (3, 0)


@pytest.mark.parametrize("keys", [12_000, 11_000], ids=["distinct", "some twice"])
def test_a_refresh_in_place_of_many_rows_counts_them_all(conn: sa.Connection, keys: int) -> None:
    load(conn, people(), [(number, "a", number) for number in range(11_000)])
    rows = [(number % keys + 500, "a" if number % 10 else "b", number % keys + 500) for number in range(12_000)]
    result = load(conn, people(), rows, delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.IN_PLACE).tables[0]
    expected = {row[0]: row for row in rows}
    assert rows_of(conn) == sorted(expected.values())
    assert result.deleted == 500
    assert result.superseded == 12_000 - keys
    assert result.inserted == len(expected.keys() - set(range(11_000)))
    assert (result.updated or 0) + (result.unchanged or 0) == len(expected) - result.inserted
    assert result.updated == sum(row[1] == "b" for row in expected.values() if row[0] < 11_000)


@pytest.mark.parametrize(
    ("unique", "upsert"), [(False, Upsert.IF_PRIMARY_KEY), (True, Upsert.IF_PRIMARY_KEY), (True, Upsert.OFF)]
)
def test_few_rows_for_a_large_table_do_not_have_it_read_to_move_its_sequences(
    conn: sa.Connection, unique: bool, upsert: str
) -> None:
    metadata = sa.MetaData()
    line = sa.Column("line", sa.Integer, sa.Identity(), unique=unique)
    table = sa.Table("people", metadata, sa.Column("id", sa.Integer, primary_key=True), line)
    read: list[Any] = []

    def look(conn: sa.Connection, batch_metadata: Any) -> None:
        counted = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'people'"
        read.append(conn.exec_driver_sql(counted).scalar())

    def bring(keys: range) -> None:
        rows = [(table, (number, number)) for number in keys]
        ingest(conn, metadata, lambda mark: [(1, None, rows)], on_before_visible=look, upsert=upsert)

    bring(range(1, 20_001))
    bring(range(30_000, 30_003))
    assert read[-1] < 10  # counted with what the session has read just before
    assert rows_of(conn, "INSERT INTO people DEFAULT VALUES RETURNING *") == [(30_003, 30_003)]


@pytest.mark.parametrize(("upsert", "place"), [(Upsert.IF_PRIMARY_KEY, "a row"), (Upsert.OFF, "row 2")])
def test_a_row_that_no_partition_takes_is_told_as_that(
    conn: sa.Connection, other: sa.Connection, upsert: str, place: str
) -> None:
    table = people(postgresql_partition_by="RANGE (id)")
    other.exec_driver_sql("""
        CREATE TABLE people (id int PRIMARY KEY, name text, age int) PARTITION BY RANGE (id);
        CREATE TABLE people_0 PARTITION OF people FOR VALUES FROM (0) TO (10);
    """)
    with pytest.raises(RowError, match=rf"^{place} of public\.people: no partition takes it.*: create one"):
        load(conn, table, [(1, "a", 1), (50, "b", 2)], upsert=upsert)


def test_few_rows_for_a_partitioned_table_are_looked_up(conn: sa.Connection, other: sa.Connection) -> None:
    metadata = sa.MetaData()
    key = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
    table = sa.Table("people", metadata, key, sa.Column("name", sa.Text), postgresql_partition_by="RANGE (id)")
    other.exec_driver_sql("""
        CREATE TABLE people (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
        CREATE TABLE people_0 PARTITION OF people FOR VALUES FROM (0) TO (10000);
        CREATE TABLE people_1 PARTITION OF people FOR VALUES FROM (10000) TO (20000);
        INSERT INTO people SELECT n, repeat('a', 100) FROM generate_series(0, 9998) n;
        INSERT INTO people SELECT n, repeat('a', 100) FROM generate_series(10000, 19998) n;
        ANALYZE people;
    """)
    read: list[Any] = []

    def look(conn: sa.Connection, batch_metadata: Any) -> None:
        counted = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname LIKE 'people%%'"
        read.append(conn.exec_driver_sql(counted).scalar())

    rows = [(table, (number, "b")) for number in (1, 9_999, 10_000, 19_999)]
    result = ingest(conn, metadata, lambda mark: [(1, None, rows)], on_before_visible=look).tables[0]
    assert (result.inserted, result.updated) == (2, 2)
    assert read[-1] < 10  # counted with what the session has read just before
    assert rows_of(conn, "SHOW enable_hashjoin") == [("on",)]


def test_a_row_that_does_not_fit_is_named_though_few_of_the_first_rows_changed(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(number, "a", 1) for number in range(1000)])
    other.exec_driver_sql("ALTER TABLE people ADD CONSTRAINT adult CHECK (age > 0)")
    rows = [(number, "a", 1 if number < 900 else -number) for number in range(5000)]
    with pytest.raises(RowError, match="'adult'") as raised:
        load(conn, people(), rows, delete=Delete.BEFORE_FIRST_BATCH)
    assert "-900" not in str(raised.value)


def by_lower_name(**column: Any) -> sa.Table:
    """A table whose key is computed from another column."""
    lower = sa.Column("lower", sa.Text, sa.Computed("lower(name)", persisted=True), primary_key=True, **column)
    return sa.Table("people", sa.MetaData(), sa.Column("age", sa.Integer), lower, sa.Column("name", sa.Text))


@pytest.mark.parametrize("more", [0, 600, 12_000])
def test_rows_are_upserted_on_a_computed_key(conn: sa.Connection, more: int) -> None:
    table = by_lower_name()
    others = [(number, f"N{number}") for number in range(more)]
    load(conn, table, [*others, (1, "Ann"), (2, "Bob")])
    result = load(conn, table, [*others, (3, "BOB"), (1, "Ann"), (4, "Cid"), (5, "CID")]).tables[0]
    assert rows_of(conn, "SELECT age, lower, name FROM people WHERE lower !~ '^n' ORDER BY lower") == [
        (1, "ann", "Ann"),
        (3, "bob", "BOB"),
        (5, "cid", "CID"),
    ]
    assert (result.inserted, result.updated, result.unchanged, result.superseded) == (1, 1, more + 1, 1)


@pytest.mark.parametrize("replace", [Replace.AUTO, Replace.IN_PLACE])
@pytest.mark.parametrize("more", [0, 600])
def test_rows_with_a_computed_key_are_replaced(conn: sa.Connection, replace: str, more: int) -> None:
    table = by_lower_name()
    others = [(number, f"N{number}") for number in range(more)]
    load(conn, table, [*others, (1, "Ann"), (2, "Bob")])
    rows = [*others, (1, "Ann"), (3, "CID"), (4, "Cid")]
    result = load(conn, table, rows, delete=Delete.BEFORE_FIRST_BATCH, replace=replace).tables[0]
    found = rows_of(conn, "SELECT age, lower, name FROM people WHERE lower !~ '^n' ORDER BY lower")
    assert found == [(1, "ann", "Ann"), (4, "cid", "Cid")]
    assert result.superseded == 1


def test_a_row_that_gives_a_computed_key_no_value_is_named(conn: sa.Connection) -> None:
    load(conn, by_lower_name(), [(1, "Ann")])
    with pytest.raises(RowError, match="23502") as refused:
        load(conn, by_lower_name(), [(2, "Bob"), (3, None)])
    assert (refused.value.column, refused.value.row_number) == ("lower", 2)


def test_a_computed_key_of_several_columns_is_deferrable(conn: sa.Connection) -> None:
    table = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer),
        sa.Column("day", sa.Date, sa.Computed("(at AT TIME ZONE 'UTC')::date", persisted=True)),
        sa.Column("at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("day", "id", deferrable=True),
    )
    load(conn, table, [(1, "2024-01-01 10:00+00"), (2, "2024-01-01 11:00+00")])
    counts = load(conn, table, [(1, "2024-01-01 12:00+00"), (2, "2024-01-02 11:00+00")]).tables[0]
    assert (counts.inserted, counts.updated) == (1, 1)
    assert len(rows_of(conn)) == 3


@pytest.mark.parametrize("upsert", [Upsert.OFF, Upsert.IF_PRIMARY_KEY])
@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_rows_that_a_trigger_keeps_out_are_received_and_nothing_else(
    conn: sa.Connection, other: sa.Connection, upsert: str, deferrable: bool, delete: str
) -> None:
    key = sa.PrimaryKeyConstraint("id", deferrable=deferrable)
    table = sa.Table("people", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("name", sa.Text), key)
    load(conn, table, [(1, "a"), (2, "b"), (3, "c")])
    other.exec_driver_sql("""
        CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF NEW.name = ''no'' THEN RETURN NULL; END IF; RETURN NEW; END';
        CREATE TRIGGER kept_out BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION keep_out();
    """)
    changed = [] if upsert == Upsert.OFF and delete == Delete.OFF else [(1, "a"), (2, "B"), (3, "no")]
    rows = [*changed, (4, "no"), (5, "no"), (6, "d")]
    result = load(conn, table, rows, upsert=upsert, delete=delete, replace=Replace.IN_PLACE).tables[0]
    expected = [(1, "a"), (2, "B"), (3, "c"), (6, "d")] if changed else [(1, "a"), (2, "b"), (3, "c"), (6, "d")]
    assert rows_of(conn) == expected
    counts = (result.received, result.inserted, result.updated, result.unchanged, result.deleted)
    assert counts == ((6, 1, 1, 1, 0) if changed else (3, 1, 0, 0, 0))


class Elsewhere(sa.types.UserDefinedType[Any]):
    """A type of an extension in a schema that is not in the search_path."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return f"elsewhere.{self.name}"


@pytest.fixture
def elsewhere(other: sa.Connection, extension: Callable[[str], None]) -> Callable[[str], sa.Table]:
    """A function that makes an extension in that schema, and a table whose key is of its type."""

    def make(name: str) -> sa.Table:
        extension(name)
        other.exec_driver_sql(f"CREATE SCHEMA elsewhere; ALTER EXTENSION {name} SET SCHEMA elsewhere")
        key: sa.Column[Any] = sa.Column("key", Elsewhere(name), primary_key=True)
        return sa.Table("keyed", sa.MetaData(), key, sa.Column("value", sa.Integer))

    return make


def test_keys_are_equal_as_their_type_says_wherever_its_operators_are(
    conn: sa.Connection, other: sa.Connection, elsewhere: Callable[[str], sa.Table]
) -> None:
    table = elsewhere("citext")
    load(conn, table, [("A", 1), ("B", 2)])
    other.exec_driver_sql("CREATE TABLE child (key elsewhere.citext REFERENCES keyed ON DELETE CASCADE)")
    other.exec_driver_sql("INSERT INTO child VALUES ('A'), ('B')")
    result = load(conn, table, [("a", 1), ("B", 2)], **IN_PLACE).tables[0]
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (0, 1, 1, 0)
    assert rows_of(conn, "SELECT key::text FROM child ORDER BY 1") == [("A",), ("B",)]
    result = load(conn, table, [("A", 1), ("b", 3)]).tables[0]
    assert (result.inserted, result.updated) == (0, 2)
    assert rows_of(conn, "SELECT key::text, value FROM keyed ORDER BY 1") == [("A", 1), ("b", 3)]


CASELESS: dict[str, Callable[[], Any]] = {
    "column": lambda: sa.Text(collation="caseless"),
    "domain": lambda: postgresql.DOMAIN("word", sa.Text(), create_type=False),
    "domain of a domain": lambda: postgresql.DOMAIN("title", sa.Text(), create_type=False),
}


@pytest.mark.parametrize("of", CASELESS)
@pytest.mark.parametrize("options", [{}, IN_PLACE], ids=["upsert", "in place"])
def test_a_key_gets_the_new_spelling_where_its_collation_takes_both_for_one(
    conn: sa.Connection, other: sa.Connection, options: Any, of: str
) -> None:
    try:
        other.exec_driver_sql(
            "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except sa.exc.NotSupportedError:
        pytest.skip("PostgreSQL at hand was built without ICU")
    other.exec_driver_sql("CREATE DOMAIN word AS text COLLATE caseless; CREATE DOMAIN title AS word")
    key: sa.Column[Any] = sa.Column("key", CASELESS[of](), primary_key=True)
    table = sa.Table("keyed", sa.MetaData(), key, sa.Column("value", sa.Integer))
    load(conn, table, [("a", 1), ("b", 1)])
    result = load(conn, table, [("x", 1), ("X", 2), ("A", 1), ("b", 1)], **options).tables[0]
    assert (result.inserted, result.updated, result.unchanged) == (1, 1, 1)
    assert sorted(rows_of(conn, "SELECT key::text, value FROM keyed")) == [("A", 1), ("X", 2), ("b", 1)]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("options", [{}, IN_PLACE], ids=["upsert", "in place"])
def test_a_published_table_whose_rows_nothing_tells_apart_is_refused(
    conn: sa.Connection, other: sa.Connection, options: Any, deferrable: bool
) -> None:
    columns = (sa.Column("id", sa.Integer), sa.Column("a", sa.Integer))
    table = sa.Table("t", sa.MetaData(), *columns, sa.PrimaryKeyConstraint("id", deferrable=deferrable))
    load(conn, table, [(1, 2)])
    other.exec_driver_sql("ALTER TABLE t REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE t")
    with pytest.raises(DefinitionError, match=r"public.t.* REPLICA IDENTITY"):
        load(conn, table, [(1, 5), (2, 5)], **options)
    assert rows_of(conn, "SELECT * FROM t") == [(1, 2)]
    load(conn, table, [(3, 5)], upsert=Upsert.OFF)
    other.exec_driver_sql("ALTER TABLE t REPLICA IDENTITY FULL")
    load(conn, table, [(1, 5)], high_watermark=HighWatermark.EARLIEST)
    assert rows_of(conn, "SELECT * FROM t") == [(3, 5), (1, 5)]


def test_why_a_replica_identity_does_not_do_is_told(conn: sa.Connection, other: sa.Connection) -> None:
    if major(conn) < 18:
        pytest.skip("before PostgreSQL 18 generated columns are of any replica identity")
    computed = sa.Column("b", sa.Integer, sa.Computed("a * 2", persisted=True))
    table = sa.Table(
        "t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Integer), computed
    )
    load(conn, table, [(1, 2)])
    other.exec_driver_sql("ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t")
    with pytest.raises(DefinitionError, match=r"must not contain unpublished generated columns.* IDENTITY DEFAULT"):
        load(conn, table, [(1, 5)])


def test_keys_may_be_of_a_type_that_is_no_text(conn: sa.Connection, elsewhere: Callable[[str], sa.Table]) -> None:
    table = elsewhere("hstore")
    for value in (1, 2):
        for options in ({}, IN_PLACE, {**IN_PLACE, "replace": Replace.SWAP}):
            load(conn, table, [("a=>1", value), ("a=>2", value)], **options)
    assert rows_of(conn, "SELECT key::text, value FROM keyed ORDER BY 1") == [('"a"=>"1"', 2), ('"a"=>"2"', 2)]


def test_a_table_that_is_declared_twice_is_refused(conn: sa.Connection) -> None:
    metadata = sa.MetaData()
    for schema in (None, "public"):
        sa.Table("twice", metadata, sa.Column("id", sa.Integer, primary_key=True), schema=schema)
    with pytest.raises(DefinitionError, match=r"public.twice is declared twice"):
        ingest(conn, metadata, lambda _: [])
