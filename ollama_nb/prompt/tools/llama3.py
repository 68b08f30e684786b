"""The calls of Llama 3: ``{"name": "f", "parameters": {...}}``, alone at the beginning or behind ``<|python_tag|>``.

Several stand one behind the other, with ``;`` between them. An object behind other text is content, as in an answer
that shows JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.tools.lark import object_grammar
from ollama_nb.prompt.tools.scan import ScanParser, read_calls, read_tagged_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["Llama3Format"]

_TAG: Final = "<|python_tag|>"


class Llama3Format:
    """JSON with ``parameters``."""

    name = "llama3"
    speaks_in_channels = False

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return ScanParser(_read, tools)

    def opening(self) -> str:
        """Nothing: a call begins with its object."""
        return ""

    def grammar(self, tools: Sequence[Tool]) -> str:
        """One object."""
        return object_grammar(tools, arguments_key="parameters")


def _read(reader: Reader) -> Steps[None]:
    yield from reader.skip()
    reader.give_back()
    if (yield from reader.is_at("{")) and (yield from read_calls(reader)):
        yield from reader.leave()
    yield from read_tagged_calls(reader, [_TAG], [])
