"""WordPiece: whole words and their rests, as BERT has them.

llama.cpp marks the beginning of a word where ``vocab.txt`` marks its rest: ``##ing`` becomes ``ing``, ``play`` becomes
``▁play``. It always cleans texts and splits at Chinese characters; lower case and the loss of accents can be
switched off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.vocab.files import part
from ollama_nb.convert.vocab.merges import parse_vocab
from ollama_nb.convert.vocab.pretokenizers import steps_of
from ollama_nb.convert.vocab.tokens import MAX_TOKENS, TokenTable, TokenType, checked_text

if TYPE_CHECKING:
    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.vocab.files import TokenizerFiles

__all__ = ["wordpiece", "wordpiece_of_text"]

_REST: Final = "##"
_ROLES: Final = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
"""Special tokens of every BERT, whether a file says so or not."""

_BEGINNING: Final = "\N{LOWER ONE EIGHTH BLOCK}"


def wordpiece(files: TokenizerFiles, table: TokenTable) -> dict[str, MetaValue]:
    """Fill ``table`` from ``tokenizer.json``; the keys of this kind."""
    tokenizer = files.tokenizer
    model = tokenizer["model"]
    if model.get("continuing_subword_prefix", _REST) != _REST:
        raise ConvertError("the tokenizer marks the rests of words with something else than ##")
    splitting = [step["type"] for step in steps_of(tokenizer.get("pre_tokenizer"))]
    if splitting != ["BertPreTokenizer"]:
        raise ConvertError(f"the tokenizer splits texts with {splitting}, where llama.cpp does as BertPreTokenizer")
    steps = steps_of(tokenizer.get("normalizer"))
    if [step["type"] for step in steps] != ["BertNormalizer"]:
        raise ConvertError("the tokenizer does not normalise texts with BertNormalizer, as llama.cpp does")
    (normalizer,) = steps
    return _fill(files, table, parse_vocab(model.get("vocab")), normalizer, ())


def wordpiece_of_text(files: TokenizerFiles, table: TokenTable) -> dict[str, MetaValue]:
    """The same from ``vocab.txt``, one token a line."""
    try:
        lines = files.source.read("vocab.txt").decode().split("\n")
    except UnicodeDecodeError as error:
        raise ConvertError(f"vocab.txt is no UTF-8 text: {error}") from error
    if len(lines) > MAX_TOKENS:
        raise ConvertError(f"vocab.txt has {len(lines)} lines; the limit is {MAX_TOKENS}")
    # Where a token stands twice, transformers knows the last of the lines.
    vocab = {line.rstrip("\r"): number for number, line in enumerate(lines) if line.rstrip("\r")}
    normalizer = {
        "lowercase": files.flag("do_lower_case") is not False,
        "strip_accents": files.flag("strip_accents"),
        "handle_chinese_chars": files.flag("tokenize_chinese_chars") is not False,
    }
    return _fill(files, table, vocab, normalizer, _ROLES)


def _fill(
    files: TokenizerFiles, table: TokenTable, vocab: dict[str, int], normalizer: dict[str, Any], roles: tuple[str, ...]
) -> dict[str, MetaValue]:
    for name in ("clean_text", "handle_chinese_chars"):
        if normalizer.get(name, True) is not True:
            raise ConvertError(f"the tokenizer has {name} switched off, which llama.cpp does not know")
    lowercase = normalizer.get("lowercase", True)
    accents = normalizer.get("strip_accents")
    if not isinstance(lowercase, bool) or not isinstance(accents, bool | None):
        raise ConvertError("the tokenizer's lowercase and strip_accents must be true or false")
    special = {token.text for token in files.added_tokens()} | {*files.special_texts(), *roles}
    unknown = part(files.tokenizer, "model").get("unk_token", "[UNK]")
    if not isinstance(unknown, str) or unknown not in vocab:
        raise ConvertError("the tokenizer has no token for unknown words")
    for text, token in vocab.items():
        if text in special or text == unknown:
            table.put(token, text, TokenType.CONTROL)
        else:
            _put_piece(table, token, checked_text(text))
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": files.config.whole("type_vocab_size", default=1),
        "tokenizer.ggml.normalizer.lowercase": lowercase,
        "tokenizer.ggml.normalizer.strip_accents": lowercase if accents is None else accents,
        "tokenizer.ggml.unknown_token_id": table.checked_id(vocab[unknown]),
    }


def _put_piece(table: TokenTable, token: int, text: str) -> None:
    """A word or the rest of one; a rest that looks like a beginning in llama.cpp's form is left out."""
    rest = text.startswith(_REST) and text != _REST
    piece = text.removeprefix(_REST) if rest else _BEGINNING + text
    if rest and piece.startswith(_BEGINNING):
        piece = ""
    table.put(token, piece, TokenType.NORMAL)
