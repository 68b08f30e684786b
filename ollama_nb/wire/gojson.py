"""Request and response bodies as Go's encoding/json reads and writes them.

Ollama's clients rely on how Go treats JSON: keys match in any case, unknown keys and nulls are ignored, only the
first value of a body counts, and ``<``, ``>``, ``&`` leave as escapes. Error texts follow Go's as closely as
programs compare them. Which fields a request has is left to ``native``.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, TypeVar

import msgspec

from ollama_nb.wire.errors import BadRequestError

__all__ = ["MAX_DEPTH", "decode", "encode"]

T = TypeVar("T")

MAX_DEPTH: Final = 200
"""Deeper nesting than any message, tool schema or option needs is refused before it costs anything."""

_ESCAPES: Final = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
_GO_TYPES: Final = {
    "str": "string",
    "int": "int",
    "float": "float64",
    "bool": "bool",
    "array": "[]interface {}",
    "object": "map[string]interface {}",
}
_JSON_KINDS: Final = {
    "str": "string",
    "int": "number",
    "float": "number",
    "bool": "bool",
    "array": "array",
    "object": "object",
}
_MISMATCH: Final = re.compile(r"Expected `([^`]*)`, got `([^`]*)`(?: - at `\$?\.?([^`]*)`)?")
_encoder = msgspec.json.Encoder()


def _refuse_constant(name: str) -> None:
    """NaN and Infinity, which Python would take."""
    raise BadRequestError(f"invalid character '{name[0]}' looking for beginning of value")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def encode(value: Any) -> bytes:  # noqa: ANN401 - anything that msgspec can write
    """Compact JSON with Go's HTML escapes; those characters stand only inside strings, so bytes can be replaced."""
    data = _encoder.encode(value)
    for character, escape in _ESCAPES:
        if character in data:
            data = data.replace(character, escape)
    return data


def decode(body: bytes, kind: type[T], name: str) -> T:
    """A request body as the Struct ``kind``; ``name`` is what Go's error texts call it (``ChatRequest``).

    Raises ``BadRequestError``: ``missing request body``, Go's syntax errors, or
    ``json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool``.
    """
    text = body.decode("utf-8", errors="replace").lstrip(" \t\r\n")
    if not text:
        raise BadRequestError("missing request body")
    try:
        value, _ = _decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise BadRequestError(_syntax_error(text, error)) from error
    except RecursionError as error:
        raise BadRequestError("exceeded max depth") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise BadRequestError(
            f"json: cannot unmarshal {_kind_of(value)} into Go value of type api.{name}",
            hint="the body must be a JSON object",
        )
    _check_depth(value)
    try:
        return msgspec.convert(_fold(value, kind), kind)
    except msgspec.ValidationError as error:
        raise BadRequestError(_type_error(str(error), name)) from error


def _fold(value: dict[str, Any], kind: type) -> dict[str, Any]:
    """Keys in the spelling of the Struct's fields, unknown and null ones dropped, the last of equal keys kept."""
    fields = {field.encode_name.lower(): field for field in msgspec.structs.fields(kind)}
    folded: dict[str, Any] = {}
    for key, item in value.items():
        field = fields.get(key.lower())
        if field is not None and item is not None:
            folded[field.encode_name] = _fold_nested(item, field.type)
    return folded


def _fold_nested(item: Any, annotation: Any) -> Any:  # noqa: ANN401 - any JSON value, any annotation
    """The same for lists of Structs, such as the messages of a chat."""
    arguments = getattr(annotation, "__args__", ())
    inner = next((part for part in arguments if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)
    if inner is None or not isinstance(item, list):
        return item
    return [_fold(element, inner) if isinstance(element, dict) else element for element in item]


def _check_depth(value: Any) -> None:  # noqa: ANN401 - any JSON value
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadRequestError("exceeded max depth")
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]


def _kind_of(value: object) -> str:
    kinds = {str: "string", bool: "bool", int: "number", float: "number", list: "array"}
    return kinds.get(type(value), "object")


def _syntax_error(text: str, error: json.JSONDecodeError) -> str:
    position = error.pos
    if error.msg.startswith("Unterminated string") or position >= len(text.rstrip()):
        return "unexpected EOF"
    character = text[position]
    if error.msg.startswith("Expecting property name"):
        where = "looking for beginning of object key string"
    elif error.msg.startswith("Expecting ':'"):
        where = "after object key"
    elif error.msg.startswith("Expecting ','"):
        where = "after object key:value pair" if _inside_object(text[:position]) else "after array element"
    elif error.msg.startswith("Invalid control character"):
        where = "in string literal"
    elif error.msg.startswith("Invalid \\"):
        character, where = text[min(position + 1, len(text) - 1)], "in string escape code"
    else:
        where = "looking for beginning of value"
    return f"invalid character {_quoted(character)} {where}"


def _quoted(character: str) -> str:
    """A character as Go's error texts show it."""
    special = {"'": "'\\''", '"': "'\"'", "\n": "'\\n'", "\t": "'\\t'", "\r": "'\\r'"}
    return special.get(character, f"'{character}'")


def _inside_object(text: str) -> bool:
    """Whether the innermost bracket that is open at the end of ``text`` is a brace."""
    opened: list[str] = []
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "{[":
            opened.append(character)
        elif character in "}]" and opened:
            opened.pop()
    return bool(opened) and opened[-1] == "{"


def _type_error(message: str, name: str) -> str:
    match = _MISMATCH.search(message)
    if match is None:
        return f"json: {message[:1].lower()}{message[1:]}"
    expected, got, path = match.groups()
    wanted = next((part for part in expected.split(" | ") if part != "null"), expected)
    field = re.sub(r"\[[^\]]*\]", "", path or "")
    place = f"{name}.{field}" if field else name
    return (
        f"json: cannot unmarshal {_JSON_KINDS.get(got, got)} into Go struct field {place} "
        f"of type {_GO_TYPES.get(wanted, wanted)}"
    )
