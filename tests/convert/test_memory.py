"""How much memory a conversion takes: that of a block, whatever the model's size."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import msgspec
import pytest
from convert.handmade import LLAMA, llama_shapes
from convert.reference import tiny_tokenizer

from ollama_nb.convert.jobs import ConvertModel, Done, Event, Step
from ollama_nb.gguf.reader import read_header

CONFIG = {
    **LLAMA,
    "hidden_size": 2048,
    "vocab_size": 73728,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 8192,
    "num_hidden_layers": 6,
}
"""A Llama of 1.3 GB in BF16: the embedding and the output have 302 MB each."""

LIMIT = 256 << 20
"""Bytes at a time for a model of 1.3 GB; Python with numpy has 40 MB of them, before it has read anything."""

MEASURED = """
import runpy, sys
from pathlib import Path
try:
    runpy.run_module("ollama_nb.convert.worker", run_name="__main__")
finally:
    (most,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(int(most.split()[1]) << 10, file=sys.stderr)
"""
"""The program that the server starts, which says at the end how many bytes it had at most. ``getrusage`` would count
those of the process that it was forked from."""


@pytest.fixture(scope="module")
def large_model(tmp_path_factory):
    """The files of a large model, whose weights are a hole: the disk need not have them, the conversion reads zeros."""
    folder = tmp_path_factory.mktemp("large")
    tiny_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    table, end = {}, 0
    for name, shape in llama_shapes(CONFIG).items():
        begin, end = end, end + 2 * (shape[0] * shape[1] if len(shape) > 1 else shape[0])
        table[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(table).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    assert end > 1_200_000_000
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture
def out(tmp_path):
    """Where the GGUF comes; more than a gigabyte, so it goes at once."""
    yield tmp_path / "out.gguf"
    (tmp_path / "out.gguf").unlink(missing_ok=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this measure")
@pytest.mark.parametrize("wanted", ["", "F16"])
def test_a_model_of_more_than_a_gigabyte_takes_a_fraction_of_its_size(large_model, out, wanted):
    job = msgspec.json.encode(ConvertModel(files=large_model, out=str(out), type=wanted))
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", MEASURED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        # Its stdin stays open: the process ends with it.
        process.stdin.write(job + b"\n")
        process.stdin.flush()
        told = [msgspec.json.decode(line, type=Event) for line in process.stdout]
        words = process.stderr.read().decode()
    assert told[-1] == Done([]), (told[-1], words)
    steps = [step for step in told if isinstance(step, Step)]
    assert steps[-1].completed == steps[-1].total > 1_200_000_000
    header = read_header(out)
    assert header.file_size > 1_200_000_000
    assert {tensor.type for tensor in header.tensors} == {wanted or "BF16", "F32"}
    assert int(words.split()[-1]) < LIMIT
