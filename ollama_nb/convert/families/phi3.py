"""Phi-3, Phi-3.5 and Phi-4: query, key and value in one matrix, gate and up in another, as llama.cpp has them too.

Models for long texts have two lists of factors for the frequencies of positions (longrope). transformers takes the
list by the length of the text, llama.cpp by that of the context: the one for long texts as soon as the context is
longer than the original.

Source: llama.cpp's ``src/models/phi3.cpp``; transformers' ``models/phi3`` and ``modeling_rope_utils.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final

import gguf
import numpy as np

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.families.decoder import Decoder, Shapes
from ollama_nb.convert.weights import Part, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.convert.metadata import MetaValue

__all__ = ["Phi3"]

_LONGROPE: Final = frozenset({"longrope", "su", "yarn"})
"""The same by the names it has had; what others call yarn, Phi-3 never used."""

_ORIGINAL: Final = "original_max_position_embeddings"
_LENGTH: Final = 4096
"""Tokens of the original context where config.json says nothing."""


class Phi3(Decoder):
    """Phi-3 mini and medium, Phi-3.5 mini, Phi-4 and Phi-4 mini."""

    architectures: ClassVar = ("Phi3ForCausalLM",)
    architecture: ClassVar = gguf.MODEL_ARCH.PHI3

    @property
    def rotated(self) -> int:
        """Phi-4 mini rotates three quarters of a head."""
        name = "partial_rotary_factor"
        part = self.config.rope().number(name, default=self.config.number(name, default=1.0))
        if not 0 < part <= 1:
            raise ConvertError(f'config.json: "{name}" must be more than 0, and 1 at most')
        return int(self.head_dim * part)

    @property
    def original_length(self) -> int:
        """Tokens of the context that the model was first trained with."""
        where = self.config if _ORIGINAL in self.config else self.config.rope()
        # A logarithm divides by that of this number.
        return where.whole(_ORIGINAL, default=_LENGTH, least=2)

    def check(self) -> None:
        """Also raise for heads that are not as wide as the model together."""
        super().check()
        self.check_square()

    def facts(self) -> dict[str, MetaValue]:
        """With the window, of which llama.cpp makes no use so far."""
        facts = super().facts()
        window = self._window()
        return facts if window is None else {**facts, "attention.sliding_window": window}

    def scaling(self) -> dict[str, MetaValue]:
        """Where the list of factors changes, and how much attention is strengthened with either."""
        if not self._is_long():
            return {}
        return {
            "rope.scaling.type": "longrope",
            "rope.scaling.original_context_length": self.original_length,
            "rope.scaling.attn_factor": self._attention_factor(),
        }

    def extra_weights(self) -> Iterable[Weight]:
        """The two lists of factors."""
        if not self._is_long():
            return ()
        return [self._factors(length) for length in ("long", "short")]

    def shapes(self) -> Shapes:
        """With the two lists of factors."""
        shapes = super().shapes()
        if self._is_long():
            half = (self.rotated // 2,)
            shapes |= {"rope_factors_long.weight": half, "rope_factors_short.weight": half}
        return shapes

    def block_shapes(self) -> Shapes:
        """With query, key and value in one matrix, and gate and up in one."""
        shapes = super().block_shapes()
        width = self.embedding_length
        fused = [shapes.pop(f"attn_{name}.weight") for name in "qkv"]
        gate, up = shapes.pop("ffn_gate.weight"), shapes["ffn_up.weight"]
        return {
            **shapes,
            "attn_qkv.weight": (sum(rows for rows, _ in fused), width),
            "ffn_up.weight": (gate[0] + up[0], width),
        }

    def notes(self) -> list[str]:
        """That the window is not kept, where it is shorter than the context."""
        window = self._window()
        if window is None or window >= self.config.whole("max_position_embeddings", least=1):
            return []
        note = (
            f"The model looks back {window} tokens only; llama.cpp lets it see the whole context, so that it goes on "
            f"in another way after {window} tokens than in transformers."
        )
        return [note]

    def _window(self) -> int | None:
        return self.config.whole("sliding_window", least=1) if "sliding_window" in self.config else None

    def _is_long(self) -> bool:
        rope = self.config.rope()
        kind = rope.text("rope_type", "type", default="default")
        if kind == "default":
            return False
        if kind not in _LONGROPE:
            raise ConvertError(
                f"{rope.label}: {shown(kind)} positions are none that llama.cpp has for Phi-3; "
                "it has default and longrope ones"
            )
        return True

    def _factors(self, length: str) -> Weight:
        rope = self.config.rope()
        factors = np.asarray(rope.floats(f"{length}_factor", self.rotated // 2), dtype=np.float32)
        if not (factors > 0).all():
            raise ConvertError(f'{rope.label}: "{length}_factor" must have numbers above 0 only')
        return Weight(f"rope_factors_{length}.weight", (Part(factors, factors.shape),), precise=True)

    def _attention_factor(self) -> float:
        rope = self.config.rope()
        longer = self.config.whole("max_position_embeddings", least=1) / self.original_length
        stretch = max(1.0, rope.number("factor", default=longer))
        usual = math.sqrt(1 + math.log(stretch) / math.log(self.original_length))
        factor = rope.number("attention_factor", default=usual)
        if factor <= 0:
            raise ConvertError(f'{rope.label}: "attention_factor" must be more than 0')
        return factor
