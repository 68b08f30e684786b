"""Chat and generate: from a request to a stream of responses.

Checks come in Ollama's order, so that a request with two mistakes gets the same error from both. Everything that
can be refused is refused before the first response is yielded; the lease on the model lasts as long as the
generator is open. The checks are in ``checks``, the making of prompts in ``prompts``.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import string
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.prompt.answer import AnswerParser, answer_parser
from ollama_nb.prompt.conversation import chat_messages, untagged, without_old_thinking
from ollama_nb.prompt.driver import go_driver
from ollama_nb.prompt.formats import parse_format
from ollama_nb.prompt.tools import Delta
from ollama_nb.prompt.tools.choice import choose_tools
from ollama_nb.runner.messages import Finish
from ollama_nb.service.answering import Work
from ollama_nb.service.checks import (
    blamed_on_request,
    chat_missing,
    check_logprobs,
    find,
    parse_think,
    refuse_images,
    require,
    wanted,
)
from ollama_nb.service.images import check_images, decode_images
from ollama_nb.service.prompts import Prompt, bind, chat_prompt, generate_prompt
from ollama_nb.service.threads import in_template_thread
from ollama_nb.store.modelfile import DEFAULT_TEMPLATE
from ollama_nb.wire.durations import format_rfc3339, parse_keep_alive
from ollama_nb.wire.errors import BadRequestError, NotFoundError
from ollama_nb.wire.native import (
    AnswerMessage,
    CalledFunction,
    CallMessage,
    ChatRequest,
    ChatResponse,
    DebugInfo,
    GenerateRequest,
    GenerateResponse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from ollama_nb.prompt.driver import Driver
    from ollama_nb.prompt.formats import Format
    from ollama_nb.prompt.render import Think
    from ollama_nb.prompt.tools import ToolCall
    from ollama_nb.runner.scheduler import Runner
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.wire.native import TokenLogprob

__all__ = ["chat", "collect_chat", "collect_generate", "generate"]

_ID_CHARACTERS: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 8


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
    form = await in_template_thread(lambda: parse_format(request.format))
    check_logprobs(request)
    images = [image for message in request.messages for image in message.images]
    refuse_images(resolved, images)
    await asyncio.to_thread(check_images, images)
    tools, demanded = choose_tools(request.tools, request.tool_choice)
    options = resolved.options(runtime.settings.context_length, request.options)
    work = Work(request, resolved, options, keep_alive, started)
    conversation = chat_messages(request.messages, system=resolved.stored.system or "", history=resolved.history)
    if resolved.thinks_by_name:
        conversation = without_old_thinking(conversation)
    async with work.lease(runtime) as runner:
        if not request.messages:
            yield respond(Delta(), done=True, done_reason="load")
            return
        driver = await in_template_thread(lambda: resolved.driver)
        if demanded and driver.thinking:
            think = False
        files = await asyncio.to_thread(decode_images, images)
        prompt = await chat_prompt(
            resolved,
            runner,
            driver,
            conversation,
            tools=tools,
            think=think,
            truncate=request.truncate,
            images=dict(zip(images, files, strict=True)),
        )
        prompt = await bind(driver, prompt, form, demanded=demanded, tools=tools, think=think)
        if request.debug_render_only:
            yield respond(Delta(), debug_info=DebugInfo(rendered_template=prompt.text, image_count=len(prompt.images)))
            return
        before = prompt.text.removesuffix(prompt.opening)
        parser = answer_parser(driver, before, tools=tools, think=think, is_bound=form is not None)
        async with contextlib.aclosing(work.answer(runner, prompt, parser)) as answer:
            async for part in answer:
                if isinstance(part, Finish):
                    metrics = work.metrics(part, prompt)
                    dropped = prompt.dropped_messages
                    yield respond(
                        Delta(), done=True, done_reason=part.reason, prompt_dropped_messages=dropped, **metrics
                    )
                elif part:
                    yield respond(part.delta, logprobs=part.logprobs)


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
    form = await in_template_thread(lambda: parse_format(request.format))
    check_logprobs(request)
    refuse_images(resolved, request.images)
    await asyncio.to_thread(check_images, request.images)
    options = resolved.options(runtime.settings.context_length, request.options)
    work = Work(request, resolved, options, keep_alive, started)
    async with work.lease(runtime) as runner:
        if not request.prompt:
            yield respond(Delta(), done=True, done_reason="load")
            return
        prompt, parser = await _single_question(work, runner, request, form, think)
        prompt = replace(prompt, images=await asyncio.to_thread(decode_images, request.images))
        if request.debug_render_only:
            yield respond(Delta(), debug_info=DebugInfo(rendered_template=prompt.text, image_count=len(prompt.images)))
            return
        async with contextlib.aclosing(work.answer(runner, prompt, parser)) as answer:
            async for part in answer:
                if isinstance(part, Finish):
                    said = (untagged(prompt.text) if prompt.images else prompt.text) + "".join(work.text)
                    context = [] if request.raw else await runner.child.tokenize(said)
                    metrics = work.metrics(part, prompt)
                    yield respond(Delta(), done=True, done_reason=part.reason, context=context, **metrics)
                else:
                    yield respond(part.delta, logprobs=part.logprobs)


async def _single_question(
    work: Work, runner: Runner, request: GenerateRequest, form: Format | None, think: Think
) -> tuple[Prompt, AnswerParser]:
    """The prompt of a generate, and the parser of its answer; a raw one is taken as it is, whatever the template is."""
    if request.raw:
        driver: Driver = go_driver(DEFAULT_TEMPLATE)
        return await bind(driver, Prompt(request.prompt), form), AnswerParser()
    with blamed_on_request(request.template):
        driver = await in_template_thread(
            lambda: go_driver(request.template) if request.template else work.resolved.driver
        )
        prompt = await generate_prompt(work.resolved, runner, request, driver, think)
    parser = answer_parser(driver, prompt.text, think=think, is_bound=form is not None)
    return await bind(driver, prompt, form, think=think), parser


async def collect_chat(responses: AsyncGenerator[ChatResponse, None]) -> ChatResponse:
    """A stream of responses as the single one of ``"stream": false``."""
    messages: list[AnswerMessage] = []
    logprobs: list[TokenLogprob] = []
    last = None
    async with contextlib.aclosing(responses):
        async for last in responses:
            messages.append(last.message)
            logprobs += last.logprobs
    if last is None:
        raise RuntimeError("a chat without a response")
    last.message = AnswerMessage(
        role="assistant",
        content="".join(message.content for message in messages),
        thinking="".join(message.thinking for message in messages),
        tool_calls=[call for message in messages for call in message.tool_calls],
    )
    last.logprobs = logprobs
    return last


async def collect_generate(responses: AsyncGenerator[GenerateResponse, None]) -> GenerateResponse:
    """A stream of responses as the single one of ``"stream": false``."""
    text: list[str] = []
    thinking: list[str] = []
    logprobs: list[TokenLogprob] = []
    last = None
    async with contextlib.aclosing(responses):
        async for last in responses:
            text.append(last.response)
            thinking.append(last.thinking)
            logprobs += last.logprobs
    if last is None:
        raise RuntimeError("a generate without a response")
    last.response, last.thinking, last.logprobs = "".join(text), "".join(thinking), logprobs
    return last


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
