"""``/v1/chat/completions`` on a real server, over plain HTTP."""

from __future__ import annotations

import json
from contextlib import closing

import psutil
import pytest
from http_calls import MODEL, client, complaints, send
from templates import THINKING, TOOLS
from weather import OTHER_TOOL, TOOL

PATH = "/v1/chat/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "temperature": 0, "max_tokens": 6}


def ask(calls, **fields):
    return calls.post(PATH, json={**ASKED, **fields})


def events(response):
    """The data of a stream's events; the last one says that it is complete."""
    assert response.headers["content-type"] == "text/event-stream"
    parts = response.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    assert all(part.startswith("data: ") for part in parts[:-1])
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def said(chunks, index=0):
    return "".join(
        choice["delta"].get("content", "")
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )


# -- answers -----------------------------------------------------------------------------------------------------------


def test_an_answer_is_the_native_one_in_openais_shape(api):
    response = ask(api)
    # OpenAI's API has no word for threads, and another number of them would load the model anew.
    options = {"temperature": 0, "top_p": 1, "num_predict": 6}
    body = {"model": MODEL, "messages": ASKED["messages"], "stream": False, "options": options}
    native = api.post("/api/chat", json=body).json()
    answer = response.json()
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert list(answer) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"], answer["system_fingerprint"]) == ("chat.completion", MODEL, "fp_ollama")
    assert answer["choices"] == [{"index": 0, "message": native["message"], "finish_reason": "length"}]
    counts = (native["prompt_eval_count"], native["eval_count"])
    assert answer["usage"] == {
        "prompt_tokens": counts[0],
        "completion_tokens": counts[1],
        "total_tokens": sum(counts),
    }


def test_a_stream_is_the_answer_in_pieces(api):
    whole = ask(api).json()
    chunks = events(ask(api, stream=True))
    assert said(chunks) == whole["choices"][0]["message"]["content"]
    assert all(list(chunk) == ["id", "object", "created", "model", "system_fingerprint", "choices"] for chunk in chunks)
    assert {(chunk["object"], chunk["model"]) for chunk in chunks} == {("chat.completion.chunk", MODEL)}
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    (first, *middle, last) = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"]["role"] == "assistant"
    assert all(list(choice["delta"]) == ["content"] and choice["finish_reason"] is None for choice in middle)
    assert last == {"index": 0, "delta": {}, "finish_reason": "length"}


