"""From a text to the tokens that its vector is of: what the tokenizer adds stays, what is too long is cut.

Runs on the reader's thread; the vectors are computed by ``embedding``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from ollama_nb.runner.messages import Embed

__all__ = ["INPUT_TOO_LONG", "NO_INPUT", "Passage", "Passages", "TextModel"]

INPUT_TOO_LONG: Final = "the input length exceeds the context length"
NO_INPUT: Final = "no input provided"

_PROBE: Final = "a"


class TextModel(Protocol):
    """What has to be known of a model; ``engine.model.Model`` is the real one."""

    num_ctx: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Token ids of a text."""


@dataclass(frozen=True)
class Passage:
    """A text as the loop reads it, with the tokens that the tokenizer adds; ``received_at`` is in ns."""

    id: int
    tokens: list[int]
    received_at: int


class Passages:
    """Makes passages for one model."""

    def __init__(self, model: TextModel) -> None:
        self._model = model

    def prepare(self, request: Embed) -> Passage:
        """The passage of a request; raises ``ValueError`` where there is no text, or too much that may not be cut."""
        received_at = time.monotonic_ns()
        tokens = self._model.tokenize(request.text, add_special=True)
        if not tokens:
            raise ValueError(NO_INPUT)
        before, after = self._added
        end = len(tokens) - after
        limit = self._model.num_ctx - before - after
        if end - before > limit:
            if request.overflow == "refuse":
                raise ValueError(INPUT_TOO_LONG)
            start = before if request.overflow == "head" else end - limit
            tokens = tokens[:before] + tokens[start : start + limit] + tokens[end:]
        return Passage(request.id, tokens, received_at)

    @cached_property
    def _added(self) -> tuple[int, int]:
        """How many tokens the tokenizer puts before and behind every text.

        Tokenizers add by rules of their own, whatever the file says of BOS and EOS; so one is asked.
        """
        bare = self._model.tokenize(_PROBE, add_special=False)
        whole = self._model.tokenize(_PROBE, add_special=True)
        added = len(whole) - len(bare)
        places = (start for start in range(added + 1) if whole[start : start + len(bare)] == bare)
        before = next(places, min(added, 1))
        return before, added - before
