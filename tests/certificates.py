"""Certificates for tests, made by ``openssl`` on the spot: nothing that looks like a secret lies in the repository."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

_NAMES: Final = "DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate, for ``localhost`` and 127.0.0.1 if nothing else is asked for, and its key."""

    cert: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, name: str, *, password: str = "", names: str = _NAMES) -> Self:
        """Two files ``<name>.pem`` and ``<name>.key`` in ``folder``; the key has a password if one is given."""
        made = cls(folder / f"{name}.pem", folder / f"{name}.key")
        secret = ["-passout", f"pass:{password}"] if password else ["-nodes"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2",
             "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}",
             "-out", str(made.cert), "-keyout", str(made.key), *secret],
            check=True, capture_output=True,
        )  # fmt: skip
        return made
