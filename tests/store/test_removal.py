"""Which blobs go and which stay, when models are deleted, replaced or copied over, and at the start."""

import pytest
from store.looking import X, Y, blobs_of, ignore, needed, shown

from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.manifests import Layer, MediaType, ModelConfig
from ollama_nb.store.models import ModelStore
from ollama_nb.wire.names import parse_name


@pytest.mark.parametrize("noprune", [False, True])
def test_copying_over_a_model_removes_what_only_that_one_needed(root, make, noprune):
    store = ModelStore(root, noprune=noprune)
    make("x", of=store, system="new")
    make("ns/y:tag", of=store, system="old")
    left_over = needed(store, "ns/y:tag") - needed(store, "x")
    assert left_over
    store.copy(X, Y)
    assert store.get(Y).system == "new"
    assert blobs_of(store) == needed(store, "x") | (left_over if noprune else set())


@pytest.mark.parametrize("remove", ["delete", "discard", "replace"])
def test_what_a_model_is_being_made_of_goes_only_when_that_is_done(store, make, remove):
    make("x", system="S")
    base = store.get(X)
    digests = [layer.digest for layer in base.manifest.layers]
    store.hold(digests)
    if remove == "replace":
        make("x", system="other")
    else:
        store.delete(X)
        store.discard(digests)
    store.create(Y, ModelDraft.from_model(base), ignore)
    assert store.get(Y).system == "S"
    store.delete(Y)
    assert blobs_of(store) >= set(digests)
    store.release(digests)
    assert blobs_of(store) == (needed(store, "x") if remove == "replace" else set())


def test_deleting_keeps_what_other_models_need(store, make):
    make("x", system="shared", template="only x")
    make("ns/y:tag", system="shared")
    store.delete(X)
    assert blobs_of(store) == needed(store, "ns/y:tag")
    store.delete(Y)
    assert blobs_of(store) == set()
    assert list(store.manifests.directory.iterdir()) == []


def test_a_layer_listed_twice_is_deleted_once(store):
    digest, size, _ = store.blobs.put(b"twice")
    store.write_model(X, [Layer(MediaType.LICENSE, digest, size)] * 2, ModelConfig())
    store.delete(X)
    assert blobs_of(store) == set()


def test_a_corrupt_model_can_be_deleted_and_replaced(store, make):
    make("good")
    make("x")
    for repair in (store.delete, lambda _: make("x", system="new")):
        store.manifests.path(X).parent.mkdir(parents=True, exist_ok=True)
        store.manifests.path(X).write_bytes(b"{")
        repair(X)
    assert store.get(X).system == "new"


@pytest.mark.parametrize("noprune", [False, True])
def test_replacing_a_model_removes_what_is_unused_then(root, make, noprune):
    store = ModelStore(root, noprune=noprune)
    make("ns/y:tag", of=store, system="shared")
    make("x", of=store, system="shared", template="old")
    old = needed(store, "x")
    make("x", of=store, system="new")
    left_over = old - needed(store, "x", "ns/y:tag")
    assert left_over
    assert blobs_of(store) == needed(store, "x", "ns/y:tag") | (left_over if noprune else set())


def test_replacing_by_a_manifest_says_that_layers_are_removed_only_if_so(store, make):
    make("x", system="old")
    make("ns/y:tag")
    data = store.manifests.path(Y).read_bytes()
    lines = []
    store.put_manifest(X, data, lines.append)
    assert lines == ["removing unused layers"]
    assert blobs_of(store) == needed(store, "ns/y:tag")
    store.put_manifest(X, data, lines.append)
    store.put_manifest(parse_name("new"), data, lines.append)
    assert lines == ["removing unused layers"]
    assert store.get(X).digest == store.get(Y).digest


OLD, NEW = True, False


@pytest.mark.parametrize("noprune", [False, True])
@pytest.mark.parametrize(
    ("name", "is_old", "goes"),
    [
        ("sha256-" + "1" * 64, OLD, True),
        ("sha256-" + "1" * 64, NEW, False),
        ("sha256:" + "1" * 64, OLD, True),
        ("sha256-" + "1" * 64 + "-partial", OLD, False),
        ("sha256-" + "1" * 64 + "-partial-0", OLD, False),
        ("sha256-4f2a9c11", OLD, True),
        ("sha256-4f2a9c11", NEW, False),
        ("notes.txt", OLD, False),
    ],
)
def test_the_start_prunes_what_nobody_needs(root, make, age, *, name, is_old, goes, noprune):
    store = ModelStore(root)
    make("x", of=store, system="S", params={"seed": 1})
    keep = blobs_of(store)
    for path in store.blobs.directory.iterdir():
        age(path)
    extra = store.blobs.directory / name
    extra.write_bytes(b"data")
    if is_old:
        age(extra)
    ModelStore(root, noprune=noprune).open()
    left = blobs_of(store) - keep
    assert left == (set() if goes and not noprune else {name.replace("-", ":", 1)})
    assert keep <= blobs_of(store)
    assert store.get(X).system == "S"


def test_nothing_is_pruned_while_a_manifest_cannot_be_read(store, make, age, caplog):
    make("good")
    digest, _, _ = store.blobs.put(b"whose is this?")
    age(store.blobs.path(digest))
    broken = store.manifests.path(Y)
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"{")
    store.prune()
    assert store.blobs.exists(digest)
    assert "blobs are not pruned: model 'ns/y:tag'" in caplog.text
    broken.unlink()
    store.prune()
    assert not store.blobs.exists(digest)
    assert not broken.parent.exists()


def test_files_that_are_no_manifests_do_not_stop_the_pruning(store, make, age):
    make("x")
    (store.manifests.path(X).parent / ".DS_Store").write_bytes(b"{")
    digest, _, _ = store.blobs.put(b"unneeded")
    age(store.blobs.path(digest))
    store.prune()
    assert not store.blobs.exists(digest)
    assert shown(store) == ["x:latest"]
