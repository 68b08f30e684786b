"""Tokenizer files that nobody vouches for: whatever stands in them, there is a vocabulary or a clear error."""

from __future__ import annotations

import copy
import functools
import json
import tempfile
from pathlib import Path

import pytest
import transformers
from convert.vocab.comparing import convert, files_of
from convert.vocab.making import byte_level, from_sentencepiece, pieces_of, sentencepiece_model, wordpiece, wrapped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from ollama_nb.convert.config import Config
from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.source import Source
from ollama_nb.convert.vocab import vocabulary
from ollama_nb.convert.vocab.sentencepiece import parse_sentencepiece

SIZE = 1600
ROLES = {"unk_token": "[UNK]", "sep_token": "[SEP]", "cls_token": "[CLS]"}


def _byte_level(folder):
    wrapped(byte_level("llama-bpe", size=400), folder, bos_token="<|begin|>", eos_token="<|end|>")


def _spm(folder):
    from_sentencepiece(transformers.LlamaTokenizerFast, sentencepiece_model("bpe", size=900), folder)


def _bert(folder):
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    wrapped(tokenizer, folder, **ROLES)


def _unigram(folder):
    data = sentencepiece_model("unigram", size=400, rule="nmt_nfkc")
    charsmap = parse_sentencepiece(data).charsmap
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces_of(data)[3:]]
    transformers.XLMRobertaTokenizerFast(vocab=vocab, _spm_precompiled_charsmap=charsmap).save_pretrained(folder)


KINDS = {"byte-level": _byte_level, "sentencepiece": _spm, "wordpiece": _bert, "unigram": _unigram}


