from __future__ import annotations

import asyncio
import hashlib
import signal
import threading
from datetime import UTC, datetime

import numpy as np
import pytest

from ollama_nb.client import AsyncClient, Client, history
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError, ServerUnreachableError

WHOLE = "**Why not** - été"


def interrupt_after(seconds):
    """What the stop button does: a signal to the main thread, also while it waits for the network."""
    main = threading.main_thread().ident
    threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGINT)).start()


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


def test_simple_calls_give_typed_values(client):
    assert client.version() == "0.10.0"
    first, second = client.list()
    assert (first.name, first.size, first.details.parameter_size) == ("smollm2:135m", 98_400_000, "134.52M")
    assert first.modified_at.astimezone(UTC) == datetime(2025, 7, 30, 8, 0, 0, 123457, UTC)
    assert second.details.family == ""
    (running,) = client.ps()
    assert (running.context_length, running.expires_at.year) == (2048, 2318)
    assert client.show("smollm2:135m").capabilities == ("completion", "tools")


def test_calls_send_what_ollamas_api_asks_for(client, server):
    client.show("m", verbose=True)
    client.copy("a", "b")
    client.delete("m")
    client.load("m", keep_alive="10m")
    client.unload("m")
    assert server.asked == [
        ("POST", "/api/show", {"model": "m", "verbose": True}),
        ("POST", "/api/copy", {"source": "a", "destination": "b"}),
        ("DELETE", "/api/delete", {"model": "m"}),
        ("POST", "/api/generate", {"model": "m", "keep_alive": "10m", "stream": False}),
        ("POST", "/api/generate", {"model": "m", "keep_alive": 0, "stream": False}),
    ]


def test_a_chat_gives_the_whole_answer_with_its_conversation_and_timings(client, server):
    answer = client.chat("m", "Why?", options={"seed": 1}, think=None)
    assert server.last("/api/chat") == {
        "model": "m",
        "messages": [{"role": "user", "content": "Why?"}],
        "stream": True,
        "options": {"seed": 1},
    }
    assert (str(answer), answer.done_reason, answer.model) == (WHOLE, "stop", "m")
    assert answer.messages == ({"role": "user", "content": "Why?"}, {"role": "assistant", "content": WHOLE})
    assert (answer.timings.tokens_per_second, answer.timings.prompt_tokens_per_second) == (15.0, 80.0)
    assert 0 < answer.timings.first_token <= answer.timings.elapsed


def test_a_conversation_continues_with_the_messages_so_far(client, server):
    first = client.chat("m", "Why?")
    client.chat("m", [*first.messages, {"role": "user", "content": "Really?"}])
    assert [message["role"] for message in server.last("/api/chat")["messages"]] == ["user", "assistant", "user"]


def test_a_stream_gives_the_pieces_as_they_come_and_then_the_result(client):
    with client.chat("m", "Why?", stream=True) as stream:
        pieces = [chunk.text for chunk in stream]
        assert pieces == ["**Why", " not**", " - ", "été", ""]
        assert stream.result().text == WHOLE


def test_thinking_and_tool_calls_are_kept_apart_from_the_text(client):
    answer = client.chat("caller", "Weather?")
    assert (answer.text, answer.thinking) == ("", "Which city?")
    assert answer.tool_calls[0]["function"]["arguments"] == {"city": "Köln"}
    assert answer.messages[-1] == {
        "role": "assistant",
        "content": "",
        "thinking": "Which city?",
        "tool_calls": list(answer.tool_calls),
    }
    assert answer.timings.first_token is not None


def test_generate_gives_text_and_context(client, server):
    answer = client.generate("m", "Once", system="s")
    assert (answer.text, answer.context, answer.prompt) == (WHOLE, (1, 2, 3), "Once")
    assert server.last("/api/generate") == {"model": "m", "prompt": "Once", "stream": True, "system": "s"}


