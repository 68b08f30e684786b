"""What stands before the registry of the tests: it asks for tokens, counts, and lets accidents happen.

The registry proper is a real one (``docker_registry``); tokens are given out as Ollama's registry does, to those who
sign with a key that is known here. It is written from the protocol's description, since that registry cannot be had.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Coroutine, Iterator

T = TypeVar("T")

_EMPTY_HASH: Final = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="
"""Base64 of the hex SHA-256 of nothing: a part of what is signed."""

_REPOSITORY: Final = re.compile(r"/v2/(?P<name>[^?]+?)/(?:manifests|blobs)/")
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "authorization"})
_MUCH: Final = 1 << 40


@dataclass(slots=True)
class Seen:
    """A request that came: ``status`` is what was answered, 0 where the line broke before."""

    method: str
    path: str
    token: bool
    received: int = 0
    status: int = 0


@dataclass(slots=True)
class Accident:
    """What happens to the next ``times`` requests with this method whose path matches.

    With a ``status`` that is the answer; else the line breaks once ``after`` bytes of the body have come, or, with
    ``hold``, stands still until ``Front.release``.
    """

    method: str
    path: str = ""
    after: int = 0
    status: int = 0
    body: str = ""
    hold: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1

    def befalls(self, seen: Seen) -> bool:
        """Whether it happens to this request."""
        return self.times > 0 and seen.method == self.method and re.search(self.path, seen.path) is not None


class Front:
    """The front of one registry; ``keys`` says which namespaces the holder of a public key may push to.

    Without ``keys`` nobody is asked who he is. Everybody may pull, but for repositories in ``private``, which only
    those pull who may push there.
    """

    def __init__(
        self, upstream: str, *, keys: dict[str, set[str]] | None, tls: ssl.SSLContext | None, address: str
    ) -> None:
        self.upstream = upstream
        self.keys = None if keys is None else {line.split()[1]: names for line, names in keys.items()}
        self.tls = tls
        self.address = address
        self.private: set[str] = set()
        self.seen: list[Seen] = []
        self.accidents: list[Accident] = []
        self.tokens: dict[str, set[str]] = {}
        self.held = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_exc: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def host(self) -> str:
        """Its address, ``127.0.0.1:port``."""
        return f"{self.address}:{self.port}"

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def count(self, method: str, path: str = "") -> int:
        """How many requests with this method and a matching path have come."""
        return sum(seen.method == method and re.search(path, seen.path) is not None for seen in list(self.seen))

    def received(self, *methods: str) -> int:
        """How many bytes of bodies have come with these methods."""
        return sum(seen.received for seen in list(self.seen) if seen.method in methods)

    def release(self) -> None:
        """What is held goes on."""
        self._loop.call_soon_threadsafe(self.held.set)

    def befall(self, seen: Seen) -> Accident | None:
        """The accident of this request, if it has one."""
        for accident in self.accidents:
            if accident.befalls(seen):
                accident.times -= 1
                return accident
        return None

    def may(self, names: set[str] | None, repository: str, action: str) -> bool:
        """Whether those who may push to ``names`` may do this."""
        if action == "pull" and repository not in self.private:
            return True
        return names is not None and repository.partition("/")[0] in names

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _open(self) -> None:
        self.client = httpx2.AsyncClient(base_url=self.upstream, timeout=60, trust_env=False)
        routes: list[Any] = [("/token", _Token, {"front": self}), ("/v2/.*", _Forward, {"front": self})]
        self._server = HTTPServer(
            Application(routes, log_function=lambda _: None), ssl_options=self.tls, max_body_size=_MUCH, xheaders=False
        )
        (listening,) = bind_sockets(0, self.address)
        self.port = int(listening.getsockname()[1])
        self._server.add_sockets([listening])

    async def _close(self) -> None:
        self.held.set()
        self._server.stop()
        await self._server.close_all_connections()
        await self.client.aclose()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_default_executor()


@contextlib.contextmanager
def registry_front(
    upstream: str,
    *,
    keys: dict[str, set[str]] | None = None,
    tls: ssl.SSLContext | None = None,
    address: str = "127.0.0.1",
) -> Iterator[Front]:
    """Runs a front of the registry at ``upstream``; ``keys`` are lines of ``id_ed25519.pub`` and namespaces."""
    with Front(upstream, keys=keys, tls=tls, address=address) as front:
        yield front


class _Token(RequestHandler):
    """``/token``: a token for those who have signed, good for what they may do of what they asked for."""

    def initialize(self, front: Front) -> None:
        self.front = front

    def get(self) -> None:
        seen = Seen("GET", self.request.uri or "", token=False)
        self.front.seen.append(seen)
        names = self._signer()
        if names is None:
            seen.status = 401
            self.send_error(401)
            return
        granted = set()
        for scope in self.get_arguments("scope"):
            _, repository, actions = scope.split(":")
            granted |= {f"{repository}:{one}" for one in actions.split(",") if self.front.may(names, repository, one)}
        token = secrets.token_urlsafe()
        self.front.tokens[token] = granted
        seen.status = 200
        self.finish({"token": token})

    def _signer(self) -> set[str] | None:
        """What the signer may push to, nothing if unknown; None where the request is not signed as it should be."""
        key, _, signature = self.request.headers.get("Authorization", "").partition(":")
        query = urlsplit(self.request.uri or "").query
        url = f"{self.request.protocol}://{self.request.host}{self.request.uri}"
        public = load_ssh_public_key(b"ssh-ed25519 " + key.encode())
        assert isinstance(public, Ed25519PublicKey)
        try:
            public.verify(base64.b64decode(signature), f"GET,{url},{_EMPTY_HASH}".encode())
        except InvalidSignature:
            return None
        fields = [pair.partition("=")[0] for pair in query.split("&")]
        values = parse_qs(query)
        if fields != sorted(fields) or not {"nonce", "scope", "service", "ts"} <= values.keys():
            return None
        return (self.front.keys or {}).get(key, set())


@stream_request_body
class _Forward(RequestHandler):
    """``/v2/...``: handed on to the registry, body and all, once the token is found to be good."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

    def initialize(self, front: Front) -> None:
        self.front = front
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(2)
        self.answer: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        uri = self.request.uri or ""
        self.seen = Seen(self.request.method or "", uri, token="Authorization" in self.request.headers)
        self.front.seen.append(self.seen)
        self.accident = self.front.befall(self.seen)
        if self.front.keys is not None and (wanted := self._missing()):
            self._challenge(wanted)
        elif self.accident and self.accident.status:
            self._refuse(self.accident)
        elif self.accident and self.accident.after == 0 and not self.accident.hold:
            self._break()
        else:
            self.answer = asyncio.get_running_loop().create_task(self._hand_on())

    async def data_received(self, chunk: bytes) -> None:
        self.seen.received += len(chunk)
        if self.accident and not self.accident.status and self.seen.received >= self.accident.after:
            if not self.accident.hold:
                self._break()
                return
            await self.front.held.wait()
        if self.answer is not None and not self.answer.done():
            putting = asyncio.get_running_loop().create_task(self.queue.put(chunk))
            await asyncio.wait({putting, self.answer}, return_when=asyncio.FIRST_COMPLETED)
            putting.cancel()

    async def handle(self) -> None:
        if self.answer is not None:
            putting = asyncio.get_running_loop().create_task(self.queue.put(None))
            await self.answer
            putting.cancel()

    get = head = post = put = patch = delete = handle

    def on_connection_close(self) -> None:
        if self.answer is not None:
            self.answer.cancel()

    def _missing(self) -> list[str]:
        """The scopes of this request, if the token does not grant them all."""
        match = _REPOSITORY.match(self.request.path)
        repository = match["name"] if match else ""
        actions = {"GET": "pull", "HEAD": "pull"}.get(self.request.method or "", "pull,push")
        scopes = [(repository, actions)]
        if mounted := self.get_query_argument("from", ""):
            scopes.append((mounted, "pull"))
        token = self.request.headers.get("Authorization", "").removeprefix("Bearer ")
        granted = self.front.tokens.get(token, set())
        needed = {f"{name}:{one}" for name, several in scopes for one in several.split(",")}
        return [] if needed <= granted else [f"repository:{name}:{several}" for name, several in scopes]

    def _challenge(self, scopes: list[str]) -> None:
        realm = f"{self.request.protocol}://{self.request.host}/token"
        self.set_header("WWW-Authenticate", f'Bearer realm="{realm}",service="of the tests",scope="{" ".join(scopes)}"')
        self.seen.status = 401
        self.set_status(401)
        self.finish({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})

    def _refuse(self, accident: Accident) -> None:
        for name, value in accident.headers.items():
            self.set_header(name, value)
        self.seen.status = accident.status
        self.set_status(accident.status)
        self.finish(accident.body)

    def _break(self) -> None:
        if self.answer is not None:
            self.answer.cancel()
        self.request.connection.stream.close()  # type: ignore[union-attr]

    async def _body(self) -> AsyncIterator[bytes]:
        while (chunk := await self.queue.get()) is not None:
            yield chunk

    async def _hand_on(self) -> None:
        headers = {name: value for name, value in self.request.headers.get_all() if name.lower() not in _HOP}
        headers["X-Forwarded-Proto"] = self.front.scheme
        length = self.request.headers.get("Content-Length")
        if length is not None:
            headers["Content-Length"] = length
        content = self._body() if length not in {None, "0"} or "Transfer-Encoding" in self.request.headers else None
        uri = self.request.uri or ""
        try:
            async with self.front.client.stream(
                self.request.method or "", uri, headers=headers, content=content
            ) as answer:
                await self._pass_back(answer)
        except httpx2.TransportError:
            self._break()

    async def _pass_back(self, answer: httpx2.Response) -> None:
        self.seen.status = answer.status_code
        self.set_status(answer.status_code)
        self.clear_header("Content-Type")
        for name, value in answer.headers.multi_items():
            if name.lower() not in _HOP - {"content-length"}:
                self.add_header(name, value)
        async for chunk in answer.aiter_raw():
            self.write(chunk)
            await self.flush()
        await self.finish()
