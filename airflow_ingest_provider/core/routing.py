"""Rows of a batch, table by table: runs of encoded rows, each for one COPY, bounded in bytes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core.batches import MAX_BUFFER_BYTES, Chunk, arrow_part, check_table
from airflow_ingest_provider.core.encode import CHUNK_ROWS, ColumnFormat, RowEncoder


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
        arrow, frame = arrow_part(), self._frame
        pieces = arrow.pieces(frame, self.table, self._columns, self.received + 1)
        for binary, group in groupby(pieces, arrow.is_binary):
            encode = self._as_binary if binary else self._as_text
            yield Run(self.table, encode(group), self.received + 1, binary)
        self._frame = None

    def _as_binary(self, batches: Iterable[Any]) -> Iterator[bytes]:
        yield from arrow_part().binary(self._counted(batches), self._columns)

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


def runs(chunks: Iterator[Chunk], recognise: Recognise) -> Iterator[Run]:
    """Sort rows by table. A run goes on as long as its table's rows come and those of the others fit the buffer.

    So rows of one table are one run however many they are, and interleaved rows of many are few. An Arrow object is
    runs of its own, read as they are sent.
    """
    router = _Router(chunks, recognise)
    while (buffer := router.next_buffer()) is not None:
        if buffer.waits:
            yield Run(buffer.table, router.chunks_of(buffer), buffer.sent + 1)
        else:
            yield from buffer.frame_runs()


class _Router:
    """What it does for a table does not look at all others: there may be hundreds of them, with few rows each."""

    def __init__(self, chunks: Iterator[Chunk], recognise: Recognise) -> None:
        self._chunks = chunks
        self._recognise = recognise
        self._unencoded = 0
        self._waiting: dict[TableBuffer, None] = {}
        self._encoded: dict[TableBuffer, None] = {}
        """Those of them with rows that are encoded."""
        self._framed: TableBuffer | None = None
        """The last one that an Arrow object came for."""

    def next_buffer(self) -> TableBuffer | None:
        """The one with an Arrow object, or that holds most, after reading on where all hold little; None at the end."""
        while True:
            if self._frame_waits():
                return self._framed
            if self._encoded:
                return max(self._encoded, key=lambda buffer: buffer.pending_bytes)
            if not self._read():
                return next(iter(self._waiting), None)

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
        self._waiting.pop(buffer, None)
        self._encoded.pop(buffer, None)
        if not self._frame_waits():
            self._read()

    def _has_room(self) -> bool:
        return not self._frame_waits() and self._encoded_bytes() < MAX_BUFFER_BYTES

    def _frame_waits(self) -> bool:
        return self._framed is not None and self._framed.holds_frame

    def _encoded_bytes(self) -> int:
        return sum(buffer.pending_bytes for buffer in self._encoded)

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
                self._waiting[buffer] = None
        if chunk.frame:
            table, frame = chunk.frame
            buffer = self._recognise(table)
            if buffer is not None:
                buffer.add_frame(frame)
                self._framed = buffer
        fullest = max(self._waiting, key=lambda buffer: buffer.waiting_rows, default=None)
        self._unencoded += chunk.size
        if self._unencoded >= MAX_BUFFER_BYTES:
            self._encode_all()
        elif fullest and fullest.waiting_rows >= CHUNK_ROWS:
            self._encode(fullest)
        return True

    def _encode_all(self) -> None:
        """Encode what waits of all tables: which of them has the wide rows is not known."""
        self._unencoded = 0
        for buffer in self._waiting:
            if buffer.waiting_rows:
                self._encode(buffer)

    def _encode(self, buffer: TableBuffer) -> None:
        buffer.encode()
        self._encoded[buffer] = None


def recogniser(
    known: Mapping[sa.Table, TableBuffer],
    skip: Callable[[str], object],
    spellings: Mapping[tuple[str | None, str], TableBuffer] = MappingProxyType({}),
) -> Recognise:
    """Find the buffer of a row's table: by identity first, by schema and name after that.

    `spellings` are more schemas and names that mean a table. None for other tables, whose names `skip` is told.
    """
    by_identity = {id(table): buffer for table, buffer in known.items()}
    by_name = {**spellings, **{(table.schema, table.name): buffer for table, buffer in known.items()}}

    def recognise(table: Any) -> TableBuffer | None:
        buffer = by_identity.get(id(table))
        if buffer is not None:
            return buffer
        check_table(table)
        buffer = by_name.get((table.schema, table.name))
        if buffer is None:
            skip(table.fullname)
        return buffer

    return recognise
