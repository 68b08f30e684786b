"""Request and response bodies as Go's encoding/json reads and writes them.

Ollama's clients rely on how Go treats JSON: keys match in any case, unknown keys and nulls are ignored, only the
first value of a body counts, and ``<``, ``>``, ``&`` leave as escapes. Error texts follow Go's as closely as
programs compare them. Which fields a request has is left to ``native``.
"""

from __future__ import annotations

import functools
import json
import math
import re
import types
import typing
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ollama_nb.wire.errors import BadRequestError

__all__ = ["MAX_DEPTH", "decode", "encode", "whole_characters"]

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
_GO_TYPES: Final = {str: "string", int: "int", float: "float64", bool: "bool"}
_JSON_KINDS: Final = {
    "str": "string",
    "int": "number",
    "float": "number",
    "bool": "bool",
    "array": "array",
    "object": "object",
}
_MISMATCH: Final = re.compile(r"Expected `[^`]*`, got `([^`]*)`(?: - at `\$?\.?([^`]*)`)?")
_STEP: Final = re.compile(r"([^.\[\]]+)|\[[^\]]*\]")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\]]', re.DOTALL)
_LITERALS: Final = ("true", "false", "null", "-")
_INT_DIGITS: Final = 19
"""Numbers of 64 bits have no more; of longer ones Go only needs the magnitude."""

_encoder = msgspec.json.Encoder()


def _refuse_constant(name: str) -> None:
    """NaN and Infinity, which Python would take."""
    if name.startswith("-"):
        raise BadRequestError("invalid character 'I' in numeric literal")
    raise BadRequestError(f"invalid character '{name[0]}' looking for beginning of value")


def _parse_int(text: str) -> int | float:
    value = int(text) if len(text) <= _INT_DIGITS + 1 else 1 << 63
    return value if -(1 << 63) <= value < 1 << 63 else _parse_float(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadRequestError(f"json: cannot unmarshal number {text[:40]} into Go value of type float64")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last of equal keys, at the place of the last: keys that differ by case only are told apart later."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.pop(key, None)
        found[key] = value
    return found


_decoder = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=_parse_int, parse_float=_parse_float, object_pairs_hook=_object
)


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
    if "\\ud" in text or "\\uD" in text:
        value = whole_characters(value)
    try:
        return msgspec.convert(_fold(value, kind), kind)
    except msgspec.ValidationError as error:
        raise BadRequestError(_type_error(str(error), kind, name)) from error


class _Field(NamedTuple):
    """A field of a Struct: ``struct`` is the Struct that its value is, or a list of, if it is one."""

    name: str
    struct: type | None
    is_list: bool


@functools.cache
def _fields(kind: type) -> dict[str, _Field]:
    """A Struct's fields by their names in lower case; looked at once, since a chat has thousands of messages."""
    return {field.encode_name.lower(): _field(field) for field in msgspec.structs.fields(kind)}


def _field(field: msgspec.structs.FieldInfo) -> _Field:
    annotation = _given(field.type)
    if _is_struct(annotation):
        return _Field(field.encode_name, annotation, is_list=False)
    inner = next(filter(_is_struct, getattr(annotation, "__args__", ())), None)
    return _Field(field.encode_name, inner, is_list=True)


def _is_struct(annotation: Any) -> bool:  # noqa: ANN401 - annotations have no type
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def _fold(value: dict[str, Any], kind: type) -> dict[str, Any]:
    """Keys in the spelling of the Struct's fields, unknown and null ones dropped, the last of equal keys kept."""
    fields = _fields(kind)
    folded: dict[str, Any] = {}
    for key, item in value.items():
        field = fields.get(key.lower())
        if field is not None and item is not None:
            folded[field.name] = _fold_nested(item, field)
    return folded


def _fold_nested(item: Any, field: _Field) -> Any:  # noqa: ANN401 - any JSON value
    """The same for Structs inside, such as the function of a call, and lists of them, such as a chat's messages."""
    struct = field.struct
    if struct is None:
        return item
    if not field.is_list:
        return _fold(item, struct) if isinstance(item, dict) else item
    if not isinstance(item, list):
        return item
    return [_fold(element, struct) if isinstance(element, dict) else element for element in _without_nulls(item)]


def _without_nulls(items: list[Any]) -> list[Any]:
    """A null in a list of objects is an object without fields."""
    return [{} if item is None else item for item in items]


