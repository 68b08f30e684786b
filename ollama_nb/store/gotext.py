"""How Go writes values: the bytes of its JSON encoder, and numbers and strings as ``%#v`` shows them.

Layers written here must have the digests that Ollama's would have, so every byte matters: key order, escapes,
and how a float looks. Rules are those of Go's ``encoding/json``, ``strconv`` and ``fmt``. What is written, and
where, the other modules decide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from ollama_nb.wire.errors import BadRequestError

__all__ = ["go_json", "go_number", "go_quote", "go_value"]

# Go escapes these so that JSON may stand inside HTML and JavaScript.
_HTML_ESCAPES: Final = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_SIMPLE_ESCAPES: Final = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}
_JSON_EXPONENT_FROM: Final = 1e21
_JSON_EXPONENT_BELOW: Final = 1e-6
_G_EXPONENT_FROM: Final = 6
_G_EXPONENT_BELOW: Final = -4
_ASCII_END: Final = 0x80
_BASIC_PLANE_END: Final = 0x10000


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
        raise BadRequestError(f"json: unsupported value: {_non_finite(value)}")
    if value != 0 and not _JSON_EXPONENT_BELOW <= abs(value) < _JSON_EXPONENT_FROM:
        return repr(value).replace("e-0", "e-")
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def go_value(value: object) -> str:
    """A value decoded from JSON as ``%#v`` shows it: quoted strings, and all numbers are floats."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return go_quote(value)
    if isinstance(value, int | float):
        return _general(float(value))
    return "<nil>" if value is None else go_json(value).decode().removesuffix("\n")


def go_quote(text: str) -> str:
    """``text`` as ``%q`` shows it: double quotes, backslash escapes, unprintable characters as numbers."""
    return '"' + "".join(_quoted(character) for character in text) + '"'


def _json_parts(value: object, *, sort_keys: bool) -> Iterator[str]:
    if value is None or isinstance(value, bool):
        yield {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        yield _json_string(value)
    elif isinstance(value, int | float):
        yield go_number(value)
    elif isinstance(value, Mapping):
        yield "{"
        for position, key in enumerate(sorted(value) if sort_keys else value):
            yield "," if position else ""
            yield _json_string(key)
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


def _json_string(text: str) -> str:
    # A lone surrogate is no character; Go's decoder would have replaced it on the way in.
    valid = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(valid, ensure_ascii=False).translate(_HTML_ESCAPES)


def _general(value: float) -> str:
    """``%g`` with the fewest digits: an exponent from 1e6 on and below 1e-4."""
    if not math.isfinite(value):
        return _non_finite(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):  # only NaN and infinities have letters here
        raise TypeError(f"{value} is no finite number")
    power = len(digits) - 1 + exponent if any(digits) else 0
    if _G_EXPONENT_BELOW <= power < _G_EXPONENT_FROM:
        return go_number(value)
    mantissa = str(digits[0]) + ("." + "".join(map(str, digits[1:])) if len(digits) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{power:+03d}"


def _non_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _quoted(character: str) -> str:
    if character in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < _ASCII_END:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _BASIC_PLANE_END else f"\\U{code:08x}"
