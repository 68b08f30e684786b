"""The benchmark: our server and llama.cpp's own, turn by turn in one run, and what we are in proportion to it.

``python tests/benchmarks/run.py --model FILE.gguf``. Both servers keep the model loaded, one computes at a time. An
absolute time says something about a machine; the ratio of two runs that follow one another says something about us.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import traceback
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from accounting import Account, memory_of
from client import ClientError
from contender import Settings
from load import Decode, FirstToken, Load, ProbedDecode, Prompts, ask
from ours import Ours
from peer import Peer
from report import Figure, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contender import Contender

__all__ = ["main", "measure"]

BROKEN: Final = 2
STREAMS: Final = 8
SPEEDS: Final = (
    Decode("decode, one stream", "tokens/s", prompts=1, tokens=128),
    Decode(f"decode, {STREAMS} streams together", "tokens/s", prompts=STREAMS, tokens=64),
    FirstToken("time to first token", "ms", prompts=5, tokens=1),
)
LATENCY: Final = ProbedDecode(f"slowest answer to a GET beside {STREAMS} streams", "ms", prompts=STREAMS, tokens=32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and with ``--check`` say by exit code 1 that we are behind in a speed; 2 is a broken run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file that completes text")
    parser.add_argument("--rounds", type=int, default=7, help="how often each side is measured (default: 7)")
    parser.add_argument("--threads", type=int, default=_physical_cores(), help="of both sides (default: cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's numbers there")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a speed's ratio is under 1.0")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if not chosen.model.is_file():
        parser.error(f"{chosen.model} is no file")
    # Ended from outside, it still ends its servers and removes their folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(BROKEN))
    try:
        report = measure(Settings(model=chosen.model.resolve(), threads=chosen.threads, streams=STREAMS), chosen.rounds)
    except (ClientError, OSError, RuntimeError, psutil.Error):
        traceback.print_exc()
        return BROKEN
    sys.stdout.write(report.as_text() + "\n")
    if chosen.json:
        chosen.json.write_text(report.as_json() + "\n")
    if chosen.check and report.behind:
        sys.stdout.write("behind in: " + ", ".join(figure.title for figure in report.behind) + "\n")
        return 1
    return 0


def measure(settings: Settings, rounds: int) -> Report:
    """Start both servers, run all loads turn by turn, end both."""
    figures = {
        load: Figure(load.title, load.unit, load.more_is_better, judged=load in SPEEDS) for load in (*SPEEDS, LATENCY)
    }
    report = Report(settings.model.name, settings.threads, rounds, os.getloadavg(), list(figures.values()))
    with tempfile.TemporaryDirectory(prefix="ollama_nb-bench-") as name:
        folder = Path(name)
        with Ours(settings, folder) as ours, Peer(settings, folder) as peer:
            prompts = Prompts()
            _warm_up(ours, peer, prompts.take(STREAMS))
            accounts: dict[Load, Account] = defaultdict(lambda: Account((ours, peer)))
            for number in range(rounds):
                for load, figure in figures.items():
                    asked = prompts.take(load.prompts)
                    for side, values in ((ours, figure.ours), (peer, figure.peer)):
                        with accounts[load].turn(side):
                            outcome = load.run(side, asked, 1 + 100 * number)
                        accounts[load].tokens[side.name] += outcome.tokens
                        values.append(outcome.value)
                        report.repeats += outcome.repeats
                sys.stderr.write(f"\rround {number + 1} of {rounds}")
                sys.stderr.flush()
            sys.stderr.write("\n")
            report.memory = {side.name: memory_of(side) for side in (ours, peer)}
            _settle(report, accounts)
    return report


def _warm_up(ours: Contender, peer: Contender, prompts: Sequence[str]) -> None:
    """Touch every page and slot once. Raises ``RuntimeError`` if the two count a prompt's tokens differently."""
    counts = []
    for side in (ours, peer):
        asked = ask(side, prompts, seed=0, tokens=8)
        counts.append([answer.prompt_tokens for answer in asked.answers])
    if counts[0] != counts[1]:
        raise RuntimeError(f"the prompts have {counts[0]} tokens on our side and {counts[1]} on the peer's")


def _settle(report: Report, accounts: dict[Load, Account]) -> None:
    """Shares of the machine over all turns, processor time a token for the loads that decode."""
    every = list(accounts.values())
    elapsed = sum(account.elapsed for account in every)
    cores = psutil.cpu_count() or 1
    report.client_share = sum(account.client for account in every) / elapsed
    report.strangers_share = sum(account.strangers for account in every) / elapsed / cores
    report.stolen_share = sum(account.stolen for account in every) / elapsed / cores
    for side in every[0].contenders:
        idle_time = sum(account.idle_time[side.name] for account in every)
        report.idle_share[side.name] = sum(account.idling[side.name] for account in every) / idle_time
    for load, account in accounts.items():
        if not isinstance(load, Decode):
            continue
        sides: dict[str, dict[str, float]] = defaultdict(dict)
        for (side_name, part), seconds in account.working.items():
            sides[side_name][part] = 1000 * seconds / account.tokens[side_name]
        report.processor_per_token[load.title] = dict(sides)


def _physical_cores() -> int:
    """What the engine takes by itself: the cores that this process may use, hyperthreads not counted."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


if __name__ == "__main__":
    sys.exit(main())
