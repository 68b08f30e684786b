"""Reading safetensors files that nobody vouches for: the table of tensors, and the numbers of one tensor at a time.

Everything the header says is checked before anything is read by it: its size, every dtype, shape and offset, that
tensors neither overlap nor leave holes nor reach past the end of the file. Data is read, not mapped, so that a file
cut short meanwhile is an error and no fault of the process. The ``safetensors`` package would do for sound files,
but gives numpy no bfloat16 and one word for all errors.

Source: the format's description in the safetensors project (README, "Format"); limits are those of its library.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.untrusted import open_file, parse_object, read_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["DTYPES", "MAX_HEADER", "MAX_TENSORS", "SafetensorsError", "StoredTensor", "read_table"]

MAX_HEADER: Final = 100_000_000
"""Bytes of JSON at the beginning."""

MAX_TENSORS: Final = 1 << 18
"""Tensors of one file; the largest model there is has 91,991 in all its files."""

MAX_DIMENSIONS: Final = 8
MAX_NAME: Final = 1024

DTYPES: Final = {"F32": 4, "F16": 2, "BF16": 2}
"""What weights may be stored as, and the bytes of a number."""

_OTHER_DTYPES: Final = {
    "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
_SIZES: Final = {**DTYPES, **_OTHER_DTYPES}
_NUMPY: Final[dict[str, Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_LENGTH: Final = struct.Struct("<Q")

_LOOKALIKES: Final = (
    (b"version https://git-lfs", "It is only the pointer that Git LFS left in place of the file: run git lfs pull."),
    (b"GGUF", "It is a GGUF file: give it the ending .gguf."),
    (b"PK\x03\x04", "It looks like a pickle of torch.save: save the model as safetensors."),
    (b"\x80", "It looks like a pickle: save the model as safetensors."),
    (b"<", "It looks like a web page: the download may have failed."),
)
"""What files of that name often are instead."""

_BEGINNING: Final = 24
"""Bytes in which that can be seen."""


class SafetensorsError(ConvertError):
    """What is wrong with a safetensors file."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: ``shape`` has rows first; ``offset`` and ``size`` are in bytes from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size: int

    def rows(self, begin: int, end: int) -> StoredTensor:
        """The entries ``begin`` to ``end`` along the first dimension, as a tensor of their own in the same file.

        Raises ``SafetensorsError`` if it has not so many.
        """
        if not self.shape or not 0 <= begin <= end <= self.shape[0]:
            raise SafetensorsError(
                f'tensor "{self.name}" has the shape {list(self.shape)}, but its entries {begin} to {end} are needed'
            )
        step = self.size // self.shape[0] if self.shape[0] else 0
        return replace(
            self, shape=(end - begin, *self.shape[1:]), offset=self.offset + begin * step, size=(end - begin) * step
        )

    def entry(self, index: int) -> StoredTensor:
        """One entry along the first dimension, such as one expert of many; raises as ``rows`` does."""
        one = self.rows(index, index + 1)
        return replace(one, shape=one.shape[1:])

    def read(self) -> NDArray[Any]:
        """The numbers as they are stored, of shape ``shape``: float32, float16, or for BF16 their bits as uint16.

        Raises ``SafetensorsError`` for a dtype that is no weight's, or when the file has become shorter.
        """
        (data,) = self.read_blocks(max(1, math.prod(self.shape)))
        return data.reshape(self.shape)

    def read_blocks(self, count: int) -> Iterator[NDArray[Any]]:
        """The same numbers in order, flat, up to ``count`` at once, at least one block; raises as ``read`` does."""
        dtype = _NUMPY.get(self.dtype)
        if dtype is None:
            raise SafetensorsError(
                f'tensor "{self.name}" is stored as {self.dtype}, which cannot be converted',
                hint="Save the model in float32, float16 or bfloat16, without quantisation.",
            )
        left = math.prod(self.shape)
        file, _ = open_file(self.path, f'the file of tensor "{self.name}"')
        with file:
            file.seek(self.offset)
            while True:
                data = np.empty(min(count, left), dtype=dtype)
                if not _fill(file, data):
                    raise SafetensorsError(f'tensor "{self.name}" ends before its {self.size} bytes are complete')
                yield data
                left -= data.size
                if left == 0:
                    return


