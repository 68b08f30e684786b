"""Weights of 16 bits: kept as they are, and multiplied as llama.cpp does it.

llama.cpp rounds what it multiplies such weights with to their type as well, transformers in float32 does not. Where a
router finds two experts nearly alike, that decides between them, and a token's logits become others altogether. So
the reference rounds in the same places.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from convert.decoders import assert_converts_alike, converted, saved_decoder, stored_tensors, tokens_of
from convert.reference import gguf_logits, reference_logits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import transformers
    from numpy.typing import NDArray

HALVES = [(torch.bfloat16, "BF16", 3e-2), (torch.float16, "F16", 5e-3)]
"""The types, llama.cpp's names, and how far logits may be apart: a number rounded to the other side is seen in them."""

_ROUTER_ROWS = 8
"""More rows than the routers here have, which stay in float32, and fewer than any other matrix."""


@contextlib.contextmanager
def rounded_inputs(dtype: torch.dtype) -> Iterator[None]:
    """Round what matrices are multiplied with, but for routers'."""
    plain = torch.nn.functional.linear

    def linear(data: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return plain(data if matrix.shape[0] < _ROUTER_ROWS else data.to(dtype).float(), matrix, bias)

    torch.nn.functional.linear = linear
    try:
        yield
    finally:
        torch.nn.functional.linear = plain


def assert_halves_agree(
    folder: Path, config: transformers.PretrainedConfig, dtype: torch.dtype, kind: str, tolerance: float
) -> tuple[transformers.PreTrainedModel, dict[str, Any]]:
    """A model saved in 16 bits keeps its type and its logits; the model in float32, and the GGUF's tensors."""
    model = saved_decoder(folder, config, dtype=dtype)
    if model._can_set_experts_implementation():
        # The other ways do not come by ``linear``.
        model.set_experts_implementation("eager")
    # All in float32, of the same rounded numbers, they agree as closely as ever.
    assert_converts_alike(folder, model)
    path, tokens = converted(folder, ""), tokens_of(folder)
    ours, tensors = gguf_logits(path, tokens), stored_tensors(path)
    with rounded_inputs(dtype):
        theirs = reference_logits(model, tokens)
    _assert_close(ours, theirs, tolerance * float(theirs.std()))
    for name, tensor in tensors.items():
        precise = len(tensor.shape) == 1 or "ffn_gate_inp" in name
        assert tensor.tensor_type.name == ("F32" if precise else kind), name
    return model, tensors


def _assert_close(ours: NDArray[np.float32], theirs: NDArray[np.float32], limit: float) -> None:
    """Numbers no further apart than ``limit``, and the likeliest token the same unless another is as near as that."""
    assert np.abs(ours - theirs).max() <= limit
    first, second = np.sort(theirs)[:, -1], np.sort(theirs)[:, -2]
    is_plain = first - second > 2 * limit
    assert is_plain.mean() > 0.5
    np.testing.assert_array_equal(ours.argmax(axis=1)[is_plain], theirs.argmax(axis=1)[is_plain])


def bits(tensor: torch.Tensor, dtype: torch.dtype) -> Any:
    """The numbers of a tensor as 16 bits each."""
    return tensor.detach().to(dtype).view(torch.int16).numpy()
