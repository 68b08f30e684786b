"""Which of a folder's files are a model's weights, by their names alone.

transformers writes ``model.safetensors``, or ``model-00001-of-00003.safetensors`` and so on with an index beside them.
Mistral puts the same weights once more into ``consolidated.safetensors``, others keep adapters, projectors or whole
other models in folders below. What is in the files is left to ``source``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from ollama_nb.convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Shards"]

_ENDING: Final = ".safetensors"
_INDEX: Final = ".safetensors.index.json"
_STANDARD_INDEX: Final = f"model{_INDEX}"
_ADAPTER: Final = "adapter"
_PREFERRED: Final = ("model", "consolidated", "")
"""Beginnings of the names: of the first kind that there is, all files are taken, and none of the others."""

_NUMBERED: Final = re.compile(r"(.*?)-?([0-9]{1,9})-of-([0-9]{1,9})\.safetensors")


@dataclass(frozen=True, slots=True)
class Shards:
    """The names of the weights' files, sorted, and of the index that goes with them; empty where there is none."""

    names: tuple[str, ...]
    index: str = ""

    @classmethod
    def among(cls, files: Iterable[str]) -> Self:
        """The weights among a folder's files. Raises ``ConvertError`` for none, and where it is not clear which."""
        here = sorted(name for name in files if "/" not in name and "\\" not in name)
        shards = [name for name in here if name.endswith(_ENDING)]
        adapters = [name for name in shards if name.startswith(_ADAPTER)]
        if adapters and len(adapters) < len(shards):
            raise ConvertError(
                f"the files are of a model and of an adapter at once: {adapters[0]} is an adapter's",
                hint="Make the model without it, then another FROM that model with the adapter.",
            )
        for kind in _PREFERRED:
            if chosen := tuple(name for name in shards if name.startswith(kind)):
                indexes = [name for name in here if name.endswith(_INDEX) and name.startswith(kind)]
                return cls(chosen, _the_one(indexes))
        raise ConvertError("no safetensors file among the files", hint="The weights end in .safetensors.")

    def wanted(self, weight_map: Mapping[str, str] | None) -> tuple[str, ...]:
        """Those of the files that make the model: all that ``weight_map`` names, or all where there is no index.

        Raises ``ConvertError`` if one is missing.
        """
        if weight_map is None:
            self._refuse_gaps()
            return self.names
        named = sorted(set(weight_map.values()))
        missing = [name for name in named if name not in self.names]
        if missing:
            raise ConvertError(f"{missing[0]} is missing", hint=f"{len(missing)} of {len(named)} files are not there.")
        return tuple(named)

    def _refuse_gaps(self) -> None:
        """Without an index, the names themselves tell how many files there should be."""
        parts: dict[tuple[str, int], set[int]] = {}
        for name in self.names:
            if match := _NUMBERED.fullmatch(name):
                parts.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
        for (_, total), numbers in parts.items():
            if len(numbers) != total:
                raise ConvertError(
                    f"only {len(numbers)} of {total} files of the weights are there", hint="Send all of them."
                )


def _the_one(indexes: list[str]) -> str:
    if len(indexes) > 1 and _STANDARD_INDEX not in indexes:
        raise ConvertError(f"there are several index files: {', '.join(indexes[:5])}", hint="Send only one of them.")
    return _STANDARD_INDEX if _STANDARD_INDEX in indexes else "".join(indexes)
