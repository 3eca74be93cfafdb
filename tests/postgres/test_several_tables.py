"""Several tables of one run: compared at once, and changed one by one."""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from airflow_ingest_provider import (
    DefinitionError,
    Delete,
    IngestError,
    IngestResult,
    Replace,
    RowError,
    Upsert,
    ingest,
    ingest_plan,
)
from airflow_ingest_provider.core import watermark
from tests.postgres.helpers import is_usable, rows_of, statements_of

NAMES = ("a", "b", "c")


def declared(*more: sa.Column[Any], changed: str = "b", **options: Any) -> sa.MetaData:
    """Tables a, b and c with a key and a text; one of them with more columns."""
    metadata = sa.MetaData()
    for name in NAMES:
        columns: list[sa.Column[Any]] = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text)]
        sa.Table(name, metadata, *columns, *(more if name == changed else ()), **options)
    return metadata


def load(conn: sa.Connection, metadata: sa.MetaData, first: int = 1, **options: Any) -> IngestResult:
    """Ingest one batch with a row for each table."""

    def rows() -> Iterator[Any]:
        for table in metadata.tables.values():
            yield table, (first, *[None] * (len(table.columns) - 1))

    return ingest(conn, metadata, lambda high_watermark: [(first, None, rows())], **options)


def sent_by(conn: sa.Connection, metadata: sa.MetaData, first: int) -> list[str]:
    """The statements of a run, and "COMMIT"."""
    sent = statements_of(conn)
    sa.event.listen(conn, "commit", lambda _: sent.append("COMMIT"))
    load(conn, metadata, first)
    return sent


def test_tables_that_are_as_declared_are_compared_in_one_transaction(conn: sa.Connection) -> None:
    load(conn, declared())
    sent = sent_by(conn, declared(), 2)
    assert sum(one.count("CREATE TABLE") for one in sent if "pg_temp" in one) == len(NAMES) * 2  # and as printed
    assert sum(one.startswith("SAVEPOINT") for one in sent) == 1
    assert sent.count("COMMIT") == 4  # what is there, the high watermark, the comparison, the batch


def test_nothing_is_done_to_tables_for_which_no_rows_come(conn: sa.Connection) -> None:
    metadata = declared()
    table = metadata.tables["b"]
    rows = [(table, (number, "x")) for number in range(1000)]
    sent = statements_of(conn)
    ingest(conn, metadata, lambda mark: [(1, None, rows), (2, None, rows)])
    batches = "\n".join(sent[sent.index(next(one for one in sent if "IN SHARE MODE" in one)) :])
    assert batches.count("IN ACCESS EXCLUSIVE MODE") == batches.count('ANALYZE "public"') == 1
    assert batches.count("CREATE TEMPORARY TABLE") == 1
    assert batches.count("COMMENT ON TABLE") == 2 * 2 + 1  # of the first table and this one; what a swap carries over
    assert rows_of(conn, "SELECT count(*), max(text) FROM b") == [(1000, "x")]


def test_the_high_watermark_is_kept_with_the_first_table_alone(conn: sa.Connection) -> None:
    metadata = declared()
    rows = [(table, (1, "x")) for table in metadata.tables.values()]
    ingest(conn, metadata, lambda mark: [(7, None, rows)])
    comments = rows_of(
        conn, "SELECT relname, obj_description(oid) FROM pg_class WHERE relname IN ('a', 'b') ORDER BY 1"
    )
    assert [(name, watermark.parse(comment).high_watermark) for name, comment in comments] == [("a", 7), ("b", None)]


def test_what_acts_on_the_rows_of_all_tables_is_asked_once_a_batch(conn: sa.Connection) -> None:
    load(conn, declared())
    sent = sent_by(conn, declared(), 2)
    assert sum("FROM pg_rewrite" in one for one in sent[sent.index("COMMIT") :] if "tgtype" in one) == 1


@pytest.mark.parametrize("touched", ["one", "all"])
def test_the_work_of_a_batch_grows_as_its_tables_do_and_no_faster(conn: sa.Connection, touched: str) -> None:
    calls = {count: calls_of_a_batch(conn, count, 1 if touched == "one" else count) for count in (10, 40)}
    assert calls[40] < 4 * calls[10]


