"""Models out of repositories of the Hugging Face Hub, which hold files where a registry holds manifests.

Of GGUF files a model is made here as ``create`` would make it of the same files, with what the repository itself says
of template, system text and parameters. Files in safetensors are only fetched, for ``create`` to convert. What is in a
repository is in ``registry.huggingface``, how its large files come in ``fetching``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from ollama_nb.registry.huggingface import Hub
from ollama_nb.service.drafting import check_template, of_gguf, silent, with_known_template
from ollama_nb.service.fetching import Wanted, all_at_once, fetch
from ollama_nb.service.threads import in_template_thread, in_thread
from ollama_nb.store.blobs import MAX_TEXT_BLOB
from ollama_nb.store.files import disk_refusals
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.models import Progress
from ollama_nb.wire.options import merge_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from ollama_nb.registry.hub_files import HubFile, HubModel
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.service.steps import Report
    from ollama_nb.store.blobs import BlobStore
    from ollama_nb.store.drafts import ModelDraft
    from ollama_nb.store.models import ModelStore
    from ollama_nb.wire.names import Name

__all__ = ["pull_files", "pull_model"]

_MAX_LICENSE: Final = 1024 * 1024
_DEFAULT_CONTEXT: Final = 4096
"""Tokens; any number does to look at the types of other parameters."""

_TOLD: Final = frozenset({"writing manifest", "removing unused layers"})
"""What a pull tells of making a model."""


class _Texts(msgspec.Struct, frozen=True):
    """What a repository says of its model beside the weights."""

    template: str
    system: str
    license: str
    params: Mapping[str, object]


async def pull_model(runtime: Runtime, name: Name, report: Report) -> None:
    """Make a model of the repository's GGUF that the tag asks for; what ``pulling manifest`` is for has been told.

    Raises what ``Hub`` and ``fetch`` raise (``OnlySafetensorsError`` among it), and ``BadRequestError`` for files that
    make no model.
    """
    store, hub = runtime.store, Hub(runtime.transfers.transport)
    model = await hub.model(name)
    texts = await _texts(hub, model)
    large = [model.weights] if model.projector is None else [model.weights, model.projector]
    held: list[str] = []
    try:
        files = await _fetched(runtime, hub, large, report, _holder(store, held))
        report(Progress(status="verifying sha256 digest"))
        draft = await in_thread(lambda: _draft(store, files, texts))
        told: list[str] = []
        await in_thread(lambda: store.create(name, draft, told.append))
        for status in told:
            if status in _TOLD:
                report(Progress(status=status))
    except BadRequestError:
        # They are what the hub has under this name, and no model.
        await in_thread(lambda: store.discard(held))
        raise
    finally:
        await in_thread(lambda: store.release(held))


async def pull_files(
    runtime: Runtime, name: Name, report: Report, hold: Callable[[Iterable[str]], None] | None = None
) -> dict[str, str]:
    """Fetch the files of a repository of safetensors that a conversion needs: names to digests of blobs.

    ``hold`` is told each digest, so that the caller can keep the blob until it is read. Raises what ``Hub`` and
    ``fetch`` raise, and ``BadRequestError`` before anything large comes if there is no converting it.
    """
    hub = Hub(runtime.transfers.transport)
    folder = await hub.folder(name)
    holding = hold or (lambda _: None)
    small = await _fetched(runtime, hub, [file for file in folder.files if not file.digest], report, holding)
    await in_thread(lambda: _check_config({file: runtime.store.blobs.path(digest) for file, digest in small.items()}))
    return small | await _fetched(runtime, hub, [file for file in folder.files if file.digest], report, holding)


def _check_config(files: Mapping[str, Path]) -> None:
    from ollama_nb.convert.model import check_config  # noqa: PLC0415 - the families, which few servers need

    check_config(files)


async def _fetched(
    runtime: Runtime, hub: Hub, files: Sequence[HubFile], report: Report, hold: Callable[[Iterable[str]], None]
) -> dict[str, str]:
    """The digests of files that are blobs now: of small ones it is known only when they are here."""
    blobs = runtime.store.blobs
    digests: dict[str, str] = {}

    async def take(file: HubFile) -> None:
        data = await hub.content(file, MAX_TEXT_BLOB)
        digests[file.path] = await in_thread(lambda: _put(blobs, data))
        hold([digests[file.path]])

    await all_at_once(partial(take, file) for file in files if not file.digest)
    large = [file for file in files if file.digest]
    hold([file.digest for file in large])
    wanted = [Wanted(hub.source(file), file.digest, file.size) for file in large]
    await fetch(runtime.transfers.downloads, blobs, wanted, report)
    return digests | {file.path: file.digest for file in large}


def _put(blobs: BlobStore, data: bytes) -> str:
    with disk_refusals():
        digest, _, _ = blobs.put(data)
    return digest


def _holder(store: ModelStore, held: list[str]) -> Callable[[Iterable[str]], None]:
    """Holds digests and lists them in ``held``."""

    def hold(digests: Iterable[str]) -> None:
        taken = list(digests)
        store.hold(taken)
        held.extend(taken)

    return hold


async def _texts(hub: Hub, model: HubModel) -> _Texts:
    """The small files that go with the weights; raises ``BadRequestError`` for a template or parameters that are none.

    They are looked at before anything large is fetched.
    """

    async def text(file: HubFile | None, limit: int = MAX_TEXT_BLOB) -> str:
        if file is None:
            return ""
        data = await hub.content(file, limit)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise BadRequestError(f"{model.place}: {file.path} is no text in UTF-8") from error

    template = await text(model.template)
    await in_template_thread(lambda: check_template(template))
    return _Texts(
        template=template,
        system=await text(model.system),
        license=await text(model.license, _MAX_LICENSE),
        params=_params(model.place, await text(model.params)),
    )


def _params(place: str, text: str) -> Mapping[str, object]:
    """The parameters in a repository's ``params``, without those that are null."""
    try:
        params = msgspec.json.decode(text or "{}", type=dict[str, object])
        merge_options(_DEFAULT_CONTEXT, params)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequestError(f"{place}: params is no JSON object: {error}") from error
    except BadRequestError as error:
        raise BadRequestError(f"{place}: params: {error.message}") from error
    return {key: value for key, value in params.items() if value is not None}


def _draft(store: ModelStore, files: Mapping[str, str], texts: _Texts) -> ModelDraft:
    draft, system = with_known_template(of_gguf(files, store.blobs, silent), store.blobs)
    # The default text goes with the template that was found, not with one that the repository brings.
    system = texts.system or ("" if texts.template else system)
    return draft.apply(template=texts.template, system=system, licenses=[texts.license], params=texts.params)
