"""Keywords of JSON Schema said in other words, which llguidance follows: older drafts, map keys, sets, counts.

Each takes the whole of one schema, not what stands within its parts, and leaves alone what it does not speak of.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.prompt.formats.refusal import refuse

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["as_map_keys", "distinct_items", "drop_needless_counts", "infer_type", "modern", "plain_times"]

MAX_DISTINCT: Final = 6
"""Values of the largest set that is written out as all lists of distinct ones."""

_FAMILIES: Final = {
    "object": (
        "properties",
        "patternProperties",
        "additionalProperties",
        "required",
        "minProperties",
        "maxProperties",
    ),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_SETTLED: Final = ("type", "const", "enum", "$ref", "anyOf", "oneOf", "allOf")

_MAX_HOPS: Final = 16


def modern(source: dict[str, Any], place: str) -> dict[str, Any]:
    """A schema of draft 4 to 2019-09 as 2020-12 says it."""
    schema = dict(source)
    if isinstance(schema.get("items"), list):
        items = schema.pop("items")
        if items:
            schema["prefixItems"] = items
        if "additionalItems" in schema:
            schema["items"] = schema["additionalItems"]
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive):
            if inclusive not in schema:
                refuse(f"{place}/{exclusive}", f'true says nothing without "{inclusive}"')
            schema[exclusive] = schema.pop(inclusive)
    return schema


_TIME: Final = r"[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-][0-2][0-9]:[0-5][0-9])$"
_DATE: Final = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"
_PLAIN: Final = {"date": f"{_DATE}$", "time": f"^{_TIME}", "date-time": f"{_DATE}T{_TIME}"}


def plain_times(schema: dict[str, Any]) -> None:
    """Keep dates and times to what all programs read: years of four digits, no leap seconds, microseconds at most."""
    if "pattern" not in schema and schema.get("format") in _PLAIN:
        schema["pattern"] = _PLAIN[schema["format"]]


def infer_type(schema: dict[str, Any]) -> None:
    """Give a schema that speaks of one type only that type: who writes ``properties`` means an object."""
    if any(key in schema for key in _SETTLED):
        return
    spoken_of = [kind for kind, keys in _FAMILIES.items() if any(key in schema for key in keys)]
    if len(spoken_of) == 1:
        schema["type"] = spoken_of[0]


def as_map_keys(source: dict[str, Any], place: str) -> dict[str, Any]:
    """``propertyNames`` as ``patternProperties``, or as ``properties`` where the names are listed."""
    if "propertyNames" not in source:
        return source
    schema = dict(source)
    names = schema.pop("propertyNames")
    rules = {key: value for key, value in names.items() if key in _NAME_KEYS} if isinstance(names, dict) else {}
    if names is True or (isinstance(names, dict) and not rules):
        return schema
    place = f"{place}/propertyNames"
    if any(key in schema for key in ("properties", "patternProperties")):
        refuse(place, "this cannot be kept beside properties or patternProperties; leave it out")
    rest = schema.pop("additionalProperties", True)
    schema["additionalProperties"] = False
    if rules.keys() <= {"enum"} or rules.keys() <= {"const"}:
        listed = rules["enum"] if "enum" in rules else [rules["const"]]
        schema["properties"] = dict.fromkeys((name for name in listed if isinstance(name, str)), rest)
    elif rules.keys() <= {"pattern"}:
        schema["patternProperties"] = {rules["pattern"]: rest}
    elif rules.keys() <= {"minLength", "maxLength"}:
        bounds = f"{rules.get('minLength', 0)},{rules.get('maxLength', '')}"
        schema["patternProperties"] = {f"^(?s:.{{{bounds}}})$": rest}
    else:
        refuse(place, "of names a grammar can keep a pattern, or lengths, or a list of them, and only one of these")
    return schema


_NAME_KEYS: Final = frozenset(
    ("enum", "const", "pattern", "minLength", "maxLength", "format", "$ref", "anyOf", "oneOf", "allOf", "not")
)


def distinct_items(
    source: dict[str, Any], place: str, look_up: Callable[[object], tuple[str, Any] | None]
) -> dict[str, Any]:
    """``uniqueItems`` of a few listed values as all lists of them in their order; needless elsewhere, or refused.

    A grammar cannot remember which texts or numbers it has seen.
    """
    if source.get("uniqueItems") is not True:
        return source
    schema = {key: value for key, value in source.items() if key != "uniqueItems"}
    most = schema.get("maxItems")
    if isinstance(most, int) and most <= 1:
        return schema
    values = _listed(schema.get("items"), look_up)
    if values is None or "prefixItems" in schema:
        refuse(
            f"{place}/uniqueItems",
            f"a grammar can only keep this for lists of at most {MAX_DISTINCT} values that an enum names; leave it out",
        )
    least = schema.get("minItems", 0)
    sizes = [
        size
        for size in range(len(values) + 1)
        if size >= least and (not isinstance(most, int) or isinstance(most, bool) or size <= most)
    ]
    lists = [
        {"prefixItems": [{"const": value} for value in chosen], "items": False, "minItems": size, "type": "array"}
        if chosen
        else {"maxItems": 0, "type": "array"}
        for size in sizes
        for chosen in itertools.combinations(values, size)
    ]
    if not lists:
        refuse(f"{place}/minItems", f"there are only {len(values)} different values")
    rest = {key: value for key, value in schema.items() if key not in ("items", "minItems", "maxItems", "type")}
    return {"allOf": [rest, {"anyOf": lists}]} if "anyOf" in rest else {**rest, "anyOf": lists}


def _listed(items: object, look_up: Callable[[object], tuple[str, Any] | None]) -> list[Any] | None:
    """The few values that the elements of a list may have, each once."""
    for _ in range(_MAX_HOPS):
        if isinstance(items, dict) and "$ref" in items:
            target = look_up(items["$ref"])
            items = target[1] if target else None
    if not isinstance(items, dict) or ("enum" not in items and "const" not in items):
        return None
    listed = items["enum"] if "enum" in items else [items["const"]]
    if not isinstance(listed, list):
        return None
    values = list({json.dumps(value, sort_keys=True): value for value in listed}.values())
    return values if len(values) <= MAX_DISTINCT else None


def drop_needless_counts(schema: dict[str, Any], place: str, *, closes: bool) -> None:
    """Leave out numbers of properties that are certain anyway; refuse those that llguidance cannot count.

    It counts the properties of a map, and tells none from one where they are named and optional. A map's keys may
    repeat in a grammar, so more than one cannot be promised. ``closes`` if objects with names are to have no others.
    """
    least, most = schema.get("minProperties", 0), schema.get("maxProperties")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    is_named = bool(properties or schema.get("patternProperties"))
    is_closed = schema.get("additionalProperties", not (closes and is_named)) is False
    counted = is_closed and not schema.get("patternProperties")
    if least <= len(required):
        schema.pop("minProperties", None)
        least = 0
    if most is not None and counted and most >= len(properties):
        del schema["maxProperties"]
        most = None
    has_options = any(name not in required for name in properties)
    for key, number in (("minProperties", least), ("maxProperties", most)):
        if number and has_options and (number > 1 or not counted):
            refuse(f"{place}/{key}", "optional properties cannot be counted by a grammar; name those that are required")
    if least > len(required) + 1 and not counted:
        refuse(f"{place}/minProperties", "the keys of a map may repeat in a grammar, so only 1 can be promised")
