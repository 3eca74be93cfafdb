"""Names as PostgreSQL cuts them: in bytes, and never through a character."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_ingest_provider.core.names import (
    MAX_BYTES,
    Name,
    check_length,
    default_name,
    free_name,
    is_temporary,
    stems,
    temporary_name,
)

DEFAULT_NAMES = {
    "short": ("people", ["age"], "fkey", "people_age_fkey"),
    "of several columns": ("people", ["age", "name"], "key", "people_age_name_key"),
    "as long as can be": ("t" * 29, ["c" * 28], "fkey", f"{'t' * 29}_{'c' * 28}_fkey"),
    "the table is longer": ("t" * 63, ["c"], "fkey", f"{'t' * 56}_c_fkey"),
    "the columns are longer": ("t", ["c" * 40, "d" * 40], "key", f"t_{'c' * 40}_{'d' * 16}_key"),
    "both are long": ("t" * 63, ["c" * 63], "fkey", f"{'t' * 29}_{'c' * 28}_fkey"),
    "not through a character": ("é" * 31, ["c" * 30], "fkey", f"{'é' * 14}_{'c' * 28}_fkey"),
    "of four bytes": ("🎉" * 15, ["c"], "fkey", f"{'🎉' * 14}_c_fkey"),
}


@pytest.mark.parametrize(("table", "columns", "label", "name"), DEFAULT_NAMES.values(), ids=DEFAULT_NAMES.keys())
def test_a_part_of_a_table_is_called_as_postgresql_calls_it(
    table: str, columns: list[str], label: str, name: str
) -> None:
    assert default_name(table, columns, label) == name
    assert len(name.encode()) <= MAX_BYTES


FREE_NAMES = {
    "free": ("t_pkey", {"t_pkey1", "other"}, "t_pkey"),
    "taken": ("t_pkey", {"t_pkey"}, "t_pkey1"),
    "taken twice": ("t_pkey", {"t_pkey", "t_pkey1", "t_pkey3"}, "t_pkey2"),
    "with a number of its own": ("t1", {"t1"}, "t11"),
    "as long as can be": ("x" * 63, {"x" * 63}, "x" * 62 + "1"),
    "with a number of two digits": ("x" * 63, {"x" * 63, *(f"{'x' * 62}{n}" for n in range(1, 10))}, "x" * 61 + "10"),
    "where a byte is left": ("é" * 31, {"é" * 31}, "é" * 31 + "1"),
    "where a long character fits": ("a" * 60 + "é" + "b", {"a" * 60 + "é" + "b"}, "a" * 60 + "é" + "1"),
    "through a character that does not fit": ("a" * 61 + "é", {"a" * 61 + "é"}, "a" * 61 + "1"),
}


@pytest.mark.parametrize(("wanted", "taken", "name"), FREE_NAMES.values(), ids=FREE_NAMES.keys())
def test_a_name_that_is_taken_gets_a_number(wanted: str, taken: set[str], name: str) -> None:
    assert free_name(wanted, taken) == name


def fits(name: str) -> bool:
    return 0 < len(name.encode()) <= MAX_BYTES


TEXTS = st.text(st.sampled_from("ab19_é🎉"), min_size=1, max_size=70)
NAMES = TEXTS.map(lambda text: text.encode()[:MAX_BYTES].decode(errors="ignore")).filter(fits)


@given(wanted=NAMES, others=st.sets(NAMES), numbered=st.integers(0, 120))
@example(wanted="x" * 63, others=set(), numbered=120)
@example(wanted="9" * 63, others=set(), numbered=11)
@example(wanted="é" * 31, others=set(), numbered=100)
def test_a_free_name_is_taken_by_nobody_and_found_by_its_stem(wanted: str, others: set[str], numbered: int) -> None:
    taken = set(others)
    for _ in range(numbered):
        taken.add(free_name(wanted, taken))
    name = free_name(wanted, taken)
    assert name not in taken
    assert fits(name)
    assert name.rstrip("0123456789") in stems(wanted)


@given(table=NAMES, columns=st.lists(NAMES, min_size=1, max_size=3), label=st.sampled_from(["fkey", "key", "check"]))
def test_a_default_name_is_whole_characters_of_no_more_than_63_bytes(
    table: str, columns: list[str], label: str
) -> None:
    name = default_name(table, columns, label)
    assert fits(name)
    assert name.endswith(f"_{label}")
    whole = f"{table}_{'_'.join(columns)}_{label}"
    assert name == whole if fits(whole) else len(name.encode()) > MAX_BYTES - 8


@pytest.mark.parametrize("identifier", ["a", "a" * 63, "é" * 31, "🎉" * 15 + "abc", " "])
def test_an_identifier_that_postgresql_stores_whole_will_do(identifier: str) -> None:
    assert check_length(identifier) == identifier


@pytest.mark.parametrize(("identifier", "size"), [("", 0), ("a" * 64, 64), ("é" * 32, 64), ("🎉" * 16, 64)])
def test_an_identifier_that_postgresql_cuts_or_refuses_is_told_with_its_size(identifier: str, size: int) -> None:
    with pytest.raises(ValueError, match=rf"takes {size} bytes; PostgreSQL keeps 1 to 63: choose another name"):
        check_length(identifier)


PRINTED = {
    "plain": (Name("public", "people"), "public.people", '"public"."people"'),
    "a reserved word": (Name("public", "select"), "public.select", '"public"."select"'),
    "in capitals": (Name("Else", "Pe"), '"Else"."Pe"', '"Else"."Pe"'),
    "with digits": (Name("s2", "t_3"), "s2.t_3", '"s2"."t_3"'),
    "that begins with a digit": (Name("s", "2t"), 's."2t"', '"s"."2t"'),
    "with a dot": (Name("a.b", "c"), '"a.b".c', '"a.b"."c"'),
    "with a quote": (Name("s", "q\"uo'te"), 's."q""uo\'te"', '"s"."q""uo\'te"'),
    "for which SQL has placeholders": (Name("s", "100% :x %s {}"), 's."100% :x %s {}"', '"s"."100% :x %s {}"'),
    "in another alphabet": (Name("s", "é" * 31), f's."{"é" * 31}"', f'"s"."{"é" * 31}"'),
    "as long as can be": (Name("s", "x" * 63), f"s.{'x' * 63}", f'"s"."{"x" * 63}"'),
}


@pytest.mark.parametrize(("name", "shown", "quoted"), PRINTED.values(), ids=PRINTED.keys())
def test_a_name_is_bare_for_people_where_it_is_a_plain_word_and_always_quoted_in_sql(
    name: Name, shown: str, quoted: str
) -> None:
    assert (str(name), name.quoted) == (shown, quoted)
    assert name.sibling("other") == Name(name.schema, "other")


def test_names_lock_by_schema_and_name_in_64_bits() -> None:
    keys = {name.lock_key for name in (Name("a", "bc"), Name("ab", "c"), Name("a", "b"), Name("b", "a"))}
    assert len(keys) == 4
    assert all(-(2**63) <= key < 2**63 for key in keys)
    assert Name("public", "people").lock_key == Name("public", "people").lock_key


@pytest.mark.parametrize(
    ("name", "temporary"),
    [
        (temporary_name("0123456789abcdef0123"), True),
        (temporary_name("0123456789abcdef0123", "step12"), True),
        (temporary_name("0123456789abcdef0123")[:32], True),
        ("_ingest_anything", False),
        ("_ingest_log_pkey", False),
        ("ingest_people", False),
        ("people_ingest_", False),
        ("_Ingest_table_abc", False),
    ],
)
def test_what_a_killed_run_left_is_known_by_its_name(name: str, temporary: bool) -> None:
    assert is_temporary(name) == temporary
