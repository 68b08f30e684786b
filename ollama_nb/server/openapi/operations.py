"""The table of operations: what each path and verb takes, gives and refuses.

It stands beside the route table, which has the handlers; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec

from ollama_nb.wire import models, native, openai, openai_chat

__all__ = ["OPERATIONS", "ErrorReply", "Operation", "Reply"]

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
SSE: Final = "text/event-stream"
TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"


class ErrorReply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What went wrong; ``hint`` says what to do next. ``status`` is said in the last line of a stream only."""

    error: str
    hint: str = ""
    status: int = 0


class VersionReply(msgspec.Struct, kw_only=True):
    """``GET /api/version``."""

    version: str


@dataclass(frozen=True)
class Reply:
    """A success: its type (None: no body), in which medium, and when it is this one."""

    what: type | None
    medium: str = JSON
    when: str = "Done."
    status: int = HTTPStatus.OK


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One verb of one path, whose ``{name}`` are the groups of its route.

    ``takes`` is the type of the body: a wire type as JSON, or ``bytes``. ``refuses`` are the statuses of errors that
    are its own, beyond those that every operation can give.
    """

    path: str
    verb: str
    summary: str
    takes: type | None = None
    gives: tuple[Reply, ...] = (Reply(None),)
    refuses: tuple[int, ...] = ()

    @property
    def api(self) -> str:
        """Whose API it belongs to."""
        return "OpenAI" if self.path.startswith("/v1/") else "Ollama"

    @property
    def error(self) -> type:
        """The form of its errors."""
        return openai.OpenAIErrorReply if self.api == "OpenAI" else ErrorReply

    @property
    def name(self) -> str:
        """What generated clients call it: ``postApiChat``."""
        words = self.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
        return self.verb + "".join(word[:1].upper() + word[1:] for word in words if word)


_WRONG: Final = HTTPStatus.BAD_REQUEST
_MISSING: Final = HTTPStatus.NOT_FOUND
_REGISTRY: Final = HTTPStatus.BAD_GATEWAY
_FULL: Final = HTTPStatus.INSUFFICIENT_STORAGE
_BUSY: Final = HTTPStatus.SERVICE_UNAVAILABLE

_PROGRESS: Final = (
    Reply(models.Progress, NDJSON, "A line for each step, `success` last, or an error."),
    Reply(models.Progress, JSON, "With `stream` false: the last step."),
)

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(path="/", verb="get", summary="Whether somebody is there", gives=(Reply(str, TEXT),)),
    Operation(path="/", verb="head", summary="Whether somebody is there"),
    Operation(path="/api/version", verb="get", summary="The version of the server", gives=(Reply(VersionReply),)),
    Operation(path="/api/version", verb="head", summary="The version of the server"),
    Operation(
        path="/api/tags",
        verb="get",
        summary="The models that are here, newest first",
        gives=(Reply(models.ListResponse),),
    ),
    Operation(path="/api/tags", verb="head", summary="Whether models can be listed"),
    Operation(path="/api/ps", verb="get", summary="The models that are loaded", gives=(Reply(models.ProcessResponse),)),
    Operation(
        path="/api/show",
        verb="post",
        summary="All about one model",
        takes=models.ShowRequest,
        gives=(Reply(models.ShowResponse),),
        refuses=(_WRONG, _MISSING),
    ),
    Operation(
        path="/api/copy",
        verb="post",
        summary="Give a model a second name",
        takes=models.CopyRequest,
        refuses=(_WRONG, _MISSING),
    ),
    Operation(
        path="/api/delete",
        verb="delete",
        summary="Remove a model",
        takes=models.DeleteRequest,
        refuses=(_WRONG, _MISSING),
    ),
    Operation(
        path="/api/create",
        verb="post",
        summary="Make a model out of another or of files",
        takes=models.CreateRequest,
        gives=_PROGRESS,
        refuses=(_WRONG, _MISSING),
    ),
    Operation(
        path="/api/blobs/{digest}",
        verb="head",
        summary="Whether a file is here",
        gives=(Reply(None, when="It is."),),
        refuses=(_WRONG, _MISSING),
    ),
    Operation(
        path="/api/blobs/{digest}",
        verb="post",
        summary="Bring a file",
        takes=bytes,
        gives=(Reply(None, when="It was here."), Reply(None, when="It is here now.", status=HTTPStatus.CREATED)),
        refuses=(_WRONG,),
    ),
    Operation(
        path="/api/generate",
        verb="post",
        summary="Continue a prompt",
        takes=native.GenerateRequest,
        gives=(
            Reply(native.GenerateResponse, NDJSON, "The answer, piece by piece, the counts in the last line."),
            Reply(native.GenerateResponse, JSON, "With `stream` false, or without a prompt: all at once."),
        ),
        refuses=(_WRONG, _MISSING, _BUSY),
    ),
    Operation(
        path="/api/chat",
        verb="post",
        summary="The next message of a conversation",
        takes=native.ChatRequest,
        gives=(
            Reply(native.ChatResponse, NDJSON, "The message, piece by piece, the counts in the last line."),
            Reply(native.ChatResponse, JSON, "With `stream` false, or without messages: all at once."),
        ),
        refuses=(_WRONG, _MISSING, _BUSY),
    ),
    Operation(
        path="/api/embed",
        verb="post",
        summary="A vector for each text",
        takes=native.EmbedRequest,
        gives=(Reply(native.EmbedResponse),),
        refuses=(_WRONG, _MISSING, _BUSY),
    ),
    Operation(
        path="/api/embeddings",
        verb="post",
        summary="A vector for a text, in the older form",
        takes=native.EmbeddingRequest,
        gives=(Reply(native.EmbeddingResponse),),
        refuses=(_WRONG, _MISSING, _BUSY),
    ),
    Operation(
        path="/api/pull",
        verb="post",
        summary="Fetch a model",
        takes=models.PullRequest,
        gives=_PROGRESS,
        refuses=(_WRONG, _MISSING, _REGISTRY, _FULL),
    ),
    Operation(
        path="/api/push",
        verb="post",
        summary="Publish a model",
        takes=models.PushRequest,
        gives=_PROGRESS,
        refuses=(_WRONG, _MISSING, _REGISTRY),
    ),
    Operation(
        path="/v1/chat/completions",
        verb="post",
        summary="The next message of a conversation",
        takes=openai_chat.ChatCompletionRequest,
        gives=(
            Reply(openai_chat.ChatCompletion, JSON, "The answer, whole."),
            Reply(openai_chat.ChatCompletionChunk, SSE, "With `stream` true: piece by piece."),
        ),
        refuses=(_WRONG, _MISSING, _BUSY),
    ),
    Operation(
        path="/v1/completions",
        verb="post",
        summary="Continue prompts",
        takes=openai.CompletionRequest,
        gives=(
            Reply(openai.Completion, JSON, "The answers, whole."),
            Reply(openai.Completion, SSE, "With `stream` true: piece by piece."),
        ),
        refuses=(_WRONG, _MISSING, _BUSY),
    ),
    Operation(
        path="/v1/embeddings",
        verb="post",
        summary="A vector for each text",
        takes=openai.EmbeddingsRequest,
        gives=(Reply(openai.EmbeddingList),),
        refuses=(_WRONG, _MISSING, _BUSY),
    ),
    Operation(
        path="/v1/models",
        verb="get",
        summary="The models that are here, newest first",
        gives=(Reply(openai.ModelList),),
    ),
    Operation(
        path="/v1/models/{model}",
        verb="get",
        summary="One model",
        gives=(Reply(openai.Model),),
        refuses=(_MISSING,),
    ),
    Operation(path="/openapi.json", verb="get", summary="This document", gives=(Reply(dict),)),
)
"""All operations, in the order of the route table."""
