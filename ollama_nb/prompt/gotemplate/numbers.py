"""Constants: what the text of a number in a template means, by the rules of Go's untyped constants."""

from __future__ import annotations

import math
import re
from typing import Final

from ollama_nb.prompt.gotemplate.tree import Number
from ollama_nb.wire.gostrings import unquote_char

__all__ = ["MAX_INT", "MIN_INT", "constant_value", "parse_number"]

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
_MAX_UNSIGNED: Final = 2**64 - 1
_DECIMAL_INT: Final = re.compile(r"0|[1-9](?:_?[0-9])*")
_OCTAL_INT: Final = re.compile(r"0(?:_?[0-7])+")
_PREFIXED_INT: Final = re.compile(
    r"0(?:[xX](?:_?[0-9a-fA-F])+|[oO](?:_?[0-7])+|[bB](?:_?[01])+)",
)
_DECIMALS: Final = r"[0-9](?:_?[0-9])*"
_HEXADECIMALS: Final = r"_?[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_DECIMAL_FLOAT: Final = re.compile(
    rf"[+-]?(?:{_DECIMALS}\.?(?:{_DECIMALS})?|\.{_DECIMALS})(?:[eE][+-]?{_DECIMALS})?",
)
_HEX_FLOAT: Final = re.compile(
    rf"[+-]?0[xX](?:{_HEXADECIMALS}\.?(?:{_HEXADECIMALS})?|\.{_HEXADECIMALS})[pP][+-]?{_DECIMALS}",
)
_COMPLEX: Final = re.compile(r"(.*[^eEpP+-])([+-].+)i")
_MAX_DIGITS: Final = 1000


def parse_number(text: str, position: int) -> Number | str:
    """The constant written so, or what is wrong with it."""
    if len(text) > _MAX_DIGITS:
        return "number too long"
    if text.startswith("'"):
        code = unquote_char(text)
        return (
            f"malformed character constant: {text}"
            if code is None
            else Number(text, code, float(code), position=position)
        )
    if text.endswith("i"):
        return _parse_imaginary(text, position)
    return _parse_plain(text, position)


def _parse_plain(text: str, position: int) -> Number | str:
    integer = _parse_int(text)
    if integer is not None and MIN_INT <= integer <= MAX_INT:
        return Number(text, integer, float(integer), position=position)
    if integer is not None and 0 <= integer <= _MAX_UNSIGNED and text[0] not in "+-":
        # Go knows it as unsigned only, and refuses it where it is used.
        return Number(text, None, float(integer), position=position)
    real = _parse_float(text)
    if real is None:
        return f"illegal number syntax: {text}" if integer is None else f"integer overflow: {text}"
    if not any(char in ".eEpP" for char in text):
        return f"integer overflow: {text}"
    return Number(text, _as_int(real), real, position=position)


def constant_value(number: Number) -> int | float | complex | None:
    """The value where nothing says which type is wanted; None for what overflows an int."""
    if number.imaginary is not None:
        return number.imaginary
    text = number.text
    is_hex_int = text[:2] in ("0x", "0X") and not any(char in "pP" for char in text)
    if not is_hex_int and text[0] != "'" and any(char in ".eEpP" for char in text):
        return number.real
    return number.integer


def _as_int(real: float) -> int | None:
    if MIN_INT <= real <= MAX_INT and real == math.floor(real):
        integer = int(real)
        return integer if MIN_INT <= integer <= MAX_INT else None
    return None


def _parse_imaginary(text: str, position: int) -> Number | str:
    pair = _COMPLEX.fullmatch(text)
    real_text, imaginary_text = (pair[1], pair[2]) if pair else ("0", text[:-1])
    real, imaginary = _parse_float(real_text), _parse_float(imaginary_text)
    if real is None or imaginary is None:
        return f"illegal number syntax: {text}"
    plain = real if imaginary == 0 else None
    return Number(text, None if plain is None else _as_int(plain), plain, complex(real, imaginary), position=position)


def _parse_int(text: str) -> int | None:
    sign, digits = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if _DECIMAL_INT.fullmatch(digits):
        value = int(digits)
    elif _PREFIXED_INT.fullmatch(digits):
        value = int(digits, 0)
    elif _OCTAL_INT.fullmatch(digits):
        value = int(digits, 8)
    else:
        return None
    return -value if sign == "-" else value


def _parse_float(text: str) -> float | None:
    plain = text.replace("_", "")
    try:
        if _HEX_FLOAT.fullmatch(text):
            value = float.fromhex(plain)
        elif _DECIMAL_FLOAT.fullmatch(text):
            value = float(plain)
        else:
            return None
    except OverflowError:
        return None
    return None if math.isinf(value) else value
