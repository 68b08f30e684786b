"""From OpenAI's requests to native ones, without a server."""

from __future__ import annotations

import base64
import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.prompt.conversation import plain, tag_images
from ollama_nb.prompt.render import collate
from ollama_nb.server.openai.chat import native_chats
from ollama_nb.server.openai.completions import check, native_generates, prompts_of
from ollama_nb.server.openai.embeddings import inputs_of
from ollama_nb.server.openai.errors import FieldError, error_reply
from ollama_nb.server.openai.texts import texts_or_tokens
from ollama_nb.wire import gojson
from ollama_nb.wire.errors import BadRequestError, BusyError, NotFoundError, OllamaError
from ollama_nb.wire.native import CalledFunction, CallMessage, Message
from ollama_nb.wire.openai import CompletionRequest, EmbeddingsRequest
from ollama_nb.wire.openai_chat import ChatCompletionRequest

PNG = base64.b64encode(b"\x89PNG not looked at").decode()
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "get_weather"}}


def decoded(kind, fields):
    return gojson.decode(json.dumps(fields).encode(), kind, kind.__name__)


def chats(**fields):
    return native_chats(decoded(ChatCompletionRequest, {"model": "m", "messages": [USER], **fields}))


def chat(**fields):
    (request,) = chats(**fields)
    return request


def messages(*given_messages):
    return chat(messages=list(given_messages)).messages


def refusal(make, *arguments, **fields):
    with pytest.raises(BadRequestError) as caught:
        make(*arguments, **fields)
    return error_reply(caught.value).error


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "native"),
    [
        ({"role": "user", "content": "Hi"}, Message(role="user", content="Hi")),
        ({"role": "User", "content": "Hi", "name": "Ann"}, Message(role="user", content="Hi")),
        ({"role": "developer", "content": "Be brief."}, Message(role="system", content="Be brief.")),
        (
            {"role": "system", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
            Message(role="system", content="A\n\nB"),
        ),
        ({"role": "user", "content": [IMAGE]}, Message(role="user", content="[img]", images=[PNG])),
        (
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]},
            Message(role="user", content="What is this?\n\n[img]", images=[PNG]),
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": f"data:;base64,{PNG}"}]},
            Message(role="user", content="[img]", images=[PNG]),
        ),
        ({"role": "assistant", "content": None, "refusal": "No."}, Message(role="assistant", content="No.")),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            Message(role="assistant", content="No."),
        ),
        (
            {"role": "assistant", "content": "Yes.", "reasoning": "Hm."},
            Message(role="assistant", content="Yes.", thinking="Hm."),
        ),
        ({"role": "user", "content": []}, Message(role="user", content="")),
        ({"role": "tool", "content": "22", "name": "f"}, Message(role="tool", content="22", tool_name="f")),
        ({"role": "function", "content": "22", "name": "f"}, Message(role="tool", content="22", tool_name="f")),
    ],
)
def test_a_message_becomes_a_native_one(message, native):
    assert messages(message) == [native]


def test_calls_and_their_results_find_each_other():
    history = [
        USER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "one", "arguments": '{"a": [1, null]}'}},
                {"id": "call_2", "type": "function", "function": {"name": "two", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_2", "content": "b"},
        {"role": "tool", "tool_call_id": "call_1", "content": "a"},
        {"role": "tool", "tool_call_id": "call_3", "content": "c"},
    ]
    _, called, second, first, strange = messages(*history)
    assert called.content == ""
    assert called.tool_calls == [
        CallMessage(id="call_1", function=CalledFunction(index=0, name="one", arguments={"a": [1, None]})),
        CallMessage(id="call_2", function=CalledFunction(index=1, name="two", arguments={})),
    ]
    assert (second.tool_name, second.tool_call_id) == ("two", "call_2")
    assert (first.tool_name, first.tool_call_id) == ("one", "call_1")
    assert (strange.tool_name, strange.tool_call_id) == ("", "call_3")


def test_a_call_of_the_older_form_is_a_call():
    (called,) = messages({"role": "assistant", "function_call": {"name": "f", "arguments": '{"a": 1}'}})
    assert called.tool_calls == [CallMessage(function=CalledFunction(name="f", arguments={"a": 1}))]


@pytest.mark.parametrize(
    ("message", "text", "param"),
    [
        ({"role": "user"}, "invalid message content type: <nil>", "messages.0.content"),
        ({"role": "user", "content": 5}, "invalid message content type: float64", "messages.0.content"),
        ({"role": "user", "content": True}, "invalid message content type: bool", "messages.0.content"),
        (
            {"role": "user", "content": {}},
            "invalid message content type: map[string]interface {}",
            "messages.0.content",
        ),
        ({"content": "Hi"}, "a message has no role", "messages.0.role"),
        ({"role": "user", "content": ["Hi"]}, "invalid message format", "messages.0.content.0"),
        ({"role": "user", "content": [{"type": "text"}]}, "invalid message format", "messages.0.content.0"),
        ({"role": "user", "content": [{"type": ["text"]}]}, "invalid message format", "messages.0.content.0"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "invalid message format", "messages.0.content.0"),
        (
            {"role": "user", "content": [{"type": "image_url"}]},
            "invalid message format",
            "messages.0.content.0.image_url",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}]},
            "image URLs are not currently supported, please use base64 encoded data instead",
            "messages.0.content.0.image_url.url",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AAAA"}}]},
            "invalid image input",
            "messages.0.content.0.image_url.url",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,A?"}}]},
            "invalid message format",
            "messages.0.content.0.image_url.url",
        ),
        *(
            (
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]},
                "invalid tool call arguments",
                "messages.0.tool_calls.0.arguments",
            )
            for arguments in ("{", "[]", "7", '{} {"a": 1}', '{"a": NaN}', '{"a":' * 300 + "1" + "}" * 300)
        ),
    ],
)
def test_what_is_no_message_is_refused(message, text, param):
    error = refusal(messages, message)
    assert (error.message, error.type, error.param) == (text, "invalid_request_error", param)


