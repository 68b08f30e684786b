"""Partial downloads on the disk, in Ollama's own files: what is here of a blob that is not here yet.

Beside the blobs lies ``sha256-<hex>-partial``, sparse and as long as the blob will be, and for each part of it
``sha256-<hex>-partial-<N>`` with ``{"N":0,"Offset":0,"Size":100000000,"Completed":0}``: a completed beginning and a
rest. Together the parts tile the blob. A claim is written after the bytes that it claims, so a process that is killed
leaves claims that hold; what a machine that loses its power leaves is for the hash to judge. Here nobody asks a
registry, and nobody knows when a part is read: that is ``download``.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from ollama_nb.store.files import make_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from io import FileIO
    from pathlib import Path

    from ollama_nb.store.blobs import BlobStore

__all__ = ["Part", "PartWriter", "PartialFiles", "Span", "merged", "tile"]

Span: TypeAlias = tuple[int, int]
"""Bytes of a blob, from the first number to before the second one."""

_MAX_CLAIM: Final = 4096
"""Bytes; a longer file of a part is none."""
_MAX_DIGITS: Final = 9
_FLUSH_BYTES: Final = 16 << 20
_CLAIM_BYTES: Final = 1 << 20
_CLAIM_SECONDS: Final = 0.5
"""A claim is renewed after a mebibyte or half a second: what a kill costs at most."""


@dataclass(slots=True)
class Part:
    """``size`` bytes from ``offset`` on, of which the first ``completed`` ones are in the file."""

    number: int
    offset: int
    size: int
    completed: int = 0
    claimed: int = 0
    claimed_at: float = 0.0

    @property
    def stop(self) -> int:
        """Where the part ends: the offset behind its last byte."""
        return self.offset + self.size

    @property
    def front(self) -> int:
        """The offset of the first byte that is not here."""
        return self.offset + self.completed

    @property
    def rest(self) -> int:
        """How many bytes are not here."""
        return self.size - self.completed


class _Claim(msgspec.Struct):
    """The content of a part's file."""

    offset: int = msgspec.field(name="Offset")
    size: int = msgspec.field(name="Size")
    completed: int = msgspec.field(name="Completed")

    @property
    def is_sound(self) -> bool:
        return self.offset >= 0 and 0 <= self.completed <= self.size


_claims = msgspec.json.Decoder(_Claim)


