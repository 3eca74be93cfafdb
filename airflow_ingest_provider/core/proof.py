"""What must be the same before and after a swap, read from the catalog twice and compared.

Expressions are compared without their casts, parentheses and brackets: PostgreSQL prints those otherwise once it has
read its own printing, as `IN` of a varchar shows. What columns and types they use is compared by itself.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import attachments, catalog, dependents, reflection
from airflow_ingest_provider.core.attachments import Attached
from airflow_ingest_provider.core.dependents import Dependent, StatisticsObject
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.shape import (
    ConstraintShape,
    ForeignKeyShape,
    InboundKey,
    IndexShape,
    PartName,
    TableShape,
)

_DEFINITION = "definition of "


@dataclass(frozen=True)
class Observed:
    """A table and all that hangs on it, as the catalog has it at one time."""

    shape: TableShape
    owner: str
    settings: str
    attached: tuple[Attached, ...]
    views: tuple[Dependent, ...]
    statistics: tuple[StatisticsObject, ...] = ()
    sequences: tuple[tuple[str, Name], ...] = ()
    inbound: tuple[InboundKey, ...] = ()
    used_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_Read = Callable[[sa.Connection, Sequence[int]], Mapping[int, Any]]

_HANGING: Mapping[str, _Read] = {
    "statistics": dependents.statistics_objects,
    "sequences": dependents.owned_sequences,
    "inbound": reflection.inbound_keys,
    "used_columns": dependents.used_columns,
}
"""What reads the parts that most tables have not."""


def observe(conn: sa.Connection, oids: Sequence[int], before: Sequence[Observed] | None = None) -> dict[int, Observed]:
    """Read it all of those that are there, in as many queries for many tables as for one.

    Where it was read `before` and readers wait, nothing is asked for that none of these had: what was not there cannot
    be lost.
    """
    shapes = reflection.table_shapes(conn, oids)
    access = catalog.access(conn, oids)
    settings = attachments.settings(conn, oids)
    attached = attachments.attached(conn, oids)
    views = dependents.dependents(conn, oids) if before is None or any(one.views for one in before) else ()
    hanging = {
        part: read(conn, oids)
        for part, read in _HANGING.items()
        if before is None or any(getattr(one, part) for one in before)
    }
    return {
        oid: Observed(
            shapes[oid],
            access[oid].owner,
            settings[oid],
            attached[oid],
            tuple(dependents.over(views, oid)),
            **{part: found[oid] for part, found in hanging.items()},
        )
        for oid in shapes
    }


def check(live: Observed, now: Observed, hidden: HiddenTable) -> None:
    """Raise DefinitionError where the table that has the live one's name now lost what was to stay, or changed it."""
    table = hidden.live.name
    live = replace(live, attached=tuple(one for one in live.attached if hidden.carries(one)))
    before, after = dict(_properties(live, hidden.gone)), dict(_properties(now, frozenset()))
    meant = _meant_to_change(hidden)
    if hidden.retypes:
        meant |= {what for what in before if what.startswith(_DEFINITION)}  # their casts follow the types
    changed = [what for what, value in before.items() if what not in meant and after.get(what) != value]
    plain = {_plain(what): _plain(value) for what, value in after.items()} if changed else {}
    lost = sorted(what for what in changed if plain.get(_plain(what)) != _plain(before[what]))
    if lost:
        raise DefinitionError(
            f"{table} cannot be replaced by a new table, which would not have as they are: {'; '.join(lost)}; the old "
            "table stays: remove them and put them back afterwards, or change the definition"
        )


def changes(before: Observed, after: Observed) -> list[str]:
    """What was added to a table, changed or taken away, but for grants and comments on it and its columns."""
    found = [dict(_properties(_without_what_may_change(one), frozenset())) for one in (before, after)]
    return sorted(what for what in found[0].keys() | found[1].keys() if found[0].get(what) != found[1].get(what))


def _without_what_may_change(table: Observed) -> Observed:
    columns = tuple(replace(column, comment=None) for column in table.shape.columns)
    attached = tuple(one for one in table.attached if not (one.is_of_grants or one.comments_on_column))
    return replace(table, shape=replace(table.shape, columns=columns), attached=attached)


_CAST = re.compile(r"""::(?:"[^"]*"|[a-z_])(?:"[^"]*"|[a-z_0-9. ]|\(\d+(?:,\d+)?\)|\[\])*""")
"""A cast behind a value: types are in lower case or quoted, keywords that follow them in upper case."""

_BRACKETS = re.compile(r"[\s()\[\]]+")


def _plain(value: object) -> str:
    return _BRACKETS.sub("", _CAST.sub("", repr(value)))


def _properties(table: Observed, gone: frozenset[PartName]) -> Iterator[tuple[str, object]]:
    """What each property is called for people, and its value, but for what belongs to parts that are gone."""
    yield "its owner", table.owner
    yield "its storage", (table.shape.persistence, table.settings)
    for column in table.shape.columns:
        if ("column", column.name) not in gone:
            yield f"column {column.name}", column
    for part in table.shape.parts:
        if gone.isdisjoint(part.part_names):
            yield _called(part), part
    for one in table.attached:
        if one.part not in gone and not one.holds_state:
            yield one.statement, True
    for statistics in table.statistics:
        if gone.isdisjoint(("column", name) for name in statistics.columns):
            yield f"statistics {statistics.name}", replace(statistics, on="")  # in the order of the columns
    for name, sequence in table.sequences:
        if ("column", name) not in gone:
            yield f"sequence {sequence}", name
    for key in table.inbound:
        yield f"foreign key {key.name} of {key.table}", key
    for view in table.views:
        yield f"{_DEFINITION}{view.word.lower()} {view.name}", view.definition
        yield (
            f"{view.word.lower()} {view.name}",
            (view.owner, view.options, view.storage, view.populated, view.attached, view.statistics),
        )
        if view.shape is not None:
            yield f"indexes of {view.name}", view.shape.indexes
    for user, columns in table.used_columns.items():
        yield f"columns that {user} uses", columns


def _called(part: ConstraintShape | ForeignKeyShape | IndexShape) -> str:
    return f"{'index' if isinstance(part, IndexShape) else 'constraint'} {part.name}"


def _meant_to_change(hidden: HiddenTable) -> set[str]:
    """The columns and parts that the definition changes, and sequences from which no default draws any more."""
    live, shape = hidden.live, hidden.shape
    meant = {f"column {column.name}" for column in live.columns if shape.column(column.name) != column}
    for before in live.columns:
        after = shape.column(before.name)
        if before.serial and after and after.default != before.default:
            meant.add(f"sequence {before.sequence}")
    parts = {_called(part): part for part in shape.parts}
    return meant | {_called(part) for part in live.parts if parts.get(_called(part)) != part}
