"""The same text through transformers and through llama.cpp, with nothing but the converted vocabulary in between."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING, Any, Self

import llama_cpp
from gguf_files import gguf_bytes

from ollama_nb.convert.config import Config
from ollama_nb.convert.source import Source
from ollama_nb.convert.vocab import vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ollama_nb.convert.metadata import MetaValue

__all__ = ["Vocabulary", "convert", "differences", "files_of", "gguf_of"]

_ROOM = 64


def files_of(folder: Path) -> dict[str, Path]:
    """Names in a model's folder to paths, as a conversion is given them."""
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def convert(folder: Path, size: int, config: Mapping[str, Any] | None = None) -> dict[str, MetaValue]:
    """The tokenizer's keys of the files in ``folder``."""
    return vocabulary(Source(files_of(folder)), Config(config or {}), size)


def gguf_of(keys: Mapping[str, MetaValue], architecture: str = "llama") -> bytes:
    """A GGUF file of nothing but a vocabulary; lists of numbers and bytes become what the writer makes of them."""
    values: dict[str, Any] = {"general.architecture": architecture}
    for key, value in keys.items():
        if isinstance(value, bytes):
            values[key] = ("uint8", list(value))
        elif isinstance(value, list) and not value:
            values[key] = ("string", [])
        elif isinstance(value, list) and isinstance(value[0], int):
            values[key] = ("int32", value)
        else:
            values[key] = value
    return gguf_bytes(values)


class Vocabulary:
    """A converted vocabulary as llama.cpp has loaded it."""

    def __init__(self, keys: Mapping[str, MetaValue], folder: Path) -> None:
        path = folder / "vocabulary.gguf"
        path.write_bytes(gguf_of(keys))
        _quiet()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        assert self._model, "llama.cpp does not load the vocabulary"
        self.handle = llama_cpp.llama_model_get_vocab(self._model)

    def close(self) -> None:
        llama_cpp.llama_model_free(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """The ids of a text in which special tokens are tokens; ``special``: with those around a text."""
        data = text.encode()
        room, parse_special = len(data) + _ROOM, True
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.handle, data, len(data), tokens, room, special, parse_special)
        assert count >= 0
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """What a token is shown as."""
        piece = ctypes.create_string_buffer(_ROOM)
        count = llama_cpp.llama_token_to_piece(self.handle, token, piece, _ROOM, 0, False)  # noqa: FBT003
        return piece.raw[:count]

    def ends(self) -> set[int]:
        """The tokens at which llama.cpp ends an answer."""
        count = llama_cpp.llama_vocab_n_tokens(self.handle)
        return {token for token in range(count) if llama_cpp.llama_vocab_is_eog(self.handle, token)}


def differences(tokenizer: Any, vocabulary: Vocabulary, texts: Iterable[str]) -> dict[str, tuple[list[int], list[int]]]:
    """The texts of which transformers and llama.cpp make different tokens, with both."""
    found = {}
    for text in texts:
        for special in (True, False):
            ours = vocabulary.tokenize(text, special=special)
            theirs = tokenizer.encode(text, add_special_tokens=special)
            if ours != theirs:
                found[text] = (theirs, ours)
    return found


@functools.cache
def _quiet() -> None:
    """llama.cpp writes a page about every vocabulary."""
    _quiet.callback = llama_cpp.llama_log_callback(lambda *_: None)  # type: ignore[attr-defined]
    llama_cpp.llama_log_set(_quiet.callback, ctypes.c_void_p(0))  # type: ignore[attr-defined]
