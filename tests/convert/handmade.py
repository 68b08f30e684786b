"""Safetensors files and models written by hand: by struct and json alone, so that they can be wrong in any way."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_DTYPES: Final = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int32": "I32", "uint8": "U8"}


def safetensors_file(header: Any, data: bytes = b"") -> bytes:
    """A file with this header: anything that JSON can be, or the bytes themselves."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors_bytes(tensors: Mapping[str, NDArray[Any]], about: Mapping[str, str] | None = None) -> bytes:
    """A sound file of these arrays in their order; uint16 are the bits of BF16."""
    table: dict[str, Any] = {} if about is None else {"__metadata__": about}
    data = b""
    for name, array in tensors.items():
        begin = len(data)
        data += array.tobytes()
        table[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [begin, len(data)],
        }
    return safetensors_file(table, data)


def written(folder: Path, files: Mapping[str, bytes]) -> dict[str, Path]:
    """Files in a folder, whose names there say nothing, as in a store; by the names that they have in a model."""
    paths = {}
    for number, (name, data) in enumerate(files.items()):
        paths[name] = folder / f"blob-{number}"
        paths[name].write_bytes(data)
    return paths


LLAMA: Final[dict[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
"""The config of a tiny Llama."""


def llama_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors that a Llama of such a config has, by transformers' names; rows first."""
    width, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    block = {
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    shapes = {
        "model.embed_tokens.weight": (rows, width),
        "lm_head.weight": (rows, width),
        "model.norm.weight": (width,),
    }
    for number in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in block.items()}
    return shapes


def llama_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """A Llama's tensors with numbers by chance."""
    chance = np.random.default_rng(seed)
    return {
        name: chance.standard_normal(shape, dtype=np.float32) * 0.1 + (len(shape) == 1)
        for name, shape in llama_shapes(config).items()
    }
