"""Tiny models that see, with weights by chance: real files for llama.cpp, a few hundred kilobytes each.

What they say is gibberish, but it is the same gibberish for the same text and images, and another for others. Only
letters are ever said: all other tokens have outputs of zero. ``write_llava`` makes a LLaVA, whose images take as many
positions as cells of the cache; ``write_qwen2_vl`` a Qwen2-VL, whose images take fewer (M-RoPE); ``write_gemma3`` a
Gemma 3, whose images are looked at as a whole, each cell at all others, with a cache of sliding windows. The images of
the latter two stand between texts of their own.
"""

from __future__ import annotations

import io
import string
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from gguf_files import gguf_bytes
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_CELLS: Final = 4
"""Cells of the cache that every image takes with the LLaVA."""
QWEN_CELLS: Final = 9
"""The same for a picture of the usual size with the Qwen2-VL, which enlarges it to 6 x 6 patches."""
QWEN_POSITIONS: Final = 3
"""Positions that it takes there: the side of its square of cells."""

GEMMA_CELLS: Final = 16
"""Cells that every image takes with the Gemma 3."""

_WIDTH: Final = 64
_HIDDEN: Final = 128
_HEADS: Final = 4
_LAYERS: Final = 2
_PATCH: Final = 14
_GEMMA_NORMS: Final = ("attention", "ffw")
_SPOKEN: Final = string.ascii_letters + " "
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
"""Kinds of tokens, by llama.cpp's numbers."""


class VisionFiles(NamedTuple):
    """The two files of a model that sees."""

    model: Path
    projector: Path


def write_llava(folder: Path, seed: int = 0, *, width: int = _WIDTH) -> VisionFiles:
    """A LLaVA; ``width`` other than the text model's makes a projector that does not fit to it."""
    chance = np.random.default_rng(seed)
    text = gguf_bytes({"general.architecture": "llama", **_shape("llama"), **_vocabulary()}, _text_tensors(chance))
    metadata = {
        "clip.projector_type": "mlp",
        "clip.use_gelu": False,
        "clip.vision.image_size": 2 * _PATCH,
        "clip.vision.projection_dim": width,
        **_tower_shape(),
    }
    tensors = [
        _random(chance, "v.class_embd", _WIDTH),
        _random(chance, "v.position_embd.weight", _WIDTH, IMAGE_CELLS + 1),
        _random(chance, "v.patch_embd.weight", _PATCH, _PATCH, 3, _WIDTH),
        *_norm("v.pre_ln"),
        *_tower_layer(chance),
        *_linear(chance, "mm.0", _WIDTH, width),
        *_linear(chance, "mm.2", width, width),
    ]
    return _write(folder, text, gguf_bytes(metadata, tensors))


def write_qwen2_vl(folder: Path, seed: int = 0) -> VisionFiles:
    """A Qwen2-VL, whose images have positions in two dimensions."""
    chance = np.random.default_rng(seed)
    shape = {**_shape("qwen2vl"), "qwen2vl.rope.dimension_sections": ("int32", [2, 3, 3, 0])}
    biases = [_zeros(f"blk.{layer}.attn_{part}.bias", _WIDTH) for layer in range(_LAYERS) for part in ("q", "k", "v")]
    text = gguf_bytes({"general.architecture": "qwen2vl", **shape, **_vocabulary()}, [*_text_tensors(chance), *biases])
    metadata = {
        "clip.projector_type": "qwen2vl_merger",
        "clip.use_silu": False,
        "clip.use_gelu": False,
        "clip.vision.image_size": 4 * _PATCH,
        "clip.vision.projection_dim": _WIDTH,
        **_tower_shape(),
    }
    tensors = [
        _random(chance, "v.patch_embd.weight", _PATCH, _PATCH, 3, _WIDTH),
        _random(chance, "v.patch_embd.weight.1", _PATCH, _PATCH, 3, _WIDTH),
        *_tower_layer(chance),
        *_norm("v.post_ln"),
        *_linear(chance, "mm.0", 4 * _WIDTH, 4 * _WIDTH),
        *_linear(chance, "mm.2", 4 * _WIDTH, _WIDTH),
    ]
    return _write(folder, text, gguf_bytes(metadata, tensors))


