"""Models: manifests and blobs taken together, and the rules by which blobs come and go.

A model is what its manifest lists; a blob stays while any manifest refers to it. Every method finds the spelling
of a name by itself, and every change holds the store's lock, so two processes may work on one store. How a new
model is put together stands in ``store/drafts.py``; the server's texts for names that are missing, in its routes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from ollama_nb.store.blobs import BlobStore
from ollama_nb.store.files import make_directory
from ollama_nb.store.holds import Holds
from ollama_nb.store.manifests import (
    CorruptManifestError,
    Layer,
    Manifest,
    ManifestStore,
    MediaType,
    ModelConfig,
    StoredManifest,
    decode_config,
    decode_manifest,
    encode_config,
    encode_manifest,
)
from ollama_nb.store.session import Session
from ollama_nb.wire.errors import NotFoundError, OllamaError

if TYPE_CHECKING:
    from pathlib import Path

    from ollama_nb.store.drafts import ModelDraft
    from ollama_nb.wire.names import Name

__all__ = ["ModelEntry", "ModelStore", "Report", "StoredModel"]

logger = logging.getLogger(__name__)

Report: TypeAlias = Callable[[str], None]
"""Takes the status lines of a long operation, one by one."""

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A line of the list of models: age in ns since the epoch, size in bytes, digest as bare hex."""

    name: Name
    modified_ns: int
    size: int
    digest: str
    config: ModelConfig


