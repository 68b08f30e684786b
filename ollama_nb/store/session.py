"""What a process has put among the blobs, written down beside them, so that the next one can clear up after a kill.

Blobs that no model needs yet are kept for an hour, since another process may be about to refer to them. Of a process
that is dead nothing of the kind is to be waited for, but for what it had fetched, with which the next pull goes on.
Each one therefore lists its files in ``<models>/.ollama_nb-sessions/<random>.names``, fetched ones with ``kept`` behind
the name, under a lock that the system takes away with the process. Whether a file may go is decided in
``store/blobs.py``; Ollama does not look into that folder.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from ollama_nb.store.files import make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Session"]

_FOLDER: Final = ".ollama_nb-sessions"
_LOCK: Final = ".lock"
_NAMES: Final = ".names"
_KEPT: Final = " kept"
_SHARED: Final = 0o775
"""A group may share a store; the umask says whether it does."""


class Session:
    """The list of one process for the store at ``root``; begun with the first name, safe in any thread.

    ``guard`` is the store's lock: lists appear and go under it.
    """

    def __init__(self, root: Path, guard: contextlib.AbstractContextManager[object]) -> None:
        self._folder = root / _FOLDER
        self._guard = guard
        self._id = secrets.token_hex(8)
        self._thread = threading.Lock()
        self._lock: FileLock | None = None
        self._names: set[str] = set()

    def note(self, name: str, *, keep: bool = False) -> None:
        """Tell that the file ``name`` is about to be put among the blobs, or referred to; raises ``OSError``.

        ``keep``: should this process die, somebody may still come back for it.
        """
        if self._lock is None:
            self._begin()
        with self._thread:
            if name in self._names:
                return
            with (self._folder / f"{self._id}{_NAMES}").open("a", encoding="utf-8") as file:
                file.write(f"{name}{_KEPT}\n" if keep else f"{name}\n")
            self._names.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def sort_out(self) -> tuple[frozenset[str], frozenset[str]]:
        """The names that only dead processes have listed, whose lists are removed, and those of other living ones.

        Those that were to be kept are not among the former. Call under the store's lock.
        """
        living, dead = set[str](), set[str]()
        for names, lock, is_dead in self._others():
            (dead if is_dead else living).update(_read(names, kept=not is_dead))
            if is_dead:
                names.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
        return frozenset(dead - living - self._names), frozenset(living)

    def claimed(self) -> frozenset[str]:
        """The names that other living processes have listed. Call under the store's lock."""
        alive = [names for names, _, is_dead in self._others() if not is_dead]
        return frozenset(name for names in alive for name in _read(names, kept=True))

    def close(self) -> None:
        """Give the list up; whoever opens the store next clears up what no model needs by then."""
        with self._thread:
            if self._lock is not None:
                self._lock.release()

    def _begin(self) -> None:
        # The store's lock first: whoever holds it may come here, and must not wait for one who waits for it.
        with self._guard, self._thread:
            if self._lock is None:
                make_directory(self._folder, _SHARED)
                lock = _lock(self._folder / f"{self._id}{_LOCK}")
                lock.acquire()
                self._lock = lock

    def _others(self) -> Iterator[tuple[Path, Path, bool]]:
        """Of every other process its list, the lock of that, and whether it is dead."""
        for stem in sorted({path.stem for path in self._folder.glob("*")} - {self._id}):
            path = self._folder / f"{stem}{_LOCK}"
            with _if_dead(path) as is_dead:
                yield self._folder / f"{stem}{_NAMES}", path, is_dead


@contextlib.contextmanager
def _if_dead(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock at ``path``; if so it is held meanwhile."""
    lock = _lock(path)
    try:
        lock.acquire()
    except (Timeout, PermissionError):  # of another user's nobody here can tell
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock(path: Path) -> FileLock:
    return FileLock(path, timeout=0, thread_local=False, mode=_SHARED & 0o666)


def _read(path: Path, *, kept: bool) -> list[str]:
    """The names in a list, with or without those that are to be kept."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [line.removesuffix(_KEPT) for line in lines if kept or not line.endswith(_KEPT)]
