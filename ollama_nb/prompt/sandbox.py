"""Chat templates of strangers, run in a process of their own.

A Jinja template comes inside a GGUF file from anywhere. The limits of ``jinja`` count its steps and its output, but
what a filter or an operator makes on the way, doubled often enough, takes all memory or hours, and neither can be
taken back within a process. So the server never compiles or runs one: a small process does, with a limit of the
system on its memory, and is ended when it does not answer. The next template gets a new one.

Run as ``python -m ollama_nb.prompt.sandbox``, which ends when its stdin closes: whatever happens to the server, nothing
is left behind. What templates may do is left to ``jinja``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from ollama_nb.wire.errors import BadRequestError, OllamaError

if TYPE_CHECKING:
    from ollama_nb.prompt.jinja import ChatTemplate

__all__ = ["PATIENCE", "SandboxedTemplate", "main"]

PATIENCE: Final = 20.0
"""Seconds after which a template that has not answered is ended; real ones take milliseconds."""

_MEMORY: Final = 1 << 30
"""Bytes of address space that the process may have."""

_LENGTH: Final = struct.Struct("<I")
_CHUNK: Final = 1 << 16


class _Request(msgspec.Struct, frozen=True):
    """Render messages with a template; without messages, only compile it."""

    source: str
    bos: str
    eos: str
    messages: list[dict[str, Any]] | None = None
    variables: dict[str, Any] = {}


class _Reply(msgspec.Struct, frozen=True):
    """The text, or an error with its HTTP status; ``names`` are the variables that the template asks for."""

    text: str = ""
    names: list[str] = []
    error: str = ""
    status: int = 0


class SandboxedTemplate:
    """A chat template as ``jinja.ChatTemplate`` is one, that lives in the other process.

    ``variables`` are the names that it expects to be given, such as ``tools``. Methods block.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """Compile; raises ``OllamaError`` for a template that does not parse."""
        self.source = source
        self._bos = bos
        self._eos = eos
        self.variables = frozenset(_ask(_Request(source, bos, eos)).names)

    def render(self, messages: list[dict[str, Any]], **variables: Any) -> str:  # noqa: ANN401 - any JSON value
        """The prompt for messages; raises ``BadRequestError`` where it is refused, ``OllamaError`` where it fails."""
        return _ask(_Request(self.source, self._bos, self._eos, messages, variables)).text


def _ask(request: _Request) -> _Reply:
    try:
        body = msgspec.msgpack.encode(request)
    except UnicodeEncodeError as error:
        raise OllamaError(f"template error: {error}") from error
    reply = _process().ask(body)
    if reply.error:
        kind = BadRequestError if reply.status == BadRequestError.status else OllamaError
        raise kind(reply.error)
    return reply


@functools.cache
def _process() -> _Process:
    process = _Process()
    atexit.register(process.close)
    return process


class _Process:
    """The one process of this server, started when it is needed; one request after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, body: bytes) -> _Reply:
        """The answer to an encoded request; a process that gives none is ended."""
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self.close()
                self._child = _start()
            try:
                return _exchange(self._child, body)
            except TimeoutError:
                self.close()
                return _Reply(error="template error: it takes too long", status=BadRequestError.status)
            except (OSError, EOFError, msgspec.DecodeError):
                self.close()
                return _Reply(error="template error: it ended the process that ran it", status=BadRequestError.status)

    def close(self) -> None:
        """End the process, if there is one."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not sent to a process that is gone
                    pipe.close()


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "ollama_nb.prompt.sandbox"]
    # A session of its own: Ctrl-C in the terminal is the server's business.
    return subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def _exchange(child: subprocess.Popen[bytes], body: bytes) -> _Reply:
    if child.stdin is None or child.stdout is None:
        raise EOFError("the process has no pipes")
    child.stdin.write(_LENGTH.pack(len(body)) + body)
    child.stdin.flush()
    deadline = time.monotonic() + PATIENCE
    (length,) = _LENGTH.unpack(_read(child.stdout, _LENGTH.size, deadline))
    return msgspec.msgpack.decode(_read(child.stdout, length, deadline), type=_Reply)


def _read(pipe: IO[bytes], size: int, deadline: float) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if sys.platform != "win32" and not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        data = os.read(pipe.fileno(), min(_CHUNK, size - len(parts)))
        if not data:
            raise EOFError
        parts += data
    return bytes(parts)


# -- the other side ---------------------------------------------------------------------------------------------------


def _limit() -> None:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Some systems know the limit and do not take it.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _answer(request: _Request) -> _Reply:
    try:
        template = _compiled(request.source, request.bos, request.eos)
        if request.messages is None:
            return _Reply(names=sorted(template.variables))
        return _Reply(text=template.render(request.messages, **request.variables))
    except OllamaError as error:
        return _Reply(error=error.message, status=error.status)


@functools.lru_cache(maxsize=64)
def _compiled(source: str, bos: str, eos: str) -> ChatTemplate:
    from ollama_nb.prompt.jinja import ChatTemplate  # noqa: PLC0415 - the asking side needs no jinja2

    return ChatTemplate(source, bos=bos, eos=eos)


def main() -> None:
    """Answer requests until stdin closes."""
    _limit()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while header := stdin.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(header)
        _set_alarm(2 * PATIENCE)  # in case the server is not there any more to end this
        reply = _encoded(_answer(msgspec.msgpack.decode(stdin.read(length), type=_Request)))
        _set_alarm(0)
        stdout.write(_LENGTH.pack(len(reply)) + reply)
        stdout.flush()


def _encoded(reply: _Reply) -> bytes:
    try:
        return msgspec.msgpack.encode(reply)
    except UnicodeEncodeError as error:
        return msgspec.msgpack.encode(_Reply(error=f"template error: {error}", status=OllamaError.status))


def _set_alarm(seconds: float) -> None:
    if sys.platform != "win32":
        signal.alarm(int(seconds))


if __name__ == "__main__":
    main()
