"""The calls of Hermes, Qwen 2.5 and Qwen 3: ``<tool_call>{"name": "f", "arguments": {...}}</tool_call>``.

A line break stands on either side of the object. A call is one as soon as that is closed. A block may hold several,
and content may stand before and between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_nb.prompt.tools.lark import object_grammar
from ollama_nb.prompt.tools.scan import ScanParser, read_tagged_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["HermesFormat"]


class HermesFormat:
    """JSON in a block of its own."""

    name = "hermes"
    speaks_in_channels = False

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return ScanParser(_read, tools)

    def opening(self) -> str:
        """The tag and the line break behind it."""
        return "<tool_call>\n"

    def grammar(self, tools: Sequence[Tool]) -> str:
        """One object; the closing tag, a special token, is left away."""
        return object_grammar(tools)


def _read(reader: Reader) -> Steps[None]:
    yield from read_tagged_calls(reader, ["<tool_call>"], ["</tool_call>"])
