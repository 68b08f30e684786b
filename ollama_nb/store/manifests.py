"""Manifests: which blobs make a model, in ``<models>/manifests/<host>/<namespace>/<model>/<tag>``.

The formats are Ollama's: a Docker manifest (schema 2) whose layers have media types of their own, and a config
blob that describes the weights. Digests are validated while decoding, so what comes out of here may be looked up.
Methods take names as they are spelled on the disk; ``resolve`` finds that spelling. Whether the blobs exist, and
what becomes of them, is for ``store/models.py``.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ollama_nb.store.files import StoreLock, is_settled, write_whole
from ollama_nb.store.gotext import go_json
from ollama_nb.wire.errors import BadRequestError, NotFoundError, OllamaError
from ollama_nb.wire.names import InvalidNameError, Name, parse_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "MAX_MANIFEST",
    "CorruptManifestError",
    "Layer",
    "Manifest",
    "ManifestStore",
    "MediaType",
    "ModelConfig",
    "RootFS",
    "StoredManifest",
    "decode_config",
    "decode_manifest",
    "encode_config",
    "encode_manifest",
]

logger = logging.getLogger(__name__)

MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes of a manifest; real ones have a few hundred."""

_TEMPORARY_PREFIX: Final = ".ollama_nb-"
_LEVELS: Final = 4
_IN_USE: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})


class MediaType:
    """The media types of manifests, configs and layers."""

    MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
    CONFIG: Final = "application/vnd.docker.container.image.v1+json"
    MODEL: Final = "application/vnd.ollama.image.model"
    PROJECTOR: Final = "application/vnd.ollama.image.projector"
    ADAPTER: Final = "application/vnd.ollama.image.adapter"
    TEMPLATE: Final = "application/vnd.ollama.image.template"
    PROMPT: Final = "application/vnd.ollama.image.prompt"
    """What templates were called at first."""
    SYSTEM: Final = "application/vnd.ollama.image.system"
    PARAMS: Final = "application/vnd.ollama.image.params"
    MESSAGES: Final = "application/vnd.ollama.image.messages"
    LICENSE: Final = "application/vnd.ollama.image.license"


class CorruptManifestError(OllamaError):
    """A manifest or a config that cannot be decoded; the text says why."""


class Layer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One blob of a model: what it is, its digest, its size in bytes, and the model it was taken over from."""

    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: int
    from_: str = msgspec.field(name="from", default="")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that belongs to a model: the config blob, and the layers in order."""

    schema_version: int = msgspec.field(name="schemaVersion", default=2)
    media_type: str = msgspec.field(name="mediaType", default=MediaType.MANIFEST)
    config: Layer
    layers: tuple[Layer, ...] = ()

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """The layers, and behind them the config."""
        return (*self.layers, self.config)

    @property
    def digests(self) -> frozenset[str]:
        """Every blob the model needs."""
        return frozenset(layer.digest for layer in self.all_layers)

    @property
    def size(self) -> int:
        """The sizes stated for all layers and the config, in bytes."""
        return sum(layer.size for layer in self.all_layers)


