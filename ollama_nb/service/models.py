"""Listing, showing, copying and deleting models, and what is loaded."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ollama_nb.gguf.reader import GgufArray, Header
from ollama_nb.service.resolve import capabilities_of, header_of, resolve
from ollama_nb.service.threads import in_template_thread
from ollama_nb.store.manifests import MediaType
from ollama_nb.store.modelfile import DEFAULT_TEMPLATE, print_modelfile, print_parameters
from ollama_nb.wire.durations import format_rfc3339
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError
from ollama_nb.wire.gostrings import quote
from ollama_nb.wire.models import (
    CopyRequest,
    DeleteRequest,
    ListResponse,
    ModelDetails,
    ModelSummary,
    ProcessResponse,
    RunningModel,
    ShowRequest,
    ShowResponse,
    Tensor,
)
from ollama_nb.wire.names import InvalidNameError, Name, parse_name

if TYPE_CHECKING:
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.store.manifests import ModelConfig
    from ollama_nb.store.models import ModelEntry, ModelStore, StoredModel

__all__ = ["copy", "delete", "list_models", "list_running", "show"]

_HIDDEN_KEYS = frozenset({"general.name", "tokenizer.chat_template"})


async def list_models(runtime: Runtime) -> ListResponse:
    """``/api/tags``: what is in the store, newest first; damaged models are left out."""
    return ListResponse(models=await asyncio.to_thread(_summaries, runtime.store))


def _summaries(store: ModelStore) -> list[ModelSummary]:
    return [
        ModelSummary(
            name=entry.name.short,
            model=entry.name.short,
            modified_at=format_rfc3339(entry.modified_ns, local=True),
            size=entry.size,
            digest=entry.digest,
            details=_details(entry.config, lengths=_lengths(store, entry)),
            capabilities=capabilities_of(store, entry),
        )
        for entry in store.list()
    ]


async def list_running(runtime: Runtime) -> ProcessResponse:
    """``/api/ps``: what is loaded, the one that stays longest first."""
    models = []
    for runner in runtime.scheduler.runners():
        name = parse_name(runner.spec.name)
        try:
            stored = await asyncio.to_thread(runtime.store.get, name)
        except OllamaError:
            continue  # deleted or damaged while loaded: it is no model any more, only memory that will soon be free
        models.append(
            RunningModel(
                name=name.short,
                model=name.short,
                size=runner.size,
                digest=stored.digest,
                details=_details(stored.config),
                expires_at=format_rfc3339(runner.expires_at, local=True),
                size_vram=0,
                context_length=runner.child.info.num_ctx,
            )
        )
    return ProcessResponse(models=models)


async def show(runtime: Runtime, request: ShowRequest) -> ShowResponse:
    """``/api/show``. Arrays of the GGUF are null unless ``verbose``."""
    text = request.model or request.name
    if not text:
        raise BadRequestError("model is required")
    try:
        resolved = await resolve(runtime, parse_name(text))
    except (InvalidNameError, NotFoundError) as error:  # a name that cannot be is answered as one that is not there
        raise NotFoundError(f"model '{text}' not found") from error
    stored = resolved.stored
    if request.system:
        stored = replace(stored, system=request.system)
    return ShowResponse(
        license="\n".join(stored.licenses),
        modelfile=print_modelfile(replace(stored, params={**stored.params, **request.options})),
        parameters=print_parameters(stored.params),
        template=stored.template or DEFAULT_TEMPLATE,
        system=stored.system or "",
        details=_details(stored.config, parent=_parent(stored)),
        messages=resolved.history,
        model_info=await asyncio.to_thread(_model_info, resolved.header, verbose=request.verbose),
        projector_info=await asyncio.to_thread(_projector_info, stored.projector_paths, verbose=request.verbose),
        tensors=[
            Tensor(name=tensor.name, type=tensor.type, shape=list(tensor.shape)) for tensor in resolved.header.tensors
        ],
        capabilities=await in_template_thread(lambda: resolved.capabilities),
        modified_at=format_rfc3339(stored.modified_ns, local=True),
    )


def _lengths(store: ModelStore, entry: ModelEntry) -> tuple[int, int]:
    """Context and embedding length of a listed model; 0 where its files do not say."""
    try:
        return _stored_lengths(store, entry.name, entry.digest)
    except OllamaError:
        return 0, 0


@functools.lru_cache(maxsize=1024)
def _stored_lengths(store: ModelStore, name: Name, digest: str) -> tuple[int, int]:
    """Remembered by the digest of the manifest, since whoever has it has the same files."""
    del digest
    path = store.get(name).model_path
    if path is None:
        return 0, 0
    found = [header_of(path).get(key) for key in ("context_length", "embedding_length")]
    context, embedding = (length if isinstance(length, int) else 0 for length in found)
    return context, embedding


def _parent(stored: StoredModel) -> str:
    """The model that this one was made from; empty for one that was made from a file."""
    for layer in stored.manifest.layers:
        if layer.media_type == MediaType.MODEL and layer.from_:
            # Older Ollama wrote the path of a file here, which is nobody's business.
            with contextlib.suppress(InvalidNameError):
                return parse_name(layer.from_).short
    return ""


def _details(config: ModelConfig, *, parent: str = "", lengths: tuple[int, int] = (0, 0)) -> ModelDetails:
    context_length, embedding_length = lengths
    return ModelDetails(
        parent_model=parent,
        format=config.model_format,
        family=config.model_family,
        families=list(config.model_families) if config.model_families is not None else None,
        parameter_size=config.model_type,
        quantization_level=config.file_type,
        context_length=context_length,
        embedding_length=embedding_length,
    )


def _model_info(header: Header, *, verbose: bool) -> dict[str, Any]:
    info: dict[str, Any] = {"general.parameter_count": header.parameter_count}
    for key, value in header.metadata.items():
        if key not in _HIDDEN_KEYS:
            info[key] = value if not isinstance(value, GgufArray) else list(value) if verbose else None
    return dict(sorted(info.items()))


def _projector_info(paths: Any, *, verbose: bool) -> dict[str, Any]:  # noqa: ANN401 - a sequence of paths
    return _model_info(header_of(paths[0]), verbose=verbose) if paths else {}


async def copy(runtime: Runtime, request: CopyRequest) -> None:
    """``/api/copy``: the destination is replaced if it exists."""
    source = _named(request.source, f"source {quote(request.source)} is invalid")
    destination = _named(request.destination, f"destination {quote(request.destination)} is invalid")
    try:
        await asyncio.to_thread(runtime.store.copy, source, destination)
    except NotFoundError as error:
        raise NotFoundError(f"model {quote(request.source)} not found") from error


async def delete(runtime: Runtime, request: DeleteRequest) -> None:
    """``/api/delete``; a loaded model goes on for its running requests and is unloaded then."""
    text = request.model or request.name
    name = _named(text, f"name {quote(text)} is invalid")
    try:
        await asyncio.to_thread(runtime.store.delete, name)
    except NotFoundError as error:
        raise NotFoundError(f"model '{text}' not found") from error
    for runner in runtime.scheduler.runners():
        if parse_name(runner.spec.name).is_same(name):
            runtime.scheduler.unload(runner.spec.path)


def _named(text: str, message: str) -> Name:
    try:
        return parse_name(text)
    except InvalidNameError as error:
        raise BadRequestError(message) from error
