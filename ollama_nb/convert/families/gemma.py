"""Gemma, Gemma 2 and Gemma 3: norms that are stored less one, and the token embedding as output.

transformers' norms multiply by 1 + weight, llama.cpp's by the weight. How queries are scaled is a number of
config.json in transformers and follows from the sizes in llama.cpp; where the two differ, the queries are scaled here.
llama.cpp computes gelu from a table of float16, so logits agree with transformers to about four digits. Of models that
also see, the part that reads and writes text is converted.

Source: llama.cpp's ``src/models/gemma*.cpp``; transformers' ``models/gemma*``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Final

import gguf

from ollama_nb.convert.config import Config
from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.families.decoder import Decoder, Shapes, linear_scaling
from ollama_nb.convert.families.windows import sliding_layers, window_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.safetensors import StoredTensor
    from ollama_nb.convert.source import Source
    from ollama_nb.convert.weights import Array, Change

__all__ = ["Gemma", "Gemma2", "Gemma3"]

_NORM: Final = "_norm.weight"
_UNCAPPED: Final = 1e5
"""A cap that bends nothing: Gemma 2 has always one in llama.cpp. Values are far smaller, and float32 has room."""


class Gemma(Decoder):
    """The first Gemma."""

    architectures: ClassVar[tuple[str, ...]] = ("GemmaForCausalLM",)
    architecture: ClassVar[gguf.MODEL_ARCH] = gguf.MODEL_ARCH.GEMMA
    # The exact gelu of old files was never meant: transformers takes the tanh form too.
    activations: ClassVar = frozenset({"gelu", "gelu_new", "gelu_pytorch_tanh"})
    tied_only: ClassVar = True
    defaults: ClassVar[Mapping[str, Any]] = {"tie_word_embeddings": True}
    """What a config.json need not say."""

    def __init__(self, source: Source, config: Config, tensors: Mapping[str, StoredTensor]) -> None:
        super().__init__(source, Config({**self.defaults, **config.values}, config.label), tensors)

    def check(self) -> None:
        """Also raise for attention that looks ahead."""
        super().check()
        if self.config.flag("use_bidirectional_attention", default=False):
            raise ConvertError("config.json: the model looks ahead (use_bidirectional_attention), so it cannot write")

    def compute(self, target: str) -> Change | None:
        """One more for the weights of norms."""
        return _plus_one if target.endswith(_NORM) else super().compute(target)


class Gemma2(Gemma):
    """Gemma 2: every other layer has a window, sums of attention and logits have soft caps, and norms follow too."""

    architectures: ClassVar[tuple[str, ...]] = ("Gemma2ForCausalLM",)
    architecture: ClassVar = gguf.MODEL_ARCH.GEMMA2
    defaults: ClassVar = {**Gemma.defaults, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    period: ClassVar[int] = 2
    """Every so many layers one has no window."""
    wide_blocks: ClassVar[int] = 46
    """Layers of the largest model, for which llama.cpp scales queries by the width of the model."""

    @property
    def sliding(self) -> list[bool]:
        """Which layers have a window."""
        return sliding_layers(self.config, self.block_count, self.period)

    @property
    def query_scale(self) -> float:
        """What queries are multiplied with here, so that they end as transformers' do."""
        scalar = self.config.number("query_pre_attn_scalar", default=256.0)
        is_wide = self.block_count == self.wide_blocks
        taken = self.embedding_length // self.head_count if is_wide else self.head_dim
        if scalar <= 0 or not taken:
            raise ConvertError('config.json: queries become nothing by "query_pre_attn_scalar" or the heads')
        return math.sqrt(taken / scalar)

    def facts(self) -> dict[str, MetaValue]:
        """With windows and soft caps."""
        return {**super().facts(), **self.windows(), **self.caps()}

    def windows(self) -> dict[str, MetaValue]:
        """The keys of the windows."""
        return window_facts(self.config, self.sliding)

    def caps(self) -> dict[str, MetaValue]:
        """The keys of the soft caps."""
        names = ("attn_logit_softcapping", "final_logit_softcapping")
        return {name: self.cap(name) if name in self.config else _UNCAPPED for name in names}

    def cap(self, name: str) -> float:
        """One of the soft caps."""
        value = self.config.number(name)
        if value <= 0:
            raise ConvertError(f'config.json: "{name}" must be more than 0')
        return value

    def compute(self, target: str) -> Change | None:
        """Scaled queries, where llama.cpp does not scale them alike."""
        scale = self.query_scale
        if target.endswith("attn_q.weight") and scale != 1:
            return lambda data: data * scale
        return super().compute(target)

    def block_shapes(self) -> Shapes:
        """With norms after attention and after the feed-forward network."""
        width = (self.embedding_length,)
        return {**super().block_shapes(), "post_attention_norm.weight": width, "post_ffw_norm.weight": width}


