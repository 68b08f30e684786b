"""The requests of one download: who reads which part, and what becomes of requests that stand still or crawl.

Parts are handed out in order. When none is left, whoever is idle takes half of what the slowest still has to read, if
that saves time; a request far slower than others is ended and made again. The rules are numbers in ``pace``; the bytes
go through ``streams`` to ``partial``.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from ollama_nb.registry.pace import LEAST_SPLIT, Limits, Pace, typical
from ollama_nb.registry.partial import Part
from ollama_nb.registry.source import LineError
from ollama_nb.registry.streams import Ending, NoRangesError, Retries, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ollama_nb.registry.disk import Disk
    from ollama_nb.registry.partial import PartialFiles, PartWriter
    from ollama_nb.registry.source import Patience, Source

__all__ = ["Workers", "front_of"]


def front_of(parts: Sequence[Part], size: int) -> int:
    """How many bytes are here from the beginning on without a gap; the parts in order, ``size`` their sum."""
    return next((part.front for part in parts if part.rest), size)


class Workers:
    """At most ``streams`` requests at once for the ``parts`` that tile a blob; to be run once.

    ``advance`` is told how much is stored without a gap, ``received`` how many bytes have just come.
    """

    def __init__(
        self,
        source: Source,
        files: PartialFiles,
        disk: Disk,
        parts: list[Part],
        *,
        streams: int,
        patience: Patience,
        advance: Callable[[int], None],
        received: Callable[[int], None],
    ) -> None:
        self._source = source
        self._files = files
        self._disk = disk
        self._parts = parts
        self._streams = streams
        self._patience = patience
        self._limits = Limits.of(patience)
        self._advance = advance
        self._tell = received
        self._received = 0
        self._queue = deque(part for part in parts if part.rest)
        self._open = len(self._queue)
        self._idle = 0
        self._changed = asyncio.Condition()
        self._running: set[Stream] = set()
        self._rates: deque[float] = deque(maxlen=2 * streams)

    async def run(self) -> None:
        """Returns when all parts are complete.

        Raises ``RegistryError``, ``OSError``, and ``NoRangesError`` where several were to read and the source knows
        no ranges; then, as at any other end, no request runs and all that came is stored.
        """
        self._advance(front_of(self._parts, self._files.size))
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch())
                await asyncio.wait([group.create_task(self._work()) for _ in range(self._streams)])
                watch.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _work(self) -> None:
        retries = Retries(self._patience)
        own = 0
        with contextlib.closing(self._files.writer()) as writer:
            while (part := await self._next()) is not None:
                while part.rest:
                    stream = self._stream(part, writer, retries)
                    error = await self._outcome(stream)
                    own += stream.brought
                    if error is not None and part.rest:
                        await asyncio.sleep(retries.wait(error, own, self._received))
                await self._finished()

    async def _outcome(self, stream: Stream) -> LineError | None:
        """Runs one request: what went wrong with the line, if anything."""
        try:
            await stream.read(self._source, self._patience, self._running)
        except LineError as error:
            return error
        finally:
            now = asyncio.get_running_loop().time()
            if stream.pace.age(now) > self._limits.tick:
                self._rates.append(stream.pace.mean(now))
        return None

    def _stream(self, part: Part, writer: PartWriter, retries: Retries) -> Stream:
        return Stream(
            part,
            self._files.size,
            pace=Pace(asyncio.get_running_loop().time(), self._limits.stall),
            store=partial(self._store, writer),
            received=self._count,
            retries=retries,
            is_alone=self._streams == 1,
        )

    async def _store(self, writer: PartWriter, part: Part, data: bytes, is_last: bool) -> None:
        await self._disk.do(partial(writer.store, part, data, is_last=is_last))
        self._advance(front_of(self._parts, self._files.size))

    def _count(self, count: int) -> None:
        self._received += count
        self._tell(count)

    async def _next(self) -> Part | None:
        """The next part to read; None when all are complete."""
        async with self._changed:
            self._idle += 1
            await self._changed.wait_for(lambda: self._queue or not self._open)
            self._idle -= 1
            return self._queue.popleft() if self._queue else None

    async def _finished(self) -> None:
        async with self._changed:
            self._open -= 1
            if not self._open:
                self._changed.notify_all()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._limits.tick
            await asyncio.sleep(self._limits.tick)
            now = loop.time()
            for stream in self._running:
                # What keeps this loop from its work is no fault of the line.
                stream.pace.forgive(min(now - due, stream.pace.age(now)))
            rates = {stream: stream.pace.rate(now, self._limits.slow) for stream in self._running}
            for stream in list(self._running):
                stream.pace.sample(now)
                others = [rate for other, rate in rates.items() if other is not stream and rate is not None]
                usual = typical([*others, *self._rates, stream.pace.mean(now)])
                if stream.pace.stands_still(now, self._limits):
                    stream.end(Ending.STALLED)
                elif stream.retries.may_hurry(self._received) and stream.pace.is_slow(
                    now, self._limits, usual, stream.rest
                ):
                    stream.retries.hurry(self._received)
                    stream.end(Ending.SLOW)
            if self._idle and not self._queue and self._streams > 1:
                await self._split(now)

    async def _split(self, now: float) -> None:
        """Gives the idle ones half of what is left to the slowest, one each, where it saves time."""
        left = {stream: stream.pace.seconds_left(now, self._limits, stream.rest) for stream in self._running}
        for stream in sorted(left, key=left.__getitem__, reverse=True)[: self._idle]:
            # While one is halved, another may come to its end.
            is_worth_it = left[stream] > 2 * self._limits.save and stream.rest >= 2 * LEAST_SPLIT
            if is_worth_it and stream in self._running:
                await self._halve(stream)

    async def _halve(self, stream: Stream) -> None:
        part = stream.part
        middle = stream.position + stream.rest // 2
        number = max(other.number for other in self._parts) + 1
        half = Part(number, middle, part.stop - middle)
        part.size = middle - part.offset
        bisect.insort(self._parts, half, key=lambda other: other.offset)
        self._open += 1
        # The new claim first: whoever is killed in between has two parts overlap, and loses nothing.
        await self._disk.do(partial(self._files.claim, half))
        await self._disk.do(partial(self._files.claim, part))
        async with self._changed:
            self._queue.append(half)
            self._changed.notify()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to tell; what a request says for good goes before a source that knows no ranges."""
    return min(errors.exceptions, key=lambda error: isinstance(error, NoRangesError))
