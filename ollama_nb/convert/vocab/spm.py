"""The tokenizers that sentencepiece trains as BPE: tokens of real letters, ``▁`` for a blank, bytes for the rest.

llama.cpp's ``llama`` tokenizer merges the two neighbours whose union has the highest score; ``tokenizer.json`` has the
same vocabulary with merges. Where every union of two tokens that is a token stands among the merges, and the merges
of one token stand together, the scores can be had from the ranks, and both merge alike. Where that is not so the
merges themselves are kept, for llama.cpp's BPE over plain text, which puts no blank before a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.vocab.merges import Merges, parse_merges, parse_vocab
from ollama_nb.convert.vocab.pretokenizers import steps_of
from ollama_nb.convert.vocab.sentencepiece import BPE, SentencePieceModel
from ollama_nb.convert.vocab.tokens import BLANK, TokenTable, TokenType, checked_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.vocab.files import TokenizerFiles

__all__ = [
    "PLAIN", "check_bytes", "metaspace_prefix", "scores_say_the_same", "sentencepiece_bpe",
    "sentencepiece_bpe_of_json",
]  # fmt: skip

_BYTES: Final = frozenset(f"<0x{value:02X}>" for value in range(256))
_BUDGET: Final = 400_000_000
PLAIN: Final = "sarvam-moe"
"""llama.cpp's name for merges over plain text in which blanks are ``▁``; lines are split, nothing else."""


def sentencepiece_bpe(table: TokenTable, model: SentencePieceModel) -> dict[str, MetaValue]:
    """Fill ``table`` from ``tokenizer.model`` alone; the keys of this kind."""
    if model.charsmap or model.remove_extra_whitespaces:
        raise ConvertError(
            "tokenizer.model normalises texts before it splits them, which llama.cpp does not for this kind",
            hint="Only models trained with the identity rule that keep extra whitespace can be converted.",
        )
    if model.whitespace_as_suffix or not model.escape_whitespaces:
        raise ConvertError("tokenizer.model treats whitespace in a way that llama.cpp does not know")
    _fill_pieces(table, model)
    return (
        _keys(prefix=model.add_dummy_prefix)
        | _special_ids(table, model)
        | {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False}
    )


def sentencepiece_bpe_of_json(
    files: TokenizerFiles, table: TokenTable, model: SentencePieceModel | None, *, chats: bool
) -> dict[str, MetaValue]:
    """Fill ``table`` from ``tokenizer.json``; ``model`` is the ``tokenizer.model`` beside it, which has real scores.

    ``chats``: the model has a chat template, so that its texts begin with a special token.
    """
    bpe = files.tokenizer["model"]
    prefix = _prefix(files.tokenizer, chats=chats)
    vocab = parse_vocab(bpe.get("vocab"))
    added = {token.text for token in files.added_tokens()}
    if bpe.get("byte_fallback") is not True:
        raise ConvertError("the tokenizer does not spell unknown letters as bytes (byte_fallback), llama.cpp does")
    unknown = bpe.get("unk_token")
    if model is not None and _is_the_same(vocab, model, added):
        _fill_pieces(table, model)
        return _keys(prefix=prefix)
    merges = parse_merges(bpe.get("merges"), vocab)
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(merges):
        scores.setdefault(left + right, -float(rank))
    lowest = -float(len(merges)) - 1
    for text, token in vocab.items():
        kind = TokenType.BYTE if text in _BYTES else TokenType.UNKNOWN if text == unknown else TokenType.NORMAL
        table.put(token, text, kind, scores.get(text, lowest))
    if scores_say_the_same(vocab, merges, (added | _BYTES) - scores.keys()):
        return _keys(prefix=prefix)
    return _plain(merges, prefix=prefix)


def check_bytes(table: TokenTable) -> None:
    """Raises unless there is a token for every byte: llama.cpp ends its process where it finds none."""
    if any(table.id_of(text) is None for text in _BYTES):
        raise ConvertError(
            "the tokenizer has no tokens for the 256 bytes: letters it does not know become one and the same token, "
            "which llama.cpp cannot do"
        )


def scores_say_the_same(vocab: Collection[str], merges: Merges, untouched: Collection[str]) -> bool:
    """Whether merging what makes the best token gives the same as merging pairs by rank.

    ``untouched`` are tokens that no merge is about. A vocabulary whose tokens are too long to look at counts as none.
    """
    last: dict[str, int] = {}
    group, start = " ", 0
    for rank, (left, right) in enumerate(merges):
        made = left + right
        # Runs of one letter may stand mixed: they grow from the left by whichever of them.
        if group != (group := "" if made.count(made[0]) == len(made) else made):
            start = rank
        if last.get(made, start) < start:
            return False
        last[made] = rank
    if sum(len(text) ** 2 for text in vocab) > _BUDGET:
        return False
    for text in vocab:
        if text in untouched:
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if (
                (left, right) not in merges
                and _is_symbol(left, vocab, untouched)
                and _is_symbol(right, vocab, untouched)
            ):
                return False
    return True


