"""What may arrive at the stand-alone port, and how slowly: sizes, headers, pauses, connections.

Tornado bounds the size of headers and the wait for them. What it would end without a word, or not at all, is bounded
here: a body past its limit is answered with 413 before it stands in memory, one that stops moving is dropped, and
so is the body of a request that the door refuses. Uploads of blobs have no limit but the disk and may take as long as
they move. Who may come in is left to ``edge``.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tornado import httputil, web
from tornado.httpserver import HTTPServer
from tornado.iostream import SSLIOStream, StreamClosedError

from ollama_nb.server.base import ApiHandler, ListenerBase
from ollama_nb.wire.errors import OllamaError, TooLargeError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tornado.iostream import IOStream

    from ollama_nb.service.runtime import Runtime

__all__ = ["LIMITS", "Intake", "Limits", "make_server"]

log = logging.getLogger(__name__)

_CONNECTIONS: Final = 4096
_OTHER_FILES: Final = 200
"""Files that the process needs for other things than connections: pipes of models, blobs, logs."""

_TURNED_AWAY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n"
    b'Content-Length: 32\r\n\r\n{"error":"too many connections"}'
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one listener: sizes in bytes, times in seconds."""

    body: int = 256 << 20
    """A JSON body: room for images in base64."""
    linger: int = 16 << 20
    """How much of a body past its limit is still read, so that its sender gets to reading why."""
    linger_stall: float = 2.0
    """How long that rest may stand still."""
    header_size: int = 64 << 10
    header_count: int = 200
    idle: float = 120.0
    """How long a connection may be silent between requests, and a request's head be on its way."""
    stall: float = 60.0
    """How long a body may stand still while it is on its way."""
    connections: int = _CONNECTIONS


LIMITS: Final = Limits()


