"""A stand-in for registries whose uploads can be resumed or are redirected to a storage, as Ollama's own does.

Neither can be had here: Debian's registry forgets an upload whose line breaks in mid-part. Written from the protocol's
description (Docker Registry HTTP API V2); it runs in the loop of its test, keeps everything in memory, and asks for a
token where it is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TOKEN: Final = "let-me-in"
_UPLOADS: Final = "/v2/me/x/blobs/uploads/"


@dataclass(slots=True)
class Call:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    query: dict[str, str]
    received: int = 0


@dataclass(slots=True)
class UploadRegistry:
    """What it has and what it was asked; ``host`` is its address, ``storage`` that of another server of its own.

    ``breaks``: after how many bytes the next bodies end. ``answers``: what is answered, by ``METHOD word of the path``,
    in place of the right thing: status, headers, body; each entry once.
    """

    host: str
    storage: str
    redirects: bool = False
    guarded: bool = False
    mountable: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    answers: dict[str, list[tuple[int, dict[str, str], str]]] = field(default_factory=dict)
    commits: list[dict[str, str]] = field(default_factory=list)
    when_asked: Callable[[Call], None] = lambda _: None

    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    def of(self, method: str) -> list[Call]:
        """The requests with this method."""
        return [call for call in self.calls if call.method == method]

    def ranges(self) -> list[str]:
        """Which bytes each PATCH was to have."""
        return [call.headers["Content-Range"] for call in self.of("PATCH")]


@contextlib.asynccontextmanager
async def upload_registry(**settings: Any) -> AsyncIterator[UploadRegistry]:
    """Runs one, and the storage that it redirects to, until the end of the block."""
    (own,), (other,) = bind_sockets(0, "127.0.0.1"), bind_sockets(0, "127.0.0.1")
    host, storage = (f"127.0.0.1:{one.getsockname()[1]}" for one in (own, other))
    registry = UploadRegistry(host, storage, **settings)
    given = {"registry": registry}
    routes: list[Any] = [
        ("/token", _Token),
        (r"/v2/me/x/blobs/uploads/", _Begin, given),
        (r"/v2/me/x/blobs/uploads/(?P<session>.+)", _Session, given),
        (r"/v2/me/x/blobs/(?P<digest>sha256:.+)", _Blob, given),
        (r"/storage/(?P<session>[^/]+)/(?P<number>\d+)", _Storage, given),
    ]
    servers = []
    for socket in (own, other):
        server = HTTPServer(Application(routes, log_function=lambda _: None))
        server.add_sockets([socket])
        servers.append(server)
    try:
        yield registry
    finally:
        for server in servers:
            server.stop()
            await server.close_all_connections()


class _Token(RequestHandler):
    def get(self) -> None:
        self.finish({"token": TOKEN})


class _Handler(RequestHandler):
    """What all do: note the call, ask for the token, give the answer that the test wants."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

    def initialize(self, registry: UploadRegistry) -> None:
        self.registry = registry

    def prepare(self) -> None:
        request = self.request
        query = {name: values[-1].decode() for name, values in request.query_arguments.items()}
        self.call = Call(request.method or "", request.path, dict(request.headers.get_all()), query)
        self.registry.calls.append(self.call)
        self.registry.when_asked(self.call)
        self.ended = True
        if request.path.startswith("/v2") and self.registry.guarded and not self._has_token():
            self.set_header("WWW-Authenticate", f'Bearer realm="http://{request.host}/token",scope="repository:me/x:*"')
            self.answer(HTTPStatus.UNAUTHORIZED)
        elif answer := self._wanted():
            status, headers, body = answer
            self.answer(status, headers, body)
        else:
            self.ended = False

    def answer(self, status: int, headers: dict[str, str] | None = None, body: str = "") -> None:
        for name, value in (headers or {}).items():
            self.set_header(name, value)
        self.set_status(status)
        if status == HTTPStatus.NO_CONTENT:
            self.clear_header("Content-Type")
        self.finish(body or None)

    def _has_token(self) -> bool:
        return self.request.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _wanted(self) -> tuple[int, dict[str, str], str] | None:
        for key, answers in self.registry.answers.items():
            method, _, word = key.partition(" ")
            if answers and method == self.request.method and word in self.request.path:
                return answers.pop(0)
        return None


