"""A batcher in the hands of a test, on the real model.

``Watched`` stands around the real model to count, to change one property, or to fail on demand; what is computed
is always llama.cpp's.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ollama_nb.engine.admission import Tokenized
from ollama_nb.engine.batch import Batch
from ollama_nb.engine.batcher import Batcher
from ollama_nb.engine.model import AbortedError, Model
from ollama_nb.engine.passages import Passages
from ollama_nb.engine.sampling import Constraint
from ollama_nb.runner.messages import (
    Embed,
    Embedded,
    Failed,
    Finish,
    Generate,
    Logprob,
    Overflow,
    Piece,
    Sampling,
    Step,
)

GREEDY = Sampling(temperature=0, repeat_penalty=1.0)
QUESTIONS = [
    "Why is the sky blue?",
    "Name three colours.",
    "What is two plus two?",
    "Tell me about cats.",
    "Who wrote Hamlet?",
    "Count to five.",
    "What is bread made of?",
    "Say hello.",
]
TINY_MARGIN = 0.5
"""Kernels for one row and for several round differently, and weights of four bits show it: below this difference of
two logits, either token may be the likeliest."""


def chat(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


class Watched:
    """A model that notes the size of every batch.

    ``fail`` is a list of errors, one a decode: raised before anything is computed, or ``after_computing`` it.
    """

    def __init__(self, model: Model, **changed: Any) -> None:
        self._model = model
        self.sizes: list[int] = []
        self.aborted = 0
        self.fail: list[Exception | None] = []
        self.after_computing = False
        for name, value in changed.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def decode(self, batch: Batch) -> None:
        self._compute(self._model.decode, batch)

    def embed(self, batch: Batch) -> None:
        self._compute(self._model.embed, batch)

    def _compute(self, compute: Callable[[Batch], None], batch: Batch) -> None:
        self.sizes.append(batch.size)
        error = self.fail.pop(0) if self.fail else None
        if error is not None:
            if self.after_computing:
                compute(batch)
            raise error
        try:
            compute(batch)
        except AbortedError:
            self.aborted += 1
            raise


class ForgetsAll(Watched):
    """Recurrent models cannot drop a part of what they have read; no small one can be had, so SmolLM2 acts as one."""

    def forget(self, sequence: int, start: int, end: int = -1) -> bool:
        if 0 < start < self._model.cached_end(sequence) or end > 0:
            return False
        return self._model.forget(sequence, start, end)


@dataclass
class Bench:
    """A batcher whose steps the test takes one by one, and all that it has sent."""

    model: Any
    num_seq: int
    text: dict[int, str] = field(default_factory=dict)
    finished: dict[int, Finish] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    status: dict[int, int] = field(default_factory=dict)
    first: list[int] = field(default_factory=list)
    logprobs: dict[int, list[Logprob]] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    vectors: dict[int, np.ndarray] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.model, self.num_seq, self.receive)
        self._ids = itertools.count(1)
        self._passages = Passages(self.model)

    def receive(self, message: Step | Failed | Embedded) -> None:
        if isinstance(message, Embedded):
            assert message.id not in self.vectors
            self.vectors[message.id] = np.frombuffer(message.vector, dtype="<f4")
            self.counts[message.id] = message.prompt_count
            return
        if isinstance(message, Failed):
            assert message.id not in self.finished
            self.failed[message.id] = message.error
            self.status[message.id] = message.status
            return
        for piece in message.pieces:
            assert piece.text or piece.logprobs
            assert piece.id not in self.finished
            self.pieces.append(piece)
            self.logprobs.setdefault(piece.id, []).extend(piece.logprobs)
            if piece.id not in self.text:
                self.first.append(piece.id)
            self.text[piece.id] = self.text.get(piece.id, "") + piece.text
        for finish in message.finished:
            assert finish.id not in self.finished
            self.finished[finish.id] = finish

    def submit(self, prompt: str | list[int], *, constraint: Constraint | None = None, **fields: Any) -> int:
        number = next(self._ids)
        tokens = self.model.tokenize(prompt, add_special=True) if isinstance(prompt, str) else prompt
        options = {"num_predict": 6, "sampling": GREEDY, **fields}
        request = Generate(id=number, prompt="", **options)
        self.batcher.submit(Tokenized(request, tokens, time.monotonic_ns(), constraint))
        return number

    def embed(self, *texts: str, overflow: Overflow = "head") -> list[int]:
        """Submit texts that come at once; returns their numbers."""
        requests = [Embed(id=next(self._ids), text=text, overflow=overflow) for text in texts]
        for request in requests:
            self.batcher.submit(self._passages.prepare(request))
        return [request.id for request in requests]

    def vectors_of(self, *texts: str, overflow: Overflow = "head") -> list[np.ndarray]:
        numbers = self.embed(*texts, overflow=overflow)
        self.finish()
        return [self.vectors[number] for number in numbers]

    def step(self) -> None:
        """What ``run`` does once, and then a look at the books: slots and cache agree after every step."""
        batcher = self.batcher
        self.model.clear_abort()
        batcher._receive()
        batcher._admit()
        if batcher._running:
            batcher.step()
        batcher._embedder.step()
        self.check()

    def check(self) -> None:
        running = {sequence.slot.id: sequence for sequence in self.batcher._running}
        read = {reading.slot.id for reading in self.batcher._embedder._reading}
        assert not read & running.keys()
        for slot in self.batcher._slots:
            assert slot.busy == (slot.id in running or slot.id in read)
            assert self.model.cached_end(slot.id) == len(slot.tokens) <= self.model.num_ctx
        for sequence in running.values():
            assert sequence.pending
            assert len(sequence.slot.tokens) + len(sequence.pending) <= self.model.num_ctx + 1

    def finish(self) -> None:
        """Step until nothing is left to do."""
        batcher = self.batcher
        while batcher._running or batcher._waiting or batcher._embedder.busy or not batcher._inbox.empty():
            self.step()

    def answer(self, prompt: str | list[int], **fields: Any) -> tuple[str, Finish]:
        number = self.submit(prompt, **fields)
        self.finish()
        return self.text.get(number, ""), self.finished[number]

    @property
    def slots(self) -> list[list[int]]:
        return [slot.tokens for slot in self.batcher._slots]


def margins(model: Model, prompt: list[int], answer: list[int]) -> list[float]:
    """How much likelier than the next best each token of a greedy answer was."""
    model.forget(0, 0)
    batch = Batch(model.num_batch)
    found = []
    for chunk in [prompt, *([token] for token in answer)]:
        batch.clear()
        row = batch.add(chunk, model.cached_end(0), 0, logits=True)
        model.decode(batch)
        second, first = np.sort(model.logits(row))[-2:]
        found.append(float(first - second))
    return found


def assert_same_or_a_close_call(model: Model, prompt: str, one: str, other: str) -> None:
    """Two greedy answers agree, at least up to a token that was hardly likelier than another."""
    if one == other:
        return
    tokens = [model.tokenize(text, add_special=False) for text in (one, other)]
    same = next(index for index, (a, b) in enumerate(itertools.zip_longest(*tokens)) if a != b)
    margin = margins(model, model.tokenize(prompt, add_special=True), tokens[0][:same])[-1]
    assert margin < TINY_MARGIN, f"{one!r} and {other!r} differ where the margin is {margin}"
