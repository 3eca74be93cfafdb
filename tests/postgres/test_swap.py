"""A full refresh and a rebuild replace a live table: what hangs on it stays, and readers go on."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from airflow_ingest_provider import DefinitionError, Delete, LockNotAcquired, Replace, RowError, ingest
from airflow_ingest_provider.core import attachments, catalog, dependents, locks
from airflow_ingest_provider.core import swap as swap_module
from airflow_ingest_provider.demo.server import Server
from tests.postgres.helpers import is_usable, load, people, rows_of

ROLES = ("ingest_reader", "ingest_writer", "ingest_owner")

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


@pytest.fixture
def roles(other: sa.Connection) -> Iterator[None]:
    for role in ROLES:
        other.exec_driver_sql(f"CREATE ROLE {role}")
    yield
    for role in ROLES:
        other.exec_driver_sql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def hanging(conn: sa.Connection, name: str = "people") -> Any:
    """All that hangs on a relation and on the views over it, as statements; without the state in the comment."""
    with conn.begin():
        _, oid = catalog.find(conn, "public", name)
        assert oid is not None
        own = [one.statement for one in attachments.attached(conn, oid) if not one.holds_state]
        views = [
            (
                one.name,
                one.kind,
                one.definition,
                one.options,
                one.populated,
                one.owner,
                one.attached,
                one.statistics,
                one.shape and one.shape.indexes,
            )
            for one in dependents.dependents(conn, [oid])
        ]
        shape = catalog.table_shape(conn, oid)
        parts: list[Any] = [*shape.constraints, *shape.foreign_keys, *shape.indexes]
        names = sorted(one.name for one in parts)
        tuning = [(one.name, one.tuning, one.default, one.sequence, one.comment) for one in shape.columns]
        return own, views, names, tuning, attachments.settings(conn, oid), dependents.inbound_keys(conn, oid)


def oid_of(conn: sa.Connection, name: str) -> int:
    ((oid,),) = rows_of(conn, f"SELECT '{name}'::regclass::oid::bigint")
    return int(oid)


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
        while not other.scalar(waits):
            pass
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


@pytest.mark.usefixtures("roles")
def test_backends_of_others_are_not_ended_without_the_right_to(
    server: Server, database: str, other: sa.Connection, dsn: str
) -> None:
    other.exec_driver_sql("ALTER ROLE ingest_owner LOGIN; GRANT CREATE ON SCHEMA public TO ingest_owner")
    engine = sa.create_engine(server.url("psycopg", database).set(username="ingest_owner"), poolclass=sa.NullPool)
    with engine.connect() as plain, psycopg.connect(dsn) as reader:
        load(plain, people(), [(1, "a", 1)])
        reader.execute("SELECT * FROM people")
        with pytest.raises(LockNotAcquired, match="the role may not end it"):
            load(
                plain,
                people(),
                [(2, "b", 2)],
                delete=Delete.BEFORE_FIRST_BATCH,
                lock_patience=timedelta(milliseconds=300),
                end_blockers=True,
            )
        assert reader.execute("SELECT count(*) FROM people").fetchone() == (1,)
        assert is_usable(plain)
    engine.dispose()


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


def test_what_a_swap_would_lose_stops_it_by_name(
    conn: sa.Connection, other: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("CREATE ROLE ingest_reader; GRANT SELECT ON people TO ingest_reader")
    table = oid_of(conn, "people")
    monkeypatch.setattr(swap_module, "_give_names", lambda prepared: [])
    with pytest.raises(DefinitionError, match=r"which would not have as they are: people_pkey of the table"):
        load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH)
    assert (oid_of(conn, "people"), rows_of(conn)) == (table, [(1, "a", 1)])
    other.exec_driver_sql("DROP OWNED BY ingest_reader CASCADE; DROP ROLE ingest_reader")


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


def test_nobody_waits_for_the_query_of_a_materialized_view(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("""
        CREATE TABLE towns (name text);
        INSERT INTO towns VALUES ('b');
        CREATE MATERIALIZED VIEW slow AS
            SELECT p.id, t.name, pg_sleep(0.5)::text AS slept FROM people p JOIN towns t USING (name);
        CREATE UNIQUE INDEX slow_id ON slow (id);
        CREATE INDEX slow_upper ON slow (upper(name));
        COMMENT ON MATERIALIZED VIEW slow IS 'slowly';
        CREATE VIEW upon AS SELECT * FROM slow;
    """)
    before = other.exec_driver_sql("SHOW search_path").scalar()
    result = load(conn, people(), [(2, "b", 2), (3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH)
    assert result.readers_kept < 0.4
    assert rows_of(conn, "SELECT id, name FROM upon") == [(2, "b")]
    assert rows_of(conn, "SELECT indexname FROM pg_indexes WHERE tablename = 'slow' ORDER BY 1") == [
        ("slow_id",),
        ("slow_upper",),
    ]
    assert rows_of(conn, "SHOW search_path") == [(before,)]
    assert rows_of(conn, "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%ingest%'") == []


@pytest.fixture
def analyst(other: sa.Connection) -> Iterator[str]:
    """A role that may make materialized views, and is not the one that loads."""
    role = "ingest_analyst"
    other.exec_driver_sql(f"CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}")
    yield role
    other.exec_driver_sql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def _stored_by(other: sa.Connection, role: str, grants: str) -> None:
    """A materialized view of the role's own, on what it may see; each row says who ran the query."""
    other.exec_driver_sql(f"""
        {grants};
        SET ROLE {role};
        CREATE MATERIALIZED VIEW stored AS SELECT id, name, current_user::text AS seen_by FROM people;
        RESET ROLE;
    """)


