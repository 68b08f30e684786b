"""The vectors of texts, many at a time, beside the answers that run.

Texts that wait together are sorted by length, and as many of them as sequences and rows allow are read in one batch.
Models for embeddings read whole texts, and without a GPU each by itself: a text then has the same vector, bit for bit,
whatever comes with it. In one batch vectors would differ by up to 1e-4, since llama.cpp looks gelu up in a table of 16
bits, where the last bit of a sum shows. That costs a processor 4 % at 60 words, 5 % at 10, half of the speed at 3. Of a
model that generates, the vector is that of the last token: all before it is read like a prompt, in sequences that no
answer uses, and nothing stays in the cache. Who comes when is the batcher's business; one ``step`` is one decode.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from ollama_nb.engine.batch import Batch
from ollama_nb.engine.context import Purpose
from ollama_nb.engine.model import AbortedError, DecodeError
from ollama_nb.runner.messages import ChildMessage, Embedded, Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ollama_nb.engine.interrupt import AbortWindow
    from ollama_nb.engine.passages import Passage
    from ollama_nb.engine.sequences import Slot

__all__ = ["Embedder", "EmbeddingModel"]

log = logging.getLogger(__name__)

_FULL: Final = 512
"""Rows behind which more texts in a batch gain nothing: what a row attends to grows with the batch."""


class EmbeddingModel(Protocol):
    """What is needed of a model; ``engine.model.Model`` is the real one."""

    num_batch: int
    purpose: Purpose
    reads_together: bool
    """Whether several texts share a batch; without a GPU, texts that are read whole do not."""

    def decode(self, batch: Batch) -> None:
        """Compute a batch."""

    def embed(self, batch: Batch) -> None:
        """Compute a batch for the vectors of its tokens."""

    def vector(self, row: int, sequence: int) -> npt.NDArray[Any]:
        """The vector of a sequence of the last ``embed``, whose last row was ``row``."""

    def forget(self, sequence: int, start: int, end: int = -1) -> bool:
        """Drop a range of the cache."""


@dataclass(eq=False)
class _Reading:
    """A text that is being read: its slot holds the first tokens, ``pending`` are the others."""

    passage: Passage
    slot: Slot
    pending: list[int]


class Embedder:
    """The texts of one model; everything is called from the loop."""

    def __init__(
        self, model: EmbeddingModel, slots: list[Slot], window: AbortWindow, send: Callable[[ChildMessage], None]
    ) -> None:
        self._model = model
        self._slots = slots
        self._window = window
        self._send = send
        self._waiting: dict[int, Passage] = {}
        self._round: list[Passage] = []
        self._reading: list[_Reading] = []
        # A model that is never asked for vectors needs no second batch.
        self._batch: Batch | None = None

    @property
    def busy(self) -> bool:
        """Whether there is something to compute."""
        return bool(self._waiting or self._reading)

    @property
    def waiting_since(self) -> int | None:
        """When the text came that has waited longest for a sequence, in nanoseconds."""
        return next((passage.received_at for passage in self._waiting.values()), None)

    def add(self, passage: Passage) -> None:
        """One more text."""
        self._waiting[passage.id] = passage

    def drop(self, request_id: int) -> None:
        """A text whose vector is not wanted any more."""
        self._waiting.pop(request_id, None)
        for reading in [reading for reading in self._reading if reading.passage.id == request_id]:
            self._release(reading)

    def step(self) -> None:
        """Compute one batch, if there is something to compute and a sequence for it."""
        if not self._reading:
            self._begin()
        if not self._reading:
            return
        last = self._model.purpose is Purpose.EMBED_WHOLE or all(len(item.pending) == 1 for item in self._reading)
        batch, rows = self._build(last=last)
        try:
            with self._window.open(all_of=[reading.passage.id for reading in self._reading]):
                if last:
                    self._model.embed(batch)
                else:
                    self._model.decode(batch)
            vectors = [self._model.vector(row, reading.slot.id) for reading, _, row in rows] if last else []
        except AbortedError:
            self._start_over()
        except DecodeError as error:
            self._fail(batch.size, error)
        else:
            self._advance(rows, vectors)

    def _begin(self) -> None:
        """Take the next texts in: those that waited together, the shortest first."""
        free = self._free_slots()
        size = 0
        while free and (passage := self._next()):
            size += len(passage.tokens)
            if self._reading and (not self._model.reads_together or size > min(_FULL, self._model.num_batch)):
                break
            self._round.pop(0)
            del self._waiting[passage.id]
            slot = free.pop(0)
            self._model.forget(slot.id, 0)
            slot.tokens, slot.busy = [], True
            self._reading.append(_Reading(passage, slot, passage.tokens))

    def _next(self) -> Passage | None:
        """The text whose turn it is. A new round begins when the last is over, so that no text waits for ever."""
        while self._round and self._round[0].id not in self._waiting:
            self._round.pop(0)
        if not self._round:
            self._round = sorted(self._waiting.values(), key=lambda passage: len(passage.tokens))
        return self._round[0] if self._round else None

    def _free_slots(self) -> list[Slot]:
        """Sequences to read in: the empty ones, else the one whose tokens have been of no use for longest."""
        free = [slot for slot in self._slots if not slot.busy]
        empty = [slot for slot in free if not slot.tokens]
        return empty or sorted(free, key=lambda slot: slot.last_used)[:1]

    def _build(self, *, last: bool) -> tuple[Batch, list[tuple[_Reading, int, int]]]:
        """Fill the batch: all that is pending where it is the last, else all but each text's last token.

        Returns (reading, tokens taken, row of the last one).
        """
        if self._batch is None:
            self._batch = Batch(self._model.num_batch)
        batch = self._batch
        batch.clear()
        rows = []
        for reading in sorted(self._reading, key=lambda item: item.slot.id):
            count = len(reading.pending) if last else min(len(reading.pending) - 1, batch.room)
            if count:
                slot = reading.slot
                row = batch.add(reading.pending[:count], len(slot.tokens), slot.id, logits=False)
                rows.append((reading, count, row))
        return batch, rows

    def _advance(self, rows: list[tuple[_Reading, int, int]], vectors: list[npt.NDArray[Any]]) -> None:
        for reading, count, _ in rows:
            reading.slot.tokens = reading.slot.tokens + reading.pending[:count]
            reading.pending = reading.pending[count:]
        for (reading, *_), vector in zip(rows, vectors, strict=False):
            passage = reading.passage
            data = vector.astype("<f4").tobytes()
            self._send(Embedded(id=passage.id, vector=data, prompt_count=len(passage.tokens)))
            self._release(reading)

    def _start_over(self) -> None:
        """After an abort the cache may hold part of the batch."""
        for reading in self._reading:
            self._model.forget(reading.slot.id, 0)
            reading.slot.tokens, reading.pending = [], reading.passage.tokens

    def _fail(self, size: int, error: DecodeError) -> None:
        log.warning("a batch of %d tokens of texts failed: %s", size, error)
        for reading in list(self._reading):
            text = f"an error was encountered while running the model: {error}"
            self._send(Failed(id=reading.passage.id, error=text))
            self._release(reading)

    def _release(self, reading: _Reading) -> None:
        """Give the sequence back, empty."""
        self._reading.remove(reading)
        self._model.forget(reading.slot.id, 0)
        reading.slot.tokens, reading.slot.busy = [], False
