"""The child's main: one job in on stdin, events out on what was stdout, both as lines of JSON (``jobs``).

Started as ``python -P -m ollama_nb.convert.worker`` by ``process``, never by hand. The process ends when its stdin
closes, also in the middle of a long call of C: whatever happens to the server, no work goes on for nobody. What the
jobs do is left to ``model``, ``adapters`` and ``engine.quantizer``, each imported only when it is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ollama_nb.convert.jobs import MAX_LINE, ConvertAdapter, ConvertModel, Done, Event, Job, JobFailed, Step
from ollama_nb.store.files import disk_refusals
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PAUSE", "Progress", "main"]

PAUSE: Final = 0.1
"""Seconds between two steps that are told, at least: nobody reads faster."""

_NICE: Final = 10
_READ_SIZE: Final = 1 << 12

log = logging.getLogger("ollama_nb.convert")


class Progress:
    """Tells steps, not more often than eyes can follow; the last one always."""

    def __init__(self, send: Callable[[Event], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._told_at: float | None = None
        self._told: Step | None = None

    def __call__(self, completed: int, total: int) -> None:
        """``completed`` of ``total`` bytes are done."""
        step = Step(completed, total)
        now = self._clock()
        hurry = self._told_at is None or completed >= total or now - self._told_at >= PAUSE
        if hurry and step != self._told:
            self._told, self._told_at = step, now
            self._send(step)


def _run(job: Job, progress: Callable[[int, int], None]) -> list[str]:
    out = Path(job.out)
    if isinstance(job, ConvertModel):
        from ollama_nb.convert.model import convert_model  # noqa: PLC0415 - not for other jobs

        return convert_model(_paths(job.files), out, job.type, progress)
    if isinstance(job, ConvertAdapter):
        from ollama_nb.convert.adapters import convert_adapter  # noqa: PLC0415 - not for other jobs

        return convert_adapter(_paths(job.files), out, job.base, progress)
    from ollama_nb.engine.quantizer import quantize  # noqa: PLC0415 - llama_cpp takes half a second

    return quantize(Path(job.source), out, job.type, progress)


def _paths(files: dict[str, str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in files.items()}


def _outcome(job: Job, progress: Callable[[int, int], None]) -> Done | JobFailed:
    try:
        with disk_refusals():
            return Done(_run(job, progress))
    except OllamaError as error:
        return JobFailed(error.message, error.status, error.hint or "")
    except MemoryError:
        log.exception("the job ran out of memory")
        return JobFailed("there is not enough memory for this", hint="close what else needs memory on this machine")
    except Exception as error:
        log.exception("the job failed")
        return JobFailed(_one_line(error))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0].removesuffix(":")


def _limit() -> None:
    """Be a good neighbour: a chat that runs meanwhile goes first, and a crash leaves no dump."""
    # Ctrl-C reaches the whole process group; when to end is the server's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # ggml would start a debugger on itself before it aborts.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # some systems forbid even this
        os.nice(_NICE)


def _end_with_stdin() -> None:
    """Wait until the server is gone or has had enough, then end at once."""
    with contextlib.suppress(OSError):
        while os.read(0, _READ_SIZE):
            pass
    os._exit(0)


def _sender(descriptor: int) -> Callable[[Event], None]:
    def send(event: Event) -> None:
        line = memoryview(msgspec.json.encode(event) + b"\n")
        while line:
            line = line[os.write(descriptor, line) :]

    return send


def main() -> None:
    """Do the job that the first line names."""
    _limit()
    send = _sender(os.dup(1))
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    line = sys.stdin.buffer.readline(MAX_LINE)
    if not line.endswith(b"\n"):
        return  # the server went away before it had said what to do
    threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    send(_outcome(msgspec.json.decode(line, type=Job), Progress(send)))


if __name__ == "__main__":
    main()
