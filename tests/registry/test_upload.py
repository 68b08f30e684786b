"""Uploads, against a stand-in that resumes and redirects; the real registry is asked in ``test_docker_registry``."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upload_registry import TOKEN, settled, upload_registry

from ollama_nb.registry.client import Registry
from ollama_nb.registry.keys import KeyPair
from ollama_nb.registry.outgoing import PIECE
from ollama_nb.registry.source import Patience
from ollama_nb.registry.transport import Transport
from ollama_nb.registry.upload import Upload, part_size
from ollama_nb.store.blobs import BlobStore
from ollama_nb.store.manifests import Layer, MediaType
from ollama_nb.wire.errors import NotFoundError, OllamaError, RegistryError
from ollama_nb.wire.names import parse_name

TRIES = 4
PATIENCE = Patience(connect=5, stall=5, tries=TRIES, first_wait=0.001, longest_wait=0.002)
PART = 1000
DATA = random.Random(7).randbytes(4500)


class Desk:
    """A blob store and what it takes to send a blob of it to a stand-in."""

    def __init__(self, folder):
        self.blobs = BlobStore(folder)
        self.blobs.directory.mkdir(exist_ok=True)
        self.key = KeyPair(folder / "key")

    def layer(self, data=DATA, from_=""):
        digest, size, _ = self.blobs.put(data)
        return Layer(MediaType.MODEL, digest, size, from_)

    @contextlib.asynccontextmanager
    async def upload(self, registry, layer, part=PART):
        transport = Transport(PATIENCE)
        there = Registry(parse_name(f"{registry.host}/me/x"), transport, self.key, insecure=True)
        try:
            yield Upload(there, self.blobs, layer, part=part)
        finally:
            await transport.aclose()

    async def push(self, registry, layer, part=PART):
        async with self.upload(registry, layer, part) as upload:
            await upload.run()
            assert upload.completed == layer.size


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def etag(data, part):
    """The name of a blob's parts, computed as S3 describes it."""
    sums = [hashlib.md5(data[at : at + part]).digest() for at in range(0, len(data), part)]  # noqa: S324
    return f"{hashlib.md5(b''.join(sums)).hexdigest()}-{len(sums)}"  # noqa: S324


@pytest.mark.parametrize(
    ("size", "part"),
    [
        (0, 100_000_000),
        (98_000_000, 100_000_000),
        (1_600_000_000, 100_000_000),
        (3_200_000_000, 200_000_000),
        (16_000_000_000, 1_000_000_000),
        (400_000_000_000, 1_000_000_000),
    ],
)
def test_a_blob_has_sixteen_parts_of_a_hundred_megabytes_to_a_gigabyte(size, part):
    assert part_size(size) == part


def test_a_blob_that_is_there_is_not_sent(desk):
    async def main():
        async with upload_registry() as registry:
            layer = desk.layer()
            registry.blobs[layer.digest] = DATA
            desk.blobs.remove(layer.digest)
            await desk.push(registry, layer)
            assert registry.methods() == ["HEAD"]

    asyncio.run(main())


