"""Command R and Command R7B: attention and the feed-forward network beside each other, after one norm without bias.

Pairs of positions stand beside each other already in transformers, so nothing is reordered. Command R7B's layers with a
window rotate, those without have no positions at all.

Source: llama.cpp's ``src/models/command-r.cpp`` and ``cohere2.cpp``; transformers' ``models/cohere`` and ``cohere2``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import gguf

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.families.decoder import Decoder, Shapes
from ollama_nb.convert.families.windows import sliding_layers, window_facts
from ollama_nb.convert.weights import widen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.safetensors import StoredTensor
    from ollama_nb.convert.weights import Weight

__all__ = ["Cohere2", "CommandR"]

_NORMED_BLOCKS: Final = 64
"""Layers from which on llama.cpp takes a model for Command R+, which has norms of queries and keys."""

_PERIOD: Final = 4
"""Every so many layers of Command R7B one has no window."""


class _Cohere(Decoder):
    """What both have in common."""

    norm_eps: ClassVar = "layer_norm_eps"
    tied_only: ClassVar = True

    @property
    def tied(self) -> bool:
        """As it is where config.json says nothing."""
        return self.config.flag("tie_word_embeddings", default=True)

    def check(self) -> None:
        """Also raise for heads that are not as wide as the model together."""
        super().check()
        self.check_square()

    def facts(self) -> dict[str, MetaValue]:
        """With a plain norm, and what logits are multiplied with."""
        facts = super().facts()
        scale = self.config.number("logit_scale", default=0.0625)
        if not scale:
            raise ConvertError('config.json: "logit_scale" must not be 0')
        return {
            **{name: value for name, value in facts.items() if name != "attention.layer_norm_rms_epsilon"},
            "attention.layer_norm_epsilon": self.config.number(self.norm_eps),
            "logit_scale": scale,
        }

    def block_shapes(self) -> Shapes:
        """With one norm for both halves of a block."""
        return {name: shape for name, shape in super().block_shapes().items() if name != "ffn_norm.weight"}


class CommandR(_Cohere):
    """Command R, Command R+ and Aya."""

    architectures: ClassVar = ("CohereForCausalLM",)
    architecture: ClassVar = gguf.MODEL_ARCH.COMMAND_R

    @property
    def _has_norms(self) -> bool:
        return self.config.flag("use_qk_norm", default=False)

    def check(self) -> None:
        """Also raise where llama.cpp would look for norms of queries and keys that are not there, or not look."""
        super().check()
        if self._has_norms != (self.block_count >= _NORMED_BLOCKS):
            raise ConvertError(
                f"config.json: llama.cpp knows Command R with norms of queries and keys (use_qk_norm) from "
                f"{_NORMED_BLOCKS} layers on, and without them below; this model has {self.block_count} layers"
            )

    def facts(self) -> dict[str, MetaValue]:
        """With the length that the models were trained for: max_position_embeddings of the first ones is less."""
        facts = super().facts()
        return {**facts, "context_length": self.config.whole("model_max_length", "max_position_embeddings", least=1)}

    def block_shapes(self) -> Shapes:
        """With norms of queries and keys, in Command R+."""
        shapes = super().block_shapes()
        if self._has_norms:
            shapes["attn_q_norm.weight"] = (self.head_count, self.head_dim)
            shapes["attn_k_norm.weight"] = (self.head_count_kv, self.head_dim)
        return shapes


class Cohere2(_Cohere):
    """Command R7B and Command A."""

    architectures: ClassVar = ("Cohere2ForCausalLM",)
    architecture: ClassVar = gguf.MODEL_ARCH.COHERE2

    def facts(self) -> dict[str, MetaValue]:
        """With the window."""
        return {**super().facts(), **window_facts(self.config, sliding_layers(self.config, self.block_count, _PERIOD))}

    def convert(self, name: str, tensor: StoredTensor) -> Iterable[Weight]:
        """As ``Decoder.convert``; biases that add nothing are left out, since llama.cpp has no place for them."""
        if name.endswith(".bias") and not widen(tensor.read(), tensor.dtype).any():
            return ()
        return super().convert(name, tensor)
