"""The examples of the documentation that are marked to be run do what they say."""

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_ingest_provider import ingest_plan

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


def test_the_sample_plan_is_one_as_it_is_printed(engine: sa.Engine) -> None:
    metadata, before = sa.MetaData(), sa.MetaData()
    sa.Table("readings", before, sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("note", sa.Text))
    id_: sa.Column[int] = sa.Column("id", sa.BigInteger, primary_key=True)
    sa.Table("readings", metadata, id_, sa.Column("value", sa.Double, index=True))
    before.create_all(engine)
    with engine.connect() as conn:
        plan = ingest_plan(conn, metadata)
    assert f"```text\n{plan}\n```" in (DOCS / "migrations.md").read_text()
