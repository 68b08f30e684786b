"""A model's files as a conversion sees them: JSON files by name, and all tensors of all shards together.

Names are those the files have in the model's folder, paths where they really lie; a name is never opened. Which files
are the weights is ``shards``' matter. What an index file says is checked against the shards that are there, and files
that can run code are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.safetensors import StoredTensor, read_table
from ollama_nb.convert.shards import Shards
from ollama_nb.convert.untrusted import open_file, parse_object, read_exactly

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["MAX_JSON", "ConvertError", "Source"]

MAX_JSON: Final = 128 << 20
"""Bytes of one JSON file; the tokenizer of a large vocabulary has 35 million."""

_MAX_NAME: Final = 1024
_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_CONFIG: Final = "config.json"
_NUMBERS: Final = re.compile(r"([0-9]+)")


class Source:
    """The files of one model or adapter. Raises ``ConvertError`` from every method for files that will not do.

    ``OllamaError`` is raised for a file that cannot be read, ``OSError`` where the disk fails.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(sorted(files.items()))
        for name in self.files:
            _refuse_name(name)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self.files

    def read(self, name: str, limit: int = MAX_JSON) -> bytes:
        """The content of a file of at most ``limit`` bytes."""
        if name not in self.files:
            raise ConvertError(f"{name} is missing", hint=f"It lies beside the weights: send it with them as {name}.")
        file, size = open_file(self.files[name], name)
        with file:
            if size > limit:
                raise ConvertError(f"{name} has {size} bytes; the limit is {limit}")
            return read_exactly(file, size)

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file; ``NaN`` and ``Infinity`` in it are read as Python reads them."""
        return parse_object(self.read(name), name)

    def optional_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file; empty where there is no such file."""
        return self.json(name) if self.has(name) else {}

    def config(self) -> dict[str, Any]:
        """``config.json``."""
        return self.json(_CONFIG)

    def tensors(self) -> dict[str, StoredTensor]:
        """All tensors by name, of all files that are the weights; none may stand in two of them.

        Their order is that of their names, numbers in them as numbers: however the same tensors are spread over files,
        they come in the same order.
        """
        shards = Shards.among(self.files)
        weight_map = _weight_map(shards.index, self.files[shards.index]) if shards.index else None
        found: dict[str, StoredTensor] = {}
        home: dict[str, str] = {}
        for shard in shards.wanted(weight_map):
            for name, tensor in read_table(self.files[shard], shard).items():
                if name in found:
                    raise ConvertError(f'tensor "{name}" stands in {home[name]} and in {shard}')
                found[name], home[name] = tensor, shard
        for name, shard in (weight_map or {}).items():
            if home.get(name) != shard:
                raise ConvertError(
                    f"{shards.index} says that tensor {shown(name)} is in {shard}, but it is "
                    + (f"in {home[name]}" if name in home else "nowhere"),
                    hint="A part of the model is missing, or the files are of different models: download them again.",
                )
        if not found:
            raise ConvertError("there is no tensor in the weights")
        return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def _refuse_name(name: str) -> None:
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise ConvertError(f"{shown(name)} is no name of a file")
    if name.lower().endswith(_PICKLES):
        raise ConvertError(
            f"{name} is a pickle file, which can run any code when it is opened",
            hint="Save the model as safetensors: model.save_pretrained(folder, safe_serialization=True).",
        )


def _weight_map(index: str, path: Path) -> dict[str, str]:
    """Which tensor is in which file, as an index says."""
    weights = parse_object(Source({index: path}).read(index), index, strict=True).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise ConvertError(f"{index} has no weight_map")
    for shard in weights.values():
        # It stands in the same folder; anything else would be a way out of it, were it opened.
        if not isinstance(shard, str) or not shard.isprintable() or set(shard) & {"/", "\\"}:
            raise ConvertError(f"{index} names {shown(shard)}, which is no file of this folder")
    return weights


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """What names are sorted by: layer 2 before layer 10."""
    return tuple((int(part) if part.isdecimal() else -1, part) for part in _NUMBERS.split(name))
