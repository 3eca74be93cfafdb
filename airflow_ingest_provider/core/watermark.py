"""The state that a run leaves with its table: the last line of the table's COMMENT, as JSON.

It shares its first key with the reference implementation of this API, so that either carries on where the other
stopped. What a person wrote stands in front of it and stays.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import catalog, statements
from airflow_ingest_provider.core.errors import BatchError
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import HighWatermark
from airflow_ingest_provider.core.session import run_all

_MARK = "pg-bulk-ingest"
_RUN = "airflow-ingest-provider"


@dataclass(frozen=True)
class State:
    """A table's comment, taken apart: a person's `text`, and the JSON object of the last line."""

    text: str | None = None
    stored: Mapping[str, Any] = field(default_factory=dict)

    @property
    def high_watermark(self) -> Any:
        """The one of the most recent committed batch, None where there was none."""
        return _mapping(self.stored.get(_MARK)).get("high-watermark")

    @property
    def unfinished(self) -> bool:
        """Whether a run that replaces the rows committed its first batch and did not come to its end."""
        return bool(_mapping(self.stored.get(_RUN)).get("unfinished"))

    def is_carried_on_from(self, wanted: Any) -> bool:
        """Whether a run with this `high_watermark` goes on with that replacement, and does not delete again."""
        return wanted == HighWatermark.LATEST and self.unfinished and self.high_watermark is not None

    @property
    def comment(self) -> str | None:
        """The comment that holds all of this."""
        lines = [self.text] if self.text is not None else []
        if self.stored:
            lines.append(json.dumps(self.stored, allow_nan=False))
        return "\n".join(lines) if lines else None

    def after(self, run_id: str, batch: int, unfinished: bool, high_watermark: "Mark | None") -> "State":
        """The state once a run's batch is committed; the watermark stays where None is given for it."""
        ours: dict[str, Any] = {"run": run_id, "batch": batch} | ({"unfinished": True} if unfinished else {})
        stored = {**self.stored, _RUN: {**_without(_mapping(self.stored.get(_RUN)), "unfinished"), **ours}}
        if high_watermark is not None:
            stored[_MARK] = {**_mapping(self.stored.get(_MARK)), "high-watermark": high_watermark.value}
        return replace(self, stored=stored)


@dataclass(frozen=True)
class Mark:
    """A high watermark to store: a value of its own, since None is one too."""

    value: Any


def parse(comment: str | None) -> State:
    """Take a comment apart; without a line of state, all of it is a person's.

    A last line that could not be written again, since it holds NaN or an infinity, which Python reads and JSON lacks,
    or is nested too deeply, is no state: no run gets any further with it than with a line that is no JSON at all.
    """
    if comment is None:
        return State()
    text, newline, last = comment.rpartition("\n")
    try:
        stored = json.loads(last)
        json.dumps(stored, allow_nan=False)
    except (ValueError, RecursionError):
        return State(comment)
    if not isinstance(stored, dict) or not stored.keys() & {_MARK, _RUN}:
        return State(comment)
    return State(text if newline else None, stored)


def read(conn: sa.Connection, names: Iterable[Name]) -> Mapping[Name, State]:
    """The states of those of the tables that are there, as they are stored now."""
    return {name: parse(comment) for name, comment in catalog.comments(conn, names).items()}


def save(conn: sa.Connection, states: Mapping[Name, State]) -> None:
    """Store tables' states, in the open transaction. COMMENT takes SHARE UPDATE EXCLUSIVE and needs ownership."""
    comment = sql.SQL("COMMENT ON TABLE {} IS {}")
    run_all(conn, [comment.format(name.sql, statements.literal(state.comment)) for name, state in states.items()])


def resolved(high_watermark: Any) -> Mark:
    """The watermark that a batch came with, called where it is a function, as it will be read back.

    A tuple is then a list, and a dictionary that the source goes on to change stays as it was.
    """
    value = high_watermark() if callable(high_watermark) else high_watermark
    try:
        return Mark(json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise BatchError(
            f"the batch's high watermark is a {type(value).__name__} that JSON cannot hold ({error}): give a value "
            "of JSON's types, a date as its isoformat() for example"
        ) from error


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _without(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}
