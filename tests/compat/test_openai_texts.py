"""PyPI's ``openai`` against a real server: plain completions, embeddings and the list of models."""

from __future__ import annotations

import asyncio
import math

import openai
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from samples import SMOLLM2

PLAIN = {"model": "small", "prompt": "Say hello.", "temperature": 0, "max_tokens": 8}
STORY = {"model": "tools", "prompt": "Tell me a very long story.", "temperature": 0, "max_tokens": 900}
"""An answer that takes longer than any test looks at it."""
WIDTH = 576
"""Numbers in a vector of SmolLM2-135M."""


@pytest.fixture(scope="module")
def client(v1):
    with openai.OpenAI(base_url=v1, api_key="ollama", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def complete(client):
    """``completions.create``, its answers held against the client's types."""

    def ask(**fields):
        answer = client.completions.create(**{**PLAIN, **fields})
        if fields.get("stream"):
            return [checked(chunk) for chunk in answer]
        return checked(answer)

    def checked(answer):
        # The type wants a finish reason in every chunk, the API says null until the last one.
        said = answer.model_dump()
        for choice in said["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        Completion.model_validate(said)
        return answer

    return ask


@pytest.fixture(scope="module")
def embed(client):
    """``embeddings.create``, its answers held against the client's types."""

    def ask(text, **fields):
        answer = client.embeddings.create(model="small", input=text, **fields)
        if fields.get("encoding_format") == "base64":
            return answer
        return CreateEmbeddingResponse.model_validate(answer.model_dump())

    return ask


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def test_a_completion(complete):
    answer = complete()
    (choice,) = answer.choices
    assert choice.text
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert (answer.object, answer.model) == ("text_completion", "small")
    assert answer.id.startswith("cmpl-")


def test_a_stream_says_the_same_in_pieces(complete):
    whole = complete().choices[0].text
    chunks = complete(stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "length"
    *pieces, last = complete(stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in pieces) == whole
    assert (last.choices, last.usage.completion_tokens) == ([], 8)


def test_several_prompts_are_answered_in_order(complete):
    singles = [complete(prompt=prompt).choices[0].text for prompt in ("Say hello.", "Count to ten.")]
    answer = complete(prompt=["Say hello.", "Count to ten."])
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert [choice.text for choice in answer.choices] == singles
    assert answer.usage.prompt_tokens > complete().usage.prompt_tokens


def test_several_choices_of_a_prompt(complete):
    answer = complete(n=2, temperature=1.2, seed=3)
    assert [choice.index for choice in answer.choices] == [0, 1]
    full = sum(choice.finish_reason == "length" for choice in answer.choices)
    assert full * 8 <= answer.usage.completion_tokens <= 2 * 8


def test_an_echo_repeats_the_prompt(complete):
    assert complete(echo=True).choices[0].text == "Say hello." + complete().choices[0].text


def test_log_probabilities(complete):
    (choice,) = complete(logprobs=2).choices
    assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) == 8
    assert "".join(choice.logprobs.tokens) == choice.text
    assert all(value <= 0 for value in choice.logprobs.token_logprobs)
    assert all(0 < len(top) <= 3 for top in choice.logprobs.top_logprobs)
    starts = [len("".join(choice.logprobs.tokens[:count])) for count in range(8)]
    assert choice.logprobs.text_offset == starts


def test_stop_words_and_seeds(complete):
    whole = complete().choices[0].text
    word = whole.split()[2]
    assert complete(stop=word).choices[0].text == whole.partition(word)[0]
    hot = {"temperature": 1.2, "seed": 5}
    assert complete(**hot).choices[0].text == complete(**hot).choices[0].text


def test_a_suffix(complete):
    fill = complete(model="filler", prompt="def add(a, b):\n    return ", suffix="\n")
    assert fill.usage.prompt_tokens != complete(model="filler", prompt=PLAIN["prompt"]).usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "error", "param", "words"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model", "not found"),
        ({"best_of": 3}, openai.BadRequestError, "best_of", "best_of"),
        ({"suffix": "end"}, openai.BadRequestError, None, "does not support insert"),
        ({"logprobs": 21}, openai.BadRequestError, "logprobs", "logprobs"),
        ({"stop": [1.5]}, openai.BadRequestError, "stop", "stop"),
        ({"prompt": {"text": "no"}}, openai.BadRequestError, "prompt", "prompt"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_with_its_reason(client, fields, error, param, words):
    with pytest.raises(error, match=words) as caught:
        client.completions.create(**{**PLAIN, **fields})
    assert {"message", "type", "param", "code"} <= set(caught.value.body)
    assert caught.value.param == param


def test_an_error_in_mid_stream_reaches_the_client(client, kill_model):
    stream = client.completions.create(**STORY, stream=True)
    next(stream)
    kill_model()
    with pytest.raises(openai.APIError, match="model runner has unexpectedly stopped"):
        list(stream)


def test_embeddings_in_order_as_floats_and_as_base64(embed):
    texts = ["A cat.", "The stock market fell."]
    floats, default = embed(texts, encoding_format="float"), embed(texts)
    assert [item.index for item in floats.data] == [0, 1]
    for one, other in zip(floats.data, default.data, strict=True):
        assert len(one.embedding) == WIDTH
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-4)
        assert cosine(one.embedding, other.embedding) > 0.99
    assert isinstance(embed("A cat.", encoding_format="base64").data[0].embedding, str)
    assert cosine(floats.data[0].embedding, floats.data[1].embedding) < 0.99
    assert default.usage.prompt_tokens == default.usage.total_tokens > 0
    assert (default.object, default.model) == ("list", "small")


def test_embeddings_of_token_ids(embed):
    several, single = embed([[504, 2644, 30], [504]]), embed([504, 2644, 30])
    assert several.usage.prompt_tokens > single.usage.prompt_tokens >= 3
    assert cosine(several.data[0].embedding, single.data[0].embedding) > 0.99
    assert len(several.data) == 2


def test_embeddings_of_fewer_dimensions(embed):
    (whole,), (short,) = embed("A cat.").data, embed("A cat.", dimensions=32).data
    assert len(short.embedding) == 32
    assert cosine(short.embedding, whole.embedding[:32]) > 0.99


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"model": "nope"}, openai.NotFoundError, "not found"),
        ({"input": []}, openai.BadRequestError, "invalid input"),
        ({"input": 5}, openai.BadRequestError, "invalid input"),
        ({"input": [1, "two"]}, openai.BadRequestError, "invalid input type"),
        ({"encoding_format": "hex"}, openai.BadRequestError, "encoding_format"),
        ({"dimensions": -1}, openai.BadRequestError, "dimensions"),
    ],
)
def test_embeddings_that_cannot_be_had(client, fields, error, words):
    with pytest.raises(error, match=words):
        client.embeddings.create(**{"model": "small", "input": "A cat.", **fields})


