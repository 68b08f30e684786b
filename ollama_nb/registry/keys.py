"""Who we are at a registry: an ed25519 key pair in a folder of the user's, ``id_ed25519`` and ``id_ed25519.pub``.

The files are those of ``ssh-keygen -t ed25519`` (OpenSSH's PEM, no password), so that the public line can be
registered where a registry asks for it, and a key of Ollama's goes on being used. What is signed is left to ``auth``.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from ollama_nb.store.files import create_temporary, make_directory, write_whole
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["FILE_NAME", "KeyPair"]

log = logging.getLogger(__name__)

FILE_NAME: Final = "id_ed25519"

_FOLDER_MODE: Final = 0o700
_PRIVATE_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644
_PREFIX: Final = f".{FILE_NAME}-"
_MAX_FILE: Final = 64 * 1024
"""Bytes; a key of this kind has about 400."""


class KeyPair:
    """The key in ``folder``, which is made when it is first needed and not there. Blocks; safe in any thread.

    Everything raises ``OllamaError`` where the file is there and is no key that can be used, or cannot be made: no
    other key is taken instead, since what a registry grants it grants to this one.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._thread = threading.Lock()
        self._key: Ed25519PrivateKey | None = None

    def sign(self, text: bytes) -> str:
        """The key and its signature of ``text`` as registries read them: ``<base64 of the public key>:<base64>``.

        The first part is the second word of the public line (SSH's wire format, RFC 8709), the second 64 bytes.
        """
        key = self._loaded()
        return f"{_public_text(key).split()[1]}:{base64.b64encode(key.sign(text)).decode()}"

    @property
    def public_text(self) -> str:
        """The line of the ``.pub`` file: ``ssh-ed25519 <base64>``."""
        return _public_text(self._loaded())

    def _loaded(self) -> Ed25519PrivateKey:
        with self._thread:
            if self._key is None:
                self._key = self._read() or self._make()
                self._write_public(self._key)
            return self._key

    def _read(self) -> Ed25519PrivateKey | None:
        """The key that is there; None where no file is."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_FILE)
                is_open = os.name != "nt" and os.fstat(file.fileno()).st_mode & 0o077
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._useless(f"it cannot be read ({error.strerror})", "Make it a file that you may read") from error
        key = self._parsed(data)
        if is_open:
            log.warning("%s is open to other users, who can act in your name: chmod 600 %s", self.path, self.path)
        return key

    def _parsed(self, data: bytes) -> Ed25519PrivateKey:
        # Loaded here: a server that talks to no registry does without OpenSSL's other half.
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key  # noqa: PLC0415

        try:
            key = load_ssh_private_key(data, password=None)
        except TypeError as error:
            advice = f"Take the password away: ssh-keygen -p -N '' -f {self.path}"
            raise self._useless("it is protected by a password", advice) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise self._useless("it is no OpenSSH private key, or damaged") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise self._useless("it is a key of another kind than ed25519")
        return key

    def _useless(self, why: str, advice: str = "Put the right file there") -> OllamaError:
        return OllamaError(
            f"the key for registries, {self.path}, cannot be used: {why}",
            hint=f"{advice}, or move the file away: a new key is made then, which registries do not know yet.",
        )

    def _make(self) -> Ed25519PrivateKey:
        """A new key; of several processes that make one at once the first wins, and all use its."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

        key = Ed25519PrivateKey.generate()
        data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        make_directory(self.path.parent, _FOLDER_MODE)
        try:
            made = _put_first(self.path, data)
        except OSError as error:
            raise OllamaError(
                f"cannot make a key for registries, {self.path}: {error.strerror}",
                hint="Is the disk full, or the folder another user's?",
            ) from error
        if made:
            return key
        there = self._read()
        if there is None:
            raise self._useless("it comes and goes", "Have one program make it")
        return there

    def _write_public(self, key: Ed25519PrivateKey) -> None:
        """The public line beside the key, for people; nothing here reads it."""
        path = self.path.with_suffix(".pub")
        if path.exists():
            return
        try:
            write_whole(path, f"{_public_text(key)}\n".encode(), _PREFIX, _PUBLIC_MODE)
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error.strerror)


def _put_first(path: Path, data: bytes) -> bool:
    """Puts ``data`` at ``path`` in one step unless a file is there; whether it did. Raises ``OSError``."""
    descriptor, temporary = create_temporary(path.parent, _PREFIX, _PRIVATE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            _link(temporary, path)
            return True
        return False
    finally:
        temporary.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Gives a file a second name, if nothing has it; raises ``FileExistsError``."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (FAT, some network disks). The moment in which two could do this is short.
        if target.exists():
            raise FileExistsError(target) from None
        source.replace(target)


def _public_text(key: Ed25519PrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
