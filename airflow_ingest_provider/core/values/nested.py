"""Types made of other types: arrays, ranges, multiranges, composites and hstore."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values import literals
from airflow_ingest_provider.core.values.misfit import Convert, MisfitError, spelled, text
from airflow_ingest_provider.core.values.unwrap import unwrap

_RANGE_ATTRIBUTES = ("lower", "upper", "lower_inc", "upper_inc", "isempty")
"""What the ranges of psycopg, psycopg2 and SQLAlchemy have in common."""

_MAX_DIMENSIONS = 6
"""PostgreSQL's MAXDIM."""


def quoted(content: str) -> str:
    """The text of an array's element or a range's bound, whatever it holds."""
    return '"{}"'.format(content.replace("\\", "\\\\").replace('"', '\\"'))


READ_OTHERWISE = ("json", "jsonb", "bytea")
"""Types whose own str is a JSON string or nothing, and not what PostgreSQL reads inside of a text."""


def _judge(part: TypeShape, convert: Convert) -> Convert:
    """The conversion of a part that raises MisfitError where PostgreSQL would drop something of the part's text."""
    return str if part.name in READ_OTHERWISE else convert


def _judged(content: str, parts: Callable[[str], Sequence[str | None]], judges: Iterable[Convert]) -> str:
    """The text as it is, for PostgreSQL to take apart, if each of its parts may pass on its own."""
    for judge, part in zip(judges, parts(content), strict=False):  # of malformed ones there may be too many
        if part is not None:
            judge(part)
    return content


def delimiter(element: TypeShape) -> str:
    """Between the elements of an array: pg_type.typdelim, a comma for all of PostgreSQL's types but box."""
    return ";" if element.name == "box" else ","


def array(type_: TypeShape, element: Convert) -> Convert:
    """Lists, tuples and numpy arrays of values and None, nested for more dimensions.

    A list inside a json[] is a JSON array, a tuple inside an array of a composite type is a value, and
    so is everything but a plain list inside an array of multiranges.
    """
    assert type_.element is not None
    nests = _nesting(type_.element)
    between = delimiter(type_.element)
    name = spelled(type_)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return _judged(text(value), literals.array_items, repeat(judge))
        items = listed(value)
        if items is None:
            raise MisfitError(f"{name} holds arrays: pass a list")
        return literal(items)[0]

    def literal(items: Sequence[Any], depth: int = 1) -> tuple[str, tuple[int, ...]]:
        """The text and the lengths of the dimensions below."""
        if depth > _MAX_DIMENSIONS:
            raise MisfitError(f"{name} holds up to {_MAX_DIMENSIONS} dimensions: flatten it")
        plain = [item if item is None else unwrap(item) for item in items]
        inner = [listed(item) if nests(item) else None for item in plain]
        nested = [literal(item, depth + 1) for item in inner if item is not None]
        if not nested:
            return "{" + between.join(map(element_text, plain)) + "}", (len(items),)
        shapes = {shape for _, shape in nested}
        if len(nested) < len(items) or len(shapes) > 1:
            raise MisfitError(f"{name} holds rectangular arrays: make all of its inner lists equally long")
        (shape,) = shapes
        if 0 in shape:
            raise MisfitError(f"{name} would drop its empty inner lists: pass one empty list")
        return "{" + between.join(part for part, _ in nested) + "}", (len(items), *shape)

    def element_text(item: Any) -> str:
        if item is None:
            return "NULL"
        try:
            return quoted(element(item))
        except MisfitError as misfit:
            raise MisfitError(f"of an element ({type(item).__name__}): {misfit}") from None

    judge = _judge(type_.element, element_text)
    return convert


def _nesting(element: TypeShape) -> Any:
    """A function that says whether an item is one more dimension."""
    if element.name in ("json", "jsonb"):
        return lambda _: False
    if element.kind == "c":
        return lambda item: isinstance(item, list)
    if element.kind == "m":
        return lambda item: type(item) is list
    return lambda item: listed(item) is not None


