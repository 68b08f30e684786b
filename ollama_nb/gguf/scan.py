"""Reading a GGUF file forwards, within limits: numbers, strings, and arrays passed over without reading them.

Source: the GGUF specification of ggml (``docs/gguf.md``). Everything is checked against the size of the file
before it is read, so that a hostile length costs nothing. What the values mean is left to the reader.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

from ollama_nb.wire.errors import BadRequestError

__all__ = ["MAX_STRING", "STRING", "VALUE_TYPES", "GgufError", "Scanner", "shortest_float"]

MAX_STRING: Final = 16 << 20
"""Bytes of the longest string, as in Ollama."""

STRING: Final = 8
"""The type number of strings; ``VALUE_TYPES`` has all others but arrays."""

VALUE_TYPES: Final[dict[int, tuple[str, struct.Struct]]] = {
    0: ("uint8", struct.Struct("<B")),
    1: ("int8", struct.Struct("<b")),
    2: ("uint16", struct.Struct("<H")),
    3: ("int16", struct.Struct("<h")),
    4: ("uint32", struct.Struct("<I")),
    5: ("int32", struct.Struct("<i")),
    6: ("float32", struct.Struct("<f")),
    7: ("bool", struct.Struct("<?")),
    10: ("uint64", struct.Struct("<Q")),
    11: ("int64", struct.Struct("<q")),
    12: ("float64", struct.Struct("<d")),
}

_FLOAT32: Final = VALUE_TYPES[6][1]
_UINT32: Final = VALUE_TYPES[4][1]
_UINT64: Final = VALUE_TYPES[10][1]
_WINDOW: Final = 1 << 20
"""Bytes read at a time; no longer than MAX_STRING, which ``skip_strings`` relies on."""


class GgufError(BadRequestError):
    """The file is not a GGUF file that can be trusted: 400, with the reason in one sentence."""


def shortest_float(value: float) -> float:
    """The number with the fewest decimal digits that is the same in 32 bits, as other programs print it."""
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _FLOAT32.unpack(_FLOAT32.pack(short))[0] == value:
            return short
    return value


class Scanner:
    """A place in an open file that only moves forwards. Raises GgufError where the file ends too early.

    Lengths and counts are 32 bits wide in version 1 of the format (``wide`` false) and 64 bits since.
    """

    def __init__(self, file: BinaryIO, size: int, offset: int = 0, *, wide: bool = True) -> None:
        self._file = file
        self._size = size
        self._window = b""
        self._start = offset
        self._position = 0
        self.length_layout = _UINT64 if wide else _UINT32

    @property
    def offset(self) -> int:
        """Bytes from the beginning of the file."""
        return self._start + self._position

    @property
    def remaining(self) -> int:
        """Bytes from here to the end of the file."""
        return self._size - self.offset

    def number(self, layout: struct.Struct) -> int | float | bool:
        """One number or boolean."""
        self._need(layout.size)
        value: int | float | bool = layout.unpack_from(self._window, self._position)[0]
        self._position += layout.size
        return value

    def uint32(self) -> int:
        """One unsigned number of 32 bits."""
        return int(self.number(_UINT32))

    def uint64(self) -> int:
        """One unsigned number of 64 bits."""
        return int(self.number(_UINT64))

    def length(self) -> int:
        """One length or count."""
        return int(self.number(self.length_layout))

    def string(self, what: str, limit: int = MAX_STRING) -> bytes:
        """One string of at most ``limit`` bytes; ``what`` names it in the error."""
        length = self.length()
        if length > limit:
            raise GgufError(f"{what} is {length} bytes long; the limit is {limit}")
        return self.take(length)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        self._need(count)
        taken = self._window[self._position : self._position + count]
        self._position += count
        return taken

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes without reading them."""
        if count > self.remaining:
            raise self._truncated()
        self._position += count

    def skip_strings(self, count: int, what: str) -> None:
        """Pass over ``count`` strings. The one hot loop here: a vocabulary has hundreds of thousands."""
        unpack, width = self.length_layout.unpack_from, self.length_layout.size
        while count:
            self._need(width)
            window, position = self._window, self._position
            last = len(window) - width
            length = 0
            while count and position <= last:
                (length,) = unpack(window, position)
                position += width + length
                count -= 1
            # A string past the limit leaves the window, hence the loop: looking at the last one is enough.
            if length > MAX_STRING:
                raise GgufError(f"a string in {what} is {length} bytes long; the limit is {MAX_STRING}")
            self.skip(position - self._position)

    def _need(self, count: int) -> None:
        """Have the next ``count`` bytes in the window."""
        if self._position + count <= len(self._window):
            return
        if count > self.remaining:
            raise self._truncated()
        self._start, self._position = self.offset, 0
        self._file.seek(self._start)
        self._window = self._file.read(max(count, min(_WINDOW, self._size - self._start)))
        if len(self._window) < count:  # it shrank while it was read
            raise self._truncated()

    def _truncated(self) -> GgufError:
        return GgufError(f"the GGUF file ends inside its header, after {self._size} bytes")
