from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_nb.gguf.reader import GgufArray, GgufError, read_header
from tests.gguf_files import gguf_bytes as write

METADATA = {
    "general.architecture": "llama",
    "general.file_type": 3,
    "general.big": ("uint64", 2**64 - 1),
    "general.small": -5,
    "llama.rope.freq_base": 10000.0,
    "llama.epsilon": 1e-5,
    "llama.exact": ("float64", 0.1),
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.tokens": ["<s>", "</s>", "a"],
    "tokenizer.ggml.scores": [0.0, -1.0, -2.0],
}
TENSORS = [("token_embd.weight", "Q4_1", (64, 3)), ("output_norm.weight", "F32", (5,)), ("scale", "F32", ())]
SAMPLE = write(METADATA, TENSORS)


def parse(tmp_path, data):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return read_header(path)


def key(name: bytes, code: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", code) + value


def file_of(keys: list[bytes], tensors: list[bytes] = (), *, data: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join([*keys, *tensors]) + data


def tensor(name=b"t", shape=(32,), code=0, offset=0) -> bytes:
    extents = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return struct.pack("<Q", len(name)) + name + extents + struct.pack("<IQ", code, offset)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_metadata_and_tensors_are_read_in_every_version(tmp_path, version):
    data = write(METADATA, TENSORS, version)
    header = parse(tmp_path, data)
    metadata = {name: list(value) if isinstance(value, GgufArray) else value for name, value in header.metadata.items()}
    assert metadata == {name: value[1] if isinstance(value, tuple) else value for name, value in METADATA.items()}
    assert [(row.name, row.type, row.shape, row.offset, row.size) for row in header.tensors] == [
        ("token_embd.weight", "Q4_1", (64, 3), 0, 120),
        ("output_norm.weight", "F32", (5,), 128, 20),
        ("scale", "F32", (), 160, 4),
    ]
    assert (header.version, header.architecture, header.file_type, header.kind) == (version, "llama", "Q4_1", "model")
    assert (header.parameter_count, header.alignment, header.file_size) == (64 * 3 + 5 + 1, 32, len(data))
    assert header.data_offset % 32 == 0
    assert header.data_offset + 192 == len(data)


def test_the_smallest_file_is_a_header_of_24_bytes(tmp_path):
    data = write()
    assert hashlib.sha256(data).hexdigest() == "a4e5e156ddec27e286f75328784d7106b60a4eb1d246e950a001a3f944fbda99"
    header = parse(tmp_path, data)
    assert (header.metadata, header.tensors, header.file_size) == ({}, [], 24)
    assert (header.architecture, header.file_type, header.parameter_count) == ("unknown", "unknown", 0)


def test_offsets_count_from_the_alignment_that_the_file_states(tmp_path):
    header = parse(tmp_path, write({"general.alignment": 128}, [("a", "F32", (3,)), ("b", "F32", (3,))]))
    assert (header.alignment, header.data_offset % 128) == (128, 0)
    assert [row.offset for row in header.tensors] == [0, 128]


@pytest.mark.parametrize("data", [b"", b"GG", b"GGU", b"ggjt" + bytes(40), b"FUGG" + bytes(40), b"{}", bytes(100)])
def test_another_format_is_refused_in_ollamas_words(tmp_path, data):
    with pytest.raises(GgufError) as caught:
        parse(tmp_path, data)
    assert (caught.value.status, caught.value.message) == (400, "supplied file was not in GGUF format")


def test_a_missing_file_is_an_operating_system_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "absent.gguf")


HUGE = 1 << 60
BAD = {
    "magic only": (b"GGUF", "ends inside its header, after 4 bytes"),
    "no counts": (b"GGUF" + struct.pack("<I", 3), "ends inside its header"),
    "version 0": (b"GGUF" + struct.pack("<IQQ", 0, 0, 0), "version 0 is not supported"),
    "version 4": (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "version 4 is not supported"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "huge key count": (b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE), f"claims {HUGE} keys"),
    "huge tensor count": (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0), f"claims {HUGE} tensors"),
    "more keys than bytes": (b"GGUF" + struct.pack("<IQQ", 3, 0, 100) + bytes(500), "claims 100 keys"),
    "version 1 with a length of 2^63": (
        b"GGUF" + struct.pack("<III", 1, 0, 1) + struct.pack("<Q", 1 << 63) + bytes(40),
        "unknown type",
    ),
    "long key": (file_of([struct.pack("<Q", 65536) + bytes(70000)]), "name of a key is 65536 bytes long"),
    "key with a control character": (
        file_of([key(b"a\x1b[2J", 4, bytes(4))]),
        "the name of a key has characters that do not print",
    ),
    "key not UTF-8": (file_of([key(b"\xff", 4, bytes(4))]), "name of a key is not UTF-8"),
    "unknown type": (file_of([key(b"k", 13, bytes(8))]), 'key "k" has the unknown type 13'),
    "huge string": (file_of([key(b"k", 8, struct.pack("<Q", HUGE))]), f'value of "k" is {HUGE} bytes long'),
    "string past the end": (file_of([key(b"k", 8, struct.pack("<Q", 100))]), "ends inside its header"),
    "twice the same key": (file_of([key(b"k", 4, bytes(4))] * 2), 'key "k" appears twice'),
    "nested array": (file_of([key(b"k", 9, struct.pack("<IQ", 9, 1) + bytes(40))]), "array of arrays"),
    "array of unknown": (file_of([key(b"k", 9, struct.pack("<IQ", 77, 1) + bytes(40))]), "unknown type 77"),
    "huge array": (file_of([key(b"k", 9, struct.pack("<IQ", 4, HUGE))]), f"array of {HUGE} items; the limit"),
    "array past the end": (
        file_of([key(b"k", 9, struct.pack("<IQ", 4, 9) + bytes(35))]),
        "more than the file can hold",
    ),
    "strings past the end": (file_of([key(b"k", 9, struct.pack("<IQQ", 8, 1, 5))]), "ends inside its header"),
    "huge string in array": (file_of([key(b"k", 9, struct.pack("<IQQ", 8, 1, HUGE))]), f'in "k" is {HUGE} bytes'),
    "alignment 0": (write({"general.alignment": ("uint32", 0)}), "not a power of two"),
    "alignment 48": (write({"general.alignment": ("uint32", 48)}), "not a power of two"),
    "alignment -8": (write({"general.alignment": ("int32", -8)}), "not a power of two"),
    "alignment true": (write({"general.alignment": True}), "not a power of two"),
    "alignment text": (write({"general.alignment": "32"}), "not a power of two"),
    "five dimensions": (file_of([], [tensor(shape=(1,) * 5)]), "has 5 dimensions"),
    "huge dimension count": (
        file_of([], [struct.pack("<Q", 1) + b"t" + struct.pack("<I", 2**32 - 1) + bytes(60)]),
        "4294967295 dimensions",
    ),
    "unknown tensor type": (file_of([], [tensor(code=99)], data=bytes(200)), 'tensor "t" has the unknown type 99'),
    "retired tensor type": (file_of([], [tensor(code=31)], data=bytes(200)), "unknown type 31"),
    "product overflow": (file_of([], [tensor(shape=(1 << 32, 1 << 32))]), 'tensor "t" is too large'),
    "size overflow": (file_of([], [tensor(shape=(1 << 62,))]), 'tensor "t" is too large'),
    "offset overflow": (file_of([], [tensor(offset=2**64 - 32)], data=bytes(200)), 'tensor "t" is too large'),
    "part of a block": (file_of([], [tensor(shape=(33, 32), code=2)], data=bytes(900)), "rows of 33"),
    "between alignments": (file_of([], [tensor(offset=8)], data=bytes(900)), "not a multiple of the alignment 32"),
    "data past the end": (file_of([], [tensor(offset=1 << 40)], data=bytes(900)), 'tensor "t" ends at byte'),
    "twice the same tensor": (file_of([], [tensor()] * 2, data=bytes(900)), 'tensor "t" appears twice'),
    "tensor name not UTF-8": (file_of([], [tensor(name=b"\xff")], data=bytes(900)), "name of a tensor is not UTF-8"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_a_broken_header_is_refused_with_the_reason(tmp_path, data, message):
    with pytest.raises(GgufError) as caught:
        parse(tmp_path, data)
    assert message in caught.value.message


def test_a_file_cut_off_in_its_data_is_refused_by_the_tensor_that_is_not_whole(tmp_path):
    with pytest.raises(GgufError, match=r'tensor "scale" ends at byte \d+, but the file has only'):
        parse(tmp_path, SAMPLE[:-30])


def test_every_shorter_file_is_refused(tmp_path):
    # The last tensor's padding may go; everything before is needed.
    for length in range(len(SAMPLE) - 28):
        with pytest.raises(GgufError):
            parse(tmp_path, SAMPLE[:length])
    assert parse(tmp_path, SAMPLE[:-28]).tensors


def test_texts_have_a_limit_together(tmp_path, monkeypatch):
    monkeypatch.setattr("ollama_nb.gguf.reader.MAX_TEXT", 1000)
    assert parse(tmp_path, write({"a": "x" * 400, "b": "x" * 400})).metadata
    with pytest.raises(GgufError, match="longer than 1000 bytes together"):
        parse(tmp_path, write({"a": "x" * 600, "b": "x" * 600}))


def test_a_tensor_without_elements_takes_no_room(tmp_path):
    assert parse(tmp_path, file_of([], [tensor(shape=(0, 5))], data=bytes(40))).tensors[0].size == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_nothing_stays_open_or_mapped(tmp_path):
    header = parse(tmp_path, SAMPLE)
    list(header.metadata["tokenizer.ggml.tokens"])
    # The folder's own listing is a file descriptor that has gone by the time it is looked at.
    opened = {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
    path = str(tmp_path / "model.gguf")
    assert path not in opened
    assert path not in Path("/proc/self/maps").read_text(encoding="utf-8")


def read_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        header = read_header(path)
    except GgufError:
        return
    assert header.file_size == len(data)
    for row in header.tensors:
        assert header.data_offset + row.offset + row.size <= len(data)
    for value in header.metadata.values():
        if isinstance(value, GgufArray):
            assert len(list(value)) == len(value)


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
LENGTHS = st.sampled_from([0, 1, 9, 255, 2**16, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1])


@given(changes=st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@FUZZ
def test_changed_bytes_are_read_or_refused(tmp_path, changes):
    data = bytearray(SAMPLE)
    for place, byte in changes:
        data[place] = byte
    read_or_refuse(tmp_path / "fuzz.gguf", bytes(data))


@given(place=st.integers(4, len(SAMPLE) - 8), number=LENGTHS, version=st.sampled_from([1, 2, 3]))
@FUZZ
def test_changed_lengths_are_read_or_refused(tmp_path, place, number, version):
    data = bytearray(write(METADATA, TENSORS, version))
    data[place : place + 8] = struct.pack("<Q", number)
    read_or_refuse(tmp_path / "fuzz.gguf", bytes(data))


@given(rest=st.binary(max_size=200), version=st.sampled_from([1, 2, 3]))
@FUZZ
def test_any_bytes_after_the_magic_are_read_or_refused(tmp_path, rest, version):
    read_or_refuse(tmp_path / "fuzz.gguf", b"GGUF" + struct.pack("<I", version) + rest)
