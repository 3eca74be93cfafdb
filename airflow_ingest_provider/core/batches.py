"""The batches of a source, and the rows and Arrow objects of one as they arrive: some at a time, by table."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from types import ModuleType
from typing import Any, cast

import sqlalchemy as sa

from airflow_ingest_provider.core.encode import CHUNK_ROWS
from airflow_ingest_provider.core.errors import BatchError, IngestError, kind_of
from airflow_ingest_provider.core.functions import ASYNC, accepts, is_async, signature_of
from airflow_ingest_provider.core.sizes import row_size

Batch = tuple[Any, Any, Iterable[tuple[Any, Any]]]
"""A high watermark, the batch's metadata, and its rows: pairs of a table and a tuple, a dict or an Arrow object."""

MAX_BUFFER_BYTES = 8 << 20
"""What encoded rows of all tables may take before they are sent. The server waits while they are gathered, and the
client while the last of them are sent; with 4 MB and 20 tables as much time goes into twice as many COPYs."""


@dataclass(frozen=True)
class Chunk:
    """Rows of a batch that came one after the other, by table; then, maybe, a table and its Arrow object.

    `frame_head` is an Arrow object of the first rows of that, where they were looked at; `frame_is_empty` says that
    there are none. `size` is about how many bytes the rows take; `is_wide` says that they are few because they are
    wide.
    """

    groups: Sequence[tuple[Any, list[Any]]]
    frame: tuple[Any, Any] | None
    frame_head: Any = None
    frame_is_empty: bool = False
    size: int = 0
    is_wide: bool = False

    @property
    def holds_rows(self) -> bool:
        """Whether any came, or may come of the Arrow object."""
        return bool(self.groups) or not self.frame_is_empty

    @property
    def is_last(self) -> bool:
        """Whether it is known that no more come."""
        few = sum(len(rows) for _, rows in self.groups) < CHUNK_ROWS
        return few and self.frame is None and not self.is_wide


@dataclass(frozen=True)
class Arrived:
    """A batch's rows, of which the `first` are there (None: there are none); `all_read` where those are all.

    The `chunks` may hold Arrow objects without rows in any case.
    """

    chunks: Iterator[Chunk]
    first: Chunk | None

    @property
    def is_empty(self) -> bool:
        return self.first is None

    @property
    def all_read(self) -> bool:
        return self.first is None or self.first.is_last

    def first_of(self, recognise: Callable[[Any], bool]) -> tuple[list[Any], Any]:
        """The first rows of a table, and an Arrow object of the ones behind them (None: there is none)."""
        if self.first is None:
            return [], None
        rows = [row for table, rows in self.first.groups if recognise(table) for row in rows]
        of_frame = self.first.frame is not None and recognise(self.first.frame[0])
        return rows, self.first.frame_head if of_frame else None


def started(rows: Iterable[Any]) -> Arrived:
    """The same rows, once enough for the first bytes to send have arrived: a slow source keeps no transaction open."""
    try:
        iterator = iter(rows)
    except TypeError as error:
        raise BatchError(
            f"the rows of a batch are a {type(rows).__name__}: expected an iterable of (table, row) pairs"
        ) from error
    read = []
    for chunk in _chunks(iterator):
        read.append(_begun(chunk))
        if read[-1].holds_rows:
            return Arrived(chain(read, _chunks(iterator)), read[-1])
    return Arrived(iter(read), None)


def _begun(chunk: Chunk) -> Chunk:
    if chunk.frame is None:
        return chunk
    table, frame = chunk.frame
    reader, head = arrow_part().begun(frame, CHUNK_ROWS)
    return replace(chunk, frame=(table, reader), frame_head=head, frame_is_empty=head is None and reader is not frame)


def _chunks(pairs: Iterator[Any]) -> Iterator[Chunk]:
    while (chunk := _next_chunk(pairs)) is not None:
        yield chunk


def _next_chunk(pairs: Iterator[Any]) -> Chunk | None:
    """Enough rows to encode; up to the next Arrow object and no further, since each may be large. None at the end.

    Errors of the source pass through. The inner `try`, so that none of them is taken for a pair's, costs two of some
    sixty nanoseconds that a row takes here.
    """
    append_of = _Groups()
    keep: Any = None
    frame = None
    last_table: Any = _NO_TABLE
    no_frame: type = tuple
    try:
        for slice_ in append_of.slices(pairs):
            for pair in slice_:
                try:
                    table, row = pair
                except (TypeError, ValueError) as error:
                    raise BatchError(
                        f"the rows of a batch must be (table, row) pairs, and one is a {_described(pair)}: "
                        "yield table, row; of a DataFrame or other Arrow data table, frame"
                    ) from error
                if type(row) is not no_frame:
                    if _is_frame(type(row)):
                        frame = (table, row)
                        break
                    no_frame = type(row)
                if table is not last_table:
                    last_table = table
                    keep = append_of[table]
                keep(row)
            if frame:
                break
    except TypeError:
        if last_table is not _NO_TABLE:
            check_table(last_table)  # what cannot be hashed is no table
        raise
    groups = append_of.groups
    if frame:
        append_of.look()
    return Chunk(groups, frame, size=append_of.size, is_wide=append_of.is_wide) if groups or frame else None


