"""The stand-alone port: Ollama's address, for every program that is not a Jupyter page."""

from __future__ import annotations

import errno
import ipaddress
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tornado import netutil

from ollama_nb.server.base import ListenerBase
from ollama_nb.server.edge import Edge
from ollama_nb.server.intake import LIMITS, Intake, Limits, make_server
from ollama_nb.server.routes import mount
from ollama_nb.server.tls import server_context
from ollama_nb.store.keys import KeyFile, new_key
from ollama_nb.wire.errors import ConflictError

if TYPE_CHECKING:
    import socket

    from tornado import web
    from tornado.httpserver import HTTPServer

    from ollama_nb.service.runtime import Runtime

__all__ = ["Listener", "open_listener"]

log = logging.getLogger(__name__)


@dataclass
class Listener:
    """A bound port and the server behind it; ``token`` is a key for the programs of this user, while it is open."""

    server: HTTPServer
    url: str
    token: str = field(repr=False)

    async def close(self) -> None:
        """Take no more connections and end those that are open."""
        self.server.stop()
        await self.server.close_all_connections()


def open_listener(runtime: Runtime, *, fallback: bool = False, limits: Limits = LIMITS) -> Listener:
    """Listen at OLLAMA_HOST.

    If the port is taken and ``fallback`` is set (inside Jupyter), a free one is taken and said so; without it, for an
    address beyond loopback that nobody allowed, and for origins or certificates that cannot be, raises
    ``ConflictError`` with what to do.
    """
    settings = runtime.settings
    host, port = settings.host.address
    token = new_key()
    edge = _edge(runtime, host, token)
    tls = server_context(settings.nb_certfile, settings.nb_keyfile)
    base: Any = type("Listener", (ListenerBase,), {"edge": edge})
    sockets = _bind(host, port, fallback=fallback)
    logging.getLogger("tornado.general").addFilter(_unquoted)
    application = Intake(mount(base, runtime), base, runtime, limits, log_function=_log_request)
    server = make_server(application, limits, tls)
    server.add_sockets(sockets)
    return Listener(server, _url("https" if tls else "http", host, sockets[0].getsockname()[1]), token)


def _edge(runtime: Runtime, host: str, token: str) -> Edge:
    """The policy for this address. Beyond loopback it needs a key, now and when the last one has been revoked."""
    settings = runtime.settings
    loopback = _is_loopback(host)
    keys = KeyFile(settings.nb_home, own=token)
    guarded = not loopback and not settings.nb_allow_open
    if not keys.entries() and guarded:
        raise ConflictError(
            f"refusing to listen on {host or 'all interfaces'}: anyone who reaches this address could use and delete "
            "your models",
            hint="make a key with `ollama-nb key create`, listen on 127.0.0.1, or set OLLAMA_NB_ALLOW_OPEN=1 if that "
            "is what you want",
        )
    return Edge(settings.origins, loopback=loopback, keys=keys, keys_always=guarded)


def _bind(host: str, port: int, *, fallback: bool) -> list[socket.socket]:
    try:
        return netutil.bind_sockets(port, host)
    except (OSError, UnicodeError) as error:
        if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
            raise ConflictError(
                f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
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


def _url(scheme: str, host: str, port: int) -> str:
    """Where clients on this machine find it; an address for all interfaces is reached through loopback."""
    if host in ("", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _unquoted(record: logging.LogRecord) -> bool:
    """What Tornado says of a head that it cannot read, without the head's text: that may be a header with a key."""
    if isinstance(record.msg, str) and record.msg.startswith("Malformed HTTP message from"):
        record.msg, record.args = "Malformed HTTP message", ()
    return True


def _log_request(handler: web.RequestHandler) -> None:
    """One line a request; never what was asked or answered, nor the query, nor a header."""
    request = handler.request
    level = logging.INFO if handler.get_status() < 500 else logging.WARNING  # noqa: PLR2004 - 5xx is ours
    milliseconds = 1000 * request.request_time()
    path = request.path.encode("ascii", "backslashreplace").decode()
    log.log(level, "%d %s %s %.1fms", handler.get_status(), request.method, path, milliseconds)
