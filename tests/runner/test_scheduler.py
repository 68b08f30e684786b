"""Who is loaded, who waits, who goes. The children here are fakes: what is shown is the order of decisions."""

from __future__ import annotations

import asyncio
import dataclasses
import random

import pytest

from ollama_nb.runner.scheduler import Limits, ModelSpec, Scheduler
from ollama_nb.wire.durations import FOREVER, SECOND
from ollama_nb.wire.errors import BusyError, OllamaError, RunnerError


class FakeChild:
    """A child without a process."""

    def __init__(self) -> None:
        self.alive = True
        self.on_end = None

    async def close(self):
        self.die()

    def die(self):
        if self.alive:
            self.alive = False
            if self.on_end:
                self.on_end()


class Loader:
    """Launches fakes; ``gate`` holds loads up, ``error`` makes them fail. Notes what was loaded."""

    def __init__(self) -> None:
        self.loaded = []
        self.children = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None
        self.at_once = self.most_at_once = 0

    async def __call__(self, load, *, name, stall_timeout):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            if self.error:
                raise self.error
        finally:
            self.at_once -= 1
        self.loaded.append(name)
        self.children.append(FakeChild())
        return self.children[-1]


def spec(name="a", **fields):
    return ModelSpec(name=name, path=f"/{name}", **fields)


def play(scenario, *, free=1 << 40, **limits):
    """Run a scenario with a scheduler and its loader; at the end nothing may be left."""

    async def run():
        loader = Loader()
        scheduler = Scheduler(Limits(**limits), launch=loader, memory=lambda: free)
        await scenario(scheduler, loader)
        assert scheduler.queued == 0
        assert all(runner.leases == 0 for runner in scheduler.runners())
        await scheduler.close()
        assert not scheduler.runners()
        assert not any(child.alive for child in loader.children)

    asyncio.run(asyncio.wait_for(run(), 60))


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def hold(scheduler, wanted, keep_alive=None):
    """A task that leases a model until its event is set: ``(task, release)``."""
    release = asyncio.Event()

    async def use():
        async with scheduler.lease(wanted, keep_alive):
            await release.wait()

    return asyncio.ensure_future(use()), release


def test_a_model_is_loaded_once_for_many():
    async def scenario(scheduler, loader):
        for _ in range(3):
            async with scheduler.lease(spec()) as runner:
                assert runner.leases == 1
        assert loader.loaded == ["a"]

    play(scenario)


@pytest.mark.parametrize(
    ("changed", "reloads"),
    [
        ({"num_ctx": 2048}, True),
        ({"num_batch": 64}, True),
        ({"main_gpu": 1}, True),
        ({"num_thread": 1}, True),
        ({"use_mmap": False}, True),
        ({"num_gpu": 3}, True),
        ({"num_gpu": -1}, False),
        ({"adapters": ("/x",)}, True),
        ({"projectors": ("/x",)}, True),
        ({"name": "other"}, False),
    ],
)
def test_only_what_decides_how_a_model_is_loaded_loads_it_again(changed, reloads):
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec()):
            pass
        async with scheduler.lease(dataclasses.replace(spec(), **changed)):
            pass
        assert len(loader.loaded) == (2 if reloads else 1)

    play(scenario)


def test_a_full_queue_refuses_with_ollamas_words():
    async def scenario(scheduler, loader):
        running, release = hold(scheduler, spec())
        await settle()
        waiting, also = hold(scheduler, spec())
        await settle()
        assert scheduler.queued == 1
        with pytest.raises(BusyError, match=r"server busy, please try again\.  maximum pending requests exceeded"):
            async with scheduler.lease(spec()):
                pass
        release.set()
        also.set()
        await asyncio.gather(running, waiting)

    play(scenario, max_queue=1)


def test_as_many_requests_run_as_there_are_sequences():
    async def scenario(scheduler, loader):
        tasks = [hold(scheduler, spec()) for _ in range(4)]
        await settle()
        assert scheduler.queued == 1
        for task, release in tasks:
            release.set()
            await task

    play(scenario, num_parallel=3)


def test_one_load_at_a_time_and_loaded_models_do_not_wait_for_it():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec("loaded")):
            pass
        loader.gate.clear()
        tasks = [hold(scheduler, spec(name)) for name in "xy"]
        await settle()
        async with scheduler.lease(spec("loaded")):
            assert loader.loaded == ["loaded"]
        loader.gate.set()
        for task, release in tasks:
            release.set()
            await task
        assert loader.most_at_once == 1

    play(scenario)


