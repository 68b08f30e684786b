"""The certificate by which the stand-alone port speaks TLS, and plain words for what can be wrong with it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ollama_nb.wire.errors import ConflictError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["server_context"]


def server_context(certfile: Path | None, keyfile: Path | None) -> ssl.SSLContext | None:
    """How to speak TLS, or None where no certificate is set. Raises ``ConflictError`` with what to do."""
    if certfile is None:
        if keyfile is not None:
            raise ConflictError(
                "OLLAMA_NB_KEYFILE is set and OLLAMA_NB_CERTFILE is not",
                hint="set both for TLS, or neither for plain HTTP",
            )
        return None
    for name, path in (("OLLAMA_NB_CERTFILE", certfile), ("OLLAMA_NB_KEYFILE", keyfile)):
        if path is not None:
            _check_readable(name, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The password keeps OpenSSL from asking for one on a terminal that may not be there.
        context.load_cert_chain(certfile, keyfile, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ConflictError(
            f"cannot speak TLS with OLLAMA_NB_CERTFILE={certfile} and "
            f"OLLAMA_NB_KEYFILE={keyfile or '(the same file)'}: {error}",
            hint="both must be PEM files, the key without a password and the one that the certificate was made for",
        ) from error
    return context


def _check_readable(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConflictError(
            f"cannot read {name}={path}: {error.strerror}", hint="name a PEM file that this user can read"
        ) from error
