from __future__ import annotations

import json

import msgspec
import pytest

from ollama_nb.wire import gojson, openai, openai_chat
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.openai import CompletionRequest, ErrorDetail, OpenAIErrorReply, Usage
from ollama_nb.wire.openai_chat import (
    ChatAnswer,
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatDelta,
    ChunkChoice,
    MessageToolCall,
)

TYPES = [
    value
    for module in (openai, openai_chat)
    for value in map(vars(module).get, module.__all__)
    if isinstance(value, type) and issubclass(value, msgspec.Struct)
]


def decode(value, kind=ChatCompletionRequest):
    return gojson.decode(json.dumps(value).encode(), kind, kind.__name__)


def test_what_nobody_knows_and_what_is_null_changes_nothing():
    unknown = {"user": "me", "store": True, "metadata": {"a": 1}, "service_tier": "auto", "prompt_cache_key": "k"}
    fields = {field.encode_name: None for field in msgspec.structs.fields(ChatCompletionRequest)}
    assert decode(unknown) == decode(fields) == ChatCompletionRequest()


def test_nulls_inside_change_nothing_either():
    request = decode(
        {
            "stream_options": {"include_usage": None},
            "response_format": {"type": None, "json_schema": {"schema": None, "strict": True}},
            "messages": [{"role": "user", "content": None, "tool_calls": [{"id": None, "function": {"name": None}}]}],
        }
    )
    assert request.stream_options == openai.StreamOptions()
    assert request.response_format == openai.ResponseFormat()
    assert request.messages[0].tool_calls == [MessageToolCall()]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": 1}, "model of type string"),
        ({"messages": "hi"}, "messages of type []api.OpenAIMessage"),
        ({"messages": [{"role": 1}]}, "messages.role of type string"),
        ({"messages": [{"tool_calls": [{"function": {"arguments": {}}}]}]}, "arguments of type string"),
        ({"stream": "yes"}, "stream of type bool"),
        ({"n": 1.5}, "n of type int"),
        ({"temperature": "hot"}, "temperature of type float64"),
        ({"seed": "7"}, "seed of type int"),
        ({"logit_bias": {"1": "much"}}, "logit_bias of type float64"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage of type bool"),
        ({"max_tokens": "5"}, "max_tokens of type int"),
        ({"logprobs": 2}, "logprobs of type bool"),
        ({"tools": {}}, "tools of type []map[string]interface {}"),
        ({"modalities": "text"}, "modalities of type []string"),
    ],
)
def test_a_wrong_type_is_refused_with_the_name_of_the_field(body, field):
    with pytest.raises(BadRequestError, match="cannot unmarshal") as caught:
        decode(body)
    assert caught.value.message.endswith(field)


def test_logprobs_are_a_number_in_completions():
    assert decode({"logprobs": 0}, CompletionRequest).logprobs == 0
    with pytest.raises(BadRequestError):
        decode({"logprobs": True}, CompletionRequest)


def test_the_usage_of_a_chunk_is_absent_null_or_there():
    chunk = ChatCompletionChunk(id="a", created=1, model="m", system_fingerprint="f", choices=[])
    counts = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    written = [
        json.loads(gojson.encode(piece))
        for piece in (chunk, msgspec.structs.replace(chunk, usage=None), msgspec.structs.replace(chunk, usage=counts))
    ]
    assert "usage" not in written[0]
    assert written[1]["usage"] is None
    assert written[2]["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_what_a_delta_does_not_bring_is_not_in_it():
    choice = ChunkChoice(index=0, delta=ChatDelta())
    assert json.loads(gojson.encode(choice)) == {"index": 0, "delta": {}, "finish_reason": None}
    assert json.loads(gojson.encode(ChatDelta(content=""))) == {"content": ""}
    assert json.loads(gojson.encode(ChatAnswer(role="assistant", content=""))) == {"role": "assistant", "content": ""}


def test_an_error_always_has_its_four_fields():
    reply = OpenAIErrorReply(error=ErrorDetail(message="no", type="api_error", param=None, code=None))
    assert gojson.encode(reply) == b'{"error":{"message":"no","type":"api_error","param":null,"code":null}}'


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_has_a_schema_and_says_what_it_is(kind):
    (reference,), schemas = msgspec.json.schema_components([kind])
    assert reference
    assert all(schema["description"] for schema in schemas.values())
