"""Pulling and pushing models: what a registry's manifest names is fetched or sent, and the manifest comes last.

What the transfers of one server share is ``Transfers``. How blobs come and go is in ``fetching`` and in ``registry``;
the Hugging Face Hub, which has files and no manifests of ours, is in ``hub``.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self

from ollama_nb.registry.client import Registry
from ollama_nb.registry.huggingface import is_hub
from ollama_nb.registry.keys import KeyPair
from ollama_nb.registry.sharing import Downloads
from ollama_nb.registry.transport import Transport
from ollama_nb.registry.upload import Upload
from ollama_nb.service.fetching import Wanted, all_at_once, fetch
from ollama_nb.service.hub import pull_model
from ollama_nb.service.steps import follow, steps_of
from ollama_nb.service.threads import in_thread
from ollama_nb.store.manifests import CorruptManifestError, decode_manifest
from ollama_nb.wire.errors import BadRequestError, OllamaError, RegistryError
from ollama_nb.wire.models import Progress
from ollama_nb.wire.names import Name, parse_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ollama_nb.service.runtime import Runtime
    from ollama_nb.service.steps import Report
    from ollama_nb.settings import Settings
    from ollama_nb.store.blobs import BlobStore
    from ollama_nb.store.manifests import Layer, Manifest
    from ollama_nb.wire.models import PullRequest, PushRequest

__all__ = ["Transfers", "pull", "pull_into", "push"]


class Transfers:
    """What all pulls and pushes of a server share: one HTTP client, the user's key, the downloads that run."""

    def __init__(self, settings: Settings, blobs: BlobStore) -> None:
        self.transport = Transport()
        self.key = KeyPair(settings.nb_home)
        self.downloads = Downloads(blobs, streams=settings.max_transfer_streams)

    async def close(self) -> None:
        """End what still runs; what has come of it stays for the next pull."""
        await self.downloads.close()
        await self.transport.aclose()


def pull(runtime: Runtime, request: PullRequest) -> AsyncGenerator[Progress, None]:
    """``/api/pull``: Ollama's status lines, ``success`` last.

    Raises ``BadRequestError`` for a name that is none, ``RegistryError`` and others when it comes to it; a model that
    does not come about is not listed, and what has come of it need not come again.
    """
    name = _name(request.model or request.name, insecure=request.insecure)
    return steps_of(lambda report: pull_into(runtime, name, report, insecure=request.insecure))


async def pull_into(runtime: Runtime, name: Name, report: Report, *, insecure: bool = False) -> None:
    """Have a model here, as its registry has it now."""
    report(Progress(status="pulling manifest"))
    # A name that differs from another by case only is that one, at the registry too.
    name = await in_thread(lambda: runtime.store.manifests.resolve(name))
    if is_hub(name):
        await pull_model(runtime, name, report)
        return
    registry = Registry(name, runtime.transfers.transport, runtime.transfers.key, insecure=insecure)
    try:
        data = await registry.manifest()
        manifest = await in_thread(lambda: _checked(data, registry.key))
    except OllamaError as error:
        text = f"pull model manifest: {error.message}"
        raise OllamaError(text, status=error.status, hint=error.hint) from error
    store, layers = runtime.store, manifest.all_layers
    digests = [layer.digest for layer in layers]
    store.hold(digests)
    try:
        wanted = [Wanted(registry.blob(layer.digest), layer.digest, layer.size) for layer in layers]
        await fetch(runtime.transfers.downloads, store.blobs, wanted, report)
        # Every download has compared its hash before its blob appeared under this name.
        report(Progress(status="verifying sha256 digest"))
        report(Progress(status="writing manifest"))
        told: list[str] = []
        await in_thread(lambda: store.put_manifest(name, data, told.append))
        for status in told:
            report(Progress(status=status))
    finally:
        await in_thread(lambda: store.release(digests))


def push(runtime: Runtime, request: PushRequest) -> AsyncGenerator[Progress, None]:
    """``/api/push``: Ollama's status lines, ``success`` last.

    Raises ``BadRequestError`` for a name that is none, ``NotFoundError`` and ``RegistryError`` when it comes to it.
    The registry lists the model only once all of its blobs are there.
    """
    text = request.model or request.name
    if not text:
        raise BadRequestError("model is required")
    name = _name(text, insecure=request.insecure)
    if is_hub(name):
        raise BadRequestError(
            "models cannot be pushed to the Hugging Face Hub, which takes files",
            hint="Upload the GGUF file with `hf upload`; the hub's models are then pulled by this name.",
        )
    return steps_of(lambda report: _push(runtime, name, report, insecure=request.insecure))


async def _push(runtime: Runtime, name: Name, report: Report, *, insecure: bool) -> None:
    report(Progress(status="retrieving manifest"))
    store = runtime.store
    try:
        name = await in_thread(lambda: store.manifests.resolve(name))
        data, manifest = await in_thread(lambda: store.manifests.read_whole(name))
    except OllamaError:
        report(Progress(status="couldn't retrieve manifest"))
        raise
    registry = Registry(name, runtime.transfers.transport, runtime.transfers.key, insecure=insecure)
    # A digest that is listed twice is one blob.
    layers = {layer.digest: layer for layer in manifest.all_layers}
    store.hold(layers)
    try:
        await all_at_once(partial(_send, registry, store.blobs, layer, report) for layer in layers.values())
        report(Progress(status="pushing manifest"))
        await registry.put_manifest(data)
    finally:
        await in_thread(lambda: store.release(layers))


async def _send(registry: Registry, blobs: BlobStore, layer: Layer, report: Report) -> None:
    upload = Upload(registry, blobs, layer)
    # What is there already is told by the first line.
    await upload.look()
    async with _Sending(upload, layer) as sending:
        await follow(sending, "pushing", report)


class _Sending:
    """An upload that runs, to be followed; leaving it ends it."""

    def __init__(self, upload: Upload, layer: Layer) -> None:
        self.digest, self.size = layer.digest, layer.size
        self._upload = upload

    @property
    def completed(self) -> int:
        """Bytes that the registry has."""
        return self._upload.completed

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._upload.run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def wait(self, seconds: float) -> bool:
        """Whether all of it is there within that time; raises what the upload raises."""
        await asyncio.wait([self._task], timeout=seconds)
        if self._task.done():
            await self._task
        return self._task.done()


def _checked(data: bytes, place: str) -> Manifest:
    """A registry's manifest; raises ``BadRequestError`` or ``RegistryError`` for one that is none."""
    try:
        return decode_manifest(data, strict=True)
    except CorruptManifestError as error:
        raise RegistryError(f"{place}: {error.message}") from error


def _name(text: str, *, insecure: bool) -> Name:
    if text.lower().startswith("http://") and not insecure:
        raise BadRequestError("insecure protocol http", hint='Ask for it: "insecure": true, or --insecure.')
    return parse_name(text)
