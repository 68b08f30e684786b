"""The downloads of one store in this process: one a digest, shared by all who want the blob.

Who comes while a blob is on its way joins; when the last one has left, the download is given up, and what has come
stays for the next. Whoever has another source than the one that is tried need not wait for a source that fails or
hardly brings anything: then the other one is tried. What two processes do about one blob is said in ``download``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from ollama_nb.registry.download import Transfer, disk_errors, is_here
from ollama_nb.registry.partial import PartialFiles
from ollama_nb.registry.source import Patience
from ollama_nb.wire.errors import CanceledError, OllamaError
from ollama_nb.wire.names import parse_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ollama_nb.registry.source import Source
    from ollama_nb.store.blobs import BlobStore

__all__ = ["Download", "Downloads"]

log = logging.getLogger(__name__)

_LEAST_RATE: Final = 64 * 1024
"""Bytes a second; a source that brings less while patience lasts gives way to another one."""


class _Run:
    """A transfer that runs, and how many want it."""

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.wanted_by = 1
        self.has_given_way = False
        self.is_succeeded = asyncio.Event()
        self.task = asyncio.create_task(transfer.run())
        # Those who wait look at the error; when nobody is left, it is none that asyncio complains of.
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def is_ending(self) -> bool:
        return not self.wanted_by or self.has_given_way or self.task.done()

    def give_way(self) -> None:
        """Ends for another source; what has come stays. Set ``is_succeeded`` when that one is being tried."""
        self.has_given_way = True
        self.task.cancel()

    def offers(self, source: Source, size: int) -> bool:
        """Whether it is this very offer that is tried."""
        return (self.transfer.source.key, self.transfer.size) == (source.key, size)


class _Runs:
    """The transfers that run, by their digests."""

    def __init__(self, blobs: BlobStore, streams: int, patience: Patience) -> None:
        self._blobs = blobs
        self._streams = streams
        self.patience = patience
        self._runs: dict[str, _Run] = {}

    async def join(self, source: Source, digest: str, size: int) -> _Run | None:
        """The transfer of this digest, begun where there is none; None when the blob is here."""
        while (run := self._runs.get(digest)) is not None and run.is_ending:
            await asyncio.wait([run.task])
        if run is None and await asyncio.to_thread(self._is_here, digest, size):
            return None
        # Another one may have begun it meanwhile, and may even be about to leave again.
        while (run := self._runs.get(digest)) is not None and run.is_ending:
            await asyncio.wait([run.task])
        if run is not None:
            run.wanted_by += 1
            return run
        run = _Run(Transfer(source, self._blobs, digest, size, streams=self._streams, patience=self.patience))
        run.task.add_done_callback(lambda _: self._runs.pop(digest))
        self._runs[digest] = run
        return run

    async def leave(self, run: _Run) -> None:
        """One less wants the transfer; without any it is cancelled and waited for."""
        run.wanted_by -= 1
        if not run.wanted_by and not run.task.done():
            run.task.cancel()
            await asyncio.wait([run.task])

    async def close(self) -> None:
        """Cancels all of them, and returns when they have ended."""
        tasks = [run.task for run in self._runs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _is_here(self, digest: str, size: int) -> bool:
        with disk_errors():
            if not is_here(self._blobs, digest, size):
                return False
        # What a process left that was killed when it had just given the blob its name. A store that can only be read
        # keeps it, and is as good as any where nothing has to come.
        with contextlib.suppress(OSError):
            PartialFiles(self._blobs, digest, size).remove()
        return True


class Download:
    """A blob as one of those who want it sees it."""

    def __init__(self, runs: _Runs, source: Source, digest: str, size: int) -> None:
        self.digest = digest
        self.size = size
        self._runs = runs
        self._source = source
        self._run: _Run | None = None
        self._since = (0.0, 0)
        self._has_taken_over = False

    @property
    def completed(self) -> int:
        """Bytes that are here, those of earlier tries included."""
        return min(self._run.transfer.completed, self.size) if self._run is not None else self.size

    async def begin(self) -> None:
        """Joins the download of the blob; ``Downloads.join`` has done it."""
        self._run = await self._runs.join(self._source, self.digest, self.size)
        self._since = (asyncio.get_running_loop().time(), self.completed)

    async def leave(self) -> None:
        """Does not want it any more; ``Downloads.join`` does it at its end."""
        if self._run is not None:
            await self._runs.leave(self._run)

    async def wait(self, seconds: float | None = None) -> bool:
        """Whether the blob is here, at the latest after ``seconds``.

        Raises ``RegistryError`` or ``OllamaError`` when the download failed (if it was from another source than this
        one's, that one is tried before), ``CanceledError`` when all downloads were closed. Whether another source is
        too slow is looked at whenever the time is up.
        """
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while (run := self._run) is not None:
            left = None if deadline is None else max(0.0, deadline - loop.time())
            done, _ = await asyncio.wait([run.task], timeout=left)
            if not done:
                if self._is_too_slow(run):
                    await self._take_over(run)
                return False
            if run.task.cancelled():
                if not run.has_given_way:
                    raise CanceledError("the download was cancelled")
                await run.is_succeeded.wait()
            elif (error := run.task.exception()) is None:
                return True
            elif not isinstance(error, OllamaError) or run.offers(self._source, self.size):
                raise error
            await self.begin()
        return True

    def _is_too_slow(self, run: _Run) -> bool:
        """Whether a source that is another one has brought next to nothing for as long as patience lasts."""
        if self._has_taken_over or run.is_ending or run.offers(self._source, self.size):
            return False
        now, completed = asyncio.get_running_loop().time(), run.transfer.completed
        since, before = self._since
        if now - since < self._runs.patience.stall:
            return False
        self._since = (now, completed)
        return completed < run.transfer.size and completed - before < _LEAST_RATE * (now - since)

    async def _take_over(self, run: _Run) -> None:
        """Has this one's source tried; once, so that two that are slow do not take turns for ever."""
        log.info("%s: %s is too slow, %s is tried", self.digest, run.transfer.source.key, self._source.key)
        self._has_taken_over = True
        run.give_way()
        try:
            await self.begin()
        finally:
            run.is_succeeded.set()


class Downloads:
    """The downloads into ``blobs``, each with at most ``streams`` requests at once."""

    def __init__(self, blobs: BlobStore, *, streams: int = 8, patience: Patience | None = None) -> None:
        self._runs = _Runs(blobs, streams, patience or Patience())

    @contextlib.asynccontextmanager
    async def join(self, source: Source, digest: str, size: int) -> AsyncIterator[Download]:
        """Begins the download of a blob of ``size`` bytes, or joins the one that runs.

        Who leaves as the last one cancels it, and waits until it has ended. Raises ``BadRequestError`` for a digest
        that is none.
        """
        download = Download(self._runs, source, parse_digest(digest), size)
        try:
            await download.begin()
            yield download
        finally:
            await download.leave()

    async def close(self) -> None:
        """Cancels all of them, and returns when they have ended."""
        await self._runs.close()
