"""One blob of a registry or the hub as a ``Source``: ranges of it, from there or from where it keeps its blobs.

Most registries redirect to a storage whose URLs are signed and expire. Such a URL is kept, so that the ranges of a
blob do not each ask the registry, and asked for anew when it is no longer good. Which redirects are allowed is left to
``site``; where the bytes go and when to try again to ``download``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ollama_nb.registry.answers import printable, refusal
from ollama_nb.registry.source import Body, LineError
from ollama_nb.registry.transport import line_errors
from ollama_nb.wire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import httpx2

    from ollama_nb.registry.site import Site

__all__ = ["BlobSource"]

_EXPIRED: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,  # Google's storage, and S3's for temporary credentials: ExpiredToken
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.GONE,
    }
)
_CONTENT_RANGE: Final = re.compile(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\s*", re.IGNORECASE)


class BlobSource:
    """The blob ``digest`` at ``site``, asked for at ``url``, or else where registries keep their blobs."""

    def __init__(self, site: Site, digest: str, url: str = "") -> None:
        self.key = site.key
        self._site = site
        self._digest = digest
        self._url = url or f"blobs/{digest}"
        self._direct: str | None = None

    @contextlib.asynccontextmanager
    async def read(self, start: int, stop: int, size: int) -> AsyncIterator[Body]:
        """The bytes from ``start`` to before ``stop``; all of them from 0 where the other side knows no ranges."""
        headers = {"Range": f"bytes={start}-{stop - 1}"} if start < stop else {}
        async with self._answer(headers) as response:
            first, end = await self._span(response, start, stop, size)
            chunks = _exactly(response, end - first, self.key)
            async with contextlib.aclosing(chunks):
                yield Body(first, chunks)

    @contextlib.asynccontextmanager
    async def _answer(self, headers: dict[str, str]) -> AsyncIterator[httpx2.Response]:
        """The answer of where the blob is kept, if that is known and still good, else of the registry."""
        direct = self._direct
        if direct is not None:
            try:
                async with self._site.follow("GET", direct, headers=headers) as response:
                    if response.status_code not in _EXPIRED:
                        yield response
                        return
            except (LineError, RegistryError, asyncio.CancelledError):  # a request that stands still is cancelled
                self._forget(direct)
                raise
            self._forget(direct)
        async with self._site.follow("GET", self._url, headers=headers) as response:
            self._remember(response)
            yield response

    def _remember(self, response: httpx2.Response) -> None:
        place = str(response.request.url)
        if response.is_success and place != self._site.address(self._url):
            self._direct = place

    def _forget(self, direct: str) -> None:
        """Ask the registry next time, unless another range has already been told a newer URL."""
        if self._direct == direct:
            self._direct = None

    async def _span(self, response: httpx2.Response, start: int, stop: int, size: int) -> tuple[int, int]:
        """The first byte that an answer has, and the one behind its last; raises if it is not the blob's."""
        match response.status_code:
            case HTTPStatus.OK:
                first, end, total = 0, size, response.headers.get("Content-Length", "*")
            case HTTPStatus.PARTIAL_CONTENT:
                first, end, total = self._content_range(response, start, stop)
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise self._wrong(f"the registry has no bytes from {start} on, the manifest states {size} in all")
            case _:
                raise await refusal(response)
        if total != "*" and total != str(size):
            raise self._wrong(f"the registry states {printable(total)} bytes, the manifest {size}")
        return first, end

    def _content_range(self, response: httpx2.Response, start: int, stop: int) -> tuple[int, int, str]:
        text = response.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(text)
        if match is None:
            raise self._wrong(f"the registry sends a part and does not say which: {printable(text) or 'nothing'}")
        first, last = int(match[1]), int(match[2])
        if first != start or not first <= last < stop:
            raise self._wrong(f"bytes {start}-{stop - 1} were asked for, the registry sends {first}-{last}")
        return first, last + 1, match[3]

    def _wrong(self, text: str) -> RegistryError:
        return RegistryError(f"{self.key}: blob {self._digest}: {text}")


async def _exactly(response: httpx2.Response, count: int, key: str) -> AsyncGenerator[bytes, None]:
    """The body's ``count`` bytes; raises ``LineError`` if it ends before, ``RegistryError`` if it goes on."""
    left = count
    with line_errors(response.request.url):
        async with contextlib.aclosing(response.aiter_raw()) as chunks:
            async for chunk in chunks:
                if chunk[:left]:
                    yield chunk[:left]
                if len(chunk) > left:
                    raise RegistryError(f"{key} sends more bytes than it has stated")
                left -= len(chunk)
                if not left and "Content-Length" not in response.headers:
                    return  # there may be no end to it; where a length is stated the connection can be used again
    if left:
        raise LineError(f"{key} has sent {count - left} bytes of {count}")
