"""A bad line: a TCP proxy that cuts connections, keeps them waiting and slows them down, by chance with a seed.

What is seeded is each connection's fate in the order in which connections come; which request meets it is up to the
client. It counts what it forwards to the client, and takes no more from the server than it can pass on.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

_PIECE: Final = 16 * 1024
_BUFFER: Final = 64 * 1024
"""Bytes of the sockets' buffers: what is under way when a connection breaks is small, as on a long line."""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How bad it is: a connection is cut after ``life`` bytes on average, and waits up to ``delay`` seconds at first.

    It has ``rate`` bytes a second; a share of ``crawls`` falls to ``crawl`` from some byte on, for good.
    """

    life: float = 4e6
    crawls: float = 0.3
    crawl: float = 1000.0
    delay: float = 0.5
    rate: float = 3e6


class BadLine:
    """A way to ``target``, a port of this machine; ``port`` is its own. Runs inside of an ``async with`` block."""

    def __init__(self, target: int, weather: Weather, seed: int) -> None:
        self.target = target
        self.port = 0
        self.forwarded = 0
        self.connections = 0
        self.cuts = 0
        self.crawls = 0
        self._weather = weather
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        listener.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._connected, sock=listener, limit=_BUFFER)
        self.port = listener.getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def summary(self) -> str:
        """What has happened here."""
        return f"{self.connections} connections, {self.cuts} cut, {self.crawls} slowed down"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass  # the end of the test, or of the client
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        weather, chance = self._weather, self._random
        life = chance.expovariate(1 / weather.life)
        crawls_from = chance.random() * weather.life if chance.random() < weather.crawls else math.inf
        delay = chance.random() * weather.delay
        there = socket.socket()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        there.settimeout(0)
        await asyncio.get_running_loop().sock_connect(there, ("127.0.0.1", self.target))
        back, forth = await asyncio.open_connection(sock=there, limit=_BUFFER)
        writer.transport.set_write_buffer_limits(high=_PIECE)
        asking = asyncio.create_task(_copy(reader, forth))
        try:
            await asyncio.sleep(delay)
            await self._answers(back, writer, life, crawls_from)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            forth.transport.abort()

    async def _answers(
        self, back: asyncio.StreamReader, writer: asyncio.StreamWriter, life: float, crawls_from: float
    ) -> None:
        passed = 0
        was_crawling = False
        while passed < life:
            is_crawling = passed >= crawls_from
            self.crawls += is_crawling and not was_crawling
            was_crawling = is_crawling
            rate = self._weather.crawl if is_crawling else self._weather.rate
            piece = max(1, min(_PIECE, int(rate / 10)))
            data = await back.read(min(piece, math.ceil(life - passed)))
            if not data:
                return
            writer.write(data)
            await writer.drain()
            passed += len(data)
            self.forwarded += len(data)
            await asyncio.sleep(len(data) / rate)
        self.cuts += 1


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
