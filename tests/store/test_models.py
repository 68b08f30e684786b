"""Models in a store: made, found, listed and copied."""

import errno
import hashlib
import json
import os

import pytest
from store.looking import X, Y, shown

import ollama_nb.store.files as files_module
from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.manifests import CorruptManifestError, Layer, MediaType, ModelConfig
from ollama_nb.store.models import ModelStore
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError
from ollama_nb.wire.names import InvalidNameError, parse_name


def test_a_new_store_has_its_folders_and_no_models(store, root):
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["blobs", "manifests"]
    assert store.list() == []


def test_a_model_comes_back_as_it_was_made(store, make):
    messages = [{"role": "user", "content": "a <b> & c"}, {"role": "assistant", "content": "é\n"}]
    params = {"stop": ["<|im_end|>"], "temperature": 0.7, "num_ctx": 4096}
    make("x", template="{{ .Prompt }}", system="S", licenses=["MIT", "Other"], params=params, messages=messages)
    model = store.get(X)
    assert (model.template, model.system, model.licenses) == ("{{ .Prompt }}", "S", ["MIT", "Other"])
    assert (model.params, model.messages) == (params, messages)
    assert model.model_path.read_bytes().startswith(b"GGUF")
    assert (model.projector_paths, model.adapter_paths) == ((), ())
    file = store.manifests.path(X)
    assert model.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert model.modified_ns == file.stat().st_mtime_ns
    assert model.size == sum(path.stat().st_size for path in store.blobs.directory.iterdir())
    assert file.read_bytes().endswith(b"}]}\n")


def test_a_bare_model_has_no_texts(store, make):
    make("x")
    model = store.get(X)
    assert (model.template, model.system, model.params, model.messages, model.licenses) == (None, None, {}, [], [])


def test_creating_reports_layers_and_the_manifest_last(store, tiny_gguf):
    digest, _, _ = store.blobs.put(tiny_gguf())
    lines = []
    draft = ModelDraft.from_gguf({"x": digest}, store.blobs, lines.append).apply(system="S")

    def watch(line: str) -> None:
        lines.append(line)
        assert not store.manifests.exists(X)

    assert store.create(X, draft, watch) == X
    system = f"sha256:{hashlib.sha256(b'S').hexdigest()}"
    assert lines == [
        "parsing GGUF",
        f"using existing layer {digest}",
        f"creating new layer {system}",
        "writing manifest",
    ]


def test_the_list_is_newest_first_in_whole_seconds_then_by_name(store, make):
    ages = {"b": 2_000_000_001, "a": 2_999_999_999, "new": 5_000_000_000, "old": 1_000_000_000}
    for text, modified in ages.items():
        make(text)
        os.utime(store.manifests.path(parse_name(text)), ns=(modified, modified))
    assert shown(store) == ["new:latest", "a:latest", "b:latest", "old:latest"]
    entry = store.list()[-1]
    model = store.get(parse_name("old"))
    assert (entry.modified_ns, entry.size, entry.digest, entry.config) == (
        *(1_000_000_000, model.size, model.digest, model.config),
    )


@pytest.mark.parametrize("broken", ["manifest", "config", "no config"])
def test_what_cannot_be_read_is_not_listed_and_does_no_harm(store, make, broken):
    make("good")
    make("x", system="other config")
    config = store.blobs.path(store.get(X).manifest.config.digest)
    if broken == "manifest":
        store.manifests.path(X).write_bytes(b"{")
    elif broken == "config":
        config.write_bytes(b"[")
    else:
        config.unlink()
    assert shown(store) == ["good:latest"]
    with pytest.raises(NotFoundError if broken == "no config" else CorruptManifestError, match=r"'x:latest': "):
        store.get(X)


def test_a_missing_model_is_not_found(store):
    for method in (store.get, store.delete):
        with pytest.raises(NotFoundError, match=r"^model 'x:latest' not found$"):
            method(X)
    with pytest.raises(NotFoundError, match=r'^model "x:latest" not found$'):
        store.copy(X, Y)


