"""A real model of 135 million weights: from safetensors back to the very numbers and tokens of its GGUF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import llama_cpp
import numpy as np
import pytest
from convert.hard_strings import HARD_STRINGS

from ollama_nb.convert.model import convert_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def converted(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the conversion makes of the folder."""
    out = tmp_path_factory.mktemp("converted") / "smollm2.gguf"
    files = {path.name: path for path in smollm2_folder.iterdir()}
    assert convert_model(files, out, "", lambda _done, _total: None) == []
    return out


def test_every_number_is_that_of_the_original(converted: Path, smollm2_f16: Path) -> None:
    ours, theirs = (
        {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors} for path in (converted, smollm2_f16)
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.tensor_type == theirs[name].tensor_type
        np.testing.assert_array_equal(tensor.data, theirs[name].data, err_msg=name)


def test_the_header_says_the_same_of_the_model_and_its_tokens(converted: Path, smollm2_f16: Path) -> None:
    ours, theirs = (
        {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
        for path in (converted, smollm2_f16)
    )
    said = {name for name in theirs if name.startswith(("llama.", "tokenizer."))} & ours.keys()
    assert {"llama.rope.freq_base", "tokenizer.ggml.pre", "tokenizer.ggml.merges", "tokenizer.chat_template"} <= said
    for name in sorted(said):
        assert ours[name] == theirs[name], name


def test_hard_strings_become_the_same_tokens(converted: Path, sample_gguf: Path) -> None:
    ours, theirs = (llama_cpp.Llama(str(path), vocab_only=True, verbose=False) for path in (converted, sample_gguf))
    for text in HARD_STRINGS:
        data = text.encode()
        assert ours.tokenize(data, special=True) == theirs.tokenize(data, special=True), text
