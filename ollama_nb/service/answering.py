"""A model's answer in the making: the lease that it holds, the frame that it asks with, the pieces that come back.

What is asked and what becomes of the pieces is the use cases' business (``generate``).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ollama_nb.prompt.tools import Delta
from ollama_nb.runner.messages import Finish, Generate, Sampling
from ollama_nb.wire.native import TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ollama_nb.prompt.answer import AnswerParser
    from ollama_nb.runner.messages import Logprob
    from ollama_nb.runner.scheduler import Runner
    from ollama_nb.service.prompts import Prompt
    from ollama_nb.service.resolve import ResolvedModel
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.wire.native import ChatRequest, GenerateRequest
    from ollama_nb.wire.options import Options

__all__ = ["Said", "Work"]

_SAMPLING_FIELDS: Final = Sampling.__struct_fields__


@dataclass(frozen=True)
class Said:
    """What one piece of text brought, and the probabilities of its tokens where they are asked for."""

    delta: Delta
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.delta or self.logprobs)


@dataclass
class Work:
    """A request that has passed its checks, and the clock that runs on it; ``started`` in monotonic nanoseconds."""

    request: ChatRequest | GenerateRequest
    resolved: ResolvedModel
    options: Options
    keep_alive: int | None
    started: int
    load_duration: int = 0
    text: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def lease(self, runtime: Runtime) -> AsyncGenerator[Runner, None]:
        """The lease on the model; the time until it is had, queue included, is the load duration."""
        spec = self.resolved.spec(self.options, runtime.settings.kv_cache_type or "f16")
        async with runtime.scheduler.lease(spec, self.keep_alive) as runner:
            self.load_duration = time.monotonic_ns() - self.started
            yield runner

    def frame(self, number: int, prompt: Prompt) -> Generate:
        """The request as the model's process takes it."""
        options, request = self.options, self.request
        return Generate(
            id=number,
            prompt=prompt.text,
            num_keep=options.num_keep,
            num_predict=options.num_predict,
            stop=() if prompt.grammar else options.stop,  # a grammar ends by itself, and may need such a text within
            sampling=Sampling(**{name: getattr(options, name) for name in _SAMPLING_FIELDS}),
            grammar=prompt.grammar,
            images=prompt.images,
            truncate=request.truncate,
            shift=request.shift,
            logprobs=request.logprobs or request.top_logprobs > 0,
            top_logprobs=request.top_logprobs,
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

    async def answer(self, runner: Runner, prompt: Prompt, parser: AnswerParser) -> AsyncGenerator[Said | Finish, None]:
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
                        yield Said(rest)
                    yield piece
                else:
                    self.text.append(piece.text)
                    delta = opened + parser.feed(piece.text)
                    called = called or bool(delta.calls)
                    yield Said(delta, [_logprob(token) for token in piece.logprobs])
                opened = Delta()


def _logprob(token: Logprob) -> TokenLogprob:
    """A token as it travels; one that is half a character shows as the sign for what cannot be read."""
    piece = token.token.piece
    return TokenLogprob(
        token=_text(piece),
        logprob=token.token.logprob,
        bytes=list(piece),
        top_logprobs=[
            TopLogprob(token=_text(top.piece), logprob=top.logprob, bytes=list(top.piece)) for top in token.top
        ],
    )


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", errors="replace")
