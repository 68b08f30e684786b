"""Whole conversions of a tiny Llama: laws that hold for every model, and a thousand files that are wrong somewhere."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from convert.handmade import LLAMA, llama_shapes, llama_tensors, safetensors_bytes, written
from convert.mutations import mutated_model
from convert.reference import tiny_tokenizer

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.model import convert_model
from ollama_nb.gguf.reader import read_header

MUTANTS = 1000
PATIENCE = 20.0
"""Seconds that no file may take, however slow the machine: a sound one takes a hundredth of one."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The files of a tokenizer, as transformers saves them."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def model(tokenizer, tensors=None, **config):
    """The files of a tiny Llama."""
    config = {**LLAMA, **config}
    tensors = llama_tensors(config) if tensors is None else tensors
    return {
        "config.json": json.dumps(config).encode(),
        **tokenizer,
        "model.safetensors": safetensors_bytes(tensors, {"format": "pt"}),
    }


@pytest.fixture
def converted(tmp_path):
    """The GGUF that files become."""

    def run(files, wanted=""):
        folder = tmp_path / "files"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        convert_model(written(folder, files), tmp_path / "out.gguf", wanted, lambda _done, _total: None)
        return (tmp_path / "out.gguf").read_bytes()

    return run


# -- laws --------------------------------------------------------------------------------------------------------------


def test_the_same_files_give_the_same_bytes_in_whatever_order_they_are_named(converted, tokenizer):
    files = model(tokenizer)
    first = converted(files)
    chance = random.Random(1)
    for _ in range(5):
        assert converted(dict(chance.sample(list(files.items()), len(files)))) == first


@pytest.mark.parametrize("indexed", [True, False])
def test_it_does_not_matter_how_tensors_are_spread_over_files(converted, tokenizer, indexed):
    tensors = llama_tensors(LLAMA)
    whole = model(tokenizer, tensors)
    first = converted(whole)
    del whole["model.safetensors"]
    chance = random.Random(2)
    for count in (1, 2, 3, 7, len(tensors)):
        names = chance.sample(list(tensors), len(tensors))
        shards = {f"model-{n + 1:05}-of-{count:05}.safetensors": names[n::count] for n in range(count)}
        files = {shard: safetensors_bytes({name: tensors[name] for name in these}) for shard, these in shards.items()}
        if indexed:
            weight_map = {name: shard for shard, these in shards.items() for name in these}
            files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
        assert converted({**whole, **files}) == first
        if count > 1:
            files.pop(chance.choice(list(shards)))
            with pytest.raises(ConvertError, match=r"missing|only"):
                converted({**whole, **files})


def test_what_lies_beside_the_model_changes_nothing(converted, tokenizer):
    files = model(tokenizer)
    first = converted(files)
    others = {
        "consolidated.safetensors": safetensors_bytes(llama_tensors(LLAMA, seed=1)),
        "README.md": b"# A model",
        "onnx/model.onnx": b"x",
        "1_Dense/model.safetensors": b"x",
        "../config.json": b"{}",
        "/etc/config.json": b"{}",
    }
    assert converted({**files, **others}) == first


@pytest.mark.parametrize("wanted", ["F32", "F16", "BF16", ""])
def test_numbers_are_exact_where_the_form_can_hold_them(converted, tokenizer, tmp_path, wanted):
    """Numbers of eight bits after the point are exact in all three forms."""
    tensors = {name: np.float32(np.round(array * 64) / 64) for name, array in llama_tensors(LLAMA).items()}
    data = converted(model(tokenizer, tensors), wanted)
    form = wanted or "F16"
    header = read_header(tmp_path / "out.gguf")
    (found,) = [tensor for tensor in header.tensors if tensor.name == "blk.1.ffn_down.weight"]
    assert found.type == form
    begin = header.data_offset + found.offset
    kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[form]
    read = np.frombuffer(data[begin : begin + found.size], kind)
    numbers = (read.astype(np.uint32) << 16).view(np.float32) if form == "BF16" else read.astype(np.float32)
    np.testing.assert_array_equal(numbers, tensors["model.layers.1.mlp.down_proj.weight"].reshape(-1))


