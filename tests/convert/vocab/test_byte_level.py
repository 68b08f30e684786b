"""Byte-level BPE: llama.cpp makes the same tokens as transformers, for every way of splitting texts that it knows."""

from __future__ import annotations

import json

import pytest
import transformers
from convert.hard_strings import HARD_STRINGS
from convert.vocab.comparing import Vocabulary, convert, differences
from convert.vocab.making import LLAMA3, PRE_TOKENIZERS, QWEN2, byte_level, wrapped
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from ollama_nb.convert.errors import ConvertError

SPECIAL = ("<|begin|>Hello<|end|>", "x<tool_call>{}<tool_call>", "<|begin|><|begin|> <|end|>\n")

# llama.cpp's regular expression for this one knows no combining marks in words.
KNOWN = {
    "tekken": {
        "مرحبا بالعالم كيف حالك؟ لُغَةٌ عَرَبِيَّةٌ",
        "שלום עולם שָׁלוֹם",
        "สวัสดีชาวโลก ภาษาไทย น้ำ",
        "नमस्ते दुनिया हिन्दी क्षत्रिय",
        "কান্তে বাংলা কান তৈরি கிரந்தம் తెలుగు",
        "កាន់តែពិសេសអាច",
        "e\u0301 a\u030a n\u0303 decomposed",
        "\u0301 alone, and x\u030c\u0323y",
    },
}
COMPOSED = {
    "e\u0301 a\u030a n\u0303 decomposed",
    "\u0301 alone, and x\u030c\u0323y",
    "\u00c5ngstr\u00f6m: \u212b \u212a \u2126",
}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_texts_become_the_same_tokens(name, tmp_path):
    tokenizer = wrapped(byte_level(name), tmp_path, bos_token="<|begin|>", eos_token="<|end|>")
    keys = convert(tmp_path, len(tokenizer))
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"]) == ("gpt2", name)
    with Vocabulary(keys, tmp_path) as vocabulary:
        found = differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL)
    assert found.keys() == KNOWN.get(name, set())


# What is split and thrown away but for what a pattern finds, as in files made of tiktoken's, is all of the text here.
COVERING = ("llama-bpe", "qwen2", "qwen35", "tekken", "granite-embed-multi-97m")


@pytest.mark.parametrize("name", COVERING)
def test_a_split_that_drops_what_lies_between_is_the_same_where_nothing_does(name, tmp_path):
    document = json.loads(byte_level(name).to_str())
    document["pre_tokenizer"]["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    tokenizer = wrapped(Tokenizer.from_str(json.dumps(document)), tmp_path, eos_token="<|end|>")
    keys = convert(tmp_path, len(tokenizer))
    assert keys["tokenizer.ggml.pre"] == name
    with Vocabulary(keys, tmp_path) as vocabulary:
        found = differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL)
    assert found.keys() == KNOWN.get(name, set())


@pytest.mark.parametrize("changes", [{"behavior": "Removed"}, {"invert": True}, {"behavior": "MergedWithPrevious"}])
def test_other_ways_to_split_at_the_same_pattern_are_refused(changes, tmp_path):
    document = json.loads(byte_level("qwen2").to_str())
    document["pre_tokenizer"]["pretokenizers"][0] |= changes
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(ConvertError, match="splits texts in a way"):
        convert(tmp_path, 3000)


def test_a_pattern_that_covers_a_part_only_is_refused_where_the_rest_is_dropped(tmp_path):
    document = json.loads(byte_level("deepseek-v3").to_str())
    document["pre_tokenizer"]["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(ConvertError, match="splits texts in a way"):
        convert(tmp_path, 3000)


CLASSES = {
    "Qwen2": (transformers.Qwen2TokenizerFast, "qwen2", {"eos_token": "<|end|>", "pad_token": "<|end|>"}, COMPOSED),
    "Cohere": (
        transformers.CohereTokenizerFast,
        "smollm",
        {"bos_token": "<|begin|>", "eos_token": "<|end|>", "add_bos_token": True},
        COMPOSED,
    ),
    "GPT2": (transformers.GPT2TokenizerFast, "gpt-2", {"bos_token": "<|begin|>", "eos_token": "<|end|>"}, set()),
    "Roberta": (transformers.RobertaTokenizerFast, "gpt-2", {}, set()),
}


@pytest.mark.parametrize("name", CLASSES)
def test_the_classes_of_real_models_keep_their_tokens_and_those_around_a_text(name, tmp_path):
    # Qwen and Cohere compose letters and their marks, which llama.cpp does not.
    kind, pre, settings, known = CLASSES[name]
    model = json.loads(byte_level(pre).to_str())["model"]
    tokenizer = kind(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], **settings)
    tokenizer.save_pretrained(tmp_path)
    with Vocabulary(convert(tmp_path, len(tokenizer)), tmp_path) as vocabulary:
        found = differences(tokenizer, vocabulary, HARD_STRINGS)
    assert found.keys() == known


