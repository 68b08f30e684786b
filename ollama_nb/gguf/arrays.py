"""Arrays in a GGUF header that stay in the file until someone looks at them.

A vocabulary is most of a header and hardly anyone wants it: an array knows where its items are, and opens the
file again to read them. Checking that they lie inside the file is left to the reader, which has passed over them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, overload

from ollama_nb.gguf.scan import STRING, VALUE_TYPES, Scanner, shortest_float

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KEPT_ITEMS", "GgufArray", "Item"]

Item: TypeAlias = int | float | bool | str

KEPT_ITEMS: Final = 1024
"""Numeric arrays up to this length, such as those with one number a layer, are kept in memory."""

_CHUNK_ITEMS: Final = 1 << 16
_FLOAT32: Final = 6


class GgufArray(Sequence[Item]):
    """A sequence of numbers, booleans or strings; ``element_type`` is GGUF's name, such as ``uint32``.

    Iterating streams the file once. A single number is read where it stands; a single string is found by passing
    over those before it, so take ``list(array)`` for more than a few. Raises OSError or GgufError if the file has
    gone or shrunk since its header was read. Strings that are not UTF-8 have U+FFFD in place of what is wrong.
    """

    __slots__ = ("_code", "_kept", "_length", "_offset", "_path", "_wide")

    def __init__(
        self,
        path: Path,
        code: int,
        length: int,
        offset: int,
        *,
        wide: bool = True,
        kept: bytes | None = None,
    ) -> None:
        self._path = path
        self._code = code
        self._length = length
        self._offset = offset
        self._wide = wide
        self._kept = kept

    @property
    def element_type(self) -> str:
        """GGUF's name for the type of the items."""
        return "string" if self._code == STRING else VALUE_TYPES[self._code][0]

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"<GgufArray of {self._length} {self.element_type}>"

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            places = range(self._length)[index]
            if not places:
                return []
            low, high = min(places[0], places[-1]), max(places[0], places[-1])
            items = list(self._read(low, high + 1))
            return [items[place - low] for place in places]
        return next(self._read(place := range(self._length)[index], place + 1))

    def __iter__(self) -> Iterator[Item]:
        return self._read(0, self._length)

    def __reversed__(self) -> Iterator[Item]:
        # The mixin would ask for one item after the other, each a walk through the strings.
        return reversed(list(self))

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """Where the value is first, in one pass over the file. Raises ValueError if it is absent."""
        begin, end, _ = slice(start, stop).indices(self._length)
        for place, item in enumerate(self._read(begin, max(begin, end)), begin):
            if item == value:
                return place
        raise ValueError(f"{value!r} is not in the array")

    def _read(self, start: int, stop: int) -> Iterator[Item]:
        """The items from ``start`` up to ``stop``."""
        if start >= stop:
            return iter(())
        return self._strings(start, stop) if self._code == STRING else self._numbers(start, stop)

    def _strings(self, start: int, stop: int) -> Iterator[str]:
        with self._path.open("rb") as file:
            scanner = Scanner(file, self._path.stat().st_size, self._offset, wide=self._wide)
            scanner.skip_strings(start, "the array")
            for _ in range(start, stop):
                yield scanner.string("a string in the array").decode("utf-8", "replace")

    def _numbers(self, start: int, stop: int) -> Iterator[int | float | bool]:
        layout = VALUE_TYPES[self._code][1]
        for low in range(start, stop, _CHUNK_ITEMS):
            high = min(low + _CHUNK_ITEMS, stop)
            raw = self._bytes(low * layout.size, high * layout.size)
            values = struct.unpack(f"<{high - low}{layout.format[-1]}", raw)
            yield from map(shortest_float, values) if self._code == _FLOAT32 else values

    def _bytes(self, low: int, high: int) -> bytes:
        """Bytes of the array's data."""
        if self._kept is not None:
            return self._kept[low:high]
        with self._path.open("rb") as file:
            scanner = Scanner(file, self._path.stat().st_size, self._offset + low)
            return scanner.take(high - low)