# -- parts that are missing or do not fit ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(llama_shapes(LLAMA)))
def test_a_model_with_a_part_missing_is_refused(converted, tokenizer, name):
    tensors = llama_tensors(LLAMA)
    del tensors[name]
    with pytest.raises(ConvertError, match="has no"):
        converted(model(tokenizer, tensors))


def test_two_tensors_that_are_the_same_part_are_refused(converted, tokenizer):
    tensors = llama_tensors(LLAMA)
    tensors["transformer.wte.weight"] = tensors["model.embed_tokens.weight"]
    with pytest.raises(ConvertError, match=r"two tensors|does not belong"):
        converted(model(tokenizer, tensors))


def test_weights_that_are_quantized_already_are_refused_by_their_method(converted, tokenizer):
    with pytest.raises(ConvertError, match="quantized already, by 'gptq'"):
        converted(model(tokenizer, quantization_config={"quant_method": "gptq", "bits": 4}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 0), ("num_hidden_layers", 3), ("num_hidden_layers", 513),
        ("num_hidden_layers", (1 << 31) - 1), ("num_attention_heads", 3), ("num_key_value_heads", 3),
        ("num_key_value_heads", 8), ("head_dim", 7), ("head_dim", (1 << 31) - 1), ("hidden_size", 31),
        ("intermediate_size", 47), ("rms_norm_eps", -1e-5), ("rope_theta", 0), ("max_position_embeddings", 0),
    ],
)  # fmt: skip
@pytest.mark.timeout(60)
def test_numbers_that_do_not_go_with_the_tensors_are_refused_at_once(converted, tokenizer, key, value):
    with pytest.raises(ConvertError, match=r"config\.json|layer"):
        converted(model(tokenizer, llama_tensors(LLAMA), **{key: value}))


LOADING = """
import sys, llama_cpp
for path in sys.argv[1:]:
    try:
        model = llama_cpp.Llama(path, n_ctx=64, n_threads=1, n_threads_batch=1, verbose=False)
    except ValueError:
        print("refused", flush=True)
        continue
    model.eval([1, 2, 3])
    model.eval([4])
    print("loaded", flush=True)
"""


def test_no_config_makes_a_file_over_which_llama_cpp_aborts(converted, tokenizer, tmp_path):
    """Tensors of the sizes that a wrong config says: what is converted at all is then loaded and computed."""
    paths = []
    values = (1, 2, 3, 5, 7, 16, 40, 512)
    for key in ("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size", "intermediate_size"):
        for value in values:
            config = {key: value}
            try:
                data = converted(model(tokenizer, llama_tensors({**LLAMA, **config}), **config))
            except ConvertError:
                continue
            paths.append(tmp_path / f"{key}-{value}.gguf")
            paths[-1].write_bytes(data)
    assert len(paths) > 20
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOADING, *paths], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, (paths[len(done.stdout.split())], done.stderr[-500:])
    assert len(done.stdout.split()) == len(paths)
    assert done.stdout.split().count("loaded") > 20


# -- mutants -----------------------------------------------------------------------------------------------------------


def test_whatever_is_wrong_with_a_file_is_a_clear_error(tmp_path, tokenizer):
    """A change in the numbers, or in a file that has no say, makes another model, and no error."""
    files = model(tokenizer)
    converted_ones = 0
    for number in range(MUTANTS):
        what, changed = mutated_model(files, random.Random(f"model {number}"))
        out = tmp_path / "out.gguf"
        began = time.monotonic()
        try:
            convert_model(written(tmp_path, changed), out, "F32", lambda _done, _total: None)
        except ConvertError as error:
            assert error.message.isprintable(), what  # noqa: PT017 - either is right
        except Exception as error:
            raise AssertionError(f"mutant {number}, {what}: {error!r}") from error
        else:
            converted_ones += 1
            read_header(out)
        assert time.monotonic() - began < PATIENCE, what
    assert MUTANTS * 0.1 < converted_ones < MUTANTS * 0.6
