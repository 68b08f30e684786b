"""``/v1/models`` and ``/v1/embeddings`` on a real server, and what all of ``/v1`` has in common."""

from __future__ import annotations

import base64
import time

import numpy as np
import pytest
from http_calls import MODEL, client

PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


# -- models ------------------------------------------------------------------------------------------------------------


def test_models_are_listed_with_their_age_and_owner(api):
    answer = api.get("/v1/models").json()
    (model,) = answer["data"]
    assert answer["object"] == "list"
    assert list(model) == ["id", "object", "created", "owned_by"]
    assert (model["id"], model["object"], model["owned_by"]) == (MODEL, "model", "library")
    assert 0 <= time.time() - model["created"] < 86_400
    assert api.get(f"/v1/models/{MODEL}").json() == model


def test_without_models_the_list_is_empty(tmp_path, start):
    (tmp_path / "models").mkdir()
    with start(tmp_path) as server, client(server.url) as calls:
        assert calls.get("/v1/models").json() == {"object": "list", "data": []}


def test_a_name_with_slashes_is_found_however_it_is_written(bench):
    made = bench.post("/api/copy", json={"source": MODEL, "destination": "someone/openai-copy"})
    assert made.status_code == 200
    for path in ("someone/openai-copy", "someone%2Fopenai-copy", "someone%2fopenai-copy:latest"):
        model = bench.get(f"/v1/models/{path}").json()
        assert model["id"].startswith("someone/openai-copy")
        assert model["owned_by"] == "someone"
    bench.request("DELETE", "/api/delete", json={"model": "someone/openai-copy"})


@pytest.mark.parametrize("name", ["nope", "a/b/c/d/e", "%20", "..%2F..%2Fetc", "x%00"])
def test_a_model_that_is_not_there_is_404(api, name):
    response = api.get(f"/v1/models/{name}")
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["message"].endswith("not found")
    assert (error["type"], error["param"], error["code"]) == ("not_found_error", "model", "model_not_found")


# -- embeddings --------------------------------------------------------------------------------------------------------


def embed(calls, **fields):
    return calls.post("/v1/embeddings", json={"model": MODEL, **fields})


def vectors(response):
    return np.array([entry["embedding"] for entry in response.json()["data"]], np.float32)


def test_every_input_has_its_vector(api):
    answer = embed(api, input=["Why is the sky blue?", "Why is the grass green?"]).json()
    assert list(answer) == ["object", "data", "model", "usage"]
    assert [(entry["object"], entry["index"]) for entry in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert (answer["object"], answer["model"]) == ("list", MODEL)
    native = api.post(
        "/api/embed", json={"model": MODEL, "input": ["Why is the sky blue?", "Why is the grass green?"]}
    ).json()
    assert [entry["embedding"] for entry in answer["data"]] == native["embeddings"]
    count = native["prompt_eval_count"]
    assert answer["usage"] == {"prompt_tokens": count, "total_tokens": count}


def test_a_single_text_is_a_list_of_one(api):
    np.testing.assert_array_equal(vectors(embed(api, input="blue")), vectors(embed(api, input=["blue"])))


def test_base64_holds_the_same_numbers(api):
    floats = vectors(embed(api, input="blue", user="me"))
    for name in ("base64", "BASE64"):
        (entry,) = embed(api, input="blue", encoding_format=name).json()["data"]
        read = np.frombuffer(base64.b64decode(entry["embedding"], validate=True), "<f4")
        np.testing.assert_array_equal(read, floats[0])


def test_dimensions_shorten_the_vectors(api):
    short = vectors(embed(api, input="blue", dimensions=16))
    assert short.shape == (1, 16)
    np.testing.assert_allclose(np.linalg.norm(short), 1, rtol=1e-5)


def test_inputs_can_be_token_ids(api):
    several = vectors(embed(api, input=[[1000, 2000], [3000]]))
    np.testing.assert_allclose(vectors(embed(api, input=[1000, 2000]))[0], several[0], atol=1e-4)
    assert not np.allclose(several[0], several[1], atol=1e-2)


@pytest.mark.parametrize(
    ("fields", "status", "param", "text"),
    [
        ({}, 400, "input", "invalid input"),
        ({"input": []}, 400, "input", "invalid input"),
        ({"input": ["a", ""]}, 400, "input", "no input provided"),
        ({"input": [1, "a"]}, 400, "input", "invalid input type"),
        ({"input": [10_000_000]}, 400, "input", "token ids"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", "['float', 'base64']"),
        ({"input": "a", "dimensions": -1}, 400, "dimensions", "dimensions"),
        ({"input": "a", "dimensions": 100_000}, 400, "dimensions", "dimensions"),
        ({"input": "a", "dimensions": "few"}, 400, "dimensions", "EmbedRequest.dimensions"),
        ({"input": "a", "model": "nope"}, 404, "model", "nope"),
        ({"input": [1], "model": "nope"}, 404, "model", "nope"),
    ],
)
def test_what_cannot_be_embedded_is_refused(api, fields, status, param, text):
    response = embed(api, **fields)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param
    assert text in response.json()["error"]["message"]


# -- all of /v1 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_a_missing_body_is_said_in_openais_shape(api, path):
    response = api.post(path)
    assert response.status_code == 400
    assert response.json() == {
        "error": {
            "message": "EOF",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
            "hint": "the request has no body; send a JSON object",
        }
    }


@pytest.mark.parametrize("path", PATHS)
def test_an_api_key_and_a_form_content_type_make_no_difference(api, path):
    for key in ("Bearer ollama", "Bearer sk-1"):
        headers = {"Authorization": key, "Content-Type": "application/x-www-form-urlencoded"}
        response = api.post(path, headers=headers, content='{"model": "nope", "messages": 1, "input": 5, "prompt": 5}')
        assert response.status_code == 400
