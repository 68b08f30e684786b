"""Tiny embedding models with weights by chance: real files for llama.cpp, of some ten kilobytes.

What their vectors say is nothing, but it is the same for the same text, and different for others. ``write_bert`` makes
an encoder with a WordPiece vocabulary, which puts [CLS] and [SEP] around every text; ``write_decoder`` a Llama whose
vector is that of the last token, or the mean of all.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from gguf_files import gguf_bytes

if TYPE_CHECKING:
    from pathlib import Path

WIDTH: Final = 32
"""Numbers in a vector."""
MEAN, CLS, LAST = 1, 2, 3
"""How tokens become one vector, by llama.cpp's numbers."""
_TEXT: Final = (
    "the a of and to in is cat dog bird sun moon star sea tree house red green blue one two three "
    "mountain river stone light dark winter summer bread water fire small great sing walk read write"
)
WORDS: Final = tuple(_TEXT.split())
"""Words that are one token to the encoder."""

_HIDDEN: Final = 64
_HEADS: Final = 4
_LAYERS: Final = 2
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
"""Kinds of tokens, by llama.cpp's numbers."""


def write_bert(path: Path, *, seed: int = 0, num_ctx: int = 64, pooling: int = MEAN) -> Path:
    """A BERT with ``num_ctx`` positions."""
    chance = np.random.default_rng(seed)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*marks, *(f"▁{word}" for word in WORDS), *(f"▁{letter}" for letter in letters), *letters]
    tokens = list(dict.fromkeys(tokens))
    metadata = {
        "general.architecture": "bert",
        **_shape("bert", num_ctx),
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": ("int32", [_CONTROL] * len(marks) + [_NORMAL] * (len(tokens) - len(marks))),
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
    tensors = [
        _random(chance, "token_embd.weight", WIDTH, len(tokens)),
        _random(chance, "position_embd.weight", WIDTH, num_ctx),
        _random(chance, "token_types.weight", WIDTH, 2),
        *_norm(chance, "token_embd_norm"),
    ]
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors += [
                _random(chance, f"{block}.{name}.weight", WIDTH, WIDTH),
                _bias(chance, f"{block}.{name}", WIDTH),
            ]
        tensors += [
            _random(chance, f"{block}.ffn_up.weight", WIDTH, _HIDDEN),
            _bias(chance, f"{block}.ffn_up", _HIDDEN),
        ]
        tensors += [
            _random(chance, f"{block}.ffn_down.weight", _HIDDEN, WIDTH),
            _bias(chance, f"{block}.ffn_down", WIDTH),
        ]
        tensors += [*_norm(chance, f"{block}.attn_output_norm"), *_norm(chance, f"{block}.layer_output_norm")]
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def write_decoder(path: Path, *, seed: int = 0, num_ctx: int = 64, pooling: int | None = LAST) -> Path:
    """A Llama that puts <s> before every text; one with ``pooling`` None generates."""
    chance = np.random.default_rng(seed)
    tokens = ["<unk>", "<s>", "</s>", "▁", *(f"▁{word}" for word in WORDS), *string.ascii_letters]
    tokens = list(dict.fromkeys(tokens))
    metadata = {
        "general.architecture": "llama",
        **_shape("llama", num_ctx),
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        **({} if pooling is None else {"llama.pooling_type": pooling}),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(index) for index in range(len(tokens))],
        "tokenizer.ggml.token_type": ("int32", [_UNKNOWN, _CONTROL, _CONTROL] + [_NORMAL] * (len(tokens) - 3)),
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": True,
    }
    tensors = [
        _random(chance, "token_embd.weight", WIDTH, len(tokens)),
        _random(chance, "output.weight", WIDTH, len(tokens)),
        _scale(chance, "output_norm", WIDTH),
    ]
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        matrices = {f"attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        matrices |= {"ffn_gate": (WIDTH, _HIDDEN), "ffn_up": (WIDTH, _HIDDEN), "ffn_down": (_HIDDEN, WIDTH)}
        tensors += [_random(chance, f"{block}.{name}.weight", *shape) for name, shape in matrices.items()]
        tensors += [_scale(chance, f"{block}.attn_norm", WIDTH), _scale(chance, f"{block}.ffn_norm", WIDTH)]
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def _shape(architecture: str, num_ctx: int) -> dict[str, Any]:
    return {
        f"{architecture}.context_length": num_ctx,
        f"{architecture}.embedding_length": WIDTH,
        f"{architecture}.feed_forward_length": _HIDDEN,
        f"{architecture}.block_count": _LAYERS,
        f"{architecture}.attention.head_count": _HEADS,
    }


def _random(chance: np.random.Generator, name: str, *shape: int) -> tuple[Any, ...]:
    """A tensor; its numbers are small enough that layers add up to something sensible."""
    data = chance.standard_normal(int(np.prod(shape)), dtype=np.float32) * np.float32(shape[0] ** -0.5)
    return (name, "F32", shape, data.tobytes())


def _bias(chance: np.random.Generator, name: str, size: int) -> tuple[Any, ...]:
    return _random(chance, f"{name}.bias", size)


def _scale(chance: np.random.Generator, name: str, size: int) -> tuple[Any, ...]:
    data = 1 + 0.1 * chance.standard_normal(size, dtype=np.float32)
    return (f"{name}.weight", "F32", (size,), data.astype(np.float32).tobytes())


def _norm(chance: np.random.Generator, name: str) -> list[tuple[Any, ...]]:
    return [_scale(chance, name, WIDTH), _bias(chance, name, WIDTH)]
