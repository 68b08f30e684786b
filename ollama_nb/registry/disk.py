"""The threads in which one download touches the disk, so that a slow disk keeps nobody else waiting."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Disk"]

T = TypeVar("T")


class Disk:
    """At most ``threads`` things at once, begun in the order in which they are asked for."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="download")

    async def do(self, work: Callable[[], T]) -> T:
        """What ``work`` gives. A thread cannot be called off: whoever is cancelled waits until it is done."""
        task = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            # Who is cancelled does not hear of an error; looked at here, it is none that asyncio complains of.
            if not task.cancelled():
                task.exception()
            raise

    def close(self) -> None:
        """Ends the threads; waits for what they do."""
        self._threads.shutdown()
