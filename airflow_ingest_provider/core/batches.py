"""A batch's mixed rows -> runs of encoded rows, each of one table, bounded in bytes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, cast

import sqlalchemy as sa

from airflow_ingest_provider.core.encode import CHUNK_ROWS, RowEncoder
from airflow_ingest_provider.core.errors import BatchError

MAX_BUFFER_BYTES = 16 << 20
"""What rows of the other tables may take while one table's COPY runs, all together."""


@dataclass(frozen=True)
class Run:
    """Encoded rows of one table that go into one COPY; to be read to the end before the next run.

    `first_row` is the number of the first of them among the table's rows in the batch, from 1.
    """

    table: str
    chunks: Iterator[bytes]
    first_row: int


class TableBuffer:
    """One table's rows that wait to be sent, with how many were received and sent.

    They are encoded as soon as there are enough for the encoder to be fast: rows of many tables come in few at a time.
    """

    def __init__(self, table: str, encoder: RowEncoder) -> None:
        self.table = table
        self.received = 0
        self.sent = 0
        self.pending_bytes = 0
        self._encoder = encoder
        self._rows: list[Any] = []
        self._chunks: list[bytes] = []

    @property
    def waits(self) -> bool:
        """Whether any row waits to be sent."""
        return bool(self._rows or self._chunks)

    def add(self, rows: list[Any]) -> None:
        """Keep rows."""
        self.received += len(rows)
        self._rows += rows
        if len(self._rows) >= CHUNK_ROWS:
            self._encode()

    def take(self) -> list[bytes]:
        """Hand over what is encoded."""
        chunks, self._chunks = self._chunks, []
        self.sent = self.received - len(self._rows)
        self.pending_bytes = 0
        return chunks

    def take_all(self) -> list[bytes]:
        """Hand over everything."""
        if self._rows:
            self._encode()
        return self.take()

    def _encode(self) -> None:
        rows, self._rows = self._rows, []
        chunk = self._encoder.encode(rows, self.received - len(rows) + 1)
        self._chunks.append(chunk)
        self.pending_bytes += len(chunk)


Recognise = Callable[[Any], TableBuffer | None]


@dataclass(frozen=True)
class Arrived:
    """A batch's rows, of which the first are there; `all_read` where those are all."""

    rows: Iterator[Any]
    all_read: bool


def started(rows: Iterable[Any]) -> Arrived:
    """The same rows, once enough for the first bytes to send have arrived: a slow source keeps no transaction open."""
    try:
        iterator = iter(rows)
    except TypeError as error:
        raise BatchError(
            f"the rows of a batch are a {type(rows).__name__}: expected an iterable of (table, row) pairs"
        ) from error
    first = list(islice(iterator, CHUNK_ROWS))
    return Arrived(chain(first, iterator), all_read=len(first) < CHUNK_ROWS)


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
        size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise BatchError(
            f"batches gave a {type(batch).__name__}{size}: expected (high_watermark, batch_metadata, rows) triples"
        )
    return batch[0], batch[1], batch[2]


def runs(rows: Iterator[Any], buffers: Mapping[str, TableBuffer], recognise: Recognise) -> Iterator[Run]:
    """Sort rows by table. A run goes on as long as its table's rows come and those of the others fit the buffer.

    So rows of one table are one run however many they are, and interleaved rows of many are few.
    """
    router = _Router(rows, buffers, recognise)
    while (buffer := router.next_buffer()) is not None:
        yield Run(buffer.table, router.chunks_of(buffer), buffer.sent + 1)


class _Router:
    def __init__(self, rows: Iterator[Any], buffers: Mapping[str, TableBuffer], recognise: Recognise) -> None:
        self._rows = rows
        self._buffers = buffers
        self._recognise = recognise

    def next_buffer(self) -> TableBuffer | None:
        """The buffer that holds most, after reading on where all hold little; None at the end."""
        while True:
            fullest = max(self._buffers.values(), key=lambda buffer: buffer.pending_bytes)
            if fullest.pending_bytes:
                return fullest
            if not self._read():
                return next((buffer for buffer in self._buffers.values() if buffer.waits), None)

    def chunks_of(self, buffer: TableBuffer) -> Iterator[bytes]:
        """One table's chunks, reading on while the others have room."""
        yield from buffer.take()
        while self._waiting() < MAX_BUFFER_BYTES and self._read():
            yield from buffer.take()
        yield from buffer.take_all()

    def _waiting(self) -> int:
        return sum(buffer.pending_bytes for buffer in self._buffers.values())

    def _read(self) -> bool:
        """Encode the next rows; False at the end."""
        pairs = list(islice(self._rows, CHUNK_ROWS))
        if not pairs:
            return False
        try:
            tables, rows = zip(*pairs, strict=True)
        except (TypeError, ValueError) as error:
            raise BatchError("the rows of a batch must be (table, row) pairs, and one is not") from error
        if len(set(map(id, tables))) == 1:
            groups: Iterable[tuple[Any, list[Any]]] = [(tables[0], list(rows))]
        else:
            groups = _grouped(tables, rows)
        for table, of_table in groups:
            buffer = self._recognise(table)
            if buffer is not None:
                buffer.add(of_table)
        return True


def _grouped(tables: Iterable[Any], rows: Iterable[Any]) -> Iterable[tuple[Any, list[Any]]]:
    """The rows of each table, in their order; tables are told apart by identity here."""
    groups: dict[int, tuple[Any, list[Any]]] = {}
    for table, row in zip(tables, rows, strict=True):
        groups.setdefault(id(table), (table, []))[1].append(row)
    return groups.values()


def recogniser(known: Mapping[sa.Table, TableBuffer]) -> Recognise:
    """Find the buffer of a row's table: by identity first, by schema and name after that; None for other tables."""
    by_identity = {id(table): buffer for table, buffer in known.items()}
    by_name = {(table.schema, table.name): buffer for table, buffer in known.items()}

    def recognise(table: Any) -> TableBuffer | None:
        buffer = by_identity.get(id(table))
        if buffer is not None:
            return buffer
        if not isinstance(table, sa.Table):
            raise BatchError(
                f"a row comes with a {type(table).__name__} in place of its table: expected (table, row) pairs "
                "with a sqlalchemy.Table"
            )
        return by_name.get((table.schema, table.name))

    return recognise
