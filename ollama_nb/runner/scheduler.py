"""Which models are loaded, who waits, and who has to go.

A request takes a lease on a loaded model and gives it back when its HTTP request ends. Requests for a model
that is loaded never wait behind a load; requests that need a load take turns, one load at a time. What has no
lease stays for its keep-alive, or until its room is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from ollama_nb.runner.messages import Load
from ollama_nb.runner.supervisor import Child
from ollama_nb.wire.durations import FOREVER
from ollama_nb.wire.errors import BusyError, OllamaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["Limits", "ModelSpec", "Runner", "Scheduler"]

log = logging.getLogger(__name__)

MIN_CONTEXT: Final = 4
CPU_MAX_MODELS: Final = 3
"""OLLAMA_MAX_LOADED_MODELS where it is 0 and there is no GPU."""


@dataclass(frozen=True)
class Limits:
    """The settings that the scheduler obeys; durations in nanoseconds, ``load_timeout`` FOREVER means none."""

    num_parallel: int = 1
    max_loaded_models: int = 0
    max_queue: int = 512
    keep_alive: int = 300_000_000_000
    load_timeout: int = 300_000_000_000
    flash_attention: bool | None = None
    cache_type: str = "f16"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model and the options that decide how it is loaded; any difference in them means another load.

    ``num_gpu`` below 0 asks for nothing and so never causes a reload. ``footprint`` is an estimate in bytes for a
    number of sequences; ``embedding`` models run one sequence at a time.
    """

    name: str
    path: str
    adapters: tuple[str, ...] = ()
    projectors: tuple[str, ...] = ()
    num_ctx: int = 4096
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    num_thread: int = 0
    use_mmap: bool | None = None
    embedding: bool = False
    footprint: Callable[[int], int] = field(default=lambda _: 0, compare=False)

    def fits(self, other: ModelSpec) -> bool:
        """Whether a runner loaded for ``other`` can serve this request as it is."""
        return (
            self.path == other.path
            and self.adapters == other.adapters
            and self.projectors == other.projectors
            and self.context == other.context
            and (self.num_batch, self.main_gpu, self.num_thread, self.use_mmap)
            == (other.num_batch, other.main_gpu, other.num_thread, other.use_mmap)
            and (self.num_gpu < 0 or self.num_gpu == other.num_gpu)
        )

    @property
    def context(self) -> int:
        """The tokens of context that a sequence is loaded with: what was asked for, or the least that works."""
        return max(self.num_ctx, MIN_CONTEXT)


class Launch(Protocol):
    """Starts a child; ``Child.launch`` is the real one."""

    def __call__(self, load: Load, *, name: str, stall_timeout: float | None) -> Awaitable[Child]:
        """Load a model in a process of its own."""


@dataclass(eq=False)
class Runner:
    """A loaded model: its process, its leases, and when it is to go."""

    spec: ModelSpec
    child: Child
    num_seq: int
    keep_alive: int
    size: int
    slots: asyncio.Semaphore
    leases: int = 0
    idle_since: int = 0
    timer: asyncio.TimerHandle | None = None
    retirement: asyncio.Future[None] | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def expires_at(self) -> int:
        """Nanoseconds since the epoch at which an idle runner goes; a busy one counts from now."""
        start = self.idle_since or time.time_ns()
        return start + self.keep_alive


