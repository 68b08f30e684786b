"""How the store changes the disk: a file is there whole or not at all, and one process changes at a time.

Files are written under a temporary name in their own folder, flushed to the disk and renamed, so neither a crash
nor a full disk leaves half a file under its final name. Which files there are is for the modules above to say.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

from filelock import FileLock, Timeout

from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = [
    "GRACE_NS",
    "StoreLock",
    "create_temporary",
    "disk_refusals",
    "is_settled",
    "make_directory",
    "sync_directory",
    "write_whole",
]

GRACE_NS: Final = 3600 * 1_000_000_000
"""A file that nothing refers to is left alone for an hour: another process may be about to refer to it."""

_REFUSALS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})
"""What a disk says to a change that it does not take; any other error is ours."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_LOCK_NAME: Final = ".ollama_nb.lock"
_LOCK_TIMEOUT: Final = 60.0


class StoreLock:
    """The lock of one store against other processes and other threads; may be entered again by its holder.

    Reading needs no lock, so a store that cannot be written works too. Raises ``OllamaError``: 503 when another
    process has held the lock for a minute, 500 where the disk refuses the lock or a change that is made under it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # The group may share a store, and everyone who may change it must be able to lock it.
        self._lock = FileLock(root / _LOCK_NAME, timeout=_LOCK_TIMEOUT, mode=0o664)

    def __enter__(self) -> Self:
        make_directory(self._root)
        try:
            with disk_refusals():
                self._lock.acquire(poll_interval=0.02)
        except Timeout as error:
            raise OllamaError(
                "the model store is being changed by another process",
                status=503,
                hint=f"If no other process uses it, remove {self._root / _LOCK_NAME}.",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            raise _refusal(error) from error


@contextlib.contextmanager
def disk_refusals() -> Iterator[None]:
    """Raises what the disk refuses, for want of space or of rights, as ``OllamaError``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise _refusal(error) from error


def _refusal(error: OSError) -> OllamaError:
    return OllamaError(
        f"the model store cannot be written: {error.strerror}",
        status=HTTPStatus.INSUFFICIENT_STORAGE if error.errno in _NO_ROOM else None,
        hint="Is the disk full, or its folder another user's?",
    )


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Makes a folder and its parents where they are missing; raises ``OllamaError`` with Ollama's advice."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise OllamaError(f"{error}: ensure path elements are traversable") from error


def create_temporary(
    folder: Path, prefix: str, mode: int = 0o644, note: Callable[[str], None] | None = None
) -> tuple[int, Path]:
    """A new empty file ``<prefix><random>`` in ``folder``: its descriptor, open for writing, and its path.

    ``note`` is told its name before it is there.
    """
    make_directory(folder)
    path = folder / f"{prefix}{secrets.token_hex(8)}"
    if note is not None:
        note(path.name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, mode), path


def write_whole(path: Path, data: bytes, prefix: str, mode: int = 0o644) -> None:
    """Puts ``data`` at ``path``, replacing what is there in one step; raises ``OSError`` and leaves no trace then."""
    descriptor, temporary = create_temporary(path.parent, prefix, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a folder durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_settled(modified_ns: int, grace_ns: int = GRACE_NS) -> bool:
    """Whether a file last changed at ``modified_ns`` (ns since the epoch) is past its time of grace."""
    return time.time_ns() - modified_ns > grace_ns
