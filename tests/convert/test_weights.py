"""Numbers from one form to another, parts that become one tensor, and how little of them is in memory at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from convert.handmade import safetensors_bytes
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.families.llama import interleave_rotary
from ollama_nb.convert.numbers import stored_as, widen
from ollama_nb.convert.safetensors import SafetensorsError, read_table
from ollama_nb.convert.weights import BLOCK, Part, Weight

torch.set_num_threads(1)

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
BITS = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
EDGES = [
    0.0, -0.0, 1.0, -1.0, 65504.0, 65519.0, 65519.996, -65519.996, 6.1e-5, 5.96e-8, 2.98e-8, 2.99e-8, 1e-8, -1e-8,
    1e-38, 1e-45, -1e-45, 1.0039062, 1.01171875, 3.3895314e38, -3.3895314e38, float("inf"), -float("inf"),
]  # fmt: skip
"""The largest and smallest of each form, what is just short of rounding to infinity, ties, and what is not finite."""


def stored(numbers, dtype):
    """Float32 numbers as torch stores them, the nearest of each; BF16 as bits."""
    tensor = torch.from_numpy(np.array(numbers, dtype=np.float32)).to(TORCH[dtype])
    return tensor.view(torch.uint16).numpy() if dtype == "BF16" else tensor.numpy()


def bits(array, dtype):
    return array.view(BITS[dtype])


@pytest.fixture
def tensor_of(tmp_path):
    """An array as a stored tensor; uint16 are the bits of BF16."""

    def make(array, name="a"):
        path = tmp_path / name
        path.write_bytes(safetensors_bytes({name: array}))
        return read_table(path, name)[name]

    return make


def result(weight, dtype):
    return np.concatenate(list(weight.blocks(dtype)))


# -- rounding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("have", ["F32", "F16", "BF16"])
def test_every_form_becomes_every_other_as_in_torch(have, wanted):
    numbers = stored(EDGES, have)
    fits = np.isfinite(stored(widen(numbers, have), "F16").astype(np.float32)) | ~np.isfinite(widen(numbers, have))
    numbers = numbers[fits] if wanted == "F16" else numbers
    expected = stored(widen(numbers, have), wanted)
    np.testing.assert_array_equal(bits(stored_as(numbers, have, wanted), wanted), bits(expected, wanted))


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_bfloat16_is_the_nearest_as_in_torch(values):
    numbers = np.array(values, dtype=np.float32)
    expected = stored(numbers, "BF16")
    too_large = (expected & 0x7FFF == 0x7F80) & np.isfinite(numbers)
    if too_large.any():
        with pytest.raises(OverflowError, match=r"beyond 3\.39e38, the largest in BF16"):
            stored_as(numbers, "F32", "BF16")
    np.testing.assert_array_equal(stored_as(numbers[~too_large], "F32", "BF16"), expected[~too_large])


@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=1))
def test_whatever_the_bits_a_nan_stays_one_and_nothing_else_becomes_one(values):
    numbers = np.array(values, dtype=np.uint32).view(np.float32)
    numbers = numbers[np.isnan(numbers) | (np.abs(numbers) < 60000)]
    for wanted in ("F16", "BF16", "F32"):
        after = widen(stored_as(numbers, "F32", wanted), wanted)
        np.testing.assert_array_equal(np.isnan(after), np.isnan(numbers))


@given(st.lists(st.integers(0, (1 << 16) - 1), min_size=1), st.sampled_from(["F16", "BF16"]))
def test_half_numbers_come_through_float32_unchanged(values, dtype):
    half = np.array(values, dtype=np.uint16)
    half = half if dtype == "BF16" else half.view(np.float16)
    half = half[~np.isnan(widen(half, dtype))]
    back = stored_as(stored_as(half, dtype, "F32"), "F32", dtype)
    np.testing.assert_array_equal(bits(back, dtype), bits(half, dtype))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_what_is_stored_as_wanted_is_not_touched_not_even_a_nan_of_its_own(tensor_of, dtype):
    chance = np.random.default_rng(0)
    raw = chance.integers(0, 1 << 16, 4096, dtype=np.uint16)
    data = {"F32": raw.view(np.float32), "F16": raw.view(np.float16), "BF16": raw}[dtype]
    weight = Weight("x", (Part(tensor_of(data.reshape(2, -1)), (2, data.size // 2)),))
    assert result(weight, dtype).tobytes() == data.tobytes()


@pytest.mark.parametrize("also", [0.0, float("inf"), float("nan")])
@pytest.mark.parametrize("number", [65520.0, -65520.0, 1e30])
def test_a_number_beyond_float16_is_an_error_whatever_stands_beside_it(tensor_of, number, also):
    weight = Weight("blk.0.x", (Part(tensor_of(np.array([[number, also]], dtype=np.float32)), (1, 2)),))
    with pytest.raises(ConvertError, match=r"blk\.0\.x: some numbers are beyond 65504") as caught:
        result(weight, "F16")
    assert caught.value.hint == "Ask for BF16 or F32."
    assert result(weight, "BF16").size == 2


# -- which form --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "wanted", "found"),
    [
        ([np.float32], "", "F16"),
        ([np.float16], "", "F16"),
        ([np.uint16], "", "BF16"),
        ([np.float32, np.uint16], "", "BF16"),
        ([np.float32, np.float16], "", "F16"),
        ([np.uint16], "F16", "F16"),
        ([np.uint16], "F32", "F32"),
        ([np.float16], "BF16", "BF16"),
    ],
)
def test_a_matrix_keeps_its_form_unless_another_is_wanted(tensor_of, arrays, wanted, found):
    parts = tuple(Part(tensor_of(np.zeros((2, 2), kind), f"a{n}"), (2, 2)) for n, kind in enumerate(arrays))
    assert Weight("x", parts).dtype(wanted) == found


@pytest.mark.parametrize("wanted", ["", "F16", "BF16", "F32"])
def test_vectors_and_precise_tensors_are_always_in_float32(tensor_of, wanted):
    assert Weight("x", (Part(tensor_of(np.zeros(2, np.float16)), (2,)),)).dtype(wanted) == "F32"
    assert Weight("x", (Part(tensor_of(np.zeros((2, 2), np.float16)), (2, 2)),), precise=True).dtype(wanted) == "F32"


@pytest.mark.parametrize("dtype", ["I64", "U8"])
def test_what_is_no_weight_is_refused_when_it_is_read(tmp_path, dtype):
    kind = {"I64": np.int32, "U8": np.uint8}[dtype]
    (tmp_path / "x").write_bytes(safetensors_bytes({"a": np.zeros((2, 2), kind)}))
    weight = Weight("x", (Part(read_table(tmp_path / "x", "x")["a"], (2, 2)),))
    with pytest.raises(SafetensorsError, match="cannot be converted"):
        result(weight, "F16")


# -- parts -------------------------------------------------------------------------------------------------------------


def test_parts_are_stacked_in_their_order(tensor_of):
    arrays = [np.full((3, 4), number, np.float32) for number in range(5)]
    weight = Weight("x", tuple(Part(tensor_of(array, f"a{n}"), (3, 4)) for n, array in enumerate(arrays)))
    assert (weight.shape, weight.elements) == ((5, 3, 4), 60)
    np.testing.assert_array_equal(result(weight, "F32").reshape(weight.shape), np.stack(arrays))


def test_parts_of_different_shapes_are_refused(tensor_of):
    one, other = tensor_of(np.zeros((2, 3), np.float32), "a"), tensor_of(np.zeros((3, 2), np.float32), "b")
    with pytest.raises(ConvertError, match="the parts of x have different shapes"):
        Weight("x", (Part(one, (2, 3)), Part(other, (3, 2))))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.T,
        lambda data: data[::-1],
        lambda data: data[:, 1:3],
        lambda data: data[1:],
        lambda data: data.reshape(3, 2, 2).swapaxes(1, 2),
        lambda data: data.copy(),
        lambda data: np.broadcast_to(data[0], (7, 4)),
    ],
)
@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_a_change_is_what_it_says_also_where_it_only_looks_at_the_numbers_otherwise(tensor_of, change, dtype):
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = change(data)
    weight = Weight("x", (Part(tensor_of(data), expected.shape, change),))
    kind = {"F32": np.float32, "F16": np.float16}[dtype]
    np.testing.assert_array_equal(result(weight, dtype), expected.reshape(-1).astype(kind))


def test_what_is_computed_is_computed_in_float32_after_the_change(tensor_of):
    data = stored([[1.0, 2.0], [3.0, 4.0]], "BF16")
    part = Part(tensor_of(data), (2, 2), lambda data: data.T, lambda numbers: numbers + np.float32(0.001))
    np.testing.assert_array_equal(
        result(Weight("x", (part,)), "F32"), np.array([1.001, 3.001, 2.001, 4.001], dtype=np.float32)
    )


def test_a_scalar_and_numbers_of_the_conversion_are_parts_too(tensor_of):
    assert result(Weight("x", (Part(tensor_of(np.array(5, np.float32)), ()),)), "F32").tolist() == [5]
    assert result(Weight("x", (Part(np.array([1, 2]), (2,)),)), "F32").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (None, (3, 5)),
        (lambda data: data.reshape(5, 5), (5, 5)),
        (lambda data: data[7], (4,)),
        (lambda data: data[:, 0], (4,)),
        (lambda data: data.T, (3, 4)),
        (lambda data: data.swapaxes(1, 2), (3, 4)),
    ],
)
def test_a_change_that_does_not_work_out_is_the_files_fault(tensor_of, change, shape):
    data = tensor_of(np.zeros((3, 4), np.float32))
    with pytest.raises(ConvertError, match=r"wrong|cannot be made"):
        result(Weight("x", (Part(data, shape, change),)), "F32")


# -- memory ------------------------------------------------------------------------------------------------------------


def peak(weight, dtype):
    """The most bytes that going through a weight has needed at a time, as numpy tells Python."""
    tracemalloc.start()
    try:
        for _ in weight.blocks(dtype):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ROWS, COLUMNS = 2048, 4096
PART_BYTES = ROWS * COLUMNS * 2


@pytest.fixture
def large(tensor_of):
    """A tensor of eight blocks in BF16."""
    return tensor_of(np.zeros((ROWS, COLUMNS), np.uint16))


@pytest.mark.parametrize("wanted", ["BF16", "F16", "F32"])
def test_a_tensor_that_nothing_is_done_to_goes_through_in_blocks(large, wanted):
    weight = Weight("x", (Part(large, large.shape),))
    assert peak(weight, wanted) < 20 * BLOCK < 2 * PART_BYTES


def test_a_rearranged_tensor_needs_its_own_size_twice_at_most(large):
    weight = Weight("x", (Part(large, large.shape, interleave_rotary(32)),))
    assert peak(weight, "F16") < 2 * PART_BYTES + 20 * BLOCK


def test_one_that_is_only_looked_at_otherwise_needs_it_once(large):
    weight = Weight("x", (Part(large, large.shape[::-1], lambda data: data.T),))
    assert peak(weight, "F16") < PART_BYTES + 20 * BLOCK


def test_of_stacked_parts_one_is_in_memory(large):
    parts = tuple(Part(large.rows(n * 256, n * 256 + 256), (COLUMNS, 256), lambda data: data.T) for n in range(8))
    assert peak(Weight("x", parts), "BF16") < PART_BYTES / 8 + 20 * BLOCK
