"""Which files of a Hugging Face repository make a model: chosen by their names, nothing is read here.

Publishers name a GGUF by its quantization, in the file's name (``Model.Q4_K_M.gguf``, ``model-q4_k_m.gguf``) or in that
of its folder (``Q4_K_M/model.gguf``); the tag of a model's name asks for one. Beside it may lie ``mmproj`` files (a
projector for images), ``imatrix`` files (how it was quantized), and the texts by which Hugging Face lets a repository
say what Ollama should make of it: ``template``, ``system`` and ``params`` (https://huggingface.co/docs/hub/ollama).
A repository of safetensors is a folder as transformers saves it, of which only what a conversion reads is taken. How
files are listed and fetched is in ``huggingface``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from ollama_nb.wire.errors import BadRequestError, NotFoundError
from ollama_nb.wire.names import DEFAULT_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["HubFile", "HubFolder", "HubModel", "OnlySafetensorsError", "choose_folder", "choose_model", "quantization"]

_QUANT: Final = re.compile(
    r"(?<![A-Za-z0-9])"
    r"((?:UD-)?(?:I?Q[1-9]|TQ[1-9])(?:_(?:K|XXS|XS|S|M|L|XL|XXL|NL|[0-9]))*|BF16|FP?16|FP?32|MXFP4(?:_MOE)?|NVFP4)"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_PART: Final = re.compile(r"-[0-9]{5}-of-(?!00001)[0-9]{5}$")
_DYNAMIC: Final = "UD-"
"""Unsloth's mark of quantizations whose types differ from layer to layer."""

