"""One loaded model and its context: every call into llama.cpp but the samplers' stands here.

The C interface moves between releases, so the rest of the engine sees a few Python methods with plain
integers, bytes and numpy views. A model is used by two threads: the reader tokenises, the loop decodes; the
vocabulary is constant, so they do not meet.
"""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from ollama_nb.engine.threads import ThreadGovernor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ollama_nb.runner.messages import Load

__all__ = ["AbortedError", "Batch", "DecodeError", "Model", "ModelLoadError", "NoCacheSpaceError"]

_CACHE_TYPES: Final = {"f16": lib.GGML_TYPE_F16, "q8_0": lib.GGML_TYPE_Q8_0, "q4_0": lib.GGML_TYPE_Q4_0}
_ALL_LAYERS: Final = 999
_PIECE_SIZE: Final = 64
"""Bytes that nearly every token fits into."""
_MAX_THREADS: Final = 512
"""``GGML_MAX_N_THREADS``: llama.cpp aborts above it."""
_LOG_DEBUG: Final = 1
"""``GGML_LOG_LEVEL_DEBUG`` of ggml.h."""
_LOG_CONTINUED: Final = 5
"""``GGML_LOG_LEVEL_CONT``: the rest of the line before."""


class ModelLoadError(Exception):
    """llama.cpp refused the file; its own log lines say why."""


class DecodeError(Exception):
    """``llama_decode`` failed; the cache may hold part of the batch."""


class NoCacheSpaceError(DecodeError):
    """No room in the K/V cache for the batch; nothing was computed."""


class AbortedError(DecodeError):
    """The abort flag was raised in mid-decode; the cache may hold part of the batch."""


