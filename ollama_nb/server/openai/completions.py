"""A completion as native generates, one for each prompt and answer, and back. Pure."""

from __future__ import annotations

import codecs
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from ollama_nb.runner.messages import MAX_TOP_LOGPROBS
from ollama_nb.server.openai.errors import FieldError
from ollama_nb.server.openai.head import FINGERPRINT, Head, usage_of
from ollama_nb.server.openai.options import answer_format, answer_options
from ollama_nb.server.openai.texts import texts_or_tokens
from ollama_nb.wire.native import GenerateRequest
from ollama_nb.wire.openai import Completion, CompletionChoice, CompletionLogprobs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from ollama_nb.wire.native import GenerateResponse, TokenLogprob
    from ollama_nb.wire.openai import CompletionRequest

__all__ = ["CompletionChunks", "check", "completion", "native_generates", "prompts_of", "stream_chunks"]

MAX_CHOICES: Final = 2048
"""OpenAI's own limit of prompts; here the answers to all of them count."""


def prompts_of(request: CompletionRequest) -> list[str | list[int]]:
    """The prompts as texts or token ids; without one there is an empty one. Raises ``FieldError``."""
    if request.prompt is None:
        return [""]
    prompts = texts_or_tokens(request.prompt)
    if not prompts:
        raise FieldError("prompt must be a text, texts, token ids or lists of token ids", "prompt")
    if len(prompts) * request.n > MAX_CHOICES:
        raise FieldError(f"more than {MAX_CHOICES} answers in one request", "prompt", hint="send several requests")
    return prompts


def check(request: CompletionRequest) -> None:
    """Refuse what cannot be had; raises ``FieldError``."""
    if request.best_of is not None and request.best_of > request.n:
        raise FieldError(
            "best_of greater than n is not supported", "best_of", hint="ask for n answers and choose among them"
        )
    if request.logprobs is None:
        return
    if not 0 <= request.logprobs <= MAX_TOP_LOGPROBS:
        raise FieldError(f"logprobs must be between 0 and {MAX_TOP_LOGPROBS}", "logprobs")
    if request.echo:
        raise FieldError(
            "logprobs of the prompt are not supported", "logprobs", hint="leave either echo or logprobs out"
        )


def native_generates(request: CompletionRequest, prompts: Sequence[str]) -> list[GenerateRequest]:
    """What ``/api/generate`` would be asked, ``n`` times for each prompt; raises ``FieldError``."""
    check(request)
    form = answer_format(request.response_format)
    always = {"frequency_penalty": 0.0, "presence_penalty": 0.0}
    whole = {} if request.top_p else {"top_p": 1.0}  # Go does not tell a zero from what is not said
    return [
        GenerateRequest(
            model=request.model,
            prompt=prompt,
            suffix=request.suffix,
            stream=request.stream,
            format=form,
            options=always | options | whole,
            logprobs=request.logprobs is not None,
            top_logprobs=request.logprobs or 0,
        )
        for prompt in prompts
        for options in answer_options(request, request.max_tokens)
    ]


def completion(
    request: CompletionRequest, head: Head, prompts: Sequence[str], answers: Sequence[GenerateResponse]
) -> Completion:
    """The answers, whole."""
    choices = [
        CompletionChoice(
            text=_echo(request, prompts, index) + answer.response,
            index=index,
            logprobs=UNSET if request.logprobs is None else _Offsets().logprobs(answer.logprobs),
            finish_reason=answer.done_reason or None,
        )
        for index, answer in enumerate(answers)
    ]
    return msgspec.structs.replace(_completion(head, *choices), usage=usage_of(answers, request.n))


async def stream_chunks(
    request: CompletionRequest,
    head: Head,
    prompts: Sequence[str],
    responses: AsyncGenerator[tuple[int, GenerateResponse], None],
) -> AsyncGenerator[Completion, None]:
    """The events of a stream, from responses with the index of their answer."""
    chunks = CompletionChunks(request, head, prompts)
    async with contextlib.aclosing(responses):
        async for index, response in responses:
            for chunk in chunks.of(index, response):
                yield chunk
    if request.stream_options.include_usage:
        yield chunks.usage()


class CompletionChunks:
    """Makes the chunks of one stream, in which several answers may go on at once."""

    def __init__(self, request: CompletionRequest, head: Head, prompts: Sequence[str]) -> None:
        self._request = request
        self._head = head
        self._prompts = prompts
        self._offsets: dict[int, _Offsets] = {}
        self._finals: dict[int, GenerateResponse] = {}

    def of(self, index: int, response: GenerateResponse) -> Iterator[Completion]:
        """The chunks that one response of an answer makes."""
        begins = index not in self._offsets
        offsets = self._offsets.setdefault(index, _Offsets())
        text = response.response
        if begins:
            text = _echo(self._request, self._prompts, index) + text
        if text or response.logprobs:
            logprobs = offsets.logprobs(response.logprobs) if response.logprobs else UNSET
            yield self._chunk(CompletionChoice(text=text, index=index, logprobs=logprobs))
        if response.done:
            self._finals[index] = response
            yield self._chunk(CompletionChoice(text="", index=index, finish_reason=response.done_reason or None))

    def usage(self) -> Completion:
        """The chunk with the counts, once all answers have ended."""
        finals = [final for _, final in sorted(self._finals.items())]
        return msgspec.structs.replace(_completion(self._head), usage=usage_of(finals, self._request.n))

    def _chunk(self, choice: CompletionChoice) -> Completion:
        chunk = _completion(self._head, choice)
        if self._request.stream_options.include_usage:
            chunk.usage = None
        return chunk


def _completion(head: Head, *choices: CompletionChoice) -> Completion:
    return Completion(
        id=head.id,
        created=head.created,
        model=head.model,
        system_fingerprint=FINGERPRINT,
        choices=list(choices),
    )


def _echo(request: CompletionRequest, prompts: Sequence[str], index: int) -> str:
    """What stands in front of an answer."""
    return prompts[index // request.n] if request.echo else ""


class _Offsets:
    """Where the tokens of an answer begin, in characters; a token may be half a character."""

    def __init__(self) -> None:
        self._characters = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def logprobs(self, tokens: Sequence[TokenLogprob]) -> CompletionLogprobs:
        """The next tokens in the older form, in which alternatives are a mapping that has the token too."""
        offsets = []
        for token in tokens:
            offsets.append(self._characters)
            self._characters += len(self._decoder.decode(bytes(token.bytes)))
        return CompletionLogprobs(
            tokens=[token.token for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[
                {top.token: top.logprob for top in token.top_logprobs} | {token.token: token.logprob}
                for token in tokens
            ],
            text_offset=offsets,
        )
