"""Who is loaded, who waits, who goes. The children here are fakes: what is shown is the order of decisions."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random

import pytest

from ollama_nb.runner.scheduler import Limits, ModelSpec, Scheduler
from ollama_nb.wire.durations import FOREVER, SECOND
from ollama_nb.wire.errors import BusyError, OllamaError, RunnerError


class FakeChild:
    """A child without a process; ``lingering`` holds its end up."""

    def __init__(self) -> None:
        self.alive = True
        self.on_end = None
        self.lingering = None

    async def close(self):
        if self.lingering:
            await self.lingering.wait()
        self.die()

    def die(self):
        if self.alive:
            self.alive = False
            if self.on_end:
                self.on_end()


class Loader:
    """Launches fakes; ``gate`` holds loads up, ``error`` makes them fail. Notes what was loaded.

    ``at_the_end`` is called when a load is done and nobody has heard of it yet.
    """

    def __init__(self) -> None:
        self.loaded = []
        self.loads = []
        self.timeouts = []
        self.at_the_end = None
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
        self.loads.append(load)
        self.timeouts.append(stall_timeout)
        self.children.append(FakeChild())
        if self.at_the_end:
            asyncio.get_running_loop().call_soon(self.at_the_end)
        return self.children[-1]


def spec(name="a", **fields):
    return ModelSpec(name=name, path=f"/{name}", **fields)


def play(scenario, *, free=1 << 40, **limits):
    """Run a scenario with a scheduler and its loader; at the end nothing may be left.

    ``free`` is the memory in bytes, or a function that tells it.
    """

    async def run():
        loader = Loader()
        scheduler = Scheduler(Limits(**limits), launch=loader, memory=free if callable(free) else lambda: free)
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
        ({"footprint": lambda _: 7}, False),
    ],
)
def test_only_what_decides_how_a_model_is_loaded_loads_it_again(changed, reloads):
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec()):
            pass
        async with scheduler.lease(dataclasses.replace(spec(), **changed)):
            assert len(scheduler.runners()) == 1
        assert len(loader.loaded) == (2 if reloads else 1)

    play(scenario)


@pytest.mark.parametrize(
    ("first", "second", "reloads"),
    [
        ({"num_gpu": 5}, {"num_gpu": -1}, False),
        ({"num_gpu": 5}, {"num_gpu": 5}, False),
        ({"num_gpu": -1}, {"num_gpu": 0}, True),
        ({"num_ctx": 1}, {"num_ctx": 4}, False),
        ({"num_ctx": 4}, {"num_ctx": 5}, True),
        ({"use_mmap": None}, {"use_mmap": True}, True),
    ],
)
def test_what_asks_for_nothing_fits_and_contexts_below_the_least_are_the_same(first, second, reloads):
    async def scenario(scheduler, loader):
        for fields in (first, second):
            async with scheduler.lease(spec(**fields)):
                pass
        assert len(loader.loaded) == (2 if reloads else 1)

    play(scenario)


def test_a_child_is_told_what_the_request_and_the_settings_say():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec(num_ctx=1, num_batch=7, num_thread=3, use_mmap=False, adapters=("/l",))):
            pass
        load = loader.loads[0]
        assert (load.model, load.adapters, load.num_ctx, load.num_seq) == ("/a", ("/l",), 4, 5)
        assert (load.num_batch, load.num_thread, load.use_mmap) == (7, 3, False)
        assert (load.flash_attention, load.cache_type) == (True, "q8_0")
        async with scheduler.lease(spec("embedder", embedding=True)) as runner:
            assert runner.num_seq == loader.loads[1].num_seq == 1

    play(scenario, num_parallel=5, flash_attention=True, cache_type="q8_0")


@pytest.mark.parametrize(("load_timeout", "seconds"), [(90 * SECOND, 90), (FOREVER, None)])
def test_the_time_that_a_load_may_stall_is_a_setting(load_timeout, seconds):
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec()):
            assert loader.timeouts == [seconds]

    play(scenario, load_timeout=load_timeout)


def test_a_reload_waits_for_the_last_request_and_nobody_slips_in_before_it():
    async def scenario(scheduler, loader):
        running, release = hold(scheduler, spec())
        await settle()
        changed, done = hold(scheduler, spec(num_ctx=8))
        await settle()
        late, also = hold(scheduler, spec())
        await settle()
        assert loader.loaded == ["a"]
        assert scheduler.queued == 2
        release.set()
        await running
        await settle()
        assert [load.num_ctx for load in loader.loads] == [4096, 8]
        done.set()
        also.set()
        await asyncio.gather(changed, late)
        assert [load.num_ctx for load in loader.loads] == [4096, 8, 4096]

    play(scenario, num_parallel=4)


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


def test_the_queue_holds_exactly_as_many_as_the_setting_says():
    async def scenario(scheduler, loader):
        loader.gate.clear()
        tasks = [hold(scheduler, spec(str(number))) for number in range(3)]
        await settle()
        assert scheduler.queued == 3
        with pytest.raises(BusyError):
            await hold(scheduler, spec())[0]
        tasks[1][0].cancel()
        await settle()
        tasks.append(hold(scheduler, spec("3")))
        await settle()
        assert scheduler.queued == 3
        loader.gate.set()
        for _, release in tasks:
            release.set()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert loader.loaded == ["0", "2", "3"]

    play(scenario, max_queue=3)


def test_first_come_first_served():
    async def scenario(scheduler, loader):
        order = []

        async def use(number):
            async with scheduler.lease(spec()):
                order.append(number)
                await settle()

        await asyncio.gather(*(use(number) for number in range(8)))
        assert order == list(range(8))

    play(scenario, num_parallel=2)


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


def test_a_model_goes_after_the_last_of_the_requests_that_wanted_it_gone():
    async def scenario(scheduler, loader):
        first, one = hold(scheduler, spec(), 0)
        second, two = hold(scheduler, spec(), 0)
        await settle()
        one.set()
        await first
        await asyncio.sleep(0.05)
        assert scheduler.runners()
        two.set()
        await second
        await asyncio.sleep(0.05)
        assert not scheduler.runners()

    play(scenario, num_parallel=2)


def test_an_idle_model_has_a_fixed_end_and_a_busy_one_has_not():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec("short"), 60 * SECOND) as short:
            first = short.expires_at
            await asyncio.sleep(0.01)
            assert short.expires_at > first
        end = short.expires_at
        await asyncio.sleep(0.01)
        assert short.expires_at == end == short.idle_since + 60 * SECOND
        async with scheduler.lease(spec("long"), FOREVER) as long:
            pass
        assert scheduler.runners() == [long, short]

    play(scenario)


def test_the_setting_is_the_keep_alive_of_requests_that_say_nothing():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec()) as runner:
            assert runner.keep_alive == 7 * SECOND
        async with scheduler.lease(spec(), 9 * SECOND) as runner:
            pass
        async with scheduler.lease(spec()) as runner:
            assert runner.keep_alive == 9 * SECOND

    play(scenario, keep_alive=7 * SECOND)


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


def test_among_equals_the_path_decides_who_makes_room():
    async def scenario(scheduler, loader):
        for name in "cab":
            async with scheduler.lease(spec(name)):
                pass
        async with scheduler.lease(spec("new")):
            assert {runner.spec.name for runner in scheduler.runners()} == {"b", "c", "new"}

    # Three is what a machine without a GPU holds if nothing is said.
    play(scenario)


def test_where_all_are_busy_the_first_to_go_is_waited_for():
    async def scenario(scheduler, loader):
        held = {name: hold(scheduler, spec(name), seconds * SECOND) for name, seconds in (("a", 20), ("b", 10))}
        await settle()
        waiting, also = hold(scheduler, spec("new"))
        await settle()
        held["a"][1].set()
        await settle()
        assert loader.loaded == ["a", "b"]
        held["b"][1].set()
        await settle()
        assert {runner.spec.name for runner in scheduler.runners()} == {"a", "new"}
        also.set()
        await asyncio.gather(waiting, *(task for task, _ in held.values()))

    play(scenario, max_loaded_models=2)


def test_models_go_until_the_new_one_fits():
    async def scenario(scheduler, loader):
        for name in "abc":
            async with scheduler.lease(spec(name)):
                pass
        async with scheduler.lease(spec("new", footprint=lambda num_seq: num_seq * 4)):
            assert [runner.size for runner in scheduler.runners() if runner.spec.name == "new"] == [8]
        assert {runner.spec.name for runner in scheduler.runners()} == {"c", "new"}

    frees = iter([100, 100, 100, 0, 7, 8])
    play(scenario, free=lambda: next(frees), num_parallel=2, max_loaded_models=9)


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


def test_a_child_that_dies_while_idle_is_forgotten():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec(), 50_000_000):
            pass
        loader.children[0].die()
        assert not scheduler.runners()
        async with scheduler.lease(spec()):
            await asyncio.sleep(0.1)  # past the end of the first one's keep-alive
            assert scheduler.runners()
        assert loader.loaded == ["a", "a"]

    play(scenario)


@pytest.mark.parametrize("asked_again", [True, False])
def test_who_goes_away_in_the_instant_in_which_the_model_is_there_leaves_it_for_its_keep_alive(asked_again):
    async def scenario(scheduler, loader):
        task, _ = hold(scheduler, spec())
        loader.at_the_end = task.cancel
        with pytest.raises(asyncio.CancelledError):
            await task
        (runner,) = scheduler.runners()
        assert (runner.leases, loader.loaded) == (0, ["a"])
        loader.at_the_end = None
        if asked_again:
            async with scheduler.lease(spec()):
                assert loader.loaded == ["a"]
        await asyncio.sleep(0.3)
        assert not scheduler.runners()

    play(scenario, keep_alive=SECOND // 10)


def test_a_model_that_was_to_make_room_goes_even_if_nobody_waits_for_that_any_more():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec("old")):
            pass
        lingering = loader.children[0].lingering = asyncio.Event()
        task, _ = hold(scheduler, spec("new"))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert scheduler.runners()
        lingering.set()
        await settle()
        assert not scheduler.runners()
        assert loader.loaded == ["old"]

    play(scenario, max_loaded_models=1)


def test_a_request_just_after_an_unload_loads_again():
    async def scenario(scheduler, loader):
        async with scheduler.lease(spec()):
            pass
        scheduler.unload("/a")
        scheduler.unload("/a")
        scheduler.unload("/never loaded")
        async with scheduler.lease(spec()) as runner:
            assert runner.child.alive
        assert loader.loaded == ["a", "a"]

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


def test_nothing_is_loaded_once_the_scheduler_is_closed():
    async def scenario(scheduler, loader):
        await scheduler.close()
        with pytest.raises(OllamaError, match="the server is shutting down") as caught:
            async with scheduler.lease(spec()):
                pass
        assert caught.value.status == 503
        assert loader.loaded == []

    play(scenario)


@pytest.mark.parametrize("wanted", [spec("new"), spec("old", num_ctx=8)], ids=["other model", "other options"])
def test_closing_while_a_load_waits_for_room_loads_nothing_more(wanted):
    async def scenario(scheduler, loader):
        running, release = hold(scheduler, spec("old"))
        await settle()
        waiting, _ = hold(scheduler, wanted)
        await settle()
        await scheduler.close()
        with pytest.raises(OllamaError, match="the server is shutting down"):
            await waiting
        assert loader.loaded == ["old"]
        release.set()
        await running

    play(scenario, max_loaded_models=1)


def test_closing_ends_busy_models_and_those_who_wait_for_them():
    async def scenario(scheduler, loader):
        running, release = hold(scheduler, spec())
        await settle()
        waiting, _ = hold(scheduler, spec())
        await settle()
        await asyncio.gather(scheduler.close(), scheduler.close())
        assert not loader.children[0].alive
        assert not scheduler.runners()
        release.set()
        await running
        with pytest.raises(OllamaError, match="the server is shutting down"):
            await waiting
        assert loader.loaded == ["a"]

    play(scenario)


def test_closing_in_the_instant_in_which_a_model_is_there_ends_it():
    async def scenario(scheduler, loader):
        closing = []
        loader.at_the_end = lambda: closing.append(asyncio.ensure_future(scheduler.close()))
        task, release = hold(scheduler, spec())
        release.set()
        with contextlib.suppress(OllamaError):
            await task
        await asyncio.gather(*closing)
        assert not loader.children[0].alive
        assert not scheduler.runners()

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
