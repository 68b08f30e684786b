"""Llama (1, 2, 3, 3.1, 3.2) and Mistral, which llama.cpp computes alike.

transformers keeps the two halves of a rotary pair apart, llama.cpp beside each other: the rows of query and key are
reordered. Llama 3.1's scaling of positions becomes a tensor of factors. Mistral's first models look back a number of
tokens only; llama.cpp does not know that of the architecture.

Source: llama.cpp's ``src/models/llama.cpp``; transformers' ``models/llama`` and ``models/mistral``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import gguf

from ollama_nb.convert.families.plain import PlainDecoder
from ollama_nb.convert.families.rope import LLAMA3, llama3_factors, scaling_kind
from ollama_nb.convert.weights import Part, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.convert.families.decoder import Shapes
    from ollama_nb.convert.weights import Array, Change

__all__ = ["Llama", "Mistral", "interleave_rotary"]

_QUERY: Final = ("attn_q.weight", "attn_q.bias")
_KEY: Final = ("attn_k.weight", "attn_k.bias")
_FACTORS: Final = "rope_freqs.weight"


def interleave_rotary(heads: int) -> Change:
    """Rows of a head from halves (0, 1, … | h, h+1, …) to pairs (0, h, 1, h+1, …), which llama.cpp rotates here."""

    def change(data: Array) -> Array:
        rows, *rest = data.shape
        return data.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(data.shape)

    return change


class Llama(PlainDecoder):
    """Llama: with biases or without, and with the factors of 3.1."""

    architectures: ClassVar[tuple[str, ...]] = ("LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel")
    architecture: ClassVar = gguf.MODEL_ARCH.LLAMA
    has_llama3: ClassVar = True

    def change(self, target: str) -> Change | None:
        """Query and key in pairs."""
        if target.endswith(_QUERY):
            return interleave_rotary(self.head_count)
        if target.endswith(_KEY):
            return interleave_rotary(self.head_count_kv)
        return super().change(target)

    def extra_weights(self) -> Iterable[Weight]:
        """The factors by which Llama 3.1 and later slow down the frequencies of positions."""
        if scaling_kind(self.config) != LLAMA3:
            return ()
        factors = llama3_factors(self.config, self.head_dim, self.theta)
        return (Weight(_FACTORS, (Part(factors, factors.shape),), precise=True),)

    def shapes(self) -> Shapes:
        """With the factors."""
        shapes = super().shapes()
        return {**shapes, _FACTORS: (self.head_dim // 2,)} if scaling_kind(self.config) == LLAMA3 else shapes

    def block_shapes(self) -> Shapes:
        """With the biases that config.json says there are."""
        shapes = super().block_shapes()
        biased = [f"attn_{name}" for name in ("q", "k", "v", "output") if self._says("attention_bias")]
        biased += [f"ffn_{name}" for name in ("gate", "up", "down") if self._says("mlp_bias")]
        return {**shapes, **{f"{name}.bias": shapes[f"{name}.weight"][:1] for name in biased}}

    def _says(self, name: str) -> bool:
        return self.config.flag(name, default=False)


class Mistral(Llama):
    """Mistral 7B, Nemo, Small and what is built like them; no biases, and in the first ones a sliding window."""

    architectures: ClassVar[tuple[str, ...]] = ("MistralForCausalLM", "MistralModel")

    @property
    def window(self) -> int | None:
        """Tokens that the model looks back; the files of later models say that there is no window."""
        return self.config.whole("sliding_window", least=1) if "sliding_window" in self.config else None

    def _says(self, name: str) -> bool:
        del name
        return False
