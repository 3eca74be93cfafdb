"""From a live table to its definition, by their shapes alone: what differs, what it takes, and what stays."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from airflow_ingest_provider.core import kept
from airflow_ingest_provider.core.comparison import plan
from airflow_ingest_provider.core.differences import Way
from airflow_ingest_provider.core.names import Name, is_temporary
from airflow_ingest_provider.core.plan import Action, Facts, IngestPlan
from airflow_ingest_provider.core.shape import InboundKey, TableShape
from tests.shapes import (
    OTHER,
    SEQUENCE,
    T,
    check,
    column,
    enum,
    enums,
    index,
    key,
    reference,
    serial,
    table,
)

OF_OTHER = InboundKey(**vars(reference("of_t", "t", to=T)), table=OTHER)

NOTHING, IN_PLACE, STEPS, REBUILD = Action.NOTHING, Action.IN_PLACE, Action.STEPS, Action.REBUILD


@dataclass(frozen=True)
class Case:
    """The parts of the live table and of the declared one, and what the plan says.

    `target` is what the table ends with, where that is not what is declared.
    """

    live: tuple[Any, ...]
    declared: tuple[Any, ...]
    lines: tuple[str, ...]
    action: Action
    target: tuple[Any, ...] | None = None
    kept: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()
    facts: Facts = field(default_factory=Facts)


A, B, ID = column("a", "integer"), column("b", "text"), column("id", "integer", not_null=True)

COLUMNS = {
    "nothing": Case((A, B), (A, B), (), NOTHING),
    "added at the end": Case((A,), (A, B), ("b: added as text",), IN_PLACE),
    "added in front": Case((A,), (B, A), ("b: added as text",), REBUILD),
    "added with a literal": Case((A,), (A, replace(B, default="'x'::text")), ("b: added as text",), IN_PLACE),
    "added with a default of each row": Case(
        (A,), (A, replace(B, default="gen_random_uuid()")), ("b: added as text",), REBUILD
    ),
    "added NOT NULL": Case(
        (A,),
        (A, replace(B, not_null=True)),
        ("b: added as text",),
        IN_PLACE,
        risks=("b is NOT NULL without a default: refused if there are rows",),
    ),
    "added by a conversion": Case(
        (A,),
        (A, replace(B, not_null=True)),
        ("b: added as text, made by a::text",),
        REBUILD,
        facts=Facts(conversions={"b": "a::text"}),
    ),
    "added as a serial, whose sequence is still to be made": Case(
        (B,),
        (B, serial("a")),
        ("a: added as integer",),
        REBUILD,
        target=(B, serial("a", default=None, sequence=None)),
    ),
    "dropped": Case((A, B), (A,), ("b: dropped, with any values in it",), IN_PLACE),
    "dropped, and what is computed from it first": Case(
        (A, ID, column("c", "integer", generated="s", default="(a * 2)")),
        (ID,),
        ("c: dropped, with any values in it", "a: dropped, with any values in it"),
        IN_PLACE,
        facts=Facts(computed_from=("a",)),
    ),
    "dropped, where another is computed without it from now on": Case(
        (A, ID, column("c", "integer", generated="s", default="(a * 2)")),
        (ID, column("c", "integer", generated="s", default="(id * 2)")),
        ("a: dropped, with any values in it", "c: computed or identity as declared"),
        REBUILD,
        facts=Facts(computed_from=("a",)),
    ),
    "moved": Case((A, B), (B, A), ("columns in the order b, a",), REBUILD),
    "moved around one that goes": Case((A, B, ID), (A, ID), ("b: dropped, with any values in it",), IN_PLACE),
    "added where the table has room for one more": Case(
        (A,),
        (A, column("b", "text")),
        ("b: added as text",),
        IN_PLACE,
        facts=Facts(numbered=1599),
    ),
    "added where columns that were dropped have taken the room": Case(
        (A,),
        (A, column("b", "text")),
        ("b: added as text",),
        REBUILD,
        facts=Facts(numbered=1600),
    ),
    "widened": Case(
        (column("a", "character varying(3)"),),
        (column("a", "character varying(9)"),),
        ("a: character varying(3) -> character varying(9)",),
        IN_PLACE,
    ),
    "widened, where an index on an expression is built anew": Case(
        (column("a", "character varying(3)"),),
        (column("a", "text"),),
        ("a: character varying(3) -> text",),
        REBUILD,
        facts=Facts(rechecked=("a",)),
    ),
    "widened, where a view uses it": Case(
        (column("a", "character varying(3)"),),
        (column("a", "text"),),
        ("a: character varying(3) -> text",),
        REBUILD,
        facts=Facts(pinned={"a": ("view v",)}),
    ),
    "narrowed": Case(
        (column("a", "text"),),
        (column("a", "character varying(3)"),),
        ("a: text -> character varying(3)",),
        REBUILD,
        risks=("refused if a value of a would change as character varying(3)",),
    ),
    "a bigger integer": Case((A,), (column("a", "bigint"),), ("a: integer -> bigint",), REBUILD),
    "another type, by a conversion": Case(
        (column("a", "text"),),
        (column("a", "date"),),
        ("a: text -> date, made by a::date",),
        REBUILD,
        facts=Facts(conversions={"a": "a::date"}),
    ),
    "collated": Case(
        (B,),
        (replace(B, collation='pg_catalog."C"'),),
        ('b: collation default -> pg_catalog."C"',),
        REBUILD,
    ),
    "NOT NULL": Case((A,), (replace(A, not_null=True),), ("a: NOT NULL",), STEPS, risks=("refused if a holds NULL",)),
    "NULL allowed": Case((replace(A, not_null=True),), (A,), ("a: NULL allowed",), IN_PLACE),
    "NULL allowed, of another type": Case(
        (replace(A, not_null=True),),
        (column("a", "bigint"),),
        ("a: integer -> bigint", "a: NULL allowed"),
        REBUILD,
    ),
    "a default": Case((A,), (replace(A, default="7"),), ("a: default 7",), IN_PLACE),
    "a default of people's": Case((replace(A, default="7"),), (A,), (), NOTHING, target=(replace(A, default="7"),)),
    "comments": Case(
        (replace(A, comment="old"), replace(B, comment="a person's")),
        (replace(A, comment="new"), B),
        ("comment of the table", "a: comment"),
        IN_PLACE,
        target=(replace(A, comment="new"), replace(B, comment="a person's")),
        facts=Facts(text="old", comment="new"),
    ),
    "what people tuned": Case(
        (replace(A, tuning=("SET STATISTICS 7",), not_null=True, not_null_name="needed"),),
        (replace(A, not_null=True, not_null_name="t_a_not_null"),),
        (),
        NOTHING,
        target=(replace(A, tuning=("SET STATISTICS 7",), not_null=True, not_null_name="needed"),),
    ),
}

COMPUTED = {
    "another expression": Case(
        (A, column("c", "integer", generated="s", default="(a * 2)")),
        (A, column("c", "integer", generated="s", default="(a * 3)")),
        ("c: computed or identity as declared",),
        REBUILD,
    ),
    "computed from now on": Case(
        (A, column("c", "integer", default="5")),
        (A, column("c", "integer", generated="s", default="(a * 2)")),
        ("c: computed or identity as declared",),
        REBUILD,
    ),
    "computed no more": Case(
        (A, column("c", "integer", generated="s", default="(a * 2)")),
        (A, column("c", "integer")),
        ("c: computed or identity as declared",),
        REBUILD,
    ),
    "serial to bigserial": Case(
        (serial("a"),),
        (serial("a", "bigint", sequence=Name("pg_temp", "t_a_seq")),),
        ("a: integer -> bigint",),
        REBUILD,
        target=(serial("a", "bigint"),),
    ),
    "serial to text": Case(
        (serial("a"),),
        (column("a", "text", not_null=True),),
        ("a: integer -> text, without its sequence public.t_a_seq",),
        REBUILD,
        risks=(),
    ),
    "serial to text, with a default that people gave it": Case(
        (serial("a", default="(nextval('t_a_seq'::regclass) * 2)"),),
        (column("a", "text", not_null=True),),
        ("a: integer -> text",),
        REBUILD,
        target=(
            column(
                "a",
                "text",
                not_null=True,
                serial=True,
                default="(nextval('t_a_seq'::regclass) * 2)",
                sequence=SEQUENCE,
            ),
        ),
    ),
    "serial to identity": Case(
        (serial("a"),),
        (column("a", "integer", not_null=True, identity="d", sequence=Name("pg_temp", "t_a_seq")),),
        ("a: computed or identity as declared",),
        REBUILD,
        target=(column("a", "integer", not_null=True, identity="d"),),
    ),
    "identity that stays, with its sequence": Case(
        (column("a", "integer", not_null=True, identity="d", sequence=SEQUENCE, sequence_options="START 1"),),
        (column("a", "bigint", not_null=True, identity="d", sequence=OTHER, sequence_options="START 1"),),
        ("a: integer -> bigint",),
        REBUILD,
        target=(column("a", "bigint", not_null=True, identity="d", sequence=SEQUENCE, sequence_options="START 1"),),
    ),
    "identity where a serial is declared": Case(
        (column("a", "integer", not_null=True, identity="a", sequence=SEQUENCE, sequence_options="START 5"),),
        (serial("a", sequence=OTHER),),
        (),
        NOTHING,
        target=(
            column(
                "a",
                "integer",
                not_null=True,
                identity="a",
                sequence=SEQUENCE,
                sequence_options="START 5",
            ),
        ),
    ),
}

ENUMS = {
    "extended": Case(
        (enum("a", "ok", "sad"),),
        (enum("a", "new", "ok", "odd", "sad"),),
        ("mood: added 'new', 'odd'",),
        IN_PLACE,
        risks=("labels of mood are committed first, and stay if the rest fails",),
    ),
    "extended once for two columns and an array": Case(
        (enum("a", "ok"), enum("b", "ok"), enums("c", "ok")),
        (enum("a", "ok", "sad"), enum("b", "ok", "sad"), enums("c", "ok", "sad")),
        ("mood: added 'sad'",),
        IN_PLACE,
        risks=("labels of mood are committed first, and stay if the rest fails",),
    ),
    "of fewer labels": Case(
        (enum("a", "ok", "sad"),),
        (enum("a", "ok"),),
        ("a: mood of 'ok'",),
        REBUILD,
        risks=("refused if a holds a label that goes",),
    ),
    "in another order": Case(
        (enums("a", "ok", "sad"),),
        (enums("a", "sad", "ok"),),
        ("a: mood of 'sad', 'ok'",),
        REBUILD,
        risks=("refused if a holds a label that goes",),
    ),
    "another type": Case(
        (enum("a", "ok"),),
        (enum("a", "ok", "sad", of="feeling"),),
        ("a: mood -> feeling",),
        REBUILD,
        risks=("refused if a value of a would change as feeling",),
    ),
}

KEYS = {
    "added": Case(
        (ID,),
        (ID, key("id")),
        ("added PRIMARY KEY (id)",),
        STEPS,
        risks=("refused if stored rows do not satisfy PRIMARY KEY (id)",),
    ),
    "dropped": Case((ID, key("id")), (ID,), ("dropped t_pkey: PRIMARY KEY (id)",), IN_PLACE),
    "moved": Case(
        (ID, replace(A, not_null=True), key("id")),
        (ID, replace(A, not_null=True), key("a")),
        ("dropped t_pkey: PRIMARY KEY (id)", "added PRIMARY KEY (a)"),
        STEPS,
        risks=("refused if stored rows do not satisfy PRIMARY KEY (a)",),
    ),
    "moved, and referred to": Case(
        (ID, replace(A, not_null=True), key("id")),
        (column("id", "integer"), replace(A, not_null=True), key("a"), key("id", name="t_id_key", kind="u")),
        (
            "id: NULL allowed",
            "dropped t_pkey: PRIMARY KEY (id)",
            "added PRIMARY KEY (a)",
            "added UNIQUE (id)",
        ),
        REBUILD,
        risks=(
            "refused if stored rows do not satisfy PRIMARY KEY (a)",
            "refused if stored rows do not satisfy UNIQUE (id)",
        ),
        facts=Facts(inbound=(OF_OTHER,)),
    ),
    "of another name": Case(
        (ID, key("id", name="people_pk")), (ID, key("id")), (), NOTHING, target=(ID, key("id", name="people_pk"))
    ),
    "unique that a foreign key needs": Case(
        (A, key("a", name="t_a_key", kind="u")),
        (A,),
        (),
        NOTHING,
        target=(A, key("a", name="t_a_key", kind="u")),
        kept=("t_a_key UNIQUE (a), which is not declared: foreign key of_t needs it",),
        facts=Facts(needed={"t_a_key": "foreign key of_t needs it"}),
    ),
    "what a killed run left": Case(
        (A, check("_ingest_step0_0123456789ab", "a IS NOT NULL", "a")),
        (A,),
        ("dropped _ingest_step0_0123456789ab: CHECK ((a IS NOT NULL))",),
        IN_PLACE,
    ),
    "check added": Case(
        (A,),
        (A, check("positive", "a > 0", "a")),
        ("added CHECK ((a > 0))",),
        STEPS,
        risks=("refused if stored rows do not satisfy CHECK ((a > 0))",),
    ),
    "check of a person's": Case(
        (A, check("adult", "a > 17", "a", comment="Ask Ann.")),
        (A,),
        (),
        NOTHING,
        target=(A, check("adult", "a > 17", "a", comment="Ask Ann.")),
        kept=("adult CHECK ((a > 17)), which is not declared",),
    ),
    "check of a person's on a column that goes": Case(
        (A, B, check("named", "b <> ''", "b")),
        (A,),
        ("b: dropped, with any values in it", "dropped named: CHECK ((b <> ''))"),
        IN_PLACE,
    ),
    "check that is another one under its name": Case(
        (A, check("adult", "a > 17", "a")),
        (A, check("adult", "a > 20", "a")),
        ("dropped adult: CHECK ((a > 17))", "added CHECK ((a > 20))"),
        STEPS,
        risks=("refused if stored rows do not satisfy CHECK ((a > 20))",),
    ),
    "check that is valid from now on": Case(
        (A, check("known", "a > 17", "a", validated=False)),
        (A, check("adult", "a > 17", "a")),
        ("validated known",),
        STEPS,
        target=(A, check("known", "a > 17", "a")),
        risks=("refused if stored rows do not satisfy known",),
    ),
}

REFERENCES = {
    "added, with the name that PostgreSQL gives it": Case(
        (A,),
        (A, reference("", "a")),
        ("added a foreign key to public.parent",),
        STEPS,
        target=(A, reference("t_a_fkey", "a")),
        risks=("refused if stored rows refer to no row of public.parent",),
    ),
    "added, where that name is taken": Case(
        (A, column("c", "integer"), reference("t_a_fkey", "c")),
        (A, column("c", "integer"), reference("", "a"), reference("", "c")),
        ("added a foreign key to public.parent",),
        STEPS,
        target=(A, column("c", "integer"), reference("t_a_fkey1", "a"), reference("t_a_fkey", "c")),
        risks=("refused if stored rows refer to no row of public.parent",),
    ),
    "to another table from now on": Case(
        (A, reference("t_a_fkey", "a")),
        (A, reference("", "a", to=OTHER)),
        ("dropped t_a_fkey: a foreign key to public.parent", "added a foreign key to public.other"),
        STEPS,
        target=(A, reference("t_a_fkey", "a", to=OTHER)),
        risks=("refused if stored rows refer to no row of public.other",),
    ),
    "to another table, where a declared one takes its name": Case(
        (A, column("c", "integer"), reference("t_a_fkey", "a")),
        (A, column("c", "integer"), reference("", "a", to=OTHER), reference("t_a_fkey", "c")),
        (
            "dropped t_a_fkey: a foreign key to public.parent",
            "added a foreign key to public.other",
            "added a foreign key to public.parent",
        ),
        STEPS,
        target=(A, column("c", "integer"), reference("t_a_fkey1", "a", to=OTHER), reference("t_a_fkey", "c")),
        risks=(
            "refused if stored rows refer to no row of public.other",
            "refused if stored rows refer to no row of public.parent",
        ),
    ),
    "that a killed run left": Case(
        (A, reference("_ingest_step0_0123456789ab", "a", validated=False)),
        (A, reference("t_a_fkey", "a")),
        ("dropped _ingest_step0_0123456789ab: a foreign key to public.parent", "added a foreign key to public.parent"),
        STEPS,
        risks=("refused if stored rows refer to no row of public.parent",),
    ),
    "of a person's, to another table than the declared one": Case(
        (A, reference("by_hand", "a")),
        (A, reference("", "a", to=OTHER)),
        ("added a foreign key to public.other",),
        STEPS,
        target=(A, reference("t_a_fkey", "a", to=OTHER), reference("by_hand", "a")),
        kept=("foreign key by_hand to public.parent, which is not declared",),
        risks=("refused if stored rows refer to no row of public.other",),
    ),
    "of another name": Case(
        (A, reference("live", "a", comment="Ask Ann.")),
        (A, reference("declared", "a")),
        (),
        NOTHING,
        target=(A, reference("live", "a", comment="Ask Ann.")),
    ),
    "of other columns in the same pairs": Case(
        (A, ID, reference("two", "a", "id", of=("x", "y"))),
        (A, ID, reference("two", "id", "a", of=("y", "x"))),
        (),
        NOTHING,
        target=(A, ID, reference("two", "a", "id", of=("x", "y"))),
    ),
    "that does something else": Case(
        (A, reference("t_a_fkey", "a")),
        (A, reference("t_a_fkey", "a", options=" ON DELETE CASCADE")),
        ("dropped t_a_fkey: a foreign key to public.parent", "added a foreign key to public.parent"),
        STEPS,
        risks=("refused if stored rows refer to no row of public.parent",),
    ),
    "that is valid from now on": Case(
        (A, reference("live", "a", validated=False)),
        (A, reference("", "a")),
        ("validated live",),
        STEPS,
        target=(A, reference("live", "a")),
        risks=("refused if stored rows do not satisfy live",),
    ),
    "with a column that goes": Case(
        (A, B, reference("t_a_fkey", "a")),
        (B,),
        ("a: dropped, with any values in it", "dropped t_a_fkey: a foreign key to public.parent"),
        IN_PLACE,
    ),
}

INDEXES = {
    "added": Case((A,), (A, index("t_a", "a")), ("added index USING btree (a)",), STEPS),
    "added, unique": Case(
        (A,),
        (A, index("t_a", "a", unique=True)),
        ("added unique index USING btree (a)",),
        STEPS,
        risks=("refused if stored rows share a key",),
    ),
    "dropped": Case((A, index("t_a", "a")), (A,), ("dropped index t_a: USING btree (a)",), IN_PLACE),
    "of another name": Case(
        (A, index("live", "a", comment="Ask Ann.")),
        (A, index("declared", "a")),
        (),
        NOTHING,
        target=(A, index("live", "a", comment="Ask Ann.")),
    ),
    "twice": Case(
        (A, index("one", "a")),
        (A, index("x", "a"), index("two", "a")),
        ("added index USING btree (a)",),
        STEPS,
        target=(A, index("one", "a"), index("two", "a")),
    ),
    "of other rows": Case(
        (A, index("t_a", "a", predicate=" WHERE (a > 0)")),
        (A, index("t_a", "a", predicate=" WHERE (a > 1)")),
        ("dropped index t_a: USING btree (a) WHERE (a > 0)", "added index USING btree (a) WHERE (a > 1)"),
        STEPS,
    ),
    "tuned": Case(
        (A, index("live", "a")),
        (A, index("declared", "a", options="fillfactor=70")),
        ("index live: fillfactor=70",),
        IN_PLACE,
        target=(A, index("live", "a", options="fillfactor=70")),
    ),
    "that could not be built": Case(
        (A, index("t_a", "a", valid=False)),
        (A, index("t_a", "a")),
        ("dropped index t_a: USING btree (a)", "added index USING btree (a)"),
        STEPS,
    ),
    "that something needs": Case(
        (A, index("t_a", "a", unique=True)),
        (A,),
        (),
        NOTHING,
        target=(A, index("t_a", "a", unique=True)),
        kept=("index t_a, which is not declared: it is the replica identity",),
        facts=Facts(needed={"t_a": "it is the replica identity"}),
    ),
    "that something needs, of the name of another one": Case(
        (A, B, index("t_a", "a"), check("t_a1", "a > 0", "a")),
        (A, B, index("t_a", "a", "b")),
        ("added index USING btree (a, b)",),
        STEPS,
        target=(A, B, check("t_a1", "a > 0", "a"), index("t_a2", "a", "b"), index("t_a", "a")),
        kept=(
            "t_a1 CHECK ((a > 0)), which is not declared",
            "index t_a, which is not declared: the table is clustered on it",
        ),
        facts=Facts(needed={"t_a": "the table is clustered on it"}),
    ),
}

CASES = {
    f"{what}: {name}": case
    for what, cases in {
        "column": COLUMNS,
        "computed": COMPUTED,
        "enum": ENUMS,
        "constraint": KEYS,
        "foreign key": REFERENCES,
        "index": INDEXES,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_table_is_planned_to_its_definition_and_from_there_nothing_is(case: Case) -> None:
    live, declared = table(*case.live, oid=1), table(*case.declared)
    found = plan(live, declared, case.facts)
    assert (found.lines, found.action, found.kept) == (case.lines, case.action, case.kept)
    assert found.risks == case.risks
    expected = table(*(case.declared if case.target is None else case.target), oid=1)
    assert found.target == expected
    assert not IngestPlan((plan(expected, declared, replace(case.facts, text=case.facts.comment)),))


@pytest.mark.parametrize(
    ("case", "in_place"),
    [
        (KEYS["moved, and referred to"], ()),
        (COLUMNS["dropped, where another is computed without it from now on"], ()),
        (COLUMNS["NULL allowed, of another type"], ()),
        (
            replace(COLUMNS["dropped, where another is computed without it from now on"], facts=Facts()),
            ("a: dropped, with any values in it",),
        ),
    ],
    ids=["a key that is referred to", "a column that is computed from", "a column that is made anew", "any other"],
)
def test_what_something_is_against_until_a_rebuild_is_left_to_it(case: Case, in_place: tuple[str, ...]) -> None:
    found = plan(table(*case.live), table(*case.declared), case.facts)
    assert tuple(map(str, found.of_way(Way.CATALOG))) == in_place


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_a_table_ends_with_is_kept_as_it_is(case: Case) -> None:
    live = table(*case.live, oid=1)
    ended = kept.merged(live, table(*case.declared), case.facts.needed)
    assert kept.merged(ended, table(*case.declared), case.facts.needed) == ended
    assert kept.merged(live, live, case.facts.needed) == live or _has_leftovers(live)


def _has_leftovers(live: TableShape) -> bool:
    """Whether a run that was killed or an index that could not be built is in it."""
    return any(is_temporary(part.name) or not getattr(part, "valid", True) for part in live.parts)


SHOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: plan(table(A), table(A), Facts()), "public.t: nothing to do"),
    "in steps": (
        lambda: plan(
            table(A, B, check("adult", "a > 17", "a")),
            table(replace(A, not_null=True), B, index("t_b", "b")),
            Facts(text=None, comment="Who we know", bytes=12345),
        ),
        """\
