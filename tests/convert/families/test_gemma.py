"""Gemma and Gemma 2: the same logits from llama.cpp as from transformers.

llama.cpp takes gelu from a table of float16. Far from 0 it does not need the table, so most tests are with gates that
are far from 0, where all the rest can be seen to four digits.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
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
    far_gates,
    refusal,
    rewrite,
    saved_decoder,
    stored_tensors,
)
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, GemmaConfig

TABLE_TOLERANCE = 1e-2
"""Of the spread of the logits, with gates near 0, where the table of gelu shows."""

HEAD = 32
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}


def gemma(**fields: Any) -> GemmaConfig:
    return GemmaConfig(**{**SHAPE, "num_hidden_layers": 2, "head_dim": HEAD, **fields})


def gemma2(**fields: Any) -> Gemma2Config:
    """With caps that the numbers of a tiny model reach."""
    usual = {
        "num_hidden_layers": 4,
        "head_dim": HEAD,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": HEAD,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    }
    return Gemma2Config(**{**SHAPE, **usual, **fields})


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(gemma(), id="Gemma"),
        pytest.param(gemma(num_key_value_heads=1), id="one head of keys"),
        pytest.param(gemma(rope_parameters=LINEAR), id="linear scaling"),
        pytest.param(gemma2(), id="Gemma 2"),
        pytest.param(gemma2(rope_parameters=LINEAR), id="Gemma 2, linear scaling"),
        pytest.param(gemma2(query_pre_attn_scalar=24), id="queries scaled in another way"),
        pytest.param(gemma2(num_hidden_layers=46, intermediate_size=32, query_pre_attn_scalar=16), id="46 layers"),
        pytest.param(
            gemma2(num_hidden_layers=46, intermediate_size=32), id="46 layers with queries scaled as in smaller ones"
        ),
        pytest.param(gemma2(attn_logit_softcapping=None, final_logit_softcapping=None), id="no caps"),
        pytest.param(gemma2(num_hidden_layers=1), id="windows everywhere"),
        pytest.param(
            gemma2(num_hidden_layers=3, layer_types=["full_attention", "full_attention", "sliding_attention"]),
            id="layers in another order",
        ),
    ],
)
def test_logits_are_those_of_transformers(tmp_path, config):
    assert_converts_alike(tmp_path, saved_decoder(tmp_path, config, prepare=far_gates))


@pytest.mark.parametrize("config", [gemma(), gemma2()])
def test_gelu_is_that_of_transformers_but_for_the_table(tmp_path, config):
    assert_converts_alike(tmp_path, saved_decoder(tmp_path, config), TABLE_TOLERANCE)


def test_the_window_shows_where_the_text_outgrows_it(tmp_path):
    model = saved_decoder(tmp_path, gemma2(), prepare=far_gates)
    assert_matters(tmp_path, model, begin=WINDOW, sliding_window=4096)


@pytest.mark.parametrize(
    ("changes", "begin"),
    [
        ({"attn_logit_softcapping": 50.0}, 1),  # the first token has only itself to see
        ({"query_pre_attn_scalar": 40}, 1),
        ({"final_logit_softcapping": 30.0}, 0),
    ],
)
def test_caps_and_the_scale_of_queries_show(tmp_path, changes, begin):
    model = saved_decoder(tmp_path, gemma2(), prepare=far_gates)
    assert_matters(tmp_path, model, begin, **changes)


@pytest.mark.parametrize("make", [gemma, gemma2])
def test_shards_and_old_config_files_give_the_same_gguf(tmp_path, make):
    config = make(rope_parameters=LINEAR)
    saved_decoder(tmp_path / "one", config)
    saved_decoder(tmp_path / "many", config, shard="100KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 1
    gguf = converted(tmp_path / "one").read_bytes()
    assert converted(tmp_path / "many").read_bytes() == gguf
    as_transformers_4(tmp_path / "one", tie_word_embeddings=None, layer_types=None)
    assert converted(tmp_path / "one").read_bytes() == gguf


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh"])
def test_the_first_files_named_another_gelu_and_meant_this_one(tmp_path, activation):
    model = saved_decoder(tmp_path, gemma())
    rewrite(tmp_path, hidden_act=activation, hidden_activation=None)
    assert_converts_alike(tmp_path, model, TABLE_TOLERANCE)


@pytest.mark.parametrize("make", [gemma, gemma2])
def test_bfloat16_is_kept_bit_by_bit_and_norms_are_one_more(tmp_path, make):
    model = saved_decoder(tmp_path, make(), dtype=torch.bfloat16, prepare=far_gates)
    tensors = stored_tensors(converted(tmp_path, ""))
    layer = model.model.layers[1]
    kept = tensors["blk.1.attn_q.weight"]
    assert kept.tensor_type.name == "BF16"
    bits = layer.self_attn.q_proj.weight.detach().bfloat16().view(torch.int16)
    assert kept.data.tobytes() == bits.numpy().tobytes()
    np.testing.assert_array_equal(tensors["blk.1.attn_norm.weight"].data, 1 + layer.input_layernorm.weight.detach())
    assert_converts_alike(tmp_path, model)


def test_an_output_that_is_saved_beside_the_embedding_is_left_out(tmp_path):
    model = saved_decoder(tmp_path, gemma(), prepare=far_gates)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, path)
    assert "output.weight" not in stored_tensors(assert_converts_alike(tmp_path, model))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with a Gemma, and one with a Gemma 2."""
    folders = {}
    for make in (gemma, gemma2):
        folders[make] = tmp_path_factory.mktemp(make.__name__)
        saved_decoder(folders[make], make(num_hidden_layers=2))
    return folders


