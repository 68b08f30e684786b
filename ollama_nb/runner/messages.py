"""The frames between the server and a model's process: what crosses the child's stdin and stdout.

A frame is four bytes of length (little-endian) and a MessagePack body with a type tag. The server sends text
and options, the child answers with text and counts; tokens appear only where the API itself shows them.
Durations are integer nanoseconds. Every request carries the number by which its answers are told apart.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from ollama_nb.wire.options import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_FRAME",
    "MAX_TOP_LOGPROBS",
    "PROMPT_TOO_LONG",
    "Cancel",
    "ChildMessage",
    "Detokenize",
    "Embed",
    "Embedded",
    "Failed",
    "Finish",
    "FrameReader",
    "Generate",
    "Load",
    "LoadFailed",
    "LoadProgress",
    "Loaded",
    "Logprob",
    "Measure",
    "Measured",
    "Overflow",
    "Piece",
    "Sampling",
    "ServerMessage",
    "Step",
    "Text",
    "Tokenize",
    "Tokens",
    "TopToken",
    "decode_child",
    "decode_server",
    "encode",
]

MAX_FRAME: Final = 1 << 28
"""A frame longer than 256 MiB is a broken stream, not a message."""

MAX_TOP_LOGPROBS: Final = 20
"""Alternatives to a token that can be asked for."""

PROMPT_TOO_LONG: Final = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the"
    " context length in settings, or use a model with a longer context length"
)
"""What is said of a prompt that must not be cut, on either side of the pipe."""


class Load(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first frame: which file to load, and with what context.

    ``num_ctx`` is per sequence, in tokens; ``num_seq`` sequences run at once. ``num_thread`` 0 means one per
    physical core, ``num_gpu`` -1 as many layers as fit, ``use_mmap`` None decides by itself.
    ``flash_attention`` None leaves it to llama.cpp; ``cache_type`` is one of f16, q8_0, q4_0.
    """

    model: str
    adapters: tuple[str, ...] = ()
    projectors: tuple[str, ...] = ()
    num_ctx: int
    num_seq: int = 1
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    num_thread: int = 0
    use_mmap: bool | None = None
    flash_attention: bool | None = None
    cache_type: str = "f16"


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Continue a prompt. ``num_keep`` and ``num_predict`` in tokens, as the options of the same names.

    A prompt longer than the context loses its middle; with ``truncate`` false it is refused instead.
    ``grammar`` is a Lark grammar of llguidance that constrains what is generated; empty = free. It speaks of the
    text that is shown: special tokens are written in it as quoted text. ``images`` are files, which ``[img-0]``,
    ``[img-1]``… stand for in the prompt. ``shift`` false ends the answer where the context is full. ``logprobs`` asks
    for the probability of every token, ``top_logprobs`` for those of so many others beside it.
    """

    id: int
    prompt: str
    num_keep: int = 4
    num_predict: int = -1
    stop: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    truncate: bool = True
    shift: bool = True
    grammar: str = ""
    images: tuple[bytes, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Stop request ``id``, also in the middle of a decode; nothing more is sent for it."""

    id: int


class Tokenize(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Text to token ids; special tokens in the text are parsed, BOS is added only where asked."""

    id: int
    text: str
    add_special: bool = False


class Measure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How many tokens of a prompt each of some images takes; files, as those of ``Generate``."""

    id: int
    images: tuple[bytes, ...]


class Detokenize(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Token ids to text, special tokens included."""

    id: int
    tokens: list[int]


Overflow: TypeAlias = Literal["head", "tail", "refuse"]
"""What is kept of a text that is too long to embed: its beginning, its end, or nothing at all."""


class Embed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The vector of a text. What is longer than the context is cut or refused, as ``overflow`` says."""

    id: int
    text: str
    overflow: Overflow = "head"


ServerMessage: TypeAlias = Load | Generate | Cancel | Tokenize | Detokenize | Embed | Measure


class LoadProgress(msgspec.Struct, frozen=True, tag=True):
    """How much of the weights is in memory, 0 to 1."""

    fraction: float


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The model is ready. ``num_ctx`` is what each sequence really got, in tokens; sizes in bytes."""

    num_ctx: int
    num_ctx_train: int
    model_size: int
    adds_bos: bool
    num_thread: int


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """The model could not be loaded; the process ends after this."""

    error: str


class TopToken(msgspec.Struct, frozen=True, array_like=True):
    """A token as bytes, and the natural logarithm of its probability before any option touched it."""

    piece: bytes
    logprob: float


class Logprob(msgspec.Struct, frozen=True, array_like=True):
    """A sampled token, and the likeliest ones in its place."""

    token: TopToken
    top: list[TopToken] = []


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Text that request ``id`` gained in this step: valid UTF-8, no part of a stop string.

    ``logprobs`` are of the tokens sampled since the last piece, if they were asked for; the text may be empty then.
    """

    id: int
    text: str
    logprobs: list[Logprob] = []


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """Request ``id`` is complete. ``reason`` is ``stop`` or ``length``; counts in tokens, durations in ns.

    ``cached_count`` of the ``prompt_count`` tokens were found in the cache; ``dropped_count`` more stood in the
    middle of a prompt that was too long, and were cut out.
    """

    id: int
    reason: str
    prompt_count: int
    cached_count: int
    prompt_duration: int
    eval_count: int
    eval_duration: int
    dropped_count: int = 0


class Step(msgspec.Struct, frozen=True, tag=True):
    """All that one step of the batch brought, for all its sequences, in one frame."""

    pieces: list[Piece]
    finished: list[Finish]


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Request ``id`` ends with an error; ``status`` as in HTTP."""

    id: int
    error: str
    status: int = 500


class Tokens(msgspec.Struct, frozen=True, tag=True):
    """Answer to ``Tokenize``."""

    id: int
    tokens: list[int]


class Measured(msgspec.Struct, frozen=True, tag=True):
    """Answer to ``Measure``: tokens, image by image."""

    id: int
    counts: list[int]


class Text(msgspec.Struct, frozen=True, tag=True):
    """Answer to ``Detokenize``."""

    id: int
    text: str


class Embedded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to ``Embed``: the vector as little-endian float32, not normalised, and the tokens that it is of."""

    id: int
    vector: bytes
    prompt_count: int


ChildMessage: TypeAlias = LoadProgress | Loaded | LoadFailed | Step | Failed | Tokens | Text | Embedded | Measured

_LENGTH = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
_server_decoder: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)
_child_decoder: msgspec.msgpack.Decoder[ChildMessage] = msgspec.msgpack.Decoder(ChildMessage)


def encode(message: ServerMessage | ChildMessage) -> bytes:
    """One frame, ready to write."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def decode_server(body: bytes | memoryview) -> ServerMessage:
    """What the server said; raises ``msgspec.DecodeError`` on anything else."""
    return _server_decoder.decode(body)


def decode_child(body: bytes | memoryview) -> ChildMessage:
    """What the child said; raises ``msgspec.DecodeError`` on anything else."""
    return _child_decoder.decode(body)


class FrameReader:
    """Cuts a stream of bytes, arriving in any pieces, into frame bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that ``data`` completes; raises ``ValueError`` where no frame can begin."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME:
                raise ValueError(f"frame of {length} bytes: the stream is broken")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            yield bytes(buffer[start + _LENGTH.size : end])
            start = end
        del buffer[:start]
