"""GBNF, the grammars of llama.cpp, read into a tree; ``gbnf_lark`` writes it as what llguidance follows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_nb.prompt.tools.lark import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Call", "Choice", "GbnfError", "Node", "Repeated", "Row", "Text", "calls", "read_gbnf"]

_MAX_SIZE: Final = 1 << 17
_MAX_DEPTH: Final = 64
_MAX_TIMES: Final = 10_000

_SKIP: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SKIP_LINES: Final = re.compile(r"(?:\s|#[^\r\n]*)*")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_TIMES: Final = re.compile(r"\*|\+|\?|\{\s*(\d*)\s*(,?)\s*(\d*)\s*\}")
_ESCAPE: Final = re.compile(r'\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([nrt"\\\[\]^/-]))', re.DOTALL)
_NAMED: Final = {"n": "\n", "r": "\r", "t": "\t"}


class GbnfError(ValueError):
    """A text that is no GBNF; says where."""


@dataclass(frozen=True)
class Text:
    """Lark for characters that stand by themselves: a text in quotes or a class."""

    lark: str


@dataclass(frozen=True)
class Call:
    """Another rule."""

    name: str
    at: int


@dataclass(frozen=True)
class Row:
    """One behind the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    """One of several."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Repeated:
    """The same several times; ``most`` is None for no end."""

    part: Node
    least: int
    most: int | None


Node: TypeAlias = Text | Call | Row | Choice | Repeated


def read_gbnf(text: str) -> dict[str, Node]:
    """The rules of a grammar by their names, ``root`` among them; raises ``GbnfError``."""
    if len(text) > _MAX_SIZE:
        raise GbnfError(f"it has {len(text)} characters, more than {_MAX_SIZE}")
    rules = _Reader(text).rules()
    if "root" not in rules:
        raise GbnfError('there is no rule "root", with which an answer begins')
    for rule in rules.values():
        for call in calls(rule):
            if call.name not in rules:
                raise GbnfError(f'line {_line(text, call.at)}: there is no rule "{call.name}"')
    return rules


def calls(node: Node) -> Iterator[Call]:
    """The rules that a node speaks of."""
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, Call):
            yield part
        elif isinstance(part, Repeated):
            stack.append(part.part)
        elif not isinstance(part, Text):
            stack.extend(part.parts)


class _Reader:
    """Reads GBNF from the left to the right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def rules(self) -> dict[str, Node]:
        """All rules by their names."""
        rules: dict[str, Node] = {}
        self._skip(lines=True)
        while self._at < len(self._text):
            name = self._name("the name of a rule")
            self._skip()
            if not self._takes("::="):
                raise self._error(f'"::=" has to follow "{name}"')
            self._skip(lines=True)
            rules[name] = self._choice(0)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._error(f'"{self._text[self._at]}" cannot stand here')
            self._skip(lines=True)
        return rules

    def _choice(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise self._error(f"brackets are nested more than {_MAX_DEPTH} levels deep")
        parts = [self._row(depth)]
        while self._takes("|"):
            self._skip(lines=True)
            parts.append(self._row(depth))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _row(self, depth: int) -> Node:
        parts: list[Node] = []
        while (part := self._one(depth)) is not None:
            self._skip(lines=depth > 0)
            while times := _TIMES.match(self._text, self._at):
                part = self._repeated(part, times)
                self._skip(lines=depth > 0)
            parts.append(part)
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def _one(self, depth: int) -> Node | None:
        """A text, a class, a rule or a bracket; None where a row ends."""
        char = self._text[self._at : self._at + 1]
        if char == '"':
            return Text(quoted(self._quoted_text()))
        if char == "[":
            return self._class()
        if self._takes("."):
            return Text("/(?s:.)/")
        if self._takes("("):
            self._skip(lines=True)
            inner = self._choice(depth + 1)
            if not self._takes(")"):
                raise self._error('")" is missing')
            return inner
        if _NAME.match(self._text, self._at):
            at = self._at
            return Call(self._name("a rule"), at)
        if char in ("<", "!"):
            raise self._error("tokens cannot be named here; write their text in quotes")
        return None

    def _repeated(self, part: Node, times: re.Match[str]) -> Node:
        counts = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if times.group() in counts:
            least, most = counts[times.group()]
        else:
            if not times[1] and not times[3]:
                raise self._error("a number is missing between { and }")
            least = int(times[1] or 0)
            most = int(times[3]) if times[3] else None if times[2] else least
        if max(least, most or 0) > _MAX_TIMES or (most is not None and most < least):
            raise self._error(f"{times.group()} is no number of times; up to {_MAX_TIMES} can be counted")
        self._at = times.end()
        return Repeated(part, least, most)

    def _quoted_text(self) -> str:
        self._at += 1
        chars = []
        while not self._takes('"'):
            chars.append(self._char('"'))
        return "".join(chars)

    def _class(self) -> Text:
        """Characters between brackets, as a class of regular expressions."""
        self._at += 1
        start = "[^" if self._takes("^") else "["
        members = []
        while not self._takes("]"):
            low = self._char("]")
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._char("]")
                if high < low:
                    raise self._error(f"a range cannot go from {low!r} to {high!r}")
                members.append(f"{_code(low)}-{_code(high)}")
            else:
                members.append(_code(low))
        if not members:
            if start == "[":
                raise self._error("a class without characters can never be written")
            return Text("/(?s:.)/")
        return Text(f"/{start}{''.join(members)}]/")

    def _char(self, closing: str) -> str:
        """One character, or an escape of one."""
        if self._at >= len(self._text):
            raise self._error(f"{closing} is missing")
        if self._text[self._at] != "\\":
            self._at += 1
            return self._text[self._at - 1]
        found = _ESCAPE.match(self._text, self._at)
        if found is None:
            raise self._error(f"{self._text[self._at : self._at + 2]!r} is no escape that is known here")
        self._at = found.end()
        if found[4]:
            return _NAMED.get(found[4], found[4])
        try:
            return chr(int(found[1] or found[2] or found[3], 16))
        except (ValueError, OverflowError):
            raise self._error(f"{found.group()} is no character") from None

    def _name(self, what: str) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._error(f"{what} is missing")
        self._at = found.end()
        return found.group()

    def _takes(self, text: str) -> bool:
        is_there = self._text.startswith(text, self._at)
        self._at += len(text) * is_there
        return is_there

    def _skip(self, *, lines: bool = False) -> None:
        found = (_SKIP_LINES if lines else _SKIP).match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _error(self, reason: str) -> GbnfError:
        return GbnfError(f"line {_line(self._text, self._at)}: {reason}")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _code(char: str) -> str:
    """A character in a class of regular expressions: by its number, unless it is a letter or a digit."""
    return char if char.isascii() and char.isalnum() else f"\\u{{{ord(char):x}}}"
