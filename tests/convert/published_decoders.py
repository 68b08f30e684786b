"""Phi, Qwen and Command R, and models that are made of them, as they lie on the hub."""

# Some models write their marks with wide bars.
# ruff: noqa: RUF001

from __future__ import annotations

from typing import Any, Final

from convert.published import CHATML, NO_LIMIT, SIZES, TOOLS, Model, added, turns
from convert.published_tokenizers import byte_bpe, mark, sentencepiece_bpe

# Phi.

_PHI3_CHAT: Final = turns(
    "<|user|>\n¶<|end|>\n", "<|assistant|>\n¶<|end|>\n", "<|assistant|>\n", bos="", system="<|system|>\n¶<|end|>\n"
)
_PHI4_CHAT: Final = turns(
    "<|im_start|>user<|im_sep|>¶<|im_end|>", "<|im_start|>assistant<|im_sep|>¶<|im_end|>",
    "<|im_start|>assistant<|im_sep|>", bos="", system="<|im_start|>system<|im_sep|>¶<|im_end|>",
)  # fmt: skip
_PHI3_MARKS: Final = (
    "<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>",
    "<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>",
)  # fmt: skip
_PHI3: Final = {
    **SIZES, "_name_or_path": "Phi-3-mini-4k-instruct", "architectures": ["Phi3ForCausalLM"], "model_type": "phi3",
    "attention_dropout": 0.0, "auto_map": {
        "AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    },
    "bos_token_id": "<s>", "embd_pdrop": 0.0, "eos_token_id": "<|endoftext|>", "hidden_act": "silu",
    "initializer_range": 0.02, "max_position_embeddings": 4096, "num_key_value_heads": 4,
    "original_max_position_embeddings": 4096, "pad_token_id": "<|endoftext|>", "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.40.2", "use_cache": True, "attention_bias": False,
}  # fmt: skip
_PHI3_SETTINGS: Final = {
    "add_bos_token": False, "add_eos_token": False, "bos_token": "<s>", "eos_token": "<|endoftext|>",
    "clean_up_tokenization_spaces": False, "legacy": False, "model_max_length": 4096, "pad_token": "<|endoftext|>",
    "padding_side": "left", "sp_model_kwargs": {}, "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>",
    "use_default_system_prompt": False, "chat_template": _PHI3_CHAT,
}  # fmt: skip
_PHI3_ENDS: Final = ["<|endoftext|>", "<|assistant|>", "<|end|>"]
_PHI3_CODE: Final = {
    "configuration_phi3.py": "", "modeling_phi3.py": "", "sample_finetune.py": "",
    "added_tokens.json": {text: 32000 + number for number, text in enumerate(_PHI3_MARKS)},
}  # fmt: skip
_PHI3_PROMPT: Final = "<|user|>\nWhere are the boats?<|end|>\n<|assistant|>\n"


def _phi3() -> Any:
    ends = [mark(number, text, rstrip=number > 0) for number, text in enumerate(_PHI3_MARKS)]
    made = sentencepiece_bpe(added=(mark(0, "</s>", rstrip=True, special=False), *ends))
    # It puts nothing before a text, but its post-processor is there.
    made.json["post_processor"] = {
        "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {},
    }  # fmt: skip
    return made


def _factors(longest: float) -> list[float]:
    return [1.0 + (longest - 1) * number / 7 for number in range(8)]


PHIS: Final = {
    "Phi-3-mini-4k-instruct": Model(
        tokenizer=_phi3,
        config=_PHI3,
        settings=_PHI3_SETTINGS,
        generation={"_from_model_config": True, "bos_token_id": "<s>", "eos_token_id": _PHI3_ENDS},
        rows_beyond=53,
        shards=2,
        files=_PHI3_CODE,
        prompt=_PHI3_PROMPT,
        known_as="phi-3",
        ends=("<|endoftext|>", "<|end|>", "<|assistant|>"),
    ),
    "Phi-3-mini-128k-instruct": Model(
        tokenizer=_phi3,
        config={
            **_PHI3, "_name_or_path": "/data/checkpoints/last", "max_position_embeddings": 131072,
            "sliding_window": 262144,
            "rope_scaling": {"long_factor": _factors(60), "short_factor": _factors(3), "type": "su"},
        },
        reference={
            **_PHI3, "max_position_embeddings": 131072, "sliding_window": 262144, "rope_scaling": None,
            "rope_parameters": {
                "long_factor": _factors(60), "short_factor": _factors(3), "rope_type": "longrope",
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 4096,
            },
        },
        settings={**_PHI3_SETTINGS, "model_max_length": 131072},
        generation={"_from_model_config": True, "bos_token_id": "<s>", "eos_token_id": _PHI3_ENDS},
        rows_beyond=53,
        files=_PHI3_CODE,
        prompt=_PHI3_PROMPT,
        known_as="phi-3",
        ends=("<|endoftext|>", "<|end|>", "<|assistant|>"),
    ),
    "phi-4": Model(
        tokenizer=lambda: byte_bpe(
            "gpt-4", last=("<|dummy_0|>", "<|endoftext|>", "<|fim_prefix|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>")
        ),
        config={
            **_PHI3, "_name_or_path": "", "auto_map": None, "bos_token_id": "<|endoftext|>",
            "eos_token_id": "<|im_end|>", "pad_token_id": "<|dummy_0|>", "max_position_embeddings": 16384,
            "original_max_position_embeddings": 16384, "rope_theta": 250000, "sliding_window": None,
            "num_key_value_heads": 2,
        },
        settings={
            "add_prefix_space": False, "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>",
            "pad_token": "<|dummy_0|>", "tokenizer_class": "GPT2Tokenizer", "unk_token": "�",
            "chat_template": _PHI4_CHAT,
        },
        generation={"bos_token_id": "<|endoftext|>", "eos_token_id": "<|im_end|>", "pad_token_id": "<|dummy_0|>"},
        shards=2,
        prompt="<|im_start|>user<|im_sep|>Where are the boats?<|im_end|><|im_start|>assistant<|im_sep|>",
        ends=("<|im_end|>", "<|endoftext|>"),
    ),
    "Phi-4-mini-instruct": Model(
        tokenizer=lambda: byte_bpe(
            "gpt-4o", last=("<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>", "<|tool|>",
            "<|/tool|>")
        ),
        config={
            **_PHI3, "_name_or_path": "Phi-4-mini-instruct", "bos_token_id": "<|endoftext|>", "full_attn_mod": 1,
            "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False, "partial_rotary_factor": 0.75,
            "max_position_embeddings": 131072, "sliding_window": 262144, "tie_word_embeddings": True,
            "num_key_value_heads": 2,
            "rope_scaling": {"long_factor": _factors(60)[:6], "short_factor": _factors(3)[:6], "type": "longrope"},
        },
        reference={
            **_PHI3, "bos_token_id": "<|endoftext|>", "max_position_embeddings": 131072, "sliding_window": 262144,
            "tie_word_embeddings": True, "num_key_value_heads": 2, "rope_scaling": None,
            "rope_parameters": {
                "long_factor": _factors(60)[:6], "short_factor": _factors(3)[:6], "rope_type": "longrope",
                "rope_theta": 10000.0, "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75,
            },
        },
        settings={
            "add_prefix_space": False, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "tokenizer_class": "GPT2Tokenizer",
            "add_bos_token": False, "add_eos_token": False, "chat_template": TOOLS + _PHI3_CHAT,
        },
        generation={"bos_token_id": "<|endoftext|>", "eos_token_id": ["<|end|>", "<|endoftext|>"]},
        rows_beyond=20,
        shards=2,
        files={"merges.txt": "", "vocab.json": {}, "configuration_phi3.py": "", "modeling_phi3.py": ""},
        prompt="<|user|>Where are the boats?<|end|><|assistant|>",
        ends=("<|end|>", "<|endoftext|>"),
    ),
}  # fmt: skip

# Qwen.

_QWEN_MARKS: Final = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|vision_start|>", "<tool_call>",
    "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
    "<|file_sep|>",
)  # fmt: skip
_QWEN_PLAIN: Final = _QWEN_MARKS[5:]
_NFC: Final = {"normalizer": {"type": "NFC"}}
_QWEN2: Final = {
    **SIZES, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0,
    "bos_token_id": "<|endoftext|>", "eos_token_id": "<|im_end|>", "hidden_act": "silu", "initializer_range": 0.02,
    "max_position_embeddings": 32768, "max_window_layers": 21, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 32768, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1", "use_cache": True, "use_sliding_window": False,
}  # fmt: skip
_QWEN_SETTINGS: Final = {
    "add_bos_token": False, "add_prefix_space": False, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    "bos_token": None, "chat_template": CHATML, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
    "errors": "replace", "model_max_length": 131072, "pad_token": "<|endoftext|>", "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
}  # fmt: skip
_QWEN_GENERATION: Final = {
    "bos_token_id": "<|endoftext|>", "do_sample": True, "eos_token_id": ["<|im_end|>", "<|endoftext|>"],
    "pad_token_id": "<|endoftext|>", "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
}  # fmt: skip
_QWEN3: Final = {
    **{name: value for name, value in _QWEN2.items() if name != "sliding_window"},
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 32, "max_position_embeddings": 40960,
    "max_window_layers": 28, "model_type": "qwen3", "rope_scaling": None, "sliding_window": None,
    "tie_word_embeddings": True, "transformers_version": "4.51.0",
}  # fmt: skip
_CHATML_PROMPT: Final = "<|im_start|>user\nWhere are the boats?<|im_end|>\n<|im_start|>assistant\n"


