"""What a killed process has left among the blobs is cleared up by the next one, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from ollama_nb.store.models import ModelStore

NOBODY = 65534
EMPTY = f"sha256:{hashlib.sha256().hexdigest()}"
"""What each writer below has fetched."""

WRITE = f"""
EMPTY = {EMPTY!r}
import sys
from pathlib import Path
from ollama_nb.store.models import ModelStore
store = ModelStore(Path(sys.argv[1]))
store.open()
digest, _, _ = store.blobs.put(sys.argv[2].encode())
blob = store.blobs.writer()
blob.__enter__()
blob.write(b"half of it")
scratch = store.blobs.scratch()
scratch.__enter__()
fetched = store.blobs.directory / (digest.replace(':', '-') + '-partial')
fetched.write_bytes(b"")
store.blobs.place(fetched, EMPTY, keep=True)
print(digest, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def writer(root: Path, text: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(root), text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def blobs_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "blobs").iterdir())


def test_files_of_a_killed_process_go_at_the_next_start_but_what_it_had_fetched(root: Path) -> None:
    process, _ = writer(root, "an upload")
    assert len(blobs_of(root)) == 4
    kill(process)
    store = ModelStore(root)
    store.open()
    assert blobs_of(root) == [EMPTY.replace(":", "-")]
    assert list((root / ".ollama_nb-sessions").iterdir()) == []


def test_files_of_a_living_process_stay(root: Path) -> None:
    process, _ = writer(root, "an upload")
    before = blobs_of(root)
    try:
        ModelStore(root).open()
        assert blobs_of(root) == before
    finally:
        kill(process)


def test_a_blob_that_a_living_process_refers_to_stays_when_the_one_that_brought_it_is_killed(root: Path) -> None:
    dead, digest = writer(root, "shared")
    alive, same = writer(root, "shared")
    assert same == digest
    kill(dead)
    try:
        ModelStore(root).open()
        assert digest.replace(":", "-") in blobs_of(root)
        assert len(blobs_of(root)) == 4  # the blob, what was fetched, and the two files that the living one is writing
    finally:
        kill(alive)


def test_blobs_that_other_programs_bring_have_their_hour(root: Path) -> None:
    store = ModelStore(root)
    store.open()
    name = f"sha256-{hashlib.sha256(b'theirs').hexdigest()}"
    (root / "blobs" / name).write_bytes(b"theirs")
    (root / "blobs" / "sha256-123").write_bytes(b"half")
    ModelStore(root).open()
    assert blobs_of(root) == ["sha256-123", name]


def test_only_blobs_of_ones_own_that_no_model_needs_are_discarded(root: Path) -> None:
    store = ModelStore(root)
    store.open()
    mine, _, _ = store.blobs.put(b"mine")
    theirs = f"sha256:{hashlib.sha256(b'theirs').hexdigest()}"
    store.blobs.path(theirs).write_bytes(b"theirs")
    store.discard([mine, theirs])
    assert blobs_of(root) == [theirs.replace(":", "-")]


def test_what_another_living_process_has_listed_is_not_discarded(root: Path) -> None:
    process, digest = writer(root, "an upload of both")
    store = ModelStore(root)
    store.open()
    assert store.blobs.put(b"an upload of both")[0] == digest
    store.discard([digest])
    assert store.blobs.exists(digest)
    kill(process)
    store.discard([digest])
    assert not store.blobs.exists(digest)


def test_the_list_of_another_user_counts_as_that_of_a_living_process() -> None:
    if not hasattr(os, "setresuid"):
        pytest.skip("needs POSIX users")
    with tempfile.TemporaryDirectory() as folder:  # outside pytest's own, which only its owner may enter
        root = Path(folder)
        process, digest = writer(root, "an upload")
        kill(process)
        for path in (root, *root.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o444)
        for path in root.glob(".ollama_nb*/*.lock"):
            path.chmod(0)
        (root / ".ollama_nb.lock").chmod(0o666)
        try:
            if os.geteuid() == 0:
                os.setresuid(NOBODY, NOBODY, 0)
            ModelStore(root).open()
            assert digest.replace(":", "-") in blobs_of(root)
        finally:
            if os.getresuid()[2] == 0:
                os.setresuid(0, 0, 0)


def test_a_process_that_ends_gives_up_its_claim(root: Path) -> None:
    store = ModelStore(root)
    store.open()
    store.blobs.put(b"upload")
    store.close()
    ModelStore(root).open()
    assert blobs_of(root) == []


def test_a_list_is_begun_once_however_many_threads_write(root: Path) -> None:
    store = ModelStore(root)
    store.open()

    def work(number: int) -> None:
        with store.manifests.lock:
            store.blobs.put(f"under the lock {number}".encode())
        store.blobs.put(f"without it {number}".encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(blobs_of(root)) == 16
    names = list((root / ".ollama_nb-sessions").glob("*.names"))
    assert len(names) == 1
    assert set(blobs_of(root)) <= set(names[0].read_text().split())
