"""A frame of pandas -> one that Arrow holds whole, and its columns of Python objects apart; pandas is not imported.

pyarrow finds one type for the values of an object column, and changes those of others: a float in place of an int, a
null for each key that only other dictionaries have, no zone, no nanoseconds.
"""

from collections.abc import Set as AbstractSet
from datetime import date
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

KEPT: AbstractSet[type] = frozenset({str, bytes, bool, int, float, Decimal, date, UUID})
"""The types of which Arrow holds a column whole, where all of its values are of the same."""


def is_frame(source: Any) -> bool:
    """Whether the object is a DataFrame of pandas, or of a class made of that."""
    bases = type(source).__mro__
    return any(base.__name__ == "DataFrame" and base.__module__.partition(".")[0] == "pandas" for base in bases)


def without_objects(frame: Any, kept: AbstractSet[type] = KEPT) -> tuple[Any, dict[int, Any]]:
    """The frame with the numbers of its rows, from 0, in place of objects, and these by the place of their column.

    They are numpy arrays of Python values, with None for what pandas takes for a missing one. Columns of one of the
    `kept` types stay.
    """
    shallow = _with_index_as_columns(frame)
    objects = {}
    for place, dtype in enumerate(shallow.dtypes):
        if not _holds_objects(dtype):
            continue
        column = shallow.iloc[:, place]
        if not _is_kept(column.cat.categories if hasattr(dtype, "categories") else column, kept):
            objects[place] = _values(column)
    for place in objects:
        shallow.isetitem(place, range(len(shallow)))
    return shallow, objects


def _with_index_as_columns(frame: Any) -> Any:
    """A frame of the same columns, and of the levels of its index that hold objects, which Arrow takes for columns.

    It shares its data with the given one. Not by reset_index(), which converts objects as pyarrow does.
    """
    shallow, index = frame.copy(deep=False), frame.index
    held = [index.get_level_values(level) for level in range(index.nlevels)]
    levels = [level for level, values in enumerate(held) if _holds_objects(values.dtype)]
    if levels:
        shallow.index = index.droplevel(levels) if len(levels) < len(held) else range(len(frame))
    for values in (held[level] for level in levels):
        if values.name is not None and values.name not in shallow.columns:
            shallow.insert(len(shallow.columns), values.name, values)
    return shallow


def _holds_objects(dtype: Any) -> bool:
    """Whether the values are Python's, or categories are."""
    categories = getattr(dtype, "categories", None)
    return str(dtype if categories is None else categories.dtype) == "object"


def _is_kept(column: Any, kept: AbstractSet[type]) -> bool:
    """Whether all values but the missing ones are of one of the types, and decimals of as many places."""
    types = set(map(type, column.to_numpy())) - {NoneType}  # a third of the time that it takes to find the missing
    if types <= kept - {Decimal} and len(types) < 2:
        return True
    present = column.dropna().to_numpy()
    types = set(map(type, present))
    if types == {Decimal} and len({value.as_tuple().exponent for value in present}) > 1:
        return False
    return types <= kept and len(types) < 2


def _values(column: Any) -> Any:
    values = column.to_numpy(dtype=object, copy=True)
    values[column.isna().to_numpy()] = None
    return values
