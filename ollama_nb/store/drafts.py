"""A model in the making: layers from GGUF blobs or from another model, and what the user sets on top.

A draft is a value: each step returns a new one, and nothing is written before ``write``. The order of the layers
and the rules for overriding are Ollama's, so the same request gives the same digests. Quantising, converting and
finding a template come before a draft; naming the model comes after, in ``store/models.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ollama_nb.gguf.reader import format_parameter_count, read_header
from ollama_nb.store.blobs import MAX_TEXT_BLOB
from ollama_nb.store.gotext import go_json
from ollama_nb.store.manifests import Layer, MediaType, ModelConfig, RootFS
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.names import parse_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ollama_nb.store.blobs import BlobStore
    from ollama_nb.store.models import Report, StoredModel

__all__ = ["ModelDraft", "NewLayer", "check_file_names", "detect_type", "require_blobs"]

_MAGIC: Final = b"GGUF"
_WEIGHTS: Final = MediaType.MODEL
_MEDIA_TYPES: Final = {
    "model": MediaType.MODEL,
    "projector": MediaType.PROJECTOR,
    "adapter": MediaType.ADAPTER,
}


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer that becomes a blob when the draft is written; ``status`` is what is reported then, if not the usual.

    Raises ``BadRequestError`` for one that would be too large to be read again.
    """

    media_type: str
    data: bytes
    status: str = ""

    def __post_init__(self) -> None:
        if len(self.data) > MAX_TEXT_BLOB:
            what = self.media_type.rpartition(".")[2]
            raise BadRequestError(f"{what}: {len(self.data)} bytes are too many, {MAX_TEXT_BLOB} is the most")


@dataclass(frozen=True, slots=True)
class ModelDraft:
    """The layers so far, the parameters that they hold, and the config but for the list of layers.

    ``new`` are digests of blobs that were made for this model.
    """

    layers: tuple[Layer | NewLayer, ...]
    params: Mapping[str, object]
    config: ModelConfig
    new: frozenset[str] = frozenset()

    @classmethod
    def empty(cls) -> ModelDraft:
        """A draft without files."""
        return cls((), {}, ModelConfig(model_format="gguf"))

    @classmethod
    def from_model(cls, base: StoredModel) -> ModelDraft:
        """A draft that begins with everything ``base`` has; each layer says where it comes from."""
        layers = tuple(msgspec.structs.replace(layer, from_=base.name.short) for layer in base.manifest.layers)
        return cls(layers, base.params, base.config)

    @classmethod
    def from_gguf(cls, files: Mapping[str, str], blobs: BlobStore, report: Report) -> ModelDraft:
        """A draft of GGUF blobs: ``files`` maps names to digests; weights first, then projectors and adapters.

        Reports ``parsing GGUF`` per file. Raises ``BadRequestError`` with Ollama's texts for names, digests and
        files that will not do.
        """
        draft = cls.empty()
        parsed = [_parse(files[name], blobs, report) for name in sorted(files)]
        for kind in _MEDIA_TYPES:
            for file in parsed:
                draft = draft._with_file(file) if file.kind == kind else draft  # noqa: SLF001 - of this class
        return draft

    def with_adapters(self, files: Mapping[str, str], blobs: BlobStore, report: Report) -> ModelDraft:
        """The draft with a LoRA adapter from a GGUF blob; raises ``BadRequestError`` as ``from_gguf`` does."""
        if len(files) != 1:
            raise BadRequestError("only one adapter is currently supported")
        ((name, digest),) = files.items()
        file = _parse(digest, blobs, report)
        if file.kind != "adapter":
            raise BadRequestError(f"{name} is no adapter but a {file.kind}")
        return self._with_file(file)

    @property
    def weights(self) -> str | None:
        """The digest of the model's GGUF; None where there is none."""
        found = self.digests(_WEIGHTS)
        return found[-1] if found else None

    def digests(self, media_type: str) -> list[str]:
        """The digests of the layers of one kind that are blobs already."""
        return [layer.digest for layer in self.layers if isinstance(layer, Layer) and layer.media_type == media_type]

    def with_weights(self, digest: str, blobs: BlobStore) -> ModelDraft:
        """The draft with another GGUF of the same model in the place of its own, such as a smaller one."""
        file = _parse(digest, blobs, lambda _step: None)
        layers = tuple(
            msgspec.structs.replace(layer, digest=file.digest, size=file.size)
            if isinstance(layer, Layer) and layer.media_type == _WEIGHTS
            else layer
            for layer in self.layers
        )
        return replace(self, layers=layers, config=msgspec.structs.replace(self.config, file_type=file.file_type))

    def with_known_template(self, name: str, template: str, params: Mapping[str, object]) -> ModelDraft:
        """The draft with the template and parameters that go with its files, known by ``name``.

        They count as part of the files: whatever ``apply`` sets goes over them.
        """
        layers = (*self.layers, NewLayer(MediaType.TEMPLATE, _text(template), f"using autodetected template {name}"))
        if params:
            layers += (NewLayer(MediaType.PARAMS, go_json(params)),)
        return replace(self, layers=layers, params={**self.params, **params})

    def apply(
        self,
        *,
        template: str | None = None,
        system: str | None = None,
        licenses: Sequence[str] = (),
        params: Mapping[str, object] | None = None,
        messages: Sequence[Mapping[str, str]] | None = None,
    ) -> ModelDraft:
        """The draft with what a request sets: nothing can be unset, for empty values count as not given.

        Template and system text replace, licences are added, parameters are merged key by key (lists as a
        whole), messages replace all. The parameters are written anew even if nothing changed in them.
        """
        merged = {**self.params, **(params or {})}
        layers = self.layers
        if template:
            # Both names, or the older one would stay behind unseen.
            layers = _without(_without(layers, MediaType.TEMPLATE), MediaType.PROMPT)
            layers += (NewLayer(MediaType.TEMPLATE, _text(template)),)
        if system:
            layers = (*_without(layers, MediaType.SYSTEM), NewLayer(MediaType.SYSTEM, _text(system)))
        layers += tuple(NewLayer(MediaType.LICENSE, _text(text)) for text in licenses if text)
        if merged:
            layers = (*_without(layers, MediaType.PARAMS), NewLayer(MediaType.PARAMS, go_json(merged)))
        if messages:
            # The fields of a message are those of a struct: role first, not sorted.
            pairs = [{key: message.get(key, "") for key in ("role", "content")} for message in messages]
            data = go_json(pairs, sort_keys=False)
            layers = (*_without(layers, MediaType.MESSAGES), NewLayer(MediaType.MESSAGES, data))
        return replace(self, layers=layers, params=merged)

    def write(self, blobs: BlobStore, report: Report) -> tuple[tuple[Layer, ...], ModelConfig]:
        """Writes the new layers as blobs: all layers, and the config that lists them.

        Reports ``using existing layer <digest>`` or ``creating new layer <digest>`` for each in order, or the
        layer's own status. Raises ``BadRequestError`` when a blob is missing.
        """
        written: list[Layer] = []
        for layer in self.layers:
            own = ""
            if isinstance(layer, Layer):
                _require(layer.digest, blobs)
                written.append(layer)
                existed = layer.digest not in self.new
            else:
                digest, size, existed = blobs.put(layer.data)
                written.append(Layer(layer.media_type, digest, size))
                own = layer.status
            report(own or f"{'using existing' if existed else 'creating new'} layer {written[-1].digest}")
        rootfs = RootFS(diff_ids=tuple(layer.digest for layer in written))
        return tuple(written), msgspec.structs.replace(self.config, rootfs=rootfs)

    def _with_file(self, file: _ParsedFile) -> ModelDraft:
        config = self.config
        return replace(
            self,
            layers=(*self.layers, Layer(_MEDIA_TYPES[file.kind], file.digest, file.size)),
            # The first file describes the model, the others only add their family.
            config=msgspec.structs.replace(
                config,
                model_family=config.model_family or file.architecture,
                model_families=(*(config.model_families or ()), file.architecture),
                model_type=config.model_type or file.parameter_count,
                file_type=config.file_type or file.file_type,
            ),
        )


