"""A server that is killed while it makes a model: nothing is left over, and the model of that name is the old one."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from http_calls import MODEL, OPTIONS, client, lines, until

from ollama_nb.client import Client
from ollama_nb.client.files import file_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from ollama_nb.client import LocalServer


def upload(server: LocalServer, *paths: Path) -> dict[str, str]:
    files = {path.name: file_digest(path) for path in paths}
    with Client(server.url) as ours:
        for path in paths:
            ours.push_blob(path, files[path.name])
    return files


def kill_when(server: LocalServer, wanted: Callable[[dict[str, Any]], bool], **fields: Any) -> None:
    """Begin a create and kill the server at the first step that is wanted; its processes must end by themselves."""
    process = psutil.Process(server.pid)
    with client(server.url) as calls, calls.stream("POST", "/api/create", json=fields) as response:
        for line in response.iter_lines():
            if wanted(json.loads(line)):
                break
        else:
            pytest.fail("the model was complete before the server could be killed")
        children = process.children(recursive=True)
        assert children
        os.kill(server.pid, signal.SIGKILL)
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), "no process left")


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
        kill_when(
            server,
            lambda step: step.get("completed", 0) > 0,
            model="mine", files=files, quantize="q4_K_M", system="New.",
        )  # fmt: skip
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
        kill_when(server, lambda step: step.get("total", 0) > 0, model="mine", files=files)
    assert files_of(tmp_path / "models") > needed(tmp_path / "models")
    with start(tmp_path) as server, client(server.url) as calls:
        assert files_of(tmp_path / "models") == needed(tmp_path / "models")
        assert calls.post("/api/show", json={"model": "mine"}).json()["system"] == "Old."
        assert answer(calls, "mine")
