"""The specification, sentence by sentence: each test names the one that it holds."""

import enum
import functools
import hashlib
import json
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import SetTableComment

from airflow_ingest_provider import (
    BatchError,
    ConcurrentIngestError,
    DefinitionError,
    Delete,
    HighWatermark,
    IngestError,
    LockNotAcquired,
    Replace,
    RowError,
    Upsert,
    Visibility,
    ingest,
    ingest_plan,
)
from airflow_ingest_provider.core.locks import one_run_at_a_time
from airflow_ingest_provider.core.names import Name
from tests.postgres.helpers import batches_of, is_usable, load, people, rows_of
from tests.waiting import until


def marks_passed(conn: sa.Connection, table: sa.Table, *runs: dict[str, Any]) -> list[Any]:
    """What `batches` was called with, over several runs that load a row each."""
    seen = []

    def batches(high_watermark: Any) -> Any:
        seen.append(high_watermark)
        yield len(seen), None, [(table, (len(seen), "x", None))]

    for options in runs:
        ingest(conn, table.metadata, batches, **options)
    return seen


# --- conn, metadata, batches


def test_conn_is_not_in_a_transaction_before_and_after(conn: sa.Connection) -> None:
    """'A SQLAlchemy connection not in a transaction'"""
    load(conn, people(), [(1, "a", 1)])
    assert is_usable(conn)
    conn.begin()
    with pytest.raises(IngestError, match=r"in a transaction.*commit first"):
        load(conn, people(), [(2, "b", 2)])
    conn.rollback()
    assert rows_of(conn) == [(1, "a", 1)]


def test_batches_takes_a_high_watermark_and_yields_batches(conn: sa.Connection) -> None:
    """'A function that takes a high watermark, returning an iterable that yields data batches'"""
    result = load(conn, people(), [(1, "a", 1), (2, "b", 2)], [], [(3, "c", 3)])
    assert rows_of(conn) == [(1, "a", 1), (2, "b", 2), (3, "c", 3)]
    assert (result.rows, result.batches, result.last_high_watermark) == (3, 3, 3)


def test_rows_of_other_tables_are_skipped_and_copies_are_recognised(conn: sa.Connection) -> None:
    """'A SQLAlchemy metadata of a single table'"""
    table, other = people(), sa.Table("others", sa.MetaData(), sa.Column("id", sa.Integer))
    copy = table.to_metadata(sa.MetaData())
    rows = [(copy, (1, "a", 1)), (other, (5,)), (table, (2, "b", 2))]
    ingest(conn, table.metadata, lambda mark: [(1, None, rows)])
    assert rows_of(conn) == [(1, "a", 1), (2, "b", 2)]


# --- on_before_visible


def test_on_before_visible_sees_the_batch_before_others_do(conn: sa.Connection, other: sa.Connection) -> None:
    """'called just before data becomes visible to other database clients'"""
    seen = []

    def look(inside: sa.Connection, batch_metadata: Any) -> None:
        count = "SELECT count(*) FROM people"
        seen.append(
            (batch_metadata, inside.in_transaction(), inside.scalar(sa.text(count)), other.scalar(sa.text(count)))
        )

    for delete in (Delete.OFF, Delete.BEFORE_FIRST_BATCH):
        load(conn, people(), [(1, "a", 1)], [(2, "b", 2)], on_before_visible=look, delete=delete)
    assert seen == [("batch 1", True, 1, 0), ("batch 2", True, 2, 1), ("batch 1", True, 1, 2), ("batch 2", True, 2, 1)]


def test_a_callback_of_three_parameters_gets_the_table_that_holds_the_data(conn: sa.Connection) -> None:
    counts = []

    def count(inside: sa.Connection, table: sa.Table, batch_metadata: Any) -> None:
        counts.append(inside.scalar(sa.select(sa.func.count()).select_from(table)))

    load(conn, people(), [(1, "a", 1), (2, "b", 2)], on_before_visible=count)
    load(conn, people(), [(3, "c", 3)], on_before_visible=count, delete=Delete.BEFORE_FIRST_BATCH)
    assert counts == [2, 1]
    assert rows_of(conn) == [(3, "c", 3)]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_nothing_becomes_visible_when_the_callback_raises(conn: sa.Connection, delete: str) -> None:
    load(conn, people(), [(1, "a", 1)])

    def refuse(inside: sa.Connection, table: sa.Table, batch_metadata: Any) -> None:
        raise LookupError("not good enough")

    with pytest.raises(LookupError, match="not good enough"):
        load(conn, people(), [(2, "b", 2)], on_before_visible=refuse, delete=delete)
    assert rows_of(conn) == [(1, "a", 1)]
    assert is_usable(conn)


def test_a_comment_of_the_callback_stays_in_front_of_the_state(conn: sa.Connection) -> None:
    def comment(inside: sa.Connection, batch_metadata: str) -> None:
        inside.exec_driver_sql(f"COMMENT ON TABLE people IS '{batch_metadata}'")

    load(conn, people(), [(1, "a", 1)], [(2, "b", 2)], [], on_before_visible=comment)
    ((stored,),) = rows_of(conn, "SELECT obj_description('people'::regclass)")
    assert stored.startswith("batch 3\n{")
    assert marks_passed(conn, people(), {}) == [3]


def test_a_callback_that_has_done_nothing_when_it_returns_is_an_error(conn: sa.Connection) -> None:
    async def awaited(inside: sa.Connection, batch_metadata: Any) -> None:
        raise LookupError("not good enough")

    def generator(inside: sa.Connection, batch_metadata: Any) -> Any:
        yield
        raise LookupError("not good enough")

    for callback in (generator, lambda *arguments: awaited(*arguments)):
        with pytest.raises(IngestError, match=r"on_before_visible returned an? (generator|coroutine), which nobody"):
            load(conn, people(), [(1, "a", 1)], on_before_visible=callback)
        assert rows_of(conn) == []


