"""Times as they travel: Go's duration texts, ``keep_alive`` and RFC 3339 stamps, all on integer nanoseconds.

Ollama's clients send durations in the notation of Go's ``time`` package and compare error texts, so the parser
follows Go's rules, its limits of 64 bits and its wording. When a model expires, and which default applies when
a request says nothing, is left to the scheduler and the settings.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from ollama_nb.wire.errors import BadRequestError

__all__ = [
    "FOREVER",
    "MICROSECOND",
    "MILLISECOND",
    "MINUTE",
    "SECOND",
    "format_duration",
    "format_rfc3339",
    "parse_duration",
    "parse_keep_alive",
]

MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

FOREVER: Final = (1 << 63) - 1
"""The longest duration of 64 bits, in ns: about 292 years, Ollama's "keep it loaded"."""

_LIMIT: Final = 1 << 63
_DIGITS: Final = frozenset("0123456789")
_NUMERIC: Final = _DIGITS | {"."}
_FIRST_PRINTABLE: Final = 0x20
_FIRST_BEYOND_ASCII: Final = 0x80
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_UNITS: Final[dict[str, int]] = {
    "ns": 1,
    "us": MICROSECOND,
    "\u00b5s": MICROSECOND,  # the micro sign
    "\u03bcs": MICROSECOND,  # the Greek letter mu
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}

_GO_TYPES: Final[dict[type, str]] = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}


def parse_duration(text: str) -> int:
    """The nanoseconds that a Go duration such as ``1h30m``, ``-1.5s`` or ``0`` names.

    Grammar, rounding and error texts are those of Go's ``time.ParseDuration``. Raises BadRequestError for a text
    that is no duration, lacks a unit, has an unknown one, or does not fit 64 bits.
    """
    negative = text[:1] == "-"
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return 0
    if not rest:
        raise _invalid(text)
    total = 0
    position = 0
    while position < len(rest):
        amount, position = _parse_term(rest, position, text)
        total += amount
        if total > _LIMIT:
            raise _invalid(text)
    if negative:
        return -total
    if total > FOREVER:
        raise _invalid(text)
    return total


def _parse_term(rest: str, start: int, text: str) -> tuple[int, int]:
    """One number with its unit: its nanoseconds, and where the next term begins."""
    dot = _run_end(rest, start, _DIGITS)
    whole = rest[start:dot]
    fraction = ""
    end = dot
    if rest[dot : dot + 1] == ".":
        end = _run_end(rest, dot + 1, _DIGITS)
        fraction = rest[dot + 1 : end]
    if not whole and not fraction:
        raise _invalid(text)
    after = end
    while after < len(rest) and rest[after] not in _NUMERIC:
        after += 1
    if after == end:
        raise BadRequestError(f"time: missing unit in duration {_quote(text)}")
    unit = _UNITS.get(rest[end:after])
    if unit is None:
        raise BadRequestError(f"time: unknown unit {_quote(rest[end:after])} in duration {_quote(text)}")
    # Twenty digits are past 64 bits already; converting more would only cost time.
    amount = int(whole.lstrip("0")[:20] or "0") * unit
    if amount > _LIMIT:
        raise _invalid(text)
    if fraction:
        amount += _fraction_of(unit, fraction)
    return amount, after


def _run_end(text: str, start: int, characters: frozenset[str]) -> int:
    """Where the run of these characters that begins at ``start`` ends."""
    end = start
    while end < len(text) and text[end] in characters:
        end += 1
    return end


def _fraction_of(unit: int, digits: str) -> int:
    """The nanoseconds of ``0.digits`` units; in floating point and to 63 bits of digits, as Go computes them."""
    value, scale = 0, 1.0
    for digit in digits:
        longer = value * 10 + int(digit)
        if longer > _LIMIT:
            break
        value, scale = longer, scale * 10
    return int(float(value) * (unit / scale))


def _invalid(text: str) -> BadRequestError:
    """Go's error for a text that is no duration."""
    return BadRequestError(f"time: invalid duration {_quote(text)}")


def _quote(text: str) -> str:
    """The text in double quotes as Go's time package writes it: bytes outside printable ASCII in hexadecimal."""
    parts = []
    for character in text:
        code = ord(character)
        if code < _FIRST_PRINTABLE or code >= _FIRST_BEYOND_ASCII:
            parts += [f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass")]
        elif character in '"\\':
            parts.append(f"\\{character}")
        else:
            parts.append(character)
    return f'"{"".join(parts)}"'


def format_duration(nanoseconds: int) -> str:
    """A duration as Go's ``Duration.String`` prints it: ``1h0m0s``, ``1.5s``, ``150ms``, ``0s``."""
    sign = "-" if nanoseconds < 0 else ""
    size = abs(nanoseconds)
    if size < SECOND:
        for unit, name in ((MILLISECOND, "ms"), (MICROSECOND, "\u00b5s"), (1, "ns")):
            if size >= unit:
                return f"{sign}{_decimal(size, unit)}{name}"
        return "0s"
    minutes, rest = divmod(size, MINUTE)
    seconds = f"{_decimal(rest, SECOND)}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    if minutes:
        return f"{sign}{minutes}m{seconds}"
    return f"{sign}{seconds}"


def _decimal(amount: int, unit: int) -> str:
    """``amount / unit`` exactly, without trailing zeros; ``unit`` is a power of ten."""
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")


def parse_keep_alive(value: object) -> int | None:
    """The nanoseconds that a JSON ``keep_alive`` asks for; None when the request leaves it to the server.

    A number means seconds, fractions kept; a string is a Go duration; anything negative, or past 64 bits as a
    number, is FOREVER. Raises BadRequestError for another JSON type or a text that is no duration.
    """
    if value is None:
        return None
    if isinstance(value, str):
        duration = parse_duration(value)
        return FOREVER if duration < 0 else duration
    if isinstance(value, bool) or not isinstance(value, int | float):
        name = _GO_TYPES.get(type(value), type(value).__name__)
        raise BadRequestError(f"Unsupported type: '{name}'")
    if math.isnan(value):
        raise BadRequestError('time: invalid duration "NaN"')
    if value < 0 or value * SECOND >= FOREVER:
        return FOREVER
    return int(value * SECOND)


def format_rfc3339(nanoseconds: int, *, local: bool = False) -> str:
    """A moment, in ns since 1970 UTC, as RFC 3339 with the fraction's trailing zeros dropped.

    UTC ends in ``Z``; with ``local`` the machine's zone is written as an offset (``Z`` when it is UTC). Raises
    OverflowError outside the years 1 to 9999.
    """
    seconds, fraction = divmod(nanoseconds, SECOND)
    if local:
        date, zone = _local_seconds(seconds)
    else:
        date, zone = _utc_seconds(seconds), "Z"
    if not fraction:
        return date + zone
    return f"{date}.{fraction:09d}".rstrip("0") + zone


@lru_cache(maxsize=64)
def _utc_seconds(seconds: int) -> str:
    """Date and time of day in UTC. Tokens of one second share it, so streams format it once."""
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def _local_seconds(seconds: int) -> tuple[str, str]:
    """Date and time of day in the machine's zone, and its offset; not cached, because zones change."""
    moment = (_EPOCH + timedelta(seconds=seconds)).astimezone()
    offset = moment.utcoffset() or timedelta()
    date = moment.replace(tzinfo=None).isoformat()
    if not offset:
        return date, "Z"
    hours, minutes = divmod(int(abs(offset) / timedelta(minutes=1)), 60)
    sign = "-" if offset < timedelta() else "+"
    return date, f"{sign}{hours:02d}:{minutes:02d}"
