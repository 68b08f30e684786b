"""Adapters that cannot be converted, each with its sentence, and files that chance has spoiled."""

from __future__ import annotations

import math
import random
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import transformers
from convert.lora import SHAPE, adapter_files, change_config, change_tensors, renamed, saved_base
from convert.reference import TEXT

from ollama_nb.convert.adapters import ARCHITECTURES, convert_adapter
from ollama_nb.convert.errors import ConvertError
from ollama_nb.gguf.adapters import check_adapter
from ollama_nb.gguf.reader import read_header
from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return saved_base(tmp_path_factory.mktemp("llama"), transformers.LlamaConfig(**SHAPE), TEXT)


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


def refusal(llama, folder: Path, **facts: Any) -> ConvertError:
    with pytest.raises(ConvertError) as caught:
        convert_adapter(adapter_files(folder), folder / "out.gguf", llama.facts(**facts), lambda *_: None)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"peft_type": "IA3"}, "an adapter of the kind 'IA3' cannot be converted; only LoRA can"),
        ({"use_dora": True}, "the adapter uses DoRA, "),
        ({"use_qalora": True}, "the adapter uses QA-LoRA, "),
        ({"alora_invocation_tokens": [1, 2]}, "the adapter uses activated LoRA, "),
        ({"layer_replication": [[0, 2], [1, 2]]}, "the adapter uses replicated layers, "),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "the adapter uses target_parameters, "),
        ({"trainable_token_indices": [3]}, "the adapter uses trainable_token_indices, "),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4', which changes the base model"),
        ({"init_lora_weights": "olora"}, "init_lora_weights='olora', which changes the base model"),
        ({"r": 8}, "have the rank 4, but adapter_config.json says 8"),
        ({"rank_pattern": {"v_proj": 2}}, 'v_proj" have the rank 4, but adapter_config.json says 2'),
        ({"r": 0}, '"r" must be a whole number from 1'),
        ({"r": ...}, '"r" is missing'),
        ({"lora_alpha": ...}, '"lora_alpha" is missing'),
        ({"lora_alpha": "16"}, '"lora_alpha" must be a number'),
        ({"lora_alpha": 1e30}, '"lora_alpha" is 1e+30, which no adapter can be meant to have'),
        ({"lora_alpha": math.inf}, '"lora_alpha" must be a number'),
        ({"use_rslora": 1}, '"use_rslora" must be true or false'),
        ({"alpha_pattern": {"q_proj": None}}, '"q_proj" is missing'),
        ({"alpha_pattern": {"(a+)+$": 2}}, "the pattern '(a+)+$' is not understood"),
        ({"alpha_pattern": {".*a.*b.*": 2}}, "the pattern '.*a.*b.*' is not understood"),
        ({"alpha_pattern": {"x" * 201: 2}}, "is not understood"),
        ({"alpha_pattern": [2]}, '"alpha_pattern" must be an object'),
    ],
)
def test_a_config_that_means_more_than_a_lora_is_refused(llama, folder, changes, text):
    change_config(folder, **changes)
    assert text in refusal(llama, folder).message


def replaced(part: str, change):
    """Tensors whose name contains ``part`` changed."""
    return lambda tensors: {name: change(data) if part in name else data for name, data in tensors.items()}


def added(name: str, *shape: int):
    return lambda tensors: {**tensors, f"base_model.model.{name}": np.ones(shape, np.float32)}


