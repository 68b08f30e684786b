"""Images of a request: from base64 as it travels to the bytes of the files, by Go's rules.

Only whether it is base64 at all is seen here. That it is an image, and one that can be read, shows in the model's
process, which a hostile file may end without harm to the server.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

from ollama_nb.runner.messages import MAX_FRAME
from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_TOTAL", "decode_images"]

MAX_TOTAL: Final = MAX_FRAME * 3 // 4
"""Bytes of all images of a request: they travel in one frame, and leave room for the prompt."""

_NEWLINES: Final = re.compile(rb"[\r\n]*")
_FOREIGN: Final = re.compile(rb"[^A-Za-z0-9+/\r\n]")


def decode_images(images: Sequence[str]) -> tuple[bytes, ...]:
    """The files that the strings of an ``images`` field stand for; blocks for large ones.

    The alphabet is the standard one with padding, line ends are skipped. Raises ``BadRequestError`` in Go's words for
    anything else, as for a data URL, and for an image of no bytes.
    """
    decoded = tuple(_decode(image) for image in images)
    if not all(decoded):
        raise BadRequestError("received zero length image")
    if (total := sum(map(len, decoded))) > MAX_TOTAL:
        raise BadRequestError(f"the images have {total} bytes together", hint=f"send {MAX_TOTAL} bytes at most")
    return decoded


def _decode(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    fault = _fault(data)
    if fault is not None:
        hint = "send the base64 without the data: prefix" if text.startswith("data:") else ""
        raise BadRequestError(f"illegal base64 data at input byte {fault}", hint=hint)
    return binascii.a2b_base64(data)


def _fault(data: bytes) -> int | None:
    """Where Go's ``base64.StdEncoding`` finds fault with data, if it does.

    A group of four characters may end in one or two signs of padding, and nothing may follow on it.
    """
    foreign = _FOREIGN.search(data)
    end = foreign.start() if foreign else len(data)
    inside = (end - data.count(b"\n", 0, end) - data.count(b"\r", 0, end)) % 4
    if foreign is None:
        return len(data) - inside if inside else None
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
    after = _behind_newlines(data, after)
    return after if after < len(data) else None


def _behind_newlines(data: bytes, start: int) -> int:
    match = _NEWLINES.match(data, start)
    return match.end() if match else start
