"""Python rows -> the bytes of PostgreSQL's COPY text format, a column at a time.

A chunk of rows is transposed. A column is converted as a whole where that is proven exact
(`values.columns`); every other column goes value by value (`values.converter`), which is the truth about
what fits. Both store the same values, with orjson and without.

The COPY has to say `FORMAT text, ENCODING 'UTF8'` and leave DELIMITER and NULL at their defaults.
https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from types import NoneType
from typing import Any, TypeGuard, cast

from airflow_ingest_provider.core.errors import RowError
from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values import MisfitError, converter, is_numpy_type, spelled, unwrap
from airflow_ingest_provider.core.values.columns import ANY_TYPE, Texts, bulks

CHUNK_ROWS = 500
"""Rows a call: 0.59 us a narrow row at 500; 0.68 at 100 (calls a column), 0.67 at 5000 (out of the cache)."""

_NULL = "\\N"

_NO_ROW = "a row has to be a tuple of values in the order of the table's columns, or a dict by their names"

_NO_FRAMES = {
    "LazyFrame": "it holds no rows yet: pass what its collect() gives",
    "DuckDBPyConnection": "it is a connection, as execute() gives it: pass what its sql() or to_arrow_table() gives",
}
"""What to do with objects that are taken for Arrow data, by their class."""

_RECORDS = {
    "model_dump": "row.model_dump()",
    "__mapper__": "a row of select(table), or a dict of its attributes by the columns' names",
    "__dataclass_fields__": "dataclasses.asdict(row)",
    "__attrs_attrs__": "attrs.asdict(row)",
    "__struct_fields__": "msgspec.structs.asdict(row)",
    "keys": "dict(row)",
}
"""What to pass in place of an object that holds a row, by what its class has. The first counts: a class of SQLModel has
several. They are pydantic's, SQLAlchemy's mapped classes, dataclasses, attrs', msgspec's and asyncpg's."""


@dataclass(frozen=True)
class ColumnFormat:
    """What a column takes.

    `prepare` is applied to each value, None too, and its result is encoded: the bind processor of a SQLAlchemy
    type that converts in Python. For a json or jsonb column it must give a JSON value or psycopg's
    Json or Jsonb, since a str would become a JSON string. `serialize_json` is the engine's json_serializer,
    where it is not the default.
    """

    name: str
    type: TypeShape
    prepare: Callable[[Any], Any] | None = None
    serialize_json: Callable[[Any], str] | None = None


