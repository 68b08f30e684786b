"""The calls of models of which only the tag is known: JSON objects, or a name and an object, behind a text or none.

What counts as a call, read from one complete object and the text between it and the object before:

* an object that has a ``name`` (or ``function``) and ``arguments`` (or ``parameters``), an object or the JSON of one;
  it may be anywhere in a larger one, as ``{"tool_calls": [...]}``;
* ``{"name": "now"}`` alone, of a tool that requires no arguments;
* an object behind the name of a tool, ``get_weather{"city": "Paris"}``: it is the arguments;
* ``{"get_weather": {"city": "Paris"}}``.

Only the names of tools that were offered are calls. With a tag, text before it is content and all behind it is read
for calls until the answer ends. If none comes, tag and text are content as they stand, at the end. Otherwise what
stands between and behind calls is content without tags, special tokens and closing punctuation, given with the next
call or at the end; between calls it takes two words, because formats write a word or a fence there. Without a tag
(``{`` or ``[``), calls come first or not at all: the first thing that is none ends the reading, and it and the rest
are content.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ollama_nb.prompt.tools.lark import object_grammar
from ollama_nb.prompt.tools.scan import ScanParser, load_json
from ollama_nb.prompt.tools.schema import needs_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ollama_nb.prompt.tools.call import OutputParser, Tool
    from ollama_nb.prompt.tools.scan import Reader, Steps

    _Call: TypeAlias = tuple[str, dict[str, Any]]

__all__ = ["GenericFormat", "GenericParser"]

_BARE: Final = ("{", "[", "")
"""The tags that are no text of their own, but the beginning of the JSON."""

_GAP: Final = re.compile(r"[^{]*")
_START: Final = re.compile(r"[\s\[]*")
_BETWEEN: Final = re.compile(r"[\s,;\]]*")
_TWO_WORDS: Final = re.compile(r"\w[.,:;!?]*\s+\w")
_SPECIAL: Final = r"<[|\uFF5C][^<>|\uFF5C]{1,64}[|\uFF5C]>"
"""Special tokens, written with a bar or, by DeepSeek, a full-width one."""

_CLOSING: Final = " \t\r\n]}),;`"
_NAME_KEYS: Final = ("name", "function")
_ARGUMENTS_KEYS: Final = ("arguments", "parameters")
_LONE_KEYS: Final = frozenset((*_NAME_KEYS, *_ARGUMENTS_KEYS, "type", "id"))
"""What an object may hold that is a call without arguments."""


class GenericFormat:
    """The tag that a template was seen to write, and JSON."""

    name = "generic"
    speaks_in_channels = False

    def __init__(self, tag: str = "{", *, arguments_key: str = "arguments") -> None:
        self._tag = tag
        self._arguments_key = arguments_key

    def parser(self, tools: Sequence[Tool]) -> OutputParser:
        """A parser for one answer."""
        return GenericParser(self._tag, tools)

    def opening(self) -> str:
        """The tag; nothing where calls begin with the object itself."""
        return "" if self._tag == "{" else self._tag

    def grammar(self, tools: Sequence[Tool]) -> str:
        """One object with name and arguments."""
        return object_grammar(tools, arguments_key=self._arguments_key)


class GenericParser(ScanParser):
    """Reads the calls of one answer."""

    def __init__(self, tag: str, tools: Sequence[Tool]) -> None:
        super().__init__(lambda reader: _read(reader, tag), tools)


def _read(reader: Reader, tag: str) -> Steps[None]:
    # Templates write "[TOOL_CALLS] [" and a list; models write the bracket with a blank, without, or not at all.
    own = tag.strip().rstrip("[ \t\r\n")
    if not reader.tools:
        yield from reader.pass_all()
    elif own in _BARE:
        yield from _read_bare(reader)
    else:
        yield from _read_tagged(reader, own)


def _read_bare(reader: Reader) -> Steps[None]:
    is_first = True
    yield from reader.skip(_START)
    while (yield from reader.is_at("{")):
        text = yield from reader.json_object()
        calls = _read_object(text, reader.tools) if text else []
        if not calls:
            break
        for call in calls:
            reader.call(*call)
        is_first = False
        yield from reader.skip(_BETWEEN)
    if not is_first:
        reader.say(reader.kept().lstrip(_CLOSING))
    yield from reader.pass_all()


def _read_tagged(reader: Reader, tag: str) -> Steps[None]:
    yield from reader.until(tag)
    marks = _Marks(tag)
    names = _names_pattern(reader.tools)
    has_called = False
    held: list[str] = []  # since the last call, without the tag in front of the first
    while True:
        gap = yield from reader.skip(_GAP)
        text = yield from reader.json_object()
        if text is None:
            break
        before, calls = gap, _read_object(text, reader.tools)
        if not calls:
            before, calls = _read_named(names, gap, text)
        held.append(before)
        if not calls:
            held.append(text)
            continue
        reader.say(marks.content_between("".join(held)))
        for call in calls:
            reader.call(*call)
        has_called = True
        held.clear()
    if has_called:
        reader.say(marks.content_behind(reader.kept()))


class _Marks:
    """What belongs to the writing of calls around their objects."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._closing = re.sub(r"^([<\[])", r"\1/", tag)
        self._pattern = re.compile("|".join((re.escape(self._closing), re.escape(tag), _SPECIAL)))

    def content_between(self, text: str) -> str:
        content = self._without(text)
        return content if _TWO_WORDS.search(content) else ""

    def content_behind(self, text: str) -> str:
        content = self._without(text)
        is_cut = self._closing.startswith(content) or self._tag.startswith(content)
        return "" if is_cut else content

    def _without(self, text: str) -> str:
        return self._pattern.sub("", text).lstrip(_CLOSING).rstrip()


# -- one object -------------------------------------------------------------------------------------------------------


def _read_object(text: str, tools: Mapping[str, Tool]) -> list[_Call]:
    """The calls that an object names itself."""
    value = _load_object(text) or {}
    if isinstance(value.get("function"), dict) and value.keys() <= _LONE_KEYS:
        value = value["function"]
    if value and all(key in tools and isinstance(item, dict) for key, item in value.items()):
        return list(value.items())
    name = _name_in(value)
    is_lone = value.keys() <= _LONE_KEYS and not any(value.get(key) for key in _ARGUMENTS_KEYS)
    if name in tools and is_lone and not needs_arguments(tools[name]):
        return [(name, {})]
    return _search(value, tools)


def _read_named(names: re.Pattern[str], gap: str, text: str) -> tuple[str, list[_Call]]:
    """The call by the last name in a text and the object behind it as arguments, and the text before the name."""
    found = list(names.finditer(gap))[-1:]
    arguments = _load_object(text) if found else None
    if arguments is None or _is_call(arguments):
        return gap, []
    return gap[: found[0].start()], [(found[0].group(), arguments)]


def _search(value: object, tools: Mapping[str, Tool]) -> list[_Call]:
    """The calls in a value, in the order written; nothing is looked for inside of one."""
    calls: list[_Call] = []
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, list):
            stack.extend(reversed(part))
        elif isinstance(part, dict) and not _is_call(part):
            stack.extend(reversed(part.values()))
        elif isinstance(part, dict):
            name, arguments = _name_in(part), _arguments_in(part)
            if name in tools and arguments is not None:
                calls.append((name, arguments))
    return calls


def _is_call(value: dict[str, Any]) -> bool:
    """Whether an object is written as a call, of whatever name."""
    return bool(_name_in(value)) and any(key in value for key in _ARGUMENTS_KEYS)


def _name_in(value: dict[str, Any]) -> str:
    return next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), "")


def _arguments_in(value: dict[str, Any]) -> dict[str, Any] | None:
    arguments = next((value[key] for key in _ARGUMENTS_KEYS if key in value), None)
    if isinstance(arguments, str):
        arguments = load_json(arguments)
    return arguments if isinstance(arguments, dict) else None


def _load_object(text: str) -> dict[str, Any] | None:
    value = load_json(text)
    if value is None and text.startswith("{{") and text.endswith("}}"):
        value = load_json(text[1:-1])  # prompts made with format strings teach models to double the braces
    return value if isinstance(value, dict) else None


def _names_pattern(tools: Mapping[str, Tool]) -> re.Pattern[str]:
    """Names that stand for themselves: no part of a longer one, and the longest where several begin."""
    names = "|".join(re.escape(name) for name in sorted(tools, key=len, reverse=True))
    return re.compile(rf"(?<![A-Za-z0-9_-])(?:{names})(?![A-Za-z0-9_-])")
