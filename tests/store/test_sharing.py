"""One store for several: readers that may not write, threads, and processes that change it at the same time."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from store.looking import X, Y, blobs_of, needed, shown

from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.files import StoreLock
from ollama_nb.store.models import ModelStore
from ollama_nb.wire.errors import OllamaError
from ollama_nb.wire.names import parse_name

NOBODY = 65534


@pytest.fixture
def as_reader():
    """A folder outside pytest's own, which only its owner may enter, and a switch to a user who may only read."""
    if not hasattr(os, "setresuid"):
        pytest.skip("needs POSIX users")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def become_reader() -> None:
            for path in (root, *root.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
            if os.geteuid() == 0:
                os.setresuid(NOBODY, NOBODY, 0)

        try:
            yield root, become_reader
        finally:
            if os.getresuid()[2] == 0:
                os.setresuid(0, 0, 0)
            for path in (root, *root.rglob("*")):
                path.chmod(0o755)


def test_a_store_that_can_only_be_read_is_used_without_a_lock(as_reader, make):
    root, become_reader = as_reader
    make("x", of=ModelStore(root), system="S")
    (root / ".ollama_nb.lock").unlink(missing_ok=True)
    become_reader()
    store = ModelStore(root)
    store.open()
    assert shown(store) == ["x:latest"]
    assert store.get(X).system == "S"
    with pytest.raises(OllamaError, match=r"the model store cannot be written: Permission denied"):
        store.delete(X)
    assert store.get(X).system == "S"


def test_reading_never_waits_for_the_lock(store, make):
    make("x", system="S")
    reader = ModelStore(store.root)
    with StoreLock(store.root):
        assert shown(reader) == ["x:latest"]
        assert reader.get(X).system == "S"


def test_a_layer_in_use_does_not_go_with_another_model_while_a_model_is_made(store, make):
    make("ns/y:tag", system="shared")
    draft = ModelDraft.from_model(store.get(Y)).apply(system="shared")
    deletion = threading.Thread(target=store.delete, args=(Y,))

    def report(status: str) -> None:
        if status == "writing manifest":
            deletion.start()
            # Time for the deletion to do harm, if nothing held it back.
            deletion.join(0.3)

    store.create(X, draft, report)
    deletion.join()
    assert shown(store) == ["x:latest"]
    assert store.get(X).system == "shared"


CHURN = """
import sys
from pathlib import Path
from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.models import ModelStore
from ollama_nb.wire.names import parse_name

root, who, weights = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = ModelStore(root)
store.open()
base = ModelDraft.from_gguf({"x.gguf": weights}, store.blobs, lambda line: None)
kept = parse_name(f"kept-{who}")
for turn in range(30):
    # Both processes make and remove the same blobs under names of their own and under one that they share.
    for name in (parse_name(f"mine-{who}"), parse_name("contested"), kept):
        store.create(name, base.apply(system=f"system {turn % 3}", params={"seed": turn % 2}), lambda line: None)
    store.copy(kept, parse_name(f"copy-{who}"))
    store.delete(parse_name(f"copy-{who}"))
    store.delete(parse_name(f"mine-{who}"))
    assert store.get(kept).system == f"system {turn % 3}"
    store.list()
    store.prune()
"""


def test_two_processes_change_one_store_without_losing_a_blob(store, make, tiny_gguf):
    make("base")
    weights = store.get(parse_name("base")).manifest.layers[0].digest
    workers = [
        subprocess.Popen([sys.executable, "-c", CHURN, str(store.root), who, weights], stderr=subprocess.PIPE)
        for who in "ab"
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors.decode()
    names = ["base", "contested", "kept-a", "kept-b"]
    assert sorted(shown(store)) == [f"{name}:latest" for name in names]
    for name in names:
        store.get(parse_name(name))
    assert blobs_of(store) == needed(store, *names)
