"""Gemma 3, with images and without: the same logits from llama.cpp as from transformers.

Gates are far from 0 where logits are compared to four digits, as in the tests of Gemma.
"""

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
    WINDOW,
    assert_all_tensors_needed,
    assert_converts_alike,
    assert_matters,
    converted,
    far_gates,
    fields_of,
    notes_of,
    refusal,
    rewrite,
    saved_decoder,
    stored_tensors,
)
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3TextConfig, SiglipVisionConfig

TABLE_TOLERANCE = 1e-2
"""Of the spread of the logits, with gates near 0, where llama.cpp's table of gelu shows."""

HEAD = 32


def rope(local: float = 10_000.0, **full: Any) -> dict[str, Any]:
    return {
        "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0, **full},
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }


LINEAR = {"rope_type": "linear", "factor": 8.0}


def gemma3(**fields: Any) -> Gemma3TextConfig:
    """Seven layers: five with windows, one without, one with."""
    usual = {"num_hidden_layers": 7, "head_dim": HEAD, "sliding_window": WINDOW, "query_pre_attn_scalar": HEAD}
    return Gemma3TextConfig(**{**SHAPE, **usual, **fields})


def seeing(text: Gemma3TextConfig) -> Gemma3Config:
    """A model with eyes as small as can be."""
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    return Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(gemma3(), id="text only"),
        pytest.param(gemma3(num_key_value_heads=1), id="one head of keys"),
        pytest.param(gemma3(rope_parameters=rope(**LINEAR)), id="linear scaling"),
        pytest.param(gemma3(rope_parameters=rope(local=500.0, rope_theta=50_000.0)), id="other bases"),
        pytest.param(gemma3(query_pre_attn_scalar=24), id="queries scaled in another way"),
        pytest.param(gemma3(num_hidden_layers=62, intermediate_size=32, query_pre_attn_scalar=16), id="62 layers"),
        pytest.param(
            gemma3(num_hidden_layers=62, intermediate_size=32), id="62 layers with queries scaled as in smaller ones"
        ),
        pytest.param(gemma3(final_logit_softcapping=3.0), id="capped"),
        pytest.param(gemma3(num_hidden_layers=2, tie_word_embeddings=False), id="untied"),
        pytest.param(gemma3(num_hidden_layers=2), id="windows everywhere"),
        pytest.param(gemma3(num_hidden_layers=2, layer_types=["full_attention"] * 2), id="windows nowhere"),
        pytest.param(
            gemma3(num_hidden_layers=3, layer_types=["full_attention", "sliding_attention", "full_attention"]),
            id="layers in another order",
        ),
        pytest.param(seeing(gemma3(rope_parameters=rope(**LINEAR))), id="with images"),
    ],
)
def test_logits_are_those_of_transformers(tmp_path, config):
    assert_converts_alike(tmp_path, saved_decoder(tmp_path, config, prepare=far_gates))


def test_gelu_is_that_of_transformers_but_for_the_table(tmp_path):
    assert_converts_alike(tmp_path, saved_decoder(tmp_path, gemma3()), TABLE_TOLERANCE)


def test_the_window_shows_where_the_text_outgrows_it(tmp_path):
    model = saved_decoder(tmp_path, gemma3(), prepare=far_gates)
    assert_matters(tmp_path, model, begin=WINDOW, sliding_window=4096)


@pytest.mark.parametrize(
    "changes",
    [
        {"query_pre_attn_scalar": 40},
        {"rope_parameters": rope(local=500.0)},
        {"rope_parameters": rope(rope_theta=500.0)},
        {"rope_parameters": rope(**LINEAR, rope_theta=100.0)},
    ],
)
def test_positions_and_the_scale_of_queries_show(tmp_path, changes):
    model = saved_decoder(tmp_path, gemma3(), prepare=far_gates)
    assert_matters(tmp_path, model, begin=1, **changes)


def test_shards_give_the_same_gguf(tmp_path):
    for name, shard in (("one", None), ("many", "100KB")):
        saved_decoder(tmp_path / name, seeing(gemma3()), shard=shard)
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 1
    assert converted(tmp_path / "many").read_bytes() == converted(tmp_path / "one").read_bytes()


@pytest.mark.parametrize("scaling", [None, LINEAR])
def test_old_config_files_give_the_same_gguf(tmp_path, scaling):
    """transformers 4 had a base of its own for layers with a window, and a period instead of a list of layers."""
    saved_decoder(tmp_path, gemma3(rope_parameters=rope(local=500.0, rope_theta=50_000.0, **(scaling or {}))))
    gguf = converted(tmp_path).read_bytes()
    rewrite(
        tmp_path,
        rope_parameters=None,
        layer_types=None,
        dtype=None,
        tie_word_embeddings=None,
        torch_dtype="float32",
        rope_theta=50_000.0,
        rope_local_base_freq=500.0,
        rope_scaling=scaling,
        sliding_window_pattern=6,
    )
    assert converted(tmp_path).read_bytes() == gguf


