"""The one HTTP client of all pulls and pushes: connections, proxies, certificates and patience.

It sends one request and hands over the answer as it stands: no redirect is followed, no cookie kept, nothing
unpacked. What a status means is left to ``client``, where a request may go to ``addresses``.

It stands on httpx2's transports and not on its client, which writes every URL into the log: those of blobs are signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import re
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Final

import httpx2

from ollama_nb import __version__
from ollama_nb.registry.addresses import place_of
from ollama_nb.registry.proxies import proxy_for
from ollama_nb.registry.source import LineError, Patience
from ollama_nb.wire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping

__all__ = ["OFFLINE", "SPOKEN_VERSION", "Transport", "line_errors", "reason_of", "user_agent"]

# What it tells at DEBUG has the headers of answers in it: where blobs are kept, with signatures, and cookies.
logging.getLogger("httpcore2").setLevel(logging.INFO)

SPOKEN_VERSION: Final = "0.10.0"
"""The Ollama whose protocol and files are understood here. Registries read it, and refuse models that need a newer
one (412), with a text that tells the user so."""

_LIMITS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30.0)
"""How many run at once is the business of those who ask."""

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "i386": "386"}
_SYSTEMS: Final = {"win32": "windows", "darwin": "darwin"}
_REFUSED: Final = re.compile(r"4(?!08|29)\d\d\b")
"""How a proxy's answer begins that will be the same next time: a status, but for those that ask to wait."""

_PLAIN_ANSWERS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
"""What OpenSSL calls an answer that is no TLS at all; it depends on the first bytes which one."""

OFFLINE: Final = "Is the server online? Where a proxy is needed, start it with HTTPS_PROXY."


def user_agent() -> str:
    """How we introduce ourselves, in Ollama's form: ``ollama/<version> (<machine> <system>) <language>/<version>``."""
    machine = platform.machine().lower()
    system = _SYSTEMS.get(sys.platform, sys.platform)
    language = f"Python/{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"ollama/{SPOKEN_VERSION} ({_ARCHITECTURES.get(machine, machine)} {system}) {language} ollama_nb/{__version__}"
    )


class Transport:
    """Connections to any number of hosts, each through the proxy that the environment names for it, if any.

    Certificates are judged by the system's store, or by SSL_CERT_FILE and SSL_CERT_DIR.
    """

    def __init__(self, patience: Patience = Patience()) -> None:  # noqa: B008 - a frozen value
        self.patience = patience
        self._context: ssl.SSLContext | None = None
        self._building = asyncio.Lock()
        self._lines: dict[str | None, httpx2.AsyncHTTPTransport] = {}
        self._agent = user_agent()

    @contextlib.asynccontextmanager
    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - how long it may stand still, not how long it may take
    ) -> AsyncIterator[httpx2.Response]:
        """The answer to one request; its body is there to be read while the block lasts (``aiter_raw``).

        ``timeout``: seconds that the other side may be silent, where ``Patience.stall`` is not right. Raises
        ``LineError`` for what may be over soon, inside of the block too, ``RegistryError`` for what will not.
        """
        stall = timeout or self.patience.stall
        target = httpx2.URL(url)
        request = httpx2.Request(
            method,
            target,
            headers={"User-Agent": self._agent, "Accept-Encoding": "identity", **(headers or {})},
            content=content,
            extensions={"timeout": {"connect": self.patience.connect, "read": stall, "write": stall, "pool": None}},
        )
        line = await self._line(proxy_for(target))
        with line_errors(target):
            try:
                # Heads that drip, or one "100 Continue" after another, are no silence; but for a body that is on its
                # way to the other side nothing should take so long.
                async with asyncio.timeout(None if content else 2 * self.patience.connect + stall):
                    response = await line.handle_async_request(request)
            except TimeoutError as error:
                raise LineError(f"{place_of(target)} does not come to the point of its answer") from error
            response.request = request
            async with contextlib.aclosing(response):
                _refuse_packed(response)
                yield response

    async def aclose(self) -> None:
        """Give back the connections."""
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            await line.aclose()

    async def _line(self, proxy: str | None) -> httpx2.AsyncHTTPTransport:
        async with self._building:
            if proxy not in self._lines:
                self._lines[proxy] = await self._open(proxy)
            return self._lines[proxy]

    async def _open(self, proxy: str | None) -> httpx2.AsyncHTTPTransport:
        if self._context is None:
            try:
                # Reads all certificates of the system, which takes a tenth of a second.
                self._context = await asyncio.to_thread(httpx2.create_ssl_context)
            except OSError as error:
                raise RegistryError(
                    f"cannot read the certificates of SSL_CERT_FILE or SSL_CERT_DIR: {error}"
                ) from error
        try:
            return httpx2.AsyncHTTPTransport(verify=self._context, trust_env=False, limits=_LIMITS, proxy=proxy)
        except ImportError as error:
            raise RegistryError(
                "the environment names a SOCKS proxy, for which the package socksio is missing",
                hint="pip install socksio, and start the server again.",
            ) from error
        except (ValueError, httpx2.InvalidURL) as error:
            raise RegistryError(
                f"the proxy that the environment names cannot be used: {error}",
                hint="HTTPS_PROXY and ALL_PROXY are written http://host:port.",
            ) from error


