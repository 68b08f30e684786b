"""Folders of models as their makers published them, in a tiny shape: old names, files beside the weights, and all.

A folder has the fields that the real ``config.json`` has, with other sizes, the real marks and steps of the tokenizer,
the names that tensors had then, and what else lies there: pickles of the same weights, the makers' own checkpoints,
exports for other programs. Numbers are by chance; transformers' own class has the same, to compare with.
"""

from __future__ import annotations

import copy
import json
import re
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from convert.reference import scramble
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from convert.published_tokenizers import Made

__all__ = ["CHATML", "NO_LIMIT", "SIZES", "TOOLS", "Folder", "Model", "added", "build", "turns"]

SIZES: Final = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
NO_LIMIT: Final = 1000000000000000019884624838656
"""What transformers writes for no limit of a text's length."""


def added(content: str, **changes: Any) -> dict[str, Any]:
    """A special token as older files of settings have it."""
    return {
        "__type": "AddedToken", "content": content, "lstrip": False, "normalized": False, "rstrip": False,
        "single_word": False, **changes,
    }  # fmt: skip


def turns(user: str, assistant: str, answer: str = "", *, bos: str = "{{ bos_token }}", system: str | None = "") -> str:
    """A chat template of patterns with ¶ for what is said; ``answer`` is what an answer begins with.

    ``system`` is that of the user where it is empty; with None there is no such turn.
    """

    def said(pattern: str) -> str:
        return pattern.replace("¶", "{{ message['content'] }}")

    first = "{{ raise_exception('System role not supported') }}" if system is None else said(system or user)
    return (
        f"{bos}{{% for message in messages %}}{{% if message['role'] == 'system' %}}{first}"
        f"{{% elif message['role'] == 'assistant' %}}{said(assistant)}{{% else %}}{said(user)}{{% endif %}}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{said(answer)}{{% endif %}}"
    )


CHATML: Final = turns(
    "<|im_start|>user\n¶<|im_end|>\n",
    "<|im_start|>assistant\n¶<|im_end|>\n",
    "<|im_start|>assistant\n",
    bos="",
    system="<|im_start|>system\n¶<|im_end|>\n",
)
TOOLS: Final = "{% if tools %}{{ tools | tojson }}{% endif %}"
"""What a chat template begins with that can say what tools there are: the server has no format of its own for those."""


@dataclass(frozen=True)
class Model:
    """What is published of a model. Ids in ``config`` and ``generation`` are given as the texts of their tokens."""

    tokenizer: Callable[[], Made]
    config: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """``tokenizer_config.json``."""
    generation: Mapping[str, Any] | None = None
    specials: Mapping[str, Any] | None = None
    """``special_tokens_map.json``."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """Other files: texts, bytes, or what JSON can be."""
    reference: Mapping[str, Any] = field(default_factory=dict)
    """What transformers of today calls the fields of ``config``, where it does not read them as they are."""
    kind: type = transformers.AutoModelForCausalLM
    renamed: tuple[tuple[str, str], ...] = ()
    """Patterns of today's names of tensors, and what stood there."""
    extra: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Tensors that the published file has beside those of today's class."""
    rows_beyond: int = 0
    """Rows of the embedding that no token has; less than 0: tokens without a row."""
    shards: int = 1
    prompt: str = ""
    """A question in the model's own words and marks."""
    ends: tuple[str, ...] = ()
    """Tokens at which an answer ends."""
    known_as: str = ""
    """The format that the server knows its chat template by."""
    begins: str = ""
    """What texts begin with to become the same tokens: some tokenizers put a blank before other texts only."""
    normalizes: bool = False
    """Whether its tokenizer composes letters and their marks, which llama.cpp does not."""


@dataclass(frozen=True)
class Folder:
    """A folder that was made, the same model in transformers, and the ids of its tokens."""

    path: Path
    model: transformers.PreTrainedModel
    ids: Mapping[str, int]


def build(model: Model, path: Path, seed: int = 0) -> Folder:
    """Write the folder of ``model`` to ``path``."""
    path.mkdir(parents=True, exist_ok=True)
    made = model.tokenizer()
    sizes = {"vocab_size": made.size + model.rows_beyond}
    config = _numbered({**model.config, **({} if "text_config" in model.config else sizes)}, made.ids)
    if "text_config" in config:
        config["text_config"] = {**config["text_config"], **sizes}
    fields = _numbered({**model.reference, **sizes}, made.ids) if model.reference else config
    reference = _reference(fields, model.kind, seed)
    files = {
        "config.json": config,
        "tokenizer.json": made.json,
        "tokenizer_config.json": model.settings,
        "generation_config.json": None if model.generation is None else _numbered(model.generation, made.ids),
        "special_tokens_map.json": model.specials,
        **made.files,
        **model.files,
    }
    for name, content in files.items():
        if content is not None:
            _write(path / name, content)
    _save_weights(_weights(model, reference, path), path, model.shards)
    return Folder(path, reference, made.ids)


def _numbered(values: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """The same with ids instead of the texts of tokens."""

    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [ids[item] for item in value]
        return ids[value] if isinstance(value, str) else value

    return {name: number(value) if re.search("_token_(id|index)$", name) else value for name, value in values.items()}


def _reference(config: Mapping[str, Any], kind: type, seed: int) -> transformers.PreTrainedModel:
    fields = dict(config)
    for name in ("auto_map", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "architectures"):
        fields.pop(name, None)
    loaded = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    loaded._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = kind.from_config(loaded).eval().to(torch.float32)
    scramble(model)
    return model


def _weights(model: Model, reference: transformers.PreTrainedModel, path: Path) -> dict[str, torch.Tensor]:
    """The weights under the names that they were published by, in the dtype of ``config.json``."""
    dtype = getattr(torch, model.config.get("torch_dtype") or model.config.get("dtype") or "float32")
    for parameter in reference.parameters():
        parameter.data = parameter.data.to(dtype).float()
    # transformers knows the names of most models' files; config.json stays what it is.
    with tempfile.TemporaryDirectory(dir=path) as scratch:
        copy.deepcopy(reference).to(dtype).save_pretrained(scratch)
        saved = load_file(f"{scratch}/model.safetensors")
    tensors = {}
    for name, tensor in saved.items():
        for pattern, replacement in model.renamed:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901
        tensors[name] = tensor
    for name, shape in model.extra.items():
        tensors[name] = torch.arange(shape[-1]).expand(shape).clone() if "ids" in name else torch.ones(shape)
    return tensors


def _save_weights(tensors: Mapping[str, torch.Tensor], path: Path, shards: int) -> None:
    """One file, or several with an index."""
    if shards == 1:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = list(tensors), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        chosen = names[shard::shards]
        save_file({name: tensors[name] for name in chosen}, path / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(chosen, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    _write(path / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)).encode()
    path.write_bytes(content)
