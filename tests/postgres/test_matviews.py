"""Materialized views over a table that is replaced: nobody waits for their queries, and none shows a mix of rows."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import DefinitionError, Delete, Replace, ingest
from airflow_ingest_provider.core import walls
from airflow_ingest_provider.demo.server import Server
from tests.postgres.helpers import hanging, load, oid_of, people, rows_of


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


def test_views_over_a_table_are_looked_up_however_many_the_database_has(
    conn: sa.Connection, other: sa.Connection
) -> None:
    load(conn, people(), [(1, "a", 1)])
    columns = ", ".join(f"column_{number} int" for number in range(50))
    other.exec_driver_sql(f"""
        CREATE MATERIALIZED VIEW ages AS SELECT age, count(*) FROM people GROUP BY age;
        CREATE TABLE wide ({columns});
        DO $$ BEGIN
            FOR n IN 1 .. 200 LOOP EXECUTE concat('CREATE VIEW view_', n, ' AS SELECT * FROM wide'); END LOOP;
        END $$;
        ANALYZE pg_depend, pg_rewrite, pg_class;
    """)
    counted = "SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_xact_all_tables WHERE relname = 'pg_depend'"
    oid, before = oid_of(conn, "people"), conn.exec_driver_sql(counted).scalar()
    assert walls.walls(conn, [oid]) == {oid: ()}
    assert walls.retyping(conn, oid, ["id"]) == ()
    assert conn.exec_driver_sql(counted).scalar() == before


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
        load(conn, people(age=sa.BigInteger), [])
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
    result = load(conn, people(age=sa.BigInteger), [(2, "b", 5_000_000_000)])
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
        load(conn, people(age=sa.BigInteger), [(2, "b", 2)], **options)
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
            load(conn, people(age=sa.BigInteger), [(2, "b", 2)])
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
