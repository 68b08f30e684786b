"""A reply while it arrives, for blocking callers and for asyncio: events, then a result.

The one rule here is that a connection never outlives interest in it: whoever leaves a stream closes it, and a server
whose client has gone cancels the request. What the bytes mean is left to ``reply``.
"""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

import httpx2

from ollama_nb.wire.errors import OllamaError, ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

    from ollama_nb.client.reply import Reply

__all__ = ["AsyncStream", "Stream", "transport_errors"]

E = TypeVar("E")
R = TypeVar("R")

INTERRUPTED: Final = "interrupted"
"""What the history says of a call that the caller left."""


class Stream(Generic[E, R]):
    """A reply while it arrives: iterate for its events, then ask for ``result()``.

    Leaving early, by ``close()``, the end of a ``with`` block or an exception such as ``KeyboardInterrupt``, closes
    the connection, and so tells the server to stop working.
    """

    def __init__(self, response: httpx2.Response, reply: Reply[E, R]) -> None:
        self._response = response
        self._reply = reply
        self._events = _receive(response, reply)

    def __iter__(self) -> Iterator[E]:
        return self

    def __next__(self) -> E:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Break off, if the stream has not ended; can be called at any time."""
        self._events.close()
        self._response.close()
        self._reply.close(INTERRUPTED)

    def result(self) -> R:
        """The whole reply: waits for the rest of it. Raises ``OllamaError`` if that does not come well."""
        for _ in self._events:
            pass
        return self._reply.result()

    def partial(self) -> R:
        """What has come so far, without waiting."""
        return self._reply.result()


class AsyncStream(Generic[E, R]):
    """``Stream`` for asyncio: ``async for`` its events, ``await`` its ``result()``, leave it with ``async with``."""

    def __init__(self, response: httpx2.Response, reply: Reply[E, R]) -> None:
        self._response = response
        self._reply = reply
        self._events = _receive_async(response, reply)

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Break off, if the stream has not ended; can be called at any time."""
        await self._events.aclose()
        await self._response.aclose()
        self._reply.close(INTERRUPTED)

    async def result(self) -> R:
        """The whole reply: waits for the rest of it. Raises ``OllamaError`` if that does not come well."""
        async for _ in self._events:
            pass
        return self._reply.result()

    def partial(self) -> R:
        """What has come so far, without waiting."""
        return self._reply.result()


# These two are no methods: a generator that held its stream would keep it, and the connection, from being freed.


def _receive(response: httpx2.Response, reply: Reply[E, R]) -> Generator[E]:
    with _closing_reply(reply), transport_errors(response.url):
        try:
            for data in response.iter_bytes():
                yield from reply.receive(data)
            yield from reply.end()
        finally:
            response.close()


async def _receive_async(response: httpx2.Response, reply: Reply[E, R]) -> AsyncGenerator[E]:
    with _closing_reply(reply), transport_errors(response.url):
        try:
            async for data in response.aiter_bytes():
                for event in reply.receive(data):
                    yield event
            for event in reply.end():
                yield event
        finally:
            await response.aclose()


@contextmanager
def transport_errors(url: httpx2.URL) -> Iterator[None]:
    """What goes wrong between here and the server, in words for users, as ``OllamaError``."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
        raise ServerUnreachableError(
            f"could not connect to {_origin(url)}: {exc}",
            hint="Is the server running? Start one with: ollama-nb serve",
        ) from exc
    except httpx2.TimeoutException as exc:
        raise OllamaError(
            f"no answer from {_origin(url)} within the time limit", status=HTTPStatus.GATEWAY_TIMEOUT
        ) from exc
    except (httpx2.TransportError, httpx2.DecodingError) as exc:
        raise OllamaError(
            f"the connection to {_origin(url)} broke before the answer was complete: {exc}",
            status=HTTPStatus.BAD_GATEWAY,
        ) from exc


@contextmanager
def _closing_reply(reply: Reply[E, R]) -> Iterator[None]:
    """However the stream is left, the reply learns of it, for the history."""
    try:
        yield
    except OllamaError as exc:
        reply.close(exc.message)
        raise
    finally:
        reply.close(INTERRUPTED)


def _origin(url: httpx2.URL) -> str:
    """Scheme, host and port: what a user knows the server by."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
