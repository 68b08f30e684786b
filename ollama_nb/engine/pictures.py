"""From an image file to its pixels: PNG, JPEG, GIF (its first frame), BMP and WebP, with limits.

Files come from anywhere, so the size is read and bounded before anything is decoded, and whatever a decoder trips
over becomes one kind of error. What the pixels mean is left to ``media``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Picture", "read_picture"]

MAX_BYTES: Final = 100_000_000
"""The largest file: what Ollama's command line takes."""
MAX_PIXELS: Final = 1 << 26
"""64 megapixels: more than any camera's ordinary picture, and 192 MiB once decoded."""
MAX_RATIO: Final = 200
"""How many times longer than wide: vision models that keep the shape of an image ask for no more."""

_FORMATS: Final = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
_MAX_SCANS: Final = 200
"""A progressive JPEG has about ten; thousands of tiny ones would take hours."""
_JPEG: Final = b"\xff\xd8"
_START_OF_SCAN: Final = b"\xff\xda"
_ORIENTATION: Final = 0x0112
"""Exif's tag for how the camera was held, and by what such an image is put upright."""
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own limit warns before it refuses; ours comes before either.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Picture:
    """Pixels of three bytes (red, green, blue), row by row."""

    width: int
    height: int
    rgb: bytes


def read_picture(data: bytes) -> Picture:
    """The pixels of an image file, upright, on white where it is transparent.

    Raises ``ValueError`` for what is no image, is damaged, or is larger than the limits.
    """
    if not data:
        raise ValueError("received zero length image")
    if len(data) > MAX_BYTES:
        raise ValueError(f"the image file has {len(data)} bytes; at most {MAX_BYTES} are read")
    if data.startswith(_JPEG) and data.count(_START_OF_SCAN) > _MAX_SCANS:
        raise ValueError(f"the image is a JPEG of more than {_MAX_SCANS} scans; save it again and send that")
    image = _open(data)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"the image has {width} x {height} pixels; at most {MAX_PIXELS} are read: send a smaller one")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"the image has {width} x {height} pixels; a side may be {MAX_RATIO} times the other at most")
    try:
        upright = _upright(_colours(image))
        return Picture(*upright.size, upright.tobytes())
    except Exception as error:  # decoders of damaged files raise whatever they trip over
        raise ValueError(f"the image is damaged: {error}") from error


def _open(data: bytes) -> Image.Image:
    """The image with its header read and nothing decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception as error:  # the same
        raise ValueError("the image is none of PNG, JPEG, WebP, GIF and BMP, or is damaged") from error


def _colours(image: Image.Image) -> Image.Image:
    """Red, green and blue, whatever the file has; what is transparent shows white."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip to 8
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)
