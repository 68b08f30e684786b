"""Manifests: read with suspicion, written in one step, found in any case."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.store import files as files_module
from ollama_nb.store.manifests import (
    MAX_MANIFEST,
    CorruptManifestError,
    Layer,
    Manifest,
    ManifestStore,
    MediaType,
    ModelConfig,
    RootFS,
    decode_config,
    decode_manifest,
    encode_config,
    encode_manifest,
)
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError
from ollama_nb.wire.names import Name, parse_name

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
MANIFEST = Manifest(
    config=Layer(MediaType.CONFIG, DIGEST, 400),
    layers=(Layer(MediaType.MODEL, DIGEST, 5000, "x:latest"), Layer(MediaType.TEMPLATE, DIGEST, 13)),
)
TEXT = (
    (
        '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        '"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"DIGEST","size":400},'
        '"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"DIGEST","size":5000,"from":"x:latest"},'
        '{"mediaType":"application/vnd.ollama.image.template","digest":"DIGEST","size":13}]}\n'
    )
    .replace("DIGEST", DIGEST)
    .encode()
)
X = parse_name("x")


@pytest.fixture
def manifests(root):
    return ManifestStore(root)


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def with_layers(layers: object) -> bytes:
    return json.dumps({"config": {"mediaType": "c", "digest": DIGEST, "size": 1}, "layers": layers}).encode()


def test_a_manifest_is_compact_json_in_ollamas_order():
    assert encode_manifest(MANIFEST) == TEXT
    assert decode_manifest(TEXT) == MANIFEST
    assert MANIFEST.size == 5413
    assert MANIFEST.digests == {DIGEST}


def test_html_characters_are_escaped_as_go_does():
    assert b"\\u003cx\\u003e" in encode_manifest(Manifest(config=Layer("<x>", DIGEST, 1)))


@given(st.lists(st.builds(Layer, st.text(), st.just(DIGEST), st.integers(0, 2**62), st.text())))
def test_what_is_written_reads_back(layers):
    manifest = Manifest(config=Layer("config", DIGEST, 1), layers=tuple(layers))
    assert decode_manifest(encode_manifest(manifest)) == manifest


@pytest.mark.parametrize("layers", [None, []])
def test_a_manifest_may_have_no_layers(layers):
    assert decode_manifest(with_layers(layers)).layers == ()


def test_unknown_fields_do_no_harm_and_digests_become_canonical():
    manifest = decode_manifest(
        with_layers([{"mediaType": "m", "digest": f"sha256-{HEX.upper()}", "size": 1, "annotations": {"a": [1]}}])
    )
    assert manifest.layers == (Layer("m", DIGEST, 1),)


@pytest.mark.parametrize("digest", ["", "sha256:", DIGEST[:-1], "sha256:../../../../etc/passwd", DIGEST + "\0", "../x"])
def test_a_digest_that_is_none_is_refused_in_layers_and_config(digest):
    layer = {"mediaType": "m", "digest": digest, "size": 1}
    for data in (with_layers([layer]), json.dumps({"config": layer, "layers": []}).encode()):
        with pytest.raises(BadRequestError, match=r"^invalid digest format$"):
            decode_manifest(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{}",
        TEXT[:100],
        with_layers("x"),
        with_layers([1]),
        with_layers([{"mediaType": "m", "size": 1}]),
        with_layers([{"mediaType": "m", "digest": DIGEST, "size": -1}]),
        with_layers([{"mediaType": "m", "digest": DIGEST, "size": "1"}]),
        b'{"x":' + b"[" * 100_000,
        b" " * MAX_MANIFEST + TEXT,
    ],
)
def test_what_is_no_manifest_is_an_error_with_a_reason(data):
    with pytest.raises(CorruptManifestError, match=r"manifest|size"):
        decode_manifest(data)


def test_a_written_manifest_is_read_with_its_digest_and_age(manifests):
    manifests.write(X, MANIFEST)
    path = manifests.directory / "registry.ollama.ai/library/x/latest"
    assert manifests.path(X) == path
    os.utime(path, ns=(5, 1_234_567_890_123_456_789))
    manifest, digest, modified_ns = manifests.read(X)
    assert manifest == MANIFEST
    assert digest == hashlib.sha256(TEXT).hexdigest()
    assert modified_ns == path.stat().st_mtime_ns
    assert modified_ns // 10**9 == 1_234_567_890


def test_bytes_of_a_registry_are_kept_as_they_are(manifests):
    data = b" " + TEXT.rstrip()
    manifests.write_bytes(X, data)
    assert manifests.path(X).read_bytes() == data


def test_bytes_that_are_no_manifest_are_not_written(manifests):
    with pytest.raises(CorruptManifestError):
        manifests.write_bytes(X, b"{}")
    assert not manifests.exists(X)


@pytest.mark.parametrize("method", ["read", "delete"])
@pytest.mark.parametrize("text", ["x", "other:tag", "h" * 350 + "/n/m"])
def test_a_missing_model_is_not_found(manifests, method, text):
    name = parse_name(text)
    with pytest.raises(NotFoundError) as caught:
        getattr(manifests, method)(name)
    assert caught.value.message == f"model '{name.short}' not found"


def test_a_folder_in_the_place_of_a_manifest_is_no_model(manifests):
    manifests.path(X).mkdir(parents=True)
    with pytest.raises(NotFoundError):
        manifests.read(X)


def test_a_corrupt_manifest_is_named_when_read_and_still_listed_by_name(manifests):
    manifests.path(X).parent.mkdir(parents=True)
    manifests.path(X).write_bytes(b"{")
    with pytest.raises(CorruptManifestError, match=r"^model 'x:latest': manifest cannot be read"):
        manifests.read(X)
    assert manifests.names() == [X]


def test_a_manifest_with_a_bad_digest_on_the_disk_is_corrupt(manifests):
    manifests.path(X).parent.mkdir(parents=True)
    manifests.path(X).write_bytes(TEXT.replace(DIGEST.encode(), b"sha256:../../x"))
    with pytest.raises(CorruptManifestError, match=r"invalid digest format"):
        manifests.read(X)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_manifest(manifests, monkeypatch, call):
    manifests.write(X, MANIFEST)
    before = tree(manifests.directory)

    def fail(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(*((files_module.os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match=r"broken"):
        manifests.write(X, Manifest(config=MANIFEST.config))
    with pytest.raises(OSError, match=r"broken"):
        manifests.write(parse_name("new/model"), MANIFEST)
    assert tree(manifests.directory) == before
    assert manifests.read(X).manifest == MANIFEST


def test_a_process_killed_while_writing_leaves_the_old_manifest(manifests, age):
    manifests.write(X, MANIFEST)
    script = (
        "import os, sys, pathlib\n"
        "from ollama_nb.store.manifests import *\n"
        "from ollama_nb.wire.names import parse_name\n"
        "os.fsync = lambda descriptor: os._exit(9)\n"
        f"layer = Layer('c', {DIGEST!r}, 1)\n"
        "ManifestStore(pathlib.Path(sys.argv[1])).write(parse_name('x'), Manifest(config=layer))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(manifests.directory.parent)], check=False)
    assert done.returncode == 9
    assert manifests.read(X).manifest == MANIFEST
    assert manifests.names() == [X]
    (left,) = [path for path in manifests.path(X).parent.iterdir() if path != manifests.path(X)]
    manifests.sweep()
    assert left.exists(), "it might be another process's that is still writing"
    age(left)
    manifests.sweep()
    assert not left.exists()
    assert manifests.read(X).manifest == MANIFEST


def test_deleting_removes_the_folders_that_are_empty_then(manifests):
    for text in ("hf.co/a/b:c", "hf.co/a/d:e"):
        manifests.write(parse_name(text), MANIFEST)
    manifests.delete(parse_name("hf.co/a/b:c"))
    assert tree(manifests.directory) == ["hf.co", "hf.co/a", "hf.co/a/d", "hf.co/a/d/e"]
    manifests.delete(parse_name("hf.co/a/d:e"))
    assert tree(manifests.directory) == []
    assert manifests.directory.is_dir()


def test_a_copy_has_the_same_bytes_and_overwrites(manifests):
    manifests.write_bytes(X, TEXT.rstrip())
    for text in ("ns/y:tag", "ns/y:tag", "x"):
        manifests.copy(X, parse_name(text))
        assert manifests.path(parse_name(text)).read_bytes() == TEXT.rstrip()


def test_a_copy_of_nothing_is_an_error(manifests):
    with pytest.raises(NotFoundError) as caught:
        manifests.copy(X, parse_name("y"))
    assert caught.value.message == 'model "x:latest" not found'


def test_listing_takes_files_at_the_fourth_level_with_valid_names(manifests, caplog):
    good = ["h/n/m/t", "localhost:5000/n/m/t", "registry.ollama.ai/library/x/latest"]
    bad = [
        "file",
        "h/file",
        "h/n/file",
        "h/n/m/.DS_Store",
        "h/n/m/.ollama_nb-0123",
        ".hidden/n/m/t",
        "h/n.dot/m/t",
        "h/n/m/folder/t",
        "h/n/m/with blank",
    ]
    for place in good + bad:
        path = manifests.directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(TEXT)
    for _ in range(2):
        assert [name.full for name in manifests.names()] == [
            "h/n/m:t",
            "localhost:5000/n/m:t",
            "registry.ollama.ai/library/x:latest",
        ]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4, "one line for each misplaced file, not one per listing, none for our own"
    assert all(line.endswith("passed over: not a model name") for line in lines)


def test_a_store_without_folders_has_no_models(manifests):
    assert manifests.names() == []
    assert manifests.resolve(X) == X


@pytest.mark.parametrize(
    ("existing", "asked", "found"),
    [
        (["Foo/Bar:Q4"], "foo/bar:q4", "Foo/Bar:Q4"),
        (["Foo/Bar:Q4"], "foo/bar:q8", "Foo/Bar:q8"),
        (["Foo/Bar:Q4"], "foo/other:q8", "Foo/other:q8"),
        (["Foo/Bar:Q4"], "HF.co/FOO/bar:Q8", "HF.co/Foo/Bar:Q8"),
        (["Foo:latest", "bar:Latest"], "foo", "Foo:latest"),
        (["Foo:latest", "bar:Latest"], "BAR:LATEST", "bar:Latest"),
        (["Foo:a", "foo:b"], "foo:a", "Foo:a"),
        (["Foo:a", "foo:b"], "foo:c", "foo:c"),
        (["Foo:a", "foo:a"], "foo:a", "foo:a"),
        (["Foo:a", "foo:a"], "Foo:a", "Foo:a"),
        ([], "Foo:A", "Foo:A"),
    ],
)
def test_a_name_takes_the_spelling_in_use(manifests, existing, asked, found):
    for text in existing:
        manifests.write(parse_name(text), MANIFEST)
    assert manifests.resolve(parse_name(asked)) == parse_name(found)


@given(st.permutations(["Foo:A", "foo:b", "FOO/x:a", "bar:B"]), st.sampled_from(["fOO:a", "FOO/bar:b", "foo/X:B"]))
def test_resolving_does_not_depend_on_the_order_and_is_settled_at_once(tmp_path_factory, order, asked):
    manifests = ManifestStore(tmp_path_factory.mktemp("resolve"))
    for text in order:
        manifests.write(parse_name(text), MANIFEST)
    reference = ManifestStore(tmp_path_factory.mktemp("reference"))
    for text in sorted(order):
        reference.write(parse_name(text), MANIFEST)
    found = manifests.resolve(parse_name(asked))
    assert found.is_same(parse_name(asked))
    assert found == reference.resolve(parse_name(asked))
    assert manifests.resolve(found) == found


def test_no_path_leaves_the_store(manifests):
    for parts in (("..", "..", "etc", "passwd"), ("h", "..", "m", "t"), ("/", "n", "m", "t"), ("h", "n", "m", "../t")):
        with pytest.raises(BadRequestError):
            manifests.path(Name(*parts))


def test_folders_without_manifests_are_swept_away(manifests):
    manifests.write(X, MANIFEST)
    (manifests.directory / "h/n/m").mkdir(parents=True)
    (manifests.directory / "registry.ollama.ai/other").mkdir()
    manifests.sweep()
    assert tree(manifests.directory) == [
        "registry.ollama.ai",
        "registry.ollama.ai/library",
        "registry.ollama.ai/library/x",
        "registry.ollama.ai/library/x/latest",
    ]


def test_a_lock_held_too_long_is_an_error_that_says_what_to_do(manifests, monkeypatch):
    other = ManifestStore(manifests.directory.parent)
    monkeypatch.setattr(manifests.lock._lock, "timeout", 0.01)
    with other.lock, other.lock, pytest.raises(OllamaError, match=r"another process") as caught:
        manifests.write(X, MANIFEST)
    assert caught.value.status == 503
    assert ".ollama_nb.lock" in caught.value.hint
    manifests.write(X, MANIFEST)


def test_a_config_has_ollamas_keys_in_ollamas_order():
    config = ModelConfig(
        model_format="gguf",
        model_family="llama",
        model_families=("llama", "clip"),
        model_type="8.0B",
        file_type="Q4_K_M",
        rootfs=RootFS(diff_ids=(DIGEST,)),
    )
    text = (
        '{"model_format":"gguf","model_family":"llama","model_families":["llama","clip"],"model_type":"8.0B",'
        '"file_type":"Q4_K_M","architecture":"amd64","os":"linux",'
        f'"rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}}}}\n'
    ).encode()
    assert encode_config(config) == text
    assert decode_config(text) == config


def test_a_config_of_newer_versions_is_read_and_kept():
    text = b'{"model_family":"x","renderer":"r","capabilities":["tools"],"context_length":8192,"future":{"a":1}}'
    config = decode_config(text)
    assert (config.renderer, config.capabilities, config.context_length) == ("r", ("tools",), 8192)
    assert config.rootfs is None
    written = json.loads(encode_config(config))
    assert written["renderer"] == "r"
    assert written["model_families"] is None
    assert "parser" not in written
    assert decode_config(encode_config(config)) == config


@pytest.mark.parametrize("data", [b"", b"[]", b'{"model_family":1}', b'{"x":' + b"[" * 100_000])
def test_a_config_that_is_none_is_an_error(data):
    with pytest.raises(CorruptManifestError, match=r"^model config cannot be read"):
        decode_config(data)
