"""``adapter_config.json``: how much a LoRA adapter counts, as peft and as MLX write it, and what is more than a LoRA.

llama.cpp knows one number for the whole adapter, ``alpha``, and multiplies a pair of matrices by alpha / rank. What
peft and MLX say of each pair is given here as the alpha that means the same for that pair. Kinds of adapters that add
something else to the model, or to a model that is not the base as it is, are refused.

Sources: peft's ``LoraConfig`` and ``get_pattern_key``; mlx-lm's ``tuner/lora.py`` and ``tuner/utils.py``.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, Protocol

from ollama_nb.convert.config import Config
from ollama_nb.convert.errors import ConvertError, shown

if TYPE_CHECKING:
    from ollama_nb.convert.source import Source

__all__ = ["MERGE", "LoraScale", "MlxScale", "PeftScale", "lora_scale"]

MERGE: Final = "Merge the adapter into its model, model.merge_and_unload() in peft, and create from the merged model."
"""What to do with an adapter that cannot stay one."""

_FILE: Final = "adapter_config.json"
_MAX_ALPHA: Final = 1e9
_MAX_PATTERN: Final = 200

_MORE_THAN_LORA: Final = {
    "use_dora": "DoRA, which changes the lengths of the base model's weights too",
    "use_qalora": "QA-LoRA, which averages the inputs of its matrices",
    "use_bdlora": "BD-LoRA, whose matrices are made of blocks",
    "alora_invocation_tokens": "activated LoRA, which changes only what comes behind certain tokens",
    "layer_replication": "replicated layers, which the base model does not have",
    "arrow_config": "Arrow, which chooses among several adapters for each token",
    "kasa_config": "KaSA, which has singular values between its matrices",
    "target_parameters": "target_parameters, which are no modules of their own",
    "trainable_token_indices": "trainable_token_indices, new embeddings for single tokens",
}
"""Settings of peft that make an adapter something that llama.cpp cannot apply, and what they are."""

_OTHER_BASE: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of ``init_lora_weights`` where training began with other weights than the base model's."""

_PATTERN: Final = re.compile(r"\^?(?:[\w.-]|\\\.|\\d\+?|\[0-9\]\+?|\.\*|\.\+)+\$?")
_UNBOUNDED: Final = re.compile(r"[*+]")
_MAX_UNBOUNDED: Final = 2


class LoraScale(Protocol):
    """How much the pairs of an adapter count, and how its matrices lie."""

    transposed: bool
    """Whether the matrices are (inputs, rank) and (rank, outputs), not (rank, inputs) and (outputs, rank)."""
    notes: list[str]
    """What the user should know."""

    def alpha(self, module: str, rank: int) -> float:
        """What, divided by ``rank``, the product of the matrices of ``module`` is multiplied by.

        Raises ``ConvertError`` where the config does not go with the rank.
        """


def lora_scale(source: Source) -> LoraScale:
    """What the config of an adapter says; raises ``ConvertError`` for one that is no plain LoRA."""
    config = Config(source.json(_FILE), _FILE)
    return MlxScale(config) if "lora_parameters" in config else PeftScale(config)


class PeftScale:
    """peft: alpha / r, or alpha / √r with rank stabilisation; both may differ between modules."""

    transposed: bool = False

    def __init__(self, config: Config) -> None:
        self.notes: list[str] = []
        kind = config.text("peft_type", default="LORA")
        if kind.upper() != "LORA":
            raise ConvertError(f"an adapter of the kind {shown(kind)} cannot be converted; only LoRA can", hint=MERGE)
        for name, what in _MORE_THAN_LORA.items():
            if config.values.get(name):
                raise ConvertError(f"the adapter uses {what}; only plain LoRA can be converted", hint=MERGE)
        start = config.values.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(_OTHER_BASE):
            raise ConvertError(
                f"the adapter began with init_lora_weights={shown(start)}, which changes the base model's weights",
                hint=f"Save it with path_initial_model_for_weight_conversion, which makes a plain LoRA of it. {MERGE}",
            )
        self._stabilised = config.flag("use_rslora", default=False)
        self._rank = config.whole("r", least=1)
        self._alpha = _bounded(config, "lora_alpha")
        self._ranks = _patterns(config, "rank_pattern")
        self._alphas = _patterns(config, "alpha_pattern")

    def alpha(self, module: str, rank: int) -> float:
        """As ``LoraScale.alpha``."""
        said = _first_match(self._ranks, module, self._rank)
        if said != rank:
            raise ConvertError(f'the matrices of "{module}" have the rank {rank}, but {_FILE} says {said:g}')
        alpha = _first_match(self._alphas, module, self._alpha)
        return alpha * math.sqrt(rank) if self._stabilised else alpha


class MlxScale:
    """MLX: a scale for all, which some versions multiplied by alpha / rank."""

    transposed: bool = True

    def __init__(self, config: Config) -> None:
        self.notes: list[str] = []
        kind = "dora" if config.flag("use_dora", default=False) else config.text("fine_tune_type", default="lora")
        if kind != "lora":
            raise ConvertError(
                f"an MLX adapter of the kind {shown(kind)} cannot be converted; only lora can",
                hint="Fuse it with its model, mlx_lm.fuse, and create from the fused model.",
            )
        inner = config.sub("lora_parameters")
        self._rank = inner.whole("rank", least=1)
        self._per_rank = "alpha" in inner
        self._alpha = 1.0
        if self._per_rank:
            self._alpha = _bounded(inner, "alpha") * inner.number("scale", default=1.0)
            self.notes.append("the adapter counts scale * alpha / rank, as with the versions of MLX that have an alpha")
        else:
            self._alpha = _bounded(inner, "scale")

    def alpha(self, module: str, rank: int) -> float:
        """As ``LoraScale.alpha``."""
        if rank != self._rank:
            raise ConvertError(f'the matrices of "{module}" have the rank {rank}, but {_FILE} says {self._rank}')
        return self._alpha if self._per_rank else self._alpha * rank


def _bounded(config: Config, name: str) -> float:
    value = config.number(name)
    if abs(value) > _MAX_ALPHA:
        raise ConvertError(f'{config.label}: "{name}" is {value:g}, which no adapter can be meant to have')
    return value


def _patterns(config: Config, name: str) -> list[tuple[re.Pattern[str], float]]:
    """Names of modules, or patterns of them, with a number each; the first that matches counts."""
    inner = config.sub(name)
    return [(_pattern(key, inner.label), _bounded(inner, key)) for key in inner.values]


def _pattern(key: Any, label: str) -> re.Pattern[str]:  # noqa: ANN401 - any JSON key
    """How peft finds a module: by its whole name, or by the end of it behind a dot.

    Any regular expression may stand there, and one can be made to take for ever: only simple ones are taken.
    """
    simple = len(key) <= _MAX_PATTERN and _PATTERN.fullmatch(key)
    if not simple or len(_UNBOUNDED.findall(key)) > _MAX_UNBOUNDED:
        raise ConvertError(f"{label}: the pattern {shown(key)} is not understood", hint="Names of modules are.")
    return re.compile(rf"(?:.*\.)?(?:{key})$")


def _first_match(patterns: list[tuple[re.Pattern[str], float]], module: str, default: float) -> float:
    return next((value for pattern, value in patterns if pattern.match(module)), default)
