"""Where declared tables are on a connection, whatever its search_path and schema_translate_map."""

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from airflow_ingest_provider.core import catalog
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name


def locate(conn: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[Name, int | None]]:
    """The qualified names that declared tables have on this connection, and their OIDs (None: there is none)."""
    found = catalog.find_tables(conn, tables)
    names = [name for name, _ in found]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice:
        raise DefinitionError(
            f"{twice} is declared twice, with its schema and without, or by a schema that is translated into another: "
            "declare each table once"
        )
    for name in names:
        if not name.schema:
            raise DefinitionError(
                f"table {name.name!r} has no schema, and the search_path has none that exists and that the role "
                "may use: give it one"
            )
        if name.schema == "pg_catalog":
            raise DefinitionError(
                f"table {name.name!r} is called as one of PostgreSQL's own in pg_catalog, which comes before all "
                "schemas: give it a schema, or another name"
            )
    return found


def schemas_of(conn: sa.Connection, tables: Sequence[tuple[sa.Table, Name]]) -> list[frozenset[str | None]]:
    """For each table the schemas with which a Table means it on this connection: None, where it is found without one.

    Rows often come with a Table of another MetaData, which has the current schema as its own, or leaves it out.
    """
    translated = conn.get_execution_options().get("schema_translate_map") or {}
    bare = [sa.Table(table.name, sa.MetaData()) for table, _ in tables if table.schema is not None]
    without_one = {name for name, _ in catalog.find_tables(conn, bare)} if bare else set()
    return [
        frozenset(one for one in (name.schema, *translated) if translated.get(one, one) == name.schema)
        | ({None} if name in without_one else set())
        for _, name in tables
    ]
