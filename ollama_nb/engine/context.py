"""What context a model gets: how many sequences, how many rows in a batch, one cache or one for each sequence.

Models that generate are laid out as the server asks. Models that were made for embeddings answer nobody for long,
so their sequences are many, share what cache there is, and are empty between two batches. Plain arithmetic over
what the file says; making the context is ``engine.model``'s business.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ollama_nb.runner.messages import Load

__all__ = ["EMBEDDING_SEQUENCES", "ContextShape", "Purpose", "context_shape", "purpose"]

EMBEDDING_SEQUENCES: Final = 32
"""Texts that an embedding model reads at once, at most; one more sequence costs next to nothing."""

_POOLING_LAST: Final = 3
"""``LLAMA_POOLING_TYPE_LAST`` of llama.h; 0 is none, all others are of whole texts."""


class Purpose(Enum):
    """What a model was made for, and with that how it has to read a text."""

    GENERATE = "generate"
    """Answers. The vector of a text is that of its last token."""

    EMBED_LAST = "embed last"
    """Vectors of the last token: it reads from left to right, and a text may be read in parts."""

    EMBED_WHOLE = "embed whole"
    """Vectors of all tokens, or of tokens that see those behind them: a text has to be read at once."""


class ContextShape(NamedTuple):
    """``num_ctx`` tokens for each of ``num_seq`` sequences, or for all together where ``unified``."""

    num_ctx: int
    num_seq: int
    num_batch: int
    unified: bool


def purpose(metadata: Callable[[str], str | None]) -> Purpose:
    """What the file says that the model is for; ``metadata`` gives its values as text, None for what is absent."""
    architecture = metadata("general.architecture") or ""
    pooling = metadata(f"{architecture}.pooling_type")
    causal = metadata(f"{architecture}.attention.causal") != "false"
    number = int(pooling) if pooling is not None and pooling.isdecimal() else 0
    if causal and number == 0:
        return Purpose.GENERATE
    return Purpose.EMBED_LAST if causal and number == _POOLING_LAST else Purpose.EMBED_WHOLE


def context_shape(load: Load, num_ctx_train: int, purpose: Purpose) -> ContextShape:
    """The context for a request to load; ``num_ctx_train`` tokens are the most, 0 if the file does not say."""
    num_ctx = min(load.num_ctx, num_ctx_train) if num_ctx_train > 0 else load.num_ctx
    if purpose is Purpose.GENERATE:
        # A row for every sequence: llama.cpp aborts the process where a batch is smaller than that.
        num_batch = max(load.num_seq, min(load.num_batch, num_ctx * load.num_seq))
        return ContextShape(num_ctx, load.num_seq, num_batch, unified=False)
    # What is read at once stands in one batch, however long it is: llama.cpp aborts the process where it does not.
    num_batch = num_ctx if purpose is Purpose.EMBED_WHOLE else max(1, min(load.num_batch, num_ctx))
    return ContextShape(num_ctx, min(EMBEDDING_SEQUENCES, num_batch), num_batch, unified=True)
