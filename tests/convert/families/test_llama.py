"""Llama and Mistral: the same logits from llama.cpp as from transformers, and errors for files that will not do."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from convert.decoders import (
    HOSTILE,
    SHAPE,
    TOLERANCE,
    WINDOW,
    as_transformers_4,
    assert_all_tensors_needed,
    assert_converts_alike,
    assert_matters,
    converted,
    fields_of,
    notes_of,
    refusal,
    rewrite,
    saved_decoder,
    stored_tensors,
    tokens_of,
)
from convert.halves import HALVES, assert_halves_agree, bits
from convert.reference import assert_same_logits, gguf_logits, reference_logits
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, MistralConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ollama_nb.convert.config import Config
from ollama_nb.convert.families.llama import interleave_rotary
from ollama_nb.convert.families.rope import llama3_factors

ORIGINAL = 32
"""Tokens of the length before scaling: far less than the text that is compared has."""

LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL, "rope_theta": 10_000.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": ORIGINAL, "rope_theta": 500_000.0,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
PLAIN = {"rope_type": "default", "rope_theta": 10_000.0}


def llama(**fields: Any) -> LlamaConfig:
    return LlamaConfig(**{**SHAPE, "num_hidden_layers": 2, **fields})


def mistral(**fields: Any) -> MistralConfig:
    return MistralConfig(**{**SHAPE, "num_hidden_layers": 2, "sliding_window": None, **fields})


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(llama(), id="grouped queries"),
        pytest.param(llama(num_key_value_heads=4), id="as many heads of keys as of queries"),
        pytest.param(llama(num_key_value_heads=1), id="one head of keys"),
        pytest.param(llama(tie_word_embeddings=True), id="embedding as output"),
        pytest.param(llama(attention_bias=True), id="biases of attention"),
        pytest.param(llama(mlp_bias=True), id="biases of the feed-forward network"),
        pytest.param(llama(attention_bias=True, mlp_bias=True, head_dim=24), id="all biases, heads of their own width"),
        pytest.param(llama(num_hidden_layers=11, intermediate_size=32), id="more than ten layers"),
        pytest.param(llama(rms_norm_eps=0.1), id="another epsilon"),
        pytest.param(llama(rope_parameters={**PLAIN, "rope_theta": 123.0}), id="another base of positions"),
        pytest.param(llama(rope_parameters=LINEAR), id="linear"),
        pytest.param(llama(rope_parameters=DYNAMIC), id="dynamic, before its length"),
        pytest.param(llama(rope_parameters=YARN), id="yarn"),
        pytest.param(llama(rope_parameters={**YARN, "attention_factor": 1.7}), id="yarn with its own strength"),
        pytest.param(llama(rope_parameters={**YARN, "mscale": 0.7, "mscale_all_dim": 1.5}), id="yarn with two scales"),
        pytest.param(llama(rope_parameters={**YARN, "mscale": 0.7}), id="yarn with one scale, which does not count"),
        pytest.param(llama(rope_parameters={**YARN, "factor": 1.0}), id="yarn that does nothing"),
        pytest.param(llama(rope_parameters=LLAMA3), id="Llama 3.1"),
        pytest.param(llama(rope_parameters=LLAMA3, head_dim=32, tie_word_embeddings=True), id="Llama 3.2"),
        pytest.param(mistral(), id="Mistral"),
        pytest.param(mistral(head_dim=40), id="Mistral Nemo"),
        pytest.param(mistral(rope_parameters=YARN), id="Mistral with yarn"),
    ],
)
def test_logits_are_those_of_transformers(tmp_path, config):
    model = saved_decoder(tmp_path, config)
    assert len(tokens_of(tmp_path)) > 3 * ORIGINAL
    assert_converts_alike(tmp_path, model)


@pytest.mark.parametrize("scaling", [LINEAR, YARN, {**YARN, "attention_factor": 1.7}, LLAMA3])
def test_scaling_shows_in_what_is_compared(tmp_path, scaling):
    model = saved_decoder(tmp_path, llama(rope_parameters=scaling))
    # Only the numbers of the first token are the same: it stands at 0.
    begin = 1 if scaling["rope_type"] != "llama3" else 0
    theirs = reference_logits(model, tokens_of(tmp_path))
    rewrite(tmp_path, rope_parameters={**PLAIN, "rope_theta": scaling["rope_theta"]})
    ours = gguf_logits(converted(tmp_path), tokens_of(tmp_path))
    assert (abs(ours - theirs).max(axis=1)[begin + ORIGINAL :] > 10 * TOLERANCE * theirs.std()).all()


@settings(max_examples=12)
@given(groups=st.integers(1, 3), heads_kv=st.integers(1, 3), pairs=st.integers(1, 20), bias=st.booleans())
def test_heads_of_any_number_and_width_agree(tmp_path_factory, groups, heads_kv, pairs, bias):
    folder = tmp_path_factory.mktemp("heads")
    config = llama(
        hidden_size=72,
        num_attention_heads=groups * heads_kv,
        num_key_value_heads=heads_kv,
        head_dim=2 * pairs,
        attention_bias=bias,
    )
    assert_converts_alike(folder, saved_decoder(folder, config))


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 3))
def test_pairs_are_the_two_halves_of_each_head(heads, half, columns):
    rows = np.arange(heads * 2 * half).repeat(max(1, columns)).reshape(-1, *((columns,) if columns else ()))
    pairs = interleave_rotary(heads)(rows).reshape(heads, half, 2, -1)
    halves = rows.reshape(heads, 2, half, -1)
    np.testing.assert_array_equal(pairs[:, :, 0], halves[:, 0])
    np.testing.assert_array_equal(pairs[:, :, 1], halves[:, 1])


@given(
    factor=st.floats(1, 64),
    low=st.floats(0.1, 4),
    more=st.floats(0.1, 8),
    length=st.integers(1, 1 << 17),
    theta=st.floats(1.1, 1e7),
    pairs=st.integers(1, 64),
)
def test_factors_of_llama_3_are_by_what_transformers_divides(*, factor, low, more, length, theta, pairs):
    values = {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": low + more,
        "original_max_position_embeddings": length, "rope_theta": theta,
    }  # fmt: skip
    config = LlamaConfig(**{**SHAPE, "max_position_embeddings": 1 << 18, "head_dim": 2 * pairs})
    config.rope_parameters = dict(values)
    scaled, strength = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = theta ** -(np.arange(0, 2 * pairs, 2) / (2 * pairs))
    ours = llama3_factors(Config({"rope_parameters": values, "max_position_embeddings": 1 << 18}), 2 * pairs, theta)
    assert strength == 1
    np.testing.assert_allclose(plain / ours, scaled.double().numpy(), rtol=2e-4)


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (llama, {"attention_bias": True}),
        (llama, {"rope_parameters": LINEAR}),
        (llama, {"rope_parameters": YARN}),
        (llama, {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
        (mistral, {}),
    ],
)
def test_shards_and_old_config_files_give_the_same_gguf(tmp_path, make, fields):
    saved_decoder(tmp_path / "one", make(**fields))
    saved_decoder(tmp_path / "many", make(**fields), shard="100KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 1
    gguf = converted(tmp_path / "one").read_bytes()
    assert converted(tmp_path / "many").read_bytes() == gguf
    as_transformers_4(tmp_path / "one")
    assert converted(tmp_path / "one").read_bytes() == gguf
    scaling = json.loads((tmp_path / "one" / "config.json").read_text()).get("rope_scaling")
    if scaling:
        scaling["type"] = scaling.pop("rope_type")
        rewrite(tmp_path / "one", rope_scaling=scaling)
        assert converted(tmp_path / "one").read_bytes() == gguf


def test_the_first_llamas_config_is_understood(tmp_path):
    model = saved_decoder(tmp_path, llama(num_key_value_heads=4))
    as_transformers_4(tmp_path, architectures=["LLaMAForCausalLM"], num_key_value_heads=None, head_dim=None)
    rewrite(tmp_path, max_position_embeddings=None, max_sequence_length=512, rope_theta=None, attention_bias=None)
    rewrite(tmp_path, mlp_bias=None, pretraining_tp=None, tie_word_embeddings=None)
    assert fields_of(assert_converts_alike(tmp_path, model))["context_length"] == 512


def test_frequencies_that_old_files_have_as_tensors_are_left_out(tmp_path):
    saved_decoder(tmp_path, llama())
    gguf = converted(tmp_path).read_bytes()
    path = tmp_path / "model.safetensors"
    save_file({**load_file(path), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}, path)
    assert converted(tmp_path).read_bytes() == gguf


def test_an_output_that_is_saved_beside_the_embedding_is_left_out(tmp_path):
    model = saved_decoder(tmp_path, llama(tie_word_embeddings=True))
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, path)
    assert "output.weight" not in stored_tensors(assert_converts_alike(tmp_path, model))


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), HALVES)
@pytest.mark.parametrize("make", [llama, mistral])
def test_sixteen_bits_are_kept_bit_by_bit(tmp_path, make, dtype, kind, tolerance):
    model, tensors = assert_halves_agree(tmp_path, make(), dtype, kind, tolerance)
    layer = model.model.layers[1]
    assert tensors["blk.1.ffn_up.weight"].data.tobytes() == bits(layer.mlp.up_proj.weight, dtype).tobytes()
    query = interleave_rotary(4)(bits(layer.self_attn.q_proj.weight, dtype))
    assert tensors["blk.1.attn_q.weight"].data.tobytes() == query.tobytes()
    norm = layer.post_attention_layernorm.weight.detach().numpy()
    np.testing.assert_array_equal(tensors["blk.1.ffn_norm.weight"].data, norm)


def test_the_header_says_what_config_json_says(tmp_path):
    saved_decoder(tmp_path, llama(head_dim=24, rope_parameters=YARN))
    fields = fields_of(converted(tmp_path))
    said = {name: value for name, value in fields.items() if name.split(".")[0] in {"attention", "rope"}}
    assert said == {
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 24,
        "attention.value_length": 24,
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "rope.dimension_count": 24,
        "rope.freq_base": 10_000.0,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": ORIGINAL,
    }
    assert fields["architecture"] == "llama"
    assert (fields["vocab_size"], fields["context_length"], fields["block_count"]) == (320, 512, 2)
    assert (fields["embedding_length"], fields["feed_forward_length"]) == (64, 96)


@pytest.mark.parametrize(
    "changes",
    [
        {"factor": 3e38},
        {"low_freq_factor": 5e-324, "high_freq_factor": 1e-323},
        {"low_freq_factor": 1.0, "high_freq_factor": 1.0000000000000002},
        {"rope_theta": 3e38, "original_max_position_embeddings": (1 << 31) - 1},
    ],
)
def test_factors_are_finite_however_strange_the_numbers_they_come_from(tmp_path, changes):
    saved_decoder(tmp_path, llama())
    rewrite(tmp_path, rope_parameters={**LLAMA3, **changes})
    factors = stored_tensors(converted(tmp_path))["rope_freqs.weight"].data
    assert (np.isfinite(factors) & (factors >= 1)).all()


def test_a_context_that_yarn_makes_longer_counts_as_that_long(tmp_path):
    saved_decoder(tmp_path, llama())
    rewrite(tmp_path, max_position_embeddings=ORIGINAL, rope_parameters=YARN)
    assert fields_of(converted(tmp_path))["context_length"] == 4 * ORIGINAL
    rewrite(tmp_path, rope_parameters={**YARN, "factor": 1e30})
    assert fields_of(converted(tmp_path))["context_length"] == (1 << 31) - 1


def test_mistrals_window_is_not_kept_and_that_is_said(tmp_path):
    model = saved_decoder(tmp_path, mistral(sliding_window=WINDOW))
    (note,) = notes_of(tmp_path)
    assert f"after {WINDOW} tokens" in note
    tokens = tokens_of(tmp_path)
    ours, theirs = gguf_logits(converted(tmp_path), tokens), reference_logits(model, tokens)
    assert_same_logits(ours[:WINDOW], theirs[:WINDOW], TOLERANCE)
    assert abs(ours[WINDOW + 1 :] - theirs[WINDOW + 1 :]).max() > 0.1 * theirs.std()
    for window in (512, None):
        rewrite(tmp_path, sliding_window=window)
        assert notes_of(tmp_path) == []


def test_dynamic_positions_end_with_the_length_that_they_begin_at(tmp_path):
    saved_decoder(tmp_path, llama(rope_parameters=DYNAMIC))
    (note,) = notes_of(tmp_path)
    assert "after 512 tokens (dynamic)" in note
    assert fields_of(converted(tmp_path))["context_length"] == 512


def test_another_epsilon_shows(tmp_path):
    assert_matters(tmp_path, saved_decoder(tmp_path, llama(rms_norm_eps=0.1)), rms_norm_eps=1e-6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A Llama with everything that one can have."""
    folder = tmp_path_factory.mktemp("whole")
    saved_decoder(folder, llama(attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3))
    return folder


