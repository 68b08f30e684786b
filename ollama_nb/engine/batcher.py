"""Continuous batching: one loop that computes all running answers together.

A step takes new requests in, builds one batch of prompt chunks and decode tokens, computes it, samples every
sequence that has logits, and sends what was gained in one frame. Answers begin and end at any step; a prompt
that does not fit into the rest of a batch goes on in the next. An image in a prompt is computed by itself, before
the batch; texts whose vectors are wanted are read behind it, a batch at each turn.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ollama_nb.engine.admission import Tokenized, admit, refusal
from ollama_nb.engine.batch import Batch
from ollama_nb.engine.embedding import Embedder
from ollama_nb.engine.interrupt import AbortWindow
from ollama_nb.engine.model import AbortedError, DecodeError
from ollama_nb.engine.passages import Passage
from ollama_nb.engine.sampling import ConstraintError
from ollama_nb.engine.sequences import Sequence, Slot, discard_count
from ollama_nb.runner.messages import Cancel, ChildMessage, Failed, Finish, Piece, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ollama_nb.engine.context import Purpose
    from ollama_nb.engine.media import ImageChunk

__all__ = ["Batcher", "ComputingModel", "ComputingProjector"]

log = logging.getLogger(__name__)


class ComputingModel(Protocol):
    """What the loop needs of a model; ``engine.model.Model`` is the real one. ``num_batch`` is at least ``num_seq``."""

    purpose: Purpose
    reads_together: bool
    num_ctx: int
    num_batch: int
    adds_bos: bool

    @property
    def can_shift(self) -> bool:
        """Whether the cache can be renumbered; asked where one is full."""

    def decode(self, batch: Batch) -> None:
        """Compute a batch."""

    def embed(self, batch: Batch) -> None:
        """Compute a batch for the vectors of its tokens."""

    def vector(self, row: int, sequence: int) -> npt.NDArray[Any]:
        """The vector of a sequence of the last ``embed``, whose last row was ``row``."""

    def logits(self, row: int) -> npt.NDArray[Any]:
        """Logits of a row of the last batch."""

    def piece(self, token: int) -> bytes:
        """The bytes of a token."""

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer."""

    def forget(self, sequence: int, start: int, end: int = -1) -> bool:
        """Drop a range of the cache."""

    def shift(self, sequence: int, start: int, delta: int) -> None:
        """Renumber a range of the cache."""

    def abort(self) -> None:
        """Stop a running decode."""

    def clear_abort(self) -> None:
        """Let decodes run."""


class ComputingProjector(Protocol):
    """What the loop needs for images; ``engine.media.Projector`` is the real one."""

    def decode(self, chunk: ImageChunk, position: int, sequence: int) -> None:
        """Compute an image into the cache of the model."""


