"""One child process with one model: starting it, speaking frames with it, noticing its death, ending it.

The supervisor knows processes and frames. Which model is loaded when, and for whom, is the scheduler's
business; what the text means is the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ollama_nb.runner.messages import (
    Cancel,
    Detokenize,
    Embed,
    Embedded,
    Failed,
    Finish,
    FrameReader,
    Generate,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Measure,
    Measured,
    Overflow,
    Piece,
    ServerMessage,
    Step,
    Text,
    Tokenize,
    Tokens,
    decode_child,
    encode,
)
from ollama_nb.wire.errors import OllamaError, RunnerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["Child"]

log = logging.getLogger(__name__)

CLOSE_GRACE: Final = 5.0
"""Seconds between closing a child's stdin and killing it."""
_LAST_LINES: Final = 40
_STOPPED: Final = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)

Answer = Piece | Finish | OllamaError


class _Log:
    """The child's stderr: every line to our log, the last ones kept for error messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self.lines: deque[str] = deque(maxlen=_LAST_LINES)

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", errors="replace").rstrip()
            self.lines.append(text)
            log.debug("[%s] %s", self._name, text)

    def end(self) -> None:
        """A dying process may leave its last line without an end."""
        if self._rest:
            self.feed(b"\n")

    def reason(self) -> str:
        """The line that tells most: llama.cpp's own error, else the last one."""
        for line in reversed(self.lines):
            marker = "error loading model: "
            if marker in line:
                return "error loading model: " + line.split(marker, 1)[1]
        for line in reversed(self.lines):
            if "error" in line.lower() or "abort" in line.lower() or "failed" in line.lower():
                return line
        return self.lines[-1] if self.lines else "it left no message"


