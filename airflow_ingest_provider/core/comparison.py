"""A live table and its definition, compared: the plan of the way from one to the other."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from airflow_ingest_provider.core import kept
from airflow_ingest_provider.core.differences import (
    CollationChanged,
    ColumnAdded,
    ColumnDropped,
    ColumnsMoved,
    CommentChanged,
    ComputationChanged,
    ConstraintAdded,
    ConstraintDropped,
    ConstraintValidated,
    DefaultChanged,
    Difference,
    EnumChanged,
    EnumExtended,
    ForeignKeyAdded,
    ForeignKeyDropped,
    IndexAdded,
    IndexDropped,
    IndexTuned,
    NotNullAdded,
    NotNullDropped,
    TypeChanged,
    Way,
)
from airflow_ingest_provider.core.names import default_name, free_name, is_temporary
from airflow_ingest_provider.core.plan import MAX_COLUMNS, Facts, TablePlan
from airflow_ingest_provider.core.shape import ColumnShape, ConstraintShape, ForeignKeyShape, IndexShape, TableShape


def plan(live: TableShape, declared: TableShape, facts: Facts) -> TablePlan:
    """Compare a live table with its definition.

    Names of indexes and constraints do not count; what is live, not declared, and not the definition's to decide,
    stays.
    """
    declared = kept.named_apart(live, declared, facts.needed)
    declared = replace(declared, foreign_keys=tuple(_named_keys(live, declared)))
    differences = (
        *_enums(live, declared),
        *_columns(live, declared, facts),
        *_constraints(live, declared, facts),
        *_indexes(live, declared, facts),
        *_foreign_keys(live, declared),
        *_comments(live, declared, facts),
    )
    target = kept.merged(live, declared, facts.needed)
    return TablePlan(
        live.name,
        differences,
        target,
        kept=tuple(kept.described(live, declared, facts.needed)),
        carried=tuple(_carried(facts)),
        bytes=facts.bytes,
    )


def _carried(facts: Facts) -> Iterator[str]:
    yield from (f"foreign key {key.name} of {key.table}" for key in facts.inbound)
    yield from facts.carried
    if facts.statistics:
        yield f"{len(facts.statistics)} x extended statistics"


def _named_keys(live: TableShape, declared: TableShape) -> Iterator[ForeignKeyShape]:
    """The declared foreign keys; those that are to be added and have no name get the one that PostgreSQL gives them.

    Where a key of the same columns has that name already, the definition or PostgreSQL gave it, and it is replaced. One
    that is called as a live key which is declared by another name gets a free name.
    """
    matched = [kept.live_foreign_key(live, wanted) for wanted in declared.foreign_keys]
    held = {one.name for one in matched if one}
    taken = {one.name for one in live.constraints + declared.constraints} | {one.name for one in declared.foreign_keys}
    replaceable = list(kept.undeclared_foreign_keys(live, declared))
    for wanted in declared.foreign_keys:
        if not wanted.name and kept.live_foreign_key(live, wanted) is None:
            name = default_name(live.name.name, wanted.columns, "fkey")
            before = [
                one.name
                for one in replaceable
                if one.columns == wanted.columns and one.name.rstrip("0123456789") == name and one.name not in taken
            ]
            name = min(before) if before else free_name(name, taken | {one.name for one in live.foreign_keys})
            taken.add(name)
            wanted = replace(wanted, name=name)
        elif wanted.name in held and kept.live_foreign_key(live, wanted) is None:
            name = free_name(wanted.name, taken | {one.name for one in live.foreign_keys})
            taken.add(name)
            wanted = replace(wanted, name=name)
        yield wanted


def _enums(live: TableShape, declared: TableShape) -> Iterator[Difference]:
    """Labels to add, once a type."""
    extended = {}
    for column in declared.columns:
        before = live.column(column.name)
        old, new = before and before.value.enum, column.value.enum
        if before and old and new and before.type == column.type and _is_part(old.labels, new.labels):
            extended[column.type.removesuffix("[]")] = tuple(label for label in new.labels if label not in old.labels)
    yield from (EnumExtended(type_, labels) for type_, labels in extended.items() if labels)


def _is_part(some: tuple[str, ...], all_: tuple[str, ...]) -> bool:
    """Whether all of them has some of them, in their order."""
    rest = iter(all_)
    return all(label in rest for label in some)


def _columns(live: TableShape, declared: TableShape, facts: Facts) -> Iterator[Difference]:
    wanted = {column.name for column in declared.columns}
    there = {column.name for column in live.columns}
    dropped = [column for column in live.columns if column.name not in wanted]
    staying = ((live.column(column.name), column) for column in declared.columns)
    recomputed = any(before and before.generated and _computation(before, after) for before, after in staying)
    # What is computed goes first: PostgreSQL does not drop a column that another is computed from.
    for column in sorted(dropped, key=lambda column: not column.generated):
        statistics = tuple(name for name, columns in facts.statistics if column.name in columns)
        yield ColumnDropped(column, statistics, by_rebuild=recomputed and column.name in facts.computed_from)
    kept_live = [column.name for column in live.columns if column.name in wanted]
    kept_declared = [column.name for column in declared.columns if column.name in there]
    if kept_live != kept_declared:
        yield ColumnsMoved(tuple(column.name for column in declared.columns))
    held = {name for key in live.of_kind("p") if _is_referred(key, live, declared, facts) for name in key.columns}
    has_room = facts.numbered + len(wanted - there) <= MAX_COLUMNS
    for place, column in enumerate(declared.columns):
        before = live.column(column.name)
        if before is None:
            at_end = all(name.name not in there for name in declared.columns[place:])
            yield ColumnAdded(column, at_end, facts.conversions.get(column.name), has_room)
        else:
            yield from _column(before, column, facts, held)


def _column(before: ColumnShape, after: ColumnShape, facts: Facts, held: Collection[str]) -> Iterator[Difference]:
    """What differs in a column; those of a key that only a rebuild drops are `held` NOT NULL until then."""
    own = tuple(_values(before, after, facts))
    yield from own
    made_anew = any(one.way is Way.REBUILD for one in own)
    has_default = not after.generated and not after.serial and after.default is not None
    if has_default and before.default != after.default and not _computation(before, after):
        yield DefaultChanged(after.name, str(after.default), by_rebuild=made_anew)
    if after.not_null and not before.not_null:
        yield NotNullAdded(after.name)
    if before.not_null and not after.not_null:
        yield NotNullDropped(after.name, by_rebuild=made_anew or after.name in held)


def _values(before: ColumnShape, after: ColumnShape, facts: Facts) -> Iterator[Difference]:
    """What becomes of the column's values."""
    old, new = before.value.enum, after.value.enum
    if before.type != after.type:
        pinned = any(after.name in those for those in (facts.pinned, facts.computed_from, facts.rechecked))
        stops = kept.stops_counting(before, after)
        yield TypeChanged(
            after.name,
            before.type,
            after,
            pinned,
            facts.conversions.get(after.name),
            sequence=before.sequence if stops else None,
            time_zone=facts.time_zone,
        )
    elif old and new and not _is_part(old.labels, new.labels):
        yield EnumChanged(after.name, after.type.removesuffix("[]"), old.labels, new.labels)
    elif before.collation != after.collation:
        yield CollationChanged(after.name, before.collation, after.collation)
    if _computation(before, after):
        yield ComputationChanged(after.name)


