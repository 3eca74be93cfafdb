"""Where declared tables are on a connection, whatever its search_path and schema_translate_map."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from airflow_ingest_provider.core import catalog
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name


@dataclass(frozen=True)
class Located:
    """The qualified name that a declared table has on the connection, and its OID (None: there is none).

    `schemas` are those with which a Table of its name means it: None, where it is found without one. Rows often come
    with a Table of another MetaData, which has the current schema as its own, or leaves it out.
    """

    name: Name
    oid: int | None
    schemas: frozenset[str | None]


def locate(conn: sa.Connection, tables: Sequence[sa.Table]) -> list[Located]:
    """Where declared tables are; DefinitionError for what is nowhere, or in the same place as another."""
    bare = [sa.Table(table.name, sa.MetaData()) for table in tables if table.schema is not None]
    found = catalog.find_tables(conn, [*tables, *bare])
    declared, without_schema = found[: len(tables)], {name for name, _ in found[len(tables) :]}
    _check([name for name, _ in declared])
    translated = conn.get_execution_options().get("schema_translate_map") or {}
    return [
        Located(
            name,
            oid,
            frozenset(one for one in (name.schema, *translated) if translated.get(one, one) == name.schema)
            | ({None} if name in without_schema else set()),
        )
        for name, oid in declared
    ]


def _check(names: Sequence[Name]) -> None:
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