class _Protocol(asyncio.SubprocessProtocol):
    """Feeds the pipes' bytes to the child object as they come; no task stands between pipe and request."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._child.receive(data)
        else:
            self._child.log.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class's signature
        self._child.ended()


class Child:
    """A model's process. ``launch`` starts one; it ends with ``close`` or by itself, then ``alive`` is False."""

    def __init__(self, load: Load, name: str, on_progress: Callable[[float], None] | None) -> None:
        self.log = _Log(name)
        self.progress = 0.0
        self.on_end: Callable[[], None] | None = None
        self._load = load
        self._on_progress = on_progress
        self._frames = FrameReader()
        self._transport: asyncio.SubprocessTransport | None = None
        self._answers: dict[int, asyncio.Queue[Answer]] = {}
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._closing = False
        self._refusal = "the process ended while loading"
        self._moved = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[Loaded] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    @classmethod
    async def launch(
        cls, load: Load, *, name: str, stall_timeout: float | None, on_progress: Callable[[float], None] | None = None
    ) -> Child:
        """Start a process and load the model; returns when it is ready.

        ``stall_timeout`` seconds without progress are too many, None waits for ever. Raises ``RunnerError`` with
        what the child said last. A cancelled launch leaves no process.
        """
        child = cls(load, name, on_progress)
        try:
            await child._start()
            await child._wait_until_loaded(stall_timeout)
        except BaseException:
            await asyncio.shield(child.close())
            raise
        return child

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(
            # -P: whatever modules lie in the folder that the server runs in, they are not the child's.
            lambda: _Protocol(self),
            sys.executable,
            "-P",
            "-m",
            "ollama_nb.runner.worker",
        )
        self._transport = transport
        self._send(self._load)

    async def _wait_until_loaded(self, stall_timeout: float | None) -> None:
        while not self._loaded.done():
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), stall_timeout)
            except TimeoutError:
                raise RunnerError(
                    f"timed out waiting for llama runner to start - progress {self.progress:.2f} - {self.log.reason()}"
                ) from None
        self._loaded.result()
        self._require_alive()

    @property
    def info(self) -> Loaded:
        """What the model is; only once it is loaded."""
        return self._loaded.result()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._transport.get_pid() if self._transport else -1

    @property
    def alive(self) -> bool:
        """Whether it can take requests."""
        return self._transport is not None and not self._closing and not self._ended.done()

    # -- requests ---------------------------------------------------------------------------------------------------

    async def generate(self, request: Callable[[int], Generate]) -> AsyncGenerator[Piece | Finish, None]:
        """Run a request: pieces as they are gained, a ``Finish`` at the end.

        ``request`` makes the frame from the id it is to carry. Leaving the generator early cancels the request in
        the child. Raises ``RunnerError`` if the child dies, and what the child says is wrong.
        """
        number = self._next_id()
        queue: asyncio.Queue[Answer] = asyncio.Queue()
        self._answers[number] = queue
        complete = False
        try:
            self._require_alive()
            self._send(request(number))
            while True:
                answer = await queue.get()
                if isinstance(answer, OllamaError):
                    complete = True
                    raise answer
                if isinstance(answer, Finish):
                    complete = True
                yield answer
                if complete:
                    return
        finally:
            del self._answers[number]
            if not complete and self.alive:
                self._send(Cancel(number))

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Token ids of a text."""
        tokens: list[int] = await self._call(lambda number: Tokenize(id=number, text=text, add_special=add_special))
        return tokens

    async def measure(self, images: tuple[bytes, ...]) -> list[int]:
        """How many tokens each image takes; raises ``OllamaError`` (400) for one that cannot be read."""
        counts: list[int] = await self._call(lambda number: Measure(id=number, images=images))
        return counts

    async def detokenize(self, tokens: list[int]) -> str:
        """Text of token ids; raises ``OllamaError`` (400) for ids that the vocabulary does not have."""
        text: str = await self._call(lambda number: Detokenize(id=number, tokens=tokens))
        return text

    async def embed(self, text: str, *, overflow: Overflow = "head") -> Embedded:
        """The vector of a text, shape (embedding length,); raises ``OllamaError`` (400) where it is too long.

        Texts that wait at the same time are computed together. A task that is cancelled drops its text in the child.
        """
        embedded: Embedded = await self._call(
            lambda number: Embed(id=number, text=text, overflow=overflow), cancellable=True
        )
        return embedded

    async def _call(self, request: Callable[[int], ServerMessage], *, cancellable: bool = False) -> Any:  # noqa: ANN401 - typed by the callers
        self._require_alive()
        number = self._next_id()
        future = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            self._send(request(number))
            return await future
        finally:
            del self._calls[number]
            if cancellable and future.cancelled() and self.alive:
                self._send(Cancel(number))

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _require_alive(self) -> None:
        if not self.alive:
            raise self._death()

    def _send(self, message: ServerMessage) -> None:
        if self._transport is None:
            raise RunnerError("the model's process has not been started")
        pipe = self._transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport) and not pipe.is_closing():
            pipe.write(encode(message))

    # -- what the child says -----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes from the child's stdout."""
        try:
            for body in self._frames.feed(data):
                self._dispatch(decode_child(body))
        except ValueError:  # also msgspec's decode errors
            log.exception("the frames of model process %d cannot be read; ending it", self.pid)
            self.kill()

    def _dispatch(self, message: object) -> None:
        if isinstance(message, Step):
            for piece in message.pieces:
                self._answer(piece.id, piece)
            for finish in message.finished:
                self._answer(finish.id, finish)
        elif isinstance(message, Failed):
            error = OllamaError(message.error, status=message.status)
            self._answer(message.id, error)
            self._return(message.id, error)
        elif isinstance(message, Tokens):
            self._return(message.id, message.tokens)
        elif isinstance(message, Text):
            self._return(message.id, message.text)
        elif isinstance(message, Measured):
            self._return(message.id, message.counts)
        elif isinstance(message, Embedded):
            self._return(message.id, message)
        else:
            self._load_moved(message)

    def _load_moved(self, message: object) -> None:
        """What a child says before it takes requests."""
        if isinstance(message, LoadProgress):
            self.progress = message.fraction
            self._moved.set()
            if self._on_progress:
                self._on_progress(message.fraction)
        elif isinstance(message, Loaded):
            self._loaded.set_result(message)
            self._moved.set()
        elif isinstance(message, LoadFailed):
            # The process ends after this; only then all that it wrote to its log has been read.
            self._refusal = message.error

    def _answer(self, number: int, answer: Answer) -> None:
        if queue := self._answers.get(number):
            queue.put_nowait(answer)

    def _return(self, number: int, result: object) -> None:
        future = self._calls.get(number)
        if future is None or future.done():
            return
        if isinstance(result, OllamaError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _load_failed(self) -> None:
        reason = self.log.reason()
        detail = reason if reason.startswith("error loading model") else f"{self._refusal}: {reason}"
        error = RunnerError(f"llama runner process has terminated: {detail}", hint=self._last_words())
        self._loaded.set_exception(error)
        # Retrieved here, since nobody waits for a launch that was cancelled.
        self._loaded.exception()

    def _death(self) -> RunnerError:
        return RunnerError(_STOPPED, hint=self._last_words())

    def _last_words(self) -> str:
        code = self._transport.get_returncode() if self._transport else None
        ending = "" if code is None else f"exit status {code}; " if code >= 0 else f"killed by signal {-code}; "
        return f"{ending}last log lines: " + " | ".join(list(self.log.lines)[-5:])

    # -- the end -------------------------------------------------------------------------------------------------------

    def ended(self) -> None:
        """The process has exited and its pipes are read to the end."""
        self.log.end()
        self._moved.set()
        if not self._loaded.done():
            self._load_failed()
        for number in list(self._answers):
            self._answer(number, self._death())
        for number in list(self._calls):
            self._return(number, self._death())
        if not self._ended.done():
            self._ended.set_result(None)
        if self._transport is not None:
            # A child that died by itself may never be closed by anyone.
            self._transport.close()
        if self.on_end:
            self.on_end()

    async def close(self) -> None:
        """End the process: close its stdin, wait, kill what does not go. Waits until it is gone."""
        self._closing = True
        if self._transport is None:
            return
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._ended), CLOSE_GRACE)
        if not self._ended.done():
            log.warning("model process %d did not end by itself; killing it", self.pid)
            self.kill()
            await self._ended

    def kill(self) -> None:
        """End the process at once."""
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()