class Scheduler:
    """The table of loaded models, and the queue before it.

    ``launch`` starts children, ``memory`` tells the free bytes; tests put others in their place.
    """

    def __init__(self, limits: Limits, *, launch: Launch = Child.launch, memory: Callable[[], int]) -> None:
        self.limits = limits
        self._launch = launch
        self._memory = memory
        self._runners: dict[str, Runner] = {}
        self._loading = asyncio.Lock()
        self._queued = 0
        self._closed = False
        self._retirements: set[asyncio.Future[None]] = set()
        self._launching: asyncio.Future[Runner] | None = None

    @property
    def queued(self) -> int:
        """Requests that wait for a load or for a free sequence."""
        return self._queued

    def runners(self) -> list[Runner]:
        """The loaded models, the one that stays longest first."""
        return sorted(self._runners.values(), key=lambda runner: runner.expires_at, reverse=True)

    @contextlib.asynccontextmanager
    async def lease(self, spec: ModelSpec, keep_alive: int | None = None) -> AsyncIterator[Runner]:
        """Use a model: load it if need be, wait for one of its sequences, give it back at the end.

        ``keep_alive`` in nanoseconds replaces the runner's; None leaves it. Raises ``BusyError`` if the queue is
        full, ``RunnerError`` if the model cannot be loaded.
        """
        runner = await self._enqueue(spec)
        try:
            if keep_alive is not None:
                runner.keep_alive = keep_alive
            yield runner
        finally:
            runner.slots.release()
            self._give_back(runner)

    async def _enqueue(self, spec: ModelSpec) -> Runner:
        if self._queued >= self.limits.max_queue:
            raise BusyError
        self._queued += 1
        try:
            while True:
                runner = await self._acquire(spec)
                try:
                    await runner.slots.acquire()
                except BaseException:
                    self._give_back(runner)
                    raise
                if runner.child.alive:
                    return runner
                # It died while this request waited for a sequence; the next round loads it again.
                runner.slots.release()
                self._give_back(runner)
        finally:
            self._queued -= 1

    async def _acquire(self, spec: ModelSpec) -> Runner:
        if (runner := self._usable(spec)) is not None:
            return self._take(runner)
        async with self._loading:
            if (runner := self._usable(spec)) is not None:
                return self._take(runner)
            return self._take(await self._load(spec))

    def _usable(self, spec: ModelSpec) -> Runner | None:
        runner = self._runners.get(spec.path)
        if runner is None or runner.retirement or not runner.child.alive or not spec.fits(runner.spec):
            return None
        return runner

    def _take(self, runner: Runner) -> Runner:
        runner.leases += 1
        runner.idle.clear()
        runner.idle_since = 0
        if runner.timer:
            runner.timer.cancel()
            runner.timer = None
        return runner

    def _give_back(self, runner: Runner) -> None:
        runner.leases -= 1
        if not runner.leases:
            self._rest(runner)

    def _rest(self, runner: Runner) -> None:
        """Nobody uses the runner from now on: its keep-alive begins."""
        runner.idle.set()
        runner.idle_since = time.time_ns()
        self._set_timer(runner)

    def _set_timer(self, runner: Runner) -> None:
        """Start an idle runner's keep-alive."""
        if runner.timer:
            runner.timer.cancel()
            runner.timer = None
        if self._runners.get(runner.spec.path) is not runner or runner.leases:
            return
        if runner.keep_alive < FOREVER:
            loop = asyncio.get_running_loop()
            runner.timer = loop.call_later(runner.keep_alive / 1e9, self._expire_idle, runner)

    def _expire_idle(self, runner: Runner) -> None:
        if not runner.leases:
            self._retire(runner)

    # -- loading ----------------------------------------------------------------------------------------------------

    async def _load(self, spec: ModelSpec) -> Runner:
        """Load a model, after making room for it; called with the lock held."""
        if (old := self._runners.get(spec.path)) is not None:
            await self._gone(old)
        num_seq = 1 if spec.embedding else max(1, self.limits.num_parallel)
        size = spec.footprint(num_seq)
        await self._make_room(size)
        load = Load(
            model=spec.path,
            adapters=spec.adapters,
            projectors=spec.projectors,
            num_ctx=spec.context,
            num_seq=num_seq,
            num_batch=spec.num_batch,
            num_gpu=spec.num_gpu,
            main_gpu=spec.main_gpu,
            num_thread=spec.num_thread,
            use_mmap=spec.use_mmap,
            flash_attention=self.limits.flash_attention,
            cache_type=self.limits.cache_type,
        )
        self._require_open()
        launching = self._launching = asyncio.ensure_future(self._start(load, spec, num_seq, size))
        try:
            return await launching
        except asyncio.CancelledError:
            self._require_open()
            if not launching.cancelled() and launching.exception() is None:
                # The request went away in the instant in which its model was there: the model stays a while.
                self._rest(launching.result())
            raise
        finally:
            self._launching = None

    async def _start(self, load: Load, spec: ModelSpec, num_seq: int, size: int) -> Runner:
        """Launch a child and enter it into the table: a task of its own, which ``close`` can call off."""
        timeout = None if self.limits.load_timeout >= FOREVER else self.limits.load_timeout / 1e9
        child = await self._launch(load, name=spec.name, stall_timeout=timeout)
        runner = Runner(
            spec=spec,
            child=child,
            num_seq=num_seq,
            keep_alive=self.limits.keep_alive,
            size=size,
            slots=asyncio.Semaphore(num_seq),
        )
        child.on_end = lambda: self._forget(runner)
        self._runners[spec.path] = runner
        return runner

    def _require_open(self) -> None:
        if self._closed:
            raise OllamaError("the server is shutting down", status=503)

    async def _make_room(self, size: int) -> None:
        """Unload until one more model is allowed and fits; the first model is tried wherever it can fit at all."""
        most = self.limits.max_loaded_models or CPU_MAX_MODELS
        while True:
            free = self._memory()
            if len(self._runners) < most and size <= free:
                return
            if not self._runners:
                raise OllamaError(
                    f"model requires more system memory ({_human(size)}) than is available ({_human(free)})",
                    hint="use a smaller num_ctx, OLLAMA_NUM_PARALLEL or a smaller model",
                )
            await self._gone(self._victim())

    def _victim(self) -> Runner:
        """Ollama's choice: shortest keep-alive first, then by path; the first idle one, else the first."""
        candidates = sorted(self._runners.values(), key=lambda runner: (runner.keep_alive, runner.spec.path))
        return next((runner for runner in candidates if not runner.leases), candidates[0])

    # -- unloading --------------------------------------------------------------------------------------------------

    def _retire(self, runner: Runner) -> asyncio.Future[None]:
        """Give a runner no more requests, and end its process after the last one.

        However many want it gone, it goes once, and also when none of them waits for it any more.
        """
        if runner.retirement is None:
            runner.keep_alive = 0
            runner.retirement = asyncio.ensure_future(self._end(runner))
            self._retirements.add(runner.retirement)
            runner.retirement.add_done_callback(self._retirements.discard)
        return runner.retirement

    async def _gone(self, runner: Runner) -> None:
        """Retire a runner and wait for its end."""
        await asyncio.shield(self._retire(runner))

    async def _end(self, runner: Runner) -> None:
        while runner.leases and runner.child.alive:
            await runner.idle.wait()
        await runner.child.close()
        self._forget(runner)

    def _forget(self, runner: Runner) -> None:
        runner.idle.set()
        if runner.timer:
            runner.timer.cancel()
        if self._runners.get(runner.spec.path) is runner:
            del self._runners[runner.spec.path]

    def unload(self, path: str) -> None:
        """Let a model go as soon as its last request has ended; returns at once."""
        if (runner := self._runners.get(path)) is not None:
            self._retire(runner)

    async def close(self) -> None:
        """End every model's process, idle or not; nothing is loaded after this."""
        self._closed = True
        if self._launching is not None:
            self._launching.cancel()
            await asyncio.wait({self._launching})
        await asyncio.gather(*(runner.child.close() for runner in self._runners.values()))
        await asyncio.gather(*self._retirements)
        for runner in list(self._runners.values()):
            self._forget(runner)


def _human(size: int) -> str:
    """Bytes in Ollama's binary form: ``12.0 GiB``."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"
