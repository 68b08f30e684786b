"""A request's ``options``: defaults, a model's parameters and the request, merged and typed as Ollama does.

Precedence: request over model over default; lists replace. Which names exist and what type each has stands in
``parameters``, here are the defaults and the texts that a wrong type gets.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ollama_nb.wire.errors import BadRequestError, OllamaError
from ollama_nb.wire.parameters import OPTIONS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Options", "Sampling", "merge_options"]

_TOKEN: Final = re.compile(r"-?[0-9]{1,10}")


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen: the part of the options that travels to the model's process.

    ``logit_bias`` is added to the logits of the tokens with these ids; -100 bans a token, 100 forces it, more is 100.
    """

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
    logit_bias: dict[int, float] = {}


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

    Unknown names and nulls are ignored, as Ollama ignores them. A wrong type is an error such as
    ``option "temperature" must be of type float32``: ``BadRequestError`` in the last layer, which is the request's,
    ``OllamaError`` (500) in those before, which are stored here.
    """
    values: dict[str, Any] = {"num_ctx": num_ctx}
    for stored in layers[:-1]:
        try:
            values |= _known(stored)
        except BadRequestError as error:
            raise OllamaError(error.message) from error
    for requested in layers[-1:]:
        values |= _known(requested)
    return Options(**values)


def _known(layer: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the options that there are; raises ``BadRequestError``."""
    return {
        name: _typed(name, OPTIONS[name], value)
        for name, value in layer.items()
        if value is not None and name in OPTIONS
    }


def _typed(name: str, kind: Kind, value: Any) -> Any:  # noqa: ANN401 - any JSON value in, the option's type out
    number = _is_number(value)
    if kind is Kind.INT and number:
        return _int64(name, math.trunc(value))
    if kind is Kind.FLOAT and number:
        return float(value)
    if kind is Kind.BOOL and isinstance(value, bool):
        return value
    if kind is Kind.STRINGS and isinstance(value, list | tuple):
        if not all(isinstance(item, str) for item in value):
            raise BadRequestError(f'option "{name}" must be of an array of strings')
        return tuple(value)
    if kind is Kind.BIAS:
        return _bias(name, value)
    wanted = {Kind.INT: "integer", Kind.FLOAT: "float32", Kind.BOOL: "boolean", Kind.STRINGS: "array"}[kind]
    raise BadRequestError(f'option "{name}" must be of type {wanted}')


def _bias(name: str, value: Any) -> dict[int, float]:  # noqa: ANN401 - any JSON value
    """A map of token ids, which JSON writes as texts, to numbers."""
    if (
        not isinstance(value, dict)
        or not all(_TOKEN.fullmatch(str(token)) for token in value)
        or not all(_is_number(number) for number in value.values())
    ):
        raise BadRequestError(f'option "{name}" must be a map of token ids to numbers')
    return {int(token): float(number) for token, number in value.items()}


def _is_number(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _int64(name: str, value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise BadRequestError(f'option "{name}" must be of type integer')
    return value