@contextlib.contextmanager
def line_errors(url: httpx2.URL) -> Iterator[None]:
    """Raises what httpx2 raises as ``LineError`` with a text for users, as ``RegistryError`` if it will not pass."""
    try:
        yield
    except httpx2.TransportError as error:
        raise _told(error, url) from error


def reason_of(error: Exception) -> str:
    """Why a request failed, in the system's own words where it has some."""
    system = _system_error(error)
    if system is None:
        return str(error) or type(error).__name__
    # asyncio puts an address there, which says less than the number.
    is_asyncios = system.strerror and system.strerror.startswith("Connect call failed")
    return os.strerror(system.errno) if is_asyncios and system.errno else str(system.strerror)


def _told(error: httpx2.TransportError, url: httpx2.URL) -> LineError | RegistryError:
    host = place_of(url)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RegistryError(
                f"the certificate of {url.host} is not trusted: {cause.verify_message or cause}",
                hint="If it is to be trusted, add its authority to the system's certificates, or name a file with it "
                "in SSL_CERT_FILE, and start the server again.",
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in _PLAIN_ANSWERS:
            return RegistryError(
                f"{host} does not speak https",
                hint='If it is meant to speak plain http, ask for it: "insecure": true, or --insecure.',
            )
    if isinstance(error, httpx2.ProxyError) and _REFUSED.match(str(error)):
        return RegistryError(
            f"the proxy does not lead to {host}: {error}",
            hint="HTTPS_PROXY and ALL_PROXY name it, with user and password; NO_PROXY names what is asked directly.",
        )
    return _line_error(error, url.host, host)


def _line_error(error: httpx2.TransportError, name: str, host: str) -> LineError:
    reason = reason_of(error)
    match error:
        case httpx2.ConnectError() if isinstance(_system_error(error), socket.gaierror):
            return LineError(f"the name {name} is not known: {reason}", hint=OFFLINE)
        case httpx2.ConnectTimeout():
            return LineError(f"{host} cannot be reached: it does not answer", hint=OFFLINE)
        case httpx2.ConnectError():
            return LineError(f"{host} cannot be reached: {reason}")
        case httpx2.ProxyError():
            return LineError(f"the proxy does not lead to {host}: {reason}")
        case httpx2.TimeoutException():
            return LineError(f"{host} has been silent for too long")
    return LineError(f"the connection to {host} broke off: {reason}")


def _system_error(error: Exception) -> OSError | None:
    """What the system has said, if that is how it began."""
    causes = reversed(list(_causes(error)))
    return next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                yield from _causes(member)
        error = error.__cause__ or error.__context__


def _refuse_packed(response: httpx2.Response) -> None:
    # We ask for plain bytes: hashes and sizes are of those, and a few packed ones can become any number.
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RegistryError(f"{response.request.url.host} answers packed ({encoding[:20]!r}) although it must not")