class Batcher:
    """The loop of one model. ``submit`` and ``cancel`` come from the reader thread, all else from ``run``."""

    def __init__(
        self,
        model: ComputingModel,
        num_seq: int,
        send: Callable[[ChildMessage], None],
        projector: ComputingProjector | None = None,
    ) -> None:
        self._model = model
        self._projector = projector
        self._send = send
        self._slots = [Slot(index) for index in range(num_seq)]
        self._inbox: queue.SimpleQueue[Tokenized | Passage | Cancel | None] = queue.SimpleQueue()
        self._waiting: deque[Tokenized] = deque()
        self._running: list[Sequence] = []
        self._window = AbortWindow(model.abort)
        self._embedder = Embedder(model, self._slots, self._window, send)
        self._shift_due = False
        self._batch = Batch(model.num_batch)
        self._turn = 0

    # -- the reader's side ----------------------------------------------------------------------------------------

    def submit(self, request: Tokenized | Passage) -> None:
        """Take a request in at the next step."""
        self._inbox.put(request)

    def cancel(self, request_id: int) -> None:
        """Drop a request at the next step, which comes at once if the running batch is computing its prompt."""
        self._inbox.put(Cancel(request_id))
        self._window.cancelled(request_id)

    def stop(self) -> None:
        """End ``run`` as soon as the running decode can be left."""
        self._inbox.put(None)
        self._model.abort()

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Compute until ``stop``."""
        while True:
            self._model.clear_abort()
            if not self._receive():
                return
            self._admit()
            if self._running:
                self.step()
            self._embedder.step()

    def _receive(self) -> bool:
        """Take in what the reader has; wait for it while there is nothing to compute. False means stop."""
        idle = not self._running and not self._waiting and not self._embedder.busy
        while True:
            try:
                item = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            idle = False
            if item is None:
                return False
            if isinstance(item, Cancel):
                self._drop(item.id)
            elif isinstance(item, Passage):
                self._embedder.add(item)
            elif failed := refusal(item, self._model.num_ctx):
                self._send(failed)
            else:
                self._waiting.append(item)

    def _drop(self, request_id: int) -> None:
        self._waiting = deque(item for item in self._waiting if item.request.id != request_id)
        for sequence in [running for running in self._running if running.id == request_id]:
            self._release(sequence)
        self._embedder.drop(request_id)

    def _release(self, sequence: Sequence) -> None:
        """Free a sequence's slot; its tokens stay cached for the next prompt that begins alike."""
        self._running.remove(sequence)
        sequence.slot.busy = False
        sequence.slot.last_used = time.monotonic_ns()
        sequence.sampler.close()

    def _admit(self) -> None:
        """Let those in for whom there is a slot; the last one is left to a text that has waited for longer."""
        while self._waiting:
            free = sum(not slot.busy for slot in self._slots)
            since = self._embedder.waiting_since
            if not free or (free == 1 and since is not None and since < self._waiting[0].received_at):
                return
            self._running.append(admit(self._waiting.popleft(), self._model, self._slots))

    def step(self) -> None:
        """Compute an image if there is one to compute, then one batch, and send what it brought."""
        self._compute_image()
        rows = self._build() if self._running else []
        if rows and self._compute([sequence for sequence, *_ in rows], lambda: self._model.decode(self._batch)):
            self._shift_due = False
            self._advance(rows)

    def _compute_image(self) -> None:
        """The next image of one prompt, if any has come to one: llama.cpp takes text and images in turn only."""
        for sequence in self._in_turn():
            image = sequence.images.at(sequence.pending[0])
            if image is None or self._projector is None:
                continue
            slot = sequence.slot
            position = sequence.images.position(slot.tokens)
            if self._compute([sequence], partial(self._projector.decode, image, position, slot.id)):
                slot.tokens += sequence.pending[: image.cells]
                del sequence.pending[: image.cells]
            return

    def _compute(self, sequences: list[Sequence], decode: Callable[[], None]) -> bool:
        """Decode for some sequences; whether it was done. If it failed, they have been told and are gone."""
        # None may stop it while the cache is to be shifted: llama.cpp turns the keys at the beginning of the decode,
        # and if it is stopped halfway, it turns all of them once more in the next.
        prompts = () if self._shift_due else [sequence.id for sequence in sequences if sequence.prefilling]
        try:
            with self._window.open(any_of=prompts):
                decode()
        except AbortedError:
            self._roll_back(sequences)
            return False
        except DecodeError as error:
            log.warning("computing for %d sequences failed: %s", len(sequences), error)
            for sequence in sequences:
                text = f"an error was encountered while running the model: {error}"
                self._send(Failed(id=sequence.id, error=text))
                self._model.forget(sequence.slot.id, 0)
                sequence.slot.tokens = []
                self._release(sequence)
            return False
        return True

    def _build(self) -> list[tuple[Sequence, int, int]]:
        """Fill the batch; returns (sequence, tokens taken, row of the last one).

        llama.cpp computes sequences together only while their ids rise one by one, so the rows stand in the order
        of the slots, whoever was given room first.
        """
        self._batch.clear()
        rows = []
        for sequence, count in sorted(self._share_out(), key=lambda share: share[0].slot.id):
            slot = sequence.slot
            last = count == len(sequence.pending)
            position = sequence.images.position(slot.tokens)
            row = self._batch.add(sequence.pending[:count], position, slot.id, logits=last)
            rows.append((sequence, count, row))
        return rows

    def _share_out(self) -> list[tuple[Sequence, int]]:
        """How many tokens of each answer go into the next batch.

        Every answer's next token first, then prompts, beginning with another one at each step. A batch has a row for
        each sequence, so that answers leave at least one to a prompt.
        """
        self._turn += 1
        room = self._batch.room
        shares = []
        for sequence in sorted(self._in_turn(), key=lambda item: item.prefilling):
            self._make_room(sequence)
            count = min(sequence.images.until_next(sequence.pending), room)
            if count:
                shares.append((sequence, count))
                room -= count
        return shares

    def _in_turn(self) -> list[Sequence]:
        """The running ones, beginning with another one at each step."""
        start = self._turn % len(self._running)
        return self._running[start:] + self._running[:start]

    def _make_room(self, sequence: Sequence) -> None:
        """Shift a full context: drop half of what is not kept; without shifting, compute the rest again."""
        model, slot = self._model, sequence.slot
        used = len(slot.tokens) + len(sequence.pending)
        if used <= model.num_ctx:
            return
        keep = min(sequence.keep, len(slot.tokens) - 1)
        count = max(discard_count(model.num_ctx, keep, len(slot.tokens)), used - model.num_ctx)
        end = sequence.images.ceiling(slot.tokens, keep + count)
        count = end - keep
        if model.can_shift and model.forget(slot.id, keep, end):
            model.shift(slot.id, end, -count)
            self._shift_due = True
            del slot.tokens[keep:end]
            return
        model.forget(slot.id, 0)
        sequence.pending = slot.tokens[:keep] + slot.tokens[end:] + sequence.pending
        slot.tokens = []

    def _roll_back(self, sequences: list[Sequence]) -> None:
        """After an abort the cache holds part of the batch: cut every sequence to where it was."""
        for sequence in sequences:
            slot = sequence.slot
            if not self._model.forget(slot.id, sequence.images.position(slot.tokens)):
                self._model.forget(slot.id, 0)
                sequence.pending = slot.tokens + sequence.pending
                slot.tokens = []

    def _advance(self, rows: list[tuple[Sequence, int, int]]) -> None:
        pieces: list[Piece] = []
        finished: list[Finish] = []
        for sequence, count, row in rows:
            sequence.slot.tokens += sequence.pending[:count]
            del sequence.pending[:count]
            if sequence.pending:
                continue
            try:
                piece, reason = self._sample(sequence, row)
            except ConstraintError as error:
                self._send(Failed(id=sequence.id, error=f"the answer cannot follow its grammar: {error}"))
                self._release(sequence)
                continue
            if piece.text or piece.logprobs:
                pieces.append(piece)
            if reason:
                finished.append(sequence.finish(reason))
                self._release(sequence)
        if pieces or finished:
            self._send(Step(pieces, finished))

    def _sample(self, sequence: Sequence, row: int) -> tuple[Piece, str | None]:
        logits = self._model.logits(row)
        logprobs = sequence.logprobs
        untouched = logits if logprobs is None else logits.copy()
        token = sequence.sampler.sample(logits)
        sequence.sampled()
        reason: str | None
        if self._model.is_end(token):
            text, reason = sequence.text.flush(), "stop"
        else:
            if logprobs is not None:
                logprobs.add(untouched, token)
            text, reason = sequence.say(self._model.piece(token))
            if reason is None:
                sequence.pending = [token]
        if logprobs is None:
            return Piece(sequence.id, text), reason
        return Piece(sequence.id, text, logprobs.take(ended=reason is not None)), reason