@stream_request_body
class _Body(_Handler):
    """A request whose body may break off, what came before being kept by ``keep``."""

    def prepare(self) -> None:
        super().prepare()
        has_body = self.request.headers.get("Content-Length", "0") != "0"
        self.end = self.registry.breaks.pop(0) if self.registry.breaks and has_body and not self.ended else None

    def keep(self, data: bytes) -> None:
        raise NotImplementedError

    def data_received(self, chunk: bytes) -> None:
        if self.ended:
            return
        if self.end is not None:
            chunk = chunk[: self.end - self.call.received]
        self.call.received += len(chunk)
        self.keep(chunk)
        if self.end is not None and self.call.received >= self.end:
            self.ended = True
            self.request.connection.stream.close()  # type: ignore[union-attr]


class _Blob(_Handler):
    def head(self, digest: str) -> None:
        if not self.ended:
            self.answer(HTTPStatus.OK if digest in self.registry.blobs else HTTPStatus.NOT_FOUND)


class _Begin(_Handler):
    def post(self) -> None:
        if self.ended:
            return
        if self.call.query.get("mount") in self.registry.mountable:
            self.answer(HTTPStatus.CREATED)
            return
        session = f"s{len(self.registry.sessions)}"
        self.registry.sessions[session] = bytearray()
        self.answer(HTTPStatus.ACCEPTED, {"Location": f"{_UPLOADS}{session}?state=a%2Fb"})


class _Session(_Body):
    """One upload. Its next address has the number of bytes in it, and another one is not taken."""

    def prepare(self) -> None:
        super().prepare()
        self.name = self.request.path.removeprefix(_UPLOADS)
        if not self.ended and self.name not in self.registry.sessions:
            self.ended = True
            self.answer(HTTPStatus.NOT_FOUND)
        elif not self.ended and self.request.method == "PATCH" and not self._begins_right():
            self.ended = True
            self.answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)

    def keep(self, data: bytes) -> None:
        if not self.registry.redirects:
            self.registry.sessions[self.name] += data

    def get(self, session: str) -> None:
        if not self.ended:
            self._where(HTTPStatus.NO_CONTENT)

    def patch(self, session: str) -> None:
        if self.ended:
            return
        if self.registry.redirects:
            assert self.request.headers["X-Redirect-Uploads"] == "1"
            place = f"http://{self.registry.storage}/storage/{session}/{len(self.registry.parts)}"
            self.answer(
                HTTPStatus.TEMPORARY_REDIRECT,
                {"Location": place, "Docker-Upload-Location": f"{_UPLOADS}{session}?state=next"},
            )
        else:
            self._where(HTTPStatus.ACCEPTED)

    def put(self, session: str) -> None:
        if self.ended:
            return
        self.registry.commits.append(self.call.query)
        data = bytes(self.registry.sessions[session])
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest != self.call.query["digest"]:
            self.answer(HTTPStatus.BAD_REQUEST, body='{"errors":[{"code":"DIGEST_INVALID"}]}')
            return
        self.registry.blobs[digest] = data
        del self.registry.sessions[session]
        self.answer(HTTPStatus.CREATED)

    def delete(self, session: str) -> None:
        if not self.ended:
            del self.registry.sessions[session]
            self.answer(HTTPStatus.NO_CONTENT)

    def _where(self, status: int) -> None:
        size = len(self.registry.sessions[self.name])
        headers = {"Location": f"{_UPLOADS}{self.name}?state=at{size}", "Range": f"0-{max(0, size - 1)}"}
        self.answer(status, headers)

    def _begins_right(self) -> bool:
        match = re.fullmatch(r"(\d+)-(\d+)", self.request.headers.get("Content-Range", ""))
        if match is None:
            return False
        first, last = int(match[1]), int(match[2])
        stated = int(self.request.headers["Content-Length"])
        return first == len(self.registry.sessions[self.name]) and last - first + 1 == stated


class _Storage(_Body):
    """Where parts of redirected uploads are put: whole or not at all, by whoever has the address."""

    def prepare(self) -> None:
        self.data = bytearray()
        super().prepare()

    def keep(self, data: bytes) -> None:
        self.data += data

    def put(self, session: str, number: str) -> None:
        if self.ended:
            return
        assert "Authorization" not in self.request.headers
        self.registry.parts[number] = bytes(self.data)
        self.registry.sessions[session] += self.data
        self.answer(HTTPStatus.OK)


async def settled() -> None:
    """Waits until no task but this one is left."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
