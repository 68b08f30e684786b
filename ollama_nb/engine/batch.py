"""The rows that llama.cpp computes at a time.

A batch knows arrays and their room; which tokens stand in it is decided by those who fill it.
"""

from __future__ import annotations

import ctypes

import numpy as np
from llama_cpp import llama_cpp as lib

__all__ = ["Batch"]


class Batch:
    """Rows of (token, position, sequence, wants logits) for one ``llama_decode``.

    The C arrays are numpy views, filled by slices: a prompt chunk costs the same Python time as one token.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self.tokens = np.zeros(capacity, dtype=np.int32)
        self.positions = np.zeros(capacity, dtype=np.int32)
        self.sequences = np.zeros(capacity, dtype=np.int32)
        self.wants_logits = np.zeros(capacity, dtype=np.int8)
        self._sequence_counts = np.ones(capacity, dtype=np.int32)
        # A row may belong to several sequences in llama.cpp; ours belong to one, whose id stands in `sequences`.
        base = self.sequences.ctypes.data
        self._sequence_pointers = np.arange(base, base + 4 * capacity, 4, dtype=np.uintp)
        self.struct = lib.llama_batch(
            n_tokens=0,
            token=ctypes.cast(self.tokens.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            embd=None,
            pos=ctypes.cast(self.positions.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=ctypes.cast(self._sequence_counts.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            seq_id=ctypes.cast(self._sequence_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=ctypes.cast(self.wants_logits.ctypes.data, ctypes.POINTER(ctypes.c_int8)),
        )

    @property
    def room(self) -> int:
        """Rows that can still be added."""
        return self.capacity - self.size

    def clear(self) -> None:
        """Begin a new batch."""
        self.size = 0

    def add(self, tokens: list[int], position: int, sequence: int, *, logits: bool) -> int:
        """Append consecutive tokens of one sequence from ``position`` on; ``logits`` asks for those of the last.

        Returns the row of the last token, by which its logits are fetched.
        """
        start, end = self.size, self.size + len(tokens)
        if end > self.capacity:
            raise ValueError(f"{len(tokens)} tokens do not fit into the {self.room} free rows of the batch")
        self.tokens[start:end] = tokens
        self.positions[start:end] = range(position, position + len(tokens))
        self.sequences[start:end] = sequence
        self.wants_logits[start:end] = 0
        if logits:
            self.wants_logits[end - 1] = 1
        self.size = end
        return end - 1
