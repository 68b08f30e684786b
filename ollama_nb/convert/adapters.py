"""A LoRA adapter's files, as peft and MLX save them, into one GGUF file that llama.cpp applies to a model.

An adapter changes matrices of its model by the product of two thin ones. The names and the order of the rows are
those that the model's own matrices get (``families``); what the config says is left to ``adapter_config``, and whether
the result fits to the very model that it is for to ``gguf.adapters.check_adapter``.

Source: llama.cpp, ``llama-graph.cpp``: W x + (alpha / rank) B A x; and the transposed A of the token embedding.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import gguf
import numpy as np

from ollama_nb.convert.adapter_config import MERGE, lora_scale
from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.families.llama import interleave_rotary
from ollama_nb.convert.source import Source
from ollama_nb.convert.weights import Part, Weight
from ollama_nb.convert.writer import write_gguf
from ollama_nb.gguf.adapters import ALPHA, LORA_A, LORA_B, TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ollama_nb.convert.jobs import BaseModel
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.safetensors import StoredTensor
    from ollama_nb.convert.weights import Array, Change

__all__ = ["ARCHITECTURES", "convert_adapter"]

ARCHITECTURES: Final = {
    gguf.MODEL_ARCH_NAMES[architecture]: architecture
    for architecture in (
        gguf.MODEL_ARCH.LLAMA,
        gguf.MODEL_ARCH.GEMMA,
        gguf.MODEL_ARCH.GEMMA2,
        gguf.MODEL_ARCH.GEMMA3,
        gguf.MODEL_ARCH.QWEN2,
        gguf.MODEL_ARCH.QWEN3,
        gguf.MODEL_ARCH.PHI3,
        gguf.MODEL_ARCH.COMMAND_R,
        gguf.MODEL_ARCH.COHERE2,
    )
}
"""Architectures of models, as their GGUF names them, whose matrices are those of transformers but for known changes.

