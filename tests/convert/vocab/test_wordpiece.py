"""WordPiece: BERT's tokens, with and without lower case, from ``tokenizer.json`` and from ``vocab.txt``."""

# Letters that look like others are the subject here.
# ruff: noqa: RUF001

from __future__ import annotations

import json

import pytest
import transformers
from convert.hard_strings import HARD_STRINGS
from convert.vocab.comparing import Vocabulary, convert, differences
from convert.vocab.making import wordpiece, wrapped
from samples import all_minilm, default_cache
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from ollama_nb.convert.errors import ConvertError

ROLES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
SPECIAL = ("[CLS] Hello [MASK]world[SEP]", "[UNK]x[PAD][PAD]")
# llama.cpp splits at U+0085 as at a blank where BERT drops it, decomposes a Korean syllable to its first letter only,
# and takes vowel signs that stand beside a letter for accents.
CONTROL = "next\x85line form\x0cfeed vertical\x0btab bell\x07 escape\x1b del\x7f"
KNOWN = {
    True: {
        CONTROL,
        "안녕하세요 세계 한국어 텍스트",
        "mixed: abc123def 中文english한국어русский123٤٥",
        "नमस्ते दुनिया हिन्दी क्षत्रिय",
        "কান্তে বাংলা কান তৈরি கிரந்தம் తెలుగు",
        "កាន់តែពិសេសអាច",
    },
    False: {CONTROL},
}

# Of the real model many scripts are unknown words in both; it has no ▁, at which llama.cpp finds words to begin.
REAL_KNOWN = {
    CONTROL,
    "the▁lower▁block ▁ itself ▁▁",
    "안녕하세요 세계 한국어 텍스트",
    "नमस्ते दुनिया हिन्दी क्षत्रिय",
    "কান্তে বাংলা কান তৈরি கிரந்தம் తెలుగు",
}


def _bert(folder, tokenizer):
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    ids = [(text, tokenizer.token_to_id(text)) for text in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return wrapped(tokenizer, folder, **ROLES)


@pytest.mark.parametrize("lowercase", [True, False])
def test_texts_become_the_same_tokens(lowercase, tmp_path):
    tokenizer = _bert(tmp_path, wordpiece(lowercase=lowercase))
    keys = convert(tmp_path, len(tokenizer), {"type_vocab_size": 2})
    assert keys["tokenizer.ggml.model"] == "bert"
    assert keys["tokenizer.ggml.token_type_count"] == 2
    with Vocabulary(keys, tmp_path) as vocabulary:
        found = differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL)
    assert found.keys() == KNOWN[lowercase]


@pytest.fixture(scope="module")
def minilm():
    return all_minilm(default_cache())


def test_a_real_model_makes_the_same_tokens(minilm, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    keys = convert(minilm, len(tokenizer), json.loads((minilm / "config.json").read_text()))
    with Vocabulary(keys, tmp_path) as vocabulary:
        found = differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL)
    assert found.keys() == REAL_KNOWN


@pytest.mark.parametrize("lowercase", [True, False])
def test_vocab_txt_is_enough(lowercase, tmp_path):
    tokenizer = wordpiece(lowercase=lowercase)
    vocab = tokenizer.get_vocab()
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.get)) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**ROLES, "do_lower_case": lowercase}))
    cls, sep = vocab["[CLS]"], vocab["[SEP]"]
    with Vocabulary(convert(tmp_path, len(vocab)), tmp_path) as vocabulary:
        for text in HARD_STRINGS:
            if text not in KNOWN[lowercase]:
                assert vocabulary.tokenize(text) == [cls, *tokenizer.encode(text).ids, sep]


def test_the_roles_are_those_of_bert(tmp_path):
    tokenizer = _bert(tmp_path, wordpiece())
    keys = convert(tmp_path, len(tokenizer) + 5)
    ids = {role: keys[f"tokenizer.ggml.{role}_token_id"] for role in ("cls", "seperator", "padding", "mask", "unknown")}
    assert ids == {
        "cls": tokenizer.cls_token_id,
        "seperator": tokenizer.sep_token_id,
        "padding": tokenizer.pad_token_id,
        "mask": tokenizer.mask_token_id,
        "unknown": tokenizer.unk_token_id,
    }
    assert keys["tokenizer.ggml.tokens"][-1] == f"[PAD{len(tokenizer) + 4}]"


def test_beginnings_and_rests_of_words_are_told_apart_as_llama_cpp_does(tmp_path):
    lines = ["[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##", "#", "##▁x", "", "play"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
    keys = convert(tmp_path, len(lines))
    # An empty line is no token; of two alike the last one counts.
    expected = ["[UNK]", "[CLS]", "[SEP]", "[PAD3]", "ing", "▁##", "▁#", "[PAD7]", "[PAD8]", "▁play"]
    assert keys["tokenizer.ggml.tokens"] == expected


def _with(**changes):
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (_with(normalizer=normalizers.BertNormalizer(clean_text=False)), "clean_text"),
        (_with(normalizer=normalizers.BertNormalizer(handle_chinese_chars=False)), "handle_chinese_chars"),
        (_with(normalizer=normalizers.NFKC()), "BertNormalizer"),
        (_with(pre_tokenizer=pre_tokenizers.Whitespace()), "Whitespace"),
        (_with(model=models.WordPiece(continuing_subword_prefix="@@")), "something else than ##"),
        (_with(post_processor=processors.TemplateProcessing(single="$A")), "one behind every text"),
        (_with(model=models.WordPiece(vocab={"a": 0}, unk_token="?")), "no token for unknown words"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused_with_the_reason(tokenizer, reason, tmp_path):
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    with pytest.raises(ConvertError, match=reason):
        convert(tmp_path, 2000)
