"""Vectors of texts: shortened, brought to unit length, and written as JSON as fast as numpy can.

Where they come from is ``embed``'s business, what they mean the model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Vector = npt.NDArray[np.float32]

__all__ = ["read_vector", "unit", "vector_json", "wide_vector_json"]

_FEWEST_DIGITS: Final = 6
"""Of two decimals with so few digits none are the same float32, so a shorter one is found here too."""
_MOST_DIGITS: Final = 9
"""So many decimal digits name any float32."""
_SMALLEST: Final = 1e-13
_LARGEST: Final = 1e9
"""Between them the powers of ten that the rounding below multiplies by are exact in 64 bits."""
_AT_ONCE: Final = 64
"""So many vectors are written together: enough for numpy to be quick, and little memory."""


def read_vector(data: bytes) -> Vector:
    """Little-endian float32 as they come from a model's process; raises ``OllamaError`` for a NaN or an infinity."""
    vector: Vector = np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)
    if not np.isfinite(vector).all():
        raise OllamaError("embedding contains NaN or Inf values")
    return vector


def unit(vector: Vector, dimensions: int = 0) -> Vector:
    """The first ``dimensions`` components (0: all of them) at unit length; of zeros only, zeros."""
    kept = vector[:dimensions] if dimensions else vector
    # In 64 bits, where no square of a float32 is lost.
    norm = float(np.linalg.norm(kept.astype(np.float64)))
    return kept if norm == 0 else (kept / norm).astype(np.float32)


def vector_json(vectors: Sequence[Vector]) -> list[msgspec.Raw]:
    """Each vector as a JSON list whose numbers are as short as a float32 can be named."""
    written: list[msgspec.Raw] = []
    for start in range(0, len(vectors), _AT_ONCE):
        some = vectors[start : start + _AT_ONCE]
        ends = np.cumsum([len(vector) for vector in some])[:-1]
        written += [_written(numbers) for numbers in np.split(_shortest(np.concatenate(some)), ends)]
    return written


def wide_vector_json(vector: Vector) -> msgspec.Raw:
    """The vector as a JSON list of 64-bit numbers, as the older route widens them."""
    return _written(vector.astype(np.float64))


def _written(numbers: npt.NDArray[np.float64]) -> msgspec.Raw:
    text = msgspec.json.encode(numbers.tolist())
    return msgspec.Raw(text.replace(b".0,", b",").replace(b".0]", b"]"))


def _shortest(vector: Vector) -> npt.NDArray[np.float64]:
    """The 64-bit numbers with the fewest digits that are these float32 once rounded to 32 bits.

    A quotient of a whole number and a power of ten, both exact, is the very number that its decimal digits name, so
    its shortest text in 64 bits is those digits.
    """
    wide = vector.astype(np.float64)
    size = np.abs(wide)
    plain = (size > _SMALLEST) & (size < _LARGEST)
    # The neighbours of a power of two are not equally far away: the nearest decimal may miss it where another would do.
    plain &= np.frexp(size)[0] != 0.5  # noqa: PLR2004 - the mantissa of a power of two
    left = np.flatnonzero(plain)
    magnitude = np.floor(np.log10(size[left])).astype(np.int64)
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS + 1):
        short = _rounded(wide[left], digits - 1 - magnitude)
        fits = short.astype(np.float32) == vector[left]
        wide[left[fits]] = short[fits]
        left, magnitude = left[~fits], magnitude[~fits]
    for index in np.flatnonzero(~plain):
        wide[index] = float(str(vector[index]))
    return wide


def _rounded(values: npt.NDArray[np.float64], decimals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Every value rounded to its own number of decimals."""
    up, down = 10.0 ** np.maximum(decimals, 0), 10.0 ** np.maximum(-decimals, 0)
    result: npt.NDArray[np.float64] = np.rint(values * up / down) * down / up
    return result