@functools.cache
def _saved(kind):
    """The JSON files of a tokenizer, parsed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        KINDS[kind](folder)
        (folder / "generation_config.json").write_text('{"eos_token_id": [2, 3], "bos_token_id": 1}')
        (folder / "special_tokens_map.json").write_text('{"mask_token": {"content": "<mask>"}}')
        return {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}


def _places(value, prefix=()):
    """The ways to all values of a JSON value; of a long list or object the first few only."""
    yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items)[:30]:
        yield from _places(item, (*prefix, key))


def _change(value, way, new):
    if not way:
        return new
    value[way[0]] = _change(value[way[0]], way[1:], new)
    return value


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 2, 5, 300, 1599, 1600])
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["", "\0", "a", " ", "▁", "\ud800", "<s>", "[PAD1500]", "BPE", "Sequence", "ByteLevel"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def _converted(files, folder):
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    try:
        return convert(folder, SIZE)
    except ConvertError:
        return None


def _is_sound(keys):
    tokens = keys["tokenizer.ggml.tokens"]
    assert len(tokens) == len(set(tokens)) == len(keys["tokenizer.ggml.token_type"]) == SIZE
    for text in tokens:
        assert text.encode()
        assert "\0" not in text
    assert len(keys.get("tokenizer.ggml.scores", tokens)) == SIZE
    for name, value in keys.items():
        assert not name.endswith("token_id") or 0 <= value < SIZE
    if keys["tokenizer.ggml.model"] == "llama":
        assert {f"<0x{value:02X}>" for value in range(256)} <= set(tokens)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_change_of_a_value_gives_a_sound_vocabulary_or_a_clear_error(kind, data, tmp_path_factory):
    files = copy.deepcopy(_saved(kind))
    name = data.draw(st.sampled_from(sorted(files)))
    for _ in range(data.draw(st.integers(1, 3))):
        way = data.draw(st.sampled_from(sorted(_places(files[name]), key=repr)))
        files[name] = _change(files[name], way, data.draw(VALUES))
    keys = _converted(files, tmp_path_factory.mktemp("damaged"))
    if keys is not None:
        _is_sound(keys)


@pytest.mark.parametrize("kind", KINDS)
def test_more_tokens_than_the_model_has_rows_for_are_refused(kind, tmp_path):
    KINDS[kind](tmp_path)
    with pytest.raises(ConvertError, match="embeddings for 300 tokens"):
        convert(tmp_path, 300)


@pytest.mark.parametrize("size", [0, -1, (1 << 20) + 1])
def test_a_number_of_rows_that_cannot_be_is_refused(size, tmp_path):
    _bert(tmp_path)
    with pytest.raises(ConvertError, match="limit"):
        convert(tmp_path, size)


def test_without_any_tokenizer_the_error_says_what_to_send(tmp_path):
    with pytest.raises(ConvertError, match="no tokenizer") as caught:
        convert(tmp_path, 10)
    assert "tokenizer.json" in caught.value.hint


def _model(**changes):
    def change(files):
        files["tokenizer.json"]["model"].update(changes)

    return change


def _added(entry):
    return lambda files: files["tokenizer.json"]["added_tokens"].append(entry)


def _vocab(**entries):
    return lambda files: files["tokenizer.json"]["model"]["vocab"].update(entries)


DAMAGE = {
    "a merge of three": (_model(merges=["a b c"]), "no pair of tokens"),
    "a merge of one": (_model(merges=[["a"]]), "no pair of tokens"),
    "a merge that is a number": (_model(merges=[7]), "no pair of tokens"),
    "a merge with a blank": (_model(merges=[["a ", "b"]]), "no pair of tokens"),
    "a merge of unknown tokens": (_model(merges=["zzz a"]), "not in its vocabulary"),
    "merges that are no list": (_model(merges={"a": "b"}), "list"),
    "no vocabulary": (_model(vocab={}), "no vocabulary"),
    "a vocabulary that is a list": (_model(vocab=["a"], type="BPE"), "no vocabulary"),
    "another type": (_model(type="WordLevel"), "WordLevel"),
    "an id twice with one text": (_added({"id": 1500, "content": "a", "special": False}), "twice"),
    "a negative id": (_vocab(zz=-1), "id -1"),
    "an id that is a text": (_vocab(zz="1"), "id '1'"),
    "an id that is true": (_vocab(zz=True), "id True"),
    "an added token without text": (_added({"id": 1500}), "no text"),
    "an end of texts beyond the end": (_added({"id": 1600, "content": "<|end|>"}), "id 1600"),
    "a step without a type": (
        lambda files: files["tokenizer.json"].update(normalizer={"a": 1}),
        "no object with a type",
    ),
    "steps without end": (
        lambda files: files["tokenizer.json"].update(
            normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}
        ),
        "more than 32 steps",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_is_said(name, tmp_path):
    change, reason = DAMAGE[name]
    files = copy.deepcopy(_saved("byte-level"))
    change(files)
    for file, value in files.items():
        (tmp_path / file).write_text(json.dumps(value))
    with pytest.raises(ConvertError, match=reason):
        convert(tmp_path, SIZE)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"model": ' + "[" * 100_000, '{"model": {"vocab": {"\\ud800": 1}, "merges": []}}', "{}"]
)
def test_a_file_that_is_no_tokenizer_is_refused(text, tmp_path):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ConvertError):
        convert(tmp_path, 10)


def test_texts_that_gguf_cannot_hold_become_tokens_that_no_text_has(tmp_path):
    files = copy.deepcopy(_saved("byte-level"))
    files["tokenizer.json"]["model"]["vocab"] |= {"": 1500, "a\0b": 1501, "[PAD1503]": 1502}
    keys = _converted(files, tmp_path)
    _is_sound(keys)
    assert keys["tokenizer.ggml.tokens"][1500:1504] == ["[PAD1500]", "[PAD1501]", "[PAD1503]", "[[PAD1503]]"]


def test_tokens_of_hundreds_of_letters_are_looked_through(tmp_path):
    letters = [chr(0x4E00 + number) for number in range(2000)]
    vocab = {f"<0x{value:02X}>": value for value in range(256)}
    for text in [*letters, *("".join(letters[:size]) for size in range(2, 1000)), "</s>"]:
        vocab[text] = len(vocab)
    merges = [["".join(letters[: size - 1]), letters[size - 1]] for size in range(2, 1000)]
    model = {"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": True}
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model, "normalizer": normalizer}))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    keys = vocabulary(Source(files_of(tmp_path)), Config({}), len(vocab))
    assert keys["tokenizer.ggml.pre"] == "default"
