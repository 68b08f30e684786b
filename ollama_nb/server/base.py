"""What every handler does: read a body, answer, turn errors into HTTP, notice a client that leaves.

The handlers of the API are mixins on ``ApiHandler``. Each is mounted twice: on ``ListenerBase`` for the port
of its own, and on ``JupyterBase`` inside Jupyter Server. The bases decide who may come in, the mixins what is done.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.iostream import StreamClosedError

from ollama_nb.wire import gojson
from ollama_nb.wire.errors import CLIENT_CLOSED_REQUEST, OllamaError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from ollama_nb.server.edge import Edge
    from ollama_nb.service.runtime import Runtime

__all__ = ["ApiHandler", "JupyterBase", "ListenerBase"]

log = logging.getLogger(__name__)

T = TypeVar("T")
JSON: Final = "application/json; charset=utf-8"
NDJSON: Final = "application/x-ndjson"
TEXT: Final = "text/plain; charset=utf-8"
READER_PATIENCE: Final = 900.0
"""Seconds for which a client may read nothing of a stream, past what the network holds for it. An answer keeps its
place in the model while it is sent, so a client that has stopped reading would keep it from all others for ever."""
_LONG: Final = 1 << 16
"""Bytes of JSON that take longer to read than a thread to begin."""
_VERBS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _Door(web.RequestHandler):
    """What a handler asks of the base it stands on."""

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """Tornado's own. Who answers before the body has been read ends the connection with it, and has to say so.

        A client that is not told sends its next request into a connection that is about to close.
        """
        body = getattr(self.request, "_body_future", None)  # there where a handler takes its body in pieces
        if body is not None and not body.done() and not self._headers_written:
            self.set_header("Connection", "close")
        return super().finish(chunk)

    def _request_summary(self) -> str:
        """What Tornado's own log lines call a request: never with its query, which may hold a secret."""
        return f"{self.request.method} {self.request.path}"

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:  # noqa: ANN401 - Tornado's signature
        """An error that nobody foresaw, without the request's text."""
        if isinstance(value, web.HTTPError):
            super().log_exception(typ, value, tb)
        else:
            log.error("%s failed", self._request_summary(), exc_info=(typ, value, tb))

    def fail(self, error: OllamaError) -> None:
        """Answer with an error, in the handler's own shape."""
        raise NotImplementedError

    def still_active(self) -> None:
        """Called at every line of a stream: an answer that takes an hour is an hour of activity."""


