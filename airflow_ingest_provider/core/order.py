"""The order of tables by their foreign keys."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from airflow_ingest_provider.core.loaded import LoadedTable

Edges = dict[tuple[LoadedTable, LoadedTable], bool]
"""A table that refers to another one, and this: whether all foreign keys from it to that are checked at the end."""


def parents_first(tables: Sequence[LoadedTable]) -> list[LoadedTable]:
    """The tables, those that others refer to by foreign keys first: declared ones, and live ones where those are known.

    Of tables that refer to each other in a circle, those come first that others refer to by keys that are checked at
    once; where all are, there is no such order, and the first of them comes first.
    """
    edges = _edges(tables)
    while True:
        parents: dict[LoadedTable, list[LoadedTable]] = {table: [] for table in tables}
        for child, parent in edges:
            parents[child].append(parent)
        try:
            return list(TopologicalSorter(parents).static_order())
        except CycleError as error:
            circle: list[LoadedTable] = error.args[1]  # each is a parent of the next one
            around = [(child, parent) for parent, child in pairwise(circle)]
            del edges[min(around, key=lambda edge: (not edges[edge], tables.index(edge[0])))]


def _edges(tables: Sequence[LoadedTable]) -> Edges:
    by_table = {loaded.table: loaded for loaded in tables}
    by_name = {loaded.name: loaded for loaded in tables}
    keys: dict[tuple[LoadedTable, LoadedTable], list[bool]] = defaultdict(list)

    def found(child: LoadedTable) -> Iterator[tuple[LoadedTable | None, bool]]:
        for declared in child.table.foreign_key_constraints:
            yield by_table.get(declared.referred_table), (declared.initially or "").upper() == "DEFERRED"
        for live in child.shape.foreign_keys if child.shape else ():
            yield by_name.get(live.target), live.is_deferred

    for child in tables:
        for parent, is_deferred in found(child):
            if parent is not None and parent is not child:
                keys[child, parent].append(is_deferred)
    return {pair: all(deferred) for pair, deferred in keys.items()}
