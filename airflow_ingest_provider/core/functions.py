"""The functions that a caller passes: what can be told of them before they are called."""

import inspect
from collections.abc import Callable
from typing import Any

ASYNC = "is an async function, and nothing would await it: expected one that is defined with def alone"


def is_async(function: Any) -> bool:
    """Whether a function, or an object's __call__, gives a coroutine or an async generator."""
    whole = getattr(function, "func", function)  # of a partial
    asked = (whole, type(whole).__call__)
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in asked)


def signature_of(function: Callable[..., object]) -> inspect.Signature | None:
    """None where Python cannot tell, as for some that are written in C."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def accepts(signature: inspect.Signature, count: int) -> bool:
    """Whether so many arguments, by position, are what it takes."""
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