@pytest.mark.parametrize("three", [False, True])
def test_settings_of_the_callback_hold_until_it_returns(
    conn: sa.Connection, other: sa.Connection, roles: None, three: bool
) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql("CREATE VIEW v AS SELECT id FROM people")
    calls = []

    def look(inside: sa.Connection, batch_metadata: Any) -> None:
        names = "search_path, role, statement_timeout, row_security, session_replication_role, quote_all_identifiers"
        settings = tuple(
            inside.scalar(sa.text("SELECT current_setting(:name)"), {"name": one}) for one in names.split(", ")
        )
        calls.append(settings)
        inside.exec_driver_sql(
            """
            SET LOCAL search_path = pg_catalog; SET LOCAL quote_all_identifiers = on; SET LOCAL row_security = on;
            SET LOCAL session_replication_role = replica; SET LOCAL statement_timeout = '250ms';
            SET LOCAL ROLE ingest_reader
            """
        )

    def look_at(inside: sa.Connection, table: sa.Table, batch_metadata: Any) -> None:
        look(inside, batch_metadata)

    callback = look_at if three else look
    load(conn, people(), [(2, "b", 2)], [(3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH, on_before_visible=callback)
    assert calls == [('"$user", public', "none", "0", "off", "origin", "off")] * 2
    assert rows_of(conn, "SELECT id FROM v ORDER BY 1") == [(2,), (3,)]


@pytest.mark.parametrize("end", ["commit", "rollback", "COMMIT"])
def test_a_callback_that_ends_the_transaction_is_an_error(conn: sa.Connection, end: str) -> None:
    def callback(inside: sa.Connection, batch_metadata: Any) -> None:
        inside.exec_driver_sql(end) if end.isupper() else getattr(inside, end)()

    with pytest.raises(IngestError, match="ended the transaction"):
        load(conn, people(), [(1, "a", 1)], on_before_visible=callback)
    assert is_usable(conn)


def test_a_callback_that_swallows_a_database_error_is_told_what_it_did(conn: sa.Connection) -> None:
    def callback(inside: sa.Connection, batch_metadata: Any) -> None:
        with suppress(sa.exc.DBAPIError):
            inside.exec_driver_sql("SELECT 1/0")

    def careful(inside: sa.Connection, batch_metadata: Any) -> None:
        with suppress(sa.exc.DBAPIError), inside.begin_nested():
            inside.exec_driver_sql("SELECT 1/0")

    with pytest.raises(IngestError, match=r"a statement of on_before_visible failed.*conn\.begin_nested"):
        load(conn, people(), [(1, "a", 1)], on_before_visible=callback)
    assert is_usable(conn)
    assert rows_of(conn) == []
    load(conn, people(), [(1, "a", 1)], on_before_visible=careful)
    assert rows_of(conn) == [(1, "a", 1)]


# --- high_watermark


def test_latest_is_the_one_of_the_most_recent_batch(conn: sa.Connection) -> None:
    """'the most recent high watermark ... whose corresponding batch has been succesfully ingested'; else None"""
    assert marks_passed(conn, people(), {}, {}, {}) == [None, 1, 2]


def test_earliest_is_none(conn: sa.Connection) -> None:
    """'then None will be passed to the batches function as the high watermark'"""
    assert marks_passed(conn, people(), {}, {"high_watermark": HighWatermark.EARLIEST}, {}) == [None, None, 2]


@pytest.mark.parametrize("value", [0, "2024-01-01", None, False, 1.5, [1, {"a": None}], {"b": [2]}, "ünï\\'\"%s:x"])
def test_another_value_is_passed_directly_and_deletes_nothing(conn: sa.Connection, value: Any) -> None:
    """'then this value is passed directly'; 'Existing data in the target table is not deleted'"""
    assert marks_passed(conn, people(), {}, {"high_watermark": value}) == [None, value]
    assert len(rows_of(conn)) == 2


@pytest.mark.parametrize("value", [0, "2024-01-01", None, [1, {"a": None}], "ünï\\'\"%s:x\n"])
def test_every_json_value_is_stored_and_read_again(conn: sa.Connection, value: Any) -> None:
    ingest(conn, people().metadata, lambda mark: [(value, None, [])])
    assert ingest(conn, people().metadata, lambda mark: []).first_high_watermark == value


class Level(enum.IntEnum):
    SECOND = 2


@pytest.mark.parametrize(
    ("given", "read"),
    [(("a", 1), ["a", 1]), ({1: 2}, {"1": 2}), ([{"b": (None,)}], [{"b": [None]}]), (Level.SECOND, 2)],
)
@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_value_that_json_gives_back_otherwise_is_a_watermark(
    conn: sa.Connection, given: Any, read: Any, delete: str
) -> None:
    result = load(conn, people(), [(1, "a", 1)], [(2, "b", 2)], mark=given, delete=delete)
    assert result.last_high_watermark == read
    assert type(result.last_high_watermark) is type(read)
    assert len(rows_of(conn)) == 2
    following = load(conn, people(), [(3, "c", 3)], delete=delete)
    assert following.first_high_watermark == read
    assert len(rows_of(conn)) == (3 if delete == Delete.OFF else 1)


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_source_may_change_its_watermark_and_give_it_again(conn: sa.Connection, delete: str) -> None:
    table = people()

    def batches(mark: Any) -> Any:
        mark = {"last": 0, "pages": []} if mark is None else mark
        for _ in range(3):
            mark["last"] += 1
            mark["pages"].append(mark["last"])
            yield mark, None, [(table, (mark["last"], "x", None))]
        mark["last"] = 100

    first, second = (ingest(conn, table.metadata, batches, delete=delete) for _ in range(2))
    assert first.last_high_watermark == second.first_high_watermark == {"last": 3, "pages": [1, 2, 3]}
    assert second.last_high_watermark == {"last": 6, "pages": [1, 2, 3, 4, 5, 6]}
    assert [row[0] for row in rows_of(conn)] == ([1, 2, 3, 4, 5, 6] if delete == Delete.OFF else [4, 5, 6])


def test_a_source_may_change_the_watermark_that_the_caller_gave(conn: sa.Connection) -> None:
    table, given = people(), {"last": 5}

    def batches(mark: Any) -> Any:
        while mark["last"] < 7:
            mark["last"] += 1
            yield mark, None, [(table, (mark["last"], "x", None))]

    result = ingest(conn, table.metadata, batches, high_watermark=given)
    assert given == result.first_high_watermark == {"last": 5}
    assert result.last_high_watermark == {"last": 7}


def test_what_a_callable_watermark_raises_passes_through_and_keeps_the_batch_out(conn: sa.Connection) -> None:
    def mark() -> Any:
        raise LookupError("no last row")

    with pytest.raises(LookupError, match="no last row"):
        load(conn, people(), [(1, "a", 1)], mark=mark)
    assert rows_of(conn) == []
    assert is_usable(conn)


def test_a_callable_watermark_is_called_once_the_rows_were_read(conn: sa.Connection) -> None:
    table, read = people(), []

    def rows() -> Any:
        for number in (1, 2):
            read.append(number)
            yield table, (number, "x", None)

    result = ingest(conn, table.metadata, lambda mark: [(lambda: list(read), None, rows())])
    assert result.last_high_watermark == [1, 2]


@pytest.mark.parametrize("mark", [None, lambda: None], ids=["value", "function"])
def test_a_watermark_that_none_takes_the_place_of_is_told(
    conn: sa.Connection, caplog: pytest.LogCaptureFixture, mark: Any
) -> None:
    told = "public.people: the batch's high watermark is None, and takes the place of 1: the next run starts from the"
    table = people()
    load(conn, table, [(1, "a", 1)])
    for high_watermark, warnings in ((HighWatermark.EARLIEST, []), (7, []), (HighWatermark.LATEST, [told])):
        load(conn, table, [(1, "a", 1)], high_watermark=HighWatermark.EARLIEST)
        caplog.clear()
        ingest(conn, table.metadata, lambda given: [(mark, None, [])], high_watermark=high_watermark)
        found = [one.message for one in caplog.records if one.levelname == "WARNING"]
        assert [one[: len(told)] for one in found] == warnings
    caplog.clear()
    ingest(conn, table.metadata, lambda given: [(mark, None, [])])
    assert "takes the place of" not in caplog.text


def test_the_watermark_of_a_failed_batch_is_not_stored(conn: sa.Connection) -> None:
    with pytest.raises(RowError):
        load(conn, people(), [(1, "a", 1)], [(2, "b", "old")])
    assert marks_passed(conn, people(), {}) == [1]


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_comment_that_a_person_writes_during_a_batch_survives(
    conn: sa.Connection, other: sa.Connection, delete: str
) -> None:
    load(conn, people(), [(1, "a", 1)])
    state = "SELECT obj_description('people'::regclass)"

    def rows() -> Iterator[tuple[int, str, int]]:
        yield from ((number, "a", 1) for number in range(1000))
        comment = f"owned by finance\n{other.scalar(sa.text(state))}"
        other.execute(SetTableComment(sa.Table("people", sa.MetaData(), comment=comment)))
        yield 1000, "b", 2

    load(conn, people(), rows(), delete=delete)
    comment = str(other.scalar(sa.text(state)))
    assert comment.startswith("owned by finance\n{")
    load(conn, people(), [(2000, "c", 3)])
    assert str(other.scalar(sa.text(state))).startswith("owned by finance\n{")


def test_a_persons_comment_and_foreign_state_survive(conn: sa.Connection, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1)])
    state = json.dumps({"theirs": 1, "pg-bulk-ingest": {"theirs": 2, "high-watermark": 7}})
    other.exec_driver_sql(f"COMMENT ON TABLE people IS 'Who we know.\nAsk Ann.\n{state}'")
    assert marks_passed(conn, people(), {}) == [7]
    comment = other.scalar(sa.text("SELECT obj_description('people'::regclass)"))
    text, _, last = comment.rpartition("\n")
    assert text == "Who we know.\nAsk Ann."
    assert json.loads(last)["theirs"] == 1
    assert json.loads(last)["pg-bulk-ingest"] == {"theirs": 2, "high-watermark": 1}


