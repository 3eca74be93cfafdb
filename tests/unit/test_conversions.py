"""Which column a conversion is for, where tables, schemas and columns may have dots in their names."""

import pytest
import sqlalchemy as sa

from airflow_ingest_provider.core.conversions import check_conversions, conversions_of
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name

ORDERS, DOTTED = Name("public", "orders"), Name("a.b", "c.d")

MEANT = {
    "a column": (ORDERS, ["day"], "day", "day"),
    "a column of the table": (ORDERS, ["day"], "orders.day", "day"),
    "a column of the table in its schema": (ORDERS, ["day"], "public.orders.day", "day"),
    "a column with a dot": (ORDERS, ["day.raw"], "day.raw", "day.raw"),
    "a column with a dot, of the table": (ORDERS, ["day.raw"], "orders.day.raw", "day.raw"),
    "a column with a dot, of the table in its schema": (ORDERS, ["day.raw"], "public.orders.day.raw", "day.raw"),
    "a column that is called as another with its table": (ORDERS, ["day", "orders.day"], "orders.day", "orders.day"),
    "that other one": (ORDERS, ["day", "orders.day"], "public.orders.day", "day"),
    "a column that is called as its table": (ORDERS, ["orders"], "orders.orders", "orders"),
    "dots everywhere": (DOTTED, ["e.f"], "a.b.c.d.e.f", "e.f"),
    "dots everywhere, without the schema": (DOTTED, ["e.f"], "c.d.e.f", "e.f"),
    "dots everywhere, the column alone": (DOTTED, ["e.f"], "e.f", "e.f"),
    "a column that is not there": (ORDERS, ["day"], "dya", None),
    "a column in other letters": (ORDERS, ["day"], "Day", None),
    "a column of another table": (ORDERS, ["day"], "items.day", None),
    "a column of another schema": (ORDERS, ["day"], "elsewhere.orders.day", None),
    "what comes behind the dot": (ORDERS, ["day.raw"], "raw", None),
    "a column behind the schema alone": (ORDERS, ["day"], "public.day", None),
    "a column behind a table twice": (ORDERS, ["day"], "orders.orders.day", None),
    "nothing": (ORDERS, ["day"], "", None),
}


def table_of(name: Name, columns: list[str]) -> sa.Table:
    return sa.Table(name.name, sa.MetaData(), *(sa.Column(one, sa.Text) for one in columns), schema=name.schema)


@pytest.mark.parametrize(("name", "columns", "where", "column"), MEANT.values(), ids=MEANT.keys())
def test_a_conversion_is_for_the_column_that_it_names(
    name: Name, columns: list[str], where: str, column: str | None
) -> None:
    found = conversions_of({where: "now()"}, name, columns)
    assert found == ({} if column is None else {column: "now()"})


@pytest.mark.parametrize(("name", "columns", "where", "column"), MEANT.values(), ids=MEANT.keys())
def test_a_conversion_of_no_column_is_told_with_those_that_there_are(
    name: Name, columns: list[str], where: str, column: str | None
) -> None:
    tables = [(table_of(name, columns), name)]
    if column is not None:
        check_conversions({where: "now()"}, tables)
        return
    with pytest.raises(DefinitionError) as refused:
        check_conversions({where: "now()"}, tables)
    assert str(refused.value).startswith(f"conversions names {where!r}, which is no declared column: expected one of ")
    assert str(refused.value).endswith(", ".join(f"{name}.{one}" for one in columns))


def test_each_table_gets_its_own_conversions() -> None:
    given = {"day": "1", "orders.price": "2", "public.items.price": "3", "note.raw": "4"}
    items = Name("public", "items")
    tables = [(table_of(ORDERS, ["day", "price"]), ORDERS), (table_of(items, ["day", "price", "note.raw"]), items)]
    check_conversions(given, tables)
    assert conversions_of(given, ORDERS, ["day", "price"]) == {"day": "1", "price": "2"}
    assert conversions_of(given, items, ["day", "price", "note.raw"]) == {"day": "1", "price": "3", "note.raw": "4"}


def test_without_conversions_there_is_nothing_to_check() -> None:
    check_conversions({}, [])
    assert conversions_of({}, ORDERS, ["day"]) == {}


def test_of_several_conversions_for_a_column_the_one_that_says_most_of_it_counts() -> None:
    given = {"day": "1", "public.orders.day": "3", "orders.day": "2"}
    assert conversions_of(given, ORDERS, ["day"]) == {"day": "3"}
    assert conversions_of(given, Name("public", "items"), ["day"]) == {"day": "1"}
