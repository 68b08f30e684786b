"""A mutator of files: what is right is made wrong in one place or a few, by chance that a seed repeats.

Bytes are flipped, cut off, put in and repeated; JSON gets other values, names and types; the headers of safetensors
and GGUF files get other lengths, shapes, offsets and types. Nothing here knows what the answer should be.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final

from malformed import positions, put

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["mutated_bytes", "mutated_gguf", "mutated_json", "mutated_model", "mutated_safetensors", "number_places"]

_EXTREMES: Final = (
    0, 1, 2, 3, 7, 8, 31, 63, 64, 127, 255, 256, 4096, 65535, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, "", "x", "\x1b[31m", "a\nb", "../config.json", "/etc/passwd", "ü" * 300, "x" * 5000, [], {},
    [[]], [None], {"a": {}}, 0, -1, 1, 2, 3, 5, 15, 16, 17, 63, 65, 1 << 31, 1 << 64, 10**400, -(10**20), 0.5, -0.0,
    1e-45, 1e30, 1e308, float("nan"), float("inf"), "F64", "BF16", "F16", "U8", "F8_E4M3", "LlamaForCausalLM",
    "llama3", "linear", "yarn", "BPE", "Unigram",
)  # fmt: skip
_DTYPES: Final = ("F32", "F16", "BF16", "F64", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "f32", "", "F32 ")


def mutated_model(files: Mapping[str, bytes], chance: random.Random) -> tuple[str, dict[str, bytes]]:
    """A model's files with one of them made wrong, or gone, and what has been done."""
    changed = dict(files)
    weights = [name for name in files if name.endswith(".safetensors")]
    texts = [name for name in files if name.endswith(".json")]
    # Most of what can go wrong is in the safetensors' header and in config.json.
    name = chance.choice([chance.choice(weights), chance.choice(weights), "config.json", chance.choice(texts)])
    if chance.random() < 0.02:
        del changed[name]
        return f"{name} is gone", changed
    make = mutated_safetensors if name in weights else mutated_json
    what, changed[name] = make(files[name], chance)
    return f"{name}: {what}", changed


def mutated_bytes(data: bytes, chance: random.Random, reach: int | None = None) -> tuple[str, bytes]:
    """Any file; ``reach`` are the bytes at its beginning in which something is changed."""
    place = chance.randrange(max(1, min(len(data), reach or len(data))))
    length = chance.choice((1, 2, 4, 8, 100))
    some = chance.randbytes(length)
    number = chance.choice(_EXTREMES).to_bytes(8, "little")
    return chance.choice(
        (
            (f"bit at {place}", _flipped(data, place, chance)),
            (f"bits from {place}", _flipped(_flipped(data, place, chance), (place * 7) % len(data), chance)),
            (f"cut at {place}", data[:place]),
            (f"cut by {length}", data[:-length]),
            (f"{length} more", data + some),
            (f"{length} zeros more", data + bytes(length)),
            (f"{length} put in at {place}", data[:place] + some + data[place:]),
            (f"{length} taken out at {place}", data[:place] + data[place + length :]),
            (f"{length} others at {place}", data[:place] + some + data[place + length :]),
            (f"number at {place}", data[:place] + number + data[place + 8 :]),
            (f"repeated from {place}", data[: place + length] + data[place:]),
        )
    )


