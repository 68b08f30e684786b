"""Who used the machine: processor time and memory of both servers' processes, of the client and of everybody else.

A ratio is worth what the run was worth: the idle server must be idle, and the more strangers compute on the same
cores, the less the figures say. Reads psutil only; judging is left to whoever reads the report.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contender import Contender

__all__ = ["Account", "Memory", "memory_of"]


@dataclass(frozen=True)
class Memory:
    """Bytes of one process: resident, and of those the ones that nobody shares."""

    resident: int
    unique: int


def memory_of(contender: Contender) -> dict[str, Memory]:
    """The memory of each of a contender's processes."""
    full = {part: process.memory_full_info() for part, process in contender.parts().items()}
    return {part: Memory(resident=info.rss, unique=info.uss) for part, info in full.items()}


@dataclass
class _Reading:
    at: float
    parts: dict[tuple[str, str], float]
    client: float
    busy: float
    stolen: float


@dataclass
class Account:
    """Sums over all turns; times in s of processor time. Keys are contenders, or contender and process.

    ``tokens`` is booked by whoever knows how many were made.
    """

    contenders: tuple[Contender, Contender]
    working: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    idling: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    idle_time: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    elapsed: float = 0.0
    client: float = 0.0
    strangers: float = 0.0
    stolen: float = 0.0

    @contextmanager
    def turn(self, active: Contender) -> Iterator[None]:
        """Book the processor time of what runs inside, during which only ``active`` should compute."""
        before = self._read()
        yield
        after = self._read()
        elapsed = after.at - before.at
        known = after.client - before.client
        for key, seconds in after.parts.items():
            used = seconds - before.parts[key]
            known += used
            if key[0] == active.name:
                self.working[key] += used
            else:
                self.idling[key[0]] += used
        for contender in self.contenders:
            if contender is not active:
                self.idle_time[contender.name] += elapsed
        self.elapsed += elapsed
        self.client += after.client - before.client
        self.strangers += max(0.0, after.busy - before.busy - known)
        self.stolen += after.stolen - before.stolen

    def _read(self) -> _Reading:
        parts = {
            (contender.name, part): _processor_time(process)
            for contender in self.contenders
            for part, process in contender.parts().items()
        }
        times = psutil.cpu_times()
        # Linux counts interrupts beside user and system time, other systems do not have them apart.
        busy = times.user + times.system + sum(getattr(times, name, 0.0) for name in ("nice", "irq", "softirq"))
        return _Reading(
            at=time.perf_counter(),
            parts=parts,
            client=_processor_time(psutil.Process()),
            busy=busy,
            stolen=getattr(times, "steal", 0.0),
        )


def _processor_time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