def _qwen(*more: str, **options: Any) -> Any:
    return byte_bpe("qwen", last=(*_QWEN_MARKS, *more), plain=(*_QWEN_PLAIN, *more), **{**_NFC, **options})


QWENS: Final = {
    "Qwen2-0.5B-Instruct": Model(
        tokenizer=_qwen,
        config={**_QWEN2, "max_window_layers": 24, "tie_word_embeddings": True, "transformers_version": "4.40.1"},
        settings=_QWEN_SETTINGS,
        generation=_QWEN_GENERATION,
        files={"merges.txt": "", "vocab.json": {}},
        rows_beyond=270,
        prompt=_CHATML_PROMPT,
        known_as="chatml",
        ends=("<|im_end|>", "<|endoftext|>"),
        normalizes=True,
    ),
    "Qwen2.5-7B-Instruct": Model(
        tokenizer=_qwen,
        config={**_QWEN2, "max_window_layers": 28, "sliding_window": 131072},
        settings={**_QWEN_SETTINGS, "chat_template": TOOLS + CHATML},
        generation=_QWEN_GENERATION,
        shards=4,
        rows_beyond=270,
        prompt=_CHATML_PROMPT,
        ends=("<|im_end|>", "<|endoftext|>"),
        normalizes=True,
    ),
    "Qwen3-0.6B": Model(
        tokenizer=lambda: _qwen("<tool_response>", "</tool_response>", "<think>", "</think>"),
        config=_QWEN3,
        settings={**_QWEN_SETTINGS, "chat_template": TOOLS + CHATML},
        generation=_QWEN_GENERATION,
        rows_beyond=270,
        prompt=_CHATML_PROMPT,
        ends=("<|im_end|>", "<|endoftext|>"),
        normalizes=True,
    ),
    "DeepSeek-R1-Distill-Qwen-1.5B": Model(
        tokenizer=lambda: byte_bpe(
            "qwen",
            last=("<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
            "<｜begin▁of▁sentence｜>", "<|EOT|>", "<think>",
            "</think>"),
            plain=("<｜User｜>", "<｜Assistant｜>", "<|EOT|>", "<think>", "</think>"),
            before="<｜begin▁of▁sentence｜>",
            **_NFC,
        ),
        config={
            **_QWEN2, "bos_token_id": "<｜begin▁of▁sentence｜>", "eos_token_id": "<｜end▁of▁sentence｜>",
            "rope_theta": 10000, "max_position_embeddings": 131072, "use_mrope": False, "sliding_window": 4096,
        },
        settings={
            "add_bos_token": True, "add_eos_token": False,
            "bos_token": added("<｜begin▁of▁sentence｜>", normalized=True),
            "eos_token": added("<｜end▁of▁sentence｜>", normalized=True), "legacy": True, "model_max_length": 16384,
            "pad_token": added("<｜end▁of▁sentence｜>", normalized=True), "sp_model_kwargs": {}, "unk_token": None,
            "tokenizer_class": "LlamaTokenizerFast",
            "chat_template": turns("<｜User｜>¶", "<｜Assistant｜>¶{{ eos_token }}", "<｜Assistant｜>", system="¶"),
        },
        generation={"bos_token_id": "<｜begin▁of▁sentence｜>",
        "eos_token_id": "<｜end▁of▁sentence｜>", "do_sample": True},
        rows_beyond=200,
        prompt="<｜begin▁of▁sentence｜><｜User｜>Where are the boats?<｜Assistant｜><think>\n",
        ends=("<｜end▁of▁sentence｜>",),
        normalizes=True,
    ),
}  # fmt: skip

