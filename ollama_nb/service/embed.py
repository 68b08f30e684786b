"""Embeddings: from texts to vectors, for Ollama's two routes and for whatever else asks.

All texts of a request go to the model's process at once, which computes them in batches; one that fails calls the
others off. Checks come in Ollama's order. What is done to the numbers stands in ``vectors``.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ollama_nb.service.checks import find
from ollama_nb.service.vectors import read_vector, unit, vector_json, wide_vector_json
from ollama_nb.wire.durations import parse_keep_alive
from ollama_nb.wire.errors import BadRequestError, NotFoundError
from ollama_nb.wire.gostrings import quote
from ollama_nb.wire.names import InvalidNameError, parse_name
from ollama_nb.wire.native import EmbeddingRequest, EmbeddingResponse, EmbedRequest, EmbedResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ollama_nb.runner.messages import Embedded, Overflow
    from ollama_nb.runner.scheduler import Runner
    from ollama_nb.service.resolve import ResolvedModel
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.service.vectors import Vector

__all__ = ["Embeddings", "embed", "embed_texts", "legacy_embedding"]


@dataclass(frozen=True)
class Embeddings:
    """Vectors in the order of their texts; ``prompt_count`` in tokens of all texts, durations in nanoseconds."""

    vectors: list[Vector]
    prompt_count: int
    total_duration: int
    load_duration: int


async def embed(runtime: Runtime, request: EmbedRequest) -> EmbedResponse:
    """``/api/embed``: a unit vector a text; no text loads the model."""
    found = await embed_texts(
        runtime,
        request.model,
        _texts(request.input),
        options=request.options,
        keep_alive=request.keep_alive,
        truncate=request.truncate,
        dimensions=request.dimensions,
    )
    embeddings = await asyncio.to_thread(vector_json, found.vectors)
    if not embeddings:
        return EmbedResponse(model=request.model, embeddings=[])
    return EmbedResponse(
        model=request.model,
        embeddings=embeddings,
        total_duration=found.total_duration,
        load_duration=found.load_duration,
        prompt_eval_count=found.prompt_count,
    )


async def embed_texts(
    runtime: Runtime,
    model: str,
    texts: Sequence[str],
    *,
    options: Mapping[str, Any],
    keep_alive: object,
    truncate: bool,
    dimensions: int,
) -> Embeddings:
    """Unit vectors of shape (``dimensions`` or the model's embedding length,), one a text.

    ``keep_alive`` is as it came in the request. Without texts the model is loaded all the same. A text that is longer
    than the context loses its end, or is refused where ``truncate`` is false. Raises ``NotFoundError`` for a model
    that is not there, ``BadRequestError`` for what the model cannot do.
    """
    overflow: Overflow = "head" if truncate else "refuse"
    work = _Work(runtime, parse_keep_alive(keep_alive), options)
    resolved = await find(runtime, model, lambda: _missing(model))
    _check_dimensions(resolved, dimensions)
    answers = await work.run(resolved, texts, overflow)
    return Embeddings(
        vectors=[unit(read_vector(answer.vector), dimensions) for answer in answers],
        prompt_count=sum(answer.prompt_count for answer in answers),
        total_duration=time.monotonic_ns() - work.started,
        load_duration=work.load_duration,
    )


async def legacy_embedding(runtime: Runtime, request: EmbeddingRequest) -> EmbeddingResponse:
    """``/api/embeddings``, the older route: the vector as the model gives it; no prompt loads the model."""
    work = _Work(runtime, parse_keep_alive(request.keep_alive), request.options)
    try:
        parse_name(request.model)
    except InvalidNameError as error:
        raise BadRequestError("model is required") from error
    resolved = await find(runtime, request.model, lambda: _missing(request.model))
    answers = await work.run(resolved, [request.prompt] if request.prompt else [], "tail")
    data = answers[0].vector if answers else b""
    return EmbeddingResponse(embedding=wide_vector_json(read_vector(data)))


class _Work:
    """A request that is being embedded, and the clock that runs on it."""

    def __init__(self, runtime: Runtime, keep_alive: int | None, options: Mapping[str, Any]) -> None:
        self.started = time.monotonic_ns()
        self.load_duration = 0
        self._runtime = runtime
        self._keep_alive = keep_alive
        self._options = options

    async def run(self, resolved: ResolvedModel, texts: Sequence[str], overflow: Overflow) -> list[Embedded]:
        """Load the model and embed the texts; the time until the model is had, queue included, is the load's."""
        settings = self._runtime.settings
        options = resolved.options(settings.context_length, self._options)
        spec = resolved.spec(options, settings.kv_cache_type or "f16")
        async with self._runtime.scheduler.lease(spec, self._keep_alive) as runner:
            self.load_duration = time.monotonic_ns() - self.started
            return await _all_at_once(runner, texts, overflow)


async def _all_at_once(runner: Runner, texts: Sequence[str], overflow: Overflow) -> list[Embedded]:
    """Every text's vector; the first failure calls the others off and is what is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(runner.child.embed(text, overflow=overflow)) for text in texts]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def _texts(given: object) -> list[str]:
    """The ``input`` of a request, before anything is known of its model; an empty text alone is none."""
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequestError("invalid input type", hint="input is a text or a list of texts")
    return texts


def _check_dimensions(resolved: ResolvedModel, dimensions: int) -> None:
    """As many components as the model has; 0 is all of them."""
    length = resolved.header.get("embedding_length_out") or resolved.header.get("embedding_length")
    if dimensions < 0 or (isinstance(length, int) and dimensions > length):
        raise BadRequestError(
            f"dimensions must be between 1 and {length}, the length of this model's embeddings",
            hint="leave dimensions out for the whole vector",
        )


def _missing(model: str) -> NotFoundError:
    return NotFoundError(f"model {quote(model)} not found, try pulling it first")
