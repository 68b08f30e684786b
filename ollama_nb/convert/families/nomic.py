"""Nomic's BERT: rotary positions instead of a table, SwiGLU instead of gelu, and query, key and value in one matrix.

Two kinds of ``config.json`` are about: that of the model's first own code, with GPT-2's names, and that of
transformers 5, with BERT's. The tensors are named alike in both.

Source: nomic-embed-text-v1.5's config.json; transformers' ``models/nomic_bert`` and its ``conversion_mapping.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import gguf

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.families.bert import Encoder

if TYPE_CHECKING:
    from ollama_nb.convert.metadata import MetaValue

__all__ = ["NomicBert"]

_FIXED: Final = {
    "causal": False, "prenorm": False, "use_rms_norm": False, "qkv_proj_bias": False, "mlp_fc1_bias": False,
    "mlp_fc2_bias": False, "rotary_emb_interleaved": False,
}  # fmt: skip
"""What llama.cpp takes for granted."""

_ACTIVATIONS: Final = ("swiglu", "silu")
_TRAINED: Final = 2048
"""Tokens up to which the model was trained; more need frequencies that llama.cpp does not compute for it."""


class NomicBert(Encoder):
    """nomic-embed-text 1 and 1.5."""

    architectures: ClassVar = ("NomicBertModel", "NomicBertForMaskedLM", "NomicBertForPreTraining")
    architecture: ClassVar = gguf.MODEL_ARCH.NOMIC_BERT
    prefixes: ClassVar = ("bert.", "nomic_bert.", "model.")

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained with; its config.json often claims those that it can be stretched to."""
        return min(super().context_length, self.config.whole("max_trained_positions", default=_TRAINED, least=1))

    def facts(self) -> dict[str, MetaValue]:
        """With the frequencies of positions."""
        facts = super().facts()
        base = self.config.number("rotary_emb_base", default=self.config.rope_theta(1000.0))
        return {**facts, "rope.freq_base": base}

    def check(self) -> None:
        """The plain form: no experts, no biases, whole heads rotated."""
        super().check()
        if self.config.whole("moe_every_n_layers", default=0):
            raise ConvertError("config.json: a NomicBertModel with experts cannot be converted")
        for name, expected in _FIXED.items():
            if self.config.flag(name, default=expected) != expected:
                raise ConvertError(f'config.json: a NomicBertModel with "{name}" cannot be converted')
        if self.config.number("rotary_emb_fraction", default=1.0) != 1 or "rotary_emb_scale_base" in self.config:
            raise ConvertError("config.json: the rotary positions are none that llama.cpp has for this architecture")
        kind = self.config.rope().text("rope_type", "type", default="default")
        if kind != "default":
            raise ConvertError(
                f"config.json: {shown(kind)} positions are none that llama.cpp has for this architecture"
            )
        activation = self.config.text("activation_function", "hidden_act", default="swiglu")
        if activation not in _ACTIVATIONS:
            raise ConvertError(f"config.json: the activation {shown(activation)} is none that this architecture has")
        head, rest = divmod(self.embedding_length, self.head_count)
        if rest or head % 2 or self.config.whole("head_dim", default=head) != head:
            raise ConvertError("config.json: the heads together are not as wide as the model, or cannot be halved")

    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """With query, key and value in one, and a gate; no bias."""
        width, hidden = self.embedding_length, self.feed_forward_length
        more = {"attn_qkv.weight": (3 * width, width), "ffn_gate.weight": (hidden, width)}
        return {**super().block_shapes(), **more}
