"""Models that make vectors, as they lie on the hub: BERT and its kin, and decoders that were made to embed."""

from __future__ import annotations

from typing import Any, Final

import transformers
from convert.published import CHATML, SIZES, Model
from convert.published_decoders import QWENS
from convert.published_llamas import MISTRALS
from convert.published_tokenizers import around, roberta, sentencepiece_bpe, unigram, word_pieces

_SIZES: Final = {
    **{name: value for name, value in SIZES.items() if name != "num_key_value_heads"}, "max_position_embeddings": 64,
}  # fmt: skip


def sentence_transformer(pooling: str, *, normalizes: bool = True, limit: int = 64, **files: Any) -> dict[str, Any]:
    """The files that sentence-transformers adds; ``pooling`` is ``cls``, ``mean`` or ``lasttoken``."""
    names = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "sqrt": "mean_sqrt_len_tokens"}
    chosen = {f"pooling_mode_{long}": short == pooling for short, long in names.items()}
    if pooling == "lasttoken":
        chosen |= {"pooling_mode_weightedmean_tokens": False, "pooling_mode_lasttoken": True, "include_prompt": True}
    steps = [("Transformer", ""), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] if normalizes else [])]
    kinds = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(steps)
    ]
    return {
        "modules.json": kinds,
        "1_Pooling/config.json": {"word_embedding_dimension": 64, **chosen},
        "sentence_bert_config.json": {"max_seq_length": limit, "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.2.2"}},
        **files,
    }


_BERT: Final = {
    **_SIZES, "architectures": ["BertModel"], "model_type": "bert", "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None, "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": "[PAD]", "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": True,
}  # fmt: skip
_BERT_SETTINGS: Final = {
    "clean_up_tokenization_spaces": True, "cls_token": "[CLS]", "do_basic_tokenize": True, "do_lower_case": True,
    "mask_token": "[MASK]", "model_max_length": 512, "never_split": None, "pad_token": "[PAD]", "sep_token": "[SEP]",
    "strip_accents": None, "tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer", "unk_token": "[UNK]",
}  # fmt: skip
_MARKS: Final = {
    "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]",
}  # fmt: skip
_OTHERS: Final = {
    "pytorch_model.bin": b"PK\x03\x04 not read", "tf_model.h5": b"\x89HDF", "flax_model.msgpack": b"",
    "rust_model.ot": b"", "onnx/model.onnx": b"", "onnx/config.json": {}, "onnx/tokenizer.json": {},
    "openvino/openvino_model.xml": "", "coreml/fill-mask/float32_model.mlpackage/Manifest.json": {},
}  # fmt: skip
"""The same weights for other programs."""

_POSITIONS: Final = {"embeddings.position_ids": (1, 64)}
_HEADS: Final = {
    "cls.predictions.bias": (709,), "cls.predictions.transform.LayerNorm.beta": (64,),
    "cls.predictions.transform.dense.weight": (64, 64), "cls.seq_relationship.weight": (2, 64),
}  # fmt: skip
_UNDER_BERT: Final = (
    (r"^", "bert."),
    (r"LayerNorm\.weight$", "LayerNorm.gamma"),
    (r"LayerNorm\.bias$", "LayerNorm.beta"),
)

