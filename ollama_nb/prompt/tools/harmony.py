"""What gpt-oss writes: messages with headers that say what each is for (the harmony response format).

``<|channel|>analysis<|message|>…<|end|>`` is thinking, ``commentary`` and ``final`` are content, and a message whose
header has ``to=functions.f`` is a call with its body as arguments. Messages after the first begin with
``<|start|>assistant``; the prompt ends there for the first. ``to=`` may stand before the channel or behind it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.tools.call import Channels
from ollama_nb.prompt.tools.lark import named_grammar
from ollama_nb.prompt.tools.scan import ScanParser, load_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["HarmonyFormat"]

_START: Final = "<|start|>"
_CHANNEL: Final = "<|channel|>"
_MESSAGE: Final = "<|message|>"
_ENDS: Final = ("<|end|>", "<|call|>", "<|return|>")
_TAGS: Final = (_START, _CHANNEL, *_ENDS)

_TO: Final = re.compile(r"to=([^\s<]+)")
_ANALYSIS: Final = re.compile(r"<\|channel\|>\s*analysis\b")
_UNFINISHED: Final = re.compile(
    r"\s*(?:<\|start\|>\w*\s*)?(?:to=[^\s<]*\s*)?(?:<\|channel\|>\s*\w*\s*)?(?:to=[^\s<]*\s*)?"
    r"(?:<\|constrain\|>\s*)?\w*(?:<[|\w]*)?"
)
"""A header that the end of the text cut off."""


class HarmonyFormat:
    """Messages on channels."""

    name = "harmony"
    speaks_in_channels = True

    @property
    def channels(self) -> Channels:
        """Analysis, behind which the next message begins, and the final channel."""
        return Channels(
            thinking=(f"{_CHANNEL}analysis{_MESSAGE}", f"<|end|>{_START}assistant"),
            content=(f"{_CHANNEL}final{_MESSAGE}", ""),
            marks=(_MESSAGE, *_TAGS),
        )

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer, which begins behind ``<|start|>assistant``."""
        return ScanParser(_read, tools)

    def opening(self) -> str:
        """The header up to the name."""
        return f"{_CHANNEL}commentary to=functions."

    def grammar(self, tools: Sequence[Tool]) -> str:
        """The name, the rest of the header and the arguments; the closing token is left away."""
        return named_grammar(tools, between=f" <|constrain|>json{_MESSAGE}")


def _read(reader: Reader) -> Steps[None]:
    yield from reader.skip()
    tag = yield from reader.literal(_START, _CHANNEL, _MESSAGE, "to=")
    if not tag:
        tag = yield from reader.until(*_TAGS)
    while tag:
        if tag not in _ENDS:
            tag = yield from _read_message(reader, tag)
            continue
        reader.drop()
        yield from reader.skip()
        tag = (yield from reader.literal(_START, _CHANNEL)) or (yield from reader.until(*_TAGS))


def _read_message(reader: Reader, header: str) -> Steps[str]:
    """Reads a message whose header has begun; the tag behind it."""
    if header != _MESSAGE:
        rest, tag = yield from reader.keep_until(_MESSAGE, _START, *_ENDS)
        header += rest
        if tag != _MESSAGE:
            if _UNFINISHED.fullmatch(header):
                reader.drop()
            return tag
    to = _TO.search(header)
    if to is None:
        reader.drop()
    else:
        name = to[1].removeprefix("functions.")
        yield from reader.skip()
        if name in reader.tools and reader.call(name, load_json((yield from reader.json_object()) or "")):
            yield from reader.skip()
            reader.drop()
    return (yield from reader.until(*_TAGS, thinking=to is None and bool(_ANALYSIS.search(header))))
