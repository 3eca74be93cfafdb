"""`@task.ingest`: the decorated function gives the batches."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, overload

from airflow.sdk.bases.decorator import DecoratedOperator, Task, task_decorator_factory

from airflow_ingest_provider.core.batches import Batch
from airflow_ingest_provider.operators.arguments import storable_arguments
from airflow_ingest_provider.operators.ingest import IngestOperator

Arguments = ParamSpec("Arguments")
Function = Callable[Concatenate[Any, Arguments], Iterable[Batch]]


class IngestDecoratedOperator(DecoratedOperator, IngestOperator):
    """The operator behind `@task.ingest`."""

    template_fields: Sequence[str] = IngestOperator.template_fields
    template_fields_renderers = IngestOperator.template_fields_renderers
    shallow_copy_attrs: Sequence[str] = ("python_callable", *IngestOperator.shallow_copy_attrs)
    custom_operator_name = "@task.ingest"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        name = _first_parameter(python_callable)
        if op_args or name in (op_kwargs or {}):
            raise TypeError(
                f"{python_callable.__name__}() is called with a value for {name!r}, which is the high "
                "watermark, given when the task runs: pass other arguments by name"
            )
        given = {**(op_kwargs or {})}
        super().__init__(
            python_callable=python_callable,
            # Airflow binds the arguments when the DAG is parsed, and the high watermark must not be missed.
            op_kwargs={name: None, **given},
            kwargs_to_upstream={"batches": python_callable, "op_kwargs": given},
            **kwargs,
        )


@overload
def ingest_task(python_callable: Function[Arguments], **kwargs: Any) -> Task[Arguments, Iterable[Batch]]: ...


@overload
def ingest_task(
    python_callable: None = None, **kwargs: Any
) -> Callable[[Function[Arguments]], Task[Arguments, Iterable[Batch]]]: ...


def ingest_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    """Make a function that gives batches a task; as `@task.ingest`, whose arguments type checkers cannot tell.

    The function is called with the high watermark and, where it names them or takes `**kwargs`, with
    context variables and the arguments of its call in the DAG, which are passed by name. `kwargs` are
    the arguments of `IngestOperator`, but for `batches` and `op_kwargs`.
    """
    arguments = storable_arguments(kwargs)
    return task_decorator_factory(python_callable, decorated_operator_class=IngestDecoratedOperator, **arguments)


def _first_parameter(function: Callable[..., Any]) -> str:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            return parameter.name
        break
    raise TypeError(f"{function.__name__}() takes no positional argument: expected one, for the high watermark")
