"""Image files of every kind, whole and broken, to pixels."""

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from vision_files import picture

from ollama_nb.engine import pictures
from ollama_nb.engine.pictures import MAX_PIXELS, read_picture

RED, GREEN, BLUE, WHITE = b"\xff\x00\x00", b"\x00\xff\x00", b"\x00\x00\xff", b"\xff\xff\xff"


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of(width, height):
    """A PNG whose header promises pixels that do not follow."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 8) + b"IDAT" + bytes(8)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "JPEG"])
def test_every_format_that_clients_send_is_read(kind):
    seen = read_picture(picture("red", size=(6, 4), kind=kind))
    assert (seen.width, seen.height, len(seen.rgb)) == (6, 4, 6 * 4 * 3)
    assert all(abs(have - want) < 4 for have, want in zip(seen.rgb[:3], RED, strict=True))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16"])
def test_whatever_a_file_has_for_colours_becomes_red_green_and_blue(mode):
    kind = {"CMYK": "JPEG", "PA": "PNG"}.get(mode, "PNG")
    image = Image.new("RGBA" if mode == "PA" else mode, (5, 3))
    assert len(read_picture(saved(image.convert("LA") if mode == "PA" else image, kind)).rgb) == 5 * 3 * 3


def test_sixteen_bits_of_grey_keep_their_shades():
    image = Image.new("I;16", (3, 1))
    image.putdata([0, 0x8000, 0xFFFF])
    assert read_picture(saved(image)).rgb == b"\0" * 3 + b"\x80" * 3 + b"\xff" * 3


def test_what_is_transparent_shows_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    assert read_picture(saved(image)).rgb == WHITE + RED


def test_a_photo_is_turned_as_its_camera_was():
    image = Image.new("RGB", (2, 1), "red")
    image.putpixel((1, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    seen = read_picture(saved(image, exif=exif))
    assert (seen.width, seen.height, seen.rgb) == (1, 2, RED + BLUE)


def test_the_first_frame_stands_for_an_animation():
    frames = [Image.new("RGB", (1, 1), colour) for colour in ("lime", "red")]
    assert read_picture(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])).rgb == GREEN


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "received zero length image"),
        (b"x", "none of PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n", "none of PNG, JPEG"),
        (b"\xff\xd8", "none of PNG, JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "none of PNG, JPEG"),
        (b"<!DOCTYPE html><html></html>", "none of PNG, JPEG"),
        (bytes(range(256)) * 40, "none of PNG, JPEG"),
        (saved(Image.new("RGB", (2, 2)), "TIFF"), "none of PNG, JPEG"),
        (picture("red")[:-40], "the image is damaged"),
        (picture("red", size=(200, 200), kind="JPEG")[:-300], "the image is damaged"),
        (png_of(100, 100), "the image is damaged"),
        (png_of(100_000, 100_000), "100000 x 100000 pixels"),
        (png_of(1 << 20, 1), "1048576 x 1 pixels"),
        (png_of(0, 5), "none of PNG, JPEG"),
        (picture("red", size=(401, 2)), "a side may be 200 times the other"),
    ],
)
def test_what_is_no_picture_is_a_value_error_that_says_why(data, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_picture(data)


def test_a_file_is_weighed_before_it_is_read(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 50)
    with pytest.raises(ValueError, match="at most 50 are read"):
        read_picture(picture("red"))


def test_a_jpeg_of_endless_scans_is_not_begun():
    with pytest.raises(ValueError, match="scans"):
        read_picture(picture("red", kind="JPEG") + b"\xff\xda" * 300)


def test_the_smallest_picture_is_one():
    assert read_picture(picture("blue", size=(1, 1))).rgb == BLUE


def test_the_limit_leaves_room_for_cameras():
    assert MAX_PIXELS >= 50_000_000


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "JPEG"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_damage_does_more_than_a_value_error(kind, data):
    whole = bytearray(picture("red", size=(16, 16), kind=kind))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8)):
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        seen = read_picture(bytes(whole[:cut]))
    except ValueError:
        return
    assert len(seen.rgb) == seen.width * seen.height * 3
