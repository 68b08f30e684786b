"""Downloads that several want: fetched once, ended when the last one leaves, and each with its own source behind it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
from typing import TYPE_CHECKING, Final

import pytest
from downloading import go, until
from range_server import Fault, RangeServer, range_server, source_at

from ollama_nb.registry import download
from ollama_nb.registry.partial import PartialFiles
from ollama_nb.registry.sharing import Download, Downloads
from ollama_nb.registry.source import Patience
from ollama_nb.store.blobs import BlobStore
from ollama_nb.wire.errors import BadRequestError, CanceledError, OllamaError, RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ollama_nb.registry.source import Source

PATIENCE: Final = Patience(stall=30, tries=2, first_wait=0.01, longest_wait=0.05)
DATA: Final = random.Random(0).randbytes(1_000_000)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "part_size", lambda _: 128 * 1024)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path)
    store.directory.mkdir()
    return store


async def until_done(one: Download) -> None:
    while not await one.wait(0.05):
        pass


def nothing_has_come_for_long(one: Download) -> None:
    """As if it had been waiting since the machine was started."""
    one._since = (0.0, one.completed)


@contextlib.asynccontextmanager
async def offered(blobs: BlobStore, digest: str = "") -> AsyncIterator[tuple[RangeServer, Source, str]]:
    """A server that has ``DATA``, its source, and the digest."""
    async with range_server() as server:
        digest = digest or server.add(DATA)
        server.blobs[digest] = DATA
        async with source_at(server.port, digest, PATIENCE, blobs.directory.parent) as source:
            yield server, source, digest


def test_all_who_want_a_blob_get_it_from_one_download(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest):

            async def pull() -> int:
                async with downloads.join(source, digest, len(DATA)) as one:
                    assert await one.wait()
                    return one.completed

            assert await asyncio.gather(*(pull() for _ in range(5))) == [len(DATA)] * 5
            assert server.sent == len(DATA)
            assert blobs.path(digest).read_bytes() == DATA

    go(scenario())


def test_progress_is_told_while_one_waits(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with offered(blobs) as (server, source, digest):
            server.hold_at(500_000)
            async with Downloads(blobs, patience=PATIENCE).join(source, digest, len(DATA)) as one:
                await until(lambda: one.completed == 500_000)
                assert not await one.wait(0)
                assert not await one.wait(0.01)
                assert (one.digest, one.size) == (digest, len(DATA))
                server.go_on.set()
                assert await one.wait(100)
                assert one.completed == len(DATA)

    go(scenario())


def test_a_blob_that_is_here_is_not_asked_for(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with offered(blobs) as (server, source, digest):
            blobs.put(DATA)
            PartialFiles(blobs, digest, len(DATA)).begin(100_000)
            async with Downloads(blobs).join(source, digest, len(DATA)) as one:
                assert await one.wait(0)
                assert one.completed == len(DATA)
            assert not server.asked
            assert [path.name for path in blobs.directory.iterdir()] == [blobs.path(digest).name]

    go(scenario())


def test_a_blob_that_is_here_cut_short_is_fetched(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with offered(blobs) as (_, source, digest):
            blobs.path(digest).write_bytes(DATA[:1000])
            async with Downloads(blobs).join(source, digest, len(DATA)) as one:
                await one.wait()
            assert blobs.path(digest).read_bytes() == DATA

    go(scenario())


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_blob_that_is_here_is_enough_whatever_becomes_of_leftovers(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest):
            blobs.put(DATA)
            monkeypatch.setattr(PartialFiles, "remove", refuse)
            async with downloads.join(source, digest, len(DATA)) as one:
                assert await one.wait()
            assert not server.asked

    go(scenario())


def test_a_disk_that_fails_before_a_download_begins_is_said(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def scenario() -> None:
        async with offered(blobs) as (_, source, digest):
            blobs.put(DATA)
            monkeypatch.setattr(BlobStore, "refresh", fail)
            with pytest.raises(OllamaError, match="the model store cannot be used: Input/output error"):
                async with Downloads(blobs, patience=PATIENCE).join(source, digest, len(DATA)):
                    pass

    go(scenario())


def test_the_download_goes_on_while_one_is_left_and_ends_with_the_last(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest):
            server.hold_at(500_000)
            async with downloads.join(source, digest, len(DATA)) as first:
                async with downloads.join(source, digest, len(DATA)) as second:
                    await until(lambda: second.completed == 500_000)
                assert not await first.wait(0.05)
                assert server.open
            await until(lambda: not server.open)
            done = PartialFiles(blobs, digest, len(DATA)).done()
            assert sum(stop - start for start, stop in done) == 500_000
            server.go_on.set()
            async with downloads.join(source, digest, len(DATA)) as third:
                await third.wait()
            assert server.sent == len(DATA)

    go(scenario())


def test_who_comes_while_it_is_ending_begins_anew_behind_it(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest):
            server.hold_at(500_000)
            server.go_on.set()

            async def look_in() -> None:
                async with downloads.join(source, digest, len(DATA)):
                    await asyncio.sleep(0)

            async def pull() -> None:
                async with downloads.join(source, digest, len(DATA)) as one:
                    assert await one.wait()

            for _ in range(10):
                await asyncio.gather(look_in(), look_in())
            await asyncio.gather(look_in(), look_in(), pull(), look_in(), pull())
            assert blobs.path(digest).read_bytes() == DATA

    go(scenario())


def test_a_waiter_that_is_cancelled_has_left(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest):
            server.hold_at(500_000)

            async def pull() -> None:
                async with downloads.join(source, digest, len(DATA)) as one:
                    await one.wait()

            task = asyncio.create_task(pull())
            await until(lambda: server.sent == 500_000)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await until(lambda: not server.open)

    go(scenario())


def test_an_error_is_told_to_all(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest):
            server.faults.extend([Fault(status=503)] * 100)

            async def pull() -> str:
                async with downloads.join(source, digest, len(DATA)) as one:
                    with pytest.raises(RegistryError) as caught:
                        await one.wait()
                    return caught.value.message

            first, second = await asyncio.gather(pull(), pull())
            assert first == second
            assert "503" in first

    go(scenario())


def test_a_download_that_failed_is_begun_anew(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest):
            server.faults.extend([Fault(status=404)])
            async with downloads.join(source, digest, len(DATA)) as one:
                with pytest.raises(RegistryError):
                    await one.wait()
                async with downloads.join(source, digest, len(DATA)) as other:
                    assert await other.wait()

    go(scenario())


@pytest.mark.parametrize("wrong", ["content", "size"])
def test_one_with_another_offer_shares_and_when_that_fails_tries_its_own(blobs: BlobStore, wrong: str) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest), offered(blobs, digest) as (bad, bad_source, _):
            size = len(DATA)
            if wrong == "content":
                bad.blobs[digest] = bytes(size)
            else:
                size -= 1
            bad.hold_at(500_000)
            async with (
                downloads.join(bad_source, digest, size) as first,
                downloads.join(source, digest, len(DATA)) as second,
            ):
                assert not server.asked
                bad.go_on.set()
                with pytest.raises(RegistryError):
                    await first.wait()
                assert await second.wait()
                assert second.completed == len(DATA)
            assert blobs.path(digest).read_bytes() == DATA

    go(scenario())


@pytest.mark.parametrize("size", [len(DATA), len(DATA) - 1], ids=["the same size", "another size"])
def test_one_with_another_source_does_not_wait_for_one_that_hardly_brings_anything(blobs: BlobStore, size: int) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest), offered(blobs, digest) as (slow, slow_source, _):
            slow.blobs[digest] = DATA[:size]
            slow.hold_at(500_000)
            async with (
                downloads.join(slow_source, digest, size) as first,
                downloads.join(source, digest, len(DATA)) as second,
            ):
                await until(lambda: slow.sent == 500_000)
                assert not await second.wait(0)
                assert not server.asked
                nothing_has_come_for_long(second)
                await asyncio.gather(until_done(first), until_done(second))
                assert server.sent == len(DATA) - 500_000 if size == len(DATA) else len(DATA)
                assert second.completed == len(DATA)
            assert blobs.path(digest).read_bytes() == DATA
            await until(lambda: not slow.open)

    go(scenario())


def test_two_slow_sources_do_not_take_turns_for_ever(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (one, one_source, digest), offered(blobs, digest) as (other, other_source, _):
            one.hold_at(500_000)
            other.hold_at(600_000)
            async with (
                downloads.join(one_source, digest, len(DATA)) as first,
                downloads.join(other_source, digest, len(DATA)) as second,
            ):
                await until(lambda: one.sent == 500_000)
                nothing_has_come_for_long(second)
                assert not await second.wait(0)
                await until(lambda: other.sent > 0)
                for one_of_them in (first, second, first, second):
                    assert not await one_of_them.wait(0.1)
                    nothing_has_come_for_long(one_of_them)
                    assert not await one_of_them.wait(0)
                assert second._has_taken_over
                assert first._has_taken_over
                other.go_on.set()
                one.go_on.set()
                await asyncio.gather(until_done(first), until_done(second))
            assert blobs.path(digest).read_bytes() == DATA

    go(scenario())


def test_closing_ends_all_and_says_so_to_who_waits(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        async with offered(blobs) as (server, source, digest):
            server.hold_at(500_000)
            async with downloads.join(source, digest, len(DATA)) as one:
                waiting = asyncio.create_task(one.wait())
                await until(lambda: server.sent == 500_000)
                await downloads.close()
                with pytest.raises(CanceledError):
                    await waiting
            await downloads.close()
            await until(lambda: not server.open)

    go(scenario())


def test_a_digest_that_is_none_is_refused(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with offered(blobs) as (_, source, _):
            with pytest.raises(BadRequestError, match="invalid digest format"):
                async with Downloads(blobs).join(source, "sha256:../x", 1):
                    pass

    go(scenario())


def test_different_blobs_come_at_the_same_time(blobs: BlobStore) -> None:
    async def scenario() -> None:
        downloads = Downloads(blobs, patience=PATIENCE)
        other = DATA[::-1]
        async with offered(blobs) as (server, source, digest):
            second = server.add(other)
            async with source_at(server.port, second, PATIENCE, blobs.directory.parent) as its_source:
                server.hold_at(500_000)
                async with (
                    downloads.join(source, digest, len(DATA)) as one,
                    downloads.join(its_source, second, len(other)) as two,
                ):
                    await until(lambda: one.completed == two.completed == 500_000)
                    server.go_on.set()
                    assert await one.wait()
                    assert await two.wait()
            assert blobs.path(second).read_bytes() == other

    go(scenario())
