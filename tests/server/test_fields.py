"""Fields and options of generate and chat that the other tests have no reason to speak of."""

from __future__ import annotations

import pytest
from http_calls import MODEL, OPTIONS, lines, question
from templates import INSERT

EVERY_OPTION = {
    "num_keep": 5, "seed": 42, "num_predict": 3, "top_k": 20, "top_p": 0.9, "min_p": 0.0, "typical_p": 0.7,
    "repeat_last_n": 33, "temperature": 0.8, "repeat_penalty": 1.2, "presence_penalty": 1.5, "frequency_penalty": 1.0,
    "penalize_newline": True, "stop": ["\n", "user:"], "numa": False, "num_ctx": 128, "num_batch": 32, "num_gpu": 1,
    "main_gpu": 0, "use_mmap": True, "num_thread": 1,
}  # fmt: skip
"""The example of the documentation, smaller."""

BOTH = pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])


def asked(calls, path, text="Once upon a time", **fields):
    """A single answer of either route."""
    options = {**OPTIONS, **fields.pop("options", {})}
    said = {"prompt": text} if path == "/api/generate" else {"messages": [{"role": "user", "content": text}]}
    return calls.post(path, json={"model": MODEL, **said, "stream": False, "options": options, **fields})


@BOTH
def test_every_documented_option_is_taken(bench, unloaded, path):
    response = asked(bench, path, options=EVERY_OPTION)
    assert response.status_code == 200, response.text
    assert response.json()["eval_count"] <= 3
    (model,) = bench.get("/api/ps").json()["models"]
    assert model["context_length"] == 128
    unloaded(MODEL)


@pytest.mark.parametrize("options", [{"num_batch": 16}, {"use_mmap": False}, {"num_gpu": 0}, {"main_gpu": 0}], ids=repr)
def test_how_a_model_is_loaded_changes_nothing_of_its_answer(bench, unloaded, options):
    expected = asked(bench, "/api/chat").json()["message"]
    assert asked(bench, "/api/chat", options=options).json()["message"] == expected
    unloaded(MODEL)


@BOTH
def test_an_answer_whose_context_must_not_be_shifted_ends_where_it_is_full(bench, unloaded, path):
    options = {"num_ctx": 48, "num_predict": 60, "repeat_penalty": 1}
    text = "Count to one thousand: one, two, three, four"
    shifted = asked(bench, path, text, options=options).json()
    ended = asked(bench, path, text, options=options, shift=False).json()
    assert ended["done_reason"] == "length"
    assert ended["prompt_eval_count"] + ended["eval_count"] <= 48 + 1
    assert shifted["eval_count"] > ended["eval_count"]
    unloaded(MODEL)


@BOTH
def test_probabilities_of_tokens_come_where_they_are_asked_for(api, path):
    answer = asked(api, path, logprobs=True, top_logprobs=2).json()
    assert len(answer["logprobs"]) == answer["eval_count"]
    for token in answer["logprobs"]:
        assert list(token) == ["token", "logprob", "bytes", "top_logprobs"]
        assert bytes(token["bytes"]).decode(errors="replace") == token["token"]
        assert token["logprob"] <= 0
        first, second = token["top_logprobs"]
        assert list(first) == ["token", "logprob", "bytes"]
        assert first["logprob"] >= second["logprob"]
    plain = asked(api, path, logprobs=True).json()
    assert all("top_logprobs" not in token for token in plain["logprobs"])
    assert "logprobs" not in asked(api, path).json()


@BOTH
@pytest.mark.parametrize("count", [-1, 21])
def test_more_alternatives_than_there_may_be_are_refused(api, path, count):
    response = asked(api, path, logprobs=True, top_logprobs=count)
    assert (response.status_code, response.json()["error"]) == (400, "top_logprobs must be between 0 and 20")


def test_probabilities_of_a_stream_come_with_its_pieces(api):
    *pieces, last = lines(api.post("/api/chat", json={**question("Say hello."), "logprobs": True}))
    told = [token["token"] for piece in pieces for token in piece.get("logprobs", [])]
    assert len(told) == last["eval_count"]
    assert "logprobs" not in last
    assert "".join(told).startswith("".join(piece["message"]["content"] for piece in pieces))


@pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": False}], ids=repr)
@pytest.mark.parametrize(("keep_alive", "reason"), [({}, "load"), ({"keep_alive": 0}, "unload")])
def test_without_a_prompt_there_is_one_object_however_it_is_asked_for(bench, unloaded, stream, keep_alive, reason):
    bench.post("/api/create", json={"model": "filler", "from": MODEL, "template": INSERT, "stream": False})
    body = {"model": "filler", "suffix": "end", "options": OPTIONS, **stream, **keep_alive}
    response = bench.post("/api/generate", json=body)
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.json()["done_reason"] == reason
    unloaded("filler")


@BOTH
@pytest.mark.parametrize("name", ["SMOLLM2:135M", "library/smollm2:135m", "registry.ollama.ai/library/smollm2:135m"])
def test_the_model_is_told_as_it_was_asked_for(api, path, name):
    assert asked(api, path, model=name, options={"num_predict": 1}).json()["model"] == name


@BOTH
def test_what_no_field_is_called_changes_nothing(api, path):
    strange = {"name": "nope", "n": 3, "Unknown": {"deep": [1]}, "username": "ada"}
    assert asked(api, path, **strange).json()["eval_count"] == asked(api, path).json()["eval_count"]


@BOTH
def test_nulls_are_fields_that_are_not_there(api, path):
    names = ["format", "keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs", "tools", "images"]
    names += ["system", "template", "suffix", "context", "raw", "_debug_render_only", "tool_choice"]
    response = asked(api, path, **dict.fromkeys(names))
    assert response.status_code == 200, response.text
    assert response.json()["eval_count"] == asked(api, path).json()["eval_count"]
