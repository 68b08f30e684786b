"""A server of one's own: ``ollama-nb serve`` as a child of this process, and gone with it.

The child listens on a free loopback port, says where by its runtime file, and ends when its stdin closes, which
the operating system sees to even if this process is killed.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING, Final, Self

from ollama_nb.client.discovery import announced_by, probe
from ollama_nb.wire.errors import ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LocalServer", "start_server"]

COMMAND: Final = (sys.executable, "-m", "ollama_nb", "serve", "--exit-on-stdin-close")

START_TIMEOUT: Final = 60.0
"""Seconds until the child must answer: a cold disk needs some for Python's imports."""

STOP_TIMEOUT: Final = 10.0
"""Seconds that the child has for ending by itself, before it is terminated, and then again before it is killed."""

_POLL: Final = 0.05
_LOG_LINES: Final = 20


class LocalServer:
    """A running child; ``url`` is where it answers. Leave it with ``stop()`` or as a context manager."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._process = process
        self._log = log
        self.url = ""
        atexit.register(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    def wait_until_ready(self, timeout: float) -> None:
        """Return when the child answers; raises ``ServerUnreachableError`` with its last words if it does not."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.alive:
                raise self._failure(f"the server ended with exit code {self._process.returncode} before it answered")
            if (url := announced_by(self.pid)) and probe(url) is None:
                self.url = url
                return
            time.sleep(_POLL)
        raise self._failure(f"the server did not answer within {timeout:g} s")

    def log_tail(self) -> str:
        """The last lines that the child wrote."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode("utf-8", "replace").splitlines()[-_LOG_LINES:])

    def stop(self) -> None:
        """End the child, kindly at first; can be called again."""
        atexit.unregister(self.stop)
        if self._process.stdin is not None:
            self._process.stdin.close()
        for harder in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(STOP_TIMEOUT)
                break
            except subprocess.TimeoutExpired:
                harder()
        self._process.wait()
        self._log.close()

    def _failure(self, text: str) -> ServerUnreachableError:
        return ServerUnreachableError(f"{text}; its last lines:\n{self.log_tail()}")


def start_server(
    env: Mapping[str, str] | None = None,
    *,
    command: Sequence[str] = COMMAND,
    timeout: float = START_TIMEOUT,
) -> LocalServer:
    """Start a server on a free port and wait until it answers; ``env`` adds to this process's environment.

    Raises ``ServerUnreachableError`` with the child's last log lines if it ends or stays silent for ``timeout`` s.
    """
    log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - appended by the child and read here for as long as it lives
    process = subprocess.Popen(  # noqa: S603 - this Python, or what the caller names
        command,
        env={**os.environ, "OLLAMA_HOST": "127.0.0.1:0", **(env or {})},
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,  # an interrupt from the keyboard stops a cell, not the server
    )
    server = LocalServer(process, log)
    try:
        server.wait_until_ready(timeout)
    except BaseException:
        server.stop()
        raise
    return server
