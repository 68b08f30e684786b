"""Files made in the store by the converting process: from safetensors to GGUF, and from a GGUF to a smaller one.

Each result comes into being under a temporary name in the store and becomes a blob when it is complete. An error, or a
request that is called off, ends the process and leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ollama_nb.convert import process
from ollama_nb.convert.jobs import BaseModel, ConvertAdapter, ConvertModel, Job, Quantize, Step
from ollama_nb.convert.quantize import FLOAT_TYPES, require_source
from ollama_nb.gguf.reader import read_header
from ollama_nb.service.threads import in_thread
from ollama_nb.store.files import disk_refusals
from ollama_nb.wire.models import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from ollama_nb.gguf.reader import Header
    from ollama_nb.store.blobs import BlobStore

    Tell: TypeAlias = Callable[[Progress], None]
    """Takes the steps of a long operation, one by one."""

__all__ = ["Made", "convert_adapter", "convert_model", "quantize"]

_UNNAMED: Final = "0" * 19
"""What Ollama gives as the digest of a file that has none yet; its command shows a bar by it."""


class Made(NamedTuple):
    """A blob, and whether it has not been here before."""

    digest: str
    is_new: bool


async def convert_model(blobs: BlobStore, files: Mapping[str, str], wanted: str, tell: Tell) -> Made:
    """A GGUF made of a model's safetensors files (names to digests), quantized if so ``wanted``.

    Raises ``OllamaError``: a 400 where the files are to blame.
    """
    async with _scratch(blobs) as out:
        asked = wanted if wanted in FLOAT_TYPES else ""
        await _run(ConvertModel(files=_paths(blobs, files), out=str(out), type=asked), "converting model", tell)
        smaller = await quantize(blobs, out, wanted, tell) if wanted else None
        return smaller or await _adopted(blobs, out)


async def convert_adapter(blobs: BlobStore, files: Mapping[str, str], base: Header, tell: Tell) -> Made:
    """A GGUF made of a LoRA adapter's safetensors files, for a model like ``base``; raises as above."""
    heads = _whole(base, "attention.head_count", 1)
    model = BaseModel(
        architecture=base.architecture,
        block_count=_whole(base, "block_count", 1),
        head_count=heads,
        head_count_kv=_whole(base, "attention.head_count_kv", heads),
    )
    async with _scratch(blobs) as out:
        await _run(ConvertAdapter(files=_paths(blobs, files), out=str(out), base=model), "converting adapter", tell)
        return await _adopted(blobs, out)


async def quantize(blobs: BlobStore, source: Path, wanted: str, tell: Tell) -> Made | None:
    """The GGUF file ``source`` as the type ``wanted``; None where it is that already.

    Raises ``BadRequestError`` for a model that is quantized already.
    """
    have = require_source(await asyncio.to_thread(read_header, source), wanted)
    if have == wanted:
        return None
    async with _scratch(blobs) as out:
        status = f"quantizing {have} model to {wanted}"
        await _run(Quantize(source=str(source), out=str(out), type=wanted), status, tell)
        tell(Progress(status="verifying conversion"))
        return await _adopted(blobs, out)


@contextlib.asynccontextmanager
async def _scratch(blobs: BlobStore) -> AsyncIterator[Path]:
    """``BlobStore.scratch``, whose lock and disk only this request waits for."""
    stack = contextlib.ExitStack()
    try:
        with disk_refusals():
            out = await in_thread(lambda: stack.enter_context(blobs.scratch()))
        yield out
    finally:
        await in_thread(stack.close)


async def _run(job: Job, status: str, tell: Tell) -> None:
    """Have the job done, telling how far it is and what is to be noted."""
    tell(Progress(status=status))
    async with contextlib.aclosing(process.run(job)) as events:
        async for event in events:
            if isinstance(event, Step):
                tell(Progress(status=status, digest=_UNNAMED, total=event.total, completed=event.completed))
            else:
                for note in event.notes:
                    tell(Progress(status=note))


async def _adopted(blobs: BlobStore, path: Path) -> Made:
    """A complete file, which is a blob from now on; raises ``BadRequestError`` if it is no sound GGUF."""
    await asyncio.to_thread(read_header, path)
    with disk_refusals():
        digest, existed = await in_thread(lambda: blobs.adopt(path))
    return Made(digest, not existed)


def _paths(blobs: BlobStore, files: Mapping[str, str]) -> dict[str, str]:
    return {name: str(blobs.path(digest)) for name, digest in files.items()}


def _whole(header: Header, key: str, default: int) -> int:
    value = header.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default
