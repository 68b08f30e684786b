"""Choosing the next token: Ollama's samplers in Ollama's order, with the cheap cut first.

Order: logit_bias, penalties, top_k, typical_p, top_p, min_p, temperature, draw. Penalties touch only the tokens of the
last window, so they are applied there and nowhere else; the top_k cut is a numpy partition. What is left,
forty candidates as a rule, goes through llama.cpp's own samplers, whose draws repeat for equal seeds.
A constraint comes before all of it: what it forbids is no candidate, so that nothing can make it one.
"""

from __future__ import annotations

import ctypes
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ollama_nb.runner.messages import Sampling

__all__ = ["MAX_BIAS", "Constraint", "ConstraintError", "RecentTokens", "Sampler", "largest"]

MAX_BIAS: Final = 100.0
"""A logit raised or lowered by so much is chosen, or banned, for all practical purposes."""

_GROUPS: Final = 64
_TOKEN_DATA: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""``llama_token_data``: 12 bytes, no padding."""

Logits = npt.NDArray[np.float32]


class ConstraintError(Exception):
    """An answer cannot go on within what constrains it."""


class Constraint(Protocol):
    """What an answer has to keep to; ``engine.grammar.GrammarMask`` is the real one."""

    allowed: npt.NDArray[np.intp]
    """Ids of the tokens that may come next, rising."""

    is_complete: bool
    """Whether nothing but an end may come next."""

    def accept(self, token: int) -> None:
        """Go on behind a token; raises ``ConstraintError``."""


def largest(values: Logits, count: int) -> npt.NDArray[np.intp]:
    """Indices of the ``count`` largest values, in no order; all of them where there are fewer.

    The count-th largest of the groups' maxima is a lower bound of the count-th largest value, so one pass of
    vectorised maxima leaves a handful of values to partition.
    """
    size = len(values)
    if count <= 0 or count >= size:
        return np.arange(size)
    columns = size // _GROUPS
    if columns <= count:
        return np.argpartition(values, size - count)[size - count :]
    maxima = values[: columns * _GROUPS].reshape(_GROUPS, columns).max(axis=0)
    bound = np.partition(maxima, columns - count)[columns - count]
    candidates = np.flatnonzero(values >= bound)
    kept = np.argpartition(values[candidates], len(candidates) - count)[len(candidates) - count :]
    return candidates[kept]


class RecentTokens:
    """The last ``window`` tokens of a sequence, prompt included, and how often each occurs."""

    def __init__(self, window: int, tokens: Iterable[int]) -> None:
        self._window = window
        self._tokens: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """One more token; the oldest leaves a full window."""
        if self._window <= 0:
            return
        if len(self._tokens) == self._window:
            oldest = self._tokens.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]
        self._tokens.append(token)
        self._counts[token] += 1

    def penalise(self, logits: Logits, *, repeat: float, frequency: float, presence: float) -> None:
        """Lower the logits of the recent tokens in place, as ``llama_sampler_penalties`` does."""
        if not self._counts or (repeat == 1.0 and frequency == 0.0 and presence == 0.0):
            return
        ids = np.fromiter(self._counts.keys(), dtype=np.intp, count=len(self._counts))
        counts = np.fromiter(self._counts.values(), dtype=np.float32, count=len(self._counts))
        chosen = logits[ids]
        # C divides by a penalty of 0 without a word, and so does this.
        with np.errstate(all="ignore"):
            chosen = np.where(chosen <= 0, chosen * np.float32(repeat), chosen / np.float32(repeat))
            logits[ids] = chosen - (counts * np.float32(frequency) + np.float32(presence))


class _Bias:
    """What is added to the logits of single tokens; beyond 100 either way nothing changes any more."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._ids = np.fromiter(bias.keys(), dtype=np.intp, count=len(bias))
        values = np.fromiter(bias.values(), dtype=np.float64, count=len(bias))
        self._values = np.clip(values, -MAX_BIAS, MAX_BIAS).astype(np.float32)

    def add_to(self, logits: Logits) -> None:
        logits[self._ids] += self._values


class Sampler:
    """Draws the tokens of one sequence; ``close`` frees what it holds in C.

    ``prompt`` seeds the penalty window; ``num_ctx`` is what a ``repeat_last_n`` of -1 stands for, in tokens.
    """

    def __init__(
        self, options: Sampling, prompt: list[int], num_ctx: int, constraint: Constraint | None = None
    ) -> None:
        self._options = options
        self._constraint = constraint
        window = num_ctx if options.repeat_last_n < 0 else options.repeat_last_n
        self._bias = _Bias(options.logit_bias) if options.logit_bias else None
        self._recent = RecentTokens(window, prompt[max(0, len(prompt) - window) :] if window else ())
        self._chain = None if options.temperature <= 0 else _chain(options)
        self._array = lib.llama_token_data_array(data=None, size=0, selected=-1, sorted=False)

    def sample(self, logits: Logits) -> int:
        """The next token id; ``logits`` (num_vocab,) is changed by bias and penalties. Raises ``ConstraintError``."""
        options = self._options
        if self._bias is not None:
            self._bias.add_to(logits)
        self._recent.penalise(
            logits,
            repeat=options.repeat_penalty,
            frequency=options.frequency_penalty,
            presence=options.presence_penalty,
        )
        if self._constraint is None:
            token = self._choose(logits)
        else:
            allowed = self._constraint.allowed
            token = int(allowed[self._choose(logits[allowed])])
            self._constraint.accept(token)
        self._recent.add(token)
        return token

    def _choose(self, logits: Logits) -> int:
        """The index of one of the logits: the largest, or one that is drawn."""
        if self._chain is None:
            return int(logits.argmax())
        ids = largest(logits, self._options.top_k)
        ranked = self._options.top_k > 0
        if ranked:
            # The draw walks the candidates in order: llama.cpp's order is part of what a seed repeats.
            ids = ids[np.argsort(-logits[ids], kind="stable")]
        candidates = np.empty(len(ids), dtype=_TOKEN_DATA)
        candidates["id"] = ids
        candidates["logit"] = logits[ids]
        candidates["p"] = 0
        array = self._array
        array.data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(lib.llama_token_data))
        array.size = len(ids)
        array.selected = -1
        array.sorted = ranked
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def close(self) -> None:
        """Free the chain; the sampler is not usable after this."""
        if self._chain is not None:
            lib.llama_sampler_free(self._chain)
            self._chain = None


def _chain(options: Sampling) -> Any:  # noqa: ANN401 - a C pointer
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    if options.typical_p < 1:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_typical(options.typical_p, 1))
    if options.top_p < 1:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_p(options.top_p, 1))
    if options.min_p > 0:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_min_p(options.min_p, 1))
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_temp(options.temperature))
    # -1 becomes 0xFFFFFFFF, llama.cpp's word for "a random seed".
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_dist(options.seed & 0xFFFFFFFF))
    return chain
