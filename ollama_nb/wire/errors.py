"""The one hierarchy of errors: raised anywhere, turned into HTTP once, in ``server/base.py``.

An error carries the status that the API answers with, the text a user reads (Ollama's own wording where
Ollama has one) and, where it helps, a hint that says what to do next. The hint travels beside the text, so
clients that compare texts see exactly what Ollama would say.
"""

from __future__ import annotations

from http import HTTPStatus

__all__ = [
    "BadRequestError",
    "BusyError",
    "CanceledError",
    "ConflictError",
    "NotFoundError",
    "NotImplementedYetError",
    "OllamaError",
    "RegistryError",
    "RunnerError",
    "ServerUnreachableError",
    "TooLargeError",
]

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that went away; Ollama uses it for cancelled requests."""


class OllamaError(Exception):
    """Something went wrong that the user can be told in one sentence.

    ``status`` is an HTTP status code, ``message`` the text of the ``error`` field, ``hint`` what to do next.
    """

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if status is not None:
            self.status = status


class BadRequestError(OllamaError):
    """The request itself is wrong: 400."""

    status = HTTPStatus.BAD_REQUEST


class NotFoundError(OllamaError):
    """What the request names does not exist here: 404."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(OllamaError):
    """The request meets a state that it does not fit: 409."""

    status = HTTPStatus.CONFLICT


class TooLargeError(OllamaError):
    """The body is past a limit: 413."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class CanceledError(OllamaError):
    """The client went away, or the request was cancelled before it began: 499."""

    status = CLIENT_CLOSED_REQUEST


class BusyError(OllamaError):
    """The queue is full: 503, with Ollama's text."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")


class RunnerError(OllamaError):
    """The model's process failed to load or died: 500, with its last words."""


class RegistryError(OllamaError):
    """A registry refused, or answered what is none of its answers: 502."""

    status = HTTPStatus.BAD_GATEWAY


class NotImplementedYetError(OllamaError):
    """A documented feature that this version does not have: 501, never silently ignored."""

    status = HTTPStatus.NOT_IMPLEMENTED


class ServerUnreachableError(OllamaError):
    """A client found no server; the text lists what was tried."""

    status = HTTPStatus.BAD_GATEWAY
