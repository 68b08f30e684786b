"""BERT and what is built like it: a text read as a whole, each token's vector seeing all others.

What is kept is what makes vectors. The pooler, a layer that was trained to tell whether two sentences follow one
another, and the heads that guess masked words are left out. llama.cpp computes gelu in its tanh form and from a table
of float16, so vectors agree with transformers to about four digits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

import gguf

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.families.base import Family
from ollama_nb.convert.pooling import is_normalized, pooling_type, text_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ollama_nb.convert.config import Config
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.safetensors import StoredTensor
    from ollama_nb.convert.source import Source
    from ollama_nb.convert.weights import Weight

__all__ = ["Bert", "Encoder"]

_SEGMENTS: Final = "token_types.weight"
_POSITIONS: Final = "position_embd.weight"
_GELU: Final = frozenset({"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python"})
"""The same function, exactly or nearly."""


class Encoder(Family):
    """What models for vectors have in common: their keys, and how tokens' vectors become one."""

    prefixes: ClassVar[tuple[str, ...]] = ()
    """How the names of tensors begin where the model was saved with a head on top."""
    heads: ClassVar[tuple[str, ...]] = ("pooler.", "cls.", "lm_head.")
    """How the names of tensors begin that no vector is made of."""

    def __init__(self, source: Source, config: Config, tensors: Mapping[str, StoredTensor]) -> None:
        super().__init__(source, config, tensors)
        self.check()
        pooling = pooling_type(source)
        # A model that says nothing of it gets the mean of all tokens, as sentence-transformers does with it.
        self.pooling = int(gguf.PoolingType.MEAN) if pooling is None else pooling

    @property
    def embedding_length(self) -> int:
        """Numbers in a token's embedding, and in a vector."""
        return self.config.whole("hidden_size", "n_embd", "dim", least=1)

    @property
    def head_count(self) -> int:
        """Heads of attention."""
        return self.config.whole("num_attention_heads", "n_head", "n_heads", least=1)

    @property
    def context_length(self) -> int:
        """Tokens of a text at most."""
        return self.config.whole("max_position_embeddings", "n_positions", least=1)

    @property
    def feed_forward_length(self) -> int:
        """Numbers between the two halves of a layer's second part."""
        return self.config.whole("intermediate_size", "n_inner", "hidden_dim", least=1)

    @property
    def layer_norm_eps(self) -> float:
        """What keeps the norm from dividing by nought."""
        return self.config.number("layer_norm_eps", "layer_norm_epsilon", default=1e-12)

    def facts(self) -> dict[str, MetaValue]:
        """The keys that all of them have."""
        return {
            "vocab_size": self.rows(),
            "context_length": self.context_length,
            "embedding_length": self.embedding_length,
            "block_count": self.block_count,
            "feed_forward_length": self.feed_forward_length,
            "attention.head_count": self.head_count,
            "attention.layer_norm_epsilon": self.layer_norm_eps,
            "attention.causal": False,
            "pooling_type": self.pooling,
            # Ollama's own key; llama.cpp leaves the length of vectors to whoever asks for them.
            "normalize_embeddings": is_normalized(self.source),
        }

    def check(self) -> None:
        """Raise ``ConvertError`` for what llama.cpp would compute in another way."""
        if self.embedding_length % self.head_count:
            raise ConvertError(
                f"config.json: {self.embedding_length} numbers cannot be divided among {self.head_count} heads"
            )
        if self.layer_norm_eps < 0:
            raise ConvertError("config.json: the epsilon of the norms is negative")
        if self.config.flag("is_decoder", default=False):
            raise ConvertError("config.json: the model is a decoder (is_decoder), not one that makes vectors")

    def vocabulary(self) -> dict[str, MetaValue]:
        """All keys of the tokenizer, whatever its kind, and the rows of the table of token types."""
        return {**super().vocabulary(), "tokenizer.ggml.token_type_count": self._token_types()}

    def notes(self) -> list[str]:
        """What users should know who compare with sentence-transformers."""
        limit = text_limit(self.source)
        if limit is None or limit >= self.context_length:
            return []
        note = (
            f"sentence-transformers reads the first {limit} tokens of a text only; this model can read "
            f"{self.context_length}. PARAMETER num_ctx {limit} in a Modelfile gives the same vectors for long texts."
        )
        return [note]

    def convert(self, name: str, tensor: StoredTensor) -> Iterable[Weight]:
        """As ``Family.convert``; without heads, and with the names that the first BERT had for its norms."""
        return () if self._bare(name).startswith(self.heads) else super().convert(name, tensor)

    def gguf_name(self, name: str) -> str | None:
        """The GGUF name of one of the model's tensors, saved with a head on top or without."""
        bare = self._bare(name)
        for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
            if bare.endswith(old):
                bare = bare.removesuffix(old) + new
        return super().gguf_name(bare)

    def weights(self) -> list[Weight]:
        """As ``Family.weights``; each once, all that llama.cpp needs, and in the shapes that config.json says."""
        found: dict[str, Weight] = {}
        for weight in super().weights():
            if weight.name in found:
                raise ConvertError(f"{weight.name} stands in the files under two names")
            found[weight.name] = weight
        for name, shape in self.shapes().items():
            if name not in found:
                raise ConvertError(f"the model has no {name}", hint="A file of the model may be missing.")
            if found[name].shape != shape:
                raise ConvertError(
                    f"{name} has the shape {list(found[name].shape)}, but config.json says {list(shape)}"
                )
        return list(found.values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors that there must be, and their shapes, rows first."""
        width = self.embedding_length
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.rows(), width),
            "token_embd_norm.weight": (width,),
            "token_embd_norm.bias": (width,),
        }
        if self.stored(_SEGMENTS) is not None:
            shapes[_SEGMENTS] = (self._token_types(), width)
        for block in range(self.block_count):
            shapes |= {f"blk.{block}.{name}": shape for name, shape in self.block_shapes().items()}
        return shapes

    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """The same of a layer."""
        width, hidden = self.embedding_length, self.feed_forward_length
        norms = (
            "attn_output_norm.weight",
            "attn_output_norm.bias",
            "layer_output_norm.weight",
            "layer_output_norm.bias",
        )
        return {
            **dict.fromkeys(norms, (width,)),
            "attn_output.weight": (width, width),
            "ffn_up.weight": (hidden, width),
            "ffn_down.weight": (width, hidden),
        }

    def stored(self, target: str) -> StoredTensor | None:
        """The tensor that has a GGUF name."""
        return next((tensor for name, tensor in self.tensors.items() if self.gguf_name(name) == target), None)

    def _bare(self, name: str) -> str:
        return next((name.removeprefix(start) for start in self.prefixes if name.startswith(start)), name)

    def _token_types(self) -> int:
        tensor = self.stored(_SEGMENTS)
        return tensor.shape[0] if tensor is not None and tensor.shape else 1


class Bert(Encoder):
    """BERT: positions from a table, gelu."""

    architectures: ClassVar[tuple[str, ...]] = ("BertModel", "BertForMaskedLM", "BertForPreTraining")
    architecture: ClassVar = gguf.MODEL_ARCH.BERT
    prefixes: ClassVar[tuple[str, ...]] = ("bert.",)

    @property
    def position_offset(self) -> int:
        """Rows of the table of positions before the first that is used."""
        return 0

    @property
    def context_length(self) -> int:
        """Rows of the table of positions that are used."""
        length = super().context_length - self.position_offset
        if length < 1:
            raise ConvertError(f'config.json: "max_position_embeddings" leaves {length} positions')
        return length

    def check(self) -> None:
        """Gelu, and positions that are absolute."""
        super().check()
        activation = self.config.text("hidden_act", "activation", default="gelu")
        if activation not in _GELU:
            raise ConvertError(f"config.json: the activation {shown(activation)} is none that llama.cpp has for BERT")
        positions = self.config.text("position_embedding_type", default="absolute")
        if positions != "absolute":
            raise ConvertError(f"config.json: {shown(positions)} positions are none that llama.cpp has for BERT")
        table = self.stored(_POSITIONS)
        rows = self.context_length + self.position_offset
        if table is None or table.shape[:1] != (rows,):
            raise ConvertError(f"the model has no table of {rows} positions, which config.json says it has")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """With the table of positions."""
        return {**super().shapes(), _POSITIONS: (self.context_length, self.embedding_length)}

    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """With query, key and value apart, and a bias everywhere."""
        width, hidden = self.embedding_length, self.feed_forward_length
        parts = ("attn_q", "attn_k", "attn_v")
        return {
            **super().block_shapes(),
            **dict.fromkeys((f"{part}.weight" for part in parts), (width, width)),
            **dict.fromkeys((f"{part}.bias" for part in (*parts, "attn_output", "ffn_down")), (width,)),
            "ffn_up.bias": (hidden,),
        }

    def weight(self, target: str, tensor: StoredTensor) -> Weight:
        """As ``Family.weight``; the table of positions begins with the first that is used."""
        weight = super().weight(target, tensor)
        if target != _POSITIONS or not self.position_offset:
            return weight
        offset, (part,) = self.position_offset, weight.parts
        shape = (part.shape[0] - offset, *part.shape[1:])
        return replace(weight, parts=(replace(part, shape=shape, change=lambda data: data[offset:]),))
