from __future__ import annotations

import json
import re

import pytest
from http_calls import LOAD, MODEL, OPTIONS, lines, question, until

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
COUNTS = ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"]
FULL_NAME = "registry.ollama.ai/library/smollm2:135m"


def generated(api, **fields):
    options = {**OPTIONS, **fields.pop("options", {})}
    return api.post("/api/generate", json={"model": MODEL, "stream": False, "options": options, **fields})


def chatted(api, *contents, **fields):
    roles = ["user", "assistant"] * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    options = {**OPTIONS, **fields.pop("options", {})}
    return api.post(
        "/api/chat", json={"model": MODEL, "stream": False, "messages": messages, "options": options, **fields}
    )


# -- the forms of an answer --------------------------------------------------------------------------------------------


def test_a_chat_streams_one_line_a_piece_and_a_final_one(api):
    response = api.post("/api/chat", json=question("Say hello."))
    *pieces, last = lines(response)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.content.endswith(b"}\n")
    for piece in pieces:
        assert list(piece) == ["model", "created_at", "message", "done"]
        assert list(piece["message"]) == ["role", "content"]
        assert (piece["model"], piece["message"]["role"], piece["done"]) == (MODEL, "assistant", False)
        assert piece["message"]["content"]
        assert STAMP.fullmatch(piece["created_at"])
    assert list(last) == ["model", "created_at", "message", "done", "done_reason", *COUNTS]
    assert (last["message"], last["done"]) == ({"role": "assistant", "content": ""}, True)


def test_a_generate_streams_one_line_a_piece_and_a_final_one(api):
    response = api.post("/api/generate", json={"model": MODEL, "prompt": "Say hello.", "options": OPTIONS})
    *pieces, last = lines(response)
    assert response.headers["content-type"] == "application/x-ndjson"
    for piece in pieces:
        assert list(piece) == ["model", "created_at", "response", "done"]
        assert (piece["model"], piece["done"]) == (MODEL, False)
        assert piece["response"]
    assert list(last) == ["model", "created_at", "response", "done", "done_reason", "context", *COUNTS]
    assert (last["response"], last["done"]) == ("", True)


def test_a_single_chat_is_the_stream_in_one_object(api):
    *pieces, last = lines(api.post("/api/chat", json=question("Say hello.")))
    response = api.post("/api/chat", json={**question("Say hello."), "stream": False})
    single = response.json()
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert not response.content.endswith(b"\n")
    assert list(single) == list(last)
    assert single["message"] == {"role": "assistant", "content": "".join(p["message"]["content"] for p in pieces)}
    assert (single["eval_count"], single["done_reason"]) == (last["eval_count"], last["done_reason"])


def test_a_single_generate_is_the_stream_in_one_object(api):
    request = {"model": MODEL, "prompt": "Say hello.", "options": OPTIONS}
    *pieces, last = lines(api.post("/api/generate", json=request))
    single = api.post("/api/generate", json={**request, "stream": False}).json()
    assert list(single) == list(last)
    assert single["response"] == "".join(piece["response"] for piece in pieces)
    assert (single["context"], single["eval_count"]) == (last["context"], last["eval_count"])


@pytest.mark.parametrize("stream", [{}, {"stream": None}, {"stream": True}], ids=["absent", "null", "true"])
def test_streaming_is_what_happens_unless_it_is_refused(api, stream):
    response = api.post("/api/chat", json={**question("Hi", num_predict=2), **stream})
    assert response.headers["content-type"] == "application/x-ndjson"


def test_counts_are_positive_integers_that_add_up(api):
    answer = chatted(api, "Count to three.").json()
    assert all(type(answer[name]) is int and answer[name] > 0 for name in COUNTS)
    assert answer["eval_count"] <= 8
    parts = answer["load_duration"] + answer["prompt_eval_duration"] + answer["eval_duration"]
    assert answer["total_duration"] >= 0.9 * parts


def test_prompt_tokens_count_in_full_also_when_they_come_from_the_cache(api):
    first, again = (chatted(api, "Name the colours of the rainbow.").json() for _ in range(2))
    assert first["prompt_eval_count"] == again["prompt_eval_count"] > 20
    assert first["message"] == again["message"]


