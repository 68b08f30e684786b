"""The reader of ``tokenizer.model`` finds what sentencepiece finds, and takes no damaged file for a sound one."""

from __future__ import annotations

import contextlib
import struct

import pytest
from convert.vocab.making import pieces_of, sentencepiece_model
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.vocab.sentencepiece import BPE, UNIGRAM, parse_sentencepiece
from ollama_nb.convert.vocab.tokens import TokenType

MODEL = sentencepiece_model("bpe", size=900)


def _varint(number):
    found = b""
    while number >= 0x80:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def _field(number, value):
    """A field with a whole number, a float or bytes."""
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _piece(*fields):
    return _field(1, b"".join(_field(number, value) for number, value in fields))


@pytest.mark.parametrize(("kind", "size"), [("bpe", 900), ("unigram", 570)])
@pytest.mark.parametrize("prefix", [True, False])
def test_tokens_scores_and_settings_are_those_that_sentencepiece_reads(kind, size, prefix):
    data = sentencepiece_model(kind, size=size, prefix=prefix, symbols="<sep>", rule="nmt_nfkc")
    model = parse_sentencepiece(data)
    assert [(piece.text, piece.score) for piece in model.pieces] == pieces_of(data)
    assert model.model_type == (BPE if kind == "bpe" else UNIGRAM)
    assert model.byte_fallback is (kind == "bpe")
    assert model.add_dummy_prefix is prefix
    assert model.remove_extra_whitespaces
    assert len(model.charsmap) > 1000
    assert (model.unk_id, model.bos_id, model.eos_id, model.pad_id) == (0, 1, 2, -1)
    types = {piece.text: piece.type for piece in model.pieces}
    assert [types[text] for text in ("<unk>", "<s>", "<sep>")] == [
        TokenType.UNKNOWN,
        TokenType.CONTROL,
        TokenType.USER_DEFINED,
    ]


def test_what_the_file_leaves_out_is_as_sentencepiece_has_it():
    model = parse_sentencepiece(_piece((1, "ä".encode())) + _field(99, b"unknown") + _field(98, 7))
    (piece,) = model.pieces
    assert (piece.text, piece.score, piece.type) == ("ä", 0.0, TokenType.NORMAL)
    assert (model.model_type, model.add_dummy_prefix, model.bos_id) == (UNIGRAM, True, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "has no tokens"),
        (b"\x0a", "does not end"),
        (b"\x0a\x05abc", "claims 5 bytes where 3 are left"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "claims"),
        (b"\x80" * 20, "does not end"),
        (b"\x0b", "wire type 3"),
        (_piece((1, b"\xff")), "no UTF-8"),
        (_piece((1, 7)), "bytes belong"),
        (_piece((2, b"abc")), "no number"),
        (_piece((2, 7)), "bytes belong"),
        (_piece((3, b"a")), "a number belongs"),
        (_piece((3, 7)), "type 7"),
        (_field(1, 7), "bytes belong"),
        (_piece((1, b"a")) + _field(2, _field(3, b"a")), "a number belongs"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(data, reason):
    with pytest.raises(ConvertError, match=reason):
        parse_sentencepiece(data)


@given(place=st.integers(0, len(MODEL) - 1), junk=st.binary(max_size=12), cut=st.integers(0, 12))
def test_nothing_but_a_clear_error_comes_of_damage(place, junk, cut):
    with contextlib.suppress(ConvertError):
        parse_sentencepiece(MODEL[:place] + junk + MODEL[place + cut :])


@given(data=st.binary(max_size=200))
def test_nothing_but_a_clear_error_comes_of_bytes_by_chance(data):
    with contextlib.suppress(ConvertError):
        parse_sentencepiece(data)
