"""What a client sees of sampled bytes: whole characters, nothing of a stop string, and an end to endless repetition."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.engine.output import REPEAT_LIMIT, OutputText, RepetitionGuard

LETTERS = st.text(alphabet="abß€😀\n", max_size=20)
STOPS = st.text(alphabet="abß€😀\n", min_size=1, max_size=4)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def said(pieces: list[bytes], *stop: str) -> tuple[str, bool]:
    """All text of an answer, and whether a stop string ended it."""
    output = OutputText(stop)
    text = ""
    for piece in pieces:
        text += output.push(piece)
        if output.stopped:
            break
    return text + output.flush(), output.stopped


@given(LETTERS, STOPS, st.lists(st.integers(0, 100)), st.integers(0, 3))
def test_any_split_of_the_bytes_says_the_same(text, stop, cuts, missing):
    data = text.encode()
    data = data[: len(data) - missing]
    # The text before the stop string; at the end of the bytes, half a character is no text.
    expected = data.decode("utf-8", "ignore").split(stop)[0]
    assert said(pieces_of(data, cuts), stop) == (expected, stop in data.decode("utf-8", "ignore"))


@given(st.binary(max_size=30), st.lists(st.integers(0, 100)))
def test_bytes_that_are_no_text_are_said_alike_however_they_are_split(data, cuts):
    text, _ = said(pieces_of(data, cuts))
    assert text == said([data])[0]
    assert text == data.decode("utf-8", "replace")[: len(text)]
    assert text.encode().decode() == text


@given(LETTERS, st.lists(STOPS, max_size=4), st.lists(st.integers(0, 100)))
def test_several_stop_strings_end_the_answer_if_one_of_them_occurs(text, stops, cuts):
    shown, stopped = said(pieces_of(text.encode(), cuts), *stops)
    assert stopped == any(stop in text for stop in stops)
    assert text.startswith(shown)
    # Ollama goes by the order of the list, so another stop string may stand in what was shown before.
    assert not stopped or any(text[len(shown) :].startswith(stop) for stop in stops)
    assert stopped or shown == text


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["say hello wor", "ld"], ["hello"], "say "),
        (["one two three"], ["three", "two"], "one two "),
        (["one two three"], ["two", "three"], "one "),
        (["one two", " three"], ["three", "two"], "one "),
        (["a", "b", "c", "d"], ["bcx", "cd"], "ab"),
        (["aab"], ["ab"], "a"),
        (["a", "a", "b"], ["ab"], "a"),
        (["end</s"], ["</s>"], "end</s"),
        (["😀", "!"], ["😀!"], ""),
    ],
)
def test_the_first_stop_string_of_the_list_decides_among_those_in_the_same_text(pieces, stops, expected):
    assert said([piece.encode() for piece in pieces], *stops)[0] == expected


def test_text_is_said_as_soon_as_it_cannot_become_a_stop_string():
    output = OutputText(("STOP",))
    assert [output.push(piece) for piece in (b"go ST", b"E", b"P ", b"S")] == ["go ", "STE", "P ", ""]
    assert output.flush() == "S"


def test_a_character_is_said_when_its_last_byte_has_come():
    output = OutputText()
    assert [output.push(bytes([byte])) for byte in "é😀".encode()] == ["", "é", "", "", "", "😀"]


def test_half_a_character_is_dropped_at_the_end():
    output = OutputText(("stop",))
    assert output.push("a€".encode()[:3]) == "a"
    assert output.flush() == ""


def test_an_empty_stop_string_matches_before_anything_is_said():
    output = OutputText(("x", ""))
    assert output.stopped
    assert output.push(b"anything") == ""
    assert output.flush() == ""


def test_nothing_is_said_behind_a_stop_string():
    output = OutputText(("!",))
    assert output.push(b"a!b") == "a"
    assert output.push(b"more") == ""
    assert output.flush() == ""


def trips_at(chunks: list[str]) -> int | None:
    guard = RepetitionGuard()
    return next((index for index, chunk in enumerate(chunks) if guard.tripped_by(chunk)), None)


def test_a_chunk_may_be_repeated_thirty_times_and_no_more():
    assert REPEAT_LIMIT == 30
    assert trips_at(["la"] * 31) is None
    assert trips_at(["la"] * 40) == 31


def test_white_space_around_a_chunk_makes_no_difference():
    assert trips_at(["la", " la", "la\n", "\tla "] * 10) == 31


def test_nothing_but_white_space_is_a_chunk_too():
    assert trips_at([" ", "\n"] * 20) == 30


def test_another_chunk_begins_the_count_anew():
    assert trips_at((["la"] * 31 + ["lu"]) * 3) is None


def test_text_that_is_held_back_does_not_count():
    assert trips_at([""] * 100) is None
    assert trips_at(["", "", "", "😀"] * 32) == 4 * 32 - 1
