"""numpy's and pandas' values -> the Python values that they stand for; neither library is imported."""

from typing import Any

from airflow_ingest_provider.core.values.misfit import MisfitError

_MISSING = ("NaTType", "NAType")
_FINER_THAN_MICROSECONDS = ("ns]", "ps]", "fs]", "as]")


def is_numpy_type(type_: type) -> bool:
    """Whether the type is one of numpy's scalars."""
    return _is_of_numpy(type_, "generic")


def is_numpy_array(value: Any) -> bool:
    return _is_of_numpy(type(value), "ndarray")


def _is_of_numpy(type_: type, name: str) -> bool:
    return any(base.__module__ == "numpy" and base.__name__ == name for base in type_.__mro__)


def unwrap(value: Any) -> Any:
    """The Python value of a numpy scalar, if it is the same value; anything else as it is.

    MisfitError for pandas' and numpy's markers of missing values, and for what Python has no type for.
    """
    if type(value).__name__ in _MISSING:
        raise MisfitError("it stands for a missing value: pass None")
    if not is_numpy_type(type(value)):
        return value
    if value.dtype.kind in "mM":
        return _unwrap_time(value)
    plain = value.item()
    if type(plain) is type(value):
        raise MisfitError("Python has no type that holds all of it: convert it in the source")
    return plain


def _unwrap_time(value: Any) -> Any:
    """Of a datetime64 or timedelta64: item() gives an integer where Python's type does not hold it."""
    if str(value) == "NaT":
        raise MisfitError("it stands for a missing value: pass None")
    plain = value.item()
    if isinstance(plain, int) and value.dtype.str.endswith(_FINER_THAN_MICROSECONDS):
        micro = value.astype(f"{value.dtype.kind}8[us]")
        if micro != value:
            raise MisfitError("it holds nanoseconds, which PostgreSQL would drop: round it in the source")
        plain = micro.item()
    if isinstance(plain, int):
        # Months and years of a timedelta64 have no length, and Python's years are 1 to 9999.
        raise MisfitError("Python has no date or duration that equals it: pass a str that PostgreSQL reads")
    return plain
