"""Quantizing by the API: the steps that are told, what comes out, and what is left when it is called off."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from http_calls import MODEL, OPTIONS, lines, received_lines, send, until

from ollama_nb.client.files import file_digest, file_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

    from ollama_nb.client import LocalServer

pytestmark = pytest.mark.usefixtures("f16")


@pytest.fixture(scope="module")
def f16(bench: httpx2.Client, smollm2_f16: Path) -> Iterator[str]:
    """The name of SmolLM2 in F16."""
    digest = file_digest(smollm2_f16)
    bench.post(f"/api/blobs/{digest}", content=file_pieces(smollm2_f16))
    assert lines(bench.post("/api/create", json={"model": "half", "files": {"f16.gguf": digest}}))[-1] == {
        "status": "success"
    }
    yield "half"
    for name in ("half", "smaller"):
        bench.request("DELETE", "/api/delete", json={"model": name})


def shown(bench: httpx2.Client, name: str) -> Any:
    return bench.post("/api/show", json={"model": name}).json()


def children(workshop: LocalServer) -> list[str]:
    """The command lines of the converting processes."""
    lines = []
    for child in psutil.Process(workshop.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            lines.append(" ".join(child.cmdline()))
    return [line for line in lines if "convert.worker" in line]


def files_of(store: Path) -> set[str]:
    return {path.name for path in (store / "blobs").iterdir()}


def test_the_steps_are_ollamas(bench: httpx2.Client, f16: str) -> None:
    steps = lines(bench.post("/api/create", json={"model": "smaller", "from": f16, "quantize": "q4_K_M"}))
    status = "quantizing F16 model to Q4_K_M"
    progress = [step for step in steps if step["status"] == status and "total" in step]
    assert steps[0] == {"status": status}
    assert all(step["digest"] == "0" * 19 for step in progress)
    done = [step.get("completed", 0) for step in progress]
    assert done == sorted(done)
    assert done[-1] == progress[-1]["total"] > 200_000_000
    others = [step["status"] for step in steps if step["status"] != status]
    verifying = others.index("verifying conversion")
    # Its rows of 576 do not fit into blocks of 256.
    notes, (*layers, writing, success) = others[:verifying], others[verifying + 1 :]
    assert any("instead of Q4_K" in note for note in notes)
    assert layers[0].startswith("creating new layer sha256:")
    assert all(layer.startswith("using existing layer sha256:") for layer in layers[1:])
    assert (writing, success) == ("writing manifest", "success")
    details = shown(bench, "smaller")["details"]
    assert (details["quantization_level"], details["parent_model"]) == ("Q4_K_M", "half:latest")


@pytest.mark.parametrize("wanted", ["q8_0", "q4_K_S", "q5_k_m"])
def test_a_smaller_model_answers_as_the_large_one_would_nearly(
    bench: httpx2.Client, f16: str, unloaded: Callable[[str], None], wanted: str
) -> None:
    assert lines(bench.post("/api/create", json={"model": "smaller", "from": f16, "quantize": wanted}))[-1] == {
        "status": "success"
    }
    sizes = {model["name"]: model["size"] for model in bench.get("/api/tags").json()["models"]}
    assert sizes["smaller:latest"] < sizes["half:latest"] * 0.6
    question = {"prompt": "The capital of France is", "raw": True, "stream": False, "options": OPTIONS}
    answer = bench.post("/api/generate", json={"model": "smaller", **question}).json()["response"]
    unloaded("smaller")
    assert "Paris" in answer


def test_the_type_that_a_model_has_already_is_no_work(bench: httpx2.Client, f16: str) -> None:
    steps = lines(bench.post("/api/create", json={"model": "smaller", "from": f16, "quantize": "f16"}))
    assert not any("quantizing" in step["status"] for step in steps)
    assert shown(bench, "smaller")["details"]["quantization_level"] == "F16"


def test_who_leaves_in_mid_quantization_leaves_no_process_and_no_file(
    bench: httpx2.Client, workshop: LocalServer, workshop_store: Path, f16: str
) -> None:
    bench.post("/api/create", json={"model": "smaller", "from": MODEL, "system": "Old."})
    before = files_of(workshop_store)
    with closing(send(workshop.url, "/api/create", {"model": "smaller", "from": f16, "quantize": "q2_K"})) as leaving:
        for step in received_lines(leaving):
            if step.get("completed"):
                break
        assert len(children(workshop)) == 1
        assert files_of(workshop_store) > before
    until(lambda: not children(workshop), "the process has ended")
    until(lambda: files_of(workshop_store) == before, "its file is gone")
    assert shown(bench, "smaller")["system"] == "Old."


def test_two_at_once_wait_for_each_other_and_both_come_about(
    bench: httpx2.Client, workshop: LocalServer, f16: str
) -> None:
    body = {"from": f16, "quantize": "q4_0"}
    with (
        closing(send(workshop.url, "/api/create", {"model": "first", **body})) as first,
        closing(send(workshop.url, "/api/create", {"model": "second", **body})) as second,
    ):
        until(lambda: children(workshop), "one has begun")
        assert len(children(workshop)) == 1
        assert [list(received_lines(one))[-1] for one in (first, second)] == [{"status": "success"}] * 2
    for name in ("first", "second"):
        assert shown(bench, name)["details"]["quantization_level"] == "Q4_0"
        bench.request("DELETE", "/api/delete", json={"model": name})


def test_the_blobs_are_the_same_whoever_makes_them(bench: httpx2.Client, workshop_store: Path, f16: str) -> None:
    digests = []
    for name in ("smaller", "smaller-too"):
        bench.post("/api/create", json={"model": name, "from": f16, "quantize": "q8_0"})
        manifest = json.loads((workshop_store / f"manifests/registry.ollama.ai/library/{name}/latest").read_text())
        digests.append(manifest["layers"][0]["digest"])
    assert digests[0] == digests[1]
    bench.request("DELETE", "/api/delete", json={"model": "smaller-too"})


def refused(bench: httpx2.Client, **fields: Any) -> Any:
    """Why a model made of the sample, which is small already, does not come about."""
    response = bench.post("/api/create", json={"model": "unsupported", "from": MODEL, "stream": False, **fields})
    assert response.status_code == 400
    assert bench.post("/api/show", json={"model": "unsupported"}).status_code == 404
    return response.json()


@pytest.mark.parametrize("field", ["quantize", "quantization"])
def test_a_type_that_nobody_makes_is_refused_before_anything_is_done(bench: httpx2.Client, field: str) -> None:
    reason = refused(bench, **{field: "q9_k"})
    assert reason["error"] == (
        "unsupported quantization type Q9_K - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
    )
    assert "Q5_K_M" in reason["hint"]


def test_what_is_quantized_already_is_not_quantized_again(bench: httpx2.Client) -> None:
    reason = refused(bench, quantize="q4_K_M")
    assert reason["error"] == "quantization is only supported for F16 and F32 models"
    assert "Q4_1" in reason["hint"]
