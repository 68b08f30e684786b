"""Llama, Mistral, and models that are made of them or built like them, as they lie on the hub."""

# Some models write their marks with wide bars.
# ruff: noqa: RUF001

from __future__ import annotations

from typing import Any, Final

from convert.published import CHATML, NO_LIMIT, SIZES, TOOLS, Model, added, turns
from convert.published_tokenizers import METASPACE, byte_bpe, sentencepiece_bpe

PICKLES: Final = {
    "pytorch_model-00001-of-00002.bin": b"PK\x03\x04 not read",
    "pytorch_model-00002-of-00002.bin": b"PK\x03\x04 not read",
    "pytorch_model.bin.index.json": {"metadata": {"total_size": 1}, "weight_map": {}},
}
"""The same weights once more, in the older form."""

_LLAMA2_CHAT: Final = turns(
    "{% if loop.first or messages[loop.index0 - 1]['role'] != 'system' %}[INST] {% endif %}¶ [/INST]",
    " ¶ {{ eos_token }}",
    system="[INST] <<SYS>>\n¶\n<</SYS>>\n\n",
)
_INST: Final = turns("[INST] ¶ [/INST]", "¶{{ eos_token }}", system=None)
_LLAMA3_CHAT: Final = turns(
    "<|start_header_id|>user<|end_header_id|>\n\n¶<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n¶<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    system="<|start_header_id|>system<|end_header_id|>\n\n¶<|eot_id|>",
)
_ZEPHYR_CHAT: Final = turns(
    "<|user|>\n¶{{ eos_token }}\n", "<|assistant|>\n¶{{ eos_token }}\n", "<|assistant|>\n", bos="",
    system="<|system|>\n¶{{ eos_token }}\n",
)  # fmt: skip
_R1_CHAT: Final = turns("<｜User｜>¶", "<｜Assistant｜>¶{{ eos_token }}", "<｜Assistant｜><think>\n", system="¶")

# Llama.

_LLAMA: Final = {
    **SIZES, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "initializer_range": 0.02, "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": "<s>",
    "eos_token_id": "</s>", "max_position_embeddings": 4096, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "tie_word_embeddings": False, "use_cache": True, "torch_dtype": "float16",
    "transformers_version": "4.32.0.dev0",
}  # fmt: skip
_LLAMA_SETTINGS: Final = {
    "add_bos_token": True, "add_eos_token": False, "bos_token": added("<s>"), "clean_up_tokenization_spaces": False,
    "eos_token": added("</s>"), "legacy": False, "model_max_length": NO_LIMIT, "pad_token": None,
    "padding_side": "right",
    "sp_model_kwargs": {}, "tokenizer_class": "LlamaTokenizer", "unk_token": added("<unk>"),
}  # fmt: skip
_RESERVED: Final = tuple(f"<|reserved_special_token_{number}|>" for number in range(4))
_LLAMA3_MARKS: Final = (
    "<|begin_of_text|>", "<|end_of_text|>", *_RESERVED[:2], "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
    "<|eot_id|>", "<|python_tag|>", *_RESERVED[2:],
)  # fmt: skip
_LLAMA3: Final = {
    **_LLAMA, "bos_token_id": "<|begin_of_text|>", "max_position_embeddings": 131072, "rope_theta": 500000.0,
    "eos_token_id": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"], "torch_dtype": "bfloat16", "mlp_bias": False,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}  # fmt: skip
_LLAMA3_SETTINGS: Final = {
    "bos_token": "<|begin_of_text|>", "clean_up_tokenization_spaces": True, "eos_token": "<|eot_id|>",
    "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 131072,
    "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": _LLAMA3_CHAT,
}  # fmt: skip
_ORIGINAL: Final = {
    "original/consolidated.00.pth": b"PK\x03\x04 not read",
    "original/params.json": {"dim": 2048, "n_layers": 16, "n_heads": 32, "vocab_size": 128256},
    "original/tokenizer.model": b"IQ== 0\nIg== 1\n",
    "LICENSE.txt": "",
    "USE_POLICY.md": "",
}
"""The makers' own checkpoint, in a folder below; its tokenizer is tiktoken's, whatever its name says."""


def _llama3(**options: Any) -> Any:
    return byte_bpe("llama 3", last=_LLAMA3_MARKS, before="<|begin_of_text|>", ignores_merges=True, **options)


_LLAMA3_PROMPT: Final = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhere are the boats?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)

