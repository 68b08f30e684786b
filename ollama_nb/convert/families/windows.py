"""Which layers of a model see a few tokens back only: the sliding windows of Gemma 2 and 3 and of Command R7B.

A window of n lets a token see itself and the n - 1 before it, in transformers as in llama.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ollama_nb.convert.errors import ConvertError, shown

if TYPE_CHECKING:
    from ollama_nb.convert.config import Config
    from ollama_nb.convert.metadata import MetaValue

__all__ = ["sliding_layers", "window_facts"]

_SLIDING: Final = "sliding_attention"
_FULL: Final = "full_attention"
_WINDOW: Final = 4096
"""Tokens where config.json says nothing, in all of these models."""


def sliding_layers(config: Config, count: int, period: int) -> list[bool]:
    """Whether each of ``count`` layers has a window: ``layer_types`` says so, else every ``period``-th has none.

    The period of the file counts where it has one. Raises ``ConvertError`` for layers of another kind.
    """
    if "layer_types" not in config:
        period = config.whole("sliding_window_pattern", "_sliding_window_pattern", default=period, least=1)
        return [bool((number + 1) % period) for number in range(count)]
    types = config.values["layer_types"]
    if not isinstance(types, list) or len(types) != count:
        raise ConvertError(f'{config.label}: "layer_types" must be a list of the kinds of {count} layers')
    for kind in types:
        if kind not in (_SLIDING, _FULL):
            raise ConvertError(f'{config.label}: a layer is {_SLIDING} or {_FULL} in "layer_types", not {shown(kind)}')
    return [kind == _SLIDING for kind in types]


def window_facts(config: Config, sliding: list[bool]) -> dict[str, MetaValue]:
    """The keys: how long the window is, and which layers have it.

    Raises ``ConvertError`` where no layer has one: llama.cpp ends the process over a model that could have windows.
    """
    if not any(sliding):
        raise ConvertError(f"{config.label}: llama.cpp wants a sliding window in one layer at least of such a model")
    return {
        "attention.sliding_window": config.whole("sliding_window", default=_WINDOW, least=1),
        "attention.sliding_window_pattern": sliding,
    }
