"""What a GGUF header says, as a value: metadata, the table of tensors, and the facts that follow from them.

The names and texts are those that Ollama shows: architecture, parameter count, file type. Reading them from a
file is left to ``reader``, memory to ``footprint``.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from ollama_nb.gguf.arrays import GgufArray
from ollama_nb.gguf.ggml_types import FILE_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GgufValue", "Header", "Kind", "TensorInfo", "format_parameter_count"]

GgufValue: TypeAlias = int | float | bool | str | GgufArray
Kind: TypeAlias = Literal["model", "adapter", "projector"]

UNKNOWN: Final = "unknown"

_GUESSED: Final = 1024
"""llama.cpp's flag in a file type that was not written in the file but concluded from its tensors."""

_MATRIX: Final = 2


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor; ``offset`` and ``size`` are in bytes, the offset counted from the header's ``data_offset``.

    ``shape`` is in GGUF order: the contiguous dimension first.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def elements(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A whole header. ``data_offset``, ``alignment`` and ``file_size`` are in bytes.

    Numbers of 32-bit floating point are the shortest decimals that name the same number.
    """

    version: int
    metadata: Mapping[str, GgufValue]
    tensors: list[TensorInfo]
    data_offset: int
    alignment: int
    file_size: int

    @property
    def architecture(self) -> str:
        """``general.architecture``, or "unknown"."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) and value else UNKNOWN

    def get(self, key: str) -> GgufValue | None:
        """The architecture's own value ``<architecture>.<key>``, None if it is absent."""
        return self.metadata.get(f"{self.architecture}.{key}")

    @property
    def parameter_count(self) -> int:
        """Numbers in all tensors together."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def file_type(self) -> str:
        """How most weights are stored: ``F32``, ``Q4_K_M``, ...; "unknown" if nothing tells.

        Without ``general.file_type`` it is the type of most of the weights in matrices.
        """
        number = self.metadata.get("general.file_type")
        if isinstance(number, int) and not isinstance(number, bool):
            return FILE_TYPES.get(number & ~_GUESSED, UNKNOWN)
        weights: Counter[str] = Counter()
        for tensor in self.tensors:
            if len(tensor.shape) >= _MATRIX:
                weights[tensor.type] += tensor.elements
        return weights.most_common(1)[0][0] if weights else UNKNOWN

    @property
    def kind(self) -> Kind:
        """What the file is for: a model, a LoRA adapter for one, or the projector of its images or sounds."""
        general = self.metadata.get("general.type")
        if general == "adapter":
            return "adapter"
        sees = self.get("vision.block_count") or self.get("audio.block_count")
        if general in {"projector", "mmproj"} or (sees and not self.get("block_count")):
            return "projector"
        return "model"


def format_parameter_count(count: int) -> str:
    """The number of parameters as Ollama shows it: ``8.0B``, ``7B``, ``136.73M``, ``137M``, ``12K``, ``999``."""
    for unit, name, decimals in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= unit:
            return f"{count / unit:.{decimals if count % unit else 0}f}{name}"
    return str(count)
