"""Models with LoRA adapters, from the files to the answer: GGUF and safetensors, several, and those that do not fit."""

from __future__ import annotations

import hashlib

import pytest
from gguf_files import gguf_bytes
from http_calls import MODEL, OPTIONS, lines
from lora_files import KEYS, WIDTH, lora_folder, lora_gguf, pair
from samples import SMOLLM2_SHA256

QUESTION = "Why is the sky blue?"
QUERY = "blk.0.attn_q.weight"


@pytest.fixture(scope="module")
def made(bench):
    """Creates models that are gone when the module is done: ``made(name, **fields)`` gives the answer."""
    names = []

    def run(name, **fields):
        names.append(name)
        return bench.post("/api/create", json={"model": name, "from": MODEL, **fields})

    yield run
    for name in names:
        bench.request("DELETE", "/api/delete", json={"model": name})


@pytest.fixture(scope="module")
def upload(bench):
    """Uploads files: ``upload(files)`` gives their digests by name."""

    def send(files):
        digests = {name: f"sha256:{hashlib.sha256(data).hexdigest()}" for name, data in files.items()}
        for name, digest in digests.items():
            assert bench.post(f"/api/blobs/{digest}", content=files[name]).status_code in {200, 201}
        return digests

    return send


@pytest.fixture
def answer(bench, unloaded):
    """Asks a model, which is let go of afterwards: all names of one file share its process."""
    asked = set()

    def ask(model):
        asked.add(model)
        body = {"model": model, "prompt": QUESTION, "stream": False, "options": OPTIONS}
        response = bench.post("/api/generate", json=body)
        assert response.status_code == 200, response.text
        return response.json()["response"]

    yield ask
    for model in asked:
        unloaded(model)


@pytest.fixture(scope="module")
def adapted(made, upload):
    """A model with the adapter as a GGUF file."""
    response = made("adapted", adapters=upload({"lora.gguf": lora_gguf()}))
    assert lines(response)[-1] == {"status": "success"}
    return "adapted"


def test_an_adapter_changes_the_answers_of_its_model_and_of_no_other(answer, adapted):
    plain = answer(MODEL)
    changed = answer(adapted)
    assert changed != plain
    assert answer(MODEL) == plain
    assert answer(adapted) == changed


def test_an_adapter_of_safetensors_gives_the_same_answers_as_that_of_gguf(answer, adapted, made, upload):
    response = made("converted-lora", adapters=upload(lora_folder()))
    steps = [line["status"] for line in lines(response)]
    assert "converting adapter" in steps
    assert steps[-1] == "success"
    assert answer("converted-lora") == answer(adapted)


def test_a_model_with_an_adapter_can_be_given_another(answer, adapted, made, upload):
    """What the second one takes back is what the first one has added, but for rounding."""
    response = made("twice", **{"from": adapted}, adapters=upload({"back.gguf": lora_gguf(-1)}))
    assert lines(response)[-1] == {"status": "success"}
    begins = answer("twice").split()[:3]
    assert begins == answer(MODEL).split()[:3]
    assert begins != answer(adapted).split()[:3]


def test_the_modelfile_names_the_adapter(bench, adapted):
    digest = hashlib.sha256(lora_gguf()).hexdigest()
    modelfile = bench.post("/api/show", json={"model": adapted}).json()["modelfile"]
    (line,) = [line for line in modelfile.splitlines() if line.startswith("ADAPTER ")]
    assert line.endswith(f"sha256-{digest}")


@pytest.mark.parametrize(
    ("keys", "tensors", "told"),
    [
        ({"general.architecture": "gemma2"}, pair(QUERY, WIDTH, WIDTH), 'architecture "gemma2", the model is "llama"'),
        ({}, pair("blk.30.attn_q.weight", WIDTH, WIDTH), 'changes "blk.30.attn_q.weight", which the model does not'),
        ({}, pair(QUERY, WIDTH, 640), f'lora_b" has the shape [4, 640], which does not fit to "{QUERY}"'),
        ({}, [], "the adapter has no LoRA tensors"),
    ],
    ids=["architecture", "layers", "shape", "nothing"],
)
def test_an_adapter_that_does_not_fit_is_refused_when_the_model_is_made(made, upload, keys, tensors, told):
    files = upload({"lora.gguf": gguf_bytes({**KEYS, **keys}, tensors)})
    refused = made("unfit", adapters=files, stream=False)
    assert refused.status_code == 400
    assert told in refused.json()["error"]


def test_nothing_comes_of_a_model_whose_adapter_is_refused(bench, made, upload):
    made("unfit", adapters=upload({"lora.gguf": gguf_bytes(KEYS, pair(QUERY, WIDTH, 640))}))
    assert bench.post("/api/show", json={"model": "unfit"}).status_code == 404


def test_an_adapter_s_config_that_means_more_than_a_lora_is_refused(made, upload):
    files = lora_folder()
    files["adapter_config.json"] = files["adapter_config.json"].replace(b'"LORA"', b'"LOHA"')
    refused = made("unfit", adapters=upload(files), stream=False)
    assert refused.status_code == 400
    assert refused.json()["error"] == "an adapter of the kind 'LOHA' cannot be converted; only LoRA can"


def test_a_model_is_no_adapter(made):
    refused = made("unfit", adapters={"model.gguf": f"sha256:{SMOLLM2_SHA256}"}, stream=False)
    assert refused.status_code == 400
    assert refused.json()["error"] == "model.gguf is no adapter but a model"