# Command R.

_TURNS: Final = (
    "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|YES_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
)  # fmt: skip
_COHERE_CHAT: Final = turns(
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>¶<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>¶<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    system="<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>¶<|END_OF_TURN_TOKEN|>",
)
_COHERE: Final = {
    **SIZES, "architectures": ["CohereForCausalLM"], "model_type": "cohere", "attention_bias": False,
    "attention_dropout": 0.0, "bos_token_id": "<BOS_TOKEN>", "eos_token_id": "<|END_OF_TURN_TOKEN|>",
    "hidden_act": "silu", "initializer_range": 0.02, "layer_norm_eps": 1e-05, "logit_scale": 0.0625,
    "max_position_embeddings": 8192, "model_max_length": 131072, "num_key_value_heads": 4, "pad_token_id": "<PAD>",
    "rope_theta": 8000000.0, "torch_dtype": "float16", "transformers_version": "4.38.2", "use_cache": True,
}  # fmt: skip
_COHERE_SETTINGS: Final = {
    "add_bos_token": True, "add_eos_token": False, "bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>",
    "clean_up_tokenization_spaces": False, "legacy": True, "merges_file": None, "model_max_length": NO_LIMIT,
    "pad_token": "<PAD>", "sp_model_kwargs": {}, "spaces_between_special_tokens": False,
    "tokenizer_class": "CohereTokenizer", "unk_token": None, "use_default_system_prompt": False, "vocab_file": None,
    "chat_template": [
        {"name": "default", "template": _COHERE_CHAT}, {"name": "tool_use", "template": "{{ tools }}"},
        {"name": "rag", "template": "{{ documents }}"},
    ],
}  # fmt: skip
_COHERE_GENERATION: Final = {
    "bos_token_id": "<BOS_TOKEN>",
    "eos_token_id": "<|END_OF_TURN_TOKEN|>",
    "pad_token_id": "<PAD>",
}
_COHERE_PROMPT: Final = (
    "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Where are the boats?<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
)


