from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.client.reply import ChatFold, GenerateFold, Reply, StepsFold, error_from
from ollama_nb.wire.errors import BadRequestError, CanceledError, ConflictError, NotFoundError, OllamaError

words = st.lists(st.text(), max_size=8)


@given(words, st.lists(st.integers(0, 400), max_size=6))
def test_any_split_of_a_stream_reads_the_same(pieces, cuts):
    lines = [{"message": {"role": "assistant", "content": piece}, "done": False} for piece in pieces]
    lines.append({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"})
    data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reply = Reply(ChatFold("m", ()))
    events = [event for a, b in pairwise(edges) for event in reply.receive(data[a:b])]
    events += reply.end()
    assert [event.text for event in events] == [*pieces, ""]
    assert reply.result().text == "".join(pieces)


def test_a_last_line_needs_no_newline():
    reply = Reply(GenerateFold("m", "p"))
    assert list(reply.receive(b'{"response":"x","done":true}')) == []
    assert [event.text for event in reply.end()] == ["x"]


def test_a_line_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("ollama_nb.client.reply.MAX_LINE", 10)
    with pytest.raises(OllamaError, match="line without an end"):
        list(Reply(StepsFold()).receive(b"x" * 11))


def test_steps_are_complete_with_success_only():
    reply = Reply(StepsFold())
    assert [step.status for step in reply.receive(b'{"status":"writing manifest"}\n')] == ["writing manifest"]
    with pytest.raises(OllamaError, match="before the answer was complete"):
        list(reply.end())


def test_a_create_error_keeps_its_own_status():
    with pytest.raises(BadRequestError, match="unknown type"):
        list(Reply(StepsFold()).receive(b'{"error":"unknown type","status":400}\n'))


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b'{"error":"model \'x\' not found"}', NotFoundError, "model 'x' not found"),
        (404, b"404 page not found", NotFoundError, "404 page not found"),
        (409, b'{"error":{"message":"taken"}}', ConflictError, "taken"),
        (499, b'{"error":"request canceled"}', CanceledError, "request canceled"),
        (500, b"", OllamaError, "the server answered with status 500"),
        (502, b"<html>Bad gateway</html>", OllamaError, "the server answered with status 502"),
        (403, b'{"message": "Forbidden", "reason": null}', OllamaError, "the server asks for a login"),
        (302, b"", OllamaError, "the server asks for a login"),
        (500, b'{"message": "Unhandled", "reason": null}', OllamaError, "Unhandled"),
        (400, b"\xff\xfe", BadRequestError, "\ufffd\ufffd"),
    ],
)
def test_every_failed_reply_becomes_an_error_with_its_status(status, body, kind, message):
    error = error_from(status, body)
    assert type(error) is kind
    assert (error.message, error.status) == (message, status)
