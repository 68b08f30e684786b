"""Fields of requests that take more than one type of JSON, or more than their type says: what they take, as a schema.

The types are what the decoder checks; the rest is checked where the field is used. What stands here beside a type is
for the document of the API (``server/openapi``) and changes nothing of what is accepted.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta, Raw

__all__ = [
    "SCHEMAS",
    "Format",
    "Image",
    "KeepAlive",
    "RequestOptions",
    "Texts",
    "Think",
    "ToolChoice",
    "ToolList",
    "Vector",
]

SCHEMAS: Final = "#/components/schemas/"
"""Where the document keeps the types that others refer to."""

_NOT_SAID: Final = {"type": "null"}

Format: TypeAlias = Annotated[
    Any,
    Meta(
        description="`json` for any JSON object, or the JSON schema that the answer has to follow.",
        extra_json_schema={"anyOf": [{"enum": ["", "json"]}, {"type": "object"}, _NOT_SAID]},
    ),
]
KeepAlive: TypeAlias = Annotated[
    Any,
    Meta(
        description="How long the model stays loaded: seconds, or a duration such as `5m`; negative for ever, 0 not.",
        extra_json_schema={
            "anyOf": [{"type": "number"}, {"type": "string", "examples": ["5m", "1h30m", "-1s"]}, _NOT_SAID]
        },
    ),
]
Think: TypeAlias = Annotated[
    Any,
    Meta(
        description="Whether a model that can think does so before it answers, or how much.",
        extra_json_schema={"anyOf": [{"type": "boolean"}, {"enum": ["low", "medium", "high", "max"]}, _NOT_SAID]},
    ),
]
RequestOptions: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="Over the model's own parameters; names that nobody knows are ignored.",
        extra_json_schema={"$ref": f"{SCHEMAS}Options"},
    ),
]
Image: TypeAlias = Annotated[
    str, Meta(description="An image file in base64.", extra_json_schema={"contentEncoding": "base64"})
]
ToolList: TypeAlias = list[
    Annotated[
        dict[str, Any],
        Meta(
            description="A function that the model may call.",
            extra_json_schema={
                "properties": {
                    "type": {"const": "function"},
                    "function": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "minLength": 1},
                            "description": {"type": "string"},
                            "parameters": {"type": "object", "description": "A JSON schema of the arguments."},
                        },
                        "required": ["name"],
                    },
                },
                "required": ["function"],
            },
        ),
    ]
]
ToolChoice: TypeAlias = Annotated[
    Any,
    Meta(
        description="Whether the model has to call a tool, and which.",
        extra_json_schema={
            "anyOf": [
                {"enum": ["none", "auto", "required"]},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": "function"},
                        "function": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}},
                            "required": ["name"],
                        },
                    },
                    "required": ["function"],
                },
                _NOT_SAID,
            ]
        },
    ),
]
Texts: TypeAlias = Annotated[
    Any,
    Meta(
        description="One text or several.",
        extra_json_schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, _NOT_SAID]},
    ),
]
Vector: TypeAlias = Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "number"}})]
