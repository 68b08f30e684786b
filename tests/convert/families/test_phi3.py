"""Phi-3, Phi-3.5 and Phi-4: the same logits from llama.cpp as from transformers, also beyond the original length."""

from __future__ import annotations

import re
from typing import Any

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
from convert.reference import gguf_logits, reference_logits
from safetensors.torch import load_file, save_file
from transformers import Phi3Config

HALF = 8
"""Pairs of numbers in a head."""

SHORT_OF_TEXT = 64
"""Tokens of an original length that the text of the tests outgrows."""


def phi3(**fields: Any) -> Phi3Config:
    return Phi3Config(**{**SHAPE, "num_hidden_layers": 2, **fields})


def longrope(pairs: int = HALF, **fields: Any) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0 + 0.1 * number for number in range(pairs)],
        "long_factor": [2.0 + 0.7 * number for number in range(pairs)],
        **fields,
    }


def long_phi3(original: int = SHORT_OF_TEXT, pairs: int = HALF, **fields: Any) -> Phi3Config:
    rope = longrope(pairs, **fields.pop("rope", {}))
    return phi3(original_max_position_embeddings=original, rope_parameters=rope, **fields)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(phi3(), id="grouped heads"),
        pytest.param(phi3(num_key_value_heads=4), id="as many heads of keys"),
        pytest.param(phi3(tie_word_embeddings=True), id="tied"),
        pytest.param(phi3(rope_parameters={"rope_type": "default", "rope_theta": 250_000.0}), id="another base"),
        pytest.param(phi3(sliding_window=4096), id="a window longer than all texts"),
        pytest.param(long_phi3(), id="longer than the original"),
        pytest.param(long_phi3(400), id="shorter than the original"),
        pytest.param(long_phi3(rope={"attention_factor": 1.5}), id="attention strengthened as the file says"),
        pytest.param(long_phi3(rope={"factor": 32.0}), id="attention strengthened by a factor"),
        pytest.param(long_phi3(512), id="attention not strengthened"),
        pytest.param(
            long_phi3(pairs=6, rope={"partial_rotary_factor": 0.75}, tie_word_embeddings=True), id="Phi-4 mini"
        ),
        pytest.param(
            phi3(rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
            id="half of a head",
        ),
    ],
)
def test_logits_are_those_of_transformers(tmp_path, config):
    assert_converts_alike(tmp_path, saved_decoder(tmp_path, config))


def test_the_factors_for_long_texts_show(tmp_path):
    model = saved_decoder(tmp_path, long_phi3())
    assert_matters(tmp_path, model, rope_parameters=longrope(long_factor=[1.0] * HALF))


def test_the_strength_of_attention_shows(tmp_path):
    model = saved_decoder(tmp_path, long_phi3())
    assert_matters(tmp_path, model, rope_parameters=longrope(attention_factor=1.5))


def test_the_window_is_left_to_llama_cpp_which_looks_further_and_the_user_is_told(tmp_path):
    model = saved_decoder(tmp_path, phi3(sliding_window=WINDOW))
    (note,) = notes_of(tmp_path)
    assert f"looks back {WINDOW} tokens only" in note
    path, tokens = converted(tmp_path), tokens_of(tmp_path)
    assert fields_of(path)["attention.sliding_window"] == WINDOW
    ours, theirs = gguf_logits(path, tokens), reference_logits(model, tokens)
    assert abs(ours - theirs)[:WINDOW].max() <= TOLERANCE * theirs.std()
    model.config.sliding_window = None
    whole = reference_logits(model, tokens)
    assert abs(ours - whole).max() <= TOLERANCE * whole.std()
    assert abs(whole - theirs)[WINDOW:].max() > 0.1 * whole.std()


@pytest.mark.parametrize("window", [None, 512, 262144])
def test_a_window_that_never_ends_within_the_context_is_not_worth_a_note(tmp_path, window):
    saved_decoder(tmp_path, phi3(sliding_window=window))
    assert notes_of(tmp_path) == []


def test_shards_give_the_same_gguf(tmp_path):
    saved_decoder(tmp_path / "one", long_phi3())
    saved_decoder(tmp_path / "many", long_phi3(), shard="60KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 1
    assert converted(tmp_path / "many").read_bytes() == converted(tmp_path / "one").read_bytes()


@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])
def test_old_config_files_give_the_same_gguf(tmp_path, kind):
    """Longrope had two other names, its key was ``type``, and the original length stood outside."""
    saved_decoder(tmp_path, long_phi3(pairs=6, rope={"partial_rotary_factor": 0.75}))
    gguf = converted(tmp_path).read_bytes()
    as_transformers_4(tmp_path, original_max_position_embeddings=SHORT_OF_TEXT)
    rope = longrope(6)
    scaling = {name: rope[name] for name in ("short_factor", "long_factor")}
    rewrite(tmp_path, rope_scaling={"type": kind, **scaling})
    assert converted(tmp_path).read_bytes() == gguf


