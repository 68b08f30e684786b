"""Mixtral: the same logits from llama.cpp as from transformers, however the files have the experts."""

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
    fields_of,
    notes_of,
    refusal,
    rewrite,
    saved_decoder,
    stored_tensors,
)
from convert.halves import HALVES, assert_halves_agree, bits
from safetensors.torch import load_file, save_file
from transformers import MixtralConfig

EXPERTS = 4
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10_000.0}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6}


def mixtral(**fields: Any) -> MixtralConfig:
    usual = {"num_hidden_layers": 2, "num_local_experts": EXPERTS, "num_experts_per_tok": 2, "sliding_window": None}
    return MixtralConfig(**{**SHAPE, **usual, **fields})


def tensors_in(folder):
    return load_file(folder / "model.safetensors")


def store(folder, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


def fuse(tensors: dict[str, torch.Tensor], block: str = "mlp", layers: int = 2) -> dict[str, torch.Tensor]:
    """Tensors with a layer's experts in one, as transformers 5 has them in memory."""
    old = "model.layers.{}.block_sparse_moe."
    fused = {name.replace(".block_sparse_moe.", f".{block}."): tensor for name, tensor in tensors.items()}
    fused = {name: tensor for name, tensor in fused.items() if ".experts." not in name}
    for layer in range(layers):
        start, new = old.format(layer), f"model.layers.{layer}.{block}.experts"
        stacks = [
            torch.stack([tensors[f"{start}experts.{number}.{matrix}.weight"] for number in range(EXPERTS)])
            for matrix in ("w1", "w2", "w3")
        ]
        fused[f"{new}.gate_up_proj"] = torch.cat([stacks[0], stacks[2]], dim=1)
        fused[f"{new}.down_proj"] = stacks[1]
    return fused


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(mixtral(), id="two of four experts"),
        pytest.param(mixtral(num_local_experts=12, num_experts_per_tok=3), id="more than ten experts"),
        pytest.param(mixtral(num_experts_per_tok=EXPERTS), id="all experts"),
        pytest.param(mixtral(num_experts_per_tok=1), id="one of four experts"),
        pytest.param(mixtral(num_local_experts=1, num_experts_per_tok=1), id="a single expert"),
        pytest.param(mixtral(num_key_value_heads=4), id="as many heads of keys as of queries"),
        pytest.param(mixtral(head_dim=24), id="heads of their own width"),
        pytest.param(mixtral(tie_word_embeddings=True), id="embedding as output"),
        pytest.param(mixtral(rope_parameters=LINEAR), id="linear"),
        pytest.param(mixtral(rope_parameters=YARN, head_dim=16), id="yarn"),
    ],
)
def test_logits_are_those_of_transformers(tmp_path, config):
    assert_converts_alike(tmp_path, saved_decoder(tmp_path, config))


def test_the_number_of_experts_that_a_token_goes_through_shows(tmp_path):
    assert_matters(tmp_path, saved_decoder(tmp_path, mixtral()), num_experts_per_tok=3)


@pytest.mark.parametrize("block", ["mlp", "block_sparse_moe"])
def test_experts_of_a_layer_in_one_tensor_give_the_same_gguf(tmp_path, block):
    model = saved_decoder(tmp_path, mixtral())
    tensors, gguf = tensors_in(tmp_path), converted(tmp_path).read_bytes()
    assert "model.layers.1.block_sparse_moe.experts.3.w2.weight" in tensors
    fused = fuse(tensors, block)
    state = model.state_dict()
    for name in ("gate_up_proj", "down_proj"):
        assert torch.equal(fused[f"model.layers.1.{block}.experts.{name}"], state[f"model.layers.1.mlp.experts.{name}"])
    store(tmp_path, fused)
    assert converted(tmp_path).read_bytes() == gguf


