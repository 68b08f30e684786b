"""``langchain-ollama`` against a real server: chat, tools, structured answers, embeddings and plain completion."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import ollama
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from samples import SMOLLM2
from weather import CITIES, Weather, json_question, weather_question

OPTIONS = {"temperature": 0, "num_predict": 8, "num_thread": 1}
LONG = {**OPTIONS, "num_predict": 80}
HELLO = "Say hello."


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"22 degrees in {city}"


@contextmanager
def closing(model):
    """A model whose connections are closed in the end, which LangChain leaves to the garbage collector."""
    with model._client:
        yield model


def run(make, use):
    """A coroutine with a model of its own, to the end."""

    async def inner():
        model = make()
        with model._client:
            async with model._async_client:
                return await use(model)

    return asyncio.run(inner())


@pytest.fixture
def chat(url):
    def make(name=SMOLLM2, **fields):
        return ChatOllama(model=name, base_url=url, **{**OPTIONS, **fields})

    return make


def test_invoke_and_stream_say_the_same(chat):
    with closing(chat()) as model:
        answer = model.invoke(HELLO)
        chunks = list(model.stream(HELLO))
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert "".join(chunk.text for chunk in chunks) == answer.text
    assert len(chunks) > 2


def test_usage_and_metadata(chat):
    with closing(chat()) as model:
        answer = model.invoke([SystemMessage("Be brief."), HumanMessage(HELLO)])
        first, *others = model.stream(HELLO)
    usage = answer.usage_metadata
    assert usage["input_tokens"] > 0
    assert 0 < usage["output_tokens"] <= 8
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert answer.response_metadata["model_name"] == SMOLLM2
    assert answer.response_metadata["done_reason"] in ("stop", "length")
    assert answer.response_metadata["total_duration"] > 0
    assert 0 < sum(others, start=first).usage_metadata["output_tokens"] <= 8


def test_batch_is_in_order(chat):
    questions = [HELLO, "Count to three.", HELLO]
    with closing(chat()) as model:
        singles = [model.invoke(question).text for question in questions]
        assert [answer.text for answer in model.batch(questions)] == singles


def test_the_asynchronous_calls(chat):
    async def use(model):
        answer = await model.ainvoke(HELLO)
        chunks = [chunk async for chunk in model.astream(HELLO)]
        batch = await model.abatch([HELLO, HELLO])
        return answer.text, "".join(chunk.text for chunk in chunks), *(one.text for one in batch)

    assert len(set(run(chat, use))) == 1


def test_stop_words_end_the_answer(chat):
    with closing(chat()) as model:
        whole = model.invoke(HELLO).text
        word = whole.split()[2]
        assert model.invoke(HELLO, stop=[word]).text == whole.partition(word)[0]


@pytest.mark.parametrize("city", CITIES)
def test_a_bound_tool_is_called_and_answered(chat, city):
    with closing(chat("caller", num_predict=80, repeat_penalty=1)) as model:
        bound = model.bind_tools([get_weather])
        history = [HumanMessage(weather_question(city)["content"])]
        answer = bound.invoke(history)
        (call,) = answer.tool_calls
        assert (call["name"], call["args"], call["type"]) == ("get_weather", {"city": city}, "tool_call")
        result = get_weather.invoke(call)
        assert isinstance(result, ToolMessage)
        last = bound.invoke([*history, answer, result], options={"num_predict": 4, "num_thread": 1})
    assert last.usage_metadata["input_tokens"] > answer.usage_metadata["input_tokens"]


def test_a_streamed_tool_call_is_gathered(chat):
    with closing(chat("caller", num_predict=80, repeat_penalty=1)) as model:
        first, *others = model.bind_tools([get_weather]).stream(weather_question()["content"])
    whole = sum(others, start=first)
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Rome"}]


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_structured_output_by_a_schema(chat, temperature):
    with closing(chat(**{**LONG, "temperature": temperature, "seed": 5})) as model:
        answer = model.with_structured_output(Weather).invoke(weather_question()["content"])
        assert isinstance(answer, Weather)
        schema = model.with_structured_output(Weather.model_json_schema(), method="json_schema")
        assert Weather.model_validate(schema.invoke(weather_question()["content"]))


def test_structured_output_by_json_mode(chat):
    turns = [(message["role"], message["content"]) for message in json_question()]
    with closing(chat(**LONG)) as model:
        answer = model.with_structured_output({"title": "Any", "type": "object"}, method="json_mode").invoke(turns)
        raw = model.with_structured_output(Weather, method="json_mode", include_raw=True).invoke(turns)
    assert isinstance(answer, dict)
    assert raw["raw"].text.startswith("{")


def test_structured_output_by_a_tool_call(chat):
    schema = get_weather.tool_call_schema
    with closing(chat("caller", num_predict=80, repeat_penalty=1)) as model:
        structured = model.with_structured_output(schema, method="function_calling")
        assert structured.invoke(weather_question()["content"]).city == "Rome"


def test_structured_output_in_a_coroutine(chat):
    async def use(model):
        return await model.with_structured_output(Weather).ainvoke(weather_question()["content"])

    assert isinstance(run(lambda: chat(**LONG), use), Weather)


def test_reasoning_is_apart_from_the_content(chat):
    with closing(chat("thinker", reasoning=True)) as model:
        answer = model.invoke(HELLO)
    assert answer.additional_kwargs["reasoning_content"]
    assert answer.text == ""


def test_log_probabilities(chat):
    with closing(chat(logprobs=True, top_logprobs=2)) as model:
        answer = model.invoke(HELLO)
    assert len(answer.response_metadata["logprobs"]) == answer.usage_metadata["output_tokens"]


def test_the_model_is_looked_for_when_asked_to(chat):
    with closing(chat(validate_model_on_init=True)):
        pass
    # Nobody gets this model, so that nobody could close its connections.
    unkept = {"headers": {"Connection": "close"}}
    with pytest.raises(ValueError, match="not found in Ollama"):
        chat("nope", validate_model_on_init=True, client_kwargs=unkept)


def test_errors_are_those_of_the_ollama_client(chat):
    with closing(chat("nope")) as model, pytest.raises(ollama.ResponseError, match="not found"):
        model.invoke(HELLO)
    image = HumanMessage([{"type": "image_url", "image_url": "data:image/png;base64,iVBORw0KGgo="}])
    with closing(chat()) as model, pytest.raises(ollama.ResponseError, match="does not support vision"):
        model.invoke([image])


def test_embeddings(url):
    with closing(OllamaEmbeddings(model=SMOLLM2, base_url=url, num_thread=1)) as model:
        query = model.embed_query("A cat.")
        documents = model.embed_documents(["A cat.", "The stock market fell."])
    assert [len(vector) for vector in documents] == [len(query)] * 2 == [576] * 2
    same, other = (sum(a * b for a, b in zip(query, vector, strict=True)) for vector in documents)
    assert same > 0.99
    assert same > other


def test_asynchronous_embeddings(url):
    async def use(model):
        return await model.aembed_query("A cat."), await model.aembed_documents(["A cat.", "A dog."])

    query, documents = run(lambda: OllamaEmbeddings(model=SMOLLM2, base_url=url, num_thread=1), use)
    assert len(query) == len(documents[1]) == 576


def test_plain_completion(url):
    with closing(OllamaLLM(model=SMOLLM2, base_url=url, **OPTIONS)) as model:
        text = model.invoke(HELLO)
        assert text
        assert "".join(model.stream(HELLO)) == text
        assert model.batch([HELLO, HELLO]) == [text, text]


def test_asynchronous_plain_completion(url):
    async def use(model):
        return await model.ainvoke(HELLO), "".join([piece async for piece in model.astream(HELLO)])

    whole, pieces = run(lambda: OllamaLLM(model=SMOLLM2, base_url=url, **OPTIONS), use)
    assert whole
    assert whole == pieces
