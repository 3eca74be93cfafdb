"""Roles that lack a right get one clear error, and nothing is changed."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import IngestError
from tests.postgres.helpers import load, people, rows_of


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


def test_without_create_on_the_database(plain: sa.Connection) -> None:
    table = people().to_metadata(sa.MetaData(), schema="elsewhere")
    with pytest.raises(IngestError, match=r"lacks a privilege: permission denied for database"):
        load(plain, table, [(1, "a", 1)])


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
