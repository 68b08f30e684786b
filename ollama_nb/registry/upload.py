"""One blob on its way to a registry, part after part, from where the registry says that it is.

Steps of the protocol (Docker Registry HTTP API V2, and what Ollama's registry adds): a session is begun by POST,
unless another repository's blob is taken over; each part is a PATCH, or a PUT to where the answer to that leads; a last
PUT commits the blob under its digest. The answer to each step names the URL of the next (``onward``). The file is
read by ``outgoing``; tokens and trying again are ``client``'s, the manifest is sent by the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx2

from ollama_nb.registry.answers import refusal
from ollama_nb.registry.onward import LOST, arrived_bytes, check, location, next_url
from ollama_nb.registry.outgoing import PIECE, Outgoing
from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import OllamaError, RegistryError
from ollama_nb.wire.names import InvalidNameError, parse_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ollama_nb.registry.client import Registry
    from ollama_nb.store.blobs import BlobStore
    from ollama_nb.store.manifests import Layer

__all__ = ["Upload", "part_size"]

log = logging.getLogger(__name__)

_PARTS: Final = 16
_MIN_PART: Final = 100_000_000
_MAX_PART: Final = 1_000_000_000
_FAREWELL: Final = 2.0
"""Seconds that a registry has for forgetting an upload that is given up."""

_NAMES: Final = "Many registries want namespace and model in small letters; some want them made there first."


def part_size(size: int) -> int:
    """Bytes of one part of a blob with ``size`` bytes, as Ollama cuts it."""
    return min(max(size // _PARTS, _MIN_PART), _MAX_PART)


class _Detour(NamedTuple):
    """Where a part is to be put, and the URL of the session after that."""

    place: str
    session: str


class Upload:
    """One blob on its way, in parts of ``part`` bytes (Ollama's by default), with the patience of the registry.

    ``completed`` is how many bytes are there or under way; it falls when a try fails.
    """

    def __init__(self, registry: Registry, blobs: BlobStore, layer: Layer, *, part: int | None = None) -> None:
        self._registry = registry
        self._blobs = blobs
        self._layer = layer
        self._part = part or part_size(layer.size)
        self._session: str | None = None
        self._detour: _Detour | None = None
        self._looked = False
        self._unsure = False
        self._sent = 0
        self._furthest = 0
        self._done = False
        self.completed = 0

    async def run(self) -> None:
        """Have the registry have the blob; returns when it does.

        Raises ``NotFoundError`` where the blob is not here, ``OllamaError`` where it is damaged or changes meanwhile,
        ``RegistryError`` where the registry refuses or the line is too bad. Given up, the upload is cancelled there.
        """
        if not self._looked:
            await self.look()
        if self._done:
            return
        place = self._blobs.path(self._layer.digest)
        file = await asyncio.to_thread(Outgoing, place, self._layer.digest, self._layer.size, self._part)
        try:
            while not self._done:
                await self._registry.again(lambda: self._advance(file))
        finally:
            await self._leave(file)

    async def look(self) -> None:
        """Ask whether the registry has it already, which ``completed`` then says; ``run`` does it if nobody has.

        Raises ``RegistryError``.
        """
        await self._registry.again(self._look)
        self._looked = True

    async def _look(self) -> None:
        """Done, if the registry has it already."""
        if await self._registry.has_blob(self._layer.digest):
            self._finish()

    async def _advance(self, file: Outgoing) -> None:
        """Comes further than ever before; raises ``LineError`` when that fails, having come no further."""
        try:
            while not self._done:
                await self._step(file)
                if self._sent > self._furthest:
                    self._furthest = self._sent
                    return
        finally:
            if not self._done:
                self.completed = self._sent

    async def _step(self, file: Outgoing) -> None:
        if self._session is None:
            await self._begin()
        elif self._unsure:
            await self._locate(file, self._session)
        elif self._detour is not None:
            await self._put_part(file, self._detour)
        elif self._sent < self._layer.size:
            await self._send_part(file, self._session)
        else:
            await self._commit(file, self._session)

    async def _begin(self) -> None:
        """A new session, or none if the registry takes the blob over from another of its repositories."""
        if (repository := self._came_from()) and await self._mount(repository):
            return
        async with self._registry.request("POST", "blobs/uploads/", content=b"") as response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                host, _, name = self._registry.key.partition("/")
                error = await refusal(response, f"{host} takes nothing under the name {name}")
                raise RegistryError(str(error), status=HTTPStatus.NOT_FOUND, hint=_NAMES)
            await check(response)
            self._session, self._sent = next_url(response), 0

    def _came_from(self) -> str:
        """The other repository of the same host that the layer was taken over from: ``namespace/model``, or nothing."""
        if not self._layer.from_:
            return ""
        try:
            name = parse_name(self._layer.from_)
        except InvalidNameError:  # manifests come from anywhere, and this is a hint
            return ""
        there = f"{name.host}/{name.namespace}/{name.model}".lower()
        same_host = there.startswith(f"{self._registry.key.partition('/')[0].lower()}/")
        return f"{name.namespace}/{name.model}" if same_host and there != self._registry.key.lower() else ""

    async def _mount(self, repository: str) -> bool:
        """Whether the blob was taken over from the other repository, or else a session was begun."""
        query = httpx2.QueryParams({"mount": self._layer.digest, "from": repository})
        try:
            async with self._registry.request("POST", f"blobs/uploads/?{query}", content=b"") as response:
                await check(response)
                if response.status_code == HTTPStatus.CREATED:
                    self._finish()
                else:
                    self._session, self._sent = next_url(response), 0
        except RegistryError:
            return False  # we may not read there, perhaps; whether we may write here is asked without it
        return True

    async def _locate(self, file: Outgoing, session: str) -> None:
        """Finds out how far it came, after something went wrong."""
        if self._sent == self._layer.size:
            await self._look()  # the answer to the commit may be what was lost
            if self._done:
                return
        async with self._registry.request("GET", session) as response:
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                error = await refusal(response)
                if isinstance(error, LineError):
                    raise error
            known, arrived = response.is_success, arrived_bytes(response)
            onward = next_url(response, session)
        # "0-0" means no byte as well as one. Where the count is lost or not told, it is begun anew.
        if 1 < arrived <= file.hashed:
            self._session, self._sent = onward, arrived
        else:
            if known:
                await self._cancel(onward)
            self._session, self._sent = None, 0
        self._unsure = False

    async def _send_part(self, file: Outgoing, session: str) -> None:
        stop = file.part_end(self._sent)
        headers = {"Content-Range": f"{self._sent}-{stop - 1}", "X-Redirect-Uploads": "1"}
        self._unsure = True
        async with self._send("PATCH", session, file, stop, headers) as response:
            if response.status_code == HTTPStatus.TEMPORARY_REDIRECT:
                self._detour = _Detour(location(response, "Location"), next_url(response))
            else:
                await check(response, LOST)
                self._check_all_went(stop)
                self._session, self._sent = next_url(response), stop
        self._unsure = False

    async def _put_part(self, file: Outgoing, detour: _Detour) -> None:
        """A part to where the registry keeps its files; it is there as a whole or not at all."""
        stop = file.part_end(self._sent)
        async with self._send("PUT", detour.place, file, stop, {}) as response:
            await check(response)
            self._check_all_went(stop)
        self._session, self._sent, self._detour = detour.session, stop, None

    @contextlib.asynccontextmanager
    async def _send(
        self, method: str, url: str, file: Outgoing, stop: int, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx2.Response]:
        """The answer to the bytes up to ``stop``."""
        start = self._sent
        every = {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(stop - start)}
        async with self._registry.request(
            method, url, headers=every, content=lambda: self._pieces(file, start, stop)
        ) as response:
            yield response

    async def _pieces(self, file: Outgoing, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes of a part; what has been taken from here counts as completed for now."""
        self.completed = start
        while self.completed < stop:
            piece = await asyncio.to_thread(file.read, self.completed, min(self.completed + PIECE, stop))
            yield piece
            self.completed += len(piece)

    def _check_all_went(self, stop: int) -> None:
        """Raises ``LineError`` where the answer came, and the line was closed, before all bytes were sent."""
        if self.completed < stop:
            raise LineError(f"{self._registry.key} answered before it had all bytes")

    async def _commit(self, file: Outgoing, session: str) -> None:
        etag = await asyncio.to_thread(file.etag)
        url = httpx2.URL(session).copy_merge_params({"digest": self._layer.digest, "etag": etag})
        self._unsure = True
        async with self._registry.request("PUT", str(url), content=b"") as response:
            await check(response, LOST)
        self._finish()

    def _finish(self) -> None:
        self._done = True
        self.completed = self._layer.size

    async def _leave(self, file: Outgoing) -> None:
        """Closes the file, and tells the registry if no more is coming."""
        try:
            if not self._done and self._session is not None:
                await self._cancel(self._session)
        finally:
            await asyncio.to_thread(file.close)

    async def _cancel(self, session: str) -> None:
        # A kindness: what keeps a registry from it is told by the error that has brought us here, or nobody waits.
        with contextlib.suppress(LineError, OllamaError, TimeoutError):
            async with asyncio.timeout(_FAREWELL), self._registry.request("DELETE", session):
                log.debug("upload of %s given up", self._layer.digest)