def calls_of_a_batch(conn: sa.Connection, count: int, touched: int) -> int:
    """How often a batch calls a function of the package, where so many tables refer to one, and some get a row."""
    metadata = sa.MetaData(schema=f"of_{count}")
    first = sa.Table("first", metadata, sa.Column("id", sa.Integer, primary_key=True))
    for number in range(count - 1):
        sa.Table(f"t{number}", metadata, sa.Column("id", sa.ForeignKey(first.columns.id), primary_key=True))
    tables = list(metadata.tables.values())[:touched]
    calls = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and "airflow_ingest_provider" in frame.f_code.co_filename

    def batches(_: Any) -> Iterator[Any]:
        yield 1, None, [(table, (1,)) for table in tables]
        sys.setprofile(note)
        yield 2, None, [(table, (1,)) for table in tables]
        sys.setprofile(None)

    ingest(conn, metadata, batches)
    return calls


def test_indexes_whose_names_are_alike_in_their_first_63_bytes_get_names_of_their_own(conn: sa.Connection) -> None:
    """SQLAlchemy cuts names at 63 characters, PostgreSQL at 63 bytes: that is 21 characters of Japanese."""
    metadata = sa.MetaData()
    sa.Table(
        "売上明細トランザクション",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("商品マスタカテゴリ大分類", sa.Text, index=True),
        sa.Column("商品マスタカテゴリ中分類", sa.Text, index=True),
    )
    load(conn, metadata)
    assert not any(table.migration for table in load(conn, metadata, 2).tables)
    assert rows_of(conn, "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'ix_%'") == [(2,)]


def test_a_run_needs_no_more_locks_to_compare_many_tables_than_some(conn: sa.Connection, other: sa.Connection) -> None:
    """Of those that are loaded, each batch locks the ones that it has rows for."""
    metadata = sa.MetaData()
    for number in range(120):
        sa.Table(f"t{number}", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text))
    ingest(conn, metadata, lambda _: [(1, None, [])])
    most = 0

    def count(*_: Any) -> None:
        nonlocal most
        held = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database()"
        most = max(most, other.scalar(sa.text(f"{held} AND locktype = 'relation'")) or 0)

    sa.event.listen(conn, "rollback_savepoint", count)
    ingest(conn, metadata, lambda _: [(2, None, [])])
    assert 100 < most < 1000


@pytest.mark.parametrize("room", [20, 60])
def test_a_server_without_room_for_more_locks_says_what_to_raise(
    conn: sa.Connection, other: sa.Connection, room: int
) -> None:
    metadata = sa.MetaData()
    for number in range(40):
        sa.Table(f"t{number}", metadata, sa.Column("id", sa.Integer, primary_key=True))
    with pytest.raises(sa.exc.OperationalError, match="out of shared memory"):
        other.exec_driver_sql("SELECT pg_advisory_lock(number) FROM generate_series(1, 1000000) number")
    other.exec_driver_sql(f"SELECT pg_advisory_unlock(number) FROM generate_series(1, {room}) number")
    try:
        with pytest.raises(IngestError, match=r"no room for more locks: .* raise max_locks_per_transaction"):
            load(conn, metadata)
    finally:
        other.exec_driver_sql("SELECT pg_advisory_unlock_all()")
    assert is_usable(conn)
    load(conn, metadata)


def test_only_tables_that_differ_are_migrated_alone(conn: sa.Connection) -> None:
    load(conn, declared())
    more = declared(sa.Column("note", sa.Text), sa.Column("number", sa.Integer))
    result = load(conn, more, 2)
    assert [bool(table.migration) for table in result.tables] == [False, True, False]
    assert rows_of(conn, "SELECT * FROM b ORDER BY 1") == [(1, None, None, None), (2, None, None, None)]
    again = load(conn, more, 3)
    assert not any(table.migration for table in again.tables)


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_table_that_is_refused_stays_as_it_is(conn: sa.Connection, delete: str) -> None:
    load(conn, declared())
    refused = declared(sa.Column("note", sa.Text, nullable=False))
    with pytest.raises(DefinitionError, match=r"public\.b.* migrate is 'off'"):
        load(conn, refused, 2, migrate="off", delete=delete)
    for name in NAMES:
        assert rows_of(conn, f"SELECT * FROM {name}") == [(1, None)]


@pytest.mark.parametrize("changes", [False, True])
def test_a_refresh_replaces_the_rows_of_all(conn: sa.Connection, changes: bool) -> None:
    load(conn, declared())
    more = [sa.Column("note", sa.Text)] if changes else []
    load(conn, declared(*more), 2, delete=Delete.BEFORE_FIRST_BATCH)
    for name in NAMES:
        assert rows_of(conn, f"SELECT id FROM {name}") == [(2,)]


