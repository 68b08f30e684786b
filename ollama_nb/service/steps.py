"""Long work as a stream: what it tells on its way comes out as steps, and who leaves the stream calls it off.

Blobs that come or go are told by ``follow``, other steps by whoever takes them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from ollama_nb.wire.models import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["Report", "Transfer", "follow", "steps_of"]

Report: TypeAlias = "Callable[[Progress], None]"
"""Takes the steps of long work, one by one; to be called on the event loop."""

_TICK: Final = 0.1
"""Seconds between two lines about one blob: smooth to look at, little to read."""

_FIRST_TICK: Final = 0.01
_SILENCE: Final = 1.0
"""Seconds after which a line is repeated, so that whoever watches sees that it stands still."""

_HEX_DIGITS: Final = 12


class Transfer(Protocol):
    """A blob on its way: bytes in all, and bytes that have arrived."""

    @property
    def digest(self) -> str:
        """Which blob."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    @property
    def completed(self) -> int:
        """Bytes that have arrived."""

    async def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time; raises what it ended with."""


async def follow(transfer: Transfer, doing: str, report: Report) -> None:
    """Wait for a transfer, and report ``<doing> <hex>`` when more of it has arrived, and now and then when not.

    Raises what the transfer raises.
    """
    told, told_at = -1, 0.0
    # What was here before is told apart from what comes by the first line.
    done = await transfer.wait(_FIRST_TICK)
    while True:
        now = asyncio.get_running_loop().time()
        if transfer.completed != told or now - told_at >= _SILENCE:
            told, told_at = transfer.completed, now
            status = f"{doing} {transfer.digest.removeprefix('sha256:')[:_HEX_DIGITS]}"
            report(Progress(status=status, digest=transfer.digest, total=transfer.size, completed=told))
        if done:
            return
        done = await transfer.wait(_TICK)


async def steps_of(work: Callable[[Report], Awaitable[None]]) -> AsyncGenerator[Progress, None]:
    """The steps that ``work`` reports, and ``success`` behind them; raises what it raises.

    Closing the generator calls the work off and waits for its end.
    """
    steps: asyncio.Queue[Progress | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(steps.put_nowait))
    task.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        while (step := await steps.get()) is not None:
            yield step
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    yield Progress(status="success")
