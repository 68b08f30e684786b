"""Tokenizers in the very form in which makers of models publish them, of a few hundred tokens instead of many.

``tokenizer.json`` is put together by hand, so that its steps, its marks and their order are those of the published
files and not those that today's transformers would write. Words and merges are learned from a few pages.
"""

# Some models write their marks with wide bars.

from __future__ import annotations

import base64
import functools
import io
import json
from dataclasses import dataclass, field
from typing import Any, Final

import sentencepiece
from convert.vocab.making import LLAMA3, QWEN2, TEXT, pieces_of
from tokenizers import Tokenizer, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import generate_merges

from ollama_nb.convert.vocab.sentencepiece import parse_sentencepiece

_WORDS: Final = 700
"""Tokens that are learned, beside the marks."""

_PARTS: Final = 550
"""Tokens of a unigram model; more cannot be learned from the pages."""

_BLANK: Final = "▁"


@dataclass(frozen=True)
class Made:
    """The files of a tokenizer by name, and the ids of its tokens."""

    json: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def ids(self) -> dict[str, int]:
        vocab = self.json["model"]["vocab"]
        known = {item[0]: number for number, item in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
        return known | {token["content"]: token["id"] for token in self.json["added_tokens"]}

    @property
    def size(self) -> int:
        return max(self.ids.values()) + 1


def mark(token: int, content: str, **changes: bool) -> dict[str, Any]:
    """An entry of ``added_tokens``."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token, "content": content, **plain, **changes}


def around(ids: dict[str, int], before: str | None, behind: str | None = None) -> dict[str, Any]:
    """The post-processor that puts tokens before and behind a text."""
    single = [{"Sequence": {"id": "A", "type_id": 0}}]
    if before is not None:
        single.insert(0, {"SpecialToken": {"id": before, "type_id": 0}})
    if behind is not None:
        single.append({"SpecialToken": {"id": behind, "type_id": 0}})
    texts = [text for text in (before, behind) if text is not None]
    known = {text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in texts}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": known}


def sequence(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    """Steps one after the other; ``kind`` is ``pretokenizers``, ``normalizers`` or ``processors``."""
    return {"type": "Sequence", kind: list(steps)}


def _assembled(model: dict[str, Any], added: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **empty, **parts, "model": model,
    }  # fmt: skip


# Byte-level BPE.

BYTES: Final = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
BYTES_AND_WORDS: Final = BYTES | {"use_regex": True}
DIGITS: Final = {"type": "Digits", "individual_digits": True}
TEKKEN: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern: str, *, inverted: bool = False) -> dict[str, Any]:
    """Cut at what a pattern finds; ``inverted`` is the same as files made of tiktoken's say it."""
    behavior = {"behavior": "Removed", "invert": True} if inverted else {"behavior": "Isolated", "invert": False}
    return {"type": "Split", "pattern": {"Regex": pattern}, **behavior}


SPLITS: Final = {
    "llama 3": sequence("pretokenizers", split(LLAMA3), BYTES),
    "qwen": sequence("pretokenizers", split(QWEN2), BYTES | {"trim_offsets": False}),
    "tekken": sequence("pretokenizers", split(TEKKEN), BYTES),
    "gpt-4": sequence("pretokenizers", split(LLAMA3, inverted=True), BYTES),
    "gpt-4o": sequence("pretokenizers", split(GPT4O, inverted=True), BYTES),
    "command-r": sequence("pretokenizers", DIGITS, BYTES_AND_WORDS),
    "gpt-2": BYTES_AND_WORDS,
}


@functools.cache
def _byte_words(name: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Words and merges, learned from texts that are cut in this way."""
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    tokenizer = Tokenizer.from_str(json.dumps(_assembled(empty, [], pre_tokenizer=SPLITS[name])))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_WORDS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tuple(words), tuple((left, right) for left, right in model["merges"])


def byte_bpe(
    name: str,
    first: tuple[str, ...] = (),
    last: tuple[str, ...] = (),
    *,
    plain: tuple[str, ...] = (),
    before: str | None = None,
    behind: str | None = None,
    ignores_merges: bool = False,
    old_merges: bool = True,
    **parts: Any,
) -> Made:
    """A BPE over bytes, with marks before and behind the words; ``plain`` are those that are no special tokens.

    ``old_merges``: pairs as one text with a blank, as files before 2024 have them.
    """
    words, merges = _byte_words(name)
    vocab = {text: token for token, text in enumerate((*first, *words))}
    ids = {**vocab, **{text: token for token, text in enumerate(last, len(vocab))}}
    added = [mark(ids[text], text, special=text not in plain) for text in (*first, *last)]
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignores_merges, "vocab": vocab,
        "merges": [" ".join(pair) if old_merges else list(pair) for pair in merges],
    }  # fmt: skip
    post = BYTES | {"use_regex": True}
    if before is not None or behind is not None:
        post = sequence("processors", post, around(ids, before, behind))
    usual = {"pre_tokenizer": SPLITS[name], "post_processor": post, "decoder": BYTES_AND_WORDS}
    return Made(_assembled(model, added, **{**usual, **parts}))


# BPE of sentencepiece.

_REPLACE: Final = {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}
PREPEND: Final = {"normalizer": sequence("normalizers", {"type": "Prepend", "prepend": _BLANK}, _REPLACE)}
"""Llama's own: a blank before every piece of a text between special tokens."""

METASPACE: Final = {
    "pre_tokenizer": {"type": "Metaspace", "replacement": _BLANK, "prepend_scheme": "first", "split": False}
}
"""The newer form, which knows where a text begins."""

GEMMA: Final = {
    "normalizer": _REPLACE,
    "pre_tokenizer": {
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
    },
}  # fmt: skip


@functools.cache
def _sentencepiece(kind: str, controls: tuple[str, ...] = (), symbols: tuple[str, ...] = (), **settings: Any) -> bytes:
    """A trained ``tokenizer.model``; ``kind`` is ``bpe`` (with bytes for unknown letters) or ``unigram``."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXT for line in text.split("\n") if line]),
        model_writer=model,
        vocab_size=_WORDS + 260 + len(controls) + len(symbols) if kind == "bpe" else _PARTS,
        model_type=kind,
        byte_fallback=kind == "bpe",
        character_coverage=0.98,
        minloglevel=2,
        control_symbols=list(controls),
        user_defined_symbols=list(symbols),
        **{"normalization_rule_name": "identity", "remove_extra_whitespaces": False, **settings},
    )
    return model.getvalue()


def sentencepiece_bpe(
    *,
    before: str = "<s>",
    behind: str | None = None,
    controls: tuple[str, ...] = (),
    symbols: tuple[str, ...] = (),
    added: tuple[dict[str, Any], ...] = (),
    form: dict[str, Any] = PREPEND,
    file: bool = True,
    **settings: Any,
) -> Made:
    """A BPE with bytes for unknown letters. ``added`` have ids behind the last, counted from 0, or those of the model.

    ``file``: with the ``tokenizer.model`` beside it.
    """
    model = _sentencepiece("bpe", controls, symbols, **settings)
    pieces = pieces_of(model)
    vocab = {text: token for token, (text, _) in enumerate(pieces)}
    special = [text for text in ("<unk>", "<s>", "</s>", "<pad>", "<eos>", "<bos>", *controls) if text in vocab]
    entries = {vocab[text]: mark(vocab[text], text) for text in special}
    for token in added:
        number = vocab.get(token["content"], token["id"] + len(vocab))
        entries[number] = {**token, "id": number}
    bpe = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": vocab,
        "merges": [" ".join(pair) for pair in generate_merges(vocab, pieces)],
    }  # fmt: skip
    decoder = [
        {"type": "Replace", "pattern": {"String": _BLANK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    parts = {"post_processor": around(vocab, before, behind), "decoder": sequence("decoders", *decoder), **form}
    whole = _assembled(bpe, [entries[number] for number in sorted(entries)], **parts)
    return Made(whole, {"tokenizer.model": model} if file else {})


# Those of encoders.

_PIECES: Final = {
    "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
}  # fmt: skip


@functools.cache
def _word_pieces(*, lowercase: bool) -> tuple[str, ...]:
    """Words and rests of words."""
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": lowercase}
    tokenizer = Tokenizer.from_str(
        json.dumps(
            _assembled(
                {**_PIECES, "vocab": {"[UNK]": 0}},
                [],
                normalizer=normalizer | {"strip_accents": None},
                pre_tokenizer={"type": "BertPreTokenizer"},
            )
        )
    )
    trainer = trainers.WordPieceTrainer(vocab_size=_WORDS, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    vocab = tokenizer.get_vocab()
    return tuple(sorted(vocab.keys() - {"[UNK]"}, key=vocab.__getitem__))


def word_pieces(*, lowercase: bool = True, cuts: int | None = None) -> Made:
    """BERT's: unused rows, marks in the middle of them; ``cuts``: the truncation that sentence-transformers leaves."""
    marks = ("[UNK]", "[CLS]", "[SEP]", "[MASK]")
    order = ("[PAD]", *(f"[unused{number}]" for number in range(5)), *marks, *_word_pieces(lowercase=lowercase))
    vocab = {text: token for token, text in enumerate(order)}
    normalizer = {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
        "lowercase": lowercase,
    }  # fmt: skip
    whole = _assembled(
        {**_PIECES, "vocab": vocab},
        [mark(vocab[text], text) for text in ("[PAD]", *marks)],
        normalizer=normalizer,
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=around(vocab, "[CLS]", "[SEP]"),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )
    if cuts is not None:
        whole["truncation"] = {
            "direction": "Right", "max_length": cuts, "strategy": "LongestFirst", "stride": 0,
        }  # fmt: skip
        whole["padding"] = {
            "strategy": {"Fixed": cuts}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]",
        }  # fmt: skip
    return Made(whole, {"vocab.txt": "".join(f"{text}\n" for text in order).encode()})


def unigram(*, splits: bool = True) -> Made:
    """XLM-RoBERTa's: sentencepiece's tokens moved by one; ``splits``: words one by one, as the older files have it."""
    model = _sentencepiece("unigram", normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True)
    pieces = pieces_of(model)
    first = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab = [*first, *pieces[3:], ("<mask>", 0.0)]
    ids = {text: token for token, (text, _) in enumerate(vocab)}
    metaspace = {"type": "Metaspace", "replacement": _BLANK}
    if splits:
        metaspace |= {"str_rep": _BLANK, "add_prefix_space": True}
        pre = sequence("pretokenizers", {"type": "WhitespaceSplit"}, metaspace)
    else:
        pre = metaspace | {"prepend_scheme": "always", "split": True}
    charsmap = base64.b64encode(parse_sentencepiece(model).charsmap).decode()
    normalizer = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    if not splits:
        blanks = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": _BLANK}
        strip = {"type": "Strip", "strip_left": False, "strip_right": True}
        normalizer = sequence("normalizers", normalizer, strip, blanks)
    whole = _assembled(
        {"type": "Unigram", "unk_id": 3, "vocab": [list(item) for item in vocab], "byte_fallback": False},
        [mark(ids[text], text, lstrip=text == "<mask>") for text in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")],
        normalizer=normalizer,
        pre_tokenizer=pre,
        post_processor=around(ids, "<s>", "</s>"),
        decoder=metaspace,
    )
    return Made(whole, {"sentencepiece.bpe.model": model})


def roberta() -> Made:
    """RoBERTa's: GPT-2's words between its own marks."""
    made = byte_bpe("gpt-2", ("<s>", "<pad>", "</s>", "<unk>"), ("<mask>",))
    ids = made.ids
    made.json["post_processor"] = {
        "type": "RobertaProcessing", "sep": ["</s>", ids["</s>"]], "cls": ["<s>", ids["<s>"]], "trim_offsets": True,
        "add_prefix_space": False,
    }  # fmt: skip
    for entry in made.json["added_tokens"]:
        entry |= {"normalized": True, "lstrip": entry["content"] == "<mask>"}
    return made
