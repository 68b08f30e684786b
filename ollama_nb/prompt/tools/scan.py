"""Reading a model's text while it is written: a reader that waits for more, and the parser made of a family's reading.

A format is written as a generator over a ``Reader``, in a straight line, as if all of the text were there. Where it is
not, the reader yields until it is; what it decides never depends on where a piece ended, so every splitting of a text
gives the same. Text goes out at once (``until``) or is kept until it is known what it was: a call, a marker, or
content after all. Nothing that was kept is lost unless it is dropped. Which tags and names there are is left to the
families.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar

from ollama_nb.prompt.tools.call import Delta, ToolCall
from ollama_nb.prompt.tools.schema import needs_arguments, tool_name
from ollama_nb.wire.gojson import whole_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from ollama_nb.prompt.tools.call import Tool

    T = TypeVar("T")
    Steps: TypeAlias = Generator[None, None, T]

__all__ = ["Reader", "ScanParser", "load_json", "read_calls", "read_tagged_calls"]

_SPACE: Final = re.compile(r"\s*")
_BETWEEN: Final = re.compile(r"[\s,;]*")
_WORD: Final = re.compile(r"[^\s<>\[\]{}|]*")
_BRACES: Final = re.compile(r'\\.|["{}]', re.DOTALL)

_NAME_KEYS: Final = ("name", "tool_name", "function")
_ARGUMENTS_KEYS: Final = ("arguments", "parameters")
_LONE_KEYS: Final = frozenset((*_NAME_KEYS, "type", "id", "tool_call_id"))
"""What an object may hold that is a call without arguments, of a tool that requires none."""


class Reader:
    """A text of which only the beginning may be known. Its methods are generators that yield where they need more."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.tools: Final = {tool_name(tool): tool for tool in tools if tool_name(tool)}
        self._window = ""
        self._at = 0
        self._ended = False
        self._kept: list[str] = []
        self._content: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCall] = []

    # -- what a parser does with it

    def add(self, text: str) -> None:
        """More text."""
        self._window = self._window[self._at :] + text
        self._at = 0

    def end(self) -> None:
        """No more text will come."""
        self._ended = True

    def take_delta(self) -> Delta:
        """What was found since the last time."""
        delta = Delta("".join(self._content), "".join(self._thinking), tuple(self._calls))
        for found in (self._content, self._thinking, self._calls):
            found.clear()
        return delta

    # -- what is read goes out, or is kept

    def until(self, *tags: str, thinking: bool = False) -> Steps[str]:
        """Passes text on up to the first of ``tags``, which is kept and returned; "" where the text ends first.

        What was kept before goes out as content. No tag may begin another.
        """
        self.give_back()
        return (yield from self._pass(tags, self._thinking if thinking else self._content))

    def keep_until(self, *tags: str) -> Steps[tuple[str, str]]:
        """The text before the first of ``tags``, and the tag, both kept; the rest and "" where the text ends first."""
        start = len(self._kept)
        tag = yield from self._pass(tags, self._kept)
        return "".join(self._kept[start:]).removesuffix(tag), tag

    def skip(self, characters: re.Pattern[str] = _SPACE) -> Steps[str]:
        """Keeps and returns what matches, a run of single characters: white space."""
        start = len(self._kept)
        while True:
            match = characters.match(self._window, self._at)
            self._keep(match.end() if match else self._at)
            if self._at < len(self._window) or self._ended:
                return "".join(self._kept[start:])
            yield

    def word(self) -> Steps[str]:
        """A name: all up to white space, a bracket or a bar."""
        return (yield from self.skip(_WORD))

    def literal(self, *choices: str) -> Steps[str]:
        """The longest of ``choices`` that stands here, kept; "" if none does."""
        longest = max(map(len, choices))
        while True:
            here = self._window[self._at : self._at + longest]
            if self._ended or not any(len(here) < len(choice) and choice.startswith(here) for choice in choices):
                found = max((choice for choice in choices if here.startswith(choice)), key=len, default="")
                self._keep(self._at + len(found))
                return found
            yield

    def is_at(self, character: str) -> Steps[bool]:
        """Whether ``character`` comes next."""
        while self._at == len(self._window) and not self._ended:
            yield
        return self._window.startswith(character, self._at)

    def json_object(self) -> Steps[str | None]:
        """The text of the object that begins here, braces in texts apart; None if it is not closed, or none is here."""
        if not (yield from self.is_at("{")):
            return None
        start, depth, is_text = len(self._kept), 0, False
        while True:
            seen = self._at
            for match in _BRACES.finditer(self._window, self._at):
                seen = match.end()
                found = match.group()
                if found == '"':
                    is_text = not is_text
                elif not is_text and found in "{}":
                    depth += 1 if found == "{" else -1
                    if not depth:
                        self._keep(seen)
                        return "".join(self._kept[start:])
            splits_escape = seen < len(self._window) and self._window[-1] == "\\" and not self._ended
            self._keep(len(self._window) - splits_escape)
            if self._ended:
                return None
            yield

    def pass_all(self) -> Steps[None]:
        """Everything from here is content."""
        self.give_back()
        while True:
            self._content.append(self._window[self._at :])
            self._at = len(self._window)
            if self._ended:
                return
            yield

    def kept(self) -> str:
        """What was kept."""
        return "".join(self._kept)

    def say(self, text: str) -> None:
        """Puts out a text as content, in place of what was kept."""
        self.drop()
        self._content.append(text)

    def give_back(self) -> None:
        """What was kept was content."""
        self._content += self._kept
        self._kept.clear()

    def drop(self) -> None:
        """What was kept were markers."""
        self._kept.clear()

    def call(self, name: object, arguments: object) -> bool:
        """Makes what was kept a call, if the name is a tool's and the arguments are an object or the JSON of one."""
        if isinstance(arguments, str):
            arguments = load_json(arguments)
        if not isinstance(name, str) or name not in self.tools or not isinstance(arguments, dict):
            return False
        self._calls.append(ToolCall(name, arguments))
        self.drop()
        return True

    def leave(self, *closing: str) -> Steps[None]:
        """Drops what may stand behind a call: white space and closing tags, in this order."""
        yield from self.skip()
        for tag in closing:
            yield from self.literal(tag)
            yield from self.skip()
        self.drop()

    def _keep(self, end: int) -> None:
        if end > self._at:
            self._kept.append(self._window[self._at : end])
            self._at = end

    def _pass(self, tags: Sequence[str], sink: list[str]) -> Steps[str]:
        pattern = re.compile("|".join(map(re.escape, tags)))
        while True:
            match = pattern.search(self._window, self._at)
            end = match.start() if match else len(self._window) - self._possible(tags)
            sink.append(self._window[self._at : end])
            self._at = end
            if match:
                self._keep(match.end())
                return match.group()
            if self._ended:
                return ""
            yield

    def _possible(self, tags: Sequence[str]) -> int:
        """The length of what may be the beginning of a tag, at the end of the window."""
        if self._ended:
            return 0
        most = min(max(map(len, tags)) - 1, len(self._window) - self._at)
        ends = (self._window[-length:] for length in range(most, 0, -1))
        return next((len(end) for end in ends if any(tag.startswith(end) for tag in tags)), 0)


