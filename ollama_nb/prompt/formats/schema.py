"""A JSON Schema of a request, made ready for llguidance; what could not be kept is refused, never passed over.

llguidance follows nearly all of draft 2020-12. Here each schema is read keyword by keyword: one that no grammar can
keep is an error that names it and its place; one that only describes (``title``, ``default``, whatever the standard
does not know) is left out. What is made is narrower than what was asked for where that helps a small model to an end,
never wider:

* objects with named properties take no others, unless ``additionalProperties`` says so or they are composed of several;
* the keys of a map have ``MAX_KEY`` characters at most;
* integers without a bound have 18 digits at most, numbers with one have ``DECIMALS`` decimals at most. Numbers without
  any bound stay as JSON has them, exponents included. Texts and lists stay unbounded: ``num_predict`` ends them.
* dates and times are those that all programs read;
* ``oneOf`` is ``anyOf`` where no value can fit two of its schemas (``disjoint``), and refused elsewhere.

References are followed to wherever they point in the document; each place that one points at becomes a definition.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from ollama_nb.prompt.formats.disjoint import Disjointness
from ollama_nb.prompt.formats.endless import shut_endless
from ollama_nb.prompt.formats.keywords import CHECKS, check_pattern, elements
from ollama_nb.prompt.formats.refusal import SchemaError, refuse
from ollama_nb.prompt.formats.rewriting import (
    as_map_keys,
    distinct_items,
    drop_needless_counts,
    infer_type,
    modern,
    plain_times,
)

__all__ = ["DECIMALS", "MAX_DEPTH", "MAX_KEY", "MAX_SIZE", "SchemaError", "prepare"]

MAX_SIZE: Final = 1 << 18
"""Characters of the largest schema, as JSON."""

MAX_DEPTH: Final = 64
"""Levels of the deepest schema."""

MAX_KEY: Final = 128
"""Characters of a key in a map; a schema seldom says anything of them."""

_MAX_PARTS: Final = 20_000

DECIMALS: Final = 9

_LARGEST: Final = 10**18
_NARROW: Final = 1e-3
"""Bounds closer to each other than this may need all decimals there are."""

_UNKEPT: Final = {
    "$dynamicRef": "",
    "$recursiveRef": "",
    "contains": "",
    "dependencies": "",
    "dependentRequired": "",
    "dependentSchemas": "",
    "else": "if",
    "not": "",
    "then": "if",
    "unevaluatedItems": "",
    "unevaluatedProperties": "",
}
"""Keywords that no grammar here can keep; those with a second one say nothing without it."""

_MAPS: Final = ("properties", "patternProperties")
_LISTS: Final = ("prefixItems", "anyOf", "oneOf", "allOf")
_SINGLES: Final = ("items", "additionalProperties")
_COMBINERS: Final = ("anyOf", "oneOf", "allOf", "$ref")


def prepare(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as a grammar can follow it, a new object; raises ``SchemaError``."""
    size = len(json.dumps(schema, ensure_ascii=False))
    if size > MAX_SIZE:
        raise SchemaError(f"the schema has {size} characters, more than {MAX_SIZE}; make it smaller")
    return _Preparation(schema).result()


