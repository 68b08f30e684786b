"""Pulls and pushes as a client sees them, against a stand-in for the server."""

from __future__ import annotations

import asyncio

import pytest

from ollama_nb import AsyncClient, Client
from ollama_nb.client.models import Progress
from ollama_nb.wire.errors import NotFoundError, OllamaError

BOTH = pytest.mark.parametrize(("call", "doing"), [("pull", "pulling"), ("push", "pushing")])


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


@BOTH
def test_the_steps_of_several_blobs_come_as_the_server_tells_them(client, call, doing):
    steps = list(getattr(client, call)("m"))
    assert steps[0] == Progress(status=f"{doing} manifest")
    assert steps[1] == Progress(
        status=f"{doing} {'a' * 12}", digest=f"sha256:{'a' * 64}", completed=40_000_000, total=90_000_000
    )
    assert [(step.digest[-1:], step.completed) for step in steps if step.total] == [
        ("a", 40_000_000),
        ("b", 0),
        ("b", 8_000_000),
        ("a", 90_000_000),
    ]
    assert steps[-1] == Progress(status="success")


@BOTH
def test_the_request_is_ollamas(client, server, call, doing):
    for given, sent in (({}, {}), ({"insecure": False}, {}), ({"insecure": True}, {"insecure": True})):
        assert getattr(client, call)("host/ns/m:tag", **given).result().status == "success"
        assert server.last(f"/api/{call}") == {"model": "host/ns/m:tag", "stream": True, **sent}


@BOTH
def test_an_error_on_the_way_is_the_servers_with_its_hint(client, call, doing):
    seen = []
    with pytest.raises(OllamaError, match=r"^max retries exceeded: no route to host$") as caught:
        seen.extend(getattr(client, call)("fails"))
    assert caught.value.hint == "Try again later."


@BOTH
def test_an_error_at_once_is_raised_by_the_call_itself(client, call, doing):
    with pytest.raises(NotFoundError, match="model 'missing' not found"):
        getattr(client, call)("missing")


def test_a_server_that_breaks_off_is_an_error(client):
    with pytest.raises(OllamaError, match="broke before the answer was complete"):
        client.pull("breaks").result()


@BOTH
def test_leaving_early_reaches_the_server(client, server, call, doing):
    with getattr(client, call)("endless") as steps:
        next(steps)
    assert server.left.wait(10)


@BOTH
def test_asyncio_has_the_same(server, client, call, doing):
    async def use():
        async with AsyncClient(server.url) as other:
            steps = [step async for step in await getattr(other, call)("m", insecure=True)]
            async with await getattr(other, call)("endless") as leaving:
                await anext(leaving)
            with pytest.raises(OllamaError, match="max retries exceeded"):
                await (await getattr(other, call)("fails")).result()
            return steps

    assert asyncio.run(use()) == list(getattr(client, call)("m"))
    assert server.asked[0] == ("POST", f"/api/{call}", {"model": "m", "stream": True, "insecure": True})
    assert server.left.wait(10)