def listed(value: Any) -> Sequence[Any] | None:
    """The items of a list, a tuple or a numpy array; None of anything else."""
    if isinstance(value, list | tuple):
        return value
    if not hasattr(value, "tolist") or isinstance(value, memoryview):
        return None
    # tolist() makes integers of datetime64[ns]; the scalars are unwrapped one by one.
    of_times = getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M")
    items = list(value) if of_times and value.ndim else value.tolist()
    return items if isinstance(items, list) else None


def range_(type_: TypeShape, bound: Convert) -> Convert:
    """psycopg's, psycopg2's and SQLAlchemy's ranges; the bounds by the rules of their type."""
    name = spelled(type_)

    def bound_text(value: Any) -> str:
        try:
            return "" if value is None else quoted(bound(value))
        except MisfitError as misfit:
            raise MisfitError(f"of a bound ({type(value).__name__}): {misfit}") from None

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return _judged(text(value), literals.range_bounds, repeat(bound_text))
        if not all(hasattr(value, attribute) for attribute in _RANGE_ATTRIBUTES):
            raise MisfitError(f"{name} holds ranges: pass a psycopg.types.range.Range or sqlalchemy's Range")
        if value.isempty:
            return "empty"
        opening, closing = "[" if value.lower_inc else "(", "]" if value.upper_inc else ")"
        return f"{opening}{bound_text(value.lower)},{bound_text(value.upper)}{closing}"

    return convert


def multirange(type_: TypeShape, element: Convert) -> Convert:
    """psycopg's and SQLAlchemy's multiranges, and lists of ranges; `element` converts a range, or a bound."""
    assert type_.element is not None
    name = spelled(type_)
    one = element if type_.element.kind == "r" else range_(type_, element)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return _judged(text(value), literals.ranges, repeat(one))
        if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray | memoryview):
            raise MisfitError(f"{name} holds sets of ranges: pass a list of ranges")
        if any(isinstance(item, str) for item in value):
            raise MisfitError(f"{name} holds sets of ranges: pass a list of ranges, not of str")
        return "{" + ",".join(map(one, value)) + "}"

    return convert


def composite(type_: TypeShape, fields: Sequence[Convert]) -> Convert:
    """Tuples of as many values as the type has fields, each by the rules of its field's type."""
    name = spelled(type_)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return _judged(text(value), literals.composite_fields, judges)
        if not isinstance(value, tuple):
            raise MisfitError(f"{name} is a composite type: pass a tuple of its fields")
        if len(value) != len(fields):
            raise MisfitError(f"it has {len(value)} fields and {name} has {len(fields)}: pass one for each")
        return "(" + ",".join(field_text(item) for field_text, item in zip(texts, value, strict=True)) + ")"

    texts = [_field(field, number) for number, field in enumerate(fields, 1)]
    judges = [_judge(of, field_text) for of, field_text in zip(type_.fields, texts, strict=True)]
    return convert


def _field(field: Convert, number: int) -> Convert:
    def field_text(value: Any) -> str:
        try:
            return "" if value is None else quoted(field(value))
        except MisfitError as misfit:
            raise MisfitError(f"of field {number} ({type(value).__name__}): {misfit}") from None

    return field_text


def hstore(value: Any) -> str:
    """A dict of str to str or None."""
    if isinstance(value, str):
        return text(value)
    if not isinstance(value, dict):
        raise MisfitError("hstore holds texts by key: pass a dict of str to str or None")
    return ",".join(f"{_hstore_text(key)}=>{_hstore_text(item, 'NULL')}" for key, item in value.items())


def _hstore_text(value: Any, none: str | None = None) -> str:
    if value is None and none is not None:
        return none
    if not isinstance(value, str):
        raise MisfitError("hstore holds texts: pass a dict of str to str or None")
    return quoted(text(value))
