"""The grammar of Modelfiles: text taken apart into instructions, and values quoted so that they read back.

The grammar is Ollama's (``parser/parser.go``). A quoted value has no escapes: it begins with one or with three quotes
and ends with the first line that ends with as many, so quotes inside a line need no care. A value without quotes ends
with its line, and blanks at its ends do not count. Characters that do not print are left out of values.

Two things are kinder here than there: blanks before a parameter's name or a role may be many, and a line is counted
once whether it ends with LF, CR or both. What the instructions mean is left to ``value``.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.gostrings import is_printable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ROLES", "Command", "ModelfileError", "decode", "quote", "read_commands", "unprintable"]

ROLES: Final = ("system", "user", "assistant")
"""Who can speak in a MESSAGE, written exactly so."""

_NAMES: Final = frozenset(
    (
        *("from", "license", "template", "system", "adapter", "parameter", "message"),
        *("renderer", "parser", "requires", "draft"),  # of newer Ollama
    )
)
_UNKNOWN: Final = 'command must be one of "from", "license", "template", "system", "adapter", "parameter", or "message"'
_WRONG_ROLE: Final = 'message role must be one of "system", "user", or "assistant"'

_BLANKS: Final = " \t"
_SPACE: Final = " \t\r\n"
_BETWEEN: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME: Final = re.compile(r".[A-Za-z]*")
_KEYS: Final = {"parameter": re.compile(r"[ \t]*([A-Za-z0-9_]*)"), "message": re.compile(r"[ \t]*([A-Za-z]*)")}
_LINE: Final = re.compile(r"[^\r\n]*")
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_SHOWN: Final = 80
"""Characters of a wrong line that an error shows."""


class ModelfileError(BadRequestError):
    """A Modelfile that cannot be read or built; ``line`` is counted from 1, ``None`` where no line is to blame."""

    def __init__(self, message: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction: its name in small letters, a parameter's name or a message's role as ``key``, and its value.

    ``line`` is where it begins, ``lost`` are the characters of the value that do not print.
    """

    name: str
    key: str
    value: str
    line: int
    lost: str


def read_commands(data: str | bytes) -> Iterator[Command]:
    """The instructions of a Modelfile in order; raises ``ModelfileError`` with Ollama's texts.

    Bytes may be UTF-8, or UTF-16 with a byte order mark.
    """
    text = decode(data)
    at, line, counted = 0, 1, 0
    while True:
        at = _end(_BETWEEN, text, at)
        if at == len(text):
            return
        line += len(_NEWLINE.findall(text, counted, at))
        counted = at
        name, at = _name(text, at, line)
        key, at = _key(text, at, line, name)
        # The one blank that ends the name, or the key, is no part of the value.
        value, lost, at = _value(text, at + 1, line, name)
        yield Command(name, key, value, line, lost)


def quote(value: str) -> str | None:
    """The value as it must stand in a Modelfile to be read back unchanged, quoted only where it must be.

    Quotes are needed for several lines, for blanks at an end and for a quote at the beginning; three where the value
    has quotes itself. ``None`` where no quotes can carry it: a line before the last ends with three quotes, where
    reading would stop. Characters that do not print are not looked at; ``unprintable`` finds them.
    """
    if value == value.strip(_BLANKS) and not value.startswith('"') and "\n" not in value and "\r" not in value:
        return value
    if '"' not in value:
        return f'"{value}"'
    *before, _ = re.split(r"[\r\n]", value)
    if any(line.rstrip(_BLANKS).endswith('"""') for line in before):
        return None
    return f'"""{value}"""'


def unprintable(value: str) -> str:
    """The characters of ``value`` that a Modelfile cannot hold, each once: controls, joiners, no-break blanks."""
    # Each character is looked at once, not at every place: texts of megabytes have few different ones.
    lost = {char for char in set(value) if char not in _SPACE and not is_printable(char)}
    return "".join(sorted(lost, key=value.index))


def decode(data: str | bytes) -> str:
    """The text of a Modelfile without its byte order mark; raises ``ModelfileError`` for what is no text."""
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    encodings = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
    mark, encoding = next(((mark, name) for mark, name in encodings if data.startswith(mark)), (b"", "utf-8"))
    try:
        return data.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError as error:
        raise ModelfileError(
            f"the Modelfile is no text: {error.reason} at byte {error.start + len(mark)}",
            hint="It has to be UTF-8, or UTF-16 with a byte order mark.",
        ) from error


def _name(text: str, at: int, line: int) -> tuple[str, int]:
    """The instruction that begins at ``at``, and where it ends."""
    end = _end(_NAME, text, at)
    name = _kept(text[at:end]).lower()
    if end == len(text):
        raise ModelfileError("unexpected EOF", line=line, hint=f"The Modelfile ends with: {_shown(text, at)}")
    if name not in _NAMES or text[end] not in _BLANKS:
        missing = name in _NAMES and text[end] in "\r\n"
        hint = f"{name.upper()} needs a value on its line." if missing else f"Line {line} reads: {_shown(text, at)}"
        raise ModelfileError(f"(line {line}): {_UNKNOWN}", line=line, hint=hint)
    return name, end


def _key(text: str, at: int, line: int, name: str) -> tuple[str, int]:
    """The parameter or the role behind the instruction, and where it ends; none for other instructions."""
    if name not in _KEYS:
        return "", at
    end = _end(_KEYS[name], text, at)
    key = text[at:end].lstrip(_BLANKS)
    if end == len(text):
        raise ModelfileError("unexpected EOF", line=line, hint=f"{name.upper()} {key} needs a value.")
    if text[end] not in _BLANKS:
        what = "a name and a value" if name == "parameter" else "a role and a text"
        hint = f"{name.upper()} needs {what} on its line; line {line} is wrong."
        raise ModelfileError(f"unexpected EOF: {key}", line=line, hint=hint)
    if name == "message" and key not in ROLES:
        raise ModelfileError(
            f"(line {line}): {_WRONG_ROLE}", line=line, hint=f"Line {line} has '{key}'; roles are in small letters."
        )
    return key, end


def _value(text: str, at: int, line: int, name: str) -> tuple[str, str, int]:
    """The value that begins at ``at``, the characters it has lost, and where reading goes on."""
    end = _end(_LINE, text, at)
    first = _kept(text[at:end]).strip(_BLANKS)
    quotes = next((quotes for quotes in ('"""', '"') if first.startswith(quotes)), "")
    closed = not quotes or (len(first) >= 2 * len(quotes) and first.endswith(quotes))
    while not closed:
        if end == len(text):
            raise ModelfileError(
                "unexpected EOF", line=line, hint=f"The quotes that open at {name.upper()} in line {line} never close."
            )
        begin = end + 1
        end = _end(_LINE, text, begin)
        closed = _kept(text[begin:end]).rstrip(_BLANKS).endswith(quotes)
    whole = _kept(text[at:end]).strip(_SPACE)
    return whole[len(quotes) : len(whole) - len(quotes)], unprintable(text[at:end]), end


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a pattern that matches anything stops matching."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _kept(text: str) -> str:
    """The text without what does not print."""
    if text.isprintable():
        return text
    lost = unprintable(text)
    return text.translate(dict.fromkeys(map(ord, lost))) if lost else text


def _shown(text: str, at: int) -> str:
    line = text[at : _end(_LINE, text, at)]
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ..."
