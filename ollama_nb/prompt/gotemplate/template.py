"""A template as the rest of the package uses it: read once, inspected, printed, run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ollama_nb.prompt.gotemplate.blocks import Program
from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.prompt.gotemplate.functions import BUILTINS, LAZY, OLLAMA, Function, as_functions
from ollama_nb.prompt.gotemplate.parser import parse
from ollama_nb.prompt.gotemplate.state import State
from ollama_nb.prompt.gotemplate.values import GoValue
from ollama_nb.wire.gostrings import go_bytes, quote

if TYPE_CHECKING:
    from ollama_nb.prompt.gotemplate.tree import NodeList

__all__ = ["Functions", "Template"]

Functions = Iterable[str] | Mapping[str, Callable[..., GoValue] | Function] | None
"""Functions beyond Go's own: names alone (given later, or Ollama's), or names with what they call.

None stands for Ollama's: json, currentDate, yesterdayDate and toTypeScriptType. Anything else stands for itself
alone, so ``()`` is a template without ``json``.
"""


class Template:
    """A parsed template: ``root`` are its nodes, ``definitions`` those of the templates that it defines.

    Raises TemplateSyntaxError. ``missing_key_zero`` is Go's option missingkey=zero, which Ollama sets: a key that a
    map does not have is nil, and a field of it an error. Without the option both are no value. What a template is
    given and how it prints is in ``values`` and ``format``.
    """

    def __init__(self, source: str, functions: Functions = None, *, missing_key_zero: bool = True) -> None:
        self.functions = _known(functions)
        names = {*BUILTINS, *LAZY, *self.functions, *(functions or ())}
        self.root, self.definitions = parse(source, names)
        self.missing_key_zero = missing_key_zero

    @classmethod
    def from_tree(
        cls,
        root: NodeList,
        definitions: Mapping[str, NodeList] | None = None,
        functions: Functions = None,
        *,
        missing_key_zero: bool = True,
    ) -> Template:
        """A template from nodes. A function that is not among ``functions`` fails when it is called."""
        template = cls.__new__(cls)
        template.functions = _known(functions)
        template.root = root
        template.definitions = dict(definitions or {})
        template.missing_key_zero = missing_key_zero
        return template

    def __str__(self) -> str:
        """Source that parses to an equal tree."""
        defined = (f"{{{{define {quote(name)}}}}}{nodes}{{{{end}}}}" for name, nodes in self.definitions.items())
        return "".join(defined) + str(self.root)

    def __repr__(self) -> str:
        return f"Template({str(self)!r})"

    @functools.cached_property
    def _program(self) -> Program:
        return Program(self.root, self.definitions, zero_missing=self.missing_key_zero)

    def render(self, data: GoValue, functions: Mapping[str, Callable[..., GoValue] | Function] | None = None) -> str:
        """The output for this data; ``functions`` are those known by name only, or others in their place.

        Raises TemplateRunError, past a limit too: a template cannot run for ever, nor fill the memory.
        """
        known = {**self.functions, **as_functions(functions)} if functions else self.functions
        state = State(data, known)
        try:
            self._program.run(state, data)
        except RecursionError:
            raise TemplateRunError("nested too deeply") from None
        except (MemoryError, OverflowError, ValueError) as error:
            raise TemplateRunError(f"out of bounds: {error}") from error
        return _whole("".join(state.parts))


def _known(functions: Functions) -> dict[str, Function]:
    """The functions that can be called already."""
    if functions is None:
        return OLLAMA
    if isinstance(functions, Mapping):
        return as_functions(functions)
    return {name: OLLAMA[name] for name in functions if name in OLLAMA}


def _whole(text: str) -> str:
    """The text with U+FFFD for bytes that are no characters, where a string was cut within one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return go_bytes(text).decode("utf-8", "replace")
    return text