class PartialFiles:
    """The files of one blob of ``size`` bytes on its way in. All methods block and raise ``OSError``.

    Several threads may store different parts at once.
    """

    def __init__(self, blobs: BlobStore, digest: str, size: int) -> None:
        blob = blobs.path(digest)
        self.size = size
        self.data = blob.with_name(f"{blob.name}-partial")
        # Not Ollama's: it looks for "-partial-*". By its name the store takes both of these for parts of a download.
        self.lock = blob.with_name(f"{blob.name}-partial.lock")
        self._temporary = blob.with_name(f"{blob.name}-partial.new")
        self._thread = threading.Lock()
        self._unsynced = 0

    def done(self) -> list[Span]:
        """What is here, whoever left it: sorted, disjoint. Nothing where files are missing or of another blob's size.

        Claims that overlap are both believed, gaps are gaps, and what cannot be read claims nothing.
        """
        try:
            there = self.data.stat().st_size
        except OSError:
            return []
        claims = self._read()
        if there > self.size or any(claim.offset + claim.size > self.size for claim in claims):
            return []
        return merged((claim.offset, min(claim.offset + claim.completed, there)) for claim in claims)

    def begin(self, part_size: int) -> list[Part]:
        """Goes on with what is here: the parts that tile the blob, on the disk and as they are returned."""
        done = self.done()
        make_directory(self.data.parent)
        with self.data.open("ab") as file:
            file.truncate(self.size)
        return self._tiled(done, part_size)

    def collapse(self, front: int) -> list[Part]:
        """Makes one part of all, of which the first ``front`` bytes are here; none for a blob without bytes."""
        return self._tiled(merged([(0, front)]), self.size)

    def open(self) -> FileIO:
        """The data file, to be read and written."""
        return self.data.open("rb+", buffering=0)

    def writer(self) -> PartWriter:
        """One who stores parts, one after another."""
        return PartWriter(self)

    def is_flush_due(self, count: int) -> bool:
        """Whether, with ``count`` more bytes, so much was written that the disk should take it now.

        Otherwise it would be asked for everything at the end, when somebody waits.
        """
        with self._thread:
            self._unsynced = 0 if (is_due := self._unsynced + count >= _FLUSH_BYTES) else self._unsynced + count
        return is_due

    def claim(self, part: Part) -> None:
        """Writes down how far a part is, whole or not at all."""
        with self._thread:
            completed = part.completed
            self._temporary.write_bytes(
                b'{"N":%d,"Offset":%d,"Size":%d,"Completed":%d}' % (part.number, part.offset, part.size, completed)
            )
            self._temporary.replace(self.data.with_name(f"{self.data.name}-{part.number}"))
            part.claimed, part.claimed_at = completed, time.monotonic()

    def remove(self) -> None:
        """Removes everything but the lock."""
        for path in [*self._part_files(), self._temporary, self.data]:
            path.unlink(missing_ok=True)

    def _tiled(self, done: Sequence[Span], part_size: int) -> list[Part]:
        old = self._part_files()
        # New numbers, old files last: a process killed in between leaves some claims twice and none untold.
        first = max((number for number in map(self._number, old) if number is not None), default=-1) + 1
        parts = tile(done, self.size, part_size, first)
        for part in parts:
            self.claim(part)
        for path in old:
            path.unlink(missing_ok=True)
        return parts

    def _read(self) -> list[_Claim]:
        claims = []
        for path in self._part_files():
            if self._number(path) is None:
                continue
            try:
                with path.open("rb") as file:
                    claim = _claims.decode(file.read(_MAX_CLAIM))
            except (OSError, msgspec.DecodeError):
                continue  # what cannot be read claims nothing, and its bytes are fetched again
            if claim.is_sound:
                claims.append(claim)
        return claims

    def _part_files(self) -> list[Path]:
        return sorted(path for path in self.data.parent.glob(f"{self.data.name}-*") if not path.is_dir())

    def _number(self, path: Path) -> int | None:
        text = path.name.removeprefix(f"{self.data.name}-")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


class PartWriter:
    """Puts bytes into the file, for one thread at a time; opens it with the first ones."""

    def __init__(self, files: PartialFiles) -> None:
        self._files = files
        self._file: FileIO | None = None

    def store(self, part: Part, data: bytes, *, is_last: bool = False) -> None:
        """Writes the next bytes of a part and, where the last claim is old or nothing follows soon, a new one."""
        if self._file is None:
            self._file = self._files.open()
        self._file.seek(part.front)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        part.completed += len(data)
        if self._files.is_flush_due(len(data)):
            os.fsync(self._file.fileno())
        if (
            is_last
            or part.rest == 0
            or part.completed - part.claimed >= _CLAIM_BYTES
            or time.monotonic() - part.claimed_at >= _CLAIM_SECONDS
        ):
            self._files.claim(part)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same bytes as sorted spans that neither overlap nor touch."""
    found: list[Span] = []
    for start, stop in sorted(spans):
        if start >= stop:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def tile(done: Sequence[Span], size: int, part_size: int, first: int = 0) -> list[Part]:
    """Parts that tile ``size`` bytes, numbered from ``first`` on, whose completed beginnings are exactly ``done``.

    ``done`` is sorted and disjoint; no part has a rest of more than ``part_size`` bytes.
    """
    parts: list[Part] = []
    position = 0

    def add(offset: int, length: int, completed: int) -> None:
        parts.append(Part(first + len(parts), offset, length, completed))

    for start, stop in [*done, (size, size)]:
        if parts and position < start:
            # What is missing behind a completed part is its rest.
            longer = min(part_size, start - position)
            parts[-1].size += longer
            position += longer
        while position < start:
            add(position, min(part_size, start - position), 0)
            position = parts[-1].stop
        if start < stop:
            add(start, stop - start, stop - start)
        position = stop
    return parts
