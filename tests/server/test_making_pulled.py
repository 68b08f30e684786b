"""Create from a model that is not here: it is pulled first, over TLS, which is how registries are spoken to."""

from __future__ import annotations

import ssl

import pytest
from certificates import Certificate
from docker_registry import docker_registry
from http_calls import MODEL, OPTIONS, client, lines
from registry_front import registry_front


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a certificate that the server under test trusts."""
    folder = tmp_path_factory.mktemp("place")
    return folder, Certificate.make(folder, "ours")


@pytest.fixture(scope="module")
def front(place):
    folder, certificate = place
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    with docker_registry(folder / "registry") as registry, registry_front(registry.url, tls=context) as front:
        yield front


@pytest.fixture(scope="module")
def calls(place, front, start):
    """A server that has pushed a model of its own, and forgotten it."""
    folder, certificate = place
    with start(folder, SSL_CERT_FILE=str(certificate.cert)) as server, client(server.url) as calls:
        name = f"{front.host}/me/base"
        calls.post("/api/create", json={"model": name, "from": MODEL, "system": "Base."})
        assert lines(calls.post("/api/push", json={"model": name}))[-1] == {"status": "success"}
        calls.request("DELETE", "/api/delete", json={"model": name})
        yield calls


def names(calls):
    return {model["name"] for model in calls.get("/api/tags").json()["models"]}


def test_a_base_that_is_not_here_is_pulled_first(calls, front):
    base = f"{front.host}/me/base"
    steps = lines(calls.post("/api/create", json={"model": "mine", "from": base, "parameters": {"seed": 7}}))
    told = [step["status"] for step in steps]
    pulled = told.index("verifying sha256 digest")
    assert told[0] == "pulling manifest"
    assert all(status.startswith("pulling ") for status in told[:pulled])
    assert told[pulled + 1] == "writing manifest"
    assert all(" layer sha256:" in status for status in told[pulled + 2 : -2])
    assert told[-2:] == ["writing manifest", "success"]
    assert {"mine:latest", f"{base}:latest"} <= names(calls)
    shown = calls.post("/api/show", json={"model": "mine"}).json()
    assert shown["details"]["parent_model"] == f"{base}:latest"
    assert shown["system"] == "Base."
    body = {"model": "mine", "prompt": "The sky is", "stream": False, "options": OPTIONS}
    assert calls.post("/api/generate", json=body).json()["response"]


def test_a_base_that_is_here_is_not_asked_for_again(calls, front):
    base = f"{front.host}/me/base"
    assert lines(calls.post("/api/create", json={"model": "one", "from": base}))[-1] == {"status": "success"}
    before = len(front.seen)
    assert lines(calls.post("/api/create", json={"model": "two", "from": base}))[-1] == {"status": "success"}
    assert len(front.seen) == before


@pytest.mark.parametrize("stream", [True, False])
def test_a_base_that_is_nowhere_leaves_nothing(calls, front, stream):
    before = names(calls)
    body = {"model": "mine", "from": f"{front.host}/me/nowhere", "stream": stream}
    answer = calls.post("/api/create", json=body)
    assert (answer.status_code, lines(answer)[-1]["error"]) == (
        200 if stream else 404, "pull model manifest: file does not exist",
    )  # fmt: skip
    assert names(calls) == before
