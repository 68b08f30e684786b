"""Making models: from GGUF blobs that were uploaded, or from a model that is here.

A GGUF file whose chat template is of a known format gets that format's Go template and stop texts, as with Ollama;
one whose chat template is another keeps it and is driven by it. The store does the work in a thread and reports its
steps; they come out here as a stream. A model of the same name is replaced in one step at the end, so an error or a
kill on the way leaves the old one as it was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ollama_nb.prompt.gotemplate import TemplateError
from ollama_nb.prompt.known import recognise
from ollama_nb.prompt.render import prompt_template
from ollama_nb.service.resolve import header_of, token_text
from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.manifests import Layer, MediaType
from ollama_nb.wire.errors import BadRequestError, NotFoundError, NotImplementedYetError
from ollama_nb.wire.models import CreateRequest, Progress
from ollama_nb.wire.names import InvalidNameError, Name, parse_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ollama_nb.service.runtime import Runtime
    from ollama_nb.store.blobs import BlobStore
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
    draft, system = _base(runtime, request, report)
    if request.adapters:
        draft = draft.with_adapters(request.adapters, store.blobs, report)
    _check_template(request.template)
    licenses = [request.license] if isinstance(request.license, str) else request.license
    draft = draft.apply(
        template=request.template,
        # The default text goes with the template that was found, not with one that the user wrote.
        system=request.system or ("" if request.template else system),
        licenses=licenses,
        params={key: value for key, value in request.parameters.items() if value is not None},
        messages=[{"role": message.role, "content": message.content} for message in request.messages],
    )
    store.create(name, draft, report)


def _base(runtime: Runtime, request: CreateRequest, report: Report) -> tuple[ModelDraft, str]:
    """The draft to build on, and the system text that its files imply."""
    if not request.from_:
        blobs = runtime.store.blobs
        return _with_known_template(ModelDraft.from_gguf(request.files, blobs, report), blobs)
    try:
        base = runtime.store.get(_name(request.from_))
    except NotFoundError as error:
        raise NotFoundError(
            f"model '{request.from_}' not found", hint="this version does not pull; create it from a GGUF file first"
        ) from error
    return ModelDraft.from_model(base), ""


def _with_known_template(draft: ModelDraft, blobs: BlobStore) -> tuple[ModelDraft, str]:
    """The draft with the template that its weights' chat template is known to mean, and their default system text."""
    for layer in draft.layers:
        if isinstance(layer, Layer) and layer.media_type == MediaType.MODEL:
            header = header_of(blobs.path(layer.digest))
            source = header.metadata.get("tokenizer.chat_template")
            if not isinstance(source, str):
                continue
            known = recognise(source, bos=token_text(header, "bos"), eos=token_text(header, "eos"))
            if known is not None:
                params = {"stop": list(known.stop)}
                return draft.with_known_template(known.name, known.template, params), known.default_system
    return draft, ""


def _check_template(source: str) -> None:
    """Raises ``BadRequestError`` in Ollama's words for a template that does not parse."""
    if not source:
        return
    try:
        prompt_template(source)
    except TemplateError as error:
        raise BadRequestError(f"template error: {error}") from error


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