public.t: in place, in steps
  difference                   by            lock                    who waits
  a: NOT NULL                  SET NOT NULL  SHARE UPDATE EXCLUSIVE  all, for milliseconds; nobody, while rows are read
  added index USING btree (b)  CREATE INDEX  SHARE                   writers, while the index is built
  comment of the table         COMMENT       SHARE UPDATE EXCLUSIVE  nobody
  keeps: adult CHECK ((a > 17)), which is not declared
  risk: refused if a holds NULL""",
    ),
    "by a rebuild": (
        lambda: replace(
            plan(
                table(B, A),
                table(A, column("b", "bigint")),
                Facts(
                    inbound=(OF_OTHER,),
                    bytes=20480 * 1024,
                    carried=("view v",),
                ),
            ),
            refused="text is not assigned to bigint",
            replaces="by a swap",
        ),
        """\
public.t: rebuild and swap
  difference                 by       lock   who waits
  columns in the order a, b  rebuild  SHARE  writers, for the copy; all, for the swap's milliseconds
  b: text -> bigint          rebuild  SHARE  writers, for the copy; all, for the swap's milliseconds
  rewrites the table and its indexes, about 20 MB
  carries over: foreign key of_t of public.other
  carries over: view v
  risk: refused if a value of b would change as bigint
  rows: by a swap
  refused: text is not assigned to bigint""",
    ),
}


@pytest.mark.parametrize(("planned", "shown"), SHOWN.values(), ids=SHOWN.keys())
def test_a_plan_is_shown_with_its_locks_and_risks(planned: Callable[[], Any], shown: str) -> None:
    assert str(planned()) == shown
    assert str(IngestPlan((planned(), planned()))) == f"{shown}\n{shown}"


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 bytes"), (10239, "10239 bytes"), (10240, "10 kB"), (5 * 10**12, "4657 GB")]
)
def test_sizes_are_shown_as_postgresql_does(size: int, shown: str) -> None:
    found = plan(table(A), table(column("a", "bigint")), Facts(bytes=size))
    assert f"about {shown}\n" in f"{found}\n"
