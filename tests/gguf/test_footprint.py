from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_nb.gguf.footprint import estimate
from ollama_nb.gguf.reader import read_header

MIB = 1 << 20
SMOLLM2 = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.vocab_size": 49152,
}


@pytest.fixture
def header_of(tmp_path, gguf_bytes):
    def make(metadata, tensors=()):
        path = tmp_path / "model.gguf"
        path.write_bytes(gguf_bytes(metadata, tensors))
        return read_header(path)

    return make


# What llama.cpp itself reports for SmolLM2-135M with these settings.
@pytest.mark.parametrize(
    ("num_ctx", "num_seq", "cache_type", "mebibytes"),
    [(4096, 1, "f16", 90.0), (8192, 4, "f16", 720.0), (4096, 1, "q8_0", 47.8125), (4096, 1, "q4_0", 25.3125)],
)
def test_the_context_cache_is_what_llama_cpp_allocates(header_of, num_ctx, num_seq, cache_type, mebibytes):
    assert estimate(header_of(SMOLLM2), num_ctx, num_seq, 512, cache_type).kv_cache == mebibytes * MIB


@pytest.mark.parametrize(
    ("shape", "flash_attention", "mebibytes"),
    [
        ((4096, 1, 512), True, 98.25),
        ((4096, 1, 512), False, 99.38),
        ((8192, 4, 512), True, 98.25),
        ((8192, 4, 512), False, 646.38),
        ((8192, 1, 512), False, 166.38),
        ((4096, 1, 64), True, 12.28),
        ((32, 1, 512), True, 6.14),
        ((4096, 8, 2048), True, 393.01),
    ],
)
def test_the_compute_buffer_is_close_to_and_not_below_llama_cpps(header_of, shape, flash_attention, mebibytes):
    footprint = estimate(header_of(SMOLLM2), *shape, flash_attention=flash_attention)
    assert mebibytes <= footprint.compute / MIB <= 1.06 * mebibytes


def test_the_weights_are_the_tensors_and_the_total_is_the_sum(header_of):
    footprint = estimate(header_of(SMOLLM2, [("a", "Q4_1", (64, 3)), ("b", "F32", (5,))]), 4096, 1, 512)
    assert footprint.weights == 120 + 20
    assert footprint.total == footprint.weights + footprint.kv_cache + footprint.compute


def test_a_projector_beside_the_weights_counts_with_them(header_of):
    header = header_of(SMOLLM2, [("a", "Q4_1", (64, 3))])
    alone, beside = estimate(header, 4096, 1, 512), estimate(header, 4096, 1, 512, beside=1000)
    assert beside.weights == alone.weights + 1000
    assert beside.total == alone.total + 1000


def test_stated_key_and_value_lengths_come_before_derived_ones(header_of):
    metadata = SMOLLM2 | {"llama.attention.key_length": 192, "llama.attention.value_length": 128}
    assert estimate(header_of(metadata), 1, 1, 1).kv_cache == 30 * 3 * (192 + 128) * 2


def test_layers_may_differ_in_their_heads(header_of):
    counts = [3] * 10 + [0] * 20
    metadata = SMOLLM2 | {"llama.attention.head_count_kv": counts}
    assert estimate(header_of(metadata), 4096, 1, 512).kv_cache == 30 * MIB


def test_without_a_count_of_cached_heads_all_heads_are_cached(header_of):
    metadata = {name: value for name, value in SMOLLM2.items() if not name.endswith("head_count_kv")}
    assert estimate(header_of(metadata), 4096, 1, 512).kv_cache == 270 * MIB


def test_a_vocabulary_is_counted_when_its_size_is_not_stated(header_of):
    stated = estimate(header_of(SMOLLM2 | {"llama.vocab_size": 5000}), 32, 1, 1).compute
    counted = SMOLLM2 | {"llama.vocab_size": 0, "tokenizer.ggml.tokens": ["t"] * 5000}
    assert estimate(header_of(counted), 32, 1, 1).compute == stated


def test_an_unknown_cache_type_is_a_value_error(header_of):
    with pytest.raises(ValueError, match='unknown cache type "q3"'):
        estimate(header_of(SMOLLM2), 1, 1, 1, "q3")


def test_an_empty_header_takes_only_its_attention_mask(header_of):
    footprint = estimate(header_of({}), 4096, 1, 512)
    assert (footprint.weights, footprint.kv_cache) == (0, 0)
    assert footprint.compute == 512 * 4096 * 2


NONSENSE = st.sampled_from(
    [0, -1, 3, ("uint64", 2**64 - 1), "many", True, 0.5, float("nan"), ("uint32", []), [0], [1, 2**31], [-1, 5],
     ["a"], ("uint64", [2**64 - 1] * 3), [1] * 2000],
)  # fmt: skip


QUANTITIES = [*SMOLLM2, "llama.attention.key_length", "llama.attention.value_length"][1:]


@given(metadata=st.dictionaries(st.sampled_from(QUANTITIES), NONSENSE))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_zeros_and_nonsense_in_a_header_never_stop_an_estimate(header_of, metadata):
    header = header_of(SMOLLM2 | metadata)
    footprint = estimate(header, 4096, 2, 512)
    for count in (footprint.weights, footprint.kv_cache, footprint.compute, footprint.total):
        assert 0 <= count < 2**63
