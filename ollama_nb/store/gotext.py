"""How Go writes values: the bytes of its JSON encoder, and numbers and strings as ``%#v`` shows them.

Layers written here must have the digests that Ollama's would have, so every byte matters: key order, escapes,
and how a float looks. Rules are those of Go's ``encoding/json``, ``strconv`` and ``fmt``. What is written, and
where, the other modules decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.gofloats import format_float, json_number
from ollama_nb.wire.gostrings import json_string, quote

__all__ = ["go_json", "go_number", "go_value"]


def go_json(value: object, *, sort_keys: bool = True) -> bytes:
    """``value`` as Go's ``json.Encoder`` writes it: compact, HTML characters escaped, a newline at the end.

    Takes None, booleans, numbers, strings, sequences and mappings with string keys. ``sort_keys`` False keeps the
    order of the keys, as Go does for the fields of a struct. Raises ``BadRequestError`` for NaN and infinities.
    """
    return ("".join(_json_parts(value, sort_keys=sort_keys)) + "\n").encode()


def go_number(value: float) -> str:
    """A number as Go's JSON has it: shortest digits, no ``.0``, an exponent only past 1e21 and below 1e-6."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise BadRequestError(f"json: unsupported value: {format_float(value, 'g')}")
    return json_number(value)


def go_value(value: object) -> str:
    """A value decoded from JSON as ``%#v`` shows it: quoted strings, and all numbers are floats."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int | float):
        return format_float(float(value), "g")
    return "<nil>" if value is None else go_json(value).decode().removesuffix("\n")


def _json_parts(value: object, *, sort_keys: bool) -> Iterator[str]:
    if value is None or isinstance(value, bool):
        yield {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        yield json_string(value)
    elif isinstance(value, int | float):
        yield go_number(value)
    elif isinstance(value, Mapping):
        yield "{"
        for position, key in enumerate(sorted(value) if sort_keys else value):
            yield "," if position else ""
            yield json_string(key)
            yield ":"
            yield from _json_parts(value[key], sort_keys=sort_keys)
        yield "}"
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        yield "["
        for position, item in enumerate(value):
            yield "," if position else ""
            yield from _json_parts(item, sort_keys=sort_keys)
        yield "]"
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")
