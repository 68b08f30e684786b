"""Pulling and pushing: this version checks the request, and says plainly that it moves nothing yet."""

from __future__ import annotations

import pytest
from http_calls import MODEL

STREAM = pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": False}], ids=repr)


@STREAM
@pytest.mark.parametrize("key", ["model", "name"])
@pytest.mark.parametrize(("path", "word"), [("/api/pull", "pulling"), ("/api/push", "pushing")])
def test_what_this_version_cannot_do_is_said_with_what_to_do_instead(api, path, word, key, stream):
    response = api.post(path, json={key: MODEL, "insecure": True, **stream})
    assert response.status_code == 501
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    answer = response.json()
    assert list(answer) == ["error", "hint"]
    assert answer["error"].startswith(f"{word} models is not supported by this version")
    assert "GGUF" in answer["hint"]


@STREAM
@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/api/pull", {}, "invalid model name"),
        ("/api/pull", {"model": "a b"}, "invalid model name"),
        ("/api/pull", {"model": "a b", "name": MODEL}, "invalid model name"),
        ("/api/pull", {"name": "../../x"}, "invalid model name"),
        ("/api/push", {}, "model is required"),
        ("/api/push", {"model": "a b"}, "invalid model name"),
    ],
)
def test_a_name_that_is_none_is_refused_first(api, path, body, text, stream):
    response = api.post(path, json={**body, **stream})
    assert (response.status_code, response.json()) == (400, {"error": text})


@pytest.mark.parametrize("path", ["/api/pull", "/api/push"])
@pytest.mark.parametrize("field", ["insecure", "stream"])
def test_fields_have_their_types(api, path, field):
    response = api.post(path, json={"model": MODEL, field: "yes"})
    kind = "PullRequest" if path == "/api/pull" else "PushRequest"
    text = f"json: cannot unmarshal string into Go struct field {kind}.{field} of type bool"
    assert (response.status_code, response.json()) == (400, {"error": text})


@pytest.mark.parametrize("path", ["/api/pull", "/api/push"])
def test_an_empty_body_is_missing(api, path):
    assert api.post(path, content=b"").json() == {"error": "missing request body"}


def test_user_and_password_of_old_clients_mean_nothing(api):
    assert api.post("/api/pull", json={"model": MODEL, "username": "ada", "password": "x"}).status_code == 501