class RootFS(msgspec.Struct, frozen=True):
    """The layers once more, as Docker's config format wants them."""

    type: str = "layers"
    diff_ids: tuple[str, ...] | None = ()


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The config blob: what the weights are, in words for users.

    The fields up to ``rootfs`` are always written, the others (of newer Ollama versions) only where they say
    something. ``model_type`` is the number of parameters (``8.0B``), ``file_type`` the quantisation (``Q4_K_M``).
    """

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""
    file_type: str = ""
    architecture: str = "amd64"
    os: str = "linux"
    rootfs: RootFS | None = None
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: tuple[str, ...] | None = None
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""


class StoredManifest(NamedTuple):
    """A manifest as it lies on the disk: decoded, the bare hex SHA-256 of its file, and its age (ns, epoch)."""

    manifest: Manifest
    digest: str
    modified_ns: int


class _WireManifest(msgspec.Struct, rename="camel"):
    """A manifest as others may write it: Go has null for a list without items."""

    config: Layer
    layers: tuple[Layer, ...] | None = None
    schema_version: int = 2
    media_type: str = MediaType.MANIFEST


_manifest_decoder = msgspec.json.Decoder(_WireManifest)
_config_decoder = msgspec.json.Decoder(ModelConfig)
_REQUIRED_CONFIG: Final = ModelConfig.__struct_fields__.index("rootfs") + 1


def decode_manifest(data: bytes, *, strict: bool = False) -> Manifest:
    """The manifest in ``data``; raises ``CorruptManifestError``, ``BadRequestError`` for digests that are none.

    ``strict`` takes digests in their canonical form only, which is what registries have to write.
    """
    if len(data) > MAX_MANIFEST:
        raise CorruptManifestError(f"manifest is larger than {MAX_MANIFEST} bytes")
    try:
        wire = _manifest_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptManifestError(f"manifest cannot be read: {error}") from error
    return Manifest(
        schema_version=wire.schema_version,
        media_type=wire.media_type,
        config=_checked(wire.config, strict=strict),
        layers=tuple(_checked(layer, strict=strict) for layer in wire.layers or ()),
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of a manifest that is made here: compact JSON and a newline."""
    return go_json(msgspec.to_builtins(manifest), sort_keys=False)


def decode_config(data: bytes) -> ModelConfig:
    """The config in ``data``; fields that are missing or unknown do no harm. Raises ``CorruptManifestError``."""
    try:
        return _config_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptManifestError(f"model config cannot be read: {error}") from error


def encode_config(config: ModelConfig) -> bytes:
    """The bytes of a config blob, keys in Ollama's order."""
    fields = list(msgspec.to_builtins(config).items())
    kept = fields[:_REQUIRED_CONFIG] + [field for field in fields[_REQUIRED_CONFIG:] if field[1]]
    return go_json(dict(kept), sort_keys=False)


