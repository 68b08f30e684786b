"""What is done to the numbers of embeddings: unit length, fewer dimensions, their text."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ollama_nb.service.vectors import read_vector, unit, vector_json, wide_vector_json
from ollama_nb.wire.errors import OllamaError

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = arrays(np.float32, st.integers(1, 20), elements=FLOATS)


def texts(vector):
    return bytes(vector_json([vector])[0]).decode()[1:-1].split(",")


@given(VECTORS)
def test_a_number_is_written_as_short_as_a_float32_can_be_and_reads_back_the_same(vector):
    for number, text in zip(vector, texts(vector), strict=True):
        assert np.float32(text) == number
        assert float(text) == float(str(number))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (-0.0, "-0"), (1, "1"), (-1, "-1"), (0.1, "0.1"), (-0.000125, "-0.000125"), (2.0**-9, "0.001953125")],
)
def test_whole_numbers_have_no_point(number, text):
    assert texts(np.array([number], np.float32)) == [text]


@pytest.mark.parametrize("number", [2.0**power for power in range(-126, 127, 7)])
def test_powers_of_two_are_short_too(number):
    (text,) = texts(np.array([number], np.float32))
    assert float(text) == float(str(np.float32(number)))


def test_many_vectors_are_written_one_by_one():
    vectors = [np.full(3, number / 7, np.float32) for number in range(150)]
    assert vector_json(vectors) == [vector_json([vector])[0] for vector in vectors]
    assert vector_json([]) == []


@given(VECTORS)
def test_wide_numbers_are_those_of_32_bits_to_the_last_digit(vector):
    assert json.loads(bytes(wide_vector_json(vector))) == [float(number) for number in vector]


@given(VECTORS, st.integers(1, 20))
def test_a_vector_is_cut_and_brought_to_unit_length(vector, dimensions):
    short = unit(vector, min(dimensions, len(vector)))
    assert len(short) == min(dimensions, len(vector))
    kept = vector[: len(short)].astype(np.float64)
    norm = np.linalg.norm(kept)
    if norm == 0:
        assert not short.any()
    else:
        assert np.allclose(short, kept / norm, atol=1e-6)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_model_that_computes_no_number_is_an_error_of_the_server(number):
    with pytest.raises(OllamaError, match="embedding contains NaN or Inf values") as caught:
        read_vector(struct.pack("<3f", 1, number, 2))
    assert caught.value.status == 500
