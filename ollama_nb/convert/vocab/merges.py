"""The merges of a BPE model: pairs of tokens in the order in which they become one, checked against the vocabulary."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.vocab.tokens import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Merges", "merges_of_text", "parse_merges", "parse_vocab", "reaches_itself"]

_MAX_MERGES: Final = 4 << 20
_PAIR: Final = 2

Merges: TypeAlias = dict[tuple[str, str], int]
"""Pairs to ranks; the lowest is merged first."""


def parse_vocab(value: object) -> dict[str, int]:
    """Texts to ids, as ``model.vocab`` or ``vocab.json`` has them; the ids are not checked."""
    if not isinstance(value, dict) or not value:
        raise ConvertError("the tokenizer has no vocabulary")
    if len(value) > MAX_TOKENS:
        raise ConvertError(f"the tokenizer has {len(value)} tokens; the limit is {MAX_TOKENS}")
    return value


def parse_merges(value: object, vocab: dict[str, int]) -> Merges:
    """The merges of ``tokenizer.json``: ``"a b"`` or ``["a", "b"]``; parts and results must be tokens."""
    if value is None:
        return {}
    if not isinstance(value, list) or len(value) > _MAX_MERGES:
        raise ConvertError(f"the tokenizer's merges must be a list of at most {_MAX_MERGES} pairs")
    merges: Merges = {}
    for rank, item in enumerate(value):
        left, right = pair = _pair(item)
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise ConvertError(
                f"merge {rank} of the tokenizer, {shown(left)} and {shown(right)}, is not in its vocabulary"
            )
        merges.setdefault(pair, rank)
    return merges


def merges_of_text(data: bytes) -> list[str]:
    """The lines of a ``merges.txt``, without its ``#version``."""
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ConvertError(f"merges.txt is no UTF-8 text: {error}") from error
    return [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]


def _pair(item: Any) -> tuple[str, str]:  # noqa: ANN401 - any JSON
    parts = item.split(" ") if isinstance(item, str) else item
    if isinstance(parts, list) and len(parts) == _PAIR:
        left, right = parts
        # GGUF has a pair as one text with a blank between.
        if isinstance(left, str) and isinstance(right, str) and left and right and " " not in left + right:
            return left, right
    raise ConvertError(f"the tokenizer has a merge that is no pair of tokens: {shown(item)}")


def reaches_itself(texts: Iterable[str], merges: Merges, budget: int) -> bool:
    """Whether merging the characters of each text gives that text as one token again.

    ``budget`` bounds the work, in pairs looked at; a vocabulary that needs more does not count as one that does.
    """
    for text in texts:
        symbols = list(text)
        while len(symbols) > 1:
            budget -= len(symbols)
            if budget < 0:
                return False
            ranks = [merges.get(pair, _MAX_MERGES) for pair in pairwise(symbols)]
            best = min(ranks)
            if best == _MAX_MERGES:
                return False
            place = ranks.index(best)
            symbols[place : place + _PAIR] = ["".join(symbols[place : place + _PAIR])]
    return True
