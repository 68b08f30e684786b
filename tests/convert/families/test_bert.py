"""BERT and DistilBERT: the same vectors as transformers', and what is said of files that will not do."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import transformers
from convert.encoders import (
    GELU_TOLERANCE,
    MEAN,
    SHAPE,
    assert_converts_alike,
    gguf_vectors,
    reference_vectors,
    saved_encoder,
    token_ids,
)
from convert.reference import convert
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from ollama_nb.convert.errors import ConvertError

HEADLESS, MASKED = transformers.AutoModel, transformers.AutoModelForMaskedLM


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny BERT that nobody changes."""
    folder = tmp_path_factory.mktemp("bert")
    model = saved_encoder(folder, transformers.BertConfig(**SHAPE))
    return folder, model


@pytest.fixture
def folder(saved, tmp_path):
    """Its files, to be spoiled."""
    return shutil.copytree(saved[0], tmp_path / "model")


def change_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def fields(path):
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


@pytest.mark.parametrize("kind", [HEADLESS, MASKED, transformers.AutoModelForPreTraining])
def test_berts_vectors_are_those_of_transformers_with_a_head_on_top_or_without(tmp_path, kind):
    model = saved_encoder(tmp_path, transformers.BertConfig(**SHAPE), kind)
    assert_converts_alike(tmp_path, model, GELU_TOLERANCE)


@pytest.mark.parametrize("kind", [HEADLESS, MASKED])
def test_distilberts_vectors_are_those_of_transformers(tmp_path, kind):
    config = transformers.DistilBertConfig(
        vocab_size=300, dim=64, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=64
    )
    assert_converts_alike(tmp_path, saved_encoder(tmp_path, config, kind), GELU_TOLERANCE)


def test_the_names_that_norms_had_in_the_first_checkpoints_are_known(saved, folder):
    def age(tensors):
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        return {name.replace(end, old[end]) if (end := ".".join(name.split(".")[-2:])) in old else name: tensor
                for name, tensor in tensors.items()}  # fmt: skip

    change_tensors(folder, age)
    assert convert(folder, folder / "old.gguf").read_bytes() == convert(saved[0], folder / "new.gguf").read_bytes()


def test_the_header_says_what_llama_cpp_and_ollama_ask_for(saved, tmp_path):
    found = fields(convert(saved[0], tmp_path / "model.gguf"))
    assert found["general.architecture"] == "bert"
    assert {name.removeprefix("bert."): value for name, value in found.items() if name.startswith("bert.")} == {
        "vocab_size": 300,
        "context_length": 64,
        "embedding_length": 64,
        "block_count": 2,
        "feed_forward_length": 96,
        "attention.head_count": 4,
        "attention.layer_norm_epsilon": pytest.approx(1e-12),
        "attention.causal": False,
        "pooling_type": MEAN,
        "normalize_embeddings": False,
    }
    assert found["tokenizer.ggml.token_type_count"] == 2


@pytest.mark.parametrize(("type_name", "least"), [("F16", 0.9999), ("BF16", 0.999)])
def test_fewer_bits_turn_the_vectors_by_little(saved, tmp_path, type_name, least):
    path = convert(saved[0], tmp_path / "model.gguf", type_name)
    tokens = token_ids(17)
    ours, theirs = gguf_vectors(path, tokens), reference_vectors(saved[1], tokens)
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() >= least


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_attention_heads": 5}, "64 numbers cannot be divided among 5 heads"),
        ({"num_attention_heads": 0}, '"num_attention_heads" must be a whole number from 1'),
        ({"num_attention_heads": ...}, '"num_attention_heads" is missing'),
        ({"hidden_size": 32}, r"token_embd.weight has the shape \[300, 64\], but config.json says \[300, 32\]"),
        ({"hidden_size": "64"}, '"hidden_size" must be a whole number'),
        ({"num_hidden_layers": 3}, "layer 2 has no"),
        ({"num_hidden_layers": 1}, "layer"),
        ({"intermediate_size": 95}, r"blk.0.ffn_up.weight has the shape \[96, 64\], but config.json says \[95, 64\]"),
        ({"intermediate_size": -1}, '"intermediate_size" must be a whole number'),
        ({"max_position_embeddings": 32}, "no table of 32 positions"),
        ({"max_position_embeddings": 10**12}, '"max_position_embeddings" must be a whole number'),
        ({"layer_norm_eps": -1e-12}, "epsilon of the norms is negative"),
        ({"layer_norm_eps": "small"}, '"layer_norm_eps" must be a number'),
        ({"hidden_act": "relu"}, "the activation 'relu' is none that llama.cpp has"),
        ({"hidden_act": 7}, '"hidden_act" must be a text'),
        ({"position_embedding_type": "relative_key"}, "'relative_key' positions are none that llama.cpp has"),
        ({"is_decoder": True}, "the model is a decoder"),
        ({"is_decoder": "yes"}, '"is_decoder" must be true or false'),
    ],
    ids=repr,
)
def test_a_config_that_does_not_fit_is_refused_with_what_is_wrong_in_it(folder, changes, text):
    change_config(folder, **changes)
    with pytest.raises(ConvertError, match=text):
        convert(folder, folder / "model.gguf")


def without(name):
    return lambda tensors: {other: tensor for other, tensor in tensors.items() if other != name}


def with_tensor(name, *shape):
    return lambda tensors: {**tensors, name: np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (without("embeddings.word_embeddings.weight"), "no token embedding"),
        (without("embeddings.position_embeddings.weight"), "no table of 64 positions"),
        (without("encoder.layer.1.output.dense.bias"), "layer 1 has no ffn_down.bias"),
        (with_tensor("embeddings.word_embeddings.weight", 300, 63), r"\[300, 63\], but config.json says \[300, 64\]"),
        (with_tensor("embeddings.word_embeddings.weight", 300), r"\[300\], but config.json says \[300, 64\]"),
        (with_tensor("embeddings.position_embeddings.weight", 64), r"\[64\], but config.json says \[64, 64\]"),
        (with_tensor("embeddings.token_type_embeddings.weight", 2, 1), r"\[2, 1\], but config.json says \[2, 64\]"),
        (with_tensor("encoder.layer.0.attention.self.distance.weight", 2, 2), "does not belong to an architecture"),
        (with_tensor("encoder.layer.0.output.dense.weight", 64, 96, 1), "shape"),
        (with_tensor("bert.embeddings.LayerNorm.bias", 64), "token_embd_norm.bias stands in the files under two names"),
        (with_tensor("encoder.layer.7.output.dense.bias", 64), "layer"),
    ],
    ids=range(11),
)
def test_tensors_that_do_not_fit_are_refused_with_what_is_wrong(folder, change, text):
    change_tensors(folder, change)
    with pytest.raises(ConvertError, match=text):
        convert(folder, folder / "model.gguf")


_JSON = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just([]), st.just({}), st.just([[{}]])
)
_NAMES = (
    "architectures", "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "layer_norm_eps",
    "max_position_embeddings", "hidden_act", "position_embedding_type", "is_decoder", "pad_token_id", "text_config",
    "type_vocab_size", "rope_parameters",
)  # fmt: skip


@given(changes=st.dictionaries(st.sampled_from(_NAMES), _JSON, min_size=1, max_size=3))
def test_whatever_a_config_says_it_is_converted_or_refused(saved, tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("any")
    for file in saved[0].iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((saved[0] / "config.json").read_text()) | changes
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    try:
        convert(folder, folder / "model.gguf")
    except ConvertError as error:
        assert error.message  # noqa: PT017 - refusing is one of two good ends
