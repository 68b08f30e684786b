"""Blobs: files named by the SHA-256 of their content, in ``<models>/blobs/sha256-<64 hex>``.

A blob never changes, so it is hashed while it is written and appears under its name only when the hash is known.
Partial downloads lie here too and are left to the code that resumes them, for as long as somebody may come back for
them. What refers to a blob is written in the manifests; who may remove one is decided in ``store/models.py``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from enum import Enum
from typing import TYPE_CHECKING, Final, Self

from ollama_nb.store.files import GRACE_NS, create_temporary, is_settled, sync_directory
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError
from ollama_nb.wire.names import parse_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path
    from types import TracebackType

    from ollama_nb.store.session import Session

__all__ = ["MAX_TEXT_BLOB", "BlobStore", "BlobWriter", "FileKind", "file_kind"]

MAX_TEXT_BLOB: Final = 16 * 1024 * 1024
"""Templates, parameters and licences are read into memory; one past 16 MiB is no such thing."""

_PARTIAL_GRACE_NS: Final = 7 * 24 * GRACE_NS
"""Who has broken off a pull comes back for the rest of it within a week."""

_HASH_NAME = re.compile(r"sha256-[0-9a-f]{64}")
_OLD_NAME = re.compile(r"sha256:[0-9a-fA-F]{64}")
_PARTIAL = re.compile(r"sha256-[0-9a-fA-F]{64}-partial.*", re.DOTALL)
_TEMPORARY_PREFIX: Final = "sha256-"
_UNTOUCHABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class FileKind(Enum):
    """What a file in the blobs folder is, by its name."""

    BLOB = "blob"
    PARTIAL = "partial download"
    TEMPORARY = "temporary"
    FOREIGN = "foreign"


def file_kind(name: str) -> FileKind:
    """What the file ``name`` in the blobs folder is; those of unknown kind are never touched."""
    if _HASH_NAME.fullmatch(name):
        return FileKind.BLOB
    if _PARTIAL.fullmatch(name):
        return FileKind.PARTIAL
    return FileKind.TEMPORARY if name.startswith(_TEMPORARY_PREFIX) else FileKind.FOREIGN


class BlobStore:
    """The blobs below ``root``. Every method that takes a digest raises ``BadRequestError`` for an invalid one.

    What is written is listed in ``session``, if there is one.
    """

    def __init__(self, root: Path, session: Session | None = None) -> None:
        self.directory = root / "blobs"
        self._session = session

    def path(self, digest: str) -> Path:
        """Where the blob lies or would lie: the one way from a digest to a path."""
        return self.directory / parse_digest(digest).replace(":", "-")

    def exists(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self.path(digest).is_file()

    def refresh(self, digest: str, *, keep: bool = False) -> bool:
        """Whether the blob is here; if so it counts as new, and pruning leaves it alone for its hour of grace.

        For callers that mean to refer to the blob soon. ``keep``: the hour holds even when this process is gone.
        """
        path = self.path(digest)
        try:
            os.utime(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno not in _UNTOUCHABLE:
                raise
            # Another user's blob in a shared store. Its age stays; writing the manifest checks that it is there.
            return path.is_file()
        self._note(path.name, keep=keep)
        return True

    def size(self, digest: str) -> int:
        """The blob's size in bytes; raises ``NotFoundError``."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise _not_found(digest) from error

    def read(self, digest: str, limit: int = MAX_TEXT_BLOB) -> bytes:
        """A small blob's content; raises ``NotFoundError``, and ``OllamaError`` past ``limit`` bytes."""
        try:
            with self.path(digest).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as error:
            raise _not_found(digest) from error
        if len(data) > limit:
            raise OllamaError(f"blob {parse_digest(digest)} is larger than {limit} bytes")
        return data

    def writer(self) -> BlobWriter:
        """A new blob to be filled: ``with store.writer() as blob: blob.write(...); blob.commit()``."""
        return BlobWriter(self.directory, self._note)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty file that another process fills, to be adopted or else gone at the end of the ``with`` block."""
        descriptor, path = create_temporary(self.directory, _TEMPORARY_PREFIX, note=self._note)
        os.close(descriptor)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def adopt(self, path: Path) -> tuple[str, bool]:
        """Makes a complete file in the blobs folder a blob: its digest, and whether it was here before.

        Raises ``OSError``.
        """
        with path.open("rb+") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            os.fsync(file.fileno())
        existed = self.refresh(digest)
        self.place(path, digest)
        return digest, existed

    def place(self, path: Path, digest: str, *, keep: bool = False) -> None:
        """Gives a complete file in the blobs folder, on the disk and of this digest, its name; raises ``OSError``.

        ``keep`` is as for ``refresh``.
        """
        self._note(self.path(digest).name, keep=keep)
        path.replace(self.path(digest))
        sync_directory(self.directory)

    def put(self, data: bytes) -> tuple[str, int, bool]:
        """Stores ``data``: its digest, its size in bytes, and whether it was here before."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if self.refresh(digest) and self.size(digest) == len(data):
            return digest, len(data), True
        with self.writer() as blob:
            blob.write(data)
            blob.commit(digest)
        return digest, len(data), False

    def remove(self, digest: str) -> bool:
        """Removes the blob; False when there was none."""
        try:
            self.path(digest).unlink()
        except FileNotFoundError:
            return False
        return True

    def rename_old_names(self) -> None:
        """Gives blobs of early Ollama versions, ``sha256:<hex>``, the name they have today."""
        for path in self._files():
            if _OLD_NAME.fullmatch(path.name):
                path.replace(self.path(path.name))

    def is_ours(self, digest: str) -> bool:
        """Whether this process has written the blob or referred to it."""
        return self._session is not None and self.path(digest).name in self._session

    def sweep(
        self,
        referenced: AbstractSet[str],
        *,
        abandoned: AbstractSet[str] = frozenset(),
        claimed: AbstractSet[str] = frozenset(),
    ) -> list[str]:
        """Removes blobs that are not ``referenced`` and temporary files; the names of what went.

        Files changed within the last hour stay, unless their names are among the ``abandoned`` ones, and partial
        downloads that went on within the last week; those that are ``claimed`` or of unknown kind stay whatever
        their age.
        """
        removed = []
        for path in self._files():
            kind = file_kind(path.name)
            needed = kind is FileKind.BLOB and parse_digest(path.name) in referenced
            if needed or kind is FileKind.FOREIGN or path.name in claimed:
                continue
            grace = _PARTIAL_GRACE_NS if kind is FileKind.PARTIAL else GRACE_NS
            # A file that another process removes meanwhile is gone, which is all that was wanted.
            with contextlib.suppress(FileNotFoundError):
                if path.name in abandoned or is_settled(path.lstat().st_mtime_ns, grace):
                    path.unlink()
                    removed.append(path.name)
        return removed

    def _note(self, name: str, *, keep: bool = False) -> None:
        if self._session is not None:
            self._session.note(name, keep=keep)

    def _files(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if path.is_symlink() or path.is_file())


