"""What FROM and ADAPTER mean on a disk: paths, folders, links, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollama_nb.client.modelfolder import expand_path, find_components, model_files
from ollama_nb.wire.errors import BadRequestError, NotFoundError
from ollama_nb.wire.modelfile import Modelfile


@pytest.fixture
def put(tmp_path):
    """Writes files below a folder of this test; gives the folder."""

    def put(*names, folder="model", data=b"{}"):
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"GGUF" if name.endswith(".gguf") else data)
        return tmp_path / folder

    return put


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (["a.safetensors", "config.json"], ["a.safetensors", "config.json"]),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "config.json",
                "tokenizer.json",
                "tokenizer.model",
                "chat_template.jinja",
                "additional_chat_templates/rag.jinja",
                "vocab.txt",
                "README.md",
                "training_args.bin",
            ],
            [
                "additional_chat_templates/rag.jinja",
                "chat_template.jinja",
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
                "tokenizer.model",
            ],
        ),
        (["model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["consolidated.safetensors", "params.json"], ["consolidated.safetensors", "params.json"]),
        (["model.safetensors", "pytorch_model.bin", "m.gguf"], ["model.safetensors"]),
        (["model.safetensors", "1_Pooling/config.json"], ["1_Pooling/config.json", "model.safetensors"]),
        (["model.safetensors", "a/b/deep.json"], ["model.safetensors"]),
        (["model.safetensors", "tokenizer.model"], ["model.safetensors", "tokenizer.model"]),
        (["model.safetensors", "vocab.json", "merges.txt"], ["merges.txt", "model.safetensors", "vocab.json"]),
        (["model.safetensors", "vocab.txt"], ["model.safetensors", "vocab.txt"]),
        (
            ["model.safetensors", "vocab.txt", "onnx/tokenizer.json"],
            ["model.safetensors", "onnx/tokenizer.json", "vocab.txt"],
        ),
        (["model.safetensors", "original/tokenizer.model"], ["model.safetensors", "original/tokenizer.model"]),
        (["model.safetensors", ".vscode/settings.json", ".secret.json"], ["model.safetensors"]),
        (["q4.gguf", "mmproj.gguf", "config.json"], ["mmproj.gguf", "q4.gguf"]),
    ],
)
def test_a_folder_is_its_weights_and_what_says_how_to_read_them(put, present, taken):
    folder = put(*present)
    assert model_files(folder) == {name: folder / name for name in sorted(taken)}


def test_of_files_ending_in_bin_those_that_are_gguf_are_taken(put):
    folder = put("training_args.bin", data=b"PK")
    put("model.bin", data=b"GGUF")
    assert list(model_files(folder)) == ["model.bin"]


def test_an_adapters_folder_may_hold_the_model_too(put):
    folder = put("adapter_model.safetensors", "adapter_config.json", "model.safetensors")
    assert sorted(model_files(folder, adapter=True)) == ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(model_files(folder)) == ["adapter_config.json", "model.safetensors"]


def test_a_file_is_itself_whatever_it_is_called(put):
    folder = put("x.gguf", "sha256-12", "model.safetensors")
    for name in ("x.gguf", "sha256-12", "model.safetensors"):
        assert model_files(folder / name) == {name: folder / name}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth"])
def test_pickled_weights_are_refused_with_the_reason(put, name):
    folder = put(name, "config.json", "also.gguf", data=b"PK\3\4")
    for path in (folder, folder / name):
        with pytest.raises(BadRequestError, match="is a pickle file, and reading one can run any code") as caught:
            model_files(path)
        assert "safetensors" in caught.value.hint


def test_a_pickled_adapter_is_refused_too(put):
    with pytest.raises(BadRequestError, match=r"adapter_model\.bin is a pickle file"):
        model_files(put("adapter_model.bin", "adapter_config.json"), adapter=True)


@pytest.mark.parametrize("present", [["README.md"], ["config.json", "notes.bin"], ["sub/model.safetensors"]])
def test_a_folder_without_weights_is_refused(put, present):
    folder = put(*present)
    with pytest.raises(NotFoundError) as caught:
        model_files(folder)
    assert caught.value.message == "no Modelfile or safetensors files found"
    assert str(folder) in caught.value.hint


def test_a_pointer_of_git_lfs_is_not_the_file(put):
    folder = put("config.json")
    put("model.safetensors", data=b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(BadRequestError, match="pointer of Git LFS") as caught:
        model_files(folder)
    assert caught.value.hint == "Fetch it: git lfs pull"


def test_what_is_neither_file_nor_folder_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadRequestError, match="neither a file nor a folder"):
        model_files(tmp_path / "pipe")


# -- links -------------------------------------------------------------------------------------------------------------


def test_links_inside_the_folder_are_followed(put):
    folder = put("weights/real", "config.json")
    (folder / "model.safetensors").symlink_to("weights/real")
    assert model_files(folder)["model.safetensors"] == folder / "model.safetensors"


@pytest.mark.parametrize("name", ["model.safetensors", "secret.json", "sub/secret.json"])
def test_a_link_out_of_the_folder_is_refused(put, tmp_path, name):
    folder = put("config.json", "other.safetensors", "sub/x.json")
    put("secret", folder="outside")
    (folder / name).symlink_to(tmp_path / "outside" / "secret")
    with pytest.raises(BadRequestError) as caught:
        model_files(folder)
    assert caught.value.message == "insecure path: ../outside/secret"
    assert name in caught.value.hint


def test_a_linked_folder_is_no_way_out(put, tmp_path):
    folder = put("model.safetensors")
    put("x.json", folder="outside")
    (folder / "data").symlink_to(tmp_path / "outside")
    with pytest.raises(BadRequestError, match=r"insecure path: \.\./outside/x\.json"):
        model_files(folder)


def test_the_folder_itself_may_be_a_link(put, tmp_path):
    folder = put("model.safetensors")
    (tmp_path / "link").symlink_to(folder)
    assert model_files(tmp_path / "link") == {"model.safetensors": tmp_path / "link" / "model.safetensors"}


def test_a_link_to_nowhere_is_told(put):
    folder = put("config.json")
    (folder / "model.safetensors").symlink_to("absent")
    with pytest.raises(NotFoundError, match="is a link to a file that is not there"):
        model_files(folder)


@pytest.fixture
def cache(put, tmp_path):
    """A model in a cache as huggingface_hub lays it out; the folder of its revision."""
    put("aaa", "bbb", folder="models--org--name/blobs")
    revision = tmp_path / "models--org--name" / "snapshots" / "main"
    revision.mkdir(parents=True)
    (revision / "model.safetensors").symlink_to("../../blobs/aaa")
    (revision / "1_Pooling").mkdir()
    (revision / "1_Pooling" / "config.json").symlink_to("../../../blobs/bbb")
    return revision


def test_a_revision_in_hugging_faces_cache_is_read_through_its_links(cache):
    assert sorted(model_files(cache)) == ["1_Pooling/config.json", "model.safetensors"]


@pytest.mark.parametrize("target", ["../../../models--org--other/blobs/x", "../../refs", "/etc/hostname"])
def test_out_of_the_cache_only_the_models_own_blobs_are_followed(cache, put, target):
    put("x", folder="models--org--other/blobs")
    put("refs", folder="models--org--name")
    (cache / "config.json").symlink_to(target)
    with pytest.raises(BadRequestError, match="insecure path"):
        model_files(cache)


def test_blobs_that_are_a_link_themselves_are_no_way_out(cache, put, tmp_path):
    blobs = cache.parents[1] / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadRequestError, match="insecure path"):
        model_files(cache)


def test_a_folder_that_only_looks_a_little_like_the_cache_is_none(put, tmp_path):
    folder = put("config.json", folder="work/snapshots/model")
    put("aaa", folder="work/blobs")
    (folder / "model.safetensors").symlink_to("../../blobs/aaa")
    with pytest.raises(BadRequestError, match="insecure path"):
        model_files(folder)


def test_the_caches_folder_of_a_model_is_not_yet_a_revision(cache):
    with pytest.raises(NotFoundError) as caught:
        model_files(cache.parents[1])
    assert "snapshots/<revision>" in caught.value.hint


# -- FROM and ADAPTER --------------------------------------------------------------------------------------------------


def test_paths_are_absolute_from_home_or_from_the_modelfiles_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_path("/a/b", tmp_path) == Path("/a/b")
    assert expand_path("~", tmp_path) == Path("/home/me")
    assert expand_path("~/m", tmp_path) == Path("/home/me/m")
    assert expand_path("~root/m", tmp_path) == Path("~root").expanduser() / "m"
    assert expand_path("m", tmp_path) == tmp_path / "m"
    assert expand_path(".", tmp_path) == tmp_path
    assert expand_path("../m", tmp_path / "sub").resolve() == tmp_path.resolve() / "m"
    with pytest.raises(BadRequestError, match="failed to find user 'nobody-at-all'"):
        expand_path("~nobody-at-all/m", tmp_path)


def test_what_exists_is_a_path_and_everything_else_a_models_name(put, tmp_path):
    put("m.gguf", folder="smollm2")
    assert find_components(Modelfile("smollm2"), tmp_path).files == {"m.gguf": tmp_path / "smollm2" / "m.gguf"}
    found = find_components(Modelfile("smollm2:135m"), tmp_path)
    assert (found.from_, found.files, found.adapters) == ("smollm2:135m", {}, {})


def test_several_files_are_one_model(put):
    folder = put("model.gguf", "mmproj.gguf")
    found = find_components(Modelfile("./model.gguf", "mmproj.gguf", "./model.gguf"), folder)
    assert (found.from_, sorted(found.files)) == (None, ["mmproj.gguf", "model.gguf"])


def test_an_adapter_is_a_file_or_a_folder_and_the_last_one_counts(put, tmp_path):
    put("first.gguf", "last.gguf", folder=".")
    put("adapter_model.safetensors", "adapter_config.json", folder="lora")
    modelfile = Modelfile("base").adapter("first.gguf")
    assert find_components(modelfile.adapter("last.gguf"), tmp_path).adapters == {"last.gguf": tmp_path / "last.gguf"}
    found = find_components(modelfile.adapter("lora"), tmp_path)
    assert sorted(found.adapters) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("modelfile", "error", "message"),
    [
        (Modelfile("./absent"), NotFoundError, "no such file: ./absent"),
        (Modelfile("absent.gguf"), NotFoundError, "no such file: absent.gguf"),
        (Modelfile("/absent/m"), NotFoundError, "no such file: /absent/m"),
        (Modelfile("base").adapter("lora"), NotFoundError, "no such file: lora"),
        (Modelfile("a", "b"), BadRequestError, "FROM names a and b: a model is built on one model, or on files"),
        (
            Modelfile("a", "m.gguf"),
            BadRequestError,
            "FROM names a beside files: a model is built on one model, or on files",
        ),
        (Modelfile("m.gguf", "sub/m.gguf"), BadRequestError, "two files are called m.gguf: "),
        (Modelfile("x" * 5000), BadRequestError, "cannot read "),
    ],
)
def test_what_cannot_be_meant_is_refused(put, modelfile, error, message):
    folder = put("m.gguf", "sub/m.gguf")
    with pytest.raises(error) as caught:
        find_components(modelfile, folder)
    assert caught.value.message.startswith(message)