class _Groups(dict[Any, Callable[[Any], None]]):
    """The `append` of the list of each table's rows, made for a table when its first row comes.

    With rows for tables in turns, it takes two thirds of the time of a dictionary by id().
    """

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[tuple[Any, list[Any]]] = []
        self.size = 0
        self.is_wide = False

    def __missing__(self, table: Any) -> Callable[[Any], None]:
        rows: list[Any] = []
        self.groups.append((table, rows))
        self[table] = rows.append
        return rows.append

    def slices(self, pairs: Iterator[Any]) -> Iterator[Iterator[Any]]:
        """The pairs of a chunk, to be appended slice by slice until they are enough, or take what may be held.

        After each a row of every table is looked at: to look at all of them would take longer than to encode them.
        """
        read, following = 0, _FEW_ROWS
        while following:
            yield islice(pairs, following)
            read += following
            following = self._following(read)

    def _following(self, read: int) -> int:
        """How many more rows to read: none where there are enough, or no more came, or they take what may be held."""
        if read == CHUNK_ROWS or self.look() < read:
            return 0
        self.is_wide = self.size >= MAX_BUFFER_BYTES
        if self.is_wide:
            return 0
        following = max(2 * read, _SLICE_ROWS * len(self.groups))
        if self.size * CHUNK_ROWS > MAX_BUFFER_BYTES * read:
            fit = (MAX_BUFFER_BYTES - self.size) * read // self.size
            following = min(following, max(fit, _FEW_ROWS))
        return min(following, CHUNK_ROWS - read)

    def look(self) -> int:
        """Estimate the size by the last row of each table; how many there are."""
        count = size = 0
        for _, rows in self.groups:
            came = len(rows)
            count += came
            size += came * row_size(rows[-1])
        self.size = size
        return count


_FEW_ROWS = 8
"""Read whatever they take: 0.3 GB of memory where each is of 10 MB."""

_SLICE_ROWS = 29
"""For each table, read at least before its rows are looked at again. An odd number, so that where every second row is
wide those are seen."""

_NO_TABLE = object()


def _described(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"{type(value).__name__}{size}"


def _is_frame(type_: type) -> bool:
    """Whether objects of the type give Arrow data in place of one row.

    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """
    return hasattr(type_, "__arrow_c_stream__") or hasattr(type_, "__arrow_c_array__")


def arrow_part() -> ModuleType:
    """The part that needs pyarrow, which takes a third of a second to import and tens of megabytes."""
    try:
        from airflow_ingest_provider.core import arrow
    except ImportError as error:
        raise IngestError(
            f"an Arrow object has come in place of a row, and {error.name or error} is not installed: "
            "pip install 'airflow-ingest-provider[arrow]', or pass rows"
        ) from error
    return arrow


def check_batches(batches: object) -> None:
    """Raise BatchError for what is no function of one argument, or an async one."""
    if not callable(batches):
        raise BatchError(
            f"batches is {kind_of(batches)}: expected a function of the high watermark that gives batches; pass the "
            "function itself, and not what it gives"
        )
    if is_async(batches):
        raise BatchError(f"batches {ASYNC}")
    signature = signature_of(batches)
    if signature and not accepts(signature, 1):
        raise BatchError(f"batches takes {signature}: expected a function of the high watermark alone")


def closed_after(batches: Any) -> AbstractContextManager[Iterable[Any]]:
    """What `batches` gave, closed afterwards where it can be: a generator frees what it holds when a run fails, too."""
    if not isinstance(batches, Iterable):
        raise BatchError(
            f"batches gave a {type(batches).__name__}: expected an iterable of (high_watermark, batch_metadata, rows) "
            "triples, as a generator function gives"
        )
    return closing(cast("Any", batches)) if hasattr(batches, "close") else nullcontext(batches)


@contextmanager
def closed_if_it_fails(rows: Any) -> Iterator[Any]:
    """A batch's rows, closed where the block raises, and before `batches` is, which may hold what they use."""
    iterator = iter(rows) if isinstance(rows, Iterable) else rows
    try:
        yield iterator
    except BaseException:
        if hasattr(iterator, "close"):
            iterator.close()
        raise


def triple(batch: Any) -> Batch:
    """The batch's parts; BatchError where it is not a (high_watermark, batch_metadata, rows) triple."""
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        raise BatchError(f"batches gave a {_described(batch)}: expected (high_watermark, batch_metadata, rows) triples")
    return batch[0], batch[1], batch[2]


def check_table(table: Any) -> None:
    if not isinstance(table, sa.Table):
        has_one = isinstance(table, type) and hasattr(table, "__table__")
        raise BatchError(
            f"a row comes with {kind_of(table)} in place of its table: expected (table, row) pairs with a "
            "sqlalchemy.Table" + ", as its `__table__` is" * has_one
        )
