"""Files that nobody vouches for: opened only if they are files, read up to a limit, parsed as JSON within limits.

JSON of a few bytes can become thirty times as much memory, so its values are counted before it is parsed. What the
values mean is left to others.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from io import FileIO
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_VALUES", "open_file", "parse_object", "read_exactly"]

MAX_VALUES: Final = 8_000_000
"""Values of one JSON text. A tokenizer of 262,144 tokens and its merges has a quarter of that; more is 1 GB and up."""

_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def open_file(path: Path, label: str) -> tuple[FileIO, int]:
    """The file at ``path`` opened for reading, and its size in bytes; ``label`` is what errors call it.

    Raises ``ConvertError`` for a folder, a pipe or a device, on which reading could wait for ever, and ``OllamaError``
    for a file that cannot be opened: where it really lies is not for those who sent it.
    """
    try:
        # A pipe would wait for a writer while it is opened.
        descriptor = os.open(path, os.O_RDONLY | _NONBLOCK | _BINARY)
    except OSError as error:
        raise OllamaError(f"{label} cannot be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return FileIO(descriptor), status.st_size
    os.close(descriptor)
    raise ConvertError(f"{label} is no ordinary file")


def read_exactly(file: FileIO, size: int) -> bytes:
    """The next ``size`` bytes; fewer only where the file ends."""
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def parse_object(data: bytes, label: str, *, strict: bool = False) -> dict[str, Any]:
    """The JSON object that ``data`` is; ``label`` is what errors call it.

    Raises ``ConvertError`` for what is none, for more than ``MAX_VALUES`` values, for text that is no Unicode, and
    with ``strict`` for names that stand twice in an object, and for ``NaN`` and ``Infinity``, which Python reads and
    JSON does not have.
    """
    # Every value but the first follows one of these; those inside of texts make the count a little too high.
    if sum(data.count(sign) for sign in (b",", b"[", b"{", b":")) > MAX_VALUES:
        raise ConvertError(f"{label} has more than {MAX_VALUES} values")
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(
            text,
            object_pairs_hook=_unique if strict else None,
            parse_constant=_no_constant if strict else None,
        )
        if _SURROGATE.search(text):  # most are halves of pairs, and good
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ConvertError(f"{label} cannot be read as JSON: it is nested too deeply") from None
    except ValueError as error:  # also UnicodeError, and numbers of thousands of digits
        raise ConvertError(f"{label} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConvertError(f"{label} is no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, unless a name stands twice in it."""
    found = dict(pairs)
    if len(found) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{shown(name)} stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
