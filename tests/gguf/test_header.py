from __future__ import annotations

import pytest

from ollama_nb.gguf.header import Header, TensorInfo, format_parameter_count


def header(metadata=None, tensors=()):
    return Header(
        version=3,
        metadata=metadata or {},
        tensors=list(tensors),
        data_offset=32,
        alignment=32,
        file_size=32,
    )


def tensor(type_name, *shape):
    return TensorInfo(f"{type_name}{shape}", type_name, shape, 0, 0)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1K"),
        (1500, "2K"),
        (12345, "12K"),
        (1_000_000, "1M"),
        (22713216, "22.71M"),
        (137_000_000, "137M"),
        (136727040, "136.73M"),
        (134515008, "134.52M"),
        (999_999_999, "1000.00M"),
        (7_000_000_000, "7B"),
        (8030261248, "8.0B"),
        (70_553_706_560, "70.6B"),
    ],
)
def test_a_parameter_count_is_shown_as_ollama_shows_it(count, text):
    assert format_parameter_count(count) == text


@pytest.mark.parametrize(
    ("metadata", "architecture"),
    [({"general.architecture": "llama"}, "llama"), ({}, "unknown"), ({"general.architecture": 7}, "unknown")],
)
def test_the_architecture_is_a_name_or_unknown(metadata, architecture):
    assert header(metadata).architecture == architecture


def test_get_reads_the_keys_of_the_architecture():
    value = header({"general.architecture": "qwen3", "qwen3.block_count": 28, "llama.block_count": 1})
    assert value.get("block_count") == 28
    assert value.get("context_length") is None


def test_parameters_are_the_numbers_in_all_tensors():
    assert (
        header(tensors=[tensor("F32", 4, 3), tensor("Q4_0", 32, 2, 2), tensor("F32")]).parameter_count == 12 + 128 + 1
    )


@pytest.mark.parametrize(
    ("number", "name"),
    [(0, "F32"), (1, "F16"), (15, "Q4_K_M"), (32, "BF16"), (1024 + 15, "Q4_K_M"), (4, "unknown"), (999, "unknown")],
)
def test_a_stated_file_type_is_named(number, name):
    assert header({"general.file_type": number}, [tensor("F16", 8, 8)]).file_type == name


def test_an_unstated_file_type_is_that_of_most_weights_in_matrices():
    tensors = [tensor("Q4_K", 256, 4), tensor("F32", 9999), tensor("F32", 2, 2), tensor("F32", 2, 3)]
    assert header(tensors=tensors).file_type == "Q4_K"


def test_without_matrices_the_file_type_is_unknown():
    assert header({"general.file_type": "F16"}, [tensor("F32", 9)]).file_type == "unknown"


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        ({}, "model"),
        ({"general.type": "model"}, "model"),
        ({"general.type": "adapter"}, "adapter"),
        ({"general.type": "projector"}, "projector"),
        ({"general.type": "mmproj", "general.architecture": "clip"}, "projector"),
        ({"general.architecture": "clip", "clip.vision.block_count": 24}, "projector"),
        ({"general.architecture": "clip", "clip.audio.block_count": 24}, "projector"),
        ({"general.architecture": "gemma3", "gemma3.vision.block_count": 27, "gemma3.block_count": 34}, "model"),
        ({"general.architecture": "clip", "clip.vision.block_count": 0}, "model"),
    ],
)
def test_the_kind_tells_models_from_adapters_and_projectors(metadata, kind):
    assert header(metadata).kind == kind
