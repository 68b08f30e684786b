"""How positions are scaled for texts longer than those a model was first trained with: linear, dynamic, yarn, llama3.

llama.cpp computes the first three itself from keys of the header. That of Llama 3.1 is a tensor of factors by which the
frequencies are divided, which only the architecture ``llama`` reads.

Source: transformers' ``modeling_rope_utils.py``; llama.cpp's ``llama-context.cpp`` and ``rope_yarn`` of ggml; for yarn
the paper YaRN (arXiv 2309.00071).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from ollama_nb.convert.config import MAX_INT
from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.families.decoder import linear_scaling

if TYPE_CHECKING:
    from ollama_nb.convert.config import Config
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.weights import Array

__all__ = ["DYNAMIC", "LLAMA3", "llama3_factors", "scaled_length", "scaling_facts", "scaling_kind"]

DYNAMIC: Final = "dynamic"
LLAMA3: Final = "llama3"

_DEFAULT: Final = "default"
_YARN: Final = "yarn"
_KINDS: Final = (_DEFAULT, "linear", DYNAMIC, _YARN)
"""Those for which llama.cpp needs keys or nothing."""

_BETAS: Final = {"beta_fast": 32.0, "beta_slow": 1.0}
"""Turns over the original length between which yarn goes over from one frequency to the other."""


def scaling_kind(config: Config) -> str:
    """The name of the way in which positions are scaled."""
    return config.rope().text("rope_type", "type", default=_DEFAULT)


def scaling_facts(config: Config) -> dict[str, MetaValue]:
    """The keys of the header; raises ``ConvertError`` for a way that llama.cpp does not have."""
    kind = scaling_kind(config)
    if kind in {DYNAMIC, LLAMA3}:
        return {}
    if kind == _YARN:
        return _yarn_facts(config)
    if kind not in _KINDS:
        raise ConvertError(
            f"{config.rope().label}: {shown(kind)} positions are none that llama.cpp has for this architecture",
            hint=f"It has {', '.join(_KINDS)}; for Llama also {LLAMA3}.",
        )
    return linear_scaling(config.rope())


def scaled_length(config: Config) -> int:
    """Tokens of the context. Configs that turn yarn on often leave theirs at the original one."""
    length = _length(config)
    if scaling_kind(config) != _YARN or "original_max_position_embeddings" not in config.rope():
        return length
    return max(length, min(MAX_INT, int(_original(config) * _yarn_factor(config))))


def llama3_factors(config: Config, head_dim: int, theta: float) -> Array:
    """What the frequencies of Llama 3.1 and later are divided by: ``head_dim // 2`` numbers from 1 to the factor."""
    rope = config.rope()
    factor, low, high = (rope.number(name) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    if factor < 1 or not 0 < low < high:
        raise ConvertError(
            f"{rope.label}: with {LLAMA3} positions the factor is 1 at least, low_freq_factor more than 0, "
            "and high_freq_factor more than that"
        )
    waves = 2 * math.pi * theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    with np.errstate(over="ignore"):  # two factors next to each other; what comes of it is beyond 1 anyway
        smooth = np.clip((_original(config) / waves - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _yarn_facts(config: Config) -> dict[str, MetaValue]:
    rope = config.rope()
    for name, usual in _BETAS.items():
        # transformers takes a nought for the usual number.
        if rope.number(name, default=usual) not in {usual, 0.0}:
            raise ConvertError(f'{rope.label}: llama.cpp has yarn with a "{name}" of {usual:g} only')
    if not rope.flag("truncate", default=True):
        raise ConvertError(f'{rope.label}: llama.cpp has yarn with "truncate" only')
    factor = _yarn_factor(config)
    facts: dict[str, MetaValue] = {
        "rope.scaling.type": _YARN,
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": _original(config),
    }
    # llama.cpp strengthens attention as usual, and by this beyond.
    more = _attention_factor(rope, factor) / _strength(factor, 1)
    return facts if math.isclose(more, 1) else {**facts, "rope.scaling.attn_factor": more}


def _yarn_factor(config: Config) -> float:
    rope = config.rope()
    factor = rope.number("factor", default=max(1.0, _length(config) / _original(config)))
    if factor < 1:
        raise ConvertError(f'{rope.label}: "factor" must be 1 at least')
    return factor


def _attention_factor(rope: Config, factor: float) -> float:
    """By how much queries and keys are strengthened."""
    above, below = (rope.number(name, default=0.0) for name in ("mscale", "mscale_all_dim"))
    usual = _strength(factor, above) / _strength(factor, below) if above > 0 and below > 0 else _strength(factor, 1)
    attention = rope.number("attention_factor", default=usual)
    if attention <= 0:
        raise ConvertError(f'{rope.label}: "attention_factor" must be more than 0')
    return attention


def _strength(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1.0


def _original(config: Config) -> int:
    """Tokens that the model was first trained with: as transformers looks for it, outside of the scaling first."""
    name = "original_max_position_embeddings"
    return config.whole(name, default=config.rope().whole(name, default=_length(config), least=1), least=1)


def _length(config: Config) -> int:
    """Tokens of the context as config.json has it; Llama 1's first files called it otherwise."""
    return config.whole("max_position_embeddings", "max_sequence_length", least=1)
