"""The hook and the operator take what `ingest()` takes, under the same names and with the same defaults."""

import re
from inspect import Parameter, cleandoc, signature
from pathlib import Path
from typing import Any

import pytest

from airflow_ingest_provider import ingest, ingest_plan
from airflow_ingest_provider.hooks.ingest import IngestHook
from airflow_ingest_provider.operators.ingest import IngestOperator

PARAMETERS = [parameter for name, parameter in signature(ingest).parameters.items() if name != "conn"]

DOCS = Path(__file__).parents[2] / "docs"


def test_the_hooks_ingest_is_the_functions_without_the_connection() -> None:
    _, *own = signature(IngestHook.ingest).parameters.values()
    assert [(one.name, one.kind, one.default) for one in own] == [
        (one.name, one.kind, one.default) for one in PARAMETERS
    ]


def test_the_plan_takes_arguments_of_a_run_and_the_hooks_is_the_functions() -> None:
    _, *own = signature(IngestHook.ingest_plan).parameters.values()
    _, *of_function = signature(ingest_plan).parameters.values()
    assert [(one.name, one.kind, one.default) for one in own] == [
        (one.name, one.kind, one.default) for one in of_function
    ]
    of_run = {one.name: one.default for one in PARAMETERS}
    assert all(of_run[one.name] == one.default for one in own)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_the_operator_takes_every_argument(parameter: Any) -> None:
    own = signature(IngestOperator.__init__).parameters[parameter.name]
    assert (own.kind, own.default) == (Parameter.KEYWORD_ONLY, parameter.default)


@pytest.mark.parametrize(("page", "words"), [("how-to.md", "Templates are"), ("reference.md", "template fields are")])
def test_the_documentation_names_the_template_fields(page: str, words: str) -> None:
    (named,) = re.findall(rf"{words} ([^;.]*)", (DOCS / page).read_text())
    shown_only = "tables"
    assert [*re.findall(r"`(\w+)`", named), shown_only] == list(IngestOperator.template_fields)


def test_the_docstring_says_which_arguments_are_templated() -> None:
    arguments = re.split(r"\n {4}(?=\w)", cleandoc(IngestOperator.__doc__ or ""))
    templated = {name for one in arguments if "(templated)" in one for name in one.partition(":")[0].split(", ")}
    assert {*templated, "tables"} == set(IngestOperator.template_fields)
