"""Two processes and one store: a blob is fetched once, and a process that is killed costs next to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from downloading import bringing, go, is_alone, some_bytes, until
from range_server import RangeServer, range_server

from ollama_nb.registry.partial import PartialFiles
from ollama_nb.store.blobs import BlobStore

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBIBYTE: Final = 1 << 20


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path)
    store.directory.mkdir()
    return store


# What a process does that is killed: a download into the store of the test.
_PROCESS = """
import asyncio, sys
from io import FileIO
from pathlib import Path
from range_server import source_at
from ollama_nb.registry import download
from ollama_nb.registry.source import Patience
from ollama_nb.store.blobs import BlobStore
folder, port, digest, size = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
download.part_size = lambda _: 1 << 20
async def main():
    async with source_at(port, digest, Patience(), folder) as source:
        await download.Transfer(source, BlobStore(folder), digest, size, streams=4, patience=Patience()).run()
asyncio.run(main())
"""


@contextlib.contextmanager
def another_process(blobs: BlobStore, server: RangeServer, digest: str, size: int) -> Iterator[subprocess.Popen[bytes]]:
    tests = str(Path(__file__).resolve().parents[1])
    arguments = [str(blobs.directory.parent), str(server.port), digest, str(size)]
    environment = {**os.environ, "PYTHONPATH": tests}
    process = subprocess.Popen([sys.executable, "-c", _PROCESS, *arguments], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def claimed(blobs: BlobStore, digest: str, size: int) -> int:
    return sum(stop - start for start, stop in PartialFiles(blobs, digest, size).done())


def test_after_a_kill_only_the_rest_is_fetched(blobs: BlobStore) -> None:
    async def scenario() -> None:
        data = some_bytes(16 * MEBIBYTE)
        async with range_server() as server:
            digest = server.add(data)
            server.rate = 8e6
            with another_process(blobs, server, digest, len(data)) as process:
                await until(lambda: claimed(blobs, digest, len(data)) >= len(data) // 2)
                process.send_signal(signal.SIGKILL)
                process.wait()
            await until(lambda: not server.open)
            server.rate, server.sent = 0, 0
            async with bringing(server, blobs, data) as transfer:
                await transfer.run()
            assert blobs.path(digest).read_bytes() == data
            assert is_alone(blobs, digest)
            assert server.sent <= len(data) // 2

    go(scenario())


@pytest.mark.parametrize("first_one", ["ends", "dies"])
def test_a_second_process_sees_how_far_the_first_one_is_and_fetches_only_what_that_leaves(
    blobs: BlobStore, first_one: str
) -> None:
    async def scenario() -> None:
        data = some_bytes(4 * MEBIBYTE)
        async with range_server() as server:
            digest = server.add(data)
            server.hold_at(2 * MEBIBYTE)
            with another_process(blobs, server, digest, len(data)) as process:
                await until(lambda: claimed(blobs, digest, len(data)) == 2 * MEBIBYTE)
                async with bringing(server, blobs, data) as transfer:
                    task = asyncio.create_task(transfer.run())
                    await until(lambda: transfer.completed == 2 * MEBIBYTE)
                    if first_one == "dies":
                        process.kill()
                        process.wait()
                        await until(lambda: not server.open)
                    server.go_on.set()
                    await task
                    assert transfer.completed == len(data)
                assert await asyncio.to_thread(process.wait) == (-signal.SIGKILL if first_one == "dies" else 0)
            assert blobs.path(digest).read_bytes() == data
            assert server.sent == len(data)
            assert is_alone(blobs, digest)

    go(scenario())
