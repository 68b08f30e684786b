"""The Hugging Face Hub: ``hf.co/user/repo:quant`` and ``huggingface.co/user/repo:quant`` are models there.

What a repository has is told by the library ``huggingface_hub`` (``hub_listing``), which files make a model by
``hub_files``. Their bytes come through a ``Source`` as those of any registry do, at the commit that was listed and
never by way of the user's cache of the hub. The user's token is shown to the hub and to nobody that it redirects to.
"""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx2

from ollama_nb.registry.blob import BlobSource
from ollama_nb.registry.hub_errors import refusal
from ollama_nb.registry.hub_files import choose_folder, choose_model
from ollama_nb.registry.site import FIRST_TRIES, Site, again
from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    import contextlib

    from ollama_nb.registry.hub_files import HubFile, HubFolder, HubModel
    from ollama_nb.registry.hub_listing import Repository
    from ollama_nb.registry.site import Request
    from ollama_nb.registry.source import Source
    from ollama_nb.registry.transport import Transport
    from ollama_nb.wire.names import Name

__all__ = ["Hub", "is_hub"]

_HOSTS: Final = frozenset(("hf.co", "huggingface.co"))


def is_hub(name: Name) -> bool:
    """Whether a model's name is that of a repository of the hub."""
    return name.host.lower() in _HOSTS


class Hub:
    """The hub, or what HF_ENDPOINT puts in its place; to be asked anew for every pull, since commits and tokens change.

    All methods raise ``NotFoundError`` and ``BadRequestError`` that say what to do, and ``RegistryError`` for what the
    hub refuses and where it cannot be reached.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._site: _HubSite | None = None

    async def model(self, name: Name) -> HubModel:
        """The files of a model in GGUF; the tag says which quantization."""
        repository = await self._repository(name)
        return choose_model(repository.place.name, repository.files, name.tag)

    async def folder(self, name: Name) -> HubFolder:
        """The files of a model in safetensors that its conversion needs."""
        repository = await self._repository(name)
        return choose_folder(repository.place.name, repository.files)

    def source(self, file: HubFile) -> Source:
        """Where the bytes of a file come from that ``model`` or ``folder`` has named."""
        if self._site is None:
            raise RuntimeError("a file of a repository that was not listed")
        return BlobSource(self._site, file.digest or file.path, file.url)

    async def content(self, file: HubFile, limit: int) -> bytes:
        """All of a file that is small; raises ``BadRequestError`` past ``limit`` bytes."""
        if file.size > limit:
            raise BadRequestError(f"{file.path} has {file.size} bytes, more than the {limit} that are taken")
        whole = partial(_whole, self.source(file), file.size)
        return await again(whole, self._transport.patience, FIRST_TRIES)

    async def _repository(self, name: Name) -> Repository:
        patience = self._transport.patience
        place = f"{name.host}/{name.namespace}/{name.model}"
        repository = await again(
            lambda: asyncio.to_thread(_listed, f"{name.namespace}/{name.model}", place, patience.connect),
            patience,
            min(FIRST_TRIES, patience.tries),
        )
        self._site = _HubSite(repository, self._transport)
        return repository


async def _whole(source: Source, size: int) -> bytes:
    async with source.read(0, size, size) as body:
        return b"".join([chunk async for chunk in body.chunks])


def _listed(repo: str, place: str, timeout: float) -> Repository:
    # Half a second of imports that most servers never need.
    from ollama_nb.registry.hub_listing import list_repository  # noqa: PLC0415

    return list_repository(repo, place, timeout)


class _HubSite(Site):
    """The hub's own host as a place of blobs: it is shown the token, and what it refuses is told in its own terms."""

    def __init__(self, repository: Repository, transport: Transport) -> None:
        super().__init__(repository.place.name, httpx2.URL(repository.place.page), transport)
        self._place = repository.place
        self._identity = {"Authorization": repository.authorization} if repository.authorization else {}

    async def _ask_own(self, stack: contextlib.AsyncExitStack, request: Request) -> httpx2.Response:
        response = await super()._ask_own(stack, request.with_headers(self._identity))
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise refusal(response.status_code, response.headers, self._place)
        return response
