"""The examples of the documentation that are marked to be run do what they say."""

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    pytest.param(code, id=f"{path.stem}-{number}")
    for path in sorted(DOCS.glob("*.md"))
    for number, code in enumerate(re.findall(r"<!-- run -->\n```python\n(.*?)```", path.read_text(), re.DOTALL))
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(engine: sa.Engine, code: str) -> None:
    names: dict[str, Any] = {"engine": engine}
    exec(compile(code, "example", "exec"), names)
