"""Partial downloads on the disk: what is believed, what is begun anew, and that parts always tile the blob."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.registry.partial import Part, PartialFiles, merged, tile
from ollama_nb.store.blobs import BlobStore, FileKind, file_kind

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "sha256:" + "ab" * 32
SIZE = 1000

spans = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=8)


@pytest.fixture
def files(tmp_path: Path) -> PartialFiles:
    blobs = BlobStore(tmp_path)
    blobs.directory.mkdir()
    return PartialFiles(blobs, DIGEST, SIZE)


def leave(files: PartialFiles, claims: dict[str, object], data: int | None = SIZE) -> None:
    """What somebody left: the files of parts by their last piece, and so many bytes of data."""
    for name, content in claims.items():
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        files.data.with_name(f"{files.data.name}-{name}").write_bytes(text)
    if data is not None:
        files.data.write_bytes(b"x" * data)


def claim(offset: int, size: int, completed: int) -> dict[str, int]:
    return {"N": 0, "Offset": offset, "Size": size, "Completed": completed}


def claims_of(files: PartialFiles) -> list[dict[str, int]]:
    return sorted(
        (json.loads(path.read_bytes()) for path in files.data.parent.glob(f"{files.data.name}-*")),
        key=lambda part: part["Offset"],
    )


@given(spans)
def test_merged_spans_hold_the_same_bytes_and_neither_overlap_nor_touch(spans: list[tuple[int, int]]) -> None:
    found = merged(spans)
    assert {byte for start, stop in found for byte in range(start, stop)} == {
        byte for start, stop in spans for byte in range(start, stop)
    }
    assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


@given(spans, st.integers(0, 400), st.integers(1, 120), st.integers(0, 9))
def test_parts_tile_the_blob_and_their_beginnings_are_what_is_done(
    spans: list[tuple[int, int]], size: int, part_size: int, first: int
) -> None:
    done = merged((min(start, size), min(stop, size)) for start, stop in spans)
    parts = tile(done, size, part_size, first)
    position = 0
    for part in parts:
        assert part.offset == position
        assert part.size > 0
        position = part.stop
    assert position == size
    assert all(part.rest <= part_size for part in parts)
    assert merged((part.offset, part.front) for part in parts) == done
    assert [part.number for part in parts] == list(range(first, first + len(parts)))


def test_a_new_download_is_a_file_of_full_size_and_claims_in_ollamas_form(files: PartialFiles) -> None:
    parts = files.begin(400)
    assert files.data.stat().st_size == SIZE
    assert claims_of(files) == [
        {"N": 0, "Offset": 0, "Size": 400, "Completed": 0},
        {"N": 1, "Offset": 400, "Size": 400, "Completed": 0},
        {"N": 2, "Offset": 800, "Size": 200, "Completed": 0},
    ]
    assert [part.number for part in parts] == [0, 1, 2]


def test_every_file_of_a_download_is_one_that_the_store_takes_for_a_partial_download(files: PartialFiles) -> None:
    files.begin(400)
    files.lock.touch()
    names = {path.name for path in files.data.parent.iterdir()}
    assert len(names) == 5
    assert {file_kind(name) for name in names} == {FileKind.PARTIAL}


def test_what_is_stored_is_claimed_and_found_again(files: PartialFiles) -> None:
    first, second, _ = files.begin(400)
    with contextlib.closing(files.writer()) as writer:
        writer.store(second, b"b" * 400)
        writer.store(first, b"a" * 300, is_last=True)
    assert files.data.read_bytes() == b"a" * 300 + b"\0" * 100 + b"b" * 400 + b"\0" * 200
    assert files.done() == [(0, 300), (400, 800)]
    resumed = files.begin(400)
    assert [(part.offset, part.size, part.completed) for part in resumed] == [
        (0, 400, 300),
        (400, 600, 400),
    ]
    assert files.done() == [(0, 300), (400, 800)]


def test_a_claim_is_renewed_after_a_mebibyte_of_many_small_pieces(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    large = PartialFiles(blobs, DIGEST, 3 << 20)
    (part,) = large.begin(8 << 20)
    part.claimed_at += 3600  # no time passes in this test
    with contextlib.closing(large.writer()) as writer:
        for _ in range(17):
            writer.store(part, bytes(64 * 1024))
    assert claims_of(large)[0]["Completed"] == 16 * 64 * 1024


def test_the_disk_is_asked_to_take_what_was_written_every_sixteen_mebibytes(files: PartialFiles) -> None:
    assert [files.is_flush_due(5 << 20) for _ in range(9)] == [False, False, False, True] * 2 + [False]


def test_bytes_that_could_not_be_written_are_not_claimed(files: PartialFiles) -> None:
    part = files.begin(SIZE)[0]
    files.data.unlink()
    with pytest.raises(FileNotFoundError):
        files.writer().store(part, b"x" * 10, is_last=True)
    assert part.completed == 0
    assert files.done() == []


LEFTOVERS = {
    "nothing": ({}, SIZE, []),
    "claims without data": ({"0": claim(0, SIZE, 700)}, None, []),
    "Ollama's own": (
        {str(number): claim(number * 250, 250, number * 50) for number in range(4)},
        SIZE,
        [(250, 300), (500, 600), (750, 900)],
    ),
    "a gap between parts": ({"0": claim(0, 300, 300), "1": claim(600, 400, 100)}, SIZE, [(0, 300), (600, 700)]),
    "parts that overlap": ({"0": claim(0, 600, 500), "1": claim(400, 600, 200)}, SIZE, [(0, 600)]),
    "a part that is said twice": ({"0": claim(0, SIZE, 10), "7": claim(0, SIZE, 500)}, SIZE, [(0, 500)]),
    "a claim cut short": ({"0": b'{"N":0,"Offset":0,"Si', "1": claim(500, 500, 5)}, SIZE, [(500, 505)]),
    "an empty claim": ({"0": b"", "1": claim(500, 500, 5)}, SIZE, [(500, 505)]),
    "a claim of bytes": ({"0": b"\xff\xfe\x00", "1": claim(500, 500, 5)}, SIZE, [(500, 505)]),
    "a claim of another kind": ({"0": [1, 2], "1": claim(500, 500, 5)}, SIZE, [(500, 505)]),
    "numbers as texts": ({"0": {"Offset": "0", "Size": "9", "Completed": "9"}}, SIZE, []),
    "a claim without a number": ({"0": {"N": 0, "Offset": 0, "Size": SIZE}}, SIZE, []),
    "a long claim": ({"0": json.dumps(claim(0, SIZE, 9)).encode() + b" " * 5000}, SIZE, [(0, 9)]),
    "negative numbers": ({"0": claim(-5, 500, 100), "1": claim(500, 500, -3)}, SIZE, []),
    "more completed than there is": ({"0": claim(0, 500, 501)}, SIZE, []),
    "numbers past all bounds": ({"0": claim(0, 10**30, 5)}, SIZE, []),
    "the parts of a longer blob": ({"0": claim(0, 600, 600), "1": claim(600, 600, 0)}, SIZE, []),
    "the data of a longer blob": ({"0": claim(0, SIZE, 600)}, SIZE + 1, []),
    "data cut short": ({"0": claim(0, 500, 500), "1": claim(500, 500, 500)}, 600, [(0, 600)]),
    "a name that is no number": ({"x": claim(0, SIZE, 9), "²": claim(0, SIZE, 9)}, SIZE, []),
    "a number without end": ({"9" * 100: claim(0, SIZE, 9)}, SIZE, []),
}


@pytest.mark.parametrize(("claims", "data", "expected"), LEFTOVERS.values(), ids=LEFTOVERS)
def test_of_what_others_left_the_sound_is_used_and_the_rest_begun_anew(
    files: PartialFiles, claims: dict[str, object], data: int | None, expected: list[tuple[int, int]]
) -> None:
    leave(files, claims, data)
    assert files.done() == expected
    parts = files.begin(400)
    assert merged((part.offset, part.front) for part in parts) == expected
    assert sum(part.size for part in parts) == SIZE
    assert files.done() == expected
    assert sum(part["Size"] for part in claims_of(files)) == SIZE
    assert files.data.stat().st_size == SIZE


def test_folders_in_the_place_of_claims_claim_nothing(files: PartialFiles) -> None:
    leave(files, {"1": claim(500, 500, 5)})
    files.data.with_name(f"{files.data.name}-0").mkdir()
    assert files.done() == [(500, 505)]
    files.begin(400)
    assert files.done() == [(500, 505)]


def test_a_process_killed_between_new_claims_and_the_end_of_old_ones_leaves_the_same(files: PartialFiles) -> None:
    old = {"0": claim(0, 500, 200), "1": claim(500, 500, 300)}
    leave(files, old)
    files.begin(100)
    leave(files, old)
    assert files.done() == [(0, 200), (500, 800)]


def test_one_part_of_all_keeps_the_beginning_only(files: PartialFiles) -> None:
    leave(files, {"0": claim(0, 500, 200), "1": claim(500, 500, 300)})
    (part,) = files.collapse(200)
    assert (part.offset, part.size, part.completed) == (0, SIZE, 200)
    assert files.done() == [(0, 200)]


def test_nothing_stays_when_a_download_is_removed(files: PartialFiles) -> None:
    part = files.begin(300)[0]
    files.claim(part)
    leave(files, {"odd": b"?"})
    files.remove()
    assert list(files.data.parent.iterdir()) == []
    files.remove()


def test_a_blob_without_bytes_has_no_parts(tmp_path: Path) -> None:
    empty = PartialFiles(BlobStore(tmp_path), DIGEST, 0)
    assert empty.begin(8) == []
    assert empty.collapse(0) == []
    assert empty.data.stat().st_size == 0


def test_a_part_knows_its_front_and_its_rest() -> None:
    part = Part(3, 100, 50, 20)
    assert (part.stop, part.front, part.rest) == (150, 120, 30)
