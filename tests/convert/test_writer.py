"""GGUF files as they are written: read by llama.cpp, by gguf and by our own reader; and what is refused before."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

import gguf
import llama_cpp
import numpy as np
import pytest
from convert.handmade import safetensors_bytes

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.safetensors import read_table
from ollama_nb.convert.weights import BLOCK, Part, Weight
from ollama_nb.convert.writer import write_gguf
from ollama_nb.gguf.reader import read_header

ARCHITECTURE = {"general.architecture": "llama"}


def weight(name="a", shape=(2, 3), start=0, **fields):
    """A tensor that counts from ``start``."""
    numbers = np.arange(start, start + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return Weight(name, (Part(numbers, shape),), **fields)


def write(path, weights, metadata=None, wanted="F32"):
    steps = []

    def progress(done, total):
        steps.append((done, total))

    write_gguf(path, {**ARCHITECTURE, **(metadata or {})}, weights, wanted, progress)
    return steps


def read_by_llama_cpp(path):
    """Names, and where the numbers are, by ggml's own reader, which refuses more than others."""

    class Params(ctypes.Structure):
        _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))

    library = llama_cpp.llama_cpp._lib
    library.gguf_init_from_file.restype = ctypes.c_void_p
    library.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    library.gguf_get_tensor_name.restype = ctypes.c_char_p
    library.gguf_get_n_tensors.restype = ctypes.c_int64
    for name in ("gguf_get_tensor_offset", "gguf_get_data_offset"):
        getattr(library, name).restype = ctypes.c_size_t
    context = library.gguf_init_from_file(os.fsencode(path), Params(no_alloc=True))
    assert context, f"llama.cpp refuses {path}"
    handle = ctypes.c_void_p(context)
    begin = library.gguf_get_data_offset(handle)
    found = {}
    for number in range(library.gguf_get_n_tensors(handle)):
        index = ctypes.c_int64(number)
        name = library.gguf_get_tensor_name(handle, index).decode()
        found[name] = begin + library.gguf_get_tensor_offset(handle, index)
    library.gguf_free(handle)
    return found


# -- what is in the file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["F32", "F16", "BF16"])
def test_every_reader_finds_the_same_numbers(tmp_path, wanted):
    shapes = [(1,), (7,), (3, 5), (2, 3, 5), (2, 2, 2, 3), (1, 1), (33, 1), ()]
    weights = [weight(f"t{number}.weight", shape, number) for number, shape in enumerate(shapes)]
    write(tmp_path / "x", weights, wanted=wanted)
    header = read_header(tmp_path / "x")
    assert read_by_llama_cpp(tmp_path / "x") == {
        tensor.name: header.data_offset + tensor.offset for tensor in header.tensors
    }
    for made, tensor, read in zip(weights, gguf.GGUFReader(tmp_path / "x").tensors, header.tensors, strict=True):
        assert tensor.name == read.name == made.name
        assert tuple(reversed(read.shape)) == (made.shape or (1,))
        assert read.offset % 32 == 0
        dtype = "F32" if len(made.shape) < 2 else wanted
        assert (tensor.tensor_type.name, read.type) == (dtype, dtype)
        assert tensor.data.tobytes() == np.concatenate(list(made.blocks(dtype))).tobytes()


def test_the_file_ends_aligned_with_zeros_between(tmp_path):
    write(tmp_path / "x", [weight("a", (1, 1), 1), weight("b", (1, 1), 2)])
    data = (tmp_path / "x").read_bytes()
    assert len(data) % 32 == 0
    header = read_header(tmp_path / "x")
    assert data[header.data_offset :] == np.array([1, *[0] * 7, 2, *[0] * 7], "<f4").tobytes()


