from __future__ import annotations

import io
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.gguf.scan import MAX_STRING, GgufError, Scanner, shortest_float


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e-5, "1e-05"), (10000.0, "10000.0"), (0.1, "0.1"), (1 / 3, "0.33333334"), (3.4028235e38, "3.4028235e+38")],
)
def test_a_float_of_32_bits_is_shown_with_no_more_digits_than_it_has(number, text):
    widened = struct.unpack("<f", struct.pack("<f", number))[0]
    assert repr(shortest_float(widened)) == text


@given(st.floats(width=32))
def test_a_shortened_float_is_the_same_in_32_bits(number):
    short = shortest_float(number)
    assert struct.pack("<f", short) == struct.pack("<f", number) or math.isnan(number)


def scanner(data: bytes) -> Scanner:
    return Scanner(io.BytesIO(data), len(data))


def test_reading_and_skipping_move_forwards():
    here = scanner(struct.pack("<IQ", 7, 3) + b"abc" + struct.pack("<Q", 1) + b"z" + b"end")
    assert (here.uint32(), here.string("it"), here.offset) == (7, b"abc", 15)
    here.skip_strings(1, "them")
    assert (here.remaining, here.take(3), here.remaining) == (3, b"end", 0)


@pytest.mark.parametrize(
    "read",
    [
        lambda here: here.take(9),
        lambda here: here.skip(9),
        lambda here: here.uint64() and here.uint32(),
        lambda here: here.string("it"),
        lambda here: here.skip_strings(1, "them"),
        lambda here: here.skip_strings(2, "them"),
    ],
)
def test_the_end_of_the_file_is_an_error(read):
    with pytest.raises(GgufError, match="ends inside its header, after 8 bytes"):
        read(scanner(struct.pack("<Q", 1)))


def test_a_file_that_shrinks_while_it_is_read_is_an_error():
    with pytest.raises(GgufError, match="ends inside its header"):
        Scanner(io.BytesIO(bytes(3)), 100).uint32()


def test_a_string_past_the_limit_is_refused_before_it_is_read():
    data = struct.pack("<Q", MAX_STRING + 1)
    with pytest.raises(GgufError, match=f"it is {MAX_STRING + 1} bytes long; the limit is {MAX_STRING}"):
        scanner(data).string("it")
    with pytest.raises(GgufError, match=f"in them is {MAX_STRING + 1} bytes long"):
        scanner(data).skip_strings(1, "them")


@given(st.lists(st.integers(0, 3) | st.sampled_from([1 << 20, (1 << 20) - 8, (1 << 20) + 1]), max_size=8))
def test_strings_of_any_lengths_are_skipped_as_they_are_read(lengths):
    data = b"".join(struct.pack("<Q", length) + bytes(length) for length in lengths) + b"end"
    skipping, reading = scanner(data), scanner(data)
    skipping.skip_strings(len(lengths), "them")
    assert [len(reading.string("it")) for _ in lengths] == lengths
    assert skipping.offset == reading.offset
    assert skipping.take(3) == reading.take(3) == b"end"