def test_no_message_is_refused():
    error = refusal(chat, messages=[])
    assert (error.message, error.param) == ("[] is too short - 'messages'", "messages")


PARTS = st.lists(st.one_of(st.builds(lambda text: {"type": "text", "text": text}, st.text("ab\n")), st.just(IMAGE)))


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), PARTS.filter(bool)), min_size=1))
def test_joined_parts_are_the_prompt_of_parts_apart(turns):
    joined = messages(*({"role": role, "content": parts} for role, parts in turns))
    apart = [
        Message(role=role, images=[PNG]) if part is IMAGE else Message(role=role, content=part["text"])
        for role, parts in turns
        for part in parts
    ]

    def said(conversation):
        system, collated = collate(plain(tag_images(conversation)))
        return system, [(message["role"], message["content"]) for message in collated]

    assert said(joined) == said(apart)


# -- options of a chat -------------------------------------------------------------------------------------------------


def test_temperature_and_top_p_are_one_unless_they_are_said():
    assert chat().options == {"temperature": 1.0, "top_p": 1.0}
    assert chat(temperature=0, top_p=0).options == {"temperature": 0, "top_p": 0}


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"max_tokens": 5}, {"num_predict": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 3}, {"num_predict": 3}),
        ({"seed": 7}, {"seed": 7}),
        ({"stop": "."}, {"stop": ["."]}),
        ({"stop": [".", "", "\n"]}, {"stop": [".", "\n"]}),
        ({"frequency_penalty": 1, "presence_penalty": -1}, {"frequency_penalty": 1, "presence_penalty": -1}),
        ({"logit_bias": {"5": -100, "07": 1.5}}, {"logit_bias": {"5": -100, "07": 1.5}}),
        ({"logit_bias": {}}, {}),
    ],
)
def test_fields_become_options(fields, options):
    assert chat(**fields).options == {"temperature": 1.0, "top_p": 1.0} | options


def test_each_of_n_answers_has_the_next_seed():
    assert [request.options["seed"] for request in chats(n=3, seed=40)] == [40, 41, 42]
    assert [request.options.get("seed") for request in chats(n=2)] == [None, None]


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "medium"}, "medium"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning": {"effort": "high"}}, "high"),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "low"}, "high"),
        ({"reasoning": {"summary": "auto"}, "reasoning_effort": "low"}, "low"),
    ],
)
def test_efforts_are_ways_of_thinking(fields, think):
    assert chat(**fields).think == think


@pytest.mark.parametrize(
    ("form", "native"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": " JSON_Object "}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}, {"type": "object"}),
        ({}, None),
    ],
)
def test_a_response_format_is_a_format(form, native):
    assert chat(response_format=form).format == native


def test_functions_of_the_older_form_are_tools():
    request = chat(functions=[{"name": "get_weather"}], function_call={"name": "get_weather"})
    assert request.tools == [TOOL]
    assert request.tool_choice == {"type": "function", "function": {"name": "get_weather"}}
    assert chat(functions=[{"name": "get_weather"}], function_call="none").tool_choice == "none"


def test_logprobs_are_asked_for_as_they_are_natively():
    request = chat(logprobs=True, top_logprobs=3)
    assert (request.logprobs, request.top_logprobs) == (True, 3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        ({"reasoning_effort": "some"}, "reasoning_effort"),
        ({"reasoning": {"effort": "some"}}, "reasoning.effort"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "sing"}}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": "none"}, "tools"),
        ({"seed": "x"}, "seed"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": 1}]}, "messages.tool_calls"),
    ],
)
def test_a_field_that_cannot_be_is_named(fields, param):
    error = refusal(chat, **fields)
    assert (error.type, error.param) == ("invalid_request_error", param)


# -- completions and embeddings ----------------------------------------------------------------------------------------


def generates(prompts=("Hi",), **fields):
    return native_generates(decoded(CompletionRequest, {"model": "m", **fields}), list(prompts))


