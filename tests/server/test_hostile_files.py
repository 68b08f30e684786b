"""Files that are wrong somewhere, on the whole way through a real server: uploaded, created from, loaded.

Whatever they are, the server answers with a model or with a 400, lives on, and keeps nothing of what it has refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from convert.handmade import LLAMA, llama_tensors, safetensors_bytes, written
from convert.mutations import mutated_gguf, mutated_model
from convert.reference import tiny_tokenizer
from http_calls import client, until

from ollama_nb.convert.model import convert_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import httpx2

    from ollama_nb.client import LocalServer

GGUF_MUTANTS = 1000
LOADED = 40
"""GGUF files that are loaded, at least."""

SAFETENSORS_MUTANTS = int(os.environ.get("OLLAMA_NB_MUTANTS", "100"))
"""Each starts a process, which takes half a second, so that a thousand are for the patient."""

AT_ONCE = 2
_SESSIONS = ".ollama_nb-sessions"
"""Where the server notes what it has written; a note of what is gone harms nobody."""


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The files of a tiny Llama with a real tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_tokenizer(folder)
    return {
        "config.json": json.dumps(LLAMA).encode(),
        **{path.name: path.read_bytes() for path in sorted(folder.iterdir())},
        "model.safetensors": safetensors_bytes(llama_tensors(LLAMA), {"format": "pt"}),
    }


@pytest.fixture(scope="module")
def tiny_gguf(tiny_model: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same model as a GGUF file."""
    folder = tmp_path_factory.mktemp("gguf")
    convert_model(written(folder, tiny_model), folder / "out", "F16", lambda _done, _total: None)
    return (folder / "out").read_bytes()


@pytest.fixture
def unharmed(bench: httpx2.Client, workshop: LocalServer, workshop_store: Path) -> Iterator[None]:
    """Afterwards everything is as it was: the server, what it lists, its store, its processes."""
    until(lambda: not _converting(workshop), "no conversion runs")
    pid, stored, listed = workshop.pid, _stored(workshop_store), _listed(bench)
    children = _children(workshop)
    yield
    assert workshop.alive
    assert workshop.pid == pid
    assert bench.get("/api/version").status_code == 200
    assert _listed(bench) == listed
    until(lambda: _children(workshop) <= children, "the processes that were started are gone")
    # Less may be there: what an earlier test left may be among the files that are refused, the empty one for example.
    assert _stored(workshop_store) <= stored


def _stored(store: Path) -> set[str]:
    return {
        path.relative_to(store).as_posix()
        for path in store.rglob("*")
        if path.is_file() and _SESSIONS not in path.parts
    }


def _listed(bench: httpx2.Client) -> list[str]:
    return sorted(model["name"] for model in bench.get("/api/tags").json()["models"])


def _children(server: LocalServer) -> set[int]:
    return {child.pid for child in psutil.Process(server.pid).children(recursive=True)}


def _converting(server: LocalServer) -> list[psutil.Process]:
    children = psutil.Process(server.pid).children(recursive=True)
    return [child for child in children if "ollama_nb.convert.worker" in child.cmdline()]


class Maker:
    """One client that creates models of files and deletes them again."""

    def __init__(self, url: str, number: int) -> None:
        self.calls = client(url)
        self.name = f"hostile-{number}"
        self._number = number

    def own(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """The same model in files that no other client uploads: those of a model that is refused are removed."""
        weights = safetensors_bytes(llama_tensors(LLAMA), {"format": "pt", "by": str(self._number)})
        return {
            name: weights if name.endswith(".safetensors") else data + b" " * self._number
            for name, data in files.items()
        }

    def create(self, files: Mapping[str, bytes]) -> str:
        """What is wrong with the files; empty if there is a model of them now."""
        digests = {name: f"sha256:{hashlib.sha256(data).hexdigest()}" for name, data in files.items()}
        for name, digest in digests.items():
            assert self.calls.post(f"/api/blobs/{digest}", content=files[name]).status_code in {200, 201}
        body = {"model": self.name, "files": digests, "stream": False}
        response = self.calls.post("/api/create", json=body)
        if response.status_code == 200:
            assert response.json() == {"status": "success"}
            return ""
        assert response.status_code == 400, response.text
        error: str = response.json()["error"]
        assert error
        return error

    def ask(self) -> int:
        """The status of a short answer."""
        options = {"num_predict": 2, "num_thread": 1, "num_ctx": 64}
        body = {"model": self.name, "prompt": "Hi", "raw": True, "stream": False, "options": options}
        return self.calls.post("/api/generate", json=body).status_code

    def unload(self) -> None:
        """Let the model's process go."""
        self.calls.post("/api/generate", json={"model": self.name, "keep_alive": 0})

    def delete(self) -> None:
        """Remove the model, which is there."""
        assert self.calls.request("DELETE", "/api/delete", json={"model": self.name}).status_code == 200

    def forget(self, files: Mapping[str, bytes]) -> None:
        """Have uploads removed that a model was made of: they stay for another one, until something refuses them."""
        assert self.create({f"{number}.gguf": data for number, data in enumerate(files.values())})


@pytest.fixture
def makers(workshop: LocalServer) -> Iterator[list[Maker]]:
    """Clients that work at the same time."""
    found = [Maker(workshop.url, number) for number in range(AT_ONCE)]
    yield found
    for maker in found:
        maker.calls.close()


def _each(makers: list[Maker], work: Callable[[Maker, int], Any], numbers: range) -> list[Any]:
    """What ``work`` gives for each number, by several clients at once."""

    def share(index: int) -> list[Any]:
        return [work(makers[index], number) for number in numbers[index :: len(makers)]]

    with ThreadPoolExecutor(len(makers)) as pool:
        return [result for results in pool.map(share, range(len(makers))) for result in results]


@pytest.mark.usefixtures("unharmed")
@pytest.mark.timeout(300 + 2 * SAFETENSORS_MUTANTS)
def test_safetensors_that_are_wrong_somewhere(makers, tiny_model):
    def work(maker: Maker, number: int) -> bool:
        what, files = mutated_model(maker.own(tiny_model), random.Random(f"server {number}"))
        try:
            if error := maker.create(files):
                assert error.isprintable()
                assert len(error) < 1000
                return True
            maker.delete()
            maker.forget(files)
        except AssertionError as error:
            raise AssertionError(f"mutant {number}, {what}: {error}") from error
        return False

    refused = sum(_each(makers, work, range(SAFETENSORS_MUTANTS)))
    assert SAFETENSORS_MUTANTS * 0.4 < refused < SAFETENSORS_MUTANTS * 0.9


@pytest.mark.usefixtures("unharmed")
def test_gguf_files_that_are_wrong_somewhere(makers, tiny_gguf):
    """Some of those that are taken are loaded too: what llama.cpp makes of them is its process's affair."""
    every = GGUF_MUTANTS // LOADED // 4

    def work(maker: Maker, number: int) -> str:
        what, data = mutated_gguf(tiny_gguf, random.Random(f"gguf {number}"))
        try:
            if maker.create({"model.gguf": data}):
                return "refused"
            status = maker.ask() if number % every == 0 else 0
            if status:
                maker.unload()
            maker.delete()
        except AssertionError as error:
            raise AssertionError(f"mutant {number}, {what}: {error}") from error
        return {0: "made", 200: "answered"}.get(status, "not loaded")

    results = _each(makers, work, range(GGUF_MUTANTS))
    assert results.count("refused") > GGUF_MUTANTS * 0.2
    assert results.count("answered") > 0
    assert results.count("answered") + results.count("not loaded") >= LOADED, results