class BlobWriter:
    """One blob on its way in: hashed as it comes, visible when committed, gone when abandoned.

    To be used as a context manager, by one thread at a time. Raises ``OSError`` when the disk does.
    """

    def __init__(self, directory: Path, note: Callable[[str], None]) -> None:
        self._directory = directory
        self._note = note
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Self:
        descriptor, self._path = create_temporary(self._directory, _TEMPORARY_PREFIX, note=self._note)
        self._file = os.fdopen(descriptor, "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a commit the temporary name is free already; of what is given up, nothing need reach the disk any more.
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes | memoryview) -> None:
        """Appends ``data``."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def commit(self, expected: str | None = None) -> str:
        """Makes the blob durable and visible, and returns its digest.

        Raises ``BadRequestError`` with Ollama's text if the content's digest is not the ``expected`` one, and
        nothing stays on the disk then.
        """
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected is not None and parse_digest(expected) != digest:
            raise BadRequestError(f'digest mismatch, expected "{parse_digest(expected)}", got "{digest}"')
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path = self._directory / digest.replace(":", "-")
        self._note(path.name)
        self._path.replace(path)
        sync_directory(self._directory)
        return digest


def _not_found(digest: str) -> NotFoundError:
    return NotFoundError(f'blob "{parse_digest(digest)}" not found')
