"""How Python data is seen as values of Go.

======================  ==========================
Python                  Go
======================  ==========================
None                    nil in an ``any``
INVALID                 no value at all (reflect's zero Value), such as the dot of ``{{ template "x" }}``
bool int float complex  bool int float64 complex128
Byte                    uint8
str                     string
bytes                   []byte
list, tuple             []any
dict                    map[string]any
GoList, GoMap           lists and maps of a type of their own, which may be nil
Struct                  a struct, or a pointer to one
======================  ==========================

Pure questions about one value; what a template does with the answers is left to ``evaluate`` and ``functions``.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar, Final, TypeAlias

from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.wire.gostrings import go_bytes

__all__ = [
    "INVALID",
    "MISSING",
    "Byte",
    "GoList",
    "GoMap",
    "GoValue",
    "Struct",
    "field_names",
    "field_value",
    "is_nil",
    "is_true",
    "length",
    "sorted_items",
    "type_name",
]

GoValue: TypeAlias = Any
"""Any value that a template may meet; the table above lists them."""


class _Invalid:
    """The type of INVALID."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INVALID"

    def __bool__(self) -> bool:
        return False


INVALID: Final = _Invalid()
MISSING: Final = object()
"""What ``field_value`` gives for a key that a map does not have."""


class Byte(int):
    """A uint8, such as an element of a string."""

    __slots__ = ()


class GoList(list[Any]):
    """A list of a named or element type; a nil one is empty and prints ``null`` as JSON."""

    go_type: ClassVar[str] = "[]interface {}"

    def __init__(self, items: Any = None) -> None:  # noqa: ANN401 - an iterable of values, or None for nil
        super().__init__(() if items is None else items)
        self.is_nil = items is None

    def go_string(self) -> str | None:
        """What Go's String method of the type says, if it has one."""
        return None

    def go_json(self) -> GoValue:
        """What stands in JSON for this list: None for nil."""
        return None if self.is_nil else list(self)


class GoMap(dict[str, Any]):
    """A map of a named or element type."""

    go_type: ClassVar[str] = "map[string]interface {}"

    def __init__(self, items: Any = None) -> None:  # noqa: ANN401 - a mapping, or None for nil
        super().__init__(() if items is None else items)
        self.is_nil = items is None

    def printed(self) -> str | None:
        """What ``{{ }}`` prints, where that differs from ``print``."""
        return None

    def zero(self) -> GoValue:
        """The value of a missing key: the zero of the element type."""
        return None


class Struct:
    """A dataclass whose fields have Go's names.

    ``go_type`` is its type; ``pointer`` says that templates meet it by pointer. ``json_fields`` gives for each
    field its JSON name and whether an empty value is left out; ``unprinted`` are fields that ``%v`` skips when
    empty, because the Go type that templates were written for did not have them.
    """

    go_type: ClassVar[str] = "struct {}"
    pointer: ClassVar[bool] = False
    json_fields: ClassVar[dict[str, tuple[str, bool]]] = {}
    unprinted: ClassVar[frozenset[str]] = frozenset()

    def go_string(self) -> str | None:
        """What Go's String method of the type says, if it has one."""
        return None


_NAMES: dict[type, tuple[str, ...]] = {}


def field_names(kind: type) -> tuple[str, ...]:
    """The fields of a Struct or any other dataclass, in order; none for what is no dataclass.

    As in Go, only names with a capital are for everyone.
    """
    names = _NAMES.get(kind)
    if names is None:
        declared = fields(kind) if hasattr(kind, "__dataclass_fields__") else ()
        names = _NAMES[kind] = tuple(item.name for item in declared if item.name[:1].isupper())
    return names


_TYPE_NAMES: Final[dict[type, str]] = {
    type(None): "<nil>",
    _Invalid: "<nil>",
    bool: "bool",
    int: "int",
    float: "float64",
    complex: "complex128",
    Byte: "uint8",
    str: "string",
    bytes: "[]uint8",
    list: "[]interface {}",
    tuple: "[]interface {}",
    dict: "map[string]interface {}",
}


def type_name(value: GoValue) -> str:
    """The name of a value's type, as ``%T`` prints it."""
    kind = type(value)
    name = _TYPE_NAMES.get(kind)
    if name is None:
        name = getattr(kind, "go_type", kind.__name__)
        if getattr(kind, "pointer", False):
            name = "*" + name
    return name


def is_nil(value: GoValue) -> bool:
    """Whether a value is nil or nothing: a nil list or map too, an empty one not."""
    return value is None or value is INVALID or (isinstance(value, (GoList, GoMap)) and value.is_nil)


_PLAIN: Final = frozenset((bool, str, list, int, float, dict, complex, bytes, tuple))


def is_true(value: GoValue) -> bool:
    """Whether ``if`` takes a value for true: all but zero, nil and what is empty; a struct is always true."""
    if type(value) in _PLAIN or isinstance(value, (list, dict, int)):
        return bool(value)
    return value is not None and value is not INVALID


def length(value: GoValue) -> int | None:
    """The length of a string in bytes, of a list or of a map; None for what has none."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(go_bytes(value))
    if isinstance(value, (list, dict, tuple, bytes)):
        return len(value)
    return None


def sorted_items(value: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """A map's entries in the order in which Go visits them: by key."""
    try:
        return sorted(value.items(), key=lambda item: item[0])
    except TypeError:
        return sorted(value.items(), key=lambda item: str(item[0]))


def field_value(receiver: GoValue, name: str) -> GoValue:
    """The field of a struct or the entry of a map; MISSING where a map has none.

    Raises TemplateRunError for what has no fields. A field of INVALID is INVALID.
    """
    if name in field_names(type(receiver)):
        return getattr(receiver, name)
    if isinstance(receiver, dict):
        return receiver.get(name, MISSING)
    if receiver is INVALID:
        return INVALID
    if receiver is None:
        raise TemplateRunError(f"nil pointer evaluating interface {{}}.{name}")
    raise TemplateRunError(f"can't evaluate field {name} in type {type_name(receiver)}")