@pytest.mark.parametrize("comment", ['{"owner": "Ann"}', '["pg-bulk-ingest"]'])
def test_json_that_a_person_wrote_is_no_state(conn: sa.Connection, other: sa.Connection, comment: str) -> None:
    load(conn, people(), [(1, "a", 1)])
    other.exec_driver_sql(f"COMMENT ON TABLE people IS '{comment}'")
    assert marks_passed(conn, people(), {}, {}) == [None, 1]
    stored = other.scalar(sa.text("SELECT obj_description('people'::regclass)"))
    assert stored.rpartition("\n")[0] == comment


@pytest.mark.parametrize("mark", [HighWatermark.LATEST, HighWatermark.EARLIEST])
@pytest.mark.parametrize(
    "comment",
    [
        '{"pg-bulk-ingest": {"high-watermark": NaN}}',
        '{"pg-bulk-ingest": {"high-watermark": 1, "of": [Infinity]}}',
        '{"pg-bulk-ingest": {"high-watermark": -1e999}}',
        "People\n" + "[" * 20_000,
        '{"pg-bulk-ingest": ' + '{"a": ' * 20_000 + "1" + "}" * 20_001,
    ],
    ids=lambda comment: comment[:40],
)
def test_a_last_line_that_no_strict_json_holds_is_a_persons(
    conn: sa.Connection, other: sa.Connection, comment: str, mark: str
) -> None:
    other.exec_driver_sql("CREATE TABLE people (id integer PRIMARY KEY, name text, age integer)")
    other.execute(SetTableComment(sa.Table("people", sa.MetaData(), comment=comment)))
    assert marks_passed(conn, people(), {"high_watermark": mark}, {}) == [None, 1]
    assert not ingest_plan(conn, people().metadata)
    stored = other.scalar(sa.text("SELECT obj_description('people'::regclass)"))
    text, _, state = str(stored).rpartition("\n")
    assert text == comment
    assert json.loads(state)["pg-bulk-ingest"] == {"high-watermark": 2}


def test_a_declared_comment_is_set_once(conn: sa.Connection) -> None:
    table = people(comment="Who we know")
    load(conn, table, [(1, "a", 1)])
    assert load(conn, table, [(2, "b", 2)]).tables[0].migration == ()
    (comment,) = rows_of(conn, "SELECT obj_description('people'::regclass)")[0]
    assert comment.startswith("Who we know\n{")


@pytest.mark.parametrize("comment", [None, "Who we know"])
def test_state_in_the_comment_of_a_reflected_table_is_not_taken_for_a_persons(
    conn: sa.Connection, other: sa.Connection, comment: str | None
) -> None:
    load(conn, people(comment=comment), [(1, "a", 1)])
    reflected = sa.MetaData()
    reflected.reflect(other)
    assert not ingest_plan(conn, reflected)
    assert marks_passed(conn, reflected.tables["people"], {}) == [1]
    stored = other.scalar(sa.text("SELECT obj_description('people'::regclass)"))
    assert [line[0] for line in stored.splitlines()] == (["W", "{"] if comment else ["{"])


@pytest.mark.parametrize("comment", [None, "Who we know"])
def test_a_copy_of_a_reflected_table_starts_from_the_beginning(
    conn: sa.Connection, other: sa.Connection, comment: str | None
) -> None:
    load(conn, people(comment=comment), [(1, "a", 1)])
    reflected, copies = sa.MetaData(), sa.MetaData()
    reflected.reflect(other)
    copy = reflected.tables["people"].to_metadata(copies, schema="copies")
    assert marks_passed(conn, copy, {}, {}) == [None, 1]
    stored = other.scalar(sa.text("SELECT obj_description('copies.people'::regclass)"))
    assert [line[0] for line in stored.splitlines()] == (["W", "{"] if comment else ["{"])