class Gemma3(Gemma2):
    """Gemma 3: queries and keys have norms instead of caps, and layers with a window turn positions by another base."""

    architectures: ClassVar = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
    architecture: ClassVar = gguf.MODEL_ARCH.GEMMA3
    tied_only: ClassVar = False
    period: ClassVar = 6
    wide_blocks: ClassVar = 62
    # The part about text in the config.json of a model that also sees leaves out what transformers takes for granted.
    defaults: ClassVar = {
        **Gemma.defaults,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
    }

    def __init__(self, source: Source, config: Config, tensors: Mapping[str, StoredTensor]) -> None:
        text = {name: bare for name in tensors if (bare := _text_name(name))}
        self._is_half = len(text) < len(tensors)
        if len(set(text.values())) < len(text):
            raise ConvertError("the model has tensors of the same part under two names")
        super().__init__(source, config, {bare: tensors[name] for name, bare in text.items()})

    def check(self) -> None:
        """Also raise for caps in attention."""
        super().check()
        if "attn_logit_softcapping" in self.config:
            raise ConvertError('config.json: a Gemma 3 with "attn_logit_softcapping" is none that llama.cpp has')

    def facts(self) -> dict[str, MetaValue]:
        """With the base of positions for layers without a window."""
        return {**super().facts(), "rope.freq_base": self._theta("full_attention", "rope_theta", 1e6)}

    def windows(self) -> dict[str, MetaValue]:
        """The keys of the windows, where a layer has one, and the base of positions there."""
        if not any(self.sliding):
            return {}
        if linear_scaling(self.config.rope().sub("sliding_attention")):
            raise ConvertError("config.json: llama.cpp does not scale positions in Gemma 3's layers with a window")
        return {
            **super().windows(),
            "rope.freq_base_swa": self._theta("sliding_attention", "rope_local_base_freq", 1e4),
        }

    def scaling(self) -> dict[str, MetaValue]:
        """The keys about how positions are scaled in layers without a window."""
        return linear_scaling(self._rope("full_attention"))

    def caps(self) -> dict[str, MetaValue]:
        """The cap of logits, where there is one."""
        name = "final_logit_softcapping"
        return {name: self.cap(name)} if name in self.config else {}

    def compute(self, target: str) -> Change | None:
        """Scaled queries: their norm is the last thing before."""
        scale = self.query_scale
        if target.endswith("attn_q_norm.weight"):
            return lambda data: _plus_one(data) * scale
        return Gemma.compute(self, target)

    def block_shapes(self) -> Shapes:
        """With norms of queries and keys."""
        head = (self.head_dim,)
        return {**super().block_shapes(), "attn_q_norm.weight": head, "attn_k_norm.weight": head}

    def notes(self) -> list[str]:
        """That images cannot be read."""
        note = "The model can also read images; what was made of it reads and writes text only."
        return [note] if self._is_half else []

    def _rope(self, layers: str) -> Config:
        """How positions are turned in a kind of layers: transformers 5 has an object for each kind."""
        rope = self.config.rope()
        return rope.sub(layers) if layers in rope else rope

    def _theta(self, layers: str, name: str, default: float) -> float:
        """The base for a kind of layers; ``name`` is what transformers 4 called it."""
        default = self.config.number(name, default=default)
        rope = self.config.rope()
        theta = rope.sub(layers).number("rope_theta", default=default) if layers in rope else default
        if theta <= 0:
            raise ConvertError(f'config.json: the base of the positions ("{name}") must be more than 0')
        return theta


def _text_name(name: str) -> str | None:
    """The name of a tensor as a model without images has it; None: of the part that sees."""
    if name.removeprefix("model.").startswith(("vision_tower.", "multi_modal_projector.")):
        return None
    for start, bare in (("language_model.", ""), ("model.language_model.", "model.")):
        if name.startswith(start):
            return bare + name.removeprefix(start)
    return name


def _plus_one(data: Array) -> Array:
    return data + 1
