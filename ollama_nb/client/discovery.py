"""Where the server is: how a client finds it, and how a server lets itself be found.

A server announces itself by a file in Jupyter's runtime folder, ``ollama_nb-<pid>.json``, which only its user can
read: with the address it leaves a key there, so that notebooks need none when the user has made keys for others.
A client looks, in this order, at what it was told, ``OLLAMA_HOST``, what the Jupyter extension left in the
environment, those files, and Ollama's own address. Starting a server where none is found is left to ``local``.
"""

from __future__ import annotations

import ipaddress
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2
import psutil
from jupyter_core.paths import jupyter_runtime_dir

from ollama_nb import __version__
from ollama_nb.wire.errors import ServerUnreachableError
from ollama_nb.wire.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "ADDRESS_VARIABLE",
    "NoServerError",
    "Server",
    "announce",
    "announced_by",
    "connection_settings",
    "find_server",
    "is_loopback",
    "probe",
    "withdraw",
]

ADDRESS_VARIABLE: Final = "OLLAMA_NB_ADDRESS"
"""The variable by which a Jupyter server tells its kernels where it answers."""

LIVENESS: Final = "Ollama is running"
"""What ``GET /`` says, here and at every Ollama."""

PROBE_TIMEOUT: Final = 2.0
"""Seconds that a server has for saying that it is there."""

_DEFAULT: Final = Host().client_url
_HINT: Final = "Start a server with `ollama-nb serve`, or say where one is: OLLAMA_HOST=host:port."


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: its address, where the address came from, and the token to send, if any."""

    url: str
    source: str
    token: str | None = field(default=None, repr=False)  # a notebook that shows this keeps what it shows


class NoServerError(ServerUnreachableError):
    """Nobody named a server, and none was found in the usual places."""


def find_server(
    explicit: str | None = None, environ: Mapping[str, str] | None = None, *, token: str | None = None
) -> Server:
    """The first server that answers.

    ``explicit`` and ``OLLAMA_HOST`` are orders: if nothing answers there the search ends with
    ``ServerUnreachableError``. Without them, and without a server in the usual places, it is ``NoServerError``.
    Both list what was tried. A token comes from ``?token=`` in an address as Jupyter prints it, from the argument,
    from the server's own announcement, or from ``OLLAMA_API_KEY``.
    """
    environ = os.environ if environ is None else environ
    key = _Key(token or None, environ.get("OLLAMA_API_KEY") or None)
    for text, source in ((explicit, "the address given"), (environ.get("OLLAMA_HOST"), "OLLAMA_HOST")):
        if address := _trimmed(text):
            server = _ordered(address, source, key)
            if reason := probe(server.url, server.token):
                raise ServerUnreachableError(f"no server answers at {server.url} ({source}): {reason}", hint=_HINT)
            return server
    tried: list[str] = []
    for server in _usual_places(environ, key, tried):
        reason = probe(server.url, server.token)
        if reason is None:
            return server
        tried.append(f"{server.url} ({server.source}): {reason}")
    raise NoServerError("\n  ".join(("no server found; tried:", *tried)), hint=_HINT)


def probe(url: str, token: str | None = None) -> str | None:
    """Why there is no server at ``url``, or ``None`` if there is one."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        reply = httpx2.get(f"{url}/", headers=headers, timeout=PROBE_TIMEOUT, **connection_settings(url))
    except httpx2.TimeoutException:
        return f"no answer within {PROBE_TIMEOUT:g} s"
    except (httpx2.TransportError, httpx2.InvalidURL) as exc:
        reason = str(exc) or type(exc).__name__
        untrusted = "CERTIFICATE_VERIFY_FAILED" in reason
        return f"{reason}; if its certificate is to be trusted, name it in SSL_CERT_FILE" if untrusted else reason
    except OSError as exc:  # of the files named in the environment
        return f"cannot read the certificates of SSL_CERT_FILE or SSL_CERT_DIR: {exc}"
    if reply.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or reply.is_redirect:
        return "it asks for a login; give its token"
    if reply.status_code != HTTPStatus.OK or not reply.text.startswith(LIVENESS):
        return "something else answers there, not Ollama"
    return None


def announce(url: str, token: str | None = None) -> Path:
    """Write this process's runtime file, so that clients of the same user find the server at ``url``.

    ``token`` is what they may show there; only that user can read the file.
    """
    folder = Path(jupyter_runtime_dir())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _runtime_file(os.getpid())
    started = datetime.now(UTC).isoformat()
    value = {"url": url.rstrip("/"), "pid": os.getpid(), "version": __version__, "started": started}
    text = json.dumps(value if token is None else value | {"token": token})
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
    return path