@pytest.fixture
def folder(whole):
    """The same, with the files that it had before."""
    before = {path: path.read_bytes() for path in (whole / "config.json", whole / "model.safetensors")}
    yield whole
    for path, content in before.items():
        path.write_bytes(content)


def change_tensors(folder, **changes):
    path = folder / "model.safetensors"
    save_file({**load_file(path), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}, path)


def test_no_tensor_may_be_missing_or_misshapen(folder):
    assert_all_tensors_needed(folder)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("model.layers.2.input_layernorm.weight", (64,), "there is a layer 2|does not belong"),
        ("model.layers.1.self_attn.q_norm.weight", (16,), "does not belong"),
        ("model.layers.1.self_attn.sinks", (4,), "does not belong"),
        ("model.layers.1.mlp.experts.0.up_proj.weight", (96, 64), "does not belong"),
        ("model.layers.01.input_layernorm.weight", (64,), "does not belong"),
        ("layers.1.input_layernorm.weight", (64,), "twice|two tensors|has once"),
        ("lm_head.bias", (320,), "does not belong"),
        ("score.weight", (2, 64), "does not belong"),
        ("layers.0.attention.wq.weight", (64, 64), "a name of the checkpoint"),
        ("tok_embeddings.weight", (320, 64), "a name of the checkpoint"),
    ],
)
def test_a_tensor_too_many_is_refused(folder, name, shape, reason):
    change_tensors(folder, **{name: torch.ones(shape)})
    assert re.search(reason, refusal(folder))


