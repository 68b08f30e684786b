"""Keywords of JSON Schema with plain values: each is checked by itself, and refused where it makes no sense."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.prompt.formats.refusal import refuse
from ollama_nb.prompt.tools.schema import KNOWN_FORMATS, KNOWN_TYPES, beyond_regular

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHECKS", "check_pattern", "elements"]

_UNKEPT_FORMATS: Final = frozenset(
    (
        "idn-email",
        "idn-hostname",
        "iri",
        "iri-reference",
        "json-pointer",
        "regex",
        "relative-json-pointer",
        "uri-reference",
        "uri-template",
    )
)
"""Formats of the standard that llguidance does not know; others, which the standard does not know, only describe."""

_COUNTS: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_LIMITS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def elements(value: object, place: str) -> list[Any]:
    """A list that is not empty."""
    if not isinstance(value, list) or not value:
        refuse(place, "a list with at least one element is needed here")
    return value


def _type(value: object, place: str) -> object:
    named = value if isinstance(value, list) else [value]
    for name in named:
        if not isinstance(name, str) or name not in KNOWN_TYPES:
            refuse(place, f"{json.dumps(name)} is no type; types are {', '.join(sorted(KNOWN_TYPES))}")
    return value if named else refuse(place, "a list with at least one type is needed here")


def _count(value: object, place: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        refuse(place, f"{json.dumps(value)} is no count")
    return value


def _limit(value: object, place: str) -> int | float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        refuse(place, f"{json.dumps(value)} is no number")
    if place.endswith("/multipleOf") and value <= 0:
        refuse(place, f"{json.dumps(value)} is not above 0")
    return value


def check_pattern(value: object, place: str) -> str:
    """A regular expression that an automaton can follow."""
    if not isinstance(value, str):
        refuse(place, f"{json.dumps(value)} is no regular expression")
    if found := beyond_regular(value):
        refuse(place, f"{found} in a pattern cannot be kept by a grammar: it looks around, or back")
    return value


def _format(value: object, place: str) -> str | None:
    if not isinstance(value, str):
        refuse(place, f"{json.dumps(value)} is no format")
    if value in _UNKEPT_FORMATS:
        refuse(place, f'the format "{value}" cannot be kept; give a "pattern" in its place')
    return value if value in KNOWN_FORMATS else None


def _names(value: object, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        refuse(place, "a list of names is needed here")
    return list(dict.fromkeys(value))


CHECKS: Final[dict[str, Callable[[Any, str], object]]] = {
    "type": _type,
    "enum": elements,
    "required": _names,
    "pattern": check_pattern,
    "format": _format,
    **dict.fromkeys(_COUNTS, _count),
    **dict.fromkeys(_LIMITS, _limit),
}
"""What becomes of a value at a place: the value to take over, or None for one that only describes."""
