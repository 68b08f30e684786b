"""The calls of Granite: ``<|tool_call|>[{"name": "f", "arguments": {...}}]``, a list behind a tag.

Granite 3 writes the tag as a special token or as ``<tool_call>``, and closes neither; Granite 4 writes blocks as
Hermes does. All are read alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.tools.lark import object_grammar
from ollama_nb.prompt.tools.scan import ScanParser, read_tagged_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["GraniteFormat"]

_OPENING: Final = ("<|tool_call|>", "<tool_call>")
_CLOSING: Final = ("<|/tool_call|>", "</tool_call>")


@dataclass
class GraniteFormat:
    """A list of JSON objects, or one alone where ``is_list`` is false; both are read, only one is asked for."""

    tag: str = "<|tool_call|>"
    is_list: bool = True
    name = "granite"
    speaks_in_channels = False

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return ScanParser(_read, tools)

    def opening(self) -> str:
        """The tag."""
        return self.tag

    def grammar(self, tools: Sequence[Tool]) -> str:
        """A list of one."""
        return object_grammar(tools, before="[", behind="]") if self.is_list else object_grammar(tools, before="\n")


def _read(reader: Reader) -> Steps[None]:
    yield from read_tagged_calls(reader, _OPENING, _CLOSING)
