"""Models to quantize: a narrow one, whose rows fit few types, a wide one, whose rows fit all, one that takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import embedding_files
import numpy as np
import pytest
from gguf_files import gguf_bytes

if TYPE_CHECKING:
    from pathlib import Path


def write_narrow(path: Path, *, width: int = 32) -> Path:
    """A Llama of F32 that generates, with rows of ``width`` and twice as many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_files, "WIDTH", width)
        patch.setattr(embedding_files, "_HIDDEN", 2 * width)
        return embedding_files.write_decoder(path, pooling=None)


def write_wide(path: Path) -> Path:
    """The same with rows of 256 and 512."""
    return write_narrow(path, width=256)


def write_slow(path: Path, *, matrices: int = 2) -> Path:
    """Not a whole model, but enough of one to be quantized: each of its matrices takes IQ3_S seconds."""
    width, hidden = 2048, 4096
    data = np.random.default_rng(0).standard_normal((hidden, width), dtype=np.float32).tobytes()
    tensors = [(f"blk.{layer}.ffn_up.weight", "F32", (width, hidden), data) for layer in range(matrices)]
    path.write_bytes(gguf_bytes(shape(width, hidden, matrices), tensors))
    return path


def shape(width: int, hidden: int, layers: int) -> dict[str, object]:
    """What the header of a Llama has to say before llama.cpp looks at its tensors."""
    return {
        "general.architecture": "llama",
        "llama.block_count": layers,
        "llama.context_length": 64,
        "llama.embedding_length": width,
        "llama.feed_forward_length": hidden,
        "llama.attention.head_count": 8,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }
