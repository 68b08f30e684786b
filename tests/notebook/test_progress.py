"""How a notebook draws steps and transfers, without a notebook."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.notebook.progress import Board

DIGEST = "0123456789ab" + "0" * 52


def cells(board):
    """The texts of the HTML table, row by row; it has to be well formed."""
    table = ET.fromstring(board.bundle()["text/html"])  # noqa: S314 - the text is our own
    return [["".join(cell.itertext()) for cell in row] for row in table]


@pytest.fixture
def board():
    """A pull of two layers, in the middle."""
    board = Board()
    board.status("pulling manifest")
    for now in range(4):
        board.progress("pulling aaaaaaaaaaaa", 20_000_000 + 10_000_000 * now, 90_000_000, now)
        board.progress("pulling bbbbbbbbbbbb", 8_000, 8_000, now)
    return board


def test_each_transfer_is_a_row_with_its_share_bytes_rate_and_time_left(board):
    assert cells(board) == [
        ["pulling manifest"],
        ["pulling aaaaaaaaaaaa", "", "55%", "50 MB of 90 MB", "10 MB/s", "4 s left"],
        ["pulling bbbbbbbbbbbb", "", "100%", "8 KB", "", ""],
    ]


def test_where_there_is_no_page_the_same_is_text(board):
    assert board.bundle()["text/plain"].splitlines() == [
        "pulling manifest",
        "pulling aaaaaaaaaaaa  [###########         ]  55%  50 MB of 90 MB  10 MB/s  4 s left",
        "pulling bbbbbbbbbbbb  [####################] 100%  8 KB",
    ]


def test_what_will_not_go_on_has_no_speed(board):
    board.halt()
    assert cells(board)[1] == ["pulling aaaaaaaaaaaa", "", "55%", "50 MB of 90 MB", "", ""]


def test_a_bar_says_to_all_readers_how_far_it_is(board):
    page = board.bundle()["text/html"]
    assert 'role="progressbar" aria-label="pulling aaaaaaaaaaaa"' in page
    assert 'aria-valuenow="55"' in page
    assert "width: 55%" in page


def test_bars_have_the_colour_of_the_pages_text_in_every_theme(board):
    page = board.bundle()["text/html"]
    assert set(re.findall(r"(?:background|color): ([^;\"]*)", page)) == {"none", "inherit"}
    assert set(re.findall(r"border(?:-top)?: ([^;\"]*)", page)) == {"none", "1px solid", "0.6em solid"}


def test_steps_without_bytes_need_no_page():
    board = Board()
    board.status("parsing GGUF")
    board.status("writing manifest")
    assert board.bundle() == {"text/plain": "parsing GGUF\nwriting manifest"}


def test_a_digest_is_told_by_its_beginning():
    board = Board()
    board.progress(f"copying file sha256:{DIGEST}", 1, 2, 0)
    assert cells(board)[0][0] == "copying file 0123456789ab"


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1))
def test_whatever_a_name_says_is_text_and_no_page(label):
    board = Board()
    board.status(f"{label}?")
    board.progress(label, 1, 2, 0)
    assert [row[0] for row in cells(board)] == [f"{label}?", label]


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_bar_is_full_only_when_all_is_there_and_never_fuller(completed, total):
    board = Board()
    board.progress("x", completed, total, 0)
    percent = int(cells(board)[0][2].rstrip("%"))
    assert 0 <= percent <= 100
    assert (percent == 100) == (completed >= total)
