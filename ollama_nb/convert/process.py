"""The server's side of converting and quantizing: a process for each job, one after the other.

A job is heavy in memory and at the mercy of its files, so it never runs in the server. The process hears of a server
that has died by its stdin; one that nobody waits for any more is killed here. ``worker`` is the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import msgspec

from ollama_nb.convert.jobs import MAX_LINE, Done, Event, Job, JobFailed, Quantize, Step
from ollama_nb.wire.errors import OllamaError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["run"]

log = logging.getLogger(__name__)

CLOSE_GRACE: Final = 5.0
"""Seconds that a process which has done its job gets to end by itself."""

_KILLED: Final = 9
"""``SIGKILL``, with which systems end who takes all memory."""

_LAST_LINES: Final = 5
_KEPT: Final = 4096
"""Bytes of the process's log that are kept for its last words."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
_events = msgspec.json.Decoder(Event)


async def run(job: Job) -> AsyncGenerator[Step | Done, None]:
    """Do a job: steps as they come, ``Done`` at the end.

    Jobs of one event loop wait for each other. Raises ``OllamaError`` with what the process says is wrong, or with its
    last words where it died. Closing the generator, or cancelling the task that waits in it, kills the process and
    waits for its end; put ``contextlib.aclosing`` around it. ``job.out`` is the caller's to remove.
    """
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        process = await asyncio.create_subprocess_exec(
            # -P: whatever modules lie in the folder that the server runs in, they are not the child's.
            *(sys.executable, "-P", "-m", "ollama_nb.convert.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
        )
        log.debug("process %d: %s", process.pid, type(job).__name__)
        words = asyncio.create_task(_last_words(process))
        done = False
        try:
            await _send(process, job)
            while not done and (event := await _next(process)):
                if isinstance(event, JobFailed):
                    raise OllamaError(event.error, status=event.status, hint=event.hint or None)
                done = isinstance(event, Done)
                yield event
            if not done:
                raise _death(job, await process.wait(), await words)
        finally:
            await _end(process, grace=CLOSE_GRACE if done else 0)
            await words


async def _send(process: asyncio.subprocess.Process, job: Job) -> None:
    """Say what to do; stdin stays open, since the process ends with it."""
    if process.stdin is None:
        raise OllamaError("the process has no stdin")
    # One that died on the way here is noticed where its answer is missing.
    with contextlib.suppress(ConnectionError):
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        await process.stdin.drain()


async def _next(process: asyncio.subprocess.Process) -> Event | None:
    """What the process says next; None if it has nothing more to say."""
    if process.stdout is None:
        return None
    try:
        line = await process.stdout.readline()
        return _events.decode(line) if line else None
    except ValueError:  # too long a line, or none of ours; also msgspec's errors
        log.exception("process %d does not speak as it should", process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return None


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """Everything from stderr into our log; returns its last lines."""
    if process.stderr is None:
        return ""
    kept = b""
    while data := await process.stderr.read(_KEPT):
        log.debug("[convert %d] %s", process.pid, data.decode("utf-8", errors="replace").rstrip())
        kept = (kept + data)[-_KEPT:]
    lines = [line.strip() for line in kept.decode("utf-8", errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])


def _death(job: Job, code: int, words: str) -> OllamaError:
    what = "quantization" if isinstance(job, Quantize) else "conversion"
    ending = f"exit status {code}" if code >= 0 else f"killed by signal {-code}"
    hint = f"last log lines: {words}" if words else "it left no message"
    if code == -_KILLED or not words:
        hint = f"it may have needed more memory than there is; {hint}"
    return OllamaError(f"the {what} has unexpectedly stopped: {ending}", hint=hint)


async def _end(process: asyncio.subprocess.Process, *, grace: float) -> None:
    """Wait until the process is gone; after ``grace`` seconds it is killed."""
    try:
        if grace:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        if process.stdin is not None:
            process.stdin.close()
