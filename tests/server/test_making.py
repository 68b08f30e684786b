"""Fields of create, list, ps, copy and delete that the other tests have no reason to speak of."""

from __future__ import annotations

import hashlib
import os

import pytest
from gguf_files import gguf_bytes
from http_calls import MODEL, OPTIONS, lines
from samples import SMOLLM2_SHA256

WEIGHTS = {"model.gguf": f"sha256:{SMOLLM2_SHA256}"}


@pytest.fixture
def make(bench):
    """Creates a model, which is gone again after the test; gives the answer."""
    made = []

    def run(name, key="model", **fields):
        made.append(name)
        return bench.post("/api/create", json={key: name, **fields})

    yield run
    for name in made:
        bench.request("DELETE", "/api/delete", json={"model": name})


def shown(bench, name):
    return bench.post("/api/show", json={"model": name}).json()


# -- create ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["model", "name"])
def test_a_new_model_is_named_by_either_field(bench, make, key):
    assert lines(make("named", key, **{"from": MODEL}))[-1] == {"status": "success"}
    assert shown(bench, "named")["template"] == "{{ .Prompt }}"


@pytest.mark.parametrize(("stream", "kind"), [({}, "application/x-ndjson"), ({"stream": False}, "application/json")])
def test_a_create_tells_every_step_or_the_last_one(make, stream, kind):
    response = make("steps", **{"from": MODEL}, system="S", **stream)
    assert response.headers["content-type"].startswith(kind)
    steps = [line["status"] for line in lines(response)]
    assert steps[-1] == "success"
    assert len(steps) == 1 if stream else "writing manifest" in steps
    assert all(list(line) == ["status"] for line in lines(response))


@pytest.mark.parametrize(
    ("given", "told"), [("one", "one"), (["one"], "one"), (["one", "two"], "one\ntwo"), ("", None), ([], None)]
)
def test_a_licence_is_a_text_or_several(bench, make, given, told):
    make("licence", **{"from": MODEL}, license=given)
    assert shown(bench, "licence").get("license") == told


def test_an_adapter_is_part_of_the_model(bench, make):
    """The adapter is a small file that is never loaded."""
    keys = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    pair = [("blk.0.attn_q.weight.lora_a", "F32", (576, 2)), ("blk.0.attn_q.weight.lora_b", "F32", (2, 576))]
    data = gguf_bytes(keys, pair)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    bench.post(f"/api/blobs/{digest}", content=data)
    assert lines(make("adapted", **{"from": MODEL}, adapters={"lora.gguf": digest}))[-1] == {"status": "success"}
    assert f"ADAPTER {os.sep}" in shown(bench, "adapted")["modelfile"]
    assert digest.replace(":", "-") in shown(bench, "adapted")["modelfile"]
    refused = make("adapted", **{"from": MODEL}, adapters=WEIGHTS, stream=False)
    assert refused.status_code == 400


def test_files_are_what_a_model_without_a_parent_is_made_of(bench, make):
    make("filed", files=WEIGHTS)
    assert shown(bench, "filed")["details"]["parent_model"] == ""
    assert shown(bench, "filed")["model_info"]["general.parameter_count"] == 134515008


# -- what there is -----------------------------------------------------------------------------------------------------


def test_the_list_has_digest_size_and_age_of_every_model_the_newest_first(bench, make, workshop_store):
    for name, age in (("aged-1", 3), ("aged-2", 1), ("aged-3", 2)):
        make(name, **{"from": MODEL}, system=name)
        manifest = workshop_store / f"manifests/registry.ollama.ai/library/{name}/latest"
        os.utime(manifest, (1_600_000_000 - age, 1_600_000_000 - age))
    listed = bench.get("/api/tags").json()["models"]
    assert [model["name"] for model in listed if model["name"].startswith("aged")] == [
        "aged-2:latest", "aged-3:latest", "aged-1:latest",
    ]  # fmt: skip
    for model in listed[-3:]:
        name = model["name"].partition(":")[0]
        data = (workshop_store / f"manifests/registry.ollama.ai/library/{name}/latest").read_bytes()
        assert model["digest"] == hashlib.sha256(data).hexdigest()
        assert model["modified_at"].startswith("2020-09-1")
    sizes = {model["name"]: model["size"] for model in listed}
    assert sizes["aged-1:latest"] > sizes[MODEL] > 98_000_000


def test_what_is_loaded_is_told_with_the_time_that_it_has_left(bench):
    body = {"model": MODEL, "options": OPTIONS}
    expiry = []
    for keep_alive in ("2m", "20m", 3600):
        bench.post("/api/generate", json={**body, "keep_alive": keep_alive})
        (model,) = bench.get("/api/ps").json()["models"]
        expiry.append(model["expires_at"])
    assert expiry == sorted(expiry)
    assert len(set(expiry)) == 3
    (listed,) = [entry for entry in bench.get("/api/tags").json()["models"] if entry["name"] == MODEL]
    assert model["digest"] == listed["digest"]
    assert model["details"] == {
        key: value for key, value in listed["details"].items() if key not in ("context_length", "embedding_length")
    }
    assert (model["size_vram"], model["context_length"]) == (0, 512)
    assert model["size"] > listed["size"]


# -- delete ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"model": "gone"}, {"name": "gone"}, {"model": "gone", "name": MODEL}], ids=repr)
def test_a_model_is_deleted_by_either_field(bench, make, fields):
    make("gone", **{"from": MODEL})
    assert bench.request("DELETE", "/api/delete", json=fields).status_code == 200
    assert bench.post("/api/show", json={"model": "gone"}).status_code == 404
    assert bench.post("/api/show", json={"model": MODEL}).status_code == 200


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (("POST", "/api/copy", {"source": 'a"b', "destination": "c"}), r'source "a\"b" is invalid'),
        (("POST", "/api/copy", {"source": MODEL, "destination": "a\nb"}), r'destination "a\nb" is invalid'),
        (("DELETE", "/api/delete", {"model": "a\\b"}), r'name "a\\b" is invalid'),
    ],
)
def test_a_name_that_is_none_is_quoted_as_go_quotes_it(bench, call, text):
    method, path, body = call
    response = bench.request(method, path, json=body)
    assert (response.status_code, response.json()) == (400, {"error": text})
