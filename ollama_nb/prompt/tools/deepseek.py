"""The calls of DeepSeek's models, between special tokens.

V3 and R1 write ``function``, the separator, the name, and the arguments in a fenced block; V3.1 the name, the
separator and the arguments. Whether the section's own marker stands in front makes no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.tools.lark import named_grammar
from ollama_nb.prompt.tools.scan import ScanParser, load_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

__all__ = ["DeepSeekFormat"]

# The bars are full-width (U+FF5C), the blanks are U+2581.
_CALLS: Final = "<\uff5ctool\u2581calls\u2581begin\uff5c>"
_CALLS_END: Final = "<\uff5ctool\u2581calls\u2581end\uff5c>"
_CALL: Final = "<\uff5ctool\u2581call\u2581begin\uff5c>"
_CALL_END: Final = "<\uff5ctool\u2581call\u2581end\uff5c>"
_SEPARATOR: Final = "<\uff5ctool\u2581sep\uff5c>"


@dataclass
class DeepSeekFormat:
    """Fenced arguments, or plain ones where ``is_fenced`` is false; both are read, only one is asked for."""

    is_fenced: bool = True
    name = "deepseek"
    speaks_in_channels = False

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return ScanParser(_read, tools)

    def opening(self) -> str:
        """All up to the name."""
        return _CALLS + _CALL + (f"function{_SEPARATOR}" if self.is_fenced else "")

    def grammar(self, tools: Sequence[Tool]) -> str:
        """Name and arguments."""
        if self.is_fenced:
            return named_grammar(tools, between="\n```json\n")
        return named_grammar(tools, marker=_SEPARATOR)


def _read(reader: Reader) -> Steps[None]:
    while (yield from reader.until(_CALLS, _CALL)):
        yield from reader.skip()
        yield from reader.literal(_CALL)
        if (yield from _read_call(reader)):
            yield from reader.leave("```", _CALL_END, _CALLS_END)


def _read_call(reader: Reader) -> Steps[bool]:
    yield from reader.skip()
    name = yield from reader.word()
    if not (yield from reader.literal(_SEPARATOR)):
        return False
    yield from reader.skip()
    if not (yield from reader.is_at("{")):
        name = yield from reader.word()
        yield from reader.skip()
        yield from reader.literal("```json", "```")
        yield from reader.skip()
    text = yield from reader.json_object()
    return reader.call(name, load_json(text or ""))