def test_embed_gives_a_vector_a_text(client, server):
    server.replies["/api/embed"] = b'{"model": "m", "embeddings": [[0.6, 0.8], [1, 0]], "prompt_eval_count": 5}'
    embedded = client.embed("m", ("one", "two"), dimensions=2)
    assert embedded.embeddings.tolist() == np.float32([[0.6, 0.8], [1.0, 0.0]]).tolist()
    assert embedded.prompt_eval_count == 5
    assert server.last("/api/embed") == {"model": "m", "input": ["one", "two"], "dimensions": 2}


def test_create_streams_its_steps(client, server):
    steps = [step.status for step in client.create("new", from_="base", parameters={"stop": ["x"]})]
    assert steps == ["parsing GGUF", "writing manifest", "success"]
    assert server.last("/api/create") == {"model": "new", "stream": True, "from": "base", "parameters": {"stop": ["x"]}}


def test_a_file_is_sent_in_pieces_under_its_digest(client, server, tmp_path):
    data = bytes(range(256)) * 10_000
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert not client.blob_exists(digest)
    seen = []
    client.push_blob(path, digest, lambda done, total: seen.append((done, total)))
    assert client.blob_exists(digest)
    assert server.blobs[digest] == data
    assert seen == [(1 << 20, len(data)), (2 << 20, len(data)), (len(data), len(data))]


def test_blob_errors_are_the_servers(client, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(BadRequestError, match="digest mismatch, expected"):
        client.push_blob(path, "sha256:" + "0" * 64)
    with pytest.raises(BadRequestError, match="invalid digest format"):
        client.blob_exists("nonsense")


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.show("missing"),
        lambda client: client.delete("missing"),
        lambda client: client.chat("missing", "Why?"),
        lambda client: client.generate("missing", "Why?", stream=True),
    ],
)
def test_an_http_error_is_raised_with_text_status_and_hint(client, call):
    with pytest.raises(NotFoundError) as caught:
        call(client)
    error = caught.value
    assert (error.message, error.status, error.hint) == ("model 'missing' not found", 404, "Create it first.")


def test_an_error_in_the_stream_is_raised_after_what_came_before_it(client):
    stream = client.chat("fails", "Why?", stream=True)
    assert next(stream).text == "So"
    with pytest.raises(OllamaError, match="llama runner process has terminated") as caught:
        next(stream)
    assert (caught.value.status, caught.value.hint) == (500, "Try again.")
    assert stream.partial().text == "So"


def test_a_connection_that_dies_in_the_middle_is_an_error(client):
    stream = client.chat("breaks", "Why?", stream=True)
    assert next(stream).text == "So far"
    with pytest.raises(OllamaError, match="before the answer was complete"):
        stream.result()


@pytest.mark.parametrize("reply", [b'{"message":{"content":"x"},"done":false}\n{"mess', b"", b'{"done":false}\n'])
def test_a_reply_that_just_stops_is_an_error(client, server, reply):
    server.replies["/api/chat"] = reply
    with pytest.raises(OllamaError, match="before the answer was complete"):
        client.chat("m", "Why?")


def test_a_reply_that_is_not_json_is_an_error(client, server):
    server.replies["/api/tags"] = server.replies["/api/chat"] = b"<html>\n</html>\n"
    with pytest.raises(OllamaError, match="cannot be read"):
        client.list()
    with pytest.raises(OllamaError, match="cannot be read"):
        client.chat("m", "Why?")


@pytest.mark.parametrize(
    "leave",
    [
        lambda stream: stream.close(),
        lambda stream: stream.__exit__(None, None, None),
        lambda stream: stream._response.close(),
    ],
    ids=["close", "with", "connection"],
)
def test_leaving_a_stream_closes_the_connection(client, server, leave):
    stream = client.chat("endless", "Why?", stream=True)
    next(stream)
    leave(stream)
    assert server.left.wait(10)


def test_breaking_out_of_a_loop_closes_the_connection(client, server):
    for _ in client.chat("endless", "Why?", stream=True):
        break
    assert server.left.wait(10)


