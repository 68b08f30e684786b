"""One server that models come from or go to: requests to it, and redirects from it to where it keeps its bytes.

What is its own origin is told apart from all others here, so that whatever says who we are goes to it and nowhere
else; what that is, and what the statuses mean, is for ``client`` (a registry) and ``huggingface`` (the hub). Where a
redirect may lead is in ``addresses``, how a request travels in ``transport``.
"""

from __future__ import annotations

import contextlib
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

import stamina

from ollama_nb.registry.addresses import (
    MAX_REDIRECTS,
    Reach,
    check_peer,
    check_redirect,
    check_url,
    checked,
    origin_of,
    peer_reach,
    resolve,
)
from ollama_nb.registry.answers import printable
from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping

    import httpx2

    from ollama_nb.registry.addresses import Resolver
    from ollama_nb.registry.source import Patience
    from ollama_nb.registry.transport import Transport

__all__ = ["FIRST_TRIES", "Content", "Request", "Site", "again"]

Content: TypeAlias = "bytes | Callable[[], AsyncIterable[bytes]] | None"
"""A body, or a function that gives a fresh one each time the request is sent."""

log = logging.getLogger(__name__)
# Its warnings say that there is another try, and not why; ours do.
logging.getLogger("stamina").setLevel(logging.ERROR)

T = TypeVar("T")

FIRST_TRIES: Final = 3
"""Of a pull's first request: whoever has misspelt a host does not want to wait for half a minute."""

_REDIRECTS: Final = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)


class Request(NamedTuple):
    """What is asked of whom."""

    method: str
    target: httpx2.URL
    headers: Mapping[str, str]
    content: Content = None

    def with_headers(self, more: Mapping[str, str]) -> Request:
        """The same with ``more`` headers."""
        return self._replace(headers={**self.headers, **more})


class Site:
    """The server at ``base``; ``key`` is what users call the place there: ``host/namespace/model``."""

    def __init__(self, key: str, base: httpx2.URL, transport: Transport, resolver: Resolver = resolve) -> None:
        self.key = key
        self._base = base
        self._origin = origin_of(base)
        self._transport = transport
        self._resolver = resolver
        self._own: Reach | None = None

    def address(self, url: str) -> str:
        """The absolute form of a URL that may be meant below the base; raises ``RegistryError``."""
        return str(self._joined(self._base, url))

    @contextlib.asynccontextmanager
    async def follow(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """The answer after all redirects, whatever its status; where it came from is ``response.request.url``."""
        target = self._joined(self._base, url)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._request(Request(method, target, headers or {})) as response:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
                target = self._redirected(response)
        raise RegistryError(f"{self.key}: maximum redirects exceeded ({MAX_REDIRECTS})")

    @contextlib.asynccontextmanager
    async def _request(self, request: Request) -> AsyncIterator[httpx2.Response]:
        async with contextlib.AsyncExitStack() as stack:
            if origin_of(request.target) == self._origin:
                response = await self._ask_own(stack, request)
            else:
                own = self._own or Reach.PUBLIC
                await check_url(request.target, own, self._resolver)
                response = await self._ask(stack, request)
                check_peer(response, own)
            yield response

    async def _ask_own(self, stack: contextlib.AsyncExitStack, request: Request) -> httpx2.Response:
        """The answer of the own origin, which may be told who we are; open until ``stack`` is left."""
        response = await self._ask(stack, request)
        self._note_own(response)
        return response

    async def _ask(self, stack: contextlib.AsyncExitStack, request: Request) -> httpx2.Response:
        body = request.content() if callable(request.content) else request.content
        sent = self._transport.send(request.method, str(request.target), headers=request.headers, content=body)
        return await stack.enter_async_context(sent)

    def _note_own(self, response: httpx2.Response) -> None:
        """Learn how public the server is: as public as any address that has answered in its name.

        A host at home has private and public addresses, and either may answer. That of a public one is this machine
        itself after a while is no such case.
        """
        there = peer_reach(response)
        if there is None:
            return  # it has hung up already; whoever is not known to be private is taken for public
        if self._own is not None:
            check_peer(response, max(self._own, Reach.PRIVATE))
            there = min(there, self._own)
        self._own = there

    def _redirected(self, response: httpx2.Response) -> httpx2.URL:
        location = response.headers.get("Location")
        if not location:
            raise RegistryError(f"{self.key}: a redirect to nowhere: http: no Location header in response")
        source = response.request.url
        target = self._joined(source, location)
        check_redirect(target, source)
        return target

    def _joined(self, base: httpx2.URL, url: str) -> httpx2.URL:
        try:
            return checked(url, base)
        except ValueError as error:
            raise RegistryError(f"{self.key} names a URL that is none: {printable(str(error))}") from error


async def again(work: Callable[[], Awaitable[T]], patience: Patience, tries: int) -> T:
    """What ``work`` gives, tried again after a ``LineError``, with growing pauses, ``tries`` times in all.

    Raises ``RegistryError`` with the last one's text when patience is at its end.
    """
    attempts = stamina.retry_context(
        on=_pause_after,
        attempts=tries,
        timeout=None,
        wait_initial=patience.first_wait,
        wait_max=patience.longest_wait,
        wait_jitter=patience.first_wait,
    )
    try:
        async for attempt in attempts:
            with attempt:
                return await work()
    except LineError as error:
        raise RegistryError(f"max retries exceeded: {error}", hint=error.hint) from error
    raise AssertionError("the last try gives a result or an error")  # pragma: no cover


def _pause_after(error: Exception) -> bool | float:
    """Whether to try again after an error, and in how many seconds where the other side has said so."""
    if not isinstance(error, LineError):
        return False
    log.info("%s; to be tried again", error)
    return error.after or True