@pytest.mark.parametrize("redirects", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("guarded", [False, True], ids=["open", "guarded"])
@pytest.mark.parametrize(
    ("size", "part"), [(0, 10), (1, 10), (10, 10), (11, 10), (30, 10), (2 * PIECE + 5, PIECE), (PIECE + 1, 4 * PIECE)]
)
def test_a_blob_arrives_in_its_parts_and_is_committed_under_its_name(desk, size, part, redirects, guarded):
    async def main():
        data = random.Random(size).randbytes(size)
        async with upload_registry(redirects=redirects, guarded=guarded) as registry:
            layer = desk.layer(data)
            await desk.push(registry, layer, part)
            assert registry.blobs == {layer.digest: data}
            stops = [min(at + part, size) for at in range(0, size, part)]
            expected = [f"{at}-{stop - 1}" for at, stop in zip(range(0, size, part), stops, strict=True)]
            shown = [call for call in registry.of("PATCH") if not guarded or "Authorization" in call.headers]
            assert [call.headers["Content-Range"] for call in shown] == expected
            assert {call.headers["Content-Type"] for call in shown} <= {"application/octet-stream"}
            (commit,) = registry.commits
            assert commit["etag"] == etag(data, part)
            assert commit["state"] in {"a/b", f"at{size}", "next"}

    asyncio.run(main())


@pytest.mark.parametrize("redirects", [False, True], ids=["here", "elsewhere"])
def test_a_token_is_shown_to_the_registry_and_not_to_its_storage(desk, redirects):
    async def main():
        async with upload_registry(redirects=redirects, guarded=True) as registry:
            await desk.push(registry, desk.layer())
            tokens = {call.path[:4]: call.headers.get("Authorization") for call in registry.calls}
            assert tokens == {"/v2/": f"Bearer {TOKEN}", **({"/sto": None} if redirects else {})}

    asyncio.run(main())


def test_what_broke_off_goes_on_where_the_registry_says(desk):
    async def main():
        async with upload_registry(breaks=[1000, 300, 700]) as registry:
            await desk.push(registry, desk.layer())
            assert registry.ranges()[:4] == ["0-999", "1000-1999", "1300-1999", "2000-2999"]
            assert sum(call.received for call in registry.of("PATCH")) == len(DATA)
            (commit,) = registry.commits
            assert commit["etag"] == etag(DATA, PART)

    asyncio.run(main())


@settings(max_examples=20)
@given(st.lists(st.integers(2, 1500), max_size=TRIES - 1), st.sampled_from([300, 1000, 4500, 9000]), st.booleans())
def test_however_the_line_breaks_every_byte_arrives_once_in_its_place(tmp_path_factory, breaks, part, redirects):
    async def main():
        desk = Desk(tmp_path_factory.mktemp("desk"))
        async with upload_registry(breaks=list(breaks), redirects=redirects) as registry:
            layer = desk.layer()
            await desk.push(registry, layer, part)
            assert registry.blobs == {layer.digest: DATA}

    asyncio.run(main())


def test_progress_falls_back_to_what_has_arrived(desk):
    async def main():
        async with upload_registry(breaks=[1200]) as registry:
            layer = desk.layer()
            async with desk.upload(registry, layer, 4500) as upload:
                seen = []
                registry.when_asked = lambda call: seen.append((call.method, upload.completed))
                await upload.run()
            assert seen == [
                ("HEAD", 0),
                ("POST", 0),
                ("PATCH", seen[2][1]),
                ("GET", 0),
                ("PATCH", seen[4][1]),
                ("PUT", 4500),
            ]
            assert registry.ranges() == ["0-4499", "1200-4499"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "headers", "goes_on"),
    [
        (204, {"Range": "0-499", "Location": "/v2/me/x/blobs/uploads/s0?state=new"}, True),
        (204, {"Range": "bytes=0-499"}, True),
        (200, {"Range": "0-499"}, True),
        (204, {"Range": "0-0"}, False),
        (204, {"Range": "0-99999"}, False),
        (204, {"Range": "5-499"}, False),
        (204, {"Range": "all of it"}, False),
        (204, {}, False),
        (404, {}, False),
        (405, {}, False),
        (400, {"Range": "0-499"}, False),
    ],
)
def test_what_a_registry_does_not_remember_is_begun_anew(desk, status, headers, goes_on):
    async def main():
        async with upload_registry(breaks=[500]) as registry:
            registry.answers["GET"] = [(status, headers, "")]
            layer = desk.layer()
            await desk.push(registry, layer)
            assert registry.blobs == {layer.digest: DATA}
            assert registry.ranges()[1] == ("500-999" if goes_on else "0-999")
            assert registry.methods().count("POST") == (1 if goes_on else 2)
            assert len(registry.sessions) == (status >= 400)

    asyncio.run(main())


@pytest.mark.parametrize("status", [404, 410, 416])
def test_an_upload_that_the_registry_has_lost_is_begun_anew(desk, status):
    async def main():
        async with upload_registry() as registry:
            registry.answers["PATCH"] = [(status, {}, "")]
            registry.answers["GET"] = [(404, {}, "")]
            layer = desk.layer()
            await desk.push(registry, layer)
            assert registry.blobs == {layer.digest: DATA}
            assert registry.methods().count("POST") == 2

    asyncio.run(main())


