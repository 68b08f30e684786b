"""Floats as Go writes them: ``strconv`` with every format letter, and ``encoding/json``."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

__all__ = ["format_float", "json_number"]

SHORTEST: Final = -1
_EXPONENT_FROM: Final = -4
_SHORTEST_PRECISION: Final = 6
_MANTISSA_BITS: Final = 52
_JSON_EXPONENT_FROM: Final = 21
_JSON_EXPONENT_BELOW: Final = -6


def _shortest_digits(value: float) -> tuple[str, int]:
    """The fewest digits that name a finite float, and where the point stands: 12.5 is ("125", 2)."""
    sign_digits_exponent = Decimal(repr(abs(value))).as_tuple()
    digits = "".join(map(str, sign_digits_exponent.digits)).lstrip("0")
    exponent = int(sign_digits_exponent.exponent)
    point = len(digits) + exponent
    stripped = digits.rstrip("0")
    return (stripped, point) if stripped else ("0", 1)


def format_float(value: float, letter: str, precision: int = SHORTEST) -> str:
    """The float by one of the letters of ``%e %E %f %F %g %G %x %X %b``; precision -1 is as short as possible."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if letter in "bxX":
        return _binary(value, letter, precision)
    text = _general(value, precision) if letter in "gG" else _fixed_or_exponent(value, letter.lower(), precision)
    return text.upper() if letter in "EG" else text


def json_number(value: float) -> str:
    """A finite float as JSON has it: as short as possible, an exponent only below 1e-6 and from 1e21 on."""
    digits, point = _shortest_digits(value)
    exponent = point - 1
    if value == 0 or _JSON_EXPONENT_BELOW <= exponent < _JSON_EXPONENT_FROM:
        return _sign(value) + _plain_digits(digits, point)
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{_sign(value)}{digits[0]}{fraction}e{exponent:+d}"


def _sign(value: float) -> str:
    return "-" if math.copysign(1, value) < 0 else ""


def _with_exponent(digits: str, point: int) -> str:
    """Digits and the place of their point as 1.25e-07."""
    exponent = 0 if digits == "0" else point - 1
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{exponent:+03d}"


def _plain_digits(digits: str, point: int) -> str:
    """Digits and the place of their point written out: 0.00125, 12.5, 12500."""
    if point <= 0:
        return f"0.{'0' * -point}{digits}"
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"


def _fixed_or_exponent(value: float, letter: str, precision: int) -> str:
    if precision >= 0:
        return f"{value:.{precision}{letter}}"
    write = _with_exponent if letter == "e" else _plain_digits
    return _sign(value) + write(*_shortest_digits(value))


def _general(value: float, precision: int) -> str:
    if precision < 0:
        digits, point = _shortest_digits(value)
        limit = _SHORTEST_PRECISION
    else:
        precision = max(precision, 1)
        mantissa, _, exponent = f"{abs(value):.{precision - 1}e}".partition("e")
        digits = mantissa.replace(".", "").rstrip("0") or "0"
        point = int(exponent) + 1
        limit = len(digits) if precision > len(digits) >= point else precision
    write = _plain_digits if _EXPONENT_FROM <= point - 1 < limit else _with_exponent
    return _sign(value) + write(digits, point)


def _binary(value: float, letter: str, precision: int) -> str:
    sign = _sign(value)
    if letter == "b":
        fraction, exponent = math.frexp(abs(value))
        power = max(exponent - _MANTISSA_BITS - 1, -1074)
        return f"{sign}{int(math.ldexp(fraction, exponent - power))}p{power:+d}"
    fraction, exponent = math.frexp(abs(value))
    mantissa = int(math.ldexp(fraction, _MANTISSA_BITS + 1))
    exponent = exponent - 1 if mantissa else 0
    digits = _MANTISSA_BITS // 4
    if 0 <= precision < digits:
        shift = 4 * (digits - precision)
        rest, mantissa = mantissa & ((1 << shift) - 1), mantissa >> shift
        half = 1 << (shift - 1)
        mantissa += rest > half or (rest == half and mantissa & 1)
        mantissa <<= shift
        if mantissa >> (_MANTISSA_BITS + 1):
            mantissa >>= 1
            exponent += 1
    whole = mantissa >> _MANTISSA_BITS
    fraction_digits = f"{mantissa & ((1 << _MANTISSA_BITS) - 1):0{digits}x}"
    fraction_digits = (
        fraction_digits.rstrip("0") if precision < 0 else fraction_digits[:precision].ljust(precision, "0")
    )
    text = (
        f"0x{whole}{'.' if fraction_digits else ''}{fraction_digits}p{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    )
    return sign + (text.upper() if letter == "X" else text)
