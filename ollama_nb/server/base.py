"""What every handler does: read a body, answer, turn errors into HTTP, notice a client that leaves.

The handlers of the API are mixins on ``ApiHandler``. Each is mounted twice: on ``ListenerBase`` for the port
of its own, and on ``JupyterBase`` inside Jupyter Server. The bases decide who may come in, the mixins what is done.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.iostream import StreamClosedError

from ollama_nb.wire import gojson
from ollama_nb.wire.errors import CLIENT_CLOSED_REQUEST, OllamaError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from ollama_nb.server.edge import Edge
    from ollama_nb.service.runtime import Runtime

__all__ = ["ApiHandler", "JupyterBase", "ListenerBase"]

log = logging.getLogger(__name__)

T = TypeVar("T")
JSON: Final = "application/json; charset=utf-8"
NDJSON: Final = "application/x-ndjson"
TEXT: Final = "text/plain; charset=utf-8"
_VERBS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _Door(web.RequestHandler):
    """What a handler asks of the base it stands on."""

    def still_active(self) -> None:
        """Called at every line of a stream: an answer that takes an hour is an hour of activity."""


class ApiHandler(_Door):
    """The mixin's half: bodies, answers, errors. ``runtime`` comes from the route table."""

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

    def body(self, kind: type[T], name: str | None = None) -> T:
        """The request's JSON as a wire type; raises ``BadRequestError``."""
        return gojson.decode(self.request.body, kind, name or kind.__name__)

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
        self._work = asyncio.current_task()
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

    def on_connection_close(self) -> None:
        """The client is gone: nobody waits for the rest."""
        self._gone = True
        if self._work is not None:
            self._work.cancel()
        super().on_connection_close()

    async def stream(self, items: AsyncGenerator[Any, None], *, tell_status: bool = False) -> None:
        """NDJSON, one flushed line an item.

        An error before the first line gets a real status; a later one is the last line, ``{"error": ...}``, with
        ``"status": 400`` in it where the request is to blame and ``tell_status`` is set, as Ollama's create does.
        """
        try:
            first = await anext(items, None)
            self.set_header("Content-Type", NDJSON)
            if first is not None:
                await self._line(first)
            async for item in items:
                await self._line(item)
        except OllamaError as error:
            if not self._headers_written:
                raise
            status = {"status": int(error.status)} if tell_status and error.status == HTTPStatus.BAD_REQUEST else {}
            await self._line(_error_body(error) | status)
        except (asyncio.CancelledError, StreamClosedError):
            raise
        except Exception:
            log.exception("%s %s failed in mid-stream", self.request.method, self.request.path)
            if not self._headers_written:
                raise
            await self._line({"error": "internal server error"})
        finally:
            await items.aclose()

    async def _line(self, item: Any) -> None:  # noqa: ANN401 - any wire type
        self.still_active()
        self.write(gojson.encode(item) + b"\n")
        await self.flush()

    def fail(self, error: OllamaError) -> None:
        """Answer with an error."""
        if error.status == CLIENT_CLOSED_REQUEST:
            self.set_status(error.status, "Client Closed Request")
            self.set_header("Content-Type", JSON)
            self.write(gojson.encode(_error_body(error)))
        else:
            self.reply(_error_body(error), error.status)

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
            self.reply({"error": message}, status_code)
        self.finish()

    def _answers(self, verb: str) -> bool:
        method = getattr(type(self), verb.lower())
        return method not in (getattr(web.RequestHandler, verb.lower()), getattr(JupyterHandler, verb.lower(), None))


class ListenerBase(_Door):
    """The door of the stand-alone port: open to programs on this machine, closed to web pages of others."""

    edge: ClassVar[Edge]

    def prepare(self) -> None:
        """Check Host and Origin before anything else is looked at."""
        self.edge.admit(self)


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


def _error_body(error: OllamaError) -> dict[str, Any]:
    body: dict[str, Any] = {"error": error.message}
    if error.hint:
        body["hint"] = error.hint
    return body