class ScanParser:
    """An ``OutputParser`` that runs a family's reading over what it is fed."""

    def __init__(self, read: Callable[[Reader], Steps[None]], tools: Iterable[Tool]) -> None:
        self._reader = Reader(tools)
        self._steps = read(self._reader)

    def feed(self, text: str) -> Delta:
        """What the next piece of text brings."""
        self._reader.add(text)
        next(self._steps, None)
        return self._reader.take_delta()

    def close(self) -> Delta:
        """What was held back, at the end of the text."""
        self._reader.end()
        next(self._steps, None)
        self._reader.give_back()
        return self._reader.take_delta()


def read_calls(reader: Reader) -> Steps[bool]:
    """Reads calls written as JSON objects with a name and arguments: one, several, or a list of them.

    What is no call goes out as content. True where the last that was read is a call; behind it only commas and a
    bracket are kept.
    """
    is_call = False
    yield from reader.skip()
    yield from reader.literal("[")
    while True:
        yield from reader.skip(_BETWEEN)
        if not (yield from reader.is_at("{")):
            break
        text = yield from reader.json_object()
        is_call = reader.call(*_name_and_arguments(load_json(text or ""), reader.tools))
        if not is_call:
            reader.give_back()
    yield from reader.literal("]")
    return is_call


def read_tagged_calls(reader: Reader, opening: Sequence[str], closing: Sequence[str]) -> Steps[None]:
    """Reads content, and between tags calls as ``read_calls`` does."""
    while (yield from reader.until(*opening)):
        if (yield from read_calls(reader)):
            yield from reader.leave(*closing)


def _name_and_arguments(value: object, tools: Mapping[str, Tool]) -> tuple[object, object]:
    if not isinstance(value, dict):
        return None, None
    inner = value.get("function")
    call = inner if isinstance(inner, dict) else value
    name = next((call[key] for key in _NAME_KEYS if key in call), None)
    found = [call[key] for key in _ARGUMENTS_KEYS if key in call]
    if not found and call.keys() <= _LONE_KEYS and not needs_arguments(tools.get(str(name), {})):
        return name, {}
    return name, found[0] if found else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _real(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def _whole(text: str) -> int | float:
    """A whole number that JSON's writers take; beyond 64 bits it is one only as a float."""
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 64 else _real(text)


def load_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value that a model wrote as JSON, line breaks in texts allowed; None if it is none."""
    try:
        value = json.loads(text, strict=False, parse_constant=_refuse, parse_int=_whole, parse_float=_real)
        return whole_characters(value) if "\\u" in text else value
    except (ValueError, RecursionError):
        return None
