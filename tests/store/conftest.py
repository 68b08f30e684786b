"""A store of its own for every test, and GGUF files of a few bytes."""

import os
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from store.looking import ignore

from ollama_nb.store.drafts import ModelDraft
from ollama_nb.store.models import ModelStore
from ollama_nb.wire.names import parse_name

HOUR_AND_MORE = 3700
GGUF_UINT32, GGUF_STRING = 4, 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> ModelStore:
    store = ModelStore(root)
    store.open()
    return store


@pytest.fixture
def tiny_gguf() -> Callable[..., bytes]:
    """A GGUF header without tensors: metadata of strings and 32-bit numbers."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def build(metadata: Mapping[str, str | int] | None = None) -> bytes:
        pairs = [
            text(key)
            + (
                struct.pack("<II", GGUF_UINT32, value)
                if isinstance(value, int)
                else struct.pack("<I", GGUF_STRING) + text(value)
            )
            for key, value in (metadata or {}).items()
        ]
        return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs)

    return build


@pytest.fixture
def age() -> Callable[..., None]:
    """Makes a file look as if it had not changed for more than an hour, or for longer."""

    def make_old(path: Path, seconds: float = HOUR_AND_MORE) -> None:
        then = time.time() - seconds
        os.utime(path, (then, then))

    return make_old


@pytest.fixture
def make(store, tiny_gguf):
    """Makes a small model in the store, or in another one."""

    def make(text: str, *, of: ModelStore = store, **settings) -> None:
        digest, _, _ = of.blobs.put(tiny_gguf())
        draft = ModelDraft.from_gguf({"x.gguf": digest}, of.blobs, ignore)
        of.create(parse_name(text), draft.apply(**settings), ignore)

    return make
