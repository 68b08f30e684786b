"""What the FROM and ADAPTER lines of a Modelfile mean on this disk: a model's name, a file, or a folder's files.

A value that exists as a path is a path: absolute, with ``~`` or ``~user``, else relative to the Modelfile's folder.
Everything else is a model's name. Of a folder the first kind of weights that is there is taken:

1. ``*.safetensors``, of a model only ``model*`` or else ``consolidated*`` where there are such files (they are the
   same weights in two layouts), of an adapter only ``adapter*``. With them go ``*.json`` and ``*/*.json``, the chat
   templates in ``chat_template.jinja`` and ``additional_chat_templates``, and ``tokenizer.model``, as with the newest
   Ollama also beside a ``tokenizer.json``, which has no scores. Where there is no ``tokenizer.json`` the other forms of
   a tokenizer go too. Files and folders whose names begin with a dot stay.
2. ``pytorch_model*.bin``, ``consolidated*.pth``, ``adapter_model*.bin`` are refused: unpickling one can run any code.
3. ``*.gguf``, else ``*.bin`` that begin as GGUF files do; nothing goes with these, for they say all themselves.

Links must not lead out of the folder. One layout is an exception: Hugging Face's cache has a folder ``models--...`` for
every model, in which ``snapshots/<revision>`` holds links into ``blobs``. Such links are followed into the ``blobs`` of
the same model, and nowhere else. A file that FROM or ADAPTER names itself may be a link to anywhere.

Nothing is read here but what tells a kind of file from another; hashing and sending is done in ``creation``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ollama_nb.client.files import readable
from ollama_nb.wire.errors import BadRequestError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ollama_nb.wire.modelfile import Modelfile

__all__ = ["Components", "expand_path", "find_components", "model_files"]

_MAGIC: Final = b"GGUF"
_POINTER: Final = b"version https://git-lfs"
_MODELS: Final = ("model*.safetensors", "consolidated*.safetensors", "*.safetensors")
_ADAPTERS: Final = ("adapter*.safetensors", "*.safetensors")
_PICKLES: Final = ("pytorch_model*.bin", "consolidated*.pth", "adapter_model*.bin")
_PICKLE_SUFFIXES: Final = (".bin", ".pth", ".pt")
_COMPANIONS: Final = (
    *("*.json", "*/*.json"),
    *("chat_template.jinja", "additional_chat_templates/*.jinja"),
    "tokenizer.model",
)
_OTHER_TOKENIZERS: Final = ("*/tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "vocab.txt", "merges.txt")


@dataclass(frozen=True, slots=True)
class Components:
    """What a model is made of: another model's name, or files; and the files of its adapter.

    Files are named as the server is told them: relative to their folder, with ``/``.
    """

    from_: str | None
    files: Mapping[str, Path]
    adapters: Mapping[str, Path]


def find_components(modelfile: Modelfile, folder: Path) -> Components:
    """What ``modelfile``, whose folder is ``folder``, builds on. Of several adapters the last one counts, as in Ollama.

    Raises ``BadRequestError`` for what cannot be used, ``NotFoundError`` for a path that is not there.
    """
    names: list[str] = []
    files: dict[str, Path] = {}
    for value in modelfile.from_:
        path = _existing(value, folder)
        if path is None:
            names.append(value)
        else:
            _merge(files, model_files(path))
    if len(set(names)) + bool(files) > 1:
        named = " and ".join(dict.fromkeys(names))
        raise BadRequestError(
            f"FROM names {named}{' beside files' if files else ''}: a model is built on one model, or on files",
            hint="Names that are no paths here count as models; is a file missing?",
        )
    adapters: Mapping[str, Path] = {}
    if modelfile.adapters:
        value = modelfile.adapters[-1]
        found = _existing(value, folder)
        if found is None:
            raise NotFoundError(f"no such file: {value}")
        adapters = model_files(found, adapter=True)
    return Components(names[0] if names else None, files, adapters)


def expand_path(value: str | Path, folder: Path) -> Path:
    """The path that a value of FROM or ADAPTER names, whether it exists or not; also that of a Modelfile itself."""
    try:
        return folder / Path(value).expanduser()
    except RuntimeError as error:
        user = str(value).split("/", maxsplit=1)[0].removeprefix("~")
        raise BadRequestError(f"failed to find user '{user}'") from error


def model_files(path: Path, *, adapter: bool = False) -> dict[str, Path]:
    """The files of the model, or of the adapter, at ``path``, under the names that the server is told.

    Raises ``BadRequestError`` for pickled weights, links that lead outside and files that only stand for others,
    ``NotFoundError`` with Ollama's ``no Modelfile or safetensors files found``.
    """
    with readable(path):
        if not path.is_dir():
            if not path.is_file():
                raise BadRequestError(f"{path} is neither a file nor a folder")
            if path.suffix in _PICKLE_SUFFIXES and not _begins(path, _MAGIC):
                raise _pickled(path.name)
            return {path.name: _usable(path)}
        weights = _weights(path, _ADAPTERS if adapter else _MODELS)
        found = _with_companions(path, weights) if weights[0].suffix == ".safetensors" else weights
        inside = _allowed(path)
        return {file.relative_to(path).as_posix(): _checked(file, path, inside) for file in found}


def _weights(folder: Path, safetensors: Iterable[str]) -> list[Path]:
    """The first kind of weights that the folder has."""
    for pattern in safetensors:
        if found := _matches(folder, pattern):
            return found
    for pattern in _PICKLES:
        if found := _matches(folder, pattern):
            raise _pickled(found[0].name)
    found = _matches(folder, "*.gguf") or [file for file in _matches(folder, "*.bin") if _begins(file, _MAGIC)]
    if not found:
        hint = "A folder needs *.safetensors with their config.json, or a *.gguf."
        if (folder / "snapshots").is_dir():
            hint = "It is the cache of a model; name a revision in it: snapshots/<revision>"
        raise NotFoundError("no Modelfile or safetensors files found", hint=f"Looked in {folder}. {hint}")
    return found


def _with_companions(folder: Path, weights: list[Path]) -> list[Path]:
    """The weights, and the files that say how to read them."""
    found = [file for pattern in _COMPANIONS for file in _matches(folder, pattern)]
    # One in a folder below belongs to an export for another program.
    if folder / "tokenizer.json" not in found:
        found += (file for pattern in _OTHER_TOKENIZERS for file in _matches(folder, pattern))
    return [*weights, *found]


def _matches(folder: Path, pattern: str) -> list[Path]:
    """The files of that pattern, sorted, without hidden ones; links that lead nowhere are among them."""
    found = (path for path in folder.glob(pattern) if path.is_symlink() or path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def _allowed(folder: Path) -> tuple[Path, ...]:
    """The real folders in which a folder's files may lie: itself, and in Hugging Face's cache the model's blobs."""
    real = folder.resolve(strict=True)
    for place in (real, *real.parents):
        if place.parent.name == "snapshots" and place.parents[1].name.startswith("models--"):
            return (real, place.parents[1] / "blobs")
    return (real,)


