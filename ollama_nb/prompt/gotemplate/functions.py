"""The functions of a template: Go's own, Ollama's, and how others are added.

A Function knows how many arguments it takes and of which types, as Go's reflection would; ``evaluate`` checks them.
``and`` and ``or`` are not here: they do not evaluate all their arguments, so ``evaluate`` has them.
"""

from __future__ import annotations

import datetime as dt
import inspect
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.gotemplate.comparing import eq, ge, gt, le, lt, ne
from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.prompt.gotemplate.escaping import html, js, urlquery
from ollama_nb.prompt.gotemplate.format import sprint, sprintf, sprintln
from ollama_nb.prompt.gotemplate.jsontext import UnsupportedValueError, json_text
from ollama_nb.prompt.gotemplate.prompt_types import PropertyType, ToolProperty
from ollama_nb.prompt.gotemplate.values import (
    Byte,
    GoMap,
    GoValue,
    is_true,
    length,
    type_name,
)
from ollama_nb.wire.gostrings import go_bytes, go_string

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BUILTINS", "LAZY", "OLLAMA", "Function", "as_functions"]

LAZY: Final = frozenset({"and", "or"})
"""Builtins that stop at the argument which decides."""


@dataclass(frozen=True)
class Function:
    """A function with the types of its parameters: ``any``, ``string``, ``int``, ``float``, ``bool`` or ``list``.

    ``concrete`` is any value that is not an entry of a map: Go's slice takes no others as indexes.
    ``variadic`` is the type of any number of further arguments. Where ``call`` raises an exception, the template
    fails with its text.
    """

    call: Callable[..., GoValue]
    parameters: tuple[str, ...] = ()
    variadic: str | None = None

    @classmethod
    def of(cls, call: Callable[..., GoValue]) -> Function:
        """The function with the types that its annotations say; what they do not say is ``any``."""
        parameters: list[str] = []
        variadic = None
        for parameter in inspect.signature(call).parameters.values():
            annotation = parameter.annotation
            written = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "any")
            kind = _ANNOTATIONS.get(written.partition("[")[0], "any")
            if parameter.kind is parameter.VAR_POSITIONAL:
                variadic = kind
            elif parameter.kind is not parameter.KEYWORD_ONLY:
                parameters.append(kind)
        return cls(call, tuple(parameters), variadic)


_ANNOTATIONS: Final = {"str": "string", "int": "int", "float": "float", "bool": "bool", "list": "list"}


def as_functions(functions: Mapping[str, Callable[..., GoValue] | Function]) -> dict[str, Function]:
    """The functions as Functions."""
    return {
        name: function if isinstance(function, Function) else Function.of(function)
        for name, function in functions.items()
    }


# -- Go's own -----------------------------------------------------------------------------------------------------


def _not(value: GoValue) -> bool:
    return not is_true(value)


def _len(value: GoValue) -> int:
    size = length(value)
    if size is None:
        raise TemplateRunError("len of nil pointer" if value is None else f"len of type {type_name(value)}")
    return size


def _position(index: GoValue, size: int, *, past_end: bool) -> int:
    """An index as an int, checked against a size."""
    if isinstance(index, bool) or not isinstance(index, int):
        kind = "nil" if index is None else f"type {type_name(index)}"
        raise TemplateRunError(f"cannot index slice/array with {kind}")
    if index < 0 or index > size or (index == size and not past_end):
        raise TemplateRunError(f"index out of range: {index}")
    return index


def _index(item: GoValue, *indexes: GoValue) -> GoValue:
    if item is None:
        raise TemplateRunError("index of untyped nil")
    for index in indexes:
        if isinstance(item, str):
            data = go_bytes(item)
            item = Byte(data[_position(index, len(data), past_end=False)])
        elif isinstance(item, bytes):
            item = Byte(item[_position(index, len(item), past_end=False)])
        elif isinstance(item, (list, tuple)):
            item = item[_position(index, len(item), past_end=False)]
        elif isinstance(item, dict):
            if not isinstance(index, str):
                raise TemplateRunError(f"value has type {type_name(index)}; should be string")
            missing = item.zero() if isinstance(item, GoMap) else None
            item = item.get(index, missing)
        elif item is None:
            raise TemplateRunError("index of nil pointer")
        else:
            raise TemplateRunError(f"can't index item of type {type_name(item)}")
    return item


_MAX_SLICE_INDEXES: Final = 3


def _slice(item: GoValue, *indexes: GoValue) -> GoValue:
    if item is None:
        raise TemplateRunError("slice of untyped nil")
    if len(indexes) > _MAX_SLICE_INDEXES:
        raise TemplateRunError(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, (str, bytes, list, tuple)):
        raise TemplateRunError(f"can't slice item of type {type_name(item)}")
    if isinstance(item, str) and len(indexes) == _MAX_SLICE_INDEXES:
        raise TemplateRunError("cannot 3-index slice a string")
    content = go_bytes(item) if isinstance(item, str) else item
    size = len(content)
    places = [_position(index, size, past_end=True) for index in indexes]
    for before, after in itertools.pairwise(places):
        if before > after:
            raise TemplateRunError(f"invalid slice index: {before} > {after}")
    start = places[0] if places else 0
    end = places[1] if len(places) > 1 else size
    if isinstance(content, bytes):
        return go_string(content[start:end]) if isinstance(item, str) else content[start:end]
    part = content[start:end]
    return part if type(content) in (list, tuple) else type(content)(part)


def _call(function: GoValue, *_: GoValue) -> GoValue:
    # Templates have no function values here: nothing that they are given or make is one.
    raise TemplateRunError("call of nil" if function is None else f"non-function of type {type_name(function)}")


BUILTINS: Final[dict[str, Function]] = {
    "not": Function(_not, ("any",)),
    "eq": Function(eq, ("any",), "any"),
    "ne": Function(ne, ("any", "any")),
    "lt": Function(lt, ("any", "any")),
    "le": Function(le, ("any", "any")),
    "gt": Function(gt, ("any", "any")),
    "ge": Function(ge, ("any", "any")),
    "len": Function(_len, ("any",)),
    "index": Function(_index, ("any",), "any"),
    "slice": Function(_slice, ("any",), "concrete"),
    "call": Function(_call, ("any",), "any"),
    "print": Function(sprint, (), "any"),
    "printf": Function(sprintf, ("string",), "any"),
    "println": Function(sprintln, (), "any"),
    "html": Function(html, (), "any"),
    "js": Function(js, (), "any"),
    "urlquery": Function(urlquery, (), "any"),
}


# -- Ollama's -----------------------------------------------------------------------------------------------------

_TYPESCRIPT: Final = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _json(value: GoValue) -> str:
    try:
        return json_text(value)
    except UnsupportedValueError:
        return ""


def _typescript(value: GoValue) -> str:
    if not isinstance(value, ToolProperty):
        return "any"
    if value.any_of:
        return " | ".join(map(_typescript, value.any_of))
    return _typescript_types(value.Type)


def _typescript_types(types: PropertyType) -> str:
    return " | ".join(_TYPESCRIPT.get(str(name), "any") for name in types) or "any"


def _today(days: int) -> str:
    return (dt.datetime.now().astimezone() + dt.timedelta(days=days)).strftime("%Y-%m-%d")


OLLAMA: Final[dict[str, Function]] = {
    "json": Function(_json, ("any",)),
    "currentDate": Function(lambda *_: _today(0), (), "string"),
    "yesterdayDate": Function(lambda *_: _today(-1), (), "string"),
    "toTypeScriptType": Function(_typescript, ("any",)),
}
"""What Ollama adds to Go's functions."""
