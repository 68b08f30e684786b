"""From the name in a request to a model that can be loaded: manifest, GGUF header, chat template, capabilities."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ollama_nb.gguf.footprint import estimate
from ollama_nb.gguf.reader import GgufArray, Header, read_header
from ollama_nb.prompt.jinja import ChatTemplate
from ollama_nb.runner.scheduler import ModelSpec
from ollama_nb.wire.errors import NotFoundError, OllamaError
from ollama_nb.wire.native import Message
from ollama_nb.wire.options import Options, merge_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ollama_nb.service.runtime import Runtime
    from ollama_nb.store.models import StoredModel
    from ollama_nb.wire.names import Name

__all__ = ["ResolvedModel", "header_of", "resolve"]


@functools.lru_cache(maxsize=64)
def header_of(path: Path) -> Header:
    """The GGUF header of a blob; blobs never change, so it is read once."""
    return read_header(path)


@functools.lru_cache(maxsize=64)
def _template_of(path: Path) -> ChatTemplate | None:
    header = header_of(path)
    source = header.metadata.get("tokenizer.chat_template")
    if not isinstance(source, str):
        return None
    return ChatTemplate(source, bos=_token_text(header, "bos"), eos=_token_text(header, "eos"))


def _token_text(header: Header, kind: str) -> str:
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
    def template(self) -> ChatTemplate | None:
        """The model's chat template, compiled when it is first used; raises ``OllamaError`` for a broken one."""
        return _template_of(self.path)

    @property
    def capabilities(self) -> list[str]:
        """What this version can do with the model: an embedding model embeds, any other completes."""
        return ["embedding"] if self.header.get("pooling_type") is not None else ["completion"]

    @property
    def history(self) -> list[Message]:
        """The model's own MESSAGES."""
        return [Message(role=message["role"], content=message["content"]) for message in self.stored.messages]

    def options(self, default_num_ctx: int, requested: Mapping[str, Any]) -> Options:
        """The options of a request to this model."""
        return merge_options(default_num_ctx, self.stored.params, requested)

    def spec(self, options: Options, cache_type: str) -> ModelSpec:
        """What the scheduler needs to know to load it."""
        return ModelSpec(
            name=self.stored.name.short,
            path=str(self.path),
            adapters=tuple(str(path) for path in self.stored.adapter_paths),
            projectors=tuple(str(path) for path in self.stored.projector_paths),
            num_ctx=options.num_ctx,
            num_batch=options.num_batch,
            num_gpu=options.num_gpu,
            main_gpu=options.main_gpu,
            num_thread=options.num_thread,
            use_mmap=options.use_mmap,
            embedding="embedding" in self.capabilities,
            footprint=lambda num_seq: (
                estimate(self.header, options.num_ctx, num_seq, options.num_batch, cache_type).total
            ),
        )


async def resolve(runtime: Runtime, name: Name) -> ResolvedModel:
    """Read a model's manifest, layers and header.

    Raises ``NotFoundError`` for a model that is not there (or whose weights are gone), ``OllamaError`` for one
    that is damaged.
    """
    return await asyncio.to_thread(_resolve, runtime, name)


def _resolve(runtime: Runtime, name: Name) -> ResolvedModel:
    stored = runtime.store.get(name)
    if stored.model_path is None:
        raise OllamaError(f"model '{name.short}' has no weights", hint="create it again from a GGUF file")
    if not stored.model_path.exists():
        raise NotFoundError(f"model '{name.short}' not found", hint="its weights are missing from the store")
    return ResolvedModel(stored, stored.model_path, header_of(stored.model_path))