def test_values_of_the_header_come_back(tmp_path):
    given = {
        "flag": True, "whole": 5, "large": (1 << 32) - 1, "negative": -5, "number": 0.5, "text": "ü\n😀",
        "bytes": b"\x00\xff", "texts": ["a", "", "ü"], "wholes": [1, -2], "numbers": [0.5, float("-inf")],
        "flags": [True, False], "nothing": [],
    }  # fmt: skip
    write(tmp_path / "x", [weight()], given)
    read_by_llama_cpp(tmp_path / "x")
    fields = gguf.GGUFReader(tmp_path / "x").fields
    found = {name: fields[name].contents() for name in given if name in fields}
    assert found.pop("bytes") == [0, 255]
    assert found == {name: value for name, value in given.items() if name not in {"bytes", "nothing"}}
    assert [fields[name].types[-1].name for name in ("whole", "negative", "number", "wholes", "numbers")] == [
        "UINT32", "INT32", "FLOAT32", "INT32", "FLOAT32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("forms", "number"),
    [(("F32",), 0), (("F16",), 1), (("BF16",), 32), (("F32", "BF16", "BF16"), 32), ((), 0)],
)
def test_the_file_type_is_that_of_most_numbers(tmp_path, forms, number):
    weights = [weight("vector", (100,))]
    for index, form in enumerate(forms):
        bits = np.zeros((4, 4), {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[form])
        (tmp_path / f"s{index}").write_bytes(safetensors_bytes({"a": bits}))
        part = Part(read_table(tmp_path / f"s{index}", "s")["a"], (4, 4))
        weights.append(Weight(f"m{index}", (part,), precise=form == "F32"))
    write(tmp_path / "x", weights, wanted="")
    assert gguf.GGUFReader(tmp_path / "x").fields["general.file_type"].contents() == number


def test_the_same_weights_give_the_same_bytes_whatever_was_there(tmp_path):
    (tmp_path / "b").write_bytes(b"x" * 100_000)
    for name in "ab":
        write(tmp_path / name, [weight("a"), weight("b")], {"k": ["x"]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# -- progress ----------------------------------------------------------------------------------------------------------


def test_progress_grows_from_nothing_to_all_bytes(tmp_path):
    weights = [Weight("a", (Part(np.zeros((3, BLOCK)), (3, BLOCK)),)), weight("b", (5,)), weight("c", (2, 2))]
    steps = write(tmp_path / "x", weights, wanted="F16")
    total = 2 * 3 * BLOCK + 4 * 5 + 2 * 4
    assert {step[1] for step in steps} == {total}
    assert steps[0][0] == 0
    assert steps[-1][0] == total
    assert len(steps) > 4
    assert [step[0] for step in steps] == sorted(step[0] for step in steps)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([], "no tensors"),
        ([weight("a"), weight("b"), weight("a")], "two tensors of the files are 'a'"),
        ([weight("x" * 64)], "too long: the limit is 63 bytes"),
        ([weight("ü" * 32)], "too long"),
        ([weight("")], "too long"),
        ([weight("a", (1, 1, 1, 1, 1))], "1 to 4 dimensions"),
        ([weight("a", (0,))], "numbers in it"),
        ([weight("a", (3, 0, 2))], "numbers in it"),
    ],
)
def test_tensors_that_llama_cpp_would_not_take_are_refused_before_anything_is_written(tmp_path, weights, words):
    with pytest.raises(ConvertError, match=words):
        write(tmp_path / "x", weights)
    assert not (tmp_path / "x").exists()


def test_a_name_of_63_bytes_is_taken_by_all(tmp_path):
    write(tmp_path / "x", [weight("x" * 63)])
    assert list(read_by_llama_cpp(tmp_path / "x")) == ["x" * 63]
    assert read_header(tmp_path / "x").tensors[0].name == "x" * 63


@pytest.mark.parametrize(
    "value",
    [
        1 << 32, -(1 << 31) - 1, 1e39, "\ud800", ["a", "\udfff"], [1 << 31], [1, 1 << 70], [0.5, 1e300],
        "x" * ((16 << 20) + 1),
    ],
)  # fmt: skip
def test_a_value_that_a_header_cannot_hold_is_refused(tmp_path, value):
    with pytest.raises(ConvertError, match=r'"llama\.key" cannot be stored'):
        write(tmp_path / "x", [weight()], {"llama.key": value})
    assert not (tmp_path / "x").exists()


# -- the disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")  # noqa: PTH110
def test_a_full_disk_is_the_disks_error(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "full", [weight()])


@contextlib.contextmanager
def room_for(size):
    """No file may grow past ``size`` bytes, as if the disk ended there."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_in_the_middle_leaves_the_file_to_the_caller(tmp_path):
    with room_for(1 << 20), pytest.raises(OSError, match="too large") as caught:
        write(tmp_path / "x", [weight("a", (1024, 1024))])
    assert caught.value.errno == errno.EFBIG
    assert (tmp_path / "x").stat().st_size <= 1 << 20
