"""Ollama's API as a client speaks it, without any I/O: which request each call is, and how its reply is read.

A ``Call`` has one reply; a ``StreamCall`` has a stream of JSON lines, whose reading is left to ``reply``. ``http``
moves the bytes, once for blocking callers and once for asyncio, and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from ollama_nb.client.models import ModelCard, ModelSummary, Progress, RunningModel
from ollama_nb.client.reply import ChatFold, GenerateFold, StepsFold, convert, present, read
from ollama_nb.client.vectors import list_texts, read_embeddings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ollama_nb.client.reply import Fold
    from ollama_nb.client.results import ChatResult, Chunk, GenerateResult, Message
    from ollama_nb.client.vectors import Embeddings

__all__ = [
    "Call",
    "ChatFields",
    "CreateFields",
    "EmbedFields",
    "GenerateFields",
    "StreamCall",
    "blob_path",
    "chat_call",
    "copy_call",
    "create_call",
    "delete_call",
    "embed_call",
    "generate_call",
    "keep_alive_call",
    "list_call",
    "ps_call",
    "pull_call",
    "push_call",
    "show_call",
    "version_call",
]

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")


class _CommonFields(TypedDict, total=False):
    """What chat and generate have in common: ``format`` is ``json`` or a JSON schema; ``keep_alive`` in seconds.

    ``truncate`` false makes a prompt that does not fit into the context an error, ``shift`` false ends an answer
    where the context is full. ``logprobs`` and ``top_logprobs`` (0 to 20) come with the pieces of a stream.
    """

    options: Mapping[str, Any] | None
    format: str | Mapping[str, Any] | None
    think: bool | str | None
    keep_alive: str | float | None
    truncate: bool | None
    shift: bool | None
    logprobs: bool | None
    top_logprobs: int | None


class ChatFields(_CommonFields, total=False):
    """The optional fields of a chat request.

    ``tool_choice``: ``none``, ``auto``, ``required``, or ``{"type": "function", "function": {"name": …}}``.
    """

    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None


class GenerateFields(_CommonFields, total=False):
    """The optional fields of a generate request; ``images`` are base64 texts."""

    suffix: str | None
    system: str | None
    template: str | None
    context: Sequence[int] | None
    raw: bool | None
    images: Sequence[str] | None


class EmbedFields(TypedDict, total=False):
    """The optional fields of an embed request; ``dimensions`` cuts the vectors, ``truncate`` false no text."""

    options: Mapping[str, Any] | None
    keep_alive: str | float | None
    truncate: bool | None
    dimensions: int | None


class CreateFields(TypedDict, total=False):
    """The optional fields of a create request; ``files`` and ``adapters`` map a file's name to its blob's digest."""

    from_: str | None
    files: Mapping[str, str] | None
    adapters: Mapping[str, str] | None
    template: str | None
    license: str | Sequence[str] | None
    system: str | None
    parameters: Mapping[str, Any] | None
    messages: Sequence[Message] | None
    quantize: str | None


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request with one reply, and how the reply's body is read."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    read: Callable[[bytes], T]


@dataclass(frozen=True, slots=True)
class StreamCall(Generic[E, R]):
    """A POST whose reply is a stream of JSON lines; ``fold`` makes a fresh fold, which also starts the clock."""

    path: str
    body: Mapping[str, Any]
    fold: Callable[[], Fold[E, R]]


def version_call() -> Call[str]:
    """``GET /api/version``."""
    return Call("GET", "/api/version", None, lambda body: str(read(body, dict[str, Any]).get("version", "")))


def list_call() -> Call[tuple[ModelSummary, ...]]:
    """``GET /api/tags``."""
    return Call(
        "GET",
        "/api/tags",
        None,
        lambda body: convert(read(body, dict[str, Any]).get("models") or [], tuple[ModelSummary, ...]),
    )


def ps_call() -> Call[tuple[RunningModel, ...]]:
    """``GET /api/ps``."""
    return Call(
        "GET",
        "/api/ps",
        None,
        lambda body: convert(read(body, dict[str, Any]).get("models") or [], tuple[RunningModel, ...]),
    )


def show_call(model: str, *, verbose: bool = False) -> Call[ModelCard]:
    """``POST /api/show``; ``verbose`` includes the tokenizer's arrays."""
    return Call("POST", "/api/show", {"model": model, "verbose": verbose}, lambda body: read(body, ModelCard))


def copy_call(source: str, destination: str) -> Call[None]:
    """``POST /api/copy``."""
    return Call("POST", "/api/copy", {"source": source, "destination": destination}, _nothing)


def delete_call(model: str) -> Call[None]:
    """``DELETE /api/delete``."""
    return Call("DELETE", "/api/delete", {"model": model}, _nothing)


def keep_alive_call(model: str, keep_alive: str | float | None) -> Call[None]:
    """A generate request without a prompt: loads the model, or with ``keep_alive`` 0 unloads it."""
    return Call("POST", "/api/generate", present(model=model, keep_alive=keep_alive, stream=False), _nothing)


def blob_path(digest: str) -> str:
    """Where a blob is asked for and sent to."""
    return f"/api/blobs/{digest}"


def chat_call(model: str, messages: str | Sequence[Message], fields: ChatFields) -> StreamCall[Chunk, ChatResult]:
    """``POST /api/chat``; a text stands for one message of the user."""
    conversation = ({"role": "user", "content": messages},) if isinstance(messages, str) else tuple(messages)
    body = present(model=model, messages=conversation, stream=True, **fields)
    return StreamCall("/api/chat", body, lambda: ChatFold(model, conversation))


def generate_call(model: str, prompt: str, fields: GenerateFields) -> StreamCall[Chunk, GenerateResult]:
    """``POST /api/generate``."""
    body = present(model=model, prompt=prompt, stream=True, **fields)
    return StreamCall("/api/generate", body, lambda: GenerateFold(model, prompt))


def embed_call(model: str, texts: str | Iterable[str], fields: EmbedFields) -> Call[Embeddings]:
    """``POST /api/embed``; raises ``BadRequestError`` for what is no text."""
    listed = list_texts(texts)
    body = present(model=model, input=listed[0] if isinstance(texts, str) else listed, **fields)
    return Call("POST", "/api/embed", body, lambda reply: read_embeddings(reply, listed))


def create_call(model: str, fields: CreateFields) -> StreamCall[Progress, Progress]:
    """``POST /api/create``; the stream ends with the status ``success``."""
    named: dict[str, Any] = {name.rstrip("_"): value for name, value in fields.items()}
    return StreamCall("/api/create", present(model=model, stream=True, **named), StepsFold)


def pull_call(model: str, *, insecure: bool = False) -> StreamCall[Progress, Progress]:
    """``POST /api/pull``; the stream ends with the status ``success``."""
    return StreamCall("/api/pull", present(model=model, stream=True, insecure=insecure or None), StepsFold)


def push_call(model: str, *, insecure: bool = False) -> StreamCall[Progress, Progress]:
    """``POST /api/push``; the stream ends with the status ``success``."""
    return StreamCall("/api/push", present(model=model, stream=True, insecure=insecure or None), StepsFold)


def _nothing(_body: bytes) -> None:
    """For replies whose status says all."""