def test_what_the_first_files_with_images_leave_out_is_what_transformers_takes_for_granted(tmp_path):
    """The fields are those of gemma-3-4b-it."""
    fields = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256}
    text = gemma3(**fields, num_hidden_layers=2, max_position_embeddings=131072, rope_parameters=rope(**LINEAR))
    saved_decoder(tmp_path, seeing(text))
    path = converted(tmp_path)
    gguf = path.read_bytes()
    assert fields_of(path)["context_length"] == 131072
    values = json.loads((tmp_path / "config.json").read_text())["text_config"]
    said = {name: values[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "sliding_window")}
    text_config = {**said, "model_type": "gemma3_text", "rope_scaling": LINEAR}
    rewrite(tmp_path, text_config=text_config, tie_word_embeddings=None)
    assert converted(tmp_path).read_bytes() == gguf


def test_of_a_model_with_images_the_text_is_converted_and_the_user_is_told(tmp_path):
    saved_decoder(tmp_path, seeing(gemma3(num_hidden_layers=2)))
    assert notes_of(tmp_path) == ["The model can also read images; what was made of it reads and writes text only."]


def test_a_model_without_images_needs_no_note(tmp_path):
    saved_decoder(tmp_path, gemma3(num_hidden_layers=2))
    assert notes_of(tmp_path) == []


@pytest.mark.parametrize("tied", [True, False])
def test_the_names_of_a_model_with_images_have_changed_and_both_are_known(tmp_path, tied):
    text = gemma3(num_hidden_layers=2, tie_word_embeddings=tied)
    config = seeing(text)
    config.tie_word_embeddings = tied
    saved_decoder(tmp_path, config)
    gguf = converted(tmp_path)
    before = gguf.read_bytes()
    assert ("output.weight" in stored_tensors(gguf)) is not tied
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    assert "language_model.model.norm.weight" in tensors
    renamed = {}
    for name, tensor in tensors.items():
        new = re.sub(r"^language_model\.model\.", "model.language_model.", name)
        new = re.sub(r"^(vision_tower|multi_modal_projector)\.", r"model.\1.", new)
        renamed[new.replace("language_model.lm_head", "lm_head")] = tensor
    save_file(renamed, path)
    assert converted(tmp_path).read_bytes() == before
    old = "language_model.model.norm.weight"
    save_file({**renamed, old: tensors[old].clone()}, path)
    assert "under two names" in refusal(tmp_path)


def test_bfloat16_is_kept_bit_by_bit_and_norms_are_one_more(tmp_path):
    model = saved_decoder(tmp_path, gemma3(), dtype=torch.bfloat16, prepare=far_gates)
    tensors = stored_tensors(converted(tmp_path, ""))
    attention = model.model.layers[1].self_attn
    kept = tensors["blk.1.attn_q.weight"]
    assert kept.tensor_type.name == "BF16"
    assert kept.data.tobytes() == attention.q_proj.weight.detach().bfloat16().view(torch.int16).numpy().tobytes()
    for name, norm in (("attn_q_norm", attention.q_norm), ("attn_k_norm", attention.k_norm)):
        np.testing.assert_array_equal(tensors[f"blk.1.{name}.weight"].data, 1 + norm.weight.detach())
    assert_converts_alike(tmp_path, model)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a Gemma 3 of two layers, with windows."""
    folder = tmp_path_factory.mktemp("gemma3")
    saved_decoder(folder, gemma3(num_hidden_layers=2))
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


def test_only_images_are_no_model_of_text(tmp_path):
    saved_decoder(tmp_path, seeing(gemma3(num_hidden_layers=2)))
    path = tmp_path / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "language" not in name}, path)
    assert "no token embedding" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *(case for case in HOSTILE if case[0] != "rope_parameters"),
        ("hidden_activation", "silu", "activation"),
        ("rms_norm_eps", -1e-6, "rms_norm_eps"),
        ("head_dim", 31, "cannot be rotated"),
        ("head_dim", 64, "shape"),
        ("head_dim", None, "shape"),
        ("tie_word_embeddings", False, "no output.weight"),
        ("use_bidirectional_attention", True, "looks ahead"),
        ("attn_logit_softcapping", 50.0, "attn_logit_softcapping"),
        ("final_logit_softcapping", 0, "more than 0"),
        ("query_pre_attn_scalar", -1, "become nothing"),
        ("sliding_window", 0, "a whole number from 1"),
        ("layer_types", ["chunked_attention"] * 2, "'chunked_attention'"),
        ("text_config", [], "an object"),
        ("rope_parameters", [], "an object"),
        ("rope_parameters", {"full_attention": []}, "an object"),
        ("rope_parameters", rope(local=0), "more than 0"),
        ("rope_parameters", rope(local="10000"), "a number"),
        ("rope_parameters", rope(rope_theta=-1.0), "more than 0"),
        ("rope_parameters", rope(rope_type="yarn", factor=8.0), "'yarn' positions"),
        ("rope_parameters", rope(rope_type="linear"), "missing"),
        ("rope_parameters", {"sliding_attention": {**LINEAR, "rope_theta": 1e4}}, "layers with a window"),
        ("rope_parameters", {"sliding_attention": {"rope_type": "dynamic"}}, "'dynamic' positions"),
    ],
)
def test_config_files_that_cannot_be_right_are_refused(folder, name, value, reason):
    rewrite(folder, **{"hidden_activation": None, name: value})
    assert re.search(reason, refusal(folder))
