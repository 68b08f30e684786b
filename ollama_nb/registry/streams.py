"""One request of a download: from a source's chunks to the next bytes of a part, and how often it is tried.

Every byte that comes is kept, however the request ends. Which part is read next, and whether a request is ended before
its time, is decided in ``download``.
"""

from __future__ import annotations

import asyncio
import random
import time
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ollama_nb.registry.pace import Pace
    from ollama_nb.registry.partial import Part
    from ollama_nb.registry.source import Body, Patience, Source

__all__ = ["Ending", "NoRangesError", "Retries", "Store", "Stream"]

Store: TypeAlias = "Callable[[Part, bytes, bool], Awaitable[None]]"
"""Puts the next bytes of a part into the file; told whether they are the last ones of a request."""

_BATCH: Final = 1 << 20
_BATCH_SECONDS: Final = 0.5
"""What came is stored when it is a mebibyte, or half a second old."""
_PROGRESS: Final = 64 * 1024
"""Bytes that make a try count as one that brought something."""
_JITTER: Final = 0.25
_LONGEST_AFTER: Final = 300.0
"""Seconds; a server that wants to be left alone for longer is asked again all the same."""


class NoRangesError(Exception):
    """A source begins at the first byte whatever is asked for."""


class Ending(Enum):
    """Why a request is ended before its time."""

    STALLED = "nothing comes"
    SLOW = "others are much faster"


class Stream:
    """A request for what is missing of ``part``, to be run once by ``read``.

    ``received`` is told of new bytes as they come. ``is_alone`` says that no other request runs: then a source that
    begins at the first byte is borne with, and what is here already is passed over.
    """

    def __init__(
        self,
        part: Part,
        size: int,
        *,
        pace: Pace,
        store: Store,
        received: Callable[[int], None],
        retries: Retries,
        is_alone: bool,
    ) -> None:
        self.part = part
        self.pace = pace
        self.retries = retries
        self._start = self.position = part.front
        self._size = size
        self._store = store
        self._received = received
        self._is_alone = is_alone
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._stored_at = 0.0
        self._scope = asyncio.timeout(None)
        self._ending: Ending | None = None

    @property
    def rest(self) -> int:
        """Bytes that are still to come."""
        return self.part.stop - self.position

    @property
    def brought(self) -> int:
        """Bytes that this request has brought and that were not here before."""
        return self.position - self._start

    def end(self, ending: Ending) -> None:
        """Ends the request, from another task, while ``read`` runs."""
        if self._ending is None:
            self._ending = ending
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def read(self, source: Source, patience: Patience, running: set[Stream]) -> None:
        """Reads until the part is complete; in ``running`` while it may be ended.

        Returns early if it was ended for being slow. Raises ``LineError``, also for a body that ends early and when
        it was ended because nothing came; ``NoRangesError``; whatever the source and the store raise.
        """
        try:
            async with self._scope:
                running.add(self)
                try:
                    await self._request(source)
                finally:
                    running.discard(self)
                    if self.brought:
                        await self._flush(is_last=True)
        except TimeoutError as error:
            if self._ending is None:
                raise LineError(str(error) or "timed out") from error
        if self._ending is Ending.STALLED and self.rest:
            raise LineError(f"no data came for {patience.stall:g} seconds")

    async def _request(self, source: Source) -> None:
        asked_for = self.part.stop
        self._stored_at = time.monotonic()
        async with source.read(self.position, asked_for, self._size) as body:
            if body.start > self.position:
                raise RegistryError(f"{source.key} sent bytes from {body.start} on, not from {self.position} on")
            if body.start < self.position and not self._is_alone:
                raise NoRangesError
            try:
                await self._receive(body, asked_for)
            finally:
                # A body that is left before its end is closed here, and not some time later.
                close = getattr(body.chunks, "aclose", None)
                if close is not None:
                    await close()
        if self.rest:
            raise LineError("unexpected EOF")

    async def _receive(self, body: Body, asked_for: int) -> None:
        known = self.position - body.start
        async for chunk in body.chunks:
            self.pace.received += len(chunk)
            passed = min(known, len(chunk))
            known -= passed
            is_too_much = len(chunk) - passed > self.rest
            data = chunk[passed : passed + self.rest] if passed or is_too_much else chunk
            if data:
                self._keep(data)
                if self._waiting >= _BATCH or time.monotonic() - self._stored_at >= _BATCH_SECONDS:
                    await self._flush()
            # The end of what was asked for is waited for: then the connection may serve the next request.
            if is_too_much or (not self.rest and self.part.stop < asked_for):
                return

    def _keep(self, data: bytes) -> None:
        self._chunks.append(data)
        self._waiting += len(data)
        self.position += len(data)
        self._received(len(data))

    async def _flush(self, *, is_last: bool = False) -> None:
        """Stores what came. What the disk refuses is lost: it will refuse it again."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._waiting = 0
        loop = asyncio.get_running_loop()
        self.pace.pause(loop.time())
        try:
            await self._store(self.part, data, is_last)
        finally:
            self.pace.resume(loop.time())
            self._stored_at = time.monotonic()


class Retries:
    """How often in a row the requests of one worker have failed, and how long it waits before the next one."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._fruitless = 0
        self._own = 0
        self._all = 0
        self._hurried = 0
        self._all_then = 0

    def may_hurry(self, everything: int) -> bool:
        """Whether a request that is slow may be made again now.

        Not without end while nothing comes to anybody: that is what ``wait`` counts.
        """
        return self._hurried < self._patience.tries or everything - self._all_then >= _PROGRESS

    def hurry(self, everything: int) -> None:
        """A request was ended for being slow, when so many bytes had come to all."""
        if everything - self._all_then >= _PROGRESS:
            self._hurried = 0
        self._all_then = everything
        self._hurried += 1

    def wait(self, error: LineError, own: int, everything: int) -> float:
        """Seconds to wait after ``error``. ``own`` bytes have come to this worker by now, ``everything`` to all.

        The wait doubles while this worker gets nothing. While others get something there is no giving up; else
        raises ``RegistryError`` after so many tries as the patience has.
        """
        patience = self._patience
        if own - self._own >= _PROGRESS:
            self._failures = 0
        if everything - self._all >= _PROGRESS:
            self._fruitless = 0
        self._own, self._all = own, everything
        self._failures += 1
        self._fruitless += 1
        if self._fruitless >= patience.tries:
            raise RegistryError(
                f"max retries exceeded: {error}", hint="What has come is kept: the next pull goes on from there."
            ) from error
        wait = min(patience.first_wait * 2.0 ** (self._failures - 1), patience.longest_wait)
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - to spread requests, not to hide anything
        return max(wait * jitter, min(error.after, _LONGEST_AFTER))
