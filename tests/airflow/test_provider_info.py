"""What Airflow is told about the package, and what it makes of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, resources
from importlib.metadata import distribution
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from airflow_ingest_provider.provider_info import get_provider_info

PACKAGE = "airflow_ingest_provider"


def texts(value: Any) -> Iterator[str]:
    """Every string inside a value of JSON's."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)


PATHS = sorted(text for text in texts(get_provider_info()) if text.startswith(f"{PACKAGE}."))


def test_it_fits_airflows_schema() -> None:
    schema = resources.files("airflow") / "provider_info.schema.json"
    jsonschema.validate(get_provider_info(), json.loads(schema.read_text()))


def test_it_names_the_distribution_and_its_every_wrapper() -> None:
    assert get_provider_info()["package-name"] == distribution(PACKAGE).metadata["Name"]
    assert {path.removeprefix(f"{PACKAGE}.") for path in PATHS} == {
        "decorators.ingest.ingest_task",
        "hooks.ingest",
        "operators.ingest",
    }


@pytest.mark.parametrize("path", PATHS)
def test_every_path_leads_somewhere(path: str) -> None:
    try:
        import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        assert callable(getattr(import_module(module), name))


def test_every_integration_that_is_used_is_described() -> None:
    info = get_provider_info()
    described = {integration["integration-name"] for integration in info["integrations"]}
    assert {part["integration-name"] for part in info["hooks"] + info["operators"]} == described


def test_airflow_lists_the_provider_and_complains_of_nothing() -> None:
    command = [sys.executable, "-m", "airflow", "providers", "get", "airflow-ingest-provider", "--full", "-o", "json"]
    shown = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    (provider,) = json.loads(shown.stdout[shown.stdout.index("[") :])
    assert provider["package-name"] == "airflow-ingest-provider"
    assert PACKAGE not in shown.stderr


def test_airflow_knows_the_decorator_and_no_connection_type_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    from airflow.providers_manager import ProvidersManager

    manager: Any = ProvidersManager()  # type: ignore[no-untyped-call]
    assert manager.taskflow_decorators["ingest"].__name__ == "ingest_task"
    assert manager.hooks["postgres"].hook_class_name == "airflow.providers.postgres.hooks.postgres.PostgresHook"
    assert not [record for record in caplog.records if PACKAGE in record.getMessage()]
