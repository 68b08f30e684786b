"""SmolLM2 as transformers would have saved it, made of its GGUF: safetensors in F16, tokenizer and configuration.

The original cannot be had offline, so the quantized numbers stand for it. Everything else is as in a folder of
transformers: names, the order of rotary rows, shards, a tokenizer.json. What a conversion makes of it must be the
model of the GGUF again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import gguf
import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from pathlib import Path

_NAMES: Final = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
_CONTROL: Final = 3


def write_smollm2(source: Path, folder: Path) -> Path:
    """The model of the GGUF file ``source`` as a folder of two shards."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = _config(fields)
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    _write_tokenizer(folder, fields)
    tensors = dict(_tensor(tensor, config) for tensor in reader.tensors)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / shard, metadata={"format": "pt"})
    index = {name: shard for shard, members in shards.items() for name in members}
    _write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    return folder


def _config(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": fields["llama.rope.freq_base"],
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
    }


def _tensor(tensor: Any, config: dict[str, Any]) -> tuple[str, Any]:
    """A tensor by transformers' name, rotary rows in halves again."""
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float16)
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name):
        heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}.get(match[2])
        if heads:
            rows, columns = values.shape
            values = values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        return f"model.layers.{match[1]}.{_NAMES[match[2]]}.weight", np.ascontiguousarray(values)
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[
        tensor.name
    ], values


def _write_tokenizer(folder: Path, fields: dict[str, Any]) -> None:
    """A byte-level BPE whose digits stand alone, as SmolLM2's is."""
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    special = [
        {"id": number, "content": text, "special": True, "normalized": False, "single_word": False, "lstrip": False,
         "rstrip": False}
        for number, (text, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind == _CONTROL
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    _write(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
            },
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "vocab": {text: number for number, text in enumerate(tokens)},
                "merges": fields["tokenizer.ggml.merges"],
            },
        },
    )
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]],
            "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
            "chat_template": fields["tokenizer.chat_template"],
        },
    )


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
