"""No surprises: an unchanged definition plans nothing, whatever PostgreSQL and SQLAlchemy can say in it."""

import functools
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from airflow_ingest_provider import DefinitionError, Delete, IngestResult, ingest
from airflow_ingest_provider.demo.server import Server
from tests.postgres import definitions
from tests.postgres.definitions import Case, Part, together
from tests.postgres.helpers import major, rows_of

PARTS = {"type": definitions.TYPES, "column": definitions.COLUMNS, "index": definitions.INDEXES}

CASES = {
    f"{what}: {name}": case
    for what, those in {
        "type": definitions.EXTENSION_TYPES,
        "key": definitions.KEYS,
        "name": definitions.HOSTILE,
        "index": definitions.INDEXED,
        "constraint": definitions.CONSTRAINTS,
        "table": definitions.TABLES,
    }.items()
    for name, case in those.items()
}

# All that has a file, each with its OID and its file: what is built anew has another.
FILES = r"""
    SELECT oid::regclass::text, oid, relfilenode FROM pg_class
    WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema$)' ORDER BY 1
"""

SHARED = "test_shared"
"""The database of what many tests share."""


@pytest.fixture
def driver() -> str:
    """What is planned is the same with both."""
    return "psycopg"


def run(conn: sa.Connection, metadata: sa.MetaData, **options: Any) -> IngestResult:
    """A run with one batch, of no rows."""
    return ingest(conn, metadata, lambda mark: [(None, None, [])], **options)


def migrations(result: IngestResult) -> dict[str, tuple[str, ...]]:
    return {table.table: table.migration for table in result.tables if table.migration}


def check_nothing_changes(conn: sa.Connection, metadata: sa.MetaData) -> None:
    """A run of the definition finds nothing to do, and leaves each relation in its file."""
    before = rows_of(conn, FILES)
    assert migrations(run(conn, metadata)) == {}
    assert rows_of(conn, FILES) == before


def prepare(conn: sa.Connection, case: Case) -> None:
    """The database, as the case's definition finds it."""
    if major(conn) < case.major:
        pytest.skip(f"PostgreSQL {case.major} is the first that has it")
    conn.exec_driver_sql(case.before)
    conn.commit()


def named(cases: Mapping[str, Case]) -> list[Any]:
    return [
        pytest.param(case, id=name, marks=[pytest.mark.extension(case.extension)] if case.extension else [])
        for name, case in cases.items()
    ]


@pytest.fixture(scope="module")
def surprise(server: Server, admin: psycopg.Connection) -> Callable[[str, str], str | None]:
    """A function that tells what goes wrong with a part of a definition, given its kind and its name.

    All parts of a kind are tried in one table; where that plans anything, each half of them is.
    """

    def try_together(parts: Mapping[str, Part]) -> str | None:
        admin.execute(f"CREATE DATABASE {SHARED}")
        engine = sa.create_engine(server.url("psycopg", SHARED), poolclass=sa.NullPool)
        try:
            with engine.connect() as conn:
                able = [part for part in parts.values() if part.major <= major(conn)]
                for before in {part.before for part in able}:
                    conn.exec_driver_sql(before)
                conn.commit()
                run(conn, together(able))
                check_nothing_changes(conn, together(able))
        except Exception:  # noqa: BLE001 - whatever goes wrong is the fault of one of the parts
            return traceback.format_exc()
        finally:
            engine.dispose()
            admin.execute(f"DROP DATABASE {SHARED}")
        return None

    def surprises(parts: Mapping[str, Part]) -> dict[str, str]:
        what = try_together(parts)
        if what is None:
            return {}
        if len(parts) == 1:
            return dict.fromkeys(parts, what)
        names = list(parts)
        half = len(names) // 2
        found: dict[str, str] = {}
        for some in (names[:half], names[half:]):
            found |= surprises({name: parts[name] for name in some})
        return found or dict.fromkeys(parts, what)

    of_kind = functools.cache(lambda kind: surprises(PARTS[kind]))
    return lambda kind, name: of_kind(kind).get(name)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, parts in PARTS.items() for name in parts])
def test_a_type_a_column_and_an_index_are_planned_once(
    surprise: Callable[[str, str], str | None], kind: str, name: str
) -> None:
    what = surprise(kind, name)
    assert what is None, what


@pytest.mark.parametrize("case", named({name: case for name, case in CASES.items() if not case.refused}))
def test_a_definition_is_planned_once_and_not_again_after_a_refresh(conn: sa.Connection, case: Case) -> None:
    prepare(conn, case)
    run(conn, case.make())
    assert migrations(run(conn, case.make(), delete=Delete.BEFORE_FIRST_BATCH)) == {}
    check_nothing_changes(conn, case.make())


@pytest.mark.parametrize("case", named({name: case for name, case in CASES.items() if case.refused}))
def test_a_definition_that_cannot_be_planned_is_refused(conn: sa.Connection, case: Case) -> None:
    prepare(conn, case)
    before = rows_of(conn, FILES)
    with pytest.raises(DefinitionError):
        run(conn, case.make())
    assert rows_of(conn, FILES) == before


def test_an_inherited_column_that_is_not_declared_is_refused_by_name(conn: sa.Connection) -> None:
    conn.exec_driver_sql("CREATE TABLE parent (p text)")
    conn.commit()
    metadata = sa.MetaData()
    sa.Table("t", metadata, sa.Column("a", sa.Text), postgresql_inherits="parent")
    with pytest.raises(DefinitionError, match="column 'p' that its definition lacks"):
        run(conn, metadata)


@pytest.mark.parametrize("kind", definitions.type_classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_type_class_has_a_case_or_a_reason(kind: type[Any]) -> None:
    if kind not in definitions.ABSTRACT and kind not in definitions.FOREIGN:
        for make in definitions.ARGUMENTS.get(kind, (kind,)):
            make().compile(definitions.DIALECT)


def test_every_option_of_the_dialect_has_a_case_or_a_reason() -> None:
    made = [case.make() for case in CASES.values() if case.extension != "vector"]
    made += [together(parts.values()) for parts in PARTS.values()]
    used = {
        (type(item), option.removeprefix("postgresql_"))
        for metadata in made
        for table in metadata.tables.values()
        for item in (table, *table.indexes, *table.constraints)
        for option in item.dialect_kwargs  # type: ignore[attr-defined]
    }
    known = {
        (kind, option)
        for kind, options in type(definitions.DIALECT).construct_arguments or ()
        for option in options
        if issubclass(kind, (sa.Table, sa.Index, sa.Constraint))
    }
    assert known - used == definitions.UNTESTED.keys() & known
