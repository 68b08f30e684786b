"""From the JSON of the HTTP API to the typed values of a prompt.

``template_data`` is what the layers above call. It checks types only, in one line a user can act on; what a request
must and must not have is left to them. Fields that the types do not have are dropped.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from ollama_nb.prompt.gotemplate.prompt_types import (
    CallArguments,
    CallList,
    ImageList,
    Message,
    Messages,
    PropertyMap,
    PropertyType,
    StringList,
    Tool,
    ToolCall,
    ToolCallFunction,
    ToolFunction,
    ToolParameters,
    ToolProperty,
    Tools,
)
from ollama_nb.prompt.gotemplate.values import GoList
from ollama_nb.wire.errors import BadRequestError

__all__ = ["template_data"]

T = TypeVar("T")

_KINDS: Final = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}


def template_data(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a template: ``Messages`` and ``Tools`` typed, all else as it is.

    Values that are typed already are kept. Raises BadRequestError where a message or a tool has a value of a wrong
    type.
    """
    data = dict(mapping)
    if "Messages" in data and not isinstance(data["Messages"], Messages):
        data["Messages"] = Messages(_items(data["Messages"], "messages", _message))
    if "Tools" in data and not isinstance(data["Tools"], Tools):
        data["Tools"] = Tools(_items(data["Tools"], "tools", _tool))
    return data


def _wrong(where: str, expected: str, value: object) -> BadRequestError:
    got = "null" if value is None else _KINDS.get(type(value), "an array" if isinstance(value, list) else "an object")
    return BadRequestError(f"{where}: expected {expected}, got {got}")


def _object(value: Any, where: str) -> Mapping[str, Any]:  # noqa: ANN401 - any JSON value
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    return value


def _items(value: Any, where: str, read: Callable[[Any, str], T]) -> list[T] | None:  # noqa: ANN401 - any JSON value
    """The elements of an array, each read; None for null."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise _wrong(where, "an array", value)
    return [read(item, f"{where}[{number}]") for number, item in enumerate(value)]


def _text(value: Any, where: str) -> str:  # noqa: ANN401 - any JSON value
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(where, "a string", value)
    return value


def _member(value: Mapping[str, Any], name: str, where: str) -> str:
    return _text(value.get(name), f"{where}.{name}")


def _plain(value: Any, where: str) -> Any:  # noqa: ANN401 - any JSON value
    """Free JSON, in which all numbers are float64."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            raise BadRequestError(f"{where}: number out of range") from None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    return value


# -- messages -----------------------------------------------------------------------------------------------------


def _message(value: Any, where: str) -> Message:  # noqa: ANN401 - any JSON value
    if isinstance(value, Message):
        return value
    value = _object(value, where)
    return Message(
        Role=_member(value, "role", where),
        Content=_member(value, "content", where),
        Thinking=_member(value, "thinking", where),
        Images=ImageList(_items(value.get("images"), f"{where}.images", _image)),
        ToolCalls=CallList(_items(value.get("tool_calls"), f"{where}.tool_calls", _tool_call)),
        ToolName=_member(value, "tool_name", where),
        ToolCallID=_member(value, "tool_call_id", where),
    )


def _image(value: Any, where: str) -> bytes:  # noqa: ANN401 - any JSON value
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(_text(value, where), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError(f"{where}: invalid base64") from None


def _tool_call(value: Any, where: str) -> ToolCall:  # noqa: ANN401 - any JSON value
    if isinstance(value, ToolCall):
        return value
    value = _object(value, where)
    inner = f"{where}.function"
    function = _object(value.get("function"), inner)
    index = function.get("index") or 0
    if isinstance(index, bool) or not isinstance(index, int):
        raise _wrong(f"{inner}.index", "an integer", index)
    arguments = function.get("arguments")
    if arguments is not None:
        arguments = _plain(_object(arguments, f"{inner}.arguments"), f"{inner}.arguments")
    return ToolCall(
        ID=_member(value, "id", where),
        Function=ToolCallFunction(index, _member(function, "name", inner), CallArguments(arguments)),
    )


# -- tools --------------------------------------------------------------------------------------------------------


def _tool(value: Any, where: str) -> Tool:  # noqa: ANN401 - any JSON value
    if isinstance(value, Tool):
        return value
    value = _object(value, where)
    inner = f"{where}.function"
    function = _object(value.get("function"), inner)
    return Tool(
        Type=_member(value, "type", where),
        Items=_plain(value.get("items"), f"{where}.items"),
        Function=ToolFunction(
            Name=_member(function, "name", inner),
            Description=_member(function, "description", inner),
            Parameters=_parameters(function.get("parameters"), f"{inner}.parameters"),
        ),
    )


def _parameters(value: Any, where: str) -> ToolParameters:  # noqa: ANN401 - any JSON value
    value = _object(value, where)
    properties = value.get("properties")
    if properties is not None:
        inner = f"{where}.properties"
        properties = {
            str(name): _property(item, f"{inner}.{name}") for name, item in _object(properties, inner).items()
        }
    return ToolParameters(
        Type=_member(value, "type", where),
        Defs=_plain(value.get("$defs"), f"{where}.$defs"),
        Items=_plain(value.get("items"), f"{where}.items"),
        Required=StringList(_items(value.get("required"), f"{where}.required", _text)),
        Properties=PropertyMap(properties),
    )


def _property(value: Any, where: str) -> ToolProperty:  # noqa: ANN401 - any JSON value
    value = _object(value, where)
    return ToolProperty(
        Type=_property_type(value, where),
        Items=_plain(value.get("items"), f"{where}.items"),
        Description=_member(value, "description", where),
        Enum=GoList(_items(value.get("enum"), f"{where}.enum", _plain)),
        any_of=_items(value.get("anyOf"), f"{where}.anyOf", _property) or [],
    )


def _property_type(value: Mapping[str, Any], where: str) -> PropertyType:
    if "type" not in value:
        return PropertyType()
    kind = value["type"]
    if kind is None or isinstance(kind, str):
        # A null is read as a string first, and so becomes the empty one.
        return PropertyType([kind or ""])
    return PropertyType(_items(kind, f"{where}.type", _text))
