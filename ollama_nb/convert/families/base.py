"""What all architectures have in common: from a model's tensors by transformers' names to those of GGUF.

A family says which architectures of ``config.json`` it converts, what the header must say of them, and where a tensor
is more than another name for the same numbers. The names are those of ``gguf.get_tensor_name_map``; a tensor that the
map does not know is an error, for a model with a part missing answers nonsense.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

import gguf

from ollama_nb.convert.source import ConvertError
from ollama_nb.convert.vocab import vocabulary
from ollama_nb.convert.weights import Part, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ollama_nb.convert.config import Config
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.safetensors import StoredTensor
    from ollama_nb.convert.source import Source
    from ollama_nb.convert.weights import Change

__all__ = ["Family"]

_PRECISE: Final = (
    "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight", "_norm.weight", "rope_freqs.weight",
    "rope_factors_long.weight", "rope_factors_short.weight",
)  # fmt: skip
"""Ends of the names of tensors that llama.cpp computes with in F32, whatever the others are."""

_MAX_BLOCKS: Final = 512
"""Layers that llama.cpp has room for."""

_BLOCK: Final = re.compile(r"blk\.(\d+)\.(.+)")


class Family(ABC):
    """One architecture being converted. Methods raise ``ConvertError`` for a model that is not as it should be."""

    architectures: ClassVar[tuple[str, ...]]
    """Names in ``architectures`` of ``config.json``."""
    architecture: ClassVar[gguf.MODEL_ARCH]
    """What llama.cpp calls it."""
    ignored: ClassVar[tuple[str, ...]] = ("rotary_emb.inv_freq", ".masked_bias", "embeddings.position_ids")
    """Ends of the names of tensors that say nothing which the header does not."""

    def __init__(self, source: Source, config: Config, tensors: Mapping[str, StoredTensor]) -> None:
        self.source = source
        self.config = config
        self.tensors = tensors
        self.block_count = config.whole("num_hidden_layers", "n_layers", "n_layer", least=1, most=_MAX_BLOCKS)
        self._names = gguf.get_tensor_name_map(self.architecture, self.block_count)

    @property
    def prefix(self) -> str:
        """The architecture's name, which begins its keys in the header."""
        return gguf.MODEL_ARCH_NAMES[self.architecture]

    def metadata(self) -> dict[str, MetaValue]:
        """The header: what the model is, and its tokenizer."""
        facts = {f"{self.prefix}.{key}": value for key, value in self.facts().items()}
        return {
            "general.architecture": self.prefix,
            "general.type": "model",
            "general.quantization_version": gguf.GGML_QUANT_VERSION,
            **facts,
            **self.vocabulary(),
        }

    @abstractmethod
    def facts(self) -> dict[str, MetaValue]:
        """The architecture's own keys, without the prefix."""

    def vocabulary(self) -> dict[str, MetaValue]:
        """All keys of the tokenizer."""
        return vocabulary(self.source, self.config, self.rows())

    def rows(self) -> int:
        """Rows of the token embedding: ids that the model knows."""
        for name, tensor in self.tensors.items():
            if self.gguf_name(name) == "token_embd.weight" and tensor.shape:
                return tensor.shape[0]
        raise ConvertError("the model has no token embedding")

    def weights(self) -> list[Weight]:
        """All tensors of the GGUF, in the order of the files."""
        found = [*self.extra_weights()]
        for name, tensor in self.tensors.items():
            found += self.convert(name, tensor)
        self._check_blocks(found)
        return found

    def notes(self) -> list[str]:
        """What the user should know of the model that is being made."""
        return []

    def convert(self, name: str, tensor: StoredTensor) -> Iterable[Weight]:
        """The tensors that come of one of the model's; none of one that is not needed."""
        if name.endswith(self.ignored):
            return ()
        target = self.gguf_name(name)
        if target is None:
            raise ConvertError(f'tensor "{name}" does not belong to an architecture of the kind {self.prefix}')
        return (self.weight(target, tensor),)

    def weight(self, target: str, tensor: StoredTensor) -> Weight:
        """A tensor under its GGUF name, with what has to be done to it."""
        part = Part(tensor, tensor.shape, self.change(target), self.compute(target))
        return Weight(target, (part,), precise=target.endswith(_PRECISE))

    def gguf_name(self, name: str) -> str | None:
        """The GGUF name of one of the model's tensors."""
        return self._names.get_name(name, try_suffixes=(".weight", ".bias"))

    def change(self, target: str) -> Change | None:
        """How the numbers of a tensor are rearranged; None: not at all."""
        del target
        return None

    def compute(self, target: str) -> Change | None:
        """What is computed with the numbers of a tensor; None: nothing."""
        del target
        return None

    def extra_weights(self) -> Iterable[Weight]:
        """Tensors that the model's files have in another form."""
        return ()

    def _check_blocks(self, weights: Iterable[Weight]) -> None:
        """Raises unless every block is there, with the same tensors as the first."""
        blocks: dict[int, set[str]] = {number: set() for number in range(self.block_count)}
        for weight in weights:
            if match := _BLOCK.fullmatch(weight.name):
                number = int(match[1])
                if number not in blocks:
                    raise ConvertError(f"there is a layer {number}, but config.json says {self.block_count} layers")
                blocks[number].add(match[2])
        for number, names in blocks.items():
            for one, other, number_missing in ((blocks[0], names, number), (names, blocks[0], 0)):
                if missing := sorted(one - other):
                    raise ConvertError(
                        f"layer {number_missing} has no {missing[0]}", hint="A file of the model may be missing."
                    )
