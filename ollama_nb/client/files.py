"""Files on their way to a server: read and hashed in pieces, so that a model of any size needs little memory."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    OnProgress: TypeAlias = Callable[[int, int], None]

__all__ = ["PIECE", "file_digest", "file_pieces", "readable"]

PIECE: Final = 1 << 20
"""Bytes that are read at once."""


def file_pieces(path: Path, progress: OnProgress | None = None) -> Iterator[bytes]:
    """The content of a file; ``progress`` is told the bytes handed out and the file's size, after each piece.

    Raises ``OSError`` if the file cannot be read.
    """
    total = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
            done += len(piece)
            if progress is not None:
                progress(done, total)


def file_digest(path: Path, progress: OnProgress | None = None) -> str:
    """``sha256:`` and the hex digest of a file: the name of its blob. Raises ``OSError``."""
    sha256 = hashlib.sha256()
    for piece in file_pieces(path, progress):
        sha256.update(piece)
    return f"sha256:{sha256.hexdigest()}"


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What the disk refuses within the block, as a ``BadRequestError`` in words for users."""
    try:
        yield
    except OSError as error:
        raise BadRequestError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
