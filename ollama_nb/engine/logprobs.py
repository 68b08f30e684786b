"""How likely the model found the tokens of an answer, and which others it found likely.

Logarithms to base e of the softmax over all logits as the model gave them: no bias, penalty, grammar or temperature
has touched them, as in Ollama. What is told belongs to the text that is shown: a token whose text is held back waits
with it, and goes with it if it becomes part of a stop string.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from ollama_nb.engine.sampling import largest
from ollama_nb.runner.messages import MAX_TOP_LOGPROBS, Logprob, TopToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from ollama_nb.engine.output import OutputText
    from ollama_nb.engine.sampling import Logits

__all__ = ["LEAST", "Logprobs", "token_logprob"]

LEAST: Final = -9999.0
"""What stands for the logarithm of nothing, which JSON cannot write."""


def token_logprob(logits: Logits, token: int, count: int, piece: Callable[[int], bytes]) -> Logprob:
    """The sampled token and the ``count`` likeliest, the likeliest first; among equals the lower id."""
    peak = float(logits.max())
    total = peak + math.log(float(np.exp(logits - np.float32(peak)).sum(dtype=np.float64)))

    def told(candidate: int) -> TopToken:
        return TopToken(piece(candidate), max(LEAST, float(logits[candidate]) - total))

    top: list[TopToken] = []
    if count > 0:
        ids = np.sort(largest(logits, count))
        top = [told(int(candidate)) for candidate in ids[np.argsort(-logits[ids], kind="stable")]]
    return Logprob(told(token), top)


class Logprobs:
    """The probabilities of one answer's tokens, each with the place in the text where it begins."""

    def __init__(self, count: int, text: OutputText, piece: Callable[[int], bytes]) -> None:
        self._count = min(count, MAX_TOP_LOGPROBS)
        self._text = text
        self._piece = piece
        self._held: list[tuple[int, Logprob]] = []

    def add(self, logits: Logits, token: int) -> None:
        """Note a token before its text goes into the output; ``logits`` as they were before it was sampled."""
        self._held.append((self._text.decoded, token_logprob(logits, token, self._count, self._piece)))

    def take(self, *, ended: bool) -> list[Logprob]:
        """Those that can be told now. At the end of an answer what is left is told, unless it was cut away.

        Half a character is text that cannot be shown yet; its token is told at once, unless a stop string could still
        take it back.
        """
        shown, text = self._text.shown, self._text
        if text.stopped or (text.may_stop and not ended):
            told = [entry for start, entry in self._held if start < shown]
            self._held = [] if text.stopped else self._held[len(told) :]
            return told
        told = [entry for _, entry in self._held]
        self._held = []
        return told