@pytest.fixture(params=[gemma, gemma2])
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
    for name, reason in (("q_proj.bias", "attn_q.bias"), ("o_proj.bias", "attn_output.bias")):
        save_file({**tensors, f"model.layers.0.self_attn.{name}": torch.ones(128)}, path)
        assert reason in refusal(folder)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *HOSTILE,
        ("hidden_activation", "silu", "activation"),
        ("rms_norm_eps", -1e-6, "rms_norm_eps"),
        ("rms_norm_eps", None, "rms_norm_eps"),
        ("head_dim", 31, "cannot be rotated"),
        ("head_dim", 0, "a whole number from 1"),
        ("head_dim", 64, "shape"),
        ("tie_word_embeddings", False, "token embedding as output"),
        ("use_bidirectional_attention", True, "looks ahead"),
        ("rope_parameters", {"rope_type": "linear"}, "missing"),
        ("rope_parameters", {"rope_type": "linear", "factor": 0}, "more than 0"),
        ("rope_parameters", {"rope_type": "yarn", "factor": 4.0}, "'yarn' positions"),
    ],
)
def test_config_files_that_cannot_be_right_are_refused(folder, name, value, reason):
    rewrite(folder, **{"hidden_activation": None, name: value})
    assert re.search(reason, refusal(folder))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("attn_logit_softcapping", 0, "more than 0"),
        ("attn_logit_softcapping", "50", "a number"),
        ("final_logit_softcapping", -30.0, "more than 0"),
        ("query_pre_attn_scalar", 0, "become nothing"),
        ("query_pre_attn_scalar", "256", "a number"),
        ("sliding_window", 0, "a whole number from 1"),
        ("layer_types", ["full_attention"] * 2, "one layer at least"),
        ("layer_types", ["full_attention"] * 3, "the kinds of 2 layers"),
    ],
)
def test_a_gemma_2_that_cannot_be_right_is_refused(folders, name, value, reason):
    folder = folders[gemma2]
    before = (folder / "config.json").read_bytes()
    rewrite(folder, **{name: value})
    assert reason in refusal(folder)
    (folder / "config.json").write_bytes(before)
