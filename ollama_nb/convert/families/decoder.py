"""A model that writes text, every tensor of it known: what llama.cpp will look for, of what shape, and nothing else.

llama.cpp has no place for tensors that it does not ask for, so that a bias too many is said here and not when the model
is loaded; over some shapes that it does not expect it would even end the process. Positions are rotated plainly or with
a plain factor; families that can do more say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.families.base import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ollama_nb.convert.config import Config
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.safetensors import StoredTensor
    from ollama_nb.convert.source import Source
    from ollama_nb.convert.weights import Weight

__all__ = ["Decoder", "Shapes", "linear_scaling"]

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""Shapes by names of GGUF, rows first."""

_MAX_HEAD: Final = 1 << 16
"""Numbers in a head: far more than any has, and few enough to compute frequencies for."""

_ACTIVATION: Final = ("hidden_activation", "hidden_act")


class Decoder(Family):
    """A decoder with separate matrices for query, key and value, and a gated feed-forward network, without biases."""

    activations: ClassVar[frozenset[str]] = frozenset({"silu", "swish"})
    """What llama.cpp computes in the feed-forward network; the first of them where config.json says nothing."""
    tied_only: ClassVar[bool] = False
    """Whether llama.cpp knows the architecture with the token embedding as output only."""
    norm_eps: ClassVar[str] = "rms_norm_eps"
    """What config.json calls the number that keeps norms from dividing by nought."""

    def __init__(self, source: Source, config: Config, tensors: Mapping[str, StoredTensor]) -> None:
        super().__init__(source, config, tensors)
        self.check()

    def check(self) -> None:
        """Raise ``ConvertError`` for what llama.cpp computes in another way, or not at all."""
        if self.rotated % 2 or not 0 < self.rotated <= self.head_dim:
            raise ConvertError(f"config.json: {self.rotated} of a head's {self.head_dim} numbers cannot be rotated")
        activation = self.config.text(*_ACTIVATION, default=min(self.activations))
        if activation not in self.activations:
            raise ConvertError(f"config.json: the activation {shown(activation)} is none that {self.prefix} can have")
        if self.tied_only and not self.tied:
            raise ConvertError(
                f"config.json: in llama.cpp a model of the kind {self.prefix} has its token embedding as output, "
                "but this one has another (tie_word_embeddings)"
            )
        if self.head_count % self.head_count_kv:
            raise ConvertError(
                f"config.json: {self.head_count} heads cannot be divided among {self.head_count_kv} of keys and values"
            )
        if self.config.number(self.norm_eps, default=0.0) < 0:
            raise ConvertError(f'config.json: "{self.norm_eps}" must not be less than 0')

    @property
    def embedding_length(self) -> int:
        """Numbers in a token's embedding."""
        return self.config.whole("hidden_size", "n_embd", least=1)

    @property
    def head_count(self) -> int:
        """Heads of attention."""
        return self.config.whole("num_attention_heads", "n_head", least=1)

    @property
    def head_count_kv(self) -> int:
        """Heads of keys and values."""
        return self.config.whole("num_key_value_heads", default=self.head_count, least=1)

    @property
    def head_dim(self) -> int:
        """Numbers in a head."""
        default = self.embedding_length // self.head_count
        return self.config.whole("head_dim", default=default, least=1, most=_MAX_HEAD)

    @property
    def tied(self) -> bool:
        """Whether the token embedding is the output too."""
        return self.config.flag("tie_word_embeddings", default=False)

    @property
    def rotated(self) -> int:
        """Numbers of a head that say where its token stands."""
        return self.head_dim

    def facts(self) -> dict[str, MetaValue]:
        """The keys of a transformer with rotary positions, and by how much these are scaled."""
        return {
            "vocab_size": self.rows(),
            "context_length": self.config.whole("max_position_embeddings", "max_sequence_length", least=1),
            "embedding_length": self.embedding_length,
            "block_count": self.block_count,
            "feed_forward_length": self.config.whole("intermediate_size", least=1),
            "attention.head_count": self.head_count,
            "attention.head_count_kv": self.head_count_kv,
            "attention.key_length": self.head_dim,
            "attention.value_length": self.head_dim,
            "attention.layer_norm_rms_epsilon": self.config.number(self.norm_eps),
            "rope.dimension_count": self.rotated,
            "rope.freq_base": self.config.rope_theta(),
            **self.scaling(),
        }

    def scaling(self) -> dict[str, MetaValue]:
        """The keys about how positions are scaled."""
        return linear_scaling(self.config.rope())

    def convert(self, name: str, tensor: StoredTensor) -> Iterable[Weight]:
        """As ``Family.convert``; an output that is the token embedding once more is left out."""
        if name == "lm_head.weight" and self.tied:
            return ()
        return super().convert(name, tensor)

    def weights(self) -> list[Weight]:
        """As ``Family.weights``; nothing may be missing, be too much or have another shape than config.json says."""
        weights = super().weights()
        expected = self.shapes()
        for number in range(self.block_count):
            expected |= {f"blk.{number}.{name}": shape for name, shape in self.block_shapes().items()}
        _check(weights, expected, self.prefix)
        return weights

    def shapes(self) -> Shapes:
        """The tensors outside of the blocks."""
        table = (self.rows(), self.embedding_length)
        shapes: Shapes = {"token_embd.weight": table, "output_norm.weight": (self.embedding_length,)}
        return shapes if self.tied else {**shapes, "output.weight": table}

    def block_shapes(self) -> Shapes:
        """The tensors of a block."""
        width, inner = self.embedding_length, self.config.whole("intermediate_size", least=1)
        queries, keys = self.head_count * self.head_dim, self.head_count_kv * self.head_dim
        return {
            "attn_norm.weight": (width,),
            "attn_q.weight": (queries, width),
            "attn_k.weight": (keys, width),
            "attn_v.weight": (keys, width),
            "attn_output.weight": (width, queries),
            "ffn_norm.weight": (width,),
            "ffn_gate.weight": (inner, width),
            "ffn_up.weight": (inner, width),
            "ffn_down.weight": (width, inner),
        }

    def check_square(self) -> None:
        """Raise ``ConvertError`` unless the heads together are as wide as the model, as some architectures want."""
        if self.head_count * self.head_dim != self.embedding_length:
            raise ConvertError(
                f"config.json: {self.head_count} heads of {self.head_dim} numbers are not as wide as the model, "
                f"which has {self.embedding_length}"
            )


