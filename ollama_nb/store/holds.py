"""What models in the making need: such blobs stay until the last of them is done, whoever removes what meanwhile.

A quantization takes minutes, in which its base may be deleted or replaced, or another request may find the same upload
worthless. What was to be removed meanwhile is remembered, and removed when nobody holds it any more; doing that is left
to ``store/models.py``. Other processes are not known here.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from ollama_nb.wire.names import parse_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Holds"]


class Holds:
    """The digests that are held in this process, and how often; safe in any thread."""

    def __init__(self) -> None:
        self._thread = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._unwanted: set[str] = set()

    def take(self, digests: Iterable[str]) -> None:
        """Hold them once more; raises ``BadRequestError`` for a digest that is none."""
        taken = [parse_digest(digest) for digest in digests]
        with self._thread:
            self._counts.update(taken)

    def give_back(self, digests: Iterable[str]) -> frozenset[str]:
        """Hold them once less: those that were to be removed and that nobody holds any more."""
        given = [parse_digest(digest) for digest in digests]
        with self._thread:
            self._counts.subtract(given)
            self._counts = +self._counts
            free = frozenset(self._unwanted.intersection(given).difference(self._counts))
            self._unwanted -= free
        return free

    def put_off(self, digest: str) -> bool:
        """Whether somebody holds the digest, so that its removal is put off until the last one gives it back."""
        digest = parse_digest(digest)
        with self._thread:
            held = digest in self._counts
            if held:
                self._unwanted.add(digest)
        return held
