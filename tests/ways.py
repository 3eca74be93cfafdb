"""The ways in which a column is encoded."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from airflow_ingest_provider.core import encode
from airflow_ingest_provider.core.values import render

WAYS = ("orjson", "standard library", "value by value")
"""Every way in which a column is encoded: the same rules hold for each."""


@contextmanager
def going(way: str) -> Iterator[None]:
    """Columns are encoded in that way, whatever would be taken otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        if way != "orjson":
            patch.setattr(render, "orjson", None)
        if way == "value by value":
            patch.setattr(encode._Column, "_as_a_whole", lambda *_: None)
        yield
