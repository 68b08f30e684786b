"""What one run of a template knows: its output, its variables, and how much it may still do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.gotemplate.errors import TemplateRunError
from ollama_nb.prompt.gotemplate.verbs import MAX_OUTPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ollama_nb.prompt.gotemplate.functions import Function
    from ollama_nb.prompt.gotemplate.values import GoValue

__all__ = ["MAX_DEPTH", "MAX_STEPS", "State"]

MAX_STEPS: Final = 1_000_000
"""Nodes that a run may evaluate, a long string counting as several."""

MAX_DEPTH: Final = 100
"""Templates that call each other, blocks around them not counted."""

_ABSENT: Final = object()


class State:
    """One run. ``functions`` are those beyond Go's own."""

    __slots__ = ("depth", "functions", "parts", "room", "steps", "undo", "variables")

    def __init__(self, data: GoValue, functions: Mapping[str, Function]) -> None:
        self.functions = functions
        self.parts: list[str] = []
        self.room = MAX_OUTPUT
        self.steps = MAX_STEPS
        self.depth = 0
        self.variables: dict[str, GoValue] = {"$": data}
        # What a declaration hid, so that the end of its block can bring it back.
        self.undo: list[tuple[str, GoValue]] = []

    def write(self, text: str) -> None:
        """Add to the output."""
        self.room -= len(text)
        if self.room < 0:
            raise TemplateRunError(f"more than {MAX_OUTPUT} characters of output")
        self.parts.append(text)

    def spend(self, steps: int) -> None:
        """Count work."""
        self.steps -= steps
        if self.steps < 0:
            raise TemplateRunError(f"more than {MAX_STEPS} steps")

    def variable(self, name: str) -> GoValue:
        """The value of a variable."""
        try:
            return self.variables[name]
        except KeyError:
            raise TemplateRunError(f"undefined variable: {name}") from None

    def declare(self, name: str, value: GoValue) -> None:
        """A new variable, until the block ends."""
        self.undo.append((name, self.variables.get(name, _ABSENT)))
        self.variables[name] = value

    def assign(self, name: str, value: GoValue) -> None:
        """A new value for a variable there is."""
        self.variable(name)
        self.variables[name] = value

    def leave(self, mark: int) -> None:
        """The end of a block: its variables go; ``mark`` is how long ``undo`` was at its begin."""
        undo, variables = self.undo, self.variables
        while len(undo) > mark:
            name, before = undo.pop()
            if before is _ABSENT:
                variables.pop(name, None)
            else:
                variables[name] = before
