"""Sentencepiece's BPE: from ``tokenizer.model``, from ``tokenizer.json``, and where merges are not what scores say."""

from __future__ import annotations

import itertools
import json

import pytest
import sentencepiece
import transformers
from convert.hard_strings import HARD_STRINGS
from convert.vocab.comparing import Vocabulary, convert, differences
from convert.vocab.making import TEXT, from_sentencepiece, pieces_of, sentencepiece_model, wrapped
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.tokenization_utils_base import generate_merges

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.vocab.spm import scores_say_the_same

BYTES = [f"<0x{value:02X}>" for value in range(256)]
SPECIAL = ("<s>x</s> y<s>", "x<unk>y")
WRITTEN = "the▁lower▁block ▁ itself ▁▁"
BLANKS_FIRST = {text for text in HARD_STRINGS if text.startswith(" ")}
"""transformers' ``Metaspace`` puts no second blank before these, llama.cpp and sentencepiece do."""


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
def test_llama_tokenizers_make_the_same_tokens(prefix, add_bos, tmp_path):
    tokenizer = from_sentencepiece(
        transformers.LlamaTokenizerFast,
        sentencepiece_model("bpe", prefix=prefix),
        tmp_path,
        add_prefix_space=prefix,
        add_bos_token=add_bos,
    )
    keys = convert(tmp_path, len(tokenizer))
    assert keys["tokenizer.ggml.model"] == "llama"
    assert keys["tokenizer.ggml.add_space_prefix"] is prefix
    assert keys["tokenizer.ggml.add_bos_token"] is add_bos
    with Vocabulary(keys, tmp_path) as vocabulary:
        found = differences(tokenizer, vocabulary, HARD_STRINGS)
    assert found.keys() == (BLANKS_FIRST if prefix else set())


def test_gemma_tokenizers_make_the_same_tokens(tmp_path):
    model = sentencepiece_model("bpe", prefix=False)
    tokenizer = from_sentencepiece(transformers.GemmaTokenizerFast, model, tmp_path, add_bos_token=True)
    with Vocabulary(convert(tmp_path, len(tokenizer)), tmp_path) as vocabulary:
        assert not differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL)


def test_runs_of_blanks_that_were_added_as_tokens_are_shown_as_blanks(tmp_path):
    # Gemma has them. As user-defined tokens of that text they would be shown as ▁; so only a ▁ that is written in a
    # text is split otherwise.
    runs = ["▁▁", "▁▁▁", "▁▁▁▁"]
    model = sentencepiece_model("bpe", prefix=False, symbols=",".join([*runs, "==", "<sep>"]))
    tokenizer = from_sentencepiece(transformers.GemmaTokenizerFast, model, tmp_path, add_bos_token=True)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*runs, "==", "<sep>")])
    tokenizer.save_pretrained(tmp_path)
    for beside in (None, model):
        if beside:
            (tmp_path / "tokenizer.model").write_bytes(beside)
        with Vocabulary(convert(tmp_path, len(tokenizer)), tmp_path) as vocabulary:
            found = differences(tokenizer, vocabulary, (*HARD_STRINGS, "a<sep>b == c", "x     y"))
            assert found.keys() == {WRITTEN}
            assert vocabulary.piece(tokenizer.convert_tokens_to_ids("▁▁▁")) == b"   "


def _legacy(folder, **post):
    """As Llama 2 stands on disk: the blank is put before every piece of text by a normalizer."""
    pieces = pieces_of(sentencepiece_model("bpe"))
    vocab = {text: token for token, (text, _) in enumerate(pieces)}
    bpe = models.BPE(vocab=vocab, merges=generate_merges(vocab), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return wrapped(tokenizer, folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **post)


def test_llama_2_as_it_stands_on_disk_makes_the_same_tokens_behind_special_ones_too(tmp_path):
    tokenizer = _legacy(tmp_path)
    with Vocabulary(convert(tmp_path, len(tokenizer)), tmp_path) as vocabulary:
        assert not differences(tokenizer, vocabulary, (*HARD_STRINGS, *SPECIAL, "<s>[INST] Hi [/INST]</s><s>[INST]"))


def test_scores_of_a_tokenizer_model_beside_it_are_preferred(tmp_path):
    model = sentencepiece_model("bpe")
    tokenizer = _legacy(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(model)
    keys = convert(tmp_path, len(tokenizer) + 1)
    assert keys["tokenizer.ggml.scores"][3:-1] == [score for _, score in pieces_of(model)][3:]
    with Vocabulary(keys, tmp_path) as vocabulary:
        assert not differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL)

    # One that belongs to another tokenizer is not.
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model("bpe", size=1000))
    with Vocabulary(convert(tmp_path, len(tokenizer)), tmp_path) as vocabulary:
        assert not differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL)