class _Preparation:
    """One schema on its way: its parts, and the definitions that references ask for."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._names: dict[str, str] = {}
        self._definitions: dict[str, Any] = {}
        self._waiting: list[tuple[str, Any, str]] = []
        self._parts: list[tuple[dict[str, Any], str]] = []
        self._anchors: dict[str, tuple[str, Any]] | None = None

    def result(self) -> dict[str, Any]:
        root = self._part(self._document, "#", 0)
        while self._waiting:
            name, source, place = self._waiting.pop()
            self._definitions[name] = self._part(source, place, place.count("/"))
        closes = not any(_is_composed(part) for part, _ in self._parts)
        for part, place in self._parts:
            drop_needless_counts(part, place, closes=closes)
            if closes:
                _close(part)
                _bound_number(part, place)
        disjoint = Disjointness(self._definitions)
        for part, place in self._parts:
            _settle_one_of(part, place, disjoint)
        if not shut_endless(root, [part for part, _ in self._parts], self._definitions):
            refuse("#", "no value with an end could fit: what it requires is shut out, or leads back to itself")
        return {**root, "$defs": self._definitions} if self._definitions else root

    def _part(self, source: object, place: str, depth: int) -> Any:  # noqa: ANN401 - an object or a boolean
        """A copy of one schema with what a grammar can follow."""
        if isinstance(source, bool):
            return source
        if not isinstance(source, dict):
            refuse(place, "a schema has to be an object, true or false")
        if depth > MAX_DEPTH:
            refuse(place, f"the schema is nested more than {MAX_DEPTH} levels deep")
        source = as_map_keys(distinct_items(modern(source, place), place, self._look_up), place)
        part: dict[str, Any] = {}
        for key, value in source.items():
            where = f"{place}/{_escaped(key)}"
            if key in _UNKEPT and (not _UNKEPT[key] or _UNKEPT[key] in source):
                refuse(where, f'"{key}" cannot be kept by a grammar; say it in another way, or leave it out')
            self._keyword(part, key, value, where, depth + 1)
        infer_type(part)
        plain_times(part)
        if len(self._parts) == _MAX_PARTS:
            refuse(place, f"the schema is made of more than {_MAX_PARTS} parts")
        self._parts.append((part, place))
        return part

    def _keyword(self, part: dict[str, Any], key: str, value: object, place: str, depth: int) -> None:
        """Take one keyword over, or refuse it, or leave out what only describes."""
        if key in _MAPS:
            part[key] = self._map(key, value, place, depth)
        elif key in _LISTS:
            part[key] = [
                self._part(item, f"{place}/{index}", depth) for index, item in enumerate(elements(value, place))
            ]
        elif key in _SINGLES:
            part[key] = self._part(value, place, depth)
        elif key == "$ref":
            part[key] = self._reference(value, place)
        elif key == "const":
            part[key] = value
        elif check := CHECKS.get(key):
            taken = check(value, place)
            if taken is not None:
                part[key] = taken

    def _map(self, key: str, value: object, place: str, depth: int) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(place, f'"{key}" has to be an object of schemas')
        if key == "patternProperties":
            for name in value:
                check_pattern(name, place)
        return {name: self._part(item, f"{place}/{_escaped(name)}", depth) for name, item in value.items()}

    def _reference(self, value: object, place: str) -> str:
        """A reference to the definition that the place it points at becomes."""
        target = self._look_up(value)
        if target is None:
            refuse(place, f"{json.dumps(value)} points at nothing within the schema; references begin with #")
        where, source = target
        if where not in self._names:
            self._names[where] = f"d{len(self._names)}"
            self._waiting.append((self._names[where], source, where))
        return f"#/$defs/{self._names[where]}"

    def _look_up(self, reference: object) -> tuple[str, Any] | None:
        """The place that a reference of the document points at and what stands there."""
        if not isinstance(reference, str):
            return None
        own = str(self._document.get("$id") or self._document.get("id") or "").rstrip("#")
        head, _, fragment = reference.partition("#")
        if head and head != own:
            return None
        if fragment and not fragment.startswith("/"):
            if self._anchors is None:
                self._anchors = _anchors(self._document)
            return self._anchors.get(fragment)
        place: Any = self._document
        for step in fragment.split("/")[1:]:
            name = step.replace("%25", "%").replace("%22", '"').replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict) and name in place:
                place = place[name]
            elif isinstance(place, list) and name.isdecimal() and int(name) < len(place):
                place = place[int(name)]
            else:
                return None
        return "#" + fragment, place


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _anchors(document: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """The schemas that have an ``$anchor``, by that name, and their places."""
    found: dict[str, tuple[str, Any]] = {}
    stack: list[tuple[str, Any]] = [("#", document)]
    while stack:
        place, part = stack.pop()
        if isinstance(part, dict):
            if isinstance(name := part.get("$anchor"), str):
                found[name] = place, part
            stack.extend((f"{place}/{_escaped(key)}", value) for key, value in part.items())
        elif isinstance(part, list):
            stack.extend((f"{place}/{index}", value) for index, value in enumerate(part))
    return found


def _settle_one_of(part: dict[str, Any], place: str, disjoint: Disjointness) -> None:
    """Make ``oneOf`` an ``anyOf``, which it is where its schemas exclude each other."""
    options = part.pop("oneOf", None)
    if options is None:
        return
    for index, option in enumerate(options):
        for other in range(index):
            if not disjoint.holds(options[other], option):
                refuse(
                    f"{place}/oneOf",
                    f"a value may fit both schema {other} and schema {index}, which a grammar cannot tell apart; "
                    'use "anyOf", or give both a required property with a "const" of their own',
                )
    if "anyOf" in part:
        part["allOf"] = [*part.get("allOf", ()), {"anyOf": options}]
    else:
        part["anyOf"] = options


# -- narrowing ----------------------------------------------------------------------------------------------------


def _is_composed(part: dict[str, Any]) -> bool:
    """Whether properties come together from several places, so that closing one would shut out the others."""
    combiners = [key for key in _COMBINERS if key in part]
    own = any(key in part for key in ("properties", "patternProperties", "additionalProperties", "required"))
    return len(combiners) > 1 or (bool(combiners) and own) or len(part.get("allOf", ())) > 1


def _close(part: dict[str, Any]) -> None:
    """Objects with named properties take no others unless the schema says so; the keys of maps come to an end."""
    if "additionalProperties" not in part and (part.get("properties") or part.get("patternProperties")):
        part["additionalProperties"] = False
        if not part.get("patternProperties"):
            for name in part.get("required", ()):
                part["properties"].setdefault(name, True)
    elif part.get("type") == "object" and "patternProperties" not in part and not part.get("properties"):
        rest = part.get("additionalProperties", True)
        if rest is not False:
            part |= {"patternProperties": {f"^(?s:.{{0,{MAX_KEY}}})$": rest}, "additionalProperties": False}


def _bound_number(part: dict[str, Any], place: str) -> None:
    """Digits that a schema leaves open come to an end."""
    kinds = part.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    low = [part[key] for key in ("minimum", "exclusiveMinimum") if key in part]
    high = [part[key] for key in ("maximum", "exclusiveMaximum") if key in part]
    least, most = max(low, default=-math.inf), min(high, default=math.inf)
    if least >= _LARGEST or most <= -_LARGEST:
        refuse(place, "a grammar cannot keep numbers beyond a bound of more than 18 digits")
    if "integer" in kinds or ("number" in kinds and (low or high)):
        if least < -_LARGEST:
            part.pop("exclusiveMinimum", None)
            part["minimum"] = -_LARGEST
        if most > _LARGEST:
            part.pop("exclusiveMaximum", None)
            part["maximum"] = _LARGEST
    if "number" in kinds and "multipleOf" not in part and (low or high) and most - least >= _NARROW:
        part["multipleOf"] = float(f"1e-{DECIMALS}")
