"""What a sentence-transformers folder says of its vectors, old and new spellings."""

from __future__ import annotations

import json

import pytest

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.pooling import is_normalized, pooling_type, text_limit
from ollama_nb.convert.source import Source

OLD = "sentence_transformers.models."
NEW = "sentence_transformers.sentence_transformer.modules."
MODES = {
    "cls_token": False, "mean_tokens": False, "max_tokens": False, "mean_sqrt_len_tokens": False,
    "weightedmean_tokens": False, "lasttoken": False,
}  # fmt: skip


def modules(*kinds, start=OLD):
    names = (("", "Transformer"), *((f"{number}_{kind}", kind) for number, kind in enumerate(kinds, 1)))
    return [
        {"idx": number, "name": str(number), "path": path, "type": start + kind}
        for number, (path, kind) in enumerate(names)
    ]


@pytest.fixture
def source(tmp_path):
    """Makes the files of a model out of JSON values by name."""

    def make(**files):
        paths = {}
        for name, value in files.items():
            path = tmp_path / name.replace("/", "-")
            path.write_text(value if isinstance(value, str) else json.dumps(value))
            paths[name] = path
        return Source(paths)

    return make


def pooled(source, config, *kinds, start=OLD):
    kinds = kinds or ("Pooling",)
    return pooling_type(source(**{"modules.json": modules(*kinds, start=start), "1_Pooling/config.json": config}))


@pytest.mark.parametrize(("flag", "number"), [("mean_tokens", 1), ("cls_token", 2), ("lasttoken", 3)])
@pytest.mark.parametrize("start", [OLD, NEW, ""])
def test_the_older_flags_are_read(source, flag, number, start):
    config = {f"pooling_mode_{name}": value for name, value in (MODES | {flag: True}).items()}
    assert pooled(source, {"word_embedding_dimension": 64, **config}, start=start) == number


@pytest.mark.parametrize(("mode", "number"), [("mean", 1), ("cls", 2), ("lasttoken", 3), (["mean"], 1)])
def test_the_newer_text_is_read(source, mode, number):
    assert pooled(source, {"embedding_dimension": 64, "pooling_mode": mode}) == number


def test_a_model_from_elsewhere_says_nothing(source):
    assert pooling_type(source()) is None
    assert not is_normalized(source())
    assert text_limit(source()) is None
    assert pooling_type(source(**{"modules.json": modules()})) is None


def test_a_length_of_one_is_noticed(source):
    assert is_normalized(source(**{"modules.json": modules("Pooling", "Normalize")}))
    assert not is_normalized(source(**{"modules.json": modules("Pooling")}))


def test_what_only_matters_in_training_is_no_matter(source):
    assert pooled(source, {"pooling_mode": "cls"}, "Pooling", "Dropout", "Normalize") == 2


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
def test_the_longest_text_is_read_from_the_first_steps_settings(source, name):
    assert text_limit(source(**{name: {"max_seq_length": 256, "do_lower_case": False}})) == 256
    assert text_limit(source(**{name: {"max_seq_length": None}})) is None


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"pooling_mode_max_tokens": True}, "1_Pooling/config.json: vectors are pooled by 'max', which llama.cpp"),
        ({"pooling_mode_weightedmean_tokens": True}, "pooled by 'weightedmean'"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "pooled by 'mean_sqrt_len_tokens'"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, r"pooled by 'cls\+mean'"),
        ({"pooling_mode": ["cls", "mean"]}, r"pooled by 'cls\+mean'"),
        ({"pooling_mode": []}, "pooled by 'nothing'"),
        ({}, "pooled by 'nothing'"),
        ({"pooling_mode": "max"}, "pooled by 'max'"),
        ({"pooling_mode": 1}, '"pooling_mode" must be a text'),
        ({"pooling_mode": [{}, None]}, "pooled by"),
        ({"pooling_mode_mean_tokens": "yes"}, '"pooling_mode_mean_tokens" must be true or false'),
        ([], "is no JSON object"),
    ],
    ids=repr,
)
def test_a_pooling_that_llama_cpp_has_not_is_refused_by_name(source, config, text):
    with pytest.raises(ConvertError, match=text):
        pooled(source, config)


@pytest.mark.parametrize("kind", ["Dense", "LayerNorm", "CNN", "LSTM", "own_code.Whitening"])
def test_steps_that_would_be_missing_from_every_vector_are_refused(source, kind):
    with pytest.raises(ConvertError, match=r"go through a .* module, which llama.cpp cannot compute"):
        pooled(source, {"pooling_mode": "mean"}, "Pooling", kind)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("[", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ({}, "is no list of modules"),
        ("5", "is no list of modules"),
        (["Transformer"], "is no list of modules"),
        ([], "does not begin with a Transformer"),
        ([{"type": "Pooling", "path": "1_Pooling"}], "does not begin with a Transformer"),
        ([{"path": ""}], '"type" is missing'),
        ([{"type": 5}], '"type" must be a text'),
        ([*modules("Pooling", "Pooling")], "has 2 Pooling modules"),
        ([*modules("Pooling")], "1_Pooling/config.json is missing"),
        ([*modules(), {"type": "Pooling", "path": "../../secret"}], "secret/config.json is missing"),
        ([*modules(), {"type": "Pooling", "path": "/etc"}], "/etc/config.json is missing"),
        ('[{"type": "\\ud800"}]', "cannot be read as JSON"),
    ],
    ids=range(15),
)
def test_a_list_of_steps_that_makes_no_sense_is_refused(source, value, text):
    with pytest.raises(ConvertError, match=text):
        pooling_type(source(**{"modules.json": value}))
