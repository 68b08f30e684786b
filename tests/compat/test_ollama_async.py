"""PyPI's ``ollama`` in its asynchronous form against a real server: the same as the synchronous one."""

from __future__ import annotations

import asyncio

import ollama
import pytest
from http_calls import OPTIONS
from samples import SMOLLM2
from weather import Weather, get_weather, weather_question

ASKED = [{"role": "user", "content": "Say hello."}]
CHAT = {"model": SMOLLM2, "messages": ASKED, "options": OPTIONS}
GENERATE = {"model": SMOLLM2, "prompt": "Say hello.", "options": OPTIONS}


def run(url, use):
    """A coroutine with a client of its own, to the end."""

    async def inner():
        async with ollama.AsyncClient(host=url) as client:
            return await use(client)

    return asyncio.run(inner())


def test_answers_whole_and_in_pieces_are_the_same(url):
    async def use(client):
        whole = await client.chat(**CHAT)
        parts = [part async for part in await client.chat(**CHAT, stream=True)]
        text = await client.generate(**GENERATE)
        pieces = [piece async for piece in await client.generate(**GENERATE, stream=True)]
        return whole, parts, text, pieces

    whole, parts, text, pieces = run(url, use)
    assert whole.message.content
    assert whole.message.content == text.response
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert "".join(piece.response for piece in pieces) == text.response
    assert parts[-1].eval_count == pieces[-1].eval_count == whole.eval_count


def test_models_are_made_shown_copied_and_deleted(url, tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(b"a blob of the asynchronous client's")

    async def use(client):
        digest = await client.create_blob(path)
        created = await client.create(model="async", from_=SMOLLM2, system="Be brief.")
        steps = [step.status async for step in await client.create(model="async3", from_="async", stream=True)]
        shown = await client.show("async3")
        copied = await client.copy("async", "async2")
        listed = {model.model for model in (await client.list()).models}
        deleted = [(await client.delete(name)).status for name in ("async", "async2", "async3")]
        left = {model.model for model in (await client.list()).models}
        return digest, created.status, steps, shown, copied.status, listed - left, deleted

    digest, created, steps, shown, copied, gone, deleted = run(url, use)
    assert digest.startswith("sha256:")
    assert (created, steps[-1], copied) == ("success", "success", "success")
    assert shown.capabilities == ["completion"]
    assert gone == {"async:latest", "async2:latest", "async3:latest"}
    assert deleted == ["success"] * 3


def test_ps_names_what_is_loaded(url):
    async def use(client):
        await client.chat(**CHAT)
        return await client.ps()

    (running,) = run(url, use).models
    assert running.context_length == 1024


def test_a_python_function_is_called(url):
    async def use(client):
        ask = {"model": "caller", "messages": [weather_question("Lima")], "tools": [get_weather]}
        whole = await client.chat(**ask)
        parts = [part async for part in await client.chat(**ask, stream=True)]
        return whole, [call for part in parts for call in part.message.tool_calls or ()]

    whole, streamed = run(url, use)
    assert [call.function.arguments for call in whole.message.tool_calls] == [{"city": "Lima"}]
    assert [call.function for call in streamed] == [call.function for call in whole.message.tool_calls]


def test_a_schema_binds_the_answer(url):
    async def use(client):
        options = {**OPTIONS, "num_predict": 80}
        return await client.chat(SMOLLM2, [weather_question()], format=Weather.model_json_schema(), options=options)

    assert Weather.model_validate_json(run(url, use).message.content)


def test_embeddings(url):
    async def use(client):
        many = await client.embed(SMOLLM2, ["A cat.", "A dog."], options=OPTIONS)
        older = await client.embeddings(SMOLLM2, "A cat.", options=OPTIONS)
        return many, older

    many, older = run(url, use)
    assert [len(vector) for vector in many.embeddings] == [576, 576]
    assert len(older.embedding) == 576


def test_errors_are_raised_where_they_are_awaited(url):
    async def use(client):
        with pytest.raises(ollama.ResponseError, match="not found") as whole:
            await client.chat(model="nope", messages=ASKED)
        with pytest.raises(ollama.ResponseError, match="not found") as streamed:
            async for _ in await client.chat(model="nope", messages=ASKED, stream=True):
                pass
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.show("nope")
        return whole.value.status_code, streamed.value.status_code

    assert run(url, use) == (404, 404)


def test_several_chats_at_once_are_all_answered(url):
    async def use(client):
        return await asyncio.gather(*(client.chat(**CHAT) for _ in range(4)))

    assert len({answer.message.content for answer in run(url, use)}) == 1


def test_a_stream_that_is_left_lets_the_next_one_go_on(url):
    async def use(client):
        endless = {**CHAT, "options": {**OPTIONS, "num_predict": -1}}
        parts = await client.chat(**endless, stream=True)
        first = await anext(parts)
        await parts.aclose()
        return first, await client.chat(**CHAT)

    first, after = run(url, use)
    assert not first.done
    assert after.done
