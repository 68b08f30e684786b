"""The tensors of a GGUF to be: where their numbers come from, what is done to them, and as what they are stored.

A weight is made of parts that follow one another, such as the experts of a layer, which files keep apart. A part is
read when its turn comes, in blocks where nothing is done to it, so that memory holds one part at most. How numbers are
rounded is left to ``numbers``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.numbers import stored_as, widen
from ollama_nb.convert.safetensors import DTYPES, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BLOCK", "Array", "Change", "Part", "Weight", "bytes_of", "widen"]

Array: TypeAlias = NDArray[Any]
Change: TypeAlias = Callable[[Array], Array]
"""Makes another order or selection of the numbers of an array; it may not compute, for BF16 comes as bits."""

BLOCK: Final = 1 << 20
"""Numbers that are worked on at once: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stored tensor, or numbers that the conversion itself makes, and what is done to them.

    ``change`` rearranges, ``compute`` works on float32. ``shape`` is that of the result, rows first. Raises
    ``ConvertError`` for a stored tensor that nothing is done to and that has another number of numbers.
    """

    numbers: StoredTensor | Array
    shape: tuple[int, ...]
    change: Change | None = None
    compute: Change | None = None

    def __post_init__(self) -> None:
        if self.change is None and self.compute is None and math.prod(self.numbers.shape) != math.prod(self.shape):
            raise self._misshapen()

    @property
    def dtype(self) -> str:
        """``F32``, ``F16`` or ``BF16``."""
        return self.numbers.dtype if isinstance(self.numbers, StoredTensor) else "F32"

    def blocks(self, dtype: str) -> Iterator[Array]:
        """The numbers in order, stored as ``dtype`` says, flat; BF16 as bits. Raises ``ConvertError``."""
        for data in self._raw_blocks():
            yield stored_as(data, "F32" if self.compute else self.dtype, dtype)

    def _raw_blocks(self) -> Iterator[Array]:
        if isinstance(self.numbers, StoredTensor):
            if self.change is None and self.compute is None:
                yield from self.numbers.read_blocks(BLOCK)
                return
            data = self.numbers.read()
        else:
            data = np.asarray(self.numbers, dtype=np.float32)
        if self.change is not None:
            data = self.change(data)
        if self.compute is not None:
            data = np.asarray(self.compute(widen(data, self.dtype)), dtype=np.float32)
        if math.prod(data.shape) != math.prod(self.shape) or (self._is_touched and data.shape != self.shape):
            raise self._misshapen()
        yield from _cut(data)

    @property
    def _is_touched(self) -> bool:
        return self.change is not None or self.compute is not None

    def _misshapen(self) -> ConvertError:
        name = self.numbers.name if isinstance(self.numbers, StoredTensor) else "of the conversion"
        return ConvertError(f'tensor "{name}" has the shape {list(self.numbers.shape)}, which is wrong')


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor by its GGUF name; ``precise`` ones are always stored in F32. ``shape`` has rows first.

    Several parts are stacked along a new first dimension. Raises ``ConvertError`` for parts of different shapes.
    """

    name: str
    parts: tuple[Part, ...]
    shape: tuple[int, ...] = field(init=False)
    precise: bool = False

    def __post_init__(self) -> None:
        first, *others = (part.shape for part in self.parts)
        if any(shape != first for shape in others):
            raise ConvertError(f"the parts of {self.name} have different shapes")
        object.__setattr__(self, "shape", (len(self.parts), *first) if others else first)

    @property
    def elements(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)

    def dtype(self, wanted: str) -> str:
        """What it is stored as if ``wanted`` is asked for; empty: what it is already, but F32 becomes F16."""
        if self.precise or len(self.shape) <= 1:
            return "F32"
        if wanted:
            return wanted
        found = {part.dtype for part in self.parts}
        return "BF16" if "BF16" in found else "F16"

    def blocks(self, dtype: str) -> Iterator[Array]:
        """All numbers in order, stored as ``dtype`` says, in flat blocks. Raises ``ConvertError``."""
        try:
            for part in self.parts:
                yield from part.blocks(dtype)
        except (ValueError, IndexError) as error:  # what numpy says of a shape that a change cannot work with
            raise ConvertError(f"{self.name} cannot be made of what the files have: {error}") from error
        except OverflowError as error:
            hint = "Ask for BF16 or F32." if dtype == "F16" else "Ask for F32."
            raise ConvertError(f"{self.name}: {error}", hint=hint) from error


def bytes_of(elements: int, dtype: str) -> int:
    """Bytes of so many numbers."""
    return elements * DTYPES[dtype]


def _cut(data: Array) -> Iterator[Array]:
    """An array in flat blocks, in order. One that is a view of another order is copied block by block, not whole."""
    if data.flags.c_contiguous:
        flat = data.reshape(-1)
        for begin in range(0, max(1, flat.size), BLOCK):
            yield flat[begin : begin + BLOCK]
    elif data.ndim == 1 or math.prod(data.shape[1:]) <= BLOCK:
        step = max(1, BLOCK // max(1, math.prod(data.shape[1:])))
        for begin in range(0, data.shape[0], step):
            yield np.ascontiguousarray(data[begin : begin + step]).reshape(-1)
    else:
        for entry in data:
            yield from _cut(entry)
