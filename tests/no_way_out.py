"""A proxy that lets nothing through: what a program under test asks of the world outside is refused at once."""

from __future__ import annotations

import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["no_way_out"]

_REFUSAL: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LOCAL: Final = "127.0.0.1,localhost,::1"


class _Refusing(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(_REFUSAL)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def no_way_out() -> Iterator[dict[str, str]]:
    """The variables that send everything but this machine's own addresses to such a proxy, as long as it is there."""
    with _Server(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": _LOCAL}
        finally:
            server.shutdown()
            thread.join()