class ApiHandler(_Door):
    """The mixin's half: bodies, answers, errors. ``runtime`` comes from the route table.

    A stream is NDJSON and an error ``{"error": text}``, unless a handler says otherwise: ``stream_type``,
    ``stream_item``, ``stream_end`` (what a stream that went well closes with) and ``error_body`` are to be overridden.
    """

    stream_type: ClassVar[str] = NDJSON
    stream_end: ClassVar[bytes] = b""
    runtime: Runtime
    _work: asyncio.Task[Any] | None = None
    _gone = False

    def initialize(self, runtime: Runtime) -> None:
        """Tornado's hook for what the route table passes."""
        self.runtime = runtime
        # Bodies are JSON whatever a client calls them; curl calls them a form, which Tornado would take apart.
        self.request.headers.pop("Content-Type", None)

    def compute_etag(self) -> None:
        """No ETag: Ollama sends none, and hashing a long answer would cost more than sending it."""

    async def body(self, kind: type[T], name: str | None = None) -> T:
        """The request's JSON as a wire type; raises ``BadRequestError``."""
        return await self.beside(lambda: gojson.decode(self.request.body, kind, name or kind.__name__))

    async def beside(self, work: Callable[[], T]) -> T:
        """What ``work`` makes of the request; in a thread where the body is long, since all others would wait."""
        return await asyncio.to_thread(work) if len(self.request.body) > _LONG else work()

    def reply(self, value: Any, status: int = HTTPStatus.OK) -> None:  # noqa: ANN401 - any wire type
        """One JSON object."""
        self.set_status(status)
        self.set_header("Content-Type", JSON)
        self.write(gojson.encode(value))

    def reply_text(self, text: str, status: int = HTTPStatus.OK) -> None:
        """Plain text."""
        self.set_status(status)
        self.set_header("Content-Type", TEXT)
        self.write(text)

    async def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a handler's work; a client that goes away cancels it, an error becomes the reply."""
        self._work = task = asyncio.current_task()
        self.runtime.answering.add(task)
        try:
            await work()
        except OllamaError as error:
            self.fail(error)
        except (asyncio.CancelledError, StreamClosedError) as error:
            # A closed stream may be met before the word of it comes; a cancel may have other reasons.
            if not self._gone and isinstance(error, asyncio.CancelledError):
                raise
            log.info("%s %s: the client went away", self.request.method, self.request.path)
        finally:
            self._work = None
            self.runtime.answering.discard(task)

    def on_connection_close(self) -> None:
        """The client is gone: nobody waits for the rest."""
        self._gone = True
        if self._work is not None:
            self._work.cancel()
        super().on_connection_close()

    async def stream(self, items: AsyncGenerator[Any, None], *, tell_status: bool = False) -> None:
        """One flushed piece an item, a line of NDJSON as a rule.

        An error before the first one gets a real status; a later one is the last, ``{"error": ...}``, with
        ``"status": 400`` in it where the request is to blame and ``tell_status`` is set, as Ollama's create does.
        """
        try:
            first = await anext(items, None)
            self.set_header("Content-Type", self.stream_type)
            if first is not None:
                await self._send(first)
            async for item in items:
                await self._send(item)
            self.write(self.stream_end)
        except OllamaError as error:
            if not self._headers_written:
                raise
            body = self.error_body(error)
            if tell_status and error.status == HTTPStatus.BAD_REQUEST:
                body["status"] = int(error.status)
            await self._send(body)
        except (asyncio.CancelledError, StreamClosedError):
            raise
        except Exception:
            log.exception("%s %s failed in mid-stream", self.request.method, self.request.path)
            if not self._headers_written:
                raise
            await self._send(self.error_body(OllamaError("internal server error")))
        finally:
            await items.aclose()

    def stream_item(self, item: Any) -> bytes:  # noqa: ANN401 - any wire type
        """An item of a stream, or an error in mid-stream, as it goes out."""
        return gojson.encode(item) + b"\n"

    def error_body(self, error: OllamaError) -> Any:  # noqa: ANN401 - any wire type
        """An error as JSON."""
        return {"error": error.message} | ({"hint": error.hint} if error.hint else {})

    async def _send(self, item: Any) -> None:  # noqa: ANN401 - any wire type
        self.still_active()
        self.write(self.stream_item(item))
        flushed = self.flush()
        if not flushed.done():
            await asyncio.wait((flushed,), timeout=READER_PATIENCE)
        if flushed.done():
            return flushed.result()
        log.info("%s %s: nothing was read for %g s", self.request.method, self.request.path, READER_PATIENCE)
        connection: Any = self.request.connection  # HTTP/1's, which Tornado's interface does not name
        connection.close()
        raise StreamClosedError

    def fail(self, error: OllamaError) -> None:
        """Answer with an error."""
        if error.status == CLIENT_CLOSED_REQUEST:
            self.set_status(error.status, "Client Closed Request")
            self.set_header("Content-Type", JSON)
            self.write(gojson.encode(self.error_body(error)))
        else:
            self.reply(self.error_body(error), error.status)

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ANN401 - Tornado's signature
        """Errors that Tornado raises itself, in the shapes that Go's router gives."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(verb for verb in _VERBS if self._answers(verb)))
            self.reply_text("405 method not allowed", status_code)
        elif status_code == HTTPStatus.NOT_FOUND:
            self.reply_text("404 page not found", status_code)
        else:
            message = getattr(error, "log_message", None) or HTTPStatus(status_code).phrase
            self.reply(self.error_body(OllamaError(message, status=status_code)), status_code)
        self.finish()

    def _answers(self, verb: str) -> bool:
        method = getattr(type(self), verb.lower())
        return method not in (getattr(web.RequestHandler, verb.lower()), getattr(JupyterHandler, verb.lower(), None))


class ListenerBase(_Door):
    """The door of the stand-alone port: open to programs on this machine, closed to web pages of others."""

    edge: ClassVar[Edge]
    _granted: Mapping[str, str] = MappingProxyType({})

    def set_default_headers(self) -> None:
        """Tornado's hook, also called where an error begins the answer anew: a page must be able to read that too."""
        for name, value in self._granted.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Have the edge look at Origin, Host and key before anything else is looked at."""
        request = self.request
        verdict = self.edge.judge(request.method or "", request.path, request.host, request.headers)
        self._granted = verdict.headers
        self.set_default_headers()
        if verdict.status is not None:
            self.set_status(verdict.status)
            if verdict.error is not None:
                self.fail(verdict.error)
            self.finish()


class JupyterBase(JupyterHandler, _Door):  # type: ignore[misc]
    """The door inside Jupyter: its identity, its authorizer, its XSRF rules, for every verb."""

    auth_resource = "ollama"
    _acts = False

    async def prepare(self) -> None:
        """Let in who Jupyter knows and may do this; 403 for all others, never a redirect to a login page."""
        await JupyterHandler.prepare(self, _redirect_to_login=False)
        if self.current_user is None:
            raise web.HTTPError(HTTPStatus.FORBIDDEN, "Forbidden: send Jupyter's token as a Bearer key")
        if not self.check_origin():
            raise web.HTTPError(HTTPStatus.FORBIDDEN, "Forbidden: cross-origin request")
        action = "read" if self.request.method in ("GET", "HEAD") else "execute"
        allowed = self.authorizer.is_authorized(self, self.current_user, action, self.auth_resource)
        if asyncio.iscoroutine(allowed):
            allowed = await allowed
        if not allowed:
            raise web.HTTPError(HTTPStatus.FORBIDDEN, f"Forbidden: {action} on {self.auth_resource}")
        self._acts = action == "execute"

    def on_finish(self) -> None:
        """The end of an answer is activity too; looking on, as a page does that polls, is none."""
        if self._acts:
            self.still_active()
        super().on_finish()

    def still_active(self) -> None:
        """Tell the idle culler that somebody is being answered."""
        self.settings["last_activity_times"]["ollama_nb"] = datetime.now(UTC)
