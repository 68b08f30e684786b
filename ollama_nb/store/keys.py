"""The API keys of the stand-alone port: a small file of the user's, in which each key stands as a hash.

A key is 32 random bytes, so nobody can guess one and try it against its hash: a fast hash (SHA-256) is as safe here
as a slow one, which is for passwords that people choose, and it costs a request nothing. Who has to show a key is
left to ``server/edge``; the commands are in ``cli/keys``.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
from filelock import FileLock, Timeout

from ollama_nb.store.files import make_directory, write_whole
from ollama_nb.wire.errors import BadRequestError, ConflictError, NotFoundError, OllamaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["FILE_NAME", "PREFIX", "Key", "KeyFile", "new_key"]

PREFIX: Final = "onb-"
"""How a key begins, so that people and scanners for leaked secrets recognise one."""

FILE_NAME: Final = "ollama_nb_keys.json"

_RANDOM_BYTES: Final = 32
_ID_BYTES: Final = 4
_MAX_NAME: Final = 64
_MODE: Final = 0o600
_LOCK_TIMEOUT: Final = 10.0


def new_key() -> str:
    """The text of a key that nobody has yet."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key: its id, the name somebody gave it (or none), the hash (hex) and when it was made."""

    id: str
    name: str = ""
    sha256: str
    created: datetime


class _Content(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...]


class KeyFile:
    """The keys in ``folder``, and ``own``, which is known as long as this object lives and stands in no file.

    Reading needs no lock: the file is replaced whole.

    Every method raises ``OllamaError`` where the file cannot be read; that it is missing means that there are none.
    """

    def __init__(self, folder: Path, own: str | None = None) -> None:
        self.path = folder / FILE_NAME
        self._own = () if own is None else (_digest(own),)
        self._stamp: tuple[int, ...] | None = None
        self._keys: tuple[Key, ...] = ()

    def entries(self) -> Sequence[Key]:
        """The keys as they are now. Asks the disk for the file's times only, unless it has changed."""
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._keys = msgspec.json.decode(self.path.read_bytes(), type=_Content).keys
                self._stamp = stamp
        except FileNotFoundError:
            self._stamp, self._keys = None, ()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._stamp = None
            raise OllamaError(
                f"cannot read the API keys: {error}",
                hint=f"mend {self.path}, or remove it to begin without keys",
            ) from error
        return self._keys

    def known(self, key: str) -> bool:
        """Whether this is one of the keys; takes the same time however much of it is right."""
        digest = _digest(key)
        all_known = (*self._own, *(stored.sha256 for stored in self.entries()))
        return any([hmac.compare_digest(digest, known) for known in all_known])  # noqa: C419 - no early end

    def create(self, name: str = "") -> tuple[str, Key]:
        """Make a key: its text, which is kept nowhere, and what is kept of it.

        Raises ``BadRequestError`` for a name that cannot be, ``ConflictError`` for one that is taken.
        """
        if len(name) > _MAX_NAME or any(unicodedata.category(character).startswith("C") for character in name):
            raise BadRequestError(f"a key's name has at most {_MAX_NAME} characters, all of them printable")
        text = new_key()
        with self._changing() as keys:
            taken = {word for key in keys for word in (key.id, key.name)}
            if name and name in taken:
                raise ConflictError(
                    f'a key "{name}" exists', hint=f"take another name, or revoke it: key revoke {name}"
                )
            number = secrets.token_hex(_ID_BYTES)
            while number in taken or number == name:
                number = secrets.token_hex(_ID_BYTES)
            key = Key(id=number, name=name, sha256=_digest(text), created=datetime.now(UTC).replace(microsecond=0))
            self._write((*keys, key))
        return text, key

    def revoke(self, name_or_id: str) -> Key:
        """Remove a key, which nobody can then use any more. Raises ``NotFoundError``."""
        with self._changing() as keys:
            for key in keys:
                if name_or_id and name_or_id in (key.id, key.name):
                    self._write(tuple(other for other in keys if other is not key))
                    return key
        raise NotFoundError(f'no key "{name_or_id}"', hint="`ollama-nb key list` shows the names and ids")

    @contextmanager
    def _changing(self) -> Iterator[Sequence[Key]]:
        """The keys, while no other process can change them."""
        make_directory(self.path.parent)
        try:
            with FileLock(self.path.with_suffix(".lock"), timeout=_LOCK_TIMEOUT, mode=_MODE):
                yield self.entries()
        except Timeout as error:
            raise OllamaError("the API keys are being changed by another process", status=503) from error
        except OSError as error:
            raise OllamaError(f"cannot change the API keys: {error}") from error

    def _write(self, keys: tuple[Key, ...]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_Content(keys)), indent=2)
        write_whole(self.path, data + b"\n", f".{self.path.name}-", mode=_MODE)
        # The next look reads it anew, whatever the resolution of the file system's clock.
        self._stamp = None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