@pytest.mark.parametrize("prefix", [False, True])
def test_a_tokenizer_model_alone_is_enough(prefix, tmp_path):
    model = sentencepiece_model("bpe", prefix=prefix)
    (tmp_path / "tokenizer.model").write_bytes(model)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    with Vocabulary(convert(tmp_path, 1405), tmp_path) as vocabulary:
        for text in HARD_STRINGS:
            assert vocabulary.tokenize(text) == [processor.bos_id(), *processor.encode(text)]


def test_behind_a_special_token_a_chat_gets_no_blank_that_transformers_does_not_put_there(tmp_path):
    tokenizer = from_sentencepiece(transformers.LlamaTokenizerFast, sentencepiece_model("bpe"), tmp_path)
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}</s>{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    chat = [{"role": "user", "content": "Hello world"}, {"role": "assistant", "content": "The boats"}]
    with Vocabulary(convert(tmp_path, len(tokenizer)), tmp_path) as vocabulary:
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        assert vocabulary.tokenize(text, special=False) == tokenizer.encode(text, add_special_tokens=False)


def _trained(*, prefix):
    """A BPE trained by ``tokenizers`` itself: every token has one merge, where sentencepiece would allow others."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    if prefix:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), tokenizer.normalizer])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=["<unk>", "<s>", "</s>", *BYTES], show_progress=False)
    words = [word for text in TEXT for line in text.split("\n") for word in line.replace(" ", " \t").split("\t")]
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def test_merges_that_scores_cannot_say_are_kept_as_merges(tmp_path):
    tokenizer = wrapped(_trained(prefix=False), tmp_path, eos_token="</s>", unk_token="<unk>")
    keys = convert(tmp_path, len(tokenizer))
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"]) == ("gpt2", "sarvam-moe")
    with Vocabulary(keys, tmp_path) as vocabulary:
        assert not differences(tokenizer, vocabulary, HARD_STRINGS + SPECIAL)


def test_with_a_blank_before_texts_such_merges_are_refused(tmp_path):
    wrapped(_trained(prefix=True), tmp_path, eos_token="</s>")
    with pytest.raises(ConvertError, match="not those of a sentencepiece model"):
        convert(tmp_path, 1600)


@pytest.mark.parametrize(("fallback", "reason"), [(True, "256 bytes"), (False, "byte_fallback")])
def test_without_tokens_for_bytes_it_is_refused(fallback, reason, tmp_path):
    bpe = models.BPE(vocab={"a": 0, "<unk>": 1}, merges=[], unk_token="<unk>", byte_fallback=fallback)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    wrapped(tokenizer, tmp_path, eos_token="a")
    with pytest.raises(ConvertError, match=reason):
        convert(tmp_path, 2)


def test_a_byte_whose_token_another_has_taken_is_missing(tmp_path):
    tokenizer = _legacy(tmp_path)
    path = tmp_path / "tokenizer.json"
    saved = json.loads(path.read_text())
    saved["added_tokens"].append({"id": tokenizer.convert_tokens_to_ids("<0x41>"), "content": "<other>"})
    path.write_text(json.dumps(saved))
    with pytest.raises(ConvertError, match="256 bytes"):
        convert(tmp_path, len(tokenizer))


def test_normalising_models_are_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model("bpe", rule="nmt_nfkc"))
    with pytest.raises(ConvertError, match="normalises texts"):
        convert(tmp_path, 1400)


def test_added_tokens_beside_a_tokenizer_model_have_their_rows_and_types(tmp_path):
    model = sentencepiece_model("bpe")
    size = len(pieces_of(model))
    (tmp_path / "tokenizer.model").write_bytes(model)
    decoder = {"1": {"content": "<s>", "special": True}, str(size): {"content": "<|user|>", "special": True}}
    settings = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False, "added_tokens_decoder": decoder}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|user|>": size, "<tool>": size + 1}))
    keys = convert(tmp_path, size + 2)
    assert keys["tokenizer.ggml.tokens"][size:] == ["<|user|>", "<tool>"]
    assert keys["tokenizer.ggml.token_type"][size:] == [3, 4]
    with Vocabulary(keys, tmp_path) as vocabulary:
        assert vocabulary.tokenize("<|user|><tool>") == [size, size + 1]


@pytest.mark.parametrize("key", ["x", "-1", "1" * 50, "\u0661"])
def test_an_added_token_needs_a_number(key, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model("bpe"))
    settings = {"added_tokens_decoder": {key: {"content": "<x>"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConvertError, match="added_tokens_decoder"):
        convert(tmp_path, 1500)


SPLIT = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
CHANGES = {
    "no type": (lambda t: t["model"].pop("type"), None),
    "a mark before texts in old words": (
        lambda t: t.update(
            normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
        ),
        None,
    ),
    "texts split at blanks": (lambda t: t.update(normalizer=None, pre_tokenizer=SPLIT), None),
    "tokens across blanks": (
        lambda t: (t.update(normalizer=None, pre_tokenizer=SPLIT), t["model"]["vocab"].update({"a▁b": 1402})),
        "across blanks",
    ),
    "another mark": (lambda t: t.update(pre_tokenizer={"type": "Metaspace", "replacement": "_"}), "marks blanks"),
    "another normalizer": (lambda t: t.update(normalizer={"type": "NFKC"}), "NFKC"),
    "another split": (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_forms_of_tokenizer_json_are_followed_or_refused(name, tmp_path):
    change, reason = CHANGES[name]
    _legacy(tmp_path)
    path = tmp_path / "tokenizer.json"
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
    if reason is not None:
        with pytest.raises(ConvertError, match=reason):
            convert(tmp_path, 1500)
        return
    keys = convert(tmp_path, 1500)
    assert keys["tokenizer.ggml.add_space_prefix"] is True
    tokenizer = Tokenizer.from_file(str(path))
    with Vocabulary(keys, tmp_path) as vocabulary:
        for text in set(HARD_STRINGS) - BLANKS_FIRST:
            assert vocabulary.tokenize(text) == tokenizer.encode(text).ids


LETTERS = "abcd▁"


def _overlaps_itself(text):
    return any(text[:size] == text[-size:] for size in range(1, len(text)))


@st.composite
def vocabularies(draw):
    """Tokens of a few letters in the order in which they are merged, each made of two others."""
    tokens = list(LETTERS)
    for left, right in draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=25)):
        made = tokens[left % len(tokens)] + tokens[right % len(tokens)]
        if made not in tokens and len(made) <= 8 and not _overlaps_itself(made):
            tokens.append(made)
    return tokens


@settings(max_examples=150, deadline=None)
@given(tokens=vocabularies(), texts=st.lists(st.text(LETTERS, max_size=24), min_size=1, max_size=8))
def test_any_merges_that_pass_the_check_are_followed(tmp_path_factory, tokens, texts):
    # Tokens that overlap themselves are left out: of two overlapping places llama.cpp takes the left one, the merges
    # may prefer the right one. The merges of real models come to the same.
    folder = tmp_path_factory.mktemp("law")
    vocab = {text: token for token, text in enumerate(itertools.chain(["<unk>", "</s>"], BYTES, tokens))}
    merges = [pair for pair in generate_merges(vocab) if "".join(pair) in tokens]
    assume(scores_say_the_same(vocab, {pair: rank for rank, pair in enumerate(merges)}, {"<unk>", "</s>", *BYTES}))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    keys = convert(folder, len(vocab))
    assert keys["tokenizer.ggml.model"] == "llama"
    with Vocabulary(keys, folder) as vocabulary:
        for text in texts:
            assert vocabulary.tokenize(text) == tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("merges", "same"),
    [
        ([("a", "b"), ("ab", "c"), ("a", "bc")], False),  # b + c is a token, but no merge
        ([("b", "c"), ("a", "bc")], True),
        ([("a", "b"), ("c", "d"), ("a", "b")], True),  # the second is never used
    ],
)
def test_what_scores_can_say(merges, same):
    ranks = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair, rank)
    vocab = {text: 0 for pair in merges for text in (*pair, "".join(pair))}
    assert scores_say_the_same(vocab, ranks, set()) is same
