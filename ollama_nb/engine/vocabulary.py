"""A model's vocabulary as llguidance sees it: which tokens are text to a grammar, and which are marks.

A grammar speaks of the text that is shown, special tokens included. A control token comes only where the grammar
has its name: unquoted, as llguidance writes ``<|name|>``, and then nothing else will do there; or within quotes, where
the token and its letters are the same. Tokens that the model's makers have added as text are text, unless a grammar
names them unquoted.
"""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass
from typing import Final, Protocol

import llguidance

__all__ = ["GrammarTokenizer", "SpecialTokens", "Tokenizers", "Vocabulary"]

_KEPT: Final = 3
_QUOTED: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')

_TokenizeFunction: Final = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_bool,
    ctypes.c_bool,
)
"""The signature of ``llama_tokenize``, in whose place llguidance calls ours."""


class Vocabulary(Protocol):
    """What a grammar has to know of a model; ``engine.model.Model`` is the real one."""

    num_vocab: int
    ends: frozenset[int]

    def piece(self, token: int) -> bytes:
        """The bytes of a token."""

    def is_control(self, token: int) -> bool:
        """Whether a token is a mark of the format, not text."""

    def is_added(self, token: int) -> bool:
        """Whether a token is text that the model's makers have added as one token."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Token ids of a text."""


@dataclass(frozen=True)
class SpecialTokens:
    """What one grammar says of special tokens: the ids that are no text in it, and the names that it uses unquoted."""

    ids: frozenset[int]
    named: list[str]


class GrammarTokenizer:
    """llguidance's tokenizer. Matchers hold no reference to the function below, so whoever has one keeps this."""

    def __init__(self, model: Vocabulary, special: frozenset[int]) -> None:
        self._model = model
        self._special = special
        self._function = _TokenizeFunction(self._answer)
        # 0xff, which no UTF-8 contains, is llguidance's mark of a special token.
        pieces = [b"\xff" * (token in special) + model.piece(token) for token in range(model.num_vocab)]
        ends = sorted(model.ends)
        if not ends:
            # llguidance cannot do without one. This stands behind the vocabulary and is never sampled.
            ends = [len(pieces)]
            pieces.append(b"\xff<end of the answer>")
        address = ctypes.cast(self._function, ctypes.c_void_p).value
        self.inner: llguidance.LLTokenizer = llguidance.LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
            tokens=pieces, vocab_ptr=1, tokenize_fptr=address, eos_token=ends, slices=None
        )

    def _answer(self, _: int, text: int, length: int, tokens: int, capacity: int, *_flags: bool) -> int:
        """``llama_tokenize``: the count, or its negative where it is more than the capacity."""
        found = self._tokenize(ctypes.string_at(text, length).decode(errors="replace"))
        if len(found) > capacity:
            return -len(found)
        ctypes.memmove(tokens, (ctypes.c_int32 * len(found))(*found), 4 * len(found))
        return len(found)

    def _tokenize(self, text: str) -> list[int]:
        """How the model itself would write a text that the grammar demands, with none of the special tokens."""
        tokens = self._model.tokenize(text, add_special=False)
        if self._special.isdisjoint(tokens):
            return tokens
        return self._model.tokenize(text, add_special=False, parse_special=False)


class Tokenizers:
    """The tokenizers of one model: for nearly all grammars the same one, built when the first of them comes."""

    def __init__(self, model: Vocabulary) -> None:
        self._model = model
        self.get = functools.lru_cache(maxsize=_KEPT)(functools.partial(GrammarTokenizer, model))

    def special_tokens(self, grammar: str) -> SpecialTokens:
        """What a grammar says of special tokens."""
        quoted = "\n".join(_QUOTED.findall(grammar))
        unquoted = _QUOTED.sub('""', grammar)
        named = {token: text for token, text in (self._control | self._added).items() if text in unquoted}
        spelled = {token for token, text in self._control.items() if text in quoted and token not in named}
        ids = self._model.ends.union(self._control.keys() - spelled, named)
        return SpecialTokens(ids, list(named.values()))

    @functools.cached_property
    def _control(self) -> dict[int, str]:
        model = self._model
        return self._texts([token for token in range(model.num_vocab) if model.is_control(token)])

    @functools.cached_property
    def _added(self) -> dict[int, str]:
        model = self._model
        return self._texts([token for token in range(model.num_vocab) if model.is_added(token)])

    def _texts(self, tokens: list[int]) -> dict[int, str]:
        """The text of tokens; those that end an answer are no part of it."""
        texts = {token: self._model.piece(token).decode(errors="replace") for token in tokens}
        return {token: text for token, text in texts.items() if text and token not in self._model.ends}
