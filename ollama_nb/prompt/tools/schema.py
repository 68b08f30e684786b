"""The JSON Schema of a call, made from what a tool says of its parameters.

A tool's schema comes from outside: it may be missing, half right, or use words that a grammar cannot follow. What is
made here always compiles as far as it can be told, keeps what the tool says where it says something sensible, and adds
what it leaves out so that a small model comes to an end: texts and lists get a greatest length, objects with named
properties take no others. Writing the grammar around it is left to the formats.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ollama_nb.prompt.tools.call import Tool

__all__ = [
    "KNOWN_FORMATS",
    "KNOWN_TYPES",
    "MAX_ITEMS",
    "MAX_LENGTH",
    "SPACING",
    "arguments_schema",
    "beyond_regular",
    "call_schema",
    "needs_arguments",
    "tool_name",
]

MAX_LENGTH: Final = 512
"""Characters of a text for which the tool gives neither a length, nor a pattern, nor the values it may have."""

MAX_ITEMS: Final = 64
"""Elements of a list, and entries of a free map, for which the tool gives no number."""

_MAX_DEPTH: Final = 48
"""Levels of a schema that are followed; what lies deeper may be any value."""

KNOWN_TYPES: Final = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))

KNOWN_FORMATS: Final = frozenset(
    ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"),
)
"""Formats of texts that llguidance knows."""

_MAX_COUNT: Final = 1 << 31
_NOT_REGULAR: Final = re.compile(r"\\\\|(\(\?(?:[=!>]|<[=!]|P=|\()|\\[1-9bBZ])")
"""What no automaton can do, or only Python writes so: looking around, references to groups, conditions."""

_COUNTS: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_LIMITS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")
_LISTS: Final = ("prefixItems", "anyOf", "oneOf", "allOf")
_SINGLES: Final = ("items", "additionalProperties")
_COMBINERS: Final = ("anyOf", "oneOf", "allOf", "$ref")
_SHARED: Final = ("$defs", "definitions")

SPACING: Final = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""How llguidance is to write JSON: one blank at most where models write one, or white space would never end."""

_GUIDANCE: Final = {"lenient": True, **SPACING}
"""How it is to read a tool's schema, too: what is left in it that no grammar can follow is passed over."""


