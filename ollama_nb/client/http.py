"""The two clients, blocking and asyncio: the same calls with the same results, by the rules in ``protocol``.

What stands here is only the sending: which server, which headers, streams opened and errors raised before the first
byte of an answer. How a stream is read and left is in ``stream``.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, Unpack, overload

import httpx2
import msgspec

from ollama_nb.client import protocol
from ollama_nb.client.creation import AsyncCreation, Creation
from ollama_nb.client.discovery import connection_settings, find_server
from ollama_nb.client.files import file_pieces
from ollama_nb.client.recipe import Recipe
from ollama_nb.client.reply import Reply, error_from
from ollama_nb.client.stream import AsyncStream, Stream, transport_errors
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path

    from ollama_nb.client.discovery import Server
    from ollama_nb.client.files import OnProgress
    from ollama_nb.client.models import ModelCard, ModelSummary, Progress, RunningModel
    from ollama_nb.client.protocol import Call, ChatFields, CreateFields, EmbedFields, GenerateFields, StreamCall
    from ollama_nb.client.recipe import ModelfileSource
    from ollama_nb.client.results import ChatResult, Chunk, GenerateResult, Message
    from ollama_nb.client.vectors import Embeddings

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for reaching the server; its answer has no limit unless the caller sets one: models load slowly."""