_PREFERRED: Final = (
    *("Q4_K_M", "Q4_0", "Q4_K_S", "Q4_K_L", "Q4_K_XL", "Q4_K", "Q4_1", "IQ4_NL", "IQ4_XS"),
    *("MXFP4_MOE", "MXFP4", "NVFP4"),
    *("Q5_K_M", "Q5_K_S", "Q5_K_L", "Q5_K_XL", "Q5_K", "Q5_0", "Q5_1", "Q6_K", "Q6_K_L", "Q6_K_XL", "Q8_0", "Q8_K_XL"),
    *("Q3_K_L", "Q3_K_M", "Q3_K_XL", "Q3_K_S", "Q3_K", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS"),
    *("F16", "BF16", "Q2_K", "Q2_K_L", "Q2_K_XL", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "F32"),
)
"""What ``latest`` is, best first: four bits cost little quality, more cost memory, fewer cost quality."""

_PROJECTORS: Final = ("F16", "BF16", "Q8_0", "F32")
_PICKLES: Final = ("*.bin", "*.pth", "*.pt", "*.ckpt")
_WEIGHTS: Final = (
    "model.safetensors", "model-[0-9]*-of-[0-9]*.safetensors", "model*.safetensors", "consolidated*.safetensors",
    "*.safetensors",
)  # fmt: skip
_COMPANIONS: Final = ("*.json", "[0-9]_*/config.json", "chat_template.jinja", "additional_chat_templates/*.jinja")
_TOKENIZERS: Final = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "vocab.txt", "merges.txt")
_INDEX: Final = ".safetensors.index.json"
_MOST_NAMES: Final = 30
_LICENSES: Final = ("license", "license.txt", "license.md")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository at one commit: path, address, bytes; the digest only of those that Git LFS keeps."""

    path: str
    url: str
    size: int
    digest: str = ""

    @property
    def name(self) -> str:
        """The path without its folders."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """The files of a model that needs no conversion; ``place`` is its repository, ``hf.co/user/repo``."""

    place: str
    weights: HubFile
    projector: HubFile | None = None
    template: HubFile | None = None
    system: HubFile | None = None
    params: HubFile | None = None
    license: HubFile | None = None


@dataclass(frozen=True, slots=True)
class HubFolder:
    """The files of which a conversion makes a model, by their paths."""

    place: str
    files: tuple[HubFile, ...]


class OnlySafetensorsError(BadRequestError):
    """A repository has no GGUF, but a model can be made of its safetensors."""


def choose_model(place: str, files: Sequence[HubFile], tag: str) -> HubModel:
    """The weights that ``tag`` asks for, and what goes with them.

    Raises ``NotFoundError`` where there are none such, ``OnlySafetensorsError``, and ``BadRequestError`` where the tag
    does not say which of several files is meant, or means one that is cut in parts.
    """
    weights = [file for file in files if _is_weights(file)]
    if not weights:
        raise _without_gguf(place, files)
    chosen = _chosen(place, weights, tag)
    at_top = {file.path.lower(): file for file in files}
    return HubModel(
        place=place,
        weights=chosen,
        projector=_projector(files, chosen),
        template=at_top.get("template"),
        system=at_top.get("system"),
        params=at_top.get("params"),
        license=next((at_top[name] for name in _LICENSES if name in at_top), None),
    )


def choose_folder(place: str, files: Sequence[HubFile]) -> HubFolder:
    """The files of a repository of safetensors that a conversion reads, each weight once.

    Raises ``BadRequestError`` for weights in other formats and for adapters, ``NotFoundError`` where there are none.
    """
    at_top = [file for file in files if "/" not in file.path]
    weights = next((found for pattern in _WEIGHTS if (found := _like(at_top, pattern))), [])
    if not weights:
        raise _without_safetensors(place, files)
    if all(file.name.startswith("adapter") for file in weights):
        raise BadRequestError(
            f"{place} is an adapter, not a model", hint="Download it, and name its folder with ADAPTER."
        )
    companions = [file for pattern in _COMPANIONS for file in _like(files, pattern)]
    tokenizers = _TOKENIZERS[:1] if any(file.path == "tokenizer.json" for file in files) else _TOKENIZERS
    companions += [file for name in tokenizers for file in _like(at_top, name)]
    single = len(weights) == 1
    kept = [file for file in companions if not (single and file.name.endswith(_INDEX))]
    return HubFolder(place, tuple(sorted({*weights, *kept}, key=lambda file: file.path)))


def quantization(path: str) -> str:
    """How a GGUF file is quantized, by its name or else its folder's: ``Q4_K_M``; empty where neither says."""
    for part in reversed(PurePosixPath(path).with_suffix("").parts):
        if found := _QUANT.findall(part):
            return str(found[-1]).upper().replace("FP16", "F16").replace("FP32", "F32")
    return ""


def _chosen(place: str, weights: Sequence[HubFile], tag: str) -> HubFile:
    found = _default(weights) if tag == DEFAULT_TAG else _tagged(weights, tag)
    if not found:
        raise NotFoundError(f"{place} has no {tag}", hint=f"There are: {_listed(_offered(weights))}.")
    whole = [file for file in found if not _is_part(file)]
    if not whole:
        others = _offered(file for file in weights if not _is_part(file))
        choice = f", or choose one of {_listed(others)}" if others else ""
        raise BadRequestError(
            f"{found[0].path} is one of several parts of a model, which are not pulled",
            hint=f"Download the parts, put them together with llama.cpp's gguf-split --merge{choice}.",
        )
    depth = min(file.path.count("/") for file in whole)
    nearest = [file for file in whole if file.path.count("/") == depth]
    if len(nearest) > 1 and quantization(nearest[0].path):
        raise BadRequestError(
            f"{place} has several models in {quantization(nearest[0].path)}",
            hint=f"Name the file as the tag: {_listed(sorted(file.name for file in nearest))}.",
        )
    return min(nearest, key=lambda file: file.path)


def _default(weights: Sequence[HubFile]) -> list[HubFile]:
    """The files of the best quantization that is there as a whole, or else those that do not say how they are."""

    def rank(file: HubFile) -> tuple[bool, int, str]:
        quant = quantization(file.path)
        plain = quant.removeprefix(_DYNAMIC)
        return (_is_part(file), _PREFERRED.index(plain) if plain in _PREFERRED else len(_PREFERRED), quant)

    best = min(rank(file) for file in weights)
    return [file for file in weights if rank(file) == best]