def test_biases_that_config_json_does_not_know_are_refused(folder):
    rewrite(folder, mlp_bias=False)
    assert "ffn_gate.bias" in refusal(folder) or "ffn_down.bias" in refusal(folder)
    rewrite(folder, mlp_bias=True, attention_bias=None)
    assert ".bias" in refusal(folder)


SCALED = [(changes, reason) for changes, reason in (
    ({"rope_type": "longrope"}, "'longrope' positions"),
    ({"rope_type": "proportional"}, "'proportional' positions"),
    ({"rope_type": 1}, "a text"),
    ({"rope_theta": 1}, "more than 1"),
    ({"rope_theta": 1e39}, "a number"),
    ({"rope_theta": float("nan")}, "a number"),
    ({"partial_rotary_factor": 0.5}, "whole heads"),
    ({"rope_type": "linear", "factor": None}, "missing"),
    ({"rope_type": "linear", "factor": 0}, "more than 0"),
    ({"rope_type": "linear", "factor": "8"}, "a number"),
    ({"rope_type": "yarn", "factor": 0.5}, "1 at least"),
    ({"rope_type": "yarn", "factor": 10**400}, "a number"),
    ({"rope_type": "yarn", "beta_fast": 16}, "beta_fast"),
    ({"rope_type": "yarn", "beta_slow": 2}, "beta_slow"),
    ({"rope_type": "yarn", "truncate": False}, "truncate"),
    ({"rope_type": "yarn", "attention_factor": 0}, "more than 0"),
    ({"rope_type": "yarn", "original_max_position_embeddings": 0}, "a whole number from 1"),
    ({"rope_type": "yarn", "original_max_position_embeddings": 64.0}, "a whole number from 1"),
    ({"factor": 0.5}, "1 at least"),
    ({"factor": None}, "missing"),
    ({"low_freq_factor": 0}, "more than 0"),
    ({"low_freq_factor": 4.0}, "more than that"),
    ({"high_freq_factor": None}, "missing"),
    ({"original_max_position_embeddings": -1}, "a whole number from 1"),
)]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), SCALED)
def test_positions_that_cannot_be_right_are_refused(folder, changes, reason):
    rope = {name: value for name, value in {**LLAMA3, **changes}.items() if value is not None}
    rewrite(folder, rope_parameters=rope)
    assert reason in refusal(folder)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *[case for case in HOSTILE if "dynamic" not in case[2]],
        ("head_dim", 0, "a whole number from 1"),
        ("head_dim", 15, "cannot be rotated"),
        ("head_dim", 32, "shape"),
        ("head_dim", 1 << 30, "a whole number from 1"),
        ("rms_norm_eps", "1e-6", "a number"),
        ("rms_norm_eps", -1.0, "less than 0"),
        ("rms_norm_eps", None, "missing"),
        ("attention_bias", 1, "true or false"),
        ("is_causal", False, "cannot write text"),
        ("architectures", ["LlamaForSequenceClassification"], "unsupported architecture"),
    ],
)
def test_config_files_that_cannot_be_right_are_refused(folder, name, value, reason):
    rewrite(folder, **{name: value})
    assert re.search(reason, refusal(folder))