LLAMAS: Final = {
    "Llama-2-7b-chat-hf": Model(
        tokenizer=sentencepiece_bpe,
        config={**_LLAMA, "_name_or_path": "meta-llama/Llama-2-7b-chat-hf", "num_key_value_heads": 4},
        settings={**_LLAMA_SETTINGS, "chat_template": _LLAMA2_CHAT},
        known_as="llama2-chat",
        generation={"bos_token_id": "<s>", "eos_token_id": "</s>", "pad_token_id": "<unk>", "temperature": 0.6},
        specials={"bos_token": added("<s>"), "eos_token": added("</s>"), "unk_token": added("<unk>")},
        extra={f"model.layers.{number}.self_attn.rotary_emb.inv_freq": (8,) for number in range(2)},
        shards=2,
        files=PICKLES,
        prompt="<s>[INST] Where are the boats? [/INST]",
        ends=("</s>",),
    ),
    "TinyLlama-1.1B-Chat-v1.0": Model(
        tokenizer=sentencepiece_bpe,
        config={**_LLAMA, "max_position_embeddings": 2048, "torch_dtype": "bfloat16", "rope_theta": 10000.0},
        settings={**_LLAMA_SETTINGS, "pad_token": "</s>", "chat_template": _ZEPHYR_CHAT},
        known_as="zephyr",
        generation={"bos_token_id": "<s>", "eos_token_id": "</s>", "max_length": 2048, "pad_token_id": "<unk>"},
        files={"pytorch_model.bin": b"PK\x03\x04 not read", "eval_results.json": {}},
        prompt="<|user|>\nWhere are the boats?</s>\n<|assistant|>\n",
        ends=("</s>",),
    ),
    "Meta-Llama-3-8B-Instruct": Model(
        tokenizer=_llama3,
        config={**_LLAMA3, "rope_scaling": None, "max_position_embeddings": 8192, "eos_token_id": "<|eot_id|>"},
        settings={**_LLAMA3_SETTINGS, "model_max_length": NO_LIMIT},
        known_as="llama3-instruct",
        generation={"bos_token_id": "<|begin_of_text|>", "eos_token_id": ["<|end_of_text|>", "<|eot_id|>"]},
        specials={"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        shards=3,
        files=_ORIGINAL,
        prompt=_LLAMA3_PROMPT,
        ends=("<|eot_id|>", "<|end_of_text|>"),
    ),
    "Llama-3.1-8B-Instruct": Model(
        tokenizer=_llama3,
        config=_LLAMA3,
        settings={**_LLAMA3_SETTINGS, "chat_template": TOOLS + _LLAMA3_CHAT},
        generation={
            "bos_token_id": "<|begin_of_text|>", "do_sample": True, "temperature": 0.6, "top_p": 0.9,
            "eos_token_id": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        },
        specials={"bos_token": added("<|begin_of_text|>"), "eos_token": added("<|eot_id|>")},
        shards=2,
        files=_ORIGINAL,
        prompt=_LLAMA3_PROMPT,
        ends=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
    ),
    "Llama-3.2-1B-Instruct": Model(
        tokenizer=_llama3,
        config={
            **_LLAMA3, "head_dim": 16, "tie_word_embeddings": True,
            "rope_scaling": {**_LLAMA3["rope_scaling"], "factor": 32.0},
        },
        settings={**_LLAMA3_SETTINGS, "chat_template": TOOLS + _LLAMA3_CHAT},
        generation={
            "bos_token_id": "<|begin_of_text|>", "eos_token_id": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        },
        specials={"bos_token": added("<|begin_of_text|>"), "eos_token": added("<|eot_id|>")},
        files=_ORIGINAL,
        prompt=_LLAMA3_PROMPT,
        ends=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
    ),
    "SmolLM2-360M-Instruct": Model(
        tokenizer=lambda: byte_bpe(
            "command-r", ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"),
            post_processor=None
        ),
        config={
            **_LLAMA, "bos_token_id": "<|im_start|>", "eos_token_id": "<|im_end|>", "pad_token_id": "<|im_end|>",
            "is_llama_config": True, "rope_interleaved": False, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
            "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "rope_theta": 100000,
        },
        settings={
            "add_prefix_space": False, "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>", "tokenizer_class": "GPT2Tokenizer",
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "chat_template": CHATML,
        },
        generation={"bos_token_id": "<|im_start|>", "eos_token_id": "<|im_end|>", "pad_token_id": "<|im_end|>"},
        files={
            "merges.txt": "#version: 0.2\n", "vocab.json": {}, "training_args.bin": b"",
            "runs/events.out.tfevents": b"",
            "onnx/model.onnx": b"", "all_results.json": {},
        },
        known_as="chatml",
        prompt="<|im_start|>user\nWhere are the boats?<|im_end|>\n<|im_start|>assistant\n",
        ends=("<|im_end|>",),
    ),
    "DeepSeek-R1-Distill-Llama-8B": Model(
        tokenizer=lambda: byte_bpe(
            "llama 3",
            last=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", *_RESERVED, "<｜User｜>",
            "<｜Assistant｜>", "<think>",
            "</think>"),
            plain=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
            before="<｜begin▁of▁sentence｜>",
        ),
        config={**_LLAMA3, "bos_token_id": "<｜begin▁of▁sentence｜>", "eos_token_id": "<｜end▁of▁sentence｜>"},
        settings={
            "add_bos_token": True, "add_eos_token": False,
            "bos_token": added("<｜begin▁of▁sentence｜>", normalized=True),
            "eos_token": added("<｜end▁of▁sentence｜>"), "legacy": True, "model_max_length": 16384,
            "pad_token": added("<｜end▁of▁sentence｜>"), "sp_model_kwargs": {}, "unk_token": None,
            "tokenizer_class": "LlamaTokenizerFast", "chat_template": _R1_CHAT,
        },
        generation={
            "_from_model_config": True, "bos_token_id": "<｜begin▁of▁sentence｜>",
            "eos_token_id": "<｜end▁of▁sentence｜>", "do_sample": True,
        },
        shards=2,
        prompt="<｜begin▁of▁sentence｜><｜User｜>Where are the boats?<｜Assistant｜><think>\n",
        ends=("<｜end▁of▁sentence｜>",),
    ),
}  # fmt: skip

