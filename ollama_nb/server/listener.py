"""The stand-alone port: Ollama's address, for every program that is not a Jupyter page."""

from __future__ import annotations

import errno
import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tornado import netutil, web
from tornado.httpserver import HTTPServer

from ollama_nb.server.base import ListenerBase
from ollama_nb.server.edge import Edge
from ollama_nb.server.routes import mount
from ollama_nb.wire.errors import ConflictError

if TYPE_CHECKING:
    import socket

    from ollama_nb.service.runtime import Runtime

__all__ = ["Listener", "open_listener"]

log = logging.getLogger(__name__)

MAX_BODY: Final = 256 << 20
"""Bytes of a JSON body: room for images in base64. Blobs are streamed and not bounded by this."""
IDLE_TIMEOUT: Final = 3600.0


@dataclass
class Listener:
    """A bound port and the server behind it."""

    server: HTTPServer
    url: str

    async def close(self) -> None:
        """Take no more connections and end those that are open."""
        self.server.stop()
        await self.server.close_all_connections()


def open_listener(runtime: Runtime, *, fallback: bool = False) -> Listener:
    """Listen at OLLAMA_HOST.

    If the port is taken and ``fallback`` is set (inside Jupyter), a free one is taken and said so; without it,
    and for an address beyond loopback that nobody allowed, raises ``ConflictError`` with what to do.
    """
    host, port = runtime.settings.host.address
    loopback = _is_loopback(host)
    if not loopback and not runtime.settings.nb_allow_open:
        raise ConflictError(
            f"refusing to listen on {host or 'all interfaces'}: anyone who reaches this address could use and delete "
            "your models",
            hint="listen on 127.0.0.1, or set OLLAMA_NB_ALLOW_OPEN=1 if that is what you want",
        )
    sockets = _bind(host, port, fallback=fallback)
    base: Any = type("Listener", (ListenerBase,), {"edge": Edge(runtime.settings.origins, loopback=loopback)})
    application = web.Application(mount(base, runtime), log_function=_log_request)
    server = HTTPServer(
        application,
        max_body_size=MAX_BODY,
        idle_connection_timeout=IDLE_TIMEOUT,
        body_timeout=None,
    )
    server.add_sockets(sockets)
    return Listener(server, _url(host, sockets[0].getsockname()[1]))


def _bind(host: str, port: int, *, fallback: bool) -> list[socket.socket]:
    try:
        return netutil.bind_sockets(port, host)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ConflictError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                hint="set OLLAMA_HOST to an address of this machine",
            ) from error
        if not fallback:
            raise ConflictError(
                f"listen tcp {host}:{port}: bind: address already in use",
                hint="another Ollama may be running; stop it or set OLLAMA_HOST=127.0.0.1:0 for a free port",
            ) from error
    sockets = netutil.bind_sockets(0, host)
    log.warning("port %d is taken (a running Ollama?); using port %d", port, sockets[0].getsockname()[1])
    return sockets


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, port: int) -> str:
    """Where clients on this machine find it; an address for all interfaces is reached through loopback."""
    if host in ("", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log_request(handler: web.RequestHandler) -> None:
    """One line a request; never what was asked or answered."""
    request = handler.request
    level = logging.INFO if handler.get_status() < 500 else logging.WARNING  # noqa: PLR2004 - 5xx is ours
    milliseconds = 1000 * request.request_time()
    log.log(level, "%d %s %s %.1fms", handler.get_status(), request.method, request.path, milliseconds)
