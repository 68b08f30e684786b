"""From native responses to OpenAI's answers, whole and streamed, without a server."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.server.openai.answers import ChatChunks, completion
from ollama_nb.server.openai.completions import CompletionChunks
from ollama_nb.server.openai.completions import completion as text_completion
from ollama_nb.server.openai.head import Head
from ollama_nb.server.openai.together import AT_ONCE, all_of, merged
from ollama_nb.service.generate import collect_chat
from ollama_nb.wire import gojson
from ollama_nb.wire.errors import OllamaError
from ollama_nb.wire.native import (
    AnswerMessage,
    CalledFunction,
    CallMessage,
    ChatResponse,
    GenerateResponse,
    TokenLogprob,
    TopLogprob,
)
from ollama_nb.wire.openai import CompletionRequest, StreamOptions
from ollama_nb.wire.openai_chat import ChatCompletionRequest

HEAD = Head("chatcmpl-1", 7, "m")
USAGE = StreamOptions(include_usage=True)


def piece(content="", *, thinking="", calls=(), done_reason="", tokens=(), counts=(0, 0)):
    return ChatResponse(
        model="m",
        created_at="",
        message=AnswerMessage(role="assistant", content=content, thinking=thinking, tool_calls=list(calls)),
        done=bool(done_reason),
        done_reason=done_reason,
        prompt_eval_count=counts[0],
        eval_count=counts[1],
        logprobs=[token(text) for text in tokens],
    )


def text(content="", *, done_reason="", tokens=(), counts=(0, 0)):
    return GenerateResponse(
        model="m",
        created_at="",
        response=content,
        done=bool(done_reason),
        done_reason=done_reason,
        prompt_eval_count=counts[0],
        eval_count=counts[1],
        logprobs=list(tokens),
    )


def token(content, *others):
    data = content if isinstance(content, bytes) else content.encode()
    shown = data.decode("utf-8", "replace")
    top = [TopLogprob(token=other, logprob=-2.0, bytes=list(other.encode())) for other in others]
    return TokenLogprob(token=shown, logprob=-1.0, bytes=list(data), top_logprobs=top)


def call(number, name="f", **arguments):
    return CallMessage(id=f"call_{number}", function=CalledFunction(index=number, name=name, arguments=arguments))


def plain(value):
    return json.loads(gojson.encode(value))


def chunks(request, *numbered):
    maker = ChatChunks(request, HEAD)
    return [plain(chunk) for index, response in numbered for chunk in maker.of(index, response)]


def deltas(request, *responses):
    """Delta and reason of each chunk of one answer."""
    made = chunks(request, *((0, response) for response in responses))
    return [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]) for chunk in made]


async def collected(responses):
    async def stream():
        for response in responses:
            yield response

    return await collect_chat(stream())


REQUEST = ChatCompletionRequest(model="m")


# -- streams of chats --------------------------------------------------------------------------------------------------


def test_the_role_comes_once_and_the_reason_in_an_empty_last_chunk():
    assert deltas(REQUEST, piece("He"), piece("llo"), piece(done_reason="stop")) == [
        ({"role": "assistant", "content": "He"}, None),
        ({"content": "llo"}, None),
        ({}, "stop"),
    ]


def test_an_empty_answer_has_a_role_too():
    assert deltas(REQUEST, piece(done_reason="stop")) == [({"role": "assistant", "content": ""}, None), ({}, "stop")]


def test_thinking_content_and_calls_of_one_step_are_chunks_of_their_own():
    step = piece("So: ", thinking="Hm.", calls=[call(0, city="Rome"), call(1)])
    first, second, third, last = deltas(REQUEST, step, piece(done_reason="stop"))
    assert first == ({"role": "assistant", "content": "", "reasoning": "Hm."}, None)
    assert second == ({"content": "So: "}, None)
    assert third[0]["tool_calls"] == [
        {
            "id": "call_0",
            "index": 0,
            "type": "function",
            "function": {"name": "f", "arguments": '{"city":"Rome"}'},
        },
        {"id": "call_1", "index": 1, "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]
    assert last == ({}, "tool_calls")


def test_calls_are_no_reason_of_an_answer_that_is_cut():
    assert deltas(REQUEST, piece(calls=[call(0)]), piece(done_reason="length"))[-1] == ({}, "length")


def test_without_parallel_calls_only_the_first_is_given():
    request = ChatCompletionRequest(parallel_tool_calls=False)
    (first, _), last = deltas(request, piece(calls=[call(0), call(1)]), piece(calls=[call(2)], done_reason="stop"))
    assert [made["id"] for made in first["tool_calls"]] == ["call_0"]
    assert last == ({}, "tool_calls")


def test_who_speaks_of_functions_is_answered_with_a_function_call():
    request = ChatCompletionRequest(functions=[{"name": "f"}])
    responses = [piece(calls=[call(0, a=1), call(1)]), piece(done_reason="stop")]
    assert deltas(request, *responses) == [
        ({"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": '{"a":1}'}}, None),
        ({}, "function_call"),
    ]
    (choice,) = plain(completion(request, HEAD, [asyncio.run(collected(responses))]))["choices"]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert choice["finish_reason"] == "function_call"


def test_answers_that_go_on_at_once_keep_their_indices_and_roles():
    made = chunks(
        ChatCompletionRequest(n=2),
        (1, piece("b")),
        (0, piece("a")),
        (1, piece(done_reason="stop")),
        (0, piece(done_reason="length")),
    )
    assert [(chunk["choices"][0]["index"], chunk["choices"][0]["finish_reason"]) for chunk in made] == [
        (1, None),
        (0, None),
        (1, "stop"),
        (0, "length"),
    ]
    assert all(chunk["choices"][0]["delta"]["role"] == "assistant" for chunk in made[:2])
    assert {(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in made} == {
        ("chatcmpl-1", 7, "m", "fp_ollama")
    }


def test_the_usage_counts_a_prompt_once_and_all_answers():
    request = ChatCompletionRequest(n=2, stream_options=USAGE)
    maker = ChatChunks(request, HEAD)
    finals = [piece(done_reason="stop", counts=(10, count)) for count in (3, 4)]
    made = [plain(chunk) for index in (1, 0) for chunk in maker.of(index, finals[index])]
    counts = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
    assert all(chunk["usage"] is None for chunk in made)
    assert plain(maker.usage())["usage"] == counts
    assert plain(maker.usage())["choices"] == []
    assert plain(completion(request, HEAD, finals))["usage"] == counts


def test_probabilities_are_told_once_also_where_no_text_comes():
    request = ChatCompletionRequest(logprobs=True)
    made = chunks(request, (0, piece(tokens=["<"])), (0, piece("b", thinking="a", tokens=["x", "y"])))
    told = [chunk["choices"][0].get("logprobs") for chunk in made]
    assert [[entry["token"] for entry in part["content"]] if part else None for part in told] == [
        ["<"],
        None,
        ["x", "y"],
    ]
    assert told[0]["content"] == [{"token": "<", "logprob": -1.0, "bytes": [60], "top_logprobs": []}]
    assert made[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


TEXT = st.text("ab", max_size=2)
STEPS = st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2)), max_size=5)


@given(st.lists(STEPS, min_size=1, max_size=3), st.randoms(use_true_random=False), st.booleans())
def test_the_chunks_of_each_answer_add_up_to_the_answer(answers, chance, parallel):
    request = ChatCompletionRequest(n=len(answers), parallel_tool_calls=parallel)
    streams = []
    for steps in answers:
        numbers = iter(range(10))
        pieces = [
            piece(content, thinking=thinking, calls=[call(next(numbers)) for _ in range(count)])
            for content, thinking, count in steps
        ]
        streams.append([*pieces, piece(done_reason="stop", counts=(5, len(steps)))])
    order = [index for index, stream in enumerate(streams) for _ in stream]
    chance.shuffle(order)
    waiting = [iter(stream) for stream in streams]
    made = chunks(request, *((index, next(waiting[index])) for index in order))

    # The responses are used up by being collected, so the streamed form is read first.
    joined = [
        {
            "role": "".join(part["delta"].get("role", "") for part in parts),
            "content": "".join(part["delta"].get("content", "") for part in parts),
            "reasoning": "".join(part["delta"].get("reasoning", "") for part in parts),
            "tool_calls": [made for part in parts for made in part["delta"].get("tool_calls", [])],
            "finish_reason": parts[-1]["finish_reason"],
        }
        for parts in (
            [chunk["choices"][0] for chunk in made if chunk["choices"][0]["index"] == index]
            for index in range(len(streams))
        )
    ]
    wholes = [asyncio.run(collected(stream)) for stream in streams]
    expected = [
        {"reasoning": "", "tool_calls": [], **choice["message"], "finish_reason": choice["finish_reason"]}
        for choice in plain(completion(request, HEAD, wholes))["choices"]
    ]
    assert joined == expected


# -- completions -------------------------------------------------------------------------------------------------------


def test_a_completion_streams_text_and_a_last_empty_one():
    maker = CompletionChunks(CompletionRequest(), HEAD, ["Hi"])
    made = [
        plain(chunk) for response in (text("a"), text(""), text(done_reason="stop")) for chunk in maker.of(0, response)
    ]
    assert [chunk["choices"] for chunk in made] == [
        [{"text": "a", "index": 0, "finish_reason": None}],
        [{"text": "", "index": 0, "finish_reason": "stop"}],
    ]
    assert {chunk["object"] for chunk in made} == {"text_completion"}
    assert all("usage" not in chunk for chunk in made)


def test_an_echo_stands_in_front_of_every_answer_to_its_prompt():
    request = CompletionRequest(n=2, echo=True, stream_options=USAGE)
    prompts = ["a ", "b "]
    finals = [text(str(number), done_reason="stop", counts=(4, 1)) for number in range(4)]
    whole = plain(text_completion(request, HEAD, prompts, finals))
    assert [choice["text"] for choice in whole["choices"]] == ["a 0", "a 1", "b 2", "b 3"]
    assert whole["usage"] == {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}
    maker = CompletionChunks(request, HEAD, prompts)
    streamed = ["", "", "", ""]
    for index in (3, 1, 0, 2):
        for response in (text(str(index)), text(done_reason="stop", counts=(4, 1))):
            for chunk in maker.of(index, response):
                (choice,) = plain(chunk)["choices"]
                streamed[choice["index"]] += choice["text"]
    assert streamed == ["a 0", "a 1", "b 2", "b 3"]
    assert plain(maker.usage())["usage"] == whole["usage"]


def test_tokens_have_offsets_in_characters_however_they_are_streamed():
    tokens = [token("a", "b"), token("ä".encode()[:1]), token("ä".encode()[1:]), token("bc"), token("d")]
    request = CompletionRequest(logprobs=1)
    single = text("aäbcd", done_reason="stop", tokens=tokens)
    (choice,) = plain(text_completion(request, HEAD, ["Hi"], [single]))["choices"]
    assert choice["logprobs"] == {
        "tokens": ["a", "�", "�", "bc", "d"],
        "token_logprobs": [-1.0] * 5,
        "top_logprobs": [{"b": -2.0, "a": -1.0}, {"�": -1.0}, {"�": -1.0}, {"bc": -1.0}, {"d": -1.0}],
        "text_offset": [0, 1, 1, 2, 4],
    }
    maker = CompletionChunks(request, HEAD, ["Hi"])
    offsets = [
        plain(chunk)["choices"][0]["logprobs"]["text_offset"]
        for one in tokens
        for chunk in maker.of(0, text("", tokens=[one]))
    ]
    assert offsets == [[0], [1], [1], [2], [4]]


def test_heads_are_all_different():
    heads = [Head.new("cmpl", "m") for _ in range(100)]
    assert len({head.id for head in heads}) == 100
    assert all(head.id.startswith("cmpl-") for head in heads)


# -- several at once ---------------------------------------------------------------------------------------------------


@dataclass
class Answers:
    """Stands for native answers, whose beginnings and ends it sees."""

    open: set[int] = field(default_factory=set)
    most: int = 0

    async def stream(self, number, pieces, failure=None):
        """Pieces, one a turn of the loop; for ever if ``pieces`` is None."""
        self.open.add(number)
        self.most = max(self.most, len(self.open))
        try:
            at = 0
            while pieces is None or at < pieces:
                yield (number, at)
                await asyncio.sleep(0)
                at += 1
            if failure is not None:
                raise failure
        finally:
            self.open.discard(number)

    async def whole(self, number, failure=None, *, endless=False):
        """The same as one answer."""
        pieces = [piece async for piece in self.stream(number, None if endless else 2, failure)]
        return number, len(pieces)


def test_merged_answers_are_all_there_in_their_own_order():
    async def run():
        answers = Answers()
        got = [item async for item in merged([answers.stream(number, number + 1) for number in range(4)])]
        assert not answers.open
        return got

    got = asyncio.run(run())
    assert all(index == number for index, (number, _) in got)
    for number in range(4):
        assert [at for index, (_, at) in got if index == number] == list(range(number + 1))
    assert [index for index, _ in got] != sorted(index for index, _ in got)


@pytest.mark.parametrize("others", [0, 2])
def test_an_answer_that_fails_calls_the_others_off(others):
    async def run():
        answers = Answers()
        failing = answers.stream(0, 2, OllamaError("broken"))
        streams = [failing, *(answers.stream(number + 1, None) for number in range(others))]
        with pytest.raises(OllamaError, match="broken"):
            async for _ in merged(streams):
                pass
        assert not answers.open
        endless = [answers.whole(number + 1, endless=True) for number in range(others)]
        with pytest.raises(OllamaError, match="broken"):
            await all_of([answers.whole(0, OllamaError("broken")), *endless])
        assert not answers.open

    asyncio.run(run())


@pytest.mark.parametrize("count", [1, 3])
def test_who_goes_away_takes_all_answers_along(count):
    async def run():
        answers = Answers()
        async with aclosing(merged([answers.stream(number, None) for number in range(count)])) as pieces:
            async for _ in pieces:
                if len(answers.open) == count:
                    break
        assert not answers.open
        waiting = asyncio.create_task(all_of([answers.whole(number, endless=True) for number in range(count)]))
        for _ in range(10):  # turns of the loop, more than it takes them to begin
            await asyncio.sleep(0)
        assert len(answers.open) == count
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not answers.open

    asyncio.run(run())


def test_of_many_answers_only_some_run_at_once():
    async def run():
        many = 3 * AT_ONCE
        answers = Answers()
        assert await all_of([answers.whole(number) for number in range(many)]) == [
            (number, 2) for number in range(many)
        ]
        assert answers.most <= AT_ONCE
        streams = Answers()
        got = [item async for item in merged([streams.stream(number, 2) for number in range(many)])]
        assert len(got) == 2 * many
        assert streams.most <= AT_ONCE

    asyncio.run(run())


def test_those_that_never_began_are_let_go_without_a_word():
    async def run():
        answers = Answers()
        whole = [answers.whole(number, OllamaError("broken") if number == 0 else None) for number in range(2 * AT_ONCE)]
        with pytest.raises(OllamaError, match="broken"):
            await all_of(whole)

    asyncio.run(run())