A Gemma 2 with a ``query_pre_attn_scalar`` of its own would be another: no published one is so.
"""

_PAIRED_ROWS: Final = ("llama",)
"""Those whose query and key have the rows of their heads reordered."""

_CHANGEABLE: Final = re.compile(
    r"output|token_embd|blk\.0\.(attn_(q|k|v|qkv|output)|ffn_(gate|up|down|gate_inp))",
)
"""Tensors that llama.cpp applies an adapter to."""

_EMBEDDING: Final = "token_embd.weight"
_BLOCK: Final = re.compile(r"(?:^|(?<=\.))layers\.(\d+)(?=\.)")
_SUFFIXES: Final = {
    ".lora_A.weight": LORA_A,
    ".lora_B.weight": LORA_B,
    ".lora_embedding_A": LORA_A,
    ".lora_embedding_B": LORA_B,
    ".lora_a": LORA_A,
    ".lora_b": LORA_B,
}
"""Ends of the names of tensors as peft and MLX call them: which of the two matrices they are."""

_BASE_ITSELF: Final = ".base_layer.weight"
"""peft saves a copy of an embedding beside what changes it."""

_MATRIX: Final = 2


@dataclass(frozen=True, slots=True)
class _Change:
    """One matrix of the model, by its name in transformers and in GGUF, and the two that change it as they are stored.

    ``alpha`` is what the product counts, times ``rank``.
    """

    module: str
    target: str
    first: StoredTensor
    second: StoredTensor
    rank: int
    alpha: float


def convert_adapter(
    files: Mapping[str, Path], out: Path, base: BaseModel, progress: Callable[[int, int], None]
) -> list[str]:
    """Write the adapter of ``files`` (names in its folder to paths) for a model like ``base`` to ``out``; notes.

    Everything is written as F32, for the matrices are small. ``progress`` is told the bytes written and all bytes.
    Raises ``ConvertError`` and other 400s for files that will not do, ``OSError`` as the disk does.
    """
    if base.architecture not in ARCHITECTURES:
        raise ConvertError(
            "unsupported architecture",
            hint=f'The model is of the architecture "{base.architecture}"; adapters can be converted for models of '
            f"{', '.join(ARCHITECTURES)}. A GGUF adapter can be for any.",
        )
    source = Source(files)
    scale = lora_scale(source)
    changes = []
    for module, (first, second) in _pairs(source.tensors()).items():
        rank = _rank(module, first, second, transposed=scale.transposed)
        changes.append(_Change(module, _target(module, base), first, second, rank, scale.alpha(module, rank)))
    _require_distinct(changes)
    alpha = _common_alpha(changes)
    weights = [
        weight for change in changes for weight in _weights(change, base, alpha=alpha, transposed=scale.transposed)
    ]
    metadata: dict[str, MetaValue] = {
        "general.architecture": base.architecture,
        "general.type": "adapter",
        TYPE: "lora",
        ALPHA: alpha,
    }
    write_gguf(out, metadata, weights, "F32", progress)
    return scale.notes


def _pairs(tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[StoredTensor, StoredTensor]]:
    """The two matrices of each change by the name of the module that is changed, as the base model has it."""
    halves: dict[str, dict[str, StoredTensor]] = {LORA_A: {}, LORA_B: {}}
    for name, tensor in tensors.items():
        suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
        if suffix is not None:
            module = name.removesuffix(suffix).removeprefix("base_model.model.")
            halves[_SUFFIXES[suffix]][module] = tensor
        elif not name.endswith(_BASE_ITSELF):
            raise _not_lora(name)
    first, second = halves.values()
    for module in [*first, *second]:
        if module not in first or module not in second:
            missing = "second" if module in first else "first"
            raise ConvertError(f'the {missing} of the two matrices for "{module}" is missing')
    if not first:
        raise ConvertError("the adapter has no LoRA tensors: there is nothing that it changes")
    return {module: (first[module], second[module]) for module in first}


def _not_lora(name: str) -> ConvertError:
    if name.endswith(".bias"):
        return ConvertError(
            f'the adapter has trained biases, such as "{name}"; only matrices can be changed', hint=MERGE
        )
    return ConvertError(
        f'the adapter has "{name}" as a whole, as modules_to_save and new tokens make it; '
        "only matrices that the model has can be changed",
        hint=MERGE,
    )


def _rank(module: str, first: StoredTensor, second: StoredTensor, *, transposed: bool) -> int:
    """The rank of a change; raises ``ConvertError`` where the two do not fit to each other."""
    if len(first.shape) == len(second.shape) == _MATRIX and all((*first.shape, *second.shape)):
        rank, other = first.shape[int(transposed)], second.shape[int(not transposed)]
        if rank == other:
            return rank
    raise ConvertError(
        f'the matrices for "{module}" have the shapes {list(first.shape)} and {list(second.shape)}, '
        "which do not fit to each other"
    )


def _target(module: str, base: BaseModel) -> str:
    """The GGUF name of the matrix that a module of transformers is."""
    # Where a model sees too, its language part stands one level deeper.
    plain = module.replace("language_model.", "")
    block = _BLOCK.search(plain)
    number = int(block[1]) if block else 0
    if number >= base.block_count:
        raise ConvertError(f"the adapter changes layer {number}, but the model has only {base.block_count} layers")
    pattern = f"{plain[: block.start(1)]}0{plain[block.end(1) :]}" if block else plain
    names = gguf.get_tensor_name_map(ARCHITECTURES[base.architecture], 1)
    name = names.get_name(pattern) or names.get_name(f"model.{pattern}")
    if name is None or not _CHANGEABLE.fullmatch(name):
        raise ConvertError(
            f'the adapter changes "{module}", which is no matrix of its own in models of the architecture '
            f'"{base.architecture}"',
            hint=MERGE,
        )
    return f"{name.replace('blk.0.', f'blk.{number}.')}.weight"


def _require_distinct(changes: list[_Change]) -> None:
    modules: dict[str, str] = {}
    for change in changes:
        other = modules.setdefault(change.target, change.module)
        if other != change.module:
            raise ConvertError(f'"{other}" and "{change.module}" of the adapter are the same matrix')


def _common_alpha(changes: list[_Change]) -> float:
    """The alpha that most changes have. It is never 0 in float32, which llama.cpp would take for no alpha at all."""
    counts = Counter(change.alpha for change in changes if np.float32(change.alpha))
    return counts.most_common(1)[0][0] if counts else 1.0


def _weights(change: _Change, base: BaseModel, *, alpha: float, transposed: bool) -> Iterator[Weight]:
    """Both matrices for GGUF; the second makes up for another alpha than that of the whole adapter."""
    # The embedding is looked up, not multiplied: its first matrix has a row for each token.
    looked_up = change.target == _EMBEDDING
    rows = _row_order(change.target, base)
    second = [step for step in (np.transpose if transposed else None, rows) if step]
    yield _weight(change.target + LORA_A, change.first, [np.transpose] if transposed != looked_up else [], 1.0)
    yield _weight(change.target + LORA_B, change.second, second, change.alpha / alpha)


def _row_order(target: str, base: BaseModel) -> Change | None:
    """How the rows of a matrix of the model are rearranged; so are those of what is added to it."""
    if base.architecture in _PAIRED_ROWS:
        if target.endswith("attn_q.weight"):
            return interleave_rotary(base.head_count)
        if target.endswith("attn_k.weight"):
            return interleave_rotary(base.head_count_kv)
    return None


def _weight(name: str, tensor: StoredTensor, steps: list[Change], factor: float) -> Weight:
    shape = tensor.shape[::-1] if np.transpose in steps else tensor.shape

    def change(data: Array) -> Array:
        for step in steps:
            data = step(data)
        return data

    def compute(data: Array) -> Array:
        if not np.isfinite(data).all():
            raise ConvertError(f'tensor "{tensor.name}" has numbers that are not finite')
        return data * np.float32(factor)

    return Weight(name, (Part(tensor, shape, change, compute),))
