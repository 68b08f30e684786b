"""What the two servers have in common: a process to start and end, requests in their dialect, answers to read.

``ours`` and ``peer`` fill in the rest. A contender is a context manager; when it is left, none of its processes
is, and that is checked.
"""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from client import Arrivals

__all__ = ["Answer", "Contender", "Settings"]

START_TIMEOUT: Final = 120.0
END_TIMEOUT: Final = 15.0
_POLL: Final = 0.05


@dataclass(frozen=True)
class Settings:
    """What both must have alike: threads, context per stream and batch in tokens, streams at once."""

    model: Path
    threads: int
    streams: int = 8
    num_ctx: int = 2048
    num_batch: int = 512
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.1


@dataclass(frozen=True)
class Answer:
    """One streamed answer as the client saw it: times in s of its clock, counts in tokens by the server's final object.

    ``texts`` are the times at which text came, of which there is some; as a rule a text is a token.
    """

    sent_at: float
    texts: list[float]
    prompt_tokens: int
    tokens: int


class Contender(ABC):
    """A server under load. ``name`` stands in the report."""

    name: str
    probe_path: str
    """A GET that costs the server nothing."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.address = ("", 0)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / f"{self.name}.log"

    # -- the dialect --------------------------------------------------------------------------------------------------

    @abstractmethod
    def request(self, prompt: str, *, seed: int, tokens: int) -> bytes:
        """The HTTP request for a streamed continuation of a raw prompt."""

    @abstractmethod
    def read(self, arrivals: Arrivals) -> Answer:
        """What an answer was. Raises ``ClientError`` for anything but a complete one."""

    # -- the process --------------------------------------------------------------------------------------------------

    @abstractmethod
    def start(self) -> None:
        """Start the process, load the model and set ``address``. Raises ``RuntimeError`` with its last log lines."""

    @abstractmethod
    def parts(self) -> dict[str, psutil.Process]:
        """The processes by what they are."""

    def spawn(self, command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process that ends when its stdin closes, with its log in the folder."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=dict(environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        return self._process

    def wait_for(self, ready: Callable[[], str | None]) -> str:
        """Ask ``ready`` until it has a text. Raises ``RuntimeError`` if the process ends or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if (text := ready()) is not None:
                return text
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(_POLL)
        raise RuntimeError(f"{self.name} did not start; its log ends with:\n{self._last_words()}")

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self._end()
        if left and error is None:
            raise RuntimeError(f"{self.name} did not end by itself: {', '.join(left)} had to be killed")

    def _end(self) -> list[str]:
        """Close the process's stdin and wait for it and its children; names of those that had to be killed."""
        process = self._process
        if process is None:
            return []
        try:
            root = psutil.Process(process.pid)
            family = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        _, alive = psutil.wait_procs(family, timeout=END_TIMEOUT)
        for survivor in alive:
            survivor.kill()
        process.wait()
        self._process = None
        return [f"process {survivor.pid}" for survivor in alive]
