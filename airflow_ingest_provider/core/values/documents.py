"""JSON: what json.dumps makes of the value, with orjson or without."""

import json
import re
from collections.abc import Callable
from typing import Any

from psycopg.types.json import Json, Jsonb
from sqlalchemy import JSON

from airflow_ingest_provider.core.shape import TypeShape
from airflow_ingest_provider.core.values import render
from airflow_ingest_provider.core.values.misfit import Convert, MisfitError, text
from airflow_ingest_provider.core.values.unwrap import is_numpy_array, is_numpy_type, unwrap


def _plain(value: Any) -> Any:
    """What numpy holds, as columns of lists in pandas do; TypeError for other things that JSON has no form for."""
    if is_numpy_array(value) and value.dtype.kind not in "mMV":  # of nanoseconds it would give integers
        return value.tolist()
    if is_numpy_type(type(value)):
        return unwrap(value)
    raise TypeError


# Compact, as orjson writes it.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode

_EXPONENT = re.compile(r"\de[-+]\d")
_STRING_OR_EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"|-?[\d.]+e[-+]\d+')

_MARKER = json.dumps(JSON.NULL, default=str)
"""What JSON.NULL is written as inside of a value: it is an int with a name."""


def dump_json(value: Any) -> str:
    """The value as a column of such values is written as a whole, to the letter: the type json keeps its text."""
    content = _encode(value)
    return _STRING_OR_EXPONENT.sub(_respelled, content) if _EXPONENT.search(content) else content


def _respelled(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else render.json_float(found[0])


def json_value(type_: TypeShape, serialize: Callable[[Any], str] | None = None) -> Convert:
    """json, jsonb: any JSON value, a str too, which becomes a JSON string. `JSON.NULL` is JSON's null."""

    def convert(value: Any) -> str:
        if isinstance(value, Json | Jsonb):
            dumps, value = value.dumps or serialize, value.obj
        else:
            dumps = serialize
        if value is JSON.NULL:
            value = None
        content = _dumped(value) if dumps is None else _serialized(value, dumps)
        if _MARKER in content and _holds_marker(value):
            raise MisfitError("it holds JSON.NULL, which stands for a whole value: put None inside of one")
        if type_.name == "jsonb" and holds_nul(content):
            raise MisfitError("jsonb cannot hold the character \\u0000: take it out in the source, or declare json")
        return text(content)

    return convert


def _dumped(value: Any) -> str:
    try:
        content = dump_json(value)
        if _keys_are_texts(value):
            return content
        json.loads(content, object_pairs_hook=_distinct)
    except TypeError:
        raise MisfitError(
            "JSON has no form for something in it: pass dict, list, str, int, float, bool and None only, "
            "or set the engine's json_serializer"
        ) from None
    except ValueError:
        raise MisfitError(
            "JSON cannot hold NaN, Infinity, two keys that read the same, a number of thousands of digits or "
            "a value that contains itself: take it out in the source"
        ) from None
    except RecursionError:
        raise MisfitError("it is nested too deeply for JSON: flatten it") from None
    return content


def _serialized(value: Any, serialize: Callable[[Any], str | bytes]) -> str:
    try:
        content = serialize(value)
    except Exception as error:  # noqa: BLE001 - whatever a user's function raises; its message may hold the value
        raise MisfitError(f"the json_serializer raised {type(error).__name__}") from None
    if isinstance(content, bytes):
        return content.decode(errors="surrogateescape")
    if not isinstance(content, str):
        raise MisfitError(f"the json_serializer gave {type(content).__name__}: it must give a str")
    return content


def holds_nul(content: str) -> bool:
    """Whether a JSON text escapes the NUL character; an escaped backslash in front of "u0000" does not."""
    return "\\u0000" in content and "\\u0000" in content.replace("\\\\", "")


def _keys_are_texts(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_keys_are_texts, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_keys_are_texts, value))
    return not is_numpy_array(value)


def _holds_marker(value: Any) -> bool:
    """Whether JSON.NULL is somewhere inside."""
    if isinstance(value, dict):
        return any(map(_holds_marker, value)) or any(map(_holds_marker, value.values()))
    return any(map(_holds_marker, value)) if isinstance(value, list | tuple) else value is JSON.NULL


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    """Refuse {1: ..., "1": ...}, of which jsonb would keep one."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("two keys read the same")