# --- visibility


def test_each_batch_is_visible_whole_after_it(conn: sa.Connection, other: sa.Connection) -> None:
    """'data changes are visible to other database clients after each batch'"""
    table, seen = people(), []

    def batches(mark: Any) -> Any:
        for number in (1, 2, 3):
            seen.append(other.scalar(sa.text("SELECT count(*) FROM people")))
            yield number, None, ((table, (number * 10 + row, "x", None)) for row in range(4))

    ingest(conn, table.metadata, batches, visibility=Visibility.AFTER_EACH_BATCH)
    assert seen == [0, 4, 8]


def test_schema_changes_are_visible_before_the_first_batch(conn: sa.Connection, other: sa.Connection) -> None:
    """'Schema changes become visible before the first batch.'"""
    load(conn, people(), [(1, "a", 1)])
    table, seen = people(sa.Column("email", sa.Text)), []

    def look(inside: sa.Connection, batch_metadata: Any) -> None:
        seen.append(rows_of(other))

    load(conn, table, [(2, "b", 2, "b@c")], on_before_visible=look)
    assert seen == [[(1, "a", 1, None)]]


# --- delete


def test_delete_off_keeps_the_rows(conn: sa.Connection) -> None:
    """'There is no deleting of existing data.'"""
    load(conn, people(), [(1, "a", 1)])
    load(conn, people(), [(2, "b", 2)], delete=Delete.OFF)
    assert len(rows_of(conn)) == 2


def test_before_first_batch_replaces_the_rows_with_the_first_batch(conn: sa.Connection, other: sa.Connection) -> None:
    """'All existing data in the table is deleted just before the first batch is ingested.'"""
    load(conn, people(), [(1, "a", 1), (2, "b", 2)])
    table, seen = people(), []

    def rows(first: int) -> Any:
        yield table, (first, "new", None)
        seen.append(rows_of(other, "SELECT id FROM people ORDER BY id"))

    ingest(
        conn,
        table.metadata,
        lambda mark: ((number, None, rows(number)) for number in (5, 6)),
        delete=Delete.BEFORE_FIRST_BATCH,
    )
    assert seen == [[(1,), (2,)], [(5,)]]
    assert rows_of(conn) == [(5, "new", None), (6, "new", None)]


def test_without_a_batch_nothing_is_deleted(conn: sa.Connection) -> None:
    """'If there are no batches, no data is deleted.'"""
    load(conn, people(), [(1, "a", 1)])
    load(conn, people(), delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn) == [(1, "a", 1)]


@pytest.mark.parametrize("replace", [Replace.SWAP, Replace.IN_PLACE])
def test_a_batch_without_rows_deletes_and_says_so(
    conn: sa.Connection, caplog: pytest.LogCaptureFixture, replace: str
) -> None:
    told = ["a batch without rows replaces all rows: public.people is empty now"]
    load(conn, people(), [(1, "a", 1)])
    for warnings in (told, []):  # the second time there are none to lose
        caplog.clear()
        load(conn, people(), [], delete=Delete.BEFORE_FIRST_BATCH, replace=replace, high_watermark=None)
        assert [one.message for one in caplog.records if one.levelname == "WARNING"] == warnings
    assert rows_of(conn) == []


def test_the_retry_of_a_deleting_run_loses_nothing(conn: sa.Connection) -> None:
    table = people()
    load(conn, table, [(9, "old", 9)])

    def batches(mark: int | None) -> Any:
        for number in range((mark or 0) + 1, 4):
            if number == 3 and not retried:
                raise ConnectionError("the source went away")
            yield number, None, [(table, (number, "new", None))]

    retried = False
    with pytest.raises(ConnectionError):
        ingest(conn, table.metadata, batches, high_watermark=HighWatermark.EARLIEST, delete=Delete.BEFORE_FIRST_BATCH)
    retried = True
    ingest(conn, table.metadata, batches, delete=Delete.BEFORE_FIRST_BATCH)
    assert [row[0] for row in rows_of(conn)] == [1, 2, 3]
    load(conn, table, [(7, "next", None)], delete=Delete.BEFORE_FIRST_BATCH)
    assert [row[0] for row in rows_of(conn)] == [7]


def replace_in_part(conn: sa.Connection, table: sa.Table, row: tuple[Any, ...]) -> None:
    """A run that replaces all rows, and fails after a first batch of this one."""

    def batches(mark: Any) -> Any:
        yield 1, None, [(table, row)]
        raise ConnectionError("the source went away")

    with pytest.raises(ConnectionError):
        ingest(conn, table.metadata, batches, delete=Delete.BEFORE_FIRST_BATCH)


@pytest.mark.parametrize(
    ("mark", "batches", "completes"),
    [
        (HighWatermark.EARLIEST, 1, True),
        (HighWatermark.EARLIEST, 0, False),
        (None, 1, True),
        (HighWatermark.LATEST, 1, True),
        (HighWatermark.LATEST, 0, True),
        (1, 1, True),
        (0, 1, False),
        (7, 1, False),
    ],
)
def test_a_run_that_does_not_delete_may_complete_an_unfinished_replacement(
    conn: sa.Connection, mark: Any, batches: int, completes: bool
) -> None:
    """Then a later run that replaces the rows deletes; else it carries on, since rows may be missing."""
    table = people()
    replace_in_part(conn, table, (1, "new", None))
    load(conn, table, *[[(2, "new", None)]] * batches, high_watermark=mark)
    load(conn, table, [(3, "next", None)], delete=Delete.BEFORE_FIRST_BATCH)
    ids = [row[0] for row in rows_of(conn)]
    assert ids == ([3] if completes else [1, 2, 3] if batches else [1, 3])


def test_the_plan_knows_that_an_unfinished_replacement_is_carried_on(conn: sa.Connection) -> None:
    """The rows that are there stay then, and a definition that they do not satisfy is refused."""
    replace_in_part(conn, people(), (1, None, None))
    stricter = people()
    stricter.c.name.nullable = False
    (plan,) = ingest_plan(conn, stricter.metadata, delete=Delete.BEFORE_FIRST_BATCH).tables
    assert plan.replaces is None
    assert "declared NOT NULL and 1 rows hold NULL" in str(plan.refused)
    with pytest.raises(DefinitionError, match="declared NOT NULL and 1 rows hold NULL"):
        load(conn, stricter, [(2, "b", None)], delete=Delete.BEFORE_FIRST_BATCH)


