"""Plain HTTP to a server under test: nothing of ours stands between a test and what is on the wire."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx2
from samples import SMOLLM2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ollama_nb.client import LocalServer

MODEL: Final = SMOLLM2
OPTIONS: Final = {"temperature": 0, "num_predict": 8, "num_thread": 1}
"""A short answer, always the same. llama.cpp's threads wait for each other spinning, which is slow beside other work;
one thread is not, and whoever changes the number causes a reload."""

LOAD: Final = {"model": MODEL, "options": OPTIONS}
_PATIENCE: Final = 60.0


def client(url: str) -> httpx2.Client:
    """A client for one server that follows no redirect and reads no proxy settings."""
    return httpx2.Client(base_url=url, timeout=120, trust_env=False)


def lines(response: httpx2.Response) -> list[dict[str, Any]]:
    """The objects of an NDJSON body."""
    return [json.loads(line) for line in response.text.splitlines()]


def question(text: str, **options: Any) -> dict[str, Any]:
    """A short chat with a fixed answer."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "options": {**OPTIONS, **options},
    }


def endless(text: str = "Tell me a very long story.") -> dict[str, Any]:
    """A chat whose answer takes longer than any test looks at it: greedy and free to say the same again."""
    return question(text, num_predict=-1, temperature=0, repeat_penalty=1)


def connect(url: str) -> socket.socket:
    """A bare connection."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=_PATIENCE)


def request_head(method: str, path: str, url: str, **headers: str) -> bytes:
    """A request line and headers; ``Content_Length`` stands for ``Content-Length``."""
    given = {"Host": urlsplit(url).netloc, **{name.replace("_", "-"): value for name, value in headers.items()}}
    text = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode()


def send(url: str, path: str, value: Any, **headers: str) -> socket.socket:
    """A POST of JSON on a connection of its own, whose answer the caller may read, or leave."""
    body = json.dumps(value).encode()
    connection = connect(url)
    connection.sendall(request_head("POST", path, url, Content_Length=str(len(body)), **headers) + body)
    return connection


def exchange(url: str, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in small letters) and body of a hand-written request that ends the connection."""
    with closing(connect(url)) as connection:
        connection.sendall(data)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    return int(status.split()[1]), headers, body


def received_lines(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """The NDJSON objects of an answer in chunks, as they come; ends with the answer, not with the connection."""
    with connection.makefile("rb") as file:
        for line in file:
            if line == b"0\r\n":
                return
            if line.startswith(b"{"):
                yield json.loads(line)


def complaints(server: LocalServer) -> list[str]:
    """What a server wrote that nobody should have to read: traces, and tasks that nobody waited for."""
    server._log.seek(0)
    log = server._log.read().decode()
    signs = ("Traceback", "never retrieved", "was destroyed", "never awaited", "Exception in ", "Uncaught")
    return [line for line in log.splitlines() if any(sign in line for sign in signs)]


def until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives once it is true; the test fails if that takes unreasonably long."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"in vain waited for: {what}")