def test_the_state_of_transformers_5_itself_is_a_layout_that_is_known(tmp_path):
    model = saved_decoder(tmp_path, mixtral())
    gguf = converted(tmp_path).read_bytes()
    store(tmp_path, {name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert converted(tmp_path).read_bytes() == gguf


@pytest.mark.parametrize("fields", [{}, {"rope_parameters": YARN, "head_dim": 16}, {"rope_parameters": LINEAR}])
def test_shards_and_old_config_files_give_the_same_gguf(tmp_path, fields):
    saved_decoder(tmp_path / "one", mixtral(**fields))
    saved_decoder(tmp_path / "many", mixtral(**fields), shard="60KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 4
    gguf = converted(tmp_path / "one").read_bytes()
    assert converted(tmp_path / "many").read_bytes() == gguf
    as_transformers_4(tmp_path / "one")
    assert converted(tmp_path / "one").read_bytes() == gguf


def test_the_base_of_positions_is_a_million_where_nothing_is_said(tmp_path):
    model = saved_decoder(tmp_path, mixtral())
    rewrite(tmp_path, rope_parameters=None)
    assert fields_of(assert_converts_alike(tmp_path, model))["rope.freq_base"] == 1e6


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), HALVES)
def test_sixteen_bits_are_kept_bit_by_bit(tmp_path, dtype, kind, tolerance):
    model, tensors = assert_halves_agree(tmp_path, mixtral(), dtype, kind, tolerance)
    layer = model.model.layers[1].mlp
    gate, up = bits(layer.experts.gate_up_proj, dtype).reshape(EXPERTS, 2, 96, 64).swapaxes(0, 1)
    for name, numbers in (("gate", gate), ("up", up), ("down", bits(layer.experts.down_proj, dtype))):
        assert tensors[f"blk.1.ffn_{name}_exps.weight"].data.tobytes() == numbers.tobytes()
    np.testing.assert_array_equal(
        tensors["blk.1.ffn_gate_inp.weight"].data.reshape(EXPERTS, 64), layer.gate.weight.detach().numpy()
    )


def test_the_header_and_the_shapes_say_how_many_experts_there_are(tmp_path):
    saved_decoder(tmp_path, mixtral())
    path = converted(tmp_path)
    fields, tensors = fields_of(path), stored_tensors(path)
    assert (fields["architecture"], fields["expert_count"], fields["expert_used_count"]) == ("llama", EXPERTS, 2)
    # ggml has columns first.
    assert tensors["blk.0.ffn_gate_exps.weight"].shape.tolist() == [64, 96, EXPERTS]
    assert tensors["blk.0.ffn_up_exps.weight"].shape.tolist() == [64, 96, EXPERTS]
    assert tensors["blk.0.ffn_down_exps.weight"].shape.tolist() == [96, 64, EXPERTS]
    assert tensors["blk.0.ffn_gate_inp.weight"].shape.tolist() == [64, EXPERTS]
    assert "blk.0.ffn_gate.weight" not in tensors


def test_a_window_is_not_kept_and_that_is_said(tmp_path):
    saved_decoder(tmp_path, mixtral())
    assert notes_of(tmp_path) == []
    rewrite(tmp_path, sliding_window=WINDOW)
    (note,) = notes_of(tmp_path)
    assert f"after {WINDOW} tokens" in note


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A Mixtral that nobody changes for long."""
    folder = tmp_path_factory.mktemp("whole")
    saved_decoder(folder, mixtral())
    return folder


@pytest.fixture
def folder(whole):
    """The same, with the files that it had before."""
    before = {path: path.read_bytes() for path in (whole / "config.json", whole / "model.safetensors")}
    yield whole
    for path, content in before.items():
        path.write_bytes(content)


@pytest.mark.parametrize("is_fused", [False, True])
def test_no_tensor_may_be_missing_or_misshapen(folder, is_fused):
    if is_fused:
        store(folder, fuse(tensors_in(folder)))
    assert_all_tensors_needed(folder)


EXPERT = "model.layers.1.block_sparse_moe.experts.{}.{}.weight"


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        (EXPERT.format(4, "w1"), (96, 64), "has an expert 4, but config.json says 4"),
        (EXPERT.format(10**30, "w1"), (96, 64), "has an expert 1000"),
        (EXPERT.format("01", "w1"), (96, 64), "expert 1 of blk.1.ffn_gate_exps.weight is there twice"),
        (EXPERT.format(0, "w4"), (96, 64), "does not belong"),
        (EXPERT.format(0, "w1").replace("layers.1", "layers.2"), (96, 64), "has no expert 1"),
        ("model.layers.1.mlp.experts.gate_up_proj", (4, 192, 64), "is there twice"),
        ("model.layers.1.mlp.experts.gate_up_proj", (4, 64, 192), "has the shape"),
        ("model.layers.1.mlp.experts.gate_up_proj", (), "has the shape"),
        ("model.layers.1.mlp.gate_proj.weight", (96, 64), "ffn_gate.weight"),
        ("model.layers.1.mlp.gate.weight", (4, 64), "has once"),
        ("model.layers.1.block_sparse_moe.gate.bias", (4,), "does not belong"),
        ("model.layers.1.self_attn.q_proj.bias", (64,), "attn_q.bias"),
    ],
)
def test_a_tensor_too_many_is_refused(folder, name, shape, reason):
    store(folder, {**tensors_in(folder), name: torch.ones(shape)})
    assert re.search(reason, refusal(folder))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *[case for case in HOSTILE if "dynamic" not in case[2]],
        ("num_local_experts", 0, "a whole number from 1"),
        ("num_local_experts", 3, "has an expert 3"),
        ("num_local_experts", 5, "has no expert 4"),
        ("num_local_experts", 1025, "a whole number from 1 to 1024"),
        ("num_local_experts", "4", "a whole number"),
        ("num_local_experts", None, "missing"),
        ("num_experts_per_tok", 0, "a whole number from 1 to 4"),
        ("num_experts_per_tok", 5, "a whole number from 1 to 4"),
        ("num_experts_per_tok", 2.0, "a whole number from 1 to 4"),
        ("num_experts_per_tok", None, "missing"),
        ("sliding_window", 0, "a whole number from 1"),
        ("sliding_window", "4096", "a whole number from 1"),
        ("rope_parameters", {"rope_type": "yarn", "factor": 0.1}, "1 at least"),
    ],
)
def test_config_files_that_cannot_be_right_are_refused(folder, name, value, reason):
    rewrite(folder, **{name: value})
    assert re.search(reason, refusal(folder))