@pytest.mark.parametrize("mark", [HighWatermark.EARLIEST, None, 1], ids=repr)
def test_the_plan_knows_that_a_run_from_another_high_watermark_deletes_anew(conn: sa.Connection, mark: Any) -> None:
    replace_in_part(conn, people(), (1, None, None))
    stricter = people()
    stricter.c.name.nullable = False
    options: Any = {"delete": Delete.BEFORE_FIRST_BATCH, "high_watermark": mark}
    (plan,) = ingest_plan(conn, stricter.metadata, **options).tables
    assert plan.by_swap
    assert plan.refused is None
    load(conn, stricter, [(2, "b", None)], **options)
    assert rows_of(conn) == [(2, "b", None)]


def test_the_plan_refuses_a_high_watermark_that_the_run_would(conn: sa.Connection) -> None:
    with pytest.raises(ValueError, match=r"did you mean __EARLIEST__\?"):
        ingest_plan(conn, people().metadata, high_watermark="__earliest__")


# --- upsert


def test_upsert_replaces_rows_of_the_same_key(conn: sa.Connection) -> None:
    """'an upsert based on that primary key is performed on ingest'"""
    result = load(conn, people(), [(1, "a", 1), (2, "b", 2), (1, "a2", 3)], [(2, "b", 2), (1, "a3", 4), (3, "c", None)])
    assert rows_of(conn) == [(1, "a3", 4), (2, "b", 2), (3, "c", None)]
    (table,) = result.tables
    assert (table.received, table.inserted, table.updated, table.unchanged, table.superseded) == (6, 3, 1, 1, 1)


def test_the_last_row_of_a_key_wins_whatever_its_size(conn: sa.Connection) -> None:
    rows = [(number % 50, "x" * (number * 7919 % 3000), number) for number in range(5000)]
    for delete in (Delete.OFF, Delete.BEFORE_FIRST_BATCH, Delete.OFF):
        load(conn, people(), rows, delete=delete)
        assert rows_of(conn, "SELECT id, age FROM people ORDER BY id") == [(key, 4950 + key) for key in range(50)]


def test_without_a_primary_key_it_is_a_plain_insert(conn: sa.Connection) -> None:
    """'If there is no primary key then a plain insert is performed.'"""
    table = sa.Table("people", sa.MetaData(), sa.Column("id", sa.Integer))
    load(conn, table, [(1,), (1,)], [(1,)])
    assert rows_of(conn) == [(1,), (1,), (1,)]


@pytest.mark.parametrize(
    ("rows", "delete"),
    [
        ([(2, "b", 2), (1, "z", 9)], Delete.OFF),
        ([(2, "b", 2), (2, "c", 3)], Delete.OFF),
        ([(2, "b", 2), (2, "c", 3)], Delete.BEFORE_FIRST_BATCH),
    ],
)
def test_upsert_off_fails_on_a_clash_and_changes_nothing(conn: sa.Connection, rows: Any, delete: str) -> None:
    """'No upserting is performed.'"""
    load(conn, people(), [(1, "a", 1)])
    with pytest.raises(RowError, match="people"):
        load(conn, people(), rows, upsert=Upsert.OFF, delete=delete)
    assert rows_of(conn) == [(1, "a", 1)]
    assert is_usable(conn)


def test_upsert_off_takes_a_key_of_rows_that_are_replaced(conn: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1)])
    load(conn, people(), [(2, "b", 2), (1, "z", 9)], upsert=Upsert.OFF, delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn) == [(1, "z", 9), (2, "b", 2)]


def test_a_deferrable_key_is_upserted_on(conn: sa.Connection) -> None:
    table = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer),
        sa.Column("name", sa.Text),
        sa.PrimaryKeyConstraint("id", deferrable=True),
    )
    load(conn, table, [(1, "a"), (2, "b")])
    result = load(conn, table, [(1, "a"), (2, "c"), (3, "d"), (3, "e")])
    assert rows_of(conn) == [(1, "a"), (2, "c"), (3, "e")]
    counts = result.tables[0]
    assert (counts.inserted, counts.updated, counts.unchanged, counts.superseded) == (1, 1, 1, 1)


def test_rows_that_look_the_same_are_told_apart(conn: sa.Connection) -> None:
    """json has no equality, and 1.0 equals 1.00: both are compared to the byte."""
    table = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("score", sa.Numeric),
        sa.Column("data", sa.JSON),
    )
    load(conn, table, [(1, "1.0", {"a": 1})])
    assert load(conn, table, [(1, "1.00", {"a": 1})]).tables[0].updated == 1
    assert load(conn, table, [(1, "1.00", {"a": 1})]).tables[0].unchanged == 1


# --- all or nothing


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_a_source_that_fails_leaves_nothing_of_its_batch(conn: sa.Connection, delete: str) -> None:
    table = people()
    load(conn, table, [(number, "old", None) for number in range(3)])

    def rows() -> Any:
        for number in range(5000):
            yield table, (number, "new", None)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        ingest(conn, table.metadata, lambda mark: [(2, None, rows())], delete=delete)
    assert {row[1] for row in rows_of(conn)} == {"old"}
    assert is_usable(conn)


@pytest.mark.parametrize(
    ("row", "column", "problem"),
    [
        ((1, "a"), None, "3"),
        ((1, "a", 1.9), "age", "float"),
        ((1, "a\0", 1), "name", "NUL"),
        ((1, 5, 1), "name", "int"),
        ((None, "a", 1), "id", "NULL"),
        ((1, "a", "seven"), "age", "22P02"),
    ],
)
def test_a_row_that_does_not_fit_is_named(conn: sa.Connection, row: Any, column: str | None, problem: str) -> None:
    rows = [(number, "x", None) for number in range(10, 1210)]
    with pytest.raises(RowError, match=problem) as caught:
        load(conn, people(), [*rows, row, *rows])
    error = caught.value
    assert (error.table, error.column, error.row_number) == ("public.people", column, 1201)
    assert "seven" not in str(error)
    assert rows_of(conn) == []
    assert is_usable(conn)


@pytest.mark.parametrize(
    "batches",
    [
        None,
        5,
        [(1, 2)],
        [(1, None, [], None)],
        [7],
        ["abc"],
        [(1, None, 5)],
        [(1, None, [5])],
        [(1, None, [("people", (1,))])],
    ],
)
def test_a_batch_that_is_none_says_what_was_expected(conn: sa.Connection, batches: Any) -> None:
    with pytest.raises(BatchError, match=r"expected|pairs"):
        ingest(conn, people().metadata, lambda mark: batches)
    assert is_usable(conn)


DEEP: list[Any] = functools.reduce(lambda inner, _: [inner], range(20_000), [])


