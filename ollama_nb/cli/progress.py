"""What bytes and times say about a transfer: how fast it is, how long it still takes, what came of it in the end.

Pure: numbers in, numbers and text out; the time is the caller's. Bars are drawn elsewhere: by ``main`` in a terminal,
where rich keeps the rates, and by ``notebook.progress`` in a cell.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from ollama_nb.cli.text import human_size

if TYPE_CHECKING:
    from ollama_nb.client.models import Progress

__all__ = ["WINDOW", "Rate", "Tally", "duration_text", "left_text", "rate_text"]

WINDOW: Final = 5.0
"""Seconds that a rate looks back: long enough to be calm, short enough to notice another network."""

SPAN: Final = 0.5
"""Seconds that have to pass before there is a rate: the first pieces say little."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_WHOLE_FROM: Final = 10


class Rate:
    """The speed of one transfer over its last seconds."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, completed: int) -> None:
        """So many bytes are there at ``now`` (seconds of any clock); what was there at first does not count."""
        if self._seen and completed < self._seen[-1][1]:
            self._seen.clear()  # a piece has to come again; how fast it came is no longer told
        self._seen.append((now, completed))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:  # noqa: PLR2004 - two make a distance
            self._seen.popleft()

    def per_second(self) -> float | None:
        """Bytes per second; ``None`` as long as nobody can tell."""
        if not self._seen:
            return None
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return (last - first) / (ended - began) if ended - began >= SPAN else None

    def seconds_left(self, total: int) -> float | None:
        """Seconds until ``total`` bytes are there, at this speed; ``None`` where it stands still or is not known."""
        speed = self.per_second()
        return (total - self._seen[-1][1]) / speed if speed else None


class Tally:
    """What the steps of a pull or a push add up to."""

    def __init__(self) -> None:
        self._blobs: dict[str, tuple[int, int, int]] = {}

    def add(self, step: Progress) -> None:
        """Take one step; those without bytes are not counted."""
        if step.total:
            first = self._blobs.get(step.digest, (step.completed,))[0]
            self._blobs[step.digest] = (first, step.completed, step.total)

    def text(self, seconds: float) -> str:
        """All bytes, the time, and the speed of those that were seen to come: ``98 MB in 12 s (8.2 MB/s)``."""
        size = human_size(sum(total for _, _, total in self._blobs.values()))
        came = sum(max(0, last - first) for first, last, _ in self._blobs.values())
        if not came:  # it was here, or came before anyone could look
            return f"{size}, up to date"
        speed = f" ({rate_text(came / seconds)})" if seconds > 0 else ""
        return f"{size} in {duration_text(seconds)}{speed}"


def rate_text(per_second: float) -> str:
    """``8.2 MB/s``."""
    return f"{human_size(int(per_second))}/s"


def duration_text(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 5 min``."""
    return f"{seconds:.1f} s" if seconds < _WHOLE_FROM - 0.05 else _whole_text(round(seconds))


def left_text(seconds: float) -> str:
    """``4 s left``; nobody knows it by the tenth."""
    return f"{_whole_text(math.ceil(seconds))} left"


def _whole_text(whole: int) -> str:
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
