"""``/v1/completions`` on a real server, over plain HTTP."""

from __future__ import annotations

import json

import pytest
from http_calls import MODEL
from templates import INSERT

PATH = "/v1/completions"
ASKED = {"model": MODEL, "prompt": "Say hello.", "temperature": 0, "max_tokens": 5}


def ask(calls, **fields):
    return calls.post(PATH, json={**ASKED, **fields})


def texts(response):
    return [choice["text"] for choice in response.json()["choices"]]


def events(response):
    assert response.headers["content-type"] == "text/event-stream"
    parts = response.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def test_a_completion_is_the_native_answer_in_openais_shape(api):
    answer = ask(api).json()
    # OpenAI's API has no word for threads, and another number of them would load the model anew.
    options = {"temperature": 0, "top_p": 1, "num_predict": 5}
    body = {"model": MODEL, "prompt": "Say hello.", "stream": False, "options": options}
    native = api.post("/api/generate", json=body).json()
    assert list(answer) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert answer["id"].startswith("cmpl-")
    assert (answer["object"], answer["model"]) == ("text_completion", MODEL)
    assert answer["choices"] == [{"text": native["response"], "index": 0, "finish_reason": "length"}]
    assert answer["usage"]["prompt_tokens"] == native["prompt_eval_count"]
    assert answer["usage"]["completion_tokens"] == native["eval_count"] == 5


def test_a_stream_is_the_completion_in_pieces(api):
    *chunks, last, usage = events(ask(api, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == texts(ask(api))[0]
    assert last["choices"] == [{"text": "", "index": 0, "finish_reason": "length"}]
    assert all(chunk["usage"] is None for chunk in [*chunks, last])
    assert (usage["choices"], usage["usage"]) == ([], ask(api).json()["usage"])
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in [*chunks, last, usage]}) == 1


def test_each_prompt_has_its_n_answers_in_openais_order(api):
    fields = {"temperature": 1, "seed": 3}
    several = ask(api, prompt=["Sing.", "Count."], n=2, echo=True, **fields).json()
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2, 3]
    single = [
        prompt + texts(ask(api, prompt=prompt, temperature=1, seed=3 + number))[0]
        for prompt in ("Sing.", "Count.")
        for number in range(2)
    ]
    assert [choice["text"] for choice in several["choices"]] == single
    streamed = ["", "", "", ""]
    for chunk in events(ask(api, prompt=["Sing.", "Count."], n=2, echo=True, stream=True, **fields)):
        (choice,) = chunk["choices"]
        streamed[choice["index"]] += choice["text"]
    assert streamed == single


def test_a_prompt_can_be_token_ids(api):
    one = texts(ask(api, prompt=[19556, 905], echo=True))[0]
    several = texts(ask(api, prompt=[[19556, 905], [905]], echo=True))
    assert several[0] == one
    assert several[1] != one
    prompt = one[: len(one) - len(texts(ask(api, prompt=[19556, 905]))[0])]
    assert texts(ask(api, prompt=prompt, echo=True)) == [one]


def test_probabilities_come_in_the_older_form(api):
    choice = ask(api, logprobs=2).json()["choices"][0]
    told = choice["logprobs"]
    assert list(told) == ["tokens", "token_logprobs", "top_logprobs", "text_offset"]
    assert "".join(told["tokens"]) == choice["text"]
    assert all(2 <= len(top) <= 3 for top in told["top_logprobs"])
    for at, token in enumerate(told["tokens"]):
        assert told["top_logprobs"][at][token] == told["token_logprobs"][at]
        assert choice["text"][told["text_offset"][at] :].startswith(token)


def test_without_a_prompt_the_model_is_loaded(api):
    for fields in ({"prompt": ""}, {"prompt": None}):
        answer = ask(api, **fields).json()
        assert answer["choices"] == [{"text": "", "index": 0, "finish_reason": "load"}]
        assert answer["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def test_a_suffix_is_what_comes_behind(bench, unloaded):
    made = bench.post(
        "/api/create", json={"model": "openai-filler", "from": MODEL, "template": INSERT, "stream": False}
    )
    assert made.json() == {"status": "success"}
    plain, filled = (
        ask(bench, model="openai-filler", prompt="def f(", max_tokens=1, **fields).json()["usage"]["prompt_tokens"]
        for fields in ({}, {"suffix": "    return a + b + c + d + e + f + g + h"})
    )
    assert filled > plain
    unloaded("openai-filler")


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "nope"}, 404, "model"),
        ({"model": "nope", "prompt": [1]}, 404, "model"),
        ({"suffix": "end"}, 400, None),
        ({"prompt": {}}, 400, "prompt"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": [1, "a"]}, 400, "prompt"),
        ({"prompt": [1_000_000]}, 400, "prompt"),
        ({"best_of": 2}, 400, "best_of"),
        ({"echo": True, "logprobs": 1}, 400, "logprobs"),
        ({"n": 0}, 400, "n"),
        ({"stop": [5]}, 400, "stop"),
        ({"max_tokens": "many"}, 400, "max_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_had_is_refused(api, fields, status, param, stream):
    response = ask(api, stream=stream, **fields)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == {400: "invalid_request_error", 404: "not_found_error"}[status]
