"""Models made of safetensors by the API: what is told, what comes out, and what is refused."""

from __future__ import annotations

import json
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from http_calls import MODEL, OPTIONS, lines, received_lines, send, until

from ollama_nb.client.files import file_digest, file_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import httpx2

    from ollama_nb.client import LocalServer

SKY = {"prompt": "The sky is blue because", "raw": True, "stream": False, "options": OPTIONS}


def upload(bench: httpx2.Client, folder: Path) -> dict[str, str]:
    """All files of a folder among the blobs: names to digests."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest = file_digest(path)
            assert bench.post(f"/api/blobs/{digest}", content=file_pieces(path)).status_code in {200, 201}
            files[path.relative_to(folder).as_posix()] = digest
    return files


@pytest.fixture
def make(bench: httpx2.Client, unloaded: Callable[[str], None]) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Creates a model, which is gone again after the test; gives the steps."""
    made = []

    def run(name: str, **fields: Any) -> list[dict[str, Any]]:
        made.append(name)
        return lines(bench.post("/api/create", json={"model": name, **fields}))

    yield run
    for name in made:
        unloaded(name)
        bench.request("DELETE", "/api/delete", json={"model": name})


@pytest.fixture(scope="module")
def digests(bench: httpx2.Client, smollm2_folder: Path) -> Mapping[str, str]:
    """SmolLM2 as transformers saves it: names to digests."""
    return upload(bench, smollm2_folder)


@pytest.fixture
def files(bench: httpx2.Client, smollm2_folder: Path, digests: Mapping[str, str]) -> Mapping[str, str]:
    """The same, uploaded: files that a test had refused are not there any more."""
    for name, digest in digests.items():
        if bench.head(f"/api/blobs/{digest}").status_code == HTTPStatus.NOT_FOUND:
            bench.post(f"/api/blobs/{digest}", content=file_pieces(smollm2_folder / name))
    return digests


def test_a_folder_of_safetensors_becomes_the_model_that_it_is(
    bench: httpx2.Client, make: Callable[..., list[dict[str, Any]]], files: Mapping[str, str]
) -> None:
    steps = make("converted", files=files)
    assert steps[0] == {"status": "converting model"}
    progress = [step for step in steps if "total" in step]
    done = [step.get("completed", 0) for step in progress]
    assert done == sorted(done)
    assert done[-1] == progress[-1]["total"] > 250_000_000
    told = [step["status"] for step in steps if step["status"] != "converting model"]
    assert told[0].startswith("creating new layer sha256:")
    assert "using autodetected template chatml" in told
    assert told[-2:] == ["writing manifest", "success"]
    shown = bench.post("/api/show", json={"model": "converted"}).json()
    assert shown["details"]["quantization_level"] == "F16"
    assert shown["details"]["parameter_size"] == "134.52M"
    assert shown["capabilities"] == ["completion"]
    # The numbers are those of the small file, but are multiplied with more precision.
    ours, original = (
        bench.post("/api/generate", json={"model": name, **SKY}).json()["response"] for name in ("converted", MODEL)
    )
    assert ours.split()[:4] == original.split()[:4]


def test_converting_once_more_gives_the_same_blobs(
    make: Callable[..., list[dict[str, Any]]], files: Mapping[str, str], workshop_store: Path
) -> None:
    layers = []
    for name in ("once", "twice"):
        make(name, files=dict(reversed(files.items())) if layers else files)
        manifest = json.loads((workshop_store / f"manifests/registry.ollama.ai/library/{name}/latest").read_text())
        layers.append(manifest["layers"])
    assert layers[0] == layers[1]


def test_a_folder_becomes_a_small_model_in_one_request(
    bench: httpx2.Client, make: Callable[..., list[dict[str, Any]]], files: Mapping[str, str], workshop_store: Path
) -> None:
    before = {path.name for path in (workshop_store / "blobs").iterdir()}
    told = [step["status"] for step in make("small", files=files, quantize="q8_0", system="Be brief.")]
    assert told.index("converting model") < told.index("quantizing F16 model to Q8_0") < told.index("success")
    assert bench.post("/api/show", json={"model": "small"}).json()["details"]["quantization_level"] == "Q8_0"
    new = {path.name for path in (workshop_store / "blobs").iterdir()} - before
    # The F16 in between is nobody's: what is new are the small weights, texts and a description.
    assert sum((workshop_store / "blobs" / name).stat().st_size for name in new) < 150_000_000
    assert bench.post("/api/generate", json={"model": "small", **SKY}).json()["response"]


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("config.json", "config.json is missing"),
        ("tokenizer.json", "the model has no tokenizer"),
        ("model-00002-of-00002.safetensors", "model-00002-of-00002.safetensors is missing"),
    ],
)
def test_a_folder_without_a_file_that_it_needs_is_refused(
    bench: httpx2.Client, files: Mapping[str, str], missing: str, told: str
) -> None:
    given = {name: digest for name, digest in files.items() if name != missing}
    response = bench.post("/api/create", json={"model": "lacking", "files": given, "stream": False})
    assert response.status_code == 400
    assert response.json()["error"] == told
    assert bench.post("/api/show", json={"model": "lacking"}).status_code == 404
    assert bench.head(f"/api/blobs/{given['generation_config.json']}").status_code == HTTPStatus.NOT_FOUND


def test_who_leaves_in_mid_conversion_leaves_no_process_and_no_file(
    bench: httpx2.Client, workshop: LocalServer, workshop_store: Path, files: Mapping[str, str]
) -> None:
    bench.post("/api/create", json={"model": "left", "from": MODEL, "system": "Old."})
    before = {path.name for path in (workshop_store / "blobs").iterdir()}

    def workers() -> list[psutil.Process]:
        found = psutil.Process(workshop.pid).children(recursive=True)
        return [child for child in found if "convert.worker" in " ".join(child.cmdline())]

    with closing(send(workshop.url, "/api/create", {"model": "left", "files": dict(files)})) as leaving:
        next(received_lines(leaving))
        until(workers, "the process has begun")
    until(lambda: not workers(), "the process has ended")
    until(lambda: {path.name for path in (workshop_store / "blobs").iterdir()} == before, "its file is gone")
    assert bench.post("/api/show", json={"model": "left"}).json()["system"] == "Old."
    bench.request("DELETE", "/api/delete", json={"model": "left"})
