"""Chat and generate: from a request to a stream of responses.

Checks come in Ollama's order, so that a request with two mistakes gets the same error from both. Everything that
can be refused is refused before the first response is yielded; the lease on the model lasts as long as the
generator is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ollama_nb.prompt.render import chat_messages, generate_messages, render_prompt
from ollama_nb.runner.messages import Finish, Generate, Sampling
from ollama_nb.service.resolve import ResolvedModel, resolve
from ollama_nb.wire.durations import format_rfc3339, parse_keep_alive
from ollama_nb.wire.errors import BadRequestError, NotFoundError, NotImplementedYetError
from ollama_nb.wire.names import InvalidNameError, parse_name
from ollama_nb.wire.native import (
    AnswerMessage,
    ChatRequest,
    ChatResponse,
    GenerateRequest,
    GenerateResponse,
    Message,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from ollama_nb.runner.scheduler import Runner
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.wire.options import Options

__all__ = ["chat", "collect_chat", "collect_generate", "generate"]

_SAMPLING_FIELDS = Sampling.__struct_fields__


@dataclass
class _Work:
    """A request that has passed its checks, and the clock that runs on it."""

    resolved: ResolvedModel
    options: Options
    keep_alive: int | None
    started: int
    load_duration: int = 0
    text: list[str] = field(default_factory=list)

    def frame(self, number: int, prompt: str) -> Generate:
        """The request as the model's process takes it."""
        options = self.options
        return Generate(
            id=number,
            prompt=prompt,
            num_keep=options.num_keep,
            num_predict=options.num_predict,
            stop=options.stop,
            sampling=Sampling(**{name: getattr(options, name) for name in _SAMPLING_FIELDS}),
        )

    def metrics(self, finish: Finish) -> dict[str, int]:
        """The closing counts; ``prompt_eval_count`` is all prompt tokens, those from the cache included."""
        return {
            "total_duration": time.monotonic_ns() - self.started,
            "load_duration": self.load_duration,
            "prompt_eval_count": finish.prompt_count,
            "prompt_eval_duration": finish.prompt_duration,
            "eval_count": finish.eval_count,
            "eval_duration": finish.eval_duration,
        }


async def chat(runtime: Runtime, request: ChatRequest) -> AsyncGenerator[ChatResponse, None]:
    """``/api/chat``: the next message of a conversation, piece by piece, then one final response."""
    started = time.monotonic_ns()
    keep_alive = parse_keep_alive(request.keep_alive)
    unload = not request.messages and _unloads(keep_alive)
    resolved = await _find(runtime, request.model, _chat_missing(request.model, unload=unload))

    def respond(text: str, *, done: bool = False, **fields: Any) -> ChatResponse:  # noqa: ANN401 - counts
        """One response of this request."""
        message = AnswerMessage(role="assistant", content=text)
        return ChatResponse(model=request.model, created_at=_now(), message=message, done=done, **fields)

    if unload:
        runtime.scheduler.unload(str(resolved.path))
        yield respond("", done=True, done_reason="unload")
        return
    _require(resolved, request.model, verb="chat", wanted=_wanted(request.think, tools=request.tools))
    _refuse_format(request.format)
    _refuse_images(resolved, [image for message in request.messages for image in message.images])
    work = _Work(resolved, resolved.options(runtime.settings.context_length, request.options), keep_alive, started)
    conversation = chat_messages(request.messages, system=resolved.stored.system or "", history=resolved.history)
    async with _lease(runtime, work) as runner:
        if not request.messages:
            yield respond("", done=True, done_reason="load")
            return
        prompt = await _render(resolved, runner, conversation)
        async with contextlib.aclosing(runner.child.generate(lambda number: work.frame(number, prompt))) as answers:
            async for answer in answers:
                if isinstance(answer, Finish):
                    yield respond("", done=True, done_reason=answer.reason, **work.metrics(answer))
                else:
                    yield respond(answer)


async def generate(runtime: Runtime, request: GenerateRequest) -> AsyncGenerator[GenerateResponse, None]:
    """``/api/generate``: the continuation of a prompt, piece by piece, then one final response."""
    started = time.monotonic_ns()
    keep_alive = parse_keep_alive(request.keep_alive)
    resolved = await _find(runtime, request.model, lambda: NotFoundError(f"model '{request.model}' not found"))

    def respond(text: str, *, done: bool = False, **fields: Any) -> GenerateResponse:  # noqa: ANN401 - counts
        """One response of this request."""
        return GenerateResponse(model=request.model, created_at=_now(), response=text, done=done, **fields)

    if not request.prompt and _unloads(keep_alive):
        runtime.scheduler.unload(str(resolved.path))
        yield respond("", done=True, done_reason="unload")
        return
    if request.raw and (request.template or request.system or request.context):
        raise BadRequestError("raw mode does not support template, system, or context")
    _require(resolved, request.model, verb="generate", wanted=_wanted(request.think, suffix=request.suffix))
    _refuse_format(request.format)
    _refuse_images(resolved, request.images)
    if request.template:
        _refuse("the template field", "the model's own chat template is used; leave the field out, or use raw")
    work = _Work(resolved, resolved.options(runtime.settings.context_length, request.options), keep_alive, started)
    async with _lease(runtime, work) as runner:
        if not request.prompt:
            yield respond("", done=True, done_reason="load")
            return
        prompt = await _generate_prompt(resolved, runner, request)
        async with contextlib.aclosing(runner.child.generate(lambda number: work.frame(number, prompt))) as answers:
            async for answer in answers:
                if isinstance(answer, Finish):
                    context = [] if request.raw else await runner.child.tokenize(prompt + "".join(work.text))
                    metrics = work.metrics(answer)
                    yield respond("", done=True, done_reason=answer.reason, context=context, **metrics)
                else:
                    work.text.append(answer)
                    yield respond(answer)


