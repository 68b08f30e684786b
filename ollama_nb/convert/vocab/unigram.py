"""Unigram models: the most probable way to cut a text, as T5 and XLM-RoBERTa have it.

llama.cpp calls them ``t5``. It normalises with sentencepiece's table of characters (``precompiled_charsmap``) and
either keeps all blanks or makes one of many, dropping those at the ends.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.vocab.pretokenizers import steps_of
from ollama_nb.convert.vocab.spm import metaspace_prefix
from ollama_nb.convert.vocab.tokens import BLANK, MAX_TOKENS, TokenTable, TokenType

if TYPE_CHECKING:
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.vocab.files import TokenizerFiles
    from ollama_nb.convert.vocab.sentencepiece import SentencePieceModel

__all__ = ["unigram", "unigram_of_sentencepiece"]

_PAIR: Final = 2
_MAX_CHARSMAP: Final = 16 << 20
_LENGTH: Final = struct.Struct("<I")
_FAIRSEQ: Final = ("<s>", "<pad>", "</s>", "<unk>")
"""What XLM-RoBERTa has in place of sentencepiece's first three tokens, so that all others move by one."""


def unigram(files: TokenizerFiles, table: TokenTable) -> dict[str, MetaValue]:
    """Fill ``table`` from ``tokenizer.json``; the keys of this kind."""
    model = files.tokenizer["model"]
    if model.get("byte_fallback") is True:
        raise ConvertError("the tokenizer spells unknown letters as bytes, which llama.cpp does not for this kind")
    vocab = model.get("vocab")
    if not isinstance(vocab, list) or not 0 < len(vocab) <= MAX_TOKENS:
        raise ConvertError(f"the tokenizer's vocabulary must be a list of 1 to {MAX_TOKENS} tokens")
    unknown = table.checked_id(model.get("unk_id"))
    charsmap, collapses = _normalizers(files.tokenizer)
    prefix, splits = _pre_tokenizers(files.tokenizer)
    if splits and not charsmap:
        raise ConvertError(
            "the tokenizer splits texts at tabs and line ends too; without a table of characters llama.cpp does not"
        )
    if (collapses or splits) and not prefix:
        raise ConvertError("the tokenizer makes one blank of many but puts none before a text; llama.cpp does both")
    for token, item in enumerate(vocab):
        if not isinstance(item, list) or len(item) != _PAIR or not _is_number(item[1]):
            raise ConvertError(f"the tokenizer has a token that is no pair of text and score: {shown(item)}")
        text, score = item
        kind = TokenType.UNKNOWN if token == unknown else TokenType.NORMAL
        if splits and isinstance(text, str) and BLANK in text[1:]:
            kind = TokenType.UNDEFINED  # it spans two words, and words are looked at one by one
        table.put(token, text, kind, score)
    return _keys(charsmap, prefix=prefix, collapses=collapses or splits) | {"tokenizer.ggml.unknown_token_id": unknown}


def unigram_of_sentencepiece(table: TokenTable, model: SentencePieceModel, *, fairseq: bool) -> dict[str, MetaValue]:
    """The same from a sentencepiece model alone; ``fairseq`` for the ids that XLM-RoBERTa has."""
    if model.byte_fallback or model.whitespace_as_suffix or not model.escape_whitespaces:
        raise ConvertError("tokenizer.model treats bytes or whitespace in a way that llama.cpp does not know")
    if model.remove_extra_whitespaces and not model.add_dummy_prefix:
        raise ConvertError("the tokenizer makes one blank of many but puts none before a text; llama.cpp does both")
    keys = _keys(
        _checked_charsmap(model.charsmap), prefix=model.add_dummy_prefix, collapses=model.remove_extra_whitespaces
    )
    keys["tokenizer.ggml.add_eos_token"] = True
    ids = {"bos": model.bos_id, "eos": model.eos_id, "unknown": model.unk_id, "padding": model.pad_id}
    shift = 0
    if fairseq:
        if [piece.text for piece in model.pieces[:3]] != ["<unk>", "<s>", "</s>"]:
            raise ConvertError("the sentencepiece model does not begin as one of XLM-RoBERTa does")
        ids = {"bos": 0, "padding": 1, "eos": 2, "unknown": 3}
        keys["tokenizer.ggml.add_bos_token"] = True
        shift = 1
        for token, text in enumerate(_FAIRSEQ):
            table.put(token, text, TokenType.UNKNOWN if token == ids["unknown"] else TokenType.CONTROL)
        table.put(len(model.pieces) + shift, "<mask>", TokenType.CONTROL)
    for token, piece in enumerate(model.pieces):
        if not fairseq or token > _PAIR:
            table.put(token + shift, piece.text, piece.type, piece.score)
    return keys | {
        f"tokenizer.ggml.{role}_token_id": table.checked_id(token) for role, token in ids.items() if token >= 0
    }


def _keys(charsmap: bytes, *, prefix: bool, collapses: bool) -> dict[str, MetaValue]:
    keys: dict[str, MetaValue] = {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": prefix,
        "tokenizer.ggml.remove_extra_whitespaces": collapses,
    }
    return keys | {"tokenizer.ggml.precompiled_charsmap": charsmap} if charsmap else keys


def _normalizers(tokenizer: dict[str, Any]) -> tuple[bytes, bool]:
    """The table of characters, and whether many blanks become one."""
    charsmap, collapses, strips = b"", False, False
    for step in steps_of(tokenizer.get("normalizer")):
        kind = step["type"]
        if kind == "Precompiled" and not charsmap:
            charsmap = _decoded(step.get("precompiled_charsmap"))
        elif kind == "Replace" and step.get("pattern") == {"Regex": " {2,}"} and step.get("content") in (" ", BLANK):
            collapses = True
        elif kind == "Strip":
            strips = True
        else:
            raise ConvertError(f"the tokenizer changes texts before it reads them ({kind}), llama.cpp does not")
    if strips and not collapses:
        raise ConvertError("the tokenizer drops blanks at the ends of a text but keeps others; llama.cpp cannot")
    return charsmap, collapses


def _pre_tokenizers(tokenizer: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a blank is put before a text, and whether words are looked at one by one."""
    prefix, splits, marked = False, False, False
    for step in steps_of(tokenizer.get("pre_tokenizer")):
        if step["type"] == "WhitespaceSplit":
            splits = True
        elif step["type"] == "Metaspace":
            prefix, marked = metaspace_prefix(step), True
        else:
            raise ConvertError(
                f"the tokenizer splits texts with {step['type']}, which llama.cpp does not for this kind"
            )
    if not marked:
        raise ConvertError(f"the tokenizer does not mark blanks with {BLANK}, as llama.cpp does")
    return prefix, splits


def _decoded(value: object) -> bytes:
    if not isinstance(value, str) or len(value) > 2 * _MAX_CHARSMAP:
        raise ConvertError("the tokenizer's precompiled_charsmap is no text")
    try:
        return _checked_charsmap(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ConvertError(f"the tokenizer's precompiled_charsmap is no base64: {error}") from error


def _checked_charsmap(data: bytes) -> bytes:
    """A table whose parts are there: the length of the trie, the trie, and texts that each end with a zero byte."""
    if not data:
        return data
    length = _LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else len(data)
    if length % _LENGTH.size or _LENGTH.size + length >= len(data) or data[-1] or len(data) > _MAX_CHARSMAP:
        raise ConvertError("the tokenizer's precompiled_charsmap is damaged")
    return data


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
