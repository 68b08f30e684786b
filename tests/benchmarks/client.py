"""The one light client that loads both servers: requests out, bytes and their arrival times in.

The cores that it measures are the cores that it runs on, so while answers stream it only receives and looks at the
clock; one thread waits for all of them. Cutting the bytes into lines comes after the last one has arrived. What
a line says is left to the two servers' modules.
"""

from __future__ import annotations

import bisect
import json
import selectors
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Arrivals", "ClientError", "Line", "post", "stream_all"]

SILENCE: Final = 120.0
"""Seconds without a byte on any stream after which a run is given up."""

_READ_SIZE: Final = 1 << 16
_OK: Final = b"200"


class ClientError(Exception):
    """A server answered something else than a stream, or not at all."""


@dataclass(frozen=True)
class Line:
    """One line of an answer's body without its end, and when it was complete (s, monotonic clock)."""

    at: float
    data: bytes


@dataclass
class Arrivals:
    """What came on one connection: ``sent_at`` and ``times`` in s of the monotonic clock, a time for each part."""

    sent_at: float
    times: list[float] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)

    def lines(self) -> list[Line]:
        """The lines of the body that are not empty. Raises ``ClientError`` for any status but 200."""
        raw = b"".join(self.parts)
        head, separator, _ = raw.partition(b"\r\n\r\n")
        if not separator or head.split(b" ", 2)[1] != _OK:
            raise ClientError(f"not a stream: {raw[:500]!r}")
        ends: list[int] = []
        total = 0
        for part in self.parts:
            total += len(part)
            ends.append(total)
        found: list[Line] = []
        rest = b""
        for chunk, end in _chunks(raw, len(head) + len(separator)):
            # A line is complete when the part that holds its chunk's last byte has come; both servers send a
            # chunk for every token.
            at = self.times[bisect.bisect_left(ends, end)]
            *complete, rest = (rest + chunk).split(b"\n")
            found += [Line(at, line) for line in complete if line]
        return found


def post(address: tuple[str, int], path: str, body: object) -> bytes:
    """The bytes of a POST of JSON, after whose answer the server closes the connection."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + data


def stream_all(address: tuple[str, int], requests: Sequence[bytes]) -> list[Arrivals]:
    """Send all requests at once, each on a connection that is open already, and receive the answers to the end.

    Raises ``TimeoutError`` if nothing comes for ``SILENCE`` seconds, ``OSError`` if a connection breaks.
    """
    with ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        answers: list[Arrivals] = []
        sockets = [stack.enter_context(socket.create_connection(address)) for _ in requests]
        for connection, request in zip(sockets, requests, strict=True):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer = Arrivals(time.perf_counter())
            connection.sendall(request)
            waiting.register(connection, selectors.EVENT_READ, answer)
            answers.append(answer)
        _receive(waiting)
    return answers


def _receive(waiting: selectors.BaseSelector) -> None:
    while waiting.get_map():
        ready = waiting.select(SILENCE)
        if not ready:
            raise TimeoutError(f"no byte for {SILENCE:g} s")
        for key, _ in ready:
            connection, answer = key.fileobj, key.data
            if not isinstance(connection, socket.socket):
                raise TypeError(f"{connection!r} is no socket")
            part = connection.recv(_READ_SIZE)
            if part:
                answer.times.append(time.perf_counter())
                answer.parts.append(part)
            else:
                waiting.unregister(connection)


def _chunks(raw: bytes, start: int) -> list[tuple[bytes, int]]:
    """The chunks of a body in the chunked coding of RFC 9112, 7.1, each with the offset behind it in ``raw``."""
    chunks: list[tuple[bytes, int]] = []
    while True:
        line_end = raw.find(b"\r\n", start)
        if line_end < 0:
            raise ClientError("the connection ended in the middle of an answer")
        length = int(raw[start:line_end].split(b";")[0], 16)
        if not length:
            return chunks
        begin = line_end + 2
        chunks.append((raw[begin : begin + length], begin + length))
        start = begin + length + 2
