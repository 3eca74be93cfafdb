"""The rows that everybody loads: the same for all, drawn from a seed, at next to no cost while the clock runs."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import cycle
from random import Random
from typing import Any

import sqlalchemy as sa

SEED = 20130101

_POOL = 997
"""Values of a column before they repeat. A prime: columns repeat out of step, and every step through keys meets all."""

_WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "isle", "juniper", "kelp", "lagoon")
_ODD = ("it's", 'a "quote"', "tab\there", "line\nend", "back\\slash", "Ελλάδα", "日本")
"""What a loader has to escape; one text in twenty has one of them."""

_EPOCH = dt.datetime(2020, 1, 1)


def _text(length: int) -> Callable[[Random], str]:
    def make(random: Random) -> str:
        words = [random.choice(_WORDS) for _ in range(1 + length // 6)]
        if random.random() < 0.05:
            words.insert(0, random.choice(_ODD))
        return " ".join(words)[:length].strip()

    return make


def _moment(random: Random) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=random.randrange(5 * 365 * 86_400_000_000))


def _money(random: Random) -> Decimal:
    return Decimal(random.randrange(-(10**9), 10**9)).scaleb(-2)


def _whole(bits: int) -> Callable[[Random], int]:
    return lambda random: random.randrange(-(2 ** (bits - 1)), 2 ** (bits - 1))


@dataclass(frozen=True)
class Field:
    """A column that is not the key: its type and how its values are made. `nulls` is the share of None."""

    name: str
    type: sa.types.TypeEngine[Any]
    make: Callable[[Random], Any]
    nulls: float = 0.0

    def pool(self) -> list[Any]:
        """The column's values, to be repeated."""
        random = Random(f"{SEED} {self.name}")
        return [None if random.random() < self.nulls else self.make(random) for _ in range(_POOL)]


@dataclass(frozen=True)
class Shape:
    """A kind of table: an integer key `id`, then these fields. The first of them is what an upsert changes."""

    name: str
    fields: tuple[Field, ...]

    @property
    def columns(self) -> list[str]:
        return ["id", *(field.name for field in self.fields)]

    def cycles(self, keys: range, change: bool) -> list[list[Any]]:
        """Each field's values for these keys, until they repeat. With `change`, every second key has a new text."""
        pools = [field.pool() for field in self.fields]
        found = [[pool[key % _POOL] for key in _first(keys, _POOL)] for pool in pools]
        if change:
            texts = [pools[0][key % _POOL] for key in _first(keys, 2 * _POOL)]
            found[0] = [f"{text} new" if number % 2 else text for number, text in enumerate(texts)]
        return found

    def rows(self, keys: range, change: bool = False) -> Iterator[tuple[Any, ...]]:
        """The rows of these keys as tuples, one at a time: 0.1 microseconds each, 0.4 where the table is wide."""
        return zip(keys, *map(cycle, self.cycles(keys, change)), strict=False)

    def lines(self, keys: range, change: bool = False) -> Iterator[str]:
        """The same rows in COPY's text format."""
        texts = [[_copy_text(value) for value in values] for values in self.cycles(keys, change)]
        return ("\t".join(cells) + "\n" for cells in zip(map(str, keys), *map(cycle, texts), strict=False))


def _first(keys: range, count: int) -> range:
    """As many keys in the same steps, even if there are fewer."""
    return range(keys.start, keys.start + count * keys.step, keys.step)


def _copy_text(value: Any) -> str:
    if value is None:
        return "\\N"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def arrow_table(shape: Shape, keys: range, types: Sequence[Any], change: bool = False) -> Any:
    """The same rows as a pyarrow.Table, one Arrow type a column, in record batches of 64k rows."""
    import pyarrow as pa

    count = len(keys)
    columns = [pa.array(keys, types[0])]
    for values, type_ in zip(shape.cycles(keys, change), types[1:], strict=True):
        columns.append(pa.concat_arrays([pa.array(values, type_)] * (count // len(values) + 1)).slice(0, count))
    whole = pa.Table.from_arrays(columns, shape.columns)
    return pa.Table.from_batches(whole.to_batches(max_chunksize=65_536), whole.schema)


def arrow_types(shape: Shape) -> list[Any]:
    """The Arrow types that a frame of such data usually has."""
    import pyarrow as pa

    known = {
        sa.SmallInteger: pa.int16(),
        sa.BigInteger: pa.int64(),
        sa.Double: pa.float64(),
        sa.Boolean: pa.bool_(),
        sa.String: pa.string(),
        sa.Text: pa.string(),
        sa.Date: pa.date32(),
    }
    found = [pa.int32()]
    for field in shape.fields:
        if isinstance(field.type, sa.Numeric) and not isinstance(field.type, sa.Double):
            found.append(pa.decimal128(field.type.precision, field.type.scale))
        elif isinstance(field.type, sa.DateTime):
            found.append(pa.timestamp("us", "UTC" if field.type.timezone else None))
        else:
            found.append(known[type(field.type)])
    return found


_NULLS = 0.1

NARROW = Shape(
    "narrow",
    (
        Field("label", sa.String(60), _text(24)),
        Field("moment", sa.DateTime(), _moment),
        Field("amount", sa.Numeric(12, 2), _money),
    ),
)
WIDE = Shape(
    "wide",
    (
        Field("label", sa.String(60), _text(24)),
        Field("moment", sa.DateTime(), _moment, _NULLS),
        Field("amount", sa.Numeric(12, 2), _money, _NULLS),
        Field("price", sa.Numeric(14, 4), lambda random: Decimal(random.randrange(10**10)).scaleb(-4), _NULLS),
        Field("visits", sa.BigInteger(), _whole(64), _NULLS),
        Field("bytes_sent", sa.BigInteger(), _whole(40), _NULLS),
        Field("grade", sa.SmallInteger(), _whole(16), _NULLS),
        Field("latitude", sa.Double(), lambda random: random.uniform(-90, 90), _NULLS),
        Field("longitude", sa.Double(), lambda random: random.uniform(-180, 180), _NULLS),
        Field("is_open", sa.Boolean(), lambda random: random.random() < 0.5, _NULLS),
        Field("is_paid", sa.Boolean(), lambda random: random.random() < 0.5, _NULLS),
        Field("city", sa.String(40), _text(12), _NULLS),
        Field("street", sa.String(80), _text(30), _NULLS),
        Field("code", sa.String(8), lambda random: f"{random.randrange(10**8):08}", _NULLS),
        Field("remark", sa.Text(), _text(100), _NULLS),
        Field("born", sa.Date(), lambda random: _moment(random).date(), _NULLS),
        Field("due", sa.Date(), lambda random: _moment(random).date(), _NULLS),
        Field("updated", sa.DateTime(), _moment, _NULLS),
        Field("seen", sa.DateTime(timezone=True), lambda random: _moment(random).replace(tzinfo=dt.timezone.utc), 0.1),
    ),
)
SHAPES = {shape.name: shape for shape in (NARROW, WIDE)}
