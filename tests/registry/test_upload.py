"""Uploads, against a stand-in that resumes and redirects; the real registry is asked in ``test_docker_registry``."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upload_desk import DATA, PART, TRIES, Desk, etag
from upload_registry import TOKEN, upload_registry

from ollama_nb.registry.outgoing import PIECE
from ollama_nb.registry.upload import part_size
from ollama_nb.wire.errors import RegistryError


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
