"""From the name in a request to a model that can be loaded: manifest, GGUF header, template, capabilities."""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ollama_nb.gguf.footprint import estimate
from ollama_nb.gguf.reader import GgufArray, Header, read_header
from ollama_nb.prompt.driver import JinjaDriver, go_driver
from ollama_nb.prompt.sandbox import SandboxedTemplate
from ollama_nb.runner.scheduler import ModelSpec
from ollama_nb.store.manifests import MediaType
from ollama_nb.store.modelfile import DEFAULT_TEMPLATE
from ollama_nb.wire.errors import NotFoundError, OllamaError
from ollama_nb.wire.native import Message
from ollama_nb.wire.options import Options, merge_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ollama_nb.prompt.driver import Driver
    from ollama_nb.service.runtime import Runtime
    from ollama_nb.store.models import ModelEntry, ModelStore, StoredModel
    from ollama_nb.wire.names import Name

__all__ = ["ResolvedModel", "capabilities_of", "header_of", "resolve", "token_text"]

log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=64)
def header_of(path: Path) -> Header:
    """The GGUF header of a blob; blobs never change, so it is read once."""
    return read_header(path)


@functools.lru_cache(maxsize=64)
def _jinja_of(path: Path) -> JinjaDriver | None:
    header = header_of(path)
    source = header.metadata.get("tokenizer.chat_template")
    if not isinstance(source, str):
        return None
    return JinjaDriver(SandboxedTemplate(source, bos=token_text(header, "bos"), eos=token_text(header, "eos")))


def token_text(header: Header, kind: str) -> str:
    """The text of the ``bos`` or ``eos`` token; empty where there is none."""
    number = header.metadata.get(f"tokenizer.ggml.{kind}_token_id")
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(number, int) or not isinstance(tokens, GgufArray) or not 0 <= number < len(tokens):
        return ""
    return str(tokens[number])


@dataclass(frozen=True)
class ResolvedModel:
    """A stored model with what its files say."""

    stored: StoredModel
    path: Path
    header: Header

    @property
    def driver(self) -> Driver:
        """The model's TEMPLATE, else the chat template of its GGUF, else the bare prompt.

        Raises ``OllamaError`` for one that does not parse.
        """
        if self.stored.template is not None:
            return go_driver(self.stored.template)
        return _jinja_of(self.path) or go_driver(DEFAULT_TEMPLATE)

    @property
    def bos(self) -> str:
        """The text of the BOS token."""
        return token_text(self.header, "bos")

    @property
    def capabilities(self) -> list[str]:
        """What the model can do, in Ollama's order; a template that does not parse adds nothing."""
        found = ["embedding" if self.header.get("pooling_type") is not None else "completion"]
        if self.header.get("vision.block_count") is not None or self.stored.projector_paths:
            found.append("vision")
        try:
            return [*found, *self.driver.abilities]
        except OllamaError as error:
            log.warning("the template of %s cannot be used: %s", self.stored.name.short, error)
            return found

    @property
    def thinks_by_name(self) -> bool:
        """Whether it is of a family that wrote its thinking into the content before templates knew of it."""
        return self.stored.config.model_family == "qwen3" or self.stored.name.model == "deepseek-r1"

    @property
    def history(self) -> list[Message]:
        """The model's own MESSAGES."""
        return [Message(role=message["role"], content=message["content"]) for message in self.stored.messages]

    def options(self, default_num_ctx: int, requested: Mapping[str, Any]) -> Options:
        """The options of a request to this model."""
        return merge_options(default_num_ctx, self.stored.params, requested)

    def spec(self, options: Options, cache_type: str) -> ModelSpec:
        """What the scheduler needs to know to load it."""
        trained = self.header.get("context_length")
        # The engine makes no more than that, so no more has to fit into memory.
        num_ctx = min(options.num_ctx, trained) if isinstance(trained, int) and trained > 0 else options.num_ctx
        return ModelSpec(
            name=self.stored.name.short,
            path=str(self.path),
            adapters=tuple(str(path) for path in self.stored.adapter_paths),
            projectors=tuple(str(path) for path in self.stored.projector_paths),
            num_ctx=num_ctx,
            num_batch=options.num_batch,
            num_gpu=options.num_gpu,
            main_gpu=options.main_gpu,
            num_thread=options.num_thread,
            use_mmap=options.use_mmap,
            embedding="embedding" in self.capabilities,
            footprint=lambda num_seq: (
                estimate(self.header, num_ctx, num_seq, options.num_batch, cache_type, beside=self._bytes_beside).total
            ),
        )

    @property
    def _bytes_beside(self) -> int:
        """Bytes of the files that are loaded with the weights."""
        kinds = (MediaType.PROJECTOR, MediaType.ADAPTER)
        return sum(layer.size for layer in self.stored.manifest.layers if layer.media_type in kinds)


async def resolve(runtime: Runtime, name: Name) -> ResolvedModel:
    """Read a model's manifest, layers and header.

    Raises ``NotFoundError`` for a model that is not there (or whose weights are gone), ``OllamaError`` for one
    that is damaged.
    """
    return await asyncio.to_thread(_resolve, runtime.store, name)


def capabilities_of(store: ModelStore, entry: ModelEntry) -> list[str]:
    """The capabilities of a listed model; none where its files are not all there. Blocks on the disk."""
    try:
        return list(_capabilities(store, entry.name, entry.digest))
    except OllamaError:
        return []


@functools.lru_cache(maxsize=1024)
def _capabilities(store: ModelStore, name: Name, digest: str) -> tuple[str, ...]:
    """Remembered by the digest of the manifest, since whoever has it has the same files."""
    del digest
    return tuple(_resolve(store, name).capabilities)


def _resolve(store: ModelStore, name: Name) -> ResolvedModel:
    stored = store.get(name)
    if stored.model_path is None:
        raise OllamaError(f"model '{name.short}' has no weights", hint="create it again from a GGUF file")
    if not stored.model_path.exists():
        raise NotFoundError(f"model '{name.short}' not found", hint="its weights are missing from the store")
    return ResolvedModel(stored, stored.model_path, header_of(stored.model_path))
