"""The functions html, js and urlquery: text made safe for one place."""

from __future__ import annotations

import urllib.parse
from typing import Final

from ollama_nb.prompt.gotemplate.format import sprint
from ollama_nb.prompt.gotemplate.values import INVALID, GoValue
from ollama_nb.wire.gostrings import go_bytes, is_printable

__all__ = ["html", "js", "urlquery"]

_HTML: Final = str.maketrans(
    {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"},
)
_JS: Final = {
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "<": "\\u003C",
    ">": "\\u003E",
    "&": "\\u0026",
    "=": "\\u003D",
}


def _joined(values: tuple[GoValue, ...]) -> str:
    """The values as ``{{ }}`` prints them: nil as ``<no value>``."""
    return sprint(*("<no value>" if value is None or value is INVALID else value for value in values))


def html(*values: GoValue) -> str:
    """The values with ``<``, ``>``, ``&`` and quotes as entities."""
    return _joined(values).translate(_HTML)


def js(*values: GoValue) -> str:
    """The values for a JavaScript string."""
    return "".join(map(_js_char, _joined(values)))


def _js_char(char: str) -> str:
    known = _JS.get(char)
    if known is not None:
        return known
    if char < " ":
        return f"\\u{ord(char):04X}"
    return char if char.isascii() or is_printable(char) else f"\\u{ord(char):04X}"


def urlquery(*values: GoValue) -> str:
    """The values for a query of a URL."""
    return urllib.parse.quote_plus(go_bytes(_joined(values)))
