"""Which types hold the values of which others, by the way in which format_type spells them."""

import re


def widens(before: str, after: str) -> bool:
    """Whether every value of one type is the same value, in the same bytes, of the other.

    The changes for which PostgreSQL rewrites nothing: https://www.postgresql.org/docs/current/sql-altertable.html
    """
    old, old_limits = _parsed(before)
    new, new_limits = _parsed(after)
    if old in _UNLIMITED and new == _UNLIMITED[old] and not new_limits:
        return True
    if old != new or old not in _WIDENABLE:
        return False
    if not new_limits:
        return True
    if not old_limits:
        return False
    if old == "numeric":
        return new_limits[0] >= old_limits[0] and new_limits[1] == old_limits[1]
    return new_limits[0] >= old_limits[0]


def holds_all(before: str, after: str) -> bool:
    """Whether the other type has every value of the one, so that no row needs to be looked at."""
    return widens(before, after) or after in WIDER.get(before, ())


def sorts_alike(before: str, after: str) -> bool:
    """Whether every value of one type is printed as the same value of the other, and comes in the same order."""
    whole = before in ("smallint", "integer", "bigint") and after in ("integer", "bigint", "numeric")
    return before == after or widens(before, after) or (whole and holds_all(before, after))


WIDER = {
    "smallint": ("integer", "bigint", "numeric", "real", "double precision", "text"),
    "integer": ("bigint", "numeric", "double precision", "text"),
    "bigint": ("numeric", "text"),
    "real": ("double precision",),
}
"""Numbers that are exact in the other type too, by the spelling of both."""

_WIDENABLE = frozenset({"character varying", "numeric", "bit varying"})
_UNLIMITED = {"character varying": "text"}


def _parsed(spelling: str) -> tuple[str, tuple[int, ...]]:
    """format_type's spelling, taken apart: the name and its modifiers, where these are numbers at its end."""
    parts = re.fullmatch(r"([^(]+)\((-?\d+(?:,-?\d+)*)\)", spelling)
    return (parts[1], tuple(map(int, parts[2].split(",")))) if parts else (spelling, ())
