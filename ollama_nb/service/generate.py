"""Chat and generate: from a request to a stream of responses.

Checks come in Ollama's order, so that a request with two mistakes gets the same error from both. Everything that
can be refused is refused before the first response is yielded; the lease on the model lasts as long as the
generator is open. The checks are in ``checks``, the making of prompts in ``prompts``.
"""

from __future__ import annotations

import contextlib
import secrets
import string
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.prompt.answer import AnswerParser, answer_parser
from ollama_nb.prompt.conversation import chat_messages, without_old_thinking
from ollama_nb.prompt.driver import go_driver
from ollama_nb.prompt.tools import Delta
from ollama_nb.prompt.tools.choice import choose_tools
from ollama_nb.runner.messages import Finish, Generate, Sampling
from ollama_nb.service.checks import (
    chat_missing,
    find,
    parse_think,
    refuse_format,
    refuse_images,
    require,
    wanted,
)
from ollama_nb.service.prompts import Prompt, chat_prompt, demand_call, generate_prompt
from ollama_nb.service.threads import in_template_thread
from ollama_nb.wire.durations import format_rfc3339, parse_keep_alive
from ollama_nb.wire.errors import BadRequestError, NotFoundError
from ollama_nb.wire.native import (
    AnswerMessage,
    CalledFunction,
    CallMessage,
    ChatRequest,
    ChatResponse,
    GenerateRequest,
    GenerateResponse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from ollama_nb.prompt.tools import ToolCall
    from ollama_nb.runner.scheduler import Runner
    from ollama_nb.service.resolve import ResolvedModel
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.wire.options import Options

__all__ = ["chat", "collect_chat", "collect_generate", "generate"]

_SAMPLING_FIELDS = Sampling.__struct_fields__
_ID_CHARACTERS: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 8


@dataclass
class _Work:
    """A request that has passed its checks, and the clock that runs on it."""

    resolved: ResolvedModel
    options: Options
    keep_alive: int | None
    truncate: bool
    started: int
    load_duration: int = 0
    text: list[str] = field(default_factory=list)

    def frame(self, number: int, prompt: Prompt) -> Generate:
        """The request as the model's process takes it."""
        options = self.options
        return Generate(
            id=number,
            prompt=prompt.text,
            num_keep=options.num_keep,
            num_predict=options.num_predict,
            stop=() if prompt.grammar else options.stop,  # a grammar ends by itself, and may need such a text within
            sampling=Sampling(**{name: getattr(options, name) for name in _SAMPLING_FIELDS}),
            grammar=prompt.grammar,
            truncate=self.truncate,
        )

    def metrics(self, finish: Finish, prompt: Prompt) -> dict[str, int]:
        """The closing counts; ``prompt_eval_count`` is all prompt tokens, those from the cache included."""
        return {
            "total_duration": time.monotonic_ns() - self.started,
            "load_duration": self.load_duration,
            "prompt_eval_count": finish.prompt_count,
            "prompt_eval_duration": finish.prompt_duration,
            "eval_count": finish.eval_count,
            "eval_duration": finish.eval_duration,
            "prompt_dropped_count": prompt.dropped_count + finish.dropped_count,
        }

    async def answer(
        self, runner: Runner, prompt: Prompt, parser: AnswerParser
    ) -> AsyncGenerator[Delta | Finish, None]:
        """What the model writes behind a prompt, taken apart; nothing of it is held back at the end."""
        opened = parser.feed(prompt.opening) if prompt.opening else Delta()
        called = False
        async with contextlib.aclosing(runner.child.generate(lambda number: self.frame(number, prompt))) as pieces:
            async for piece in pieces:
                if isinstance(piece, Finish):
                    rest = opened + parser.close()
                    if prompt.opening and not called and not rest.calls:
                        # A call that was cut short: its beginning was ours, not the model's.
                        rest = replace(rest, content=rest.content.removeprefix(prompt.opening))
                    if rest:
                        yield rest
                    yield piece
                else:
                    self.text.append(piece)
                    delta = opened + parser.feed(piece)
                    called = called or bool(delta.calls)
                    yield delta
                opened = Delta()


async def chat(runtime: Runtime, request: ChatRequest) -> AsyncGenerator[ChatResponse, None]:
    """``/api/chat``: the next message of a conversation, piece by piece, then one final response."""
    started = time.monotonic_ns()
    keep_alive = parse_keep_alive(request.keep_alive)
    think = parse_think(request.think)
    unload = not request.messages and _unloads(keep_alive)
    resolved = await find(runtime, request.model, chat_missing(request.model, unload=unload))
    calls = _CallNumbers()

    def respond(delta: Delta, *, done: bool = False, **fields: Any) -> ChatResponse:  # noqa: ANN401 - counts
        """One response of this request."""
        message = AnswerMessage(
            role="assistant", content=delta.content, thinking=delta.thinking, tool_calls=calls.number(delta.calls)
        )
        return ChatResponse(model=request.model, created_at=_now(), message=message, done=done, **fields)

    if unload:
        runtime.scheduler.unload(str(resolved.path))
        yield respond(Delta(), done=True, done_reason="unload")
        return
    await in_template_thread(
        lambda: require(resolved, request.model, verb="chat", wanted=wanted(think, tools=request.tools))
    )
    refuse_format(request.format)
    refuse_images(resolved, [image for message in request.messages for image in message.images])
    tools, demanded = choose_tools(request.tools, request.tool_choice)
    options = resolved.options(runtime.settings.context_length, request.options)
    work = _Work(resolved, options, keep_alive, request.truncate, started)
    conversation = chat_messages(request.messages, system=resolved.stored.system or "", history=resolved.history)
    if resolved.thinks_by_name:
        conversation = without_old_thinking(conversation)
    async with _lease(runtime, work) as runner:
        if not request.messages:
            yield respond(Delta(), done=True, done_reason="load")
            return
        driver = await in_template_thread(lambda: resolved.driver)
        if demanded and driver.thinking:
            think = False
        prompt = await chat_prompt(
            resolved, runner, driver, conversation, tools=tools, think=think, truncate=request.truncate
        )
        if demanded:
            prompt = await in_template_thread(partial(demand_call, driver, prompt, demanded))
        parser = answer_parser(driver, prompt.text.removesuffix(prompt.opening), tools=tools, think=think)
        async with contextlib.aclosing(work.answer(runner, prompt, parser)) as answer:
            async for part in answer:
                if isinstance(part, Finish):
                    metrics = work.metrics(part, prompt)
                    dropped = prompt.dropped_messages
                    yield respond(
                        Delta(), done=True, done_reason=part.reason, prompt_dropped_messages=dropped, **metrics
                    )
                elif part:
                    yield respond(part)


async def generate(runtime: Runtime, request: GenerateRequest) -> AsyncGenerator[GenerateResponse, None]:
    """``/api/generate``: the continuation of a prompt, piece by piece, then one final response."""
    started = time.monotonic_ns()
    keep_alive = parse_keep_alive(request.keep_alive)
    think = parse_think(request.think)
    resolved = await find(runtime, request.model, lambda: NotFoundError(f"model '{request.model}' not found"))

    def respond(delta: Delta, *, done: bool = False, **fields: Any) -> GenerateResponse:  # noqa: ANN401 - counts
        """One response of this request."""
        return GenerateResponse(
            model=request.model,
            created_at=_now(),
            response=delta.content,
            thinking=delta.thinking,
            done=done,
            **fields,
        )

    if not request.prompt and _unloads(keep_alive):
        runtime.scheduler.unload(str(resolved.path))
        yield respond(Delta(), done=True, done_reason="unload")
        return
    if request.raw and (request.template or request.system or request.context):
        raise BadRequestError("raw mode does not support template, system, or context")
    await in_template_thread(
        lambda: require(resolved, request.model, verb="generate", wanted=wanted(think, suffix=request.suffix))
    )
    refuse_format(request.format)
    refuse_images(resolved, request.images)
    options = resolved.options(runtime.settings.context_length, request.options)
    work = _Work(resolved, options, keep_alive, request.truncate, started)
    async with _lease(runtime, work) as runner:
        if not request.prompt:
            yield respond(Delta(), done=True, done_reason="load")
            return
        if request.raw:  # the text as it is, whatever the template may be
            prompt, parser = Prompt(request.prompt), AnswerParser()
        else:
            driver = await in_template_thread(
                lambda: go_driver(request.template) if request.template else resolved.driver
            )
            prompt = await generate_prompt(resolved, runner, request, driver, think)
            parser = answer_parser(driver, prompt.text, think=think)
        async with contextlib.aclosing(work.answer(runner, prompt, parser)) as answer:
            async for part in answer:
                if isinstance(part, Finish):
                    said = prompt.text + "".join(work.text)
                    context = [] if request.raw else await runner.child.tokenize(said)
                    metrics = work.metrics(part, prompt)
                    yield respond(Delta(), done=True, done_reason=part.reason, context=context, **metrics)
                else:
                    yield respond(part)


async def collect_chat(responses: AsyncGenerator[ChatResponse, None]) -> ChatResponse:
    """A stream of responses as the single one of ``"stream": false``."""
    messages: list[AnswerMessage] = []
    last = None
    async with contextlib.aclosing(responses):
        async for last in responses:
            messages.append(last.message)
    if last is None:
        raise RuntimeError("a chat without a response")
    last.message = AnswerMessage(
        role="assistant",
        content="".join(message.content for message in messages),
        thinking="".join(message.thinking for message in messages),
        tool_calls=[call for message in messages for call in message.tool_calls],
    )
    return last


async def collect_generate(responses: AsyncGenerator[GenerateResponse, None]) -> GenerateResponse:
    """A stream of responses as the single one of ``"stream": false``."""
    text: list[str] = []
    thinking: list[str] = []
    last = None
    async with contextlib.aclosing(responses):
        async for last in responses:
            text.append(last.response)
            thinking.append(last.thinking)
    if last is None:
        raise RuntimeError("a generate without a response")
    last.response, last.thinking = "".join(text), "".join(thinking)
    return last


@contextlib.asynccontextmanager
async def _lease(runtime: Runtime, work: _Work) -> AsyncGenerator[Runner, None]:
    """The lease on the model; the time until it is had, queue included, is the load duration."""
    spec = work.resolved.spec(work.options, runtime.settings.kv_cache_type or "f16")
    async with runtime.scheduler.lease(spec, work.keep_alive) as runner:
        work.load_duration = time.monotonic_ns() - work.started
        yield runner


class _CallNumbers:
    """Gives the calls of one answer their numbers and ids."""

    def __init__(self) -> None:
        self._next = 0

    def number(self, calls: Iterable[ToolCall]) -> list[CallMessage]:
        """Calls as they travel."""
        messages = []
        for call in calls:
            function = CalledFunction(index=self._next, name=call.name, arguments=dict(call.arguments))
            name = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
            messages.append(CallMessage(id=f"call_{name}", function=function))
            self._next += 1
        return messages


def _unloads(keep_alive: int | None) -> bool:
    return keep_alive == 0


def _now() -> str:
    return format_rfc3339(time.time_ns(), local=False)
