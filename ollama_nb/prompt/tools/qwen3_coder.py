"""The calls of Qwen3-Coder: ``<tool_call><function=f><parameter=p>value</parameter></function></tool_call>``.

Every tag and value stands on lines of its own. Values stand as they are, not as JSON; what they are is told by the
tool's schema. The models leave the opening ``<tool_call>`` out now and then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ollama_nb.prompt.tools.lark import json_rule, quoted
from ollama_nb.prompt.tools.scan import ScanParser, load_json, read_calls
from ollama_nb.prompt.tools.schema import arguments_schema, tool_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["Qwen3CoderFormat"]

_BLOCK: Final = "<tool_call>"
_BLOCK_END: Final = "</tool_call>"
_FUNCTION: Final = "<function="
_FUNCTION_END: Final = "</function>"
_PARAMETER: Final = "<parameter="
_PARAMETER_END: Final = "</parameter>"

_PYTHON: Final = {"True": "true", "False": "false", "None": "null", "none": "null", "null": "null"}
_KINDS: Final = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}

_MAX_DEPTH: Final = 8
"""Levels of choices among schemas that are followed, for they may go round in circles."""

_TEXT_RULE: Final = "text[lazy]: /(.|\\n)*<\\/parameter>/\n"
"""A text up to its closing tag, the tag included."""


class Qwen3CoderFormat:
    """A tag for every argument."""

    name = "qwen3-coder"
    speaks_in_channels = False

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return ScanParser(_read, tools)

    def opening(self) -> str:
        """All up to the name."""
        return f"{_BLOCK}\n{_FUNCTION}"

    def grammar(self, tools: Sequence[Tool]) -> str:
        """The name and its arguments in the order of the schema; the block's closing tag is left away."""
        rules = [f"start: {' | '.join(f'call_{index}' for index in range(len(tools)))}\n", _TEXT_RULE]
        for index, tool in enumerate(tools):
            rules += _call_rules(f"call_{index}", tool)
        return "".join(rules)


def _call_rules(rule: str, tool: Tool) -> Iterator[str]:
    schema = arguments_schema(tool)
    parts = [quoted(f"{tool_name(tool)}>\n")]
    for index, (name, part) in enumerate(schema.get("properties", {}).items()):
        value, closing = f"{rule}_{index}", quoted(f"\n{_PARAMETER_END}\n")
        if _kinds(part, schema) != {"string"}:
            yield json_rule(value, part, within=schema)
        elif choices := _choices(_resolve(part, schema)):
            yield f"{value}: {' | '.join(quoted(str(choice)) for choice in choices)}\n"
        else:
            value, closing = "text", quoted("\n")
        mark = "" if name in schema.get("required", ()) else "?"
        parts.append(f"({quoted(f'{_PARAMETER}{name}>' + chr(10))} {value} {closing}){mark}")
    yield f"{rule}: {' '.join(parts)} {quoted(_FUNCTION_END)}\n"


def _read(reader: Reader) -> Steps[None]:
    while tag := (yield from reader.until(_BLOCK, _FUNCTION)):
        if tag == _BLOCK:
            yield from reader.skip()
            if (yield from read_calls(reader)):  # as its elders write them
                yield from reader.leave(_BLOCK_END)
                continue
            tag = yield from reader.literal(_FUNCTION)
        if tag and (yield from _read_function(reader)):
            yield from reader.leave(_BLOCK_END)


def _read_function(reader: Reader) -> Steps[bool]:
    name = yield from reader.word()
    if not (yield from reader.literal(">")) or name not in reader.tools:
        return False
    parameters = reader.tools[name]["function"].get("parameters")
    schema = parameters if isinstance(parameters, dict) else {}
    arguments: dict[str, Any] = {}
    while True:
        yield from reader.skip()
        tag = yield from reader.literal(_PARAMETER, _FUNCTION_END, _BLOCK_END)
        if tag != _PARAMETER:
            return bool(tag) and reader.call(name, arguments)
        parameter, _ = yield from reader.keep_until(">")
        text, end = yield from reader.keep_until(_PARAMETER_END)
        if not end:
            return False
        kinds = _kinds(_mapping(schema, "properties").get(parameter), schema)
        arguments[parameter] = _value(text.removeprefix("\n").removesuffix("\n"), kinds)


def _value(text: str, kinds: set[str]) -> Any:  # noqa: ANN401 - any JSON value
    """What a parameter's text says: a value of one of these kinds if it can be read as one, else the text."""
    if kinds == {"string"}:
        return text
    word = text.strip()
    value = load_json(_PYTHON.get(word, word))
    kind = _KINDS.get(type(value), "null")
    if kind == "null":
        return None if "null" in kinds and _PYTHON.get(word.lower()) == "null" else text
    if kind == "number" and "integer" in kinds and value.is_integer():
        return int(value)
    return value if kind in kinds or (kind == "integer" and "number" in kinds) else text


def _kinds(schema: object, root: dict[str, Any], depth: int = 0) -> set[str]:
    """The kinds of value that a schema allows; where it does not say, what nobody takes for text."""
    if not isinstance(schema, dict):
        return {"string"}
    part = _resolve(schema, root)
    kinds = part.get("type")
    found = {kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)}
    found = found or {_KINDS.get(type(value), "null") for value in _choices(part)}
    if depth < _MAX_DEPTH:
        for key in ("anyOf", "oneOf", "allOf"):
            parts = part.get(key)
            for each in parts if isinstance(parts, list) else ():
                found |= _kinds(each, root, depth + 1)
    return found or {"object", "array"}


def _choices(schema: dict[str, Any]) -> list[Any]:
    """The values that a schema lists; none where it does not."""
    choices = schema.get("enum")
    return choices if isinstance(choices, list) else [schema["const"]] if "const" in schema else []


def _resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The definition that a schema points at, or the schema itself."""
    _, _, name = str(schema.get("$ref", "")).rpartition("/")
    definition = (_mapping(root, "definitions") | _mapping(root, "$defs")).get(name)
    return definition if isinstance(definition, dict) else schema


def _mapping(schema: dict[str, Any], key: str) -> dict[str, Any]:
    value = schema.get(key)
    return value if isinstance(value, dict) else {}
