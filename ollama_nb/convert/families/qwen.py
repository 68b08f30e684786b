"""Qwen 2, 2.5 and 3, in their dense form. Their rotary pairs stay as transformers has them, halves apart.

Qwen 2 has biases for query, key and value; Qwen 3 norms for query and key instead. A sliding window, which none of the
published models turns on, is not computed by llama.cpp.

Source: llama.cpp's ``src/models/qwen2.cpp`` and ``qwen3.cpp``; transformers' ``models/qwen2`` and ``models/qwen3``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import gguf

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.families.plain import PlainDecoder

if TYPE_CHECKING:
    from ollama_nb.convert.families.decoder import Shapes

__all__ = ["Qwen2", "Qwen3"]

_WINDOW: Final = 4096
_FIRST_WINDOW: Final = 28
"""The window, and the first layer that has it, where config.json says nothing."""


class Qwen2(PlainDecoder):
    """Qwen 1.5, 2 and 2.5."""

    architectures: ClassVar[tuple[str, ...]] = ("Qwen2ForCausalLM", "Qwen2Model")
    architecture: ClassVar = gguf.MODEL_ARCH.QWEN2

    def check(self) -> None:
        """Also raise for heads that are not as wide as the model together."""
        super().check()
        self.check_square()

    @property
    def window(self) -> int | None:
        """Tokens that the later layers look back, if that is turned on."""
        first = self.config.whole("max_window_layers", default=_FIRST_WINDOW)
        if not self.config.flag("use_sliding_window", default=False) or first >= self.block_count:
            return None
        return self.config.whole("sliding_window", default=_WINDOW, least=1)

    def block_shapes(self) -> Shapes:
        """With the biases."""
        shapes = super().block_shapes()
        return {**shapes, **{f"attn_{name}.bias": shapes[f"attn_{name}.weight"][:1] for name in "qkv"}}


class Qwen3(Qwen2):
    """Qwen 3, dense, and the embedding models made of it."""

    architectures: ClassVar = ("Qwen3ForCausalLM", "Qwen3Model")
    architecture: ClassVar = gguf.MODEL_ARCH.QWEN3

    def check(self) -> None:
        """Also raise for biases, of which llama.cpp does not know all."""
        super().check()
        if self.config.flag("attention_bias", default=False):
            raise ConvertError('config.json: llama.cpp has Qwen 3 without biases only ("attention_bias")')

    def check_square(self) -> None:
        """Heads have a width of their own."""

    def block_shapes(self) -> Shapes:
        """With the norms of query and key, without biases."""
        shapes = {name: shape for name, shape in super().block_shapes().items() if not name.endswith(".bias")}
        return {**shapes, "attn_q_norm.weight": (self.head_dim,), "attn_k_norm.weight": (self.head_dim,)}
