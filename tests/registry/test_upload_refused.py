"""Uploads that do not come about: refused, of a blob that is not what it should be, or called off."""

from __future__ import annotations

import asyncio
import contextlib
import os
from http import HTTPStatus

import pytest
from upload_desk import DATA, PART, PATIENCE, TRIES
from upload_registry import settled, upload_registry

from ollama_nb.registry.client import Registry
from ollama_nb.registry.outgoing import PIECE
from ollama_nb.registry.transport import Transport
from ollama_nb.registry.upload import Upload
from ollama_nb.store.blobs import BlobStore
from ollama_nb.wire.errors import NotFoundError, OllamaError, RegistryError
from ollama_nb.wire.names import parse_name


@pytest.mark.parametrize("step", ["HEAD", "POST", "PATCH", "PUT"])
@pytest.mark.parametrize("status", [400, 403, 409, 413])
def test_a_refusal_is_told_at_once_in_the_registrys_words(desk, step, status):
    async def main():
        async with upload_registry() as registry:
            body = '{"errors":[{"code":"DENIED","message":"not with us"}]}' if step != "HEAD" else ""
            registry.answers[step] = [(status, {}, body)] * 9
            words = "not with us" if body else HTTPStatus(status).phrase
            with pytest.raises(RegistryError, match=f"^{status}: {words}$"):
                await desk.push(registry, desk.layer())
            assert registry.methods().count(step) == 1
            assert registry.sessions == {}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("from_", "asked"),
    [
        ("{host}/library/base:8b", "library/base"),
        ("http://{host}/library/base", "library/base"),
        ("{host}/me/x:other", ""),
        ("base", ""),
        ("other.example/library/base", ""),
        ("no name at all", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("mounts", [True, False], ids=["mounted", "not mounted"])
def test_a_layer_of_another_model_there_is_taken_over_if_the_registry_does_that(desk, from_, asked, mounts):
    async def main():
        async with upload_registry() as registry:
            layer = desk.layer(from_=from_.format(host=registry.host))
            registry.mountable = {layer.digest} if mounts else set()
            await desk.push(registry, layer)
            (begin,) = registry.of("POST")
            assert begin.query == ({"mount": layer.digest, "from": asked} if asked else {})
            assert (len(registry.of("PATCH")) == 0) == bool(asked and mounts)

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_layer_that_may_not_be_taken_over_is_sent(desk, status):
    async def main():
        async with upload_registry() as registry:
            layer = desk.layer(from_=f"{registry.host}/library/base")
            registry.answers["POST"] = [(status, {}, "")]
            await desk.push(registry, layer)
            assert registry.blobs == {layer.digest: DATA}
            assert [call.query for call in registry.of("POST")] == [
                {"mount": layer.digest, "from": "library/base"},
                {},
            ]

    asyncio.run(main())


def spoil_presence(path):
    path.unlink()


def spoil_length(path):
    path.write_bytes(path.read_bytes()[:-1])


def spoil_content(path):
    data = bytearray(path.read_bytes())
    data[77] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "kind", "text"),
    [
        (spoil_presence, NotFoundError, r'^blob "sha256:[0-9a-f]{64}" not found$'),
        (spoil_length, OllamaError, "is damaged: it has 4499 bytes, its manifest says 4500$"),
        (spoil_content, OllamaError, "is damaged: its content has another digest$"),
    ],
)
def test_a_blob_that_is_not_what_it_should_be_is_never_committed(desk, spoil, kind, text):
    async def main():
        async with upload_registry() as registry:
            layer = desk.layer()
            spoil(desk.blobs.path(layer.digest))
            with pytest.raises(kind, match=text):
                await desk.push(registry, layer)
            assert "PUT" not in registry.methods()
            assert registry.sessions == {}

    asyncio.run(main())


def cut_short(path):
    os.truncate(path, 1500)


def rewrite(path):
    # What was sent is right; whether that is so of what was sent twice nobody knows.
    spoil_content(path)
    os.utime(path, (1, 1))


@pytest.mark.parametrize("change", [cut_short, rewrite])
def test_a_blob_that_changes_while_it_is_sent_is_never_committed(desk, change):
    async def main():
        async with upload_registry() as registry:
            layer = desk.layer(DATA * 1000)
            path = desk.blobs.path(layer.digest)
            changed = []

            def at_the_second_part(call):
                if call.method == "PATCH" and not changed and len(registry.of("PATCH")) == 2:
                    changed.append(change(path))

            registry.when_asked = at_the_second_part
            with pytest.raises(OllamaError, match="changed while it was sent"):
                await desk.push(registry, layer, PIECE)
            assert changed
            assert "PUT" not in registry.methods()
            assert registry.sessions == {}

    asyncio.run(main())


@pytest.mark.parametrize("use", [BlobStore.remove, BlobStore.refresh], ids=["removed", "taken for another model"])
def test_a_blob_that_others_deal_with_while_it_is_sent_arrives_all_the_same(desk, use):
    async def main():
        async with upload_registry() as registry:
            layer = desk.layer()
            os.utime(desk.blobs.path(layer.digest), (1, 1))
            registry.when_asked = lambda call: call.method == "PATCH" and use(desk.blobs, layer.digest)
            await desk.push(registry, layer)
            assert registry.blobs == {layer.digest: DATA}

    asyncio.run(main())


def test_an_upload_that_is_cancelled_leaves_nothing_here_and_there(desk):
    async def main():
        async with upload_registry() as registry:
            layer = desk.layer(DATA * 1000)
            under_way = asyncio.Event()
            registry.when_asked = lambda call: call.method == "PATCH" and under_way.set()
            async with desk.upload(registry, layer, PIECE) as upload:
                task = asyncio.create_task(upload.run())
                await under_way.wait()
                assert list(registry.sessions) == ["s0"]
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert registry.methods()[-1] == "DELETE"
                assert registry.sessions == {}
                assert registry.blobs == {}
        await settled()

    asyncio.run(main())


def test_a_cancelled_upload_does_not_wait_for_a_registry_that_is_gone(desk):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            registry = await stack.enter_async_context(upload_registry())
            under_way = asyncio.Event()
            registry.when_asked = lambda call: call.method == "PATCH" and under_way.set()
            upload = await stack.enter_async_context(desk.upload(registry, desk.layer(DATA * 1000), PIECE))
            registry.answers["DELETE"] = [(503, {"Retry-After": "60"}, "")]
            task = asyncio.create_task(upload.run())
            await under_way.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await settled()

    asyncio.run(main())


@contextlib.asynccontextmanager
async def hasty_registry():
    """One that accepts a part as soon as it has a little of it, and hangs up."""
    asked = []

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.split()[0])
        if asked[-1] == "PATCH":
            await reader.readexactly(PART)
        status = {"HEAD": "404 Not Found", "GET": "404 Not Found", "DELETE": "204 No Content"}.get(asked[-1], "202 Yes")
        text = f"HTTP/1.1 {status}\r\nLocation: /v2/me/x/s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(text.encode())
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def test_a_part_that_is_accepted_before_it_was_sent_does_not_count(desk):
    async def main():
        async with hasty_registry() as (host, asked):
            transport = Transport(PATIENCE)
            there = Registry(parse_name(f"{host}/me/x"), transport, desk.key, insecure=True)
            with pytest.raises(RegistryError, match="max retries exceeded"):
                await Upload(there, desk.blobs, desk.layer(DATA * 5000)).run()
            await transport.aclose()
            assert asked.count("PATCH") == TRIES
            assert "PUT" not in asked

    asyncio.run(main())
