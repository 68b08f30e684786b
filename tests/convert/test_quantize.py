"""What is known of a quantization before any tensor is read: its name, and what it can be made of."""

from __future__ import annotations

import pytest

from ollama_nb.convert.quantize import NEED_IMATRIX, QUANTIZATIONS, quantization, require_source
from ollama_nb.gguf.ggml_types import FILE_TYPES
from ollama_nb.gguf.reader import read_header
from ollama_nb.wire.errors import BadRequestError


@pytest.fixture
def header(tmp_path, gguf_bytes):
    """``header({"a.weight": "F16"}, **metadata)``: of a file with one matrix of 256 x 2 for each name."""

    def make(tensors, **metadata):
        metadata = {key.replace("__", "."): value for key, value in metadata.items()}
        rows = [(name, stored, (256, 2)) for name, stored in tensors.items()]
        (tmp_path / "model.gguf").write_bytes(gguf_bytes({"general.architecture": "llama", **metadata}, rows))
        return read_header(tmp_path / "model.gguf")

    return make


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        *((name, name) for name in QUANTIZATIONS),
        *((name.lower(), name) for name in QUANTIZATIONS),
        ("q4_K_M", "Q4_K_M"),
        ("q4_k", "Q4_K_M"),
        ("Q3_K", "Q3_K_M"),
        ("Q5_K", "Q5_K_M"),
        ("iq4_nl", "IQ4_NL"),
        ("bf16", "BF16"),
        ("mxfp4_moe", "MXFP4"),
    ],
)
def test_a_type_may_be_written_in_any_letters(given, meant):
    assert quantization(given) == meant


def test_all_types_of_ollama_are_there():
    assert {"F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0"} <= set(QUANTIZATIONS)


def test_every_type_of_a_file_is_made_or_refused():
    for name in FILE_TYPES.values():
        if name in QUANTIZATIONS:
            assert quantization(name) == name
        else:
            with pytest.raises(BadRequestError):
                quantization(name)


@pytest.mark.parametrize("name", ["Q9_9", "q4", "INT8", "", " Q8_0", "NVFP4", "ß", "Q4_K_M\n"])
def test_an_unknown_type_is_refused_in_ollamas_words_with_all_types_as_a_hint(name):
    with pytest.raises(BadRequestError) as caught:
        quantization(name)
    assert caught.value.message == (
        f"unsupported quantization type {name.upper()} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
    )
    assert all(known in caught.value.hint for known in QUANTIZATIONS)


@pytest.mark.parametrize("name", sorted(NEED_IMATRIX))
def test_a_type_that_needs_an_importance_matrix_says_so(name):
    with pytest.raises(BadRequestError, match=f"quantization type {name} needs an importance matrix") as caught:
        quantization(name.lower())
    assert "Q2_K" in caught.value.hint


@pytest.mark.parametrize(
    ("tensors", "file_type", "have"),
    [
        ({"a.weight": "F32"}, 0, "F32"),
        ({"a.weight": "F16"}, 1, "F16"),
        ({"a.weight": "BF16"}, 32, "BF16"),
        ({"a.weight": "F16", "b.weight": "F32", "c.weight": "F32"}, 1, "F16"),
        ({"a.weight": "F16", "b.weight": "I32"}, 1, "F16"),
        ({"a.weight": "BF16", "b.weight": "BF16", "c.weight": "F32"}, None, "BF16"),
        ({"a.weight": "F16"}, 15, "F16"),
        ({"a.weight": "F32"}, 999, "F32"),
    ],
    ids=["F32", "F16", "BF16", "mixed", "with a table", "says nothing", "says Q4_K_M", "says nonsense"],
)
def test_a_model_of_floats_may_be_quantized_whatever_its_file_says(header, tensors, file_type, have):
    said = {} if file_type is None else {"general__file_type": file_type}
    assert require_source(header(tensors, **said), "Q8_0") == have


@pytest.mark.parametrize(
    ("tensors", "file_type", "shown"),
    [
        ({"a.weight": "Q4_1"}, 3, "Q4_1"),
        ({"a.weight": "F16", "b.weight": "Q4_K"}, 15, "Q4_K_M"),
        ({"a.weight": "Q8_0"}, None, "Q8_0"),
        ({"a.weight": "Q8_0"}, 1, "F16"),
        ({"a.weight": "F64"}, None, "F64"),
        ({}, 1, "F16"),
    ],
)
def test_any_other_model_is_refused_in_ollamas_words(header, tensors, file_type, shown):
    said = {} if file_type is None else {"general__file_type": file_type}
    with pytest.raises(BadRequestError) as caught:
        require_source(header(tensors, **said), "Q8_0")
    assert caught.value.message == "quantization is only supported for F16 and F32 models"
    assert shown in caught.value.hint
    assert "BF16" in caught.value.hint


def test_mxfp4_is_for_mixtures_of_experts(header):
    assert require_source(header({"a.weight": "F16"}, llama__expert_count=8), "MXFP4") == "F16"
    for experts in ({}, {"llama__expert_count": 0}, {"llama__expert_count": "8"}):
        with pytest.raises(BadRequestError, match="mixtures of experts"):
            require_source(header({"a.weight": "F16"}, **experts), "MXFP4")
