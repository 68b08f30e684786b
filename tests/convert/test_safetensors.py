"""The table of a safetensors file that nobody vouches for, and reading by it."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
import torch
from convert.handmade import safetensors_bytes, safetensors_file
from safetensors.torch import save_file

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.safetensors import MAX_HEADER, MAX_TENSORS, SafetensorsError, read_table
from ollama_nb.wire.errors import OllamaError

ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
EIGHT = bytes(8)


@pytest.fixture
def table_of(tmp_path):
    """The table of a file with this content."""

    def read(data):
        path = tmp_path / "blob"
        path.write_bytes(data)
        return read_table(path, "model.safetensors")

    return read


# -- sound files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_are_those_that_torch_has_saved(tmp_path, dtype):
    numbers = torch.randn(3, 5, 7).to(dtype)
    save_file({"a": numbers, "b": numbers[0].clone(), "one": numbers[0, 0, 0].clone()}, tmp_path / "x")
    table = read_table(tmp_path / "x", "x")
    for name, expected in (("a", numbers), ("b", numbers[0]), ("one", numbers[0, 0, 0])):
        read = table[name].read()
        assert read.shape == tuple(expected.shape)
        bits = expected.contiguous().view(torch.int32 if dtype == torch.float32 else torch.int16).numpy()
        assert read.view(bits.dtype).tobytes() == bits.tobytes()


def test_blocks_are_the_tensor_cut_into_pieces(table_of):
    numbers = np.arange(10, dtype=np.float32).reshape(5, 2)
    tensor = table_of(safetensors_bytes({"before": numbers, "a": numbers + 100}))["a"]
    for count in (1, 3, 10, 1000):
        blocks = list(tensor.read_blocks(count))
        assert [block.size for block in blocks[:-1]] == [count] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate(blocks), (numbers + 100).reshape(-1))


def test_some_rows_are_a_tensor_of_their_own(table_of):
    numbers = np.arange(60, dtype=np.float16).reshape(5, 3, 4)
    tensor = table_of(safetensors_bytes({"before": numbers, "a": numbers}))["a"]
    np.testing.assert_array_equal(tensor.rows(1, 4).read(), numbers[1:4])
    np.testing.assert_array_equal(tensor.entry(2).read(), numbers[2])
    np.testing.assert_array_equal(tensor.entry(2).rows(0, 1).read(), numbers[2, :1])
    assert tensor.rows(2, 2).shape == (0, 3, 4)
    for begin, end in ((-1, 2), (3, 6), (4, 3)):
        with pytest.raises(SafetensorsError, match="entries"):
            tensor.rows(begin, end)
    with pytest.raises(SafetensorsError, match="entries"):
        table_of(safetensors_bytes({"one": np.array(1, dtype=np.float32)}))["one"].entry(0)


def test_the_header_may_end_in_blanks_and_say_things_about_the_file(table_of):
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": ROW}).encode()
    assert list(table_of(safetensors_file(header + b"   \n", EIGHT))) == ["a"]


def test_tensors_without_numbers_are_read_as_such(table_of):
    empty = np.zeros((3, 0), dtype=np.float32)
    table = table_of(safetensors_bytes({"a": empty, "b": np.ones(2, dtype=np.float32), "c": empty}))
    assert table["a"].read().shape == (3, 0)
    assert table["c"].rows(1, 2).read().shape == (1, 0)
    assert [block.size for block in table["c"].read_blocks(10)] == [0]


def test_a_file_without_tensors_has_an_empty_table(table_of):
    assert table_of(safetensors_file({})) == {}


# -- the header's length -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 7])
def test_a_file_too_short_for_a_length_is_none(table_of, length):
    with pytest.raises(SafetensorsError, match=f"it has only {length} bytes"):
        table_of(bytes(length))


@pytest.mark.parametrize("length", [3, 1000, MAX_HEADER])
def test_a_header_longer_than_the_file_is_refused(table_of, length):
    with pytest.raises(SafetensorsError, match=f"header of {length} bytes, but has 10 bytes"):
        table_of(struct.pack("<Q", length) + b"{}")


@pytest.mark.parametrize("length", [MAX_HEADER + 1, (1 << 63) - 1, (1 << 64) - 1])
def test_a_header_past_the_limit_is_refused_unread(tmp_path, length):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(SafetensorsError, match=f"the limit is {MAX_HEADER}"):
        read_table(path, "x")


def test_a_header_of_exactly_the_limit_is_read(tmp_path):
    header = json.dumps({"a": ROW}).encode()
    path = tmp_path / "padded"
    path.write_bytes(safetensors_file(header + b" " * (MAX_HEADER - len(header)), EIGHT))
    assert list(read_table(path, "x")) == ["a"]


# -- JSON that is none, or too much ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "cannot be read as JSON"),
        (b"[]", "no JSON object"),
        (b'"a"', "no JSON object"),
        (b"{", "cannot be read as JSON"),
        (b'{"a": 1}}', "cannot be read as JSON"),
        (b"{}\0", "cannot be read as JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "cannot be read as JSON"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": {"shape": [Infinity]}}', "Infinity is no number"),
        (b'{"a\xff": 1}', "utf-8"),
        (b'{"\\ud800": {}}', "surrogates not allowed"),
        ('{"a": {}}'.encode("utf-16"), "utf-8"),
        (b'{"a": {}, "b": {}, "a": {}}', "'a' stands twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "'dtype' stands twice"),
        (b'{"a":[' + b"0," * 8_000_001 + b"0]}", "more than 8000000 values"),
    ],
)
def test_a_header_that_is_no_sound_json_is_refused(table_of, header, words):
    with pytest.raises(ConvertError, match=words):
        table_of(safetensors_file(header))


def test_there_is_a_limit_to_the_number_of_tensors(table_of):
    row = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = ",".join(f'"{number}":{row}' for number in range(MAX_TENSORS + 1))
    with pytest.raises(SafetensorsError, match=f"has {MAX_TENSORS + 1} tensors; the limit is {MAX_TENSORS}"):
        table_of(safetensors_file(f"{{{text}}}".encode()))


@pytest.mark.parametrize("about", [1, None, [], {"a": 1}, {"a": None}])
def test_what_is_said_about_the_file_is_an_object_of_texts(table_of, about):
    with pytest.raises(SafetensorsError, match="__metadata__"):
        table_of(safetensors_file({"__metadata__": about}))


# -- rows of the table -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "not described by a JSON object"),
        ([], "not described by a JSON object"),
        ({}, "unknown dtype None"),
        ({**ROW, "dtype": "F4"}, "unknown dtype 'F4'"),
        ({**ROW, "dtype": "f32"}, "unknown dtype"),
        ({**ROW, "dtype": ["F32"]}, "unknown dtype"),
        ({**ROW, "dtype": "x" * 10_000}, "unknown dtype 'x{12}\\.\\.\\."),
        ({**ROW, "shape": None}, "impossible shape"),
        ({**ROW, "shape": 2}, "impossible shape"),
        ({**ROW, "shape": [-2]}, "impossible shape"),
        ({**ROW, "shape": [2.0]}, "impossible shape"),
        ({**ROW, "shape": [True, 2]}, "impossible shape"),
        ({**ROW, "shape": ["2"]}, "impossible shape"),
        ({**ROW, "shape": [1 << 63]}, "impossible shape"),
        ({**ROW, "shape": [1] * 9}, "impossible shape"),
        ({**ROW, "shape": [(1 << 63) - 1] * 8}, "shape and dtype need"),
        ({**ROW, "shape": [1 << 32, 1 << 30]}, f"shape and dtype need {1 << 64}"),  # nought, in 64 bits
        ({**ROW, "shape": [3]}, "has 8 bytes, but its shape and dtype need 12"),
        ({**ROW, "shape": [0]}, "has 8 bytes, but its shape and dtype need 0"),
        ({**ROW, "data_offsets": [0]}, "impossible offsets"),
        ({**ROW, "data_offsets": [0, 8, 8]}, "impossible offsets"),
        ({**ROW, "data_offsets": None}, "impossible offsets"),
        ({**ROW, "data_offsets": [-8, 0]}, "impossible offsets"),
        ({**ROW, "data_offsets": [0.0, 8.0]}, "impossible offsets"),
        ({**ROW, "data_offsets": [1 << 64, (1 << 64) + 8]}, "impossible offsets"),
        ({**ROW, "data_offsets": [8, 0]}, "has -8 bytes"),
        ({**ROW, "data_offsets": [1, 9]}, "ends at byte"),
        ({**ROW, "data_offsets": [(1 << 62), (1 << 62) + 8]}, "ends at byte"),
    ],
)
def test_a_row_that_cannot_be_is_refused(table_of, row, words):
    with pytest.raises(SafetensorsError, match=words) as caught:
        table_of(safetensors_file({"a": row}, EIGHT))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x" * 1025, "has 1025 characters"),
        ("x" * 1_000_000, "has 1000000 characters"),
        ("a\nb", "control characters"),
        ("\x1b[31m", "control characters"),
        ("a\0", "control characters"),
        ("a\u202eb", "control characters"),
    ],
)
def test_a_name_that_would_spoil_a_log_is_refused(table_of, name, words):
    with pytest.raises(SafetensorsError, match=words) as caught:
        table_of(safetensors_file({name: ROW}, EIGHT))
    assert caught.value.message.isprintable()


# -- where the tensors are ---------------------------------------------------------------------------------------------


def rows(*extents):
    return {
        f"t{number}": {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for number, (begin, end) in enumerate(extents)
    }


@pytest.mark.parametrize(
    ("extents", "words"),
    [
        ([(0, 4), (0, 8)], '"t1" overlaps'),
        ([(0, 5), (4, 8)], '"t1" overlaps'),
        ([(0, 8), (0, 8)], "overlaps"),
        ([(0, 8), (2, 2)], '"t1" overlaps'),
        ([(0, 3), (4, 8)], '"t1" leaves a hole'),
        ([(1, 8)], '"t0" leaves a hole'),
        ([(0, 4), (4, 9)], '"t1" ends at byte'),
        ([(0, 7)], "1 bytes at the end belong to no tensor"),
        ([], "8 bytes at the end belong to no tensor"),
    ],
)
def test_tensors_fill_the_file_one_after_the_other(table_of, extents, words):
    with pytest.raises(SafetensorsError, match=words):
        table_of(safetensors_file(rows(*extents), EIGHT))


def test_the_order_in_the_header_is_free(table_of):
    table = table_of(safetensors_file(rows((4, 8), (0, 4), (8, 8), (0, 0)), EIGHT))
    assert [tensor.size for tensor in table.values()] == [4, 4, 0, 0]


# -- files that are none, or change ------------------------------------------------------------------------------------


def test_a_file_that_became_shorter_is_an_error(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(safetensors_bytes({"a": np.ones(1000, dtype=np.float32)}))
    tensor = read_table(path, "x")["a"]
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(SafetensorsError, match="ends before its 4000 bytes are complete"):
        tensor.read()
    with pytest.raises(SafetensorsError, match="ends before"):
        list(tensor.read_blocks(64))


def test_a_header_that_became_shorter_is_an_error(tmp_path, monkeypatch):
    """The file is cut between the look at its size and the reading, which no test could time."""
    path = tmp_path / "x"
    path.write_bytes(safetensors_bytes({"a": np.ones(1000, dtype=np.float32)}))
    real = os.fstat

    def fstat(descriptor):
        found = real(descriptor)
        os.truncate(path, 20)
        return found

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(SafetensorsError, match="ends inside its header"):
        read_table(path, "x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConvertError, match=r"model\.safetensors is no ordinary file"):
        read_table(tmp_path / "pipe", "model.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="a folder cannot be opened there at all")
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
def test_devices_and_folders_are_refused(path):
    with pytest.raises(ConvertError, match="no ordinary file"):
        read_table(path, "x")


def test_a_file_that_is_not_there_is_told_by_its_name_and_not_by_its_place(tmp_path):
    with pytest.raises(OllamaError, match=r"^model\.safetensors cannot be read: No such file or directory$") as caught:
        read_table(tmp_path / "x", "model.safetensors")
    assert caught.value.status == 500


@pytest.mark.parametrize("dtype", ["I64", "I32", "U8", "BOOL", "F64", "F8_E4M3", "F8_E8M0"])
def test_what_is_no_weight_is_in_the_table_but_not_read(table_of, dtype):
    size = {"I64": 8, "F64": 8, "I32": 4}.get(dtype, 1)
    table = table_of(
        safetensors_file({"a": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * size]}}, bytes(2 * size))
    )
    with pytest.raises(SafetensorsError, match=f"stored as {dtype}, which cannot be converted"):
        table["a"].read()


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n", "git lfs pull"),
        (b"GGUF\x03\0\0\0" + b"\x01" * 16, "ending .gguf"),
        (b"PK\x03\x04\0\0\x08\x08" + bytes(30), "pickle"),
        (b"\x80\x02}q\0(X\x05\0\0\0q", "pickle"),
        (b"<!DOCTYPE html><html></html>", "web page"),
    ],
)
def test_what_people_mistake_for_safetensors_is_called_by_its_name(table_of, data, hint):
    with pytest.raises(SafetensorsError, match="is no safetensors file") as caught:
        table_of(data)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("length", [ord("<"), 0x80])
def test_a_length_that_begins_like_something_else_is_no_reason(table_of, length):
    assert table_of(safetensors_file(b"{}" + b" " * (length - 2))) == {}
