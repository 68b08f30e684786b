"""Work in a thread comes to its end, whoever leaves meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from ollama_nb.service.threads import in_thread


def test_what_the_work_gives_or_raises_is_what_comes() -> None:
    def fail() -> None:
        raise ValueError("no")

    assert asyncio.run(in_thread(lambda: 5)) == 5
    with pytest.raises(ValueError, match="no"):
        asyncio.run(in_thread(fail))


@pytest.mark.parametrize("fails", [False, True])
def test_who_leaves_waits_for_the_end_and_nobody_complains(*, fails: bool) -> None:
    begun, leave, ended = threading.Event(), threading.Event(), threading.Event()
    complaints: list[dict[str, Any]] = []

    def work() -> None:
        begun.set()
        leave.wait()
        ended.set()
        if fails:
            raise ValueError("nobody hears of it")

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        task = asyncio.ensure_future(in_thread(work))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()
        del task
        gc.collect()

    asyncio.run(scenario())
    assert not complaints
