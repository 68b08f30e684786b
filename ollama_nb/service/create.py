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
from ollama_nb.gguf.adapters import check_adapter
from ollama_nb.prompt.gotemplate import TemplateError
from ollama_nb.prompt.known import recognise
from ollama_nb.prompt.render import prompt_template
from ollama_nb.service.conversion import convert_adapter, convert_model, quantize
from ollama_nb.service.resolve import header_of, token_text
from ollama_nb.service.threads import in_template_thread, in_thread
from ollama_nb.store.drafts import ModelDraft, check_file_names, detect_type, require_blobs
from ollama_nb.store.manifests import MediaType
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError
from ollama_nb.wire.models import CreateRequest, Progress
from ollama_nb.wire.names import InvalidNameError, Name, parse_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping

    from ollama_nb.gguf.reader import Header
    from ollama_nb.service.conversion import Made
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.store.blobs import BlobStore

__all__ = ["create"]


async def create(runtime: Runtime, request: CreateRequest) -> AsyncGenerator[Progress, None]:
    """``/api/create``: Ollama's status lines, ``success`` last.

    Raises ``BadRequestError`` and others with Ollama's texts; a model that does not come about leaves nothing listed.
    Closing the generator calls the work off and waits for its end.
    """
    creation = _Creation(runtime, request)
    work = asyncio.ensure_future(creation.run())
    work.add_done_callback(lambda _: creation.steps.put_nowait(None))
    try:
        while (step := await creation.steps.get()) is not None:
            yield step
        await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    yield Progress(status="success")


class _Creation:
    """One model in the making: the request, and the steps that it has come to; refuses at once what can be refused."""

    def __init__(self, runtime: Runtime, request: CreateRequest) -> None:
        self.steps: asyncio.Queue[Progress | None] = asyncio.Queue()
        self._store = runtime.store
        self._request = request
        self._name = _name(request.model or request.name)
        wanted = request.quantize or request.quantization
        self._wanted = quantization(wanted) if wanted else ""
        for files in (request.files, request.adapters):
            check_file_names(files or {})
        self._loop = asyncio.get_running_loop()
        self._new: set[str] = set()
        self._held: list[str] = []

    async def run(self) -> None:
        """From the files to the manifest; what was made for a model that does not come about goes again."""
        try:
            await self._make()
        except BaseException:
            await in_thread(lambda: self._store.discard(self._new))
            raise
        finally:
            await in_thread(lambda: self._store.release(self._held))

    async def _make(self) -> None:
        # What is wrong with the texts is told now, not after a conversion.
        await in_template_thread(lambda: _check_template(self._request.template))
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
            return await self._smaller(await in_thread(lambda: self._parent(request.from_))), ""
        if request.files is None:
            raise BadRequestError("neither 'from' or 'files' was specified")
        files, blobs = request.files, self._store.blobs
        await self._require(files)
        async with self._worthless_if_refused(files):
            kind = await in_thread(lambda: detect_type(files, blobs))
            if kind == "safetensors":
                digest = self._digest(await convert_model(blobs, files, self._wanted, self.steps.put_nowait))
                draft = await in_thread(lambda: ModelDraft.from_gguf({"model.gguf": digest}, blobs, _silent))
            else:
                draft = await in_thread(lambda: _of_gguf(files, blobs, self._report))
        if kind == "gguf":  # an upload that is a model stays, whatever was asked of it
            draft = await self._smaller(draft)
        return await in_thread(lambda: _with_known_template(draft, blobs))

    async def _require(self, files: Mapping[str, str]) -> None:
        """Holds the blobs until the end; raises ``BadRequestError`` unless all are here."""
        self._hold(files.values())
        await in_thread(lambda: require_blobs(files, self._store.blobs))

    def _hold(self, digests: Iterable[str]) -> None:
        taken = list(digests)
        self._store.hold(taken)
        self._held += taken

    def _parent(self, text: str) -> ModelDraft:
        try:
            base = self._store.get(_name(text))
            self._hold(layer.digest for layer in base.manifest.layers)
            return ModelDraft.from_model(base)
        except NotFoundError as error:
            raise NotFoundError(
                f"model '{text}' not found", hint="this version does not pull; create it from its files first"
            ) from error

    async def _smaller(self, draft: ModelDraft) -> ModelDraft:
        """The draft with its weights in the type that is wanted."""
        if not self._wanted:
            return draft
        blobs = self._store.blobs
        made = await quantize(blobs, blobs.path(_weights(draft)), self._wanted, self.steps.put_nowait)
        if made is None:
            return draft
        digest = self._digest(made)
        return await in_thread(lambda: draft.with_weights(digest, blobs))

    async def _with_adapters(self, draft: ModelDraft, files: Mapping[str, str]) -> ModelDraft:
        blobs = self._store.blobs
        await self._require(files)
        base = await in_thread(lambda: header_of(blobs.path(_weights(draft))))
        async with self._worthless_if_refused(files):
            if await in_thread(lambda: detect_type(files, blobs)) == "safetensors":
                digest = self._digest(await convert_adapter(blobs, files, base, self.steps.put_nowait))
                return await in_thread(lambda: _adapted(draft, {"adapter.gguf": digest}, base, blobs, _silent))
            return await in_thread(lambda: _adapted(draft, files, base, blobs, self._report))

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
        self._loop.call_soon_threadsafe(self.steps.put_nowait, Progress(status=status))


def _silent(_status: str) -> None:
    """For files that the user does not know of."""


def _weights(draft: ModelDraft) -> str:
    """The digest of a draft's weights; raises ``BadRequestError`` in Ollama's words where it has none."""
    if draft.weights is None:
        raise BadRequestError(
            "no base model was found", hint="FROM names the model that an adapter or a projector is for."
        )
    return draft.weights


def _of_gguf(files: Mapping[str, str], blobs: BlobStore, report: Callable[[str], None]) -> ModelDraft:
    """The draft of GGUF files that go together: one model, its projectors, adapters that fit to it."""
    draft = ModelDraft.from_gguf(files, blobs, report)
    if len(draft.digests(MediaType.MODEL)) > 1:
        raise BadRequestError(
            "the files hold more than one model",
            hint="The parts of a split GGUF are put together by llama.cpp's gguf-split --merge.",
        )
    weights = blobs.path(_weights(draft))
    for adapter in draft.digests(MediaType.ADAPTER):
        check_adapter(header_of(blobs.path(adapter)), header_of(weights))
    return draft


def _adapted(
    draft: ModelDraft, files: Mapping[str, str], base: Header, blobs: BlobStore, report: Callable[[str], None]
) -> ModelDraft:
    """The draft with an adapter that fits to it."""
    adapted = draft.with_adapters(files, blobs, report)
    (digest,) = files.values()
    check_adapter(header_of(blobs.path(digest)), base)
    return adapted


def _with_known_template(draft: ModelDraft, blobs: BlobStore) -> tuple[ModelDraft, str]:
    """The draft with the template that its weights' chat template is known to mean, and their default system text."""
    if draft.weights is None:
        return draft, ""
    header = header_of(blobs.path(draft.weights))
    source = header.metadata.get("tokenizer.chat_template")
    if not isinstance(source, str):
        return draft, ""
    known = recognise(source, bos=token_text(header, "bos"), eos=token_text(header, "eos"))
    if known is None:
        return draft, ""
    params = {"stop": list(known.stop)}
    return draft.with_known_template(known.name, known.template, params), known.default_system


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
