"""A model being made: its files are hashed, what the server lacks is sent, then the server is asked for the model.

All of it is one stream of steps: warnings, ``gathering model components``, ``reading <file>`` and
``copying file <digest>`` with bytes, then the server's own. What is asked for is in ``recipe``.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias, TypeVar

from ollama_nb.client.files import file_digest, readable
from ollama_nb.client.models import Progress
from ollama_nb.client.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
    from pathlib import Path

    from ollama_nb.client.files import OnProgress
    from ollama_nb.client.protocol import CreateFields, StreamCall
    from ollama_nb.client.recipe import ModelfileSource
    from ollama_nb.client.stream import AsyncStream, Stream

    Call: TypeAlias = StreamCall[Progress, Progress]
    Steps: TypeAlias = Stream[Progress, Progress]
    AsyncSteps: TypeAlias = AsyncStream[Progress, Progress]

__all__ = ["AsyncCreation", "Creation"]

T = TypeVar("T")

_GATHERING: Final = "gathering model components"


class _Blobs(Protocol):
    """How files reach the server."""

    def blob_exists(self, digest: str) -> bool: ...
    def push_blob(self, path: Path, digest: str, progress: OnProgress | None = None) -> None: ...


class _AsyncBlobs(Protocol):
    """The same for asyncio."""

    async def blob_exists(self, digest: str) -> bool: ...
    async def push_blob(self, path: Path, digest: str, progress: OnProgress | None = None) -> None: ...


class Creation:
    """A model being made: iterate for its steps, or wait for its ``result()``, the last one.

    Where files have to be sent, nothing is done before the first step is asked for. Leaving early, by ``close()``, the
    end of a ``with`` block or an exception such as ``KeyboardInterrupt``, ends a transfer and tells the server to stop.
    """

    def __init__(self, recipe: Recipe, blobs: _Blobs, ask: Callable[[Call], Steps]) -> None:
        self._asked = [] if recipe.paths else [ask(recipe.call({}))]
        self._steps = _create(recipe, blobs, ask, self._asked)
        self._last = Progress()

    def __iter__(self) -> Iterator[Progress]:
        return self

    def __next__(self) -> Progress:
        self._last = next(self._steps)
        return self._last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Break off, if it has not ended; can be called at any time."""
        self._steps.close()
        for stream in self._asked:
            stream.close()

    def result(self) -> Progress:
        """The last step, after all others. Raises ``OllamaError`` if the model does not come about."""
        for _ in self:
            pass
        return self._last

    def partial(self) -> Progress:
        """The latest step, without waiting."""
        return self._last


class AsyncCreation:
    """``Creation`` for asyncio: ``async for`` its steps, ``await`` its ``result()``, leave it with ``async with``."""

    def __init__(self, steps: AsyncGenerator[Progress], asked: list[AsyncSteps]) -> None:
        self._steps = steps
        self._asked = asked
        self._last = Progress()

    @classmethod
    async def begin(
        cls,
        request: tuple[str, ModelfileSource | None, CreateFields],
        blobs: _AsyncBlobs,
        ask: Callable[[Call], Awaitable[AsyncSteps]],
    ) -> Self:
        """A creation of the model, Modelfile and fields in ``request``; the disk is read in a thread."""
        recipe = await asyncio.to_thread(Recipe.of, *request)
        asked = [] if recipe.paths else [await ask(recipe.call({}))]
        return cls(_create_async(recipe, blobs, ask, asked), asked)

    def __aiter__(self) -> AsyncIterator[Progress]:
        return self

    async def __anext__(self) -> Progress:
        self._last = await anext(self._steps)
        return self._last

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Break off, if it has not ended; can be called at any time."""
        await self._steps.aclose()
        for stream in self._asked:
            await stream.aclose()

    async def result(self) -> Progress:
        """The last step, after all others. Raises ``OllamaError`` if the model does not come about."""
        async for _ in self:
            pass
        return self._last

    def partial(self) -> Progress:
        """The latest step, without waiting."""
        return self._last


# What follows are no methods: a generator that held its creation would keep it, and the connection, from being freed.


def _create(
    recipe: Recipe, blobs: _Blobs, ask: Callable[[Call], Steps], asked: list[Steps]
) -> Generator[Progress, None, None]:
    for warning in recipe.warnings:
        yield Progress(status=warning)
    if not asked:
        yield Progress(status=_GATHERING)
        digests: dict[Path, str] = {}
        for path in recipe.paths:
            with readable(path):
                digest = yield from _watched(partial(file_digest, path), f"reading {path.name}")
                if not blobs.blob_exists(digest):
                    yield from _watched(partial(blobs.push_blob, path, digest), f"copying file {digest}", digest)
            digests[path] = digest
        asked.append(ask(recipe.call(digests)))
    yield from asked[0]


async def _create_async(
    recipe: Recipe, blobs: _AsyncBlobs, ask: Callable[[Call], Awaitable[AsyncSteps]], asked: list[AsyncSteps]
) -> AsyncGenerator[Progress, None]:
    for warning in recipe.warnings:
        yield Progress(status=warning)
    if not asked:
        yield Progress(status=_GATHERING)
        digests: dict[Path, str] = {}
        for path in recipe.paths:
            with readable(path):
                found: list[str] = []
                reading = partial(asyncio.to_thread, file_digest, path)
                async with aclosing(_watched_async(reading, f"reading {path.name}", "", found.append)) as steps:
                    async for step in steps:
                        yield step
                (digest,) = found
                if not await blobs.blob_exists(digest):
                    sending = partial(blobs.push_blob, path, digest)
                    async with aclosing(_watched_async(sending, f"copying file {digest}", digest)) as steps:
                        async for step in steps:
                            yield step
            digests[path] = digest
        asked.append(await ask(recipe.call(digests)))
    async for step in asked[0]:
        yield step


class _LeftError(Exception):
    """Nobody waits for a transfer any more; raised inside it, and seen by nobody."""


def _watched(work: Callable[[OnProgress], T], status: str, digest: str = "") -> Generator[Progress, None, T]:
    """Do ``work`` in a thread, and tell how far it is; it calls what it is given with bytes done and bytes in all."""
    told: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
    left = threading.Event()

    def tell(done: int, total: int) -> None:
        if left.is_set():
            raise _LeftError
        told.put((done, total))

    pool = ThreadPoolExecutor(1)
    try:
        future = pool.submit(work, tell)
        future.add_done_callback(lambda _: told.put(None))
        while (step := told.get()) is not None:
            yield Progress(status=status, digest=digest, completed=step[0], total=step[1])
        return future.result()
    finally:
        left.set()
        pool.shutdown(wait=False)  # it ends at its next piece, or with the client


async def _watched_async(
    work: Callable[[OnProgress], Awaitable[T]], status: str, digest: str, done: Callable[[T], None] | None = None
) -> AsyncGenerator[Progress, None]:
    """``_watched`` for asyncio: ``work`` reads its file in a thread and tells from there; ``done`` gets its result."""
    told: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()
    left = threading.Event()
    loop = asyncio.get_running_loop()

    def tell(bytes_done: int, total: int) -> None:
        if left.is_set():
            raise _LeftError
        loop.call_soon_threadsafe(told.put_nowait, (bytes_done, total))

    task = asyncio.ensure_future(work(tell))
    task.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while (step := await told.get()) is not None:
            yield Progress(status=status, digest=digest, completed=step[0], total=step[1])
        result = task.result()
        if done is not None:
            done(result)
    finally:
        left.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
