"""What the answers of both routes say of themselves: id, time, model, and what they count."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ollama_nb.wire.openai import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.wire.native import ChatResponse, GenerateResponse

__all__ = ["FINGERPRINT", "Head", "usage_of"]

FINGERPRINT: Final = "fp_ollama"
_ID_BYTES: Final = 12


@dataclass(frozen=True)
class Head:
    """What all parts of an answer say of themselves; ``created`` in seconds since the epoch."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, kind: str, model: str) -> Head:
        """The head of an answer that begins now; ``kind`` is what its id begins with."""
        return cls(f"{kind}-{secrets.token_hex(_ID_BYTES)}", int(time.time()), model)


def usage_of(finals: Iterable[ChatResponse | GenerateResponse], answers_a_prompt: int) -> Usage:
    """The counts of the answers' last responses, in the order of their indices: each prompt is counted once."""
    prompt_tokens = completion_tokens = 0
    for index, final in enumerate(finals):
        if index % answers_a_prompt == 0:
            prompt_tokens += final.prompt_eval_count
        completion_tokens += final.eval_count
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )
