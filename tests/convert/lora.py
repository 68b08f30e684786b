"""LoRA adapters by chance for tiny models, saved by peft, and the models with them."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from convert.reference import convert, random_model, save_model, tiny_tokenizer
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file

from ollama_nb.convert.adapters import convert_adapter
from ollama_nb.convert.jobs import BaseModel
from ollama_nb.gguf.adapters import check_adapter
from ollama_nb.gguf.reader import read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import transformers
    from numpy.typing import NDArray

    from ollama_nb.gguf.reader import Header

    Tensors: TypeAlias = dict[str, NDArray[Any]]
    Change: TypeAlias = Callable[[Tensors], Tensors]

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
"""Two layers, and fewer heads for keys than for queries."""

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Base:
    """A tiny model: its GGUF, and the tokens of a short text."""

    config: transformers.PretrainedConfig
    gguf: Path
    tokens: list[int]

    @property
    def header(self) -> Header:
        """That of the GGUF."""
        return read_header(self.gguf)

    def facts(self, **changed: Any) -> BaseModel:
        """What a conversion is told of the model."""
        facts = {
            "architecture": self.header.architecture,
            "block_count": self.config.num_hidden_layers,
            "head_count": self.config.num_attention_heads,
            "head_count_kv": self.config.num_key_value_heads,
        }
        return BaseModel(**{**facts, **changed})

    def adapted(self, folder: Path, dtype: torch.dtype = torch.float32, **lora: Any) -> PeftModel:
        """The model with an adapter by chance, which is saved to ``folder`` with its numbers as ``dtype``."""
        settings = {"r": 4, "lora_alpha": 16, "target_modules": ALL, "task_type": "CAUSAL_LM", **lora}
        with warnings.catch_warnings():
            # Of names that transformers will give up, and of settings that are meant as they are.
            warnings.simplefilter("ignore")
            model = get_peft_model(random_model(self.config), LoraConfig(**settings)).eval()
            torch.manual_seed(7)
            weights = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
            for weight in weights.values():
                weight.data = (torch.randn_like(weight) * (0.5 * max(weight.shape) ** -0.5)).to(dtype)
            model.save_pretrained(folder)
        for weight in weights.values():
            weight.data = weight.data.float()
        return model

    def converted(self, folder: Path, out: Path) -> Path:
        """The GGUF of the adapter in ``folder``, which fits to the model."""
        convert_adapter(adapter_files(folder), out, self.facts(), lambda _done, _total: None)
        check_adapter(read_header(out), self.header)
        return out


def saved_base(folder: Path, config: transformers.PretrainedConfig, text: str, *, shard: str | None = None) -> Base:
    """A model by chance in ``folder``, and its GGUF beside it."""
    tokenizer = tiny_tokenizer(folder)
    save_model(random_model(config), folder, shard=shard)
    return Base(config, convert(folder, folder.parent / f"{folder.name}.gguf"), tokenizer.encode(text)[:48])


def adapter_files(folder: Path) -> dict[str, Path]:
    """The files of a saved adapter that a create request names."""
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix in {".json", ".safetensors", ".bin"}}


def change_config(folder: Path, **changes: Any) -> None:
    """Change an adapter's config; ``...`` takes a name away."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


def change_tensors(folder: Path, change: Change) -> None:
    """Change an adapter's tensors, a dictionary of arrays."""
    path = folder / "adapter_model.safetensors"
    save_file({name: np.ascontiguousarray(data) for name, data in change(load_file(path)).items()}, path)


def renamed(old: str, new: str) -> Change:
    """Tensors with ``new`` in their names for ``old``."""
    return lambda tensors: {name.replace(old, new): data for name, data in tensors.items()}
