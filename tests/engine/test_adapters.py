"""LoRA adapters of a loaded model: what they change, and what is refused before llama.cpp can end the process."""

import numpy as np
import pytest
from gguf_files import gguf_bytes
from lora_files import KEYS, WIDTH, lora_gguf, pair

from ollama_nb.engine.batch import Batch
from ollama_nb.engine.model import Model, ModelLoadError
from ollama_nb.runner.messages import Load

QUERY, EMBEDDING, TOKENS = "blk.0.attn_q.weight", "token_embd.weight", 49152
PROMPT = "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def model(sample_gguf):
    """Loads SmolLM2 with adapters: ``model(*paths)``."""

    def load(*adapters, **fields):
        paths = tuple(str(path) for path in adapters)
        frame = Load(model=str(sample_gguf), num_ctx=64, num_batch=64, num_thread=1, adapters=paths, **fields)
        return Model(frame, lambda _: None)

    return load


@pytest.fixture
def written(tmp_path):
    """Writes a file: ``written(data)``."""

    def write(data, name="adapter.gguf"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def logits(model):
    tokens = model.tokenize(PROMPT, add_special=True)
    batch = Batch(model.num_batch)
    row = batch.add(tokens, 0, 0, logits=True)
    model.decode(batch)
    return model.logits(row).copy()


def test_an_adapter_changes_the_answer_with_mapped_weights_or_read_ones(model, written):
    path = written(lora_gguf())
    mapped = logits(model(path, use_mmap=True))
    assert np.abs(mapped - logits(model())).max() > 1
    np.testing.assert_allclose(logits(model(path, use_mmap=False)), mapped, atol=1e-4)


def test_what_one_adapter_adds_another_takes_back(model, written):
    there, back = written(lora_gguf()), written(lora_gguf(-1), "back.gguf")
    plain = logits(model())
    # The two cancel but for rounding, which moves what is quantized on its way through the layers.
    assert np.abs(logits(model(there, back)) - plain).max() < 0.1 * np.abs(logits(model(there)) - plain).max()


@pytest.mark.parametrize(
    "case",
    [
        (
            {"general.architecture": "gemma"},
            pair(QUERY, WIDTH, WIDTH),
            'for the architecture "gemma", the model is "ll',
        ),
        ({"general.type": "model"}, pair(QUERY, WIDTH, WIDTH), "the file is no adapter but a model"),
        ({"adapter.type": 3}, pair(QUERY, WIDTH, WIDTH), "the adapter is of the type 3"),
        ({"adapter.lora.alpha": 16}, pair(QUERY, WIDTH, WIDTH), "adapter.lora.alpha of the adapter must be a float32"),
        (
            {},
            pair("blk.30.attn_q.weight", WIDTH, WIDTH),
            'changes "blk.30.attn_q.weight", which the model does not have',
        ),
        ({}, pair(QUERY, WIDTH, WIDTH + 1), f'lora_b" has the shape [4, 577], which does not fit to "{QUERY}"'),
        ({}, pair(QUERY, WIDTH, WIDTH, rank=0), f'lora_a" has the shape [576, 0], which does not fit to "{QUERY}"'),
        ({}, pair(QUERY, WIDTH, WIDTH, "I32"), "is stored as I32, which llama.cpp cannot compute"),
        ({}, pair(QUERY, WIDTH, WIDTH)[:1], f'the adapter has "{QUERY}.lora_a" without "{QUERY}.lora_b"'),
        (
            {},
            [(f"{EMBEDDING}.lora_a", "F16", (4, TOKENS)), (f"{EMBEDDING}.lora_b", "F16", (4, WIDTH))],
            "the adapter changes the token embedding, which is the output too in this model",
        ),
    ],
    ids=lambda case: case[-1],
)
def test_an_adapter_that_does_not_fit_is_refused_and_the_log_says_why(model, written, capfd, case):
    keys, tensors, reason = case
    path = written(gguf_bytes({**KEYS, **keys}, tensors))
    with pytest.raises(ModelLoadError, match=r"^unable to load adapter$"):
        model(path)
    assert reason in capfd.readouterr().err.rstrip().splitlines()[-1]


@pytest.mark.parametrize("what", ["missing", "empty", "cut short", "no GGUF"])
def test_a_file_that_is_no_sound_adapter_is_refused(model, written, tmp_path, what):
    data = {"empty": b"", "cut short": lora_gguf()[:-100], "no GGUF": b"not a GGUF file at all"}
    path = tmp_path / "none.gguf" if what == "missing" else written(data[what])
    with pytest.raises(ModelLoadError, match=r"^unable to load adapter$"):
        model(path)


def test_one_bad_adapter_among_good_ones_is_enough(model, written):
    with pytest.raises(ModelLoadError, match=r"^unable to load adapter$"):
        model(written(lora_gguf()), written(b"", "bad.gguf"))