def test_models(client):
    models = {model.id: model for model in client.models.list()}
    assert {SMOLLM2, "small:latest", "caller:latest"} <= set(models)
    assert {(model.object, model.owned_by) for model in models.values()} == {("model", "library")}
    one = client.models.retrieve(SMOLLM2)
    assert one == models[SMOLLM2]
    assert one.created > 1_600_000_000
    assert client.models.retrieve("small").id == "small"
    with pytest.raises(openai.NotFoundError, match="'nope' not found") as caught:
        client.models.retrieve("nope")
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_the_asynchronous_client_does_the_same(v1, complete):
    async def use():
        async with openai.AsyncOpenAI(base_url=v1, api_key="ollama", max_retries=0) as client:
            whole = (await client.completions.create(**PLAIN)).choices[0].text
            chunks = [chunk async for chunk in await client.completions.create(**PLAIN, stream=True)]
            vectors = (await client.embeddings.create(model="small", input=["A cat.", "A dog."])).data
            models = [model.id async for model in client.models.list()]
            return whole, "".join(chunk.choices[0].text for chunk in chunks), vectors, models

    whole, streamed, vectors, models = asyncio.run(use())
    assert whole == streamed == complete().choices[0].text
    assert [len(vector.embedding) for vector in vectors] == [WIDTH] * 2
    assert SMOLLM2 in models
