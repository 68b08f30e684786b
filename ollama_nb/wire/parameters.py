"""Model parameters as people write them: which names there are, and the type that each one's text becomes.

Ollama's server stores what it is sent; turning ``temperature 0.7`` into a number is the client's work. This is
the one table for that, used wherever somebody types a parameter: ``create -p``, the magic's ``-p``, a Modelfile.
What a parameter does to a model is left to the engine, its default to the server.
"""

from __future__ import annotations

import math
import re
import struct
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["DEPRECATED", "OPTIONS", "PARAMETERS", "Kind", "Value", "parse_assignments", "parse_parameter"]

Value: TypeAlias = int | float | bool | list[str]
"""What a parameter's text becomes, ready for JSON."""


class Kind(Enum):
    """How the text of a parameter is read."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STRINGS = "strings"
    BIAS = "bias"


_INTS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed", "num_predict", "top_k")
_FLOATS = ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty")

PARAMETERS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        **dict.fromkeys((*_INTS, "repeat_last_n"), Kind.INT),
        **dict.fromkeys(_FLOATS, Kind.FLOAT),
        "use_mmap": Kind.BOOL,
        "stop": Kind.STRINGS,
    },
)
"""Every parameter that can be set, with its type; the list is Ollama's."""

OPTIONS: Final[Mapping[str, Kind]] = MappingProxyType({**PARAMETERS, "logit_bias": Kind.BIAS})
"""What a request may set: every parameter, and what makes no sense for a model as a whole."""

DEPRECATED: Final = frozenset(
    (
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    ),
)
"""Parameters that old Modelfiles still have: dropped with a warning, no error."""

_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INT_LIMIT = 1 << 63
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def parse_parameter(name: str, text: str) -> Value:
    """The typed value of parameter ``name``; ``stop`` gives a list of one, which the caller extends.

    Raises ``BadRequestError`` with Ollama's texts: ``unknown parameter 'x'``, ``invalid int value [x]`` and so on.
    Numbers are read as Go reads them: decimal, no blanks, integers of 64 bits, floats within float32.
    """
    kind = PARAMETERS.get(name)
    if kind is None:
        raise BadRequestError(f"unknown parameter '{name}'", hint=f"Parameters: {', '.join(sorted(PARAMETERS))}.")
    if kind is Kind.STRINGS:
        return [text]
    value = _number(kind, text)
    if value is None:
        raise BadRequestError(f"invalid {kind.value} value [{text}]")
    return value


def parse_assignments(assignments: Iterable[str]) -> tuple[dict[str, Value], list[str]]:
    """Options written ``name=value``, typed, and the warnings to show.

    A repeated ``stop`` adds to the list; of any other repeated name the last one wins. Deprecated names are dropped
    with Ollama's warning. Raises ``BadRequestError`` as ``parse_parameter`` does, and where the ``=`` is missing.
    """
    values: dict[str, Value] = {}
    warnings: list[str] = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise BadRequestError(
                f"invalid parameter '{assignment}'", hint="Write name=value, for example temperature=0.7."
            )
        if name in DEPRECATED:
            warnings.append(f"warning: parameter {name} is deprecated")
            continue
        value = parse_parameter(name, text)
        before = values.get(name)
        values[name] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
    return values, warnings


def _number(kind: Kind, text: str) -> int | float | bool | None:
    """The value of ``text``, or ``None`` where it has none."""
    if kind is Kind.INT and _INT.fullmatch(text):
        return _int64(text)
    if kind is Kind.FLOAT and _FLOAT.fullmatch(text):
        return _float32(float(text))
    if kind is Kind.BOOL and text in _TRUE | _FALSE:
        return text in _TRUE
    return None


def _int64(text: str) -> int | None:
    if len(text) > len(str(_INT_LIMIT)) + 1:
        return None  # also keeps Python from its own limit on the length of numbers
    value = int(text)
    return value if -_INT_LIMIT <= value < _INT_LIMIT else None


def _float32(value: float) -> float | None:
    """The value itself (0.7 stays 0.7), if float32 can hold its magnitude."""
    try:
        struct.pack("<f", value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None
