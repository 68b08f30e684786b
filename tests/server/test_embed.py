"""Embeddings on both routes: what vectors are, what their texts may be, what is refused and in which order."""

from __future__ import annotations

import json
import math
import re
import threading

import numpy as np
import pytest
from http_calls import MODEL, until

WIDTH = 576
OPTIONS = {"num_thread": 1}
NARROW = {**OPTIONS, "num_ctx": 64}
LONG = "one two three four " * 20
"""Some 80 tokens, more than a narrow context takes."""

NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e-?\d+)?")


def embedded(api, given, **fields):
    body = {"model": MODEL, "input": given, "options": OPTIONS, **fields}
    response = api.post("/api/embed", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def vector(api, text, **fields):
    (found,) = embedded(api, text, **fields)["embeddings"]
    return np.array(found)


def legacy(api, prompt, **fields):
    response = api.post("/api/embeddings", json={"model": MODEL, "prompt": prompt, "options": OPTIONS, **fields})
    assert response.status_code == 200, response.text
    return np.array(response.json()["embedding"])


@pytest.fixture
def narrow(bench, unloaded):
    """The workshop, whose model is gone again after tests that ask for a small context."""
    yield bench
    unloaded(MODEL)


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


# -- vectors -----------------------------------------------------------------------------------------------------------


def test_an_embedding_has_ollamas_fields(api):
    response = api.post("/api/embed", json={"model": MODEL, "input": "Why is the sky blue?", "options": OPTIONS})
    answer = response.json()
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert list(answer) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert answer["model"] == MODEL
    assert [len(found) for found in answer["embeddings"]] == [WIDTH]
    assert answer["prompt_eval_count"] == 6
    assert answer["total_duration"] >= answer["load_duration"] > 0


def test_a_vector_has_length_one(api):
    assert np.linalg.norm(vector(api, "A cat.")) == pytest.approx(1, abs=1e-6)


def test_vectors_come_in_the_order_of_their_texts_and_are_those_of_each_text_alone(api):
    texts = ["A cat.", "A very long walk through the mountains of Norway.", "x", "A cat."]
    answer = embedded(api, texts)
    together = np.array(answer["embeddings"])
    counts = 0
    for text, found in zip(texts, together, strict=True):
        alone = embedded(api, text)
        counts += alone["prompt_eval_count"]
        assert cosine(found, np.array(alone["embeddings"][0])) > 0.999
    assert answer["prompt_eval_count"] == counts
    assert cosine(together[0], together[1]) < 0.99


def test_many_texts_are_many_vectors(api):
    answer = embedded(api, [f"The number {number}." for number in range(20)])
    assert len(answer["embeddings"]) == 20
    assert len({tuple(found) for found in answer["embeddings"]}) == 20


def test_requests_at_once_get_their_own_vectors(api):
    expected = {text: vector(api, text) for text in ("A cat.", "The moon.", "Bread and butter.")}
    found = {}

    def ask(text):
        found[text] = vector(api, text)

    threads = [threading.Thread(target=ask, args=(text,)) for text in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(cosine(found[text], expected[text]) > 0.999 for text in expected)


def test_numbers_are_written_as_short_as_a_float32_can_be(api):
    body = {"model": MODEL, "input": "A cat.", "options": OPTIONS}
    text = api.post("/api/embed", json=body).text
    numbers = re.search(r"\[\[(.*)\]\]", text)[1].split(",")
    assert all(NUMBER.fullmatch(number) for number in numbers)
    assert [float(number) for number in numbers] == [float(str(np.float32(number))) for number in numbers]


# -- fields of a request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [1, 32, WIDTH])
def test_fewer_dimensions_are_the_beginning_of_the_vector_at_unit_length(api, dimensions):
    whole, short = vector(api, "A cat."), vector(api, "A cat.", dimensions=dimensions)
    assert len(short) == dimensions
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-6)
    assert cosine(short, whole[:dimensions]) > 0.999


@pytest.mark.parametrize("dimensions", [0, None])
def test_no_dimensions_are_all(api, dimensions):
    assert len(vector(api, "A cat.", dimensions=dimensions)) == WIDTH


@pytest.mark.parametrize("dimensions", [-1, WIDTH + 1, 10**9])
def test_dimensions_that_the_model_does_not_have_are_refused(api, dimensions):
    response = api.post("/api/embed", json={"model": MODEL, "input": "x", "dimensions": dimensions})
    assert response.status_code == 400
    assert response.json()["error"].startswith(f"dimensions must be between 1 and {WIDTH}")


@pytest.mark.parametrize("truncate", [{}, {"truncate": True}, {"truncate": None}], ids=["absent", "true", "null"])
def test_a_text_that_is_too_long_loses_its_end(narrow, truncate):
    answer = embedded(narrow, LONG + "and an end", options=NARROW, **truncate)
    assert 50 < answer["prompt_eval_count"] <= 64
    found = np.array(answer["embeddings"][0])
    assert cosine(found, vector(narrow, LONG + "or another one", options=NARROW)) > 0.9999
    assert cosine(found, vector(narrow, f"A cat. {LONG}", options=NARROW)) < 0.9999


def test_a_text_that_is_too_long_is_refused_where_it_must_not_be_cut(api):
    body = {"model": MODEL, "input": ["short", LONG * 8, "short"], "truncate": False, "options": OPTIONS}
    response = api.post("/api/embed", json=body)
    assert response.status_code == 400
    assert response.json()["error"] == "the input length exceeds the context length"
    assert embedded(api, "short", truncate=False)["prompt_eval_count"] == 1


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/api/embed", {}),
        ("/api/embed", {"input": ""}),
        ("/api/embed", {"input": None}),
        ("/api/embed", {"input": []}),
        ("/api/embeddings", {}),
        ("/api/embeddings", {"prompt": ""}),
    ],
    ids=repr,
)
def test_no_text_loads_the_model(bench, unloaded, path, given):
    unloaded(MODEL)
    response = bench.post(path, json={"model": MODEL, "options": OPTIONS, **given})
    assert response.status_code == 200
    assert response.json() == ({"model": MODEL, "embeddings": []} if path == "/api/embed" else {"embedding": []})
    assert [model["name"] for model in bench.get("/api/ps").json()["models"]] == [MODEL]


