"""The number of threads follows what the machine has left; machines are imagined here, so that they can be busy."""

from __future__ import annotations

import pytest

from ollama_nb.engine.threads import LONGEST_REST, ThreadGovernor


class Machine:
    """Cores that others take for themselves. The governed threads get what is left, and spin on it."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.others = 0.0
        self.now = self.process = self.idle = 0.0
        self.governor = ThreadGovernor(
            cores, clock=lambda: self.now, process_clock=lambda: self.process, idle_clock=lambda: self.idle
        )

    def compute(self, seconds: float, step: float = 0.02) -> list[int]:
        """Batch after batch; the counts of threads that were chosen."""
        counts = []
        for _ in range(round(seconds / step)):
            self.governor.begin()
            asked = self.governor.count
            got = asked if asked + self.others <= self.cores else asked * self.cores / (asked + self.others)
            self.now += step
            self.process += got * step
            self.idle += max(0.0, self.cores - asked - self.others) * step
            counts.append(self.governor.end())
        return counts


def test_a_quiet_machine_computes_with_all_cores():
    machine = Machine(4)
    assert set(machine.compute(10)) == {4}


@pytest.mark.parametrize(("cores", "others", "most_left"), [(2, 1, 1), (2, 2, 1), (4, 2, 2), (8, 4, 5)])
def test_busy_neighbours_are_given_way_at_once_and_for_as_long_as_they_compute(cores, others, most_left):
    machine = Machine(cores)
    machine.compute(1)
    machine.others = others
    counts = machine.compute(5)
    assert max(counts[10:]) <= most_left
    assert min(counts) >= 1


def test_the_threads_come_back_when_the_neighbour_stops():
    machine = Machine(2)
    machine.others = 1
    machine.compute(3)
    machine.others = 0
    assert machine.compute(LONGEST_REST)[-1] == 2


def test_a_neighbour_that_comes_and_goes_does_not_make_the_count_flutter():
    machine = Machine(2)
    changes = 0
    last = 2
    for second in range(60):
        machine.others = second % 2
        for count in machine.compute(1):
            changes += count != last
            last = count
    assert changes <= 20


def test_a_pause_says_nothing_about_the_time_after_it():
    machine = Machine(2)
    machine.others = 1
    machine.compute(3)
    assert machine.governor.count == 1
    machine.now += 60
    machine.idle += 60
    assert machine.compute(0.4)[-1] == 1
