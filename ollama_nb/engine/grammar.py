"""Grammars: which tokens may come next in an answer that has to keep to one.

A grammar is Lark text in llguidance's dialect, with ``%json`` for JSON Schemas; what it says of special tokens is
``vocabulary``'s business. llguidance follows it; here are limits, and the rule that every token that ends an answer is
allowed exactly where the grammar may end. Compiling stands on the reader's thread, following in the loop.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import llguidance
import numpy as np

from ollama_nb.engine.sampling import ConstraintError
from ollama_nb.engine.trial import LIMITS, Trial, in_deep_thread, one_line, verdict
from ollama_nb.engine.vocabulary import GrammarTokenizer, Tokenizers

if TYPE_CHECKING:
    import numpy.typing as npt

    from ollama_nb.engine.vocabulary import Vocabulary

__all__ = ["MAX_GRAMMAR", "GrammarMask", "Grammars", "InvalidGrammarError"]

MAX_GRAMMAR: Final = 1 << 20
"""Characters of the longest grammar; a thousand tools are shorter."""

_KEPT: Final = 16


class InvalidGrammarError(ValueError):
    """A grammar that does not compile, or not within the limits."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid grammar: {reason}")


class Grammars:
    """The grammars of one model; the last ones stay compiled."""

    def __init__(self, model: Vocabulary) -> None:
        self._model = model
        self._tokenizers = Tokenizers(model)
        self._compiled = functools.lru_cache(maxsize=_KEPT)(self._compile)

    def compile(self, grammar: str) -> GrammarMask:
        """The mask of an answer that begins; raises ``InvalidGrammarError``."""
        if len(grammar) > MAX_GRAMMAR:
            raise InvalidGrammarError(f"it has {len(grammar)} characters, more than {MAX_GRAMMAR}")
        matcher, tokenizer = self._compiled(grammar)
        try:
            return GrammarMask(matcher.deep_copy(), tokenizer, self._model.num_vocab, self._model.ends)
        except ConstraintError as error:
            raise InvalidGrammarError(str(error)) from error

    def _compile(self, grammar: str) -> tuple[llguidance.LLMatcher, GrammarTokenizer]:
        special = self._tokenizers.special_tokens(grammar)
        if error := verdict(Trial(grammar, special.named, self._model.num_vocab)):
            raise InvalidGrammarError(error)
        tokenizer = self._tokenizers.get(special.ids)
        source = llguidance.LLMatcher.grammar_from_lark(grammar)
        matcher = in_deep_thread(lambda: llguidance.LLMatcher(tokenizer.inner, source, log_level=0, limits=LIMITS))
        if matcher.is_error():
            raise InvalidGrammarError(one_line(matcher.get_error()))
        return matcher, tokenizer


class GrammarMask:
    """Where one answer stands in its grammar. Raises ``ConstraintError`` where nothing can follow.

    ``allowed`` are the ids of the tokens that may come next; with ``is_complete`` only an end may.
    """

    allowed: npt.NDArray[np.intp]
    is_complete: bool

    def __init__(
        self, matcher: llguidance.LLMatcher, tokenizer: GrammarTokenizer, num_vocab: int, ends: frozenset[int]
    ) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._num_vocab = num_vocab
        self._ends = ends
        self._end_ids = np.array(sorted(ends), dtype=np.intp)
        self._look()

    def accept(self, token: int) -> None:
        """Go on behind a token; behind an end there is nothing."""
        if token not in self._ends:
            self._matcher.consume_token(token)
            self._look()

    def _look(self) -> None:
        """Find out what may come next."""
        matcher = self._matcher
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        if matcher.is_error():
            raise ConstraintError(one_line(matcher.get_error()))
        may_end = matcher.is_accepting()
        allowed = np.unpackbits(bits, count=self._num_vocab, bitorder="little").view(np.bool_)
        allowed[self._end_ids] = False
        self.is_complete = may_end and not allowed.any()
        allowed[self._end_ids] = may_end
        self.allowed = np.flatnonzero(allowed)
        if not len(self.allowed) and not self.is_complete:
            raise ConstraintError("no token of the model can follow")
