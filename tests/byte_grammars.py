"""Grammars tried with llguidance itself, over an alphabet of single bytes: which texts one takes, and what it leads to.

A text goes byte by byte, so nothing here depends on how some model cuts it into tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import llguidance

if TYPE_CHECKING:
    import random

_END: Final = 256


class _Bytes:
    """A vocabulary of single bytes and an end, as llguidance asks for one."""

    bos_token_id = None
    eos_token_id = _END
    tokens = [*(bytes([value]) for value in range(256)), b"<end of the answer>"]  # noqa: RUF012 - never changed
    special_token_ids = [_END]  # noqa: RUF012 - never changed

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


_TOKENIZER: Final = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))


def _matcher(grammar: str) -> llguidance.LLMatcher:
    source = llguidance.LLMatcher.grammar_from_lark(grammar)
    matcher = llguidance.LLMatcher(_TOKENIZER, source, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def takes(grammar: str, text: str) -> bool:
    """Whether a text is all that a grammar asks for."""
    matcher = _matcher(grammar)
    data = list(text.encode())
    return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()


def may_begin_with(grammar: str, text: str) -> bool:
    """Whether a text can be the beginning of one that the grammar takes."""
    return _matcher(grammar).try_consume_tokens(list(text.encode())) == len(text.encode())


def written_by_chance(grammar: str, chance: random.Random, longest: int = 3000) -> str:
    """What somebody writes who picks any byte that may come next; ends as soon as that is possible."""
    matcher = _matcher(grammar)
    text = bytearray()
    while not matcher.is_accepting():
        mask = matcher.compute_bitmask()
        choices = [value for value in range(_END) if mask[value // 8] >> (value % 8) & 1]
        assert choices, f"nothing may follow {bytes(text)!r}"
        assert len(text) < longest, f"no end after {bytes(text)!r}"
        text.append(chance.choice(choices))
        assert matcher.consume_token(text[-1])
    return text.decode()