def tool_name(tool: Tool) -> str:
    """The name by which a tool is called; "" where it has none."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


def needs_arguments(tool: Tool) -> bool:
    """Whether a call without arguments would leave out a required one."""
    return bool(_names(_parameters(tool).get("required")))


def call_schema(tool: Tool, *, name_key: str = "name", arguments_key: str = "arguments") -> dict[str, Any]:
    """The schema of ``{"name": <the tool's name>, "arguments": {...}}``, for a ``%json`` of llguidance."""
    arguments = arguments_schema(tool)
    shared: dict[str, Any] = {key: arguments.pop(key) for key in _SHARED if key in arguments}
    schema: dict[str, Any] = {
        "x-guidance": dict(_GUIDANCE),
        "type": "object",
        "properties": {name_key: {"const": tool_name(tool)}, arguments_key: arguments},
        "required": [name_key, arguments_key],
        "additionalProperties": False,
        **shared,
    }
    place = "#/properties/" + arguments_key.replace("~", "~0").replace("/", "~1")
    for part in _below(schema):
        reference = part.get("$ref")
        if reference is not None and reference.split("/")[1:2] not in ([key] for key in _SHARED):
            part["$ref"] = place + reference[1:]
    return schema


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, a new object: always of an object, closed and bounded.

    References point into it as they do in the tool's own.
    """
    source = _parameters(tool)
    schema: dict[str, Any] = {"type": "object", "properties": {}} | _prepare(source, 0) | {"type": "object"}
    for part in list(_below(schema)):
        if "$ref" in part and _at(schema, part["$ref"]) is None:
            del part["$ref"]
    closes = not any(map(_is_composed, _below(schema)))
    for part in _below(schema):
        _bound(part)
        _settle_object(part, closes=closes, is_root=part is schema)
    return schema


def _parameters(tool: Tool) -> dict[str, Any]:
    function = tool.get("function")
    parameters = function.get("parameters") if isinstance(function, dict) else None
    return parameters if isinstance(parameters, dict) else {}


def _prepare(source: dict[str, Any], depth: int) -> dict[str, Any]:
    """A copy with the keywords that a grammar can follow, where they have a value that makes sense."""
    schema: dict[str, Any] = {}
    for key, value in source.items():
        if key in _MAPS and isinstance(value, dict):
            schema[key] = {name: _subschema(part, depth) for name, part in value.items()}
        elif key in _LISTS or (key == "items" and isinstance(value, list)):
            if isinstance(value, list) and value:
                schema["prefixItems" if key == "items" else key] = [_subschema(part, depth) for part in value]
        elif key in _SINGLES:
            schema[key] = _subschema(value, depth)
        elif key == "required":
            schema[key] = _names(value)
        elif key == "type":
            schema.update(_kind(value))
        elif _is_sensible(key, value):
            schema[key] = value
    if "properties" in schema and "type" not in schema:
        schema["type"] = "object"
    return schema


def _subschema(value: object, depth: int) -> dict[str, Any] | bool:
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return _prepare(value, depth + 1)
    return value is not False


def _kind(value: object) -> dict[str, Any]:
    """``type`` with the kinds that JSON Schema knows; others (``dict``, ``any``, ``float``) say nothing."""
    named = value if isinstance(value, list) else [value]
    kinds = [kind for kind in named if isinstance(kind, str) and kind in KNOWN_TYPES]
    if not kinds or len(kinds) < len(named):
        return {}
    return {"type": kinds[0] if len(kinds) == 1 else kinds}


def _is_sensible(key: str, value: object) -> bool:
    """Whether a keyword has a value that llguidance takes."""
    if key in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
    if key in _LIMITS:
        return _is_number(value) and (key != "multipleOf" or value > 0)  # type: ignore[operator]
    if not isinstance(value, str):
        return key == "const" or (key == "enum" and isinstance(value, list) and bool(value))
    if key == "pattern":
        return _is_pattern(value)
    return key in ("$ref", "const") or (key == "format" and value in KNOWN_FORMATS)


def _is_pattern(text: str) -> bool:
    """Whether a text is a regular expression without what automata cannot do."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError, FutureWarning):  # a warning where warnings are errors
        return False
    return not beyond_regular(text)


def beyond_regular(pattern: str) -> str:
    """The first thing in a regular expression that no automaton can do; "" where there is none."""
    return next((found[1] for found in _NOT_REGULAR.finditer(pattern) if found[1]), "")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _names(value: object) -> list[str]:
    """The names in a ``required``, each once."""
    return list(dict.fromkeys(item for item in value if isinstance(item, str))) if isinstance(value, list) else []


def _below(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A prepared schema and all schemas in it."""
    stack: list[Any] = [schema]
    while stack:
        part = stack.pop()
        if not isinstance(part, dict):
            continue
        yield part
        for key in _MAPS:
            stack.extend(part.get(key, {}).values())
        for key in _LISTS:
            stack.extend(part.get(key, ()))
        stack.extend(part[key] for key in _SINGLES if key in part)


def _at(schema: dict[str, Any], reference: str) -> object:
    """What a reference within the schema points at; None if it points nowhere or elsewhere."""
    first, *steps = reference.split("/")
    if first != "#":
        return None
    place: object = schema
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, dict):
            place = place.get(name)
        elif isinstance(place, list) and name.isdecimal() and int(name) < len(place):
            place = place[int(name)]
        else:
            return None
    return place


def _is_composed(schema: dict[str, Any]) -> bool:
    """Whether properties come together from several places, so that closing one of them would shut out the others."""
    combiners = [key for key in _COMBINERS if key in schema]
    own = bool(schema.get("properties"))
    return len(combiners) > 1 or (bool(combiners) and own) or len(schema.get("allOf", ())) > 1


def _bound(schema: dict[str, Any]) -> None:
    if any(key in schema for key in ("const", "enum", "$ref", "anyOf", "oneOf", "allOf")):
        return
    kinds = schema.get("type", ["string", "array"])
    if "string" in kinds and not any(key in schema for key in ("maxLength", "pattern", "format")):
        schema["maxLength"] = max(MAX_LENGTH, schema.get("minLength", 0))
    if "array" in kinds and "maxItems" not in schema:
        schema["maxItems"] = max(MAX_ITEMS, schema.get("minItems", 0))


def _settle_object(schema: dict[str, Any], *, closes: bool, is_root: bool) -> None:
    """Says of an object what it may hold beside its properties, and names those that are required."""
    if schema.get("type") != "object" or any(key in schema for key in (*_COMBINERS, "const", "enum")):
        return
    if "additionalProperties" not in schema:
        if closes and (is_root or schema.get("properties") or "patternProperties" in schema):
            schema["additionalProperties"] = False
        elif not schema.get("properties") and "maxProperties" not in schema:
            schema["maxProperties"] = max(MAX_ITEMS, schema.get("minProperties", 0))
    if schema.get("additionalProperties") is False and "patternProperties" not in schema:
        properties = schema.setdefault("properties", {})
        for name in schema.get("required", ()):
            properties.setdefault(name, {"maxLength": MAX_LENGTH, "maxItems": MAX_ITEMS})
