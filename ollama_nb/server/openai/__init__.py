"""OpenAI's API: translated to Ollama's own and back, so that what Ollama's can do decides what this one does.

``chat``, ``completions`` and ``embeddings`` make native requests of OpenAI's, ``answers`` and ``completions`` make
OpenAI's answers of native responses: pure functions, with ``messages`` and ``options`` for the parts. ``together``
runs several answers at once, ``errors`` gives errors their shape, ``handlers`` is HTTP.
"""

from __future__ import annotations

from ollama_nb.server.openai.handlers import (
    ChatCompletionsHandler,
    CompletionsHandler,
    EmbeddingsHandler,
    ModelHandler,
    ModelsHandler,
    OpenAIHandler,
)

__all__ = [
    "ChatCompletionsHandler",
    "CompletionsHandler",
    "EmbeddingsHandler",
    "ModelHandler",
    "ModelsHandler",
    "OpenAIHandler",
]
