"""Making models: from GGUF blobs that were uploaded, or from a model that is here.

The store does the work in a thread and reports its steps; they come out here as a stream. A model of the same
name is replaced in one step at the end, so an error or a kill on the way leaves the old one as it was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ollama_nb.store.drafts import ModelDraft
from ollama_nb.wire.errors import BadRequestError, NotFoundError, NotImplementedYetError
from ollama_nb.wire.names import InvalidNameError, Name, parse_name
from ollama_nb.wire.native import CreateRequest, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ollama_nb.service.runtime import Runtime
    from ollama_nb.store.models import Report

__all__ = ["create"]


async def create(runtime: Runtime, request: CreateRequest) -> AsyncGenerator[Progress, None]:
    """``/api/create``: Ollama's status lines, ``success`` last.

    Raises ``BadRequestError`` and others with Ollama's texts; a model that does not come about leaves nothing listed.
    """
    name = _name(request.model or request.name)
    _refuse_unsupported(request)
    loop = asyncio.get_running_loop()
    steps: asyncio.Queue[str | None] = asyncio.Queue()

    def report(step: str) -> None:
        """From the thread to the stream."""
        loop.call_soon_threadsafe(steps.put_nowait, step)

    work = asyncio.ensure_future(asyncio.to_thread(_create, runtime, name, request, report))
    work.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        while (step := await steps.get()) is not None:
            yield Progress(status=step)
    finally:
        # A thread cannot be called off; what it writes is complete or not listed, so it may end by itself.
        await asyncio.shield(asyncio.gather(work, return_exceptions=True))
    await work
    yield Progress(status="success")


def _create(runtime: Runtime, name: Name, request: CreateRequest, report: Report) -> None:
    store = runtime.store
    draft = _base(runtime, request, report)
    if request.adapters:
        draft = draft.with_adapters(request.adapters, store.blobs, report)
    licenses = [request.license] if isinstance(request.license, str) else request.license
    draft = draft.apply(
        template=None,
        system=request.system,
        licenses=licenses,
        params={key: value for key, value in request.parameters.items() if value is not None},
        messages=[{"role": message.role, "content": message.content} for message in request.messages],
    )
    store.create(name, draft, report)


def _base(runtime: Runtime, request: CreateRequest, report: Report) -> ModelDraft:
    if not request.from_:
        return ModelDraft.from_gguf(request.files, runtime.store.blobs, report)
    try:
        base = runtime.store.get(_name(request.from_))
    except NotFoundError as error:
        raise NotFoundError(
            f"model '{request.from_}' not found", hint="this version does not pull; create it from a GGUF file first"
        ) from error
    return ModelDraft.from_model(base)


def _name(text: str) -> Name:
    try:
        return parse_name(text)
    except InvalidNameError as error:
        raise BadRequestError("invalid model name") from error


def _refuse_unsupported(request: CreateRequest) -> None:
    """What this version would have to ignore is refused before anything is written."""
    if request.quantize or request.quantization:
        raise NotImplementedYetError(
            "quantizing is not supported by this version", hint="create the model from a GGUF that is quantized"
        )
    if request.template:
        raise NotImplementedYetError(
            "templates are not supported by this version", hint="the chat template inside the GGUF is used"
        )