def test_an_interrupt_in_the_middle_of_a_wait_reaches_the_server(client, server):
    interrupt_after(0.3)
    with pytest.raises(KeyboardInterrupt):
        client.chat("endless", "Why?")
    assert server.left.wait(10)
    (record,) = history
    assert (record.ok, record.error) == (False, "interrupted")


def test_a_partial_answer_says_that_it_was_interrupted(client):
    with client.chat("endless", "Why?", stream=True) as stream:
        next(stream)
    partial = stream.partial()
    assert (partial.text, partial.done_reason) == ("on and ", "interrupted")
    assert partial.timings.elapsed == stream.partial().timings.elapsed


def test_the_history_has_one_record_a_call_good_or_bad(client):
    client.chat("m", "Why?")
    client.generate("m", "Once")
    for model in ("missing", "fails"):
        with pytest.raises(OllamaError):
            client.chat(model, "Why?")
    assert [(record.kind, record.model, record.error) for record in history] == [
        ("chat", "m", None),
        ("generate", "m", None),
        ("chat", "missing", "model 'missing' not found"),
        ("chat", "fails", "llama runner process has terminated"),
    ]


def test_a_token_is_sent_to_a_server_below_a_path(guarded):
    with Client(f"{guarded.url}/base", token="sesame") as client:
        assert client.version() == "0.10.0"
    with Client(f"{guarded.url}/base/?token=sesame") as client:
        assert client.version() == "0.10.0"


def test_a_wrong_token_is_told_as_such(guarded):
    with pytest.raises(ServerUnreachableError, match="asks for a login"):
        Client(guarded.url, token="wrong")


def test_a_proxy_is_not_asked_for_this_machine(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with Client(server.url) as client:
        assert client.version() == "0.10.0"


def test_a_server_that_has_gone_is_unreachable(server):
    with Client(server.url) as client:
        server.__exit__()
        with pytest.raises(ServerUnreachableError, match=r"could not connect to http://127\.0\.0\.1") as caught:
            client.list()
        server.__enter__()
    assert "ollama-nb serve" in caught.value.hint


def test_silence_past_the_time_limit_is_an_error(server):
    with Client(server.url, timeout=0.001) as client, pytest.raises(OllamaError, match="within the time limit"):
        client.chat("endless", "Why?")


def test_the_asyncio_client_does_the_same(server, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    digest = f"sha256:{hashlib.sha256(b'GGUF').hexdigest()}"

    async def use():
        async with AsyncClient(server.url) as client:
            assert await client.version() == "0.10.0"
            assert [model.name for model in await client.list()] == ["smollm2:135m", "Other:latest"]
            assert len(await client.ps()) == 1
            assert (await client.show("m")).template == "{{ .Prompt }}"
            await client.copy("a", "b")
            await client.delete("b")
            await client.load("a")
            await client.unload("a")
            assert not await client.blob_exists(digest)
            await client.push_blob(path, digest)
            assert await client.blob_exists(digest)
            assert [step.status async for step in await client.create("new", from_="a")][-1] == "success"
            assert (await client.chat("m", "Why?")).text == WHOLE
            assert (await client.generate("m", "Once")).context == (1, 2, 3)
            async with await client.chat("m", "Why?", stream=True) as stream:
                assert "".join([chunk.text async for chunk in stream]) == WHOLE
                assert (await stream.result()).done_reason == "stop"
            with pytest.raises(NotFoundError, match="not found"):
                await client.chat("missing", "Why?")
            with pytest.raises(OllamaError, match="terminated"):
                await client.generate("fails", "Why?")

    asyncio.run(use())


def test_cancelling_an_asyncio_task_reaches_the_server(server):
    async def use():
        async with AsyncClient(server.url) as client:
            task = asyncio.create_task(client.chat("endless", "Why?"))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.left.wait, 10)

    asyncio.run(use())
    assert history[-1].error == "interrupted"


def test_both_clients_offer_the_same_calls():
    def calls(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert calls(Client) ^ calls(AsyncClient) == {"close", "aclose"}
