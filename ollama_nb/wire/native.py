"""Ollama's own API as types: what each route takes and gives. Field order is the order on the wire.

Fields with a default leave the wire when they have it (Go's ``omitempty``); fields without one are always there.
Durations are integer nanoseconds, times RFC 3339 texts, sizes bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "AnswerMessage",
    "CallMessage",
    "CalledFunction",
    "ChatRequest",
    "ChatResponse",
    "CopyRequest",
    "CreateRequest",
    "DeleteRequest",
    "GenerateRequest",
    "GenerateResponse",
    "ListResponse",
    "Message",
    "ModelDetails",
    "ModelSummary",
    "ProcessResponse",
    "Progress",
    "RunningModel",
    "ShowRequest",
    "ShowResponse",
    "Tensor",
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
    images: list[str] = []
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


class GenerateRequest(msgspec.Struct, kw_only=True):
    """``POST /api/generate``."""

    model: str = ""
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] | None = None
    stream: bool = True
    raw: bool = False
    format: Any = None
    keep_alive: Any = None
    images: list[str] = []
    options: dict[str, Any] = {}
    think: Any = None
    truncate: bool = True


class ChatRequest(msgspec.Struct, kw_only=True):
    """``POST /api/chat``.

    ``tool_choice`` is OpenAI's: ``none``, ``auto``, ``required`` or ``{"function": {"name": …}}``. ``truncate`` false
    makes a conversation that does not fit into the context an error.
    """

    model: str = ""
    messages: list[Message] = []
    stream: bool = True
    format: Any = None
    keep_alive: Any = None
    tools: list[dict[str, Any]] = []
    tool_choice: Any = None
    options: dict[str, Any] = {}
    think: Any = None
    truncate: bool = True


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


class CreateRequest(msgspec.Struct, kw_only=True):
    """``POST /api/create``. ``files`` and ``adapters`` map file names to digests of uploaded blobs."""

    model: str = ""
    name: str = ""
    stream: bool = True
    from_: str = msgspec.field(default="", name="from")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str = ""
    license: str | list[str] = ""
    system: str = ""
    parameters: dict[str, Any] = {}
    messages: list[Message] = []
    quantize: str = ""
    quantization: str = ""


class Progress(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of a create; sizes in bytes."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class ShowRequest(msgspec.Struct, kw_only=True):
    """``POST /api/show``."""

    model: str = ""
    name: str = ""
    system: str = ""
    verbose: bool = False
    options: dict[str, Any] = {}


class CopyRequest(msgspec.Struct, kw_only=True):
    """``POST /api/copy``."""

    source: str = ""
    destination: str = ""


class DeleteRequest(msgspec.Struct, kw_only=True):
    """``DELETE /api/delete``."""

    model: str = ""
    name: str = ""


class ModelDetails(msgspec.Struct, kw_only=True):
    """What kind of model it is."""

    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str


class ModelSummary(msgspec.Struct, kw_only=True):
    """One model of ``/api/tags``."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: list[str]


class ListResponse(msgspec.Struct, kw_only=True):
    """``GET /api/tags``."""

    models: list[ModelSummary]


class RunningModel(msgspec.Struct, kw_only=True):
    """One model of ``/api/ps``; sizes are estimates in bytes, ``context_length`` is per request in tokens."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int


class ProcessResponse(msgspec.Struct, kw_only=True):
    """``GET /api/ps``."""

    models: list[RunningModel]


class Tensor(msgspec.Struct, kw_only=True):
    """Name, GGML type and shape (GGUF order) of a tensor."""

    name: str
    type: str
    shape: list[int]


class ShowResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``POST /api/show``."""

    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: ModelDetails
    messages: list[Message] = []
    model_info: dict[str, Any]
    projector_info: dict[str, Any] = {}
    tensors: list[Tensor] = []
    capabilities: list[str] = []
    modified_at: str
