"""The typed values of a prompt: messages, tool calls and tools, as templates written for Ollama see them.

Field names, JSON names and the order of both are those of Ollama's ``api`` package. How they are made from the JSON
of the HTTP API is in ``data``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ollama_nb.prompt.gotemplate.format import show
from ollama_nb.prompt.gotemplate.jsontext import json_text
from ollama_nb.prompt.gotemplate.values import GoList, GoMap, GoValue, Struct

__all__ = [
    "CallArguments",
    "CallList",
    "ImageList",
    "Message",
    "Messages",
    "PropertyMap",
    "PropertyType",
    "StringList",
    "Tool",
    "ToolCall",
    "ToolCallFunction",
    "ToolFunction",
    "ToolParameters",
    "ToolProperty",
    "Tools",
]


class ImageList(GoList):
    """Pictures, each as bytes."""

    go_type = "[]api.ImageData"


class StringList(GoList):
    """Strings only."""

    go_type = "[]string"


class CallArguments(GoMap):
    """The arguments of a tool call: JSON in ``{{ }}``, a map for print, printf and html."""

    go_type = "api.ToolCallFunctionArguments"

    def printed(self) -> str:
        """The arguments as JSON."""
        return json_text(self)


@dataclass(slots=True)
class ToolCallFunction(Struct):
    """Which function a model calls, and with what."""

    go_type: ClassVar[str] = "api.ToolCallFunction"
    json_fields: ClassVar[dict[str, tuple[str, bool]]] = {
        "Index": ("index", True),
        "Name": ("name", False),
        "Arguments": ("arguments", False),
    }
    Index: int = 0
    Name: str = ""
    Arguments: CallArguments = field(default_factory=CallArguments)


@dataclass(slots=True)
class ToolCall(Struct):
    """One call. Templates older than the ID print the call without it."""

    go_type: ClassVar[str] = "api.ToolCall"
    json_fields: ClassVar[dict[str, tuple[str, bool]]] = {"ID": ("id", True), "Function": ("function", False)}
    unprinted: ClassVar[frozenset[str]] = frozenset({"ID"})
    ID: str = ""
    Function: ToolCallFunction = field(default_factory=ToolCallFunction)


class CallList(GoList):
    """The calls of one message."""

    go_type = "[]api.ToolCall"


@dataclass(slots=True)
class Message(Struct):
    """One turn of a conversation; templates meet it by pointer."""

    go_type: ClassVar[str] = "api.Message"
    pointer: ClassVar[bool] = True
    json_fields: ClassVar[dict[str, tuple[str, bool]]] = {
        "Role": ("role", False),
        "Content": ("content", False),
        "Thinking": ("thinking", True),
        "Images": ("images", True),
        "ToolCalls": ("tool_calls", True),
        "ToolName": ("tool_name", True),
        "ToolCallID": ("tool_call_id", True),
    }
    unprinted: ClassVar[frozenset[str]] = frozenset({"ToolCallID"})
    Role: str = ""
    Content: str = ""
    Thinking: str = ""
    Images: ImageList = field(default_factory=ImageList)
    ToolCalls: CallList = field(default_factory=CallList)
    ToolName: str = ""
    ToolCallID: str = ""


class Messages(GoList):
    """The conversation."""

    go_type = "[]*api.Message"


class PropertyType(GoList):
    """The types that a property may have; a single one prints as the one string."""

    go_type = "api.PropertyType"

    def go_string(self) -> str:
        """The type, or the list of them."""
        if not self:
            return ""
        return str(self[0]) if len(self) == 1 else show(list(self))

    def go_json(self) -> GoValue:
        """The one string, or the list."""
        return self[0] if len(self) == 1 else GoList.go_json(self)


@dataclass(slots=True)
class ToolProperty(Struct):
    """One parameter of a tool. Its alternatives, ``anyOf``, are there for ``toTypeScriptType`` alone."""

    go_type: ClassVar[str] = "api.ToolProperty"
    json_fields: ClassVar[dict[str, tuple[str, bool]]] = {
        "Type": ("type", False),
        "Items": ("items", True),
        "Description": ("description", False),
        "Enum": ("enum", True),
    }
    Type: PropertyType = field(default_factory=PropertyType)
    Items: Any = None
    Description: str = ""
    Enum: GoList = field(default_factory=GoList)
    any_of: list[ToolProperty] = field(default_factory=list)


class PropertyMap(GoMap):
    """Parameters by name; a missing one is empty, not nil."""

    go_type = "map[string]api.ToolProperty"

    def zero(self) -> ToolProperty:
        """A property that says nothing."""
        return ToolProperty()


@dataclass(slots=True)
class ToolParameters(Struct):
    """The parameters of a tool."""

    go_type: ClassVar[str] = "api.ToolFunctionParameters"
    json_fields: ClassVar[dict[str, tuple[str, bool]]] = {
        "Type": ("type", False),
        "Defs": ("$defs", True),
        "Items": ("items", True),
        "Required": ("required", False),
        "Properties": ("properties", False),
    }
    Type: str = ""
    Defs: Any = None
    Items: Any = None
    Required: StringList = field(default_factory=StringList)
    Properties: PropertyMap = field(default_factory=PropertyMap)


@dataclass(slots=True)
class ToolFunction(Struct):
    """What a tool is called, does and takes; prints as JSON."""

    go_type: ClassVar[str] = "api.ToolFunction"
    json_fields: ClassVar[dict[str, tuple[str, bool]]] = {
        "Name": ("name", False),
        "Description": ("description", False),
        "Parameters": ("parameters", False),
    }
    Name: str = ""
    Description: str = ""
    Parameters: ToolParameters = field(default_factory=ToolParameters)

    def go_string(self) -> str:
        """The function as JSON."""
        return json_text(self)


@dataclass(slots=True)
class Tool(Struct):
    """One tool; prints as JSON."""

    go_type: ClassVar[str] = "api.Tool"
    json_fields: ClassVar[dict[str, tuple[str, bool]]] = {
        "Type": ("type", False),
        "Items": ("items", True),
        "Function": ("function", False),
    }
    Type: str = ""
    Items: Any = None
    Function: ToolFunction = field(default_factory=ToolFunction)

    def go_string(self) -> str:
        """The tool as JSON."""
        return json_text(self)


class Tools(GoList):
    """All tools; prints as JSON."""

    go_type = "api.Tools"

    def go_string(self) -> str:
        """The list as JSON; ``null`` for a nil one."""
        return json_text(self)