def withdraw(path: Path) -> None:
    """Remove a runtime file; one that is gone already is no error."""
    path.unlink(missing_ok=True)


def announced_by(pid: int) -> str | None:
    """The address that process ``pid`` has announced, if it has."""
    try:
        return _read_runtime_file(_runtime_file(pid)).url
    except (OSError, ValueError):
        return None


def connection_settings(url: str) -> dict[str, Any]:
    """How the HTTP client goes to ``url``: a proxy is never asked for a loopback address.

    The certificates of SSL_CERT_FILE and SSL_CERT_DIR hold everywhere. Raises ``OSError`` where they cannot be read.
    """
    if not is_loopback(url):
        return {"trust_env": True}
    if urlsplit(url).scheme != "https":
        return {"trust_env": False}
    return {"trust_env": False, "verify": httpx2.create_ssl_context(trust_env=True)}


def is_loopback(url: str) -> bool:
    """Whether ``url`` points to this machine itself, which no proxy can stand between."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@dataclass(frozen=True, slots=True)
class _Key:
    """What may be shown to a server: what the caller gave, or what the environment has for whoever asks."""

    given: str | None
    standing: str | None


@dataclass(frozen=True, slots=True)
class _Announcement:
    """What a runtime file says."""

    url: str
    pid: int
    token: str | None


def _ordered(text: str, source: str, key: _Key) -> Server:
    """The server that somebody has named, in the form of ``OLLAMA_HOST`` or as a URL with a token."""
    address, _, query = text.partition("?")
    try:
        url = Host.parse(address).client_url
    except ValueError as exc:
        raise ServerUnreachableError(f"{source} is no address: {exc}", hint=_HINT) from exc
    token = parse_qs(query).get("token", [None])[0]
    return Server(url, source, token or key.given or _announced_token(url) or key.standing)


def _usual_places(environ: Mapping[str, str], key: _Key, tried: list[str]) -> Iterator[Server]:
    """Where servers are when nobody says; what cannot even be asked is noted in ``tried``."""
    if address := _trimmed(environ.get(ADDRESS_VARIABLE)):
        yield _ordered(address, ADDRESS_VARIABLE, key)
    for path in _runtime_files():
        try:
            found = _read_runtime_file(path)
        except (OSError, ValueError) as exc:
            tried.append(f"{path}: cannot be read ({exc})")
            continue
        source = f"announced by process {found.pid}"
        if psutil.pid_exists(found.pid):
            yield Server(found.url, source, key.given or found.token or key.standing)
        else:
            tried.append(f"{found.url} ({source}): that process has ended")
    # Anybody on this machine may listen on a well-known port, so the key is not shown there.
    yield Server(_DEFAULT, "Ollama's own address")


def _runtime_file(pid: int) -> Path:
    return Path(jupyter_runtime_dir(), f"ollama_nb-{pid}.json")


def _runtime_files() -> list[Path]:
    """The announcements, the newest first; one that vanishes meanwhile is left out."""
    dated: list[tuple[float, Path]] = []
    for path in Path(jupyter_runtime_dir()).glob("ollama_nb-*.json"):
        with suppress(FileNotFoundError):
            dated.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(dated, reverse=True)]


def _announced_token(url: str) -> str | None:
    """The key that a server of this user has left for its user's programs, if one runs at ``url``."""
    for path in _runtime_files():
        with suppress(OSError, ValueError):
            found = _read_runtime_file(path)
            if found.url == url and psutil.pid_exists(found.pid):
                return found.token
    return None


def _read_runtime_file(path: Path) -> _Announcement:
    """An announcement; raises ``OSError``, or ``ValueError`` if it is none."""
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict) or not isinstance(value.get("pid"), int) or not isinstance(value.get("url"), str):
        raise ValueError("not an announcement")  # noqa: TRY004 - the file's content is wrong, not a caller's type
    if urlsplit(value["url"]).scheme not in ("http", "https"):
        raise ValueError("its address is none")
    token = value.get("token")
    return _Announcement(value["url"].rstrip("/"), value["pid"], token if isinstance(token, str) else None)


def _trimmed(text: str | None) -> str:
    """Blanks, then quotes, do not count; nothing means not given."""
    return (text or "").strip().strip("\"'")