@pytest.mark.parametrize("kind", [MediaType.MODEL, MediaType.PROJECTOR, MediaType.ADAPTER, MediaType.TEMPLATE])
def test_a_model_without_one_of_its_blobs_is_not_found_and_says_which(store, make, kind):
    make("x")
    digest, size, _ = store.blobs.put(b"content")
    store.write_model(X, [Layer(kind, digest, size)], ModelConfig())
    store.blobs.remove(digest)
    with pytest.raises(NotFoundError) as caught:
        store.get(X)
    assert caught.value.message == f"model 'x:latest': blob \"{digest}\" not found"
    assert str(store.root) not in caught.value.message


@pytest.mark.parametrize("kind", [MediaType.PARAMS, MediaType.MESSAGES])
@pytest.mark.parametrize("data", [b"", b"{", b"1", b"[1]", b"[" * 100_000])
def test_parameters_or_messages_that_are_none_are_an_error(store, kind, data):
    digest, size, _ = store.blobs.put(data)
    store.write_model(X, [Layer(kind, digest, size)], ModelConfig())
    with pytest.raises(CorruptManifestError, match=r"^model 'x:latest': parameters or messages cannot be read"):
        store.get(X)


@pytest.mark.parametrize("kind", [MediaType.PARAMS, MediaType.MESSAGES])
def test_null_stands_for_nothing(store, kind):
    digest, size, _ = store.blobs.put(b"null\n")
    store.write_model(X, [Layer(kind, digest, size)], ModelConfig())
    assert (store.get(X).params, store.get(X).messages) == ({}, [])


def test_the_last_of_several_weights_and_templates_counts(store):
    layers = [
        Layer(kind, *store.blobs.put(data)[:2])
        for kind, data in [
            (MediaType.MODEL, b"1"),
            (MediaType.MODEL, b"2"),
            (MediaType.PROMPT, b"3"),
            (MediaType.TEMPLATE, b"4"),
            (MediaType.ADAPTER, b"5"),
            (MediaType.ADAPTER, b"6"),
            ("application/vnd.ollama.image.embed", b"7"),
        ]
    ]
    store.write_model(X, layers, ModelConfig())
    model = store.get(X)
    assert model.model_path.read_bytes() == b"2"
    assert model.template == "4"
    assert [path.read_bytes() for path in model.adapter_paths] == [b"5", b"6"]


def test_names_that_differ_by_case_are_one_model(store, make):
    make("NS/Model:Q4", system="first")
    asked = parse_name("ns/MODEL:q4")
    assert store.get(asked).name == parse_name("NS/Model:Q4")
    make("ns/model:q4", system="second")
    assert shown(store) == ["NS/Model:Q4"]
    assert store.get(asked).system == "second"
    store.copy(asked, parse_name("ns/model:Q8"))
    assert sorted(shown(store)) == ["NS/Model:Q4", "NS/Model:Q8"]
    store.delete(asked)
    assert shown(store) == ["NS/Model:Q8"]


def test_a_copy_is_the_same_model_and_to_itself_no_change(store, make):
    make("x", system="x")
    make("ns/y:tag", system="y")
    store.copy(X, Y)
    assert store.get(Y).digest == store.get(X).digest
    before = store.manifests.read(X)
    store.copy(X, parse_name("X:LATEST"))
    assert store.manifests.read(X) == before


