"""GGUF files made to order, by a writer that shares no code with the reader under test but the sizes of types."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ollama_nb.gguf.ggml_types import GGML_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CODES = {
    "uint8": (0, "B"), "int8": (1, "b"), "uint16": (2, "H"), "int16": (3, "h"), "uint32": (4, "I"),
    "int32": (5, "i"), "float32": (6, "f"), "bool": (7, "?"), "uint64": (10, "Q"), "int64": (11, "q"),
    "float64": (12, "d"),
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_TENSOR_TYPES = {stored.name: (code, stored) for code, stored in GGML_TYPES.items()}


def gguf_bytes(
    metadata: Mapping[str, Any] | None = None,
    tensors: Iterable[tuple[Any, ...]] = (),
    version: int = 3,
) -> bytes:
    """A GGUF file.

    A value is a bool, int (uint32, or int32 if negative), float (float32), str, a list of these, or
    ``(type name, value or list)`` to choose the type, such as ``("uint64", 7)`` or ``("string", [])``.
    A tensor is ``(name, type name, shape)`` with zeros as data, or ``(name, type name, shape, data)``.
    """
    width = "<I" if version == 1 else "<Q"
    metadata, tensors = metadata or {}, list(tensors)
    parts = [b"GGUF", struct.pack("<I", version), struct.pack(width, len(tensors)), struct.pack(width, len(metadata))]
    for key, value in metadata.items():
        parts += [_text(key, width), _value(value, width)]
    alignment = metadata.get("general.alignment", 32)
    data = b""
    for name, type_name, shape, *given in tensors:
        code, stored = _TENSOR_TYPES[type_name]
        size = stored.type_size
        for extent in shape:
            size *= extent
        raw = given[0] if given else bytes(size // stored.block_size)
        parts += [_text(name, width), struct.pack("<I", len(shape))]
        parts += [struct.pack(width, extent) for extent in shape]
        parts.append(struct.pack("<IQ", code, len(data)))
        data += raw + bytes(-len(raw) % alignment)
    header = b"".join(parts)
    return header + bytes(-len(header) % alignment) + data if tensors else header


def _text(text: str | bytes, width: str) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack(width, len(raw)) + raw


def _value(value: Any, width: str) -> bytes:
    if isinstance(value, tuple):
        type_name, value = value
    else:
        type_name = _natural(value[0] if isinstance(value, list) else value)
    if isinstance(value, list):
        code = _STRING if type_name == "string" else _CODES[type_name][0]
        items = b"".join(_item(item, type_name, width) for item in value)
        return struct.pack("<II", _ARRAY, code) + struct.pack(width, len(value)) + items
    code = _STRING if type_name == "string" else _CODES[type_name][0]
    return struct.pack("<I", code) + _item(value, type_name, width)


def _item(value: Any, type_name: str, width: str) -> bytes:
    return _text(value, width) if type_name == "string" else struct.pack(f"<{_CODES[type_name][1]}", value)


def _natural(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "uint32" if value >= 0 else "int32"
    return "float32" if isinstance(value, float) else "string"