def test_a_commit_whose_answer_is_lost_is_found_done(desk):
    async def main():
        async with upload_registry() as registry:
            layer = desk.layer()

            def accept(call):
                if call.method == "PUT":
                    registry.blobs[layer.digest] = DATA

            registry.when_asked = accept
            registry.answers["PUT"] = [(504, {}, "")]
            await desk.push(registry, layer)
            assert registry.methods()[-2:] == ["PUT", "HEAD"]

    asyncio.run(main())


def test_a_commit_that_failed_is_repeated_and_nothing_else(desk):
    async def main():
        async with upload_registry() as registry:
            registry.answers["PUT"] = [(503, {}, ""), (500, {}, "")]
            layer = desk.layer()
            await desk.push(registry, layer)
            assert registry.blobs == {layer.digest: DATA}
            assert sum(call.received for call in registry.of("PATCH")) == len(DATA)

    asyncio.run(main())


def test_a_part_that_failed_elsewhere_goes_to_the_same_place_again(desk):
    async def main():
        async with upload_registry(redirects=True) as registry:
            registry.answers["PUT storage"] = [(503, {}, "")]
            layer = desk.layer()
            await desk.push(registry, layer)
            assert registry.blobs == {layer.digest: DATA}
            places = [call.path for call in registry.of("PUT") if "storage" in call.path]
            assert len(places) == 6
            assert places[0] == places[1]
            assert len(registry.of("PATCH")) == 5

    asyncio.run(main())


def test_the_same_bytes_are_sent_again_where_the_first_answer_is_a_challenge(desk):
    async def main():
        async with upload_registry(guarded=True) as registry:
            challenge = 'Bearer realm="http://{}/token",scope="repository:me/x:push"'.format(registry.host)  # noqa: UP032
            registry.answers["PATCH"] = [(401, {"WWW-Authenticate": challenge}, "")]
            layer = desk.layer()
            await desk.push(registry, layer)
            assert registry.blobs == {layer.digest: DATA}
            assert registry.ranges()[:2] == ["0-999", "0-999"]

    asyncio.run(main())


@pytest.mark.parametrize("place", ["http://169.254.169.254/latest", "ftp://127.0.0.1/x", "http://a:b@127.0.0.1/"])
@pytest.mark.parametrize("step", ["begin", "part"])
def test_an_upload_goes_nowhere_that_the_policy_on_addresses_forbids(desk, place, step):
    async def main():
        async with upload_registry() as registry:
            registry.answers = {
                "begin": {"POST": [(202, {"Location": place}, "")]},
                "part": {"PATCH": [(307, {"Location": place, "Docker-Upload-Location": "/v2/me/x/y"}, "")]},
            }[step]
            with pytest.raises(RegistryError, match=r"the registry redirects to .* refused"):
                await desk.push(registry, desk.layer())

    asyncio.run(main())


@pytest.mark.parametrize("location", ["", "http://x:port/"])
def test_a_registry_must_say_where_an_upload_goes_on(desk, location):
    async def main():
        async with upload_registry() as registry:
            registry.answers["POST"] = [(202, {"Location": location} if location else {}, "")]
            with pytest.raises(RegistryError, match="where the upload goes on"):
                await desk.push(registry, desk.layer())

    asyncio.run(main())


def test_patience_ends_where_nothing_moves(desk):
    async def main():
        async with upload_registry() as registry:
            registry.answers["PATCH"] = [(503, {}, "full")] * 20
            with pytest.raises(RegistryError, match=r"^max retries exceeded: 503: full$"):
                await desk.push(registry, desk.layer())
            assert len(registry.of("PATCH")) == TRIES
            assert registry.sessions == {}

    asyncio.run(main())


def test_patience_begins_anew_with_every_byte_that_moves(desk):
    async def main():
        async with upload_registry(breaks=[40] * 60) as registry:
            layer = desk.layer()
            await desk.push(registry, layer)
            assert registry.blobs == {layer.digest: DATA}
            assert sum(call.received for call in registry.of("PATCH")) == len(DATA)

    asyncio.run(main())


def test_a_registry_that_always_forgets_is_not_tried_for_ever(desk):
    async def main():
        async with upload_registry(breaks=[1000, 1000, 500] * 20) as registry:
            registry.answers["GET"] = [(404, {}, "")] * 60
            with pytest.raises(RegistryError, match="max retries exceeded"):
                await desk.push(registry, desk.layer())
            assert len(registry.of("POST")) <= TRIES * 3

    asyncio.run(main())


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