@pytest.mark.parametrize(("keep_alive", "stays"), [(0, False), (FOREVER, True), (60 * SECOND, True), (None, True)])
def test_keep_alive_decides_what_stays(keep_alive, stays):
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec(), keep_alive):
            await settle()
            assert scheduler.runners()
        await asyncio.sleep(0.05)
        assert bool(scheduler.runners()) is stays

    play(scenario)


def test_a_new_request_stops_the_clock_and_the_last_keep_alive_counts():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec(), 50_000_000):
            pass
        async with scheduler.lease(spec()):
            await asyncio.sleep(0.2)
            assert scheduler.runners()
        await asyncio.sleep(0.3)
        assert not scheduler.runners()

    play(scenario)


def test_the_one_that_would_go_first_makes_room_and_idle_ones_before_busy_ones():
    async def scenario(scheduler, loader):
        for name, seconds in (("long", 300), ("short", 10), ("middle", 60)):
            async with scheduler.lease(spec(name), seconds * SECOND):
                pass
        busy, release = hold(scheduler, spec("short"))
        await settle()
        async with scheduler.lease(spec("new")):
            assert {runner.spec.name for runner in scheduler.runners()} == {"long", "short", "new"}
        release.set()
        await busy

    play(scenario, max_loaded_models=3)


def test_a_model_that_does_not_fit_makes_room_and_one_that_never_will_is_refused():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec("small")):
            pass
        with pytest.raises(
            OllamaError, match=r"requires more system memory \(12\.0 GiB\) than is available \(8\.0 GiB\)"
        ):
            async with scheduler.lease(spec("huge", footprint=lambda _: 12 << 30)):
                pass
        assert not scheduler.runners()
        async with scheduler.lease(spec("small")):
            pass

    play(scenario, free=8 << 30)


def test_a_load_that_fails_is_told_and_tried_again():
    async def scenario(scheduler, loader):
        loader.error = RunnerError("no such luck")
        with pytest.raises(RunnerError, match="no such luck"):
            async with scheduler.lease(spec()):
                pass
        loader.error = None
        async with scheduler.lease(spec()):
            assert loader.loaded == ["a"]

    play(scenario)


def test_a_child_that_dies_is_replaced_for_the_next_and_for_those_in_line():
    async def scenario(scheduler, loader):
        running, release = hold(scheduler, spec())
        await settle()
        waiting, also = hold(scheduler, spec())
        await settle()
        loader.children[0].die()
        assert not scheduler.runners()
        release.set()
        also.set()
        await asyncio.gather(running, waiting)
        assert loader.loaded == ["a", "a"]

    play(scenario)


@pytest.mark.parametrize("when", ["loading", "queued", "running"])
def test_who_goes_away_leaves_nothing_behind(when):
    async def scenario(scheduler, loader):
        if when == "loading":
            loader.gate.clear()
        first, release = hold(scheduler, spec())
        await settle()
        leaver, _ = (first, None) if when != "queued" else hold(scheduler, spec())
        await settle()
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        loader.gate.set()
        release.set()
        await asyncio.gather(first, return_exceptions=True)
        async with scheduler.lease(spec()) as runner:
            assert runner.leases == 1

    play(scenario)


def test_unload_waits_for_the_last_request_and_returns_at_once():
    async def scenario(scheduler, loader):
        running, release = hold(scheduler, spec())
        await settle()
        scheduler.unload("/a")
        await settle()
        assert scheduler.runners()
        release.set()
        await running
        await settle()
        assert not scheduler.runners()

    play(scenario)


def test_closing_calls_a_load_off():
    async def scenario(scheduler, loader):
        loader.gate.clear()
        task, _ = hold(scheduler, spec())
        await settle()
        await scheduler.close()
        with pytest.raises(OllamaError, match="the server is shutting down"):
            await task

    play(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_after_any_hour_of_traffic_everything_is_given_back(seed):
    async def scenario(scheduler, loader):
        chance = random.Random(seed)
        tasks = []
        for _ in range(60):
            wanted = spec(chance.choice("abcd"), num_ctx=chance.choice([512, 1024]))
            task, release = hold(scheduler, wanted, chance.choice([None, 0, SECOND]))
            tasks.append(task)
            asyncio.get_running_loop().call_later(chance.random() / 20, release.set)
            if chance.random() < 0.2:
                asyncio.get_running_loop().call_later(chance.random() / 30, task.cancel)
            if loader.children and chance.random() < 0.1:
                chance.choice(loader.children).die()
            await asyncio.sleep(chance.random() / 200)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)

    play(scenario, num_parallel=2, max_loaded_models=2)
