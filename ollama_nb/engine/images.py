"""Images among the tokens of a prompt: what stands for them in a list of tokens, and how they stay whole.

An image takes cells of the cache as tokens do, so a list of tokens has a placeholder for each of its cells: a
negative number that is made of the image's digest and the cell's place in it. Two prompts begin alike, then, only if
the images in them are the same, and a place in the list is a place in the cache. Positions are something else: with
M-RoPE an image has fewer than cells. Nothing here computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ollama_nb.engine.media import ImageChunk

__all__ = ["NO_IMAGES", "Images"]

_PLACE_BITS: Final = 24
_PLACES: Final = (1 << _PLACE_BITS) - 1
_DIGEST_BYTES: Final = 12


class Images:
    """The images of one prompt, and lists of tokens in which placeholders stand for them."""

    def __init__(self, images: Iterable[ImageChunk] = ()) -> None:
        self._images = {_number(image): image for image in images}
        self._saved = {number: image.cells - image.positions for number, image in self._images.items()}
        self._moves_text = any(self._saved.values())

    def __bool__(self) -> bool:
        return bool(self._images)

    @property
    def largest(self) -> int:
        """The most cells that one of them takes."""
        return max((image.cells for image in self._images.values()), default=0)

    @staticmethod
    def placeholders(image: ImageChunk) -> list[int]:
        """What stands for an image in a list of tokens."""
        first = -1 - (_number(image) << _PLACE_BITS)
        return list(range(first, first - image.cells, -1))

    def at(self, token: int) -> ImageChunk | None:
        """The image that a token stands for; None for one of text."""
        return self._images[(-1 - token) >> _PLACE_BITS] if token < 0 else None

    def until_next(self, tokens: list[int]) -> int:
        """How many tokens of text lead a list."""
        if not self._images:
            return len(tokens)
        return next((index for index, token in enumerate(tokens) if token < 0), len(tokens))

    def position(self, tokens: list[int]) -> int:
        """The position behind tokens, in whole images."""
        if not self._moves_text:
            return len(tokens)
        starts = ((-1 - token) >> _PLACE_BITS for token in tokens if token < 0 and not _place(token))
        return len(tokens) - sum(self._saved[number] for number in starts)

    def floor(self, tokens: list[int], index: int) -> int:
        """``index``, or the beginning of the image that it stands in the middle of."""
        inside = index < len(tokens) and tokens[index] < 0
        return index - _place(tokens[index]) if inside else index

    def ceiling(self, tokens: list[int], index: int) -> int:
        """``index``, or the end of the image that it stands in the middle of."""
        if index >= len(tokens) or tokens[index] >= 0 or not (place := _place(tokens[index])):
            return index
        image = self._images[(-1 - tokens[index]) >> _PLACE_BITS]
        return index - place + image.cells

    def mended(self, tokens: list[int], index: int) -> list[int]:
        """Tokens without the rest of an image that a cut before ``index`` has left there."""
        return tokens[:index] + tokens[self.ceiling(tokens, index) :] if self._images else tokens

    def text(self, tokens: list[int]) -> list[int]:
        """The tokens that are text."""
        return [token for token in tokens if token >= 0] if self._images else tokens


NO_IMAGES: Final = Images()
"""For prompts of text alone."""


def _number(image: ImageChunk) -> int:
    return int.from_bytes(image.digest[:_DIGEST_BYTES])


def _place(token: int) -> int:
    return (-1 - token) & _PLACES