@pytest.mark.parametrize("mark", [object(), {1, 2}, float("nan"), b"x", DEEP], ids=lambda mark: type(mark).__name__)
def test_a_watermark_that_json_cannot_hold_keeps_the_batch_out(conn: sa.Connection, mark: Any) -> None:
    with pytest.raises(BatchError, match="JSON cannot hold"):
        ingest(conn, people().metadata, batches_of(people(), [(1, "a", 1)], mark=mark))
    assert rows_of(conn) == []


@pytest.mark.parametrize("argument", ["visibility", "upsert", "delete"])
def test_an_unknown_constant_names_the_accepted_ones(conn: sa.Connection, argument: str) -> None:
    with pytest.raises(ValueError, match="expected one of __"):
        load(conn, people(), [(1, "a", 1)], **{argument: "__NEVER__"})
    assert rows_of(conn, "SELECT to_regclass('people')") == [(None,)]


@pytest.mark.parametrize("given", ["__LATEST", "__latest__", "__LATEST__ ", "_EARLIEST__"])
def test_a_watermark_that_is_almost_a_constant_is_refused(conn: sa.Connection, given: str) -> None:
    with pytest.raises(ValueError, match=r"did you mean __(LATEST|EARLIEST)__\?"):
        load(conn, people(), [(1, "a", 1)], high_watermark=given)


@pytest.mark.parametrize("given", ["False", "", 0, None])
def test_a_flag_is_a_bool(conn: sa.Connection, given: Any) -> None:
    with pytest.raises(ValueError, match=rf"end_blockers is {given!r}: expected True or False"):
        load(conn, people(), [(1, "a", 1)], end_blockers=given)