def test_characters_that_html_knows_leave_as_escapes(api):
    missing = api.post("/api/chat", content=json.dumps({"model": "a<b>&c"}))
    assert rb"a\u003cb\u003e\u0026c" in api.post("/api/generate", json={"model": "a<b>&c"}).content
    assert missing.json() == {"error": "model is required"}


def test_a_form_content_type_as_curl_sends_it_makes_no_difference(api):
    body = json.dumps({**question("Hi", num_predict=1), "stream": False, "note": "&=" * 2000})
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"):
        assert api.post("/api/chat", content=body, headers={"Content-Type": kind}).status_code == 200


def test_keys_match_in_any_case_and_roles_too(api):
    body = {"Model": MODEL, "STREAM": False, "Messages": [{"ROLE": "User", "content": "Hi"}]}
    shouted = api.post("/api/chat", json={**body, "Options": OPTIONS}).json()
    assert shouted["message"] == chatted(api, "Hi").json()["message"]


# -- load and unload ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said"),
    [("/api/generate", {"response": ""}), ("/api/chat", {"message": {"role": "assistant", "content": ""}})],
)
def test_asking_nothing_loads_the_model(bench, path, said):
    response = bench.post(path, json=LOAD)
    answer = response.json()
    created = answer.pop("created_at")
    assert answer == {"model": MODEL, **said, "done": True, "done_reason": "load"}
    assert STAMP.fullmatch(created)
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert [model["name"] for model in bench.get("/api/ps").json()["models"]] == [MODEL]


@pytest.mark.parametrize("keep_alive", [0, 0.0, "0", "0s", "-0m"])
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_asking_nothing_to_be_kept_alive_for_no_time_unloads_the_model(bench, path, keep_alive):
    for _ in range(2):  # the second time it is not loaded, and the answer is the same
        response = bench.post(path, json={"model": MODEL, "keep_alive": keep_alive})
        answer = response.json()
        assert (response.status_code, answer["done"], answer["done_reason"]) == (200, True, "unload")
        assert "total_duration" not in answer


def test_an_unloaded_model_is_gone_and_comes_back_when_asked(bench):
    bench.post("/api/generate", json=LOAD)
    bench.post("/api/generate", json={"model": MODEL, "keep_alive": 0})
    until(lambda: not bench.get("/api/ps").json()["models"], "the model to be gone")
    answer = generated(bench, prompt="Hi")
    assert answer.json()["done"] is True


@pytest.mark.parametrize("keep_alive", [-1, "-1s", 3600, "1h", 90.5, "1h30m", None])
def test_a_keep_alive_is_a_number_of_seconds_or_a_go_duration(api, keep_alive):
    assert generated(api, prompt="Hi", keep_alive=keep_alive, options={"num_predict": 1}).status_code == 200


def test_forever_is_some_centuries(bench):
    generated(bench, prompt="Hi", keep_alive=-1, options={"num_predict": 1})
    (model,) = bench.get("/api/ps").json()["models"]
    assert model["expires_at"] > "2300"
    generated(bench, prompt="Hi", keep_alive="10m", options={"num_predict": 1})
    (model,) = bench.get("/api/ps").json()["models"]
    assert model["expires_at"] < "2300"


