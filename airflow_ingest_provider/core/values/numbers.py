"""Numbers: no digit is lost, whatever Python type holds them."""

import math
import re
import struct
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values.misfit import Convert, MisfitError, numeric_limits, spelled, text

INTEGERS = {
    "int2": (-(2**15), 2**15 - 1),
    "int4": (-(2**31), 2**31 - 1),
    "int8": (-(2**63), 2**63 - 1),
    "oid": (0, 2**32 - 1),
}
"""The smallest and largest value of each integer type."""


EXACT_DIGITS = {"float4": 7, "float8": 15}
"""Digits of whole numbers that each type holds exactly, whatever they are."""


def integer(type_: TypeShape) -> Convert:
    """int2, int4, int8, oid: whole numbers in range, whatever Python type holds them."""
    low, high = INTEGERS[type_.name]
    name = spelled(type_)

    def convert(value: Any) -> str:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise MisfitError(f"{name} holds whole numbers: pass an int")
        if not (value.is_finite() if isinstance(value, Decimal) else isinstance(value, int) or math.isfinite(value)):
            raise MisfitError(f"{name} holds whole numbers, not NaN nor Infinity: pass None")
        if not low <= value <= high:
            raise MisfitError(f"it is out of range: {name} holds {low} to {high}: declare a wider type")
        if value != int(value):
            raise MisfitError(f"{name} would round its fraction away: round it in the source, or declare numeric")
        return str(int(value))

    return convert


def numeric(type_: TypeShape) -> Convert:
    """numeric, numeric(p,s): no decimal place is lost. Too many digits in front are PostgreSQL's error."""
    name = spelled(type_)
    scale = numeric_limits(type_.modifier)[1] if type_.modifier >= 0 else None

    def convert(value: Any) -> str:
        if isinstance(value, str):
            number, content = _number_or_none(text(value)), text(value)
        else:
            number = _decimal(value, name)
            content = str(number)
            _check_special(number, content, name, scale)
        if scale is not None and number is not None and number.is_finite() and _places(number) > scale:
            raise MisfitError(f"{name} would round it to {scale} decimal places: round it, or declare a larger scale")
        return content

    return convert


def _decimal(value: Any, name: str) -> Decimal:
    """The number as a plain Decimal, exactly; a float counts as what its repr shows."""
    if isinstance(value, Decimal):
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MisfitError(f"{name} holds numbers: pass a Decimal, int or float")
    return Decimal(value) if isinstance(value, int) else Decimal(float.__repr__(value))


def _check_special(number: Decimal, content: str, name: str, scale: int | None) -> None:
    if number.is_nan() and content != "NaN":
        raise MisfitError(f"{name} holds one NaN, without a sign, a payload or a signal: pass Decimal('NaN')")
    if number.is_infinite() and scale is not None:
        raise MisfitError(f"{name} cannot hold Infinity: pass None, or declare numeric without precision")


def _number_or_none(content: str) -> Decimal | None:
    """The number that a text holds; None for what only PostgreSQL reads, or refuses."""
    try:
        return Decimal(content)
    except InvalidOperation:
        return None


def _places(number: Decimal) -> float:
    """Decimal places without trailing zeros, negative for 100 (-2). normalize() would round."""
    if not number:
        return -math.inf
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    zeros = 0
    while digits[-1 - zeros] == 0:
        zeros += 1
    return -exponent - zeros


def floating(type_: TypeShape) -> Convert:
    """float4, float8: a float as it is; an int or a Decimal if that is the number, or its shortest form.

    A text with a decimal point or an exponent stands for the number that comes closest, as it does in Python.
    """
    name = spelled(type_)
    whole = re.compile(rf"\s*[-+]?[0-9]{{{EXACT_DIGITS[type_.name] + 1},}}\s*")
    single = type_.name == "float4"

    def convert(value: Any) -> str:
        if isinstance(value, str):
            content = text(value)
            if whole.fullmatch(content):
                convert(Decimal(content))
            return content
        if isinstance(value, float):
            return float.__repr__(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise MisfitError(f"{name} holds floats: pass a float")
        if isinstance(value, Decimal) and not value.is_finite():
            content = Decimal.__str__(value)
            _check_special(value, content, name, None)
            return content
        nearest = _nearest(value, single)
        shown = _shortest(nearest, single)
        if value != nearest and (isinstance(value, int) or value != Decimal(shown)):
            raise MisfitError(f"{name} cannot hold all of its digits: pass a float, or declare numeric")
        return shown

    return convert


def _nearest(value: int | Decimal, single: bool) -> float:
    """The float that comes closest; Infinity where the value is too large."""
    try:
        return _rounded(float(value)) if single else float(value)
    except OverflowError:
        return math.inf


def _shortest(number: float, single: bool) -> str:
    """The fewest digits that read back as the number."""
    if not single:
        return repr(number)
    # 9 digits tell any two numbers of single precision apart.
    forms = (f"{number:.{digits}g}" for digits in range(1, 10))
    return next(form for form in forms if _rounded(float(form)) == number)


def _rounded(number: float) -> float:
    """The nearest number of single precision."""
    return float(struct.unpack("=f", struct.pack("=f", number))[0])


def money(value: Any) -> str:
    """money: what a fraction looks like depends on lc_monetary, so whole numbers and texts."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MisfitError("how money reads a fraction depends on lc_monetary: pass a str, or declare numeric")
    return str(int(value))
