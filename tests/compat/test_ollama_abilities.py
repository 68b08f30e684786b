"""PyPI's ``ollama`` against a real server: tools, thinking, images, formats, log probabilities and embeddings."""

from __future__ import annotations

import json
import math

import ollama
import pytest
from http_calls import OPTIONS
from samples import SMOLLM2
from weather import CITIES, Weather, get_weather, json_question, weather_question

ASKED = [{"role": "user", "content": "Say hello."}]
LONG = {**OPTIONS, "num_predict": 80}
LIKELIEST = {**OPTIONS, "repeat_penalty": 1}
"""Nothing comes between a token's probability and its choice."""
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
WIDTH = 576
"""Numbers in a vector of SmolLM2-135M."""


@pytest.fixture(scope="module")
def client(url):
    with ollama.Client(host=url) as client:
        yield client


def length(vector):
    return math.sqrt(sum(value * value for value in vector))


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (length(one) * length(other))


@pytest.mark.parametrize("city", CITIES)
def test_a_python_function_is_called_and_its_result_answered(client, city):
    messages = [weather_question(city)]
    answer = client.chat("caller", messages, tools=[get_weather])
    (call,) = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": city})
    assert (answer.message.content, answer.done_reason) == ("", "stop")
    result = get_weather(**call.function.arguments)
    messages += [answer.message, {"role": "tool", "tool_name": call.function.name, "content": result}]
    last = client.chat("caller", messages, tools=[get_weather], options={"num_predict": 4})
    assert last.prompt_eval_count > answer.prompt_eval_count
    assert last.eval_count <= 4


def test_a_streamed_call_comes_whole(client):
    *parts, last = client.chat("caller", [weather_question()], tools=[get_weather], stream=True)
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert [call.function.arguments for call in calls] == [{"city": "Rome"}]
    assert "".join(part.message.content for part in parts) == ""
    assert (last.done, last.done_reason) == (True, "stop")


def test_no_call_without_a_reason(client):
    answer = client.chat("caller", ASKED, tools=[get_weather], options={"num_predict": 12})
    assert not answer.message.tool_calls
    assert answer.message.content


def test_thinking_is_apart_from_the_content(client):
    answer = client.chat("thinker", ASKED, think=True)
    assert answer.message.thinking
    assert answer.message.content == ""
    parts = list(client.chat("thinker", ASKED, think=True, stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == answer.message.thinking
    plain = client.chat("thinker", ASKED, think=False)
    assert plain.message.thinking is None
    assert plain.message.content


def test_generate_thinks_too(client):
    answer = client.generate("thinker", "Say hello.", think="low")
    assert answer.thinking
    assert answer.response == ""


def test_text_is_filled_in_before_a_suffix(client):
    answer = client.generate("filler", "def add(a, b):\n    return ", suffix="\n")
    without = client.generate("filler", "def add(a, b):\n    return ")
    assert answer.eval_count > 0
    assert answer.prompt_eval_count != without.prompt_eval_count


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.chat(SMOLLM2, [{**ASKED[0], "images": [PNG]}], options=OPTIONS),
        lambda client: client.generate(SMOLLM2, "What is this?", images=[PNG], options=OPTIONS),
        lambda client: list(client.generate(SMOLLM2, "What is this?", images=[PNG], stream=True)),
    ],
)
def test_an_image_for_a_model_that_cannot_see_is_refused(client, call):
    with pytest.raises(ollama.ResponseError, match="does not support vision") as caught:
        call(client)
    assert caught.value.status_code == 400


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_pydantic_schema_is_what_comes(client, temperature):
    options = {**LONG, "temperature": temperature, "seed": 3}
    answer = client.chat(SMOLLM2, [weather_question()], format=Weather.model_json_schema(), options=options)
    assert Weather.model_validate_json(answer.message.content)
    assert answer.done_reason == "stop"
    text = client.generate(SMOLLM2, "The weather:", format=Weather.model_json_schema(), options=options).response
    assert Weather.model_validate_json(text)


def test_a_schema_holds_for_a_stream(client):
    ask = {"model": SMOLLM2, "messages": [weather_question()], "format": Weather.model_json_schema(), "options": LONG}
    parts = client.chat(**ask, stream=True)
    assert "".join(part.message.content for part in parts) == client.chat(**ask).message.content