class RowEncoder:
    """Encodes rows of one table; `columns` are those that a row holds values for, in the row's order."""

    def __init__(self, table: str, columns: Sequence[ColumnFormat]) -> None:
        self._table = table
        self._names = tuple(column.name for column in columns)
        self._columns = [_Column(table, column) for column in columns]
        # Each field and what comes after it. Filling the fields in and joining all at once is a third faster
        # than a join of each row and one of all rows.
        self._blank = [*(["", "\t"] * len(columns))[:-1], "\n"]

    def encode(self, rows: Sequence[Sequence[Any] | Mapping[str, Any]], first_row_number: int = 1) -> bytes:
        """The rows as COPY text, each with its newline; None is NULL.

        Any number of rows will do; `CHUNK_ROWS` at a time is fastest to hand over. A row is a sequence of as many
        values as there are columns, in their order, or a mapping with a value for each column's name.

        Raises RowError for the first column with a value that it cannot hold exactly, and for other rows.
        """
        starts = range(0, len(rows), CHUNK_ROWS)
        return b"".join(
            self._encode_chunk(rows[start : start + CHUNK_ROWS], first_row_number + start) for start in starts
        )

    def _encode_chunk(self, rows: Sequence[Any], first_row_number: int) -> bytes:
        columns = self._transposed(rows, first_row_number)
        parts = self._blank * len(rows)
        for position, (column, values) in enumerate(zip(self._columns, columns, strict=True)):
            parts[2 * position :: len(self._blank)] = column.fields(values, first_row_number)
        return "".join(parts).encode("latin-1")

    def _transposed(self, rows: Sequence[Any], first_row_number: int) -> Sequence[Sequence[Any]]:
        """The columns; RowError for the first row that does not have them."""
        kinds = set(map(type, rows))
        if kinds == {dict}:
            if set(map(len, rows)) == {len(self._names)}:
                with suppress(KeyError):
                    return [list(map(itemgetter(name), rows)) for name in self._names]
        elif kinds <= {tuple, list} or self._are_in_order(rows):
            with suppress(ValueError):
                columns = list(zip(*rows, strict=True))
                if len(columns) == len(self._names):
                    return columns
        return list(zip(*map(self._values, rows, count(first_row_number)), strict=True))

    def _are_in_order(self, rows: Sequence[Any]) -> bool:
        """Whether the rows are sequences that may be taken in their order."""
        of_types = dict(zip(map(type, rows), rows, strict=True))
        looked_at: Collection[Any] = of_types.values()
        if any(map(_names_its_values, of_types)):
            # Rows of one of SQLAlchemy's results share this: to ask each for its fields would take four times as long.
            looked_at = {id(getattr(row, "_parent", row)): row for row in rows}.values()
        return all(map(_is_sequence, of_types.values())) and not any(map(self._other_order, looked_at))

    def _values(self, row: Any, number: int) -> Sequence[Any]:
        """A row's values in the order of the columns; RowError where they cannot be told."""
        if isinstance(row, Mapping):
            if len(row) == len(self._names) and all(map(row.__contains__, self._names)):
                return [row[name] for name in self._names]
            found = " and ".join(other_names(self._names, row))
            problem = f"its values are matched by name, and it {found}: pass one for each column"
        elif not _is_sequence(row):
            problem = _NO_FRAMES.get(type(row).__name__) or _NO_ROW + _instead(type(row))
        elif len(row) != len(self._names):
            problem = f"it has {len(row)} values and the table takes {len(self._names)}: pass one for each column"
        else:
            problem = self._other_order(row)
            if not problem:
                return row
        raise RowError(problem, table=self._table, row_number=number, value_type=type(row).__name__)

    def _other_order(self, row: Sequence[Any]) -> str:
        """What is wrong with the order of a row's named fields; empty where they are called otherwise altogether."""
        fields = getattr(row, "_fields", None)
        if fields is None:
            fields = row.keys() if hasattr(row, "keys") else self._names
        if (fields := tuple(fields)) == self._names or set(fields) != set(self._names):
            return ""
        return (
            f"its fields are {', '.join(fields)}, and the table's columns {', '.join(self._names)}: values are taken "
            "in their order, so pass them in that of the columns, or a dict, whose values are matched by name"
        )


def other_names(expected: Collection[str], names: Collection[Any]) -> list[str]:
    """What names lack of the expected ones, and what they have beyond those, as parts of a sentence."""
    missing = [name for name in expected if name not in names]
    beyond = [name for name in names if name not in expected]
    found = (("lacks", missing), ("has beyond them", beyond))
    return [f"{what} {', '.join(map(repr, which))}" for what, which in found if which]


def _instead(type_: type) -> str:
    """What to pass in place of an object of the type, where it is known to hold a row."""
    return next((f": pass {pass_}" for has, pass_ in _RECORDS.items() if hasattr(type_, has)), "")


