"""Errors in OpenAI's shape, which names the field that is to blame where it is known."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.wire.errors import BadRequestError, OllamaError
from ollama_nb.wire.openai import ErrorDetail, OpenAIErrorReply

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FieldError", "error_reply", "go_type"]

_TYPES: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "invalid_request_error",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "invalid_request_error",
}
_NAMED: Final = (
    re.compile(r".* into Go struct field \w+\.(\S+) of type"),
    re.compile(r'option "(\w+)"'),
    re.compile(r"(tools\[\d+\]\S*): "),
)
"""Texts of the layers below that name a field."""

_PARAMS: Final = (
    (re.compile(r"model is required"), "model"),
    (re.compile(r"a tool has no function name"), "tools"),
    (re.compile(r"invalid tool_choice|tool_choice "), "tool_choice"),
    (re.compile(r"top_logprobs must"), "top_logprobs"),
    (re.compile(r"dimensions must"), "dimensions"),
    (re.compile(r"no input provided"), "input"),
    (re.compile(r"invalid JSON schema in format|invalid format"), "response_format"),
)
"""Texts that name none, and the field that each speaks of."""

_GO_TYPES: Final = {
    type(None): "<nil>",
    bool: "bool",
    int: "float64",
    float: "float64",
    str: "string",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}


class FieldError(BadRequestError):
    """A field of the request is wrong: 400. ``param`` is its name, ``code`` a word for programs."""

    def __init__(self, message: str, param: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.code = code


def error_reply(error: OllamaError) -> OpenAIErrorReply:
    """An error as OpenAI's clients read it.

    Every 404 of these routes is that of a model.
    """
    param, code = getattr(error, "param", None), getattr(error, "code", None)
    if error.status == HTTPStatus.NOT_FOUND:
        param, code = "model", "model_not_found"
    elif param is None and error.status == HTTPStatus.BAD_REQUEST:
        param = _param(error.message)
    kind = _TYPES.get(error.status, "api_error")
    detail = ErrorDetail(message=error.message, type=kind, param=param, code=code, hint=error.hint or "")
    return OpenAIErrorReply(error=detail)


def go_type(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """What Go calls the type of a JSON value."""
    return _GO_TYPES[type(value)]


def _param(message: str) -> str | None:
    """The field that an error of the layers below speaks of."""
    for named in _NAMED:
        if match := named.match(message):
            return match.group(1).replace("[", ".").replace("]", "")
    return next((param for text, param in _PARAMS if text.match(message)), None)
