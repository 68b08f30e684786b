"""The calls of Cohere's models, and the sections in which the newer ones write.

Command R writes ``Action:`` and a fenced list ``[{"tool_name": "f", "parameters": {...}}]``. Command R7B and Command A
write the same list between ``<|START_ACTION|>`` and ``<|END_ACTION|>``, what they think and what they answer between
markers of their own, which are taken away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.tools.call import Channels
from ollama_nb.prompt.tools.lark import object_grammar
from ollama_nb.prompt.tools.scan import ScanParser, read_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["CommandRFormat"]

_ACTION: Final = "<|START_ACTION|>"
_THINKING: Final = "<|START_THINKING|>"
_FENCED: Final = "Action:"
_TAGS: Final = (
    _ACTION,
    _THINKING,
    "<|END_ACTION|>",
    "<|END_THINKING|>",
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
)


@dataclass
class CommandRFormat:
    """A fenced list, or sections between markers where it speaks in channels; both are read, one is asked for."""

    speaks_in_channels: bool = False
    name = "command-r"

    @property
    def channels(self) -> Channels | None:
        """The sections of thinking and of the response, where the model has them."""
        if not self.speaks_in_channels:
            return None
        return Channels(
            thinking=(_THINKING, "<|END_THINKING|>"), content=("<|START_RESPONSE|>", "<|END_RESPONSE|>"), marks=_TAGS
        )

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return ScanParser(_read, tools)

    def opening(self) -> str:
        """All up to the list."""
        return _ACTION if self.speaks_in_channels else f"{_FENCED} ```json\n"

    def grammar(self, tools: Sequence[Tool]) -> str:
        """A list of one."""
        return object_grammar(tools, before="[\n    ", behind="\n]", name_key="tool_name", arguments_key="parameters")


def _read(reader: Reader) -> Steps[None]:
    thinking = False
    while tag := (yield from reader.until(*_TAGS, *([] if thinking else [_FENCED]), thinking=thinking)):
        if tag == _ACTION:
            if (yield from read_calls(reader)):
                yield from reader.leave("<|END_ACTION|>")
        elif tag == _FENCED:
            yield from reader.skip()
            if (yield from reader.literal("```json")) and (yield from read_calls(reader)):
                yield from reader.leave("```")
        else:
            reader.drop()
        thinking = tag == _THINKING
