from __future__ import annotations

import hashlib
import json
import struct

import pytest
from gguf_files import gguf_bytes
from http_calls import MODEL, OPTIONS, client, lines, until
from samples import SMOLLM2_SHA256

from ollama_nb import __version__

WEIGHTS = f"sha256:{SMOLLM2_SHA256}"
EMPTY_GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
EMPTY_GGUF_DIGEST = "sha256:a4e5e156ddec27e286f75328784d7106b60a4eb1d246e950a001a3f944fbda99"
NOBODY = "sha256:" + "0" * 64


def upload(bench, data):
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert bench.post(f"/api/blobs/{digest}", content=data).status_code in (200, 201)
    return digest


def create(bench, name, **fields):
    return bench.post("/api/create", json={"model": name, "stream": False, **fields})


def made(bench, name, **fields):
    """A model of one's own, made from the sample."""
    response = create(bench, name, **{"from": MODEL, **fields})
    assert response.json() == {"status": "success"}, response.text
    return bench.post("/api/show", json={"model": name}).json()


def names(bench):
    return [model["name"] for model in bench.get("/api/tags").json()["models"]]


def answer(bench, name, prompt="Hello!", **fields):
    options = {**OPTIONS, **fields.pop("options", {})}
    response = bench.post(
        "/api/generate", json={"model": name, "prompt": prompt, "stream": False, "options": options, **fields}
    )
    assert response.status_code == 200, response.text
    return response.json()


# -- what there is -----------------------------------------------------------------------------------------------------


def test_the_list_tells_what_ollamas_list_tells(api):
    response = api.get("/api/tags")
    (model,) = response.json()["models"]
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert "etag" not in response.headers
    assert list(model) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
    assert model["name"] == model["model"] == MODEL
    assert model["size"] > 98_000_000
    assert len(model["digest"]) == 64
    assert model["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.52M",
        "quantization_level": "Q4_1",
        "context_length": 8192,
        "embedding_length": 576,
    }


def test_an_empty_store_is_an_empty_list(tmp_path, start):
    (tmp_path / "models").mkdir()
    with start(tmp_path) as server, client(server.url) as calls:
        assert calls.get("/api/tags").content == b'{"models":[]}'
        assert calls.get("/api/ps").content == b'{"models":[]}'


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
def test_a_head_is_a_get_without_body(api, path):
    got, head = api.get(path), api.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


def test_the_root_says_that_ollama_is_running(api):
    response = api.get("/")
    assert (response.text, response.headers["content-type"]) == ("Ollama is running", "text/plain; charset=utf-8")


def test_the_version_is_the_packages(api):
    assert api.get("/api/version").content == json.dumps({"version": __version__}, separators=(",", ":")).encode()


def test_a_show_tells_what_ollamas_show_tells(api):
    shown = api.post("/api/show", json={"model": MODEL}).json()
    assert list(shown) == [
        "modelfile", "template", "details", "model_info", "tensors", "capabilities", "modified_at",
    ]  # fmt: skip
    assert shown["template"] == "{{ .Prompt }}"
    assert shown["capabilities"] == ["completion"]
    info = shown["model_info"]
    assert info["general.architecture"] == "llama"
    assert info["general.parameter_count"] == 134515008
    assert info["llama.context_length"] == 8192
    assert "tokenizer.chat_template" not in info
    assert "general.name" not in info
    assert info["tokenizer.ggml.tokens"] is None
    assert {"name": "token_embd.weight", "type": "Q8_0", "shape": [576, 49152]} in shown["tensors"]


