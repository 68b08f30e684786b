"""From the source of a template to its tokens, trim markers applied and comments dropped.

Tokens keep their offset. The lexer knows shapes only; whether they make sense in their order is the parser's.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from ollama_nb.prompt.gotemplate.errors import TemplateSyntaxError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Kind", "Token", "tokens"]


class Kind(StrEnum):
    """What a token is."""

    TEXT = "text"
    OPEN = "{{"
    CLOSE = "}}"
    SPACE = "space"
    KEYWORD = "keyword"
    DOT = "."
    FIELD = "field"
    VARIABLE = "variable"
    IDENTIFIER = "identifier"
    BOOL = "bool"
    NUMBER = "number"
    STRING = "string"
    PIPE = "|"
    DECLARE = ":="
    ASSIGN = "="
    LEFT_PAREN = "("
    RIGHT_PAREN = ")"
    CHAR = "character"
    END = "end of the template"


class Token(NamedTuple):
    """A piece of the source: its kind, its text as written, and where it begins."""

    kind: Kind
    text: str
    position: int

    def __str__(self) -> str:
        if self.kind is Kind.END:
            return "end of the template"
        return f"<{self.text}>" if self.kind in (Kind.KEYWORD, Kind.DOT) else repr(self.text)


_KEYWORDS: Final = frozenset(
    ("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with")
)
_SPACES: Final = " \t\r\n"
_DIGITS: Final = "0123456789_"
_DIGITS_OF: Final = {"x": "0123456789abcdefABCDEF_", "o": "01234567_", "b": "01_"}
_AFTER_WORD: Final = frozenset(" \t\r\n.,|:)(}")
_SINGLE: Final = {"|": Kind.PIPE, "=": Kind.ASSIGN, "(": Kind.LEFT_PAREN, ")": Kind.RIGHT_PAREN}


def tokens(source: str) -> Iterator[Token]:
    """The tokens of a source, Kind.END at last; raises TemplateSyntaxError where there is none."""
    return _Lexer(source).run()


def _is_word(char: str) -> bool:
    # Letters and decimal digits as Unicode has them; str.isalnum would take fractions and superscripts too.
    return char == "_" or char.isalpha() or (char != "" and unicodedata.category(char) == "Nd")


class _Lexer:
    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.parens = 0

    def error(self, reason: str, position: int) -> TemplateSyntaxError:
        return TemplateSyntaxError.at(reason, self.source, position)

    def run(self) -> Iterator[Token]:
        source = self.source
        while True:
            start = self.position
            opening = source.find("{{", start)
            if opening < 0:
                if start < len(source):
                    yield Token(Kind.TEXT, source[start:], start)
                yield Token(Kind.END, "", len(source))
                return
            trims = source.startswith("-", opening + 2) and source[opening + 3 : opening + 4] in tuple(_SPACES)
            text = source[start:opening]
            if trims:
                text = text.rstrip(_SPACES)
            if text:
                yield Token(Kind.TEXT, text, start)
            self.position = opening + (4 if trims else 2)
            if source.startswith("/*", self.position):
                self.skip_comment()
            else:
                yield Token(Kind.OPEN, "{{", opening)
                yield from self.action(opening)

    def closing(self, position: int) -> int:
        """How long the right delimiter here is: 2, 4 with a trim marker, 0 if there is none."""
        source = self.source
        if source.startswith("}}", position):
            return 2
        if source.startswith("-}}", position + 1) and source[position] in _SPACES:
            return 4
        return 0

    def close(self, length: int) -> None:
        self.position += length
        if length > len("}}"):
            source = self.source
            while self.position < len(source) and source[self.position] in _SPACES:
                self.position += 1

    def skip_comment(self) -> None:
        start = self.position
        end = self.source.find("*/", start + 2)
        if end < 0:
            raise self.error("unclosed comment", start)
        self.position = end + 2
        length = self.closing(self.position)
        if not length:
            raise self.error("comment ends before closing delimiter", self.position)
        self.close(length)

    def action(self, opening: int) -> Iterator[Token]:
        self.parens = 0
        while True:
            start = self.position
            length = self.closing(start)
            if length:
                if self.parens:
                    raise self.error("unclosed left paren", start)
                self.close(length)
                yield Token(Kind.CLOSE, "}}", start)
                return
            if start >= len(self.source):
                raise self.error("unclosed action", opening)
            kind = self.scan()
            yield Token(kind, self.source[start : self.position], start)

    def scan(self) -> Kind:
        """Move past one token inside an action and say what it is."""
        source, start = self.source, self.position
        char = source[start]
        following = source[start + 1 : start + 2]
        if char in _SPACES:
            return self.spaces()
        if char in "+-" or "0" <= char <= "9" or (char == "." and "0" <= following <= "9"):
            return self.number()
        self.position += 1
        if char in "\"'`":
            return self.quoted(char, start)
        if char in "$.":
            return self.name(char, following)
        if _is_word(char):
            return self.identifier(start)
        return self.sign(char, start)

    def name(self, char: str, following: str) -> Kind:
        """A variable or a field; the dot alone is neither."""
        if char == "$":
            return self.word(Kind.VARIABLE)
        return self.word(Kind.FIELD) if following and following not in _AFTER_WORD else Kind.DOT

    def sign(self, char: str, start: int) -> Kind:
        """A character that stands for itself."""
        if char in _SINGLE:
            return self.single(char, start)
        if char == ":":
            if not self.accept("="):
                raise self.error("expected :=", start)
            return Kind.DECLARE
        if " " < char <= "~":
            return Kind.CHAR
        raise self.error(f"unrecognized character in action: U+{ord(char):04X}", start)

    def spaces(self) -> Kind:
        source = self.source
        while self.position < len(source) and source[self.position] in _SPACES:
            if self.closing(self.position):
                break
            self.position += 1
        return Kind.SPACE

    def single(self, char: str, start: int) -> Kind:
        if char == "(":
            self.parens += 1
        elif char == ")":
            self.parens -= 1
            if self.parens < 0:
                raise self.error("unexpected right paren", start)
        return _SINGLE[char]

    def quoted(self, mark: str, start: int) -> Kind:
        source = self.source
        kind = Kind.NUMBER if mark == "'" else Kind.STRING
        what = {"'": "character constant", '"': "quoted string", "`": "raw quoted string"}[mark]
        while self.position < len(source):
            char = source[self.position]
            self.position += 1
            if char == mark:
                return kind
            if mark == "`":
                continue
            if char == "\\":
                if source[self.position : self.position + 1] in ("", "\n"):
                    break
                self.position += 1
            elif char == "\n":
                break
        raise self.error(f"unterminated {what}", start)

    def word(self, kind: Kind) -> Kind:
        source = self.source
        while self.position < len(source) and _is_word(source[self.position]):
            self.position += 1
        if self.position < len(source) and source[self.position] not in _AFTER_WORD:
            char = source[self.position]
            raise self.error(f"bad character U+{ord(char):04X} {char!r}", self.position)
        return kind

    def identifier(self, start: int) -> Kind:
        self.word(Kind.IDENTIFIER)
        word = self.source[start : self.position]
        if word in _KEYWORDS:
            return Kind.KEYWORD
        return Kind.BOOL if word in ("true", "false") else Kind.IDENTIFIER

    def number(self) -> Kind:
        start = self.position
        good = self.scan_number()
        if good and self.source[self.position : self.position + 1] in ("+", "-"):
            good = self.scan_number() and self.source[self.position - 1] == "i"
        if not good:
            raise self.error(f"bad number syntax: {self.source[start : self.position]!r}", start)
        return Kind.NUMBER

    def accept(self, valid: str) -> bool:
        char = self.source[self.position : self.position + 1]
        if char and char in valid:
            self.position += 1
            return True
        return False

    def accept_run(self, valid: str) -> None:
        while self.accept(valid):
            pass

    def scan_number(self) -> bool:
        self.accept("+-")
        digits = _DIGITS
        if self.accept("0"):
            for letter, of_base in _DIGITS_OF.items():
                if self.accept(letter + letter.upper()):
                    digits = of_base
                    break
        self.accept_run(digits)
        if self.accept("."):
            self.accept_run(digits)
        exponent = "eE" if digits == _DIGITS else "pP" if digits == _DIGITS_OF["x"] else ""
        if exponent and self.accept(exponent):
            self.accept("+-")
            self.accept_run(_DIGITS)
        self.accept("i")
        if _is_word(self.source[self.position : self.position + 1]):
            self.position += 1
            return False
        return True
