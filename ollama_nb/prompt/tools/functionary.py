"""Calls that begin with the name: Functionary's models and those that write alike.

``>>>f`` and the arguments on the next line, with ``>>>all`` before content (v3.2, whose prompt ends in the first
``>>>``); ``<function=f>{...}</function>`` (v3.1, and Llama 3.1 for tools of one's own); or just ``f{...}`` at the
beginning and behind a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.tools.call import Channels
from ollama_nb.prompt.tools.lark import named_grammar
from ollama_nb.prompt.tools.scan import ScanParser, load_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["FunctionaryFormat"]

_RECIPIENT: Final = ">>>"
_FUNCTION: Final = "<function="
_CONTENT: Final = "all"


@dataclass
class FunctionaryFormat:
    """``>>>f`` where it speaks in channels, else ``<function=f>``; all ways are read, one is asked for.

    ``is_begun`` where the prompt ends in ``>>>``.
    """

    speaks_in_channels: bool = False
    is_begun: bool = False
    name = "functionary"

    @property
    def channels(self) -> Channels | None:
        """Content has a recipient, too, where all has one; these models do not think."""
        if not self.speaks_in_channels:
            return None
        return Channels(thinking=("", ""), content=(f"{self.opening()}{_CONTENT}\n", ""))

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return ScanParser(partial(_read, is_begun=self.is_begun), tools)

    def opening(self) -> str:
        """All up to the name: nothing where the prompt has it already."""
        if self.speaks_in_channels:
            return "" if self.is_begun else _RECIPIENT
        return _FUNCTION

    def grammar(self, tools: Sequence[Tool]) -> str:
        """Name and arguments; a closing tag is left away."""
        return named_grammar(tools, between="\n" if self.speaks_in_channels else ">")


def _read(reader: Reader, *, is_begun: bool) -> Steps[None]:
    if is_begun:
        yield from _read_content_mark(reader)
    yield from _read_bare(reader)
    while tag := (yield from reader.until(_RECIPIENT, _FUNCTION)):
        if tag == _RECIPIENT and (yield from _read_content_mark(reader)):
            continue
        name = yield from reader.word()
        if tag == _FUNCTION:
            yield from reader.literal(">")
        if (yield from _read_arguments(reader, name)):
            yield from reader.leave("</function>")
            yield from _read_bare(reader)


def _read_content_mark(reader: Reader) -> Steps[bool]:
    is_content = bool((yield from reader.literal(_CONTENT + "\n")))
    if is_content:
        reader.drop()
    return is_content


def _read_bare(reader: Reader) -> Steps[None]:
    while reader.tools and (name := (yield from reader.literal(*reader.tools))):
        if not (yield from _read_arguments(reader, name)):
            return
        yield from reader.leave()


def _read_arguments(reader: Reader, name: str) -> Steps[bool]:
    yield from reader.skip()
    text = yield from reader.json_object()
    return reader.call(name, load_json(text or ""))
