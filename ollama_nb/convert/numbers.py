"""Numbers from one form to another: float32, float16, and bfloat16, which numpy does not have and which comes as bits.

Everything is exact where the wanted form can hold the number, and the nearest number, ties to even, where it cannot.
Zeros keep their sign, subnormal numbers stay what they are, NaN stays NaN and infinity infinity. A number that only
infinity would be near to is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["stored_as", "widen"]

_LARGEST: Final = {"F16": "65504", "BF16": "3.39e38"}
_INFINITY: Final = np.uint16(0x7F80)
"""The bits of infinity in bfloat16; those of NaN are larger, the sign apart."""

_WITHOUT_SIGN: Final = np.uint16(0x7FFF)
_QUIET: Final = np.uint32(0x40)
"""Makes a NaN of what could be infinity once its lower half is gone."""


def widen(data: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Stored numbers as float32, exactly; BF16 comes as bits, the upper half of a float32."""
    if dtype != "BF16":
        return data.astype(np.float32, copy=False)
    wide = data.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def stored_as(data: NDArray[Any], dtype: str, wanted: str) -> NDArray[Any]:
    """Numbers stored as ``dtype``, stored as ``wanted``; raises ``OverflowError`` for those that are too large."""
    if dtype == wanted:
        return data
    numbers = widen(data, dtype)
    if wanted == "F32":
        return numbers
    if wanted == "BF16":
        stored = _bfloat16(numbers)
        infinite = (stored & _WITHOUT_SIGN) == _INFINITY
    else:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            stored = numbers.astype(np.float16)
        infinite = np.isinf(stored)
    if infinite.any() and np.isfinite(numbers[infinite]).any():
        raise OverflowError(f"some numbers are beyond {_LARGEST[wanted]}, the largest in {wanted}")
    return stored


def _bfloat16(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest bfloat16 of each number, ties to even, as bits; NaN stays NaN."""
    bits = np.ascontiguousarray(numbers).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    # Rounding could carry a NaN over into infinity.
    nan = np.isnan(numbers)
    if nan.any():
        rounded[nan] = (bits[nan] >> 16) | _QUIET
    return rounded.astype(np.uint16)
