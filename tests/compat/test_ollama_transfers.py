"""PyPI's ``ollama`` pulls and pushes between real servers, through a real registry."""

from __future__ import annotations

import asyncio
import hashlib
import json

import ollama
import pytest
from docker_registry import docker_registry
from http_calls import OPTIONS
from samples import SMOLLM2, SMOLLM2_SHA256

NOBODY = "127.0.0.1:9/ns/m"
"""A model of a registry that cannot be reached: nothing listens on that port."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry without models."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def pushed(url, registry):
    """The name of SmolLM2 in the registry, which it has reached by a push in steps, and these."""
    name = f"{registry.host}/ada/smollm2:135m"
    with ollama.Client(host=url) as client:
        client.copy(SMOLLM2, name)
        steps = list(client.push(name, insecure=True, stream=True))
        client.delete(name)
    return name, steps


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, start):
    """The address of a server that has no models."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "models").mkdir()
    with start(folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def client(elsewhere):
    """A client of that server."""
    with ollama.Client(host=elsewhere) as client:
        yield client


def test_a_push_tells_every_layer_and_ends_well(pushed, registry):
    _, steps = pushed
    assert [step.status for step in steps if not step.total] == ["retrieving manifest", "pushing manifest", "success"]
    weights = [step for step in steps if step.digest == f"sha256:{SMOLLM2_SHA256}"]
    assert {step.status for step in weights} == {f"pushing {SMOLLM2_SHA256[:12]}"}
    assert weights[-1].completed == weights[-1].total == registry.blobs()[f"sha256:{SMOLLM2_SHA256}"]
    named = json.loads(registry.manifest("ada/smollm2", "135m"))
    assert {named["config"]["digest"], *(layer["digest"] for layer in named["layers"])} <= registry.blobs().keys()


def test_a_pull_tells_every_layer_and_the_model_is_here_and_answers(pushed, registry, client):
    name, _ = pushed
    steps = list(client.pull(name, insecure=True, stream=True))
    assert [step.status for step in steps if not step.total] == [
        "pulling manifest",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    weights = [step for step in steps if step.digest == f"sha256:{SMOLLM2_SHA256}"]
    assert {step.status for step in weights} == {f"pulling {SMOLLM2_SHA256[:12]}"}
    assert weights[-1].completed == weights[-1].total
    (model,) = client.list().models
    assert model.model == name
    assert model.digest == hashlib.sha256(registry.manifest("ada/smollm2", "135m")).hexdigest()
    said = client.generate(name, "Say hello.", options={**OPTIONS, "num_predict": 4, "num_thread": 1}, keep_alive=0)
    assert said.eval_count == 4


def test_without_a_stream_the_last_step_is_the_answer(pushed, client):
    name, _ = pushed
    assert client.pull(name, insecure=True) == ollama.ProgressResponse(status="success")
    assert client.push(name, insecure=True) == ollama.ProgressResponse(status="success")


def test_the_asynchronous_client_has_the_same(pushed, elsewhere):
    name, _ = pushed

    async def use():
        async with ollama.AsyncClient(host=elsewhere) as client:
            pulled = [step.status async for step in await client.pull(name, insecure=True, stream=True)]
            back = [step.status async for step in await client.push(name, insecure=True, stream=True)]
            return pulled, back, await client.pull(name, insecure=True), await client.push(name, insecure=True)

    pulled, back, *whole = asyncio.run(use())
    assert (pulled[0], pulled[-1]) == ("pulling manifest", "success")
    assert (back[0], back[-1]) == ("retrieving manifest", "success")
    assert [answer.status for answer in whole] == ["success", "success"]


@pytest.mark.parametrize(
    ("call", "model", "error"),
    [
        ("pull", "{registry}/ada/absent", "pull model manifest: file does not exist"),
        ("pull", NOBODY, "pull model manifest: max retries exceeded"),
        ("push", "{registry}/ada/absent", "not found"),
    ],
)
def test_what_cannot_be_had_is_an_error_with_its_reason(client, registry, call, model, error):
    name = model.format(registry=registry.host)
    with pytest.raises(ollama.ResponseError, match=error):
        getattr(client, call)(name, insecure=True)
    with pytest.raises(ollama.ResponseError, match=error):
        list(getattr(client, call)(name, insecure=True, stream=True))


@pytest.mark.parametrize("call", ["pull", "push"])
def test_a_name_that_is_none_is_refused_before_anything_is_done(client, call):
    with pytest.raises(ollama.ResponseError, match="invalid model name") as caught:
        list(getattr(client, call)("a b", stream=True))
    assert caught.value.status_code == 400
