"""What holds for the repository and the package as a whole."""

import pkgutil
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import airflow_ingest_provider

ROOT = Path(__file__).parents[2]

TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "airflow_ingest_provider",
    "docs",
    "example_dags",
    "pyproject.toml",
    "tests",
}
MADE_BY_TOOLS = {"__pycache__", "build", "dist"}

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(airflow_ingest_provider.__path__, "airflow_ingest_provider.")
    if "example_dags" not in module.name
)
CORE = [name for name in MODULES if name.startswith("airflow_ingest_provider.core")]

WITHOUT_AIRFLOW = """
import sys, importlib

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""

MISSING_NAMES = """
import sys, importlib

modules = [importlib.import_module(name) for name in sys.argv[1:]]
names = [(module, name) for module in modules for name in getattr(module, "__all__", ())]
missing = [f"{module.__name__}.{name}" for module, name in names if not hasattr(module, name)]
sys.exit(" ".join(missing) or None)
"""


def test_the_top_level_holds_what_a_newcomer_expects_and_no_more() -> None:
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - MADE_BY_TOOLS <= TOP_LEVEL


def test_the_package_and_its_core_need_no_airflow() -> None:
    assert complaints(WITHOUT_AIRFLOW, "airflow_ingest_provider", *CORE) == ""


def test_every_public_name_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert complaints(MISSING_NAMES, "airflow_ingest_provider", *MODULES) == ""


def test_the_promised_names_are_public() -> None:
    promised = {"ingest", "HighWatermark", "Visibility", "Upsert", "Delete", "IngestResult", "IngestError"}
    assert promised <= set(airflow_ingest_provider.__all__)


def test_the_version_is_the_distributions() -> None:
    assert airflow_ingest_provider.__version__ == version("airflow-ingest-provider")


def test_airflow_and_the_shell_find_the_package() -> None:
    (provider,) = entry_points(group="apache_airflow_provider", module="airflow_ingest_provider.provider_info")
    assert provider.load()()["package-name"] == "airflow-ingest-provider"
    (command,) = entry_points(group="console_scripts", name="airflow-ingest")
    with pytest.raises(SystemExit) as exit_info:
        command.load()(["demo", "--help"])
    assert exit_info.value.code == 0


def complaints(program: str, *arguments: str) -> str:
    """What a Python program of its own says when it fails."""
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    return run.stderr if run.returncode else ""