def test_tables_and_indexes_of_two_schemas_may_have_the_same_names(conn: sa.Connection) -> None:
    metadata = sa.MetaData()
    for schema in ("one", "two"):
        columns: list[sa.Column[Any]] = [
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("text", sa.Text, index=True),
        ]
        sa.Table("same", metadata, *columns, schema=schema)
    load(conn, metadata)
    result = load(conn, metadata, 2)
    assert not any(table.migration for table in result.tables)
    for schema in ("one", "two"):
        assert rows_of(conn, f"SELECT id FROM {schema}.same ORDER BY 1") == [(1,), (2,)]


def test_two_tables_may_have_an_enum_type_in_common(conn: sa.Connection) -> None:
    def of(*labels: str) -> sa.MetaData:
        metadata = sa.MetaData()
        for name in NAMES:
            colour = sa.Enum(*labels, name="colour")
            sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("colour", colour))
        return metadata

    load(conn, of("red", "green"))
    assert not any(table.migration for table in load(conn, of("red", "green"), 2).tables)
    assert any(table.migration for table in load(conn, of("red", "green", "blue"), 3).tables)
    assert not any(table.migration for table in load(conn, of("red", "green", "blue"), 4).tables)


def test_two_enum_types_of_one_table_may_lose_labels_at_once(conn: sa.Connection) -> None:
    def of(*labels: str) -> sa.MetaData:
        return declared(*(sa.Column(name, sa.Enum(*labels, name=name)) for name in ("colour", "shade")))

    load(conn, of("red", "green"))
    load(conn, of("red"), 2)
    assert not any(table.migration for table in load(conn, of("red"), 3).tables)


def test_expressions_that_are_printed_otherwise_once_read_again_are_no_difference(conn: sa.Connection) -> None:
    def checked() -> sa.MetaData:
        metadata = sa.MetaData()
        for name in NAMES:
            within = sa.CheckConstraint("text IN ('x', 'y')")
            sa.Table(name, metadata, sa.Column("id", sa.Integer), sa.Column("text", sa.String(5)), within)
        return metadata

    load(conn, checked())
    for name in NAMES[:2]:
        with conn.begin():
            (printed,) = conn.execute(
                sa.text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = CAST(:name AS regclass)"),
                {"name": name},
            ).one()
            conn.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT {name}_text_check, ADD {printed}")
    assert not any(table.migration for table in load(conn, checked(), 2).tables)


def family(*, parent_key: bool = True) -> tuple[sa.MetaData, sa.Table, sa.Table]:
    """A parent, which may have a unique constraint in place of a key, and a child that refers to it."""
    metadata = sa.MetaData()
    column = sa.Column("id", sa.Integer, primary_key=parent_key, unique=not parent_key, autoincrement=False)
    parent = sa.Table("parent", metadata, column, sa.Column("name", sa.Text))
    columns = [sa.Column("id", sa.Integer, primary_key=parent_key, autoincrement=False)]
    child = sa.Table("child", metadata, *columns, sa.Column("parent", sa.ForeignKey(parent.c.id)))
    return metadata, parent, child


