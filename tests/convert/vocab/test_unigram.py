"""Unigram models: XLM-RoBERTa's and T5's, from ``tokenizer.json`` and from sentencepiece's file alone."""

from __future__ import annotations

import json

import pytest
import sentencepiece
import transformers
from convert.hard_strings import HARD_STRINGS
from convert.vocab.comparing import Vocabulary, convert, differences
from convert.vocab.making import pieces_of, sentencepiece_model, wrapped
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.vocab.sentencepiece import parse_sentencepiece

SIZE = 580
MODEL = sentencepiece_model("unigram", size=SIZE, rule="nmt_nfkc")
CHARSMAP = parse_sentencepiece(MODEL).charsmap
SPECIAL = ("<s>Hello</s>", "x</s><pad>")
# The table of characters has no blank for it, and transformers splits there nevertheless.
KNOWN = {"next\x85line form\x0cfeed vertical\x0btab bell\x07 escape\x1b del\x7f"}


def _xlm_roberta(folder, **settings):
    beginning = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab = [*beginning, *pieces_of(MODEL)[3:], ("<mask>", 0.0)]
    tokenizer = transformers.XLMRobertaTokenizerFast(vocab=vocab, _spm_precompiled_charsmap=CHARSMAP, **settings)
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_xlm_roberta_makes_the_same_tokens(tmp_path):
    tokenizer = _xlm_roberta(tmp_path)
    keys = convert(tmp_path, len(tokenizer) + 1)
    assert keys["tokenizer.ggml.model"] == "t5"
    assert keys["tokenizer.ggml.precompiled_charsmap"] == CHARSMAP
    with Vocabulary(keys, tmp_path) as vocabulary:
        assert differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL).keys() == KNOWN


def test_t5_makes_the_same_tokens(tmp_path):
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces_of(MODEL)[3:]]
    tokenizer = transformers.T5TokenizerFast(vocab=vocab, _spm_precompiled_charsmap=CHARSMAP, extra_ids=10)
    tokenizer.save_pretrained(tmp_path)
    with Vocabulary(convert(tmp_path, len(tokenizer)), tmp_path) as vocabulary:
        found = differences(tokenizer, vocabulary, (*HARD_STRINGS, "<extra_id_0> Hello <extra_id_9>"))
    assert found.keys() == KNOWN


@pytest.mark.parametrize("strips", [True, False])
def test_blanks_that_a_normalizer_makes_one_are_one(strips, tmp_path):
    # As files of older versions have it. One blank at the end, kept there, is what llama.cpp drops.
    beginning = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tokenizer = Tokenizer(models.Unigram([*beginning, *pieces_of(MODEL)[3:]], unk_id=3, byte_fallback=False))
    strip = [normalizers.Strip(left=False, right=True)] if strips else []
    single = normalizers.Replace(Regex(" {2,}"), "▁" if strips else " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(CHARSMAP), *strip, single])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = wrapped(tokenizer, tmp_path, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    with Vocabulary(convert(tmp_path, len(tokenizer)), tmp_path) as vocabulary:
        found = differences(tokenizer, vocabulary, HARD_STRINGS)
    normalized = {text: tokenizer.backend_tokenizer.normalizer.normalize_str(text) for text in HARD_STRINGS}
    ending_in_blanks = {text for text, result in normalized.items() if result.endswith((" ", "▁"))}
    assert found.keys() == (set() if strips else ending_in_blanks)


def test_the_sentencepiece_file_of_xlm_roberta_alone_gives_its_ids(tmp_path):
    tokenizer = _xlm_roberta(tmp_path)
    with_json = convert(tmp_path, len(tokenizer))
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "sentencepiece.bpe.model").write_bytes(MODEL)
    alone = convert(tmp_path, len(tokenizer))
    for name in ("tokens", "token_type", "bos_token_id", "eos_token_id", "add_bos_token", "add_eos_token"):
        assert alone[f"tokenizer.ggml.{name}"] == with_json[f"tokenizer.ggml.{name}"]
    with Vocabulary(alone, tmp_path) as vocabulary:
        assert differences(tokenizer, vocabulary, HARD_STRINGS).keys() == KNOWN


def test_a_sentencepiece_file_of_another_kind_keeps_its_own_ids(tmp_path):
    (tmp_path / "spiece.model").write_bytes(MODEL)
    processor = sentencepiece.SentencePieceProcessor(model_proto=MODEL)
    with Vocabulary(convert(tmp_path, SIZE), tmp_path) as vocabulary:
        for text in HARD_STRINGS:
            found = vocabulary.tokenize(text)
            # Of two ways that are as probable either may be taken.
            assert sorted(found) == sorted([*processor.encode(text), processor.eos_id()])
            assert processor.decode(found[:-1]) == processor.decode(processor.encode(text))


def _damaged(folder, change):
    _xlm_roberta(folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    change(tokenizer)
    path.write_text(json.dumps(tokenizer))


CHANGES = {
    "no pair": (lambda t: t["model"]["vocab"].append("a"), "no pair of text and score"),
    "no number": (lambda t: t["model"]["vocab"].append(["q", "1"]), "no pair of text and score"),
    "not finite": (lambda t: t["model"]["vocab"].__setitem__(9, ["q", float("nan")]), "score nan"),
    "beyond float32": (lambda t: t["model"]["vocab"].__setitem__(9, ["q", -1e39]), "score -1e"),
    "a number of a hundred digits": (lambda t: t["model"]["vocab"].__setitem__(9, ["q", 10**99]), "score 1000"),
    "no unknown token": (lambda t: t["model"].update(unk_id=None), "id None"),
    "an unknown token beyond the end": (lambda t: t["model"].update(unk_id=10**6), "id 1000000"),
    "bytes": (lambda t: t["model"].update(byte_fallback=True), "as bytes"),
    "no base64": (lambda t: t["normalizer"].update(precompiled_charsmap="!"), "no base64"),
    "a cut table": (lambda t: t["normalizer"].update(precompiled_charsmap="AAAABB=="), "is damaged"),
    "a table too long": (lambda t: t["normalizer"].update(precompiled_charsmap="/////w=="), "is damaged"),
    "no table": (lambda t: t.update(normalizer=None), "without a table of characters"),
    "another normalizer": (lambda t: t.update(normalizer={"type": "NFKC"}), "NFKC"),
    "no mark for blanks": (lambda t: t.update(pre_tokenizer=None), "does not mark blanks"),
    "another way to split": (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_is_refused_with_the_reason(name, tmp_path):
    change, reason = CHANGES[name]
    _damaged(tmp_path, change)
    with pytest.raises(ConvertError, match=reason):
        convert(tmp_path, 700)
