"""A proxy of the kind that HTTPS_PROXY names: it makes tunnels (CONNECT, RFC 9110), here all to one place."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 65536


class ConnectProxy(socketserver.ThreadingTCPServer):
    """``targets`` are the places that tunnels were asked for; ``there`` is where they lead."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, there: tuple[str, int]) -> None:
        self.there = there
        self.targets: list[str] = []
        super().__init__(("127.0.0.1", 0), _Tunnel)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: ConnectProxy

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.server.targets.append(target if method == "CONNECT" else f"{method} {target}")
        with socket.create_connection(self.server.there) as other:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with contextlib.suppress(OSError):
                self._carry(other)

    def _carry(self, other: socket.socket) -> None:
        ends = {self.connection: other, other: self.connection}
        while True:
            for one in select.select(list(ends), [], [])[0]:
                if not (data := one.recv(_PIECE)):
                    return
                ends[one].sendall(data)


@contextlib.contextmanager
def connect_proxy(there: tuple[str, int]) -> Iterator[ConnectProxy]:
    """Runs one whose tunnels all lead to ``there``, host and port."""
    with ConnectProxy(there) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