def test_a_child_that_hardly_changes_is_swapped_with_its_parent(conn: sa.Connection) -> None:
    metadata, parent, child = family()
    rows: list[Any] = [(child, (number, number % 100)) for number in range(1000)]
    rows += [(parent, (number, "x")) for number in range(100)]
    ingest(conn, metadata, lambda mark: [(1, None, rows)])
    rows += [(child, (1000, 500)), (parent, (500, "new"))]
    ingest(conn, metadata, lambda mark: [(2, None, rows)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT parent FROM child WHERE id = 1000") == [(500,)]
    assert rows_of(conn, "SELECT count(*) FROM parent") == [(101,)]


def test_a_parent_without_a_primary_key_is_there_when_its_children_come(conn: sa.Connection) -> None:
    metadata, parent, child = family(parent_key=False)
    rows: list[Any] = [(parent, (number, "x")) for number in range(600)]
    rows += [(child, (number, number)) for number in range(600)]
    ingest(conn, metadata, lambda mark: [(1, None, rows)])
    assert rows_of(conn, "SELECT count(*) FROM child JOIN parent ON parent.id = child.parent") == [(600,)]


def test_a_rule_on_a_table_without_a_key_is_refused_and_loses_no_rows(
    conn: sa.Connection, other: sa.Connection
) -> None:
    metadata, parent, child = family(parent_key=False)
    ingest(conn, metadata, lambda mark: [(1, None, [(parent, (1, "x"))])])
    other.exec_driver_sql("CREATE RULE lost AS ON INSERT TO child DO INSTEAD NOTHING")
    with pytest.raises(DefinitionError, match=r"public\.child: .* rule lost"):
        ingest(conn, metadata, lambda mark: [(2, None, [(child, (1, 1))])])


def coded(kind: Any = sa.Integer, *, refers: str | None = "id", **tables: bool) -> sa.MetaData:
    """Parents, and children that refer to their key or, where they have one, their code."""
    metadata = sa.MetaData()
    code = [sa.Column("code", kind, unique=True)] if refers == "code" else []
    key = sa.PrimaryKeyConstraint("id", deferrable=tables.get("deferrable"))
    sa.Table("parent", metadata, sa.Column("id", kind, autoincrement=False), *code, key)
    if tables.get("child", True):
        keys = [sa.ForeignKey(f"parent.{refers}")] if refers else []
        columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("parent", kind, *keys)]
        sa.Table("child", metadata, *columns)
    return metadata


REFERRING: dict[str, Any] = {
    "a new column": (coded(refers=None), coded(refers="code")),
    "a new column, and no longer the key": (coded(), coded(refers="code")),
    "a new column, from a new table": (coded(child=False), coded(refers="code")),
    "a key that was DEFERRABLE": (coded(refers=None, deferrable=True), coded()),
    "a key that was DEFERRABLE, from a new table": (coded(child=False, deferrable=True), coded()),
    "a key of another type": (coded(), coded(sa.Text)),
    "a new column of another type": (coded(), coded(sa.Text, refers="code")),
}


@pytest.mark.parametrize("change", REFERRING.values(), ids=REFERRING.keys())
@pytest.mark.parametrize(
    "options",
    [{}, {"delete": Delete.BEFORE_FIRST_BATCH}, {"delete": Delete.BEFORE_FIRST_BATCH, "replace": Replace.IN_PLACE}],
    ids=["kept", "swapped", "in place"],
)
def test_a_foreign_key_comes_once_what_it_refers_to_is_there(
    conn: sa.Connection, change: tuple[sa.MetaData, sa.MetaData], options: dict[str, Any]
) -> None:
    before, after = change
    parent, child = after.tables.values()
    referred = "code" if "code" in parent.c else "id"
    rows: list[Any] = [(before.tables["parent"], (1,))]
    if "child" in before.tables:
        rows += [(before.tables["child"], (1, 1 if referred == "id" else None))]
    ingest(conn, before, lambda mark: [(1, None, rows)])
    one: Any = "1" if isinstance(parent.c.id.type, sa.Text) else 1
    new = [(child, (1, one)), (parent, (one,) * len(parent.columns))]
    ingest(conn, after, lambda mark: [(2, None, new)], **options)
    assert not ingest_plan(conn, after)
    key = rows_of(conn, "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'")
    assert key == [("child_parent_fkey", f"FOREIGN KEY (parent) REFERENCES parent({referred})")]
    assert rows_of(conn, "SELECT id, parent FROM child") == [(1, one)]


def test_a_plan_shows_a_foreign_key_to_a_table_that_is_yet_to_be_created(conn: sa.Connection) -> None:
    before = sa.MetaData()
    coded(refers=None).tables["child"].to_metadata(before)
    ingest(conn, before, lambda mark: [(1, None, [])])
    parent, child = ingest_plan(conn, coded()).tables
    assert "parent" in str(parent)
    assert child.lines == ("added a foreign key to public.parent",)
    load(conn, coded(), 2)
    assert not ingest_plan(conn, coded())


def test_a_foreign_key_that_fits_all_the_time_stays_all_the_time(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, coded())
    other.exec_driver_sql("COMMENT ON CONSTRAINT child_parent_fkey ON child IS 'theirs'")
    result = load(conn, coded(sa.BigInteger), 2)
    assert [one.migration for one in result.tables] == [("id: integer -> bigint",), ("parent: integer -> bigint",)]
    comment = "SELECT obj_description(oid) FROM pg_constraint WHERE conname = 'child_parent_fkey'"
    assert rows_of(conn, comment) == [("theirs",)]


def test_a_foreign_key_of_somebody_else_between_types_is_refused_and_stays(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, coded())
    other.exec_driver_sql(
        "ALTER TABLE child ADD CONSTRAINT theirs FOREIGN KEY (parent) REFERENCES parent ON DELETE CASCADE"
    )
    with pytest.raises(DefinitionError, match=r"foreign key theirs of public\.child .* does not fit"):
        load(conn, coded(sa.Text), 2)
    assert rows_of(conn, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == [(2,)]


def test_rows_come_to_an_empty_parent_before_those_that_refer_to_it_by_a_new_foreign_key(conn: sa.Connection) -> None:
    before = coded(refers=None)
    ingest(conn, before, lambda mark: [(1, None, [(before.tables["child"], (0, None))])])
    after = coded(refers="code")
    rows: list[Any] = [(after.tables["child"], (number, number)) for number in range(600)]
    rows += [(after.tables["parent"], (number, number)) for number in range(600)]
    ingest(conn, after, lambda mark: [(2, None, rows)])
    assert rows_of(conn, "SELECT count(*) FROM child JOIN parent ON parent.code = child.parent") == [(600,)]


def test_a_new_foreign_key_comes_though_its_tables_are_replaced_in_place(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, coded(refers=None))
    other.exec_driver_sql("""
        CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER watched BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION watch()
    """)
    load(conn, coded(refers="code"), 2, delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT id FROM parent") == rows_of(conn, "SELECT id FROM child") == [(2,)]
    assert not ingest_plan(conn, coded(refers="code"))


WAYS = (Replace.SWAP, Replace.IN_PLACE, Replace.AUTO)


def circle(*, primary_key: bool, **options: Any) -> tuple[sa.MetaData, sa.Table, sa.Table]:
    """Two tables that refer to each other, by keys that are not deferrable unless it is said."""
    metadata = sa.MetaData()
    tables = [
        sa.Table(
            name,
            metadata,
            sa.Column("id", sa.Integer, primary_key=primary_key, unique=not primary_key, autoincrement=False),
            sa.Column("other", sa.ForeignKey(f"{other}.id", name=f"to_{other}", use_alter=True, **options)),
        )
        for name, other in (("left", "right"), ("right", "left"))
    ]
    return metadata, tables[0], tables[1]


@pytest.mark.parametrize(("primary_key", "replace"), [(True, Replace.SWAP), (False, Replace.AUTO)])
def test_tables_that_refer_to_each_other_in_a_circle_are_swapped(
    conn: sa.Connection, primary_key: bool, replace: str
) -> None:
    metadata, left, right = circle(primary_key=primary_key)

    def refresh(rows: list[Any]) -> None:
        ingest(conn, metadata, lambda mark: [(1, None, rows)], delete=Delete.BEFORE_FIRST_BATCH, replace=replace)

    for first in (1, 2):
        refresh([(table, (number, number)) for table in (left, right) for number in range(first, first + 3)])
        joined = 'SELECT l.id FROM "left" l JOIN "right" r ON (l.id, l.other) = (r.other, r.id) ORDER BY 1'
        assert rows_of(conn, joined) == [(first,), (first + 1,), (first + 2,)]
    with pytest.raises(RowError, match=r"public\.left.*'to_right'.*23503"):
        refresh([(left, (1, 7))])


@pytest.mark.parametrize("deferred", ["left", "right"])
@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_of_tables_in_a_circle_those_whose_keys_are_checked_at_once_come_last(
    conn: sa.Connection, deferred: str, delete: str
) -> None:
    metadata = sa.MetaData()
    apart = sa.Table("zebra", metadata, sa.Column("id", sa.Integer, primary_key=True))
    tables = [
        sa.Table(
            name,
            metadata,
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column(
                "other",
                sa.ForeignKey(
                    f"{other}.id", deferrable=True, initially="DEFERRED" if name == deferred else "IMMEDIATE"
                ),
            ),
            sa.Column("apart", sa.ForeignKey(apart.c.id)),
        )
        for name, other in (("left", "right"), ("right", "left"))
    ]

    def rows(first: int) -> Iterator[Any]:
        for number in range(first, first + 3):
            yield from ((table, (number,) * 3) for table in tables)
            yield apart, (number,)

    def refresh(first: int) -> None:
        ingest(conn, metadata, lambda mark: [(1, None, rows(first))], delete=delete, replace=Replace.IN_PLACE)

    for first in (1, 2):
        refresh(first)
        joined = 'SELECT max(id) FROM "left" JOIN "right" USING (id, other, apart) JOIN zebra USING (id)'
        assert rows_of(conn, joined) == [(first + 2,)]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_foreign_key_that_people_added_between_two_of_the_tables_decides_which_comes_first(
    conn: sa.Connection, other: sa.Connection, delete: str
) -> None:
    metadata = sa.MetaData()
    child = sa.Table("child", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("p", sa.Integer))
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))

    def refresh(number: int) -> None:
        rows = [(child, (number, number)), (parent, (number,))]
        ingest(conn, metadata, lambda mark: [(1, None, rows)], delete=delete)

    refresh(1)
    other.exec_driver_sql("ALTER TABLE child ADD FOREIGN KEY (p) REFERENCES parent")
    refresh(2)
    assert rows_of(conn, "SELECT max(c.id) FROM child c JOIN parent p ON p.id = c.p") == [(2,)]


@pytest.mark.parametrize("first", [1, 600])
def test_a_deferred_key_that_does_not_hold_is_told_before_the_callback_and_without_its_value(
    conn: sa.Connection, first: int
) -> None:
    metadata = sa.MetaData()
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    key = sa.ForeignKey(parent.c.id, name="late", deferrable=True, initially="DEFERRED")
    child = sa.Table("child", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("parent", key))
    called: list[Any] = []

    def run(missing: int) -> None:
        rows = [(child, (1, missing)), *((parent, (number,)) for number in range(first))]
        ingest(conn, metadata, lambda mark: [(1, None, rows)], lambda inside, table, metadata: called.append(table))

    with pytest.raises(RowError, match=r"public\.child: no row of the referred table.*'late'.*23503") as refused:
        run(424242)
    assert "424242" not in str(refused.value)
    assert refused.value.table == "public.child"
    assert refused.value.__suppress_context__
    assert not called
    run(0)
    assert len(called) == 2
    assert rows_of(conn, "SELECT * FROM child") == [(1, 0)]


def test_a_deferred_unique_key_is_told_before_the_callback(conn: sa.Connection) -> None:
    metadata = sa.MetaData()
    columns: list[sa.Column[Any]] = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text)]
    unique = sa.UniqueConstraint("name", name="named_once", deferrable=True, initially="DEFERRED")
    table = sa.Table("named", metadata, *columns, unique)

    def run(*rows: tuple[int, str], **options: Any) -> None:
        ingest(conn, metadata, lambda mark: [(1, None, [(table, row) for row in rows])], **options)

    run((1, "a"), (2, "b"))
    run((1, "b"), (2, "a"))
    assert rows_of(conn, "SELECT * FROM named ORDER BY 1") == [(1, "b"), (2, "a")]
    called: list[Any] = []
    ways: list[dict[str, Any]] = [{}, {"upsert": Upsert.OFF}, {"delete": Delete.BEFORE_FIRST_BATCH}]
    for options in ways:
        with pytest.raises(RowError, match=r"public\.named: a row with this key is there already.*'named_once'"):
            run((3, "a"), (4, "a"), on_before_visible=lambda inside, metadata: called.append(metadata), **options)
    assert not called
    assert rows_of(conn, "SELECT * FROM named ORDER BY 1") == [(1, "b"), (2, "a")]


