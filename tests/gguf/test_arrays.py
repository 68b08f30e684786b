from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_nb.gguf.arrays import KEPT_ITEMS
from ollama_nb.gguf.reader import GgufArray, GgufError, read_header

WORDS = [f"token {number}" for number in range(3000)]


@pytest.fixture
def array_of(tmp_path, gguf_bytes):
    def make(value, version=3):
        path = tmp_path / "array.gguf"
        path.write_bytes(gguf_bytes({"a": value, "after": 7}, version=version))
        header = read_header(path)
        assert header.metadata["after"] == 7
        return header.metadata["a"]

    return make


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(
    ("element_type", "items"),
    [
        ("uint8", [0, 255]),
        ("int8", [-128, 127]),
        ("uint16", [0, 65535]),
        ("int16", [-32768]),
        ("uint32", [2**32 - 1]),
        ("int32", [-(2**31)]),
        ("float32", [0.1, -2.5, 1e-05, float("inf")]),
        ("bool", [True, False]),
        ("string", ["", "a", "\u4f60\u597d"]),
        ("uint64", [2**64 - 1]),
        ("int64", [-(2**63)]),
        ("float64", [0.1]),
        ("string", []),
        ("uint32", []),
    ],
)
def test_an_array_gives_back_its_items_in_every_version(array_of, version, element_type, items):
    array = array_of((element_type, items), version)
    assert isinstance(array, GgufArray)
    assert (array.element_type, len(array), list(array)) == (element_type, len(items), items)
    assert [type(item) for item in array] == [type(item) for item in items]


@pytest.mark.parametrize(
    ("element_type", "items"),
    [
        ("string", WORDS),
        ("string", [*WORDS[:5], "x" * 3_000_000, *WORDS[5:]]),
        ("uint32", list(range(100_000))),
        ("uint16", list(range(KEPT_ITEMS))),
    ],
    ids=["words", "a long word", "numbers", "few numbers"],
)
def test_items_are_found_by_number_slice_and_value(array_of, element_type, items):
    array = array_of((element_type, items))
    last = len(items) - 1
    assert [array[0], array[7], array[last], array[-1], array[-last]] == [
        items[0], items[7], items[last], items[-1], items[-last],
    ]  # fmt: skip
    for part in (slice(3, 9), slice(None, None, 500), slice(9, 3, -2), slice(-3, None), slice(5, 5)):
        assert array[part] == items[part]
    assert array.index(items[20]) == 20
    assert items[21] in array
    assert list(reversed(array)) == items[::-1]
    with pytest.raises(IndexError):
        array[len(items)]
    with pytest.raises(ValueError, match="not in the array"):
        array.index(items[20], 21)


def test_strings_that_are_not_utf8_are_shown_with_replacements(array_of):
    assert list(array_of(("string", [b"\xff\xfea"]))) == ["\ufffd\ufffda"]


def test_long_arrays_stay_in_the_file_and_short_ones_of_numbers_do_not(tmp_path, gguf_bytes):
    path = tmp_path / "model.gguf"
    metadata = {"layers": [1] * KEPT_ITEMS, "scores": [2] * (KEPT_ITEMS + 1), "tokens": ["a"]}
    path.write_bytes(gguf_bytes(metadata))
    read = read_header(path).metadata
    path.unlink()
    assert list(read["layers"]) == metadata["layers"]
    for key in ("scores", "tokens"):
        with pytest.raises(FileNotFoundError):
            list(read[key])


@pytest.mark.parametrize("key", ["scores", "tokens"])
def test_a_file_that_shrank_since_is_an_error(tmp_path, gguf_bytes, key):
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes({"scores": [2] * 5000, "tokens": ["abc"] * 9}))
    array = read_header(path).metadata[key]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(GgufError, match="ends inside its header"):
        list(array)


@given(items=st.lists(st.text(max_size=8), max_size=40), part=st.slices(40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_an_array_of_strings_behaves_as_a_list_of_them(array_of, items, part):
    array = array_of(("string", items))
    assert list(array) == items
    assert array[part] == items[part]