def test_a_file_that_does_not_say_the_original_length_means_4096(tmp_path):
    saved_decoder(tmp_path, long_phi3(4096, max_position_embeddings=131072))
    gguf = converted(tmp_path)
    before = gguf.read_bytes()
    assert fields_of(gguf)["rope.scaling.attn_factor"] == pytest.approx(1.1902381)  # as Phi-3.5 mini has it
    rewrite(tmp_path, original_max_position_embeddings=None, rope_parameters=longrope())
    assert converted(tmp_path).read_bytes() == before


def test_bfloat16_is_kept_bit_by_bit(tmp_path):
    model = saved_decoder(tmp_path, long_phi3(), dtype=torch.bfloat16)
    tensors = stored_tensors(converted(tmp_path, ""))
    layer = model.model.layers[1]
    for name, matrix in (("attn_qkv", layer.self_attn.qkv_proj), ("ffn_up", layer.mlp.gate_up_proj)):
        kept = tensors[f"blk.1.{name}.weight"]
        assert kept.tensor_type.name == "BF16"
        assert kept.data.tobytes() == matrix.weight.detach().bfloat16().view(torch.int16).numpy().tobytes()
    assert tensors["rope_factors_long.weight"].tensor_type.name == "F32"
    assert_converts_alike(tmp_path, model)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model for long texts."""
    folder = tmp_path_factory.mktemp("phi3")
    saved_decoder(folder, long_phi3())
    return folder


@pytest.fixture
def folder(saved):
    """The same, with the config.json that it had before."""
    path = saved / "config.json"
    before = path.read_bytes()
    yield saved
    path.write_bytes(before)


def test_no_tensor_may_be_missing_or_misshapen(folder):
    assert_all_tensors_needed(folder)


def test_a_tensor_too_many_is_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, reason in (("lm_head.bias", "no place for it"), ("model.visual.weight", "does not belong")):
        save_file({**tensors, name: torch.ones(320)}, path)
        assert reason in refusal(folder)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *HOSTILE,
        ("rms_norm_eps", -1e-5, "rms_norm_eps"),
        ("rms_norm_eps", None, "rms_norm_eps"),
        ("head_dim", 32, "as wide as the model"),
        ("sliding_window", 0, "a whole number from 1"),
        ("sliding_window", "2047", "a whole number"),
        ("original_max_position_embeddings", "4k", "a whole number"),
        ("original_max_position_embeddings", 1, "a whole number from 2"),
        ("partial_rotary_factor", 0, "partial_rotary_factor"),
        ("partial_rotary_factor", 1.5, "partial_rotary_factor"),
        ("partial_rotary_factor", 1e-9, "cannot be rotated"),
        ("partial_rotary_factor", 0.2, "cannot be rotated"),
        ("rope_parameters", {"rope_type": "linear", "factor": 2.0}, "'linear' positions"),
    ],
)
def test_config_files_that_cannot_be_right_are_refused(folder, name, value, reason):
    if name == "partial_rotary_factor":
        name, value = "rope_parameters", longrope(partial_rotary_factor=value)
    rewrite(folder, **{name: value})
    assert re.search(reason, refusal(folder))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"long_factor": None}, "a list of 8 numbers"),
        ({"short_factor": [1.0] * 7}, "a list of 8 numbers"),
        ({"short_factor": "1.0"}, "a list of 8 numbers"),
        ({"short_factor": [1.0] * 7 + ["1.0"]}, "a number"),
        ({"short_factor": [1.0] * 7 + [float("nan")]}, "a number"),
        ({"long_factor": [1.0] * 7 + [0.0]}, "above 0 only"),
        ({"long_factor": [1.0] * 7 + [1e-60]}, "above 0 only"),
        ({"attention_factor": 0}, "attention_factor"),
        ({"attention_factor": float("inf")}, "a number"),
        ({"factor": "32"}, "a number"),
        ({"rope_type": ["longrope"]}, "a text"),
    ],
)
def test_factors_that_cannot_be_right_are_refused(folder, changes, reason):
    rewrite(folder, rope_parameters=longrope(**changes))
    assert reason in refusal(folder)