def _is_symbol(text: str, vocab: Collection[str], untouched: Collection[str]) -> bool:
    """Whether llama.cpp may have such a part when it looks for neighbours: one letter, or a token."""
    return len(text) == 1 or (text in vocab and text not in untouched)


def _plain(merges: Merges, *, prefix: bool) -> dict[str, MetaValue]:
    if prefix or any("\n" in left + right and (left + right).strip("\n") for left, right in merges):
        raise ConvertError(
            "the tokenizer's merges are not those of a sentencepiece model, and llama.cpp has no other tokenizer that "
            f"puts {'a blank before a text' if prefix else 'line ends and letters into one token'}"
        )
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PLAIN,
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges],
    }


def _keys(*, prefix: bool) -> dict[str, MetaValue]:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def _fill_pieces(table: TokenTable, model: SentencePieceModel) -> None:
    for token, piece in enumerate(model.pieces):
        # llama.cpp looks for these tokens in the text as it is given, where a blank is a blank.
        text = piece.text.replace(BLANK, " ") if piece.type is TokenType.USER_DEFINED else piece.text
        table.put(token, text, piece.type, piece.score)


def _special_ids(table: TokenTable, model: SentencePieceModel) -> dict[str, MetaValue]:
    """The ids of tokens with a role; -1 is sentencepiece's word for none."""
    ids = {"bos": model.bos_id, "eos": model.eos_id, "unknown": model.unk_id, "padding": model.pad_id}
    return {f"tokenizer.ggml.{role}_token_id": table.checked_id(token) for role, token in ids.items() if token >= 0}


def _is_the_same(vocab: dict[str, int], model: SentencePieceModel, added: set[str]) -> bool:
    """Whether ``tokenizer.model`` has the tokens of ``tokenizer.json``; some have been given others since."""
    if model.model_type != BPE or not {piece.text for piece in model.pieces} >= _BYTES:
        return False
    pieces = {piece.text: token for token, piece in enumerate(model.pieces)}
    return all(pieces.get(text) == token for text, token in vocab.items() if text not in added)


def _prefix(tokenizer: dict[str, Any], *, chats: bool) -> bool:
    """Whether a blank is put before a text; raises for anything else that is done to it.

    Some put it before the first piece of a text only (``prepend_scheme`` is ``first``), and not behind special tokens;
    llama.cpp does both or neither. A chat begins with a special token, so for one neither is right.
    """
    prefix = False
    for step in steps_of(tokenizer.get("normalizer")):
        if step["type"] == "Prepend" and step.get("prepend") == BLANK:
            prefix = True
        elif not _replaces_blanks(step):
            raise ConvertError(f"the tokenizer changes texts before it reads them ({step['type']}), llama.cpp does not")
    for step in steps_of(tokenizer.get("pre_tokenizer")):
        if step["type"] == "Metaspace":
            puts = metaspace_prefix(step) and not (chats and step.get("prepend_scheme") == "first")
            prefix = prefix or puts
            if step.get("split", True) is not False and _has_inner_blanks(tokenizer["model"]):
                raise ConvertError("the tokenizer has tokens across blanks, and splits texts at blanks")
        elif not _splits_at_blanks(step):
            raise ConvertError(
                f"the tokenizer splits texts with {step['type']}, which llama.cpp does not for this kind"
            )
    return prefix


def metaspace_prefix(step: dict[str, Any]) -> bool:
    """Whether a ``Metaspace`` puts its mark before a text; older ones say so with a boolean."""
    if step.get("replacement", BLANK) != BLANK:
        raise ConvertError(f"the tokenizer marks blanks with {shown(step.get('replacement'))}, llama.cpp with {BLANK}")
    scheme = step.get("prepend_scheme")
    if scheme is None:
        return step.get("add_prefix_space", True) is not False
    return bool(scheme != "never")


def _replaces_blanks(step: dict[str, Any]) -> bool:
    return step["type"] == "Replace" and step.get("pattern") == {"String": " "} and step.get("content") == BLANK


def _splits_at_blanks(step: dict[str, Any]) -> bool:
    """A split that never happens, for by then there are no blanks any more; Gemma has it."""
    return step["type"] == "Split" and step.get("pattern") == {"String": " "}


def _has_inner_blanks(bpe: dict[str, Any]) -> bool:
    vocab = parse_vocab(bpe.get("vocab"))
    return any(BLANK in checked_text(text)[1:] for text in vocab)