@pytest.mark.parametrize(
    ("keep_alive", "text"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("abc", 'time: invalid duration "abc"'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        ("", 'time: invalid duration ""'),
        (True, "Unsupported type: 'bool'"),
        ([1], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_a_bad_keep_alive_gets_gos_text(api, path, keep_alive, text):
    response = api.post(path, json={"model": MODEL, "keep_alive": keep_alive})
    assert (response.status_code, response.json()) == (400, {"error": text})


# -- options -----------------------------------------------------------------------------------------------------------


def test_num_predict_is_the_number_of_tokens(api):
    answer = chatted(api, "Tell me a story.", options={"num_predict": 5}).json()
    assert (answer["eval_count"], answer["done_reason"]) == (5, "length")


def test_an_answer_that_ends_by_itself_stops(api):
    answer = chatted(api, "Reply with one word: yes", options={"num_predict": 200}).json()
    assert answer["done_reason"] == "stop"
    assert answer["eval_count"] < 200


def test_a_stop_string_ends_the_answer_before_it(api):
    whole = chatted(api, "Count from 1 to 9.", options={"num_predict": 30}).json()["message"]["content"]
    word = whole.split()[2]
    answer = chatted(api, "Count from 1 to 9.", options={"num_predict": 30, "stop": ["\0", word]}).json()
    assert answer["message"]["content"] == whole[: whole.index(word)]
    assert answer["done_reason"] == "stop"


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(api):
    options = {"temperature": 1.2, "num_predict": 24}
    first, again, other = (
        chatted(api, "Invent a name for a planet.", options={**options, "seed": seed}).json()["message"]["content"]
        for seed in (7, 7, 8)
    )
    assert first == again != other


def test_temperature_zero_needs_no_seed(api):
    answers = {chatted(api, "Describe rain.", options={"num_predict": 16}).json()["message"]["content"] for _ in "ab"}
    assert len(answers) == 1


def test_a_prompt_longer_than_the_context_is_cut_to_it(api):
    answer = chatted(api, "word " * 2000, options={"num_predict": 2}).json()
    assert answer["prompt_eval_count"] == 512


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"top_k": "40"}, 'option "top_k" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"num_ctx": True}, 'option "num_ctx" must be of type integer'),
    ],
)
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_an_option_of_the_wrong_type_gets_ollamas_text(api, path, options, text):
    response = api.post(path, json={**question("Hi"), "prompt": "Hi", "options": options})
    assert (response.status_code, response.json()) == (400, {"error": text})


def test_unknown_options_and_nulls_are_passed_over(api):
    options = {"tempature": "hot", "num_gqa": 1, "top_k": None}
    assert chatted(api, "Hi", options=options).json()["message"] == chatted(api, "Hi").json()["message"]


# -- prompts -----------------------------------------------------------------------------------------------------------


def test_a_generate_is_a_chat_with_one_question(api):
    prompt = "What is the capital of France?"
    assert generated(api, prompt=prompt).json()["response"] == chatted(api, prompt).json()["message"]["content"]


def test_raw_is_the_text_itself(api):
    chatml = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    raw = generated(api, prompt=chatml, raw=True).json()
    written = generated(api, prompt="Hello!", system="Be brief.").json()
    assert (raw["response"], raw["prompt_eval_count"]) == (written["response"], written["prompt_eval_count"])
    assert "context" not in raw


@pytest.mark.parametrize("field", [{"template": "x"}, {"system": "x"}, {"context": [1]}], ids=repr)
def test_raw_does_not_mix_with_what_makes_a_prompt(api, field):
    response = generated(api, prompt="Hi", raw=True, **field)
    assert response.status_code == 400
    assert response.json() == {"error": "raw mode does not support template, system, or context"}


def test_a_context_takes_the_conversation_on(api):
    first = generated(api, prompt="My name is Ada. Say hello.").json()
    assert all(type(token) is int for token in first["context"])
    assert len(first["context"]) >= first["prompt_eval_count"]
    second = generated(api, prompt="What is my name?", context=first["context"]).json()
    alone = generated(api, prompt="What is my name?").json()
    assert second["prompt_eval_count"] == alone["prompt_eval_count"] + len(first["context"])
    assert second["context"][: len(first["context"])] == first["context"]


@pytest.mark.parametrize("token", [-1, 10**6, 2**62])
def test_a_context_of_tokens_that_do_not_exist_is_refused(api, token):
    response = generated(api, prompt="Hi", context=[1, token])
    assert response.status_code == 400
    assert "token" in response.json()["error"]


def test_a_system_text_changes_the_prompt(api):
    plain = generated(api, prompt="Hello!").json()
    told = generated(api, prompt="Hello!", system="Reply with the single word no.").json()
    assert plain["prompt_eval_count"] != told["prompt_eval_count"]
    assert plain["response"] != told["response"]


def test_a_template_in_a_request_makes_the_prompt(api):
    shouted = generated(
        api, prompt="Hi", template="<|im_start|>user\n{{ .Prompt }}!<|im_end|>\n<|im_start|>assistant\n"
    )
    raw = generated(api, prompt="<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n", raw=True)
    assert shouted.json()["response"] == raw.json()["response"]
    assert shouted.json()["prompt_eval_count"] == raw.json()["prompt_eval_count"]


@pytest.mark.parametrize(
    ("template", "text"),
    [("{{ if }}", "missing value"), ("{{ .Prompt.X }}", "X"), ("{{ index .Messages 99 }}", "index")],
    ids=["does not parse", "does not run", "goes too far"],
)
def test_a_template_that_fails_is_an_error_and_the_server_lives(api, template, text):
    response = generated(api, prompt="Hi", template=template)
    assert response.status_code == 400
    assert text in response.json()["error"]
    assert api.get("/api/version").status_code == 200


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/show", "/api/copy", "/api/create"])
def test_an_empty_body_is_missing(api, path):
    for body in (b"", b" \n"):
        response = api.post(path, content=body)
        assert (response.status_code, response.json()) == (400, {"error": "missing request body"})


def test_an_empty_body_is_missing_from_a_delete_too(api):
    response = api.request("DELETE", "/api/delete")
    assert (response.status_code, response.json()) == (400, {"error": "missing request body"})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("!", "invalid character '!' looking for beginning of value"),
        ('{"model":', "unexpected EOF"),
        ('{"stream":"x"}', "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool"),
        ("[" * 100000, "exceeded max depth"),
        (f'{{"options":{{"seed":{"1" * 5000}}}}}', "json: cannot unmarshal number " + "1" * 40 + " into Go value of"),
    ],
    ids=["syntax", "broken off", "type", "depth", "number"],
)
def test_bad_json_gets_gos_text(api, body, text):
    response = api.post("/api/chat", content=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith(text)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/generate", {}, 404, "model '' not found"),
        ("/api/generate", {"model": "a b"}, 404, "model 'a b' not found"),
        ("/api/generate", {"model": "nope"}, 404, "model 'nope' not found"),
        ("/api/generate", {"model": "nope", "keep_alive": 0}, 404, "model 'nope' not found"),
        ("/api/chat", {}, 400, "model is required"),
        ("/api/chat", {"model": "a b"}, 400, "model is required"),
        ("/api/chat", {"model": "nope"}, 404, 'model "nope" not found, try pulling it first'),
        ("/api/chat", {"model": "nope", "keep_alive": 0}, 404, "model 'nope' not found"),
        ("/api/chat", {"model": "a b", "keep_alive": 0}, 404, "model 'a b' not found"),
        ("/api/chat", {"model": "../../etc/passwd"}, 400, "model is required"),
    ],
)
def test_a_model_that_is_not_there_gets_each_routes_own_text(api, path, body, status, text):
    response = api.post(path, json=body)
    assert (response.status_code, response.json()) == (status, {"error": text})


