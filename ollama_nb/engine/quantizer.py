"""Making a smaller GGUF of a GGUF, by llama.cpp's own quantization; runs in ``convert.worker``'s process.

Which tensor becomes what is llama.cpp's choice, the mixture of its ``llama-quantize``. Ollama's is the same where it
counts: the output, or the embedding that serves as one, becomes Q6_K, or Q8_0 where rows are no multiple of 256;
Q4_K_M gives Q6_K to ``attn_v`` and ``ffn_down`` of the first eighth, the last eighth and every third layer between,
Q4_K_S Q5_K to some of the first. Vectors, norms, routers, positions and token types stay as they are in both. What
llama.cpp does not know of is added here: the towers of models that carry their eyes with them (``v.``, ``mm.``) stay as
they are, as in Ollama.

What a name means, and which files may be quantized, is left to ``convert.quantize``.

Source: ``src/llama-quant.cpp`` of llama.cpp, whose log tells how far it is.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from llama_cpp import llama_cpp as lib

from ollama_nb.convert.quantize import require_source
from ollama_nb.gguf.ggml_types import FILE_TYPES, GGML_TYPES
from ollama_nb.gguf.reader import read_header
from ollama_nb.wire.errors import BadRequestError, OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ollama_nb.gguf.header import Header

__all__ = ["Journal", "quantize"]

BUFFER: Final = 1 << 30
"""Bytes of a tensor that are worked on at a time; llama.cpp would take eight times as many."""

_NUMBERS: Final = {name: number for number, name in FILE_TYPES.items()}
_TENSOR_TYPES: Final = {stored.name: number for number, stored in GGML_TYPES.items()}
_TOWER: Final = re.compile(r"^(v|mm)\.")
"""Tensors of what sees; the same pattern goes to llama.cpp, whose regular expressions are ECMAScript's."""

_LOG_DEBUG: Final = 1
"""``GGML_LOG_LEVEL_DEBUG`` of ggml.h."""

_TENSOR: Final = re.compile(r"^\[ *\d+/ *\d+\] (.+?) +- \[")
_MISFIT: Final = re.compile(r"not divisible by +(\d+) \(required for type +(\w+)\)")
_INSTEAD: Final = re.compile(r"falling back to +(\w+)")
_REFUSED: Final = re.compile(r"^gguf_\w+: (.*)")
"""What the reader of files says first; the failure that follows only says that there was one."""
_FAILED: Final = re.compile(r"failed to quantize: (.*)")


class Journal:
    """What llama.cpp's log says of its work: progress in bytes of tensors, notes, the reason of a failure."""

    def __init__(self, sizes: Mapping[str, int], progress: Callable[[int, int], None]) -> None:
        self.failure = ""
        self._sizes = sizes
        self._total = sum(sizes.values())
        self._progress = progress
        self._completed = 0
        self._current = 0
        self._refused = ""
        self._misfit = ("", "")
        self._fallbacks: Counter[tuple[str, str, str]] = Counter()

    def begin(self) -> None:
        """Nothing is done yet."""
        self._progress(0, self._total)

    def end(self) -> None:
        """Everything is done."""
        self._progress(self._total, self._total)

    def feed(self, text: str) -> None:
        """One call of llama.cpp's log, a line or a part of one; all the parts that are read here come whole."""
        if tensor := _TENSOR.match(text):
            self._completed += self._current
            self._current = self._sizes.get(tensor[1], 0)
            self._progress(min(self._completed, self._total), self._total)
        elif misfit := _MISFIT.search(text):
            self._misfit = (misfit[1], misfit[2])
        elif instead := _INSTEAD.search(text):
            self._fallbacks[(*self._misfit, instead[1])] += 1
        elif refused := _REFUSED.match(text):
            self._refused = self._refused or refused[1].strip()
        elif failed := _FAILED.search(text):
            self.failure = self._refused or failed[1].strip()

    def notes(self) -> list[str]:
        """One sentence for each type that was asked for in vain, the most frequent first."""
        return [
            f"{count} of {len(self._sizes)} tensors have rows that are no multiple of {block} and became "
            f"{instead.upper()} instead of {wanted.upper()}"
            for (block, wanted, instead), count in self._fallbacks.most_common()
        ]


def quantize(source: Path, out: Path, file_type: str, progress: Callable[[int, int], None]) -> list[str]:
    """Write the model ``source`` to ``out`` as ``file_type``, a name of ``FILE_TYPES``; returns notes for the user.

    ``progress`` gets the bytes of tensors that are done and those of all. Raises ``BadRequestError`` for a file that
    llama.cpp does not quantize, ``OllamaError`` where the result cannot be written. Of some broken files llama.cpp
    aborts the process.
    """
    header = read_header(source)
    require_source(header, file_type)
    journal = Journal({tensor.name: tensor.size for tensor in header.tensors}, progress)
    errors: list[Exception] = []

    @lib.llama_log_callback  # type: ignore[untyped-decorator]
    def listen(level: int, raw: bytes, _: object) -> None:
        try:
            text = raw.decode("utf-8", errors="replace")
            if level != _LOG_DEBUG:
                sys.stderr.write(text)
            journal.feed(text)
        except Exception as error:  # noqa: BLE001 - it cannot pass through llama.cpp; raised again below
            errors.append(error)

    journal.begin()
    status = _run(source, out, _parameters(header, file_type), listen)
    if errors:
        raise errors[0]
    if status:
        raise _failure(journal.failure.replace(str(source), "the file"), out)
    journal.end()
    return journal.notes()


def _run(source: Path, out: Path, parameters: Any, listen: Any) -> int:  # noqa: ANN401 - ctypes
    """llama.cpp's work, with its log in other ears meanwhile."""
    usual, context = lib.llama_log_callback(), ctypes.c_void_p()
    lib.llama_log_get(ctypes.byref(usual), ctypes.byref(context))
    lib.llama_log_set(listen, ctypes.c_void_p(0))
    try:
        return int(lib.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(parameters)))
    finally:
        lib.llama_log_set(usual, context)


def _parameters(header: Header, file_type: str) -> Any:  # noqa: ANN401 - a structure of ctypes
    parameters = lib.llama_model_quantize_default_params()
    parameters.ftype = _NUMBERS[file_type]
    parameters.nthread = _threads()
    parameters.max_buf_size = BUFFER
    tower = Counter(tensor.type for tensor in header.tensors if _TOWER.match(tensor.name) and len(tensor.shape) > 1)
    if tower:
        # The list ends with an entry without a pattern.
        overrides = (lib.llama_model_tensor_override * 2)()
        overrides[0].pattern = _TOWER.pattern.encode()
        overrides[0].type = _TENSOR_TYPES[tower.most_common(1)[0][0]]
        parameters.tt_overrides = overrides
    return parameters


def _threads() -> int:
    """Half of the cores: the others are for those who chat meanwhile."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


def _failure(reason: str, out: Path) -> OllamaError:
    if "iostream error" in reason:
        free = shutil.disk_usage(out.parent).free
        return OllamaError("the quantized model could not be written", hint=f"{free >> 20} MiB are free on its disk")
    return BadRequestError(f"this model cannot be quantized: {reason or 'llama.cpp does not say why'}")