def _checked(file: Path, folder: Path, inside: Iterable[Path]) -> Path:
    """The file, if what it is in truth may be sent."""
    real = file.resolve()
    if not any(real.is_relative_to(place) for place in inside):
        outside = os.path.relpath(real, folder.resolve())
        raise BadRequestError(
            f"insecure path: {outside}",
            hint=f"{file.relative_to(folder)} is a link out of {folder}; copy the file itself there.",
        )
    return _usable(file)


def _usable(file: Path) -> Path:
    """The file, if it is there and is not only a note of where it could be had."""
    if not file.exists():
        raise NotFoundError(f"{file} is a link to a file that is not there")
    if _begins(file, _POINTER):
        raise BadRequestError(f"{file} is a pointer of Git LFS, not the file itself", hint="Fetch it: git lfs pull")
    return file


def _begins(file: Path, magic: bytes) -> bool:
    with file.open("rb") as data:
        return data.read(len(magic)) == magic


def _pickled(name: str) -> BadRequestError:
    return BadRequestError(
        f"{name} is a pickle file, and reading one can run any code: it is not used",
        hint='Save the model as safetensors: model.save_pretrained("folder", safe_serialization=True)',
    )


def _existing(value: str, folder: Path) -> Path | None:
    """The path that ``value`` names; ``None`` if it can only be a model's name."""
    path = expand_path(value, folder)
    with readable(path):
        if path.exists():
            return path
    if value.startswith(("/", "./", "../", "~")) or path.suffix.lower() in (".gguf", ".safetensors"):
        raise NotFoundError(f"no such file: {value}")
    return None


def _merge(files: dict[str, Path], more: Mapping[str, Path]) -> None:
    """Add files; two of one name would hide each other."""
    for name, path in more.items():
        if files.setdefault(name, path) != path:
            raise BadRequestError(f"two files are called {name}: {files[name]} and {path}", hint="Rename one of them.")