_NOMIC: Final = {
    "_name_or_path": "/root/contrastors/ckpts/epoch_0_model", "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0, "auto_map": {
        "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
    },
    "bos_token_id": None, "causal": False, "dense_seq_output": True, "embd_pdrop": 0.0, "eos_token_id": None,
    "fused_bias_fc": True, "fused_dropout_add_ln": True, "initializer_range": 0.02, "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "model_type": "nomic_bert",
    "n_embd": 64, "n_head": 4, "n_inner": 96, "n_layer": 2, "n_positions": 8192, "pad_vocab_size_multiple": 64,
    "parallel_block": False, "parallel_block_tied_norm": False, "prenorm": False, "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False, "resid_pdrop": 0.0, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "summary_activation": None,
    "summary_first_dropout": 0.0, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "torch_dtype": "float32", "transformers_version": "4.37.2", "type_vocab_size": 2,
    "use_cache": True, "use_flash_attn": True, "use_rms_norm": False, "use_xentropy": True,
}  # fmt: skip
_XLMR: Final = {
    **_SIZES, "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "attention_probs_dropout_prob": 0.1,
    "bos_token_id": "<s>", "classifier_dropout": None, "eos_token_id": "</s>", "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-05, "max_position_embeddings": 66,
    "output_past": True, "pad_token_id": "<pad>", "position_embedding_type": "absolute", "torch_dtype": "float32",
    "transformers_version": "4.33.0", "type_vocab_size": 1, "use_cache": True,
}  # fmt: skip
_XLMR_SETTINGS: Final = {
    "bos_token": "<s>", "clean_up_tokenization_spaces": True, "cls_token": "<s>", "eos_token": "</s>",
    "mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "normalized": True, "rstrip": False},
    "model_max_length": 8192, "pad_token": "<pad>", "sep_token": "</s>", "sp_model_kwargs": {},
    "tokenizer_class": "XLMRobertaTokenizer", "unk_token": "<unk>",
}  # fmt: skip


def _bert(**changes: Any) -> Model:
    usual = {
        "tokenizer": word_pieces, "config": _BERT, "settings": _BERT_SETTINGS, "specials": _MARKS,
        "kind": transformers.AutoModel, "extra": _POSITIONS, "prompt": "Where are the boats?",
    }  # fmt: skip
    return Model(**{**usual, **changes})


def _xlmr(**changes: Any) -> Model:
    usual = {
        "tokenizer": unigram, "config": _XLMR, "settings": _XLMR_SETTINGS, "kind": transformers.AutoModel,
        "prompt": "query: Where are the boats?",
    }  # fmt: skip
    return Model(**{**usual, **changes})


def _embedding_qwen() -> Any:
    made = QWENS["Qwen3-0.6B"].tokenizer()
    first, *_ = made.json["post_processor"].get("processors", [made.json["post_processor"]])
    frame = around(made.ids, None, "<|endoftext|>")
    made.json["post_processor"] = {"type": "Sequence", "processors": [first, frame]}
    return made


