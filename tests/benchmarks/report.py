"""The result as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from accounting import Memory

__all__ = ["Figure", "Report", "processor_name"]

MOST_IDLE: Final = 0.05
"""Of one core: what a server may use while the other one is measured."""
MOST_STRANGERS: Final = 0.05
"""Of all cores: what may go to others before the report says so."""

_MEBIBYTE: Final = 1 << 20


@dataclass
class Figure:
    """One figure in all rounds, in ``unit``. ``judged`` ones are speeds in which we must not be behind."""

    title: str
    unit: str
    more_is_better: bool
    judged: bool
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """How many times as good as the peer we were, round by round."""
        pairs = zip(self.ours, self.peer, strict=True)
        return [ours / peer if self.more_is_better else peer / ours for ours, peer in pairs]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios, each of two runs that followed one another on the same machine."""
        return statistics.median(self.ratios)

    def as_json(self) -> dict[str, Any]:
        """Everything, medians included."""
        medians = {"ours_median": statistics.median(self.ours), "peer_median": statistics.median(self.peer)}
        return dataclasses.asdict(self) | medians | {"ratio": self.ratio, "ratios": self.ratios}


@dataclass
class Report:
    """All that a benchmark found out. Memory in bytes, processor times in ms, shares from 0 to 1."""

    model: str
    threads: int
    rounds: int
    load_before: tuple[float, float, float]
    figures: list[Figure]
    memory: dict[str, dict[str, Memory]] = field(default_factory=dict)
    processor_per_token: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    idle_share: dict[str, float] = field(default_factory=dict)
    client_share: float = 0.0
    strangers_share: float = 0.0
    stolen_share: float = 0.0
    repeats: int = 0

    @property
    def behind(self) -> list[Figure]:
        """The speeds in which the peer is ahead."""
        return [figure for figure in self.figures if figure.judged and figure.ratio < 1]

    @property
    def doubts(self) -> list[str]:
        """Why the figures may be worth less than they look."""
        found = [f"{side} computed while it should not" for side, share in self.idle_share.items() if share > MOST_IDLE]
        if self.strangers_share + self.stolen_share > MOST_STRANGERS:
            found.append("the machine was busy with other things; repeat this on a quiet one")
        return found

    def as_json(self) -> str:
        """The report with every round's numbers."""
        body = dataclasses.asdict(self) | {"figures": [figure.as_json() for figure in self.figures]}
        body |= {"machine": processor_name(), "versions": _versions(), "doubts": self.doubts}
        return json.dumps(body, indent=2)

    def as_text(self) -> str:
        """The table."""
        load = " ".join(f"{value:.2f}" for value in self.load_before)
        lines = [
            f"{processor_name()}, {self.threads} threads; load before: {load}; {self.rounds} rounds; {self.model}",
            ", ".join(f"{name} {text}" for name, text in _versions().items()),
            "",
            f"{'figure':44}{'ours':>10}{'peer':>10}{'ratio':>8}   spread of rounds",
        ]
        lines += [self._figure(figure) for figure in self.figures]
        lines += ["", f"{'memory, MiB':44}{'resident':>10}{'unique':>10}"]
        for side, parts in self.memory.items():
            for part, memory in parts.items():
                resident, unique = memory.resident / _MEBIBYTE, memory.unique / _MEBIBYTE
                lines.append(f"{f'{side}: {part}':44}{resident:>10.0f}{unique:>10.0f}")
        lines += ["", "processor time a token, ms (prompts included)"]
        for title, sides in self.processor_per_token.items():
            parts_used = (f"{side} {part} {ms:.2f}" for side, parts in sides.items() for part, ms in parts.items())
            lines.append(f"  {title}: {', '.join(parts_used)}")
        idle = ", ".join(f"{side} {share:.1%}" for side, share in self.idle_share.items())
        lines += [
            "",
            f"of one core while the other one computed: {idle}; the client {self.client_share:.1%}",
            f"of all cores: other programs {self.strangers_share:.1%}, taken by the hypervisor {self.stolen_share:.1%}",
            f"runs repeated because an answer ended early: {self.repeats}",
            *(f"DOUBTFUL: {doubt}" for doubt in self.doubts),
            "Values are medians of the rounds. A ratio is the median of the rounds' ratios; above 1 we are faster.",
        ]
        return "\n".join(lines)

    @staticmethod
    def _figure(figure: Figure) -> str:
        title = f"{figure.title}, {figure.unit}"
        ours, peer = statistics.median(figure.ours), statistics.median(figure.peer)
        low, high = min(figure.ratios), max(figure.ratios)
        mark = "" if figure.judged else "   (not judged)"
        return f"{title:44}{ours:>10.1f}{peer:>10.1f}{figure.ratio:>8.2f}   {low:.2f} to {high:.2f}{mark}"


def processor_name() -> str:
    """The processor's model, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("ollama_nb", "llama-cpp-python", "xllamacpp")}