def test_rows_of_a_table_that_is_not_in_the_metadata_are_told(
    conn: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = sa.Table("people", sa.MetaData(schema="elsewhere"))
    rows = [(stranger, (number, "a", 1)) for number in range(1000)]
    result = ingest(conn, people().metadata, lambda mark: [(1, None, rows)])
    assert result.tables[0].received == 0
    assert [one.message for one in caplog.records if one.levelname == "WARNING"] == [
        "rows of elsewhere.people were skipped: not in the metadata; no others came, and the high watermark moves on"
    ]


def test_a_run_that_deletes_and_asks_for_the_latest_rows_says_so(
    conn: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    load(conn, people(), [(1, "a", 1)])
    load(conn, people(), [(2, "b", 2)], delete=Delete.BEFORE_FIRST_BATCH, high_watermark=HighWatermark.EARLIEST)
    assert "all rows go" not in caplog.text
    load(conn, people(), [(3, "c", 3)], delete=Delete.BEFORE_FIRST_BATCH)
    assert "after the high watermark 1: pass high_watermark='__EARLIEST__'" in caplog.text


def test_a_high_watermark_that_is_not_the_first_tables_is_told(
    conn: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def metadata_of(*names: str) -> sa.MetaData:
        metadata = sa.MetaData()
        for name in names:
            sa.Table(name, metadata, sa.Column("id", sa.Integer))
        return metadata

    ingest(conn, metadata_of("a", "b"), lambda mark: [(7, None, [])])
    assert "no high watermark" not in caplog.text
    ingest(conn, metadata_of("b", "a"), lambda mark: [(mark, None, [])])
    assert "public.b has no high watermark, and public.a has" in caplog.text


def test_a_table_that_is_new_beside_a_high_watermark_is_told(
    conn: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = sa.MetaData()
    first = sa.Table("a", metadata, sa.Column("id", sa.Integer, primary_key=True))
    ingest(conn, metadata, lambda mark: [(5, None, [(first, (1,))])])
    second = sa.Table("b", metadata, sa.Column("id", sa.Integer, primary_key=True))
    told = "public.b: not loaded by a run before, and batches is asked for rows after the high watermark 5"
    ingest(conn, metadata, lambda mark: [(6, None, [(second, (1,))])])
    assert told in caplog.text
    caplog.clear()
    ingest(conn, metadata, lambda mark: [(7, None, [(second, (2,))])])
    assert "not loaded by a run before" not in caplog.text


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        (sa.MetaData(), "holds no table"),
        (sa.Table("empty", sa.MetaData()).metadata, "has no columns"),
        (
            sa.Table("computed", sa.MetaData(), sa.Column("a", sa.Integer, sa.Computed("1"))).metadata,
            "has computed columns alone",
        ),
        (sa.Table("empty", sa.MetaData()), "has no columns"),
    ],
)
def test_metadata_without_anything_to_load_is_refused(conn: sa.Connection, metadata: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        ingest(conn, metadata, lambda mark: [])
    assert is_usable(conn)


def test_what_is_no_open_connection_is_refused(engine: sa.Engine) -> None:
    with engine.connect() as closed:
        pass
    sqlite = sa.create_engine("sqlite://")
    with sqlite.connect() as wrong:
        for given, problem in ((engine, "is a Engine"), (closed, "is closed"), (wrong, r"sqlite\+pysqlite")):
            with pytest.raises(IngestError, match=problem):
                load(given, people(), [(1, "a", 1)])  # type: ignore[arg-type]
    sqlite.dispose()


def test_an_autocommit_connection_is_refused(engine: sa.Engine) -> None:
    with (
        engine.execution_options(isolation_level="AUTOCOMMIT").connect() as conn,
        pytest.raises(IngestError, match="AUTOCOMMIT"),
    ):
        load(conn, people(), [(1, "a", 1)])


@pytest.mark.parametrize("option", ["stream_results", "yield_per"])
def test_a_connection_that_streams_all_results_is_refused(engine: sa.Engine, option: str) -> None:
    with engine.execution_options(**{option: 10}).connect() as conn:
        with pytest.raises(IngestError, match=rf"pass conn\.execution_options\({option}=None\)"):
            load(conn, people(), [(1, "a", 1)])
        load(conn.execution_options(**{option: None}), people(), [(1, "a", 1)])


@pytest.mark.parametrize("driver", ["psycopg"])
def test_a_connection_that_prepares_every_statement_is_refused(engine: sa.Engine) -> None:
    every = sa.create_engine(engine.url, poolclass=sa.NullPool, connect_args={"prepare_threshold": 0})
    with every.connect() as conn, pytest.raises(IngestError, match="'prepare_threshold': None"):
        load(conn, people(), [(1, "a", 1)])


@pytest.mark.parametrize("threshold", [1, None])
@pytest.mark.parametrize("driver", ["psycopg"])
def test_a_connection_that_prepares_some_statements_is_served(engine: sa.Engine, threshold: int | None) -> None:
    some = sa.create_engine(engine.url, poolclass=sa.NullPool, connect_args={"prepare_threshold": threshold})
    with some.connect() as conn:
        for number in range(3):
            load(conn, people(), [(number, "a", 1)], [(number, "b", 1)])


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_engine_of_another_isolation_level_is_served(engine: sa.Engine, isolation: str) -> None:
    with engine.execution_options(isolation_level=isolation).connect() as conn:
        load(conn, people(), [(1, "a", 1)], [(1, "b", 2)])
        assert rows_of(conn) == [(1, "b", 2)]


# --- two runs at once


def test_a_run_whose_table_was_loaded_by_another_stops(conn: sa.Connection, engine: sa.Engine) -> None:
    table = people()

    def batches(mark: Any) -> Any:
        yield 1, None, [(table, (1, "first", None))]
        with engine.connect() as second:
            load(second, people(), [(2, "second", None)])
        yield 2, None, [(table, (3, "first", None))]

    with pytest.raises(ConcurrentIngestError, match="another run"):
        ingest(conn, table.metadata, batches)
    assert rows_of(conn) == [(1, "first", None), (2, "second", None)]
    assert is_usable(conn)


@pytest.mark.parametrize("of_other", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
@pytest.mark.parametrize("fails", [True, False])
def test_a_run_whose_table_is_loaded_by_another_after_its_last_batch_succeeds(
    conn: sa.Connection, engine: sa.Engine, caplog: pytest.LogCaptureFixture, fails: bool, of_other: str
) -> None:
    """Its rows are committed. The mark of its replacement is the other's by then: to take back, or to leave."""
    table = people()

    def second_batches(mark: Any) -> Any:
        assert mark == 1
        yield 2, None, [(table, (2, "second", None))]
        if fails:
            raise ConnectionError("the source went away")

    def batches(mark: Any) -> Any:
        yield 1, None, [(table, (1, "first", None))]
        with engine.connect() as second, suppress(ConnectionError):
            ingest(second, table.metadata, second_batches, delete=of_other)

    result = ingest(conn, table.metadata, batches, delete=Delete.BEFORE_FIRST_BATCH)
    assert (result.rows, result.last_high_watermark) == (1, 1)
    assert rows_of(conn) == [(1, "first", None), (2, "second", None)]
    (warning,) = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert warning == (
        "another run has loaded public.people since this one last did: all batches of this one are committed, and the "
        "mark of an unfinished replacement is left to that run"
    )
    load(conn, table, [(3, "third", None)], delete=Delete.BEFORE_FIRST_BATCH)
    assert [row[0] for row in rows_of(conn)] == ([1, 2, 3] if fails else [3])


def test_the_tables_that_no_other_run_has_loaded_are_known_to_be_replaced(
    conn: sa.Connection, engine: sa.Engine
) -> None:
    metadata = sa.MetaData()
    first, second = (sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True)) for name in "ab")
    alone = sa.MetaData()
    second.to_metadata(alone)

    def batches(mark: Any) -> Any:
        yield 1, None, [(first, (1,)), (second, (1,))]
        with engine.connect() as other_run:
            ingest(other_run, alone, lambda mark: [(1, None, [(second, (2,))])])

    ingest(conn, metadata, batches, delete=Delete.BEFORE_FIRST_BATCH)
    ingest(conn, metadata, lambda mark: [(2, None, [(first, (3,))])], delete=Delete.BEFORE_FIRST_BATCH)
    assert rows_of(conn, "SELECT id FROM a") == [(3,)]


def test_a_table_that_is_dropped_after_the_last_batch_is_told(conn: sa.Connection, other: sa.Connection) -> None:
    table = people()

    def batches(mark: Any) -> Any:
        yield 1, None, [(table, (1, "first", None))]
        other.exec_driver_sql("DROP TABLE people")

    with pytest.raises(ConcurrentIngestError, match="was dropped during this run"):
        ingest(conn, table.metadata, batches, delete=Delete.BEFORE_FIRST_BATCH)


def test_a_run_inside_a_batch_is_waited_for_as_long_as_patience_lasts(conn: sa.Connection, engine: sa.Engine) -> None:
    with engine.connect() as holder:
        holder.execute(sa.select(sa.func.pg_advisory_xact_lock(Name("public", "people").lock_key)))
        with pytest.raises(LockNotAcquired, match=r"another run has been loading public.people for longer than"):
            load(conn, people(), [(1, "a", 1)], lock_patience=timedelta(milliseconds=50))
    assert is_usable(conn)
    load(conn, people(), [(1, "a", 1)])


def test_runs_into_several_tables_cannot_wait_for_each_other(engine: sa.Engine) -> None:
    first, second, third = (Name("public", name) for name in "abc")

    def held(one: Name, by: sa.Connection) -> bool:
        return not by.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(one.lock_key)))

    with (
        engine.connect() as holder,
        engine.connect() as waiter,
        engine.connect() as other,
        ThreadPoolExecutor() as pool,
    ):
        one_run_at_a_time(holder, [second], timedelta(seconds=60))
        waiting = pool.submit(one_run_at_a_time, waiter, [third, second, first], timedelta(seconds=60))
        waits = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        until(lambda: other.scalar(waits))
        assert (held(first, other), held(third, other)) == (True, False)
        other.rollback()
        holder.rollback()
        waiting.result(timeout=60)
        assert all(held(one, other) for one in (first, second, third))