async def collect_chat(responses: AsyncGenerator[ChatResponse, None]) -> ChatResponse:
    """A stream of responses as the single one of ``"stream": false``."""
    text: list[str] = []
    last = None
    async with contextlib.aclosing(responses):
        async for last in responses:
            text.append(last.message.content)
    if last is None:
        raise RuntimeError("a chat without a response")
    last.message.content = "".join(text)
    return last


async def collect_generate(responses: AsyncGenerator[GenerateResponse, None]) -> GenerateResponse:
    """A stream of responses as the single one of ``"stream": false``."""
    text: list[str] = []
    last = None
    async with contextlib.aclosing(responses):
        async for last in responses:
            text.append(last.response)
    if last is None:
        raise RuntimeError("a generate without a response")
    last.response = "".join(text)
    return last


# -- the steps both share -----------------------------------------------------------------------------------------


async def _find(runtime: Runtime, text: str, missing: Callable[[], Exception]) -> ResolvedModel:
    """The model of a request, with the route's own error where there is none."""
    try:
        return await resolve(runtime, parse_name(text))
    except (InvalidNameError, NotFoundError) as error:
        raise missing() from error


def _chat_missing(model: str, *, unload: bool) -> Callable[[], Exception]:
    def missing() -> Exception:
        if unload:
            return NotFoundError(f"model '{model}' not found")
        try:
            parse_name(model)
        except InvalidNameError:
            return BadRequestError("model is required")
        return NotFoundError(f'model "{model}" not found, try pulling it first')

    return missing


@contextlib.asynccontextmanager
async def _lease(runtime: Runtime, work: _Work) -> AsyncGenerator[Runner, None]:
    """The lease on the model; the time until it is had, queue included, is the load duration."""
    spec = work.resolved.spec(work.options, runtime.settings.kv_cache_type or "f16")
    async with runtime.scheduler.lease(spec, work.keep_alive) as runner:
        work.load_duration = time.monotonic_ns() - work.started
        yield runner


async def _render(resolved: ResolvedModel, runner: Runner, conversation: list[Message]) -> str:
    """Templates come from anywhere and may be slow: they run beside the loop."""
    adds_bos = runner.child.info.adds_bos
    return await asyncio.to_thread(lambda: render_prompt(resolved.template, conversation, adds_bos=adds_bos))


async def _generate_prompt(resolved: ResolvedModel, runner: Runner, request: GenerateRequest) -> str:
    if request.raw:
        return request.prompt
    history = [] if request.context else resolved.history
    system = request.system or resolved.stored.system or ""
    prompt = await _render(resolved, runner, generate_messages(request.prompt, system=system, history=history))
    if request.context:
        prompt = await runner.child.detokenize(request.context) + prompt
    return prompt


def _unloads(keep_alive: int | None) -> bool:
    return keep_alive == 0


def _wanted(think: object, *, tools: object = None, suffix: str = "") -> list[str]:
    """The capabilities that a request asks for beyond completion, in the order that Ollama names them."""
    asked = (("tools", bool(tools)), ("insert", bool(suffix)), ("thinking", think not in (None, False)))
    return [name for name, wanted in asked if wanted]


def _require(resolved: ResolvedModel, model: str, *, verb: str, wanted: list[str]) -> None:
    if "completion" not in resolved.capabilities:
        raise BadRequestError(f'"{model}" does not support {verb}')
    if missing := [name for name in wanted if name not in resolved.capabilities]:
        raise BadRequestError(f"{resolved.stored.name.full} does not support " + "\n".join(missing))


def _refuse_images(resolved: ResolvedModel, images: list[str]) -> None:
    """Ollama would put the text ``[img-0]`` into the prompt of a model that cannot see; we say so instead."""
    if images and "vision" not in resolved.capabilities:
        raise BadRequestError(f"{resolved.stored.name.full} does not support vision", hint="send text only")


def _refuse_format(value: object) -> None:
    if value not in (None, ""):
        _refuse("the format field", "ask for JSON in the prompt and leave the field out")


def _refuse(what: str, instead: str) -> NoReturn:
    raise NotImplementedYetError(f"{what} is not supported by this version", hint=instead)


def _now() -> str:
    return format_rfc3339(time.time_ns(), local=False)
