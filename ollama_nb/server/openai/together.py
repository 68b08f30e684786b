"""Several answers at once: all of them whole, or their pieces as they come.

One that fails calls the others off, and so does a caller that goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Sequence

__all__ = ["AT_ONCE", "all_of", "merged"]

T = TypeVar("T")

AT_ONCE: Final = 32
"""So many answers of one request wait for a model or run; a list of a thousand prompts leaves room for others."""


async def all_of(answers: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """The results in order; the first failure is what is raised."""
    room = asyncio.Semaphore(AT_ONCE)

    async def run(answer: Coroutine[None, None, T]) -> T:
        """One answer, once there is room for it."""
        async with room:
            return await answer

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(answer)) for answer in answers]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    finally:
        for answer in answers:
            answer.close()  # those that never had room
    return [task.result() for task in tasks]


async def merged(answers: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """The pieces of all answers as they come, each with the index of its answer; the first failure is raised.

    Each answer runs in a task of its own from its first piece to its last, since what it holds (a lease, a timeout)
    may belong to a task.
    """
    if len(answers) == 1:
        async with contextlib.aclosing(answers[0]) as only:
            async for piece in only:
                yield 0, piece
        return
    room = asyncio.Semaphore(AT_ONCE)
    pieces: asyncio.Queue[tuple[int, T] | _Ended] = asyncio.Queue(maxsize=len(answers))

    async def run(index: int, answer: AsyncGenerator[T, None]) -> None:
        """One answer, once there is room for it."""
        failure = None
        async with room:
            try:
                async with contextlib.aclosing(answer):
                    async for piece in answer:
                        await pieces.put((index, piece))
            except Exception as error:  # noqa: BLE001 - raised where the pieces are read
                failure = error
        await pieces.put(_Ended(failure))

    tasks = [asyncio.create_task(run(index, answer)) for index, answer in enumerate(answers)]
    running = len(tasks)
    try:
        while running:
            said = await pieces.get()
            if not isinstance(said, _Ended):
                yield said
                continue
            running -= 1
            if said.failure is not None:
                raise said.failure
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Ended:
    """What an answer leaves behind its last piece."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
