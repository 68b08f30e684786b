"""JSON Schemas by chance, of the kinds that people ask models for; every value that fits one has an end.

What a value may be is as wide as a small model can fill in a few hundred tokens: texts have a greatest length, lists a
greatest number, and references do not go round in circles.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_NAMES: Final = ("id", "name", "age", "tags", "city", "unit", "size", "kind", "note", "price", "x y", "größe", 'q"')
_WORDS: Final = ("red", "green", "blue", "north", "a b", "é", 'say "x"', "")
_PATTERNS: Final = ("^[A-Z]{2}-[0-9]{3}$", "^(ja|nein|vielleicht)$", "^#[0-9a-f]{6}$", "^v[0-9]\\.[0-9]$", "^\\w{1,6}$")
_FORMATS: Final = ("date", "time", "date-time", "uuid", "ipv4")

Schema = dict[str, Any]


def random_schema(chance: random.Random) -> Schema:
    """A schema; the same for the same state of ``chance``."""
    maker = _Maker(chance)
    schema = maker.object(3) if chance.random() < 0.85 else maker.array(3)
    return {**schema, "$defs": maker.definitions} if maker.definitions else schema


@dataclass
class _Maker:
    """Makes the parts; ``levels`` are those that may still stand below."""

    chance: random.Random
    definitions: dict[str, Schema] = field(default_factory=dict)

    def value(self, levels: int) -> Schema:
        leaves: list[Callable[[], Schema]] = [
            self.text,
            self.text,
            self.integer,
            self.number,
            self.enumeration,
            self.constant,
            lambda: {"type": "boolean"},
            lambda: {"type": "null"},
        ]
        nests = [self.object, self.array, self.pair, self.any_of, self.one_of, self.nullable, self.reference]
        if levels > 0 and self.chance.random() < 0.6:
            return self.described(self.chance.choice(nests)(levels - 1))
        return self.described(self.chance.choice(leaves)())

    def described(self, schema: Schema) -> Schema:
        """With words that only describe, as generators of schemas add them."""
        if self.chance.random() < 0.3:
            schema = {
                "title": self.chance.choice(_NAMES).title(),
                **schema,
                "description": "As it is.",
                "default": None,
            }
        return schema

    # -- values without parts ---------------------------------------------------------------------------------------

    def text(self) -> Schema:
        kind = self.chance.randrange(3)
        if kind == 0:
            return {"type": "string", "pattern": self.chance.choice(_PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": self.chance.choice(_FORMATS)}
        least = self.chance.randrange(3)
        return {"type": "string", "minLength": least, "maxLength": least + self.chance.randint(1, 16)}

    def integer(self) -> Schema:
        low = self.chance.randint(-1000, 1000)
        schema: Schema = {"type": "integer", "minimum": low, "maximum": low + self.chance.randint(10, 5000)}
        if self.chance.random() < 0.25:
            schema["multipleOf"] = self.chance.choice([2, 3, 5])
        if self.chance.random() < 0.2:
            del schema[self.chance.choice(["minimum", "maximum"])]
        return schema

    def number(self) -> Schema:
        low = round(self.chance.uniform(-100, 100), 2)
        ends = self.chance.choice([("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")])
        return {"type": "number", ends[0]: low, ends[1]: round(low + self.chance.uniform(1, 50), 2)}

    def enumeration(self) -> Schema:
        if self.chance.random() < 0.5:
            return {"type": "string", "enum": self.chance.sample(_WORDS, self.chance.randint(1, 4))}
        return {"enum": self.chance.sample([1, "one", None, True, 2.5, ["a"], {"a": 1}], 3)}

    def constant(self) -> Schema:
        return {"const": self.chance.choice([3, "fixed", None, False, [1, 2], {"k": "v"}])}

    # -- values with parts ------------------------------------------------------------------------------------------

    def object(self, levels: int) -> Schema:
        if self.chance.random() < 0.15:
            keys = {"patternProperties": {"^[a-z]{1,4}$": self.value(0)}} if self.chance.random() < 0.5 else {}
            rest: Any = False if keys else self.value(0)
            # A map ends with its keys, which a model may repeat.
            return {"type": "object", **keys, "additionalProperties": rest, "maxProperties": 3}
        names = self.chance.sample(_NAMES, self.chance.randint(1, 4))
        schema: Schema = {
            "type": "object",
            "properties": {name: self.value(levels) for name in names},
            "required": [name for name in names if self.chance.random() < 0.8],
        }
        if self.chance.random() < 0.4:
            schema["additionalProperties"] = False
        return schema

    def array(self, levels: int) -> Schema:
        least = self.chance.randrange(3)
        return {
            "type": "array",
            "items": self.value(levels),
            "minItems": least,
            "maxItems": least + self.chance.randint(1, 2),
        }

    def pair(self, levels: int) -> Schema:
        """A tuple, as pydantic writes one."""
        parts = [self.value(levels) for _ in range(2)]
        return {"type": "array", "prefixItems": parts, "minItems": 2, "maxItems": 2}

    def any_of(self, levels: int) -> Schema:
        return {"anyOf": [self.value(levels) for _ in range(2)]}

    def one_of(self, levels: int) -> Schema:
        """A union that a property tells apart, as pydantic writes one."""
        options = []
        for kind in ("cat", "dog"):
            properties = {"kind": {"const": kind, "type": "string"}, "more": self.value(levels)}
            name = self.define({"type": "object", "properties": properties, "required": ["kind", "more"]})
            options.append({"$ref": name})
        return {"discriminator": {"propertyName": "kind"}, "oneOf": options}

    def nullable(self, levels: int) -> Schema:
        return {"anyOf": [self.value(levels), {"type": "null"}], "default": None}

    def reference(self, levels: int) -> Schema:
        return {"$ref": self.define(self.value(levels))}

    def define(self, schema: Schema) -> str:
        name = f"{self.chance.choice(string.ascii_uppercase)}{len(self.definitions)}"
        self.definitions[name] = schema
        return f"#/$defs/{name}"
