"""Blobs on their way in, several at once: one download each, told as Ollama tells it, with room for all of them."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from ollama_nb.registry.partial import PartialFiles
from ollama_nb.service.steps import follow
from ollama_nb.service.threads import in_thread
from ollama_nb.wire.errors import OllamaError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from ollama_nb.registry.sharing import Downloads
    from ollama_nb.registry.source import Source
    from ollama_nb.service.steps import Report
    from ollama_nb.store.blobs import BlobStore

__all__ = ["Wanted", "all_at_once", "fetch"]

_AT_ONCE: Final = 4
"""Blobs of one model that are on their way at the same time; each of them has streams of its own."""

_MB: Final = 10**6
_BLOCK: Final = 512
"""Bytes of the unit in which ``st_blocks`` counts."""


class Wanted(NamedTuple):
    """A blob that is needed, its size in bytes, and where it comes from."""

    source: Source
    digest: str
    size: int


async def fetch(downloads: Downloads, blobs: BlobStore, wanted: Sequence[Wanted], report: Report) -> None:
    """Have all blobs here, verified; a line ``pulling <hex>`` for each whenever more of it is here.

    Raises ``RegistryError`` where one digest is said to have two sizes, ``OllamaError`` where the disk has no room
    for all of them, and what a download raises; what has come stays for the next time.
    """
    distinct: dict[str, Wanted] = {}
    for blob in wanted:
        if distinct.setdefault(blob.digest, blob).size != blob.size:
            raise RegistryError(f"{blob.source.key}: {blob.digest} is listed with two sizes")
    await in_thread(lambda: _check_room(blobs, distinct.values()))
    await all_at_once(partial(_fetch, downloads, blob, report) for blob in distinct.values())


async def _fetch(downloads: Downloads, blob: Wanted, report: Report) -> None:
    async with downloads.join(blob.source, blob.digest, blob.size) as download:
        await follow(download, "pulling", report)


def _check_room(blobs: BlobStore, wanted: Iterable[Wanted]) -> None:
    missing = sum(max(0, blob.size - _bytes_here(blobs, blob)) for blob in wanted)
    folder = blobs.directory
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise OllamaError(
            f"not enough disk space: {-(-missing // _MB):,} MB are still to come, {free // _MB:,} MB are free",
            status=HTTPStatus.INSUFFICIENT_STORAGE,
            hint=f"Remove models, or have OLLAMA_MODELS name a larger disk than that of {blobs.directory}.",
        )


def _bytes_here(blobs: BlobStore, blob: Wanted) -> int:
    """What need not come again: of a download that was broken off, what its sparse file takes on the disk."""
    path = blobs.path(blob.digest)
    if path.exists():
        return path.stat().st_size
    try:
        status = PartialFiles(blobs, blob.digest, blob.size).data.stat()
    except FileNotFoundError:
        return 0
    return getattr(status, "st_blocks", 0) * _BLOCK


async def all_at_once(jobs: Iterable[Callable[[], Awaitable[None]]], limit: int = _AT_ONCE) -> None:
    """Do all jobs, ``limit`` at a time, begun in order; the first error ends the others and is raised."""
    left = iter(jobs)
    tasks = [asyncio.ensure_future(_one_by_one(left)) for _ in range(limit)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one_by_one(jobs: Iterator[Callable[[], Awaitable[None]]]) -> None:
    for job in jobs:
        await job()
