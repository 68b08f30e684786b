"""Pulls that meet: clients that want the same, that leave, and servers that are ended or killed in the middle.

The registry is behind a line that is slow enough to be met in the middle, and that counts what passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from bad_line import BadLine, Weather
from docker_registry import docker_registry
from http_calls import MODEL, OPTIONS, client, lines, until
from samples import SMOLLM2_SHA256

SLOW = Weather(life=1e12, crawls=0, delay=0, rate=8e6)
"""Nothing happens to a connection; a download of 98 MB takes seconds."""

BLOB = f"sha256:{SMOLLM2_SHA256}"
SIZE = 98_362_432
OVERHEAD = 1.02
"""What heads of answers and chunks that came too late may cost."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _filled(registry, tmp_path_factory, start):
    """The sample model is in the registry as ``me/there``."""
    with start(tmp_path_factory.mktemp("filling")) as server, client(server.url) as calls:
        name = f"{registry.host}/me/there"
        calls.post("/api/copy", json={"source": MODEL, "destination": name})
        assert lines(calls.post("/api/push", json={"model": name, "insecure": True}))[-1] == {"status": "success"}


@contextlib.contextmanager
def running(work):
    """An asynchronous context in a loop and a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(work.__aenter__(), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(work.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def line(registry):
    with running(BadLine(int(registry.host.partition(":")[2]), SLOW, seed=1)) as line:
        yield line


@pytest.fixture
def empty(tmp_path):
    """The folder of a server that has no model yet."""
    (tmp_path / "models").mkdir()
    return tmp_path


def wanted(line):
    return {"model": f"127.0.0.1:{line.port}/me/there", "insecure": True}


def blobs(folder):
    return {path.name for path in (folder / "models" / "blobs").iterdir()}


def bytes_here(step):
    return step.get("completed", 0) if step.get("digest") == BLOB else 0


@contextlib.contextmanager
def pulling(url, line, fraction):
    """A pull that has come that far, and the steps that come after."""
    with client(url) as calls, calls.stream("POST", "/api/pull", json=wanted(line)) as response:
        steps = (json.loads(text) for text in response.iter_lines())
        for step in steps:
            assert "error" not in step
            if bytes_here(step) >= fraction * SIZE:
                break
        yield steps


def at_rest(line):
    """How much has passed, once nothing passes any more."""

    def unchanged():
        before = line.forwarded
        time.sleep(0.3)
        return line.forwarded == before

    until(unchanged, "nothing passes")
    return line.forwarded


def answers(calls, name):
    body = {"model": name, "prompt": "The sky is", "stream": False, "options": OPTIONS}
    return calls.post("/api/generate", json=body).json()["response"]


def test_two_clients_that_pull_the_same_share_one_download(empty, start, line):
    with start(empty) as server, ThreadPoolExecutor(2) as pool:

        def pull():
            with client(server.url) as calls:
                return lines(calls.post("/api/pull", json=wanted(line)))

        both = [future.result() for future in [pool.submit(pull), pool.submit(pull)]]
        with client(server.url) as calls:
            assert answers(calls, wanted(line)["model"])
    for steps in both:
        assert steps[-1] == {"status": "success"}
        assert [step for step in steps if 0 < bytes_here(step) < SIZE]
        assert max(map(bytes_here, steps)) == SIZE
    assert SIZE < line.forwarded < OVERHEAD * SIZE


def test_one_of_two_that_leaves_does_not_end_the_others_download(empty, start, line):
    with start(empty) as server, pulling(server.url, line, 0.1) as stays:
        with pulling(server.url, line, 0.2):
            pass
        assert list(stays)[-1] == {"status": "success"}
    assert line.forwarded < OVERHEAD * SIZE


def test_the_last_one_that_leaves_ends_the_download(empty, start, line):
    name = f"sha256-{SMOLLM2_SHA256}"
    with start(empty) as server:
        with pulling(server.url, line, 0.3), pulling(server.url, line, 0.3):
            pass
        at_rest(line)
        assert f"{name}-partial" in blobs(empty)
        assert name not in blobs(empty)
        assert line.forwarded < 0.9 * SIZE
        with client(server.url) as calls:
            assert calls.get("/api/tags").json() == {"models": []}
            steps = lines(calls.post("/api/pull", json=wanted(line)))
    assert steps[-1] == {"status": "success"}
    assert next(filter(None, map(bytes_here, steps))) >= 0.25 * SIZE
    assert not {left for left in blobs(empty) if "partial" in left}
    assert line.forwarded < 1.1 * SIZE


def test_a_killed_server_fetches_only_the_rest_when_it_is_back(empty, start, line):
    with start(empty) as server, pulling(server.url, line, 0.5):
        os.kill(server.pid, signal.SIGKILL)
    before = at_rest(line)
    with start(empty) as server, client(server.url) as calls:
        assert lines(calls.post("/api/pull", json=wanted(line)))[-1] == {"status": "success"}
        assert answers(calls, wanted(line)["model"])
    assert before < 0.9 * SIZE
    assert line.forwarded < 1.1 * SIZE


def test_a_server_that_ends_in_mid_pull_tells_its_clients(empty, start, line):
    with start(empty) as server:
        with pulling(server.url, line, 0.1) as steps:
            ended = threading.Thread(target=server.stop)
            ended.start()
            told = list(steps)
            ended.join()
        assert not server.alive
    assert "error" in told[-1]
    assert f"sha256-{SMOLLM2_SHA256}-partial" in blobs(empty)


def test_a_pull_of_what_is_here_fetches_nothing(tmp_path, start, line):
    with start(tmp_path) as server, client(server.url) as calls:
        steps = lines(calls.post("/api/pull", json=wanted(line)))
    assert steps[-1] == {"status": "success"}
    assert [step["completed"] for step in steps if step.get("digest") == BLOB] == [SIZE]
    assert line.forwarded < 10_000


@pytest.mark.parametrize(("streams", "connections"), [("1", range(1, 3)), ("6", range(6, 9))])
def test_the_number_of_streams_is_a_setting(empty, start, line, streams, connections):
    with start(empty, OLLAMA_MAX_TRANSFER_STREAMS=streams) as server, pulling(server.url, line, 0.1):
        # One may be the manifest's or the config's.
        assert line.connections in connections
