"""Strings, numbers and truth values under one verb of Go's ``fmt``: text at the width that the flags ask for.

Each function gives None for a verb that does not fit its kind; what stands there then is left to ``verbs``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ollama_nb.prompt.gotemplate.values import Byte
from ollama_nb.wire.gofloats import format_float
from ollama_nb.wire.gostrings import can_backquote, go_bytes, is_printable, quote, quote_rune

__all__ = ["Flags", "bool_text", "bytes_text", "complex_text", "integer_text", "pad", "real_text", "string_text"]

_BASES: Final = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "x"}
_PREFIXES: Final = {"b": "0b", "o": "0", "x": "0x"}
_REAL_VERBS: Final = "vbgGxXfFeE"
_DEFAULT_PRECISION: Final = 6
_UNICODE_DIGITS: Final = 4
_MAX_RUNE: Final = 0x10FFFF
_FIRST_SURROGATE, _LAST_SURROGATE = 0xD800, 0xDFFF


@dataclass
class Flags:
    """What stands between the percent sign and the verb; with %v, plus and sharp become ``plus_v`` and ``sharp_v``."""

    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int | None = None
    precision: int | None = None
    plus_v: bool = False
    sharp_v: bool = False


def pad(flags: Flags, text: str, *, zeros: bool = True) -> str:
    """The text at its width."""
    width = flags.width or 0
    if len(text) >= width:
        return text
    if flags.minus:
        return text.ljust(width)
    return text.rjust(width, "0" if flags.zero and zeros else " ")


def bool_text(flags: Flags, value: bool, verb: str) -> str | None:
    """A truth value by %t or %v."""
    return pad(flags, "true" if value else "false") if verb in "tv" else None


# -- strings ------------------------------------------------------------------------------------------------------


def string_text(flags: Flags, text: str, verb: str) -> str | None:
    """A string by %s, %v, %q, %x or %X; a precision counts characters, for %x bytes."""
    if verb in "xX":
        return bytes_text(flags, go_bytes(text), verb)
    if flags.precision is not None:
        text = text[: flags.precision]
    if verb == "q" or (verb == "v" and flags.sharp_v):
        quoted = f"`{text}`" if flags.sharp and can_backquote(text) else quote(text, ascii_only=flags.plus)
        return pad(flags, quoted)
    return pad(flags, text) if verb in "vs" else None


def bytes_text(flags: Flags, data: bytes, verb: str) -> str:
    """Bytes by %x or %X."""
    if flags.precision is not None:
        data = data[: flags.precision]
    prefix = "0x" if flags.sharp and data else ""
    text = f" {prefix}".join(f"{byte:02x}" for byte in data) if flags.space else data.hex()
    text = prefix + text
    return pad(flags, text.upper() if verb == "X" else text)


# -- whole numbers ------------------------------------------------------------------------------------------------


def integer_text(flags: Flags, value: int, verb: str) -> str | None:
    """An int or a uint8 by %d, %b, %o, %O, %x, %X, %c, %q, %U or %v."""
    if verb == "v" and flags.sharp_v and isinstance(value, Byte):
        return f"0x{value:x}"
    if verb in _BASES:
        return _in_base(flags, int(value), verb)
    if verb == "c":
        valid = 0 <= value <= _MAX_RUNE and not _FIRST_SURROGATE <= value <= _LAST_SURROGATE
        return pad(flags, chr(value) if valid else "\ufffd")
    if verb == "q":
        return pad(flags, quote_rune(value, ascii_only=flags.plus))
    return _unicode(flags, value) if verb == "U" else None


def _in_base(flags: Flags, value: int, verb: str) -> str:
    base = _BASES[verb]
    sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
    digits = format(abs(value), base)
    if flags.precision is not None:
        if flags.precision == 0 and value == 0:
            return pad(flags, "", zeros=False)
        digits = digits.rjust(flags.precision, "0")
    elif flags.zero and not flags.minus and flags.width is not None:
        digits = digits.rjust(flags.width - len(sign), "0")
    if flags.sharp and base in _PREFIXES and not (base == "o" and digits.startswith("0")):
        digits = _PREFIXES[base] + digits
    if verb == "O":
        digits = "0o" + digits
    return pad(flags, sign + (digits.upper() if verb == "X" else digits), zeros=False)


def _unicode(flags: Flags, value: int) -> str:
    code = value if value >= 0 else value + (1 << 64)
    digits = f"{code:X}".rjust(max(flags.precision or 0, _UNICODE_DIGITS), "0")
    shown = ""
    if flags.sharp and code <= _MAX_RUNE and is_printable(chr(code)):
        shown = f" '{chr(code)}'"
    return pad(flags, f"U+{digits}{shown}", zeros=False)


# -- floats -------------------------------------------------------------------------------------------------------


def real_text(flags: Flags, value: float, verb: str) -> str | None:
    """A float64 by %v, %e, %f, %g, %x and their capitals, or %b."""
    if verb not in _REAL_VERBS:
        return None
    letter = "g" if verb == "v" else verb
    precision = _DEFAULT_PRECISION if verb in "fFeE" else -1
    if flags.precision is not None:
        precision = flags.precision
    text = format_float(value, letter, precision)
    if text[0] not in "+-":
        text = "+" + text
    if flags.space and text[0] == "+" and not flags.plus:
        text = " " + text[1:]
    if text[1:] in ("Inf", "NaN"):
        # An infinity shows its sign by %v too, a NaN only where one is asked for.
        hides = text == "+NaN" and not flags.plus
        return pad(flags, text[1:] if hides else text, zeros=False)
    if flags.sharp and verb != "b":
        text = _with_point(text, letter, precision)
    if text[0] == "+" and not flags.plus:
        return pad(flags, text[1:])
    if flags.zero and flags.width is not None and flags.width > len(text):
        return text[0] + text[1:].rjust(flags.width - 1, "0")
    return pad(flags, text)


def _with_point(text: str, letter: str, precision: int) -> str:
    """What the sharp flag adds: a point to every number, and to %g the zeros that it would leave out."""
    wanted = 0
    if letter in "gGx":
        wanted = precision if precision >= 0 else _DEFAULT_PRECISION
    marks = "pP" if letter in "xX" else "eEpP"
    end = next((place for place, char in enumerate(text) if char in marks), len(text))
    body, tail = text[:end], text[end:]
    digits = body[1:].replace(".", "")
    wanted -= len(digits.lstrip("0"))
    if "." not in body:
        # A lone zero counts as a digit.
        wanted -= digits == "0"
        body += "."
    return body + "0" * max(wanted, 0) + tail


def complex_text(flags: Flags, value: complex, verb: str) -> str | None:
    """A complex128: both parts in brackets, each at the width, the second with its sign."""
    real = real_text(flags, value.real, verb)
    imaginary = real_text(replace(flags, plus=True), value.imag, verb)
    return None if real is None or imaginary is None else f"({real}{imaginary}i)"
