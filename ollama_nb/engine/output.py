"""From token bytes to text that may be shown: whole characters, and no part of a stop string.

Pure and without a model: bytes go in as they are sampled, text comes out as soon as it is certain.
"""

from __future__ import annotations

import codecs
from typing import Final

__all__ = ["REPEAT_LIMIT", "OutputText", "RepetitionGuard"]

REPEAT_LIMIT: Final = 30
"""Ollama ends an answer whose last chunk of text came more often than this in a row."""


class OutputText:
    """Holds back what could still become a character or a stop string.

    Stop strings are tried in list order, as Ollama does, so that with several in the same text the first of the
    list decides, not the first in the text. An empty stop string matches before anything is said.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self.stopped = "" in stop
        self.shown = 0

    @property
    def decoded(self) -> int:
        """Characters so far, those that are held back included; ``shown`` is how many have been given out."""
        return self.shown + len(self._pending)

    @property
    def may_stop(self) -> bool:
        """Whether there are stop strings, so that text that was held back may never be shown."""
        return bool(self._stop)

    def push(self, piece: bytes) -> str:
        """The text that is certain now that ``piece`` has come; ``stopped`` tells whether a stop string ended it."""
        if self.stopped:
            return ""
        self._pending += self._decoder.decode(piece)
        if not self._stop:
            return self._take(len(self._pending))
        for stop in self._stop:
            at = self._pending.find(stop)
            if at >= 0:
                self.stopped = True
                return self._take(at)
        return self._take(len(self._pending) - self._held())

    def flush(self) -> str:
        """What was held back and did not become a stop string; half a character is dropped."""
        return "" if self.stopped else self._take(len(self._pending))

    def _take(self, end: int) -> str:
        text, self._pending = self._pending[:end], self._pending[end:]
        self.shown += len(text)
        return text

    def _held(self) -> int:
        """Length of the longest end of the pending text that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._pending)), longest, -1):
                if self._pending.endswith(stop[:length]):
                    longest = length
                    break
        return longest


class RepetitionGuard:
    """Notices a model that says the same chunk over and over, white space included."""

    def __init__(self) -> None:
        self._last = ""
        self._count = 0

    def tripped_by(self, text: str) -> bool:
        """Whether this chunk is one repetition too many; an empty one is text held back, not a chunk."""
        if not text:
            return False
        text = text.strip()
        self._count = self._count + 1 if text == self._last else 0
        self._last = text
        return self._count > REPEAT_LIMIT
