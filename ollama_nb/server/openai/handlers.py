"""OpenAI's routes: each handler reads a body, asks what Ollama's routes would be asked, writes OpenAI's answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from ollama_nb.server.base import ApiHandler
from ollama_nb.server.openai import answers, completions
from ollama_nb.server.openai.chat import native_chats
from ollama_nb.server.openai.embeddings import embedding_list, inputs_of
from ollama_nb.server.openai.errors import error_reply
from ollama_nb.server.openai.head import Head
from ollama_nb.server.openai.texts import as_texts
from ollama_nb.server.openai.together import all_of, merged
from ollama_nb.service import generate
from ollama_nb.service.embed import embed_texts
from ollama_nb.wire import gojson
from ollama_nb.wire.errors import BadRequestError, NotFoundError
from ollama_nb.wire.names import InvalidNameError, parse_name
from ollama_nb.wire.openai import CompletionRequest, EmbeddingsRequest, Model, ModelList
from ollama_nb.wire.openai_chat import ChatCompletionRequest

if TYPE_CHECKING:
    from ollama_nb.wire.errors import OllamaError

__all__ = [
    "ChatCompletionsHandler",
    "CompletionsHandler",
    "EmbeddingsHandler",
    "ModelHandler",
    "ModelsHandler",
    "OpenAIHandler",
]

T = TypeVar("T")
_NS: Final = 1_000_000_000


class OpenAIHandler(ApiHandler):
    """What these routes have in common: the shape of errors, and streams as server-sent events."""

    stream_type: ClassVar[str] = "text/event-stream"
    stream_end: ClassVar[bytes] = b"data: [DONE]\n\n"

    def error_body(self, error: OllamaError) -> Any:  # noqa: ANN401 - a wire type
        """OpenAI's shape."""
        return error_reply(error)

    def stream_item(self, item: Any) -> bytes:  # noqa: ANN401 - any wire type
        """One event."""
        return b"data: " + gojson.encode(item) + b"\n\n"

    async def body(self, kind: type[T], name: str | None = None) -> T:
        """The request's JSON; a missing one is ``EOF`` here."""
        if not self.request.body.strip(b" \t\r\n"):
            raise BadRequestError("EOF", hint="the request has no body; send a JSON object")
        return await super().body(kind, name)


class ChatCompletionsHandler(OpenAIHandler):
    """``/v1/chat/completions``."""

    async def post(self) -> None:
        """The next message of a conversation, n times."""
        await self.serve(self._complete)

    async def _complete(self) -> None:
        request = await self.body(ChatCompletionRequest)
        asked = await self.beside(lambda: native_chats(request))
        chats = [generate.chat(self.runtime, chat) for chat in asked]
        head = Head.new("chatcmpl", request.model)
        if request.stream:
            await self.stream(answers.stream_chunks(request, head, merged(chats)))
        else:
            whole = await all_of([generate.collect_chat(chat) for chat in chats])
            self.reply(answers.completion(request, head, whole))


class CompletionsHandler(OpenAIHandler):
    """``/v1/completions``."""

    async def post(self) -> None:
        """The continuation of each prompt, n times."""
        await self.serve(self._complete)

    async def _complete(self) -> None:
        request = await self.body(CompletionRequest)
        completions.check(request)
        given = await self.beside(lambda: completions.prompts_of(request))
        prompts = await as_texts(self.runtime, request.model, given, "prompt", lambda: _missing(request.model))
        asked = completions.native_generates(request, prompts)
        texts = [generate.generate(self.runtime, one) for one in asked]
        head = Head.new("cmpl", request.model)
        if request.stream:
            await self.stream(completions.stream_chunks(request, head, prompts, merged(texts)))
        else:
            whole = await all_of([generate.collect_generate(text) for text in texts])
            self.reply(completions.completion(request, head, prompts, whole))


class EmbeddingsHandler(OpenAIHandler):
    """``/v1/embeddings``."""

    async def post(self) -> None:
        """The vector of each input."""
        await self.serve(self._embed)

    async def _embed(self) -> None:
        request = await self.body(EmbeddingsRequest, "EmbedRequest")
        inputs = await self.beside(lambda: inputs_of(request))
        texts = await as_texts(self.runtime, request.model, inputs, "input", lambda: _missing(request.model))
        found = await embed_texts(
            self.runtime,
            request.model,
            texts,
            options={},
            keep_alive=None,
            truncate=True,
            dimensions=request.dimensions,
        )
        self.reply(await asyncio.to_thread(embedding_list, request, found))


class ModelsHandler(OpenAIHandler):
    """``/v1/models``."""

    async def get(self) -> None:
        """The models in the store, newest first."""
        await self.serve(self._list)

    async def _list(self) -> None:
        entries = await asyncio.to_thread(self.runtime.store.list)
        self.reply(
            ModelList(
                data=[
                    Model(id=entry.name.short, created=entry.modified_ns // _NS, owned_by=entry.name.namespace)
                    for entry in entries
                ]
            )
        )


class ModelHandler(OpenAIHandler):
    """``/v1/models/{model}``."""

    async def get(self, model: str) -> None:
        """One model; its name may have slashes, as they are or as ``%2F``."""
        await self.serve(lambda: self._show(model))

    async def _show(self, model: str) -> None:
        try:
            stored = await asyncio.to_thread(self.runtime.store.get, parse_name(model))
        except (InvalidNameError, NotFoundError) as error:
            raise _missing(model) from error
        self.reply(Model(id=model, created=stored.modified_ns // _NS, owned_by=stored.name.namespace))


def _missing(model: str) -> NotFoundError:
    return NotFoundError(f"model '{model}' not found")
