"""The LoRA adapters of a loaded model: checked against the model's file, read, and applied to a context.

llama.cpp keeps an adapter beside the weights and never changes them, so that mapped files stay mapped. What it cannot
apply it refuses, or aborts at the first token; hence the look at the headers before (``gguf.adapters``).
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_cpp import llama_cpp as lib

from ollama_nb.gguf.adapters import check_adapter
from ollama_nb.gguf.reader import read_header
from ollama_nb.wire.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AdapterError", "apply_adapters"]


class AdapterError(Exception):
    """An adapter that is not there, is none, or does not fit to the model; the log says why."""


def apply_adapters(model: Any, context: Any, base: str, paths: Sequence[str]) -> None:  # noqa: ANN401 - C pointers
    """Have ``context`` compute with the adapters at ``paths``, each as it is, and all of them together.

    ``base`` is the path of the model's file. Raises ``AdapterError``.
    """
    _require_fitting(Path(base), paths)
    loaded = [lib.llama_adapter_lora_init(model, path.encode()) for path in paths]
    if not all(loaded):
        raise AdapterError("unable to load adapter")
    count = len(loaded)
    adapters = (lib.llama_adapter_lora_p_ctypes * count)(*loaded)
    scales = (ctypes.c_float * count)(*[1.0] * count)
    # All in one call: llama.cpp replaces the ones that it has by the ones that it is given.
    if lib.llama_set_adapters_lora(context, adapters, count, scales):
        raise AdapterError("unable to apply adapter")


def _require_fitting(base: Path, paths: Sequence[str]) -> None:
    try:
        model = read_header(base)
        for path in paths:
            check_adapter(read_header(Path(path)), model)
    except (BadRequestError, OSError) as error:
        # Into the log, where the server looks for the reason of any refusal, llama.cpp's own among them.
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        raise AdapterError("unable to load adapter") from error