# Mistral.

_MISTRAL: Final = {
    **SIZES, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "attention_dropout": 0.0,
    "bos_token_id": "<s>", "eos_token_id": "</s>", "hidden_act": "silu", "initializer_range": 0.02,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.42.0.dev0", "use_cache": True,
}  # fmt: skip
_MISTRAL_SETTINGS: Final = {
    **_LLAMA_SETTINGS, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": _INST,
    "additional_special_tokens": [], "spaces_between_special_tokens": False, "use_default_system_prompt": False,
}  # fmt: skip
_MISTRAL_ENDS: Final = {"bos_token_id": "<s>", "eos_token_id": "</s>", "_from_model_config": True}
_INST_MARKS: Final = (
    "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[control_8]", "[control_9]",
)  # fmt: skip
_INST_PROMPT: Final = "<s>[INST] Where are the boats? [/INST]"

MISTRALS: Final = {
    "Mistral-7B-Instruct-v0.1": Model(
        tokenizer=sentencepiece_bpe,
        config={**_MISTRAL, "rope_theta": 10000.0, "sliding_window": 4096},
        settings=_MISTRAL_SETTINGS,
        known_as="mistral-instruct",
        generation=_MISTRAL_ENDS,
        shards=2,
        files=PICKLES,
        prompt=_INST_PROMPT,
        ends=("</s>",),
    ),
    "Mistral-7B-Instruct-v0.2": Model(
        tokenizer=lambda: sentencepiece_bpe(form=METASPACE),
        begins="<s>",
        config=_MISTRAL,
        settings=_MISTRAL_SETTINGS,
        known_as="mistral-instruct",
        generation=_MISTRAL_ENDS,
        specials={"bos_token": added("<s>"), "eos_token": added("</s>"), "unk_token": added("<unk>")},
        shards=3,
        files=PICKLES,
        prompt=_INST_PROMPT,
        ends=("</s>",),
    ),
    "Mistral-7B-Instruct-v0.3": Model(
        tokenizer=lambda: sentencepiece_bpe(controls=_INST_MARKS, form=METASPACE),
        begins="<s>",
        config=_MISTRAL,
        settings={**_MISTRAL_SETTINGS, "add_prefix_space": None, "legacy": True, "chat_template": TOOLS + _INST},
        generation=_MISTRAL_ENDS,
        shards=3,
        files={"consolidated.safetensors": b"the same once more", "params.json": {}, "tokenizer.model.v3": b""},
        prompt=_INST_PROMPT,
        ends=("</s>",),
    ),
    "Mistral-Nemo-Instruct-2407": Model(
        tokenizer=lambda: byte_bpe(
            "tekken", ("<unk>", "<s>", "</s>", *_INST_MARKS, "<SPECIAL_14>", "<SPECIAL_15>"), before="<s>"
        ),
        config={**_MISTRAL, "head_dim": 8, "max_position_embeddings": 131072},
        settings={
            **_MISTRAL_SETTINGS, "add_prefix_space": False, "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": TOOLS + _INST,
        },
        generation=_MISTRAL_ENDS,
        shards=2,
        files={"consolidated.safetensors": b"the same once more", "params.json": {}, "tekken.json": {}},
        prompt="<s>[INST]Where are the boats?[/INST]",
        ends=("</s>",),
    ),
    "Mixtral-8x7B-v0.1": Model(
        tokenizer=sentencepiece_bpe,
        config={
            **_MISTRAL, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_experts_per_tok": 2,
            "num_local_experts": 8, "output_router_logits": False, "router_aux_loss_coef": 0.02,
        },
        settings={name: value for name, value in _MISTRAL_SETTINGS.items() if name != "chat_template"},
        generation=_MISTRAL_ENDS,
        shards=2,
        files={"consolidated.00.pt": b"PK\x03\x04 not read"},
        prompt="Where are the boats?",
        ends=("</s>",),
    ),
}  # fmt: skip
