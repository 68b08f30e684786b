"""LoRA adapters: what llama.cpp makes of a model and its adapter is what peft makes of them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from convert.lora import ALL, ATTENTION, SHAPE, adapter_files, change_tensors, renamed, saved_base
from convert.reference import (
    TEXT,
    assert_same_logits,
    convert,
    gguf_logits,
    reference_logits,
    save_model,
    tiny_tokenizer,
)
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from ollama_nb.convert.adapters import ARCHITECTURES, convert_adapter
from ollama_nb.convert.errors import ConvertError
from ollama_nb.gguf.reader import read_header

if TYPE_CHECKING:
    from pathlib import Path

EXACT = 1e-4
"""How far logits may be apart, of their spread: float32 rounds."""
GELU = 5e-3
"""The same for models whose gelu llama.cpp takes from a table of float16."""

GEMMA = {**SHAPE, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"}
BASES: dict[str, tuple[type[transformers.PretrainedConfig], dict[str, Any], float]] = {
    "llama": (transformers.LlamaConfig, {}, EXACT),
    "tied": (transformers.LlamaConfig, {"tie_word_embeddings": True}, EXACT),
    "mistral": (transformers.MistralConfig, {"sliding_window": None, "head_dim": 32}, EXACT),
    "gemma": (transformers.GemmaConfig, GEMMA, GELU),
    "gemma2": (transformers.Gemma2Config, {**GEMMA, "query_pre_attn_scalar": 16, "sliding_window": 64}, GELU),
    "gemma3": (transformers.Gemma3TextConfig, {**GEMMA, "query_pre_attn_scalar": 16, "sliding_window": 64}, GELU),
    "phi3": (transformers.Phi3Config, {}, EXACT),
    "command-r": (transformers.CohereConfig, {}, EXACT),
    "cohere2": (transformers.Cohere2Config, {"sliding_window": 64}, EXACT),
}
"""Models by name: what they are, beside ``SHAPE``, and how well logits agree."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """``base(name)``: one of ``BASES``, made when it is first asked for."""
    made = {}

    def get(name: str):
        if name not in made:
            kind, more, _ = BASES[name]
            made[name] = saved_base(tmp_path_factory.mktemp(name), kind(**{**SHAPE, **more}), TEXT)
        return made[name]

    return get


@pytest.fixture(scope="module")
def llama(base):
    return base("llama")


@pytest.fixture(scope="module")
def saved(llama, tmp_path_factory):
    """The folder of an adapter that nobody changes."""
    folder = tmp_path_factory.mktemp("saved")
    llama.adapted(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """Its files, to be spoiled."""
    return shutil.copytree(saved, tmp_path / "adapter")


def assert_like_peft(base, folder: Path, tolerance: float = EXACT, dtype=torch.float32, **lora: Any) -> None:
    """peft's model and llama.cpp's model with the converted adapter give the same logits; others than without."""
    model = base.adapted(folder / "adapter", dtype, **lora)
    path = base.converted(folder / "adapter", folder / "adapter.gguf")
    theirs = reference_logits(model, base.tokens)
    plain = gguf_logits(base.gguf, base.tokens)
    assert_same_logits(gguf_logits(base.gguf, base.tokens, lora_path=str(path)), theirs, tolerance)
    assert np.abs(plain - theirs).max() > 0.2 * theirs.std()


# -- the same as peft -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("llama", ALL), ("tied", ALL), ("mistral", ALL), ("gemma", ALL), ("gemma2", ALL), ("gemma3", ALL),
        ("command-r", ALL), ("cohere2", ALL), ("phi3", ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
        *[("llama", [target]) for target in ALL], ("gemma2", ["q_proj", "v_proj"]), ("phi3", ["qkv_proj"]),
        ("mistral", ATTENTION), ("llama", "all-linear"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value).replace("_proj", ""),
)  # fmt: skip
def test_an_adapter_does_in_llama_cpp_what_it_does_in_peft(base, tmp_path, name, targets):
    assert_like_peft(base(name), tmp_path, BASES[name][2], target_modules=targets)


@pytest.mark.parametrize(
    "lora",
    [
        {"use_rslora": True},
        {"lora_alpha": -3},
        {"r": 1},
        {"r": 32, "lora_alpha": 8},
        {"rank_pattern": {"q_proj": 2, "mlp.down_proj": 8}},
        {"alpha_pattern": {"layers.0.self_attn.v_proj": 3, "up_proj": 40}},
        {"rank_pattern": {r"^model\.layers\.0\..*": 2}, "alpha_pattern": {r"layers.\d+.mlp.*": 5}, "use_rslora": True},
        {"layers_to_transform": [1]},
        {"target_modules": [*ALL, "lm_head"]},
        {"target_modules": [*ALL, "embed_tokens"], "use_rslora": True},
        {"fan_in_fan_out": True},
        {"bias": "all"},
        {"init_lora_weights": "gaussian"},
    ],
    ids=str,
)
def test_every_way_to_say_how_much_an_adapter_counts_is_understood(llama, tmp_path, lora):
    assert_like_peft(llama, tmp_path, **lora)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_numbers_of_half_precision_are_taken_exactly(llama, tmp_path, dtype):
    assert_like_peft(llama, tmp_path, dtype=dtype)
    stored = {str(row.tensor_type.name) for row in GGUFReader(tmp_path / "adapter.gguf").tensors}
    assert stored == {"F32"}


def test_the_model_may_come_of_many_files(tmp_path):
    base = saved_base(tmp_path / "base", transformers.LlamaConfig(**SHAPE), TEXT, shard="60KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    assert_like_peft(base, tmp_path)


def test_model_and_adapter_are_the_merged_model(llama, tmp_path):
    model = llama.adapted(tmp_path / "adapter", use_rslora=True)
    adapter = llama.converted(tmp_path / "adapter", tmp_path / "adapter.gguf")
    (tmp_path / "merged").mkdir()
    tiny_tokenizer(tmp_path / "merged")
    save_model(model.merge_and_unload(), tmp_path / "merged")
    merged = convert(tmp_path / "merged", tmp_path / "merged.gguf")
    ours = gguf_logits(llama.gguf, llama.tokens, lora_path=str(adapter))
    assert_same_logits(ours, gguf_logits(merged, llama.tokens), EXACT)


def test_an_adapter_that_counts_nothing_changes_nothing(llama, tmp_path):
    """llama.cpp takes an alpha of 0 for none at all, and would add the matrices as they are."""
    model = llama.adapted(tmp_path / "adapter", lora_alpha=0)
    path = llama.converted(tmp_path / "adapter", tmp_path / "adapter.gguf")
    ours = gguf_logits(llama.gguf, llama.tokens, lora_path=str(path))
    assert_same_logits(ours, reference_logits(model, llama.tokens), EXACT)
    np.testing.assert_array_equal(ours, gguf_logits(llama.gguf, llama.tokens))


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_header_says_what_llama_cpp_asks_for(llama, folder, tmp_path):
    header = read_header(llama.converted(folder, tmp_path / "out.gguf"))
    assert header.metadata == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 16.0,
        "general.file_type": 0,
    }
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    assert len(shapes) == 2 * 2 * len(ALL)
    assert shapes["blk.1.ffn_down.weight.lora_a"] == (96, 4)
    assert shapes["blk.1.ffn_down.weight.lora_b"] == (4, 64)


def test_where_modules_count_differently_the_second_matrix_makes_up_for_it(llama, tmp_path):
    llama.adapted(tmp_path / "adapter", alpha_pattern={"q_proj": 4})
    path = llama.converted(tmp_path / "adapter", tmp_path / "out.gguf")
    assert read_header(path).metadata["adapter.lora.alpha"] == 16.0
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    first, second = (stored[f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight"] for half in "AB")
    np.testing.assert_array_equal(tensors["blk.0.attn_q.weight.lora_a"], first)
    assert np.linalg.norm(tensors["blk.0.attn_q.weight.lora_b"]) == pytest.approx(np.linalg.norm(second) / 4)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"llama", "phi3"}))
def test_where_llama_cpp_has_the_rows_in_the_same_order_the_numbers_are_those_of_the_file(
    llama, folder, tmp_path, architecture
):
    facts = llama.facts(architecture=architecture)
    convert_adapter(adapter_files(folder), tmp_path / "out.gguf", facts, lambda *_: None)
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "out.gguf").tensors}
    stored = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == len(stored)
    for module, target in (("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("mlp.up_proj", "ffn_up")):
        for half in "AB":
            expected = stored[f"base_model.model.model.layers.1.{module}.lora_{half}.weight"]
            np.testing.assert_array_equal(tensors[f"blk.1.{target}.weight.lora_{half.lower()}"], expected)


@pytest.mark.parametrize(
    "prefix",
    ["model.", "base_model.model.", "base_model.model.model.language_model.", "base_model.model.language_model.model."],
)
def test_a_module_is_known_however_deep_it_stands(llama, saved, folder, tmp_path, prefix):
    """Without a head, and inside of models that see too, names begin otherwise."""
    change_tensors(folder, renamed("base_model.model.model.", prefix))
    theirs = llama.converted(saved, tmp_path / "theirs.gguf")
    assert llama.converted(folder, tmp_path / "out.gguf").read_bytes() == theirs.read_bytes()


def test_progress_ends_with_all_bytes(llama, folder, tmp_path):
    steps = []
    notes = convert_adapter(
        adapter_files(folder), tmp_path / "out.gguf", llama.facts(), lambda *step: steps.append(step)
    )
    assert notes == []
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1] == sum(tensor.size for tensor in read_header(tmp_path / "out.gguf").tensors)


# -- MLX --------------------------------------------------------------------------------------------------------------


def as_mlx(folder: Path, config: dict[str, Any]) -> Path:
    """The same adapter as MLX would save it."""
    found = {}
    for name, data in load_file(folder / "adapter_model.safetensors").items():
        module, half = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
        found[f"{module}.lora_{half.lower()}"] = np.ascontiguousarray(data.T)
    out = folder.parent / "mlx"
    out.mkdir()
    save_file(found, out / "adapters.safetensors")
    (out / "adapter_config.json").write_text(json.dumps(config))
    return out


@pytest.mark.parametrize(
    "parameters",
    [
        {"rank": 4, "scale": 4.0, "dropout": 0.0},
        {"rank": 4, "scale": 2.0, "alpha": 8, "keys": ["self_attn.q_proj"]},
        {"rank": 4, "alpha": 16},
    ],
)
def test_an_adapter_of_mlx_becomes_the_file_that_peft_s_would(llama, saved, folder, tmp_path, parameters):
    mlx = as_mlx(folder, {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters})
    theirs = llama.converted(saved, tmp_path / "peft.gguf")
    found = convert_adapter(adapter_files(mlx), tmp_path / "mlx.gguf", llama.facts(), lambda *_: None)
    assert (tmp_path / "mlx.gguf").read_bytes() == theirs.read_bytes()
    assert bool(found) == ("alpha" in parameters)


def test_embeddings_of_mlx_are_transposed_alike(llama, tmp_path):
    llama.adapted(tmp_path / "adapter", target_modules=["embed_tokens", "q_proj"])
    change_tensors(
        tmp_path / "adapter", lambda tensors: {n: data for n, data in tensors.items() if "base_layer" not in n}
    )
    theirs = llama.converted(tmp_path / "adapter", tmp_path / "peft.gguf")
    change_tensors(
        tmp_path / "adapter",
        lambda tensors: {name.replace("lora_embedding_", "lora_"): data for name, data in tensors.items()},
    )
    mlx = as_mlx(tmp_path / "adapter", {"lora_parameters": {"rank": 4, "scale": 4}})
    assert llama.converted(mlx, tmp_path / "mlx.gguf").read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"fine_tune_type": "dora", "lora_parameters": {"rank": 4, "scale": 1}}, "kind 'dora' cannot be converted"),
        ({"fine_tune_type": "full", "lora_parameters": {"rank": 4, "scale": 1}}, "kind 'full' cannot be converted"),
        ({"use_dora": True, "lora_parameters": {"rank": 4, "scale": 1}}, "kind 'dora' cannot be converted"),
        ({"lora_parameters": {"rank": 8, "scale": 1}}, "have the rank 4, but adapter_config.json says 8"),
        ({"lora_parameters": {"rank": 4}}, '"scale" is missing'),
        ({"lora_parameters": {"scale": 4}}, '"rank" is missing'),
        ({"lora_parameters": 4}, '"lora_parameters" must be an object'),
    ],
)
def test_what_mlx_can_do_beyond_is_refused(llama, folder, tmp_path, config, text):
    mlx = as_mlx(folder, config)
    with pytest.raises(ConvertError, match=text):
        convert_adapter(adapter_files(mlx), tmp_path / "out.gguf", llama.facts(), lambda *_: None)
