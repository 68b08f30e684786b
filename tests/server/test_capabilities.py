"""What a model can do is told by its files and its template, on ``/api/show`` and ``/api/tags`` alike."""

from __future__ import annotations

import pytest
from http_calls import MODEL
from templates import CHATML, INSERT, THINKING, TOOLS

ABILITIES = {
    "able-chat": (CHATML, ["completion"]),
    "able-tools": (TOOLS, ["completion", "tools"]),
    "able-thinking": (THINKING, ["completion", "thinking"]),
    "able-insert": (INSERT, ["completion", "insert"]),
    "able-all": (TOOLS + "{{ .Suffix }}" + THINKING, ["completion", "tools", "insert", "thinking"]),
}


@pytest.mark.parametrize("name", ABILITIES)
def test_a_template_adds_what_it_can(bench, name):
    template, capabilities = ABILITIES[name]
    made = bench.post("/api/create", json={"model": name, "from": MODEL, "template": template, "stream": False})
    assert made.json() == {"status": "success"}
    shown = bench.post("/api/show", json={"model": name}).json()
    assert (shown["capabilities"], shown["template"]) == (capabilities, template)
    listed = {model["name"]: model["capabilities"] for model in bench.get("/api/tags").json()["models"]}
    assert listed[f"{name}:latest"] == capabilities


def test_a_model_without_a_template_completes(bench):
    assert bench.post("/api/show", json={"model": MODEL}).json()["capabilities"] == ["completion"]


def test_a_template_with_a_suffix_fills_in_between(bench, unloaded):
    bench.post("/api/create", json={"model": "able-insert", "from": MODEL, "template": INSERT, "stream": False})
    options = {"num_predict": 4, "temperature": 0, "num_thread": 1}
    body = {"model": "able-insert", "prompt": "def add(a, b):", "suffix": "return c", "options": options}
    filled = bench.post("/api/generate", json={**body, "stream": False}).json()
    prompt = "<fim_prefix>def add(a, b):<fim_suffix>return c<fim_middle>"
    raw = bench.post(
        "/api/generate", json={"model": MODEL, "prompt": prompt, "raw": True, "stream": False, "options": options}
    ).json()
    assert (filled["response"], filled["prompt_eval_count"]) == (raw["response"], raw["prompt_eval_count"])
    unloaded(MODEL)