class Batch:
    """Rows of (token, position, sequence, wants logits) for one ``llama_decode``.

    The C arrays are numpy views, filled by slices: a prompt chunk costs the same Python time as one token.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self.tokens = np.zeros(capacity, dtype=np.int32)
        self.positions = np.zeros(capacity, dtype=np.int32)
        self.sequences = np.zeros(capacity, dtype=np.int32)
        self.wants_logits = np.zeros(capacity, dtype=np.int8)
        self._sequence_counts = np.ones(capacity, dtype=np.int32)
        # A row may belong to several sequences in llama.cpp; ours belong to one, whose id stands in `sequences`.
        base = self.sequences.ctypes.data
        self._sequence_pointers = np.arange(base, base + 4 * capacity, 4, dtype=np.uintp)
        self.struct = lib.llama_batch(
            n_tokens=0,
            token=ctypes.cast(self.tokens.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            embd=None,
            pos=ctypes.cast(self.positions.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=ctypes.cast(self._sequence_counts.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            seq_id=ctypes.cast(self._sequence_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=ctypes.cast(self.wants_logits.ctypes.data, ctypes.POINTER(ctypes.c_int8)),
        )

    @property
    def room(self) -> int:
        """Rows that can still be added."""
        return self.capacity - self.size

    def clear(self) -> None:
        """Begin a new batch."""
        self.size = 0

    def add(self, tokens: list[int], position: int, sequence: int, *, logits: bool) -> int:
        """Append consecutive tokens of one sequence from ``position`` on; ``logits`` asks for those of the last.

        Returns the row of the last token, by which its logits are fetched.
        """
        start, end = self.size, self.size + len(tokens)
        if end > self.capacity:
            raise ValueError(f"{len(tokens)} tokens do not fit into the {self.room} free rows of the batch")
        self.tokens[start:end] = tokens
        self.positions[start:end] = range(position, position + len(tokens))
        self.sequences[start:end] = sequence
        self.wants_logits[start:end] = 0
        if logits:
            self.wants_logits[end - 1] = 1
        self.size = end
        return end - 1


class Model:
    """Weights, vocabulary and context of one GGUF file.

    Raises ``ModelLoadError`` where llama.cpp refuses. ``progress`` is called with 0..1 while the weights are read.
    """

    def __init__(self, load: Load, progress: Callable[[float], None]) -> None:
        _log_to_stderr()
        lib.llama_backend_init()
        self._abort_flag = ctypes.create_string_buffer(2)
        self._model = self._load_weights(load, progress)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.num_vocab: int = lib.llama_vocab_n_tokens(self._vocab)
        self.num_ctx_train: int = lib.llama_model_n_ctx_train(self._model)
        self.size: int = lib.llama_model_size(self._model)
        self.adds_bos: bool = bool(lib.llama_vocab_get_add_bos(self._vocab))
        self.num_ctx = min(load.num_ctx, self.num_ctx_train) if self.num_ctx_train > 0 else load.num_ctx
        # A row for every sequence: llama.cpp aborts the process where a batch is smaller than that.
        self.num_batch = max(load.num_seq, min(load.num_batch, self.num_ctx * load.num_seq))
        pinned = load.num_thread > 0
        self.num_thread = min(load.num_thread, _MAX_THREADS) if pinned else _physical_cores()
        self._governor = None if pinned else ThreadGovernor(self.num_thread)
        self._context = self._make_context(load)
        self._memory = lib.llama_get_memory(self._context)
        self.can_shift = bool(lib.llama_memory_can_shift(self._memory))
        self._pieces: dict[int, bytes] = {}
        self.ends = frozenset(token for token in range(self.num_vocab) if lib.llama_vocab_is_eog(self._vocab, token))

    def _load_weights(self, load: Load, progress: Callable[[float], None]) -> Any:  # noqa: ANN401 - a C pointer
        @lib.llama_progress_callback  # type: ignore[untyped-decorator]
        def on_progress(fraction: float, _: object) -> bool:
            progress(fraction)
            return True

        params = lib.llama_model_default_params()
        params.n_gpu_layers = _ALL_LAYERS if load.num_gpu < 0 else load.num_gpu
        params.main_gpu = load.main_gpu
        if load.use_mmap is not None:
            params.load_mode = lib.LLAMA_LOAD_MODE_MMAP if load.use_mmap else lib.LLAMA_LOAD_MODE_NONE
        params.progress_callback = on_progress
        model = lib.llama_model_load_from_file(load.model.encode(), params)
        if not model:
            raise ModelLoadError("unable to load model")
        return model

    def _make_context(self, load: Load) -> Any:  # noqa: ANN401 - a C pointer
        params = lib.llama_context_default_params()
        params.n_ctx = self.num_ctx * load.num_seq
        params.n_batch = self.num_batch
        params.n_ubatch = self.num_batch
        params.n_seq_max = load.num_seq
        params.n_threads = self.num_thread
        params.n_threads_batch = self.num_thread
        params.type_k = params.type_v = _CACHE_TYPES[load.cache_type]
        if load.flash_attention is not None:
            params.flash_attn_type = int(load.flash_attention)
        # Every sequence attends to its own part of the cache only: eight streams cost what eight streams hold.
        params.kv_unified = False
        params.no_perf = True
        params.abort_callback, params.abort_callback_data = self._abort_hook()
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise ModelLoadError(f"unable to create a context of {params.n_ctx} tokens")
        if load.adapters:
            self._apply_adapters(context, load.adapters)
        return context

    def _apply_adapters(self, context: Any, paths: tuple[str, ...]) -> None:  # noqa: ANN401 - a C pointer
        """All adapters in one call: llama.cpp replaces the ones that it has by the ones that it is given."""
        loaded = [lib.llama_adapter_lora_init(self._model, path.encode()) for path in paths]
        if not all(loaded):
            raise ModelLoadError("unable to load adapter")
        count = len(loaded)
        adapters = (lib.llama_adapter_lora_p_ctypes * count)(*loaded)
        scales = (ctypes.c_float * count)(*[1.0] * count)
        if lib.llama_set_adapters_lora(context, adapters, count, scales):
            raise ModelLoadError("unable to apply adapter")

    def _abort_hook(self) -> tuple[Any, Any]:
        """C's ``strlen`` as llama.cpp's abort callback.

        The callback is asked at every node of the graph, thousands of times a token, with a pointer of our choice;
        ``strlen`` of an empty string is 0 (go on), of "1" is 1 (abort). A Python callback would take the GIL
        each time.
        """
        strlen = ctypes.CDLL(ctypes.util.find_library("c")).strlen
        return ctypes.cast(strlen, lib.ggml_abort_callback), ctypes.cast(self._abort_flag, ctypes.c_void_p)

    def abort(self) -> None:
        """Make a running ``decode`` return as soon as it can; callable from any thread."""
        self._abort_flag.value = b"1"

    def clear_abort(self) -> None:
        """Let the next ``decode`` run."""
        self._abort_flag.value = b""

    # -- text ---------------------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Token ids of a text; special tokens in it are parsed, BOS/EOS added as the model is configured."""
        data = text.encode("utf-8", errors="replace")
        capacity = len(data) + 8
        tokens = (ctypes.c_int32 * capacity)()
        count = lib.llama_tokenize(self._vocab, data, len(data), tokens, capacity, add_special, parse_special)
        if count < 0:
            raise ValueError(f"the tokenizer asked for {-count} tokens for {len(data)} bytes")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for, possibly not whole characters; a special token is its name.

        What reads the answers tells calls and thoughts from other text by these names.
        """
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._spell(token, _PIECE_SIZE)
        return piece

    def _spell(self, token: int, capacity: int) -> bytes:
        buffer = ctypes.create_string_buffer(capacity)
        count = lib.llama_token_to_piece(self._vocab, token, buffer, capacity, 0, True)  # noqa: FBT003 - special tokens
        return buffer.raw[:count] if count >= 0 else self._spell(token, -count)

    def detokenize(self, tokens: Iterable[int]) -> str:
        """Text of token ids, special tokens included; raises ``ValueError`` for an id outside the vocabulary."""
        tokens = list(tokens)
        if any(not 0 <= token < self.num_vocab for token in tokens):
            raise ValueError(f"token ids must be between 0 and {self.num_vocab - 1}")
        count = len(tokens)
        array = (ctypes.c_int32 * count)(*tokens)
        capacity = 16 * count + 16
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            written = lib.llama_detokenize(self._vocab, array, count, buffer, capacity, False, True)  # noqa: FBT003
            if written >= 0:
                return buffer.raw[:written].decode("utf-8", errors="replace")
            capacity = -written

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation (EOS, EOT and the like)."""
        return token in self.ends

    def is_control(self, token: int) -> bool:
        """Whether the token is a mark of the format, not text."""
        return bool(lib.llama_vocab_get_attr(self._vocab, token) & lib.LLAMA_TOKEN_ATTR_CONTROL)

    def is_added(self, token: int) -> bool:
        """Whether the token is text that the model's makers have added as one token."""
        return bool(lib.llama_vocab_get_attr(self._vocab, token) & lib.LLAMA_TOKEN_ATTR_USER_DEFINED)

    # -- computing ----------------------------------------------------------------------------------------------

    def decode(self, batch: Batch) -> None:
        """Compute a batch. Raises ``NoCacheSpaceError``, ``AbortedError`` or ``DecodeError``."""
        batch.struct.n_tokens = batch.size
        if self._governor is None:
            status = lib.llama_decode(self._context, batch.struct)
        else:
            self._governor.begin()
            status = lib.llama_decode(self._context, batch.struct)
            self._set_threads(self._governor.end())
        if status == 0:
            return
        if status == 1:
            raise NoCacheSpaceError("no room in the K/V cache for the batch")
        if status == 2:  # noqa: PLR2004 - llama.h: 2 = aborted
            raise AbortedError("aborted")
        raise DecodeError(f"llama_decode failed with status {status}")

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """Logits of a row of the last batch, shape (num_vocab,): a view, valid and writable until the next decode."""
        pointer = lib.llama_get_logits_ith(self._context, row)
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        if address is None:
            raise DecodeError(f"no logits were computed for row {row}")
        buffer: Any = (ctypes.c_float * self.num_vocab).from_address(address)
        logits: npt.NDArray[np.float32] = np.frombuffer(buffer, dtype=np.float32)
        return logits

    def _set_threads(self, count: int) -> None:
        if count != self.num_thread:
            self.num_thread = count
            lib.llama_set_n_threads(self._context, count, count)

    # -- cache --------------------------------------------------------------------------------------------------

    def forget(self, sequence: int, start: int, end: int = -1) -> bool:
        """Drop positions [start, end) of a sequence; False where the model's memory cannot drop a part."""
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, start, end))

    def shift(self, sequence: int, start: int, delta: int) -> None:
        """Renumber the positions from ``start`` on by ``delta``; only where ``can_shift``."""
        lib.llama_memory_seq_add(self._memory, sequence, start, -1, delta)

    def cached_end(self, sequence: int) -> int:
        """The position behind the last one that is in the cache, 0 for an empty sequence."""
        return int(lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1


_log_level = 0


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _write_log(level: int, text: bytes, _: object) -> None:
    """llama.cpp's own words to stderr, without the thousands of lines that it writes for its debuggers."""
    global _log_level  # noqa: PLW0603 - what goes on has the level of what it goes on from
    if level != _LOG_CONTINUED:
        _log_level = level
    if _log_level != _LOG_DEBUG:
        sys.stderr.write(text.decode("utf-8", errors="replace"))
        sys.stderr.flush()


def _log_to_stderr() -> None:
    lib.llama_log_set(_write_log, ctypes.c_void_p(0))
    # What C++ has to say at its own exit must not reach an interpreter that is gone.
    atexit.register(lib.llama_log_set, lib.llama_log_callback(), ctypes.c_void_p(0))


def _physical_cores() -> int:
    import psutil  # noqa: PLC0415 - asked once, at load

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or available, available))