@pytest.mark.parametrize(("pattern", "name"), [(LLAMA3, "llama-bpe"), (QWEN2, "qwen2")])
def test_a_pattern_may_be_written_in_other_words(pattern, name, tmp_path):
    other = pattern.replace(
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    ).replace(r"\r\n", "\r\n")
    tokenizer = byte_level(name)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(other), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    wrapped(tokenizer, tmp_path, eos_token="<|end|>")
    assert convert(tmp_path, 2100)["tokenizer.ggml.pre"] == name


def test_words_that_are_tokens_are_taken_whole_only_where_the_tokenizer_does(tmp_path):
    # "abc" is no result of merging its letters, for "bc" comes first.
    vocab = {letter: token for token, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {text: len(vocab) + number for number, text in enumerate(["bc", "ab", "abc", "<|end|>"])}
    for ignores, name in ((True, "llama-bpe"), (False, "dbrx")):
        tokenizer = Tokenizer(
            models.BPE(vocab=vocab, merges=[("b", "c"), ("a", "b"), ("ab", "c")], ignore_merges=ignores)
        )
        steps, _ = PRE_TOKENIZERS["llama-bpe"]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        fast = wrapped(tokenizer, tmp_path, eos_token="<|end|>")
        keys = convert(tmp_path, len(vocab))
        assert keys["tokenizer.ggml.pre"] == name
        with Vocabulary(keys, tmp_path) as vocabulary:
            assert not differences(fast, vocabulary, ["abc", "abcabc", " abc", "bc abc ab"])


def test_where_llama_cpp_does_the_opposite_and_it_matters_the_tokenizer_is_refused(tmp_path):
    vocab = {letter: token for token, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {text: len(vocab) + number for number, text in enumerate(["bc", "ab", "abc", "<|end|>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("b", "c"), ("a", "b"), ("ab", "c")], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS["qwen2"][0])
    wrapped(tokenizer, tmp_path, eos_token="<|end|>")
    with pytest.raises(ConvertError, match="ignore_merges"):
        convert(tmp_path, len(vocab))


def test_vocab_json_and_merges_txt_do_for_classes_that_are_known(tmp_path):
    tokenizer = byte_level("qwen2")
    tokenizer.model.save(str(tmp_path))
    settings = {"tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with Vocabulary(convert(tmp_path, tokenizer.get_vocab_size()), tmp_path) as vocabulary:
        for text in HARD_STRINGS:
            assert vocabulary.tokenize(text) == tokenizer.encode(text).ids

    settings["tokenizer_class"] = "OtherTokenizer"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConvertError, match="nothing says how OtherTokenizer splits texts"):
        convert(tmp_path, tokenizer.get_vocab_size())


def _with(part, value):
    tokenizer = Tokenizer.from_str(byte_level("gpt-2").to_str())
    setattr(tokenizer, part, value)
    return tokenizer


REFUSED = {
    "another pattern": (
        _with(
            "pre_tokenizer",
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(r"\w+|\W+"), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            ),
        ),
        "splits texts in a way that llama.cpp does not know",
    ),
    "a blank before texts": (_with("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)), "puts a blank"),
    "lower case": (_with("normalizer", normalizers.Lowercase()), "Lowercase"),
    "suffixes": (_with("model", models.BPE(end_of_word_suffix="</w>")), "end_of_word_suffix"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_cannot_do_is_refused_with_the_reason(name, tmp_path):
    tokenizer, reason = REFUSED[name]
    wrapped(tokenizer, tmp_path, eos_token="<|end|>")
    with pytest.raises(ConvertError, match=reason):
        convert(tmp_path, 3000)
