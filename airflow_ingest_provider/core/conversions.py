"""The caller's conversions: SQL expressions for new values, each by the column that it is for."""

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name


def check_conversions(conversions: Mapping[str, str], tables: Sequence[tuple[sa.Table, Name]]) -> None:
    """Raise DefinitionError for a conversion of no declared column: the column that it was meant for would lose all."""
    declared = {name: [column.name for column in table.columns] for table, name in tables}
    for where in conversions:
        if not any(_column_of(where, name, columns) for name, columns in declared.items()):
            known = ", ".join(f"{name}.{column}" for name, columns in declared.items() for column in columns)
            raise DefinitionError(f"conversions names {where!r}, which is no declared column: expected one of {known}")


def conversions_of(conversions: Mapping[str, str], name: Name, columns: Collection[str]) -> dict[str, str]:
    """The conversions of one table's columns; of several for one, that which says most of where it is."""
    named = {_column_of(where, name, columns): conversions[where] for where in sorted(conversions, key=len)}
    return {column: expression for column, expression in named.items() if column is not None}


def _column_of(where: str, name: Name, columns: Collection[str]) -> str | None:
    """The table's column that "column", "table.column" or "schema.table.column" means; None for other tables'."""
    possible = (where, where.removeprefix(f"{name.name}."), where.removeprefix(f"{name.schema}.{name.name}."))
    return next((column for column in possible if column in columns), None)
