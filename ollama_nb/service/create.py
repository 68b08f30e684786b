"""Making models: from GGUF or safetensors files that were uploaded, or from a model that is here.

A GGUF file whose chat template is of a known format gets that format's Go template and stop texts, as with Ollama;
one whose chat template is another keeps it and is driven by it. What takes long is done in a process of its own
(``conversion``) or in threads; the steps come out here as a stream. A model of the same name is replaced in one step
at the end, so an error, a cancel or a kill on the way leaves the old one as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from ollama_nb.convert.quantize import quantization
from ollama_nb.registry.hub_files import OnlySafetensorsError
from ollama_nb.service.conversion import convert_adapter, convert_model, quantize
from ollama_nb.service.drafting import adapted, check_template, of_gguf, silent, weights, with_known_template
from ollama_nb.service.hub import pull_files
from ollama_nb.service.resolve import header_of
from ollama_nb.service.steps import steps_of
from ollama_nb.service.threads import in_template_thread, in_thread
from ollama_nb.service.transfers import pull_into
from ollama_nb.store.drafts import ModelDraft, check_file_names, detect_type, require_blobs
from ollama_nb.wire.errors import BadRequestError, OllamaError
from ollama_nb.wire.models import CreateRequest, Progress
from ollama_nb.wire.names import Name, parse_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping

    from ollama_nb.service.conversion import Made
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.service.steps import Report

__all__ = ["create"]


def create(runtime: Runtime, request: CreateRequest) -> AsyncGenerator[Progress, None]:
    """``/api/create``: Ollama's status lines, ``success`` last.

    Raises ``BadRequestError`` and others with Ollama's texts; a model that does not come about leaves nothing listed.
    Closing the generator calls the work off and waits for its end.
    """
    return steps_of(_Creation(runtime, request).run)


class _Creation:
    """One model in the making; refuses at once what can be refused."""

    def __init__(self, runtime: Runtime, request: CreateRequest) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._request = request
        self._name = parse_name(request.model or request.name)
        wanted = request.quantize or request.quantization
        self._wanted = quantization(wanted) if wanted else ""
        for files in (request.files, request.adapters):
            check_file_names(files or {})
        self._loop = asyncio.get_running_loop()
        self._new: set[str] = set()
        self._held: list[str] = []

    async def run(self, report: Report) -> None:
        """From the files to the manifest; what was made for a model that does not come about goes again."""
        self._tell = report
        try:
            await self._make()
        except BaseException:
            await in_thread(lambda: self._store.discard(self._new))
            raise
        finally:
            await in_thread(lambda: self._store.release(self._held))

    async def _make(self) -> None:
        # What is wrong with the texts is told now, not after a conversion.
        await in_template_thread(lambda: check_template(self._request.template))
        await in_thread(lambda: self._with_settings(ModelDraft.empty(), ""))
        draft, system = await self._base()
        if self._request.adapters:
            draft = await self._with_adapters(draft, self._request.adapters)
        draft = replace(self._with_settings(draft, system), new=frozenset(self._new))
        await in_thread(lambda: self._store.create(self._name, draft, self._report))

    async def _base(self) -> tuple[ModelDraft, str]:
        """The draft to build on, of the type that is wanted, and the system text that its files imply."""
        request = self._request
        if request.from_:
            return await self._of_model(parse_name(request.from_))
        if request.files is None:
            raise BadRequestError("neither 'from' or 'files' was specified")
        return await self._of_files(request.files)

    async def _of_model(self, name: Name) -> tuple[ModelDraft, str]:
        """Another model's layers; one that is not here is pulled first, or its safetensors are."""
        manifests = self._store.manifests
        if not await in_thread(lambda: manifests.exists(manifests.resolve(name))):
            try:
                await pull_into(self._runtime, name, self._tell)
            except OnlySafetensorsError:
                files = await pull_files(self._runtime, name, self._tell, self._hold)
                found = await self._of_files(files)
                await in_thread(lambda: self._store.discard(list(files.values())))
                return found
        return await self._smaller(await in_thread(lambda: self._parent(name))), ""

    async def _of_files(self, files: Mapping[str, str]) -> tuple[ModelDraft, str]:
        blobs = self._store.blobs
        await self._require(files)
        async with self._worthless_if_refused(files):
            kind = await in_thread(lambda: detect_type(files, blobs))
            if kind == "safetensors":
                digest = self._digest(await convert_model(blobs, files, self._wanted, self._tell))
                draft = await in_thread(lambda: ModelDraft.from_gguf({"model.gguf": digest}, blobs, silent))
            else:
                draft = await in_thread(lambda: of_gguf(files, blobs, self._report))
        if kind == "gguf":  # an upload that is a model stays, whatever was asked of it
            draft = await self._smaller(draft)
        return await in_thread(lambda: with_known_template(draft, blobs))

    async def _require(self, files: Mapping[str, str]) -> None:
        """Holds the blobs until the end; raises ``BadRequestError`` unless all are here."""
        self._hold(files.values())
        await in_thread(lambda: require_blobs(files, self._store.blobs))

    def _hold(self, digests: Iterable[str]) -> None:
        taken = list(digests)
        self._store.hold(taken)
        self._held += taken

    def _parent(self, name: Name) -> ModelDraft:
        base = self._store.get(name)
        self._hold(layer.digest for layer in base.manifest.layers)
        return ModelDraft.from_model(base)

    async def _smaller(self, draft: ModelDraft) -> ModelDraft:
        """The draft with its weights in the type that is wanted."""
        if not self._wanted:
            return draft
        blobs = self._store.blobs
        made = await quantize(blobs, blobs.path(weights(draft)), self._wanted, self._tell)
        if made is None:
            return draft
        digest = self._digest(made)
        return await in_thread(lambda: draft.with_weights(digest, blobs))

    async def _with_adapters(self, draft: ModelDraft, files: Mapping[str, str]) -> ModelDraft:
        blobs = self._store.blobs
        await self._require(files)
        base = await in_thread(lambda: header_of(blobs.path(weights(draft))))
        async with self._worthless_if_refused(files):
            if await in_thread(lambda: detect_type(files, blobs)) == "safetensors":
                digest = self._digest(await convert_adapter(blobs, files, base, self._tell))
                return await in_thread(lambda: adapted(draft, {"adapter.gguf": digest}, base, blobs, silent))
            return await in_thread(lambda: adapted(draft, files, base, blobs, self._report))

    def _with_settings(self, draft: ModelDraft, system: str) -> ModelDraft:
        """The draft with what the request sets on top."""
        request = self._request
        return draft.apply(
            template=request.template,
            # The default text goes with the template that was found, not with one that the user wrote.
            system=request.system or ("" if request.template else system),
            licenses=[request.license] if isinstance(request.license, str) else request.license,
            params={key: value for key, value in request.parameters.items() if value is not None},
            messages=[{"role": message.role, "content": message.content} for message in request.messages],
        )

    @contextlib.asynccontextmanager
    async def _worthless_if_refused(self, files: Mapping[str, str]) -> AsyncIterator[None]:
        """Uploads that turn out to be no model are not kept for anyone."""
        try:
            yield
        except OllamaError as error:
            if error.status == BadRequestError.status:
                await in_thread(lambda: self._store.discard(list(files.values())))
            raise

    def _digest(self, made: Made) -> str:
        """The digest of a file that was made, held and, if it is new, remembered as such."""
        self._hold([made.digest])
        if made.is_new:
            self._new.add(made.digest)
        return made.digest

    def _report(self, status: str) -> None:
        """From a thread to the stream."""
        self._loop.call_soon_threadsafe(self._tell, Progress(status=status))
