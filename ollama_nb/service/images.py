"""Images of a request: from base64 as it travels to the bytes of the files, by Go's rules.

Whether it is base64 at all is checked before a model is loaded for it. Files are made once it is the request's turn, so
that those who wait hold their images once only. That it is an image, and one that can be read, shows in the model's
process, which a hostile file may end without harm to the server.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

from ollama_nb.runner.messages import MAX_FRAME
from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MAX_TOTAL", "check_images", "decode_images"]

MAX_TOTAL: Final = MAX_FRAME * 3 // 4
"""Bytes of all images of a request: they travel in one frame, and leave room for the prompt."""

_PART: Final = 1 << 20
"""Characters that are decoded at a time, whole groups of four."""
_NEWLINES: Final = re.compile(rb"[\r\n]*")
_FOREIGN: Final = re.compile(rb"[^A-Za-z0-9+/\r\n]")


def check_images(images: Sequence[str]) -> None:
    """Refuse the strings of an ``images`` field that stand for no files; blocks for large ones, and keeps nothing.

    The alphabet is the standard one with padding, line ends are skipped. Raises ``BadRequestError`` in Go's words for
    anything else, as for a data URL, and for an image of no bytes.
    """
    sizes = [sum(map(len, _decoded(image))) for image in images]
    if not all(sizes):
        raise BadRequestError("received zero length image")
    if (total := sum(sizes)) > MAX_TOTAL:
        raise BadRequestError(f"the images have {total} bytes together", hint=f"send {MAX_TOTAL} bytes at most")


def decode_images(images: Sequence[str]) -> tuple[bytes, ...]:
    """The files of images that have been checked; blocks for large ones."""
    return tuple(b"".join(_decoded(image)) for image in images)


def _decoded(text: str) -> Iterator[bytes]:
    """The bytes of an image, part by part: within one no other thread runs, the loop's neither."""
    plain = text.replace("\n", "").replace("\r", "")
    for start in range(0, len(plain), _PART):
        part = plain[start : start + _PART]
        try:
            data = binascii.a2b_base64(part, strict_mode=True)
        except ValueError:
            raise _illegal(text) from None
        if part.endswith("=") and start + _PART < len(plain):
            raise _illegal(text)
        yield data


def _illegal(text: str) -> BadRequestError:
    hint = "send the base64 without the data: prefix" if text.startswith("data:") else ""
    return BadRequestError(f"illegal base64 data at input byte {_fault(text.encode('utf-8', 'replace'))}", hint=hint)


def _fault(data: bytes) -> int:
    """Where Go's ``base64.StdEncoding`` finds fault with data that it refuses.

    A group of four characters may end in one or two signs of padding, and nothing may follow on it.
    """
    foreign = _FOREIGN.search(data)
    end = foreign.start() if foreign else len(data)
    inside = (end - data.count(b"\n", 0, end) - data.count(b"\r", 0, end)) % 4
    if foreign is None:
        return len(data) - inside
    if data[end] != ord("=") or inside < 2:  # noqa: PLR2004 - a byte takes two characters at least
        return end
    after = end + 1
    if inside == 2:  # noqa: PLR2004 - two characters want two signs
        after = _behind_newlines(data, after)
        if after == len(data):
            return after
        if data[after] != ord("="):
            return after - 1
        after += 1
    return _behind_newlines(data, after)


def _behind_newlines(data: bytes, start: int) -> int:
    match = _NEWLINES.match(data, start)
    return match.end() if match else start
