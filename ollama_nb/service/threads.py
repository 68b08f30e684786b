"""Threads for what templates do.

A template comes from anywhere and may take long. In threads of their own, templates keep only one another waiting,
not the routes that read the disk.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_template_thread"]

T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="template")


async def in_template_thread(work: Callable[[], T]) -> T:
    """What ``work`` gives."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work)
