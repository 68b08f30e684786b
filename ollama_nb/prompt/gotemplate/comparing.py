"""The functions eq, ne, lt, le, gt and ge, with Go's idea of what may be compared with what.

Kinds do not mix: 1 and 1.0 are no equals but an error. Only a uint8 and an int compare by value.
"""

from __future__ import annotations

from typing import Final

from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.prompt.gotemplate.values import INVALID, Byte, GoValue, Struct, is_nil, type_name

__all__ = ["eq", "ge", "gt", "le", "lt", "ne"]

_KINDS: Final = {str: "string", bool: "bool", int: "int", Byte: "int", float: "float", complex: "complex"}
_ORDERED: Final = frozenset({"string", "int", "float"})


def _kind(value: GoValue) -> str | None:
    """What a value compares as; None for nil, lists, maps and structs."""
    return _KINDS.get(type(value))


def eq(first: GoValue, *others: GoValue) -> bool:
    """Whether the first equals any of the others; later ones are not looked at."""
    if not others:
        raise TemplateRunError("missing argument for comparison")
    kind = _kind(first)
    for other in others:
        if kind != _kind(other):
            if is_nothing(first) or is_nothing(other):
                continue
            raise TemplateRunError("incompatible types for comparison")
        if first == other if kind else _same(first, other):
            return True
    return False


def is_nothing(value: GoValue) -> bool:
    """Whether a value is an untyped nil."""
    return value is None or value is INVALID


def _same(first: GoValue, other: GoValue) -> bool:
    """Equality of what is no basic value: of nils, and of pointers to the same."""
    different = type(first) is not type(other) and not is_nothing(first) and not is_nothing(other)
    if different:
        raise TemplateRunError(f"non-comparable types {type_name(first)}, {type_name(other)}")
    if is_nil(first) or is_nil(other):
        return is_nil(first) == is_nil(other)
    if isinstance(first, Struct) and first.pointer:
        return first is other
    raise TemplateRunError(f"uncomparable type {type_name(other)}")


def ne(first: GoValue, other: GoValue) -> bool:
    """The opposite of eq."""
    return not eq(first, other)


def lt(first: GoValue, other: GoValue) -> bool:
    """Whether the first is less than the other: numbers by value, strings by bytes."""
    kind, other_kind = _kind(first), _kind(other)
    if kind is None or other_kind is None:
        raise TemplateRunError("invalid type for comparison")
    if kind != other_kind:
        raise TemplateRunError("incompatible types for comparison")
    if kind not in _ORDERED:
        raise TemplateRunError("invalid type for comparison")
    return bool(first < other)


def le(first: GoValue, other: GoValue) -> bool:
    """Less or equal."""
    return lt(first, other) or eq(first, other)


def gt(first: GoValue, other: GoValue) -> bool:
    """Not less or equal."""
    return not le(first, other)


def ge(first: GoValue, other: GoValue) -> bool:
    """Not less."""
    return not lt(first, other)
