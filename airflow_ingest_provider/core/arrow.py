"""Arrow data -> pieces that COPY takes: record batches for its binary format, or rows for its text format.

A record batch whose columns all go into the table's types without any change of a value becomes binary, through pgpq.
Any other becomes rows of Python values, for the encoder that stores each exactly or says which row does not fit:
so the same data is stored alike either way, and the traps of a cast (a zone shifted away, 3.7 cut to 3, decimals
rounded, text of spaces cut off) are not fallen into. Imports pyarrow, so import it only where Arrow data has come.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pgpq
import pyarrow as pa
import pyarrow.compute as pc
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb

from airflow_ingest_provider.core.arrow_rows import as_rows, extension
from airflow_ingest_provider.core.arrow_source import NO_ARROW, Begun, begin, refusal
from airflow_ingest_provider.core.encode import ColumnFormat, other_names
from airflow_ingest_provider.core.errors import RowError
from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.sizes import row_size
from airflow_ingest_provider.core.values.misfit import VARHDRSZ, numeric_limits

PIECE_ROWS = 16_384
PIECE_BYTES = 8 << 20
"""Rows cast and encoded at once: some megabytes, however large the source's record batches are, and however wide."""

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls an index without a name, which is no column of anybody's."""

Piece = Any
"""A pyarrow.RecordBatch in the types of the table's columns, or a list of rows."""


def begun(source: Any, rows: int) -> tuple[Any, Any]:
    """The object as one that has begun, once its first rows have arrived: sources start late.

    With it comes an object of these rows, so many at most; None where there are none. What is no table of columns is
    given back as it is, for `pieces` to refuse.
    """
    try:
        opened = begin(source)
    except NO_ARROW:
        return source, None
    batches = iter(opened.batches)
    first = next((batch for batch in batches if batch.num_rows), None)
    if first is None:
        return replace(opened, batches=[]), None
    return replace(opened, batches=chain([first], batches)), replace(opened, batches=[first.slice(0, rows)])


