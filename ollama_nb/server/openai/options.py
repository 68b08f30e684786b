"""What chat and completions ask alike: how tokens are chosen, where an answer ends, which form it has.

Options that are not said are those of the model, but for temperature and top_p, which are 1 on this API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ollama_nb.server.openai.errors import FieldError, go_type

if TYPE_CHECKING:
    from ollama_nb.wire.openai import CompletionRequest, ResponseFormat
    from ollama_nb.wire.openai_chat import ChatCompletionRequest

__all__ = ["MAX_ANSWERS", "answer_format", "answer_options", "think_of"]

MAX_ANSWERS: Final = 128
"""OpenAI's own limit of ``n``."""
_MAX_BIAS: Final = 100
_TOKEN_DIGITS: Final = 9
"""No vocabulary has as many tokens."""
_EFFORTS: Final[dict[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}


def answer_options(request: ChatCompletionRequest | CompletionRequest, max_tokens: int | None) -> list[dict[str, Any]]:
    """The native options of each of the ``n`` answers to a prompt; each has the next seed.

    Raises ``FieldError``.
    """
    if not 1 <= request.n <= MAX_ANSWERS:
        raise FieldError(f"n must be between 1 and {MAX_ANSWERS}", "n")
    options: dict[str, Any] = {
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "top_p": 1.0 if request.top_p is None else request.top_p,
    }
    said = {
        "num_predict": max_tokens,
        "stop": _stop(request.stop),
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "logit_bias": _logit_bias(request.logit_bias) or None,
    }
    options |= {name: value for name, value in said.items() if value is not None}
    if request.seed is None:
        return [options] * request.n
    return [options | {"seed": request.seed + number} for number in range(request.n)]


def _stop(value: Any) -> list[str] | None:  # noqa: ANN401 - any JSON value
    if value is None:
        return None
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise FieldError(
                f"invalid type for 'stop' field: {go_type(text)}", "stop", hint="stop is a text or a list of texts"
            )
    return [text for text in texts if text]  # every text has an empty one in it


def _logit_bias(biases: dict[str, float]) -> dict[str, float]:
    for token, bias in biases.items():
        if not (token.isascii() and token.isdigit() and len(token) <= _TOKEN_DIGITS):
            raise FieldError(f"invalid token id in logit_bias: '{token}'", "logit_bias", hint="the keys are token ids")
        if not -_MAX_BIAS <= bias <= _MAX_BIAS:
            raise FieldError(f"logit_bias must be between -{_MAX_BIAS} and {_MAX_BIAS}", "logit_bias")
    return biases


def answer_format(form: ResponseFormat) -> Any:  # noqa: ANN401 - as the native field
    """The native ``format`` of a ``response_format``; raises ``FieldError``."""
    kind = form.type.strip().lower()
    if kind in ("", "text"):
        return None
    if kind == "json_object":
        return "json"
    if kind != "json_schema":
        raise FieldError(
            f"invalid response_format type: '{form.type}'",
            "response_format.type",
            hint="text, json_object or json_schema",
        )
    schema = form.json_schema.schema
    if not isinstance(schema, dict):
        raise FieldError(
            "response_format of type json_schema needs a schema",
            "response_format.json_schema.schema",
            hint='send {"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}',
        )
    return schema


def think_of(request: ChatCompletionRequest) -> bool | str | None:
    """The native ``think``; raises ``FieldError`` for an effort that nobody knows."""
    for effort, param in (
        (request.reasoning.effort, "reasoning.effort"),
        (request.reasoning_effort, "reasoning_effort"),
    ):
        if not effort:
            continue
        if effort not in _EFFORTS:
            known = ", ".join(f'"{name}"' for name in _EFFORTS)
            raise FieldError(f'invalid reasoning value: "{effort}" (must be one of {known})', param)
        return _EFFORTS[effort]
    return None
