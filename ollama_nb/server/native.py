"""Ollama's own routes: each handler reads a body, asks the service, writes what comes back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ollama_nb.server.base import ApiHandler
from ollama_nb.service import create, embed, generate, models, transfers
from ollama_nb.wire.models import CopyRequest, CreateRequest, DeleteRequest, PullRequest, PushRequest, ShowRequest
from ollama_nb.wire.native import ChatRequest, EmbeddingRequest, EmbedRequest, GenerateRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ollama_nb.wire.models import Progress

__all__ = [
    "ChatHandler",
    "CopyHandler",
    "CreateHandler",
    "DeleteHandler",
    "EmbedHandler",
    "EmbeddingsHandler",
    "GenerateHandler",
    "PullHandler",
    "PushHandler",
    "RootHandler",
    "RunningHandler",
    "ShowHandler",
    "TagsHandler",
    "VersionHandler",
]


class RootHandler(ApiHandler):
    """``/``: how clients see that somebody is there."""

    async def get(self) -> None:
        """Ollama's own words, since programs look for them."""
        self.reply_text("Ollama is running")

    head = get


class VersionHandler(ApiHandler):
    """``/api/version``."""

    async def get(self) -> None:
        """The version of this server."""
        self.reply({"version": self.runtime.version})

    head = get


class TagsHandler(ApiHandler):
    """``/api/tags``."""

    async def get(self) -> None:
        """The models in the store, newest first."""
        await self.serve(self._list)

    head = get

    async def _list(self) -> None:
        self.reply(await models.list_models(self.runtime))


class RunningHandler(ApiHandler):
    """``/api/ps``."""

    async def get(self) -> None:
        """The loaded models."""
        await self.serve(self._list)

    async def _list(self) -> None:
        self.reply(await models.list_running(self.runtime))


class ShowHandler(ApiHandler):
    """``/api/show``."""

    async def post(self) -> None:
        """All about one model."""
        await self.serve(self._show)

    async def _show(self) -> None:
        self.reply(await models.show(self.runtime, await self.body(ShowRequest)))


class CopyHandler(ApiHandler):
    """``/api/copy``."""

    async def post(self) -> None:
        """A second name for a model; 200 and no body."""
        await self.serve(self._copy)

    async def _copy(self) -> None:
        await models.copy(self.runtime, await self.body(CopyRequest))


class DeleteHandler(ApiHandler):
    """``/api/delete``."""

    async def delete(self) -> None:
        """A model less; 200 and no body."""
        await self.serve(self._delete)

    async def _delete(self) -> None:
        await models.delete(self.runtime, await self.body(DeleteRequest))


class GenerateHandler(ApiHandler):
    """``/api/generate``."""

    async def post(self) -> None:
        """Continue a prompt."""
        await self.serve(self._generate)

    async def _generate(self) -> None:
        request = await self.body(GenerateRequest)
        responses = generate.generate(self.runtime, request)
        if request.stream and request.prompt and not request.debug_render_only:
            await self.stream(responses)
        else:
            self.reply(await generate.collect_generate(responses))


class ChatHandler(ApiHandler):
    """``/api/chat``."""

    async def post(self) -> None:
        """The next message of a conversation."""
        await self.serve(self._chat)

    async def _chat(self) -> None:
        request = await self.body(ChatRequest)
        responses = generate.chat(self.runtime, request)
        if request.stream and request.messages and not request.debug_render_only:
            await self.stream(responses)
        else:
            self.reply(await generate.collect_chat(responses))


class EmbedHandler(ApiHandler):
    """``/api/embed``."""

    async def post(self) -> None:
        """A vector for each text."""
        await self.serve(self._embed)

    async def _embed(self) -> None:
        self.reply(await embed.embed(self.runtime, await self.body(EmbedRequest)))


class EmbeddingsHandler(ApiHandler):
    """``/api/embeddings``, which ``/api/embed`` took the place of."""

    async def post(self) -> None:
        """The vector of one text."""
        await self.serve(self._embed)

    async def _embed(self) -> None:
        self.reply(await embed.legacy_embedding(self.runtime, await self.body(EmbeddingRequest)))


class _StepsHandler(ApiHandler):
    """What long work has in common: its steps as they come, or the last of them alone."""

    async def _tell(self, steps: AsyncGenerator[Progress], *, stream: bool, tell_status: bool = False) -> None:
        if stream:
            await self.stream(steps, tell_status=tell_status)
            return
        async with contextlib.aclosing(steps):
            async for step in steps:
                last = step
        self.reply(last)


class CreateHandler(_StepsHandler):
    """``/api/create``."""

    async def post(self) -> None:
        """Make a model; the steps as a stream, or the last one."""
        await self.serve(self._create)

    async def _create(self) -> None:
        request = await self.body(CreateRequest)
        await self._tell(create.create(self.runtime, request), stream=request.stream, tell_status=True)


class PullHandler(_StepsHandler):
    """``/api/pull``."""

    async def post(self) -> None:
        """Fetch a model; the steps as a stream, or the last one."""
        await self.serve(self._pull)

    async def _pull(self) -> None:
        request = await self.body(PullRequest)
        await self._tell(transfers.pull(self.runtime, request), stream=request.stream)


class PushHandler(_StepsHandler):
    """``/api/push``."""

    async def post(self) -> None:
        """Publish a model; the steps as a stream, or the last one."""
        await self.serve(self._push)

    async def _push(self) -> None:
        request = await self.body(PushRequest)
        await self._tell(transfers.push(self.runtime, request), stream=request.stream)