def mutated_json(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """JSON with another value, name or nothing at some position, or JSON no more."""
    value = json.loads(data)
    places = list(positions(value))
    # A position in a long list, such as a vocabulary, is one among thousands: choose the outer part first.
    top = chance.choice(list(value))
    place = chance.choice([place for place in places if place[0] == top])
    kind = chance.randrange(6)
    if kind == 0:
        return mutated_bytes(data, chance)
    if kind == 1:
        return f"{_short(place)} is gone", _written(_without(value, place))
    if kind == 2:
        number = chance.choice((*_EXTREMES, -1, -2, 0.5, 3))
        return f"{_short(place)} = {number}", _written(put(value, place, number))
    if kind == 3:
        name = chance.choice(("", "x", top.upper(), "\ud800", "\x00", "architectures", "x" * 2000))
        return f"{_short(place)} also as {name!r:.20}", _written({**value, name: value[top]})
    if kind == 4:
        text = chance.choice(_TEXTS)
        marked = _written(put(value, place, "@@@"))
        return f"{_short(place)} = {text[:20]!r}", marked.replace(b'"@@@"', text)
    other = chance.choice(_VALUES)
    return f"{_short(place)} = {other!r:.30}", _written(put(value, place, other))


_TEXTS: Final = (
    b"", b"NaN", b"-Infinity", b"1e999", b"0x10", b"01", b"9" * 5000, b"[" * 3000, b"[" * 3000 + b"]" * 3000,
    b'{"a":' * 2000 + b"1" + b"}" * 2000, b'"\\ud83d"', b'"\xff"', b'"\x00"', b'"\\u0000"', b"null, null",
    b'1, "hidden_size": 5', b"'x'", b"//", b"}",
)  # fmt: skip
"""What stands where a value should, without regard to JSON."""


def mutated_safetensors(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A safetensors file with something wrong in its header, its length, or, seldom and without harm, its numbers."""
    (length,) = struct.unpack_from("<Q", data)
    header, numbers = data[8 : 8 + length], data[8 + length :]
    kind = chance.randrange(10)
    if kind == 0:
        return mutated_bytes(data, chance)
    if kind == 1:
        return mutated_bytes(data, chance, reach=8 + length)
    if kind == 2:
        other = chance.choice((*_EXTREMES, length - 1, length + 1, len(data), 100_000_000, 100_000_001))
        return f"length {other}", struct.pack("<Q", other) + data[8:]
    if kind == 3:
        what, changed = mutated_json(header, chance)
        return f"header: {what}", struct.pack("<Q", len(changed)) + changed + numbers
    table = json.loads(header)
    what = _mutate_table(table, chance)
    changed = _written(table)
    return what, struct.pack("<Q", len(changed)) + changed + numbers


def _mutate_table(table: dict[str, Any], chance: random.Random) -> str:
    """Change some rows of a table of tensors in place."""
    names = [name for name in table if name != "__metadata__"]
    one, two = chance.choice(names), chance.choice(names)
    row, other = table[one], table[two]
    begin, end = row["data_offsets"]
    extreme = chance.choice((*_EXTREMES, -1))

    def swap(key: str) -> None:
        row[key], other[key] = other[key], row[key]

    changes: dict[str, Callable[[], Any]] = {
        "dtype": lambda: row.update(dtype=chance.choice(_DTYPES)),
        "reversed": row["shape"].reverse,
        "flat": lambda: row.update(shape=[int((end - begin) / 4)]),
        "one more dimension": lambda: row["shape"].insert(0, 1),
        "nine dimensions": lambda: row.update(shape=[*row["shape"], *[1] * 9]),
        "no dimension": lambda: row.update(shape=[]),
        "extent": lambda: row["shape"].__setitem__(0, extreme),
        "huge extents": lambda: row.update(shape=[1 << 32, 1 << 32, 1 << 32]),
        "halves": lambda: row.update(dtype="F16", shape=[*row["shape"], 2]),
        "begin": lambda: row.update(data_offsets=[extreme, end]),
        "end": lambda: row.update(data_offsets=[begin, extreme]),
        "moved": lambda: row.update(data_offsets=[begin + 4, end + 4]),
        "backwards": row["data_offsets"].reverse,
        "offsets swapped": lambda: swap("data_offsets"),
        "shapes swapped": lambda: swap("shape"),
        "rows swapped": lambda: table.update({one: other, two: row}),
        "gone": lambda: table.pop(one),
        "renamed": lambda: table.update({_renamed(one, chance): table.pop(one)}),
        "twice": lambda: table.update({_renamed(one, chance): dict(row)}),
        "empty": lambda: row.update(shape=[0, *row["shape"]], data_offsets=[begin, begin]),
        "empty and new": lambda: table.update({"x": {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}}),
        "no row": lambda: table.update({one: chance.choice(_VALUES)}),
        "no dtype": lambda: row.pop("dtype"),
        "metadata": lambda: table.update(__metadata__=chance.choice(_VALUES)),
    }
    what = chance.choice(list(changes))
    changes[what]()
    return f"{one} {what}"


def _renamed(name: str, chance: random.Random) -> str:
    return chance.choice(
        (
            name.replace("0", "1"), name.replace("1", "0"), name.replace("layers.1", "layers.7"), name.upper(),
            name.removesuffix(".weight"), name.replace("weight", "bias"), f"{name}\n", f"model.{name}", "",
            name.replace("layers.1", "layers.01"), name * 100, name.replace("q_proj", "k_proj"), "lm_head.weight",
            name.replace("weight", "qweight"), "\ud800", "rotary_emb.inv_freq",
        )
    )  # fmt: skip


def mutated_gguf(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A GGUF file with other bytes in its header, or with other numbers where it has counts, lengths and values."""
    places = list(number_places(data))
    reach = places[-1][1]
    if chance.random() < 0.4:
        return mutated_bytes(data, chance, reach=chance.choice((24, reach, reach, len(data))))
    # A vocabulary has most of the numbers: the kind is chosen first.
    what = chance.choice(sorted({what for what, _, _ in places}))
    _, place, size = chance.choice([place for place in places if place[0] == what])
    old = int.from_bytes(data[place : place + size], "little")
    new = chance.choice((*_EXTREMES, old + 1, old - 1, old * 2, old // 2, 1 << (8 * size - 1))) % (1 << (8 * size))
    return f"{what} at {place}: {old} -> {new}", data[:place] + new.to_bytes(size, "little") + data[place + size :]


_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of GGUF's numbers by the number of their type."""


def number_places(data: bytes) -> Iterator[tuple[str, int, int]]:
    """What, where and how long the numbers in the header of a sound GGUF file are; the keys' values by their names."""
    place = 4

    def number(size: int) -> int:
        nonlocal place
        place += size
        return int.from_bytes(data[place - size : place], "little")

    def text() -> str:
        nonlocal place
        length = number(8)
        place += length
        return data[place - length : place].decode(errors="replace")

    yield "version", 4, 4
    number(4)
    yield from (("tensors", 8, 8), ("keys", 16, 8))
    tensors, keys = number(8), number(8)
    for _ in range(keys):
        yield "length of a key", place, 8
        key = text()
        yield "type of a value", place, 4
        kind, count = number(4), 1
        if is_array := kind == 9:
            yield "type of an array", place, 4
            yield f"length of {key}", place + 4, 8
            kind, count = number(4), number(8)
        for index in range(count):
            if index < 16 or not is_array:
                yield "length of a text" if kind == 8 else key, place, _SIZES.get(kind, 8)
            text() if kind == 8 else number(_SIZES[kind])
    for _ in range(tensors):
        yield "length of a tensor's name", place, 8
        text()
        yield "dimensions", place, 4
        for _ in range(number(4)):
            yield "extent", place, 8
            number(8)
        yield "type of a tensor", place, 4
        yield "offset", place + 4, 8
        number(12)


def _flipped(data: bytes, place: int, chance: random.Random) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :] if data else data


def _without(value: Any, position: tuple[str | int, ...]) -> Any:
    inner = value
    for key in position[:-1]:
        inner = inner[key]
    copy: Any = inner.copy()
    del copy[position[-1]]
    return put(value, position[:-1], copy)


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


def _short(position: tuple[str | int, ...]) -> str:
    return ".".join(str(key)[:40] for key in position)