def test_the_usage_comes_at_the_end_of_a_stream_where_it_is_wanted(api):
    *chunks, last = events(ask(api, stream=True, stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"]) == ([], ask(api).json()["usage"])


def test_ids_are_not_used_twice(api):
    assert ask(api, max_tokens=1).json()["id"] != ask(api, max_tokens=1).json()["id"]


def test_a_stop_text_ends_the_answer(api):
    text = ask(api).json()["choices"][0]["message"]["content"]
    for stop in (text[-2], [text[-2]]):
        choice = ask(api, stop=stop).json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert choice["message"]["content"] == text[: text.index(text[-2])]


def test_a_seed_makes_an_answer_come_again(api):
    first, again, other = (
        ask(api, temperature=1, seed=seed, max_tokens=12).json()["choices"][0]["message"]["content"]
        for seed in (5, 5, 6)
    )
    assert first == again != other


def test_several_answers_have_the_next_seeds(api):
    several = ask(api, n=3, temperature=1, seed=20, max_tokens=8).json()
    single = [ask(api, temperature=1, seed=20 + number, max_tokens=8).json() for number in range(3)]
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2]
    contents = [choice["message"]["content"] for choice in several["choices"]]
    assert contents == [answer["choices"][0]["message"]["content"] for answer in single]
    assert len(set(contents)) > 1
    usage = several["usage"]
    assert usage["prompt_tokens"] == single[0]["usage"]["prompt_tokens"]
    assert usage["completion_tokens"] == sum(answer["usage"]["completion_tokens"] for answer in single)


def test_several_answers_stream_together(api):
    fields = {"n": 3, "temperature": 1, "seed": 20, "max_tokens": 8}
    chunks = events(ask(api, stream=True, **fields))
    whole = ask(api, **fields).json()
    assert [said(chunks, index) for index in range(3)] == [choice["message"]["content"] for choice in whole["choices"]]
    order = [chunk["choices"][0]["index"] for chunk in chunks]
    assert order != sorted(order)


def test_probabilities_of_an_answer_are_those_of_its_tokens(api):
    choice = ask(api, logprobs=True, top_logprobs=2).json()["choices"][0]
    entries = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == choice["message"]["content"]
    for entry in entries:
        assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 2
        assert entry["top_logprobs"][0]["logprob"] >= entry["top_logprobs"][1]["logprob"]
    streamed = [chunk["choices"][0].get("logprobs") for chunk in events(ask(api, stream=True, logprobs=True))]
    assert [entry["token"] for part in streamed if part for entry in part["content"]] == [
        entry["token"] for entry in entries
    ]
    assert "logprobs" not in ask(api).json()["choices"][0]


def test_a_bias_makes_a_token_certain(api):
    answer = ask(api, logit_bias={"1000": 100}, max_tokens=2).json()["choices"][0]["message"]["content"]
    token = api.post("/v1/completions", json={"model": MODEL, "prompt": [1000], "echo": True, "max_tokens": 1}).json()
    assert token["choices"][0]["text"].startswith(answer[: len(answer) // 2])
    assert answer[: len(answer) // 2] == answer[len(answer) // 2 :]


def test_an_answer_keeps_to_a_schema(api):
    schema = {
        "type": "object",
        "properties": {"sunny": {"type": "boolean"}, "city": {"enum": ["Rome", "Lima"]}},
        "required": ["sunny", "city"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema, "strict": True}}
    content = ask(api, response_format=form, max_tokens=60).json()["choices"][0]["message"]["content"]
    answer = json.loads(content)
    assert set(answer) == {"sunny", "city"}
    assert answer["city"] in ("Rome", "Lima")


def test_an_answer_can_be_any_json_object(api):
    content = ask(api, response_format={"type": "json_object"}, max_tokens=8).json()["choices"][0]["message"]["content"]
    assert content.startswith("{")


def test_parts_of_a_text_and_a_developer_reach_the_model(api):
    joined = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Say\n\nhello."}]
    parts = [{"type": "text", "text": "Say"}, {"type": "text", "text": "hello."}]
    apart = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    assert ask(api, messages=joined).json()["choices"] == ask(api, messages=apart).json()["choices"]


def test_what_openai_has_and_no_model_here_changes_nothing(api):
    ignored = {
        "user": "me",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "prompt_cache_key": "k",
        "modalities": ["text"],
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "tool_choice": "none",
        "logit_bias": {},
        "max_completion_tokens": 6,
        "max_tokens": 300,
    }
    assert ask(api, **ignored).json()["choices"] == ask(api).json()["choices"]


# -- tools and thinking ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(bench, unloaded):
    """A model that calls tools and one that thinks."""
    for name, template in (("openai-caller", TOOLS), ("openai-thinker", THINKING)):
        model = {"model": name, "from": MODEL, "template": template, "parameters": {"num_thread": 1}, "stream": False}
        made = bench.post("/api/create", json=model)
        assert made.json() == {"status": "success"}
    yield bench
    unloaded("openai-caller")


CALLER = {
    "model": "openai-caller",
    "messages": [{"role": "user", "content": "What is the weather in Rome?"}],
    "tools": [TOOL, OTHER_TOOL],
    "max_tokens": 80,
}


def test_a_demanded_call_comes_with_its_arguments_as_text(shop):
    choice = ask(shop, **CALLER, tool_choice="required").json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == ""
    assert list(call) == ["id", "index", "type", "function"]
    assert (call["index"], call["type"]) == (0, "function")
    assert call["id"].startswith("call_")
    assert isinstance(json.loads(call["function"]["arguments"]), dict)
    named = {"type": "function", "function": {"name": "add_two_numbers"}}
    (call,) = ask(shop, **CALLER, tool_choice=named).json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "add_two_numbers"
    assert set(json.loads(call["function"]["arguments"])) == {"a", "b"}


def test_a_streamed_call_comes_whole(shop):
    single = ask(shop, **CALLER, tool_choice="required").json()["choices"][0]["message"]["tool_calls"]
    chunks = events(ask(shop, **CALLER, tool_choice="required", stream=True))
    (calls,) = [
        chunk["choices"][0]["delta"]["tool_calls"]
        for chunk in chunks
        if "tool_calls" in str(chunk["choices"][0]["delta"])
    ]
    assert [call["function"] for call in calls] == [call["function"] for call in single]
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}


def test_a_result_goes_back_to_the_model(shop):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
    history = [
        *CALLER["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "22 degrees and sunny"},
    ]
    with_result, without = (
        ask(shop, **{**CALLER, "messages": messages, "max_tokens": 1}).json()["usage"]["prompt_tokens"]
        for messages in (history, history[:-1])
    )
    assert with_result > without + 5


def test_functions_of_the_older_form_are_called(shop):
    fields = {key: value for key, value in CALLER.items() if key != "tools"}
    functions = [TOOL["function"]]
    answer = ask(shop, **fields, functions=functions, function_call={"name": "get_weather"}).json()["choices"][0]
    assert answer["finish_reason"] == "function_call"
    assert answer["message"]["function_call"]["name"] == "get_weather"
    assert set(json.loads(answer["message"]["function_call"]["arguments"])) == {"city"}
    assert "tool_calls" not in answer["message"]


def test_thinking_is_reasoning(shop):
    fields = {"model": "openai-thinker", "reasoning_effort": "low"}
    message = ask(shop, **fields).json()["choices"][0]["message"]
    assert message["reasoning"]
    assert message["content"] == ""
    first, *_ = [chunk["choices"][0]["delta"] for chunk in events(ask(shop, **fields, stream=True))]
    assert first["role"] == "assistant"
    assert first["reasoning"]
    assert "reasoning" not in ask(shop, model="openai-thinker", reasoning_effort="none").json()["choices"][0]["message"]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        (
            {"model": "nope"},
            404,
            {
                "message": 'model "nope" not found, try pulling it first',
                "type": "not_found_error",
                "param": "model",
                "code": "model_not_found",
            },
        ),
        (
            {"model": ""},
            400,
            {"message": "model is required", "type": "invalid_request_error", "param": "model", "code": None},
        ),
        (
            {"messages": []},
            400,
            {
                "message": "[] is too short - 'messages'",
                "type": "invalid_request_error",
                "param": "messages",
                "code": None,
                "hint": "send at least one message",
            },
        ),
        (
            {"temperature": "hot"},
            400,
            {
                "message": "json: cannot unmarshal string into Go struct field ChatCompletionRequest.temperature "
                "of type float64",
                "type": "invalid_request_error",
                "param": "temperature",
                "code": None,
            },
        ),
    ],
)
def test_an_error_before_the_answer_has_its_status_and_its_shape(api, fields, status, error, stream):
    response = ask(api, stream=stream, **fields)
    assert (response.status_code, response.json()) == (status, {"error": error})
    assert response.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "EOF"),
        (" \n", "EOF"),
        ("{", "unexpected EOF"),
        ("[]", "cannot unmarshal array"),
        ("null", "[] is too short - 'messages'"),
        ("{,}", "invalid character ','"),
    ],
)
def test_what_is_no_request_is_refused(api, body, text):
    response = api.post(PATH, content=body)
    assert response.status_code == 400
    assert text in response.json()["error"]["message"]
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_model_that_cannot_think_or_see_says_so(api):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    for fields in ({"reasoning_effort": "high"}, {"messages": [{"role": "user", "content": [image]}]}):
        response = ask(api, **fields)
        assert response.status_code == 400
        assert "does not support" in response.json()["error"]["message"]


