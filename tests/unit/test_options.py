"""Options are checked when they are made: what cannot work is told with what would, before a database is touched."""

from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from airflow_ingest_provider.core.options import Delete, HighWatermark, Migrate, Options, Replace, Upsert, constants

TAKEN: dict[str, tuple[Any, ...]] = {
    "visibility": ("__AFTER_EACH_BATCH__",),
    "upsert": ("__OFF__", "__IF_PRIMARY_KEY__"),
    "delete": ("__OFF__", "__BEFORE_FIRST_BATCH__"),
    "migrate": ("auto", "safe", "off"),
    "replace": ("auto", "swap", "in_place"),
    "conversions": ({}, {"day": "now()"}, MappingProxyType({"t.day": "now()"})),
    "end_blockers": (True, False),
    "lock_timeout": (timedelta(milliseconds=1), timedelta(days=24)),
    "lock_patience": (timedelta(milliseconds=1), timedelta(days=24)),
    "maintenance_work_mem": (None, "65536", "1GB", " 512 MB ", "8192 kB", "1048576B", "1TB"),
    "high_watermark": (None, 0, "2024-01-01", "a__b", [1, {"a": None}], {1: "x"}, "__LATEST__", "__EARLIEST__"),
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, taken in TAKEN.items() for value in taken])
def test_an_option_takes_what_it_is_for(option: str, value: Any) -> None:
    assert getattr(Options(**{option: value}), option) == value


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

REFUSED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "visibility": ("expected one of __AFTER_EACH_BATCH__$", ("", None, "__after_each_batch__", 1, [], "__OFF__")),
    "upsert": ("expected one of __OFF__, __IF_PRIMARY_KEY__$", ("off", True, None, Upsert)),
    "delete": ("expected one of __OFF__, __BEFORE_FIRST_BATCH__$", ("__BEFORE_FIRST_BATCH", Delete, {})),
    "migrate": ("expected one of auto, safe, off$", ("AUTO", False, None, Migrate, "__OFF__")),
    "replace": ("expected one of auto, swap, in_place$", ("in place", Replace, b"swap")),
    "conversions": ("a mapping of columns to SQL expressions", (None, "day", [("day", "now()")], {"day": 1}, {1: "x"})),
    "end_blockers": ("expected True or False$", (1, 0, None, "True", [])),
    "lock_timeout": (
        "at least a millisecond and at most 24 days$",
        (50, 0.05, None, "50ms", timedelta(0), timedelta(seconds=-1), timedelta(microseconds=999), timedelta(days=25)),
    ),
    "lock_patience": (
        "at least a millisecond and at most 24 days$",
        (300, None, timedelta(0), timedelta.max, timedelta.min, timedelta(days=24, microseconds=1)),
    ),
    "maintenance_work_mem": (
        "expected an amount of memory such as '1GB', or None$",
        (65536, "", "much", "1 gb", "1.5GB", "-1", "1GB; RESET ALL", "1GB\n1", ["1GB"]),
    ),
    "high_watermark": (
        "that JSON cannot hold .*: pass one of __LATEST__, __EARLIEST__ or a JSON-encodable value$",
        (object(), {1, 2}, b"x", float("nan"), [float("inf")], {(1, 2): 3}, ENDLESS),
    ),
}


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [(option, value, expected) for option, (expected, values) in REFUSED.items() for value in values],
)
def test_an_option_that_cannot_work_is_told_with_what_it_was_and_what_was_expected(
    option: str, value: Any, expected: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{option} is .*{expected}"):
        Options(**{option: value})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("__LATEST", "__LATEST__"),
        ("__latest__", "__LATEST__"),
        (" __Earliest__ ", "__EARLIEST__"),
        ("__EARLEST__", "__EARLIEST__"),
        ("__LATESTS__", "__LATEST__"),
        ("__lates__", "__LATEST__"),
    ],
)
def test_a_watermark_that_is_almost_a_constant_is_told_which(given: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"^high_watermark is '{given}': did you mean {meant}\?$"):
        Options(high_watermark=given)


@pytest.mark.parametrize("given", ["__OFF__", "__2024__", "__a__"])
def test_a_watermark_of_the_shape_of_a_constant_is_told_which_there_are(given: str) -> None:
    with pytest.raises(ValueError, match=rf"is '{given}': expected one of __LATEST__, __EARLIEST__, or a value$"):
        Options(high_watermark=given)


@pytest.mark.parametrize("given", ["LATEST", "latest", "EARLIEST", "__2024", "2024__", "____", "__"])
def test_a_watermark_that_only_has_something_of_a_constant_is_a_value(given: str) -> None:
    assert Options(high_watermark=given).high_watermark == given


def test_the_constants_of_a_class_come_in_their_order() -> None:
    assert constants(HighWatermark) == ("__LATEST__", "__EARLIEST__")
    assert constants(Migrate) == ("auto", "safe", "off")


def test_a_run_upserts_and_keeps_its_rows_unless_told_otherwise() -> None:
    assert (Options().upserts, Options().replaces) == (True, False)
    told = Options(upsert=Upsert.OFF, delete=Delete.BEFORE_FIRST_BATCH)
    assert (told.upserts, told.replaces) == (False, True)


@pytest.mark.parametrize(("patience", "at_the_end"), [(1, 1), (10, 10), (300, 10)])
def test_a_run_that_fails_cleans_up_without_ending_anybody(patience: int, at_the_end: int) -> None:
    options = Options(lock_patience=timedelta(seconds=patience), end_blockers=True, migrate=Migrate.SAFE)
    assert options.for_clean_up == Options(lock_patience=timedelta(seconds=at_the_end), migrate=Migrate.SAFE)
