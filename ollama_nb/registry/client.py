"""One repository of a registry: Docker's registry protocol (v2) as Ollama speaks it.

Here stands which requests there are, how one is told who we are, and what the answers mean. Where a request may go is
in ``site``, how it travels in ``transport``, the tokens are in ``auth``; reading a blob is in ``blob``, sending one in
``upload``.
"""

from __future__ import annotations

import contextlib
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ollama_nb.registry.addresses import checked, resolve
from ollama_nb.registry.answers import denied, printable, refusal, whole_body
from ollama_nb.registry.auth import Tokens
from ollama_nb.registry.blob import BlobSource
from ollama_nb.registry.site import FIRST_TRIES, Request, Site, again
from ollama_nb.store.manifests import MAX_MANIFEST, MediaType
from ollama_nb.wire.errors import BadRequestError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import httpx2

    from ollama_nb.registry.addresses import Resolver
    from ollama_nb.registry.keys import KeyPair
    from ollama_nb.registry.site import Content
    from ollama_nb.registry.source import Source
    from ollama_nb.registry.transport import Transport
    from ollama_nb.wire.names import Name

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Site):
    """The repository and the tag that ``name`` names. It speaks https, with ``insecure`` plain http.

    Raises ``BadRequestError`` if the name's host is none.
    """

    def __init__(
        self,
        name: Name,
        transport: Transport,
        key: KeyPair,
        *,
        insecure: bool = False,
        resolver: Resolver = resolve,
    ) -> None:
        scheme = "http" if insecure else "https"
        try:
            base = checked(f"{scheme}://{name.host}/v2/{name.namespace}/{name.model}/")
        except ValueError as error:
            raise BadRequestError(f"invalid model name: {name.host} is no host: {error}") from error
        super().__init__(f"{name.host}/{name.namespace}/{name.model}", base, transport, resolver)
        self._tag = name.tag
        self._patience = transport.patience
        self._tokens = Tokens(transport, key)

    async def manifest(self) -> bytes:
        """The bytes of the manifest, JSON of any content.

        Raises ``NotFoundError``, and ``RegistryError`` for what is no manifest or too large for one.
        """
        return await again(self._manifest, self._patience, min(FIRST_TRIES, self._patience.tries))

    async def _manifest(self) -> bytes:
        headers = {"Accept": MediaType.MANIFEST}
        async with self.follow("GET", f"manifests/{self._tag}", headers=headers) as response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise NotFoundError("file does not exist", hint=f"Does {self.key} have the tag {self._tag}?")
            if response.status_code != HTTPStatus.OK:
                raise await refusal(response)
            data = await whole_body(response, MAX_MANIFEST, "the manifest")
            kind = printable(response.headers.get("Content-Type", "")) or "no content type"
        try:
            msgspec.json.decode(data, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RegistryError(
                f"what {self.key} gives for a manifest ({kind}) is not JSON: {printable(str(error))}",
                hint="Is there a registry at that address? A proxy or a login page may have answered in its place.",
            ) from error
        return data

    def blob(self, digest: str) -> Source:
        """One blob to be read."""
        return BlobSource(self, digest)

    async def has_blob(self, digest: str) -> bool:
        """Whether the registry has this blob here. Raises ``RegistryError``, ``LineError``."""
        async with self.follow("HEAD", f"blobs/{digest}") as response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                return False
            if response.status_code != HTTPStatus.OK:
                raise await refusal(response)
            return True

    async def put_manifest(self, data: bytes) -> None:
        """Have the tag mean this manifest, whose blobs are all there. Raises ``RegistryError``."""
        try:
            kind = msgspec.json.decode(data, type=_MediaType).media_type
        except msgspec.DecodeError as error:
            raise RegistryError(f"the manifest cannot be sent: {error}", status=500) from error
        await self.again(partial(self._put_manifest, data, kind))

    async def _put_manifest(self, data: bytes, kind: str) -> None:
        headers = {"Content-Type": kind}
        async with self.request("PUT", f"manifests/{self._tag}", headers=headers, content=data) as response:
            if not response.is_success:
                raise await refusal(response)

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: Content = None
    ) -> AsyncIterator[httpx2.Response]:
        """The answer to one request, whatever its status but 401; ``url`` is absolute or below this repository.

        At the registry's own origin a challenge is answered once and the request sent again, for which ``content`` may
        be a function that gives a fresh body. Elsewhere no token is sent, and only where the policy lets us go.

        Raises ``LineError``, ``RegistryError`` (401: ``unauthorized: access denied``).
        """
        asked = Request(method, self._joined(self._base, url), headers or {}, content)
        async with self._request(asked) as response:
            if response.status_code == HTTPStatus.UNAUTHORIZED:
                raise denied()
            yield response

    async def again(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives, tried again after a ``LineError``, with growing pauses.

        Raises ``RegistryError`` with the last one's text when patience is at its end.
        """
        return await again(work, self._patience, self._patience.tries)

    async def _ask_own(self, stack: contextlib.AsyncExitStack, request: Request) -> httpx2.Response:
        kind = "read" if request.method in {"GET", "HEAD"} else "write"
        token = self._tokens.known(kind)
        async with contextlib.AsyncExitStack() as first:
            response = await self._ask(first, _with_token(request, token))
            self._note_own(response)
            if response.status_code != HTTPStatus.UNAUTHORIZED:
                await stack.enter_async_context(first.pop_all())
                return response
            token = await self._tokens.answer(kind, response, token)
        return await self._ask(stack, _with_token(request, token))


class _MediaType(msgspec.Struct):
    media_type: str = msgspec.field(name="mediaType", default=MediaType.MANIFEST)


def _with_token(request: Request, token: str | None) -> Request:
    return request if token is None else request.with_headers({"Authorization": f"Bearer {token}"})