def _computation(before: ColumnShape, after: ColumnShape) -> bool:
    if before.generated != after.generated:
        return True
    if after.generated:
        return before.default != after.default
    if after.serial:
        return False
    return (before.identity, before.sequence_options) != (after.identity, after.sequence_options)


def _constraints(live: TableShape, declared: TableShape, facts: Facts) -> Iterator[Difference]:
    lasting = kept.lasting(live.constraints)
    stay = kept.constraints_that_stay(live, declared, facts.needed)
    yield from (ConstraintDropped(one) for one in live.constraints if one not in lasting)
    for one in kept.beyond(lasting, declared.constraints):
        if one not in stay:
            referred = one.kind in ("p", "u") and _is_referred(one, live, declared, facts)
            yield ConstraintDropped(one, by_rebuild=referred)
    yield from (ConstraintAdded(one) for one in kept.beyond(declared.constraints, lasting))
    for wanted, found in zip(declared.of_kind("c"), kept.named_alike(lasting, declared.of_kind("c")), strict=True):
        if wanted.validated and not found.validated:
            yield ConstraintValidated(found.name)


def _is_referred(key: ConstraintShape | IndexShape, live: TableShape, declared: TableShape, facts: Facts) -> bool:
    """Whether a foreign key that stays refers to the key's columns, be it of another table or of this one."""
    own = (*declared.foreign_keys, *kept.peoples_foreign_keys(live, declared))
    referring = (*facts.inbound, *(one for one in own if one.target == live.name))
    return any(set(one.target_columns) == set(key.columns) for one in referring)


def _indexes(live: TableShape, declared: TableShape, facts: Facts) -> Iterator[Difference]:
    sound = kept.sound(live.indexes)
    yield from (IndexDropped(index) for index in live.indexes if index not in sound)
    stay = kept.needed_indexes(live, declared, facts.needed)
    for index in kept.beyond(sound, declared.indexes):
        if index not in stay:
            yield IndexDropped(index, by_rebuild=index.unique and _is_referred(index, live, declared, facts))
    yield from (IndexAdded(index) for index in kept.beyond(declared.indexes, sound))
    for wanted, found in zip(declared.indexes, kept.named_alike(sound, declared.indexes), strict=True):
        if wanted.options and wanted.options != found.options:
            yield IndexTuned(found.name, wanted.options)


def _foreign_keys(live: TableShape, declared: TableShape) -> Iterator[Difference]:
    stay = kept.peoples_foreign_keys(live, declared)
    for one in live.foreign_keys:
        declared_too = any(kept.same_key(one, wanted) for wanted in declared.foreign_keys)
        if is_temporary(one.name) or (one not in stay and not declared_too):
            yield ForeignKeyDropped(one)
    for wanted in declared.foreign_keys:
        found = kept.live_foreign_key(live, wanted)
        if found is None:
            yield ForeignKeyAdded(wanted)
        elif wanted.validated and not found.validated:
            yield ConstraintValidated(found.name)


def _comments(live: TableShape, declared: TableShape, facts: Facts) -> Iterator[Difference]:
    if facts.comment is not None and facts.comment != facts.text:
        yield CommentChanged(None, facts.comment)
    for column in declared.columns:
        before = live.column(column.name)
        if before is not None and column.comment is not None and column.comment != before.comment:
            yield CommentChanged(column.name, column.comment)
