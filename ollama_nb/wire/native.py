"""Ollama's own API as types: what its routes take and give; those about models are in ``models``.

The order of fields is the order on the wire.

Fields with a default leave the wire when they have it (Go's ``omitempty``); fields without one are always there.
Durations are integer nanoseconds, times RFC 3339 texts, sizes bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_nb.wire.fields import (  # noqa: TC001 - msgspec reads the annotations
    Format,
    Image,
    KeepAlive,
    RequestOptions,
    Texts,
    Think,
    ToolChoice,
    ToolList,
    Vector,
)

__all__ = [
    "AnswerMessage",
    "CallMessage",
    "CalledFunction",
    "ChatRequest",
    "ChatResponse",
    "DebugInfo",
    "EmbedRequest",
    "EmbedResponse",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "GenerateRequest",
    "GenerateResponse",
    "Message",
    "TokenLogprob",
    "TopLogprob",
]


class CalledFunction(msgspec.Struct, kw_only=True):
    """The function of a tool call; ``index`` counts the calls of an answer from 0."""

    index: int = 0
    name: str = ""
    arguments: dict[str, Any] = {}


class CallMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A tool call as it travels, from the model and back to it in the history."""

    id: str = ""
    function: CalledFunction = msgspec.field(default_factory=CalledFunction)


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One message of a chat. ``images`` are base64; ``tool_name`` and ``tool_call_id`` say what a ``tool`` answers."""

    role: str = ""
    content: str = ""
    thinking: str = ""
    images: list[Image] = []
    tool_calls: list[CallMessage] = []
    tool_name: str = ""
    tool_call_id: str = ""

    def __post_init__(self) -> None:
        """Roles are in small letters, however a client writes them."""
        self.role = self.role.lower()


class AnswerMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The model's part of a chat response; role and content are always said."""

    role: str
    content: str
    thinking: str = ""
    tool_calls: list[CallMessage] = []


class TopLogprob(msgspec.Struct, kw_only=True):
    """A token that could have come: its text, its natural-log probability, its bytes."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A token of the answer, and those that were most likely in its place, the likeliest first."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob] = []


class DebugInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What ``_debug_render_only`` asks for: the prompt as the model would get it."""

    rendered_template: str
    image_count: int = 0


class GenerateRequest(msgspec.Struct, kw_only=True):
    """``POST /api/generate``.

    ``truncate`` false makes a prompt that does not fit into the context an error, ``shift`` false ends an answer
    where the context is full. ``top_logprobs`` is 0 to 20 tokens.
    """

    model: str = ""
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] | None = None
    stream: bool = True
    raw: bool = False
    format: Format = None
    keep_alive: KeepAlive = None
    images: list[Image] = []
    options: RequestOptions = {}
    think: Think = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")


class ChatRequest(msgspec.Struct, kw_only=True):
    """``POST /api/chat``.

    ``tool_choice`` is OpenAI's: ``none``, ``auto``, ``required`` or ``{"function": {"name": …}}``. ``truncate`` false
    makes a conversation that does not fit into the context an error.
    """

    model: str = ""
    messages: list[Message] = []
    stream: bool = True
    format: Format = None
    keep_alive: KeepAlive = None
    tools: ToolList = []
    tool_choice: ToolChoice = None
    options: RequestOptions = {}
    think: Think = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")


class GenerateResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of ``/api/generate``; counts in tokens, all of them only on the last line.

    ``prompt_dropped_count`` are tokens that did not fit into the context and were left out of the prompt.
    """

    model: str
    created_at: str
    response: str
    thinking: str = ""
    done: bool
    done_reason: str = ""
    context: list[int] = []
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    prompt_dropped_count: int = 0
    logprobs: list[TokenLogprob] = []
    debug_info: DebugInfo | None = msgspec.field(default=None, name="_debug_info")


class ChatResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of ``/api/chat``; counts in tokens, all of them only on the last line.

    ``prompt_dropped_messages`` of the conversation, together with what else was cut ``prompt_dropped_count`` tokens,
    did not fit into the context and were left out of the prompt.
    """

    model: str
    created_at: str
    message: AnswerMessage
    done: bool
    done_reason: str = ""
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    prompt_dropped_messages: int = 0
    prompt_dropped_count: int = 0
    logprobs: list[TokenLogprob] = []
    debug_info: DebugInfo | None = msgspec.field(default=None, name="_debug_info")


class EmbedRequest(msgspec.Struct, kw_only=True):
    """``POST /api/embed``. ``input`` is a text or a list of texts; ``dimensions`` 0 leaves vectors whole."""

    model: str = ""
    input: Texts = None
    keep_alive: KeepAlive = None
    truncate: bool = True
    dimensions: int = 0
    options: RequestOptions = {}


class EmbedResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Unit vectors, one an input, each a JSON list of float32 written as short as it can be; counts in tokens."""

    model: str
    embeddings: list[Vector]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """``POST /api/embeddings``, the older route."""

    model: str = ""
    prompt: str = ""
    keep_alive: KeepAlive = None
    options: RequestOptions = {}


class EmbeddingResponse(msgspec.Struct, kw_only=True):
    """One vector as the model gives it, not normalised."""

    embedding: Vector
