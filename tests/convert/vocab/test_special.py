"""Tokens with a role: what stands around a text, what ends an answer, and the types of added tokens."""

from __future__ import annotations

import json

import pytest
from convert.vocab.comparing import Vocabulary, convert, differences
from convert.vocab.making import byte_level, wrapped
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, processors

from ollama_nb.convert.errors import ConvertError

TEXTS = ("", "Hello world", "<|begin|>x<|end|>", "<|im_end|>", "<think>a</think>")


def _tokenizer():
    tokenizer = Tokenizer.from_str(byte_level("gpt-2").to_str())
    marks = ["<|im_end|>", "<|eom|>", "<|stop|>", "<|halt|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    tokenizer.add_special_tokens(marks)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tokenizer


def _write(folder, name, value):
    (folder / name).write_text(json.dumps(value))


def _saved(folder, tokenizer=None, **files):
    """The tokenizer's files with some others, such as ``generation_config={...}``."""
    tokenizer = tokenizer or _tokenizer()
    fast = wrapped(tokenizer, folder, bos_token="<|begin|>", eos_token="<|end|>")
    for name, value in files.items():
        _write(folder, f"{name}.json", value)
    return fast


def test_added_tokens_are_marks_or_text(tmp_path):
    tokenizer = _saved(tmp_path)
    keys = convert(tmp_path, len(tokenizer) + 2)
    types = dict(zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"], strict=True))
    assert {types[text] for text in ("<|begin|>", "<|end|>", "<|im_end|>")} == {3}
    assert {types[text] for text in ("<think>", "</think>", "<tool_call>")} == {4}
    assert types["a"] == 1
    assert keys["tokenizer.ggml.tokens"][-2:] == [f"[PAD{len(tokenizer)}]", f"[PAD{len(tokenizer) + 1}]"]
    assert keys["tokenizer.ggml.token_type"][-2:] == [5, 5]


AROUND = {
    "nothing": ("$A", (False, False)),
    "a beginning": ("<|begin|> $A", (True, False)),
    "an end": ("$A <|end|>", (False, True)),
    "both": ("<|begin|> $A <|end|>", (True, True)),
    "others than those named": ("<|stop|> $A <|halt|>", (True, True)),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_the_post_processor_puts_around_a_text_llama_cpp_does_too(name, tmp_path):
    single, flags = AROUND[name]
    tokenizer = _tokenizer()
    marks = [(text, tokenizer.token_to_id(text)) for text in ("<|begin|>", "<|end|>", "<|stop|>", "<|halt|>")]
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing(single=single, special_tokens=marks)]
    )
    fast = _saved(tmp_path, tokenizer)
    # What the settings say does not matter then.
    path = tmp_path / "tokenizer_config.json"
    _write(tmp_path, path.name, {**json.loads(path.read_text()), "add_bos_token": not flags[0]})
    keys = convert(tmp_path, len(fast))
    assert (keys["tokenizer.ggml.add_bos_token"], keys["tokenizer.ggml.add_eos_token"]) == flags
    with Vocabulary(keys, tmp_path) as vocabulary:
        assert not differences(fast, vocabulary, TEXTS)
        assert tokenizer.token_to_id("<|end|>") in vocabulary.ends()


@pytest.mark.parametrize("add_bos", [True, False])
def test_without_a_post_processor_the_settings_decide(add_bos, tmp_path):
    (tmp_path / "tokenizer.json").write_text(_tokenizer().to_str())
    _write(
        tmp_path,
        "tokenizer_config.json",
        {"bos_token": {"content": "<|begin|>"}, "eos_token": "<|end|>", "add_bos_token": add_bos},
    )
    assert convert(tmp_path, 2000)["tokenizer.ggml.add_bos_token"] is add_bos


@pytest.mark.parametrize("single", ["<|begin|> <|stop|> $A", "$A <|stop|> <|end|>"])
def test_two_tokens_on_one_side_are_refused(single, tmp_path):
    tokenizer = _tokenizer()
    marks = [(text, tokenizer.token_to_id(text)) for text in ("<|begin|>", "<|end|>", "<|stop|>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    with pytest.raises(ConvertError, match="more than one token before or behind"):
        convert(tmp_path, 2000)


ENDS = ["<|end|>", "<|im_end|>", "<|eom|>", "<|stop|>", "<think>"]


@settings(max_examples=25, deadline=None)
@given(ends=st.lists(st.sampled_from(ENDS), unique=True, max_size=4))
def test_every_end_that_the_generation_config_names_ends_an_answer(tmp_path_factory, ends):
    folder = tmp_path_factory.mktemp("ends")
    tokenizer = _tokenizer()
    ids = [tokenizer.token_to_id(text) for text in ends]
    fast = _saved(folder, tokenizer, generation_config={"eos_token_id": ids})
    unknown = set(ends) - {"<|end|>", "<|im_end|>"}
    if len(unknown) > 2:
        with pytest.raises(ConvertError, match="can be told of 2"):
            convert(folder, len(fast))
        return
    keys = convert(folder, len(fast))
    assert keys["tokenizer.ggml.eos_token_id"] == tokenizer.token_to_id("<|end|>")
    assert keys.get("tokenizer.ggml.eos_token_ids") == (ids if len(ids) > 1 else None)
    with Vocabulary(keys, folder) as vocabulary:
        assert vocabulary.ends() == {*ids, tokenizer.token_to_id("<|end|>"), tokenizer.token_to_id("<|im_end|>")}


def test_without_a_named_end_the_generation_config_or_the_config_gives_one(tmp_path):
    (tmp_path / "tokenizer.json").write_text(_tokenizer().to_str())
    with pytest.raises(ConvertError, match="nothing says which token ends a text"):
        convert(tmp_path, 2000)
    assert convert(tmp_path, 2000, {"eos_token_id": 7})["tokenizer.ggml.eos_token_id"] == 7
    _write(tmp_path, "generation_config.json", {"eos_token_id": [5, 6], "bos_token_id": 4})
    keys = convert(tmp_path, 2000, {"eos_token_id": 7, "bos_token_id": 8, "pad_token_id": 9})
    roles = ("bos", "eos", "padding", "eot")
    assert [keys[f"tokenizer.ggml.{role}_token_id"] for role in roles] == [4, 5, 9, 6]


def test_a_token_without_a_row_is_left_out_unless_texts_begin_or_end_with_it(tmp_path):
    tokenizer = _saved(tmp_path, config={"pad_token_id": 5000})
    rows = len(tokenizer) - 1
    assert tokenizer.convert_tokens_to_ids("</think>") == rows
    keys = convert(tmp_path, rows, {"pad_token_id": 5000})
    assert len(keys["tokenizer.ggml.tokens"]) == rows
    assert "</think>" not in keys["tokenizer.ggml.tokens"]
    assert "tokenizer.ggml.padding_token_id" not in keys
    path = tmp_path / "tokenizer_config.json"
    _write(tmp_path, path.name, {**json.loads(path.read_text()), "eos_token": "</think>"})
    with pytest.raises(ConvertError, match=f"id {rows}, but the model has embeddings for {rows} tokens"):
        convert(tmp_path, rows)


PHI3 = ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|user|>", "<|end|>")


@pytest.mark.parametrize(
    ("stripping", "named"),
    [({"</s>", "<|user|>", "<|end|>"}, True), (set(), False), ({"</s>"}, False), ({"</s>", "<|user|>"}, False)],
)
def test_marks_that_take_the_blanks_behind_them_do_so_by_the_models_name(stripping, named, tmp_path):
    """Or none does, where that is right for more of them."""
    tokenizer = Tokenizer.from_str(byte_level("gpt-2").to_str())
    tokenizer.add_special_tokens([AddedToken(text, rstrip=text in stripping, normalized=False) for text in PHI3])
    fast = wrapped(tokenizer, tmp_path, bos_token="<s>", eos_token="<|endoftext|>")
    keys = convert(tmp_path, len(fast))
    assert keys.get("general.name") == ("Phi-3" if named else None)
    texts = ("<|user|>\nHi<|end|>\n <|user|>  x", "a</s>\nb<s> c<|endoftext|> d")
    with Vocabulary(keys, tmp_path) as vocabulary:
        assert bool(differences(fast, vocabulary, texts)) == (len(stripping) in (1, 2))


def test_a_model_that_lacks_one_of_phi_3s_marks_is_not_called_so(tmp_path):
    tokenizer = Tokenizer.from_str(byte_level("gpt-2").to_str())
    tokenizer.add_special_tokens([AddedToken(text, rstrip=True, normalized=False) for text in PHI3 if text != "</s>"])
    fast = wrapped(tokenizer, tmp_path, eos_token="<|endoftext|>")
    assert "general.name" not in convert(tmp_path, len(fast))


def test_tokens_for_filling_in_the_middle_have_their_roles(tmp_path):
    tokenizer = _saved(tmp_path)
    keys = convert(tmp_path, len(tokenizer))
    for role, text in (("fim_pre", "<|fim_prefix|>"), ("fim_suf", "<|fim_suffix|>"), ("fim_mid", "<|fim_middle|>")):
        assert keys[f"tokenizer.ggml.{role}_token_id"] == tokenizer.convert_tokens_to_ids(text)


def test_the_end_of_a_turn_is_the_eot_token(tmp_path):
    tokenizer = _saved(tmp_path)
    keys = convert(tmp_path, len(tokenizer))
    assert keys["tokenizer.ggml.eot_token_id"] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_tokens_named_in_the_settings_are_special_where_the_tokenizer_does_not_say_so(tmp_path):
    (tmp_path / "tokenizer.json").write_text(_tokenizer().to_str())
    settings = {"eos_token": "a", "additional_special_tokens": ["b", {"content": "<think>"}], "chat_template": "x"}
    _write(tmp_path, "tokenizer_config.json", settings)
    keys = convert(tmp_path, 2000)
    types = dict(zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"], strict=True))
    assert {types[text] for text in ("a", "b", "<think>")} == {3}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"generation_config": {"eos_token_id": "2"}}, "whole number"),
        ({"generation_config": {"eos_token_id": [2, None]}}, "whole number"),
        ({"generation_config": {"eos_token_id": 10**9}}, "id 1000000000"),
        ({"tokenizer_config": {"eos_token": 7}}, "names no token"),
        ({"tokenizer_config": {"eos_token": {"content": None}}}, "names no token"),
        ({"tokenizer_config": {"eos_token": "<|end|>", "add_bos_token": 1}}, "true or false"),
    ],
)
def test_roles_of_a_wrong_type_are_refused(files, reason, tmp_path):
    tokenizer = json.loads(_tokenizer().to_str())
    tokenizer["post_processor"] = None
    _write(tmp_path, "tokenizer.json", tokenizer)
    for name, value in files.items():
        _write(tmp_path, f"{name}.json", value)
    with pytest.raises(ConvertError, match=reason):
        convert(tmp_path, 2000)