def check_file_names(files: Mapping[str, str]) -> None:
    """Raises ``BadRequestError`` unless every name is a plain relative path, by the rules of Go's ``fs.ValidPath``.

    The names are never opened; whether such a file exists on the server makes no difference.
    """
    for name in files:
        windows = PureWindowsPath(name)
        parts = name.replace("\\", "/").split("/")
        if windows.drive or windows.root or any(part in ("", ".", "..") for part in parts):
            raise BadRequestError("file path must be relative")


def detect_type(files: Mapping[str, str], blobs: BlobStore) -> Literal["gguf", "safetensors"]:
    """What kind of model ``files`` (names to digests) are: by name, else by the first bytes of the blobs.

    Raises ``BadRequestError`` with ``unknown type`` where neither tells.
    """
    if any(name.endswith(".safetensors") for name in files):
        return "safetensors"
    if any(name.endswith(".gguf") for name in files) or any(_is_gguf(digest, blobs) for digest in files.values()):
        return "gguf"
    raise BadRequestError("unknown type")


@dataclass(frozen=True, slots=True)
class _ParsedFile:
    digest: str
    size: int
    kind: str
    architecture: str
    parameter_count: str
    file_type: str


def _parse(digest: str, blobs: BlobStore, report: Report) -> _ParsedFile:
    _require(digest, blobs)
    report("parsing GGUF")
    header = read_header(blobs.path(digest))
    return _ParsedFile(
        digest=parse_digest(digest),
        size=blobs.size(digest),
        kind=header.kind,
        architecture=header.architecture,
        parameter_count=format_parameter_count(header.parameter_count),
        file_type=header.file_type,
    )


def _is_gguf(digest: str, blobs: BlobStore) -> bool:
    _require(digest, blobs)
    with blobs.path(digest).open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def require_blobs(files: Mapping[str, str], blobs: BlobStore) -> None:
    """Raises ``BadRequestError`` unless all of the blobs are here, and keeps them from being pruned meanwhile."""
    for digest in files.values():
        _require(digest, blobs)


def _require(digest: str, blobs: BlobStore) -> None:
    """Raises unless the blob is here; and if it is, keeps it from being pruned before the manifest is written."""
    if not blobs.refresh(digest):
        raise BadRequestError(
            f'blob "{parse_digest(digest)}" not found', hint="Send the file with POST /api/blobs/<digest> first."
        )


def _without(layers: tuple[Layer | NewLayer, ...], media_type: str) -> tuple[Layer | NewLayer, ...]:
    return tuple(layer for layer in layers if layer.media_type != media_type)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")
