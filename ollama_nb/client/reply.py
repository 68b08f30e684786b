"""Replies as they arrive: a stream's bytes cut into lines, the lines into events, the events into a result.

Knows neither requests (``protocol`` has those) nor connections (``http``): bytes go in, in any pieces, and typed
values or the server's own errors come out. The folds also keep the time, and leave a record in the history.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import msgspec

from ollama_nb.client.models import Progress
from ollama_nb.client.results import ChatResult, Chunk, GenerateResult, Message, Record, Result, Timings, history
from ollama_nb.wire.errors import (
    CLIENT_CLOSED_REQUEST,
    BadRequestError,
    CanceledError,
    ConflictError,
    NotFoundError,
    NotImplementedYetError,
    OllamaError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "ChatFold",
    "Fold",
    "GenerateFold",
    "Reply",
    "StepsFold",
    "UnreadableError",
    "convert",
    "error_from",
    "present",
    "read",
]

MAX_LINE: Final = 64 << 20
"""A line longer than 64 MiB is no reply of a model server."""

_NO_STATUS: Final = HTTPStatus.BAD_GATEWAY
"""For replies that say nothing about themselves: cut off, or not JSON."""

_CLASSES: Final[Mapping[int, type[OllamaError]]] = {
    HTTPStatus.BAD_REQUEST: BadRequestError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLargeError,
    CLIENT_CLOSED_REQUEST: CanceledError,
    HTTPStatus.NOT_IMPLEMENTED: NotImplementedYetError,
}

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")
E_co = TypeVar("E_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)


class Fold(Protocol[E_co, R_co]):
    """What a stream's objects add up to."""

    @property
    def complete(self) -> bool:
        """Whether the object that ends a good stream has come."""

    def feed(self, line: Mapping[str, Any]) -> E_co:
        """Take one object; the event that the caller sees for it."""

    def result(self) -> R_co:
        """What has come so far; ``done_reason`` is ``interrupted`` if that is not all."""

    def finish(self, error: str | None) -> None:
        """The stream is over: well, or with an error."""


class Reply(Generic[E, R]):
    """One stream's way from bytes, arriving in any pieces, to events and a result."""

    def __init__(self, fold: Fold[E, R]) -> None:
        self._fold = fold
        self._buffer = bytearray()
        self._closed = False

    def receive(self, data: bytes) -> Iterator[E]:
        """The events that ``data`` completes; raises ``OllamaError`` where the server reports one."""
        first, *more = data.split(b"\n")
        self._buffer += first
        for line in more:
            whole, self._buffer = bytes(self._buffer), bytearray(line)
            yield from self._take(whole)
        if len(self._buffer) > MAX_LINE:
            raise OllamaError("the server sent a line without an end", status=_NO_STATUS)

    def end(self) -> Iterator[E]:
        """The connection has ended: the event of a last line without newline.

        Raises ``OllamaError`` if that line is an error, is cut off, or is not what completes the reply.
        """
        cut = OllamaError("the connection ended before the answer was complete", status=_NO_STATUS)
        try:
            yield from self._take(bytes(self._buffer))
        except UnreadableError as exc:
            raise cut from exc
        if not self._fold.complete:
            raise cut
        self.close(None)

    def close(self, error: str | None) -> None:
        """Nothing more will come; only the first call counts."""
        if not self._closed:
            self._closed = True
            self._fold.finish(error)

    def result(self) -> R:
        """What has come so far."""
        return self._fold.result()

    def _take(self, line: bytes) -> Iterator[E]:
        if not line.strip():
            return
        value = read(line, dict[str, Any])
        if "error" in value:
            raise _error(int(value.get("status") or HTTPStatus.INTERNAL_SERVER_ERROR), value)
        yield self._fold.feed(value)


