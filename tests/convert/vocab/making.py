"""Small tokenizers of every kind, trained on a few pages, saved as transformers saves those of real models."""

# Letters that look like others are the subject here.
# ruff: noqa: RUF001

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any, Final

import sentencepiece
import transformers
from convert.hard_strings import HARD_STRINGS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import generate_merges

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "LLAMA3", "PRE_TOKENIZERS", "QWEN2", "TEXT", "byte_level", "from_sentencepiece", "pieces_of",
    "sentencepiece_model", "wordpiece", "wrapped",
]  # fmt: skip

TEXT: Final = (
    "The harbour lights went out one after the other, and the boats came home in the dark.",
    "The keeper of the lighthouse counted them: twelve, eleven, ten. He'd counted boats for forty years.",
    "'There's one missing,' he said to his daughter. 'I'm sure they'll find it,' she answered.",
    "In 1984 there were 1,204 inhabitants; in 2024 only 312. The school closed in 2011, the shop in 2017.",
    "def count(boats):\n    return sum(1 for boat in boats if boat.home)\n\n\nprint(count(42))\n",
    "Ein Käfer läuft über die Brücke, un garçon mange une pêche, el niño comió la manzana, a minha mãe é médica.",
    "Москва - столица России. Киев - столица Украины. Η Αθήνα είναι η πρωτεύουσα της Ελλάδας.",
    "北京是中国的首都，東京は日本の首都です。서울은 대한민국의 수도입니다. القاهرة عاصمة مصر. ירושלים.",
    *HARD_STRINGS,
)
"""What they are trained on: the hard strings too, so that there are merges in all of their scripts."""

LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2: Final = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_QWEN35: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_TEKKEN: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT4O: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK3: Final = (
    "\\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    (
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
    ),
)
_DEEPSEEK_CODER: Final = ("[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-퟿]+")
_BLOOM: Final = " ?[^(\\s|[.,!?…。，、।۔،])]+"


def _split(*patterns: str) -> list[Any]:
    return [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]


def _bytes(*, use_regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


_DIGITS: Final = pre_tokenizers.Digits(individual_digits=True)

PRE_TOKENIZERS: Final[dict[str, tuple[list[Any], bool]]] = {
    "gpt-2": ([_bytes(use_regex=True)], False),
    "smollm": ([_DIGITS, _bytes(use_regex=True)], False),
    "llama-bpe": ([*_split(LLAMA3), _bytes(use_regex=False)], True),
    "qwen2": ([*_split(QWEN2), _bytes(use_regex=False)], False),
    "qwen35": ([*_split(_QWEN35), _bytes(use_regex=False)], False),
    "tekken": ([*_split(_TEKKEN), _bytes(use_regex=False)], True),
    "granite-embed-multi-97m": ([*_split(_GPT4O), _bytes(use_regex=False)], False),
    "deepseek-v3": ([*_split(*_DEEPSEEK3), _bytes(use_regex=False)], False),
    "deepseek-coder": ([*_split(*_DEEPSEEK_CODER), _DIGITS, _bytes(use_regex=False)], False),
    "falcon": (
        [
            pre_tokenizers.Punctuation(behavior="contiguous"),
            _bytes(use_regex=True),
            pre_tokenizers.Digits(individual_digits=False),
            *_split("[0-9][0-9][0-9]"),
        ],
        False,
    ),
    "bloom": ([*_split(_BLOOM), _bytes(use_regex=False)], False),
}
"""llama.cpp's names, with what real models of the kind have in ``tokenizer.json``, and their ``ignore_merges``."""


@functools.cache
def byte_level(name: str, *, size: int = 2000) -> Tokenizer:
    """A byte-level BPE that splits as the models of ``name`` do."""
    steps, ignores = PRE_TOKENIZERS[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignores))
    tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    return tokenizer


@functools.cache
def sentencepiece_model(
    kind: str, *, size: int = 1400, prefix: bool = True, rule: str = "identity", symbols: str = ""
) -> bytes:
    """A trained ``tokenizer.model``; ``kind`` is ``bpe`` (with bytes for unknown letters) or ``unigram``."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXT for line in text.split("\n") if line]),
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        byte_fallback=kind == "bpe",
        add_dummy_prefix=prefix,
        normalization_rule_name=rule,
        remove_extra_whitespaces=rule != "identity",
        character_coverage=0.98,
        minloglevel=2,
        user_defined_symbols=symbols,
    )
    return model.getvalue()


@functools.cache
def wordpiece(*, lowercase: bool = True) -> Tokenizer:
    """A WordPiece model as BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=1500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def wrapped(tokenizer: Tokenizer, folder: Path, **special: str) -> transformers.PreTrainedTokenizerFast:
    """The tokenizer as a model's, saved to ``folder``."""
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)
    return fast


def pieces_of(model: bytes) -> list[tuple[str, float]]:
    """The tokens of a ``tokenizer.model`` with their scores, as sentencepiece itself reads them."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [(processor.id_to_piece(token), processor.get_score(token)) for token in range(processor.get_piece_size())]


def from_sentencepiece(kind: Any, model: bytes, folder: Path, **settings: Any) -> Any:
    """A BPE model as transformers' class ``kind`` holds it, with merges made of the pieces, saved to ``folder``."""
    pieces = pieces_of(model)
    vocab = {text: token for token, (text, _) in enumerate(pieces)}
    merges = generate_merges(vocab, pieces)
    tokenizer = kind(vocab=vocab, merges=merges, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **settings)
    tokenizer.save_pretrained(folder)
    return tokenizer