def linear_scaling(rope: Config) -> dict[str, MetaValue]:
    """The keys of positions that are divided by a factor; none of positions as they are.

    Raises ``ConvertError`` for any other way.
    """
    kind = rope.text("rope_type", "type", default="default")
    if kind == "default":
        return {}
    if kind != "linear":
        raise ConvertError(
            f"{rope.label}: {shown(kind)} positions are none that llama.cpp has for this architecture; "
            "it has default and linear ones"
        )
    factor = rope.number("factor")
    if factor <= 0:
        raise ConvertError(f'{rope.label}: "factor" must be more than 0')
    return {"rope.scaling.type": "linear", "rope.scaling.factor": factor}


def _check(weights: Iterable[Weight], expected: Shapes, kind: str) -> None:
    found = {weight.name: weight for weight in weights}
    for name, weight in found.items():
        if name not in expected:
            raise ConvertError(f"the model has a tensor {name}; llama.cpp has no place for it in the kind {kind}")
        if weight.shape != expected[name]:
            raise ConvertError(
                f"{name} has the shape {list(weight.shape)}, but by config.json it is {list(expected[name])}"
            )
    if missing := [name for name in expected if name not in found]:
        raise ConvertError(f"the model has no {missing[0]}", hint="A file of the model may be missing.")