def write_gemma3(folder: Path, seed: int = 0, *, windows_only: bool = False) -> VisionFiles:
    """A Gemma 3, whose images do not look from left to right; every other layer has a sliding window, or all have."""
    chance = np.random.default_rng(seed)
    shape = {
        **_shape("gemma3"),
        "gemma3.attention.key_length": _WIDTH // _HEADS,
        "gemma3.attention.value_length": _WIDTH // _HEADS,
        "gemma3.attention.sliding_window": 32,
        "gemma3.attention.sliding_window_pattern": _LAYERS + 1 if windows_only else 2,
    }
    norms = [
        *(_ones(f"blk.{layer}.attn_{part}_norm.weight", _WIDTH // _HEADS) for layer in range(_LAYERS) for part in "qk"),
        *(_ones(f"blk.{layer}.post_{part}_norm.weight", _WIDTH) for layer in range(_LAYERS) for part in _GEMMA_NORMS),
    ]
    text = gguf_bytes({"general.architecture": "gemma3", **shape, **_vocabulary()}, [*_text_tensors(chance), *norms])
    metadata = {
        "clip.projector_type": "gemma3",
        "clip.use_gelu": True,
        "clip.vision.image_size": 16 * _PATCH,
        "clip.vision.projection_dim": _WIDTH,
        **_tower_shape(),
    }
    tensors = [
        _random(chance, "v.patch_embd.weight", _PATCH, _PATCH, 3, _WIDTH),
        _zeros("v.patch_embd.bias", _WIDTH),
        _random(chance, "v.position_embd.weight", _WIDTH, 16 * GEMMA_CELLS),
        *_tower_layer(chance),
        *_norm("v.post_ln"),
        _random(chance, "mm.input_projection.weight", _WIDTH, _WIDTH),
        _ones("mm.soft_emb_norm.weight", _WIDTH),
    ]
    return _write(folder, text, gguf_bytes(metadata, tensors))


def picture(colour: str | tuple[int, ...], *, size: tuple[int, int] = (56, 56), kind: str = "PNG") -> bytes:
    """An image file of one colour, of a format that Pillow writes."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def _write(folder: Path, text: bytes, projector: bytes) -> VisionFiles:
    folder.mkdir(parents=True, exist_ok=True)
    files = VisionFiles(folder / "model.gguf", folder / "mmproj.gguf")
    files.model.write_bytes(text)
    files.projector.write_bytes(projector)
    return files


def _shape(architecture: str) -> dict[str, Any]:
    values = {
        "context_length": 4096,
        "embedding_length": _WIDTH,
        "block_count": _LAYERS,
        "feed_forward_length": _HIDDEN,
        "attention.head_count": _HEADS,
        "attention.head_count_kv": _HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": _WIDTH // _HEADS,
        "rope.freq_base": 10000.0,
    }
    return {f"{architecture}.{key}": value for key, value in values.items()}


def _vocabulary() -> dict[str, Any]:
    """Letters, and a token for each byte for whatever else a text has."""
    spoken = [character.replace(" ", "▁") for character in _SPOKEN]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *spoken]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * len(spoken)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": ("float32", [0.0] * len(tokens)),
        "tokenizer.ggml.token_type": ("int32", kinds),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    }


def _text_tensors(chance: np.random.Generator) -> list[tuple[Any, ...]]:
    count = 3 + 256 + len(_SPOKEN)
    output = np.zeros((count, _WIDTH), dtype=np.float32)
    output[-len(_SPOKEN) :] = chance.standard_normal((len(_SPOKEN), _WIDTH))
    tensors = [
        _random(chance, "token_embd.weight", _WIDTH, count),
        _ones("output_norm.weight", _WIDTH),
        ("output.weight", "F32", (_WIDTH, count), output.tobytes()),
    ]
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        tensors += [_ones(f"{block}.attn_norm.weight", _WIDTH), _ones(f"{block}.ffn_norm.weight", _WIDTH)]
        tensors += [_random(chance, f"{block}.attn_{part}.weight", _WIDTH, _WIDTH) for part in ("q", "k")]
        # What is attended to has to count for more than the token itself, or no image would be noticed.
        tensors += [_random(chance, f"{block}.attn_{part}.weight", _WIDTH, _WIDTH, gain=3) for part in ("v", "output")]
        tensors += [_random(chance, f"{block}.ffn_{part}.weight", _WIDTH, _HIDDEN) for part in ("gate", "up")]
        tensors.append(_random(chance, f"{block}.ffn_down.weight", _HIDDEN, _WIDTH))
    return tensors


def _tower_shape() -> dict[str, Any]:
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.vision.patch_size": _PATCH,
        "clip.vision.embedding_length": _WIDTH,
        "clip.vision.feed_forward_length": _HIDDEN,
        "clip.vision.block_count": 1,
        "clip.vision.attention.head_count": _HEADS,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": ("float32", [0.5, 0.5, 0.5]),
        "clip.vision.image_std": ("float32", [0.5, 0.5, 0.5]),
    }


def _tower_layer(chance: np.random.Generator) -> list[tuple[Any, ...]]:
    block = "v.blk.0"
    return [
        *_norm(f"{block}.ln1"),
        *_norm(f"{block}.ln2"),
        *(
            tensor
            for part in ("q", "k", "v", "out")
            for tensor in _linear(chance, f"{block}.attn_{part}", _WIDTH, _WIDTH)
        ),
        *_linear(chance, f"{block}.ffn_up", _WIDTH, _HIDDEN),
        *_linear(chance, f"{block}.ffn_down", _HIDDEN, _WIDTH),
    ]


def _linear(chance: np.random.Generator, name: str, inputs: int, outputs: int) -> list[tuple[Any, ...]]:
    return [_random(chance, f"{name}.weight", inputs, outputs), _zeros(f"{name}.bias", outputs)]


def _norm(name: str) -> list[tuple[Any, ...]]:
    return [_ones(f"{name}.weight", _WIDTH), _zeros(f"{name}.bias", _WIDTH)]


def _random(chance: np.random.Generator, name: str, *shape: int, gain: float = 1.0) -> tuple[Any, ...]:
    """Weights by chance, such that what goes in comes out as large."""
    inputs = shape[0] if len(shape) <= 2 else np.prod(shape[:-1])
    values = chance.standard_normal(int(np.prod(shape)), dtype=np.float32) * np.float32(gain / np.sqrt(inputs))
    return name, "F32", shape, values.tobytes()


def _ones(name: str, size: int) -> tuple[Any, ...]:
    return name, "F32", (size,), np.ones(size, dtype=np.float32).tobytes()


def _zeros(name: str, size: int) -> tuple[Any, ...]:
    return name, "F32", (size,), np.zeros(size, dtype=np.float32).tobytes()
