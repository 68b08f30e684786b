"""Requests to pull and to push: what is refused, what is told, and how a registry's refusals reach the client."""

from __future__ import annotations

import hashlib
import json

import pytest
from docker_registry import docker_registry
from http_calls import MODEL, client, lines

ROUTES = pytest.mark.parametrize("path", ["/api/pull", "/api/push"])
STREAM = pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": False}], ids=repr)
DENIED = "the proxy does not lead to"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def calls(tmp_path_factory, start, registry):
    """A server of its own, which has pushed a small model to the registry as ``there``."""
    with start(tmp_path_factory.mktemp("transfers")) as server, client(server.url) as calls:
        name = f"{registry.host}/me/there"
        assert calls.post("/api/create", json={"model": name, "from": MODEL, "system": "One."}).is_success
        assert lines(calls.post("/api/push", json={"model": name, "insecure": True}))[-1] == {"status": "success"}
        yield calls


@pytest.fixture
def there(registry):
    return f"{registry.host}/me/there"


def models(calls):
    return {model["name"]: model for model in calls.get("/api/tags").json()["models"]}


@STREAM
@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/api/pull", {}, "invalid model name"),
        ("/api/pull", {"model": "a b"}, "invalid model name"),
        ("/api/pull", {"model": "a b", "name": MODEL}, "invalid model name"),
        ("/api/pull", {"name": "../../x"}, "invalid model name"),
        ("/api/pull", {"model": "x@sha256:" + "0" * 64}, "invalid model name"),
        ("/api/push", {}, "model is required"),
        ("/api/push", {"model": "a b"}, "invalid model name"),
        ("/api/push", {"model": "../../etc"}, "invalid model name"),
    ],
)
def test_a_name_that_is_none_is_refused_first(api, path, body, text, stream):
    response = api.post(path, json={**body, **stream})
    assert (response.status_code, response.json()) == (400, {"error": text})


@ROUTES
@pytest.mark.parametrize("field", ["insecure", "stream"])
def test_fields_have_their_types(api, path, field):
    response = api.post(path, json={"model": MODEL, field: "yes"})
    kind = "PullRequest" if path == "/api/pull" else "PushRequest"
    text = f"json: cannot unmarshal string into Go struct field {kind}.{field} of type bool"
    assert (response.status_code, response.json()) == (400, {"error": text})


@ROUTES
def test_an_empty_body_is_missing(api, path):
    assert api.post(path, content=b"").json() == {"error": "missing request body"}


@ROUTES
def test_plain_http_has_to_be_asked_for(api, path):
    answer = api.post(path, json={"model": "http://127.0.0.1/ns/model"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "insecure protocol http"
    assert "--insecure" in answer.json()["hint"]


@pytest.mark.parametrize("host", ["hf.co", "HuggingFace.co"])
def test_nothing_is_pushed_to_a_hub_that_takes_files(api, host):
    answer = api.post("/api/push", json={"model": f"{host}/user/repo"})
    assert answer.status_code == 400
    assert "hf upload" in answer.json()["hint"]


@pytest.mark.parametrize("key", ["model", "name"])
def test_a_pull_tells_every_step_and_its_bytes(calls, there, key):
    steps = lines(calls.post("/api/pull", json={key: there, "insecure": True}))
    told = [step for step in steps if "digest" in step]
    assert steps[0] == {"status": "pulling manifest"}
    assert steps[1 : 1 + len(told)] == told
    assert [step["status"] for step in steps[1 + len(told) :]] == [
        "verifying sha256 digest", "writing manifest", "success",
    ]  # fmt: skip
    sizes = {step["digest"]: step["total"] for step in told if step["completed"] == step["total"]}
    assert sum(sizes.values()) == models(calls)[f"{there}:latest"]["size"]
    assert all(step["status"] == f"pulling {step['digest'][7:19]}" for step in told)


@pytest.mark.parametrize("path", ["/api/pull", "/api/push"])
def test_without_a_stream_the_last_step_is_the_answer(calls, there, path):
    answer = calls.post(path, json={"model": there, "insecure": True, "stream": False})
    assert (answer.status_code, answer.json()) == (200, {"status": "success"})


@ROUTES
def test_user_and_password_of_old_clients_mean_nothing(calls, there, path):
    body = {"model": there, "insecure": True, "username": "ada", "password": "x", "stream": False}
    assert calls.post(path, json=body).json() == {"status": "success"}


def test_a_model_in_another_spelling_is_the_one_that_is_here(calls, registry, there):
    before = models(calls)
    steps = lines(calls.post("/api/push", json={"model": f"{registry.host}/Me/THERE", "insecure": True}))
    assert steps[-1] == {"status": "success"}
    assert models(calls).keys() == before.keys()
    assert hashlib.sha256(registry.manifest("me/there", "latest")).hexdigest() == before[f"{there}:latest"]["digest"]


def test_a_registry_that_does_not_have_it_is_told_in_ollamas_words(calls, registry):
    body = {"model": f"{registry.host}/me/nowhere", "insecure": True}
    steps = lines(calls.post("/api/pull", json=body))
    assert [*steps[0], *steps[1]] == ["status", "error", "hint"]
    assert steps[1]["error"] == "pull model manifest: file does not exist"
    answer = calls.post("/api/pull", json={**body, "stream": False})
    assert (answer.status_code, answer.json()["error"]) == (404, steps[1]["error"])


def test_a_registry_that_cannot_be_reached_is_a_bad_gateway(calls):
    answer = calls.post("/api/pull", json={"model": "llama3.2", "stream": False})
    assert answer.status_code == 502
    assert answer.json()["error"].startswith(f"pull model manifest: {DENIED} registry.ollama.ai")


def test_a_manifest_is_kept_as_the_registry_has_it(calls, registry, there):
    text = json.dumps(json.loads(registry.manifest("me/there", "latest")), indent=3).encode()
    registry.put_manifest("me/there", "spaced", text)
    name = f"{there}:spaced"
    assert lines(calls.post("/api/pull", json={"model": name, "insecure": True}))[-1] == {"status": "success"}
    assert models(calls)[name]["digest"] == hashlib.sha256(text).hexdigest()
