"""Byte-level BPE: tokens written in 256 letters that stand for bytes, and merges. GPT-2, Llama 3, Qwen, Command R."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.vocab.merges import Merges, merges_of_text, parse_merges, parse_vocab, reaches_itself
from ollama_nb.convert.vocab.pretokenizers import PreTokenizer, pre_tokenizers, steps_of
from ollama_nb.convert.vocab.tokens import TokenTable, TokenType

if TYPE_CHECKING:
    from collections.abc import Collection

    from ollama_nb.convert.metadata import MetaValue
    from ollama_nb.convert.vocab.files import TokenizerFiles

__all__ = ["byte_level", "byte_level_of_text_files"]

_BUDGET: Final = 50_000_000
_WORDS: Final = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_QWEN2: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_STEPS_OF_CLASS: Final[dict[str, list[dict[str, Any]]]] = {
    "GPT2Tokenizer": [_WORDS],
    "RobertaTokenizer": [_WORDS],
    "CodeGenTokenizer": [_WORDS],
    "Qwen2Tokenizer": [
        {"type": "Split", "pattern": {"Regex": _QWEN2}, "behavior": "Isolated"},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ],
}
"""What the classes of transformers do where there is only ``vocab.json`` and ``merges.txt``."""

_NORMALIZERS: Final = ("NFC",)
"""Normalizers that change nothing about most texts; llama.cpp has none, so decomposed letters become other tokens."""


def byte_level(files: TokenizerFiles, table: TokenTable) -> dict[str, MetaValue]:
    """Fill ``table`` from ``tokenizer.json``; the keys of this kind."""
    tokenizer = files.tokenizer
    model = tokenizer["model"]
    for step in steps_of(tokenizer.get("normalizer")):
        if step["type"] not in _NORMALIZERS:
            raise ConvertError(f"the tokenizer changes texts before it reads them ({step['type']}), llama.cpp does not")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ConvertError(f"the tokenizer has a {name}, which llama.cpp does not know")
    vocab = parse_vocab(model.get("vocab"))
    merges = parse_merges(model.get("merges"), vocab)
    steps = steps_of(tokenizer.get("pre_tokenizer"))
    return _fill(table, vocab, merges, steps, _added(files), ignores=model.get("ignore_merges") is True)


def byte_level_of_text_files(files: TokenizerFiles, table: TokenTable) -> dict[str, MetaValue]:
    """The same from ``vocab.json`` and ``merges.txt``, for the classes of transformers that are known."""
    steps = _STEPS_OF_CLASS.get(files.tokenizer_class)
    if steps is None:
        raise ConvertError(
            f"tokenizer.json is missing, and without it nothing says how {files.tokenizer_class or 'the tokenizer'} "
            "splits texts",
            hint="AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes it.",
        )
    vocab = parse_vocab(files.source.json("vocab.json"))
    merges = parse_merges(merges_of_text(files.source.read("merges.txt")), vocab)
    return _fill(table, vocab, merges, steps, _added(files), ignores=False)


def _added(files: TokenizerFiles) -> set[str]:
    return {token.text for token in files.added_tokens()}


def _fill(
    table: TokenTable,
    vocab: dict[str, int],
    merges: Merges,
    steps: list[dict[str, Any]],
    added: set[str],
    *,
    ignores: bool,
) -> dict[str, MetaValue]:
    for text, token in vocab.items():
        table.put(token, text, TokenType.NORMAL)
    choices = pre_tokenizers(steps)
    words = vocab.keys() - added
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _choose(choices, words, merges, ignores=ignores).name,
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges],
    }


def _choose(
    choices: tuple[PreTokenizer, ...], words: Collection[str], merges: Merges, *, ignores: bool
) -> PreTokenizer:
    """The name that looks words up as the tokenizer does, or any where that makes no difference.

    It makes none where every token is what merging its own letters gives.
    """
    first, *_ = choices
    if first.ignores_merges == ignores:
        return first
    if reaches_itself(words, merges, _BUDGET):
        return first
    for choice in choices:
        if choice.ignores_merges == ignores:
            return choice
    raise ConvertError(
        f"the tokenizer {'takes' if ignores else 'does not take'} words that are tokens as they are (ignore_merges), "
        f"llama.cpp does the opposite for this way of splitting texts"
    )
