"""Models of the Hugging Face Hub on a real server: pulled as GGUF, made of safetensors, and refused.

The hub is a stand-in on loopback; what it has are the sample model and the folder that transformers would save.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from http_calls import OPTIONS, client, complaints, lines
from hub_standin import TOKEN, HubStandin
from samples import SMOLLM2_SHA256
from vision_files import picture, write_llava

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

    from ollama_nb.client import LocalServer

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
PULLED = "hf.co/someone/SmolLM2-GGUF:Q4_1"
DIGEST = f"sha256:{SMOLLM2_SHA256}"
SKY = {"prompt": "The sky is blue because", "raw": True, "stream": False, "options": OPTIONS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the hub's small files, the server's store and the user's settings of the hub lie."""
    folder = tmp_path_factory.mktemp("hub")
    for name in ("files", "models", "home"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def hub(folder: Path, sample_gguf: Path, smollm2_folder: Path) -> Iterator[HubStandin]:
    """The hub with the model in both forms."""
    with HubStandin(folder / "files") as standin:
        standin.add("someone/SmolLM2-GGUF", {GGUF: sample_gguf, "README.md": "# SmolLM2"})
        standin.add("someone/SmolLM2-135M-Instruct", {path.name: path for path in smollm2_folder.iterdir()})
        yield standin


@pytest.fixture(scope="module")
def puller(folder: Path, hub: HubStandin, start: Callable[..., LocalServer]) -> Iterator[httpx2.Client]:
    """Calls to a server whose store is empty, and whose hub is the stand-in."""
    home = str(folder / "home")
    with start(folder, HF_ENDPOINT=hub.url, HF_HOME=home, HF_TOKEN="", HF_HUB_OFFLINE="") as running:
        with client(running.url) as calls:
            yield calls
        assert not complaints(running)


@pytest.fixture
def blobs(folder: Path) -> Callable[[], set[str]]:
    """The names of all files among the blobs."""
    return lambda: {path.name for path in (folder / "models" / "blobs").iterdir()}


def pull(puller: httpx2.Client, model: str) -> list[dict[str, Any]]:
    return lines(puller.post("/api/pull", json={"model": model}))


def show(puller: httpx2.Client, model: str) -> dict[str, Any]:
    shown: dict[str, Any] = puller.post("/api/show", json={"model": model}).json()
    return shown


def refusal(puller: httpx2.Client, model: str) -> tuple[int, str, str]:
    """Status, text and hint of a pull in one answer."""
    response = puller.post("/api/pull", json={"model": model, "stream": False})
    body = response.json()
    return response.status_code, body["error"], body.get("hint", "")


def test_a_quantization_of_a_repository_is_a_model_that_answers(puller: httpx2.Client) -> None:
    steps = pull(puller, PULLED)
    assert steps[0] == {"status": "pulling manifest"}
    told = list(dict.fromkeys(step["status"] for step in steps))
    assert told == [
        "pulling manifest",
        f"pulling {SMOLLM2_SHA256[:12]}",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    last = [step for step in steps if step.get("digest") == DIGEST][-1]
    assert last["completed"] == last["total"] > 90_000_000
    (listed,) = puller.get("/api/tags").json()["models"]
    assert listed["name"] == PULLED
    shown = show(puller, PULLED)
    assert shown["details"]["quantization_level"] == "Q4_1"
    assert "<|im_start|>" in shown["template"]
    assert "<|im_end|>" in shown["parameters"]
    said = puller.post(
        "/api/chat",
        json={"model": PULLED, "messages": [{"role": "user", "content": "Hi"}], "stream": False, "options": OPTIONS},
    )
    assert said.json()["message"]["content"]


def test_what_is_here_is_not_fetched_again(puller: httpx2.Client, hub: HubStandin) -> None:
    pull(puller, PULLED)
    before = len(hub.asked)
    assert pull(puller, "huggingface.co/someone/SmolLM2-GGUF:q4_1")[-1] == {"status": "success"}
    assert all(asked.server == "hub" for asked in hub.asked[before:])


def test_a_repository_says_what_its_model_is_like(puller: httpx2.Client, hub: HubStandin, sample_gguf: Path) -> None:
    texts = {
        "template": "{{ .System }}|{{ .Prompt }}|",
        "system": "You are a pirate.",
        "params": json.dumps({"temperature": 0.5, "stop": ["<end>"], "seed": None}),
        "LICENSE": "Apache License",
    }
    hub.add("someone/Mine", {GGUF: sample_gguf, **texts})
    assert pull(puller, "hf.co/someone/Mine")[-1] == {"status": "success"}
    shown = show(puller, "hf.co/someone/Mine")
    assert shown["template"] == texts["template"]
    assert shown["system"] == texts["system"]
    assert shown["license"] == texts["LICENSE"]
    assert sorted(line.split() for line in shown["parameters"].splitlines()) == [
        ["stop", '"<end>"'],
        ["temperature", "0.5"],
    ]


def test_a_projector_comes_with_the_weights(puller: httpx2.Client, hub: HubStandin, folder: Path) -> None:
    weights, projector = write_llava(folder / "llava")
    hub.add("someone/Seeing", {"Tiny-F16.gguf": weights, "mmproj-Tiny-F16.gguf": projector})
    steps = pull(puller, "hf.co/someone/Seeing")
    assert len({step["digest"] for step in steps if "digest" in step}) == 2
    assert "vision" in show(puller, "hf.co/someone/Seeing")["capabilities"]
    asked = {"model": "hf.co/someone/Seeing", "prompt": "What?", "stream": False, "options": OPTIONS}
    answer = puller.post("/api/generate", json={**asked, "images": [base64.b64encode(picture("red")).decode()]})
    assert answer.json()["done"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"params": '{"temperature": "hot"}'}, 'hf.co/someone/Broken: params: option "temperature" must be of type'),
        ({"params": "temperature 0.5"}, "hf.co/someone/Broken: params is no JSON object"),
        ({"params": "[1]"}, "hf.co/someone/Broken: params is no JSON object"),
        ({"template": "{{ .Prompt "}, "template error"),
        ({"template": b"\xff\xfe"}, "hf.co/someone/Broken: template is no text in UTF-8"),
        ({"LICENSE": "x" * (1 << 21)}, "LICENSE has 2097152 bytes, more than the 1048576 that are taken"),
    ],
)
def test_texts_that_are_wrong_are_refused_before_anything_large_comes(
    puller: httpx2.Client, hub: HubStandin, sample_gguf: Path, files: dict[str, bytes | str], told: str
) -> None:
    hub.add("someone/Broken", {GGUF: sample_gguf, **files})
    before = len(hub.asked)
    status, error, _ = refusal(puller, "hf.co/someone/Broken")
    assert status == 400
    assert told in error
    assert all(asked.server == "hub" for asked in hub.asked[before:])
    assert puller.post("/api/show", json={"model": "hf.co/someone/Broken"}).status_code == 404


