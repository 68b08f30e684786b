"""The SHA-256 of a file that is still being filled: it follows the part that is here without a gap.

What has just been written is read from the system's cache, in a thread beside the download, so that little is left to
do when the last byte comes.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FollowingHash"]

_BLOCK: Final = 1 << 20


class FollowingHash:
    """``run`` in a thread of its own; ``advance`` and ``stop`` from any other."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._front = 0
        self._is_stopped = False
        self._changed = threading.Condition()

    def advance(self, front: int) -> None:
        """The first ``front`` bytes are in the file."""
        with self._changed:
            if front > self._front:
                self._front = front
                self._changed.notify()

    def stop(self) -> None:
        """Gives up; ``run`` returns soon."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def run(self) -> str:
        """The digest of all ``size`` bytes, ``sha256:<hex>``; empty if stopped before. Raises ``OSError``."""
        digest = hashlib.sha256()
        position = 0
        buffer = memoryview(bytearray(_BLOCK))
        with self._path.open("rb", buffering=0) as file:
            while position < self._size:
                front = self._wait(position)
                if front is None:
                    return ""
                while position < front:
                    count = file.readinto(buffer[: min(_BLOCK, front - position)])
                    if not count:
                        raise OSError(f"{self._path.name} was cut short by somebody else")
                    digest.update(buffer[:count])
                    position += count
                    if self._is_stopped:
                        return ""
        return f"sha256:{digest.hexdigest()}"

    def _wait(self, position: int) -> int | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._front > position)
            return None if self._is_stopped else self._front
