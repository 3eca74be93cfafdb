"""How much memory the values of a row take, about, and their text in a COPY, where that is longer."""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

import sqlalchemy as sa

_ROWS = (tuple, list, sa.Row)
_HOLDING = (*_ROWS, dict)
_BYTES = (bytes, bytearray)
_SCALARS = frozenset({NoneType, bool, int, float, Decimal, UUID, dt.date, dt.datetime, dt.time, dt.timedelta})
_SMALL = 8

_SOME = 50
"""Values of a document that are looked at; a third of that for what it holds, and so on."""

_DEEPEST = 20
"""Levels of a document; one that holds itself has no end."""


def row_size(row: Any) -> int:
    """About how many bytes the values of a row take."""
    if type(row) is not tuple and not isinstance(row, _ROWS):
        if not isinstance(row, Mapping):
            return _SMALL
        row = tuple(row.values())
    size = _SMALL * len(row)
    for value in row:
        kind = type(value)  # which tells enough of most values, without another call
        if kind is str:
            size += len(value)
        elif kind not in _SCALARS:
            size += approximate_size(value)
    return size


def approximate_size(value: Any, depth: int = 0) -> int:
    """About how many bytes a value takes, or its text; of what it holds some is looked at, less where it is deeper."""
    if isinstance(value, _HOLDING):
        if depth == _DEEPEST:
            return _SMALL * len(value)
        values = list(value.values()) if isinstance(value, dict) else value
        some = values[: max(_SOME // 3**depth, 1)]
        return len(value) * sum(approximate_size(one, depth + 1) for one in some) // max(len(some), 1)
    if isinstance(value, str):
        return len(value)
    if isinstance(value, _BYTES):
        return 2 * len(value)
    return int(getattr(value, "nbytes", _SMALL))
