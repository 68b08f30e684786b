"""Images for a model that sees: a projector file beside the weights, every call into mtmd, llama.cpp's part for it.

A projector turns an image into embeddings, which are computed into the K/V cache as tokens are. The reader thread
cuts a prompt into chunks, the loop computes them; an image that comes again, as it does with every turn of a chat, is
neither read nor encoded again. Which chunk is computed when is the batcher's business.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import re
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib
from llama_cpp import mtmd_cpp as mtmd

from ollama_nb.engine.images import Images
from ollama_nb.engine.model import DecodeError, Model, ModelLoadError, check_decoded, write_log
from ollama_nb.engine.pictures import Picture, read_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Chunk", "ImageChunk", "Projector", "TextChunk"]

log = logging.getLogger(__name__)

_TAG: Final = re.compile(r"\[img-([0-9]{1,18})\]")
_REMEMBERED: Final = 8
"""Images whose embeddings are kept."""
_REMEMBERED_BYTES: Final = 1 << 28
"""Bytes of embeddings that are kept, the last image's in any case."""
_AFTER_LAST_IMAGE: Final = "\n"
"""Put behind an image that ends a prompt: an answer begins with the logits of a token, and an image has none."""


@dataclass(frozen=True)
class TextChunk:
    """Tokens that are computed as any others."""

    tokens: list[int]


class ImageChunk:
    """An image, or a part of one that the model looks at by itself.

    It takes ``cells`` of the cache and moves the text behind it by ``positions``, fewer with M-RoPE. Chunks of one
    ``digest`` are computed alike.
    """

    def __init__(self, chunk: Any, digest: bytes) -> None:  # noqa: ANN401 - a C pointer
        """Take over the copy of a C chunk."""
        self.digest = digest
        self.cells: int = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
        self.positions: int = mtmd.mtmd_input_chunk_get_n_pos(chunk)
        self.embeddings: npt.NDArray[np.float32] | None = None
        self._own(chunk)

    def _own(self, chunk: Any) -> None:  # noqa: ANN401 - a C pointer
        self.pointer = chunk
        self._free = weakref.finalize(self, mtmd.mtmd_input_chunk_free, chunk)

    def encoded(self, embeddings: npt.NDArray[np.float32]) -> None:
        """Keep the embeddings and let the pixels go, which are needed no more."""
        self.embeddings = embeddings
        placeholder = mtmd.mtmd_input_chunk_get_placeholder(self.pointer)
        if placeholder:
            self._free()
            self._own(placeholder)


Chunk: TypeAlias = TextChunk | ImageChunk


