"""A running answer and the slot of the cache that it lives in; the arithmetic of full contexts.

Nothing here computes: a sequence knows which tokens are cached, which are waiting to be, and what has been
said. Which of them go into the next batch is the batcher's business.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ollama_nb.engine.images import NO_IMAGES, Images
from ollama_nb.engine.output import OutputText, RepetitionGuard
from ollama_nb.runner.messages import Finish, Generate

if TYPE_CHECKING:
    from ollama_nb.engine.logprobs import Logprobs
    from ollama_nb.engine.sampling import Constraint, Sampler

__all__ = ["Sequence", "Slot", "common_prefix", "discard_count", "kept_count", "predict_limit", "truncate_prompt"]


def kept_count(num_keep: int, prompt_length: int, num_ctx: int, *, adds_bos: bool) -> int:
    """How many leading tokens survive truncation and shifts: num_keep, BOS on top, all if negative."""
    keep = prompt_length if num_keep < 0 else num_keep + int(adds_bos)
    return max(0, min(keep, num_ctx - 1, prompt_length))


def truncate_prompt(tokens: list[int], keep: int, num_ctx: int) -> list[int]:
    """A prompt cut to the context: the first ``keep`` tokens and the end; the middle goes."""
    if len(tokens) <= num_ctx:
        return tokens
    return tokens[:keep] + tokens[len(tokens) - (num_ctx - keep) :]


def discard_count(num_ctx: int, keep: int, used: int) -> int:
    """How many tokens behind the kept ones to drop from a cache of ``used`` tokens: half of what may go.

    Ollama's rule: with ``max(1, (ctx - keep) / 2)`` tokens to be free, less those that are free already.
    """
    wanted = max(1, (num_ctx - keep) // 2)
    return max(0, wanted - (num_ctx - used))


def predict_limit(num_predict: int, num_ctx: int, free: int | None = None) -> int:
    """The most tokens an answer may have: the option, or ten contexts where it is absent, zero or larger.

    Where the context may not be shifted, ``free`` of its places are left; the last token needs none.
    """
    ceiling = 10 * num_ctx if free is None else free + 1
    return num_predict if 0 < num_predict <= ceiling else ceiling


def common_prefix(left: list[int], right: list[int]) -> int:
    """Length of the common beginning of two token lists."""
    limit = min(len(left), len(right))
    if left[:limit] == right[:limit]:
        return limit
    # Halving compares slices in C; a loop over the tokens of a long context would show in the first token's time.
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


@dataclass(eq=False)
class Slot:
    """One sequence id of the cache and the tokens that it holds."""

    id: int
    tokens: list[int] = field(default_factory=list)
    last_used: int = 0
    busy: bool = False


@dataclass(eq=False)
class Sequence:
    """One answer in the making. ``pending`` tokens are sampled or given, but not yet in the cache.

    Placeholders stand for ``images`` among the tokens.
    """

    request: Generate
    prompt: list[int]
    keep: int
    limit: int
    sampler: Sampler
    received_at: int
    slot: Slot
    pending: list[int]
    cached_count: int
    text: OutputText
    constraint: Constraint | None = None
    logprobs: Logprobs | None = None
    images: Images = NO_IMAGES
    dropped_count: int = 0
    guard: RepetitionGuard = field(default_factory=RepetitionGuard)
    eval_count: int = 0
    first_sample_at: int = 0
    last_sample_at: int = 0

    @property
    def id(self) -> int:
        """The request's number."""
        return self.request.id

    @property
    def prefilling(self) -> bool:
        """Whether prompt tokens, not only the last sampled one, wait to be computed."""
        return self.eval_count == 0 or len(self.pending) > 1

    def say(self, piece: bytes) -> tuple[str, str | None]:
        """Text gained by a sampled token that is no end, and why the answer ends here, if it does."""
        text = self.text.push(piece)
        if self.text.stopped:
            return text, "stop"
        if self.constraint is not None and self.constraint.is_complete:
            # Only an end could follow: there is no need to compute it.
            return text + self.text.flush(), "stop"
        if self.guard.tripped_by(text) or self.eval_count >= self.limit:
            return text + self.text.flush(), "length"
        return text, None

    def sampled(self) -> None:
        """Note the time of one more sampled token."""
        now = time.monotonic_ns()
        self.eval_count += 1
        if self.eval_count == 1:
            self.first_sample_at = now
        self.last_sample_at = now

    def finish(self, reason: str) -> Finish:
        """The closing frame: counts in tokens, durations in nanoseconds."""
        started = self.first_sample_at or time.monotonic_ns()
        return Finish(
            id=self.id,
            reason=reason,
            prompt_count=len(self.prompt),
            cached_count=self.cached_count,
            prompt_duration=started - self.received_at,
            eval_count=self.eval_count,
            eval_duration=max(self.last_sample_at - started, 0),
            dropped_count=self.dropped_count,
        )
