"""Where a failed COPY stopped, by what servers of different languages say of it."""

import pytest

from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.refusals import copy_place

COLUMNS = ("id", "age", "age at birth", "line", "a, b: c", "列")

CONTEXTS = [
    ('COPY people, line 7, column {}: "x"', 'COPY people, line 7: "x"', "COPY people, line 7, column {}: null input"),
    ("COPY people, Zeile 7, Spalte {}: »x«", "COPY people, Zeile 7: »x«", "COPY people, Zeile 7, Spalte {}"),
    ("COPY people, línea 7, columna {}: «x»", "COPY people, línea 7: «x»", "COPY people, línea 7, columna {}"),
    ("COPY people, ligne 7, colonne {} : « x »", "COPY people, ligne 7 : « x »", "COPY people, ligne 7, colonne {}"),
    ('peopleのCOPY、行 7、列 {}: "x"', 'peopleのCOPY、行 7: "x"', "peopleのCOPY、行 7、列 {}"),
    ('people 복사, 7번째 줄, {} 열: "x"', 'people 복사, 7번째 줄: "x"', "COPY people, 7행, {} 열: null 입력"),
    ('COPY people, строка 7, столбец {}: "x"', 'COPY people, строка 7: "x"', "COPY people, строка 7, столбец {}"),
    ('COPY people, 第 7 行, 列 {}: "x"', 'COPY people, 第 7 行: "x"', "COPY people, 第 7 行, 列 {}: NULL 输入"),
]


@pytest.mark.parametrize(("of_value", "of_line", "of_column"), CONTEXTS)
def test_the_row_and_the_column_are_found_in_every_language(of_value: str, of_line: str, of_column: str) -> None:
    for column in COLUMNS:
        for context in (of_value.format(column), of_column.format(column)):
            assert copy_place(context, Name("public", "people"), COLUMNS) == (7, column)
    assert copy_place(of_line, Name("public", "people"), COLUMNS) == (7, None)


@pytest.mark.parametrize(
    "context",
    [
        "",
        'COPY peoples, line 7, column age: "x"',
        "SQL statement 7",
        "PL/pgSQL function people() line 7 at RAISE",
    ],
)
def test_what_is_no_place_in_the_relation_is_none(context: str) -> None:
    assert copy_place(context, Name("public", "people"), COLUMNS) == (None, None)


def test_what_a_line_holds_is_no_column() -> None:
    context = 'COPY people, line 7: "x, column age: y"'
    assert copy_place(context, Name("public", "people"), COLUMNS) == (7, None)


def test_the_place_is_found_below_what_a_function_of_a_domain_says() -> None:
    context = 'SQL function "checked" statement 1\nCOPY people, line 7, column age: "x"'
    assert copy_place(context, Name("public", "people"), COLUMNS) == (7, "age")
