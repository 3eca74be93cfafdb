"""Types by their spellings: which hold the values of which others, in the same bytes, exactly, or in the same order."""

import pytest

from airflow_ingest_provider.core.widening import holds_all, sorts_alike, widens

SAME_BYTES, EXACT, NEITHER = "the same bytes", "exact", "neither"

HELD = {
    ("character varying(3)", "character varying(3)"): SAME_BYTES,
    ("character varying(3)", "character varying(9)"): SAME_BYTES,
    ("character varying(3)", "character varying"): SAME_BYTES,
    ("character varying(3)", "text"): SAME_BYTES,
    ("character varying", "text"): SAME_BYTES,
    ("character varying(9)", "character varying(3)"): NEITHER,
    ("character varying", "character varying(3)"): NEITHER,
    ("text", "character varying"): NEITHER,
    ("text", "character varying(9)"): NEITHER,
    ("character(3)", "character(9)"): NEITHER,
    ("character(3)", "text"): NEITHER,
    ("numeric(4,2)", "numeric(9,2)"): SAME_BYTES,
    ("numeric(4,2)", "numeric"): SAME_BYTES,
    ("numeric(9,2)", "numeric(4,2)"): NEITHER,
    ("numeric(4,2)", "numeric(9,3)"): NEITHER,
    ("numeric(4,2)", "numeric(9,1)"): NEITHER,
    ("numeric", "numeric(9,2)"): NEITHER,
    ("numeric(4,-2)", "numeric(9,-2)"): SAME_BYTES,
    ("bit varying(3)", "bit varying(9)"): SAME_BYTES,
    ("bit varying(3)", "bit varying"): SAME_BYTES,
    ("bit(3)", "bit(9)"): NEITHER,
    ("smallint", "integer"): EXACT,
    ("smallint", "real"): EXACT,
    ("smallint", "text"): EXACT,
    ("integer", "bigint"): EXACT,
    ("integer", "numeric"): EXACT,
    ("integer", "double precision"): EXACT,
    ("integer", "real"): NEITHER,
    ("integer", "smallint"): NEITHER,
    ("integer", "numeric(10,0)"): NEITHER,
    ("bigint", "double precision"): NEITHER,
    ("bigint", "integer"): NEITHER,
    ("real", "double precision"): EXACT,
    ("real", "numeric"): NEITHER,
    ("double precision", "real"): NEITHER,
    ("timestamp(3) without time zone", "timestamp(6) without time zone"): NEITHER,
    ("timestamp without time zone", "timestamp with time zone"): NEITHER,
    ("time(3) without time zone", "time without time zone"): NEITHER,
    ("interval(3)", "interval"): NEITHER,
    ("interval day to second(3)", "interval"): NEITHER,
    ("character varying(3)[]", "character varying(9)[]"): NEITHER,
    ("integer[]", "bigint[]"): NEITHER,
    ("json", "jsonb"): NEITHER,
    ("vector(3)", "vector(9)"): NEITHER,
    ("mood", "text"): NEITHER,
}
"""Two spellings, and how the second type holds the values of the first."""


@pytest.mark.parametrize(("types", "held"), HELD.items(), ids=" -> ".join)
def test_a_type_holds_the_values_of_another_in_its_bytes_or_exactly(types: tuple[str, str], held: str) -> None:
    assert widens(*types) == (held == SAME_BYTES)
    assert holds_all(*types) == (held != NEITHER)


MODIFIED_BY_WORDS = [
    ("geometry(Point,4326)", "geometry"),
    ("geometry", "geometry(Point,4326)"),
    ("geometry(Point,4326)", "geometry(Point,3857)"),
    ("geography(Point,4326)", "text"),
]


@pytest.mark.parametrize("types", MODIFIED_BY_WORDS, ids=" -> ".join)
def test_a_type_of_an_extension_may_have_words_for_modifiers(types: tuple[str, str]) -> None:
    assert not widens(*types)
    assert not holds_all(*types)


SORTED = {
    ("integer", "integer"): True,
    ("smallint", "integer"): True,
    ("smallint", "numeric"): True,
    ("integer", "bigint"): True,
    ("bigint", "numeric"): True,
    ("character varying(5)", "text"): True,
    ("character varying(5)", "character varying(9)"): True,
    ("numeric(6,1)", "numeric(8,1)"): True,
    ("text", "text"): True,
    ("integer", "text"): False,
    ("bigint", "integer"): False,
    ("bigint", "text"): False,
    ("real", "double precision"): False,
    ("smallint", "real"): False,
    ("integer", "double precision"): False,
    ("integer", "numeric(10,2)"): False,
    ("text", "character varying(5)"): False,
}


@pytest.mark.parametrize(("types", "alike"), SORTED.items(), ids=str)
def test_statistics_are_only_kept_by_types_that_print_and_sort_values_alike(
    types: tuple[str, str], alike: bool
) -> None:
    assert sorts_alike(*types) == alike