def test_an_error_in_mid_stream_is_the_last_event(tmp_path, start):
    with start(tmp_path, OLLAMA_NUM_PARALLEL="2") as server, client(server.url) as calls:
        calls.post("/api/generate", json={"model": MODEL})
        body = {**ASKED, "max_tokens": 400, "stream": True, "n": 2, "logit_bias": {"2": -100, "0": -100}}
        with calls.stream("POST", PATH, json=body) as response:
            lines = (line for line in response.iter_lines() if line)
            next(lines)
            for process in models_of(server):
                process.kill()
            *_, last = lines
        assert response.status_code == 200
        error = json.loads(last.removeprefix("data: "))["error"]
        assert "model runner has unexpectedly stopped" in error["message"]
        assert error["type"] == "api_error"
        assert not complaints(server)


def test_who_leaves_takes_all_answers_along(tmp_path, start):
    # Without a text that ends it, and with so large a context, an answer takes longer than a client waits for the next.
    environment = {"OLLAMA_NUM_PARALLEL": "2", "OLLAMA_CONTEXT_LENGTH": "4096"}
    with start(tmp_path, **environment) as server, client(server.url) as calls:
        calls.post("/api/generate", json={"model": MODEL})
        endless = {"max_tokens": -1, "temperature": 1, "logit_bias": {"2": -100, "0": -100}}
        body = {**ASKED, "n": 2, **endless}
        for stream in (True, False):
            with closing(send(server.url, PATH, {**body, "stream": stream})) as connection:
                if stream:
                    connection.recv(100)
                else:
                    calls.get("/api/version")
            assert ask(calls, n=2, max_tokens=2).status_code == 200
        assert not complaints(server)


def models_of(server):
    """The processes of the models."""
    children = psutil.Process(server.pid).children(recursive=True)
    return [child for child in children if "ollama_nb.runner.worker" in child.cmdline()]
