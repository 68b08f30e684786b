"""One blob on its way here, over lines that break, stand still or crawl.

The blob is read in parts, several at once and in order (``workers``), so that the hash, which follows what is here
without a gap, is nearly done when the last byte comes. What has come stays on the disk whatever happens (``partial``),
and only what has the right digest gets its name. Another process that downloads the same into the same store is waited
for. Which callers share a download is said in ``sharing``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from ollama_nb.registry.disk import Disk
from ollama_nb.registry.hashing import FollowingHash
from ollama_nb.registry.partial import PartialFiles
from ollama_nb.registry.streams import NoRangesError
from ollama_nb.registry.workers import Workers, front_of
from ollama_nb.store.files import disk_refusals, make_directory
from ollama_nb.wire.errors import OllamaError, RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ollama_nb.registry.partial import Part
    from ollama_nb.registry.source import Patience, Source
    from ollama_nb.store.blobs import BlobStore

__all__ = ["Transfer", "disk_errors", "is_here", "part_size"]

log = logging.getLogger(__name__)

_LEAST_PART: Final = 8 << 20
_MOST_PARTS: Final = 256
_POLL: Final = 0.25
"""Seconds between two looks at another process's download."""
_SHARED: Final = 0o664
"""A group may share a store, and everyone who may change it must be able to lock it."""
_THREADS: Final = 4
"""One hashes; the others write what comes, of all streams."""


def part_size(size: int) -> int:
    """Bytes of a part: 8 MiB, and more for blobs that would be more than 256 of these."""
    return max(_LEAST_PART, -(-size // _MOST_PARTS))


def is_here(blobs: BlobStore, digest: str, size: int) -> bool:
    """Whether the blob is here with the size it should have; if so it counts as new. Blocks."""
    return blobs.exists(digest) and blobs.size(digest) == size and blobs.refresh(digest, keep=True)


class Transfer:
    """Brings the blob ``digest`` of ``size`` bytes from ``source``; ``run`` once, cancel it to give up.

    ``completed`` counts the bytes that are here, those of earlier tries included.
    """

    def __init__(
        self, source: Source, blobs: BlobStore, digest: str, size: int, *, streams: int, patience: Patience
    ) -> None:
        self.source = source
        self.digest = digest
        self.size = size
        self.completed = 0
        self._blobs = blobs
        self._streams = streams
        self._patience = patience
        self._files = PartialFiles(blobs, digest, size)
        self._lock = FileLock(self._files.lock, timeout=0, thread_local=False, mode=_SHARED)
        self._disk = Disk(_THREADS)

    async def run(self) -> None:
        """Returns when the blob is here.

        Raises ``RegistryError`` when the other side refuses, sends something else or was tried too often, and
        ``OllamaError`` when the disk fails.
        """
        try:
            with disk_errors():
                async with self._turn() as is_ours:
                    if is_ours:
                        await self._bring()
                self.completed = self.size
        finally:
            self._disk.close()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        """Waits while another process downloads this; False when the blob is here then."""
        try:
            await self._disk.do(partial(make_directory, self._files.data.parent))
            while not await self._disk.do(self._is_here) and not await self._disk.do(self._take_lock):
                done = await self._disk.do(self._files.done)
                self.completed = sum(stop - start for start, stop in done)
                await asyncio.sleep(_POLL)
            yield not await self._disk.do(self._is_here)
        finally:
            if self._lock.is_locked:
                # Whoever opened this file meanwhile sees that it is gone, and makes another one.
                self._files.lock.unlink(missing_ok=True)
                self._lock.release()

    def _is_here(self) -> bool:
        return is_here(self._blobs, self.digest, self.size)

    def _take_lock(self) -> bool:
        try:
            self._lock.acquire()
        except Timeout:
            return False
        return True

    async def _bring(self) -> None:
        # Whoever left what is here may have been lied to; then it is no fault of this source.
        is_resumed = bool(await self._disk.do(self._files.done))
        found = await self._fetch()
        if found != self.digest and is_resumed:
            log.warning("%s: what was here of it was wrong, it is downloaded from the beginning", self.digest)
            await self._disk.do(self._files.remove)
            found = await self._fetch()
        if found != self.digest:
            await self._disk.do(self._files.remove)
            raise RegistryError(
                f"digest mismatch, file must be downloaded again: want {self.digest}, got {found}",
                hint="What had come was removed; pull again.",
            )
        # The blob first: a process that is killed in between leaves claims that nobody needs, not data without them.
        await self._disk.do(partial(self._blobs.place, self._files.data, self.digest, keep=True))
        await self._disk.do(self._files.remove)

    async def _fetch(self) -> str:
        """Has all bytes in the file, on the disk; their digest."""
        parts = await self._disk.do(partial(self._files.begin, part_size(self.size)))
        hashing = FollowingHash(self._files.data, self.size)
        hashed = asyncio.create_task(self._disk.do(hashing.run))
        try:
            try:
                await self._read(parts, self._streams, hashing)
            except NoRangesError:
                # The one request that is left reads everything, and passes over what is here from the beginning on.
                front = front_of(parts, self.size)
                parts = await self._disk.do(partial(self._files.collapse, front))
                await self._read(parts, 1, hashing)
            await self._disk.do(self._sync)
            return await hashed
        finally:
            hashing.stop()
            await asyncio.wait([hashed])
            if not hashed.cancelled():
                hashed.exception()  # told already, or of no interest beside the error that is on its way

    async def _read(self, parts: list[Part], streams: int, hashing: FollowingHash) -> None:
        self.completed = sum(part.completed for part in parts)
        workers = Workers(
            self.source,
            self._files,
            self._disk,
            parts,
            streams=streams,
            patience=self._patience,
            advance=hashing.advance,
            received=self._count,
        )
        await workers.run()

    def _count(self, received: int) -> None:
        self.completed += received

    def _sync(self) -> None:
        with self._files.open() as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Raises whatever the disk says as ``OllamaError``."""
    try:
        with disk_refusals():
            yield
    except OSError as error:
        raise OllamaError(f"the model store cannot be used: {error.strerror or error}") from error
