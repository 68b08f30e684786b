"""What the parsers of model output have in common: what they find, and how they are asked.

A parser is fed the text of a model in pieces of any size and says what each piece brought. Whatever the pieces are,
the sum is the same, and text that a parser held back comes out at ``close``, so nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Channelled", "Channels", "Delta", "OutputParser", "Tool", "ToolCall", "ToolFormat"]

Tool = dict[str, Any]
"""A tool as the API takes it: ``{"type": "function", "function": {"name", "description", "parameters"}}``."""


@dataclass(frozen=True)
class ToolCall:
    """A call that the model made: the name of a tool that was offered, and its arguments in the order written."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Delta:
    """What a piece of text brought; empty where all of it was held back."""

    content: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()

    def __add__(self, other: Delta) -> Delta:
        return Delta(self.content + other.content, self.thinking + other.thinking, self.calls + other.calls)

    def __bool__(self) -> bool:
        return bool(self.content or self.thinking or self.calls)


class OutputParser(Protocol):
    """Turns the text that a model writes into content, thinking and calls."""

    def feed(self, text: str) -> Delta:
        """What the next piece of text brings."""

    def close(self) -> Delta:
        """What was held back, at the end of the text."""


@dataclass(frozen=True)
class Channels:
    """The texts around what a model thinks and around what it answers; empty where there is none."""

    thinking: tuple[str, str]
    content: tuple[str, str]
    marks: tuple[str, ...] = ()
    """Texts beside the closing one that cannot stand within thinking."""


@runtime_checkable
class Channelled(Protocol):
    """A format that can mark content as it marks calls."""

    @property
    def channels(self) -> Channels | None:
        """The marks, None for a model that has none."""


class ToolFormat(Protocol):
    """How the models of one family write their calls."""

    name: str
    """For people and tests: ``hermes``, ``llama3``, ``generic`` ..."""

    speaks_in_channels: bool
    """Whether every answer is written in this format, thinking and content too, so that it is always parsed."""

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer. Only names of ``tools`` become calls."""

    def opening(self) -> str:
        """The text with which a call begins; put behind the prompt where a call is required, and fed to the parser."""

    def grammar(self, tools: Sequence[Tool]) -> str:
        """A Lark grammar (of llguidance) for what follows ``opening``: exactly one call of one of ``tools``.

        Arguments follow each tool's JSON Schema; the answer ends behind the call.
        """
