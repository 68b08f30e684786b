"""Native chat responses as chat completions: whole, or as the events of a stream. Pure.

A stream says the role once an answer, thinking, content and calls in chunks of their own, and the reason in a last
chunk that is otherwise empty.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from ollama_nb.server.openai.head import FINGERPRINT, Head, usage_of
from ollama_nb.wire.openai_chat import (
    ChatAnswer,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprobs,
    ChatTokenLogprob,
    ChunkChoice,
    FunctionCall,
    MessageToolCall,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from msgspec import UnsetType

    from ollama_nb.wire.native import CallMessage, ChatResponse, TokenLogprob
    from ollama_nb.wire.openai_chat import ChatCompletionRequest

__all__ = ["ChatChunks", "completion", "stream_chunks"]


def completion(request: ChatCompletionRequest, head: Head, answers: Sequence[ChatResponse]) -> ChatCompletion:
    """The answers, whole."""
    return ChatCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        system_fingerprint=FINGERPRINT,
        choices=[_choice(request, index, answer) for index, answer in enumerate(answers)],
        usage=usage_of(answers, request.n),
    )


def _choice(request: ChatCompletionRequest, index: int, answer: ChatResponse) -> ChatChoice:
    calls = _calls(request, answer.message.tool_calls)
    function_call = calls[0].function if calls and _is_older(request) else None
    return ChatChoice(
        index=index,
        message=ChatAnswer(
            role="assistant",
            content=answer.message.content,
            reasoning=answer.message.thinking,
            tool_calls=[] if function_call else calls,
            function_call=function_call,
        ),
        logprobs=_logprobs(answer.logprobs) if request.logprobs else UNSET,
        finish_reason=_reason(request, answer.done_reason, called=bool(calls)),
    )


async def stream_chunks(
    request: ChatCompletionRequest, head: Head, responses: AsyncGenerator[tuple[int, ChatResponse], None]
) -> AsyncGenerator[ChatCompletionChunk, None]:
    """The events of a stream, from responses with the index of their answer."""
    chunks = ChatChunks(request, head)
    async with contextlib.aclosing(responses):
        async for index, response in responses:
            for chunk in chunks.of(index, response):
                yield chunk
    if request.stream_options.include_usage:
        yield chunks.usage()


class ChatChunks:
    """Makes the chunks of one stream, in which several answers may go on at once."""

    def __init__(self, request: ChatCompletionRequest, head: Head) -> None:
        self._request = request
        self._head = head
        self._begun: set[int] = set()
        self._called: set[int] = set()
        self._finals: dict[int, ChatResponse] = {}

    def of(self, index: int, response: ChatResponse) -> Iterator[ChatCompletionChunk]:
        """The chunks that one response of an answer makes."""
        deltas = self._deltas(index, response)
        for at, delta in enumerate(deltas, start=1):
            # The tokens of a response are told once, with the last piece that they are of.
            logprobs = _logprobs(response.logprobs) if response.logprobs and at == len(deltas) else UNSET
            yield self._chunk(ChunkChoice(index=index, delta=delta, logprobs=logprobs))
        if response.done:
            self._finals[index] = response
            reason = _reason(self._request, response.done_reason, called=index in self._called)
            yield self._chunk(ChunkChoice(index=index, delta=ChatDelta(), finish_reason=reason))

    def usage(self) -> ChatCompletionChunk:
        """The chunk with the counts, once all answers have ended."""
        finals = [final for _, final in sorted(self._finals.items())]
        return msgspec.structs.replace(self._chunk(), usage=usage_of(finals, self._request.n))

    def _deltas(self, index: int, response: ChatResponse) -> list[ChatDelta]:
        message = response.message
        calls = _calls(self._request, message.tool_calls)
        deltas = []
        if message.thinking:
            deltas.append(ChatDelta(reasoning=message.thinking))
        if message.content:
            deltas.append(ChatDelta(content=message.content))
        if calls:
            self._called.add(index)
            older = _is_older(self._request)
            deltas.append(ChatDelta(function_call=calls[0].function) if older else ChatDelta(tool_calls=calls))
        if not deltas and (response.logprobs or (response.done and index not in self._begun)):
            deltas.append(ChatDelta(content=""))
        if deltas and index not in self._begun:
            self._begun.add(index)
            deltas[0].role = "assistant"
            deltas[0].content = deltas[0].content or ""
        return deltas

    def _chunk(self, *choices: ChunkChoice) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self._head.id,
            created=self._head.created,
            model=self._head.model,
            system_fingerprint=FINGERPRINT,
            choices=list(choices),
            usage=None if self._request.stream_options.include_usage else UNSET,
        )


def _is_older(request: ChatCompletionRequest) -> bool:
    """Whether the client speaks of functions, not of tools: it reads no other answer."""
    return bool(request.functions) and not request.tools


def _calls(request: ChatCompletionRequest, calls: Sequence[CallMessage]) -> list[MessageToolCall]:
    """The calls that are given: all, or the first of an answer."""
    several = request.parallel_tool_calls and not _is_older(request)
    return [
        MessageToolCall(
            id=call.id,
            index=call.function.index,
            function=FunctionCall(
                name=call.function.name, arguments=msgspec.json.encode(call.function.arguments).decode()
            ),
        )
        for call in calls
        if several or call.function.index == 0
    ]


def _logprobs(tokens: Sequence[TokenLogprob]) -> ChatLogprobs | UnsetType:
    return ChatLogprobs(
        content=[
            ChatTokenLogprob(
                token=token.token, logprob=token.logprob, bytes=token.bytes, top_logprobs=token.top_logprobs
            )
            for token in tokens
        ]
    )


def _reason(request: ChatCompletionRequest, done_reason: str, *, called: bool) -> str | None:
    """Calls are the reason of an answer that has come to its own end."""
    if called and done_reason == "stop":
        return "function_call" if _is_older(request) else "tool_calls"
    return done_reason or None
