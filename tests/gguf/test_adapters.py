"""Which LoRA adapters fit to a model, by the headers of both."""

import pytest

from ollama_nb.gguf.adapters import check_adapter
from ollama_nb.gguf.reader import read_header
from ollama_nb.wire.errors import BadRequestError

WIDTH, OUTPUTS, TOKENS, EXPERTS, RANK = 64, 96, 320, 4, 2
GATE, NORM, EMBEDDING, EXPERT = "blk.0.ffn_gate.weight", "blk.0.attn_norm.weight", "token_embd.weight", "blk.0.x.weight"
BASE = [
    (EMBEDDING, "F16", (WIDTH, TOKENS)),
    ("output.weight", "F16", (WIDTH, TOKENS)),
    (GATE, "Q4_0", (WIDTH, OUTPUTS)),
    (NORM, "F32", (WIDTH,)),
    (EXPERT, "F16", (WIDTH, OUTPUTS, EXPERTS)),
    ("blk.0.odd.weight", "NVFP4", (WIDTH, OUTPUTS)),
]
KEYS = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 16.0,
}


@pytest.fixture
def header(tmp_path, gguf_bytes):
    """Writes a file and reads its header: ``header(keys, tensors)``."""

    def make(keys, tensors):
        path = tmp_path / "some.gguf"
        path.write_bytes(gguf_bytes(keys, tensors))
        return read_header(path)

    return make


@pytest.fixture
def check(header):
    """Checks an adapter of ``tensors`` against the model of ``BASE``: ``check(tensors, keys, base)``."""

    def run(tensors, keys=KEYS, base=BASE):
        check_adapter(header(keys, tensors), header({"general.architecture": "llama"}, base))

    return run


def pair(name, first, second, types=("F32", "F32")):
    return [(f"{name}.lora_a", types[0], first), (f"{name}.lora_b", types[1], second)]


FITTING = pair(GATE, (WIDTH, RANK), (RANK, OUTPUTS))


@pytest.mark.parametrize(
    "tensors",
    [
        FITTING,
        pair(GATE, (WIDTH, RANK), (RANK, OUTPUTS), ("F16", "BF16")),
        pair(GATE, (WIDTH, 32), (32, OUTPUTS), ("Q8_0", "Q8_0")),
        pair(GATE, (WIDTH,), (1, OUTPUTS)),
        pair(GATE, (WIDTH, RANK, 1, 1), (RANK, OUTPUTS, 1)),
        pair("output.weight", (WIDTH, RANK), (RANK, TOKENS)),
        pair(EMBEDDING, (RANK, TOKENS), (RANK, WIDTH)),
        pair(EXPERT, (WIDTH, RANK, EXPERTS), (RANK, OUTPUTS, EXPERTS)),
        [*FITTING, (NORM, "F32", (WIDTH,))],
    ],
    ids=[
        "a matrix", "in half precision", "quantized", "of rank 1", "with dimensions of 1", "the output",
        "the embedding", "experts", "with a norm that is read over",
    ],
)  # fmt: skip
def test_what_llama_cpp_can_apply_is_taken(check, tensors):
    check(tensors)


def test_an_adapter_may_leave_its_alpha_out(check):
    check(FITTING, {key: value for key, value in KEYS.items() if key != "adapter.lora.alpha"})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"general.type": "model"}, "the file is no adapter but a model"),
        (
            {"general.architecture": "gemma2"},
            'the adapter is for the architecture "gemma2", the model is "llama"',
        ),
        ({"adapter.type": "loha"}, "the adapter is of the type 'loha'; only lora is supported"),
        ({"adapter.type": 1}, "the adapter is of the type 1; only lora is supported"),
        ({"adapter.lora.alpha": 16}, "adapter.lora.alpha of the adapter must be a float32, not 16"),
        ({"adapter.lora.alpha": float("nan")}, "adapter.lora.alpha of the adapter must be a float32, not nan"),
        (
            {"adapter.alora.invocation_tokens": [1, 2]},
            "the adapter is an activated LoRA, which changes only what comes behind certain tokens",
        ),
    ],
)
def test_another_kind_of_adapter_is_refused(check, keys, message):
    with pytest.raises(BadRequestError) as caught:
        check(FITTING, {**KEYS, **keys})
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], "the adapter has no LoRA tensors: there is nothing that it changes"),
        ([(NORM, "F32", (WIDTH,))], "the adapter has no LoRA tensors: there is nothing that it changes"),
        (FITTING[:1], f'the adapter has "{GATE}.lora_a" without "{GATE}.lora_b"'),
        (FITTING[1:], f'the adapter has "{GATE}.lora_b" without "{GATE}.lora_a"'),
        (
            pair("blk.7.ffn_gate.weight", (WIDTH, RANK), (RANK, OUTPUTS)),
            'the adapter changes "blk.7.ffn_gate.weight", which the model does not have',
        ),
        (
            [*FITTING, ("blk.0.ffn_gate.bias", "F32", (OUTPUTS,))],
            'the adapter has a tensor "blk.0.ffn_gate.bias", which is no part of a LoRA',
        ),
        (
            pair(GATE, (WIDTH, RANK), (RANK, OUTPUTS), ("F32", "I32")),
            f'the adapter\'s "{GATE}.lora_b" is stored as I32, which llama.cpp cannot compute',
        ),
        (
            pair(NORM, (WIDTH, RANK), (RANK,)),
            f'the adapter changes "{NORM}", which is no matrix that can be changed',
        ),
        (
            pair("blk.0.odd.weight", (WIDTH, RANK), (RANK, OUTPUTS)),
            'the adapter changes "blk.0.odd.weight", which is no matrix that can be changed',
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(check, tensors, message):
    with pytest.raises(BadRequestError) as caught:
        check(tensors)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("name", "first", "second", "wrong"),
    [
        (GATE, (WIDTH + 1, RANK), (RANK, OUTPUTS), ".lora_a"),
        (GATE, (WIDTH, RANK), (RANK, OUTPUTS + 1), ".lora_b"),
        (GATE, (WIDTH, RANK), (RANK + 1, OUTPUTS), ".lora_b"),
        (GATE, (WIDTH, 0), (0, OUTPUTS), ".lora_a"),
        (GATE, (WIDTH, RANK, EXPERTS), (RANK, OUTPUTS, EXPERTS), ".lora_a"),
        (EXPERT, (WIDTH, RANK, EXPERTS), (RANK, OUTPUTS), ".lora_b"),
        (EMBEDDING, (WIDTH, RANK), (RANK, TOKENS), ".lora_a"),
        (EMBEDDING, (RANK, TOKENS), (RANK + 1, WIDTH), ".lora_b"),
    ],
)
def test_a_shape_that_does_not_fit_is_told_with_that_of_the_model(check, name, first, second, wrong):
    with pytest.raises(BadRequestError) as caught:
        check(pair(name, first, second))
    shape = list({".lora_a": first, ".lora_b": second}[wrong])
    (model,) = (list(shape) for known, _, shape in BASE if known == name)
    assert caught.value.message == (
        f'the adapter\'s "{name}{wrong}" has the shape {shape}, which does not fit to "{name}" of the model, {model}'
    )
    assert caught.value.hint == "FROM must name the model that the adapter was trained on."


def test_an_embedding_that_is_the_output_too_cannot_be_changed(check):
    """llama.cpp would end the process at the first token."""
    tied = [row for row in BASE if row[0] != "output.weight"]
    with pytest.raises(BadRequestError, match="which is the output too in this model") as caught:
        check(pair(EMBEDDING, (RANK, TOKENS), (RANK, WIDTH)), base=tied)
    assert "Merge" in caught.value.hint
