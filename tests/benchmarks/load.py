"""The loads: what is asked of a server, and the one number that comes out of it.

Every load asks both servers the same prompts in the same order. No two prompts begin alike, so that nothing but a
token or two can come from a cache. An answer that ended before its full length is no measurement: the load is
repeated with another seed.
"""

from __future__ import annotations

import http.client
import itertools
import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from client import stream_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from contender import Answer, Contender

__all__ = ["Decode", "FirstToken", "Load", "Outcome", "ProbedDecode", "Prompts", "ask"]

ATTEMPTS: Final = 8
MIN_TOGETHER: Final = 10
"""Tokens a stream must have while all streams run; fewer say nothing."""
_QUALITIES: Final = (
    *("Quiet", "Brave", "Clever", "Gentle", "Hungry", "Lonely", "Mighty", "Noisy", "Patient", "Proud", "Silent"),
    *("Sleepy", "Stubborn", "Tiny", "Wise", "Young", "Ancient", "Bright", "Curious", "Eager", "Famous", "Golden"),
    *("Honest", "Jolly", "Kind", "Lucky", "Modern", "Narrow", "Orange", "Purple"),
)
_FIGURES: Final = (
    *("bakers", "carpenters", "dancers", "doctors", "drivers", "farmers", "fishermen", "gardeners", "hunters"),
    *("judges", "kings", "lawyers", "miners", "musicians", "nurses", "painters", "pilots", "poets", "sailors"),
    *("scientists", "shepherds", "singers", "soldiers", "students", "teachers", "writers"),
)


class Prompts:
    """Short raw prompts of some twenty tokens; no two begin with the same two words."""

    def __init__(self) -> None:
        self._pairs: Iterator[tuple[str, str]] = itertools.chain.from_iterable(
            zip(_QUALITIES, itertools.islice(itertools.cycle(_FIGURES), turn, None), strict=False)
            for turn in itertools.count()
        )

    def take(self, count: int) -> list[str]:
        """The next ``count`` prompts."""
        return [
            f"{quality} {figure} lived by the river for many years. This is the long story of their village, told"
            for quality, figure in itertools.islice(self._pairs, count)
        ]


@dataclass(frozen=True)
class _Asked:
    answers: list[Answer]
    tokens: int
    repeats: int


def ask(contender: Contender, prompts: Sequence[str], *, seed: int, tokens: int) -> _Asked:
    """Answers of exactly ``tokens`` tokens to prompts that are sent all at once.

    Raises ``RuntimeError`` if none of ``ATTEMPTS`` seeds gives them.
    """
    made = 0
    for attempt in range(ATTEMPTS):
        requests = [
            contender.request(prompt, seed=seed + 1000 * attempt + index, tokens=tokens)
            for index, prompt in enumerate(prompts)
        ]
        answers = [contender.read(arrivals) for arrivals in stream_all(contender.address, requests)]
        made += sum(answer.tokens for answer in answers)
        if all(answer.tokens == tokens for answer in answers):
            return _Asked(answers, made, attempt)
    raise RuntimeError(f"{contender.name} gave no {len(prompts)} answers of {tokens} tokens with {ATTEMPTS} seeds")


@dataclass(frozen=True)
class Outcome:
    """A figure, the tokens that were made for it, and how many runs were thrown away; their tokens count too."""

    value: float
    tokens: int
    repeats: int


@dataclass(frozen=True)
class Load:
    """A figure's name and unit, whether more of it is better, and how many prompts a run takes."""

    title: str
    unit: str
    prompts: int
    tokens: int

    more_is_better = True

    def run(self, contender: Contender, prompts: Sequence[str], seed: int) -> Outcome:
        """Put a server under this load."""
        raise NotImplementedError


@dataclass(frozen=True)
class Decode(Load):
    """Tokens per second of all streams together, while all of them run.

    The clock starts when the last stream has its first token, so that no prompt is computed meanwhile, and stops when
    the first one has its last. The sum of the streams' own speeds between these is the figure.
    """

    def run(self, contender: Contender, prompts: Sequence[str], seed: int) -> Outcome:
        """Tokens/s."""
        asked = ask(contender, prompts, seed=seed, tokens=self.tokens)
        start = max(answer.texts[0] for answer in asked.answers)
        end = min(answer.texts[-1] for answer in asked.answers)
        speeds = [_speed([at for at in answer.texts if start <= at <= end]) for answer in asked.answers]
        return Outcome(sum(speeds), asked.tokens, asked.repeats)


def _speed(times: Sequence[float]) -> float:
    """Tokens/s of one stream; the first token is where the clock starts and does not count."""
    if len(times) < MIN_TOGETHER:
        raise RuntimeError(f"the streams ran together for {len(times)} tokens only")
    return (len(times) - 1) / (times[-1] - times[0])


@dataclass(frozen=True)
class FirstToken(Load):
    """Time from the request to the first text, one request after another; the median of them.

    Answers are one token long and so never too short: a prompt that is asked again would come from the cache.
    """

    more_is_better = False

    def run(self, contender: Contender, prompts: Sequence[str], seed: int) -> Outcome:
        """Milliseconds."""
        asked = [
            ask(contender, [prompt], seed=seed + index, tokens=self.tokens) for index, prompt in enumerate(prompts)
        ]
        median = statistics.median(one.answers[0].texts[0] - one.answers[0].sent_at for one in asked)
        return Outcome(1000 * median, sum(one.tokens for one in asked), sum(one.repeats for one in asked))


@dataclass(frozen=True)
class ProbedDecode(Load):
    """The longest wait for a GET that costs nothing while all streams run, on a connection that stays open."""

    more_is_better = False
    PAUSE = 0.02
    """Seconds between two questions."""

    def run(self, contender: Contender, prompts: Sequence[str], seed: int) -> Outcome:
        """Milliseconds."""
        times: list[float] = []
        failures: list[Exception] = []
        over = threading.Event()

        def probe() -> None:
            connection = http.client.HTTPConnection(*contender.address, timeout=30)
            try:
                while not over.wait(self.PAUSE):
                    start = time.perf_counter()
                    connection.request("GET", contender.probe_path)
                    connection.getresponse().read()
                    times.append(1000 * (time.perf_counter() - start))
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
            finally:
                connection.close()

        prober = threading.Thread(target=probe, name="probe")
        prober.start()
        try:
            asked = ask(contender, prompts, seed=seed, tokens=self.tokens)
        finally:
            over.set()
            prober.join()
        if failures:
            raise RuntimeError(f"{contender.name} did not answer {contender.probe_path}") from failures[0]
        return Outcome(max(times), asked.tokens, asked.repeats)