def _is_sequence(row: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(row, Sequence) and not isinstance(row, str | bytes | bytearray | memoryview)


def _names_its_values(type_: type) -> bool:
    """Whether rows of the type differ in their fields, as those of sqlite3, psycopg2's DictCursor and SQLAlchemy do."""
    return hasattr(type_, "keys") or not isinstance(getattr(type_, "_fields", ()), tuple)


class _Column:
    """Turns the values of one column into COPY's fields."""

    def __init__(self, table: str, column: ColumnFormat) -> None:
        self._table = table
        self._name = column.name
        self._type = column.type
        self._prepare = column.prepare
        self._convert = converter(column.type, column.serialize_json)
        self._bulks = bulks(column.type, column.serialize_json)

    def fields(self, values: Sequence[Any], first_row_number: int) -> Sequence[str]:
        """The fields, escaped, a character for each byte of UTF-8; RowError for the first value that does not fit."""
        prepared = self._prepared(values, first_row_number)
        fields = self._as_a_whole(prepared)
        return self._one_by_one(prepared, values, first_row_number) if fields is None else fields

    def _prepared(self, values: Sequence[Any], first_row_number: int) -> Sequence[Any]:
        if self._prepare is None:
            return values
        prepared: list[Any] = []
        try:
            for value in values:
                prepared.append(self._prepare(value))  # noqa: PERF401 - counts for the error
        except Exception as error:  # noqa: BLE001 - whatever a type's own code raises; its message may hold the value
            number = len(prepared)
            problem = f"its type's own conversion raised {type(error).__name__}: mend the value or the type"
            raise self._error(problem, values[number], first_row_number + number) from None
        return prepared

    def _as_a_whole(self, values: Sequence[Any]) -> Sequence[str] | None:
        """The fields, or None where it takes a look at each value."""
        types = set(map(type, values))
        null = _NULL if NoneType in types else ""
        types.discard(NoneType)
        if not types:
            return [_NULL] * len(values)
        only = next(iter(types)) if len(types) == 1 else ANY_TYPE
        bulk = self._bulks.get(only) or self._bulks.get(ANY_TYPE)
        if bulk is None:
            return self._unwrapped(values) if any(map(is_numpy_type, types)) else None
        texts = bulk.texts(values, null)
        if texts is None or not bulk.plain:
            return _escaped(texts, null) if texts is not None else None
        return cast("Sequence[str]", texts)

    def _unwrapped(self, values: Sequence[Any]) -> Sequence[str] | None:
        try:
            return self._as_a_whole([None if value is None else unwrap(value) for value in values])
        except MisfitError:
            return None

    def _one_by_one(self, values: Sequence[Any], given: Sequence[Any], first_row_number: int) -> Sequence[str]:
        texts: list[str | None] = []
        try:
            for value in values:
                texts.append(None if value is None else self._convert(value))  # noqa: PERF401 - counts for the error
        except Exception as error:  # noqa: BLE001 - whatever the code of a value's own class raises
            number = len(texts)
            # Without a cause: a driver's or serializer's own message may hold the value.
            raise self._error(self._problem(error), given[number], first_row_number + number) from None
        fields = _escaped(texts, _NULL)
        assert fields is not None, "a converter let through what UTF-8 or PostgreSQL cannot hold"
        return fields

    def _problem(self, error: Exception) -> str:
        if isinstance(error, MisfitError):
            return str(error)
        return (
            f"reading it for {spelled(self._type)} raised {type(error).__name__}: "
            "pass a value of one of Python's own types, or a str that PostgreSQL reads"
        )

    def _error(self, problem: str, value: Any, row_number: int) -> RowError:
        kind = type(value).__name__
        return RowError(problem, table=self._table, column=self._name, row_number=row_number, value_type=kind)


def _escaped(texts: Texts, null: str) -> Sequence[str] | None:
    """The texts as COPY's fields, NULL for None; None if one of them holds a NUL or half of a surrogate pair.

    `null` is "" where there is no None among them. Each byte of UTF-8 is one character of a field: CPython
    joins and splits such texts faster than those with wide characters.
    """
    fields: Sequence[Any] = [_NULL if text is None else text for text in texts] if null else texts
    # PostgreSQL stores no NUL, so it can stand between the values; its count proves that it only does that.
    joined = "\0".join(fields)
    if joined.count("\0") != len(fields) - 1:
        return None
    backslashes = joined.count("\\") if "\\" in joined else 0
    is_clean = backslashes == (texts.count(None) if null else 0) and not any(map(joined.__contains__, "\t\n\r"))
    if is_clean and joined.isascii():
        return fields
    if null:
        joined = "\0".join([text or "" for text in texts])
    try:
        joined = joined.encode().decode("latin-1")
    except UnicodeEncodeError:
        return None
    joined = joined.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    parts = joined.split("\0")
    if not null:
        return parts
    return [_NULL if text is None else part for text, part in zip(texts, parts, strict=True)]
