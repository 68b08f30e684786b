"""What the fields of a request make of the prompt, seen by ``_debug_render_only``, which computes nothing."""

from __future__ import annotations

import base64
import hashlib

import pytest
from http_calls import MODEL
from templates import INSERT, THINKING, TOOLS
from vision_files import picture, write_llava

OPTIONS = {"num_thread": 1}
ECHO = "[{{ .System }}|{{ .Prompt }}|{{ .Response }}]"
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather", "parameters": {}}}
CALL = {"id": "call_1", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
MODELS = {
    "prompt-echo": {"template": ECHO, "system": "own"},
    "prompt-tools": {"template": TOOLS},
    "prompt-thinker": {"template": THINKING},
    "prompt-insert": {"template": INSERT},
    "prompt-numbered": {
        "template": "{{ range .Messages }}{{ range .ToolCalls }}{{ .ID }}/{{ .Function.Index }};{{ end }}{{ end }}"
    },
    "prompt-named": {
        "template": "{{ range .Messages }}{{ .Role }}:{{ .ToolName }}:{{ .ToolCallID }}:{{ .Content }};{{ end }}"
    },
}


@pytest.fixture(scope="module")
def models(bench, unloaded):
    for name, fields in MODELS.items():
        made = bench.post("/api/create", json={"model": name, "from": MODEL, "stream": False, **fields})
        assert made.json() == {"status": "success"}
    yield bench
    unloaded(MODEL)
    for name in MODELS:
        bench.request("DELETE", "/api/delete", json={"model": name})


@pytest.fixture
def generated(models):
    """The prompt of a generate."""

    def render(model="prompt-echo", prompt="Hi", **fields):
        body = {"model": model, "prompt": prompt, "options": OPTIONS, "_debug_render_only": True, **fields}
        response = models.post("/api/generate", json=body)
        assert response.status_code == 200, response.text
        return response.json()["_debug_info"]["rendered_template"]

    return render


@pytest.fixture
def chatted(models):
    """The prompt of a chat."""

    def render(*messages, model="prompt-tools", **fields):
        body = {"model": model, "messages": messages, "options": OPTIONS, "_debug_render_only": True, **fields}
        response = models.post("/api/chat", json=body)
        assert response.status_code == 200, response.text
        return response.json()["_debug_info"]["rendered_template"]

    return render


@pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": False}], ids=repr)
def test_a_rendered_generate_is_one_object_without_counts(models, stream):
    body = {"model": "prompt-echo", "prompt": "Hi", "options": OPTIONS, "_debug_render_only": True, **stream}
    response = models.post("/api/generate", json=body)
    answer = response.json()
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert list(answer) == ["model", "created_at", "response", "done", "_debug_info"]
    assert (answer["response"], answer["done"]) == ("", False)
    assert answer["_debug_info"] == {"rendered_template": "[own|Hi|"}


@pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": False}], ids=repr)
def test_a_rendered_chat_is_one_object_without_counts(models, stream):
    body = {"model": "prompt-echo", "messages": [{"role": "user", "content": "Hi"}], "options": OPTIONS}
    answer = models.post("/api/chat", json={**body, "_debug_render_only": True, **stream}).json()
    assert list(answer) == ["model", "created_at", "message", "done", "_debug_info"]
    assert answer["message"] == {"role": "assistant", "content": ""}
    assert answer["_debug_info"] == {"rendered_template": "[own|Hi|"}


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, "[own|Hi|"),
        ({"prompt": "Bye"}, "[own|Bye|"),
        ({"system": "other"}, "[other|Hi|"),
        ({"template": "<{{ .Prompt }}>"}, "<Hi>"),
        ({"template": "<{{ .System }}>", "system": "S"}, "<S>"),
        ({"raw": True}, "Hi"),
        ({"raw": True, "prompt": "<|im_start|>"}, "<|im_start|>"),
        ({"images": []}, "[own|Hi|"),
    ],
    ids=repr,
)
def test_a_generate_has_the_prompt_that_its_fields_say(generated, fields, prompt):
    assert generated(**fields) == prompt


def test_a_suffix_stands_behind_the_place_to_fill(generated):
    prompt = generated("prompt-insert", "def f():", suffix="return 1")
    assert prompt == "<fim_prefix>def f():<fim_suffix>return 1<fim_middle>"
    assert generated("prompt-insert", "def f():").startswith("<|im_start|>user")


