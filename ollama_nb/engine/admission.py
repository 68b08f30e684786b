"""How a request becomes a running answer: what is refused, what is cut, and which slot of the cache it gets.

When a request is let in, and what is computed then, is the batcher's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ollama_nb.engine.images import NO_IMAGES, Images
from ollama_nb.engine.logprobs import Logprobs
from ollama_nb.engine.output import OutputText
from ollama_nb.engine.sampling import Sampler
from ollama_nb.engine.sequences import Sequence, Slot, common_prefix, kept_count, predict_limit, truncate_prompt
from ollama_nb.runner.messages import PROMPT_TOO_LONG, Failed, Generate

if TYPE_CHECKING:
    from ollama_nb.engine.sampling import Constraint

__all__ = ["CachingModel", "Tokenized", "admit", "choose_slot", "refusal"]


class CachingModel(Protocol):
    """What has to be known of a model; ``engine.model.Model`` is the real one."""

    num_ctx: int
    adds_bos: bool

    def piece(self, token: int) -> bytes:
        """The bytes of a token."""

    def forget(self, sequence: int, start: int, end: int = -1) -> bool:
        """Drop a range of the cache."""


@dataclass(frozen=True)
class Tokenized:
    """A request as the reader hands it over: tokenised beside the loop, so that no answer waits for it.

    Placeholders stand for ``images`` in the prompt, which ends with text.
    """

    request: Generate
    prompt: list[int]
    received_at: int
    constraint: Constraint | None = None
    images: Images = field(default=NO_IMAGES)


def refusal(item: Tokenized, num_ctx: int) -> Failed | None:
    """What is said of a request that cannot be answered; ``num_ctx`` tokens is the context of one sequence."""
    if not item.prompt:
        return Failed(id=item.request.id, error="Failed to create new sequence: no input provided\n")
    if len(item.prompt) > num_ctx and not item.request.truncate:
        return Failed(id=item.request.id, error=PROMPT_TOO_LONG, status=400)
    if item.images.largest >= num_ctx:
        size = f"an image takes {item.images.largest} tokens, the context has {num_ctx}"
        return Failed(id=item.request.id, error=f"{size}: use a larger num_ctx or a smaller image", status=400)
    return None


def admit(item: Tokenized, model: CachingModel, slots: list[Slot]) -> Sequence:
    """The answer to a request, in one of the slots, of which one is free at least; what is cached there is reused."""
    request, images, num_ctx = item.request, item.images, model.num_ctx
    keep = kept_count(request.num_keep, len(item.prompt), num_ctx, adds_bos=model.adds_bos)
    keep = images.floor(item.prompt, keep)
    prompt = images.mended(truncate_prompt(item.prompt, keep, num_ctx), keep)
    slot, reused = choose_slot(prompt, slots)
    if not model.forget(slot.id, images.position(prompt[:reused])):
        # Recurrent models cannot go back to the middle of what they have read.
        model.forget(slot.id, 0)
        reused = 0
    slot.tokens = prompt[:reused]
    slot.busy = True
    text = OutputText(request.stop)
    return Sequence(
        request=request,
        prompt=prompt,
        keep=keep,
        limit=predict_limit(request.num_predict, num_ctx, None if request.shift else num_ctx - len(prompt)),
        sampler=Sampler(request.sampling, images.text(prompt), num_ctx, item.constraint),
        received_at=item.received_at,
        slot=slot,
        pending=prompt[reused:],
        cached_count=reused,
        text=text,
        constraint=item.constraint,
        logprobs=Logprobs(request.top_logprobs, text, model.piece) if request.logprobs else None,
        images=images,
        dropped_count=len(item.prompt) - len(prompt),
    )


def choose_slot(prompt: list[int], slots: list[Slot]) -> tuple[Slot, int]:
    """The free slot that holds the longest prefix of the prompt, and that length.

    Among equals the one next to a running answer, since neighbours are computed together, then the oldest. The
    last token of a prompt is always computed again: its logits are what the answer begins with.
    """
    free = [slot for slot in slots if not slot.busy]
    lengths = {slot.id: common_prefix(slot.tokens, prompt) for slot in free}
    busy = [slot.id for slot in slots if slot.busy]

    def preference(slot: Slot) -> tuple[int, int, int]:
        distance = min((abs(slot.id - other) for other in busy), default=0)
        return lengths[slot.id], -distance, -slot.last_used

    best = max(free, key=preference)
    return best, min(lengths[best.id], len(prompt) - 1)
