"""Conversations that do not fit into the context of 512 tokens: what is kept, what is said, what is refused."""

from __future__ import annotations

import pytest
from http_calls import MODEL, OPTIONS
from samples import SMOLLM2

SYSTEM = {"role": "system", "content": "Be brief."}


def chat(turns):
    messages = [SYSTEM]
    for turn in range(turns):
        messages.append({"role": "user", "content": f"Question {turn}: tell me about the number {turn} in short."})
        messages.append({"role": "assistant", "content": f"Answer {turn}: it follows the number {turn - 1}."})
    return [*messages, {"role": "user", "content": "Which is the last number?"}]


def asked(api, messages, **fields):
    options = {**OPTIONS, "num_predict": 2}
    return api.post(
        "/api/chat", json={"model": MODEL, "messages": messages, "stream": False, "options": options, **fields}
    )


def test_a_conversation_that_fits_loses_nothing(api):
    answer = asked(api, chat(3)).json()
    assert "prompt_dropped_messages" not in answer
    assert "prompt_dropped_count" not in answer


def test_the_oldest_messages_are_left_out_and_counted(api):
    answer = asked(api, chat(40)).json()
    dropped = answer["prompt_dropped_messages"]
    assert dropped > 40
    assert answer["prompt_dropped_count"] > 40 * 10
    assert answer["prompt_eval_count"] <= 512
    # What is left is the system message and the last messages: the same as if only they had been sent.
    messages = chat(40)
    same = asked(api, [SYSTEM, *messages[1 + dropped :]]).json()
    assert "prompt_dropped_messages" not in same
    assert (same["prompt_eval_count"], same["message"]) == (answer["prompt_eval_count"], answer["message"])
    # One message more would not have fitted.
    assert asked(api, [SYSTEM, *messages[dropped:]]).json()["prompt_dropped_messages"] == 1


def test_a_last_message_that_does_not_fit_alone_is_cut_by_the_token(api):
    answer = asked(api, [*chat(2), {"role": "user", "content": "word " * 1500}]).json()
    assert answer["prompt_eval_count"] == 512
    assert answer["prompt_dropped_messages"] == 5, "all but the system message and the last"
    assert answer["prompt_dropped_count"] > 1000


@pytest.mark.parametrize("messages", [chat(40), [{"role": "user", "content": "word " * 1500}]], ids=["chat", "single"])
def test_truncation_that_is_not_wanted_is_an_error(api, messages):
    response = asked(api, messages, truncate=False)
    assert response.status_code == 400
    assert response.json()["error"].startswith("the prompt is longer than the context length")
    assert asked(api, chat(3), truncate=False).status_code == 200


def test_a_single_prompt_says_what_was_cut(api):
    body = {"model": SMOLLM2, "prompt": "word " * 1500, "stream": False, "options": {**OPTIONS, "num_predict": 2}}
    answer = api.post("/api/generate", json=body).json()
    assert answer["prompt_dropped_count"] > 900
    refused = api.post("/api/generate", json={**body, "truncate": False})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("the prompt is longer than the context length")
