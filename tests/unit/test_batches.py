"""Mixed rows become runs of one table each, while little of them is held."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from airflow_ingest_provider.core.batches import MAX_BUFFER_BYTES, started
from airflow_ingest_provider.core.encode import CHUNK_ROWS, ColumnFormat
from airflow_ingest_provider.core.errors import BatchError
from airflow_ingest_provider.core.routing import TableBuffer, recogniser, runs
from airflow_ingest_provider.core.shape import TypeShape

KILOBYTE = "x" * 1020
ROWS = 3 * MAX_BUFFER_BYTES // 1024


@pytest.mark.parametrize("tables", [1, 2, 20])
def test_another_chunk_is_read_for_each_that_is_sent(tables: int) -> None:
    declared = [sa.Table(f"t{number}", sa.MetaData()) for number in range(tables)]
    columns = [ColumnFormat("a", TypeShape("int4"), None), ColumnFormat("b", TypeShape("text"), None)]
    buffers = {table: TableBuffer(table.name, columns) for table in declared}
    read = 0

    def rows() -> Iterator[Any]:
        nonlocal read
        for read in range(1, ROWS + 1):
            yield declared[read % tables], (read, KILOBYTE)

    sent: Counter[str] = Counter()
    held = 0
    for run in runs(started(rows()).chunks, recogniser(buffers, print)):
        assert run.first_row == sent[run.table] + 1
        for chunk in run.chunks:
            numbers = [int(line.partition(b"\t")[0]) for line in chunk.splitlines()]
            first = tables * sent[run.table] + (int(run.table[1:]) or tables)
            assert numbers == list(range(first, first + tables * len(numbers), tables))
            sent[run.table] += len(numbers)
            before, held = held, read - sent.total()
            assert held <= MAX_BUFFER_BYTES // 1024 + 2 * tables * CHUNK_ROWS
            assert read == ROWS or held >= min(before, MAX_BUFFER_BYTES // 1024 - 2 * CHUNK_ROWS)
    assert sent.total() == ROWS


def test_tables_in_turns_are_not_encoded_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = [sa.Table(f"t{number}", sa.MetaData()) for number in range(20)]
    columns = [ColumnFormat("a", TypeShape("int4"), None)]
    buffers = {table: TableBuffer(table.name, columns) for table in declared}
    encoded: Counter[int] = Counter()
    read = 0
    encode = TableBuffer.encode

    def counted(buffer: TableBuffer) -> None:
        encoded[read] += 1
        encode(buffer)

    def rows() -> Iterator[Any]:
        nonlocal read
        for read in range(1, 100 * CHUNK_ROWS + 1):
            yield declared[read % 20], (read,)

    monkeypatch.setattr(TableBuffer, "encode", counted)
    all_runs = runs(started(rows()).chunks, recogniser(buffers, print))
    sent = sum(chunk.count(b"\n") for run in all_runs for chunk in run.chunks)
    assert sent == 100 * CHUNK_ROWS
    del encoded[sent]  # at the end
    assert set(encoded.values()) == {1}


@pytest.mark.parametrize(
    "wide",
    ["x" * 2**20, b"x" * 2**20, ["x" * 1024] * 1024, {"a": [{"b": "x" * 2**20}]}, {str(n): "x" for n in range(2**17)}],
    ids=["str", "bytes", "list", "nested", "dict"],
)
@pytest.mark.parametrize("came", [1, 8, 9, 20])
def test_wide_rows_are_read_few_at_a_time(wide: Any, came: int) -> None:
    table = sa.Table("t", sa.MetaData())
    narrow = [(table, (number, "x")) for number in range(2 * CHUNK_ROWS)]
    arrived = started([(table, (number, wide)) for number in range(came)] + narrow)
    chunks = [rows for chunk in arrived.chunks for _, rows in chunk.groups]
    assert max(map(len, chunks)) <= CHUNK_ROWS
    assert [row[0] for rows in chunks for row in rows] == [*range(came), *range(2 * CHUNK_ROWS)]
    assert sum(len(rows) < CHUNK_ROWS for rows in chunks) <= came // 8 + 2
    assert max(sum(row[1] is wide for row in rows) for rows in chunks) <= 32
    assert not arrived.all_read


WIDE = "x" * 2**20


@pytest.mark.parametrize(
    "is_wide",
    [
        lambda number: number % 2 == 0,
        lambda number: number % 2 == 1,
        lambda number: number % 3 == 1,
        lambda number: number % 20 == 9,
    ],
    ids=["every other", "every second", "the middle of three", "one of twenty"],
)
@pytest.mark.parametrize("tables", [1, 3, 20])
def test_wide_rows_among_narrow_ones_are_read_few_at_a_time(is_wide: Callable[[int], bool], tables: int) -> None:
    declared = [sa.Table(f"t{number}", sa.MetaData()) for number in range(tables)]
    rows = [(number, WIDE if is_wide(number) else "x") for number in range(3 * CHUNK_ROWS)]
    arrived = started((declared[row[0] % tables], row) for row in rows)
    chunks = [[row for _, rows in chunk.groups for row in rows] for chunk in arrived.chunks]
    assert sorted(row[0] for chunk in chunks for row in chunk) == [row[0] for row in rows]
    assert max(sum(row[1] is WIDE for row in chunk) for chunk in chunks) <= 60


@pytest.mark.parametrize("narrow", [7, 8, 9, 37, 100, 111, 333, 499, 500])
@pytest.mark.parametrize("tables", [1, 3, 20])
def test_wide_rows_that_come_after_narrow_ones_are_read_few_at_a_time(narrow: int, tables: int) -> None:
    declared = [sa.Table(f"t{number}", sa.MetaData()) for number in range(tables)]
    pairs = [(declared[number % tables], (WIDE if number >= narrow else "x",)) for number in range(3 * CHUNK_ROWS)]
    chunks = [[row for _, rows in chunk.groups for row in rows] for chunk in started(pairs).chunks]
    wide = [sum(row[0] is WIDE for row in chunk) for chunk in chunks]
    first = next(filter(None, wide))
    assert first <= min(max(2 * narrow, 29 * min(tables, 8)), CHUNK_ROWS // 2)
    assert max(wide[wide.index(first) + 1 :]) == 8


@pytest.mark.parametrize("every", [1, 7, 100])
def test_wide_rows_do_not_wait_for_others_to_be_encoded(every: int) -> None:
    tables = {kind: sa.Table(kind, sa.MetaData()) for kind in ("wide", "narrow")}
    columns = [ColumnFormat("a", TypeShape("int4"), None), ColumnFormat("b", TypeShape("text"), None)]
    buffers = {table: TableBuffer(table.name, columns) for table in tables.values()}
    read = 0

    def rows() -> Iterator[Any]:
        nonlocal read
        for read in range(1, 101):
            yield tables["wide"], (read, WIDE)
            yield from [(tables["narrow"], (read, "x"))] * every

    sent = 0
    for run in runs(started(rows()).chunks, recogniser(buffers, print)):
        for chunk in run.chunks:
            assert read - sent <= 48
            sent += chunk.count(b"\n") if run.table == "wide" else 0
    assert sent == 100


def test_wide_rows_between_frames_do_not_wait_for_others_to_be_encoded() -> None:
    tables = [sa.Table(name, sa.MetaData()) for name in ("wide", "frames")]
    columns = [ColumnFormat("a", TypeShape("text"), None)]
    buffers = {table: TableBuffer(table.name, columns) for table in tables}
    rows = [(tables[0], (WIDE,)), (tables[1], pa.table({"a": ["x"]}))] * 50
    for run in runs(started(rows).chunks, recogniser(buffers, print)):
        assert buffers[tables[0]].waiting_rows <= 8
        for _ in run.chunks:
            pass
    assert buffers[tables[0]].sent == buffers[tables[1]].sent == 50


def containing_itself() -> list[Any]:
    one: list[Any] = []
    one.append(one)
    return one


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    "value", [containing_itself(), nested(50_000), [nested(5_000)] * 100], ids=["itself", "deep", "deep and wide"]
)
def test_a_value_that_is_nested_too_deeply_is_read_as_it_is(value: Any) -> None:
    """Encoding it says what is wrong with it, by table, column and row."""
    table = sa.Table("t", sa.MetaData())
    assert [rows for _, rows in next(started([(table, (1, value))]).chunks).groups] == [[(1, value)]]


@pytest.mark.parametrize(("rows", "all_read"), [(0, True), (1, True), (7, True), (20, False)])
def test_all_rows_are_known_to_be_read_where_few_wide_ones_came(rows: int, all_read: bool) -> None:
    table = sa.Table("t", sa.MetaData())
    assert started((table, (number, "x" * 2**20)) for number in range(rows)).all_read is all_read


@pytest.mark.parametrize("came", [0, 1, CHUNK_ROWS])
@pytest.mark.parametrize("error", [TypeError("of the source"), ValueError("of the source")], ids=repr)
def test_an_error_of_the_source_is_raised_as_it_is(came: int, error: Exception) -> None:
    table = sa.Table("t", sa.MetaData())

    def rows() -> Iterator[Any]:
        yield from [(table, (1,))] * came
        raise error

    with pytest.raises(type(error)) as raised:
        list(started(rows()).chunks)
    assert raised.value is error


@pytest.mark.parametrize("kind", [iter, lambda pair: {pair[0]: 1, pair[1]: 2}.keys()], ids=["iterator", "keys"])
@pytest.mark.parametrize("error", [TypeError("of the source"), ValueError("of the source")], ids=repr)
def test_an_error_of_the_source_is_raised_as_it_is_after_pairs_that_are_no_sequences(
    kind: Callable[[Any], Any], error: Exception
) -> None:
    table = sa.Table("t", sa.MetaData())

    def rows() -> Iterator[Any]:
        yield kind((table, (1,)))
        raise error

    with pytest.raises(type(error)) as raised:
        started(rows())
    assert raised.value is error


@pytest.mark.parametrize("given", ["t", None, ["t"], {}], ids=repr)
def test_what_comes_in_place_of_a_table_is_named(given: Any) -> None:
    table = sa.Table("t", sa.MetaData())
    buffer = TableBuffer("t", [ColumnFormat("a", TypeShape("int4"), None)])
    with pytest.raises(BatchError, match=f"^a row comes with a {type(given).__name__} in place of its table"):
        list(runs(started([(table, (1,)), (given, (2,))]).chunks, recogniser({table: buffer}, print)))


@pytest.mark.parametrize("given", [None, 1, (1,), (1, 2, 3), "row", iter((1, 2, 3))], ids=lambda given: str(given)[:12])
def test_what_is_no_pair_is_refused(given: Any) -> None:
    table = sa.Table("t", sa.MetaData())
    with pytest.raises(BatchError, match=rf"must be \(table, row\) pairs, and one is a {type(given).__name__}"):
        list(started([(table, (1,)), given]).chunks)
