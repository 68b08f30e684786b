"""What tests of downloads share: a transfer from a server that may misbehave, and what is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Final

from range_server import RangeServer, source_at

from ollama_nb.registry.download import Transfer
from ollama_nb.registry.source import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from ollama_nb.store.blobs import BlobStore

QUICK: Final = Patience(stall=300, tries=4, first_wait=0.01, longest_wait=0.05)
"""Quick to try again, and so patient that nothing is split or thought slow, however slow the machine."""


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@contextlib.asynccontextmanager
async def bringing(
    server: RangeServer,
    blobs: BlobStore,
    data: bytes,
    *,
    size: int | None = None,
    streams: int = 4,
    patience: Patience = QUICK,
    port: int = 0,
    digest: str = "",
) -> AsyncIterator[Transfer]:
    """A transfer of ``data`` that has not begun."""
    real = server.add(data)
    digest = digest or real
    server.blobs[digest] = data
    size = len(data) if size is None else size
    async with source_at(port or server.port, digest, patience, blobs.directory.parent) as source:
        yield Transfer(source, blobs, digest, size, streams=streams, patience=patience)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is on the disk, or in the system
        await asyncio.sleep(0.01)


def go(scenario: Coroutine[None, None, None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario, 120)

    asyncio.run(bounded())


def is_alone(blobs: BlobStore, digest: str) -> bool:
    """Whether the blob is all that lies among the blobs."""
    return [path.name for path in blobs.directory.iterdir()] == [blobs.path(digest).name]
