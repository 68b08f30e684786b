"""JSON as Go's ``encoding/json`` writes it: compact, ``<``, ``>`` and ``&`` escaped, the keys of maps sorted.

Structs keep the order of their fields and leave out the empty ones that their type says. Bytes are base64.
"""

from __future__ import annotations

import base64
import math

from ollama_nb.prompt.gotemplate.values import INVALID, GoList, GoMap, GoValue, Struct, field_names, sorted_items
from ollama_nb.wire.gofloats import json_number
from ollama_nb.wire.gostrings import json_string

__all__ = ["UnsupportedValueError", "json_text"]


class UnsupportedValueError(ValueError):
    """A value that JSON cannot say: a complex number, an infinity."""


def json_text(value: GoValue) -> str:
    """A value as JSON; raises UnsupportedValueError."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts)


def _write(value: GoValue, parts: list[str]) -> None:  # noqa: PLR0912, C901 - one line for each kind of value
    if isinstance(value, str):
        parts.append(json_string(value))
    elif value is None or value is INVALID:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, int):
        parts.append(int.__repr__(value))
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise UnsupportedValueError
        parts.append(json_number(value))
    elif isinstance(value, bytes):
        parts.append(f'"{base64.b64encode(value).decode()}"')
    elif isinstance(value, GoMap) and value.is_nil:
        parts.append("null")
    elif isinstance(value, dict):
        _write_entries([(str(key), item) for key, item in sorted_items(value)], parts)
    elif isinstance(value, GoList):
        stands = value.go_json()
        if isinstance(stands, list):
            _write_list(stands, parts)
        else:
            _write(stands, parts)
    elif isinstance(value, (list, tuple)):
        _write_list(value, parts)
    elif field_names(type(value)):
        _write_entries(_fields(value), parts)
    else:
        raise UnsupportedValueError


def _fields(value: GoValue) -> list[tuple[str, GoValue]]:
    names = field_names(type(value))
    json_fields = value.json_fields if isinstance(value, Struct) else {}
    entries = []
    for name in names:
        json_name, omits_empty = json_fields.get(name, (name, False))
        item = getattr(value, name)
        if not (omits_empty and _is_empty(item)):
            entries.append((json_name, item))
    return entries


def _is_empty(value: GoValue) -> bool:
    return not value if isinstance(value, (str, list, dict, bytes, int, float, tuple)) else value is None


def _write_list(items: list[GoValue] | tuple[GoValue, ...], parts: list[str]) -> None:
    separator = "["
    for item in items:
        parts.append(separator)
        _write(item, parts)
        separator = ","
    parts.append("]" if items else "[]")


def _write_entries(entries: list[tuple[str, GoValue]], parts: list[str]) -> None:
    separator = "{"
    for key, item in entries:
        parts.append(f"{separator}{json_string(key)}:")
        _write(item, parts)
        separator = ","
    parts.append("}" if entries else "{}")
