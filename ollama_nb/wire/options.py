"""A request's ``options``: defaults, a model's parameters and the request, merged and typed as Ollama does.

Precedence: request over model over default; lists replace. Which names exist and what type each has stands in
``parameters``, here are the defaults and the texts that a wrong type gets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from ollama_nb.wire.errors import OllamaError
from ollama_nb.wire.parameters import PARAMETERS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Options", "Sampling", "merge_options"]


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen: the part of the options that travels to the model's process."""

    seed: int = -1
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


class Options(Sampling, frozen=True, kw_only=True):
    """Every option with Ollama's default; counts in tokens, ``num_thread`` 0 and ``num_gpu`` -1 are automatic."""

    num_ctx: int = 4096
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    num_thread: int = 0
    use_mmap: bool | None = None
    num_keep: int = 4
    num_predict: int = -1
    stop: tuple[str, ...] = ()


def merge_options(num_ctx: int, *layers: Mapping[str, Any]) -> Options:
    """The options of a request: later layers win. ``num_ctx`` is the server's default context in tokens.

    Unknown names and nulls are ignored, as Ollama ignores them. Raises ``OllamaError`` (500, Ollama's own status)
    such as ``option "temperature" must be of type float32``.
    """
    values: dict[str, Any] = {"num_ctx": num_ctx}
    for layer in layers:
        for name, value in layer.items():
            if value is not None and name in PARAMETERS:
                values[name] = _typed(name, PARAMETERS[name], value)
    return Options(**values)


def _typed(name: str, kind: Kind, value: Any) -> Any:  # noqa: ANN401 - any JSON value in, the option's type out
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is Kind.INT and number:
        return _int64(name, math.trunc(value))
    if kind is Kind.FLOAT and number:
        return float(value)
    if kind is Kind.BOOL and isinstance(value, bool):
        return value
    if kind is Kind.STRINGS and isinstance(value, list | tuple):
        if not all(isinstance(item, str) for item in value):
            raise OllamaError(f'option "{name}" must be of an array of strings')
        return tuple(value)
    wanted = {Kind.INT: "integer", Kind.FLOAT: "float32", Kind.BOOL: "boolean", Kind.STRINGS: "array"}[kind]
    raise OllamaError(f'option "{name}" must be of type {wanted}')


def _int64(name: str, value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise OllamaError(f'option "{name}" must be of type integer')
    return value