class Projector:
    """The projector file of a loaded model; raises ``ModelLoadError`` where it is none, or another model's."""

    def __init__(self, path: str, model: Model, num_thread: int) -> None:
        _log_to_stderr()
        self._model = model
        self._weights, self._llama = model.handles
        self._width: int = lib.llama_model_n_embd_inp(self._weights)
        self._remembered: OrderedDict[bytes, list[Chunk]] = OrderedDict()
        params = mtmd.mtmd_context_params_default()
        params.n_threads = num_thread
        params.print_timings = False
        # Memory is reserved with the first image, so that loading for text alone is quick.
        params.warmup = False
        self._context = mtmd.mtmd_init_from_file(path.encode(), self._weights, params)
        if not self._context:
            raise ModelLoadError("unable to load projector")
        self._free = weakref.finalize(self, mtmd.mtmd_free, self._context)
        self._sees = bool(mtmd.mtmd_support_vision(self._context))
        self._path = path.encode()

    # -- the reader's side ------------------------------------------------------------------------------------------

    def tokenize(self, text: str, images: Sequence[bytes]) -> tuple[list[int], Images]:
        """A prompt as a list of tokens, in which placeholders stand for the images; raises as ``chunks`` does."""
        chunks = self.chunks(text, images)
        tokens: list[int] = []
        for chunk in chunks:
            tokens += chunk.tokens if isinstance(chunk, TextChunk) else Images.placeholders(chunk)
        return tokens, Images(chunk for chunk in chunks if isinstance(chunk, ImageChunk))

    def measure(self, images: Sequence[bytes]) -> list[int]:
        """Tokens that each image takes, with the texts that its model puts around it; raises as ``chunks`` does."""
        return [sum(map(_length, self._image(image))) for image in images]

    def chunks(self, text: str, images: Sequence[bytes]) -> list[Chunk]:
        """A prompt with the images in the places of their tags, ``[img-0]`` for the first.

        BOS is added and special tokens are parsed as in ``Model.tokenize``; the last chunk is text. Raises
        ``ValueError`` for a tag without an image and for an image that cannot be read.
        """
        head, *rest = _TAG.split(text)
        chunks: list[Chunk] = [TextChunk(self._model.tokenize(head, add_special=True))]
        for number, words in zip(rest[::2], rest[1::2], strict=True):
            if int(number) >= len(images):
                raise ValueError(f"invalid image index: {int(number)}")
            chunks += self._image(images[int(number)])
            if words:
                chunks.append(TextChunk(self._model.tokenize(words, add_special=False)))
        if isinstance(chunks[-1], ImageChunk):
            chunks.append(TextChunk(self._model.tokenize(_AFTER_LAST_IMAGE, add_special=False)))
        return chunks

    def _image(self, data: bytes) -> list[Chunk]:
        """The chunks of an image: itself or its parts, and texts that its model puts around them."""
        digest = hashlib.sha256(self._path + b"\0" + data).digest()
        if (known := self._remembered.get(digest)) is None:
            known = self._split(read_picture(data), digest)
            self._remembered[digest] = known
        self._remembered.move_to_end(digest)
        while len(self._remembered) > 1 and self._remembers_too_much():
            self._remembered.popitem(last=False)
        return known

    def _remembers_too_much(self) -> bool:
        cells = sum(
            chunk.cells for chunks in self._remembered.values() for chunk in chunks if isinstance(chunk, ImageChunk)
        )
        return len(self._remembered) > _REMEMBERED or 4 * self._width * cells > _REMEMBERED_BYTES

    def _split(self, picture: Picture, digest: bytes) -> list[Chunk]:
        if not self._sees:
            raise ValueError("this model cannot take images: its projector is for sounds")
        pixels = ctypes.cast(ctypes.c_char_p(picture.rgb), ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd.mtmd_bitmap_init(picture.width, picture.height, pixels)
        output = mtmd.mtmd_input_chunks_init()
        try:
            part = mtmd.mtmd_input_part(text=None, bitmap=bitmap)
            parts = (ctypes.POINTER(mtmd.mtmd_input_part) * 1)(ctypes.pointer(part))
            status = mtmd.mtmd_tokenize_from_parts(self._context, output, parts, 1, False)  # noqa: FBT003 - no BOS
            if status:
                raise ValueError(f"the image cannot be used with this model (status {status})")
            count = mtmd.mtmd_input_chunks_size(output)
            chunks = [_take_over(mtmd.mtmd_input_chunks_get(output, index), digest, index) for index in range(count)]
        finally:
            mtmd.mtmd_input_chunks_free(output)
            mtmd.mtmd_bitmap_free(bitmap)
        self._warn_of_parts(chunks)
        return chunks

    def _warn_of_parts(self, chunks: list[Chunk]) -> None:
        """Where each cell of an image looks at all others, it has to stand in one batch to be seen as it is."""
        for chunk in chunks:
            if isinstance(chunk, TextChunk) or chunk.cells <= self._model.num_batch:
                continue
            if mtmd.mtmd_decode_use_non_causal(self._context, chunk.pointer):
                size = f"{chunk.cells} tokens of an image do not fit into a batch of {self._model.num_batch}"
                log.warning("%s, so that the model sees it in parts: use a larger num_batch", size)

    # -- the loop's side --------------------------------------------------------------------------------------------

    def decode(self, chunk: ImageChunk, position: int, sequence: int) -> None:
        """Compute an image into the cache of a sequence, from ``position`` on.

        Raises ``DecodeError`` as ``Model.decode`` does; a part of the image may be in the cache then.
        """
        if chunk.embeddings is None:
            chunk.encoded(self._encode(chunk))
        if chunk.embeddings is None:
            raise DecodeError("the image has no embeddings")
        floats = ctypes.cast(chunk.embeddings.ctypes.data, ctypes.POINTER(ctypes.c_float))
        end = ctypes.c_int32()
        status = mtmd.mtmd_helper_decode_image_chunk(
            self._context,
            self._llama,
            chunk.pointer,
            floats,
            position,
            sequence,
            self._model.num_batch,
            ctypes.byref(end),
            mtmd.mtmd_helper_post_decode_callback(),
            None,
        )
        if status:
            # It may have been left in the middle of an image that looks at itself as a whole.
            lib.llama_set_causal_attn(self._llama, True)  # noqa: FBT003 - C's signature
        check_decoded(status)

    def _encode(self, chunk: ImageChunk) -> npt.NDArray[np.float32]:
        if mtmd.mtmd_encode_chunk(self._context, chunk.pointer):
            raise DecodeError("the image cannot be encoded")
        address = ctypes.cast(mtmd.mtmd_get_output_embd(self._context), ctypes.c_void_p).value
        if address is None:
            raise DecodeError("the image has no embeddings")
        buffer: Any = (ctypes.c_float * (self._width * chunk.cells)).from_address(address)
        return np.frombuffer(buffer, dtype=np.float32).copy()


def _log_to_stderr() -> None:
    mtmd.mtmd_helper_log_set(write_log, ctypes.c_void_p(0))
    # As for llama.cpp's own log: what C++ says at its exit must not reach an interpreter that is gone.
    atexit.register(mtmd.mtmd_helper_log_set, lib.llama_log_callback(), ctypes.c_void_p(0))


def _length(chunk: Chunk) -> int:
    return len(chunk.tokens) if isinstance(chunk, TextChunk) else chunk.cells


def _take_over(chunk: Any, digest: bytes, index: int) -> Chunk:  # noqa: ANN401 - a C pointer
    """A chunk that outlives the list that it was made in."""
    kind = mtmd.mtmd_input_chunk_get_type(chunk)
    if kind == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
        count = ctypes.c_size_t()
        tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        return TextChunk(list(tokens[: count.value]))
    return ImageChunk(mtmd.mtmd_input_chunk_copy(chunk), hashlib.sha256(digest + index.to_bytes(4)).digest())