@pytest.mark.parametrize(("path", "field"), [("/api/embed", "input"), ("/api/embeddings", "prompt")])
def test_keep_alive_says_how_long_the_model_stays(bench, path, field):
    bench.post(path, json={"model": MODEL, field: "x", "options": OPTIONS, "keep_alive": -1})
    (model,) = bench.get("/api/ps").json()["models"]
    assert model["expires_at"] > "2300"
    bench.post(path, json={"model": MODEL, field: "x", "options": OPTIONS, "keep_alive": 0})
    until(lambda: not bench.get("/api/ps").json()["models"], "the model to be gone")


@pytest.mark.parametrize(("path", "field"), [("/api/embed", "input"), ("/api/embeddings", "prompt")])
def test_options_hold_for_embeddings_too(bench, unloaded, path, field):
    response = bench.post(path, json={"model": MODEL, field: "x", "options": {**OPTIONS, "num_ctx": 256}})
    assert response.status_code == 200
    (model,) = bench.get("/api/ps").json()["models"]
    assert model["context_length"] == 256
    unloaded(MODEL)


# -- the older route ---------------------------------------------------------------------------------------------------


def test_the_older_route_gives_the_vector_as_the_model_does(api):
    response = api.post("/api/embeddings", json={"model": MODEL, "prompt": "A cat.", "options": OPTIONS})
    answer = response.json()
    assert list(answer) == ["embedding"]
    assert len(answer["embedding"]) == WIDTH
    older = np.array(answer["embedding"])
    assert not math.isclose(np.linalg.norm(older), 1, abs_tol=0.01)
    assert cosine(older, vector(api, "A cat.")) > 0.999
    assert (older.astype(np.float32) == older).all(), "32 bits widened to 64, to the last digit"


def test_the_older_route_keeps_the_end_of_a_text_that_is_too_long(narrow):
    ended = legacy(narrow, f"{LONG} and an end", options=NARROW)
    assert cosine(ended, legacy(narrow, f"A cat. {LONG} and an end", options=NARROW)) > 0.9999
    assert cosine(ended, legacy(narrow, f"{LONG} A cat is a dog.", options=NARROW)) < 0.9999


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [5, True, {}, {"text": "x"}, ["x", 1], [None], [[1, 2]], 0, False], ids=json.dumps)
@pytest.mark.parametrize("model", [MODEL, "nope"])
def test_what_is_no_text_is_refused_whatever_the_model_is(api, given, model):
    response = api.post("/api/embed", json={"model": model, "input": given})
    assert (response.status_code, response.json()["error"]) == (400, "invalid input type")


@pytest.mark.parametrize(
    ("path", "model", "status", "text"),
    [
        ("/api/embed", "", 404, 'model "" not found, try pulling it first'),
        ("/api/embed", "a b", 404, 'model "a b" not found, try pulling it first'),
        ("/api/embed", "nope", 404, 'model "nope" not found, try pulling it first'),
        ("/api/embed", 'a"b', 404, r'model "a\"b" not found, try pulling it first'),
        ("/api/embeddings", "", 400, "model is required"),
        ("/api/embeddings", "a b", 400, "model is required"),
        ("/api/embeddings", "nope", 404, 'model "nope" not found, try pulling it first'),
    ],
)
def test_a_model_that_is_not_there_gets_each_routes_own_text(api, path, model, status, text):
    response = api.post(path, json={"model": model, "input": "x", "prompt": "x"})
    assert (response.status_code, response.json()) == (status, {"error": text})


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"keep_alive": "abc"}, 'time: invalid duration "abc"'),
        ({"keep_alive": True}, "Unsupported type: 'bool'"),
        ({"options": {"num_ctx": "many"}}, 'option "num_ctx" must be of type integer'),
    ],
    ids=repr,
)
def test_fields_that_make_no_sense_get_ollamas_text(api, path, fields, text):
    response = api.post(path, json={"model": MODEL, "input": "x", "prompt": "x", **fields})
    assert (response.status_code, response.json()["error"]) == (400, text)


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
def test_an_empty_body_is_missing(api, path):
    response = api.post(path, content=b"")
    assert (response.status_code, response.json()) == (400, {"error": "missing request body"})


def test_a_list_of_a_text_without_any_token_is_refused(api):
    response = api.post("/api/embed", json={"model": MODEL, "input": ["x", ""], "options": OPTIONS})
    assert response.status_code == 400
    assert "no input" in response.json()["error"]


def test_the_model_is_known_in_any_spelling_and_named_as_it_was_asked_for(api):
    answer = embedded(api, "x", model=MODEL.upper())
    assert answer["model"] == MODEL.upper()