def make_server(application: Intake, limits: Limits, tls: ssl.SSLContext | None) -> HTTPServer:
    """Tornado's server with the bounds that Tornado knows, and one on the number of connections."""
    server = _Server(
        application,
        ssl_options=tls,
        max_header_size=limits.header_size,
        idle_connection_timeout=limits.idle,
        max_body_size=limits.body,
        body_timeout=None,
    )
    files = _openable_files()
    server.limit = min(limits.connections, max(files - _OTHER_FILES, files // 2))
    return server


class Intake(web.Application):
    """The routes of a listener whose door is ``base``, with bounds on what their handlers are given."""

    def __init__(
        self,
        rules: list[Any],
        base: type[ListenerBase],
        runtime: Runtime,
        limits: Limits,
        log_function: Callable[[Any], None],
    ) -> None:
        super().__init__(rules, log_function=log_function)
        self._base = base
        self._runtime = runtime
        self._limits = limits
        self._refusals: dict[Any, type] = {}

    def find_handler(  # type: ignore[override]
        self,
        request: httputil.HTTPServerRequest,
        **kwargs: Any,  # noqa: ANN401 - Tornado's signature
    ) -> _Watched:
        """Tornado's hook: who takes the request whose head has arrived."""
        delegate = super().find_handler(request, **kwargs)
        connection: Any = request.connection  # HTTP/1's, which Tornado's interface does not name
        watched = _Watched(delegate, connection, self._limits)
        if delegate.stream_request_body and not _too_many(request.headers, self._limits.header_count):
            return watched
        # The bound is kept here, where it can be answered; Tornado's own would end the connection without a word.
        connection.set_max_body_size(sys.maxsize)
        watched.limit = self._limits.body
        watched.too_large = lambda: self._refuse(request, delegate.handler_class, self._too_large())
        if _too_many(request.headers, self._limits.header_count):
            watched.hand_over(self._refuse(request, delegate.handler_class, _too_many_headers()))
        elif _declared_length(request) > self._limits.body:
            watched.hand_over(watched.too_large())
        else:
            verdict = self._base.edge.judge(request.method or "", request.path, request.host, request.headers)
            watched.drop = verdict.status is not None
        return watched

    def _refuse(
        self, request: httputil.HTTPServerRequest, handler: type[Any], error: OllamaError
    ) -> httputil.HTTPMessageDelegate:
        """Answer with an error, in the shape that ``handler`` gives its own; nothing else of it is run."""
        shape: Any = handler.error_body
        refusal = self._refusals.get(shape)
        if refusal is None:
            parts = {"linger": self._limits.linger, "error_body": shape}
            refusal = self._refusals[shape] = type("Refusal", (Refusal, self._base), parts)
        return self.get_handler_delegate(request, refusal, {"runtime": self._runtime, "error": error})

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"the request body is larger than {self._limits.body >> 20} MiB",
            hint="files of models are sent to /api/blobs, which has no limit",
        )


class _Watched(httputil.HTTPMessageDelegate):
    """A request on its way to ``delegate``: counted up to ``limit``, or dropped, and given up when it stands still."""

    limit: int | None = None
    drop = False
    too_large: Callable[[], httputil.HTTPMessageDelegate]

    def __init__(self, delegate: httputil.HTTPMessageDelegate, connection: Any, limits: Limits) -> None:  # noqa: ANN401
        self.delegate = delegate
        self._connection = connection
        self._limits = limits
        self._patience = limits.stall
        self._received = 0
        self._head: tuple[Any, httputil.HTTPHeaders] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def hand_over(self, refusal: httputil.HTTPMessageDelegate) -> None:
        """From now on the request is ``refusal``'s, which counts for itself."""
        self.delegate, self.limit, self.drop = refusal, None, False
        self._patience = self._limits.linger_stall

    async def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        """The head has arrived; from now on the body has to move."""
        self._head = (start_line, headers)
        await self._begin()
        self._wait()

    async def data_received(self, chunk: bytes) -> None:
        """A piece of the body. While it is being worked on, the client need not send more."""
        self._stop_waiting()
        self._received += len(chunk)
        if self.limit is not None and self._received > self.limit:
            self.hand_over(self.too_large())
            await self._begin()
        elif not self.drop:
            taken = self.delegate.data_received(chunk)
            if taken is not None:
                await taken
        self._wait()

    def finish(self) -> None:
        """The body is whole."""
        self._stop_waiting()
        self.delegate.finish()

    def on_connection_close(self) -> None:
        """The client has gone, or was given up."""
        self._stop_waiting()
        self.delegate.on_connection_close()

    async def _begin(self) -> None:
        if self._head is not None:
            begun = self.delegate.headers_received(*self._head)
            if begun is not None:
                await begun

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        log.info("a request's body stood still for %g s: connection closed", self._patience)
        self._connection.close()


@web.stream_request_body
class Refusal(ApiHandler):
    """Answers at the head of a request, then reads on for a while: a sender that is cut off never sees why."""

    linger: ClassVar[int] = 0
    _read = 0

    def initialize(self, runtime: Runtime, error: OllamaError) -> None:  # type: ignore[override]
        """Tornado's hook: what the request is refused for."""
        super().initialize(runtime)
        self._error = error

    async def prepare(self) -> None:
        """The door first, then the answer; the connection ends with it."""
        super().prepare()
        if self._finished:
            return
        self.set_header("Connection", "close")
        self.fail(self._error)
        if "Expect" in self.request.headers:  # whoever asks first has sent nothing yet
            self.finish()
        else:
            self.set_header("Content-Length", str(sum(len(piece) for piece in self._write_buffer)))
            await self.flush()

    def data_received(self, chunk: bytes) -> None:
        """What still comes is not wanted."""
        self._read += len(chunk)
        if self._read > self.linger:
            connection: Any = self.request.connection
            connection.close()

    def end(self, *_segments: str) -> None:
        """The body has ended: Tornado ends the answer."""

    get = head = post = put = patch = delete = options = end


class _Server(HTTPServer):
    limit = _CONNECTIONS

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> Any:  # noqa: ANN401 - Tornado's signature
        """A new connection: served, or told that there are too many."""
        if len(self._connections) < self.limit:
            return super().handle_stream(stream, address)
        log.warning("too many connections (%d): one more turned away", self.limit)
        if isinstance(stream, SSLIOStream):  # can be told nothing before a handshake, which may never come
            return stream.close()
        return _turn_away(stream)


async def _turn_away(stream: IOStream) -> None:
    with suppress(StreamClosedError):
        await stream.write(_TURNED_AWAY)
    stream.close()


def _openable_files() -> int:
    try:
        import resource  # noqa: PLC0415 - Windows has neither it nor the limit
    except ImportError:
        return _CONNECTIONS + _OTHER_FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CONNECTIONS + _OTHER_FILES if soft == resource.RLIM_INFINITY else soft


def _too_many(headers: httputil.HTTPHeaders, most: int) -> bool:
    return sum(1 for _ in headers.get_all()) > most


def _too_many_headers() -> OllamaError:
    return OllamaError("too many headers", status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _declared_length(request: httputil.HTTPServerRequest) -> int:
    """What the head says of the body's length; what is no number is left for Tornado to refuse."""
    text = request.headers.get("Content-Length", "")
    # No body is longer than twenty digits say, and Python refuses to read thousands of them.
    return int(text.lstrip("0")[:20] or 0) if text.isascii() and text.isdigit() else 0
