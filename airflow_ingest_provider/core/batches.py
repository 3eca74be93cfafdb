"""A batch's mixed rows and Arrow objects -> runs of encoded rows, each of one table, bounded in bytes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from types import ModuleType
from typing import Any, cast

import sqlalchemy as sa

from airflow_ingest_provider.core.encode import CHUNK_ROWS, ColumnFormat, RowEncoder
from airflow_ingest_provider.core.errors import BatchError, IngestError
from airflow_ingest_provider.core.sizes import approximate_size

MAX_BUFFER_BYTES = 8 << 20
"""What encoded rows of all tables may take before they are sent. The server waits while they are gathered, and the
client while the last of them are sent; with 4 MB and 20 tables as much time goes into twice as many COPYs."""


@dataclass(frozen=True)
class Run:
    """Encoded rows of one table that go into one COPY; to be read to the end before the next run.

    `first_row` is the number of the first of them among the table's rows in the batch, from 1. `binary` says which
    of COPY's formats they are in.
    """

    table: str
    chunks: Iterator[bytes]
    first_row: int
    binary: bool = False


class TableBuffer:
    """One table's rows that wait to be sent, with how many were received and sent.

    They are encoded once there are enough for the encoder to be fast: rows of many tables come in few at a time.
    An Arrow object waits as it is, behind the rows that came before it, and is read when its turn has come.
    """

    def __init__(self, table: str, columns: Sequence[ColumnFormat]) -> None:
        self.table = table
        self.received = 0
        self.sent = 0
        self.pending_bytes = 0
        self._columns = columns
        self._encoder = RowEncoder(table, columns)
        self._frame: Any = None
        self._rows: list[Any] = []
        self._chunks: deque[tuple[bytes, int]] = deque()

    @property
    def waits(self) -> bool:
        """Whether any row waits to be sent."""
        return bool(self._rows or self._chunks)

    @property
    def holds_frame(self) -> bool:
        """Whether an Arrow object waits, behind the rows."""
        return self._frame is not None

    def add_frame(self, frame: Any) -> None:
        """Keep an Arrow object; no rows and no other object may come before it was sent."""
        self._frame = frame

    def add(self, rows: list[Any]) -> None:
        """Keep rows."""
        self.received += len(rows)
        self._rows += rows

    @property
    def waiting_rows(self) -> int:
        """How many wait that are not encoded."""
        return len(self._rows)

    def encode(self) -> None:
        """Encode those that wait."""
        rows, self._rows = self._rows, []
        chunk = self._encoder.encode(rows, self.received - len(rows) + 1)
        self._chunks.append((chunk, len(rows)))
        self.pending_bytes += len(chunk)

    def take(self) -> bytes:
        """Hand over the first that was encoded."""
        chunk, rows = self._chunks.popleft()
        self.sent += rows
        self.pending_bytes -= len(chunk)
        return chunk

    def take_all(self) -> Iterator[bytes]:
        """Hand over everything."""
        if self._rows:
            self.encode()
        while self._chunks:
            yield self.take()

    def frame_runs(self) -> Iterator[Run]:
        """The Arrow object's runs: one, unless some of its record batches have no binary form."""
        arrow, frame = _arrow(), self._frame
        pieces = arrow.pieces(frame, self.table, self._columns, self.received + 1)
        for binary, group in groupby(pieces, arrow.is_binary):
            encode = self._as_binary if binary else self._as_text
            yield Run(self.table, encode(group), self.received + 1, binary)
        self._frame = None

    def _as_binary(self, batches: Iterable[Any]) -> Iterator[bytes]:
        yield from _arrow().binary(self._counted(batches), self._columns)

    def _counted(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            self.received += batch.num_rows
            self.sent = self.received
            yield batch

    def _as_text(self, pieces: Iterable[list[Any]]) -> Iterator[bytes]:
        for rows in pieces:
            chunk = self._encoder.encode(rows, self.received + 1)
            self.received += len(rows)
            self.sent = self.received
            yield chunk


Recognise = Callable[[Any], TableBuffer | None]


@dataclass(frozen=True)
class Chunk:
    """Rows of a batch that came one after the other, by table; then, maybe, a table and its Arrow object.

    `frame_head` is an Arrow object of the first rows of that, where they were looked at. `is_wide` says that the rows
    are few because they are wide.
    """

    groups: Sequence[tuple[Any, list[Any]]]
    frame: tuple[Any, Any] | None
    frame_head: Any = None
    is_wide: bool = False

    @property
    def is_last(self) -> bool:
        """Whether it is known that no more come."""
        few = sum(len(rows) for _, rows in self.groups) < CHUNK_ROWS
        return few and self.frame is None and not self.is_wide


@dataclass(frozen=True)
class Arrived:
    """A batch's rows, of which the `first` are there (None: there are none); `all_read` where those are all."""

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
    first = _next_chunk(iterator)
    if first is None:
        return Arrived(iter(()), None)
    if first.frame:
        table, frame = first.frame
        reader, head = _arrow().begun(frame, CHUNK_ROWS)
        first = replace(first, frame=(table, reader), frame_head=head)
    return Arrived(chain([first], _chunks(iterator)), first)


def _chunks(pairs: Iterator[Any]) -> Iterator[Chunk]:
    while (chunk := _next_chunk(pairs)) is not None:
        yield chunk


def _next_chunk(pairs: Iterator[Any]) -> Chunk | None:
    """Enough rows to encode; up to the next Arrow object and no further, since each may be large. None at the end."""
    append_of = _Groups()
    keep: Any = None
    frame = None
    last_table: Any = _NO_TABLE
    no_frame: type = tuple
    pair: Any = _NONE_YET
    try:
        for slice_ in append_of.slices(pairs):
            for pair in slice_:
                table, row = pair
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
    except (TypeError, ValueError) as error:
        if not _is_pair(pair):
            raise BatchError(
                f"the rows of a batch must be (table, row) pairs, and one is a {_described(pair)}: "
                "yield table, row; of a DataFrame or other Arrow data table, frame"
            ) from error
        if pair is not _NONE_YET:
            _check_table(pair[0])  # what cannot be hashed is no table
        raise
    groups = append_of.groups
    return Chunk(groups, frame, is_wide=append_of.is_wide) if groups or frame else None


class _Groups(dict[Any, Callable[[Any], None]]):
    """The `append` of the list of each table's rows, made for a table when its first row comes.

    With rows for tables in turns, it takes two thirds of the time of a dictionary by id().
    """

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[tuple[Any, list[Any]]] = []
        self.is_wide = False

    def __missing__(self, table: Any) -> Callable[[Any], None]:
        rows: list[Any] = []
        self.groups.append((table, rows))
        self[table] = rows.append
        return rows.append

    def slices(self, pairs: Iterator[Any]) -> Iterator[Iterator[Any]]:
        """The pairs of a chunk, to be appended slice by slice: a few, and as many more as fit if they are as wide.

        One row is looked at: to look at all of them would take longer than to encode them.
        """
        yield islice(pairs, _FEW_ROWS)
        if not self.groups:
            return
        fit = max(_FEW_ROWS, min(CHUNK_ROWS, MAX_BUFFER_BYTES // max(self._width(), 1)))
        yield islice(pairs, fit - _FEW_ROWS)
        self.is_wide = fit < CHUNK_ROWS and sum(len(rows) for _, rows in self.groups) == fit

    def _width(self) -> int:
        """About how many bytes a row takes: the wider of the last ones of two tables, where rows come in turns."""
        return max(approximate_size(rows[-1]) for _, rows in (self.groups[0], self.groups[-1]))


_FEW_ROWS = 8
"""Read whatever they take: 0.3 GB of memory where each is of 10 MB."""


_NO_TABLE = object()
_NONE_YET = (None, None)
"""A pair like the others: an error before the first one is the source's own."""


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, Sequence) and not isinstance(pair, str | bytes) and len(pair) == 2


def _described(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"{type(value).__name__}{size}"


def _is_frame(type_: type) -> bool:
    """Whether objects of the type give Arrow data in place of one row.

    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """
    return hasattr(type_, "__arrow_c_stream__") or hasattr(type_, "__arrow_c_array__")


def _arrow() -> ModuleType:
    """The part that needs pyarrow, which takes a third of a second to import and tens of megabytes."""
    try:
        from airflow_ingest_provider.core import arrow
    except ImportError as error:
        raise IngestError(
            f"an Arrow object has come in place of a row, and {error.name or error} is not installed: "
            "pip install 'airflow-ingest-provider[arrow]', or pass rows"
        ) from error
    return arrow


def closed_after(batches: Any) -> AbstractContextManager[Iterable[Any]]:
    """What `batches` gave, closed afterwards where it can be: a generator frees what it holds when a run fails, too."""
    if not isinstance(batches, Iterable):
        raise BatchError(
            f"batches gave a {type(batches).__name__}: expected an iterable of (high_watermark, batch_metadata, rows) "
            "triples, as a generator function gives"
        )
    return closing(cast("Any", batches)) if hasattr(batches, "close") else nullcontext(batches)


def triple(batch: Any) -> tuple[Any, Any, Any]:
    """The batch's parts; BatchError where it is not a (high_watermark, batch_metadata, rows) triple."""
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        raise BatchError(f"batches gave a {_described(batch)}: expected (high_watermark, batch_metadata, rows) triples")
    return batch[0], batch[1], batch[2]


def runs(chunks: Iterator[Chunk], buffers: Mapping[str, TableBuffer], recognise: Recognise) -> Iterator[Run]:
    """Sort rows by table. A run goes on as long as its table's rows come and those of the others fit the buffer.

    So rows of one table are one run however many they are, and interleaved rows of many are few. An Arrow object is
    runs of its own, read as they are sent.
    """
    router = _Router(chunks, buffers, recognise)
    while (buffer := router.next_buffer()) is not None:
        if buffer.waits:
            yield Run(buffer.table, router.chunks_of(buffer), buffer.sent + 1)
        else:
            yield from buffer.frame_runs()


class _Router:
    def __init__(self, chunks: Iterator[Chunk], buffers: Mapping[str, TableBuffer], recognise: Recognise) -> None:
        self._chunks = chunks
        self._buffers = buffers
        self._recognise = recognise

    def next_buffer(self) -> TableBuffer | None:
        """The one with an Arrow object, or that holds most, after reading on where all hold little; None at the end."""
        while True:
            if self._frame_waits():
                return next(buffer for buffer in self._buffers.values() if buffer.holds_frame)
            fullest = max(self._buffers.values(), key=lambda buffer: buffer.pending_bytes)
            if fullest.pending_bytes:
                return fullest
            if not self._read():
                return next((buffer for buffer in self._buffers.values() if buffer.waits), None)

    def chunks_of(self, buffer: TableBuffer) -> Iterator[bytes]:
        """One table's chunks. For each that is sent another one is read, so that the server has work meanwhile.

        One more is read before the COPY ends, which waits until the server has taken in all that was sent.
        """
        while buffer.pending_bytes or self._has_room():
            if buffer.pending_bytes:
                yield buffer.take()
            if self._has_room() and not self._read():
                break
        yield from buffer.take_all()
        if not self._frame_waits():
            self._read()

    def _has_room(self) -> bool:
        return not self._frame_waits() and self._waiting() < MAX_BUFFER_BYTES

    def _frame_waits(self) -> bool:
        return any(buffer.holds_frame for buffer in self._buffers.values())

    def _waiting(self) -> int:
        return sum(buffer.pending_bytes for buffer in self._buffers.values())

    def _read(self) -> bool:
        """Keep the next rows, up to the next Arrow object; False at the end.

        As many are encoded as were read, of the table that has most: where rows of 20 tables come in turns, all would
        have enough at once, and the server nothing to do until they were all encoded.
        """
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        for table, rows in chunk.groups:
            buffer = self._recognise(table)
            if buffer is not None:
                buffer.add(rows)
        if chunk.frame:
            table, frame = chunk.frame
            buffer = self._recognise(table)
            if buffer is not None:
                buffer.add_frame(frame)
        fullest = max(self._buffers.values(), key=lambda buffer: buffer.waiting_rows)
        if chunk.is_wide:
            self._encode_all()
        elif fullest.waiting_rows >= CHUNK_ROWS:
            fullest.encode()
        return True

    def _encode_all(self) -> None:
        """Encode what waits of all tables: which of them has the wide rows is not known."""
        for buffer in self._buffers.values():
            if buffer.waiting_rows:
                buffer.encode()


def recogniser(known: Mapping[sa.Table, TableBuffer], skip: Callable[[str], object]) -> Recognise:
    """Find the buffer of a row's table: by identity first, by schema and name after that.

    None for other tables, whose names `skip` is told.
    """
    by_identity = {id(table): buffer for table, buffer in known.items()}
    by_name = {(table.schema, table.name): buffer for table, buffer in known.items()}

    def recognise(table: Any) -> TableBuffer | None:
        buffer = by_identity.get(id(table))
        if buffer is not None:
            return buffer
        _check_table(table)
        buffer = by_name.get((table.schema, table.name))
        if buffer is None:
            skip(table.fullname)
        return buffer

    return recognise


def _check_table(table: Any) -> None:
    if not isinstance(table, sa.Table):
        raise BatchError(
            f"a row comes with a {type(table).__name__} in place of its table: expected (table, row) pairs "
            "with a sqlalchemy.Table"
        )
