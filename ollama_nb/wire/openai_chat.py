"""OpenAI's chat completions as types: the request, the whole answer, the pieces of a streamed one.

What chats share with the other routes stands in ``openai``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from ollama_nb.wire.fields import ToolChoice, ToolList  # noqa: TC001 - msgspec reads the annotations
from ollama_nb.wire.native import TopLogprob  # noqa: TC001 - the same
from ollama_nb.wire.openai import (
    NOT_SAID,
    TEXT,
    AnswerCount,
    FinishReason,
    LogitBias,
    Penalty,
    ResponseFormat,
    Seed,
    Stop,
    StreamOptions,
    Temperature,
    TopP,
    Usage,
)

__all__ = [
    "ChatAnswer",
    "ChatChoice",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "ChatDelta",
    "ChatLogprobs",
    "ChatTokenLogprob",
    "ChunkChoice",
    "FunctionCall",
    "MessageToolCall",
    "OpenAIMessage",
    "ReasoningOptions",
]


class ReasoningOptions(Struct, kw_only=True):
    """``reasoning``: how much the model thinks, as ``reasoning_effort``."""

    effort: str = ""


class FunctionCall(Struct, kw_only=True):
    """A function and its arguments, which are a JSON object written as a text."""

    name: str = ""
    arguments: str = ""


class MessageToolCall(Struct, kw_only=True):
    """A call of a tool, from the model and back to it in the history; ``index`` counts the calls of an answer."""

    id: str = ""
    index: int = 0
    type: str = "function"
    function: FunctionCall = field(default_factory=FunctionCall)


class OpenAIMessage(Struct, kw_only=True):
    """A message of the conversation.

    ``content`` is a text or a list of parts: ``{"type": "text", "text": …}`` or ``{"type": "image_url", "image_url":
    {"url": "data:image/png;base64,…"}}``. A ``developer`` is a ``system``. A ``tool`` says by ``tool_call_id`` which
    call it answers. ``function_call`` is the older form of ``tool_calls``.
    """

    role: str = ""
    content: Annotated[
        Any,
        Meta(
            extra_json_schema={
                "anyOf": [
                    TEXT,
                    {"type": "array", "items": {"type": "object", "properties": {"type": TEXT}, "required": ["type"]}},
                    NOT_SAID,
                ]
            }
        ),
    ] = None
    reasoning: str = ""
    refusal: str = ""
    name: str = ""
    tool_calls: list[MessageToolCall] = []
    tool_call_id: str = ""
    function_call: FunctionCall | None = None


class ChatCompletionRequest(Struct, kw_only=True):
    """``POST /v1/chat/completions``.

    ``max_completion_tokens`` wins over ``max_tokens``, ``reasoning.effort`` over ``reasoning_effort``. With
    ``parallel_tool_calls`` false only the first call of an answer is given. ``functions`` and ``function_call`` are
    the older forms of ``tools`` and ``tool_choice``, and are answered in the older form. ``modalities`` can only be
    ``["text"]``.
    """

    model: str = ""
    messages: list[OpenAIMessage] = []
    stream: bool = False
    stream_options: StreamOptions = field(default_factory=StreamOptions)
    max_tokens: Annotated[int | None, Meta(description="How long an answer may get, in tokens.")] = None
    max_completion_tokens: Annotated[int | None, Meta(description="How long an answer may get, in tokens.")] = None
    n: AnswerCount = 1
    seed: Seed = None
    stop: Stop = None
    temperature: Temperature = None
    top_p: TopP = None
    frequency_penalty: Penalty = None
    presence_penalty: Penalty = None
    logit_bias: LogitBias = {}
    logprobs: Annotated[bool, Meta(description="Whether the probabilities of the tokens are wanted.")] = False
    top_logprobs: Annotated[
        int | None, Meta(description="How many alternatives to each token, from 0 to 20; needs `logprobs`.")
    ] = None
    response_format: ResponseFormat = field(default_factory=ResponseFormat)
    tools: ToolList = []
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool = True
    functions: Annotated[list[dict[str, Any]], Meta(description="Older form of `tools`.")] = []
    function_call: Annotated[
        Any,
        Meta(
            description="Older form of `tool_choice`.",
            extra_json_schema={"anyOf": [{"enum": ["none", "auto"]}, {"type": "object"}, NOT_SAID]},
        ),
    ] = None
    reasoning_effort: Annotated[
        str, Meta(description="How much the model thinks: none, minimal, low, medium, high, xhigh or max.")
    ] = ""
    reasoning: ReasoningOptions = field(default_factory=ReasoningOptions)
    modalities: list[str] = []


class ChatTokenLogprob(Struct, kw_only=True):
    """A token of the answer: its text, natural-log probability and bytes, and the likeliest in its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, kw_only=True):
    """The probabilities of an answer, or of a piece of it."""

    content: list[ChatTokenLogprob]


class ChatAnswer(Struct, kw_only=True, omit_defaults=True):
    """The model's message; ``reasoning`` is what it thought before."""

    role: str
    content: str
    reasoning: str = ""
    tool_calls: list[MessageToolCall] = []
    function_call: FunctionCall | None = None


class ChatChoice(Struct, kw_only=True):
    """One of the n answers."""

    index: int
    message: ChatAnswer
    logprobs: ChatLogprobs | UnsetType = UNSET
    finish_reason: FinishReason


class ChatCompletion(Struct, kw_only=True):
    """The answers, whole."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(Struct, kw_only=True, omit_defaults=True):
    """A piece of the model's message; the role is said once, calls come whole."""

    role: str = ""
    content: str | None = None
    reasoning: str = ""
    tool_calls: list[MessageToolCall] = []
    function_call: FunctionCall | None = None


class ChunkChoice(Struct, kw_only=True):
    """A piece of one of the n answers; the last one has an empty ``delta`` and the reason."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | UnsetType = UNSET
    finish_reason: FinishReason = None


class ChatCompletionChunk(Struct, kw_only=True):
    """An event of a stream.

    Where ``include_usage`` is set, one more comes at the end with no choices and the counts, which are null in all
    others.
    """

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
