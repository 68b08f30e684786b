"""One LoRA adapter for SmolLM2-135M in both forms: a GGUF file, and the folder that peft would save.

It changes matrices whose rows llama.cpp does not reorder, so that both hold the same numbers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf_files import gguf_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, LAYERS, RANK, ALPHA = 576, 30, 4, 16
KEYS: dict[str, Any] = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": float(ALPHA),
}
_MODULE, _TENSOR = "self_attn.o_proj", "attn_output.weight"


def pair(name: str, inputs: int, outputs: int, kind: str = "F32", rank: int = RANK) -> list[tuple[Any, ...]]:
    """The two tensors that change ``name``, of zeros."""
    return [(f"{name}.lora_a", kind, (inputs, rank)), (f"{name}.lora_b", kind, (rank, outputs))]


def lora_gguf(sign: int = 1) -> bytes:
    """The adapter as a GGUF file; ``sign`` -1 takes back what 1 does."""
    tensors = []
    for layer, (first, second) in enumerate(_matrices()):
        name = f"blk.{layer}.{_TENSOR}"
        tensors.append((f"{name}.lora_a", "F32", (WIDTH, RANK), first.tobytes()))
        tensors.append((f"{name}.lora_b", "F32", (RANK, WIDTH), (sign * second).tobytes()))
    return gguf_bytes(KEYS, tensors)


def lora_folder() -> dict[str, bytes]:
    """The adapter as the files of a folder."""
    from safetensors.numpy import save  # noqa: PLC0415 - installed for the comparison with peft only

    tensors = {}
    for layer, (first, second) in enumerate(_matrices()):
        name = f"base_model.model.model.layers.{layer}.{_MODULE}"
        tensors[f"{name}.lora_A.weight"] = first
        tensors[f"{name}.lora_B.weight"] = second
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["o_proj"], "bias": "none"}
    return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(tensors)}


def _matrices() -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """For each layer, (rank, inputs) and (outputs, rank), by chance and strong enough to be seen in any answer."""
    chance = np.random.default_rng(5)
    return [
        (
            0.1 * chance.standard_normal((RANK, WIDTH), dtype=np.float32),
            0.1 * chance.standard_normal((WIDTH, RANK), dtype=np.float32),
        )
        for _ in range(LAYERS)
    ]