def test_a_completion_asks_for_each_prompt_n_times():
    asked = generates(("a", "b"), n=2, seed=1)
    assert [(request.prompt, request.options["seed"]) for request in asked] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_a_completion_always_says_penalties_and_takes_no_zero_for_top_p():
    plain_options = {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0}
    assert generates()[0].options == generates(top_p=0)[0].options == plain_options
    assert generates(presence_penalty=0.5, top_p=0.5)[0].options == plain_options | {
        "presence_penalty": 0.5,
        "top_p": 0.5,
    }


def test_a_completion_passes_on_suffix_format_and_logprobs():
    (request,) = generates(suffix="end", response_format={"type": "json_object"}, logprobs=0)
    assert (request.suffix, request.format) == ("end", "json")
    assert (request.logprobs, request.top_logprobs) == (True, 0)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("", [""]),
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([], None),
        ([[]], None),
        (["a", 1], None),
        (["a", [1]], None),
        ([True], None),
        ([-1], None),
        ([1.0], None),
        ([1 << 31], None),
        (5, None),
        ({}, None),
        (None, None),
    ],
)
def test_texts_are_told_from_token_ids(value, read):
    assert texts_or_tokens(value) == read


def test_without_a_prompt_there_is_an_empty_one():
    assert prompts_of(CompletionRequest()) == [""]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 1, "echo": True}, "logprobs"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a"] * 17, "n": 128}, "prompt"),
    ],
)
def test_a_completion_that_cannot_be_had_is_refused(fields, param):
    request = decoded(CompletionRequest, fields)

    def refuse():
        check(request)
        prompts_of(request)

    assert refusal(refuse).param == param


def test_best_of_as_many_as_are_given_is_no_wish():
    check(CompletionRequest(n=2, best_of=2))


@pytest.mark.parametrize(
    ("fields", "text", "param"),
    [
        ({}, "invalid input", "input"),
        ({"input": []}, "invalid input", "input"),
        ({"input": [None]}, "invalid input type", "input"),
        ({"input": 5}, "invalid input type", "input"),
        (
            {"input": "a", "encoding_format": "hex"},
            "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64'].",
            "encoding_format",
        ),
    ],
)
def test_what_cannot_be_embedded_is_refused(fields, text, param):
    error = refusal(inputs_of, decoded(EmbeddingsRequest, fields))
    assert (error.message, error.param) == (text, param)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "param", "code"),
    [
        (BadRequestError("no"), "invalid_request_error", None, None),
        (BadRequestError("model is required"), "invalid_request_error", "model", None),
        (FieldError("no", "n", code="too_many"), "invalid_request_error", "n", "too_many"),
        (NotFoundError("no"), "not_found_error", "model", "model_not_found"),
        (OllamaError("no", status=401), "authentication_error", None, None),
        (BadRequestError('option "logit_bias": no'), "invalid_request_error", "logit_bias", None),
        (
            BadRequestError("tools[1].function.parameters: expected an object, got a number"),
            "invalid_request_error",
            "tools.1.function.parameters",
            None,
        ),
        (OllamaError("no", status=403), "permission_error", None, None),
        (OllamaError("no", status=499), "api_error", None, None),
        (BusyError(), "api_error", None, None),
        (OllamaError("no"), "api_error", None, None),
    ],
)
def test_the_type_of_an_error_follows_from_its_status(error, kind, param, code):
    detail = error_reply(error).error
    assert (detail.message, detail.type, detail.param, detail.code) == (error.message, kind, param, code)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 200)
    | st.floats(-3, 3)
    | st.sampled_from(["", "a", "json_object", "user"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "role", "content", "function", "name", "effort", "image_url", "url", "schema"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def bodies(kind):
    """Requests with some of their fields, whose values are of any type."""
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    return st.dictionaries(st.sampled_from(names), JSON, max_size=4)


def taken_or_refused(make):
    """What is asked makes something, or is refused as it should be: no other error is raised."""
    with contextlib.suppress(BadRequestError):
        assert make()


@given(bodies(ChatCompletionRequest), st.booleans())
def test_whatever_a_chat_is_asked_with_is_taken_or_refused(fields, whole):
    taken_or_refused(lambda: chats(**({} if whole else {"messages": [USER]}) | fields))


@given(bodies(CompletionRequest))
def test_whatever_a_completion_is_asked_with_is_taken_or_refused(fields):
    def make():
        request = decoded(CompletionRequest, fields)
        check(request)
        return native_generates(request, [""] * len(prompts_of(request)))

    taken_or_refused(make)


@given(bodies(EmbeddingsRequest))
def test_whatever_is_to_be_embedded_is_taken_or_refused(fields):
    taken_or_refused(lambda: inputs_of(decoded(EmbeddingsRequest, fields)))


def test_a_hint_stands_beside_the_text():
    detail = error_reply(BadRequestError("no", hint="say yes")).error
    assert msgspec.to_builtins(detail)["hint"] == "say yes"
