"""How fast the requests of a download are, and what follows from it: judged from numbers alone.

A line is bad in more ways than breaking: a request may stand still, or crawl while its neighbours run. What ends one,
and who reads on, is decided here by rule and done in ``download``.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.registry.source import Patience

__all__ = ["LEAST_SPLIT", "Limits", "Pace", "typical"]

_LEAST_BYTES: Final = 1024
"""A request that brings less than this while ``Patience.stall`` lasts stands still."""
_SLOW: Final = 10
"""A request is slow that is so many times slower than others are."""
LEAST_SPLIT: Final = 128 * 1024
"""Bytes; less than that is not worth a request of its own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is measured how often, in seconds; all of it in proportion to the patience with a line that stands still.

    Every ``tick`` the requests are looked at; for ``slow`` seconds one must crawl to count as slow; to split what is
    left of a part must ``save`` so many seconds.
    """

    tick: float
    slow: float
    stall: float
    save: float

    @classmethod
    def of(cls, patience: Patience) -> Limits:
        """With 30 seconds for a line that stands still: every half second, five seconds, and one second."""
        return cls(patience.stall / 60, patience.stall / 6, patience.stall, patience.stall / 30)


class Pace:
    """The speed of one request, begun at ``now``; times are seconds of any one clock.

    What it waits for our own disk is no time of the request.
    """

    def __init__(self, now: float, keep: float) -> None:
        self.received = 0
        self._began = now
        self._keep = keep
        self._paused = 0.0
        self._paused_since: float | None = None
        self._samples = deque([(0.0, 0)])

    def pause(self, now: float) -> None:
        """From now on nothing is read."""
        self._paused_since = now

    def resume(self, now: float) -> None:
        """From now on the line is waited for again."""
        if self._paused_since is not None:
            self._paused += now - self._paused_since
            self._paused_since = None

    def forgive(self, seconds: float) -> None:
        """For so long nobody here has read, though there may have been something to read."""
        self._paused += seconds

    def sample(self, now: float) -> None:
        """Remembers how far the request is."""
        age = self.age(now)
        self._samples.append((age, self.received))
        while len(self._samples) > 1 and self._samples[1][0] <= age - self._keep:
            self._samples.popleft()

    def age(self, now: float) -> float:
        """Seconds for which the line has been waited for."""
        paused = self._paused + (now - self._paused_since if self._paused_since is not None else 0.0)
        return now - self._began - paused

    def mean(self, now: float) -> float:
        """Bytes a second since the request began."""
        return self.received / max(self.age(now), 1e-6)

    def rate(self, now: float, window: float) -> float | None:
        """Bytes a second in the last ``window`` seconds; None for a request that is younger."""
        age = self.age(now)
        for then, received in reversed(self._samples):
            if then <= age - window:
                return (self.received - received) / (age - then)
        return None

    def stands_still(self, now: float, limits: Limits) -> bool:
        """Whether next to nothing has come for as long as the patience lasts."""
        rate = self.rate(now, limits.stall)
        return rate is not None and rate * limits.stall < _LEAST_BYTES

    def is_slow(self, now: float, limits: Limits, usual: float, rest: int) -> bool:
        """Whether another request would be done with ``rest`` bytes much sooner, if it is as fast as is usual."""
        rate = self.rate(now, limits.slow)
        return rate is not None and rate * _SLOW < usual and rest > rate * limits.save

    def seconds_left(self, now: float, limits: Limits, rest: int) -> float:
        """How long ``rest`` bytes take at the present rate; 0 for a request that is too young to be judged."""
        rate = self.rate(now, limits.slow / 5)
        return 0.0 if rate is None else rest / max(rate, 1e-6)


def typical(rates: Iterable[float]) -> float:
    """The median of the rates, 0 without any."""
    known = sorted(rates)
    return statistics.median(known) if known else 0.0
