"""The hook and the operator take what `ingest()` takes, under the same names and with the same defaults."""

from inspect import Parameter, signature
from typing import Any

import pytest

from airflow_ingest_provider import ingest
from airflow_ingest_provider.hooks.ingest import IngestHook
from airflow_ingest_provider.operators.ingest import IngestOperator

PARAMETERS = [parameter for name, parameter in signature(ingest).parameters.items() if name != "conn"]


def test_the_hooks_ingest_is_the_functions_without_the_connection() -> None:
    _, *own = signature(IngestHook.ingest).parameters.values()
    assert [(one.name, one.kind, one.default) for one in own] == [
        (one.name, one.kind, one.default) for one in PARAMETERS
    ]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_the_operator_takes_every_argument(parameter: Any) -> None:
    own = signature(IngestOperator.__init__).parameters[parameter.name]
    assert (own.kind, own.default) == (Parameter.KEYWORD_ONLY, parameter.default)
