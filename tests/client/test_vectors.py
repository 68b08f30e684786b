"""Texts of any kind in, one array out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ollama_nb.client.vectors import list_texts, read_embeddings
from ollama_nb.wire.errors import BadRequestError, OllamaError

TEXTS = ["one", "two", "three"]


def reply(vectors, **fields):
    return json.dumps({"model": "m", "embeddings": vectors, **fields}).encode()


@pytest.mark.parametrize(
    "given_texts",
    [
        TEXTS,
        tuple(TEXTS),
        pd.Series(TEXTS, index=[7, 3, 5]),
        pd.Series(TEXTS, dtype="string"),
        pd.Series(TEXTS, dtype="category"),
        pd.Index(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        (text for text in TEXTS),
        dict.fromkeys(TEXTS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_texts_come_in_whatever_holds_them(given_texts):
    found = list_texts(given_texts)
    assert found == TEXTS
    assert {type(text) for text in found} == {str}


def test_one_text_is_one():
    assert list_texts("one") == ["one"]
    assert list_texts([]) == []


@pytest.mark.parametrize(
    ("given_texts", "text"),
    [
        (pd.Series(["one", None]), "None at position 1|nan at position 1"),
        (pd.Series(["one", float("nan")]), "nan at position 1"),
        ([b"one"], "b'one' at position 0"),
        (b"one", "111 at position 0"),
        ([["one"]], r"\['one'\] at position 0"),
        ([1], "1 at position 0"),
    ],
)
def test_what_is_no_text_is_named_with_its_place(given_texts, text):
    with pytest.raises(BadRequestError, match=text):
        list_texts(given_texts)


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 5)), elements=st.floats(-1, 1, width=32)))
def test_what_a_server_writes_is_what_is_read_to_the_last_bit(vectors):
    body = reply([[float(str(number)) for number in row] for row in vectors])
    found = read_embeddings(body, ["x"] * len(vectors)).embeddings
    assert found.dtype == np.float32
    assert len(found) == len(vectors)
    np.testing.assert_array_equal(found, vectors.reshape(found.shape))


def test_a_result_is_an_array_a_sequence_and_its_counts():
    body = reply([[0.6, 0.8], [1, 0]], prompt_eval_count=5, total_duration=7, load_duration=3, later="ignored")
    result = read_embeddings(body, ["a", "b"])
    assert result.texts == ("a", "b")
    assert (result.model, result.prompt_eval_count, result.total_duration, result.load_duration) == ("m", 5, 7, 3)
    assert len(result) == 2
    assert [vector.tolist() for vector in result] == result.embeddings.tolist()
    assert result[1].tolist() == result.embeddings[-1].tolist() == [1, 0]
    assert np.asarray(result) is result.embeddings
    assert np.array(result) is not result.embeddings
    assert np.asarray(result, dtype=np.float64).dtype == np.float64
    np.testing.assert_allclose(result @ result.embeddings.T, [[1, 0.6], [0.6, 1]], rtol=1e-6)
    assert pd.DataFrame(result.embeddings, index=result.texts).loc["b"].tolist() == [1, 0]


@pytest.mark.parametrize("body", [b"{}", b'{"embeddings": null}', b'{"embeddings": []}'])
def test_no_vectors_are_an_empty_array(body):
    assert read_embeddings(body, []).embeddings.shape == (0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"embeddings": 5}',
        b'{"embeddings": [5]}',
        b'{"embeddings": [["x"]]}',
        b'{"embeddings": [[1, 2], [1]]}',
        b'{"embeddings": [[1, 2], [1, 2, 3]]}',
        b'{"embeddings": [[1], [null]]}',
        b'{"embeddings": [[1',
    ],
)
def test_a_reply_that_makes_no_sense_is_an_error_of_the_servers(body):
    with pytest.raises(OllamaError, match="cannot be read") as failed:
        read_embeddings(body, [])
    assert failed.value.status == 502