def whole_characters(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Every half of a surrogate pair, which is no character, as U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(item) for key, item in value.items()}
    return value


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
    rest = text[position:].rstrip()
    if not rest or error.msg.startswith("Unterminated string") or rest in _beginnings():
        return "unexpected EOF"
    character = rest[0]
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13 points at the comma, Go at what follows
        character = rest[1:].lstrip()[:1]
        in_object = character == "}"
        where = "looking for beginning of object key string" if in_object else "looking for beginning of value"
    elif error.msg.startswith("Expecting property name"):
        where = "looking for beginning of object key string"
    elif error.msg.startswith("Expecting ':'"):
        where = "after object key"
    elif error.msg.startswith("Expecting ','"):
        where = "after object key:value pair" if _inside_object(text[:position]) else "after array element"
    elif error.msg.startswith("Invalid control character"):
        where = "in string literal"
    elif error.msg.startswith("Invalid \\u"):
        return _hexadecimal_error(text, position)
    elif error.msg.startswith("Invalid \\"):
        character, where = rest[1:2] or rest, "in string escape code"
    else:
        where = "looking for beginning of value"
    return f"invalid character {_quoted(character)} {where}"


@functools.cache
def _beginnings() -> frozenset[str]:
    """What a literal looks like that the end of the text cut off."""
    return frozenset(word[:length] for word in _LITERALS for length in range(1, len(word) + (word == "-")))


def _hexadecimal_error(text: str, position: int) -> str:
    digits = text[text.rfind("\\u", 0, position + 2) + 2 :]
    wrong = digits.lstrip("0123456789abcdefABCDEF")
    if not wrong:
        return "unexpected EOF"
    return f"invalid character {_quoted(wrong[0])} in \\u hexadecimal character escape"


def _quoted(character: str) -> str:
    """A character as Go's error texts show it."""
    special = {"'": "'\\''", '"': "'\"'", "\n": "'\\n'", "\t": "'\\t'", "\r": "'\\r'"}
    return special.get(character, f"'{character}'")


def _inside_object(text: str) -> bool:
    """Whether the innermost bracket that is open at the end of ``text`` is a brace."""
    opened: list[str] = []
    for match in _TOKEN.finditer(text):
        part = match.group()
        if part in "{[":
            opened.append(part)
        elif part in "}]" and opened:
            opened.pop()
    return opened[-1:] == ["{"]


def _type_error(message: str, kind: type, name: str) -> str:
    match = _MISMATCH.search(message)
    if match is None:
        return f"json: {message[:1].lower()}{message[1:]}"
    got, path = match.groups()
    steps = [step.group(1) for step in _STEP.finditer(path or "")]
    field = ".".join(step for step in steps if step)
    place = f"{name}.{field}" if field else name
    return (
        f"json: cannot unmarshal {_JSON_KINDS.get(got, got)} into Go struct field {place} "
        f"of type {_go_type(_annotation(kind, steps))}"
    )


def _annotation(annotation: Any, steps: list[str | None]) -> Any:  # noqa: ANN401 - annotations have no type
    """The type at the end of a path: a step is a field's name, or None for an element of a list or map."""
    for step in steps:
        if step is None:
            (*_, annotation) = (typing.get_args(part)[-1] for part in _parts(annotation) if typing.get_args(part))
        else:
            fields = {field.encode_name: field.type for field in msgspec.structs.fields(_given(annotation))}
            annotation = fields[step]
    return _given(annotation)


def _bare(annotation: Any) -> Any:  # noqa: ANN401 - annotations have no type
    """A type without what ``Annotated`` says beside it, which is for the document of the API."""
    return annotation.__origin__ if typing.get_origin(annotation) is typing.Annotated else annotation


def _given(annotation: Any) -> Any:  # noqa: ANN401 - annotations have no type
    """The first type of a union: null is no type of its own in Go."""
    return _parts(annotation)[0]


def _parts(annotation: Any) -> list[Any]:  # noqa: ANN401 - annotations have no type
    """The types of a union, or the one that it is."""
    annotation = _bare(annotation)
    is_union = typing.get_origin(annotation) in {types.UnionType, typing.Union}
    return [_bare(part) for part in typing.get_args(annotation)] if is_union else [annotation]


def _go_type(annotation: Any) -> str:  # noqa: ANN401 - annotations have no type
    """What Go calls a type."""
    annotation = _bare(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list:
        return f"[]{_go_type(arguments[0])}"
    if origin is dict:
        return f"map[string]{_go_type(arguments[1])}"
    if annotation is Any:
        return "interface {}"
    return _GO_TYPES.get(annotation) or f"api.{annotation.__name__}"
