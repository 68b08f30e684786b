"""Threads: for what templates do, and for what must come to its end whoever leaves.

A template comes from anywhere and may take long. In threads of their own, templates keep only one another waiting,
not the routes that read the disk.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_template_thread", "in_thread"]

T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="template")


async def in_template_thread(work: Callable[[], T]) -> T:
    """What ``work`` gives."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


async def in_thread(work: Callable[[], T]) -> T:
    """What ``work`` gives. A thread cannot be called off: whoever cancels waits for what is complete or unseen."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    # Who has left does not hear of an error; looked at here, it is none that asyncio complains of.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.wait([task])
