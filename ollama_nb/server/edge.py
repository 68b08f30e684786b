"""Who may talk to the stand-alone port: the checks of Host and Origin, as Ollama makes them.

A web page can send requests to loopback. Its Origin header gives it away, unless it has rebound its own name to
127.0.0.1, and then its Host header does. Pure decisions, and one method that carries them out.
"""

from __future__ import annotations

import ipaddress
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tornado import web

__all__ = ["DEFAULT_ORIGINS", "Edge", "host_allowed", "origin_allowed"]

_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - an origin, not an address to bind
DEFAULT_ORIGINS: Final = (
    *(f"{scheme}://{name}{port}" for name in _LOCAL_NAMES for scheme in ("http", "https") for port in ("", ":*")),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")
_METHODS: Final = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_STAINLESS: Final = (
    "Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "Os", "Package-Version", "Poll-Helper",
    "Retry-Count", "Runtime", "Runtime-Version", "Timeout",
)  # fmt: skip
_HEADERS: Final = ",".join(
    (
        "Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With", "Openai-Beta",
        *(f"X-Stainless-{name}" for name in _STAINLESS),
    )
)  # fmt: skip
_MAX_AGE: Final = "43200"


def origin_allowed(origin: str, allowed: Iterable[str]) -> bool:
    """Whether an Origin header matches the list: exactly, or a pattern with one ``*``."""
    for entry in allowed:
        prefix, star, suffix = entry.partition("*")
        if not star:
            if origin == entry.lower():
                return True
        elif len(origin) >= len(prefix) + len(suffix) and origin.startswith(prefix) and origin.endswith(suffix):
            return True
    return False


def host_allowed(host: str, own_addresses: Iterable[str]) -> bool:
    """Whether a Host header names this machine: the defence against DNS rebinding."""
    name = _without_port(host).lower()
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name in ("", "localhost", socket.gethostname().lower()) or name.endswith(_LOCAL_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_unspecified or str(address) in own_addresses


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1]
    name, _, _ = host.partition(":")
    return name


def _own_addresses() -> frozenset[str]:
    return frozenset(entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries)


class Edge:
    """The policy of one listener. ``loopback`` tells whether it is bound to loopback only."""

    def __init__(self, origins: Iterable[str], *, loopback: bool) -> None:
        self._origins = (*origins, *DEFAULT_ORIGINS)
        self._loopback = loopback

    def admit(self, handler: web.RequestHandler) -> None:
        """Let a request go on, with its CORS headers, answer a preflight, or end it with 403 and no body."""
        request = handler.request
        origin = request.headers.get("Origin")
        if origin is not None and origin not in (f"http://{request.host}", f"https://{request.host}"):
            if not origin_allowed(origin, self._origins):
                self._refuse(handler)
                return
            self._allow(handler, origin)
        if self._loopback and not host_allowed(request.host, _own_addresses()):
            self._refuse(handler)
            return
        if request.method == "OPTIONS":
            handler.set_status(HTTPStatus.NO_CONTENT)
            handler.finish()

    def _allow(self, handler: web.RequestHandler, origin: str) -> None:
        everyone = "*" in self._origins
        handler.set_header("Access-Control-Allow-Origin", "*" if everyone else origin)
        vary = [] if everyone else ["Origin"]
        if handler.request.method == "OPTIONS":
            handler.set_header("Access-Control-Allow-Methods", _METHODS)
            handler.set_header("Access-Control-Allow-Headers", _HEADERS)
            handler.set_header("Access-Control-Max-Age", _MAX_AGE)
            vary += ["Access-Control-Request-Method", "Access-Control-Request-Headers"]
        if vary:
            handler.set_header("Vary", ", ".join(vary))

    @staticmethod
    def _refuse(handler: web.RequestHandler) -> None:
        handler.clear()
        handler.set_status(HTTPStatus.FORBIDDEN)
        handler.finish()
