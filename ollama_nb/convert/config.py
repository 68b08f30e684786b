"""``config.json`` with types: numbers and texts asked for by name, and one clear error for what is not there.

The names of one thing differ between models and between versions of transformers; each is asked for by all its
names. What the numbers mean is left to the families.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ollama_nb.convert.errors import ConvertError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_INT", "Config"]

MAX_INT: Final = (1 << 31) - 1
"""What a signed number of 32 bits can hold, as which llama.cpp keeps most."""

_MAX_FLOAT: Final = float.fromhex("0x1.fffffep127")
"""The largest number of 32 bits, as which a GGUF has it."""

_MAX_ARCHITECTURE: Final = 128


class Config:
    """The object of a ``config.json``, or one inside it. Every getter raises ``ConvertError`` for a wrong type."""

    def __init__(self, values: Mapping[str, Any], label: str = "config.json") -> None:
        self.values = values
        self.label = label

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def whole(self, *names: str, default: int | None = None, least: int = 0, most: int = MAX_INT) -> int:
        """The whole number under the first of ``names`` that is there, from ``least`` to ``most``."""
        name, value = self._find(names, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            wanted = f"a whole number from {least} " + ("on" if most == MAX_INT else f"to {most}")
            raise ConvertError(f'{self.label}: "{name}" must be {wanted}, not {shown(value)}')
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        """The number under the first of ``names`` that is there, finite also in 32 bits."""
        name, value = self._find(names, default)
        # Python compares whole numbers of any length; NaN is neither more nor less.
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_MAX_FLOAT <= value <= _MAX_FLOAT:
            raise ConvertError(f'{self.label}: "{name}" must be a number, not {shown(value)}')
        return float(value)

    def text(self, *names: str, default: str | None = None) -> str:
        """The text under the first of ``names`` that is there."""
        name, value = self._find(names, default)
        if not isinstance(value, str):
            raise ConvertError(f'{self.label}: "{name}" must be a text, not {shown(value)}')
        return value

    def flag(self, *names: str, default: bool | None = None) -> bool:
        """The boolean under the first of ``names`` that is there."""
        name, value = self._find(names, default)
        if not isinstance(value, bool):
            raise ConvertError(f'{self.label}: "{name}" must be true or false, not {shown(value)}')
        return value

    def floats(self, name: str, length: int) -> list[float]:
        """A list of ``length`` finite numbers."""
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) != length:
            raise ConvertError(f'{self.label}: "{name}" must be a list of {length} numbers')
        return [Config({name: item}, self.label).number(name) for item in value]

    def sub(self, name: str) -> Config:
        """The object under ``name``; an empty one where there is none."""
        value = self.values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise ConvertError(f'{self.label}: "{name}" must be an object, not {shown(value)}')
        return Config(value, f"{self.label}, {name}")

    def architecture(self) -> str:
        """The first of ``architectures``: the class that transformers would load."""
        value = self.values.get("architectures")
        if not isinstance(value, list) or not value or not isinstance(value[0], str):
            raise ConvertError(f"{self.label} names no architecture")
        if not value[0].isprintable() or len(value[0]) > _MAX_ARCHITECTURE:
            raise ConvertError(f"{self.label} names the impossible architecture {shown(value[0])}")
        return value[0]

    def language(self) -> Config:
        """The part about the language model: the object itself, or ``text_config`` of a model that also sees."""
        return self if "text_config" not in self else Config({**self.values, **self.sub("text_config").values})

    def rope(self) -> Config:
        """How positions are scaled: ``rope_parameters`` of transformers 5, else ``rope_scaling``."""
        return self.sub("rope_parameters" if "rope_parameters" in self else "rope_scaling")

    def rope_theta(self, default: float = 10000.0) -> float:
        """The base of the rotary positions' frequencies, more than 0."""
        base = self.rope().number("rope_theta", default=self.number("rope_theta", default=default))
        if base <= 0:
            raise ConvertError(f'{self.label}: "rope_theta" must be more than 0')
        return base

    def _find(self, names: tuple[str, ...], default: object) -> tuple[str, Any]:
        for name in names:
            if self.values.get(name) is not None:
                return name, self.values[name]
        if default is None:
            raise ConvertError(f'{self.label}: "{names[0]}" is missing')
        return names[0], default