def test_no_transaction_is_open_while_the_source_thinks(conn: sa.Connection, other: sa.Connection) -> None:
    table, states = people(), []
    pid = conn.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]

    def state() -> None:
        states.append(other.scalar(sa.text("SELECT state FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}))

    def rows() -> Any:
        state()
        yield table, (1, "a", 1)

    def batches(mark: Any) -> Any:
        state()
        yield 1, None, rows()
        state()

    ingest(conn, table.metadata, batches)
    assert states == ["idle", "idle", "idle"]


# --- hostile names


@pytest.mark.parametrize(
    "name",
    ["q\"uo'te", "100% :x %s", "ta$ble {}", "emoji 🎉", "é" * 31, "select", "Mixed.Case", "back\\slash", "a USING b"],
)
def test_any_name_will_do(conn: sa.Connection, name: str) -> None:
    table = sa.Table(
        name,
        sa.MetaData(schema=name),
        sa.Column(name, sa.Integer, primary_key=True),
        sa.Column(name[:-1] + "2", sa.Text, index=False),
        comment=name,
    )
    sa.Index(name[:-1] + "3", table.c[1])
    for delete in (Delete.OFF, Delete.BEFORE_FIRST_BATCH, Delete.OFF):
        result = load(conn, table, [(1, name), (1, "b"), (2, name)], delete=delete)
        assert result.tables[0].migration == ()
    with conn.begin():
        assert conn.execute(sa.select(table).order_by(table.c[0])).all() == [(1, "b"), (2, name)]
    rebuilt = sa.Table(name, sa.MetaData(schema=name), sa.Column(name, sa.BigInteger, primary_key=True))
    assert len(load(conn, rebuilt, [(3,)]).tables[0].migration) == 3


def test_a_name_that_postgresql_would_cut_is_refused(conn: sa.Connection) -> None:
    table = sa.Table("é" * 32, sa.MetaData(), sa.Column("id", sa.Integer))
    with pytest.raises(IngestError, match="64 bytes"):
        load(conn, table, [(1,)])


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
def test_keys_and_indexes_of_a_new_table_are_built_with_the_memory_asked_for(conn: sa.Connection, delete: str) -> None:
    seen = []

    def look(conn: sa.Connection, table: sa.Table, batch_metadata: Any) -> None:
        seen.append(conn.scalar(sa.text("SHOW maintenance_work_mem")))

    rows = [(n, "x", n) for n in range(600)]
    load(conn, people(), rows, delete=delete, maintenance_work_mem="123 MB", on_before_visible=look)
    assert seen == ["123MB"]
    assert rows_of(conn, "SHOW maintenance_work_mem") != [("123MB",)]


@pytest.mark.parametrize("amount", ["much", 5, "1 GB; DROP TABLE people", ""])
def test_memory_that_postgresql_cannot_read_is_refused_before_anything_is_sent(
    conn: sa.Connection, amount: Any
) -> None:
    with pytest.raises(ValueError, match="maintenance_work_mem"):
        load(conn, people(), maintenance_work_mem=amount)


@pytest.mark.parametrize("amount", ["1kB", "0", "99999TB", "99999999999999999999GB"])
@pytest.mark.parametrize("there", [False, True])
def test_memory_out_of_the_range_of_the_server_is_refused_before_anything_is_changed(
    conn: sa.Connection, amount: str, there: bool
) -> None:
    if there:
        load(conn, people())
    before = rows_of(conn, "SELECT max(oid) FROM pg_class")
    with pytest.raises(ValueError, match=f"maintenance_work_mem is '{amount}', and the server says: .*: expected"):
        load(conn, people(), [(1, "x", 1)], maintenance_work_mem=amount)
    assert rows_of(conn, "SELECT max(oid) FROM pg_class") == before


@pytest.mark.parametrize("delete", [Delete.OFF, Delete.BEFORE_FIRST_BATCH])
@pytest.mark.parametrize("first", [1, 600])
def test_a_key_that_comes_twice_is_told_by_the_constraints_name_and_never_by_its_value(
    conn: sa.Connection, first: int, delete: str
) -> None:
    rows = [(n, "x", n) for n in range(first)] + [(424242, "x", 1), (424242, "y", 2)]
    with pytest.raises(RowError) as refused:
        load(conn, people(), rows, delete=delete, upsert=Upsert.OFF)
    told = "".join(traceback.format_exception(refused.value))
    assert "public.people" in told
    assert "_ingest_" not in told.replace("_ingest_provider", "")
    assert "424242" not in told
    assert rows_of(conn) == []


def test_a_statement_timeout_during_copy_says_what_to_raise(conn: sa.Connection) -> None:
    def slow() -> Iterator[tuple[int, str, int]]:
        yield from ((n, "x", n) for n in range(1000))
        deadline = time.monotonic() + 0.6
        while time.monotonic() < deadline:
            pass
        yield from ((n, "x", n) for n in range(1000, 200_000))

    load(conn, people(), [(-1, "before", 0)])
    conn.exec_driver_sql("SET statement_timeout = '500ms'")
    conn.commit()
    with pytest.raises(IngestError, match=r"public\.people: PostgreSQL ended the COPY .*statement_timeout"):
        load(conn, people(), slow())
    assert rows_of(conn) == [(-1, "before", 0)]


REFUSES = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not today'; END$$;
    CREATE TRIGGER refuses BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.parametrize("upsert", [Upsert.OFF, Upsert.IF_PRIMARY_KEY])
def test_what_postgresql_says_of_a_row_itself_comes_as_sqlalchemys_and_quotes_no_value(
    conn: sa.Connection, other: sa.Connection, upsert: str
) -> None:
    load(conn, people())
    load(conn, people(), [(1, "x", 1)])
    other.exec_driver_sql(REFUSES)
    row = (424242, str(424243), 424244)
    with pytest.raises(sa.exc.DBAPIError, match="not today") as refused:
        load(conn, people(), [row], upsert=upsert)
    told = "".join(traceback.format_exception(refused.value))
    assert not [value for value in row if str(value) in told]
    error = refused.value.orig
    assert (getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)) == "P0001"
    assert is_usable(conn)


@pytest.mark.parametrize(
    ("first", "options"),
    [(0, {}), (0, {"upsert": Upsert.OFF}), (600, {}), (600, {"delete": Delete.BEFORE_FIRST_BATCH})],
)
def test_a_key_that_no_index_holds_is_told_by_its_constraint(
    conn: sa.Connection, first: int, options: dict[str, Any]
) -> None:
    table = sa.Table("people", sa.MetaData(), sa.Column("name", sa.Text, primary_key=True))
    load(conn, table, [])
    long = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(100))
    with pytest.raises(
        RowError, match=r"public\.people: the value is too large, .*'people_pkey'.*54000: mend the source"
    ):
        load(conn, table, [(f"{number}",) for number in range(first)] + [(long,)], **options)
    assert rows_of(conn) == []


def test_a_deadlock_over_rows_says_to_try_again(conn: sa.Connection, engine: sa.Engine, other: sa.Connection) -> None:
    load(conn, people(), [(1, "a", 1), (2, "b", 2)])
    waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
    with ThreadPoolExecutor() as pool, engine.begin() as writer:
        writer.exec_driver_sql("SET LOCAL deadlock_timeout = '1h'")
        writer.exec_driver_sql("UPDATE people SET age = 5 WHERE id = 2")
        run = pool.submit(load, conn, people(), [(1, "c", 3), (2, "c", 3)])
        until(lambda: other.scalar(waits))
        writer.exec_driver_sql("UPDATE people SET age = 5 WHERE id = 1")
        with pytest.raises(LockNotAcquired, match=r"waited for locks of each other.*try again"):
            run.result()
    assert rows_of(conn) == [(1, "a", 5), (2, "b", 5)]
    assert is_usable(conn)
