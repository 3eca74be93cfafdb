"""How much memory the values of a row take, about."""

from typing import Any


def approximate_size(value: Any) -> int:
    """About how many bytes a value takes; of what it holds some is looked at."""
    if isinstance(value, _COUNTED):
        return len(value)
    if isinstance(value, _HOLDING):
        some = list(value.values() if isinstance(value, dict) else value)[:_SOME]
        return len(value) * sum(map(approximate_size, some)) // max(len(some), 1)
    return int(getattr(value, "nbytes", 8))


_COUNTED = (str, bytes, bytearray)
_HOLDING = (tuple, list, dict)
_SOME = 50
"""Values of a row, or of a document in it: so many columns are all looked at."""
