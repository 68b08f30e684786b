"""Templates of new models: found by the chat template of a GGUF file, or given."""

from __future__ import annotations

import hashlib
import json

import pytest
from gguf_files import gguf_bytes
from http_calls import MODEL, OPTIONS, lines
from samples import SMOLLM2_SHA256

WEIGHTS = {"model.gguf": f"sha256:{SMOLLM2_SHA256}"}
SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CHATML_STOP = ["<|im_start|>", "<|im_end|>"]
CHATML_PARAMS = "sha256-f02dd72bb2423204352eabc5637b44d79d17f109fdb510a7c51455892aa2d216"
"""The layer that models of Ollama's library with these stop texts have."""

ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def small_gguf(chat_template):
    """A file without weights whose tokens are ``<s>`` and ``</s>``."""
    return gguf_bytes(
        {
            "general.architecture": "llama",
            "tokenizer.chat_template": chat_template,
            "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
        }
    )


@pytest.fixture
def make(bench):
    """Makes a model, which is gone again after the test; gives the lines of the answer."""
    made = []

    def run(name, **fields):
        made.append(name)
        return lines(bench.post("/api/create", json={"model": name, **fields}))

    yield run
    for name in made:
        bench.request("DELETE", "/api/delete", json={"model": name})


@pytest.fixture
def uploaded(bench):
    """Sends a file whose chat template is given; what ``files`` of a create is then."""

    def run(chat_template):
        data = small_gguf(chat_template)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert bench.post(f"/api/blobs/{digest}", content=data).status_code in (200, 201)
        return {"model.gguf": digest}

    return run


@pytest.fixture
def layers(workshop_store):
    """The layers of a model: kinds and contents, in order."""

    def run(name):
        path = workshop_store / "manifests/registry.ollama.ai/library" / name / "latest"
        found = json.loads(path.read_text())["layers"]
        return {
            layer["mediaType"].rpartition(".")[2]: workshop_store / "blobs" / layer["digest"].replace(":", "-")
            for layer in found
        }

    return run


def shown(bench, name):
    response = bench.post("/api/show", json={"model": name})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_known_chat_template_becomes_a_template_with_stop_texts(make, layers, uploaded):
    *steps, last = make("known", files=uploaded(ZEPHYR))
    found = layers("known")
    assert list(found) == ["model", "template", "params"]
    assert [step["status"].split(" sha256")[0] for step in steps] == [
        "parsing GGUF",
        "using existing layer",
        "using autodetected template zephyr",
        "creating new layer",
        "writing manifest",
    ]
    assert last == {"status": "success"}
    assert found["template"].read_text().startswith("{{- range .Messages }}<|{{ .Role }}|>\n")
    assert json.loads(found["params"].read_text()) == {"stop": ["<|system|>", "</s>", "<|user|>", "<|assistant|>"]}


def test_a_known_template_answers_as_the_models_own_does(bench, make, layers):
    steps = make("sample", files=WEIGHTS)
    assert {"status": "using autodetected template chatml"} in steps
    assert list(layers("sample")) == ["model", "template", "system", "params"]
    assert shown(bench, "sample")["system"] == SMOLLM2_SYSTEM
    question = {"messages": [{"role": "user", "content": "Hello!"}], "stream": False, "options": OPTIONS}
    ours, own = (bench.post("/api/chat", json={"model": name, **question}).json() for name in ("sample", MODEL))
    assert ours["message"] == own["message"]
    assert ours["prompt_eval_count"] == own["prompt_eval_count"]


@pytest.mark.parametrize(
    "chat_template",
    ["{{ messages[0].content }}", "{% for", "{% if tools %}{{ tools }}{% endif %}" + ZEPHYR, "{{ 'x' * 10 ** 9 }}"],
    ids=["another", "broken", "tools", "hostile"],
)
def test_any_other_chat_template_stays_what_it_is(make, layers, uploaded, chat_template):
    *steps, last = make("other", files=uploaded(chat_template))
    assert last == {"status": "success"}
    assert not [step for step in steps if "autodetected" in step["status"]]
    assert list(layers("other")) == ["model"]


def test_a_model_of_a_model_is_not_looked_at_again(bench, make, layers):
    steps = make("derived", **{"from": MODEL})
    assert not [step for step in steps if "autodetected" in step["status"]]
    assert list(layers("derived")) == ["model"]
    make("first", files=WEIGHTS)
    make("second", **{"from": "first"}, system="Be brief.")
    assert list(layers("second")) == ["model", "template", "system", "params"]
    assert shown(bench, "second")["template"] == shown(bench, "first")["template"]
    assert shown(bench, "second")["system"] == "Be brief."


def test_a_given_template_takes_the_place_of_the_known_one(bench, make, layers):
    steps = make("given", files=WEIGHTS, template="Q: {{ .Prompt }}\nA: ")
    assert not [step for step in steps if "autodetected" in step["status"]]
    assert layers("given")["template"].read_text() == "Q: {{ .Prompt }}\nA: "
    assert layers("given")["params"].name == CHATML_PARAMS
    assert "system" not in shown(bench, "given"), "the text belongs to the template that is not used"


def test_a_given_template_drives_the_model(bench, make):
    make("driven", **{"from": MODEL}, template="Once upon{{ .Prompt }}")
    assert shown(bench, "driven")["template"] == "Once upon{{ .Prompt }}"
    request = {"prompt": " a time", "stream": False, "options": OPTIONS}
    driven = bench.post("/api/generate", json={"model": "driven", **request}).json()
    raw = {**request, "prompt": "Once upon a time", "raw": True}
    assert driven["response"] == bench.post("/api/generate", json={"model": MODEL, **raw}).json()["response"]


def test_the_requests_parameters_go_over_those_of_the_known_template(make, layers):
    make("merged", files=WEIGHTS, parameters={"temperature": 0, "top_k": None})
    assert json.loads(layers("merged")["params"].read_text()) == {"stop": CHATML_STOP, "temperature": 0}
    make("merged", files=WEIGHTS, parameters={"stop": ["###"]})
    assert json.loads(layers("merged")["params"].read_text()) == {"stop": ["###"]}


def test_a_given_system_text_goes_over_that_of_the_chat_template(bench, make):
    make("told", files=WEIGHTS, system="Be brief.")
    assert shown(bench, "told")["system"] == "Be brief."


@pytest.mark.parametrize(
    "template", ["{{ .Prompt", "{{ if }}", "{{ end }}", "{{ nonsense }}", "{{ .Prompt }}{{ range }}"]
)
def test_a_template_that_does_not_parse_is_refused_before_anything_is_made(bench, make, template):
    for source in ({"from": MODEL}, {"files": WEIGHTS}):
        for stream in (True, False):
            body = {"model": "broken", **source, "template": template, "stream": stream}
            response = bench.post("/api/create", json=body)
            assert response.status_code == 400
            assert response.json()["error"].startswith("template error: ")
    assert bench.post("/api/show", json={"model": "broken"}).status_code == 404