class Client:
    """A blocking client. ``host`` as in ``OLLAMA_HOST``, or a Jupyter mount's URL; none: the server is looked for.

    ``timeout`` limits, in seconds, how long the server may be silent. ``token`` is the key or the Jupyter token that
    the server asks for. Every method raises ``OllamaError`` with the server's own text and status. Raises
    ``ServerUnreachableError`` if no server answers.
    """

    def __init__(self, host: str | None = None, timeout: float | None = None, *, token: str | None = None) -> None:
        self.server = find_server(host, token=token)
        self._http = httpx2.Client(**_settings(self.server, timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections; streams that are still open end."""
        self._http.close()

    def version(self) -> str:
        """The server's version."""
        return self._call(protocol.version_call())

    def list(self) -> tuple[ModelSummary, ...]:
        """The stored models, the latest first."""
        return self._call(protocol.list_call())

    def ps(self) -> tuple[RunningModel, ...]:
        """The models in memory."""
        return self._call(protocol.ps_call())

    def show(self, model: str, *, verbose: bool = False) -> ModelCard:
        """All about a model; ``verbose`` includes the tokenizer's arrays."""
        return self._call(protocol.show_call(model, verbose=verbose))

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self._call(protocol.copy_call(source, destination))

    def delete(self, model: str) -> None:
        """Delete a model, and the data that no other model uses."""
        self._call(protocol.delete_call(model))

    def load(self, model: str, keep_alive: str | float | None = None) -> None:
        """Load a model; it stays for ``keep_alive`` (seconds, or a text such as ``10m``)."""
        self._call(protocol.keep_alive_call(model, keep_alive))

    def unload(self, model: str) -> None:
        """Free a model's memory."""
        self._call(protocol.keep_alive_call(model, 0))

    def blob_exists(self, digest: str) -> bool:
        """Whether the server has a file with this digest (``sha256:`` and 64 hex digits)."""
        with transport_errors(self._http.base_url):
            return _exists(self._http.head(protocol.blob_path(digest)))

    def push_blob(self, path: Path, digest: str, progress: OnProgress | None = None) -> None:
        """Send a file under its digest; ``progress`` is told the bytes sent and the size. Raises ``OSError`` too."""
        headers = {"Content-Length": str(path.stat().st_size)}
        with transport_errors(self._http.base_url):
            response = self._http.post(protocol.blob_path(digest), content=file_pieces(path, progress), headers=headers)
        _checked(response.status_code, response.content)

    def create(self, model: str, modelfile: ModelfileSource | None = None, **fields: Unpack[CreateFields]) -> Creation:
        """Create a model; iterate for its steps, or wait for ``result()``.

        It is built on what ``modelfile`` says (a ``Modelfile``, the text of one, or a file's ``Path``; the files it
        names are sent), or on the model ``from_`` or the blobs ``files``. Other fields go before the Modelfile's.
        """
        return Creation(Recipe.of(model, modelfile, fields), self, self._open)

    def pull(self, model: str, *, insecure: bool = False) -> Stream[Progress, Progress]:
        """Have the server fetch a model from its registry; iterate for its steps, or wait for ``result()``.

        Steps with a ``total`` are about the blob ``digest``; those of several blobs come mixed. Leaving early tells
        the server to stop; the next pull goes on where this one was. ``insecure`` allows a registry without TLS.
        """
        return self._open(protocol.pull_call(model, insecure=insecure))

    def push(self, model: str, *, insecure: bool = False) -> Stream[Progress, Progress]:
        """Have the server send a model to the registry that its name says; steps and leaving as with ``pull``."""
        return self._open(protocol.push_call(model, insecure=insecure))

    @overload
    def chat(
        self,
        model: str,
        messages: str | Sequence[Message],
        *,
        stream: Literal[True],
        **fields: Unpack[ChatFields],
    ) -> Stream[Chunk, ChatResult]: ...

    @overload
    def chat(
        self,
        model: str,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = ...,
        **fields: Unpack[ChatFields],
    ) -> ChatResult: ...

    def chat(
        self, model: str, messages: str | Sequence[Message], *, stream: bool = False, **fields: Unpack[ChatFields]
    ) -> ChatResult | Stream[Chunk, ChatResult]:
        """The next message of a conversation; a plain text is a conversation of one message."""
        return self._answer(protocol.chat_call(model, messages, fields), stream=stream)

    @overload
    def generate(
        self, model: str, prompt: str, *, stream: Literal[True], **fields: Unpack[GenerateFields]
    ) -> Stream[Chunk, GenerateResult]: ...

    @overload
    def generate(
        self, model: str, prompt: str, *, stream: Literal[False] = ..., **fields: Unpack[GenerateFields]
    ) -> GenerateResult: ...

    def generate(
        self, model: str, prompt: str, *, stream: bool = False, **fields: Unpack[GenerateFields]
    ) -> GenerateResult | Stream[Chunk, GenerateResult]:
        """The continuation of a prompt."""
        return self._answer(protocol.generate_call(model, prompt, fields), stream=stream)

    def embed(self, model: str, texts: str | Iterable[str], **fields: Unpack[EmbedFields]) -> Embeddings:
        """The vectors of one text or of several (a list, a pandas Series…), of length 1, as one numpy array."""
        return self._call(protocol.embed_call(model, texts, fields))

    def _call(self, call: Call[T]) -> T:
        with transport_errors(self._http.base_url):
            response = self._http.request(call.method, call.path, **_body(call.body))
        return call.read(_checked(response.status_code, response.content))

    def _open(self, call: StreamCall[E, R]) -> Stream[E, R]:
        reply = Reply(call.fold())
        request = self._http.build_request("POST", call.path, **_body(call.body))
        try:
            with transport_errors(request.url):
                response = self._http.send(request, stream=True)
                if response.is_success:
                    return Stream(response, reply)
                with closing(response):
                    raise error_from(response.status_code, response.read())
        except OllamaError as exc:
            reply.close(exc.message)
            raise

    def _answer(self, call: StreamCall[E, R], *, stream: bool) -> R | Stream[E, R]:
        opened = self._open(call)
        if stream:
            return opened
        with opened:  # streamed all the same: the first text is timed, and an interrupt reaches the server
            return opened.result()


class AsyncClient:
    """``Client`` for asyncio; leave it with ``async with`` or ``aclose()``.

    The search for a server is done once, in the constructor, and blocks for a moment.
    """

    def __init__(self, host: str | None = None, timeout: float | None = None, *, token: str | None = None) -> None:
        self.server = find_server(host, token=token)
        self._http = httpx2.AsyncClient(**_settings(self.server, timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give back the connections; streams that are still open end."""
        await self._http.aclose()

    async def version(self) -> str:
        """The server's version."""
        return await self._call(protocol.version_call())

    async def list(self) -> tuple[ModelSummary, ...]:
        """The stored models, the latest first."""
        return await self._call(protocol.list_call())

    async def ps(self) -> tuple[RunningModel, ...]:
        """The models in memory."""
        return await self._call(protocol.ps_call())

    async def show(self, model: str, *, verbose: bool = False) -> ModelCard:
        """All about a model; ``verbose`` includes the tokenizer's arrays."""
        return await self._call(protocol.show_call(model, verbose=verbose))

    async def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        await self._call(protocol.copy_call(source, destination))

    async def delete(self, model: str) -> None:
        """Delete a model, and the data that no other model uses."""
        await self._call(protocol.delete_call(model))

    async def load(self, model: str, keep_alive: str | float | None = None) -> None:
        """Load a model; it stays for ``keep_alive`` (seconds, or a text such as ``10m``)."""
        await self._call(protocol.keep_alive_call(model, keep_alive))

    async def unload(self, model: str) -> None:
        """Free a model's memory."""
        await self._call(protocol.keep_alive_call(model, 0))

    async def blob_exists(self, digest: str) -> bool:
        """Whether the server has a file with this digest (``sha256:`` and 64 hex digits)."""
        with transport_errors(self._http.base_url):
            return _exists(await self._http.head(protocol.blob_path(digest)))

    async def push_blob(self, path: Path, digest: str, progress: OnProgress | None = None) -> None:
        """Send a file under its digest; ``progress`` is told the bytes sent and the size. Raises ``OSError`` too."""
        headers = {"Content-Length": str((await asyncio.to_thread(path.stat)).st_size)}
        with transport_errors(self._http.base_url):
            response = await self._http.post(
                protocol.blob_path(digest), content=_pieces_in_thread(path, progress), headers=headers
            )
        _checked(response.status_code, response.content)

    async def create(
        self, model: str, modelfile: ModelfileSource | None = None, **fields: Unpack[CreateFields]
    ) -> AsyncCreation:
        """Create a model as ``Client.create`` does; iterate for its steps, or wait for ``result()``."""
        return await AsyncCreation.begin((model, modelfile, fields), self, self._open)

    async def pull(self, model: str, *, insecure: bool = False) -> AsyncStream[Progress, Progress]:
        """Have the server fetch a model as ``Client.pull`` does; iterate for its steps, or wait for ``result()``."""
        return await self._open(protocol.pull_call(model, insecure=insecure))

    async def push(self, model: str, *, insecure: bool = False) -> AsyncStream[Progress, Progress]:
        """Have the server send a model as ``Client.push`` does; steps and leaving as with ``pull``."""
        return await self._open(protocol.push_call(model, insecure=insecure))

    @overload
    async def chat(
        self,
        model: str,
        messages: str | Sequence[Message],
        *,
        stream: Literal[True],
        **fields: Unpack[ChatFields],
    ) -> AsyncStream[Chunk, ChatResult]: ...

    @overload
    async def chat(
        self,
        model: str,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = ...,
        **fields: Unpack[ChatFields],
    ) -> ChatResult: ...

    async def chat(
        self, model: str, messages: str | Sequence[Message], *, stream: bool = False, **fields: Unpack[ChatFields]
    ) -> ChatResult | AsyncStream[Chunk, ChatResult]:
        """The next message of a conversation; a plain text is a conversation of one message."""
        return await self._answer(protocol.chat_call(model, messages, fields), stream=stream)

    @overload
    async def generate(
        self, model: str, prompt: str, *, stream: Literal[True], **fields: Unpack[GenerateFields]
    ) -> AsyncStream[Chunk, GenerateResult]: ...

    @overload
    async def generate(
        self, model: str, prompt: str, *, stream: Literal[False] = ..., **fields: Unpack[GenerateFields]
    ) -> GenerateResult: ...

    async def generate(
        self, model: str, prompt: str, *, stream: bool = False, **fields: Unpack[GenerateFields]
    ) -> GenerateResult | AsyncStream[Chunk, GenerateResult]:
        """The continuation of a prompt."""
        return await self._answer(protocol.generate_call(model, prompt, fields), stream=stream)

    async def embed(self, model: str, texts: str | Iterable[str], **fields: Unpack[EmbedFields]) -> Embeddings:
        """The vectors of one text or of several (a list, a pandas Series…), of length 1, as one numpy array."""
        return await self._call(protocol.embed_call(model, texts, fields))

    async def _call(self, call: Call[T]) -> T:
        with transport_errors(self._http.base_url):
            response = await self._http.request(call.method, call.path, **_body(call.body))
        return call.read(_checked(response.status_code, response.content))

    async def _open(self, call: StreamCall[E, R]) -> AsyncStream[E, R]:
        reply = Reply(call.fold())
        request = self._http.build_request("POST", call.path, **_body(call.body))
        try:
            with transport_errors(request.url):
                response = await self._http.send(request, stream=True)
                if response.is_success:
                    return AsyncStream(response, reply)
                async with aclosing(response):
                    raise error_from(response.status_code, await response.aread())
        except OllamaError as exc:
            reply.close(exc.message)
            raise

    async def _answer(self, call: StreamCall[E, R], *, stream: bool) -> R | AsyncStream[E, R]:
        opened = await self._open(call)
        if stream:
            return opened
        async with opened:
            return await opened.result()


def _settings(server: Server, timeout: float | None) -> dict[str, Any]:
    """Both clients' settings."""
    return {
        "base_url": server.url,
        "headers": {"Authorization": f"Bearer {server.token}"} if server.token else {},
        "timeout": httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
        **connection_settings(server.url),
    }


def _body(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments by which a request carries ``value`` as JSON."""
    if value is None:
        return {}
    return {"content": msgspec.json.encode(value), "headers": {"Content-Type": "application/json"}}


def _checked(status: int, body: bytes) -> bytes:
    """The body of a good reply; raises ``OllamaError`` for any other."""
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        raise error_from(status, body)
    return body


def _exists(response: httpx2.Response) -> bool:
    if response.status_code == HTTPStatus.NOT_FOUND:
        return False
    if response.status_code == HTTPStatus.BAD_REQUEST:  # a HEAD reply has no text of its own
        raise error_from(HTTPStatus.BAD_REQUEST, b'{"error": "invalid digest format"}')
    _checked(response.status_code, response.content)
    return True


async def _pieces_in_thread(path: Path, progress: OnProgress | None) -> AsyncIterator[bytes]:
    """A file's pieces, read in a thread, so that the loop is never blocked by a disk."""
    pieces = file_pieces(path, progress)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
