"""A server of blobs that behaves as it is told: ranges or none, answers that end early, stand still or refuse.

It speaks as much of the registry's protocol as reading a blob takes, on a loopback port, and remembers what it was
asked for. Each answer's behaviour is drawn from ``faults``, one a request, then there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ollama_nb.registry.client import Registry
from ollama_nb.registry.keys import KeyPair
from ollama_nb.registry.transport import Transport
from ollama_nb.wire.names import Name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ollama_nb.registry.source import Patience, Source

_RANGE: Final = re.compile(rb"\r\nrange: bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)
_PIECE: Final = 256 * 1024


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer: after so many bytes of the body it is cut, or stands still; or its status."""

    cut: int | None = None
    stall: int | None = None
    status: int = 0
    headers: str = ""


@dataclass
class RangeServer:
    """Blobs by digest. ``asked`` has the ranges of all requests, ``sent`` counts the bytes of bodies, ``open`` the
    answers that are under way."""

    has_ranges: bool = True
    blobs: dict[str, bytes] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    rate: float = 0.0
    asked: list[tuple[int, int]] = field(default_factory=list)
    sent: int = 0
    open: int = 0
    port: int = 0
    is_held: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, data: bytes) -> str:
        """Offers a blob: its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def hold_at(self, position: int) -> None:
        """From here on every answer stops before byte ``position`` of the blob until ``go_on`` is set."""
        self._hold = position
        self.is_held = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while await self._serve_one(await reader.readuntil(b"\r\n\r\n"), reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        finally:
            writer.transport.abort()

    async def _serve_one(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.open += 1
        try:
            return await self._answer(head, reader, writer)
        finally:
            self.open -= 1

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        fault = self.faults.popleft() if self.faults else Fault()
        data = self.blobs.get(head.split(b" ")[1].decode().rpartition("/")[2], b"")
        start, stop, status = 0, len(data), 200
        found = _RANGE.search(head)
        if found is not None:
            asked = int(found[1]), int(found[2]) + 1
            self.asked.append(asked)
            if self.has_ranges:
                (start, stop), status = asked, 206
        if fault.status:
            start, stop, status = 0, 0, fault.status
        extent = f"Content-Range: bytes {start}-{stop - 1}/{len(data)}\r\n" if status == 206 else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{extent}{fault.headers}Content-Length: {stop - start}\r\n\r\n".encode())
        end = stop if fault.cut is None else min(stop, start + fault.cut)
        pause = end if fault.stall is None else min(stop, start + fault.stall)
        await self._send(data, start, min(pause, end), reader, writer)
        if fault.stall is not None and pause < stop:
            await self._wait(reader)
        return end == stop

    async def _wait(self, reader: asyncio.StreamReader) -> None:
        """Until ``go_on``; raises ``ConnectionError`` when the client leaves before."""
        gone, going = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(self.go_on.wait())
        try:
            await asyncio.wait([gone, going], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            going.cancel()
            await asyncio.wait([gone, going])
        if not gone.cancelled():
            raise ConnectionError("the client has left")
        self.is_held = False

    async def _send(
        self, data: bytes, start: int, stop: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        position = start
        while position < stop:
            end = min(stop, position + _PIECE)
            if self.is_held and end > self._hold:
                end = max(position, min(end, self._hold))
                if end == position:
                    await self._wait(reader)
                    continue
            writer.write(data[position:end])
            await writer.drain()
            self.sent += end - position
            position = end
            if self.rate:
                await asyncio.sleep(_PIECE / self.rate)


@contextlib.asynccontextmanager
async def range_server(**settings: object) -> AsyncIterator[RangeServer]:
    """One that runs on this loop."""
    server = RangeServer(**settings)  # type: ignore[arg-type]
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await server.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            connections.discard(task)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in connections:
            task.cancel()
        if connections:
            await asyncio.wait(connections)


@contextlib.asynccontextmanager
async def source_at(port: int, digest: str, patience: Patience, folder: Path) -> AsyncIterator[Source]:
    """The blob as our own registry client sees it at a loopback port."""
    transport = Transport(patience)
    try:
        name = Name(f"127.0.0.1:{port}", "library", "x", "latest")
        yield Registry(name, transport, KeyPair(folder), insecure=True).blob(digest)
    finally:
        await transport.aclose()
