"""A model's files: which of them are its weights, what an index may say, and what is refused unread."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest
from convert.handmade import safetensors_bytes, written

from ollama_nb.convert.errors import ConvertError
from ollama_nb.convert.source import MAX_JSON, Source
from ollama_nb.wire.errors import OllamaError

INDEX = "model.safetensors.index.json"


@pytest.fixture
def source(tmp_path):
    """The source of files given by their content; a list is a shard with tensors of these names."""

    def make(files):
        return Source(written(tmp_path, {name: content(data) for name, data in files.items()}))

    return make


def content(data):
    if isinstance(data, list):
        return safetensors_bytes({name: np.full(2, len(name), dtype=np.float32) for name in data})
    return data if isinstance(data, bytes) else json.dumps(data).encode()


def index(**weight_map):
    return {"metadata": {"total_size": 1}, "weight_map": weight_map}


# -- JSON files --------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_told_by_its_name(source):
    with pytest.raises(ConvertError, match=r"tokenizer\.json is missing"):
        source({"a": {}}).json("tokenizer.json")
    assert source({"a": {}}).optional_json("tokenizer.json") == {}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cannot be read as JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'{"a": 1,}', "cannot be read as JSON"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"a": "\n"}', "cannot be read as JSON"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "cannot be read as JSON"),
    ],
)
def test_json_that_is_none_is_refused(source, data, words):
    with pytest.raises(ConvertError, match=words):
        source({"config.json": data}).config()


def test_json_is_read_as_transformers_reads_it(source):
    text = '\ufeff{"a": Infinity, "b": 1, "b": 2, "c": "\\ud83d\\ude00", "d": "é"}'
    assert source({"x": text.encode()}).json("x") == {"a": float("inf"), "b": 2, "c": "😀", "d": "é"}


def test_a_file_past_the_limit_is_not_read(source, tmp_path):
    files = source({"tokenizer.json": {}, "small": b"12345"})
    os.truncate(files.files["tokenizer.json"], MAX_JSON + 1)
    with pytest.raises(ConvertError, match=f"the limit is {MAX_JSON}"):
        files.json("tokenizer.json")
    with pytest.raises(ConvertError, match="small has 5 bytes; the limit is 4"):
        files.read("small", 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_only_ordinary_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    files = Source({"config.json": tmp_path / "pipe", "folder": tmp_path, "gone": tmp_path / "x"})
    for name in ("config.json", "folder"):
        with pytest.raises(ConvertError, match=f"{name} is no ordinary file"):
            files.read(name)
    with pytest.raises(OllamaError, match="gone cannot be read"):
        files.read("gone")


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "a/b/optimizer.pt", "x.PTH", "model.pkl", "model.ckpt", "model.pickle"]
)
def test_pickles_are_refused_with_a_word_about_safetensors(source, name):
    with pytest.raises(ConvertError, match="is a pickle file, which can run any code") as caught:
        source({"config.json": {}, name: b"\x80\x04."})
    assert "safetensors" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J.json", "x" * 2000, "\u202econfig.json"])
def test_a_name_that_would_spoil_a_log_is_refused(source, name):
    with pytest.raises(ConvertError, match="is no name of a file") as caught:
        source({name: b""})
    assert caught.value.message.isprintable()


def test_names_are_labels_and_never_opened(tmp_path, monkeypatch):
    """The folder that the process works in has a file of the same name, with other content."""
    monkeypatch.chdir(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(b"not this one")
    (tmp_path / "store").mkdir()
    files = written(tmp_path / "store", {"config.json": b'{"a": 1}', "model.safetensors": content(["a"])})
    assert Source(files).config() == {"a": 1}
    assert list(Source(files).tensors()) == ["a"]


# -- which files are the weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"model.safetensors": ["a"]}, "a"),
        ({"weights.safetensors": ["a"], "others.safetensors": ["b"]}, "ab"),
        ({"model-00001-of-00002.safetensors": ["a"], "model-00002-of-00002.safetensors": ["b"]}, "ab"),
        ({"model-1.safetensors": ["a"], "model-2.safetensors": ["b"]}, "ab"),
        ({"consolidated.safetensors": ["a", "b"], "model.safetensors": ["a"]}, "a"),
        ({"consolidated.safetensors": ["a"], "weights.safetensors": ["b"]}, "a"),
        ({"model.safetensors": ["a"], "1_Dense/model.safetensors": ["b"], "unet\\model.safetensors": ["c"]}, "a"),
        ({"adapter_model.safetensors": ["a"], "adapter_config.json": {}}, "a"),
        ({"model.safetensors": ["a"], "other.safetensors": ["b"], INDEX: index(a="model.safetensors")}, "a"),
        ({"consolidated.safetensors": ["a"], "model-x.safetensors": ["b"], INDEX: index(b="model-x.safetensors")}, "b"),
        ({"model-x.safetensors": ["b"], "consolidated.safetensors.index.json": index(a="nowhere.safetensors")}, "b"),
        ({"model.safetensors": ["a", "b"], INDEX: index(a="model.safetensors")}, "ab"),
        (
            {
                "model.safetensors": ["a"],
                INDEX: index(a="model.safetensors"),
                "model.safetensors.index.fp16.json": index(x="y"),
                "model.fp32.safetensors.index.json": index(b="model-x.safetensors"),
                "sub/model.safetensors.index.json": index(c="x.safetensors"),
            },
            "a",
        ),
    ],
)
def test_the_weights_are_found_among_the_files(source, files, found):
    assert "".join(source(files).tensors()) == found


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": {}}, "no safetensors file"),
        ({"sub/model.safetensors": ["a"]}, "no safetensors file"),
        ({"model.safetensors": []}, "no tensor in the weights"),
        ({"model-1.safetensors": ["a"], "model-2.safetensors": ["b", "a"]}, '"a" stands in model-1.safetensors and in'),
        ({"model.safetensors": ["a"], "adapter_model.safetensors": ["b"]}, "of a model and of an adapter at once"),
        ({"model-00002-of-00003.safetensors": ["a"]}, "only 1 of 3 files"),
        ({"model-00001-of-99999.safetensors": ["a"], "model.safetensors": ["b"]}, "only 1 of 99999 files"),
        (
            {"model.safetensors": ["a"], "model.x.safetensors.index.json": {}, "model.y.safetensors.index.json": {}},
            "several index files",
        ),
    ],
)
def test_weights_that_are_not_clear_are_refused(source, files, words):
    with pytest.raises(ConvertError, match=words):
        source(files).tensors()


# -- what an index says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ".", "", "..\\model.safetensors",
        "C:\\model.safetensors", "\\\\host\\share", "model.safetensors\n", "model.safetensors\0", 5, None, ["a"], {},
    ],
)  # fmt: skip
def test_an_index_names_files_beside_itself_only(source, name):
    with pytest.raises(ConvertError, match=r"no file of this folder|is missing"):
        source({"model.safetensors": ["a"], INDEX: {"weight_map": {"a": name}}}).tensors()


@pytest.mark.parametrize("value", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": None}, {"weight_map": 1}])
def test_an_index_that_names_nothing_is_refused(source, value):
    with pytest.raises(ConvertError, match="has no weight_map"):
        source({"model.safetensors": ["a"], INDEX: value}).tensors()


def test_an_index_is_read_strictly(source):
    with pytest.raises(ConvertError, match="'a' stands twice"):
        source({"model.safetensors": ["a"], INDEX: b'{"weight_map": {"a": "x", "a": "model.safetensors"}}'}).tensors()


def test_a_shard_that_an_index_names_must_be_there(source):
    files = {
        "model-a.safetensors": ["a"],
        "sub/model-b.safetensors": ["b"],
        INDEX: index(a="model-a.safetensors", b="model-b.safetensors", c="model-c.safetensors"),
    }
    with pytest.raises(ConvertError, match=r"model-b\.safetensors is missing") as caught:
        source(files).tensors()
    assert caught.value.hint == "2 of 3 files are not there."


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "model-1.safetensors", "c": "model-2.safetensors"}, "tensor 'c' is in model-2.safetensors, .* nowhere"),
        ({"a": "model-2.safetensors", "b": "model-1.safetensors"}, "tensor 'a' is in model-2.*it is in model-1"),
    ],
)
def test_an_index_that_contradicts_the_shards_is_refused(source, weight_map, words):
    files = {"model-1.safetensors": ["a"], "model-2.safetensors": ["b"], INDEX: {"weight_map": weight_map}}
    with pytest.raises(ConvertError, match=words):
        source(files).tensors()


# -- order -------------------------------------------------------------------------------------------------------------


def test_the_order_of_tensors_is_that_of_their_names_however_they_are_stored(source):
    names = [f"model.layers.{number}.{part}" for number in (0, 1, 2, 10, 11, 100) for part in ("a", "b")]
    chance = random.Random(1)
    for _ in range(20):
        mixed = chance.sample(names, len(names))
        cut = chance.randrange(1, len(names))
        shards = [("model-1.safetensors", mixed[:cut]), ("model-2.safetensors", mixed[cut:])]
        chance.shuffle(shards)
        assert list(source(dict(shards)).tensors()) == names
