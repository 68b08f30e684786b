"""A blob's file on its way out: read in pieces, hashed while it is read, and the same from the first byte to the last.

A file may be damaged, or change while it is sent. Every byte is hashed when it is first read, so that nothing is ever
committed under a digest that is not its own, whatever the registry checks. Where the bytes go, and how often, is for
``upload``.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, Final

from ollama_nb.wire.errors import NotFoundError, OllamaError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PIECE", "Outgoing"]

PIECE: Final = 1 << 20
"""Bytes that are read at once."""

_AGAIN: Final = "Pull or create the model again."


class Outgoing:
    """The file at ``path``, which should have ``size`` bytes and the digest; ``part`` is how many bytes a part has.

    Everything here blocks on the disk, and may be called in any thread. Raises ``NotFoundError`` where there is no
    file, and ``OllamaError`` where it cannot be read or is not what it should be.
    """

    def __init__(self, path: Path, digest: str, size: int, part: int) -> None:
        self._path = path
        self._digest = digest
        self._size = size
        self._part = part
        self._thread = threading.Lock()
        self._whole = hashlib.sha256()
        self._current = hashlib.md5(usedforsecurity=False)
        self._finished = hashlib.md5(usedforsecurity=False)
        self._hashed = 0
        try:
            self._file = path.open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(f'blob "{digest}" not found', hint=_AGAIN) from error
        except OSError as error:
            raise self._unreadable(error) from error
        self._state = self._stat()
        if self._state[0] != size:
            self._file.close()
            raise OllamaError(
                f'blob "{digest}" is damaged: it has {self._state[0]} bytes, its manifest says {size}', hint=_AGAIN
            )

    @property
    def hashed(self) -> int:
        """Up to where the file has been read, in bytes."""
        return self._hashed

    def part_end(self, start: int) -> int:
        """Where the part ends that the byte ``start`` belongs to."""
        return min(start - start % self._part + self._part, self._size)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to before ``stop``, which lie in one part and not behind what was read before."""
        with self._thread:
            try:
                self._file.seek(start)
                data = self._file.read(stop - start)
            except OSError as error:
                raise self._unreadable(error) from error
            if len(data) < stop - start:
                raise self._changed()
            self._hash(data[max(0, self._hashed - start) :])
        return data

    def etag(self) -> str:
        """Ollama's name for the parts: the MD5 of their MD5s, ``-`` and their number; ``md5-parts`` as S3 has it.

        To be asked when all is read: raises ``OllamaError`` if that was not what the digest promises.
        """
        with self._thread:
            self._check_unchanged()
        if f"sha256:{self._whole.hexdigest()}" != self._digest:
            raise OllamaError(f'blob "{self._digest}" is damaged: its content has another digest', hint=_AGAIN)
        return f"{self._finished.hexdigest()}-{-(-self._size // self._part)}"

    def close(self) -> None:
        """Closes the file, once the piece that is just being read is there."""
        with self._thread:
            self._file.close()

    def _hash(self, data: bytes) -> None:
        self._whole.update(data)
        self._current.update(data)
        self._hashed += len(data)
        if data and (self._hashed % self._part == 0 or self._hashed == self._size):
            self._finished.update(self._current.digest())
            self._current = hashlib.md5(usedforsecurity=False)

    def _check_unchanged(self) -> None:
        """What was sent twice was hashed once; so a file that may have changed in between is read once more."""
        state = self._stat()
        if state == self._state:
            return
        # Who only means to use a blob sets its time: that alone is no change.
        self._file.seek(0)
        if state[0] != self._size or hashlib.file_digest(self._file, "sha256").digest() != self._whole.digest():
            raise self._changed()

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _changed(self) -> OllamaError:
        return OllamaError(f'blob "{self._digest}" changed while it was sent; nothing was pushed under its name')

    def _unreadable(self, error: OSError) -> OllamaError:
        return OllamaError(f"blob {self._path} cannot be read: {error.strerror or error}")