class ManifestStore:
    """The manifests below ``root``. Reading needs no lock; every change takes ``lock``."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "manifests"
        self.lock = StoreLock(root)
        self._reported: set[Path] = set()

    def path(self, name: Name) -> Path:
        """Where the manifest lies or would lie; a ``Name`` is valid, so this is always inside the store."""
        return self.directory.joinpath(*name.path_parts)

    def read(self, name: Name) -> StoredManifest:
        """The manifest of ``name``; raises ``NotFoundError``, ``CorruptManifestError``."""
        data, modified_ns = self._read_file(name)
        return StoredManifest(_decoded(name, data), hashlib.sha256(data).hexdigest(), modified_ns)

    def read_whole(self, name: Name) -> tuple[bytes, Manifest]:
        """The manifest of ``name`` as its bytes, and decoded; raises as ``read`` does."""
        data, _ = self._read_file(name)
        return data, _decoded(name, data)

    def exists(self, name: Name) -> bool:
        """Whether a manifest of exactly this spelling is here."""
        try:
            return self.path(name).is_file()
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise

    def write(self, name: Name, manifest: Manifest) -> None:
        """Puts the manifest in place in one step, replacing an older one."""
        self.write_bytes(name, encode_manifest(manifest))

    def write_bytes(self, name: Name, data: bytes) -> None:
        """Puts a manifest in place as it came from a registry; raises what ``decode_manifest`` raises."""
        decode_manifest(data)
        with self.lock:
            self._put(name, data)

    def copy(self, source: Name, destination: Name) -> None:
        """Copies a manifest byte by byte, over whatever is there; raises ``NotFoundError``."""
        with self.lock:
            data, _ = self._read_file(source, f'model "{source.short}" not found')
            if source != destination:
                self._put(destination, data)

    def delete(self, name: Name) -> None:
        """Removes a manifest and the folders that it leaves empty; raises ``NotFoundError``."""
        with self.lock:
            if not self.exists(name):
                raise _not_found(name)
            path = self.path(name)
            path.unlink()
            self._remove_empty(path.parent)

    def names(self) -> list[Name]:
        """Every name that has a manifest, sorted; files that are no manifests by their place are passed over."""
        return sorted(name for path in self._files() if (name := self._name_of(path)) is not None)

    def resolve(self, name: Name) -> Name:
        """``name`` in the spelling that is in use here, for names that differ by case only are one.

        An existing model wins; else each part on its own takes the spelling it has in any existing name.
        """
        if self.exists(name):
            return name
        names = self.names()
        for existing in names:
            if existing.is_same(name):
                return existing
        spellings: list[dict[str, str]] = [{}, {}, {}, {}]
        for existing in names:
            for spelling, part in zip(spellings, existing.path_parts, strict=True):
                spelling.setdefault(part.lower(), part)
                spelling[part] = part
        return Name(
            *(
                spelling.get(part, spelling.get(part.lower(), part))
                for spelling, part in zip(spellings, name.path_parts, strict=True)
            )
        )

    def sweep(self) -> None:
        """Removes what interrupted writes left behind, and folders without manifests."""
        with self.lock:
            for path in self._files():
                if path.name.startswith(_TEMPORARY_PREFIX) and is_settled(path.stat().st_mtime_ns):
                    path.unlink()
            for folders in self._folders()[:0:-1]:
                for folder in folders:
                    self._remove_empty(folder)

    def report_once(self, path: Path, reason: str) -> None:
        """Logs why a file is passed over, once: listings are frequent, and one line says it all."""
        if path not in self._reported:
            self._reported.add(path)
            logger.warning("%s: passed over: %s", path, reason)

    def _put(self, name: Name, data: bytes) -> None:
        try:
            write_whole(self.path(name), data, _TEMPORARY_PREFIX)
        except BaseException:
            self._remove_empty(self.path(name).parent)
            raise

    def _read_file(self, name: Name, message: str | None = None) -> tuple[bytes, int]:
        if not self.exists(name):
            raise _not_found(name, message)
        try:
            with self.path(name).open("rb") as file:
                return file.read(MAX_MANIFEST + 1), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError as error:
            raise _not_found(name, message) from error

    def _folders(self) -> list[list[Path]]:
        """The folders level by level: all manifests, hosts, namespaces, models."""
        levels = [[self.directory]]
        for _ in range(_LEVELS - 1):
            levels.append([path for folder in levels[-1] for path in self._children(folder) if path.is_dir()])
        return levels

    def _files(self) -> Iterator[Path]:
        """The files at the level of tags."""
        for folder in self._folders()[-1]:
            yield from (path for path in self._children(folder) if path.is_file())

    def _children(self, folder: Path) -> list[Path]:
        try:
            return sorted(folder.iterdir())
        except FileNotFoundError:
            return []  # never made, or removed by another process between two levels
        except PermissionError as error:
            self.report_once(folder, str(error))
            return []

    def _name_of(self, path: Path) -> Name | None:
        try:
            return Name(*path.relative_to(self.directory).parts)
        except InvalidNameError:
            if not path.name.startswith(_TEMPORARY_PREFIX):
                self.report_once(path, "not a model name")
            return None

    def _remove_empty(self, folder: Path) -> None:
        """Removes ``folder`` and its parents below the manifests as long as they are empty."""
        while self.directory in folder.parents:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass  # never made, or removed by another process; its parent may still be empty
            except OSError as error:
                if error.errno in _IN_USE:
                    return
                raise
            folder = folder.parent


def _checked(layer: Layer, *, strict: bool) -> Layer:
    digest = parse_digest(layer.digest)
    if strict and digest != layer.digest:
        raise BadRequestError("invalid digest format", hint=f"{layer.digest} should read {digest}.")
    if layer.size < 0:
        raise CorruptManifestError(f"layer {digest} has a negative size")
    return msgspec.structs.replace(layer, digest=digest)


def _decoded(name: Name, data: bytes) -> Manifest:
    """The manifest in a file's bytes; raises ``CorruptManifestError`` that tells which model is meant."""
    try:
        return decode_manifest(data)
    except (CorruptManifestError, BadRequestError) as error:
        raise CorruptManifestError(
            f"model '{name.short}': {error.message}", hint="Delete the model, or pull or create it again."
        ) from error


def _not_found(name: Name, message: str | None = None) -> NotFoundError:
    return NotFoundError(message or f"model '{name.short}' not found")