def test_a_file_that_is_no_model_is_refused_and_goes_again(
    puller: httpx2.Client, hub: HubStandin, blobs: Callable[[], set[str]]
) -> None:
    before = blobs()
    hub.add("someone/Noise", {"M-Q4_0.gguf": b"GGUF" + b"noise" * 1000})
    status, error, _ = refusal(puller, "hf.co/someone/Noise")
    assert status == 400
    assert error
    assert blobs() == before


@pytest.mark.parametrize(
    ("model", "status", "told", "advice"),
    [
        ("hf.co/nobody/nothing", 404, "pull model manifest: file does not exist", "spelled right?"),
        ("hf.co/someone/SmolLM2-GGUF:Q8_0", 404, "hf.co/someone/SmolLM2-GGUF has no Q8_0", "There are: Q4_1."),
        (
            "hf.co/someone/SmolLM2-135M-Instruct",
            400,
            "hf.co/someone/SmolLM2-135M-Instruct has no GGUF file, but safetensors",
            "FROM hf.co/someone/SmolLM2-135M-Instruct",
        ),
    ],
)
def test_what_cannot_be_pulled_is_told_with_advice(
    puller: httpx2.Client, model: str, status: int, told: str, advice: str
) -> None:
    got = refusal(puller, model)
    assert got[:2] == (status, told)
    assert advice in got[2]
    assert pull(puller, model)[-1]["error"] == told


def test_a_gated_repository_opens_with_a_login(puller: httpx2.Client, hub: HubStandin, folder: Path) -> None:
    hub.add("someone/Gated", {"M-F16.gguf": b"GGUF" + b"new" * 1000}, gated=True)
    status, error, hint = refusal(puller, "hf.co/someone/Gated")
    assert (status, error) == (403, "access to hf.co/someone/Gated is restricted")
    assert "hf auth login" in hint
    login = folder / "home" / "token"
    login.write_text(TOKEN)
    try:
        # The file is fetched now, and turns out to be no model.
        assert refusal(puller, "hf.co/someone/Gated")[0] == 400
    finally:
        login.unlink()
    assert not any("authorization" in asked.headers for asked in hub.asked if asked.server == "storage")


def test_a_repository_of_safetensors_becomes_a_model(
    puller: httpx2.Client, folder: Path, blobs: Callable[[], set[str]]
) -> None:
    pull(puller, PULLED)
    before = blobs()
    given = {"model": "made", "from": "hf.co/someone/SmolLM2-135M-Instruct", "quantize": "q8_0", "system": "Be brief."}
    steps = lines(puller.post("/api/create", json=given))
    told = [step["status"] for step in steps]
    assert told[-1] == "success"
    assert told.index("pulling manifest") < told.index("converting model") < told.index("quantizing F16 model to Q8_0")
    assert len({step["digest"] for step in steps if step["status"].startswith("pulling ") and "digest" in step}) == 2
    assert show(puller, "made")["details"]["quantization_level"] == "Q8_0"
    assert puller.post("/api/generate", json={"model": "made", **SKY}).json()["response"]
    # What came of the hub was for the conversion only.
    layers = json.loads((folder / "models/manifests/registry.ollama.ai/library/made/latest").read_text())
    needed = {layer["digest"].replace(":", "-") for layer in (*layers["layers"], layers["config"])}
    assert blobs() == before | needed
    puller.request("DELETE", "/api/delete", json={"model": "made"})


def test_what_cannot_be_converted_is_refused_before_its_weights_come(puller: httpx2.Client, hub: HubStandin) -> None:
    config = json.dumps({"architectures": ["MambaForCausalLM"]})
    hub.add("someone/mamba", {"config.json": config, "model.safetensors": b"large", "tokenizer.json": "{}"})
    answer = puller.post("/api/create", json={"model": "made", "from": "hf.co/someone/mamba", "stream": False})
    assert answer.status_code == 400
    assert answer.json()["error"] == 'unsupported architecture "MambaForCausalLM"'
    assert "LlamaForCausalLM" in answer.json()["hint"]
    assert not [asked for asked in hub.asked if "/mamba/" in asked.path and asked.path.endswith(".safetensors")]


def test_a_model_is_made_from_a_gguf_of_the_hub(puller: httpx2.Client) -> None:
    given = {"model": "mine", "from": PULLED, "system": "You are a cook."}
    assert lines(puller.post("/api/create", json=given))[-1] == {"status": "success"}
    assert show(puller, "mine")["system"] == "You are a cook."
