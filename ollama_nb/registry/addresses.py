"""Where a registry may send us: the policy on redirects, which a hostile one would use to reach what only we can.

- At most 10 redirects, to http or https; from https only to https. No user name or password stands in a URL.
- Addresses are public, private (RFC 1918, ULA, CGNAT), loopback or forbidden (link-local, multicast, reserved, the
  metadata services of clouds). A redirect may not lead to a more private one than the registry's own, and never to a
  forbidden one. Of a name all addresses count. An IPv4 address inside of an IPv6 one is judged as what it is.
- The registry's own origin is where the user has sent us; it may always be redirected to.
- A name may resolve differently a moment later. So the address that has really answered is judged too, before
  anything of its answer is used.
- Where a proxy stands in between it resolves the names: only literal addresses can be judged.

What may be sent along is left to ``client``: the token goes to the registry's own origin and nowhere else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import httpx2

from ollama_nb.registry.proxies import is_localhost, proxy_for
from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = [
    "MAX_REDIRECTS",
    "Origin",
    "Reach",
    "Resolver",
    "check_peer",
    "check_redirect",
    "check_url",
    "checked",
    "origin_of",
    "peer_reach",
    "place_of",
    "reach",
    "resolve",
]

MAX_REDIRECTS: Final = 10

_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT: Final = 65535
_SHOWN: Final = 200

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver: TypeAlias = "Callable[[str, int], Awaitable[Sequence[str]]]"
"""Gives all addresses of a host, as texts, for a port."""


class Reach(IntEnum):
    """From how near an address can be reached; the larger, the less strangers have to do with it."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3


class Origin(NamedTuple):
    """Scheme, host and port: what has the same is one server."""

    scheme: str
    host: str
    port: int


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# The special-purpose addresses of IANA, and where clouds tell a machine its secrets: 100.100.100.200 (Alibaba),
# 168.63.129.16 (Azure), 192.0.0.192 (Oracle) and fd00:ec2::254 (AWS), apart from the link-local one that all have.
_RULES: Final = (
    (
        Reach.FORBIDDEN,
        _networks(
            *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32"),
            *("0.0.0.0/8", "169.254.0.0/16", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
        ),
    ),
    (Reach.LOOPBACK, _networks("127.0.0.0/8", "::1/128")),
    (
        Reach.PRIVATE,
        _networks(
            *("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("fc00::/7", "fec0::/10"),
        ),
    ),
    (Reach.PUBLIC, _networks("0.0.0.0/0", "2000::/3")),
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_IPV4_BITS: Final = 0xFFFFFFFF


def reach(address: Address) -> Reach:
    """The reach of an address; of one in which an IPv4 address is hidden, that one's."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := _inner(address)) is not None:
        return reach(inner)
    for kind, networks in _RULES:
        if any(address in network for network in networks):
            return kind
    return Reach.FORBIDDEN  # IPv6 that nobody has been given


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address at which packets to an IPv6 address end: mapped, 6to4, Teredo, NAT64, IPv4-compatible."""
    if address.teredo is not None:
        return address.teredo[1]
    hidden = address.ipv4_mapped or address.sixtofour
    if hidden is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)):
        hidden = ipaddress.IPv4Address(int(address) & _IPV4_BITS)
    return hidden


def checked(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """The URL of a text, which may be meant below ``base``; raises ``ValueError`` if it is none."""
    try:
        url = httpx2.URL(text) if base is None else base.join(text)
    except httpx2.InvalidURL as error:
        raise ValueError(str(error)) from error
    if (url.port or 0) > _LAST_PORT:
        raise ValueError(f"there is no port {url.port}")
    return url


def origin_of(url: httpx2.URL) -> Origin:
    """The origin of an http or https URL."""
    return Origin(url.scheme, url.host.lower(), url.port or _PORTS.get(url.scheme, 0))


def place_of(url: httpx2.URL) -> str:
    """Host and port of a URL as users are shown them: without a port where none stands in it, never with a user."""
    return url.netloc.rpartition(b"@")[2].decode("ascii", "replace")[:_SHOWN]


def peer_reach(response: httpx2.Response) -> Reach | None:
    """The reach of the address that has answered; behind a proxy that of a literal address, else public.

    None where the connection is gone already, and can no longer tell who was at its other end.
    """
    url = response.request.url
    if proxy_for(url) is not None:
        literal = _literal(url.raw_host.decode())
        return Reach.PUBLIC if literal is None else reach(literal)
    peer = response.extensions["network_stream"].get_extra_info("server_addr")
    return None if peer is None else reach(_parsed(peer[0]))


def check_peer(response: httpx2.Response, own: Reach) -> None:
    """Judges the address that has answered: raises ``RegistryError``, ``LineError`` where it is not known any more."""
    there = peer_reach(response)
    if there is None:
        raise LineError(f"the connection to {response.request.url.host} broke off")
    _judge(there, own, response.request.url)


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a host, by the system's resolver. Raises ``LineError`` where it knows none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LineError(f"the name {host} is not known: {reason}") from error
    return [str(entry[4][0]) for entry in found]


def check_redirect(target: httpx2.URL, source: httpx2.URL) -> None:
    """Judges the form of a redirect from ``source`` to ``target``; raises ``RegistryError``."""
    if target.scheme not in _PORTS or not target.host:
        raise _refused(target, "it is neither http nor https")
    if source.scheme == "https" and target.scheme != "https":
        raise _refused(target, "https must not become http")
    if target.userinfo:
        raise _refused(target, "it has a user name in it")


async def check_url(url: httpx2.URL, own: Reach, resolver: Resolver = resolve) -> None:
    """Judges the addresses of a URL to which a registry of reach ``own`` sends us.

    Raises ``RegistryError`` if it may not be asked for, ``LineError`` if its name does not resolve.
    """
    host = url.raw_host.decode()
    for address in await _addresses(host, origin_of(url).port, url, resolver):
        _judge(reach(address), own, url)


async def _addresses(host: str, port: int, url: httpx2.URL, resolver: Resolver) -> Sequence[Address]:
    if (literal := _literal(host)) is not None:
        return [literal]
    if proxy_for(url) is not None:
        return []
    return [_parsed(text) for text in await resolver(host, port)]


def _judge(there: Reach, own: Reach, url: httpx2.URL) -> None:
    """Raises ``RegistryError`` if an address of reach ``there`` is none for a registry of reach ``own``."""
    if there is Reach.FORBIDDEN:
        raise _refused(url, "no registry keeps anything at such an address")
    if there > own:
        raise _refused(url, f"its address is {there.name.lower()}, the registry's is {own.name.lower()}")


def _refused(url: httpx2.URL, why: str) -> RegistryError:
    return RegistryError(
        f"the registry redirects to {url.scheme[:16]}://{place_of(url)}, which is refused: {why}",
        hint="If this registry is to be trusted, ask for the model at the address that it redirects to.",
    )


def _literal(host: str) -> Address | None:
    """The address that a host is, in any spelling that the system's resolver takes: ``127.1``, ``0x7f000001``."""
    with suppress(ValueError):
        return _parsed(host)
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    if is_localhost(host):
        return ipaddress.IPv4Address("127.0.0.1")
    return None


def _parsed(text: str) -> Address:
    """An address less the name of a network interface (``fe80::1%eth0``)."""
    return ipaddress.ip_address(text.partition("%")[0])