def test_json_is_an_object(client):
    answer = client.chat(SMOLLM2, json_question(), format="json", options=LONG)
    assert isinstance(json.loads(answer.message.content), dict)
    assert answer.done_reason == "stop"


def test_log_probabilities_of_every_token(client):
    answer = client.chat(SMOLLM2, ASKED, logprobs=True, top_logprobs=2, options=LIKELIEST)
    assert len(answer.logprobs) == answer.eval_count == 8
    assert "".join(token.token for token in answer.logprobs) == answer.message.content
    for token in answer.logprobs:
        first, second = token.top_logprobs
        assert 0 >= token.logprob == first.logprob >= second.logprob
        assert token.token == first.token
    bare = client.generate(SMOLLM2, "Say hello.", logprobs=True, options=LIKELIEST)
    assert [token.logprob for token in bare.logprobs] == pytest.approx(
        [token.logprob for token in answer.logprobs], abs=0.05
    )
    assert not any(token.top_logprobs for token in bare.logprobs)


def test_log_probabilities_come_with_the_text_of_a_stream(client):
    *parts, last = client.generate(SMOLLM2, "Say hello.", logprobs=True, stream=True, options=OPTIONS)
    tokens = [token for part in (*parts, last) for token in part.logprobs or ()]
    assert len(tokens) == last.eval_count
    assert "".join(token.token for token in tokens) == "".join(part.response for part in parts)


def test_too_many_log_probabilities_are_refused(client):
    with pytest.raises(ollama.ResponseError, match="top_logprobs must be between 0 and 20") as caught:
        client.chat(SMOLLM2, ASKED, logprobs=True, top_logprobs=21)
    assert caught.value.status_code == 400


def test_embeddings_of_one_text_and_of_several(client):
    one = client.embed(SMOLLM2, "Why is the sky blue?", options=OPTIONS)
    (vector,) = one.embeddings
    assert len(vector) == WIDTH
    assert length(vector) == pytest.approx(1, abs=1e-4)
    assert one.prompt_eval_count > 0
    several = client.embed(SMOLLM2, ["A cat.", "Why is the sky blue?", "A cat."], options=OPTIONS)
    cat, sky, again = several.embeddings
    assert cosine(sky, vector) > 0.99
    assert cosine(cat, again) > 0.99
    assert cosine(cat, sky) < 0.99
    assert several.prompt_eval_count > one.prompt_eval_count


def test_an_embedding_of_fewer_dimensions_is_the_beginning_of_the_whole_one(client):
    (whole,) = client.embed(SMOLLM2, "A cat.", options=OPTIONS).embeddings
    (short,) = client.embed(SMOLLM2, "A cat.", dimensions=32, options=OPTIONS).embeddings
    assert len(short) == 32
    assert length(short) == pytest.approx(1, abs=1e-4)
    assert cosine(short, whole[:32]) > 0.99


@pytest.mark.parametrize("nothing", ["", []])
def test_no_text_has_no_embedding(client, nothing):
    assert client.embed(SMOLLM2, nothing, options=OPTIONS).embeddings == []


def test_a_text_that_is_too_long_is_cut_or_refused(client):
    text, narrow = "one two three four " * 30, {**OPTIONS, "num_ctx": 64}
    cut = client.embed(SMOLLM2, [text, text + text], options=narrow)
    assert cosine(*cut.embeddings) > 0.99
    assert 100 < cut.prompt_eval_count <= 2 * 64
    with pytest.raises(ollama.ResponseError, match="exceeds") as caught:
        client.embed(SMOLLM2, text, truncate=False, options=narrow)
    assert caught.value.status_code == 400


def test_the_older_embeddings_call_gives_the_same_direction(client):
    older = client.embeddings(SMOLLM2, "A cat.", options=OPTIONS).embedding
    (newer,) = client.embed(SMOLLM2, "A cat.", options=OPTIONS).embeddings
    assert len(older) == WIDTH
    assert cosine(older, newer) > 0.99


@pytest.mark.parametrize("call", ["embed", "embeddings"])
def test_embeddings_of_a_model_that_is_not_there(client, call):
    with pytest.raises(ollama.ResponseError, match='model "nope" not found') as caught:
        getattr(client, call)("nope", "A cat.")
    assert caught.value.status_code == 404