def test_a_verbose_show_has_the_arrays(api):
    info = api.post("/api/show", json={"name": MODEL, "verbose": True}).json()["model_info"]
    assert len(info["tokenizer.ggml.tokens"]) == len(info["tokenizer.ggml.token_type"]) == 49152
    assert info["tokenizer.ggml.tokens"][:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def test_a_shown_system_can_be_overridden(bench):
    made(bench, "show-system", system="Be brief.")
    shown = bench.post("/api/show", json={"model": "show-system", "system": "Be long.", "options": {"top_k": 3}}).json()
    assert shown["system"] == "Be long."
    assert "SYSTEM Be long." in shown["modelfile"]
    assert "PARAMETER top_k 3" in shown["modelfile"]
    assert "parameters" not in shown


def test_what_is_loaded_is_told(bench):
    answer(bench, MODEL, keep_alive="7m")
    (model,) = bench.get("/api/ps").json()["models"]
    assert list(model) == [
        "name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length",
    ]  # fmt: skip
    assert (model["name"], model["model"], model["context_length"]) == (MODEL, MODEL, 512)
    assert model["digest"] in {entry["digest"] for entry in bench.get("/api/tags").json()["models"]}
    assert model["size"] > 98_000_000


# -- errors of these routes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (("POST", "/api/show", {}), 400, "model is required"),
        (("POST", "/api/show", {"model": "nope"}), 404, "model 'nope' not found"),
        (("POST", "/api/show", {"model": "a b"}), 404, "model 'a b' not found"),
        (("POST", "/api/show", {"model": "../../../etc/passwd"}), 404, "model '../../../etc/passwd' not found"),
        (("DELETE", "/api/delete", {}), 400, 'name "" is invalid'),
        (("DELETE", "/api/delete", {"model": "a b"}), 400, 'name "a b" is invalid'),
        (("DELETE", "/api/delete", {"name": "nope"}), 404, "model 'nope' not found"),
        (("POST", "/api/copy", {}), 400, 'source "" is invalid'),
        (("POST", "/api/copy", {"source": "a b", "destination": "c"}), 400, 'source "a b" is invalid'),
        (("POST", "/api/copy", {"source": MODEL, "destination": "../x"}), 400, 'destination "../x" is invalid'),
        (("POST", "/api/copy", {"source": "nope", "destination": "c"}), 404, 'model "nope" not found'),
        (("POST", "/api/create", {}), 400, "invalid model name"),
        (("POST", "/api/create", {"model": "a b", "from": MODEL}), 400, "invalid model name"),
        (("POST", "/api/create", {"model": "x", "from": "a b"}), 400, "invalid model name"),
        (("POST", "/api/create", {"model": "x"}), 400, "neither 'from' or 'files' was specified"),
        (("POST", "/api/create", {"model": "x", "path": "/etc"}), 400, "neither 'from' or 'files' was specified"),
        (("POST", "/api/create", {"model": "x", "files": {}}), 400, "unknown type"),
        (("POST", "/api/create", {"model": "x", "files": {"a.gguf": NOBODY}}), 400, f'blob "{NOBODY}" not found'),
        (("POST", "/api/create", {"model": "x", "files": {"a.gguf": "sha256:../../x"}}), 400, "invalid digest format"),
        (("POST", "/api/create", {"model": "x", "files": {"a.gguf": ""}}), 400, "invalid digest format"),
    ],
)
def test_a_refusal_has_ollamas_text_and_status(bench, call, status, text):
    method, path, body = call
    for stream in ({}, {"stream": False}):
        response = bench.request(method, path, json={**body, **stream})
        assert (response.status_code, response.json()["error"]) == (status, text)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "/nowhere", "../x.gguf", "a/../../b", "./a", "a//b", "", "C:\\a", "\\a"]
)
def test_file_paths_must_be_relative_whether_or_not_they_exist(bench, name):
    response = create(bench, "x", files={name: WEIGHTS})
    assert (response.status_code, response.json()["error"]) == (400, "file path must be relative")


# -- making ------------------------------------------------------------------------------------------------------------


def test_a_model_is_made_from_an_uploaded_file(bench):
    response = bench.post("/api/create", json={"model": "from-file", "files": {"model.gguf": WEIGHTS}})
    assert response.headers["content-type"] == "application/x-ndjson"
    first, second, *rest = lines(response)
    assert (first, second) == ({"status": "parsing GGUF"}, {"status": f"using existing layer {WEIGHTS}"})
    assert rest[-2:] == [{"status": "writing manifest"}, {"status": "success"}]
    assert "from-file:latest" in names(bench)
    assert answer(bench, "from-file")["response"] == answer(bench, MODEL)["response"]


def test_the_same_request_gives_the_digests_that_ollama_gives(bench, workshop_store):
    assert upload(bench, EMPTY_GGUF) == EMPTY_GGUF_DIGEST
    parameters = {"temperature": 1, "top_k": 10, "stop": ["USER:", "ASSISTANT:"]}
    response = create(bench, "golden", files={"test.gguf": EMPTY_GGUF_DIGEST}, parameters=parameters)
    assert response.json() == {"status": "success"}
    manifest = json.loads((workshop_store / "manifests/registry.ollama.ai/library/golden/latest").read_text())
    assert [layer["digest"] for layer in manifest["layers"]] == [
        EMPTY_GGUF_DIGEST,
        "sha256:1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37",
    ]
    create(bench, "golden", files={"test.gguf": EMPTY_GGUF_DIGEST})
    manifest = json.loads((workshop_store / "manifests/registry.ollama.ai/library/golden/latest").read_text())
    assert manifest["config"]["digest"] == "sha256:ca239d7bd8ea90e4a5d2e6bf88f8d74a47b14336e73eb4e18bed4dd325018116"
    assert not list(workshop_store.glob("blobs/sha256-1d0ad71299d4*"))
    bench.request("DELETE", "/api/delete", json={"model": "golden"})


