"""OpenAI's API as types: what each route below ``/v1`` takes and gives; chats are in ``openai_chat``.

The order of fields is the order on the wire.

Fields of requests that are not here (``user``, ``store``, ``metadata``, ``service_tier``, …) are taken and change
nothing. A null is a field that is not there. What the fields mean to a model is left to ``server/openai``; fields
that take more than one type of JSON are checked there too. ``created`` is in seconds since the epoch.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

__all__ = [
    "NOT_SAID",
    "TEXT",
    "AnswerCount",
    "Completion",
    "CompletionChoice",
    "CompletionLogprobs",
    "CompletionRequest",
    "Embedding",
    "EmbeddingList",
    "EmbeddingUsage",
    "EmbeddingsRequest",
    "ErrorDetail",
    "FinishReason",
    "JsonSchemaFormat",
    "LogitBias",
    "Model",
    "ModelList",
    "OpenAIErrorReply",
    "Penalty",
    "ResponseFormat",
    "Seed",
    "Stop",
    "StreamOptions",
    "Temperature",
    "TopP",
    "Usage",
]

# -- fields that several types have ------------------------------------------------------------------------------------

NOT_SAID: Final = {"type": "null"}
TEXT: Final = {"type": "string"}
_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_TEXTS_OR_TOKENS = {
    "anyOf": [TEXT, {"type": "array", "items": TEXT}, _TOKENS, {"type": "array", "items": _TOKENS}, NOT_SAID]
}

Stop: TypeAlias = Annotated[
    Any,
    Meta(
        description="A text, or several, at which the answer ends; it is not part of the answer.",
        extra_json_schema={"anyOf": [TEXT, {"type": "array", "items": TEXT}, NOT_SAID]},
    ),
]
Seed: TypeAlias = Annotated[
    int | None, Meta(description="Makes an answer come again; of n answers each has the next seed.")
]
Temperature: TypeAlias = Annotated[
    float | None,
    Meta(description="How much chance there is; 1 if it is not said, whatever the model's parameters are."),
]
TopP: TypeAlias = Annotated[
    float | None, Meta(description="How much probability the choice is made of; 1 if it is not said.")
]
Penalty: TypeAlias = Annotated[float | None, Meta(description="From -2 to 2; positive ones avoid what was said.")]
LogitBias: TypeAlias = Annotated[
    dict[str, float],
    Meta(description="Token ids, as texts, and what is added to their logits, from -100 to 100."),
]
AnswerCount: TypeAlias = Annotated[int, Meta(description="How many answers are wanted, from 1 to 128.")]
FinishReason: TypeAlias = Annotated[
    str | None, Meta(description="Why the answer ends: stop, length, tool_calls, function_call or load; null before.")
]


class StreamOptions(Struct, kw_only=True):
    """What a stream says beyond the answer: ``include_usage`` adds a chunk with the counts."""

    include_usage: bool = False


class JsonSchemaFormat(Struct, kw_only=True):
    """The schema that an answer follows; a schema is always kept to, so ``strict`` changes nothing."""

    schema: Annotated[Any, Meta(extra_json_schema={"anyOf": [{"type": "object"}, NOT_SAID]})] = None


class ResponseFormat(Struct, kw_only=True):
    """The form of an answer: ``text``, ``json_object`` or ``json_schema``."""

    type: str = ""
    json_schema: JsonSchemaFormat = field(default_factory=JsonSchemaFormat)


class Usage(Struct, kw_only=True):
    """Counts in tokens; those of several answers to one prompt count the prompt once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


# -- /v1/completions ---------------------------------------------------------------------------------------------------


class CompletionRequest(Struct, kw_only=True):
    """``POST /v1/completions``.

    Every prompt goes through the model's template and gets ``n`` answers. ``best_of`` cannot be more than ``n``,
    ``echo`` cannot be had together with ``logprobs``.
    """

    model: str = ""
    prompt: Annotated[
        Any,
        Meta(
            description="One prompt or several, as texts or as token ids; without one the model is only loaded.",
            extra_json_schema=_TEXTS_OR_TOKENS,
        ),
    ] = None
    suffix: Annotated[str, Meta(description="What comes behind the text that is wanted.")] = ""
    stream: bool = False
    stream_options: StreamOptions = field(default_factory=StreamOptions)
    max_tokens: Annotated[int | None, Meta(description="How long an answer may get, in tokens.")] = None
    n: AnswerCount = 1
    best_of: int | None = None
    echo: Annotated[bool, Meta(description="Whether the prompt stands in front of each answer.")] = False
    seed: Seed = None
    stop: Stop = None
    temperature: Temperature = None
    top_p: TopP = None
    frequency_penalty: Penalty = None
    presence_penalty: Penalty = None
    logit_bias: LogitBias = {}
    logprobs: Annotated[
        int | None, Meta(description="The probabilities of the tokens, and of so many alternatives to each, 0 to 20.")
    ] = None
    response_format: ResponseFormat = field(default_factory=ResponseFormat)


class CompletionLogprobs(Struct, kw_only=True):
    """Token by token: text, natural-log probability, alternatives, and where in the text it begins, in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Struct, kw_only=True):
    """An answer, or a piece of one; those to the first prompt have the first n indices, and so on."""

    text: str
    index: int
    logprobs: CompletionLogprobs | UnsetType = UNSET
    finish_reason: FinishReason = None


class Completion(Struct, kw_only=True):
    """The answers, whole, or an event of a stream.

    ``usage`` of a stream comes only where ``include_usage`` is set: in one more event at the end with no choices,
    and as null in all others.
    """

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET


# -- /v1/embeddings ----------------------------------------------------------------------------------------------------


class EmbeddingsRequest(Struct, kw_only=True):
    """``POST /v1/embeddings``. An input that is longer than the model's context loses its end."""

    model: str = ""
    input: Annotated[
        Any,
        Meta(description="One input or several, as texts or as token ids.", extra_json_schema=_TEXTS_OR_TOKENS),
    ] = None
    encoding_format: Annotated[
        str, Meta(description="`float` for lists of numbers, `base64` for little-endian float32.")
    ] = "float"
    dimensions: Annotated[int, Meta(description="How many components a vector has; 0 for all.")] = 0


class Embedding(Struct, kw_only=True):
    """The unit vector of an input, as ``encoding_format`` says."""

    object: Literal["embedding"] = "embedding"
    embedding: Annotated[Raw, Meta(extra_json_schema={"anyOf": [{"type": "array", "items": {"type": "number"}}, TEXT]})]
    index: int


class EmbeddingUsage(Struct, kw_only=True):
    """Counts in tokens, of all inputs together."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, kw_only=True):
    """The vectors, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


# -- /v1/models --------------------------------------------------------------------------------------------------------


class Model(Struct, kw_only=True):
    """A model: ``created`` is when it was last changed, ``owned_by`` the namespace of its name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Struct, kw_only=True):
    """``GET /v1/models``, the newest first."""

    object: Literal["list"] = "list"
    data: list[Model]


# -- errors ------------------------------------------------------------------------------------------------------------


class ErrorDetail(Struct, kw_only=True, omit_defaults=True):
    """What went wrong.

    ``type`` follows from the status, ``param`` is the field that is wrong and ``code`` a word for programs, where
    they are known. ``hint`` says what to do next.
    """

    message: str
    type: str
    param: str | None
    code: str | None
    hint: str = ""


class OpenAIErrorReply(Struct, kw_only=True):
    """An error, as a body or as an event of a stream, which ends with it."""

    error: ErrorDetail
