"""A connection that translates schemas: tables, their types and what they refer to are where it says."""

from typing import Any

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import Delete, HighWatermark, ingest, ingest_plan
from tests.postgres.helpers import give, load, rows_of

TO_TENANT = {None: "tenant"}


@pytest.fixture
def tenant(conn: sa.Connection) -> sa.Connection:
    """A connection on which tables without a schema are the tenant's."""
    return conn.execution_options(schema_translate_map=TO_TENANT)


def family(*labels: str, **options: Any) -> tuple[sa.MetaData, sa.Table, sa.Table]:
    """A parent, and a child that refers to it and to itself, with an enum."""
    metadata = sa.MetaData()
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    child = sa.Table(
        "child",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent", sa.ForeignKey("parent.id", **options)),
        sa.Column("up", sa.ForeignKey("child.id", **options)),
        sa.Column("mood", sa.Enum(*labels, name="mood")),
    )
    return metadata, parent, child


@pytest.mark.parametrize("there", [False, True], ids=["no others", "others of the names in public"])
@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_what_a_table_refers_to_is_where_the_table_is(
    tenant: sa.Connection, other: sa.Connection, there: bool, delete: str
) -> None:
    if there:
        other.exec_driver_sql("""
            CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY);
            CREATE TYPE mood AS ENUM ('other')
        """)
    for number, labels in enumerate((["a"], ["a"], ["a", "b"], ["b"]), start=1):
        metadata, parent, child = family(*labels, **({"ondelete": "CASCADE"} if number > 2 else {}))
        rows = [(parent, (1,)), (child, (1, 1, None, labels[-1])), (child, (2, 1, 1, labels[-1]))]
        assert bool(ingest_plan(tenant, metadata)) == (number != 2)
        ingest(tenant, metadata, give(*rows), delete=delete, high_watermark=HighWatermark.EARLIEST)
        assert not ingest_plan(tenant, metadata)
        assert rows_of(tenant, "SELECT count(*), max(mood)::text FROM tenant.child") == [(2, labels[-1])]
    keys = (
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f' ORDER BY 2"
    )
    assert rows_of(tenant, keys) == [("tenant.child", "tenant.child"), ("tenant.child", "tenant.parent")]
    types = "SELECT typnamespace::regnamespace::text FROM pg_type WHERE typname = 'mood' ORDER BY 1"
    assert rows_of(tenant, types) == [("public",)] * there + [("tenant",)]


def test_a_new_enum_type_is_made_where_the_table_is(tenant: sa.Connection) -> None:
    load(tenant, sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True)), [(1,)])
    mood: sa.Column[Any] = sa.Column("mood", sa.Enum("a", "b", name="mood"))
    load(tenant, sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), mood), [(1, "b")])
    assert rows_of(tenant, "SELECT mood::text, pg_typeof(mood)::text FROM tenant.t") == [("b", "tenant.mood")]


@pytest.mark.parametrize("rows", [5, 600])
@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_callback_sees_the_batch_where_schemas_change_places(conn: sa.Connection, rows: int, delete: str) -> None:
    conn = conn.execution_options(schema_translate_map={"a": "b", "b": "c"})
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), schema="a")
    seen = []

    def look(conn: sa.Connection, ingest_table: sa.Table, batch_metadata: object) -> None:
        seen.append(conn.scalar(sa.select(sa.func.count()).select_from(ingest_table)))

    for _ in range(2):
        batch = [(number,) for number in range(rows)]
        load(conn, table, batch, on_before_visible=look, delete=delete, high_watermark=HighWatermark.EARLIEST)
    assert seen == [rows, rows]
    assert rows_of(conn, "SELECT count(*) FROM b.t") == [(rows,)]


def people_in(schema: str | None) -> sa.Table:
    return sa.Table("people", sa.MetaData(schema=schema), sa.Column("id", sa.Integer, primary_key=True))


@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
@pytest.mark.parametrize(("declared", "given"), [(None, "public"), ("public", None)])
def test_a_rows_table_is_recognised_with_the_current_schema_and_without(
    conn: sa.Connection, declared: str | None, given: str | None, delete: str, there: bool
) -> None:
    if there:
        load(conn, people_in(declared), [(5,)])
    rows = [(people_in(given), (1,)), (people_in(declared), (2,))]
    result = ingest(conn, people_in(declared).metadata, give(*rows), delete=delete)
    assert result.tables[0].received == 2
    assert rows_of(conn)[:2] == [(1,), (2,)]


@pytest.mark.parametrize(
    ("translate", "path", "declared", "given", "received"),
    [
        ({None: "tenant"}, "public", None, "tenant", 1),
        ({None: "tenant"}, "public", "tenant", None, 1),
        ({None: "tenant"}, "public", None, "public", 0),
        ({"a": "tenant"}, "public", "a", "tenant", 1),
        ({"a": "tenant"}, "public", "tenant", "a", 1),
        ({"tenant": "public"}, "public", "tenant", None, 1),
        ({"tenant": "public"}, "public", None, "tenant", 1),
        ({"public": "tenant"}, "public", None, "public", 0),
        ({}, "tenant, public", "tenant", None, 1),
        ({}, "tenant, public", "public", None, 0),
        ({}, "public", "tenant", None, 0),
    ],
)
def test_a_rows_table_is_the_one_that_its_schema_means_on_the_connection(
    conn: sa.Connection, translate: dict[Any, Any], path: str, declared: str, given: str, received: int
) -> None:
    conn.exec_driver_sql("CREATE SCHEMA tenant; CREATE TABLE tenant.people (id int PRIMARY KEY)")
    conn.exec_driver_sql(f"CREATE TABLE public.people (id int PRIMARY KEY); SET search_path = {path}")
    conn.commit()
    conn = conn.execution_options(schema_translate_map=translate)
    result = ingest(conn, people_in(declared), give((people_in(given), (1,))))
    assert result.tables[0].received == received
