"""The ``format`` of a request: JSON, a JSON Schema, or another language that an answer has to keep to.

``"json"`` and schemas are Ollama's. What no schema can say is said by an object with one of four keys that are none of
JSON Schema's: ``{"regex": "..."}``, ``{"choice": ["...", "..."]}``, ``{"lark": "..."}`` and ``{"gbnf": "..."}``. All
of them become a grammar in llguidance's Lark; whether that compiles is told by the model's process.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.prompt.formats.gbnf import GbnfError
from ollama_nb.prompt.formats.gbnf_lark import lark_of_gbnf
from ollama_nb.prompt.formats.schema import prepare
from ollama_nb.prompt.tools.lark import json_rule, quoted
from ollama_nb.prompt.tools.schema import beyond_regular
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.gostrings import quote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Format", "parse_format"]

_MAX_CHOICES: Final = 4096


@dataclass(frozen=True)
class Format:
    """A grammar that a whole answer keeps to, in llguidance's Lark."""

    grammar: str


def parse_format(value: Any) -> Format | None:  # noqa: ANN401 - any JSON value
    """The format that a request asks for, None for none; raises ``BadRequestError``."""
    if value is None or value == "":
        return None
    if value == "json":
        return Format(json_rule("start", {"type": "object"}, is_lenient=False))
    if not isinstance(value, dict):
        shown = quote(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        raise BadRequestError(f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    if len(value) == 1 and (language := _LANGUAGES.get(next(iter(value)))):
        return Format(language(next(iter(value.values()))))
    return Format(json_rule("start", prepare(value), is_lenient=False))


def _refuse(language: str, reason: str) -> BadRequestError:
    return BadRequestError(f"invalid format: {language}: {reason}")


def _regex(value: object) -> str:
    """All of the answer matches; anchors at either end say nothing new."""
    if not isinstance(value, str) or not value:
        raise _refuse("regex", "a regular expression is needed, as a text")
    if found := beyond_regular(value):
        raise _refuse("regex", f"{found} looks around or back, which a grammar cannot")
    whole = value.removeprefix("^")
    if whole.endswith("$") and not re.search(r"(?<!\\)(?:\\\\)*\\\$$", whole):
        whole = whole[:-1]
    if whole != value and "|" in whole:
        whole = value  # the anchors may belong to one alternative only
    return f"start: ANSWER\nANSWER: {_lark_regex(whole)}\n" if whole else 'start: ""\n'


def _lark_regex(pattern: str) -> str:
    """A pattern between Lark's slashes, on one line."""
    escaped = re.sub(r"\\(.)|/", lambda found: found.group() if found[1] else r"\/", pattern, flags=re.DOTALL)
    for char, escape in (("\n", r"\n"), ("\r", r"\r"), ('"', r"\x22")):
        escaped = escaped.replace(f"\\{char}", escape).replace(char, escape)
    return f"/{escaped}/"


def _choice(value: object) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise _refuse("choice", "a list of texts is needed, at least one")
    if len(value) > _MAX_CHOICES:
        raise _refuse("choice", f"{len(value)} texts are more than {_MAX_CHOICES}")
    return f"start: ANSWER\nANSWER: {' | '.join(quoted(text) for text in dict.fromkeys(value))}\n"


def _lark(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _refuse("lark", "a grammar is needed, as a text")
    return value if value.endswith("\n") else value + "\n"


def _gbnf(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _refuse("gbnf", "a grammar is needed, as a text")
    try:
        return lark_of_gbnf(value)
    except GbnfError as error:
        raise _refuse("gbnf", str(error)) from error


_LANGUAGES: Final[dict[str, Callable[[object], str]]] = {
    "regex": _regex,
    "choice": _choice,
    "lark": _lark,
    "gbnf": _gbnf,
}
