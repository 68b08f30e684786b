"""``llama-index-llms-ollama`` against a real server: completion, chat, tools and structured answers."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import ollama
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama
from samples import SMOLLM2
from weather import CITIES, Weather, get_weather, weather_question

HELLO = "Say hello."
ASKED = [ChatMessage(role="user", content=HELLO)]
OPTIONS = {"num_predict": 8, "num_thread": 1}
TOOLBOX = [FunctionTool.from_defaults(get_weather)]


@pytest.fixture
def llm(url):
    """Makes a model of the server's own context, closed in the end."""

    @contextmanager
    def make(name=SMOLLM2, temperature=0.0, context_window=1024, **options):
        model = Ollama(
            model=name,
            base_url=url,
            temperature=temperature,
            context_window=context_window,
            request_timeout=120,
            additional_kwargs={**OPTIONS, **options},
        )
        with model.client:
            yield model

    return make


def run(model, use):
    """A coroutine with the asynchronous side of a model, to the end."""

    async def inner():
        async with model.async_client:
            return await use(model)

    return asyncio.run(inner())


def test_completion_whole_and_in_pieces(llm):
    with llm() as model:
        whole = model.complete(HELLO)
        pieces = list(model.stream_complete(HELLO))
    assert whole.text
    assert "".join(piece.delta for piece in pieces) == pieces[-1].text == whole.text
    assert len(pieces) > 2


def test_chat_whole_and_in_pieces(llm):
    with llm() as model:
        whole = model.chat(ASKED)
        pieces = list(model.stream_chat(ASKED))
    assert whole.message.role == "assistant"
    assert whole.message.content
    assert "".join(piece.delta for piece in pieces) == pieces[-1].message.content == whole.message.content
    usage = whole.raw["usage"]
    assert 0 < usage["completion_tokens"] <= 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert pieces[-1].raw["usage"] == usage


def test_the_asynchronous_calls_say_the_same(llm):
    async def use(model):
        chat = await model.achat(ASKED)
        chat_pieces = [piece async for piece in await model.astream_chat(ASKED)]
        text = await model.acomplete(HELLO)
        text_pieces = [piece async for piece in await model.astream_complete(HELLO)]
        return chat.message.content, chat_pieces[-1].message.content, text.text, text_pieces[-1].text

    with llm() as model:
        answers = run(model, use)
    assert answers[0]
    assert len(set(answers)) == 1


def test_the_context_is_read_from_the_model(llm):
    with llm(context_window=-1) as model:
        assert model.metadata.context_window == 8192
        assert model.metadata.model_name == SMOLLM2


@pytest.mark.parametrize("city", CITIES)
def test_a_tool_is_called(llm, city):
    with llm("caller", num_predict=80, repeat_penalty=1) as model:
        response = model.chat_with_tools(TOOLBOX, user_msg=weather_question(city)["content"])
        (call,) = model.get_tool_calls_from_response(response)
        assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": city})
        result = model.predict_and_call(TOOLBOX, user_msg=weather_question(city)["content"])
    assert result.response == get_weather(city)


def test_a_streamed_tool_call(llm):
    with llm("caller", num_predict=80, repeat_penalty=1) as model:
        *_, last = model.stream_chat_with_tools(TOOLBOX, user_msg=weather_question()["content"])
        (call,) = model.get_tool_calls_from_response(last)
    assert call.tool_kwargs == {"city": "Rome"}


def test_a_call_and_its_result_go_back(llm):
    with llm("caller", num_predict=80, repeat_penalty=1) as model:
        history = [ChatMessage(role="user", content=weather_question()["content"])]
        response = model.chat_with_tools(TOOLBOX, chat_history=list(history))
        result = ChatMessage(role="tool", content=get_weather("Rome"))
        after = model.chat([*history, response.message, result])
    assert after.raw["done"]
    assert after.message.content


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_structured_prediction(llm, temperature):
    prompt = PromptTemplate("What is the weather in {city}?")
    with llm(temperature=temperature, num_predict=80, seed=2) as model:
        answer = model.structured_predict(Weather, prompt, city="Lima")
        *_, streamed = model.stream_structured_predict(Weather, prompt, city="Lima")
        async_answer = run(model, lambda model: model.astructured_predict(Weather, prompt, city="Lima"))
    assert isinstance(answer, Weather)
    assert isinstance(async_answer, Weather)
    assert Weather.model_validate(streamed.model_dump())


def test_a_structured_model(llm):
    question = [ChatMessage(role="user", content=weather_question()["content"])]
    with llm(num_predict=80) as model:
        structured = model.as_structured_llm(Weather)
        chat = structured.chat(question)
        text = structured.complete(weather_question()["content"])
    assert isinstance(chat.raw, Weather)
    assert Weather.model_validate_json(chat.message.content) == chat.raw
    assert isinstance(text.raw, Weather)


def test_thinking_is_a_block_of_its_own(url):
    model = Ollama("thinker", url, 0.0, 1024, thinking=True, additional_kwargs=OPTIONS)
    with model.client:
        first, second = model.chat(ASKED).message.blocks
    assert first.content
    assert second.text == ""


def test_errors_are_those_of_the_ollama_client(llm):
    with llm("nope") as model, pytest.raises(ollama.ResponseError, match="not found") as caught:
        model.chat(ASKED)
    assert caught.value.status_code == 404
