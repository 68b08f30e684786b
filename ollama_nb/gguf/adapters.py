"""Whether a LoRA adapter in a GGUF file fits to a model, from the two headers.

llama.cpp refuses most of what does not fit when it loads the adapter, in a line of its log; some of it ends the process
at the first token. Here it is told before, with the name of what is wrong. Nothing is said about the numbers
themselves: an adapter of another model of the same shapes fits.

Source: llama.cpp, ``llama-adapter.cpp`` (names and shapes) and ``llama-graph.cpp`` (what is computed with them).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from ollama_nb.gguf.header import Header, TensorInfo

__all__ = ["ALORA_TOKENS", "ALPHA", "LORA_A", "LORA_B", "TYPE", "check_adapter"]

TYPE: Final = "adapter.type"
ALPHA: Final = "adapter.lora.alpha"
ALORA_TOKENS: Final = "adapter.alora.invocation_tokens"
LORA_A: Final = ".lora_a"
LORA_B: Final = ".lora_b"

_NORM: Final = "_norm.weight"
"""Ends the names of whole vectors that some adapters bring along; llama.cpp reads over them."""

_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"
_STORED_AS: Final = frozenset({"F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"})
_DIMENSIONS: Final = 4
_MATRIX: Final = 2
_SAME_MODEL: Final = "FROM must name the model that the adapter was trained on."


def check_adapter(adapter: Header, base: Header) -> None:
    """Raises ``BadRequestError`` unless ``adapter`` can be applied to the model of ``base``.

    The adapter must be a LoRA for the same architecture; each pair ``<name>.lora_a`` and ``<name>.lora_b`` changes a
    matrix that the model has, and its shapes are (inputs, rank) and (rank, outputs) in GGUF order, contiguous first.
    """
    _check_kind(adapter, base)
    tensors = {tensor.name: tensor for tensor in base.tensors}
    pairs = _pairs(adapter)
    if not pairs:
        raise BadRequestError("the adapter has no LoRA tensors: there is nothing that it changes")
    for name, pair in pairs.items():
        weight = tensors.get(name)
        if weight is None:
            raise BadRequestError(f'the adapter changes "{name}", which the model does not have', hint=_SAME_MODEL)
        if name == _EMBEDDING:
            _check_embedding(weight, *pair, tied=_OUTPUT not in tensors)
        else:
            _check_pair(weight, *pair)


def _check_kind(adapter: Header, base: Header) -> None:
    if adapter.kind != "adapter":
        raise BadRequestError(f"the file is no adapter but a {adapter.kind}")
    if adapter.architecture != base.architecture:
        raise BadRequestError(
            f'the adapter is for the architecture "{adapter.architecture}", the model is "{base.architecture}"',
            hint=_SAME_MODEL,
        )
    kind = adapter.metadata.get(TYPE)
    if kind != "lora":
        raise BadRequestError(f"the adapter is of the type {kind!r:.40}; only lora is supported")
    alpha = adapter.metadata.get(ALPHA, 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise BadRequestError(f"{ALPHA} of the adapter must be a float32, not {alpha!r:.40}")
    if ALORA_TOKENS in adapter.metadata:
        raise BadRequestError(
            "the adapter is an activated LoRA, which changes only what comes behind certain tokens",
            hint="An adapter is applied to everything here; use a plain LoRA.",
        )


def _pairs(adapter: Header) -> dict[str, tuple[TensorInfo, TensorInfo]]:
    """The two matrices of each change by the name of the tensor that is changed."""
    halves: dict[str, dict[str, TensorInfo]] = {LORA_A: {}, LORA_B: {}}
    for tensor in adapter.tensors:
        suffix = tensor.name[-len(LORA_A) :]
        if suffix in halves:
            halves[suffix][tensor.name.removesuffix(suffix)] = tensor
        elif not tensor.name.endswith(_NORM):
            raise BadRequestError(f'the adapter has a tensor "{tensor.name}", which is no part of a LoRA')
    first, second = halves.values()
    for name in [*first, *second]:
        if name not in first or name not in second:
            there, missing = (LORA_A, LORA_B) if name in first else (LORA_B, LORA_A)
            raise BadRequestError(f'the adapter has "{name}{there}" without "{name}{missing}"')
    return {name: (first[name], second[name]) for name in first}


def _check_pair(weight: TensorInfo, first: TensorInfo, second: TensorInfo) -> None:
    if len(weight.shape) < _MATRIX or weight.type == "NVFP4":
        raise BadRequestError(f'the adapter changes "{weight.name}", which is no matrix that can be changed')
    inputs, outputs, *others = _extents(weight)
    rank = _extents(first)[1]
    _require(first, weight, (inputs, rank, *others))
    _require(second, weight, (rank, outputs, *others))


def _check_embedding(weight: TensorInfo, first: TensorInfo, second: TensorInfo, *, tied: bool) -> None:
    """The embedding is looked up, not multiplied: its first matrix has a row for each token."""
    if tied:
        # llama.cpp would multiply with the same two matrices for the output, where they do not fit, and abort.
        raise BadRequestError(
            "the adapter changes the token embedding, which is the output too in this model; llama.cpp cannot do that",
            hint="Merge the adapter into the model and create from the merged model.",
        )
    width, tokens, *others = _extents(weight)
    rank = _extents(first)[0]
    _require(first, weight, (rank, tokens, *others))
    _require(second, weight, (rank, width, *others))


def _require(part: TensorInfo, weight: TensorInfo, shape: tuple[int, ...]) -> None:
    if _extents(part) != shape or not all(shape):
        raise BadRequestError(
            f'the adapter\'s "{part.name}" has the shape {list(part.shape)}, '
            f'which does not fit to "{weight.name}" of the model, {list(weight.shape)}',
            hint=_SAME_MODEL,
        )
    if part.type not in _STORED_AS:
        raise BadRequestError(f'the adapter\'s "{part.name}" is stored as {part.type}, which llama.cpp cannot compute')


def _extents(tensor: TensorInfo) -> tuple[int, ...]:
    """Four dimensions, as ggml sees every tensor: those that are not written are 1."""
    return tensor.shape + (1,) * (_DIMENSIONS - len(tensor.shape))