ENCODERS: Final = {
    "bert-base-uncased": _bert(
        config={**_BERT, "architectures": ["BertForMaskedLM"]},
        settings={"do_lower_case": True, "model_max_length": 512},
        specials=None,
        renamed=_UNDER_BERT,
        extra=_HEADS,
        files=_OTHERS,
    ),
    "bert-base-cased": _bert(
        tokenizer=lambda: word_pieces(lowercase=False),
        config={**_BERT, "architectures": ["BertForMaskedLM"]},
        settings={"do_lower_case": False, "model_max_length": 512},
        specials=None,
        renamed=_UNDER_BERT,
        files=_OTHERS,
    ),
    "all-MiniLM-L12-v2": _bert(
        tokenizer=lambda: word_pieces(cuts=32),
        config={**_BERT, "_name_or_path": "microsoft/MiniLM-L12-H384-uncased"},
        files={**_OTHERS, **sentence_transformer("mean", limit=32), "data_config.json": []},
    ),
    "bge-small-en-v1.5": _bert(
        config={**_BERT, "_name_or_path": "/root/.cache/torch/BAAI_bge-small-en/", "id2label": {"0": "LABEL_0"}},
        files={**_OTHERS, **sentence_transformer("cls")},
    ),
    "e5-base-v2": _bert(files={**_OTHERS, **sentence_transformer("mean")}),
    "snowflake-arctic-embed-m": _bert(files=sentence_transformer("cls")),
    "gte-base": _bert(config={**_BERT, "torch_dtype": "float16"}, files=sentence_transformer("mean")),
    "multilingual-e5-small": _bert(
        tokenizer=unigram,
        config={**_BERT, "pad_token_id": 0, "tokenizer_class": "XLMRobertaTokenizer"},
        settings=_XLMR_SETTINGS,
        specials=None,
        rows_beyond=35,
        files={**_OTHERS, **sentence_transformer("mean")},
    ),
    "multilingual-e5-large": _xlmr(files={**_OTHERS, **sentence_transformer("mean")}),
    "bge-m3": _xlmr(
        tokenizer=lambda: unigram(splits=False),
        files={
            **_OTHERS,
            **sentence_transformer("cls"),
            "colbert_linear.pt": b"PK\x03\x04",
            "sparse_linear.pt": b"PK\x03\x04",
            "onnx/sentencepiece.bpe.model": b"",
            "imgs/bm25.jpg": b"",
        },
    ),
    "all-distilroberta-v1": _xlmr(
        tokenizer=roberta,
        config={**_XLMR, "architectures": ["RobertaModel"], "model_type": "roberta"},
        settings={
            **{name: value for name, value in _XLMR_SETTINGS.items() if name != "sp_model_kwargs"},
            "add_prefix_space": False,
            "errors": "replace",
            "tokenizer_class": "RobertaTokenizer",
            "trim_offsets": True,
        },
        files={**_OTHERS, **sentence_transformer("mean"), "merges.txt": "", "vocab.json": {}},
        extra=_POSITIONS,
    ),
    "distilbert-base-uncased": _bert(
        config={
            "activation": "gelu",
            "architectures": ["DistilBertForMaskedLM"],
            "attention_dropout": 0.1,
            "dim": 64,
            "dropout": 0.1,
            "hidden_dim": 96,
            "initializer_range": 0.02,
            "max_position_embeddings": 64,
            "model_type": "distilbert",
            "n_heads": 4,
            "n_layers": 2,
            "pad_token_id": "[PAD]",
            "qa_dropout": 0.1,
            "seq_classif_dropout": 0.2,
            "sinusoidal_pos_embds": False,
            "tie_weights_": True,
            "transformers_version": "4.10.0.dev0",
        },
        settings={"do_lower_case": True, "model_max_length": 512},
        specials=None,
        renamed=((r"^", "distilbert."),),
        extra={"vocab_layer_norm.bias": (64,), "vocab_projector.bias": (709,), "vocab_transform.weight": (64, 64)},
        files=_OTHERS,
    ),
    "nomic-embed-text-v1.5": _bert(
        config=_NOMIC,
        reference={**_SIZES, "model_type": "nomic_bert", "max_position_embeddings": 2048, "type_vocab_size": 2},
        rows_beyond=6,
        extra={},
        files={**_OTHERS, **sentence_transformer("mean", normalizes=False, limit=8192)},
    ),
    "Qwen3-Embedding-0.6B": Model(
        tokenizer=_embedding_qwen,
        config={**QWENS["Qwen3-0.6B"].config, "eos_token_id": "<|endoftext|>"},
        settings={**QWENS["Qwen3-0.6B"].settings, "eos_token": "<|im_end|>", "chat_template": CHATML},
        generation={"bos_token_id": "<|endoftext|>", "eos_token_id": "<|endoftext|>", "max_new_tokens": 2048},
        kind=transformers.AutoModel,
        files={**sentence_transformer("lasttoken"), "merges.txt": "", "vocab.json": {}},
        prompt="Instruct: find\nQuery:where are the boats",
        normalizes=True,
    ),
    "e5-mistral-7b-instruct": Model(
        tokenizer=lambda: sentencepiece_bpe(behind="</s>"),
        config={
            **MISTRALS["Mistral-7B-Instruct-v0.1"].config,
            "architectures": ["MistralModel"],
            "torch_dtype": "float16",
        },
        settings={**MISTRALS["Mistral-7B-Instruct-v0.1"].settings, "add_eos_token": True, "chat_template": None},
        kind=transformers.AutoModel,
        shards=2,
        files=sentence_transformer("lasttoken"),
        prompt="Instruct: find\nQuery: where are the boats",
    ),
}
"""By name; the last two are decoders."""
