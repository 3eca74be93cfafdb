"""The constants of the API, and a run's options as one validated value."""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any


class HighWatermark:
    """Which high watermark `batches` is called with; any other JSON-encodable value is passed as it is."""

    LATEST = "__LATEST__"
    """The one stored with the most recent committed batch; None where there was none."""
    EARLIEST = "__EARLIEST__"
    """None, whatever is stored: start again from the beginning."""


class Visibility:
    """When the data of a run becomes visible to other database clients."""

    AFTER_EACH_BATCH = "__AFTER_EACH_BATCH__"
    """Each batch at once and whole, when it commits."""


class Upsert:
    """Whether a row replaces the one with the same primary key."""

    OFF = "__OFF__"
    """Plain inserts: a row whose key is there already is an error."""
    IF_PRIMARY_KEY = "__IF_PRIMARY_KEY__"
    """A row replaces the one with its primary key; without a primary key, plain inserts."""


class Delete:
    """Whether the rows that a table holds before the run are deleted."""

    OFF = "__OFF__"
    """They stay."""
    BEFORE_FIRST_BATCH = "__BEFORE_FIRST_BATCH__"
    """They are replaced by the first batch, in its transaction, even by no rows; without a batch they stay."""


class Migrate:
    """Which differences between a live table and its definition are brought about."""

    AUTO = "auto"
    """All that can be, in the cheapest way."""
    SAFE = "safe"
    """All but those that drop a column with values in it, which are refused."""
    OFF = "off"
    """None: a difference is refused, and so is a table that is not there."""


class Replace:
    """How `Delete.BEFORE_FIRST_BATCH` replaces the rows of a table."""

    AUTO = "auto"
    """By a swap, and in place where that loses or disturbs less."""
    SWAP = "swap"
    """By a new table that takes the place of the old one; refused where something cannot be carried over."""
    IN_PLACE = "in_place"
    """In the table itself: rows whose key is gone are deleted, new and changed ones written, others not touched."""


def constants(accepted: type) -> tuple[str, ...]:
    """The strings of a class of constants, in the order of their definition."""
    return tuple(value for name, value in vars(accepted).items() if name.isupper())


@dataclass(frozen=True)
class Options:
    """How a run goes about it; checked when made, before the database is touched."""

    high_watermark: Any = HighWatermark.LATEST
    visibility: str = Visibility.AFTER_EACH_BATCH
    upsert: str = Upsert.IF_PRIMARY_KEY
    delete: str = Delete.OFF
    migrate: str = field(default=Migrate.AUTO, kw_only=True)
    conversions: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    replace: str = field(default=Replace.AUTO, kw_only=True)
    end_blockers: bool = field(default=False, kw_only=True)
    lock_timeout: timedelta = field(default=timedelta(milliseconds=50), kw_only=True)
    lock_patience: timedelta = field(default=timedelta(minutes=5), kw_only=True)
    maintenance_work_mem: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_constant("visibility", self.visibility, Visibility)
        _check_constant("upsert", self.upsert, Upsert)
        _check_constant("delete", self.delete, Delete)
        _check_constant("migrate", self.migrate, Migrate)
        _check_constant("replace", self.replace, Replace)
        _check_conversions(self.conversions)
        _check_flag("end_blockers", self.end_blockers)
        _check_duration("lock_timeout", self.lock_timeout)
        _check_duration("lock_patience", self.lock_patience)
        _check_memory("maintenance_work_mem", self.maintenance_work_mem)
        try:
            json.dumps(self.high_watermark, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"high_watermark is a {type(self.high_watermark).__name__} that JSON cannot hold ({error}): "
                f"pass one of {', '.join(constants(HighWatermark))} or a JSON-encodable value"
            ) from error
        _check_no_misspelling(self.high_watermark)

    @property
    def upserts(self) -> bool:
        return self.upsert == Upsert.IF_PRIMARY_KEY

    @property
    def replaces(self) -> bool:
        return self.delete == Delete.BEFORE_FIRST_BATCH

    @property
    def for_clean_up(self) -> "Options":
        """Those with which a run that fails takes back what it made: it waits no longer than people do, and ends
        nobody."""
        return replace(self, lock_patience=min(self.lock_patience, timedelta(seconds=10)), end_blockers=False)


def _check_constant(argument: str, value: object, accepted: type) -> None:
    if not isinstance(value, str) or value not in constants(accepted):
        raise ValueError(f"{argument} is {value!r}: expected one of {', '.join(constants(accepted))}")


def _check_no_misspelling(high_watermark: object) -> None:
    """Raise ValueError for what looks like a constant: taken for a value, it would start a run after all there is."""
    accepted = constants(HighWatermark)
    if not isinstance(high_watermark, str) or "__" not in high_watermark or high_watermark in accepted:
        return
    written = high_watermark.strip()
    word = written.strip("_").upper()
    of_their_shape = len(written) > 4 and written.startswith("__") and written.endswith("__")
    if of_their_shape or f"__{word}__" in accepted:
        close = difflib.get_close_matches(word, [constant.strip("_") for constant in accepted], 1)
        hint = f"did you mean __{close[0]}__?" if close else f"expected one of {', '.join(accepted)}, or a value"
        raise ValueError(f"high_watermark is {high_watermark!r}: {hint}")


def _check_flag(argument: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{argument} is {value!r}: expected True or False")


def _check_conversions(conversions: object) -> None:
    if not isinstance(conversions, Mapping) or not all(
        isinstance(name, str) and isinstance(expression, str) for name, expression in conversions.items()
    ):
        raise ValueError(
            f"conversions is {conversions!r}: expected a mapping of columns to SQL expressions, such as "
            "{'day': \"to_date(day, 'DD.MM.YYYY')\"}"
        )


def _check_duration(argument: str, value: object) -> None:
    if not isinstance(value, timedelta) or not timedelta(milliseconds=1) <= value <= _LONGEST_WAIT:
        raise ValueError(
            f"{argument} is {value!r}: expected a datetime.timedelta of at least a millisecond and at most "
            f"{_LONGEST_WAIT.days} days"
        )


_LONGEST_WAIT = timedelta(days=24)
"""PostgreSQL counts the milliseconds of lock_timeout in 31 bits."""


def _check_memory(argument: str, value: object) -> None:
    """PostgreSQL's own way to write an amount of memory; its unit is kB where none is given."""
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"\s*\d+\s*(B|kB|MB|GB|TB)?\s*", value)):
        raise ValueError(f"{argument} is {value!r}: expected an amount of memory such as '1GB', or None")