def test_a_context_stands_before_the_prompt(models, generated):
    tokens = models.post(
        "/api/generate",
        json={"model": MODEL, "prompt": "x", "stream": False, "options": {**OPTIONS, "num_predict": 1}},
    ).json()["context"]
    assert generated(context=tokens).endswith("[own|Hi|")
    assert len(generated(context=tokens)) > len(generated())
    assert generated(context=None) == generated()


@pytest.mark.parametrize(("think", "opened"), [(True, True), ("high", True), (False, False), (None, False)], ids=repr)
def test_thinking_is_opened_in_the_prompt(generated, chatted, think, opened):
    asked = {"role": "user", "content": "Why?"}
    assert generated("prompt-thinker", "Why?", think=think).endswith("<think>\n") == opened
    assert chatted(asked, model="prompt-thinker", think=think).endswith("<think>\n") == opened


def test_messages_have_roles_and_contents(chatted):
    prompt = chatted(
        {"role": "system", "content": "Be brief."},
        {"role": "USER", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Bye"},
    )
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_what_an_answer_thought_goes_back_to_the_model(chatted):
    history = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So.", "thinking": "Let me see."}]
    prompt = chatted(*history, {"role": "user", "content": "And?"}, model="prompt-thinker")
    assert "<think>\nLet me see.\n</think>\nSo." in prompt


def test_tools_calls_and_results_are_in_the_prompt(chatted):
    prompt = chatted(
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
        tools=[WEATHER],
    )
    assert '"name":"get_weather"' in prompt
    assert '"description":"The weather"' in prompt
    assert '{"name": "get_weather", "arguments": {"city":"Oslo"}}' in prompt
    assert "<tool_response>\nsunny\n</tool_response>" in prompt


def test_calls_keep_their_ids_and_numbers(chatted):
    second = {"id": "call_2", "function": {**CALL["function"], "index": 1}}
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL, second]}
    assert chatted({"role": "user", "content": "?"}, calls, model="prompt-numbered") == "call_1/0;call_2/1;"


def test_a_result_says_whose_it_is(chatted):
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    result = {"role": "tool", "content": "sunny", "tool_name": "get_weather", "tool_call_id": "call_1"}
    prompt = chatted({"role": "user", "content": "?"}, calls, result, model="prompt-named")
    assert "tool:get_weather:call_1:sunny;" in prompt


def test_no_tool_is_in_the_prompt_when_none_may_be_chosen(chatted):
    asked = {"role": "user", "content": "Weather?"}
    assert "get_weather" not in chatted(asked, tools=[WEATHER], tool_choice="none")
    assert "get_weather" in chatted(asked, tools=[WEATHER], tool_choice="auto")


def test_a_demanded_call_is_opened_in_the_prompt(chatted):
    asked = {"role": "user", "content": "Weather?"}
    opened = chatted(asked, tools=[WEATHER], tool_choice="required")
    assert opened.startswith(chatted(asked, tools=[WEATHER]))
    assert opened.rstrip().endswith("<tool_call>")


@pytest.fixture(scope="module")
def seer(models, unloaded, tmp_path_factory):
    """A tiny model that sees, the only one that is loaded."""
    unloaded(MODEL)
    files = {}
    for path in write_llava(tmp_path_factory.mktemp("llava")):
        data = path.read_bytes()
        files[path.name] = f"sha256:{hashlib.sha256(data).hexdigest()}"
        models.post(f"/api/blobs/{files[path.name]}", content=data)
    made = models.post("/api/create", json={"model": "seer", "files": files, "template": ECHO, "stream": False})
    assert made.json() == {"status": "success"}
    yield "seer"
    models.request("DELETE", "/api/delete", json={"model": "seer"})


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_images_are_tags_in_the_prompt_and_counted(models, unloaded, seer, path):
    images = [base64.b64encode(picture(colour)).decode() for colour in ("red", "blue")]
    asked = {"prompt": "what?", "images": images}
    if path == "/api/chat":
        asked = {"messages": [{"role": "user", "content": "what?", "images": images}]}
    told = models.post(path, json={"model": seer, "options": OPTIONS, "_debug_render_only": True, **asked}).json()
    assert told["_debug_info"]["image_count"] == 2
    assert "[img-0]" in told["_debug_info"]["rendered_template"]
    assert "[img-1]" in told["_debug_info"]["rendered_template"]
    unloaded(seer)
