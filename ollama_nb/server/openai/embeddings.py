"""Embeddings: what is asked, and vectors in the two encodings that OpenAI has. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

from ollama_nb.server.openai.errors import FieldError
from ollama_nb.server.openai.texts import texts_or_tokens
from ollama_nb.service.vectors import vector_json
from ollama_nb.wire.openai import Embedding, EmbeddingList, EmbeddingUsage

if TYPE_CHECKING:
    from ollama_nb.service.embed import Embeddings
    from ollama_nb.wire.openai import EmbeddingsRequest

__all__ = ["embedding_list", "inputs_of"]


def inputs_of(request: EmbeddingsRequest) -> list[str | list[int]]:
    """The inputs as texts or token ids; raises ``FieldError``, for an unknown encoding too."""
    if request.encoding_format.lower() not in ("float", "base64"):
        raise FieldError(
            f"Invalid value for 'encoding_format' = {request.encoding_format}. Supported values: ['float', 'base64'].",
            "encoding_format",
        )
    if request.input is None or request.input == []:
        raise FieldError("invalid input", "input", hint="send a text or a list of texts")
    inputs = texts_or_tokens(request.input)
    if inputs is None:
        raise FieldError("invalid input type", "input", hint="texts, token ids or lists of token ids")
    return inputs


def embedding_list(request: EmbeddingsRequest, found: Embeddings) -> EmbeddingList:
    """The answer; encoding many vectors takes a while."""
    if request.encoding_format.lower() == "base64":
        written = [
            msgspec.Raw(msgspec.json.encode(base64.b64encode(vector.astype("<f4").tobytes()).decode()))
            for vector in found.vectors
        ]
    else:
        written = vector_json(found.vectors)
    return EmbeddingList(
        data=[Embedding(embedding=vector, index=index) for index, vector in enumerate(written)],
        model=request.model,
        usage=EmbeddingUsage(prompt_tokens=found.prompt_count, total_tokens=found.prompt_count),
    )