def pieces(source: Any, table: str, columns: Sequence[ColumnFormat], first_row: int) -> Iterator[Piece]:
    """The object's rows, in their order.

    Raises RowError where its columns are not the table's, by name, or hold what Python has no value for.
    """
    try:
        opened = begin(source)
    except NO_ARROW:
        # Without the error, which quotes a value.
        raise refusal(source, table, first_row) from None
    names = [name for name in opened.schema.names if not _PANDAS_INDEX.fullmatch(name)]
    _check_names(names, opened, table, columns, first_row)
    objects = [opened.objects.get(column.name) for column in columns]
    casts = [
        _cast(column, opened.schema.field(column.name).type) if held is None else None
        for column, held in zip(columns, objects, strict=True)
    ]
    for batch in opened.batches:
        size = batch.nbytes + _size_of_objects(opened.objects.values(), batch.num_rows)
        rows = max(1, min(PIECE_ROWS, PIECE_BYTES * batch.num_rows // max(size, 1)))
        for start in range(0, batch.num_rows, rows):
            piece = batch.slice(start, rows)
            given = [
                piece.column(column.name) if held is None else held[piece.column(column.name).to_numpy()].tolist()
                for column, held in zip(columns, objects, strict=True)
            ]
            yield _as_binary(given, columns, casts) or as_rows(given, table, columns, first_row)
            first_row += piece.num_rows


def is_binary(piece: Piece) -> bool:
    """Whether the piece is for COPY's binary format."""
    return isinstance(piece, pa.RecordBatch)


def binary(batches: Iterable[Any], columns: Sequence[ColumnFormat]) -> Iterator[bytes]:
    """The bytes of one COPY ... (FORMAT binary), header and trailer included."""
    encoder = None
    for batch in batches:
        if encoder is None:
            encoder = _encoder(batch.schema, columns)
            yield encoder.write_header()
        yield encoder.write_batch(batch)
    if encoder is not None:
        yield encoder.finish()


_LOOKED_AT = 50
"""Objects of a column, for the size of all."""


def _size_of_objects(objects: Iterable[Any], rows: int) -> int:
    """About how many bytes the objects of so many rows take."""
    some = [values[:: max(1, len(values) // _LOOKED_AT)].tolist() for values in objects]
    return sum(rows * row_size(values) // max(1, len(values)) for values in some)


def _check_names(
    names: Sequence[str], given: Begun, table: str, columns: Sequence[ColumnFormat], first_row: int
) -> None:
    expected = [column.name for column in columns]
    found = other_names(expected, names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found.append(f"has twice {', '.join(map(repr, twice))}")
    if found:
        in_index = [name for name in expected if name in given.index and name not in names]
        remedy = f"; {', '.join(map(repr, in_index))} is in its index: pass frame.reset_index()" if in_index else ""
        raise RowError(
            f"the columns are matched by name, and the Arrow data {'; '.join(found)}: expected one column for each of "
            f"{', '.join(map(repr, expected))}{remedy}",
            table=table,
            row_number=first_row,
            value_type=given.kind,
        )


def _encoder(schema: Any, columns: Sequence[ColumnFormat]) -> Any:
    encoders = {
        field.name: StringEncoderBuilder.new_with_output(field, Jsonb())
        if column.type.name == "jsonb"
        else pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
        for field, column in zip(schema, columns, strict=True)
    }
    return pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(schema, encoders)


# Into the types of the table


@dataclass(frozen=True)
class _Cast:
    """The Arrow types to go through, each of which holds the value or fails.

    `longest` is the longest text that fits, `earliest` the first day or microsecond, as Arrow counts them.
    """

    types: tuple[Any, ...]
    longest: int | None = None
    earliest: int | None = None

    def __call__(self, column: Any) -> Any:
        """The column, or None where a value would change."""
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        try:
            for type_ in self.types:
                column = column if column.type == type_ else column.cast(type_)
        except pa.ArrowException:
            return None
        return column if self._fits(column) else None

    def _fits(self, column: Any) -> bool:
        if self.longest is not None:
            longest = pc.max(pc.utf8_length(column)).as_py()
            return longest is None or bool(longest <= self.longest)
        if self.earliest is not None:
            values = column.flatten() if _is_list(column.type) else column
            earliest = pc.min(values.view(pa.int32() if pa.types.is_date32(values.type) else pa.int64())).as_py()
            return earliest is None or bool(earliest >= self.earliest)
        return True


def _as_binary(given: Sequence[Any], columns: Sequence[ColumnFormat], casts: Sequence[_Cast | None]) -> Any | None:
    """The record batch for the binary format, None where there is none of the same values."""
    if None in casts:
        return None
    done = []
    for cast, column in zip(casts, given, strict=True):
        assert cast is not None
        as_cast = cast(column)
        if as_cast is None:
            return None
        done.append(as_cast)
    return pa.record_batch(done, names=[column.name for column in columns])


def _cast(column: ColumnFormat, given: Any) -> _Cast | None:
    """How a column of an Arrow type goes into the table's column; None where only Python values will do."""
    if column.prepare is not None:
        return None
    if pa.types.is_dictionary(given):
        given = given.value_type
    if column.type.is_array:
        return _array_cast(column.type, given)
    if column.type.kind == "e":
        return _Cast((pa.string(),)) if _is_text(given) else None
    choose = _CASTS.get(column.type.name) if column.type.kind == "b" else None
    return choose(column.type, given) if choose else None


def _array_cast(type_: TypeShape, given: Any) -> _Cast | None:
    """Lists of those types for which pgpq writes PostgreSQL's own OID of the elements."""
    element = type_.element
    if element is None or element.name not in _ELEMENTS or not _is_list(given):
        return None
    inner = _CASTS[element.name](element, given.value_type)
    return _Cast((pa.list_(inner.types[-1]),), earliest=inner.earliest) if inner and len(inner.types) == 1 else None


_ELEMENTS = frozenset({"bool", "int2", "int4", "int8", "float4", "float8", "text", "date"})


def _is_list(type_: Any) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _is_text(type_: Any) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _is_bytes(type_: Any) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_))


def _integer(type_: Any) -> Callable[[TypeShape, Any], _Cast | None]:
    return lambda _, given: _Cast((type_,)) if pa.types.is_integer(given) else None


def _real(_: TypeShape, given: Any) -> _Cast | None:
    narrow = pa.types.is_float16(given) or pa.types.is_float32(given)
    return _Cast((pa.float32(),)) if narrow else None


def _double(_: TypeShape, given: Any) -> _Cast | None:
    return _Cast((pa.float64(),)) if pa.types.is_floating(given) else None


def _boolean(_: TypeShape, given: Any) -> _Cast | None:
    return _Cast((pa.bool_(),)) if pa.types.is_boolean(given) else None


def _characters(type_: TypeShape, given: Any) -> _Cast | None:
    longest = type_.modifier - VARHDRSZ if type_.modifier >= 0 else None
    return _Cast((pa.string(),), longest) if _is_text(given) else None


def _bytea(_: TypeShape, given: Any) -> _Cast | None:
    return _Cast((pa.binary(),)) if _is_bytes(given) else None


def _uuid(_: TypeShape, given: Any) -> _Cast | None:
    return _Cast((pa.binary(16),)) if _is_uuid(given) else None


def _is_uuid(type_: Any) -> bool:
    return extension(type_) == "arrow.uuid" or (pa.types.is_fixed_size_binary(type_) and type_.byte_width == 16)


def _json(_: TypeShape, given: Any) -> _Cast | None:
    """Text that is marked as JSON. Other text is a JSON string, as it is in a row."""
    return _Cast((pa.string(),)) if extension(given) == "arrow.json" else None


_EARLIEST_DAY = -2_440_588
"""PostgreSQL's, the first of the Julian days. For what is earlier pgpq has no form, or that of -infinity."""

_DAY = 86_400_000_000


def _date(_: TypeShape, given: Any) -> _Cast | None:
    return _Cast((pa.date32(),), earliest=_EARLIEST_DAY) if pa.types.is_date32(given) else None


_UNITS = {-1: "us", 6: "us", 3: "ms", 0: "s"}
"""The unit that holds what PostgreSQL keeps at a precision; it rounds what is finer."""


def _time(type_: TypeShape, given: Any) -> _Cast | None:
    if _UNITS.get(type_.modifier) != "us" or not pa.types.is_time(given):
        return None
    return _Cast((pa.time64("us"),))


def _timestamp(type_: TypeShape, given: Any) -> _Cast | None:
    unit = _UNITS.get(type_.modifier)
    if unit is None or not pa.types.is_timestamp(given) or (given.tz is not None) != (type_.name == "timestamptz"):
        return None
    types = (pa.timestamp(unit, given.tz), pa.timestamp("us", given.tz))
    return _Cast(types, earliest=_EARLIEST_DAY * _DAY)


_MOST_DIGITS = 38
"""Of an Arrow decimal128, which is what pgpq encodes."""


def _numeric(type_: TypeShape, given: Any) -> _Cast | None:
    digits, scale = numeric_limits(type_.modifier) if type_.modifier >= 0 else (_MOST_DIGITS, None)
    if digits > _MOST_DIGITS or (scale is not None and not 0 <= scale <= digits):
        return None
    if pa.types.is_integer(given):
        whole = pa.decimal128(20, 0)
        return _Cast((whole,) if scale is None else (whole, pa.decimal128(digits, scale)))
    if pa.types.is_decimal(given) and given.scale >= 0:
        kept = given.scale if scale is None else scale
        return _Cast((pa.decimal128(digits, kept),)) if kept <= digits else None
    return None


_CASTS: dict[str, Callable[[TypeShape, Any], _Cast | None]] = {
    "bool": _boolean,
    "int2": _integer(pa.int16()),
    "int4": _integer(pa.int32()),
    "int8": _integer(pa.int64()),
    "float4": _real,
    "float8": _double,
    "numeric": _numeric,
    **dict.fromkeys(("text", "varchar", "bpchar"), _characters),
    "bytea": _bytea,
    "uuid": _uuid,
    **dict.fromkeys(("json", "jsonb"), _json),
    "date": _date,
    "time": _time,
    **dict.fromkeys(("timestamp", "timestamptz"), _timestamp),
}
