"""Reading the header of a GGUF file that nobody vouches for.

Versions 1 to 3, little-endian. Every number from the file is checked before it is used: counts against the bytes
that are left, tensors against the end of the file, so that the engine never maps what is not there. The file is
closed when the header is returned. What the header means is left to ``header``.

Source: the GGUF specification of ggml (``docs/gguf.md``); the limits are Ollama's, where it has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ollama_nb.gguf.arrays import KEPT_ITEMS, GgufArray
from ollama_nb.gguf.ggml_types import GGML_TYPES
from ollama_nb.gguf.header import GgufValue, Header, TensorInfo, format_parameter_count
from ollama_nb.gguf.scan import MAX_STRING, STRING, VALUE_TYPES, GgufError, Scanner, shortest_float

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["GgufArray", "GgufError", "Header", "TensorInfo", "format_parameter_count", "read_header"]

MAGIC: Final = b"GGUF"
NOT_GGUF: Final = "supplied file was not in GGUF format"
"""Ollama's words for any other file."""

MAX_ARRAY: Final = 64 << 20
MAX_DIMENSIONS: Final = 4
MAX_NAME: Final = 65535
MAX_KEYS: Final = 1 << 16
MAX_TENSORS: Final = 1 << 18
MAX_TEXT: Final = 64 << 20
"""Bytes of all single strings together: they are kept in memory, so their sum has a limit of its own."""

_ARRAY: Final = 9
_FLOAT32: Final = 6
_DEFAULT_ALIGNMENT: Final = 32
_MAX_SIZE: Final = (1 << 63) - 1
_VERSIONS: Final = (1, 2, 3)


