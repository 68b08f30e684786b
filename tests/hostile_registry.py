"""A registry that answers what it is told to: an HTTP server on loopback with scripted answers.

It is written from the protocol's description and on bare sockets, since no real registry lies, stalls or goes on
forever. What a well-behaved one does is shown with a real one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from certificates import Certificate

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
MODEL_TYPE: Final = "application/vnd.ollama.image.model"

_PIECE: Final = 64 * 1024
_LONGEST_SILENCE: Final = 60.0
_TLS_HANDSHAKE: Final = b"\x16"


@dataclass(slots=True)
class Asked:
    """A request that came: method, target, headers (names in small letters), body."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(slots=True)
class Answer:
    """Status, headers and body; ``length`` is what Content-Length states, by default the truth, None for nothing.

    Where no length is stated the body ends with the connection, and so it does where more or less than that comes.
    """

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1


Script = Answer | Callable[[Asked], Answer]


class HostileRegistry:
    """``with HostileRegistry() as registry``; ``registry.answers[path]`` is what it says, 404 to all else."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.answers: dict[str, Script] = {}
        self.asked: list[Asked] = []
        self.accepted = 0
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate.cert, certificate.key)
        self._connections: set[socket.socket] = set()
        self._busy: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)

    @property
    def host(self) -> str:
        """The host of model names: ``127.0.0.1:<port>``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def busy(self) -> int:
        """How many connections wait for a request to be answered, or their client to go: idle ones do not count."""
        return len(self._busy)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def offer(
        self, repository: str, manifest: Any, blobs: dict[str, Script] | None = None, tag: str = "latest"
    ) -> None:
        """Has the manifest (bytes, or what becomes JSON, or an answer) under ``repository`` and its blobs by digest."""
        if isinstance(manifest, Answer) or callable(manifest):
            answer: Script = manifest
        else:
            body = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
            answer = Answer(body=body, headers={"Content-Type": MANIFEST_TYPE})
        self.answers[f"/v2/{repository}/manifests/{tag}"] = answer
        for digest, blob in (blobs or {}).items():
            self.answers[f"/v2/{repository}/blobs/{digest}"] = blob

    def paths(self) -> list[str]:
        """Methods and paths of the requests that came, in order."""
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_LONGEST_SILENCE)
        self._connections.add(connection)
        with contextlib.suppress(OSError, ssl.SSLError, ValueError), connection:
            if self._tls is not None:
                secure = self._tls.wrap_socket(connection, server_side=True)
                self._connections.add(secure)
                connection = secure
            elif connection.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # as servers of plain http do
                return
            with connection, connection.makefile("rb") as reader:
                while asked := _read_request(reader):
                    self._busy.add(connection)
                    self.asked.append(asked)
                    goes_on = _send(connection, asked, self._answer(asked))
                    self._busy.discard(connection)
                    if not goes_on:
                        break
        self._busy.discard(connection)
        self._connections.discard(connection)

    def _answer(self, asked: Asked) -> Answer:
        script = self.answers.get(asked.path, Answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'))
        return script(asked) if callable(script) else script


def _read_request(reader: Any) -> Asked | None:
    line = reader.readline(_PIECE)
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split()
    headers = {}
    while line := reader.readline(_PIECE).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(reader.readline(), 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
    else:
        body = reader.read(int(headers.get("content-length", 0)))
    return Asked(method, target, headers, body)


def _send(connection: socket.socket, asked: Asked, answer: Answer) -> bool:
    """Whether the connection can be used again."""
    whole = answer.body if isinstance(answer.body, bytes) else None
    length = (None if whole is None else len(whole)) if answer.length == -1 else answer.length
    fields = dict(answer.headers)
    if length is not None:
        fields["Content-Length"] = str(length)
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    connection.sendall(f"HTTP/1.1 {answer.status} Said\r\n{head}\r\n".encode("latin-1"))
    if asked.method == "HEAD":
        return True
    for piece in (whole,) if whole is not None else answer.body:
        # A client that has left is noticed when it is next written to; one that is gone for good ends what is endless.
        connection.sendall(piece)
    return whole is not None and length == len(whole)


def blob(content: bytes) -> Script:
    """A blob as an honest registry gives it, whole or in ranges."""

    def answer(asked: Asked) -> Answer:
        wanted = asked.headers.get("range", "")
        if not wanted.startswith("bytes="):
            return Answer(body=content)
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        if first >= len(content):
            return Answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
        last = min(last, len(content) - 1)
        return Answer(206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    return answer


def digest_of(content: bytes) -> str:
    """The digest under which content is stored."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer(content: bytes, media_type: str = MODEL_TYPE) -> dict[str, Any]:
    """A manifest's entry for content."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def manifest(*layers: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """A manifest of well-formed or other entries."""
    return {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": list(layers)}


def redirect(url: str, status: int = 307) -> Answer:
    """A redirect."""
    return Answer(status, headers={"Location": url})


def endless(piece: bytes = b"x" * _PIECE) -> Iterable[bytes]:
    """A body without an end."""
    while True:
        yield piece


def silent(gone: threading.Event, first: bytes = b"") -> Iterable[bytes]:
    """A body that stands still after its first bytes, until the test is over."""
    if first:
        yield first
    gone.wait(_LONGEST_SILENCE)


def crawling(over: threading.Event) -> Iterable[bytes]:
    """A body of which next to nothing comes, until the test is over."""
    while not over.wait(0.05):
        yield b"x"
