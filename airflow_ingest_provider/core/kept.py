"""The definition that a live table ends with: the declared one, and what people added to it, which stays."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from airflow_ingest_provider.core.names import free_name, is_temporary
from airflow_ingest_provider.core.shape import (
    INTEGERS,
    ColumnShape,
    ConstraintShape,
    ForeignKeyShape,
    IndexShape,
    TableShape,
)

Constraint = TypeVar("Constraint", ConstraintShape, ForeignKeyShape)
Described = TypeVar("Described", ConstraintShape, IndexShape)
Part = TypeVar("Part", ConstraintShape, ForeignKeyShape, IndexShape)


def merged(live: TableShape, declared: TableShape, needed: Mapping[str, str]) -> TableShape:
    """The declared table with what people added to the live one: checks, foreign keys, defaults, comments and such."""
    return replace(
        live,
        columns=tuple(_merged_column(live.column(column.name), column) for column in declared.columns),
        constraints=(
            *_validated(named_alike(lasting(live.constraints), declared.constraints), declared.constraints),
            *beyond(constraints_that_stay(live, declared, needed), declared.constraints),
        ),
        foreign_keys=(
            *_validated((live_foreign_key(live, one) or one for one in declared.foreign_keys), declared.foreign_keys),
            *peoples_foreign_keys(live, declared),
        ),
        indexes=(
            *(
                replace(index, options=wanted.options or index.options)
                for wanted, index in zip(
                    declared.indexes, named_alike(sound(live.indexes), declared.indexes), strict=True
                )
            ),
            *beyond(needed_indexes(live, declared, needed), declared.indexes),
        ),
    )


def _merged_column(live: ColumnShape | None, declared: ColumnShape) -> ColumnShape:
    if live is None:
        return replace(declared, default=None, sequence=None) if declared.serial else replace(declared, sequence=None)
    keeps_default = (
        not declared.generated
        and not declared.identity
        and (declared.serial or declared.default is None)
        and not stops_counting(live, declared)
    )
    keeps_identity = bool(live.identity and (declared.serial or declared.identity))
    return replace(
        declared,
        default=live.default if keeps_default and not live.generated else declared.default,
        identity=(live.identity if declared.serial else declared.identity) if keeps_identity else declared.identity,
        sequence=live.sequence if keeps_identity or keeps_default else None,
        sequence_options=live.sequence_options if declared.serial else declared.sequence_options,
        serial=live.serial if keeps_default else declared.serial,
        comment=declared.comment if declared.comment is not None else live.comment,
        not_null_name=live.not_null_name or declared.not_null_name,
        tuning=tuple(one for one in live.tuning or declared.tuning if _can_be_tuned(declared, one)),
    )


def _can_be_tuned(column: ColumnShape, action: str) -> bool:
    """Whether PostgreSQL takes it: it gathers no statistics of virtual columns."""
    return not (column.generated == "v" and action.startswith("SET STATISTICS"))


_SERIAL_DEFAULT = re.compile(r"nextval\('([^']|'')+'::regclass\)")


def stops_counting(live: ColumnShape, declared: ColumnShape) -> bool:
    """Whether a serial column becomes one of no integers: its default came with the type, and nobody gave it."""
    as_made = live.serial and live.default is not None and _SERIAL_DEFAULT.fullmatch(live.default)
    return bool(as_made) and live.value.name in INTEGERS and declared.value.name not in INTEGERS


def _validated(those: Iterable[Constraint], declared: Iterable[Constraint]) -> tuple[Constraint, ...]:
    """The constraints, valid where they are declared so."""
    return tuple(
        replace(one, validated=one.validated or wanted.validated) for one, wanted in zip(those, declared, strict=True)
    )


def lasting(constraints: Iterable[Constraint]) -> tuple[Constraint, ...]:
    """All but what a killed run left."""
    return tuple(one for one in constraints if not is_temporary(one.name))


def constraints_that_stay(
    live: TableShape, declared: TableShape, needed: Mapping[str, str]
) -> tuple[ConstraintShape, ...]:
    """The constraints that stay whether they are declared or not."""
    return _peoples(live, declared) + _needed(_of_columns_that_stay(live.of_kind("u"), live, declared), needed)


def _peoples(live: TableShape, declared: TableShape) -> tuple[ConstraintShape, ...]:
    """The checks and exclusion constraints, which are not the definition's to decide, unless one of the name is added.

    One that the definition had before, under a name that PostgreSQL gave it, looks just like one that a person added.
    """
    there = lasting(live.constraints)
    names = {one.name for one in beyond(declared.constraints, there)}
    those = _of_columns_that_stay([one for one in there if one.kind in ("c", "x")], live, declared)
    redefined = [one for one in beyond(those, declared.constraints) if one.name in names]
    return tuple(one for one in those if one not in redefined)


def named_apart(live: TableShape, declared: TableShape, needed: Mapping[str, str]) -> TableShape:
    """The declared table, in which what is new has a free name where something that stays has its own."""
    new: list[ConstraintShape | IndexShape] = [
        *beyond(declared.constraints, lasting(live.constraints)),
        *beyond(declared.indexes, sound(live.indexes)),
    ]
    constraints = [
        *_staying(lasting(live.constraints), declared.constraints, constraints_that_stay(live, declared, needed))
    ]
    indexes = [*_staying(sound(live.indexes), declared.indexes, needed_indexes(live, declared, needed))]
    called = {one.name for one in constraints}
    relations = {one.name for one in indexes} | {one.name for one in constraints if one.kind != "c"}
    taken = {name for shape in (live, declared) for name in shape.names}

    def apart(one: Described, others: Collection[str]) -> Described:
        if one in new and one.name in others:
            one = replace(one, name=free_name(one.name, taken))
            taken.add(one.name)
        return one

    filled = {one.not_null_name for one in live.columns if one.not_null_name and _stays_not_null(one, declared)}
    of_table = called | filled | {key.name for key in live.foreign_keys}

    def filled_apart(one: ColumnShape) -> ColumnShape:
        before = live.column(one.name)
        if one.not_null_name not in of_table or (before and before.not_null_name):
            return one
        name = free_name(str(one.not_null_name), taken)
        taken.add(name)
        return replace(one, not_null_name=name)

    return replace(
        declared,
        columns=tuple(map(filled_apart, declared.columns)),
        constraints=tuple(
            apart(one, called if one.kind == "c" else called | relations) for one in declared.constraints
        ),
        indexes=tuple(apart(one, relations) for one in declared.indexes),
    )


def _stays_not_null(column: ColumnShape, declared: TableShape) -> bool:
    after = declared.column(column.name)
    return after is not None and after.not_null


def _staying(
    those: tuple[Described, ...], declared: Iterable[Described], that_stay: Collection[Described]
) -> Iterator[Described]:
    """Those that no migration drops: declared ones, and undeclared ones that stay."""
    gone = [one for one in beyond(those, declared) if one not in that_stay]
    return (one for one in those if one not in gone)


def undeclared_foreign_keys(live: TableShape, declared: TableShape) -> Iterator[ForeignKeyShape]:
    """The live ones that are not declared."""
    return (one for one in live.foreign_keys if not any(same_key(one, wanted) for wanted in declared.foreign_keys))


def peoples_foreign_keys(live: TableShape, declared: TableShape) -> tuple[ForeignKeyShape, ...]:
    """Those of them that stay: a declared one of the same name takes the place of the others."""
    names = {wanted.name for wanted in declared.foreign_keys}
    those = lasting(undeclared_foreign_keys(live, declared))
    return tuple(one for one in _of_columns_that_stay(those, live, declared) if one.name not in names)


def _of_columns_that_stay(parts: Iterable[Part], live: TableShape, declared: TableShape) -> tuple[Part, ...]:
    """All but those that PostgreSQL drops with a column of theirs."""
    gone = {column.name for column in live.columns} - {column.name for column in declared.columns}
    return tuple(one for one in parts if gone.isdisjoint(one.columns))


def sound(indexes: Iterable[IndexShape]) -> tuple[IndexShape, ...]:
    """The indexes that are valid, and not what a killed run left."""
    return tuple(index for index in indexes if index.valid and not is_temporary(index.name))


def needed_indexes(live: TableShape, declared: TableShape, needed: Mapping[str, str]) -> tuple[IndexShape, ...]:
    """The indexes that stay whether they are declared or not: something else needs them."""
    return _needed(_of_columns_that_stay(sound(live.indexes), live, declared), needed)


def _needed(those: tuple[Described, ...], needed: Mapping[str, str]) -> tuple[Described, ...]:
    return tuple(one for one in those if one.name in needed)


def described(live: TableShape, declared: TableShape, needed: Mapping[str, str]) -> Iterator[str]:
    """What is live, not declared, and stays, a line each, for people."""
    for constraint in beyond(constraints_that_stay(live, declared, needed), declared.constraints):
        why = f": {needed[constraint.name]}" if constraint.kind == "u" else ""
        yield f"{constraint.name} {constraint.definition}, which is not declared{why}"
    for key in peoples_foreign_keys(live, declared):
        yield f"foreign key {key.name} to {key.target}, which is not declared"
    for index in beyond(needed_indexes(live, declared, needed), declared.indexes):
        yield f"index {index.name}, which is not declared: {needed[index.name]}"


def _identity(described: ConstraintShape | IndexShape) -> tuple[object, str]:
    """What makes two of them the same, whatever they are called."""
    if isinstance(described, IndexShape):
        return described.unique, described.definition + described.predicate
    return described.kind, described.definition


def beyond(these: Iterable[Described], those: Iterable[Described]) -> Iterator[Described]:
    """These that have no equal of their own among those: two equal indexes need two."""
    left = Counter(map(_identity, those))
    for one in these:
        if left[_identity(one)]:
            left[_identity(one)] -= 1
        else:
            yield one


def named_alike(live: Iterable[Described], declared: Iterable[Described]) -> tuple[Described, ...]:
    """The declared ones, each as the live one with its definition where there is one: names and comments stay."""
    left: dict[tuple[object, str], list[Described]] = {}
    for one in live:
        left.setdefault(_identity(one), []).append(one)
    return tuple(left[_identity(one)].pop(0) if left.get(_identity(one)) else one for one in declared)


def live_foreign_key(live: TableShape, wanted: ForeignKeyShape) -> ForeignKeyShape | None:
    """The live one that is as a declared one, of its name where several are."""
    same = [key for key in lasting(live.foreign_keys) if same_key(key, wanted)]
    return next((key for key in same if key.name == wanted.name), same[0] if same else None)


def same_key(one: ForeignKeyShape, other: ForeignKeyShape) -> bool:
    """Whether two foreign keys do the same, whatever they are called."""
    pairs = set(zip(one.columns, one.target_columns, strict=True))
    return (
        pairs == set(zip(other.columns, other.target_columns, strict=True))
        and one.target == other.target
        and _read(one.options) == _read(other.options)
    )


_IDENTIFIER = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


def _read(options: str) -> tuple[str, tuple[str, ...], str]:
    """A foreign key's options, with the columns that SET NULL and SET DEFAULT name, whether those are quoted or not."""
    before, _, rest = options.partition("(")
    columns, _, after = rest.rpartition(")")
    found = _IDENTIFIER.findall(columns)
    names = (quoted.replace('""', '"') or re.sub("[A-Z]", lambda one: one[0].lower(), bare) for quoted, bare in found)
    return before.strip(), tuple(names), after
