"""The one error of a conversion, and how what a hostile file says is shown in it."""

from __future__ import annotations

import reprlib

from ollama_nb.wire.errors import BadRequestError

__all__ = ["ConvertError", "shown"]


class ConvertError(BadRequestError):
    """Why files cannot be converted; the files are to blame, so it is a 400."""


def shown(value: object, limit: int = 60) -> str:
    """A value from a file for an error's text: short, on one line, and without control characters."""
    text = reprlib.repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
