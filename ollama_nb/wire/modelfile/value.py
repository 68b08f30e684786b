"""What a Modelfile says, as a value: read from text, or built in Python one instruction after the other.

A value never changes: every method gives a new one. What a Modelfile could not say is refused where it is set, in the
words in which a Modelfile with the same fault is refused, so that ``parse(str(modelfile)) == modelfile`` holds for
every value there can be. How instructions are written is left to ``syntax``, the types of parameters to
``wire.parameters``, and what becomes of it all to the client and the server.
"""

from __future__ import annotations

import copy
import os
import re
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.gofloats import json_number
from ollama_nb.wire.modelfile.syntax import ROLES, Command, ModelfileError, quote, read_commands, unprintable
from ollama_nb.wire.parameters import DEPRECATED, PARAMETERS, Kind, parse_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Message", "Modelfile", "parse"]

Setting: TypeAlias = int | float | bool | tuple[str, ...]
"""The value of a parameter; ``stop`` has several texts."""

# As Go's semver, with or without the leading v; minor and patch may be left out.
_VERSION: Final = re.compile(r"v?\d+(\.\d+(\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)?)?")


class Message(NamedTuple):
    """A message that every conversation with the model begins with."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, init=False)
class Modelfile:
    """A model's recipe: ``Modelfile("smollm2:135m").system("Be brief.").parameter("temperature", 0.7).stop("###")``.

    The arguments are the FROM lines: a model's name, a file, a folder; several for a model in several files, such as
    weights and a projector. ``str()`` gives the Modelfile as text. Texts that a Modelfile cannot carry are refused:
    characters that do not print, such as joiners and no-break blanks, which reading would leave out, and texts with a
    line, not the last one, that ends with three quotes, where reading would stop.

    ``warnings`` are what was dropped: parameters that Ollama has given up, and on reading characters that do not
    print. They do not count when two values are compared. Raises ``ModelfileError``.
    """

    from_: tuple[str, ...]
    adapters: tuple[str, ...]
    template_text: str | None
    system_text: str | None
    licenses: tuple[str, ...]
    messages: tuple[Message, ...]
    renderer_name: str | None
    parser_name: str | None
    required_version: str | None
    drafts: tuple[str, ...]
    _settings: tuple[tuple[str, Setting], ...]
    warnings: tuple[str, ...] = field(compare=False)

    def __init__(self, *from_: str | os.PathLike[str]) -> None:
        if not from_:
            raise ModelfileError("no FROM line", hint="Say what to build on: FROM and a model's name, file or folder.")
        self._set(
            from_=tuple(_place("FROM", value) for value in from_),
            **dict.fromkeys(("adapters", "licenses", "messages", "drafts", "_settings", "warnings"), ()),
            **dict.fromkeys(("template_text", "system_text", "renderer_name", "parser_name", "required_version")),
        )

    @property
    def parameters(self) -> dict[str, Setting]:
        """The parameters with their typed values, by name; ``stop`` is a tuple of texts."""
        return dict(self._settings)

    def template(self, text: str) -> Modelfile:
        """TEMPLATE: the prompt's template, in Go's language."""
        return self._with(template_text=_text("TEMPLATE", text))

    def system(self, text: str) -> Modelfile:
        """SYSTEM: the system message."""
        return self._with(system_text=_text("SYSTEM", text))

    def license(self, text: str) -> Modelfile:
        """LICENSE: one more licence."""
        return self._with(licenses=(*self.licenses, _text("LICENSE", text)))

    def adapter(self, path: str | os.PathLike[str]) -> Modelfile:
        """ADAPTER: a LoRA adapter, a file or a folder; Ollama uses the last one."""
        return self._with(adapters=(*self.adapters, _place("ADAPTER", path)))

    def message(self, role: str, content: str) -> Modelfile:
        """MESSAGE: one more message of ``system``, ``user`` or ``assistant``, with which conversations begin."""
        if role not in ROLES:
            raise ModelfileError('message role must be one of "system", "user", or "assistant"')
        return self._with(messages=(*self.messages, Message(role, _text("MESSAGE", content))))

    def parameter(self, name: str, value: object) -> Modelfile:
        """PARAMETER: a number, a truth value, or the text of one; for ``stop`` one text or several, each one more.

        Of another parameter that is set twice the last value counts. One that Ollama has given up is dropped with a
        warning.
        """
        if name in DEPRECATED:
            return self._with(warnings=(*self.warnings, f"warning: parameter {name} is deprecated"))
        if PARAMETERS.get(name) is Kind.STRINGS:
            texts = value if isinstance(value, list | tuple) else [value]
            if not texts:
                raise ModelfileError(f"PARAMETER {name} needs a text")
            before = self.parameters.get(name)
            more = tuple(_text(f"PARAMETER {name}", text) for text in texts)
            return self._setting(name, before + more if isinstance(before, tuple) else more)
        try:
            return self._setting(name, parse_parameter(name, str(value)))
        except BadRequestError as error:
            raise ModelfileError(error.message, hint=error.hint) from error

    def stop(self, *texts: str) -> Modelfile:
        """PARAMETER stop: more texts before which an answer ends."""
        return self.parameter("stop", texts)

    def renderer(self, name: str) -> Modelfile:
        """RENDERER: a prompt renderer of newer Ollama; kept, but no model can be created with it here."""
        return self._with(renderer_name=_text("RENDERER", name))

    def parser(self, name: str) -> Modelfile:
        """PARSER: an answer parser of newer Ollama; kept, but no model can be created with it here."""
        return self._with(parser_name=_text("PARSER", name))

    def requires(self, version: str) -> Modelfile:
        """REQUIRES: the version of Ollama from which on the model runs, as ``0.14.0``."""
        if not _VERSION.fullmatch(_text("REQUIRES", version)):
            raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
        return self._with(required_version=version)

    def draft(self, path: str | os.PathLike[str]) -> Modelfile:
        """DRAFT: a model for speculative decoding in newer Ollama; kept, but no model can be created with it here."""
        return self._with(drafts=(*self.drafts, _place("DRAFT", path)))

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from (f"FROM {quote(value)}" for value in self.from_)
        yield from (f"ADAPTER {quote(value)}" for value in self.adapters)
        yield from (f"DRAFT {quote(value)}" for value in self.drafts)
        single = {
            "RENDERER": self.renderer_name,
            "PARSER": self.parser_name,
            "REQUIRES": self.required_version,
            "TEMPLATE": self.template_text,
            "SYSTEM": self.system_text,
        }
        yield from (f"{name} {quote(text)}" for name, text in single.items() if text is not None)
        for name, value in self._settings:
            texts = value if isinstance(value, tuple) else [_number(value)]
            yield from (f"PARAMETER {name} {quote(text)}" for text in texts)
        yield from (f"LICENSE {quote(text)}" for text in self.licenses)
        yield from (f"MESSAGE {message.role} {quote(message.content)}" for message in self.messages)

    def _setting(self, name: str, value: object) -> Modelfile:
        return self._with(_settings=tuple(sorted({**self.parameters, name: value}.items(), key=lambda item: item[0])))

    def _with(self, **changes: object) -> Modelfile:
        """A copy that differs in these fields."""
        changed = copy.copy(self)
        changed._set(**changes)  # noqa: SLF001 - nobody else has it yet
        return changed

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def parse(data: str | bytes) -> Modelfile:
    """The Modelfile that a text, or a file's bytes, is.

    Raises ``ModelfileError`` with Ollama's texts, ``(line N): ...`` among them; its ``line`` says where, if it has one.
    """
    commands = list(read_commands(data))
    sources = []
    for command in commands:
        if command.name == "from":
            with _in_line(command.line):
                sources.append(_place("FROM", command.value))
    modelfile = Modelfile(*sources)
    for command in commands:
        with _in_line(command.line):
            modelfile = _STEPS[command.name](modelfile, command)
        if command.lost:
            warning = f"warning: line {command.line} loses what does not print: {_codes(command.lost)}"
            modelfile = modelfile._with(warnings=(*modelfile.warnings, warning))  # noqa: SLF001 - of this module
    return modelfile


_STEPS: Final[Mapping[str, Callable[[Modelfile, Command], Modelfile]]] = {
    "from": lambda modelfile, _: modelfile,  # they are known from the beginning
    "template": lambda modelfile, command: modelfile.template(command.value),
    "system": lambda modelfile, command: modelfile.system(command.value),
    "license": lambda modelfile, command: modelfile.license(command.value),
    "adapter": lambda modelfile, command: modelfile.adapter(command.value),
    "parameter": lambda modelfile, command: modelfile.parameter(command.key, command.value),
    "message": lambda modelfile, command: modelfile.message(command.key, command.value),
    "renderer": lambda modelfile, command: modelfile.renderer(command.value),
    "parser": lambda modelfile, command: modelfile.parser(command.value),
    "requires": lambda modelfile, command: modelfile.requires(command.value),
    "draft": lambda modelfile, command: modelfile.draft(command.value),
}


@contextmanager
def _in_line(line: int) -> Iterator[None]:
    """What is refused says in which line it stands."""
    try:
        yield
    except ModelfileError as error:
        hint = f"In line {line}. {error.hint}" if error.hint else f"In line {line}."
        raise ModelfileError(error.message, line=line, hint=hint) from error


def _place(instruction: str, value: str | os.PathLike[str]) -> str:
    """A path or a model's name."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = ""
    if not text:
        raise ModelfileError(f"{instruction} needs a path or a model's name, not {value!r}")
    return _text(instruction, text)


def _text(instruction: str, value: object) -> str:
    """A text that the instruction can carry."""
    if not isinstance(value, str):
        raise ModelfileError(f"{instruction} takes text, not {value!r}")
    lost = unprintable(value)
    if lost:
        raise ModelfileError(
            f"{instruction} cannot hold {_codes(lost)}: Modelfiles leave out what does not print",
            hint="Leave it out, or give the text to the client beside the Modelfile: create(..., system=text).",
        )
    if quote(value) is None:
        raise ModelfileError(
            f'{instruction} cannot hold a line that ends with """ before the last: Modelfiles end a text there',
            hint="Put another character behind the quotes, or give the text to the client beside the Modelfile.",
        )
    return value


def _codes(chars: str) -> str:
    """Characters by their numbers and names: ``U+200B ZERO WIDTH SPACE``."""
    return ", ".join(f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip() for char in chars)


def _number(value: float) -> str:
    """A number or a truth value as a Modelfile has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else json_number(value)
