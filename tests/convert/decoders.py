"""Tiny decoders with weights by chance in folders, the folders with something changed, and their logits compared."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from convert.reference import (
    TEXT,
    assert_same_logits,
    convert,
    gguf_logits,
    model_files,
    random_model,
    reference_logits,
    save_model,
    tiny_tokenizer,
)
from gguf import GGUFReader, ReaderTensor
from safetensors.torch import load_file, save_file

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.model import convert_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOLERANCE = 1e-4
"""Of the spread of the logits: what the rounding of float32 makes of different orders of sums, and some room."""

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
"""A tiny model, with two query heads for each head of keys and values."""

WINDOW = 16
"""Tokens of a sliding window: far less than ``TEXT`` has."""

HOSTILE: list[tuple[str, Any, str]] = [
    ("num_attention_heads", 0, "a whole number from 1"),
    ("num_attention_heads", "4", "a whole number"),
    ("num_attention_heads", 3, "heads|shape|rotated"),
    ("num_attention_heads", 1 << 40, "a whole number"),
    ("num_key_value_heads", 0, "a whole number from 1"),
    ("num_key_value_heads", 3, "divided"),
    ("num_key_value_heads", [2], "a whole number"),
    ("hidden_size", 63, "shape|heads|rotated"),
    ("hidden_size", -64, "a whole number from 1"),
    ("hidden_size", 64.0, "a whole number"),
    ("hidden_size", None, "missing"),
    ("intermediate_size", None, "missing"),
    ("intermediate_size", 95, "shape"),
    ("num_hidden_layers", 10**9, "a whole number from 1 to 512"),
    ("num_hidden_layers", 1, "there is a layer 1|does not belong"),
    ("num_hidden_layers", True, "a whole number"),
    ("num_hidden_layers", None, "missing"),
    ("max_position_embeddings", 0, "a whole number from 1"),
    ("max_position_embeddings", "many", "a whole number"),
    ("tie_word_embeddings", "no", "true or false"),
    ("hidden_act", "relu", "activation"),
    ("hidden_act", 1, "a text"),
    ("rope_parameters", [], "an object"),
    ("rope_parameters", {"rope_theta": 0, "rope_type": "default"}, "rope_theta|base of the positions"),
    ("rope_parameters", {"rope_theta": "10000", "rope_type": "default"}, "a number"),
    ("rope_parameters", {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0}, "'dynamic' positions"),
]
"""What any of these models' config.json may be made to say, and what the error says of it."""


def saved_decoder(
    folder: Path,
    config: transformers.PretrainedConfig,
    *,
    shard: str | None = None,
    dtype: torch.dtype = torch.float32,
    prepare: Callable[[torch.nn.Module], None] | None = None,
) -> transformers.PreTrainedModel:
    """Save a model of ``config`` with its tokenizer; the same in float32, of the numbers that were saved.

    ``prepare`` may change its weights. Attention is computed step by step: the only way that knows soft caps.
    """
    config._attn_implementation = "eager"
    tiny_tokenizer(folder)
    model = random_model(config)
    if prepare is not None:
        prepare(model)
    # Not the whole model, for that would round its positions too.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    save_model(copy.deepcopy(model).to(dtype), folder, shard=shard)
    return model


def far_gates(model: torch.nn.Module) -> None:
    """Put the gates of feed-forward networks far from 0, where gelu is x or 0, without making their output larger."""
    for name, parameter in model.named_parameters():
        if name.endswith("gate_proj.weight"):
            parameter.data.mul_(1000)
        if name.endswith("down_proj.weight"):
            parameter.data.div_(1000)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change fields of config.json; None takes one away."""
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def as_transformers_4(folder: Path, **changes: Any) -> None:
    """Write config.json as transformers 4 did: the positions' numbers one by one, the dtype by its old name."""
    values = json.loads((folder / "config.json").read_text())
    rope = values["rope_parameters"]
    scaling = {name: value for name, value in rope.items() if name not in {"rope_theta", "partial_rotary_factor"}}
    rewrite(
        folder,
        rope_parameters=None,
        dtype=None,
        torch_dtype=values["dtype"],
        transformers_version="4.45.0",
        rope_theta=rope.get("rope_theta"),
        partial_rotary_factor=rope.get("partial_rotary_factor"),
        rope_scaling=None if scaling == {"rope_type": "default"} else scaling,
        **changes,
    )


def converted(folder: Path, type_name: str = "F32") -> Path:
    """The GGUF of a folder, beside it."""
    return convert(folder, folder.parent / f"{folder.name}.gguf", type_name)


def notes_of(folder: Path) -> list[str]:
    """What the conversion tells the user."""
    return convert_model(model_files(folder), folder.parent / "notes.gguf", "F32", lambda _done, _total: None)


def tokens_of(folder: Path) -> list[int]:
    """``TEXT`` in the tokens of a folder: about a hundred."""
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder).encode(TEXT)[:120]


def assert_converts_alike(
    folder: Path, model: transformers.PreTrainedModel, tolerance: float = TOLERANCE, **options: Any
) -> Path:
    """llama.cpp's logits for the GGUF of a folder are transformers'; the GGUF."""
    path, tokens = converted(folder), tokens_of(folder)
    assert_same_logits(gguf_logits(path, tokens, **options), reference_logits(model, tokens), tolerance)
    return path


def assert_matters(folder: Path, model: transformers.PreTrainedModel, begin: int = 0, **changes: Any) -> None:
    """With other numbers in config.json, logits are others from the token ``begin`` on, and only from there.

    Else the model would be too tame for its test to show anything.
    """
    rewrite(folder, **changes)
    tokens = tokens_of(folder)
    theirs = reference_logits(model, tokens)
    differences = abs(gguf_logits(converted(folder), tokens) - theirs).max(axis=1) / theirs.std()
    assert (differences[:begin] <= TOLERANCE).all()
    assert (differences[begin + 1 :] > 10 * TOLERANCE).mean() > 0.9


def fields_of(path: Path) -> dict[str, Any]:
    """The header of a GGUF, without what all have in common."""
    fields = {name: field.contents() for name, field in GGUFReader(path).fields.items()}
    return {name.split(".", 1)[1]: value for name, value in fields.items() if name[0].islower()}


def stored_tensors(path: Path) -> dict[str, ReaderTensor]:
    """The tensors of a GGUF by name."""
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def refusal(folder: Path) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(ConvertError) as caught:
        converted(folder)
    assert len(caught.value.message) < 400
    return caught.value.message


def assert_all_tensors_needed(folder: Path) -> None:
    """Without any one of its tensors the model is refused, and with any one of another shape."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, tensor in tensors.items():
        for others in ({}, {name: tensor[:-1].clone()}, {name: tensor[None].clone()}):
            save_file({**{key: value for key, value in tensors.items() if key != name}, **others}, path)
            assert refusal(folder)
    save_file(tensors, path)
    converted(folder)