def test_a_models_system_text_is_what_it_is_told(bench):
    shown = made(bench, "told", system="Reply with the single word no.")
    assert shown["system"] == "Reply with the single word no."
    told, asked = answer(bench, "told"), answer(bench, MODEL, system="Reply with the single word no.")
    assert told["response"] == asked["response"]
    assert answer(bench, "told", system="Be long.")["response"] == answer(bench, MODEL, system="Be long.")["response"]


def test_a_models_parameters_hold_until_a_request_says_otherwise(bench):
    shown = made(bench, "brief", parameters={"num_predict": 3, "temperature": 0, "stop": ["\0a", "\0b"]})
    assert shown["parameters"].splitlines() == [
        "num_predict                    3",
        'stop                           "\\x00a"',
        'stop                           "\\x00b"',
        "temperature                    0",
    ]
    request = {"model": "brief", "prompt": "Tell me a story.", "stream": False}
    assert bench.post("/api/generate", json=request).json()["eval_count"] == 3
    assert bench.post("/api/generate", json={**request, "options": {"num_predict": 5}}).json()["eval_count"] == 5


def test_a_models_messages_come_before_the_requests(bench):
    said = [{"role": "USER", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello Ada!"}]
    shown = made(bench, "history", messages=said)
    assert shown["messages"] == [{**said[0], "role": "user"}, said[1]]
    question = {"role": "user", "content": "What is my name?"}

    def chat(model, messages):
        body = {"model": model, "messages": messages, "stream": False, "options": OPTIONS}
        return bench.post("/api/chat", json=body).json()

    remembered, told = chat("history", [question]), chat(MODEL, [*said, question])
    assert remembered["message"] == told["message"]
    assert remembered["prompt_eval_count"] == told["prompt_eval_count"]


def test_licences_add_up_and_what_is_not_given_stays(bench):
    made(bench, "licensed", license="one", system="S", parameters={"top_k": 3})
    shown = made(bench, "licensed-2", **{"from": "licensed"}, license=["two", "three"], parameters={"top_p": 0.5})
    assert shown["license"] == "one\ntwo\nthree"
    assert shown["system"] == "S"
    assert shown["parameters"].split() == ["top_k", "3", "top_p", "0.5"]


def test_a_parameter_of_the_wrong_type_is_told_when_it_is_used(bench):
    made(bench, "wrong", parameters={"temperature": "hot"})
    response = bench.post("/api/generate", json={"model": "wrong", "prompt": "Hi"})
    assert (response.status_code, response.json()["error"]) == (500, 'option "temperature" must be of type float32')


def test_creating_over_a_name_replaces_the_model(bench):
    made(bench, "again", system="first")
    shown = made(bench, "again", system="second")
    assert shown["system"] == "second"
    assert names(bench).count("again:latest") == 1


def test_names_that_differ_by_case_are_one_model(bench):
    made(bench, "CamelCase")
    made(bench, "camelcase", system="S")
    assert [name for name in names(bench) if name.lower() == "camelcase:latest"] == ["CamelCase:latest"]
    assert bench.post("/api/show", json={"model": "CAMELCASE"}).json()["system"] == "S"


# -- files that lie ----------------------------------------------------------------------------------------------------

BROKEN = {
    "magic only": b"GGUF",
    "no GGUF": b"GGML" + bytes(64),
    "cut in the header": gguf_bytes({"general.architecture": "llama"})[:40],
    "more keys than bytes": b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60),
    "a tensor beyond the end": gguf_bytes({"general.architecture": "llama"}, [("w", "F32", (64, 64))])[:-64],
    "alignment zero": gguf_bytes({"general.alignment": 0}),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_makes_no_model_and_leaves_the_old_one(bench, data):
    made(bench, "survivor", system="old")
    digest = upload(bench, data)
    streamed = bench.post("/api/create", json={"model": "survivor", "files": {"model.gguf": digest}})
    *_, last = lines(streamed)
    assert last["status"] == 400
    assert last["error"]
    assert bench.head(f"/api/blobs/{digest}").status_code == 404  # what is no model is not kept either
    single = create(bench, "survivor", files={"model.gguf": upload(bench, data)})
    assert (single.status_code, single.json()["error"]) == (400, last["error"])
    assert bench.post("/api/show", json={"model": "survivor"}).json()["system"] == "old"
    assert answer(bench, "survivor")["done"] is True


def test_a_file_that_is_no_gguf_is_called_so(bench):
    response = create(bench, "x", files={"model.gguf": upload(bench, BROKEN["no GGUF"])})
    assert response.json()["error"] == "supplied file was not in GGUF format"
    assert create(bench, "x", files={"model": upload(bench, BROKEN["no GGUF"])}).json()["error"] == "unknown type"


def test_a_model_whose_template_does_not_parse_can_be_shown_and_asked_raw(bench, sample_gguf):
    data = sample_gguf.read_bytes().replace(b"{% for message in messages %}", b"{% far message in messages %}", 1)
    made(bench, "bad-template", **{"from": None}, files={"model.gguf": upload(bench, data)})
    assert bench.post("/api/show", json={"model": "bad-template"}).status_code == 200
    assert answer(bench, "bad-template", prompt="Once", raw=True)["eval_count"] == 8
    response = bench.post("/api/generate", json={"model": "bad-template", "prompt": "Hi"})
    assert response.status_code == 500
    assert response.json()["error"].startswith("template error: ")
    bench.request("DELETE", "/api/delete", json={"model": "bad-template"})


# -- copying and deleting ----------------------------------------------------------------------------------------------


def test_a_copy_is_a_model_of_its_own(bench):
    made(bench, "original", system="S")
    response = bench.post("/api/copy", json={"source": "original", "destination": "ns/copy:v1"})
    assert (response.status_code, response.content) == (200, b"")
    by_name = {model["name"]: model for model in bench.get("/api/tags").json()["models"]}
    assert by_name["ns/copy:v1"]["digest"] == by_name["original:latest"]["digest"]
    response = bench.request("DELETE", "/api/delete", json={"model": "original"})
    assert (response.status_code, response.content) == (200, b"")
    assert "original:latest" not in names(bench)
    assert bench.post("/api/show", json={"model": "ns/copy:v1"}).json()["system"] == "S"
    assert answer(bench, "ns/copy:v1")["done"] is True


def test_a_copy_replaces_what_has_its_name(bench):
    made(bench, "one", system="1")
    made(bench, "two", system="2")
    for _ in range(2):
        assert bench.post("/api/copy", json={"source": "one", "destination": "two"}).status_code == 200
    assert bench.post("/api/show", json={"model": "two"}).json()["system"] == "1"


def test_deleting_takes_the_blobs_that_nobody_else_needs(bench, workshop_store):
    digest = upload(bench, gguf_bytes({"general.architecture": "llama", "general.name": "lonely"}))
    made(bench, "lonely", **{"from": None}, files={"model.gguf": digest})
    bench.post("/api/copy", json={"source": "lonely", "destination": "lonelier"})
    blob = workshop_store / "blobs" / digest.replace(":", "-")
    bench.request("DELETE", "/api/delete", json={"model": "lonely"})
    assert blob.exists()
    bench.request("DELETE", "/api/delete", json={"model": "lonelier"})
    assert not blob.exists()


def test_a_deleted_model_that_was_loaded_is_unloaded(bench):
    made(bench, "shortlived", parameters={"num_ctx": 256})
    answer(bench, "shortlived")
    assert [model["name"] for model in bench.get("/api/ps").json()["models"]] == ["shortlived:latest"]
    bench.request("DELETE", "/api/delete", json={"model": "shortlived"})
    until(lambda: not bench.get("/api/ps").json()["models"], "the deleted model to be unloaded")
    assert answer(bench, MODEL)["done"] is True


def test_a_model_that_lost_a_blob_is_not_there_but_can_be_deleted(bench, workshop_store):
    digest = upload(bench, gguf_bytes({"general.architecture": "llama", "general.name": "crumbling"}))
    made(bench, "crumbling", **{"from": None}, files={"model.gguf": digest})
    (workshop_store / "blobs" / digest.replace(":", "-")).unlink()
    response = bench.post("/api/generate", json={"model": "crumbling", "prompt": "Hi"})
    assert (response.status_code, response.json()["error"]) == (404, "model 'crumbling' not found")
    assert bench.request("DELETE", "/api/delete", json={"model": "crumbling"}).status_code == 200
    assert "crumbling:latest" not in names(bench)


def test_a_damaged_manifest_hides_one_model_and_stops_nothing(bench, workshop_store):
    made(bench, "damaged", parameters={"num_ctx": 256})
    answer(bench, "damaged")
    path = workshop_store / "manifests/registry.ollama.ai/library/damaged/latest"
    path.write_bytes(b"{")
    assert "damaged:latest" not in names(bench)
    assert bench.get("/api/ps").status_code == 200
    assert bench.post("/api/show", json={"model": "damaged"}).status_code == 500
    assert bench.request("DELETE", "/api/delete", json={"model": "damaged"}).status_code == 200
    assert not path.exists()
    assert answer(bench, MODEL)["done"] is True
