"""``litellm`` against a real server, by all three of its ways: ``ollama/``, ``ollama_chat/`` and ``openai/``."""

from __future__ import annotations

import asyncio
import gc
import json

import litellm
import pytest
from weather import TOOL, Weather, weather_question

HELLO = [{"role": "user", "content": "Say hello."}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "weather", "schema": Weather.model_json_schema()}}
WAYS = ("ollama", "ollama_chat", "openai")
TOOLS = {"tools": [TOOL], "_skip_mcp_handler": True}
"""litellm looks through tools for those of MCP servers, for which it wants one more package, unless told not to."""

pytestmark = [
    # litellm's own types, built at first use: its read-only fields are not protected by pydantic.
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class .* using the `ReadOnly` qualifier:UserWarning"),
    # litellm looks at every attribute of a chunk with usage in it.
    pytest.mark.filterwarnings("ignore:Accessing the 'model_(computed_)?fields' attribute on the instance"),
    # litellm keeps clients and an event loop of its own, and leaves what it no longer needs to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed (event loop|transport|.socket.socket):ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _addresses(url):
    """What looks up a model's abilities goes by the environment; nothing of litellm's is left to later tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_API_BASE", url)
        yield
    asyncio.run(litellm.close_litellm_async_clients())
    litellm.module_level_client.close()
    litellm.in_memory_llm_clients_cache.flush_cache()
    gc.collect()


@pytest.fixture
def fields(url, v1):
    """The arguments of a call by one of the ways."""

    def make(way, model="small", **more):
        base = {"api_base": v1, "api_key": "ollama"} if way == "openai" else {"api_base": url}
        return {"model": f"{way}/{model}", "messages": HELLO, "temperature": 0, "max_tokens": 8, **base, **more}

    return make


def text(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("way", WAYS)
def test_completion_whole_and_in_pieces(fields, way):
    whole = litellm.completion(**fields(way))
    (choice,) = whole.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert whole.usage.completion_tokens == 8
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 8
    chunks = list(litellm.completion(**fields(way), stream=True))
    assert text(chunks) == choice.message.content
    assert chunks[-1].choices[0].finish_reason


@pytest.mark.parametrize("way", WAYS)
def test_the_usage_of_a_stream(fields, way):
    chunks = list(litellm.completion(**fields(way), stream=True, stream_options={"include_usage": True}))
    (usage,) = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert usage.completion_tokens == 8
    assert usage.prompt_tokens > 0


@pytest.mark.parametrize("way", WAYS)
def test_acompletion_whole_and_in_pieces(fields, way):
    async def use():
        whole = await litellm.acompletion(**fields(way))
        chunks = [chunk async for chunk in await litellm.acompletion(**fields(way), stream=True)]
        return whole.choices[0].message.content, text(chunks)

    whole, streamed = asyncio.run(use())
    assert whole
    assert whole == streamed


@pytest.mark.parametrize("way", ["ollama_chat", "openai"])
def test_a_tool_is_called_and_answered(fields, way):
    messages = [weather_question("Lima")]
    (choice,) = litellm.completion(**fields(way, "caller", **TOOLS, messages=messages, max_tokens=80)).choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Lima"}
    result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": "22 degrees"}
    messages = [*messages, choice.message.model_dump(exclude_none=True), result]
    after = litellm.completion(**fields(way, "caller", **TOOLS, messages=messages, max_tokens=4))
    assert after.usage.completion_tokens <= 4


@pytest.mark.parametrize("way", ["ollama_chat", "openai"])
def test_a_streamed_tool_call(fields, way):
    ask = fields(way, "caller", **TOOLS, messages=[weather_question()], max_tokens=80)
    chunks = list(litellm.completion(**ask, stream=True))
    (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_schema_binds_the_answer(fields, way, temperature):
    ask = {"messages": [weather_question()], "max_tokens": 80, "temperature": temperature, "seed": 6}
    answer = litellm.completion(**fields(way, **ask), response_format=SCHEMA)
    assert Weather.model_validate_json(answer.choices[0].message.content)


def test_a_required_call_by_the_way_that_can_ask_for_one(fields):
    ask = fields("openai", "tools", **TOOLS, max_tokens=160, tool_choice="required")
    (call,) = litellm.completion(**ask).choices[0].message.tool_calls
    assert set(json.loads(call.function.arguments)) == {"city"}


@pytest.mark.parametrize("way", ["ollama", "openai"])
def test_embeddings(fields, way):
    ask = {key: value for key, value in fields(way).items() if key in ("model", "api_base", "api_key")}
    whole = litellm.embedding(**ask, input=["A cat.", "A dog."])
    assert [len(item["embedding"]) for item in whole.data] == [576, 576]
    assert whole.usage.prompt_tokens > 0


def test_asynchronous_embeddings(fields):
    async def use():
        return await litellm.aembedding(model="ollama/small", api_base=fields("ollama")["api_base"], input=["A cat."])

    assert len(asyncio.run(use()).data[0]["embedding"]) == 576


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_is_not_there(fields, way, stream):
    with pytest.raises((litellm.APIConnectionError, litellm.NotFoundError), match="not found"):
        list(litellm.completion(**fields(way, "nope"), stream=stream))


@pytest.mark.parametrize("way", ["ollama", "ollama_chat"])
def test_what_is_known_of_a_model(way):
    info = litellm.get_model_info(f"{way}/caller")
    assert info["max_tokens"] == 8192
    assert info["supports_function_calling"]
    assert not litellm.get_model_info(f"{way}/small")["supports_function_calling"]