_Entries: TypeAlias = list[ModelEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model, read: paths of its weights and the content of everything else.

    ``digest`` is bare hex, ``modified_ns`` ns since the epoch, ``size`` bytes. ``template`` and ``system`` are
    None where the model has none; ``messages`` are ``{"role": ..., "content": ...}``.
    """

    name: Name
    manifest: Manifest
    digest: str
    modified_ns: int
    size: int
    config: ModelConfig
    model_path: Path | None
    projector_paths: tuple[Path, ...]
    adapter_paths: tuple[Path, ...]
    template: str | None
    system: str | None
    params: dict[str, object]
    messages: list[dict[str, str]]
    licenses: list[str]


class _Message(msgspec.Struct):
    role: str = ""
    content: str = ""


_params_decoder = msgspec.json.Decoder(dict[str, object] | None)
_messages_decoder = msgspec.json.Decoder(list[_Message] | None)


class ModelStore:
    """The models below ``root``, ``~/.ollama/models`` or a folder like it.

    ``noprune`` keeps blobs that no model needs: at the start and when a model is replaced, not when one is deleted.
    All methods block on the disk.
    """

    def __init__(self, root: Path, *, noprune: bool = False) -> None:
        self.root = root
        self.noprune = noprune
        self.manifests = ManifestStore(root)
        self._session = Session(root, self.manifests.lock)
        self.blobs = BlobStore(root, self._session)
        self._holds = Holds()

    def open(self) -> None:
        """Prepares the store at start: folders, blobs with names of old versions, pruning.

        A store that can only be read is left as it is. Raises ``OllamaError`` where the folders cannot be made.
        """
        folders = (self.root, self.blobs.directory, self.manifests.directory)
        if self.root.is_dir() and not all(os.access(folder, os.W_OK) for folder in folders if folder.exists()):
            logger.info("%s can only be read: models can be used but not changed", self.root)
            return
        with self.manifests.lock:
            make_directory(self.blobs.directory)
            make_directory(self.manifests.directory)
            self.blobs.rename_old_names()
        self.prune()

    def close(self) -> None:
        """Ends this process's claim on blobs that no model needs."""
        self._session.close()

    def list(self) -> _Entries:
        """All models, newest first (in whole seconds, then by name); what cannot be read is passed over."""
        entries = []
        for name in self.manifests.names():
            try:
                stored = self.manifests.read(name)
                config = decode_config(self.blobs.read(stored.manifest.config.digest))
            except OllamaError as error:
                self.manifests.report_once(self.manifests.path(name), error.message)
                continue
            entries.append(ModelEntry(name, stored.modified_ns, stored.manifest.size, stored.digest, config))
        return sorted(entries, key=lambda entry: -(entry.modified_ns // _NS))

    def get(self, name: Name) -> StoredModel:
        """The model; raises ``NotFoundError`` if it or one of its blobs is missing, ``OllamaError`` if unreadable."""
        name = self.manifests.resolve(name)
        stored = self.manifests.read(name)
        try:
            return self._load(name, stored)
        except (NotFoundError, CorruptManifestError) as error:
            raise type(error)(
                f"model '{name.short}': {error.message}", hint="Pull or create the model again."
            ) from error

    def copy(self, source: Name, destination: Name) -> None:
        """Gives a model a second name, over whatever has that name; raises ``NotFoundError``."""
        with self.manifests.lock:
            destination = self.manifests.resolve(destination)
            replaced = self._digests_of(destination)
            self.manifests.copy(self.manifests.resolve(source), destination)
            self._remove_replaced(replaced)

    def delete(self, name: Name) -> None:
        """Removes a model and the blobs that no other model needs; raises ``NotFoundError``."""
        with self.manifests.lock:
            name = self.manifests.resolve(name)
            digests = self._digests_of(name)
            self.manifests.delete(name)
            self._remove_unused(digests)

    def create(self, name: Name, draft: ModelDraft, report: Report) -> Name:
        """Makes a model out of a draft; the name as it is spelled in the store.

        Reports a line per layer and ``writing manifest``; the manifest is written last, in one step.
        """
        # One lock for both steps: a layer found here must not go with another model before the manifest names it.
        with self.manifests.lock:
            layers, config = draft.write(self.blobs, report)
            report("writing manifest")
            return self.write_model(name, layers, config)

    def write_model(self, name: Name, layers: Sequence[Layer], config: ModelConfig) -> Name:
        """Makes a model out of blobs that are here; raises ``NotFoundError`` when one is not."""
        digest, size, _ = self.blobs.put(encode_config(config))
        manifest = Manifest(config=Layer(MediaType.CONFIG, digest, size), layers=tuple(layers))
        return self.put_manifest(name, encode_manifest(manifest))

    def put_manifest(self, name: Name, data: bytes, report: Report | None = None) -> Name:
        """Makes or replaces a model by its manifest's bytes, whose blobs must be here.

        Layers that only the replaced manifest needed are removed, after ``removing unused layers`` is reported.
        Raises ``NotFoundError`` when a blob is missing, and what ``decode_manifest`` raises.
        """
        manifest = decode_manifest(data)
        with self.manifests.lock:
            name = self.manifests.resolve(name)
            for layer in manifest.all_layers:
                if not self.blobs.exists(layer.digest):
                    raise NotFoundError(f'blob "{layer.digest}" not found', hint="It was removed meanwhile: try again.")
            replaced = self._digests_of(name)
            self.manifests.write_bytes(name, data)
            self._remove_replaced(replaced, report)
        return name

    def prune(self) -> None:
        """Removes what no model needs, unless ``noprune``; for the start of the server.

        Nothing is removed while a manifest cannot be read, for nobody knows what it needs. Resumable downloads
        and files changed within the last hour stay, but not those of a process of ours that is dead.
        """
        if self.noprune:
            return
        with self.manifests.lock:
            try:
                referenced = self._referenced(strict=True)
            except CorruptManifestError as error:
                logger.warning("blobs are not pruned: %s", error.message)
                return
            abandoned, claimed = self._session.sort_out()
            removed = self.blobs.sweep(referenced, abandoned=abandoned, claimed=claimed)
            self.manifests.sweep()
        if removed:
            logger.info("pruned %d files that no model needs", len(removed))

    def discard(self, digests: Collection[str]) -> None:
        """Removes blobs that turned out to be worthless, if only this process listed them and no model needs them."""
        if digests:
            with self.manifests.lock:
                claimed = self._session.claimed()
                ours = [digest for digest in digests if self.blobs.is_ours(digest)]
                self._remove_unused([digest for digest in ours if self.blobs.path(digest).name not in claimed])

    def hold(self, digests: Collection[str]) -> None:
        """Keeps blobs that a model is being made of, until they are released as often as they were held."""
        self._holds.take(digests)

    def release(self, digests: Collection[str]) -> None:
        """Lets go of blobs that were held; those that were to be removed meanwhile are removed now."""
        if unwanted := self._holds.give_back(digests):
            with self.manifests.lock:
                self._remove_unused(unwanted)

    def _load(self, name: Name, stored: StoredManifest) -> StoredModel:
        of_type: dict[str, list[Layer]] = {}
        for layer in stored.manifest.layers:
            kind = MediaType.TEMPLATE if layer.media_type == MediaType.PROMPT else layer.media_type
            of_type.setdefault(kind, []).append(layer)

        def paths(kind: str) -> tuple[Path, ...]:
            layers = of_type.get(kind, ())
            for layer in layers:
                self.blobs.size(layer.digest)
            return tuple(self.blobs.path(layer.digest) for layer in layers)

        def texts(kind: str) -> Sequence[bytes]:
            return [self.blobs.read(layer.digest) for layer in of_type.get(kind, ())]

        def last_text(kind: str) -> str | None:
            found = texts(kind)
            return found[-1].decode(errors="replace") if found else None

        models = paths(MediaType.MODEL)
        params: dict[str, object] = {}
        messages: Sequence[_Message] = ()
        try:
            for data in texts(MediaType.PARAMS):
                params.update(_params_decoder.decode(data) or {})
            for data in texts(MediaType.MESSAGES):
                messages = _messages_decoder.decode(data) or ()
        except (msgspec.DecodeError, RecursionError) as error:
            raise CorruptManifestError(f"parameters or messages cannot be read: {error}") from error
        return StoredModel(
            name=name,
            manifest=stored.manifest,
            digest=stored.digest,
            modified_ns=stored.modified_ns,
            size=stored.manifest.size,
            config=decode_config(self.blobs.read(stored.manifest.config.digest)),
            model_path=models[-1] if models else None,
            projector_paths=paths(MediaType.PROJECTOR),
            adapter_paths=paths(MediaType.ADAPTER),
            template=last_text(MediaType.TEMPLATE),
            system=last_text(MediaType.SYSTEM),
            params=params,
            messages=[{"role": message.role, "content": message.content} for message in messages],
            licenses=[data.decode(errors="replace") for data in texts(MediaType.LICENSE)],
        )

    def _digests_of(self, name: Name) -> frozenset[str]:
        """What a model needs; nothing where there is no such model, or none that can be read."""
        try:
            return self.manifests.read(name).manifest.digests
        except (NotFoundError, CorruptManifestError):
            return frozenset()

    def _referenced(self, *, strict: bool = False) -> frozenset[str]:
        """What all models together need. Manifests that cannot be read are passed over, if not ``strict``."""
        digests: set[str] = set()
        for name in self.manifests.names():
            try:
                digests |= self.manifests.read(name).manifest.digests
            except NotFoundError:
                continue  # a program that does not know the lock removed it
            except CorruptManifestError:
                if strict:
                    raise
        return frozenset(digests)

    def _remove_replaced(self, digests: frozenset[str], report: Report | None = None) -> None:
        """Removes what only a model that is replaced needed, unless ``noprune``."""
        unused = frozenset() if self.noprune else digests - self._referenced()
        if unused:
            if report is not None:
                report("removing unused layers")
            self._remove_unused(unused)

    def _remove_unused(self, digests: Collection[str]) -> None:
        referenced = self._referenced()
        for digest in digests:
            if digest not in referenced and not self._holds.put_off(digest):
                self.blobs.remove(digest)
