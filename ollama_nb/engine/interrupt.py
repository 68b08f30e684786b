"""Whose cancel may stop the decode that is running: an abort throws away what all others in the batch have gained.

Cancels come from the reader's thread at any moment, the window is opened and closed by the loop.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["AbortWindow"]


class AbortWindow:
    """Calls ``abort`` for a cancel that concerns the running decode, and for no other."""

    def __init__(self, abort: Callable[[], None]) -> None:
        self._abort = abort
        self._lock = threading.Lock()
        self._any_of: frozenset[int] = frozenset()
        self._all_of: set[int] = set()

    @contextmanager
    def open(self, *, any_of: Iterable[int] = (), all_of: Iterable[int] = ()) -> Iterator[None]:
        """A decode that the cancel of one request of ``any_of`` stops, or those of everyone in ``all_of``."""
        with self._lock:
            self._any_of, self._all_of = frozenset(any_of), set(all_of)
        try:
            yield
        finally:
            with self._lock:
                self._any_of, self._all_of = frozenset(), set()

    def cancelled(self, request_id: int) -> None:
        """A request is not wanted any more; called from any thread."""
        with self._lock:
            last = self._all_of == {request_id}
            self._all_of.discard(request_id)
            if last or request_id in self._any_of:
                self._abort()
