"""Whether two schemas exclude each other, so that ``oneOf`` says no more than ``anyOf``.

Only what can be seen without doubt counts: types, values, bounds, and a property that one object has to have and that
looks different, or cannot be, in the other. Where nothing shows it, the answer is no.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.prompt.tools.schema import KNOWN_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Disjointness"]

_MAX_DEPTH: Final = 24
"""References, alternatives and properties that are gone down before the question is given up."""

_KINDS: Final = KNOWN_TYPES - {"integer"}


class Disjointness:
    """Answers for the schemas of one document; references are names in ``definitions``.

    ``patience`` is how many pairs are looked at in all: schemas can refer to each other in more ways than end.
    """

    def __init__(self, definitions: Mapping[str, Any], patience: int = 100_000) -> None:
        self._definitions = definitions
        self._patience = patience

    def holds(self, one: object, other: object, depth: int = 0) -> bool:
        """Whether no value fits both."""
        self._patience -= 1
        if one is False or other is False:
            return True
        if self._patience < 0 or depth > _MAX_DEPTH or not isinstance(one, dict) or not isinstance(other, dict):
            return False
        if self._parts_exclude(one, other, depth + 1) or self._parts_exclude(other, one, depth + 1):
            return True
        values, other_values = _values(one), _values(other)
        if values is not None and other_values is not None:
            return values.isdisjoint(other_values)
        shared = _kinds(one) & _kinds(other)
        return all(
            self._objects_exclude(one, other, depth + 1) if kind == "object" else _bounds_exclude(kind, one, other)
            for kind in shared
        )

    def _parts_exclude(self, schema: dict[str, Any], other: dict[str, Any], depth: int) -> bool:
        """Whether something that a schema is made of leaves no room for the other."""
        parts = [*schema.get("allOf", ())]
        if "$ref" in schema:
            parts.append(self._definitions.get(schema["$ref"].rpartition("/")[2], True))
        if any(self.holds(part, other, depth) for part in parts):
            return True
        choices = [schema[key] for key in ("anyOf", "oneOf") if key in schema]
        return any(all(self.holds(part, other, depth) for part in choice) for choice in choices)

    def _objects_exclude(self, one: dict[str, Any], other: dict[str, Any], depth: int) -> bool:
        return any(
            self.holds(_property(one, name), _property(other, name), depth)
            for name in dict.fromkeys([*one.get("required", ()), *other.get("required", ())])
        )


def _values(schema: dict[str, Any]) -> set[str] | None:
    """The only values there are, as JSON; 1 and 1.0 are the same."""
    if "const" in schema:
        return {_plain(schema["const"])}
    return {_plain(value) for value in schema["enum"]} if "enum" in schema else None


def _plain(value: object) -> str:
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def _kinds(schema: dict[str, Any]) -> set[str]:
    """The types of values that may fit; integers are numbers."""
    if "const" in schema or "enum" in schema:
        return {_kind(value) for value in (schema["enum"] if "enum" in schema else [schema["const"]])}
    named = schema.get("type", list(_KINDS))
    return {"number" if kind == "integer" else kind for kind in ([named] if isinstance(named, str) else named)}


def _kind(value: object) -> str:
    if value is None:
        return "null"
    for kind, types in (("boolean", bool), ("string", str), ("array", list), ("object", dict)):
        if isinstance(value, types):
            return kind
    return "number"


def _bounds_exclude(kind: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether one ends below where the other begins."""
    lowest, highest = _BOUNDS.get(kind, ((), ()))
    for left, right in ((one, other), (other, one)):
        low = max((left[key] for key in lowest if key in left), default=None)
        high = min((right[key] for key in highest if key in right), default=None)
        if low is not None and high is not None and high < low:
            return True
    return False


_BOUNDS: Final = {
    "number": (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")),
    "string": (("minLength",), ("maxLength",)),
    "array": (("minItems",), ("maxItems",)),
}


def _property(schema: dict[str, Any], name: str) -> object:
    """The schema of a property; True where it may be anything for all that is known."""
    if name in schema.get("properties", ()):
        return schema["properties"][name]
    return True if schema.get("patternProperties") else schema.get("additionalProperties", True)
