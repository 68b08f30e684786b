"""The address of a server as OLLAMA_HOST writes it, for the one who listens and for those who call.

The rules and the fallbacks are Ollama's. Whether an address may be listened on is left to the listener, and
looking for a server that answers to the client.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from typing import Final, Self

import msgspec

__all__ = ["DEFAULT_PORT", "Host"]

DEFAULT_PORT: Final = 11434
"""Ollama's own port."""

_log = logging.getLogger("ollama_nb.settings")

_SCHEME_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65535
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\]:([^:\[\]]*)")
_PLAIN: Final = re.compile(r"([^:\[\]]*):([^:\[\]]*)")
_NOT_IN_ADDRESS: Final = re.compile(r"[\s\x00-\x1f@?#\\]")


class Host(msgspec.Struct, frozen=True):
    """Where a server listens, and where clients find it.

    ``host`` is a name or an address without brackets, empty for all interfaces; ``path`` is empty or begins with
    a slash and ends without one.
    """

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``[scheme://]host[:port][/path]`` by the rules of OLLAMA_HOST.

        Without a port it is 11434, after ``http://`` 80, after ``https://`` 443; a port that is no number of
        0..65535 gives the same, with a warning. Raises ValueError for another scheme or an impossible host.
        """
        scheme, separator, rest = text.strip().partition("://")
        if not separator:
            scheme, rest, default_port = "http", text.strip(), DEFAULT_PORT
        elif scheme in _SCHEME_PORTS:
            default_port = _SCHEME_PORTS[scheme]
        else:
            raise ValueError(f'scheme "{scheme}" is not http or https')
        if _NOT_IN_ADDRESS.search(rest):
            raise ValueError(f"{text!r} is not an address")
        authority, _, path = rest.partition("/")
        split = _BRACKETED.fullmatch(authority) or _PLAIN.fullmatch(authority)
        if split:
            host, port = split[1], _parse_port(split[2], default_port)
        else:
            host, port = authority.strip("[]") or "127.0.0.1", default_port
        path = path.strip("/")
        return cls(scheme, _checked_host(host), port, f"/{path}" if path else "")

    @property
    def url(self) -> str:
        """The address as it was given, for messages."""
        return self._url_of(self.host)

    @property
    def client_url(self) -> str:
        """The address a client connects to: "all interfaces" becomes loopback."""
        loopback = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - replaced, not bound
        return self._url_of(loopback.get(self.host, self.host))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return self.host, self.port

    def _url_of(self, host: str) -> str:
        bracketed = f"[{host.replace('%', '%25')}]" if ":" in host else host
        return f"{self.scheme}://{bracketed}:{self.port}{self.path}"


def _parse_port(text: str, default: int) -> int:
    """The port, or the default with a warning."""
    if re.fullmatch(r"[0-9]{1,9}", text) and int(text) <= _MAX_PORT:
        return int(text)
    _log.warning("OLLAMA_HOST: invalid port %r, using %d", text, default)
    return default


def _checked_host(host: str) -> str:
    """The host in its canonical spelling. Raises ValueError for what cannot stand in an address."""
    error = ValueError(f"{host!r} is not a host name or address")
    if "[" in host or "]" in host:
        raise error
    try:
        # A zone's percent sign is escaped in URLs (RFC 6874) and plain elsewhere; both are understood.
        return str(ipaddress.ip_address(host.replace("%25", "%", 1)))
    except ValueError:
        if ":" in host:
            raise error from None
        return host
