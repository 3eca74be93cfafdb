"""Roles that lack a right get one clear error, and nothing is changed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import DefinitionError, Delete, IngestError, Replace, ingest_plan
from airflow_ingest_provider.demo.server import Server
from tests.postgres.helpers import load, major, oid_of, people, rows_of


@pytest.fixture
def plain(conn: sa.Connection, other: sa.Connection) -> Iterator[sa.Connection]:
    """The connection, as a role without any right of its own."""
    other.exec_driver_sql("CREATE ROLE ingest_plain")
    with conn.begin():
        conn.exec_driver_sql("SET ROLE ingest_plain")
    yield conn
    with conn.begin():
        conn.exec_driver_sql("RESET ROLE")
    other.exec_driver_sql("DROP OWNED BY ingest_plain CASCADE; DROP ROLE ingest_plain")


@pytest.fixture(autouse=True)
def nobody_creates(other: sa.Connection) -> None:
    other.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def test_without_create_on_the_schema(plain: sa.Connection) -> None:
    with pytest.raises(IngestError, match=r"lacks a privilege: permission denied for schema public.*GRANT"):
        load(plain, people(), [(1, "a", 1)])
    assert not plain.in_transaction()
    (plan,) = ingest_plan(plain, people()).tables
    assert "lacks CREATE on SCHEMA public: " in str(plan.refused)


def test_without_create_on_the_database(plain: sa.Connection) -> None:
    table = people().to_metadata(sa.MetaData(), schema="elsewhere")
    with pytest.raises(IngestError, match=r"lacks a privilege: permission denied for database"):
        load(plain, table, [(1, "a", 1)])
    (plan,) = ingest_plan(plain, table).tables
    assert "lacks CREATE on DATABASE " in str(plan.refused)


def test_without_owning_the_table(plain: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql("CREATE TABLE people (id int PRIMARY KEY, name text, age int); GRANT ALL ON people TO PUBLIC")
    with pytest.raises(IngestError, match=r"'ingest_plain' does not own public.people.*'postgres'"):
        load(plain, people(), [(1, "a", 1)])
    assert rows_of(plain) == []


def test_a_member_of_the_owner_may(plain: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql(
        "CREATE ROLE ingest_group; GRANT ingest_group TO ingest_plain;"
        "GRANT CREATE ON SCHEMA public TO ingest_plain, ingest_group;"
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int); ALTER TABLE people OWNER TO ingest_group"
    )
    for delete in ("__OFF__", "__BEFORE_FIRST_BATCH__"):
        load(plain, people(), [(1, "a", 1)], delete=delete)
    owner = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'people'"
    assert rows_of(plain, owner) == [("ingest_group",)]
    other.exec_driver_sql("DROP OWNED BY ingest_group CASCADE; DROP ROLE ingest_group")


def test_a_member_without_the_rights_of_the_owner_is_told_how_to_get_them(
    plain: sa.Connection, other: sa.Connection
) -> None:
    new = major(other) >= 16
    without, with_ = ("WITH INHERIT FALSE", "WITH INHERIT TRUE") if new else ("", "")
    other.exec_driver_sql(
        f"ALTER ROLE ingest_plain NOINHERIT; CREATE ROLE ingest_group; GRANT ingest_group TO ingest_plain {without};"
        "GRANT CREATE ON SCHEMA public TO ingest_group;"
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int); ALTER TABLE people OWNER TO ingest_group"
    )
    with pytest.raises(IngestError, match=r"member that inherits.*WITH INHERIT TRUE.*SET ROLE ingest_group"):
        load(plain, people(), [(1, "a", 1)])
    grant = f"GRANT ingest_group TO ingest_plain {with_}" if new else "ALTER ROLE ingest_plain INHERIT"
    other.exec_driver_sql(grant)
    load(plain, people(), [(1, "a", 1)])
    assert rows_of(plain) == [(1, "a", 1)]
    other.exec_driver_sql("DROP OWNED BY ingest_group CASCADE; DROP ROLE ingest_group")


def test_row_security_that_would_hide_rows_is_an_error(plain: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql(
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int); ALTER TABLE people OWNER TO ingest_plain;"
        "ALTER TABLE people ENABLE ROW LEVEL SECURITY; ALTER TABLE people FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY hides ON people USING (id > 5)"
    )
    with pytest.raises(IngestError, match=r"public.people has row security forced .*BYPASSRLS"):
        load(plain, people(), [(1, "a", 1)])
    assert other.scalar(sa.text("SELECT obj_description('people'::regclass)")) is None


@pytest.mark.parametrize("upsert", ["__IF_PRIMARY_KEY__", "__OFF__"])
def test_without_insert_on_the_table(plain: sa.Connection, other: sa.Connection, upsert: str) -> None:
    other.exec_driver_sql(
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int); ALTER TABLE people OWNER TO ingest_plain;"
        "REVOKE INSERT ON people FROM ingest_plain"
    )
    with pytest.raises(IngestError, match=r"lacks a privilege: permission denied for table people.*GRANT"):
        load(plain, people(), [(1, "a", 1)], upsert=upsert)
    assert not plain.in_transaction()


def test_an_owner_who_may_insert_and_no_more_may_append(plain: sa.Connection, other: sa.Connection) -> None:
    other.exec_driver_sql(
        "CREATE TABLE people (id int, name text, age int); ALTER TABLE people OWNER TO ingest_plain;"
        "REVOKE ALL ON people FROM ingest_plain; GRANT SELECT, INSERT ON people TO ingest_plain"
    )
    table = sa.Table(
        "people", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("name", sa.Text), sa.Column("age", sa.Integer)
    )
    for number in range(2):
        load(plain, table, [(number, "a", 1)])
    assert rows_of(plain, "SELECT id FROM people ORDER BY 1") == [(0,), (1,)]


LACKING = {
    "CREATE on the schema": (
        "REVOKE CREATE ON SCHEMA public FROM ingest_plain",
        "schema public, in which role ingest_plain may not create relations",
    ),
    "CREATE on the schema of a view": (
        """
        CREATE SCHEMA shown;
        CREATE VIEW shown.v AS SELECT id FROM people;
        ALTER VIEW shown.v OWNER TO ingest_plain
        """,
        "schema shown, in which role ingest_plain may not create relations",
    ),
    "REFERENCES": (
        """
        CREATE TABLE parent (id int PRIMARY KEY);
        INSERT INTO parent VALUES (1);
        ALTER TABLE people ADD CONSTRAINT of_age FOREIGN KEY (age) REFERENCES parent
        """,
        "foreign key of_age, since role ingest_plain lacks REFERENCES on parent",
    ),
    "EXECUTE": (
        """
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC;
        CREATE TRIGGER watched BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION f()
        """,
        r"trigger watched, whose function f\(\) role ingest_plain may not run",
    ),
    "ownership of what refers to it": (
        "CREATE TABLE child (person int CONSTRAINT of_person REFERENCES people)",
        "foreign key of_person of child, which belongs to postgres",
    ),
    "ownership of a view on it": ("CREATE VIEW v AS SELECT id FROM people", "view v, which belongs to postgres"),
    "the role of who granted": (
        """
        GRANT SELECT ON people TO pg_monitor WITH GRANT OPTION;
        SET ROLE pg_monitor;
        GRANT SELECT ON people TO pg_read_all_stats;
        RESET ROLE
        """,
        "a grant by pg_monitor, as whom role ingest_plain may not act",
    ),
}


@pytest.mark.parametrize(("lacking", "wall"), LACKING.values(), ids=LACKING.keys())
def test_where_the_role_may_not_do_what_a_new_table_takes_rows_are_replaced_in_place(
    plain: sa.Connection, other: sa.Connection, lacking: str, wall: str
) -> None:
    other.exec_driver_sql(
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int); ALTER TABLE people OWNER TO ingest_plain;"
        "GRANT USAGE, CREATE ON SCHEMA public TO ingest_plain"
    )
    other.exec_driver_sql(lacking)
    table = people()
    oid = oid_of(plain, "people")
    load(plain, table, [(number, "a", 1) for number in range(600)])
    assert rows_of(plain, "SELECT count(*) FROM people") == [(600,)]
    load(plain, table, [(number, "b", 1) for number in range(600)], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(plain, "SELECT count(*) FROM people WHERE name = 'b'") == [(600,)]
    assert oid_of(plain, "people") == oid
    with pytest.raises(DefinitionError, match=f"cannot be replaced by a swap because of {wall}"):
        load(plain, table, [], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    columns = [*table.columns][::-1]
    moved = sa.Table(
        "people", sa.MetaData(), *(sa.Column(one.name, one.type, primary_key=one.primary_key) for one in columns)
    )
    with pytest.raises(DefinitionError, match=f"has to be replaced by a new table for this change .*{wall}"):
        load(plain, moved, [])


def test_without_create_on_its_tablespace_rows_are_replaced_in_place(
    plain: sa.Connection, other: sa.Connection, server: Server
) -> None:
    folder = Path(server.folder, "roles_space")
    folder.mkdir()
    os.chown(folder, server.folder.stat().st_uid, server.folder.stat().st_gid)
    other.exec_driver_sql(f"CREATE TABLESPACE roles_space LOCATION '{folder}'")
    other.exec_driver_sql(
        "CREATE TABLE people (id int, name text, age int, PRIMARY KEY (id) USING INDEX TABLESPACE roles_space);"
        "ALTER TABLE people OWNER TO ingest_plain; GRANT USAGE, CREATE ON SCHEMA public TO ingest_plain"
    )
    oid = oid_of(plain, "people")
    for name in ("a", "b"):
        rows = [(number, name, 1) for number in range(600)]
        load(plain, people(), rows, delete=Delete.BEFORE_FIRST_BATCH)
        assert rows_of(plain) == rows
    assert oid_of(plain, "people") == oid
    with pytest.raises(DefinitionError, match="tablespace roles_space, in which role ingest_plain may not create"):
        load(plain, people(), [], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
    other.exec_driver_sql("DROP TABLE people")
    other.exec_driver_sql("DROP TABLESPACE roles_space")
    folder.rmdir()


@pytest.fixture
def without_set(plain: sa.Connection, other: sa.Connection) -> Iterator[sa.Connection]:
    """The connection, as a member that has the owner's rights and may not become the owner."""
    if major(other) < 16:
        pytest.skip("PostgreSQL 16 is the first whose members may lack SET")
    other.exec_driver_sql(
        "CREATE ROLE ingest_group; GRANT ingest_group TO ingest_plain WITH SET FALSE, INHERIT TRUE;"
        "GRANT CREATE ON SCHEMA public TO ingest_plain, ingest_group;"
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int); ALTER TABLE people OWNER TO ingest_group"
    )
    yield plain
    other.exec_driver_sql("DROP OWNED BY ingest_group CASCADE; DROP ROLE ingest_group")