def put_nan(data):
    data[0, 0] = np.nan
    return data


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            added("model.embed_tokens.weight", 320, 64),
            'the adapter has "base_model.model.model.embed_tokens.weight" as a whole, as modules_to_save',
        ),
        (added("model.layers.0.input_layernorm.weight", 64), 'input_layernorm.weight" as a whole'),
        (added("model.layers.0.self_attn.q_proj.bias", 64), "the adapter has trained biases, such as"),
        (added("model.layers.0.self_attn.q_proj.lora_B.bias", 64), "the adapter has trained biases, such as"),
        (added("model.layers.0.self_attn.q_proj.lora_magnitude_vector", 64), 'magnitude_vector" as a whole'),
        (renamed("layers.1.", "layers.7."), "the adapter changes layer 7, but the model has only 2 layers"),
        (renamed("self_attn.q_proj", "self_attn.query"), 'the adapter changes "model.layers.0.self_attn.query", which'),
        (renamed("mlp.", "block_sparse_moe.experts.0."), "which is no matrix of its own in models of the architecture"),
        (renamed("self_attn.q_proj", "input_layernorm"), "which is no matrix of its own in models of the architecture"),
        (
            renamed("model.layers.", "vision_tower.layers."),
            "which is no matrix of its own in models of the architecture",
        ),
        (
            lambda tensors: {n: data for n, data in tensors.items() if "0.self_attn.q_proj.lora_B" not in n},
            'the second of the two matrices for "model.layers.0.self_attn.q_proj" is missing',
        ),
        (
            lambda tensors: {n: data for n, data in tensors.items() if "0.self_attn.q_proj.lora_A" not in n},
            'the first of the two matrices for "model.layers.0.self_attn.q_proj" is missing',
        ),
        (
            lambda tensors: {f"{n.split('.lora_')[0]}.base_layer.weight": data for n, data in tensors.items()},
            "there is nothing that it changes",
        ),
        (replaced("q_proj.lora_A", np.transpose), "which do not fit to each other"),
        (replaced("q_proj.lora_A", lambda data: data[:0]), "which do not fit to each other"),
        (replaced("q_proj.lora_A", lambda data: data[None]), "which do not fit to each other"),
        (replaced("q_proj.lora_B", lambda data: data[:-1]), "cannot be made of what the files have"),
        (replaced("v_proj.lora_A", put_nan), "has numbers that are not finite"),
        (replaced("v_proj.lora_A", lambda data: data.astype(np.int8)), "is stored as I8"),
        (replaced("v_proj.lora_A", lambda data: data.astype(np.float64)), "is stored as F64"),
        (
            lambda tensors: {**tensors, **{n.replace("model.model.", "model."): data for n, data in tensors.items()}},
            "of the adapter are the same matrix",
        ),
    ],
)
def test_tensors_that_are_no_change_of_the_model_s_matrices_are_refused(llama, folder, change, text):
    change_tensors(folder, change)
    assert text in refusal(llama, folder).message


def test_a_pickle_is_refused(llama, folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "adapter_model.bin is a pickle file" in refusal(llama, folder).message


def test_files_that_are_missing_are_named(llama, folder):
    (folder / "adapter_config.json").unlink()
    assert refusal(llama, folder).message == "adapter_config.json is missing"


@pytest.mark.parametrize("architecture", ["unknown", "mamba", "clip", ""])
def test_other_architectures_are_refused_in_ollama_s_words(llama, folder, architecture):
    error = refusal(llama, folder, architecture=architecture)
    assert error.message == "unsupported architecture"
    assert all(known in error.hint for known in ARCHITECTURES)


def test_an_embedding_that_is_the_output_too_is_refused_for_the_model(tmp_path):
    """The conversion does not know the model's tensors; the check of the result does."""
    tied = saved_base(tmp_path / "tied", transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True), TEXT)
    tied.adapted(tmp_path / "adapter", target_modules=["embed_tokens"])
    with pytest.raises(BadRequestError, match="which is the output too in this model"):
        tied.converted(tmp_path / "adapter", tmp_path / "out.gguf")


def test_an_adapter_of_a_wider_model_does_not_fit(llama, folder, tmp_path):
    change_tensors(folder, replaced("lora_A", lambda data: np.tile(data, 2)))
    with pytest.raises(BadRequestError, match=r'lora_a" has the shape .* which does not fit to "blk'):
        llama.converted(folder, tmp_path / "out.gguf")


# -- files that chance has spoiled ------------------------------------------------------------------------------------


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """Some bytes others, gone, or twice."""
    copy = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        # Most of what can go wrong stands at the beginning.
        at = chance.randrange(chance.choice((16, 600, len(copy))) if len(copy) > 600 else len(copy))
        kind = chance.randrange(4)
        if kind == 0:
            copy[at] = chance.randrange(256)
        elif kind == 1:
            copy[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del copy[at : at + chance.choice((1, 4, 64))]
        else:
            copy[at:at] = copy[at : at + chance.choice((1, 4, 64))]
    return bytes(copy)


def test_spoiled_files_are_refused_or_harmless(llama, folder, tmp_path):
    """Nothing but a ``ConvertError`` comes of 300 spoiled adapters; one that converts is a sound file."""
    outcomes = {"refused": 0, "converted": 0}
    files = adapter_files(folder)
    sound = {name: path.read_bytes() for name, path in files.items()}
    for seed in range(300):
        chance = random.Random(seed)
        name = chance.choice(sorted(files))
        files[name].write_bytes(spoiled(sound[name], chance))
        try:
            convert_adapter(files, tmp_path / "out.gguf", llama.facts(), lambda *_: None)
        except ConvertError:
            outcomes["refused"] += 1
        else:
            outcomes["converted"] += 1
            header = read_header(tmp_path / "out.gguf")
            assert header.kind == "adapter"
            try:
                check_adapter(header, llama.header)
            except BadRequestError:
                outcomes["refused"] += 1
        files[name].write_bytes(sound[name])
    assert outcomes["refused"] > 100
    assert outcomes["converted"] > 10
