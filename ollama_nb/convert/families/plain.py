"""The plain transformer of today, as Llama, Mistral and Qwen are built: what their conversions have in common.

Tensors are known by transformers' names only. Those of the original checkpoints have their rows in another order, and
would give a model that talks nonsense. A model that sentence-transformers has saved makes vectors: it may lack the
output, and its header says how the vectors of tokens become one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.families.decoder import Decoder
from ollama_nb.convert.families.rope import DYNAMIC, LLAMA3, scaled_length, scaling_facts, scaling_kind
from ollama_nb.convert.pooling import is_normalized, pooling_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ollama_nb.convert.config import Config
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.safetensors import StoredTensor
    from ollama_nb.convert.source import Source
    from ollama_nb.convert.weights import Weight

__all__ = ["PlainDecoder"]

_HEAD: Final = "lm_head.weight"
_TENSOR: Final = re.compile(
    r"(?:model\.)?((?:embed_tokens|norm|layers\.[0-9]+\.(?:input_layernorm|post_attention_layernorm"
    r"|self_attn\.(?:[qkvo]_proj|[qk]_norm)|mlp\.(?:gate|up|down)_proj))\.(?:weight|bias))"
)
"""Names in transformers, of models saved with an output on top or without."""

_ORIGINAL: Final = re.compile(r"(layers\.[0-9]+\.(attention|feed_forward)|tok_embeddings)\..+")
"""Names in the checkpoints that Meta and Mistral write themselves."""


class PlainDecoder(Decoder):
    """A decoder of which positions may be scaled, and which may make vectors."""

    default_theta: ClassVar[float] = 10000.0
    """The base of the positions' frequencies where config.json says nothing."""
    has_llama3: ClassVar[bool] = False
    """Whether llama.cpp reads factors of frequencies."""

    def __init__(self, source: Source, config: Config, tensors: Mapping[str, StoredTensor]) -> None:
        self.pooling = pooling_type(source)
        super().__init__(source, config, tensors)

    def check(self) -> None:
        """Also raise for frequencies of positions that rise, and for a text model that sees what comes."""
        super().check()
        if self.theta <= 1:
            raise ConvertError(f'{self.config.label}: "rope_theta" must be more than 1')
        if self.config.number("partial_rotary_factor", default=self._rotary_part()) != 1:
            raise ConvertError(f'{self.config.label}: llama.cpp rotates whole heads here ("partial_rotary_factor")')
        if scaling_kind(self.config) == LLAMA3 and not self.has_llama3:
            raise ConvertError(f"{self.config.rope().label}: llama.cpp has {LLAMA3} positions for Llama only")
        if not self._is_causal and self.pooling is None:
            raise ConvertError('config.json: the model sees words to come ("is_causal"): it cannot write text')
        # What they are about must be readable too, and not only when all numbers have been written.
        self.notes()

    @property
    def theta(self) -> float:
        """The base of the positions' frequencies."""
        return self.config.rope_theta(self.default_theta)

    @property
    def context_length(self) -> int:
        """Tokens that the model can work with."""
        return scaled_length(self.config)

    @property
    def tied(self) -> bool:
        """Also where vectors are made and nothing else was saved: llama.cpp needs an output, whether used or not."""
        return super().tied or (self.pooling is not None and _HEAD not in self.tensors)

    @property
    def window(self) -> int | None:
        """Tokens that the model looks back, if it does not see all."""
        return None

    def facts(self) -> dict[str, MetaValue]:
        """With the length of the context, and how vectors are made where they are what the model is for."""
        facts: dict[str, MetaValue] = {
            **super().facts(), "context_length": self.context_length, "rope.freq_base": self.theta,
        }  # fmt: skip
        if self.pooling is not None:
            facts |= {"pooling_type": self.pooling, "normalize_embeddings": is_normalized(self.source)}
        return facts if self._is_causal else {**facts, "attention.causal": False}

    def scaling(self) -> dict[str, MetaValue]:
        """The keys about how positions are scaled."""
        return scaling_facts(self.config)

    def convert(self, name: str, tensor: StoredTensor) -> Iterable[Weight]:
        """As ``Decoder.convert``; says what it is where the names are an original checkpoint's."""
        if _ORIGINAL.fullmatch(name):
            raise ConvertError(
                f'"{name}" is a name of the checkpoint that the model\'s makers use themselves',
                hint="Its rows have another order: send the files that transformers loads, model*.safetensors.",
            )
        return super().convert(name, tensor)

    def gguf_name(self, name: str) -> str | None:
        """The GGUF name of one of the model's tensors, saved with an output on top or without."""
        if name == _HEAD:
            return super().gguf_name(name)
        match = _TENSOR.fullmatch(name)
        return super().gguf_name(f"model.{match[1]}") if match else None

    def notes(self) -> list[str]:
        """Where llama.cpp goes on in another way than transformers."""
        notes, length = super().notes(), self.context_length
        if self.window is not None and self.window < length:
            notes.append(
                f"The model looks back {self.window} tokens only; llama.cpp lets it see the whole context, so that it "
                f"goes on in another way after {self.window} tokens than in transformers."
            )
        if scaling_kind(self.config) == DYNAMIC:
            notes.append(
                f"Positions are not scaled by the length of the text, as transformers does after {length} tokens "
                "(dynamic): the context ends there."
            )
        return notes

    @property
    def _is_causal(self) -> bool:
        return self.config.flag("is_causal", default=True)

    def _rotary_part(self) -> float:
        return self.config.rope().number("partial_rotary_factor", default=1.0)
