"""One loaded model and its context: every call into llama.cpp but the samplers' and ``media``'s stands here.

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
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from ollama_nb.engine.adapters import AdapterError, apply_adapters
from ollama_nb.engine.context import ContextShape, Purpose, context_shape, purpose
from ollama_nb.engine.parts import LONG_TEXT, Seams
from ollama_nb.engine.threads import ThreadGovernor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ollama_nb.engine.batch import Batch
    from ollama_nb.runner.messages import Load

__all__ = [
    "AbortedError",
    "DecodeError",
    "Model",
    "ModelLoadError",
    "NoCacheSpaceError",
    "check_decoded",
    "write_log",
]

_CACHE_TYPES: Final = {"f16": lib.GGML_TYPE_F16, "q8_0": lib.GGML_TYPE_Q8_0, "q4_0": lib.GGML_TYPE_Q4_0}
_ALL_LAYERS: Final = 999
_PIECE_SIZE: Final = 64
"""Bytes that nearly every token fits into."""
_METADATA_SIZE: Final = 256
"""Bytes that the values fit into that are asked for."""
_MAX_THREADS: Final = 512
"""``GGML_MAX_N_THREADS``: llama.cpp aborts above it."""
_SPECIAL: Final = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_USER_DEFINED | lib.LLAMA_TOKEN_ATTR_UNKNOWN
"""What the tokenizer looks for in a text before anything else."""
_MARK: Final = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_LSTRIP
"""Marks of the format; some take the blanks before them away."""
_WINDOWS: Final = lib.LLAMA_STATE_SEQ_FLAGS_SWA_ONLY
_CELL_NUMBERS: Final = 24
"""Bytes that a cell's position and sequences take in a state, at most; the keys and values of a layer take more."""
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
        self.purpose = purpose(self._metadata)
        offloads = load.num_gpu != 0 and bool(lib.llama_supports_gpu_offload())
        self.reads_together = offloads or self.purpose is not Purpose.EMBED_WHOLE
        shape = context_shape(load, self.num_ctx_train, self.purpose)
        self.num_ctx, self.num_seq, self.num_batch = shape.num_ctx, shape.num_seq, shape.num_batch
        pinned = load.num_thread > 0
        self.num_thread = min(load.num_thread, _MAX_THREADS) if pinned else _physical_cores()
        self._governor = None if pinned else ThreadGovernor(self.num_thread)
        self._context = self._make_context(load, shape)
        self._memory = lib.llama_get_memory(self._context)
        pooling = lib.llama_pooling_type(self._context)
        self._pools = pooling != lib.LLAMA_POOLING_TYPE_NONE
        ranks = pooling == lib.LLAMA_POOLING_TYPE_RANK
        self.width: int = (lib.llama_model_n_cls_out if ranks else lib.llama_model_n_embd_out)(self._model)
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

    def _metadata(self, key: str) -> str | None:
        """A value of the file's header as text; None if there is none."""
        buffer = ctypes.create_string_buffer(_METADATA_SIZE)
        written = lib.llama_model_meta_val_str(self._model, key.encode(), buffer, _METADATA_SIZE)
        return buffer.value.decode(errors="replace") if written >= 0 else None

    def _make_context(self, load: Load, shape: ContextShape) -> Any:  # noqa: ANN401 - a C pointer
        params = lib.llama_context_default_params()
        params.n_ctx = shape.num_ctx if shape.unified else shape.num_ctx * shape.num_seq
        params.n_batch = shape.num_batch
        params.n_ubatch = shape.num_batch
        params.n_seq_max = shape.num_seq
        params.n_threads = self.num_thread
        params.n_threads_batch = self.num_thread
        params.type_k = params.type_v = _CACHE_TYPES[load.cache_type]
        if load.flash_attention is not None:
            params.flash_attn_type = int(load.flash_attention)
        # Every sequence attends to its own part of the cache only: eight streams cost what eight streams hold.
        params.kv_unified = shape.unified
        params.embeddings = self.purpose is Purpose.EMBED_WHOLE
        params.no_perf = True
        params.abort_callback, params.abort_callback_data = self._abort_hook()
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise ModelLoadError(f"unable to create a context of {params.n_ctx} tokens")
        if load.adapters:
            try:
                apply_adapters(self._model, context, load.model, load.adapters)
            except AdapterError as error:
                raise ModelLoadError(str(error)) from error
        return context

    def _abort_hook(self) -> tuple[Any, Any]:
        """C's ``strlen`` as llama.cpp's abort callback.

        The callback is asked at every node of the graph, thousands of times a token, with a pointer of our choice;
        ``strlen`` of an empty string is 0 (go on), of "1" is 1 (abort). A Python callback would take the GIL
        each time.
        """
        strlen = ctypes.CDLL(ctypes.util.find_library("c")).strlen
        return ctypes.cast(strlen, lib.ggml_abort_callback), ctypes.cast(self._abort_flag, ctypes.c_void_p)

    @property
    def handles(self) -> tuple[Any, Any]:
        """The C pointers of weights and context, for what is computed into the same cache from elsewhere."""
        return self._model, self._context

    def abort(self) -> None:
        """Make a running ``decode`` return as soon as it can; callable from any thread."""
        self._abort_flag.value = b"1"

    def clear_abort(self) -> None:
        """Let the next ``decode`` run."""
        self._abort_flag.value = b""

    # -- text ---------------------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Token ids of a text; special tokens in it are parsed, BOS/EOS added as the model is configured."""
        if len(text) <= LONG_TEXT or not parse_special or (add_special and self._adds_behind):
            return self._tokenize(text, add_special, parse_special)
        first, *others = self._seams.parts(text)
        tokens = self._tokenize(first, add_special, parse_special)
        for part in others:
            tokens += self._tokenize(part, False, parse_special)  # noqa: FBT003 - as in C
        return tokens

    def _tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", errors="replace")
        capacity = len(data) + 8
        tokens = (ctypes.c_int32 * capacity)()
        count = lib.llama_tokenize(self._vocab, data, len(data), tokens, capacity, add_special, parse_special)
        if count < 0:
            raise ValueError(f"the tokenizer asked for {-count} tokens for {len(data)} bytes")
        return list(tokens[:count])

    @cached_property
    def _adds_behind(self) -> bool:
        """Whether the tokenizer puts more than BOS to a text."""
        return len(self._tokenize("", True, True)) > int(self.adds_bos)  # noqa: FBT003 - as in C

    @cached_property
    def _seams(self) -> Seams:
        attributes = {token: lib.llama_vocab_get_attr(self._vocab, token) for token in range(self.num_vocab)}
        special = {
            token: lib.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace")
            for token, attribute in attributes.items()
            if attribute & _SPECIAL
        }
        marks = [text for token, text in special.items() if attributes[token] & _MARK == lib.LLAMA_TOKEN_ATTR_CONTROL]
        return Seams(marks, special.values())

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

    def require_generation(self) -> None:
        """Raises ``ValueError`` for a model that was made for vectors: it has no next token to say."""
        if self.purpose is not Purpose.GENERATE:
            raise ValueError("this model makes embeddings; it cannot generate text")

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
        check_decoded(status)

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """Logits of a row of the last batch, shape (num_vocab,): a view, valid and writable until the next decode."""
        pointer = lib.llama_get_logits_ith(self._context, row)
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        if address is None:
            raise DecodeError(f"no logits were computed for row {row}")
        buffer: Any = (ctypes.c_float * self.num_vocab).from_address(address)
        logits: npt.NDArray[np.float32] = np.frombuffer(buffer, dtype=np.float32)
        return logits

    def embed(self, batch: Batch) -> None:
        """Compute a batch for the vectors of its tokens, which ``vector`` gives. Raises as ``decode`` does.

        llama.cpp makes an output of every row then, so that there should be no more rows than vectors are wanted.
        """
        batch.wants_logits[: batch.size] = 1
        if self.purpose is Purpose.EMBED_WHOLE:
            self.decode(batch)
            return
        lib.llama_set_embeddings(self._context, True)  # noqa: FBT003 - C's signature
        try:
            self.decode(batch)
        finally:
            lib.llama_set_embeddings(self._context, False)  # noqa: FBT003 - C's signature

    def vector(self, row: int, sequence: int) -> npt.NDArray[np.float32]:
        """The vector of a sequence whose last row of the last ``embed`` was ``row``: a copy, not normalised.

        What the model makes of the whole text where its file says how, else the vector of the last token.
        """
        pointer = lib.llama_get_embeddings_seq(self._context, sequence) if self._pools else None
        if not pointer:
            pointer = lib.llama_get_embeddings_ith(self._context, row)
        if not pointer:
            raise DecodeError(f"no vector was computed for row {row}")
        return np.ctypeslib.as_array(pointer, shape=(self.width,)).copy()

    def _set_threads(self, count: int) -> None:
        if count != self.num_thread:
            self.num_thread = count
            lib.llama_set_n_threads(self._context, count, count)

    # -- cache --------------------------------------------------------------------------------------------------

    def forget(self, sequence: int, start: int, end: int = -1) -> bool:
        """Drop positions [start, end) of a sequence; False where the model's memory cannot drop a part."""
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, start, end))

    @cached_property
    def can_shift(self) -> bool:
        """Whether positions can be renumbered; to be asked once there is something in the cache.

        Where all layers have sliding windows, llama.cpp aborts the process: it shifts the cache of the other layers
        too, which has no memory. The state of that cache is the numbers of its cells only, which is how it is found.
        """
        if not lib.llama_memory_can_shift(self._memory):
            return False
        if not lib.llama_model_n_swa(self._model):
            return True
        sequences = range(self.num_seq)
        others = sum(self._state_size(sequence) - self._state_size(sequence, _WINDOWS) for sequence in sequences)
        return others > sum(_CELL_NUMBERS * (self.cached_end(sequence) + 1) for sequence in sequences)

    def _state_size(self, sequence: int, flags: int = 0) -> int:
        return int(lib.llama_state_seq_get_size_ext(self._context, sequence, flags))

    def shift(self, sequence: int, start: int, delta: int) -> None:
        """Renumber the positions from ``start`` on by ``delta``; only where ``can_shift``."""
        lib.llama_memory_seq_add(self._memory, sequence, start, -1, delta)

    def cached_end(self, sequence: int) -> int:
        """The position behind the last one that is in the cache, 0 for an empty sequence."""
        return int(lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1


def check_decoded(status: int) -> None:
    """Raises what a status of ``llama_decode`` other than 0 means."""
    if status == 0:
        return
    if status == 1:
        raise NoCacheSpaceError("no room in the K/V cache for the batch")
    if status == 2:  # noqa: PLR2004 - llama.h: 2 = aborted
        raise AbortedError("aborted")
    raise DecodeError(f"llama_decode failed with status {status}")


_log_level = 0


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def write_log(level: int, text: bytes, _: object) -> None:
    """llama.cpp's own words to stderr, without the thousands of lines that it writes for its debuggers."""
    global _log_level  # noqa: PLW0603 - what goes on has the level of what it goes on from
    if level != _LOG_CONTINUED:
        _log_level = level
    if _log_level != _LOG_DEBUG:
        sys.stderr.write(text.decode("utf-8", errors="replace"))
        sys.stderr.flush()


def _log_to_stderr() -> None:
    lib.llama_log_set(write_log, ctypes.c_void_p(0))
    # What C++ has to say at its own exit must not reach an interpreter that is gone.
    atexit.register(lib.llama_log_set, lib.llama_log_callback(), ctypes.c_void_p(0))


def _physical_cores() -> int:
    import psutil  # noqa: PLC0415 - asked once, at load

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or available, available))