def _fill(file: FileIO, data: NDArray[Any]) -> bool:
    """Read into an array; whether the file had enough for it."""
    view = data.view(np.uint8).data
    while view:
        got = file.readinto(view)
        if not got:
            return False
        view = view[got:]
    return True


def read_table(path: Path, label: str) -> dict[str, StoredTensor]:
    """The tensors of the file at ``path`` by name; ``label`` is what errors call the file.

    Raises ``ConvertError`` for anything that is no sound safetensors file, ``OllamaError`` if it cannot be read.
    """
    file, file_size = open_file(path, label)
    with file:
        start = read_exactly(file, _BEGINNING)
        if len(start) < _LENGTH.size:
            raise SafetensorsError(f"{label} is no safetensors file: it has only {file_size} bytes")
        (length,) = _LENGTH.unpack_from(start)
        claim = f"{label} is no safetensors file: it claims a header of {length} bytes"
        if length > MAX_HEADER:
            raise SafetensorsError(f"{claim}; the limit is {MAX_HEADER}", hint=_lookalike(start))
        if _LENGTH.size + length > file_size:
            raise SafetensorsError(f"{claim}, but has {file_size} bytes altogether")
        file.seek(_LENGTH.size)
        data = read_exactly(file, length)
    if len(data) < length:
        raise SafetensorsError(f"{label} ends inside its header")
    begin = _LENGTH.size + length
    header = _header(data, label)
    tensors = {name: _tensor(name, entry, path, label, begin) for name, entry in header.items()}
    _check_extents(tensors, begin, file_size, label)
    return tensors


def _lookalike(start: bytes) -> str | None:
    """What the file may be instead: read as a length, what such files begin with is past all limits."""
    return next((hint for sign, hint in _LOOKALIKES if start.startswith(sign)), None)


def _header(data: bytes, label: str) -> dict[str, Any]:
    """The rows of the table, without what the header says about the file."""
    header = parse_object(data, f"the header of {label}", strict=True)
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise SafetensorsError(f"{label}: __metadata__ is no object of texts")
    if len(header) > MAX_TENSORS:
        raise SafetensorsError(f"{label} has {len(header)} tensors; the limit is {MAX_TENSORS}")
    return header


def _tensor(name: str, entry: Any, path: Path, label: str, begin: int) -> StoredTensor:  # noqa: ANN401 - any JSON
    """One row of the table, checked in itself."""
    if len(name) > MAX_NAME:
        raise SafetensorsError(f"{label}: the name of a tensor has {len(name)} characters; the limit is {MAX_NAME}")
    if not name.isprintable():
        raise SafetensorsError(f"{label}: the name of a tensor has control characters: {shown(name)}")
    where = f'{label}: tensor "{name}"'
    if not isinstance(entry, dict):
        raise SafetensorsError(f"{where} is not described by a JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise SafetensorsError(f"{where} has the unknown dtype {shown(dtype)}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise SafetensorsError(f"{where} has the impossible shape {shown(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        raise SafetensorsError(f"{where} has the impossible offsets {shown(offsets)}")
    size = math.prod(shape) * _SIZES[dtype]
    if offsets[1] - offsets[0] != size:
        raise SafetensorsError(f"{where} has {offsets[1] - offsets[0]} bytes, but its shape and dtype need {size}")
    return StoredTensor(name, dtype, tuple(shape), path, begin + offsets[0], size)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    """Whether ``value`` is a list of whole numbers that a 64-bit size can hold."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _check_extents(tensors: dict[str, StoredTensor], begin: int, file_size: int, label: str) -> None:
    """Raises unless the tensors fill the file from the header to its end, one after the other."""
    end = begin
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset + tensor.size > file_size:
            raise SafetensorsError(
                f'{label}: tensor "{tensor.name}" ends at byte {tensor.offset + tensor.size}, '
                f"but the file has only {file_size}",
                hint="The file may have been cut short on its way: download it again.",
            )
        if tensor.offset != end:
            what = "overlaps the one before it" if tensor.offset < end else "leaves a hole before it"
            raise SafetensorsError(f'{label}: tensor "{tensor.name}" {what}')
        end = tensor.offset + tensor.size
    if end != file_size:
        raise SafetensorsError(f"{label}: {file_size - end} bytes at the end belong to no tensor")
