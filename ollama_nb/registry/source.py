"""Where the bytes of a blob come from: what ``download`` asks, whether a registry answers or another hub.

A source knows its address, who we are there and which redirects are allowed; of files, resuming and trying again it
knows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

__all__ = ["Body", "LineError", "Patience", "Source"]


class LineError(Exception):
    """The line or the other side failed in a way that may be over soon: worth another try.

    ``after`` is how many seconds the other side asked to wait (``Retry-After``), 0 where it did not; ``hint`` says what
    to do if it is never over.
    """

    def __init__(self, message: str, *, after: float = 0.0, hint: str | None = None) -> None:
        super().__init__(message)
        self.after = after
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a bad line is borne: seconds, but for ``tries``.

    ``stall`` is how long a transfer may stand still; ``tries`` how often in a row something may fail without
    progress; between two tries it is waited from ``first_wait`` on, twice as long each time, ``longest_wait`` at most.
    """

    connect: float = 15.0
    stall: float = 30.0
    tries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 32.0


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes on their way: ``chunks`` begin at byte ``start`` of the blob.

    ``start`` is 0 although a later byte was asked for where the other side does not know ranges.
    """

    start: int
    chunks: AsyncIterator[bytes]


class Source(Protocol):
    """One blob at one place."""

    key: str
    """The place, for people and for telling sources apart: ``host/namespace/model``."""

    def read(self, start: int, stop: int, size: int) -> AbstractAsyncContextManager[Body]:
        """The bytes from ``start`` to before ``stop`` of a blob that should have ``size`` bytes.

        Raises ``LineError`` for what may be over soon, also between two chunks and where the body ends early, and
        ``RegistryError`` for what will not: refused, not there, of another size, a redirect that is not allowed.
        """
