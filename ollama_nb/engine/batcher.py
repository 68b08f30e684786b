"""Continuous batching: one loop that computes all running answers together.

A step takes new requests in, builds one batch of prompt chunks and decode tokens, computes it, samples every
sequence that has logits, and sends what was gained in one frame. Answers begin and end at any step; a prompt
that does not fit into the rest of a batch goes on in the next.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ollama_nb.engine.model import AbortedError, Batch, DecodeError
from ollama_nb.engine.output import OutputText
from ollama_nb.engine.sampling import ConstraintError, Sampler
from ollama_nb.engine.sequences import (
    Sequence,
    Slot,
    common_prefix,
    discard_count,
    kept_count,
    predict_limit,
    truncate_prompt,
)
from ollama_nb.runner.messages import (
    PROMPT_TOO_LONG,
    Cancel,
    ChildMessage,
    Failed,
    Finish,
    Generate,
    Piece,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ollama_nb.engine.sampling import Constraint

__all__ = ["Batcher", "ComputingModel", "Tokenized"]

log = logging.getLogger(__name__)


class ComputingModel(Protocol):
    """What the loop needs of a model; ``engine.model.Model`` is the real one. ``num_batch`` is at least ``num_seq``."""

    num_ctx: int
    num_batch: int
    adds_bos: bool
    can_shift: bool

    def decode(self, batch: Batch) -> None:
        """Compute a batch."""

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


@dataclass(frozen=True)
class Tokenized:
    """A request as the reader hands it over: tokenised beside the loop, so that no answer waits for it."""

    request: Generate
    prompt: list[int]
    received_at: int
    constraint: Constraint | None = None


class Batcher:
    """The loop of one model. ``submit`` and ``cancel`` come from the reader thread, all else from ``run``."""

    def __init__(self, model: ComputingModel, num_seq: int, send: Callable[[ChildMessage], None]) -> None:
        self._model = model
        self._send = send
        self._slots = [Slot(index) for index in range(num_seq)]
        self._inbox: queue.SimpleQueue[Tokenized | Cancel | None] = queue.SimpleQueue()
        self._waiting: deque[Tokenized] = deque()
        self._running: list[Sequence] = []
        self._abortable: frozenset[int] = frozenset()
        self._abort_window = threading.Lock()
        self._shift_due = False
        self._batch = Batch(model.num_batch)
        self._turn = 0

    # -- the reader's side ----------------------------------------------------------------------------------------

    def submit(self, request: Tokenized) -> None:
        """Take a request in at the next step."""
        self._inbox.put(request)

    def cancel(self, request_id: int) -> None:
        """Drop a request at the next step, which comes at once if the running batch is computing its prompt."""
        self._inbox.put(Cancel(request_id))
        with self._abort_window:
            if request_id in self._abortable:
                self._model.abort()

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

    def _receive(self) -> bool:
        """Take in what the reader has; wait for it while there is nothing to compute. False means stop."""
        idle = not self._running and not self._waiting
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
            elif refusal := self._refusal(item):
                self._send(refusal)
            else:
                self._waiting.append(item)

    def _refusal(self, item: Tokenized) -> Failed | None:
        if not item.prompt:
            return Failed(id=item.request.id, error="Failed to create new sequence: no input provided\n")
        if len(item.prompt) > self._model.num_ctx and not item.request.truncate:
            return Failed(id=item.request.id, error=PROMPT_TOO_LONG, status=400)
        return None

    def _drop(self, request_id: int) -> None:
        self._waiting = deque(item for item in self._waiting if item.request.id != request_id)
        for sequence in [running for running in self._running if running.id == request_id]:
            self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        """Free a sequence's slot; its tokens stay cached for the next prompt that begins alike."""
        self._running.remove(sequence)
        sequence.slot.busy = False
        sequence.slot.last_used = time.monotonic_ns()
        sequence.sampler.close()

    def _admit(self) -> None:
        while self._waiting and any(not slot.busy for slot in self._slots):
            self._running.append(self._begin(self._waiting.popleft()))

    def _begin(self, item: Tokenized) -> Sequence:
        model, request = self._model, item.request
        keep = kept_count(request.num_keep, len(item.prompt), model.num_ctx, adds_bos=model.adds_bos)
        prompt = truncate_prompt(item.prompt, keep, model.num_ctx)
        slot, reused = self._choose_slot(prompt)
        if not model.forget(slot.id, reused):
            # Recurrent models cannot go back to the middle of what they have read.
            model.forget(slot.id, 0)
            reused = 0
        slot.tokens = prompt[:reused]
        slot.busy = True
        return Sequence(
            request=request,
            prompt=prompt,
            keep=keep,
            limit=predict_limit(request.num_predict, model.num_ctx),
            sampler=Sampler(request.sampling, prompt, model.num_ctx, item.constraint),
            received_at=item.received_at,
            slot=slot,
            pending=prompt[reused:],
            cached_count=reused,
            text=OutputText(request.stop),
            constraint=item.constraint,
            dropped_count=len(item.prompt) - len(prompt),
        )

    def _choose_slot(self, prompt: list[int]) -> tuple[Slot, int]:
        """The free slot that holds the longest prefix of the prompt, and that length.

        Among equals the one next to a running answer, since neighbours are computed together, then the oldest. The
        last token of a prompt is always computed again: its logits are what the answer begins with.
        """
        free = [slot for slot in self._slots if not slot.busy]
        lengths = {slot.id: common_prefix(slot.tokens, prompt) for slot in free}
        busy = [running.slot.id for running in self._running]

        def preference(slot: Slot) -> tuple[int, int, int]:
            distance = min((abs(slot.id - other) for other in busy), default=0)
            return lengths[slot.id], -distance, -slot.last_used

        best = max(free, key=preference)
        return best, min(lengths[best.id], len(prompt) - 1)

    def step(self) -> None:
        """Compute one batch and send what it brought."""
        rows = self._build()
        self._open_abort_window(rows)
        try:
            self._model.decode(self._batch)
        except AbortedError:
            self._roll_back(rows)
            return
        except DecodeError as error:
            log.warning("a batch of %d tokens failed: %s", self._batch.size, error)
            for sequence, *_ in rows:
                text = f"an error was encountered while running the model: {error}"
                self._send(Failed(id=sequence.id, error=text))
                self._model.forget(sequence.slot.id, 0)
                sequence.slot.tokens = []
                self._release(sequence)
            return
        finally:
            with self._abort_window:
                self._abortable = frozenset()
        self._shift_due = False
        self._advance(rows)

    def _open_abort_window(self, rows: list[tuple[Sequence, int, int]]) -> None:
        """Say whose cancel may stop the coming decode: those whose prompt it computes.

        None while the cache is to be shifted: llama.cpp turns the keys at the beginning of the decode, and if it is
        stopped halfway, it turns all of them once more in the next.
        """
        with self._abort_window:
            if not self._shift_due:
                self._abortable = frozenset(sequence.id for sequence, *_ in rows if sequence.prefilling)

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
            row = self._batch.add(sequence.pending[:count], len(slot.tokens), slot.id, logits=last)
            rows.append((sequence, count, row))
        return rows

    def _share_out(self) -> list[tuple[Sequence, int]]:
        """How many tokens of each answer go into the next batch.

        Every answer's next token first, then prompts, beginning with another one at each step. A batch has a row for
        each sequence, so that answers leave at least one to a prompt.
        """
        self._turn += 1
        start = self._turn % len(self._running)
        order = self._running[start:] + self._running[:start]
        room = self._batch.room
        shares = []
        for sequence in sorted(order, key=lambda item: item.prefilling):
            self._make_room(sequence)
            count = min(len(sequence.pending), room)
            if count:
                shares.append((sequence, count))
                room -= count
        return shares

    def _make_room(self, sequence: Sequence) -> None:
        """Shift a full context: drop half of what is not kept; without shifting, compute the rest again."""
        model, slot = self._model, sequence.slot
        used = len(slot.tokens) + len(sequence.pending)
        if used <= model.num_ctx:
            return
        keep = min(sequence.keep, len(slot.tokens) - 1)
        count = max(discard_count(model.num_ctx, keep, len(slot.tokens)), used - model.num_ctx)
        end = keep + count
        if model.can_shift and model.forget(slot.id, keep, end):
            model.shift(slot.id, end, -count)
            self._shift_due = True
            del slot.tokens[keep:end]
            return
        model.forget(slot.id, 0)
        sequence.pending = slot.tokens[:keep] + slot.tokens[end:] + sequence.pending
        slot.tokens = []

    def _roll_back(self, rows: list[tuple[Sequence, int, int]]) -> None:
        """After an abort the cache holds part of the batch: cut every sequence to where it was."""
        for sequence, *_ in rows:
            slot = sequence.slot
            if not self._model.forget(slot.id, len(slot.tokens)):
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
                text, reason = self._sample(sequence, row)
            except ConstraintError as error:
                self._send(Failed(id=sequence.id, error=f"the answer cannot follow its grammar: {error}"))
                self._release(sequence)
                continue
            if text:
                pieces.append(Piece(sequence.id, text))
            if reason:
                finished.append(sequence.finish(reason))
                self._release(sequence)
        if pieces or finished:
            self._send(Step(pieces, finished))

    def _sample(self, sequence: Sequence, row: int) -> tuple[str, str | None]:
        token = sequence.sampler.sample(self._model.logits(row))
        sequence.sampled()
        if self._model.is_end(token):
            return sequence.text.flush(), "stop"
        text, reason = sequence.say(self._model.piece(token))
        if reason is None:
            sequence.pending = [token]
        return text, reason
