"""One blob on its way here, from a real server that misbehaves: nothing is lost, and nothing wrong gets a name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import threading
from io import FileIO
from pathlib import Path
from typing import Final

import pytest
from bad_line import BadLine, Weather
from downloading import bringing, go, is_alone, some_bytes, until
from range_server import Fault, range_server

from ollama_nb.registry import download
from ollama_nb.registry.download import part_size
from ollama_nb.registry.pace import Limits
from ollama_nb.registry.partial import PartialFiles
from ollama_nb.registry.source import Patience
from ollama_nb.store.blobs import BlobStore
from ollama_nb.store.session import Session
from ollama_nb.wire.errors import OllamaError, RegistryError

PART: Final = 256 * 1024


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "part_size", lambda _: PART)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path)
    store.directory.mkdir()
    return store


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("size", [0, 1, 1000, PART, PART + 1, 5 * PART - 1, 3_000_000])
def test_a_blob_of_any_size_comes_whole_and_alone(blobs: BlobStore, size: int) -> None:
    async def scenario() -> None:
        data = some_bytes(size)
        async with range_server() as server, bringing(server, blobs, data) as transfer:
            await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data
            assert transfer.completed == size
            assert is_alone(blobs, transfer.digest)
            assert sum(stop - start for start, stop in server.asked) == size

    go(scenario())


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(cut=0)],
        [Fault(cut=1)] * 3,
        [Fault(cut=100_000)] * 6,
        [Fault(cut=PART - 1)] * 4,
        [Fault(status=503)] * 5,
        [Fault(status=429, headers="Retry-After: 0\r\n")] * 5,
        [Fault(status=500), Fault(cut=70_000), Fault(status=502), Fault(cut=PART)] * 2,
    ],
    ids=["none", "one byte", "pieces", "all but one", "unavailable", "too many", "all sorts"],
)
def test_bytes_that_came_are_not_asked_for_again(blobs: BlobStore, faults: list[Fault]) -> None:
    async def scenario() -> None:
        data = some_bytes(2_000_000)
        async with range_server() as server, bringing(server, blobs, data) as transfer:
            server.faults.extend(faults)
            await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data
            assert server.sent == len(data)

    go(scenario())


@pytest.mark.parametrize("fault", [Fault(stall=0), Fault(stall=90_000)], ids=["from the start", "on the way"])
def test_a_request_that_stands_still_is_made_again(blobs: BlobStore, fault: Fault) -> None:
    async def scenario() -> None:
        data = some_bytes(1_000_000)
        patience = Patience(stall=0.3, tries=4, first_wait=0.01, longest_wait=0.05)
        async with range_server() as server, bringing(server, blobs, data, patience=patience) as transfer:
            server.faults.extend([fault] * 2)
            await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data
            assert server.sent < 2 * len(data)

    go(scenario())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(cut=0), "has sent 0 bytes|broke off"),
        (Fault(status=503), "503"),
        (Fault(stall=0), "no data came for 0.2 seconds|silent"),
        (Fault(stall=1), "no data came for 0.2 seconds|silent"),
    ],
    ids=["cut", "unavailable", "silent", "one byte a try"],
)
def test_a_line_that_stays_bad_ends_with_an_error_and_keeps_what_came(
    blobs: BlobStore, fault: Fault, said: str
) -> None:
    async def scenario() -> None:
        data = some_bytes(1_000_000)
        patience = Patience(stall=0.2, tries=3, first_wait=0.01, longest_wait=0.02)
        async with range_server() as server, bringing(server, blobs, data, patience=patience) as transfer:
            server.faults.extend([Fault()] + [fault] * 100)
            with pytest.raises(RegistryError, match=f"max retries exceeded: .*({said})"):
                await transfer.run()
            done = PartialFiles(blobs, transfer.digest, len(data)).done()
            assert sum(stop - start for start, stop in done) == transfer.completed >= PART
            lost = server.sent - transfer.completed  # bytes that were under way when a request was ended
            assert lost <= len(server.asked)
            assert not blobs.exists(transfer.digest)
            server.faults.clear()
            async with bringing(server, blobs, data) as again:
                await again.run()
            assert server.sent == len(data) + lost

    go(scenario())


def test_what_will_not_change_is_not_tried_again(blobs: BlobStore) -> None:
    async def scenario() -> None:
        data = some_bytes(100_000)
        async with range_server() as server, bringing(server, blobs, data, size=90_000) as transfer:
            with pytest.raises(RegistryError, match="100000"):
                await transfer.run()
            assert len(server.asked) == 1

    go(scenario())


def test_content_of_another_digest_never_gets_a_name_and_goes(blobs: BlobStore) -> None:
    async def scenario() -> None:
        data = some_bytes(700_000)
        wanted = "sha256:" + "0" * 64
        async with range_server() as server, bringing(server, blobs, data, digest=wanted) as transfer:
            found = server.add(data)
            with pytest.raises(RegistryError) as caught:
                await transfer.run()
            assert caught.value.message == (
                f"digest mismatch, file must be downloaded again: want {wanted}, got {found}"
            )
            assert list(blobs.directory.iterdir()) == []

    go(scenario())


@pytest.mark.parametrize("here", [1, 300_000, 699_999, 700_000])
@pytest.mark.parametrize("has_ranges", [True, False], ids=["ranges", "no ranges"])
def test_wrong_bytes_that_another_source_has_left_do_no_harm_to_an_honest_one(
    blobs: BlobStore, here: int, has_ranges: bool
) -> None:
    async def scenario() -> None:
        data = some_bytes(700_000)
        async with range_server(has_ranges=has_ranges) as server, bringing(server, blobs, data) as transfer:
            left = PartialFiles(blobs, transfer.digest, len(data))
            left.data.write_bytes(bytes(here))
            left.data.with_name(f"{left.data.name}-0").write_text(
                f'{{"N":0,"Offset":0,"Size":{here},"Completed":{here}}}'
            )
            await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data
            assert is_alone(blobs, transfer.digest)
            assert transfer.completed == len(data)

    go(scenario())


def test_a_source_that_lies_is_not_asked_a_third_time(blobs: BlobStore) -> None:
    async def scenario() -> None:
        data, wanted = some_bytes(700_000), "sha256:" + "0" * 64
        async with range_server() as server, bringing(server, blobs, data, digest=wanted) as transfer:
            left = PartialFiles(blobs, wanted, len(data))
            left.data.write_bytes(data)
            left.data.with_name(f"{left.data.name}-0").write_text('{"N":0,"Offset":0,"Size":100,"Completed":100}')
            with pytest.raises(RegistryError, match="digest mismatch"):
                await transfer.run()
            assert sum(stop - start for start, stop in server.asked) == 2 * len(data) - 100
            assert list(blobs.directory.iterdir()) == []

    go(scenario())


@pytest.mark.parametrize(
    "faults",
    [[], [Fault(cut=300_000)] * 9, [Fault(stall=500_000)]],
    ids=["good", "cut", "standing still"],
)
def test_a_server_without_ranges_is_read_from_the_beginning(blobs: BlobStore, faults: list[Fault]) -> None:
    async def scenario() -> None:
        data = some_bytes(2_000_000)
        patience = Patience(stall=0.5, tries=4, first_wait=0.01, longest_wait=0.05)
        async with (
            range_server(has_ranges=False) as server,
            bringing(server, blobs, data, patience=patience) as transfer,
        ):
            server.faults.extend([Fault()] * 4 + faults[:2])
            await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data
            assert is_alone(blobs, transfer.digest)

    go(scenario())


def test_a_server_without_ranges_that_never_gets_further_is_given_up(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with range_server(has_ranges=False) as server, bringing(server, blobs, some_bytes(2_000_000)) as transfer:
            server.faults.extend([Fault(cut=200_000)] * 100)
            with pytest.raises(RegistryError, match="max retries exceeded"):
                await transfer.run()

    go(scenario())


def test_a_download_that_is_cancelled_leaves_claims_and_nothing_else(blobs: BlobStore) -> None:
    async def scenario() -> None:
        data = some_bytes(3_000_000)
        async with range_server() as server:
            before = open_files()
            tasks = asyncio.all_tasks()
            async with bringing(server, blobs, data) as transfer:
                server.hold_at(1_500_000)
                task = asyncio.create_task(transfer.run())
                await until(lambda: transfer.completed == server.sent >= 1_500_000)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
            done = PartialFiles(blobs, transfer.digest, len(data)).done()
            assert sum(stop - start for start, stop in done) == transfer.completed
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("download")]
            await until(lambda: not server.open)
            await until(lambda: open_files() == before)
            assert asyncio.all_tasks() == tasks
            server.go_on.set()
            async with bringing(server, blobs, data) as again:
                await again.run()
            assert server.sent == len(data)
            assert blobs.path(again.digest).read_bytes() == data

    go(scenario())


def test_a_full_disk_ends_it_at_once_and_is_said(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # /dev/full stands for the disk: the system says what it says of one without space.
    monkeypatch.setattr(PartialFiles, "open", lambda _: FileIO("/dev/full", "rb+"))

    async def scenario() -> None:
        async with range_server() as server, bringing(server, blobs, some_bytes(2_000_000)) as transfer:
            with pytest.raises(OllamaError, match="No space left on device") as caught:
                await transfer.run()
            assert caught.value.status == 507
            assert blobs.path(transfer.digest).with_name(blobs.path(transfer.digest).name + "-partial").exists()

    go(scenario())


def test_a_file_that_may_not_be_so_large_is_said(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with range_server() as server, bringing(server, blobs, some_bytes(2_000_000)) as transfer:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
            try:
                with pytest.raises(OllamaError, match="File too large"):
                    await transfer.run()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert not server.asked

    go(scenario())


def test_other_errors_of_the_disk_are_said_too(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with range_server() as server, bringing(server, blobs, some_bytes(1000)) as transfer:
            PartialFiles(blobs, transfer.digest, 1000).data.mkdir()
            with pytest.raises(OllamaError, match="Is a directory"):
                await transfer.run()

    go(scenario())


def test_one_that_stands_while_others_run_is_made_again_before_patience_is_at_its_end(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "of", lambda _: Limits(tick=0.02, slow=0.2, stall=3600, save=0.05))

    async def scenario() -> None:
        data = some_bytes(4_000_000)
        async with range_server() as server, bringing(server, blobs, data, patience=Patience(tries=1)) as transfer:
            server.faults.append(Fault(stall=100_000))
            await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data

    go(scenario())


def test_the_idle_take_half_of_what_the_last_one_has_left(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "part_size", lambda size: size)

    async def scenario() -> None:
        data = some_bytes(4_000_000)
        patience = Patience(stall=3)
        async with range_server(rate=2e6) as server, bringing(server, blobs, data, patience=patience) as transfer:
            await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data
            assert len(server.asked) > 1
            assert is_alone(blobs, transfer.digest)

    go(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_over_a_bad_line_it_comes_and_takes_hardly_more_than_its_bytes(blobs: BlobStore, seed: int) -> None:
    patience = Patience(stall=3, tries=6, first_wait=0.01, longest_wait=0.05)
    weather = Weather(life=700_000, crawls=0.2, crawl=1000, delay=0.05, rate=2e6)

    async def scenario() -> None:
        data = some_bytes(4_000_000)
        async with range_server() as server, BadLine(server.port, weather, seed) as line:
            async with bringing(server, blobs, data, patience=patience, port=line.port) as transfer:
                await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data
            assert line.cuts > 0
            assert line.forwarded <= 1.1 * len(data)

    go(scenario())


def test_what_ollama_left_is_gone_on_with(blobs: BlobStore) -> None:
    async def scenario() -> None:
        data = some_bytes(1_000_000)
        async with range_server() as server, bringing(server, blobs, data) as transfer:
            partial = blobs.path(transfer.digest).with_name(blobs.path(transfer.digest).name + "-partial")
            partial.write_bytes(data[:400_000] + bytes(600_000))
            for number, offset, size, completed in ((0, 0, 500_000, 400_000), (1, 500_000, 500_000, 0)):
                claim = {"N": number, "Offset": offset, "Size": size, "Completed": completed}
                partial.with_name(f"{partial.name}-{number}").write_text(json.dumps(claim))
            await transfer.run()
            assert blobs.path(transfer.digest).read_bytes() == data
            assert server.sent == 600_000

    go(scenario())


def test_a_blob_that_came_counts_as_written_by_this_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = BlobStore(tmp_path, Session(tmp_path, contextlib.nullcontext()))
        async with range_server() as server, bringing(server, blobs, some_bytes(1000)) as transfer:
            await transfer.run()
            assert blobs.is_ours(transfer.digest)

    go(scenario())


@pytest.mark.parametrize(("size", "parts"), [(1, 1), (98_000_000, 12), (4_700_000_000, 256), (40_000_000_000, 256)])
def test_parts_are_of_eight_mebibytes_and_a_few_hundred_at_most(size: int, parts: int) -> None:
    assert -(-size // part_size(size)) == parts
