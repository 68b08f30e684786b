"""The calls of Mistral's models, behind ``[TOOL_CALLS]``.

A list ``[{"name": "f", "arguments": {...}, "id": "..."}]``, or in newer models one marker and one name a call:
``[TOOL_CALLS]f[ARGS]{...}``, with ``[CALL_ID]...`` before ``[ARGS]`` in some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ollama_nb.prompt.tools.lark import named_grammar, object_grammar
from ollama_nb.prompt.tools.scan import ScanParser, load_json, read_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["MistralFormat"]


@dataclass
class MistralFormat:
    """A list of objects, or names with arguments where ``is_named``; both are read, only one is asked for."""

    is_named: bool = False
    name = "mistral"
    speaks_in_channels = False

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return ScanParser(_read, tools)

    def opening(self) -> str:
        """The marker."""
        return "[TOOL_CALLS]"

    def grammar(self, tools: Sequence[Tool]) -> str:
        """A list of one, or a name and its arguments.

        ``[ARGS]`` is left away there: llguidance takes a special token in square brackets for a number.
        """
        return named_grammar(tools) if self.is_named else object_grammar(tools, before="[", behind="]")


def _read(reader: Reader) -> Steps[None]:
    while (yield from reader.until("[TOOL_CALLS]")):
        yield from reader.skip()
        is_json = (yield from reader.is_at("[")) or (yield from reader.is_at("{"))
        if (yield from (read_calls(reader) if is_json else _read_named(reader))):
            yield from reader.leave()


def _read_named(reader: Reader) -> Steps[bool]:
    name = yield from reader.word()
    if (yield from reader.literal("[CALL_ID]", "[ARGS]")) == "[CALL_ID]":
        yield from reader.word()
        yield from reader.literal("[ARGS]")
    yield from reader.skip()
    text = yield from reader.json_object()
    return reader.call(name, load_json(text or ""))
