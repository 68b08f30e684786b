"""A server that is killed while it makes a model: nothing is left over, and the model of that name is the old one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from http_calls import MODEL, OPTIONS, client, lines, until

from ollama_nb.client import Client
from ollama_nb.client.files import file_digest
from ollama_nb.store.blobs import FileKind, file_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from ollama_nb.client import LocalServer


def upload(server: LocalServer, *paths: Path) -> dict[str, str]:
    files = {path.name: file_digest(path) for path in paths}
    with Client(server.url) as ours:
        for path in paths:
            ours.push_blob(path, files[path.name])
    return files


def kill_in_the_making(server: LocalServer, **fields: Any) -> None:
    """Begin a create and kill the server while its child writes the new weights; the child must end by itself.

    The child runs in slices of some milliseconds until it has written something, so that it cannot be through with
    a small model before the server is dead, however late this process gets its turn.
    """
    process = psutil.Process(server.pid)
    before = set(process.children())
    blobs = Path(process.environ()["OLLAMA_MODELS"]) / "blobs"
    with client(server.url) as calls, calls.stream("POST", "/api/create", json=fields):
        until(lambda: set(process.children()) - before, "a process that makes the model")
        (child,) = set(process.children()) - before
        child.suspend()
        while not any(path.stat().st_size for path in blobs.iterdir() if file_kind(path.name) is FileKind.TEMPORARY):
            child.resume()
            time.sleep(0.02)
            child.suspend()
        os.kill(server.pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):  # Linux kills it with its parent
        child.resume()
    until(lambda: not child.is_running() or child.status() == "zombie", "no process left")


def answer(calls: httpx2.Client, model: str) -> str:
    return calls.post(
        "/api/generate", json={"model": model, "prompt": "The sky is", "stream": False, "options": OPTIONS}
    ).json()["response"]


def files_of(store: Path) -> set[str]:
    return {path.name for path in (store / "blobs").iterdir()}


def needed(store: Path) -> set[str]:
    """The blobs that the manifests of a store name."""
    digests = set()
    for path in (store / "manifests").rglob("*"):
        if path.is_file():
            manifest = json.loads(path.read_text())
            digests |= {layer["digest"] for layer in (*manifest["layers"], manifest["config"])}
    return {digest.replace(":", "-") for digest in digests}


def test_a_kill_in_mid_quantization_leaves_the_old_model_and_nothing_else(
    tmp_path: Path, start: Callable[..., LocalServer], smollm2_f16: Path
) -> None:
    with start(tmp_path) as server:
        with client(server.url) as calls:
            assert lines(calls.post("/api/create", json={"model": "mine", "from": MODEL, "system": "Old."}))
            before = answer(calls, "mine")
        files = upload(server, smollm2_f16)
        kill_in_the_making(server, model="mine", files=files, quantize="q4_K_M", system="New.")
    assert files_of(tmp_path / "models") > needed(tmp_path / "models")
    with start(tmp_path) as server, client(server.url) as calls:
        assert files_of(tmp_path / "models") == needed(tmp_path / "models")
        assert calls.post("/api/show", json={"model": "mine"}).json()["system"] == "Old."
        assert answer(calls, "mine") == before


def test_a_kill_in_mid_conversion_leaves_the_old_model_and_nothing_else(
    tmp_path: Path, start: Callable[..., LocalServer], smollm2_folder: Path
) -> None:
    with start(tmp_path) as server:
        with client(server.url) as calls:
            assert lines(calls.post("/api/create", json={"model": "mine", "from": MODEL, "system": "Old."}))
        files = upload(server, *sorted(smollm2_folder.iterdir()))
        kill_in_the_making(server, model="mine", files=files)
    assert files_of(tmp_path / "models") > needed(tmp_path / "models")
    with start(tmp_path) as server, client(server.url) as calls:
        assert files_of(tmp_path / "models") == needed(tmp_path / "models")
        assert calls.post("/api/show", json={"model": "mine"}).json()["system"] == "Old."
        assert answer(calls, "mine")
