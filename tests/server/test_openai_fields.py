"""Fields of OpenAI's completions that the other tests have no reason to speak of."""

from __future__ import annotations

from http_calls import MODEL

ASKED = {"model": MODEL, "prompt": "Say hello.", "temperature": 0, "max_tokens": 4}


def texts(api, **fields):
    response = api.post("/v1/completions", json={**ASKED, **fields})
    assert response.status_code == 200, response.text
    return [choice["text"] for choice in response.json()["choices"]]


def test_a_bias_makes_a_token_of_a_completion_certain(api):
    (text,) = texts(api, logit_bias={"1000": 100}, max_tokens=2)
    assert text
    assert text[: len(text) // 2] == text[len(text) // 2 :]
    assert [text] != texts(api, max_tokens=2)


def test_a_user_changes_nothing_of_a_completion(api):
    assert texts(api, user="me") == texts(api)


def test_a_completion_keeps_to_a_format(api):
    schema = {"type": "json_schema", "json_schema": {"name": "one", "schema": {"enum": ["only this"]}}}
    assert texts(api, response_format=schema, max_tokens=12) == ['"only this"']