def test_the_query_of_a_materialized_view_runs_as_its_owner(
    conn: sa.Connection, other: sa.Connection, analyst: str
) -> None:
    load(conn, people(), [(1, "a", 1)])
    _stored_by(other, analyst, f"GRANT SELECT ON people TO {analyst}")
    grants = "SELECT aclexplode(relacl)::text FROM pg_class WHERE relname = 'people' ORDER BY 1"
    before = rows_of(conn, grants)
    load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT * FROM stored") == [(2, "b", analyst)]
    assert rows_of(conn, grants) == before


def test_a_materialized_view_holds_no_more_than_its_owner_may_see(
    conn: sa.Connection, other: sa.Connection, analyst: str
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    _stored_by(other, analyst, f"GRANT SELECT (id, name) ON people TO {analyst}")
    other.exec_driver_sql(f"""
        CREATE FUNCTION sees_ages() RETURNS bool LANGUAGE sql AS
            $$SELECT bool_or(has_column_privilege(attrelid, attnum, 'SELECT'))
              FROM pg_attribute WHERE attname = 'age'$$;
        SET ROLE {analyst};
        CREATE MATERIALIZED VIEW seeing AS SELECT id, sees_ages() FROM people;
        RESET ROLE
    """)
    load(conn, people(), [(2, "b", 2), (3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert rows_of(conn, "SELECT * FROM stored ORDER BY id") == [(2, "b", analyst), (3, "c", analyst)]
    assert rows_of(conn, "SELECT * FROM seeing ORDER BY id") == [(2, False), (3, False)]


STAYS = {
    "owner may read no more": ("REVOKE SELECT ON people FROM {}", "whose owner {} may not read people"),
    "owner may read less": (
        "REVOKE SELECT ON people FROM {0}; GRANT SELECT (id) ON people TO {0}",
        "whose owner {} may not read people",
    ),
    "owner may not read another table": (
        """DROP MATERIALIZED VIEW stored;
           CREATE TABLE towns (name text);
           CREATE MATERIALIZED VIEW stored AS SELECT id, p.name, '{0}' FROM people p LEFT JOIN towns USING (name);
           ALTER MATERIALIZED VIEW stored OWNER TO {0}""",
        "whose owner {} may not read towns",
    ),
    "owner may not run a function": (
        """DROP MATERIALIZED VIEW stored;
           CREATE FUNCTION same(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
           REVOKE EXECUTE ON FUNCTION same FROM PUBLIC;
           CREATE MATERIALIZED VIEW stored AS SELECT id, same(name), '{0}' FROM people;
           ALTER MATERIALIZED VIEW stored OWNER TO {0}""",
        r"whose owner {} may not run same\(text\)",
    ),
    "no rows yet": (
        """DROP MATERIALIZED VIEW stored;
           CREATE MATERIALIZED VIEW empty AS SELECT id FROM people;
           CREATE MATERIALIZED VIEW stored AS SELECT id, name, '{}' FROM people LEFT JOIN empty USING (id);
           REFRESH MATERIALIZED VIEW empty WITH NO DATA""",
        "which reads empty, which has no rows yet",
    ),
    "function": (
        """DROP MATERIALIZED VIEW stored;
           CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.People';
           CREATE MATERIALIZED VIEW stored AS SELECT id, name, '{}' AS seen_by FROM people WHERE total() > 0""",
        r"whose function total\(\) names people too",
    ),
    "WITH of the same name": (
        """DROP MATERIALIZED VIEW stored;
           CREATE MATERIALIZED VIEW stored AS
               WITH people AS (SELECT id, name FROM public.people) SELECT id, name, '{}' FROM people""",
        "in which people is not the only relation called so",
    ),
    "policy": (
        "ALTER TABLE people ENABLE ROW LEVEL SECURITY; CREATE POLICY old ON people USING (age > 2)",
        "from whose owner {} policies keep rows of people",
    ),
    "view on the table": (
        """DROP MATERIALIZED VIEW stored;
           CREATE VIEW names AS SELECT id, name FROM people;
           CREATE MATERIALIZED VIEW stored AS SELECT id, n.name, '{}' FROM people JOIN names n USING (id)""",
        "which reads view names too",
    ),
}


@pytest.mark.parametrize(("script", "reason"), STAYS.values(), ids=STAYS.keys())
def test_a_materialized_view_whose_query_readers_would_wait_for_stays_as_it_is(
    conn: sa.Connection, other: sa.Connection, analyst: str, script: str, reason: str
) -> None:
    load(conn, people(), [(1, "a", 1)])
    _stored_by(other, analyst, f"GRANT SELECT ON people TO {analyst}")
    other.exec_driver_sql(script.format(analyst))
    match = f"materialized view stored, {reason.format(analyst)}"
    with pytest.raises(DefinitionError, match=match):
        load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    with pytest.raises(DefinitionError, match=match):
        load(conn, people_with_long_age(), [])
    load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn) == [(2, "b", 2)]
    assert rows_of(conn, "SELECT * FROM stored") == [(1, "a", analyst)]


def test_without_create_on_the_database_materialized_views_stay_as_they_are(
    other: sa.Connection, server: Server, database: str, analyst: str
) -> None:
    other.exec_driver_sql(f"ALTER ROLE {analyst} LOGIN")
    engine = sa.create_engine(server.url("psycopg", database).set(username=analyst), poolclass=sa.NullPool)
    with engine.connect() as conn:
        load(conn, people(), [(1, "a", 1)])
        _stored_by(other, analyst, "")
        match = f"materialized view stored, since role {analyst} needs CREATE on database {database}"
        with pytest.raises(DefinitionError, match=match):
            load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
        load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH)
        assert rows_of(conn, "SELECT * FROM stored") == [(1, "a", analyst)]
        other.exec_driver_sql(f"GRANT CREATE ON DATABASE {database} TO {analyst}")
        load(conn, people(), [(3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH)
        assert rows_of(conn, "SELECT * FROM stored") == [(3, "c", analyst)]


SLOW = "pg_sleep(0.5)::text AS slept"


def test_nobody_waits_for_materialized_views_of_materialized_views(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql(f"""
        CREATE SCHEMA "else""where";
        CREATE MATERIALIZED VIEW "else""where".people AS SELECT id, name FROM people;
        CREATE MATERIALIZED VIEW first AS SELECT id, age FROM people;
        CREATE VIEW between AS SELECT age FROM first;
        CREATE MATERIALIZED VIEW second AS
            SELECT f.age, p.name, {SLOW} FROM first f JOIN "else""where".people p USING (id);
        CREATE STATISTICS of_second ON age, name FROM second;
        CREATE MATERIALIZED VIEW last AS SELECT age FROM between;
    """)
    before = hanging(conn)[1]
    result = load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert result.readers_kept < 0.4
    assert rows_of(conn, "SELECT age, name FROM second") == [(2, "b")]
    assert rows_of(conn, "SELECT * FROM between") == [(2,)]
    assert rows_of(conn, "SELECT * FROM last") == [(1,)], "it reads a view, and stays as it was last refreshed"
    assert hanging(conn)[1] == before


def test_nobody_waits_for_materialized_views_of_two_tables(conn: sa.Connection, other: sa.Connection) -> None:
    metadata = sa.MetaData()
    one, two = (sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True)) for name in ("one", "two"))

    def give(first: int) -> Any:
        return lambda mark: [(first, None, [(table, (first,)) for table in (one, two)])]

    ingest(conn, metadata, give(1))
    other.exec_driver_sql(f"""
        CREATE VIEW both_now AS SELECT one.id FROM one JOIN two USING (id);
        CREATE MATERIALIZED VIEW both_then AS SELECT one.id, {SLOW} FROM one JOIN two USING (id);
        CREATE VIEW above AS SELECT id FROM both_then;
    """)
    result = ingest(conn, metadata, give(2), delete=Delete.BEFORE_FIRST_BATCH)
    assert result.readers_kept < 0.4
    for name in ("both_now", "both_then", "above"):
        assert rows_of(conn, f"SELECT id FROM {name}") == [(2,)]


def test_a_materialized_view_of_one_table_and_of_a_view_on_another_is_not_built_on_old_rows(
    conn: sa.Connection, other: sa.Connection
) -> None:
    metadata = sa.MetaData()
    one, two = (sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True)) for name in ("one", "two"))
    sources = [[(table, (first,)) for table in (one, two)] for first in (1, 2)]
    ingest(conn, metadata, lambda mark: [(1, None, sources[0])])
    other.exec_driver_sql("""
        CREATE VIEW of_two AS SELECT id FROM two;
        CREATE MATERIALIZED VIEW mixed AS SELECT one.id, of_two.id AS other FROM one, of_two;
    """)
    ingest(conn, metadata, lambda mark: [(2, None, sources[1])], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT id FROM one JOIN two USING (id)") == [(2,)]
    assert rows_of(conn, "SELECT * FROM mixed") == [(1, 1)], "as it was last refreshed"


def people_with_long_age() -> sa.Table:
    return sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("age", sa.BigInteger),
    )


@pytest.mark.usefixtures("roles")
def test_nobody_waits_for_materialized_views_of_views_that_are_made_again(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql(f"""
        CREATE VIEW ages WITH (security_barrier) AS SELECT id, age FROM people;
        GRANT SELECT ON people TO ingest_owner;
        ALTER VIEW ages OWNER TO ingest_owner;
        GRANT SELECT (age) ON ages TO ingest_reader;
        CREATE VIEW next AS SELECT age + 1 AS age FROM ages;
        CREATE MATERIALIZED VIEW slow AS SELECT age, {SLOW} FROM next;
        CREATE UNIQUE INDEX of_slow ON slow (age);
        CREATE VIEW names AS SELECT name FROM people;
        CREATE MATERIALIZED VIEW stays AS SELECT name FROM names;
    """)
    before, names, stays = sorted(hanging(conn)[1]), oid_of(conn, "names"), oid_of(conn, "stays")
    result = load(conn, people_with_long_age(), [(2, "b", 5_000_000_000)])
    assert result.readers_kept < 0.4
    assert sorted(hanging(conn)[1]) == before
    assert rows_of(conn, "SELECT age FROM slow") == [(2,)]
    assert rows_of(conn, "SELECT age FROM next ORDER BY 1") == [(2,), (5_000_000_001,)]
    assert (oid_of(conn, "names"), oid_of(conn, "stays")) == (names, stays)


def test_a_materialized_view_without_rows_may_read_a_view_on_the_table_too(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("""
        CREATE VIEW names AS SELECT id, name FROM people;
        CREATE MATERIALIZED VIEW empty AS SELECT id, n.name FROM people JOIN names n USING (id) WITH NO DATA;
    """)
    before = hanging(conn)[1]
    load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert hanging(conn)[1] == before


def test_policies_of_one_table_do_not_hinder_materialized_views_of_another(
    conn: sa.Connection, other: sa.Connection, analyst: str
) -> None:
    metadata = sa.MetaData()
    one, two = (sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True)) for name in ("one", "two"))
    sources = [[(table, (first,)) for table in (one, two)] for first in (1, 2)]
    ingest(conn, metadata, lambda mark: [(1, None, sources[0])])
    other.exec_driver_sql(f"""
        ALTER TABLE one ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON two TO {analyst};
        CREATE MATERIALIZED VIEW of_one AS SELECT id FROM one;
        SET ROLE {analyst};
        CREATE MATERIALIZED VIEW of_two AS SELECT id FROM two;
        RESET ROLE;
    """)
    ingest(conn, metadata, lambda mark: [(2, None, sources[1])], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert rows_of(conn, "SELECT of_one.id FROM of_one JOIN of_two USING (id)") == [(2,)]


def test_parts_of_a_materialized_view_without_rows_get_in_nobodys_way(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(1, "a", 1)])
    long = "x" * 63
    for name in ("empty", long):
        other.exec_driver_sql(f"""
            CREATE VIEW of_{name} AS SELECT id, name FROM people;
            CREATE MATERIALIZED VIEW {name} AS SELECT id, n.name FROM people JOIN of_{name} n USING (id) WITH NO DATA;
            CREATE INDEX {name[:9]}_one ON {name} (id);
            CREATE INDEX {name[:9]}_two ON {name} (name);
            CREATE STATISTICS {name[:9]}_three ON id, name FROM {name};
        """)
    other.exec_driver_sql("CREATE TABLE empty_0 (a int)")
    before = hanging(conn)[1]
    load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    assert hanging(conn)[1] == before


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


def test_an_owner_who_may_have_no_new_relations_in_the_schema_is_no_error(
    other: sa.Connection, server: Server, database: str, analyst: str
) -> None:
    role = "ingest_loader"
    other.exec_driver_sql(f"CREATE ROLE {role} LOGIN; GRANT {analyst} TO {role}")
    other.exec_driver_sql(f"GRANT CREATE ON DATABASE {database} TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
    engine = sa.create_engine(server.url("psycopg", database).set(username=role), poolclass=sa.NullPool)
    with engine.connect() as conn:
        load(conn, people(), [(1, "a", 1)])
        _stored_by(other, analyst, f"GRANT SELECT ON people TO {analyst}")
        other.exec_driver_sql(f"REVOKE CREATE ON SCHEMA public FROM {analyst}, PUBLIC")
        with pytest.raises(DefinitionError, match=f"owner {analyst} of stored, who may not have relations in schema"):
            load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
        load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH)
        assert rows_of(conn) == [(2, "b", 2)]
    other.exec_driver_sql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


RETYPED = {
    "two ways": (
        """CREATE VIEW names AS SELECT id, name FROM people;
           CREATE VIEW both AS SELECT n.name, p.age FROM names n JOIN people p USING (id);
           CREATE MATERIALIZED VIEW stored AS SELECT name, age FROM both""",
        'materialized view stored, since "both" reads names and people',
    ),
    "policy": (
        """ALTER TABLE people ENABLE ROW LEVEL SECURITY;
           CREATE VIEW ages AS SELECT age FROM people;
           ALTER VIEW ages OWNER TO {0};
           GRANT SELECT ON people TO {0};
           CREATE MATERIALIZED VIEW stored AS SELECT age FROM ages""",
        "view ages, from whose owner {} policies keep rows of people",
    ),
}


@pytest.mark.parametrize(("script", "reason"), RETYPED.values(), ids=RETYPED.keys())
@pytest.mark.parametrize("options", [{}, {"delete": Delete.BEFORE_FIRST_BATCH}], ids=["rebuild", "refresh"])
def test_another_type_that_a_materialized_view_cannot_follow_is_refused_before_the_load(
    conn: sa.Connection, other: sa.Connection, analyst: str, script: str, reason: str, options: Any
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql(script.replace("both", '"both"').format(analyst))
    with pytest.raises(DefinitionError, match=f"cannot be because of {reason.format(analyst)}"):
        load(conn, people_with_long_age(), [(2, "b", 2)], **options)
    assert rows_of(conn) == [(1, "a", 1)]


def test_another_type_that_the_view_of_somebody_else_cannot_follow_is_refused_before_the_load(
    other: sa.Connection, server: Server, database: str, analyst: str
) -> None:
    other.exec_driver_sql(f"ALTER ROLE {analyst} LOGIN")
    engine = sa.create_engine(server.url("psycopg", database).set(username=analyst), poolclass=sa.NullPool)
    with engine.connect() as conn:
        load(conn, people(), [(1, "a", 1)])
        other.exec_driver_sql(f"""
            SET ROLE {analyst};
            CREATE VIEW ages AS SELECT age FROM people;
            CREATE MATERIALIZED VIEW stored AS SELECT age FROM ages;
            RESET ROLE;
            CREATE VIEW above AS SELECT age FROM ages;
        """)
        with pytest.raises(DefinitionError, match=r"materialized view stored, since role .* view above, which belongs"):
            load(conn, people_with_long_age(), [(2, "b", 2)])
        assert rows_of(conn) == [(1, "a", 1)]


def test_materialized_views_of_views_over_a_column_of_another_collation_follow_it(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("CREATE VIEW names AS SELECT name FROM people")
    other.exec_driver_sql("CREATE MATERIALIZED VIEW stored AS SELECT name FROM names")
    table = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text(collation="C")),
        sa.Column("age", sa.Integer),
    )
    load(conn, table, [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT * FROM stored") == [("b",)]


REFUSED = {
    "query": ("CREATE MATERIALIZED VIEW stored AS SELECT 1 / (age - 2) FROM people", "division by zero"),
    "index": (
        "CREATE MATERIALIZED VIEW stored AS SELECT age FROM people; CREATE UNIQUE INDEX of_ages ON stored (age)",
        'could not create unique index "of_ages"',
    ),
}


@pytest.mark.parametrize(("script", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_materialized_view_that_does_not_take_the_new_rows_is_named(
    conn: sa.Connection, other: sa.Connection, script: str, reason: str
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql(script)
    with pytest.raises(DefinitionError, match=f"materialized view public.stored cannot be made anew .*: {reason}"):
        load(conn, people(), [(2, "b", 2), (3, "c", 2)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn) == [(1, "a", 1)]
