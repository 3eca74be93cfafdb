"""What an operator's arguments may be besides values: callables that take the context, and import paths."""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import callback, metadata
from airflow_ingest_provider.core.errors import kind_of
from airflow_ingest_provider.core.functions import ASYNC, is_async, signature_of


def check_callable(argument: str, value: object) -> None:
    """Refuse what is neither callable nor looks like an import path, when the DAG is parsed."""
    if isinstance(value, str):
        module, _, name = value.partition(":")
        if module and name:
            return
    elif callable(value):
        return
    raise ValueError(
        f"{argument} is {_shown(value)}: expected a callable, or an import path such as 'package.module:function'"
    )


def check_batches(value: object) -> None:
    """Refuse what cannot be called with a high watermark, when the DAG is parsed; what else it takes is known later."""
    check_callable("batches", value)
    if is_async(value):
        raise ValueError(f"batches {ASYNC}")
    signature = signature_of(value) if callable(value) else None
    if signature is None:
        return
    try:
        signature.bind_partial("high watermark")
    except TypeError:
        raise ValueError(
            f"batches takes {signature}: expected a function of the high watermark, by position, and besides it of "
            "context variables and of what op_kwargs holds, by name"
        ) from None


def check_on_before_visible(value: object) -> None:
    """Refuse what the run would refuse, when the DAG is parsed."""
    check_callable("on_before_visible", value)
    if callable(value):
        callback.check(value)


def check_metadata(value: object) -> None:
    """Refuse what can be no metadata, when the DAG is parsed."""
    if _is_metadata(value):
        return
    _refuse_base(value)
    try:
        check_callable("metadata", value)
    except ValueError:
        raise ValueError(
            f"metadata is {_shown(value)}: expected a sqlalchemy.MetaData, a Table or a mapped class, a callable that "
            "returns one, or an import path such as 'package.module:metadata'"
        ) from None


def imported_function(argument: str, value: Any) -> Any:
    """What an import path leads to, which must be callable; anything but a string is returned as it is."""
    found = _imported(argument, value, "package.module:function")
    if not callable(found):
        raise ValueError(
            f"{argument} is the import path {value!r}, which leads to a {type(found).__name__}: expected a callable"
        )
    return found


def metadata_of(value: Any, context: Mapping[str, Any], op_kwargs: Mapping[str, Any]) -> sa.MetaData:
    """The metadata that a value means: itself, one of a table alone, or what a callable or an import path gives."""
    found = _imported("metadata", value, "package.module:metadata")
    if not _is_metadata(found) and callable(found):
        _refuse_base(found)
        found = found(**keyword_arguments(found, 0, context, op_kwargs))
    if not _is_metadata(found):
        raise ValueError(f"metadata gave {kind_of(found)}: expected a sqlalchemy.MetaData, a Table or a mapped class")
    return metadata.metadata_of(found)


@dataclass(frozen=True, repr=False)
class _Stored:
    """A table in op_kwargs, of which Airflow stores the name."""

    table: sa.Table

    def __repr__(self) -> str:
        return str(self.table.fullname)

    def serialize(self) -> str:
        return str(self)


def storable(value: Any) -> Any:
    """The value with texts and tables that Airflow can store, to be taken out again with `unstored`.

    The names of SQLAlchemy's tables, and so the text of a table without a schema, are a kind of str of its own that
    Airflow refuses, and the DAG file with it: its DAGs never show, and nothing but the DAG processor's log tells.
    """
    if isinstance(value, sa.sql.quoted_name):
        return str(value)
    return _Stored(value) if isinstance(value, sa.Table) else _inside(value, storable)


def storable_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an operator that Airflow can store as they are, as it does for a mapped task."""
    given = arguments.get("metadata")
    alone = {"metadata": metadata.metadata_of(given)} if isinstance(given, sa.Table) else {}
    return {name: storable(value) for name, value in {**arguments, **alone}.items()}


def unstored(value: Any) -> Any:
    """The value that `storable` was given."""
    return value.table if isinstance(value, _Stored) else _inside(value, unstored)


def _inside(value: Any, change: Callable[[Any], Any]) -> Any:
    if type(value) is dict:
        return {name: change(part) for name, part in value.items()}
    return type(value)(map(change, value)) if type(value) in (list, tuple) else value


def keyword_arguments(
    function: Callable[..., Any], given: int, context: Mapping[str, Any], op_kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The context variables and `op_kwargs` that a function names, or all where it takes `**kwargs`.

    The rules are those of PythonOperator, but a parameter that is one of the first `given`, which get
    their values by position, may be called as a context variable is. (Airflow's own function for this
    is in another module from release to release.)
    """
    op_kwargs = unstored(op_kwargs)
    if not isinstance(op_kwargs, Mapping):
        raise ValueError(f"op_kwargs is a {type(op_kwargs).__name__}: expected a mapping of names to values")
    signature = inspect.signature(function)
    parameters = signature.parameters
    positional = tuple(parameters)[:given]
    clashing = [name for name in positional if name in op_kwargs]
    if clashing:
        raise ValueError(
            f"op_kwargs holds {clashing[0]!r}, which the run gives {_name(function)} by position: expected other names"
        )
    available = {**context, **op_kwargs}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    wanted = available if takes_all else parameters
    arguments = {name: available[name] for name in wanted if name in available and name not in positional}
    try:
        signature.bind(*range(given), **arguments)
    except TypeError as error:
        raise ValueError(
            f"{_name(function)}() cannot be called: {error}; expected a function of {given} arguments by position, and "
            "besides them of context variables, of what op_kwargs holds, and of arguments with a default"
        ) from error
    return arguments


def _imported(argument: str, value: Any, example: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return pkgutil.resolve_name(value)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{argument} is the import path {value!r}, which leads nowhere ({error}): expected "
            f"{example!r}, with the package importable where the task runs"
        ) from error


def _is_metadata(value: object) -> bool:
    return isinstance(value, sa.MetaData) or metadata.table_of(value) is not None


def _refuse_base(value: object) -> None:
    """Refuse the base of mapped classes: it can be called, but that gives no table."""
    hint = metadata.hint_of_base(value)
    if hint:
        raise ValueError(
            f"metadata is {kind_of(value)}: expected a sqlalchemy.MetaData, a Table or a class mapped to one{hint}"
        )


def _shown(value: object) -> str:
    """Without what may be in it: rows that are given in place of a function that makes them."""
    return repr(value) if value is None or isinstance(value, str | int | float) else kind_of(value)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
