"""Schemas that go round in circles: what only endless values could fit is shut out, so that no answer begins it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["shut_endless"]


def shut_endless(root: object, parts: Iterable[dict[str, Any]], definitions: dict[str, Any]) -> bool:
    """Whether ``root`` has a value with an end. Those of ``parts`` that have none are made to fit nothing at all.

    References are names in ``definitions``.
    """
    ending = _ending(definitions)
    if not _ends(root, ending):
        return False
    for part in [part for part in parts if not _ends(part, ending)]:
        part.clear()
        part["enum"] = []
    return True


def _ending(definitions: dict[str, Any]) -> set[str]:
    """The names of those that have a value with an end."""
    asked_by: dict[str, list[str]] = {name: [] for name in definitions}
    for name, part in definitions.items():
        for other in _references(part) & definitions.keys():
            asked_by[other].append(name)
    ending: set[str] = set()
    waiting = list(definitions)
    while waiting:
        name = waiting.pop()
        if name not in ending and _ends(definitions[name], ending):
            ending.add(name)
            waiting += asked_by[name]
    return ending


def _references(part: object) -> set[str]:
    """The names of all definitions that a schema refers to."""
    found: set[str] = set()
    stack = [part]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                found.add(reference.rpartition("/")[2])
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return found


def _ends(part: object, ending: set[str]) -> bool:
    """Whether a schema has a value with an end, if only the definitions of these names have one."""
    if not isinstance(part, dict):
        return part is not False
    if not _combination_ends(part, ending):
        return False
    kinds = part.get("type")
    kinds = {kinds} if isinstance(kinds, str) else set(kinds or ("null",))
    if "const" in part or "enum" in part or kinds - {"object", "array"}:
        return True
    return ("object" in kinds and _object_ends(part, ending)) or ("array" in kinds and _list_ends(part, ending))


def _combination_ends(part: dict[str, Any], ending: set[str]) -> bool:
    """The same of what a schema refers to and is combined of; True where that is nothing."""
    if "$ref" in part and part["$ref"].rpartition("/")[2] not in ending:
        return False
    choices = [part[key] for key in ("anyOf", "oneOf") if key in part]
    return all(_ends(other, ending) for other in part.get("allOf", ())) and all(
        any(_ends(other, ending) for other in choice) for choice in choices
    )


def _object_ends(part: dict[str, Any], ending: set[str]) -> bool:
    properties, rest = part.get("properties", {}), part.get("additionalProperties", True)
    if patterns := part.get("patternProperties"):
        rest = {"anyOf": [*patterns.values(), rest]}
    return all(_ends(properties.get(name, rest), ending) for name in part.get("required", ()))


def _list_ends(part: dict[str, Any], ending: set[str]) -> bool:
    least, first = part.get("minItems", 0), part.get("prefixItems", [])
    needed = first[:least] + [part.get("items", True)] * (least > len(first))
    return all(_ends(item, ending) for item in needed)