def _tagged(weights: Iterable[HubFile], tag: str) -> list[HubFile]:
    """The files that a tag means: by the whole name, else by the quantization, else by how the name ends."""
    wanted = tag.lower().removesuffix(".gguf")
    canonical = tag.upper().replace("FP16", "F16").replace("FP32", "F32")
    levels: tuple[list[HubFile], ...] = ([], [], [], [])
    for file in weights:
        stem = PurePosixPath(file.path.lower()).stem
        whole = _PART.sub("", stem)
        quant = quantization(file.path)
        told = (wanted in (stem, whole), quant == canonical, quant.removeprefix(_DYNAMIC) == canonical)
        ends = any(whole.endswith(separator + wanted) for separator in "-._")
        for level, fits in zip(levels, (*told, ends), strict=True):
            if fits:
                level.append(file)
    return next((level for level in levels if level), [])


def _offered(weights: Iterable[HubFile]) -> list[str]:
    """What may be asked for: quantizations, and the names of files that have none."""
    return sorted({quantization(file.path) or file.name for file in weights})


def _listed(names: Sequence[str]) -> str:
    """Names for people: some repositories have thousands."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _projector(files: Iterable[HubFile], weights: HubFile) -> HubFile | None:
    """The projector for the weights: of the same folder if there is one there, and precise rather than small."""

    def rank(file: HubFile) -> tuple[bool, int, str]:
        quant = quantization(file.path)
        elsewhere = PurePosixPath(file.path).parent != PurePosixPath(weights.path).parent
        return (elsewhere, _PROJECTORS.index(quant) if quant in _PROJECTORS else len(_PROJECTORS), file.path)

    return min((file for file in files if _is_gguf(file) and _is_projector(file)), key=rank, default=None)


def _is_gguf(file: HubFile) -> bool:
    return file.path.lower().endswith(".gguf")


def _is_projector(file: HubFile) -> bool:
    return "mmproj" in file.name.lower()


def _is_weights(file: HubFile) -> bool:
    is_statistics = "imatrix" in file.name.lower() and not _QUANT.search(file.name)
    return _is_gguf(file) and not _is_projector(file) and not is_statistics


def _is_part(file: HubFile) -> bool:
    return _PART.search(PurePosixPath(file.path).stem) is not None


def _like(files: Iterable[HubFile], pattern: str) -> list[HubFile]:
    """The files of that pattern in that folder, without hidden ones."""
    depth = pattern.count("/")
    return [
        file
        for file in files
        if file.path.count("/") == depth and fnmatchcase(file.path, pattern) and not file.name.startswith(".")
    ]


def _without_gguf(place: str, files: Sequence[HubFile]) -> BadRequestError | NotFoundError:
    if any(file.path.endswith(".safetensors") for file in files):
        return OnlySafetensorsError(
            f"{place} has no GGUF file, but safetensors", hint=f"Create a model from it: FROM {place}"
        )
    if found := [file.path for file in files if _is_gguf(file)]:
        return BadRequestError(f"{place} has no model, only a projector or statistics", hint=f"It has {found[0]}.")
    return _without_safetensors(place, files)


def _without_safetensors(place: str, files: Sequence[HubFile]) -> BadRequestError | NotFoundError:
    if any(fnmatchcase(file.name, pattern) for file in files for pattern in _PICKLES):
        return BadRequestError(
            f"{place} has its weights in pickle files only, and reading one can run any code: they are not used",
            hint="Look for a repository with safetensors or GGUF files of the same model.",
        )
    if any(_is_gguf(file) for file in files):
        return BadRequestError(f"{place} has GGUF files and no safetensors", hint="Pull it: it needs no conversion.")
    return NotFoundError(f"{place} has no GGUF and no safetensors files", hint="Is it a model's repository?")
