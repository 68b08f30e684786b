"""Who may talk to the stand-alone port: the checks of Origin and Host, as Ollama makes them, and of API keys.

A web page can send requests to loopback. Its Origin header gives it away, unless it has rebound its own name to
127.0.0.1, and then its Host header does. Pure decisions: a request's head goes in, a ``Verdict`` comes out, and
``server/base.ListenerBase`` carries it out. The keys themselves are kept by ``store/keys``.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import psutil

from ollama_nb.wire.errors import ConflictError, OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "DEFAULT_ORIGINS",
    "Edge",
    "KeyMissingError",
    "Keys",
    "Verdict",
    "check_origins",
    "host_allowed",
    "origin_allowed",
]

log = logging.getLogger(__name__)

_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - an origin, not an address to bind
DEFAULT_ORIGINS: Final = (
    *(f"{scheme}://{name}{port}" for name in _LOCAL_NAMES for scheme in ("http", "https") for port in ("", ":*")),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_SCHEMES: Final = (
    "http://", "https://", "chrome-extension://", "safari-extension://", "moz-extension://", "ms-browser-extension://",
)  # fmt: skip
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
_HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
"""A Host header: name or address, in brackets where it has colons, and a port."""


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


def check_origins(entries: Iterable[str]) -> None:
    """Raises ``ConflictError`` for an entry of OLLAMA_ORIGINS that is no origin, as Ollama does."""
    for entry in entries:
        if entry.count("*") > 1:
            raise ConflictError(f'bad origin "{entry}" in OLLAMA_ORIGINS: only one * is allowed', hint=_ORIGINS_HINT)
        if "*" not in entry and not entry.lower().startswith(_SCHEMES):
            schemes = ", ".join(_SCHEMES)
            raise ConflictError(
                f"bad origin \"{entry}\" in OLLAMA_ORIGINS: origins must contain '*' or include {schemes}",
                hint=_ORIGINS_HINT,
            )


_ORIGINS_HINT: Final = "write origins as https://example.com or https://*.example.com, separated by commas"


def host_allowed(host: str, own_addresses: Callable[[], Iterable[str]]) -> bool:
    """Whether a Host header names this machine: the defence against DNS rebinding.

    ``own_addresses`` is asked for only where an address is neither loopback nor private.
    """
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts[1].lower()
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name in ("", "localhost", socket.gethostname().lower()) or name.endswith(_LOCAL_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_unspecified or str(address) in own_addresses()


def _own_addresses() -> frozenset[str]:
    return frozenset(entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries)


class KeyMissingError(OllamaError):
    """No key was shown, or none of the right ones: 401. ``code`` is OpenAI's word for it."""

    status = HTTPStatus.UNAUTHORIZED
    code = "invalid_api_key"


class Keys(Protocol):
    """The API keys as the door needs them; reading them may raise ``OllamaError``."""

    def entries(self) -> Sequence[object]:
        """All that there are."""

    def known(self, key: str) -> bool:
        """Whether this text is one of them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the door says: without a status the request goes on; else it ends with it, and with ``error`` if any."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    error: OllamaError | None = None


class Edge:
    """The policy of one listener.

    ``loopback`` tells whether it is bound to loopback only; ``keys_always`` that a key is asked for even when the
    last one has been revoked. Raises ``ConflictError`` for a bad entry of ``origins``.
    """

    def __init__(
        self, origins: Sequence[str], *, loopback: bool, keys: Keys | None = None, keys_always: bool = False
    ) -> None:
        check_origins(origins)
        self._origins = (*origins, *DEFAULT_ORIGINS)
        self._loopback = loopback
        self._keys = keys
        self._keys_always = keys_always

    def judge(self, method: str, path: str, host: str, headers: Mapping[str, str]) -> Verdict:
        """Whether a request may go on; ``headers`` are found in any spelling of their names.

        Preflights are answered here. Who is refused for Origin or Host is told nothing; who lacks a key is told so,
        and a page that may call can read it.
        """
        origin, granted = headers.get("Origin"), {}
        if origin and origin not in (f"http://{host}", f"https://{host}"):
            if not origin_allowed(origin, self._origins):
                return Verdict(HTTPStatus.FORBIDDEN)
            granted = self._grants(origin, preflight=method == "OPTIONS")
        if self._loopback and not host_allowed(host, _own_addresses):
            return Verdict(HTTPStatus.FORBIDDEN)
        if method == "OPTIONS":
            return Verdict(HTTPStatus.NO_CONTENT, granted)
        if path == "/" and method in ("GET", "HEAD"):
            return Verdict(headers=granted)
        try:
            self._check_key(headers)
        except OllamaError as error:
            challenge = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else {}
            return Verdict(error.status, granted | challenge, error)
        return Verdict(headers=granted)

    def _grants(self, origin: str, *, preflight: bool) -> dict[str, str]:
        """The CORS headers for a page that may call."""
        everyone = "*" in self._origins
        granted = {"Access-Control-Allow-Origin": "*" if everyone else origin}
        vary = "Origin"
        if preflight:
            granted |= {
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": _HEADERS,
                "Access-Control-Max-Age": _MAX_AGE,
            }
            vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        return granted if everyone else granted | {"Vary": vary}

    def _check_key(self, headers: Mapping[str, str]) -> None:
        """Raises ``OllamaError``: 401 where a key is asked for and none of the right ones is shown."""
        shown = _shown_keys(headers)
        try:
            if self._keys is None or not (self._keys_always or self._keys.entries()):
                return
            if any(self._keys.known(key) for key in shown):
                return
        except OllamaError as error:
            # Nobody has shown a key yet: where the file is, and what is wrong with it, is for its owner to read.
            log.error("%s; %s", error.message, error.hint)  # noqa: TRY400 - one clear line
            raise OllamaError("cannot read the API keys", hint="the server's log says why") from error
        raise KeyMissingError(
            "the API key is not one of this server's" if shown else "this server asks for an API key",
            hint="send it as `Authorization: Bearer KEY`; clients take it from OLLAMA_API_KEY. "
            "`ollama-nb key create` makes one where the server runs.",
        )


def _shown_keys(headers: Mapping[str, str]) -> list[str]:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return [key for key in (bearer, headers.get("X-Api-Key", "").strip()) if key]
