"""One model's files, as transformers saves them, into one GGUF file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_nb.convert.config import Config
from ollama_nb.convert.errors import ConvertError, shown
from ollama_nb.convert.families import family_of
from ollama_nb.convert.source import Source
from ollama_nb.convert.writer import write_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ollama_nb.convert.families.base import Family

__all__ = ["check_config", "convert_model"]


def convert_model(files: Mapping[str, Path], out: Path, type: str, progress: Callable[[int, int], None]) -> list[str]:  # noqa: A002 - the word of the API
    """Write the model of ``files`` (names in its folder to paths) to ``out``; notes for the user.

    ``type`` is ``F32``, ``F16`` or ``BF16``; empty keeps what the files have, F32 becomes F16. ``progress`` is told the
    bytes written and all bytes. Raises ``ConvertError`` for files that will not do, ``OllamaError`` for
    those that cannot be read, ``OSError`` as the disk does.
    """
    source = Source(files)
    config, family_type = _known(source)
    family = family_type(source, config.language(), source.tensors())
    weights = family.weights()
    write_gguf(out, family.metadata(), weights, type, progress)
    return family.notes()


def check_config(files: Mapping[str, Path]) -> None:
    """Raises ``ConvertError`` for a model that cannot be converted whatever its weights are; reads only config.json."""
    _known(Source(files))


def _known(source: Source) -> tuple[Config, type[Family]]:
    """A model's config, and the family that converts it."""
    config = Config(source.config())
    family = family_of(config.architecture())
    _refuse_quantized(config)
    return config, family


def _refuse_quantized(config: Config) -> None:
    """Raises for weights that are packed in a way of their own; their tensors would be taken for something else."""
    if "quantization_config" in config:
        method = config.sub("quantization_config").text("quant_method", default="an unnamed method")
        raise ConvertError(
            f"the model is quantized already, by {shown(method)}, which cannot be converted",
            hint="Take the model's original weights; they can be quantized here, as they are made: quantize=q4_K_M.",
        )