def read_header(path: Path) -> Header:
    """The header of a GGUF file.

    Raises GgufError for a file that is no GGUF file, or a broken, truncated or oversized one; OSError if it cannot
    be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if file.read(len(MAGIC)) != MAGIC:
            raise GgufError(NOT_GGUF)
        version = Scanner(file, size, len(MAGIC)).uint32()
        if version not in _VERSIONS:
            raise _version_error(version)
        scanner = Scanner(file, size, len(MAGIC) + 4, wide=version > 1)
        return _read_body(path, scanner, version, size)


def _version_error(version: int) -> GgufError:
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in _VERSIONS:
        return GgufError("this is a big-endian GGUF file; only little-endian files are supported")
    return GgufError(f"GGUF version {version} is not supported; versions 1 to 3 are")


def _read_body(path: Path, scanner: Scanner, version: int, size: int) -> Header:
    """Everything after the version."""
    width = scanner.length_layout.size
    tensor_count = _count(scanner, "tensors", MAX_TENSORS, smallest=width + 16)
    key_count = _count(scanner, "keys", MAX_KEYS, smallest=width + 5)
    metadata = _read_metadata(path, scanner, key_count)
    alignment = _alignment(metadata)
    tensors: dict[str, TensorInfo] = {}
    for _ in range(tensor_count):
        tensor = _read_tensor(scanner, alignment)
        if tensor.name in tensors:
            raise GgufError(f'tensor "{tensor.name}" appears twice')
        tensors[tensor.name] = tensor
    data_offset = -(-scanner.offset // alignment) * alignment
    for tensor in tensors.values():
        end = data_offset + tensor.offset + tensor.size
        if end > size:
            raise GgufError(f'tensor "{tensor.name}" ends at byte {end}, but the file has only {size}')
    return Header(
        version=version,
        metadata=metadata,
        tensors=list(tensors.values()),
        data_offset=data_offset,
        alignment=alignment,
        file_size=size,
    )


def _count(scanner: Scanner, what: str, limit: int, smallest: int) -> int:
    """A count of things that take at least ``smallest`` bytes each."""
    count = scanner.length()
    if count > limit or count * smallest > scanner.remaining:
        raise GgufError(f"the GGUF header claims {count} {what}, more than the file can hold")
    return count


def _read_metadata(path: Path, scanner: Scanner, count: int) -> dict[str, GgufValue]:
    metadata: dict[str, GgufValue] = {}
    text_bytes = 0
    for _ in range(count):
        key = _name(scanner, "a key")
        if key in metadata:
            raise GgufError(f'key "{key}" appears twice')
        before = scanner.offset
        metadata[key] = value = _read_value(path, scanner, key)
        if isinstance(value, str):
            text_bytes += scanner.offset - before
            if text_bytes > MAX_TEXT:
                raise GgufError(f"the texts in the GGUF header are longer than {MAX_TEXT} bytes together")
    return metadata


def _name(scanner: Scanner, what: str) -> str:
    """The name of a key or tensor."""
    raw = scanner.string(f"the name of {what}", MAX_NAME)
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise GgufError(f"the name of {what} is not UTF-8") from None
    # Names stand in errors, and a terminal obeys some of what does not print.
    if not name.isprintable():
        raise GgufError(f"the name of {what} has characters that do not print")
    return name


def _read_value(path: Path, scanner: Scanner, key: str) -> GgufValue:
    code = scanner.uint32()
    if code == STRING:
        return scanner.string(f'the value of "{key}"', MAX_STRING).decode("utf-8", "replace")
    if code == _ARRAY:
        return _read_array(path, scanner, key)
    if code not in VALUE_TYPES:
        raise GgufError(f'key "{key}" has the unknown type {code}')
    value = scanner.number(VALUE_TYPES[code][1])
    return shortest_float(value) if code == _FLOAT32 else value


def _read_array(path: Path, scanner: Scanner, key: str) -> GgufArray:
    """Where an array is; only short numeric ones are read."""
    code = scanner.uint32()
    length = scanner.length()
    if code == _ARRAY:
        raise GgufError(f'key "{key}" is an array of arrays, which is not supported')
    if code != STRING and code not in VALUE_TYPES:
        raise GgufError(f'key "{key}" is an array of the unknown type {code}')
    if length > MAX_ARRAY:
        raise GgufError(f'key "{key}" is an array of {length} items; the limit is {MAX_ARRAY}')
    width = scanner.length_layout.size
    item_size = width if code == STRING else VALUE_TYPES[code][1].size
    if length * item_size > scanner.remaining:
        raise GgufError(f'key "{key}" is an array of {length} items, more than the file can hold')
    offset, kept = scanner.offset, None
    if code == STRING:
        scanner.skip_strings(length, f'"{key}"')
    elif length <= KEPT_ITEMS:
        kept = scanner.take(length * item_size)
    else:
        scanner.skip(length * item_size)
    return GgufArray(path, code, length, offset, wide=width > 4, kept=kept)  # noqa: PLR2004 - bytes of version 1


def _alignment(metadata: dict[str, GgufValue]) -> int:
    """What the offsets of the data are multiples of."""
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0 or value & (value - 1):
        raise GgufError("general.alignment is not a power of two")
    return value


def _read_tensor(scanner: Scanner, alignment: int) -> TensorInfo:
    """One row of the tensor table, checked in itself; whether its data is there is known only after the last."""
    name = _name(scanner, "a tensor")
    dimensions = scanner.uint32()
    if dimensions > MAX_DIMENSIONS:
        raise GgufError(f'tensor "{name}" has {dimensions} dimensions; the limit is {MAX_DIMENSIONS}')
    shape = tuple(scanner.length() for _ in range(dimensions))
    code = scanner.uint32()
    offset = scanner.uint64()
    stored = GGML_TYPES.get(code)
    if stored is None:
        raise GgufError(f'tensor "{name}" has the unknown type {code}')
    elements = 1
    for extent in shape:
        elements *= extent
        if elements > _MAX_SIZE:
            raise GgufError(f'tensor "{name}" is too large')
    row = shape[0] if shape else 1
    if row % stored.block_size:
        raise GgufError(
            f'tensor "{name}" has rows of {row}, not a multiple of {stored.block_size} as {stored.name} needs'
        )
    size = elements // stored.block_size * stored.type_size
    if size > _MAX_SIZE or offset > _MAX_SIZE:
        raise GgufError(f'tensor "{name}" is too large')
    if offset % alignment:
        raise GgufError(f'tensor "{name}" begins at {offset}, not a multiple of the alignment {alignment}')
    return TensorInfo(name, stored.name, shape, offset, size)