def error_from(status: int, body: bytes) -> OllamaError:
    """The error that a reply with an HTTP status of 300 or more stands for, in the server's own words."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    if isinstance(value, dict) and "error" in value:
        return _error(status, value)
    if status < HTTPStatus.BAD_REQUEST or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _error(status, {"error": "the server asks for a login", "hint": "Give the client the server's token."})
    if isinstance(value, dict) and "message" in value:  # Jupyter's own errors
        return _error(status, value)
    text = body.decode("utf-8", "replace").strip()
    return _error(status, {"error": text if text and "<" not in text else f"the server answered with status {status}"})


class _AnswerFold:
    """The pieces of an answer, and the times at which they came; ends as a record in the session's history."""

    kind = "chat"

    def __init__(self, model: str, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.model = model
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.tool_calls: list[Mapping[str, Any]] = []
        self._final: Mapping[str, Any] | None = None
        self._clock = clock
        self._began = clock()
        self._started = datetime.now(UTC)
        self._first: int | None = None
        self._elapsed: int | None = None

    @property
    def complete(self) -> bool:
        return self._final is not None

    def feed(self, line: Mapping[str, Any]) -> Chunk:
        chunk = self.chunk(line)
        if self._first is None and (chunk.text or chunk.thinking or chunk.tool_calls):
            self._first = self._clock() - self._began
        self.text.append(chunk.text)
        self.thinking.append(chunk.thinking)
        self.tool_calls.extend(chunk.tool_calls)
        if chunk.done:
            self._final = line
            self._elapsed = self._clock() - self._began
        return chunk

    def chunk(self, line: Mapping[str, Any]) -> Chunk:
        """The new piece in one object of the stream."""
        message: Mapping[str, Any] = line.get("message") or {}
        return Chunk(
            text=message.get("content") or "",
            thinking=message.get("thinking") or "",
            tool_calls=tuple(message.get("tool_calls") or ()),
            done=bool(line.get("done")),
            raw=line,
        )

    def finish(self, error: str | None) -> None:
        if self._elapsed is None:
            self._elapsed = self._clock() - self._began
        history.append(
            Record(kind=self.kind, model=self.model, started=self._started, timings=self.timings(), error=error)
        )

    def timings(self) -> Timings:
        elapsed = self._clock() - self._began if self._elapsed is None else self._elapsed
        return Timings.read(self._final or {}, first_token=self._first, elapsed=elapsed)

    def base(self) -> Result:
        final = self._final
        return Result(
            text="".join(self.text),
            thinking="".join(self.thinking),
            model=self.model if final is None else final.get("model") or self.model,
            done_reason="interrupted" if final is None else final.get("done_reason") or "",
            created_at="" if final is None else final.get("created_at") or "",
            timings=self.timings(),
            raw=final or {},
        )


class ChatFold(_AnswerFold):
    """A chat: the answer continues the conversation that was sent."""

    def __init__(self, model: str, conversation: tuple[Message, ...]) -> None:
        super().__init__(model)
        self._conversation = conversation

    def result(self) -> ChatResult:
        """The answer so far, and the conversation with it."""
        base = self.base()
        calls = tuple(self.tool_calls)
        answer = present(
            role="assistant", content=base.text, thinking=base.thinking or None, tool_calls=list(calls) or None
        )
        return ChatResult(**vars(base), messages=(*self._conversation, answer), tool_calls=calls)


class GenerateFold(_AnswerFold):
    """The continuation of a prompt."""

    kind = "generate"

    def __init__(self, model: str, prompt: str) -> None:
        super().__init__(model)
        self._prompt = prompt

    def chunk(self, line: Mapping[str, Any]) -> Chunk:
        """The new piece in one object of the stream."""
        return Chunk(
            text=line.get("response") or "",
            thinking=line.get("thinking") or "",
            done=bool(line.get("done")),
            raw=line,
        )

    def result(self) -> GenerateResult:
        """The continuation so far."""
        base = self.base()
        return GenerateResult(**vars(base), prompt=self._prompt, context=tuple(base.raw.get("context") or ()))


class StepsFold:
    """The steps of a long operation; the last one counts."""

    def __init__(self) -> None:
        self._last = Progress()

    @property
    def complete(self) -> bool:
        """Whether the last step says ``success``."""
        return self._last.status == "success"

    def feed(self, line: Mapping[str, Any]) -> Progress:
        """Take one step; it is its own event."""
        self._last = convert(line, Progress)
        return self._last

    def result(self) -> Progress:
        """The last step."""
        return self._last

    def finish(self, error: str | None) -> None:
        """Nothing to keep."""


def _error(status: int, value: Mapping[str, Any]) -> OllamaError:
    error = value.get("error", value.get("message"))
    message = error.get("message", "") if isinstance(error, dict) else error
    kind = _CLASSES.get(status, OllamaError)
    return kind(str(message), status=status, hint=value.get("hint"))


def present(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values are of any type
    """The fields that have a value: absent and null mean the same to Ollama, and absent is shorter."""
    return {name: value for name, value in fields.items() if value is not None}


def read(body: bytes, kind: type[T]) -> T:
    """A JSON body as ``kind``; raises ``OllamaError`` if it is none."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UnreadableError(exc) from exc


def convert(value: object, kind: type[T]) -> T:
    """A JSON value as ``kind``; raises ``OllamaError`` if it does not fit."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise UnreadableError(exc) from exc


class UnreadableError(OllamaError):
    """The reply is not JSON, or not what it should be."""

    status = _NO_STATUS

    def __init__(self, reason: Exception) -> None:
        super().__init__(f"the server's reply cannot be read: {reason}")
