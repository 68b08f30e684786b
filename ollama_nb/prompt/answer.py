"""A model's text as it comes, taken apart: thinking first, then tool calls in what is left.

Which parsers an answer needs depends on the template and on what the request asks for; how they work is left to
``thinking`` and ``tools``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_nb.prompt.thinking import ThinkingParser, ends_in_opening
from ollama_nb.prompt.tools import Delta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.driver import Driver
    from ollama_nb.prompt.render import Think
    from ollama_nb.prompt.tools import OutputParser, Tool

__all__ = ["AnswerParser", "answer_parser"]


def answer_parser(
    driver: Driver, prompt: str, *, tools: Sequence[Tool] = (), think: Think = None, is_bound: bool = False
) -> AnswerParser:
    """The parser for what a model writes behind ``prompt``.

    Where the answer ``is_bound`` to a format, thinking that the prompt has opened is none of it, asked for or not.
    """
    calls = driver.calls.parser(tools) if tools or driver.calls.speaks_in_channels else None
    thinking = None
    if driver.thinking and not driver.calls.speaks_in_channels:
        opening, closing = driver.thinking
        started = ends_in_opening(prompt, opening)
        if think or (is_bound and started):
            thinking = ThinkingParser(opening, closing, started=started)
    return AnswerParser(thinking, calls)


class AnswerParser:
    """Parsers one behind the other; without any, all text is content."""

    def __init__(self, thinking: ThinkingParser | None = None, calls: OutputParser | None = None) -> None:
        self._thinking = thinking
        self._calls = calls

    def feed(self, text: str) -> Delta:
        """What the next piece of text brings."""
        delta = self._thinking.feed(text) if self._thinking else Delta(content=text)
        return self._in_content(delta)

    def close(self) -> Delta:
        """What was held back, at the end of the text."""
        delta = self._in_content(self._thinking.close()) if self._thinking else Delta()
        return delta + self._calls.close() if self._calls else delta

    def _in_content(self, delta: Delta) -> Delta:
        if self._calls is None or not delta.content:
            return delta
        found = self._calls.feed(delta.content)
        return Delta(found.content, delta.thinking + found.thinking, found.calls)
