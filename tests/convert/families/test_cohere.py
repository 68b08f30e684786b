"""Command R, Command R+ and Command R7B: the same logits from llama.cpp as from transformers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from convert.decoders import (
    HOSTILE,
    SHAPE,
    WINDOW,
    as_transformers_4,
    assert_all_tensors_needed,
    assert_converts_alike,
    assert_matters,
    converted,
    fields_of,
    refusal,
    rewrite,
    saved_decoder,
    stored_tensors,
)
from safetensors.torch import load_file, save_file
from transformers import Cohere2Config, CohereConfig

BLOCKS_OF_PLUS = 64
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 50_000.0}


def command_r(**fields: Any) -> CohereConfig:
    return CohereConfig(**{**SHAPE, "num_hidden_layers": 2, "logit_scale": 0.5, **fields})


def command_r7b(**fields: Any) -> Cohere2Config:
    return Cohere2Config(**{**SHAPE, "num_hidden_layers": 5, "sliding_window": WINDOW, **fields})


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(command_r(), id="Command R"),
        pytest.param(command_r(num_key_value_heads=4), id="as many heads of keys"),
        pytest.param(command_r(rope_parameters=LINEAR), id="linear scaling"),
        pytest.param(
            command_r(num_hidden_layers=BLOCKS_OF_PLUS, use_qk_norm=True, intermediate_size=32), id="Command R+"
        ),
        pytest.param(command_r7b(), id="Command R7B"),
        pytest.param(command_r7b(num_hidden_layers=3), id="windows everywhere"),
        pytest.param(
            command_r7b(num_hidden_layers=3, layer_types=["full_attention", "sliding_attention", "full_attention"]),
            id="layers in another order",
        ),
        pytest.param(command_r7b(rope_parameters=LINEAR), id="Command R7B, linear scaling"),
    ],
)
def test_logits_are_those_of_transformers(tmp_path, config):
    assert_converts_alike(tmp_path, saved_decoder(tmp_path, config))


def test_the_window_shows_where_the_text_outgrows_it(tmp_path):
    model = saved_decoder(tmp_path, command_r7b())
    assert_matters(tmp_path, model, begin=WINDOW, sliding_window=4096)


def test_logits_are_scaled(tmp_path):
    model = saved_decoder(tmp_path, command_r())
    assert_matters(tmp_path, model, logit_scale=0.4)


@pytest.mark.parametrize("make", [command_r, command_r7b])
def test_shards_and_old_config_files_give_the_same_gguf(tmp_path, make):
    config = make(rope_parameters=LINEAR)
    saved_decoder(tmp_path / "one", config)
    saved_decoder(tmp_path / "many", config, shard="60KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 1
    gguf = converted(tmp_path / "one").read_bytes()
    assert converted(tmp_path / "many").read_bytes() == gguf
    windows = {"layer_types": None, "sliding_window_pattern": 4} if make is command_r7b else {}
    as_transformers_4(tmp_path / "one", **windows)
    assert converted(tmp_path / "one").read_bytes() == gguf


@pytest.mark.parametrize("make", [command_r, command_r7b])
def test_bfloat16_is_kept_bit_by_bit(tmp_path, make):
    model = saved_decoder(tmp_path, make(), dtype=torch.bfloat16)
    kept = stored_tensors(converted(tmp_path, ""))["blk.1.attn_q.weight"]
    assert kept.tensor_type.name == "BF16"
    bits = model.model.layers[1].self_attn.q_proj.weight.detach().bfloat16().view(torch.int16)
    assert kept.data.tobytes() == bits.numpy().tobytes()
    assert_converts_alike(tmp_path, model)


def test_the_length_that_command_r_was_trained_for_is_its_context(tmp_path):
    saved_decoder(tmp_path, command_r())
    rewrite(tmp_path, model_max_length=131072)
    assert fields_of(converted(tmp_path))["context_length"] == 131072


def test_biases_that_add_nothing_are_left_out(tmp_path):
    def without(model: torch.nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.data.zero_()

    model = saved_decoder(tmp_path, command_r7b(attention_bias=True), prepare=without)
    assert not any(name.endswith(".bias") for name in stored_tensors(assert_converts_alike(tmp_path, model)))


@pytest.mark.parametrize("make", [command_r, command_r7b])
def test_biases_are_refused_otherwise(tmp_path, make):
    saved_decoder(tmp_path, make(attention_bias=True))
    assert "no place for it" in refusal(tmp_path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with a Command R, and one with a Command R7B; tests put back what they change."""
    folders = {}
    for make in (command_r, command_r7b):
        folders[make] = tmp_path_factory.mktemp(make.__name__)
        saved_decoder(folders[make], make(num_hidden_layers=2))
    return folders


@pytest.fixture(params=[command_r, command_r7b])
def folder(request, folders):
    """Each of them, with the config.json that it had before."""
    path = folders[request.param] / "config.json"
    before = path.read_bytes()
    yield path.parent
    path.write_bytes(before)


def test_no_tensor_may_be_missing_or_misshapen(folder):
    assert_all_tensors_needed(folder)


def test_a_tensor_too_many_is_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "model.layers.0.self_attn.o_proj.bias": torch.ones(64)}, path)
    assert "attn_output.bias" in refusal(folder)
    save_file({**tensors, "model.layers.0.self_attn.rel_pos.weight": torch.ones(64)}, path)
    assert "does not belong" in refusal(folder)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *HOSTILE,
        ("tie_word_embeddings", False, "token embedding as output"),
        ("logit_scale", 0.0, "logit_scale"),
        ("logit_scale", "big", "a number"),
        ("layer_norm_eps", -1e-5, "layer_norm_eps"),
        ("layer_norm_eps", None, "layer_norm_eps"),
        ("head_dim", 32, "as wide as the model"),
    ],
)
def test_config_files_that_cannot_be_right_are_refused(folder, name, value, reason):
    rewrite(folder, **{name: value})
    assert re.search(reason, refusal(folder))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("use_qk_norm", True, "use_qk_norm"),
        ("use_qk_norm", 1, "true or false"),
        ("model_max_length", 0, "a whole number from 1"),
    ],
)
def test_a_command_r_that_llama_cpp_does_not_know_is_refused(folders, name, value, reason):
    folder = folders[command_r]
    before = (folder / "config.json").read_bytes()
    rewrite(folder, **{name: value})
    assert reason in refusal(folder)
    (folder / "config.json").write_bytes(before)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sliding_window": 0}, "a whole number from 1"),
        ({"sliding_window": "16"}, "a whole number"),
        ({"layer_types": ["full_attention", "full_attention"]}, "one layer at least"),
        ({"layer_types": ["sliding_attention"]}, "the kinds of 2 layers"),
        ({"layer_types": "sliding_attention"}, "must be a list"),
        ({"layer_types": ["sliding_attention", ["full_attention"]]}, "a layer is"),
        ({"layer_types": ["sliding_attention", "chunked_attention"]}, "'chunked_attention'"),
        ({"layer_types": None, "sliding_window_pattern": 0}, "a whole number from 1"),
        ({"layer_types": None, "sliding_window_pattern": 1}, "one layer at least"),
    ],
)
def test_windows_that_cannot_be_are_refused(folders, changes, reason):
    folder = folders[command_r7b]
    before = (folder / "config.json").read_bytes()
    rewrite(folder, **changes)
    assert reason in refusal(folder)
    (folder / "config.json").write_bytes(before)