def test_a_member_that_may_not_become_the_owner_replaces_rows_in_place(without_set: sa.Connection) -> None:
    oid = oid_of(without_set, "people")
    for name in ("a", "b"):
        rows = [(number, name, 1) for number in range(600)]
        load(without_set, people(), rows, delete=Delete.BEFORE_FIRST_BATCH)
        assert rows_of(without_set) == rows
    assert oid_of(without_set, "people") == oid
    with pytest.raises(DefinitionError, match="the owner ingest_group of people, as whom role ingest_plain may not"):
        load(without_set, people(), [], delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)


def test_a_rebuild_by_a_member_that_may_not_become_the_owner_is_refused_before_the_load(
    without_set: sa.Connection,
) -> None:
    load(without_set, people(), [(1, "a", 1)])
    with pytest.raises(
        DefinitionError, match=r"has to be replaced by a new table .*the owner ingest_group of people, as whom role"
    ):
        load(without_set, people(age=sa.BigInteger), [(2, "b", 2)])
    assert rows_of(without_set) == [(1, "a", 1)]
    load(without_set, people(sa.Column("email", sa.Text)), [(2, "b", 2, "b@c")])
    assert rows_of(without_set, "SELECT id, email FROM people ORDER BY id") == [(1, None), (2, "b@c")]