def test_tables_whose_deferred_keys_wait_for_each_other_are_swapped_and_refreshed(conn: sa.Connection) -> None:
    metadata = sa.MetaData()
    late: dict[str, Any] = {"deferrable": True, "initially": "DEFERRED"}
    parent = sa.Table(
        "parent",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("above", sa.ForeignKey("parent.id", **late)),
    )
    columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("parent", sa.ForeignKey("parent.id", **late))]
    child = sa.Table("child", metadata, *columns)
    rows: list[Any] = [(child, (number, number % 10)) for number in range(600)]
    rows += [(parent, (number, number // 2)) for number in range(10)]
    ways: list[dict[str, Any]] = [{"replace": way, "delete": Delete.BEFORE_FIRST_BATCH} for way in WAYS]
    for options in ({}, *ways):
        ingest(conn, metadata, lambda mark: [(1, None, rows)], **options)
        assert rows_of(conn, "SELECT count(*) FROM child JOIN parent ON parent.id = child.parent") == [(600,)]


@pytest.mark.parametrize("count", [1, 600])
def test_a_circle_that_cannot_be_filled_says_which_foreign_key_has_to_be_deferred(
    conn: sa.Connection, count: int
) -> None:
    def fill(**options: Any) -> None:
        metadata, left, right = circle(primary_key=True, **options)
        rows = [(table, (number, number)) for table in (left, right) for number in range(count)]
        ingest(conn, metadata, lambda mark: [(1, None, rows)])

    with pytest.raises(RowError, match=r"'to_right'.*rows of public\.right come after.*INITIALLY DEFERRED"):
        fill()
    fill(deferrable=True, initially="DEFERRED")
    assert rows_of(conn, 'SELECT count(*) FROM "left" JOIN "right" USING (id, other)') == [(count,)]


@pytest.mark.parametrize("upsert", [Upsert.OFF, Upsert.IF_PRIMARY_KEY])
def test_rows_that_refer_to_later_ones_of_their_own_table_may_come_with_arrow(conn: sa.Connection, upsert: str) -> None:
    metadata = sa.MetaData()
    id_ = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
    table = sa.Table("people", metadata, id_, sa.Column("boss", sa.ForeignKey(id_)))
    ingest(conn, metadata, lambda mark: [(1, None, [(table, (0, None))])])
    frame = pa.table({"id": pa.array([1], pa.int32()), "boss": pa.array([10], pa.int32())})
    rows = [(table, frame), (table, (10, 20)), (table, frame.slice(1)), (table, (20, None))]
    result = ingest(conn, metadata, lambda mark: [(2, None, rows)], upsert=upsert).tables[0]
    assert rows_of(conn) == [(0, None), (1, 10), (10, 20), (20, None)]
    assert result.inserted == 3


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))


@pytest.mark.parametrize("given", [Post, Post.__table__], ids=["class", "table"])
@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_one_table_of_a_metadata_is_loaded_and_the_others_stay(conn: sa.Connection, given: Any, delete: str) -> None:
    ingest(conn, Base.metadata, lambda mark: [(1, None, [(User.__table__, (1,)), (Post.__table__, (1, 1))])])
    assert [str(table.table) for table in ingest_plan(conn, given, delete=delete).tables] == ["public.posts"]
    result = ingest(conn, given, lambda mark: [(2, None, [(Post.__table__, (2, 1))])], delete=delete)
    assert [table.table for table in result.tables] == ["public.posts"]
    assert rows_of(conn, "SELECT * FROM users") == [(1,)]
    assert rows_of(conn, 'SELECT id, "user" FROM posts ORDER BY 1') == [(1, 1)] * (delete == Delete.OFF) + [(2, 1)]
    with conn.begin(), pytest.raises(sa.exc.IntegrityError):
        conn.exec_driver_sql("DELETE FROM users")


def test_a_table_that_refers_to_one_that_is_not_loaded_is_created_once_that_is_there(conn: sa.Connection) -> None:
    ingest(conn, User, lambda mark: [(1, None, [(User.__table__, (1,))])])
    ingest(conn, Post, lambda mark: [(1, None, [(Post.__table__, (1, 1))])])
    assert not ingest_plan(conn, Base.metadata)


@pytest.mark.parametrize("replace", [Replace.SWAP, Replace.IN_PLACE])
def test_a_refresh_that_empties_a_table_beside_others_says_so(
    conn: sa.Connection, caplog: pytest.LogCaptureFixture, replace: str
) -> None:
    metadata = declared()
    a, b, _ = metadata.tables.values()
    ingest(conn, metadata, lambda mark: [(None, None, [(a, (1, "x")), (b, (1, "x"))])])
    options: dict[str, Any] = {"delete": Delete.BEFORE_FIRST_BATCH, "replace": replace}
    told = "public.b: all rows were to be replaced, and none came: empty now"
    ingest(conn, metadata, lambda mark: [(None, None, [(a, (2, "x"))]), (None, None, [(b, (2, "x"))])], **options)
    assert "none came" not in caplog.text
    ingest(conn, metadata, lambda mark: [(None, None, [(a, (3, "x"))])], **options)
    assert [one.message.startswith(told) for one in caplog.records if one.levelname == "WARNING"] == [True]
    caplog.clear()
    ingest(conn, metadata, lambda mark: [(None, None, [(a, (4, "x"))])], **options)
    assert "none came" not in caplog.text