def test_a_disk_that_refuses_a_change_is_told_and_nothing_is_left(store, make, monkeypatch):
    make("x", system="S")
    before = sorted(store.root.rglob("*"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files_module.os, "fsync", full)
    for change in (lambda: make("new", system="S"), lambda: store.copy(X, parse_name("new"))):
        with pytest.raises(
            OllamaError, match=r"^the model store cannot be written: No space left on device$"
        ) as raised:
            change()
        assert raised.value.status == 507
        assert sorted(store.root.rglob("*")) == before


def test_a_model_without_its_blobs_is_not_made(store, make):
    make("x", system="S")
    absent = Layer(MediaType.SYSTEM, "sha256:" + "0" * 64, 1)
    with pytest.raises(NotFoundError, match=f'^blob "{absent.digest}" not found$'):
        store.write_model(X, [absent], ModelConfig())
    assert store.get(X).system == "S"


@pytest.mark.parametrize("text", ["", "../x", "sha256:../../../../etc/passwd", "sha256:" + "0" * 63])
def test_a_bad_digest_never_reaches_the_disk(store, text):
    data = json.dumps({"config": {"mediaType": "c", "digest": text, "size": 1}, "layers": []}).encode()
    with pytest.raises(BadRequestError, match=r"^invalid digest format$"):
        store.put_manifest(X, data)
    with pytest.raises(BadRequestError, match=r"^invalid digest format$"):
        store.write_model(X, [Layer(MediaType.SYSTEM, text, 1)], ModelConfig())
    assert store.list() == []


@pytest.mark.parametrize("text", ["../x", "a/../../b", ".x", "x:../y", "/etc/passwd"])
def test_a_bad_name_never_reaches_the_store(text):
    with pytest.raises(InvalidNameError):
        parse_name(text)


def test_a_folder_written_by_ollama_opens(tmp_path, tiny_gguf):
    root = tmp_path / ".ollama" / "models"

    def blob(data: bytes, separator: str = "-") -> tuple[str, int]:
        hexadecimal = hashlib.sha256(data).hexdigest()
        path = root / "blobs" / f"sha256{separator}{hexadecimal}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"sha256:{hexadecimal}", len(data)

    weights, weights_size = blob(tiny_gguf({"general.architecture": "llama"}), ":")
    template, template_size = blob(b"{{ .System }} {{ .Prompt }}")
    params, params_size = blob(b'{"stop":["\\u003c|im_end|\\u003e"],"temperature":0.2}\n')
    config, config_size = blob(
        b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"134.52M",'
        b'"file_type":"Q4_1","architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["'
        + weights.encode()
        + b'"]}}\n'
    )
    prefix = "application/vnd.ollama.image."
    manifest = (
        '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":'
        f'{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{config}","size":{config_size}}},'
        f'"layers":[{{"mediaType":"{prefix}model","digest":"{weights}","size":{weights_size}}},'
        f'{{"mediaType":"{prefix}template","digest":"{template}","size":{template_size}}},'
        f'{{"mediaType":"{prefix}params","digest":"{params}","size":{params_size}}}]}}'
    )
    for place in ("registry.ollama.ai/library/smollm2/135m", "hf.co/HuggingFaceTB/SmolLM2/Q4_1"):
        path = root / "manifests" / place
        path.parent.mkdir(parents=True)
        path.write_text(manifest)
    os.utime(path, ns=(1, 1))

    store = ModelStore(root)
    store.open()
    assert shown(store) == ["smollm2:135m", "hf.co/HuggingFaceTB/SmolLM2:Q4_1"]
    entry = store.list()[0]
    assert (entry.config.model_type, entry.config.file_type) == ("134.52M", "Q4_1")
    assert entry.size == weights_size + template_size + params_size + config_size
    assert entry.digest == hashlib.sha256(manifest.encode()).hexdigest()
    model = store.get(parse_name("SmolLM2:135M"))
    assert model.template == "{{ .System }} {{ .Prompt }}"
    assert model.params == {"stop": ["<|im_end|>"], "temperature": 0.2}
    assert model.model_path.name == weights.replace(":", "-")
    assert path.read_text() == manifest


def test_a_store_that_cannot_be_made_says_what_to_check(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OllamaError, match=r": ensure path elements are traversable$"):
        ModelStore(tmp_path / "file" / "models").open()
