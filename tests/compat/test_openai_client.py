"""PyPI's ``openai`` against a real server: chat completions, what they can be asked for and how they fail.

The client takes whatever comes, so that every answer is also held against the client's own types.
"""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from weather import CITIES, OTHER_TOOL, TOOL, Weather, json_question, weather_question

HELLO = [{"role": "user", "content": "Say hello."}]
PLAIN = {"model": "small", "messages": HELLO, "temperature": 0, "max_tokens": 8}
STORY = {
    "model": "tools",
    "messages": [{"role": "user", "content": "Tell me a very long story."}],
    "temperature": 0,
    "max_tokens": 900,
}
"""An answer that takes longer than any test looks at it."""
WITH_TOOLS = {"model": "tools", "messages": [weather_question()], "tools": [TOOL, OTHER_TOOL], "max_tokens": 160}
CALLS = {"model": "caller", "messages": [weather_question()], "tools": [TOOL], "temperature": 0, "max_tokens": 80}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "weather", "schema": Weather.model_json_schema()}}
PNG_URL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


@pytest.fixture(scope="module")
def client(v1):
    with openai.OpenAI(base_url=v1, api_key="ollama", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def create(client):
    """``chat.completions.create``, its answers held against the client's types."""

    def ask(**fields):
        answer = client.chat.completions.create(**fields)
        if fields.get("stream"):
            return [ChatCompletionChunk.model_validate(chunk.model_dump()) for chunk in answer]
        return ChatCompletion.model_validate(answer.model_dump())

    return ask


def text(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_completion(create):
    answer = create(**PLAIN)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert choice.index == 0
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "small")
    assert answer.system_fingerprint == "fp_ollama"


def test_a_stream_says_the_same_in_pieces(create):
    whole = create(**PLAIN)
    chunks = create(**PLAIN, stream=True)
    assert text(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert not any(chunk.usage for chunk in chunks)


def test_the_usage_of_a_stream_is_a_last_chunk_without_choices(create):
    *chunks, last = create(**PLAIN, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage == create(**PLAIN).usage
    assert chunks[-1].choices[0].finish_reason == "length"
    assert not any(chunk.usage for chunk in chunks)


def test_a_message_of_text_parts(create):
    parts = [{"type": "text", "text": "Say"}, {"type": "text", "text": "hello."}]
    assert create(**{**PLAIN, "messages": [{"role": "user", "content": parts}]}).choices[0].message.content


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_as_long_as_it_may_be(create, limit):
    answer = create(model="small", messages=HELLO, temperature=0, **{limit: 3})
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (3, "length")


@pytest.mark.parametrize("as_list", [False, True])
def test_stop_words(create, as_list):
    whole = create(**PLAIN).choices[0].message.content
    word = whole.split()[2]
    answer = create(**PLAIN, stop=[word] if as_list else word)
    assert answer.choices[0].message.content == whole.partition(word)[0]
    assert answer.choices[0].finish_reason == "stop"


def test_a_seed_makes_an_answer_repeatable(create):
    def said(seed):
        return create(**{**PLAIN, "temperature": 1.2, "max_tokens": 16}, seed=seed).choices[0].message.content

    assert said(7) == said(7)
    assert len({said(seed) for seed in range(4)}) > 1


def test_several_choices(create):
    hot = {**PLAIN, "temperature": 1.2, "seed": 1}
    answer = create(**hot, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    full = sum(choice.finish_reason == "length" for choice in answer.choices)
    assert full * 8 <= answer.usage.completion_tokens <= 3 * 8
    assert answer.usage.prompt_tokens == create(**PLAIN).usage.prompt_tokens
    chunks = create(**hot, n=2, stream=True)
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1}
    ends = [chunk.choices[0].index for chunk in chunks if chunk.choices[0].finish_reason]
    assert sorted(ends) == [0, 1]


def test_log_probabilities(create):
    (choice,) = create(**PLAIN, logprobs=True, top_logprobs=3).choices
    tokens = choice.logprobs.content
    assert len(tokens) == 8
    assert "".join(token.token for token in tokens) == choice.message.content
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token
        assert 0 >= token.logprob >= token.top_logprobs[1].logprob
        assert bytes(token.bytes).decode() == token.token
    chunks = create(**PLAIN, logprobs=True, stream=True)
    streamed = [token for chunk in chunks if (found := chunk.choices[0].logprobs) for token in found.content]
    assert [token.token for token in streamed] == [token.token for token in tokens]
    assert not any(token.top_logprobs for token in streamed)
    assert create(**PLAIN).choices[0].logprobs is None


@pytest.mark.parametrize("city", CITIES)
def test_a_tool_that_the_model_calls_by_itself(create, city):
    messages = [weather_question(city)]
    (choice,) = create(**{**CALLS, "messages": messages}, tool_choice="auto").choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": city}
    result = {"role": "tool", "tool_call_id": call.id, "content": f"22 degrees in {city}"}
    messages += [choice.message.model_dump(exclude_none=True), result]
    after = create(**{**CALLS, "messages": messages, "max_tokens": 4})
    assert after.usage.completion_tokens <= 4


def test_a_streamed_tool_call(create):
    chunks = create(**CALLS, stream=True)
    (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert call.index == 0
    assert call.id
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("seed", range(3))
def test_a_required_call_comes(create, seed):
    (choice,) = create(**WITH_TOOLS, tool_choice="required", seed=seed).choices
    (call,) = choice.message.tool_calls
    keys = {"get_weather": {"city"}, "add_two_numbers": {"a", "b"}}
    assert set(json.loads(call.function.arguments)) == keys[call.function.name]
    assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize("name", ["get_weather", "add_two_numbers"])
def test_a_named_function_is_called(create, name):
    choice = {"type": "function", "function": {"name": name}}
    (call,) = create(**WITH_TOOLS, tool_choice=choice).choices[0].message.tool_calls
    assert call.function.name == name


def test_no_tool_is_shown_where_none_is_wanted(create):
    none = create(**{**WITH_TOOLS, "max_tokens": 1}, tool_choice="none")
    auto = create(**{**WITH_TOOLS, "max_tokens": 1}, tool_choice="auto")
    assert not none.choices[0].message.tool_calls
    assert none.usage.prompt_tokens < auto.usage.prompt_tokens


def test_a_json_object(create):
    fields = {**PLAIN, "messages": json_question(), "max_tokens": 80}
    (choice,) = create(**fields, response_format={"type": "json_object"}).choices
    assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_json_schema(create, temperature):
    fields = {**PLAIN, "messages": [weather_question()], "max_tokens": 80, "temperature": temperature, "seed": 4}
    answer = create(**fields, response_format=SCHEMA)
    assert Weather.model_validate_json(answer.choices[0].message.content)
    assert text(create(**fields, response_format=SCHEMA, stream=True)) == answer.choices[0].message.content


def test_parse_gives_a_pydantic_object(client):
    fields = {**PLAIN, "messages": [weather_question()], "max_tokens": 80, "response_format": Weather}
    assert isinstance(client.chat.completions.parse(**fields).choices[0].message.parsed, Weather)
    with client.chat.completions.stream(**fields) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Weather)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**{**fields, "max_tokens": 2})


def test_parse_gives_the_arguments_of_a_tool_as_a_pydantic_object(client):
    fields = {**WITH_TOOLS, "tools": [openai.pydantic_function_tool(Weather)], "tool_choice": "required"}
    (call,) = client.chat.completions.parse(**fields).choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


def test_reasoning_is_apart_from_the_content(client):
    answer = client.chat.completions.create(**{**PLAIN, "model": "thinker"}, reasoning_effort="low")
    assert answer.choices[0].message.reasoning
    assert not answer.choices[0].message.content
    without = client.chat.completions.create(**{**PLAIN, "model": "thinker"}, reasoning_effort="none")
    assert without.choices[0].message.content


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": []}, "messages", "is too short"),
        ({"temperature": "warm"}, "temperature", "temperature"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "top_logprobs must be between 0 and 20"),
        ({"n": 0}, "n", "n"),
        ({"tools": [TOOL]}, None, "does not support tools"),
        ({"model": "tools", "tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "invalid message content type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "schema"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_cannot_be_served_is_refused_with_its_reason(client, fields, param, words, stream):
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        client.chat.completions.create(**{**PLAIN, **fields}, stream=stream)
    assert (caught.value.type, caught.value.param) == ("invalid_request_error", param)
    assert {"message", "type", "param", "code"} <= set(caught.value.body)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_is_not_there(client, stream):
    with pytest.raises(openai.NotFoundError, match="not found") as caught:
        client.chat.completions.create(**{**PLAIN, "model": "nope"}, stream=stream)
    error = caught.value
    assert (error.type, error.param, error.code) == ("not_found_error", "model", "model_not_found")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (PNG_URL, "does not support vision"),
        ("http://127.0.0.1/cat.png", "image URLs are not currently supported"),
        ("data:image/png;base64,!", "invalid (message format|image input)"),
        ("data:text/plain;base64,aGk=", "invalid image input"),
    ],
)
def test_an_image_that_cannot_be_seen_is_refused(client, address, words):
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": address}}]
    with pytest.raises(openai.BadRequestError, match=words):
        client.chat.completions.create(**{**PLAIN, "messages": [{"role": "user", "content": parts}]})


def test_an_error_in_mid_stream_reaches_the_client(client, kill_model):
    stream = client.chat.completions.create(**STORY, stream=True)
    next(stream)
    kill_model()
    with pytest.raises(openai.APIError, match="model runner has unexpectedly stopped") as caught:
        list(stream)
    assert caught.value.type == "api_error"
    assert client.chat.completions.create(**PLAIN).choices[0].message.content


def test_the_asynchronous_client_does_the_same(v1, create):
    async def use():
        async with openai.AsyncOpenAI(base_url=v1, api_key="ollama", max_retries=0) as client:
            completions = client.chat.completions
            answers = await asyncio.gather(*(completions.create(**PLAIN) for _ in range(3)))
            chunks = [chunk async for chunk in await completions.create(**PLAIN, stream=True)]
            call = (await completions.create(**CALLS)).choices[0].message.tool_calls[0]
            parsed = await completions.parse(
                model="small", messages=[weather_question()], response_format=Weather, max_tokens=80
            )
            with pytest.raises(openai.NotFoundError):
                await completions.create(**{**PLAIN, "model": "nope"})
            return [answer.choices[0].message.content for answer in answers], text(chunks), call, parsed

    answers, streamed, call, parsed = asyncio.run(use())
    assert {*answers, streamed} == {create(**PLAIN).choices[0].message.content}
    assert call.function.name == "get_weather"
    assert isinstance(parsed.choices[0].message.parsed, Weather)
