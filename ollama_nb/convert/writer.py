"""Writing a GGUF file: header first, then the tensors one after the other as they are read.

``gguf.GGUFWriter`` writes the header; the numbers follow in blocks, because a whole tensor of a large model is more
than memory should hold. What llama.cpp would not load is refused before anything is written.

Source: the GGUF specification of ggml (``docs/gguf.md``); the limits are those of its reader.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.weights import bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.weights import Weight

__all__ = ["write_gguf"]

_ALIGNMENT: Final = 32
_FILE_TYPES: Final = {"F32": 0, "F16": 1, "BF16": 32}
_NUMPY: Final = {"F32": "float32", "F16": "float16", "BF16": "uint16"}
_MATRIX: Final = 2

_MAX_NAME: Final = 63
"""Bytes of a tensor's name: ``GGML_MAX_NAME`` is 64, with a zero at the end."""

_MAX_DIMENSIONS: Final = 4
_MAX_STRING: Final = 16 << 20
"""Bytes of a text, as in ``gguf.scan``."""


def write_gguf(
    path: Path,
    metadata: Mapping[str, MetaValue],
    weights: Sequence[Weight],
    wanted: str,
    progress: Callable[[int, int], None],
) -> None:
    """Write ``weights`` to ``path``, as ``wanted`` (``F32``, ``F16``, ``BF16``; empty: as ``Weight.dtype`` decides).

    ``metadata`` has ``general.architecture``; ``general.file_type`` is added. ``progress`` is told the bytes written
    and all bytes, never fewer than before, all at the end. Raises ``ConvertError`` for weights that will not do,
    ``OSError`` as the disk does; then ``path`` is whatever had been written.
    """
    _check(weights)
    dtypes = [weight.dtype(wanted) for weight in weights]
    sizes = [bytes_of(weight.elements, dtype) for weight, dtype in zip(weights, dtypes, strict=True)]
    _write_header(path, {**metadata, "general.file_type": _file_type(weights, dtypes)}, weights, dtypes)
    total, done = sum(sizes), 0
    progress(0, total)
    with path.open("ab") as file:
        for weight, dtype, size in zip(weights, dtypes, sizes, strict=True):
            _pad(file)
            written = 0
            for block in weight.blocks(dtype):
                file.write(block.data)
                written += block.nbytes
                # A weight that is longer than it should be is found out below.
                progress(done + min(written, size), total)
            if written != size:
                raise RuntimeError(f"{weight.name} has {written} bytes instead of {size}")
            done += size
        _pad(file)


def _check(weights: Sequence[Weight]) -> None:
    """Raises for what llama.cpp would not take: names, dimensions, one name twice."""
    if not weights:
        raise ConvertError("the model has no tensors")
    names = set[str]()
    for weight in weights:
        if weight.name in names:
            raise ConvertError(f"two tensors of the files are {shown(weight.name)}, which a model has once")
        names.add(weight.name)
        if not 0 < len(weight.name.encode()) <= _MAX_NAME:
            raise ConvertError(f"the name {shown(weight.name)} is too long: the limit is {_MAX_NAME} bytes")
        if len(weight.shape) > _MAX_DIMENSIONS or 0 in weight.shape:
            raise ConvertError(
                f"{weight.name} has the shape {list(weight.shape)}; "
                f"a tensor has 1 to {_MAX_DIMENSIONS} dimensions, and numbers in it"
            )


def _write_header(
    path: Path, metadata: Mapping[str, MetaValue], weights: Sequence[Weight], dtypes: Sequence[str]
) -> None:
    writer = GGUFWriter(path, str(metadata["general.architecture"]))
    try:
        for key, value in metadata.items():
            if key != "general.architecture":
                _add(writer, key, value)
        for weight, dtype in zip(weights, dtypes, strict=True):
            code = GGMLQuantizationType[dtype]
            size = bytes_of(weight.elements, dtype)
            writer.add_tensor_info(weight.name, weight.shape or (1,), np.dtype(_NUMPY[dtype]), size, raw_dtype=code)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _add(writer: GGUFWriter, key: str, value: MetaValue) -> None:
    """Add one value, after a trial whether it can be written at all: the writer itself would give up halfway."""
    kind, item = _kind(value)
    if kind is GGUFValueType.ARRAY and not value:
        return  # an empty list has no type, and says no more than none at all
    try:
        for single in value if isinstance(value, list) else (value,):
            _try(single, item)
    except (struct.error, OverflowError, UnicodeEncodeError, ValueError) as error:
        raise ConvertError(f'"{key}" cannot be stored: {error}') from error
    writer.add_key_value(key, value, kind, sub_type=item if kind is GGUFValueType.ARRAY else None)


def _kind(value: MetaValue) -> tuple[GGUFValueType, GGUFValueType]:
    """The type of a value, and of its items where it is a list."""
    if isinstance(value, bytes):
        return GGUFValueType.ARRAY, GGUFValueType.UINT8
    if isinstance(value, list):
        return GGUFValueType.ARRAY, _item_type(value)
    kind = _item_type([value])
    if kind is GGUFValueType.INT32 and isinstance(value, int) and value >= 0:
        kind = GGUFValueType.UINT32
    return kind, kind


def _item_type(values: Sequence[object]) -> GGUFValueType:
    first = values[0] if values else ""
    if isinstance(first, bool):
        return GGUFValueType.BOOL
    if isinstance(first, int):
        return GGUFValueType.INT32
    return GGUFValueType.FLOAT32 if isinstance(first, float) else GGUFValueType.STRING


_LAYOUTS: Final = {
    GGUFValueType.INT32: struct.Struct("<i"),
    GGUFValueType.UINT32: struct.Struct("<I"),
    GGUFValueType.FLOAT32: struct.Struct("<f"),
}


def _try(value: object, kind: GGUFValueType) -> None:
    """Raises what ``struct`` and ``str.encode`` raise for a value that does not fit."""
    if isinstance(value, str) and len(value.encode()) > _MAX_STRING:
        raise ValueError(f"a text is longer than {_MAX_STRING} bytes")
    if kind in _LAYOUTS:
        _LAYOUTS[kind].pack(value)


def _file_type(weights: Sequence[Weight], dtypes: Sequence[str]) -> int:
    """The number for what most numbers in matrices are stored as."""
    count = dict.fromkeys(_FILE_TYPES, 0)
    for weight, dtype in zip(weights, dtypes, strict=True):
        if len(weight.shape) >= _MATRIX:
            count[dtype] += math.prod(weight.shape)
    return _FILE_TYPES[max(count, key=lambda dtype: count[dtype])]


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))
