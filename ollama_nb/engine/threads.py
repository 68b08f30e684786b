"""How many threads compute: down while others need the cores, up again when the cores are free.

llama.cpp's threads spin at a barrier after every node of the graph. Where another program takes one of their cores,
all of them wait for it a thousand times a token, and two threads become many times slower than one. So the engine
watches what share of the time its threads really ran, and what the machine has left.

Pure: clocks come in as functions, the count goes out as a number.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ThreadGovernor", "idle_seconds"]

WINDOW: Final = 0.05
"""Seconds of computing after which the share that the threads got is judged."""

CONTENDED: Final = 0.8
"""Below this share of the time that they asked for, threads were kept waiting by others."""

LOOK: Final = 0.5
"""Seconds between two looks at the machine's idle cores."""

SHORTEST_REST: Final = 1.0
LONGEST_REST: Final = 16.0
"""Seconds to stay at fewer threads before more are tried; doubled each time that a try soon fails."""

NEARLY: Final = 0.75
"""The part of a core that has to be idle to count as a free one."""


def idle_seconds() -> float:
    """Processor seconds that all cores together have been idle since the machine started."""
    return float(psutil.cpu_times().idle)


class ThreadGovernor:
    """Decides the number of threads, between 1 and ``most``, from how the last batches went."""

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
        process_clock: Callable[[], float] = time.process_time,
        idle_clock: Callable[[], float] = idle_seconds,
    ) -> None:
        self.count = most
        self._most = most
        self._clock = clock
        self._process_clock = process_clock
        self._idle_clock = idle_clock
        self._wall = self._cpu = 0.0
        self._began = (0.0, 0.0)
        self._rest = SHORTEST_REST
        self._lowered_at = self._raised_at = -LONGEST_REST
        self._looked: tuple[float, float] | None = None

    def begin(self) -> None:
        """A batch is about to be computed."""
        self._began = (self._clock(), self._process_clock())

    def end(self) -> int:
        """It has been computed; the number of threads for the next one."""
        now = self._clock()
        self._wall += now - self._began[0]
        self._cpu += self._process_clock() - self._began[1]
        if self._wall >= WINDOW:
            share = self._cpu / (self._wall * self.count)
            self._wall = self._cpu = 0.0
            if self.count > 1 and share < CONTENDED:
                self._lower(now, share)
        if self.count < self._most:
            self._consider_more(now)
        return self.count

    def _lower(self, now: float, share: float) -> None:
        self._rest = min(2 * self._rest, LONGEST_REST) if now - self._raised_at < self._rest else SHORTEST_REST
        self.count = max(1, int(self.count * share))
        self._lowered_at = now
        self._looked = None

    def _consider_more(self, now: float) -> None:
        if self._looked is None or now - self._looked[0] > 2 * LOOK:
            # Nothing was computed for a while: what was idle then says nothing about a time in which we compute.
            self._looked = (now, self._idle_clock())
            return
        if now - self._looked[0] < LOOK:
            return
        idle = self._idle_clock()
        free = int((idle - self._looked[1]) / (now - self._looked[0]) + 1 - NEARLY)
        self._looked = (now, idle)
        if free and now - self._lowered_at >= self._rest:
            self.count = min(self._most, self.count + free)
            self._raised_at = now
