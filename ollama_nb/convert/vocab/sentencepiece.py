"""Reading sentencepiece's ``tokenizer.model``: the few fields of its protobuf message that a tokenizer needs.

Every length and every number is checked, and wire types must be those of the field: the file is nobody's we know.

Source: ``sentencepiece_model.proto`` and the description of protobuf's wire format.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.vocab.tokens import MAX_TOKENS, TokenType

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BPE", "UNIGRAM", "Piece", "SentencePieceModel", "parse_sentencepiece"]

UNIGRAM: Final = 1
BPE: Final = 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_SKIPPED: Final = {_FIXED64: 8, _FIXED32: 4}

_Value: TypeAlias = int | bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A token with its score and type."""

    text: str
    score: float
    type: TokenType


@dataclass(slots=True)
class SentencePieceModel:
    """What the file says; numbers that it leaves out have the values that sentencepiece gives them."""

    pieces: list[Piece] = field(default_factory=list)
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    whitespace_as_suffix: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


_TRAINER: Final = {
    3: "model_type", 24: "whitespace_as_suffix", 35: "byte_fallback", 40: "unk_id", 41: "bos_id", 42: "eos_id",
    43: "pad_id",
}  # fmt: skip
_NORMALIZER: Final = {
    2: "charsmap", 3: "add_dummy_prefix", 4: "remove_extra_whitespaces", 5: "escape_whitespaces",
}  # fmt: skip
_PIECES, _TRAINER_SPEC, _NORMALIZER_SPEC = 1, 2, 3


def parse_sentencepiece(data: bytes) -> SentencePieceModel:
    """The message in ``data``; raises ``ConvertError``."""
    model = SentencePieceModel()
    for number, value in _fields(data):
        if number == _PIECES:
            model.pieces.append(_piece(_expect_bytes(value)))
            if len(model.pieces) > MAX_TOKENS:
                raise ConvertError(f"tokenizer.model has more than {MAX_TOKENS} tokens")
        elif number == _TRAINER_SPEC:
            _read_spec(model, _expect_bytes(value), _TRAINER)
        elif number == _NORMALIZER_SPEC:
            _read_spec(model, _expect_bytes(value), _NORMALIZER)
    if not model.pieces:
        raise ConvertError("tokenizer.model has no tokens")
    return model


def _read_spec(model: SentencePieceModel, data: bytes, names: dict[int, str]) -> None:
    for number, value in _fields(data):
        name = names.get(number)
        if name is None:
            continue
        if name == "charsmap":
            model.charsmap = _expect_bytes(value)
        elif isinstance(getattr(model, name), bool):
            setattr(model, name, _expect_int(value) != 0)
        else:
            setattr(model, name, _signed(_expect_int(value)))


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, int(TokenType.NORMAL)
    for number, value in _fields(data):
        if number == 1:
            try:
                text = _expect_bytes(value).decode()
            except UnicodeDecodeError as error:
                raise ConvertError(f"tokenizer.model has a token that is no UTF-8 text: {error}") from error
        elif number == 2:  # noqa: PLR2004 - fields of the message
            score = _float(value)
        elif number == 3:  # noqa: PLR2004
            kind = _expect_int(value)
    if not TokenType.NORMAL <= kind <= TokenType.BYTE:
        raise ConvertError(f"tokenizer.model has a token of the type {kind}")
    return Piece(text, score, TokenType(kind))


def _fields(data: bytes) -> Iterator[tuple[int, _Value]]:
    """The fields of one message: their numbers with a whole number or with bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(data, place)
        elif wire in _SKIPPED:
            length = _SKIPPED[wire]
        else:
            raise ConvertError(f"tokenizer.model is no sentencepiece model: it has a field of the wire type {wire}")
        if length > len(data) - place:
            raise ConvertError(
                f"tokenizer.model is cut short: a field claims {length} bytes where {len(data) - place} are left"
            )
        yield number, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[place : place + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:  # noqa: PLR2004 - the bit that says there is more
            return value, place + count + 1
    raise ConvertError("tokenizer.model is no sentencepiece model: a number does not end")


def _expect_bytes(value: _Value) -> bytes:
    if not isinstance(value, bytes):
        raise ConvertError("tokenizer.model is no sentencepiece model: a number stands where bytes belong")
    return value


def _expect_int(value: _Value) -> int:
    if not isinstance(value, int):
        raise ConvertError("tokenizer.model is no sentencepiece model: bytes stand where a number belongs")
    return value


def _float(value: _Value) -> float:
    data = _expect_bytes(value)
    if len(data) != _SKIPPED[_FIXED32]:
        raise ConvertError("tokenizer.model has a score that is no number")
    (number,) = struct.unpack("<f", data)
    return float(number)


def _signed(value: int) -> int:
    """An int32, which protobuf stretches to 64 bits."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >= 1 << 31 else low