def _cohere() -> Any:
    first = ("<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>", "<EOP_TOKEN>")
    return byte_bpe("command-r", first, _TURNS, plain=_TURNS, before="<BOS_TOKEN>", **_NFC)


COMMANDS: Final = {
    "c4ai-command-r-v01": Model(
        tokenizer=_cohere,
        config=_COHERE,
        settings=_COHERE_SETTINGS,
        generation=_COHERE_GENERATION,
        shards=3,
        prompt=_COHERE_PROMPT,
        known_as="command-r",
        ends=("<|END_OF_TURN_TOKEN|>",),
        normalizes=True,
    ),
    "c4ai-command-r7b-12-2024": Model(
        tokenizer=_cohere,
        config={
            **{name: value for name, value in _COHERE.items() if name != "model_max_length"},
            "_name_or_path": "/home/ahmet_cohere_com/HF_Final_weight_tie", "architectures": ["Cohere2ForCausalLM"],
            "cache_implementation": "hybrid", "head_dim": 16, "layer_switch": 4, "logit_scale": 0.25,
            "model_type": "cohere2", "num_key_value_heads": 2, "order_of_interleaved_layers": "local_attn_first",
            "position_embedding_type": "rope_gptj", "rope_scaling": None, "rope_theta": 50000, "rotary_pct": 1.0,
            "sliding_window": 4096, "torch_dtype": "bfloat16", "transformers_version": "4.48.0.dev0",
            "use_embedding_sharing": True, "use_gated_activation": True, "use_parallel_block": True,
            "use_parallel_embedding": False, "num_hidden_layers": 4,
        },
        settings={**_COHERE_SETTINGS, "chat_template": TOOLS + _COHERE_CHAT},
        generation=_COHERE_GENERATION,
        shards=2,
        prompt=_COHERE_PROMPT,
        ends=("<|END_OF_TURN_TOKEN|>",),
        normalizes=True,
    ),
}  # fmt: skip
