"""Gemma 1 to 3, as they lie on the hub; of the one that sees, what reads and writes text is converted."""

from __future__ import annotations

from typing import Any, Final

import transformers
from convert.published import NO_LIMIT, SIZES, Model, added, turns
from convert.published_tokenizers import GEMMA, mark, sentencepiece_bpe

_GEMMA_CHAT: Final = turns(
    "<start_of_turn>user\n¶<end_of_turn>\n", "<start_of_turn>model\n¶<end_of_turn>\n", "<start_of_turn>model\n",
    system=None,
)  # fmt: skip
_RUNS: Final = ("\n\n", "\n\n\n", "▁▁", "▁▁▁", "▁▁▁▁")
_TAGS: Final = ("<table>", "</table>", "<strong>")
_UNUSED: Final = tuple(f"<unused{number}>" for number in range(3))
_SYMBOLS: Final = ("<mask>", "[multimodal]", *_UNUSED, "<start_of_turn>", "<end_of_turn>", *_RUNS, *_TAGS)
_GEMMA: Final = {
    **SIZES, "architectures": ["GemmaForCausalLM"], "model_type": "gemma", "attention_bias": False,
    "attention_dropout": 0.0, "bos_token_id": "<bos>", "eos_token_id": "<eos>", "pad_token_id": "<pad>",
    "head_dim": 32, "hidden_act": "gelu", "initializer_range": 0.02, "max_position_embeddings": 8192,
    "num_key_value_heads": 1, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000.0,
    "torch_dtype": "bfloat16", "transformers_version": "4.38.0.dev0", "use_cache": True,
}  # fmt: skip
_GEMMA_SETTINGS: Final = {
    "add_bos_token": True, "add_eos_token": False, "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
    "bos_token": "<bos>", "clean_up_tokenization_spaces": False, "eos_token": "<eos>", "legacy": None,
    "model_max_length": NO_LIMIT, "pad_token": "<pad>", "sp_model_kwargs": {}, "spaces_between_special_tokens": False,
    "tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>", "use_default_system_prompt": False,
    "chat_template": _GEMMA_CHAT,
}  # fmt: skip
_GEMMA2: Final = {
    **_GEMMA, "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh", "num_key_value_heads": 2, "query_pre_attn_scalar": 32,
    "sliding_window": 4096, "transformers_version": "4.42.4",
}  # fmt: skip
_GEMMA3: Final = {
    **{name: value for name, value in _GEMMA2.items() if name != "hidden_act"}, "architectures": ["Gemma3ForCausalLM"],
    "attn_logit_softcapping": None, "final_logit_softcapping": None, "eos_token_id": ["<eos>", "<end_of_turn>"],
    "model_type": "gemma3_text", "rope_local_base_freq": 10000, "rope_theta": 1000000, "sliding_window": 512,
    "sliding_window_pattern": 6, "max_position_embeddings": 32768, "transformers_version": "4.50.0.dev0",
    "num_hidden_layers": 7,
}  # fmt: skip
_GEMMA3_SETTINGS: Final = {
    **_GEMMA_SETTINGS, "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>", "processor_class": "Gemma3Processor",
    "extra_special_tokens": {
        "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
    },
}  # fmt: skip
_GEMMA_PROMPT: Final = "<bos><start_of_turn>user\nWhere are the boats?<end_of_turn>\n<start_of_turn>model\n"


def _gemma(*more: dict[str, Any]) -> Any:
    listed = [mark(0, text, special=text not in (*_RUNS, *_TAGS)) for text in _SYMBOLS]
    return sentencepiece_bpe(
        before="<bos>", symbols=_SYMBOLS, added=(*listed, *more), form=GEMMA, add_dummy_prefix=False, pad_id=0,
        eos_id=1,
        bos_id=2, unk_id=3, bos_piece="<bos>", eos_piece="<eos>",
    )  # fmt: skip


GEMMAS: Final = {
    "gemma-2b-it": Model(
        tokenizer=_gemma,
        config=_GEMMA,
        settings=_GEMMA_SETTINGS,
        generation={"bos_token_id": "<bos>", "eos_token_id": "<eos>", "pad_token_id": "<pad>"},
        specials={"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"], "bos_token": added("<bos>")},
        shards=2,
        files={"gemma-2b-it.gguf": b"another form of the same"},
        prompt=_GEMMA_PROMPT,
        known_as="gemma-instruct",
        ends=("<eos>", "<end_of_turn>"),
    ),
    "gemma-2-2b-it": Model(
        tokenizer=_gemma,
        config=_GEMMA2,
        settings=_GEMMA_SETTINGS,
        generation={"bos_token_id": "<bos>", "eos_token_id": ["<eos>", "<end_of_turn>"], "pad_token_id": "<pad>"},
        shards=2,
        prompt=_GEMMA_PROMPT,
        known_as="gemma-instruct",
        ends=("<eos>", "<end_of_turn>"),
    ),
    "gemma-3-1b-it": Model(
        tokenizer=lambda: _gemma(mark(0, "<image_soft_token>")),
        config=_GEMMA3,
        settings=_GEMMA3_SETTINGS,
        generation={"bos_token_id": "<bos>", "eos_token_id": ["<eos>", "<end_of_turn>"], "pad_token_id": "<pad>"},
        rows_beyond=-1,
        files={"added_tokens.json": {"<image_soft_token>": 262144}},
        prompt=_GEMMA_PROMPT,
        known_as="gemma-instruct",
        ends=("<eos>", "<end_of_turn>"),
    ),
    "gemma-3-4b-it": Model(
        tokenizer=lambda: _gemma(mark(0, "<image_soft_token>")),
        config={
            "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 5, "eoi_token_index": 6,
            "eos_token_id": ["<eos>", "<end_of_turn>"], "image_token_index": "<image_soft_token>",
            "initializer_range": 0.02, "mm_tokens_per_image": 4, "model_type": "gemma3", "torch_dtype": "bfloat16",
            "transformers_version": "4.50.0.dev0",
            "text_config": {
                "hidden_size": 64, "intermediate_size": 96, "model_type": "gemma3_text", "num_hidden_layers": 7,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
            },
            "vision_config": {
                "hidden_size": 32, "image_size": 32, "intermediate_size": 48, "model_type": "siglip_vision_model",
                "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 8, "vision_use_head": False,
            },
        },
        settings=_GEMMA3_SETTINGS,
        generation={"bos_token_id": "<bos>", "eos_token_id": ["<eos>", "<end_of_turn>"], "pad_token_id": "<pad>"},
        kind=transformers.AutoModelForImageTextToText,
        renamed=((r"^vision_tower\.", "vision_tower.vision_model."),),
        rows_beyond=3,
        shards=2,
        files={
            "added_tokens.json": {"<image_soft_token>": 262144}, "preprocessor_config.json": {},
            "processor_config.json": {}, "chat_template.json": {"chat_template": _GEMMA_CHAT},
        },
        prompt=_GEMMA_PROMPT,
        known_as="gemma-instruct",
        ends=("<eos>", "<end_of_turn>"),
    ),
}  # fmt: skip
