"""Which proxy the environment names for a URL: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case.

On macOS and Windows the system's own settings hold where the environment says nothing. This machine itself is never
asked for through a proxy, as in Go's programs.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    import httpx2

__all__ = ["is_localhost", "proxy_for"]


def proxy_for(url: httpx2.URL) -> str | None:
    """The URL of the proxy through which ``url`` is asked for, None where it is asked for directly."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or _is_this_machine(url.host) or _is_exempt(url, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_localhost(host: str) -> bool:
    """Whether a name means this machine wherever it is resolved (RFC 6761, 6.3)."""
    return f".{host.lower().rstrip('.')}".endswith(".localhost")


def _is_this_machine(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return is_localhost(host)


def _is_exempt(url: httpx2.URL, exempt: str) -> bool:
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    if proxy_bypass(url.host) or proxy_bypass(f"{url.host}:{port}"):
        return True
    # Networks (10.0.0.0/8), which the standard library does not know.
    with suppress(ValueError):
        address = ipaddress.ip_address(url.host)
        return any(address in network for network in _networks(exempt))
    return False


def _networks(exempt: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks = []
    for word in exempt.split(","):
        with suppress(ValueError):
            networks.append(ipaddress.ip_network(word.strip().strip("[]"), strict=False))
    return networks