TOOL = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("path", "field", "text"),
    [
        ("/api/chat", {"tools": [TOOL]}, f"{FULL_NAME} does not support tools"),
        ("/api/chat", {"think": True}, f"{FULL_NAME} does not support thinking"),
        ("/api/chat", {"tools": [TOOL], "think": True}, f"{FULL_NAME} does not support tools\nthinking"),
        ("/api/generate", {"suffix": "end"}, f"{FULL_NAME} does not support insert"),
        ("/api/generate", {"think": True}, f"{FULL_NAME} does not support thinking"),
        ("/api/generate", {"images": ["aGk="]}, f"{FULL_NAME} does not support vision"),
        (
            "/api/chat",
            {"messages": [{"role": "user", "content": "?", "images": ["aGk="]}]},
            f"{FULL_NAME} does not support vision",
        ),
    ],
)
def test_what_the_model_cannot_do_is_said(api, path, field, text):
    response = api.post(path, json={**question("Hi"), "prompt": "Hi", **field})
    assert (response.status_code, response.json()["error"]) == (400, text)


def test_not_to_think_is_no_capability(api):
    assert chatted(api, "Hi", think=False).status_code == 200


@pytest.mark.parametrize("value", [None, ""], ids=repr)
def test_no_format_is_no_structured_output(api, value):
    assert chatted(api, "Hi", format=value).status_code == 200
