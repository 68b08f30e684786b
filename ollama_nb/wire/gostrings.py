"""Go's strings: how ``strconv`` quotes one as source text and reads it back, and how ``encoding/json`` writes it.

Strings of Go are bytes. Here they are ``str``, and a byte that is no UTF-8 (a string cut in the middle of a
character) is one of Python's ``surrogateescape`` characters; ``go_bytes`` and ``go_string`` convert.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

__all__ = [
    "can_backquote",
    "go_bytes",
    "go_string",
    "is_printable",
    "json_string",
    "quote",
    "quote_rune",
    "unquote",
    "unquote_char",
]

_SHORT: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}
_ESCAPE: Final = re.compile(
    r"""\\(?:([abfnrtv\\'"])|([0-7]{3})|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))"""
)
_MEANING: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_MAX_BYTE: Final = 0xFF
_MAX_RUNE: Final = 0x10FFFF
_FIRST_SURROGATE, _LAST_SURROGATE = 0xD800, 0xDFFF
_FIRST_RAW, _LAST_RAW = 0xDC80, 0xDCFF
_ASCII: Final = 0x80
_PLANE: Final = 0x10000
_DELETE: Final = "\x7f"
_BYTE_ORDER_MARK: Final = "\ufeff"
_SPECIAL: Final = re.compile(r"[<>&\u2028\u2029\ud800-\udfff]")


def go_bytes(text: str) -> bytes:
    """The bytes of a string; surrogates that stand for no byte become U+FFFD, as in Go's JSON decoder."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text).encode("utf-8", "surrogateescape")


def go_string(data: bytes) -> str:
    """The string of these bytes."""
    return data.decode("utf-8", "surrogateescape")


def is_printable(char: str) -> bool:
    """Go's ``unicode.IsPrint``: letters, marks, numbers, punctuation, symbols and the ASCII blank."""
    return char == " " or unicodedata.category(char)[0] in "LMNPS"


def can_backquote(text: str) -> bool:
    """Whether the string can stand between backquotes on one line."""
    return not any(
        (char < " " and char != "\t") or char in ("`", _DELETE, _BYTE_ORDER_MARK) or _is_raw(char) for char in text
    )


def _is_raw(char: str) -> bool:
    return _FIRST_RAW <= ord(char) <= _LAST_RAW


def _escape(char: str, quotes: str, *, ascii_only: bool) -> str:
    code = ord(char)
    if char == quotes:
        return "\\" + char
    if char in _SHORT:
        return _SHORT[char]
    if _is_raw(char):
        return f"\\x{code - _FIRST_RAW + _ASCII:02x}"
    if is_printable(char) and (code < _ASCII or not ascii_only):
        return char
    if char < " " or char == _DELETE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _PLANE else f"\\U{code:08x}"


def quote(text: str, *, ascii_only: bool = False) -> str:
    """The string in double quotes (``strconv.Quote``, ``QuoteToASCII``)."""
    return '"' + "".join(_escape(char, '"', ascii_only=ascii_only) for char in text) + '"'


def quote_rune(code: int, *, ascii_only: bool = False) -> str:
    """The character in single quotes (``strconv.QuoteRune``); what is no character becomes U+FFFD."""
    valid = 0 <= code <= _MAX_RUNE and not _FIRST_SURROGATE <= code <= _LAST_SURROGATE
    return "'" + _escape(chr(code) if valid else "\ufffd", "'", ascii_only=ascii_only) + "'"


def json_string(text: str) -> str:
    """The string as JSON that may stand inside HTML and JavaScript; half a surrogate pair becomes U+FFFD."""
    return _SPECIAL.sub(_json_escape, json.dumps(text, ensure_ascii=False))


def _json_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\ufffd" if _FIRST_SURROGATE <= code <= _LAST_SURROGATE else f"\\u{code:04x}"


def unquote(quoted: str) -> str | None:
    """What a quoted or backquoted string says, or None when its escapes are wrong."""
    if quoted.startswith("`"):
        return quoted[1:-1].replace("\r", "")
    body = quoted[1:-1]
    if "\\" not in body:
        return body
    parts: list[bytes] = []
    position = 0
    while True:
        backslash = body.find("\\", position)
        if backslash < 0:
            parts.append(go_bytes(body[position:]))
            return go_string(b"".join(parts))
        parts.append(go_bytes(body[position:backslash]))
        found = _ESCAPE.match(body, backslash)
        data = _read_escape(found, '"') if found else None
        if found is None or data is None:
            return None
        parts.append(data)
        position = found.end()


def _read_escape(found: re.Match[str], quotes: str) -> bytes | None:
    short, octal, two, four, eight = found.groups()
    if short is not None:
        if short in "'\"":
            return short.encode() if short == quotes else None
        return _MEANING[short].encode()
    if octal is not None or two is not None:
        byte = int(octal, 8) if octal is not None else int(two, 16)
        return bytes([byte]) if byte <= _MAX_BYTE else None
    code = int(four or eight, 16)
    if code > _MAX_RUNE or _FIRST_SURROGATE <= code <= _LAST_SURROGATE:
        return None
    return chr(code).encode()


def unquote_char(quoted: str) -> int | None:
    """The code of a character constant with its quotes, or None when it is not one character."""
    body = quoted[1:-1]
    if not body.startswith("\\"):
        return ord(body) if len(body) == 1 and body != "'" else None
    found = _ESCAPE.fullmatch(body)
    data = _read_escape(found, "'") if found else None
    if found is None or data is None:
        return None
    is_byte = found[2] is not None or found[3] is not None
    return data[0] if is_byte else ord(data.decode())
