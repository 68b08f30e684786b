from __future__ import annotations

import hashlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psutil
import pytest
from gguf_files import gguf_bytes
from http_calls import LOAD, MODEL, client, complaints, endless, lines, question, received_lines, send, until

BUSY = "server busy, please try again.  maximum pending requests exceeded"
STOPPED = "model runner has unexpectedly stopped"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, start):
    """One answer at a time, and one that may wait."""
    with start(tmp_path_factory.mktemp("narrow"), OLLAMA_MAX_QUEUE="1", OLLAMA_NUM_PARALLEL="1") as server:
        yield server
        assert not complaints(server)


@pytest.fixture
def calls(narrow):
    with client(narrow.url) as calls:
        calls.post("/api/generate", json=LOAD)
        yield calls


def processes_of(server):
    """All that the server has started."""
    return psutil.Process(server.pid).children(recursive=True)


def models_of(server):
    """The processes of the models."""

    def is_model(process):
        try:
            return "ollama_nb.runner.worker" in process.cmdline()
        except psutil.NoSuchProcess:  # it has ended meanwhile
            return False

    return [process for process in processes_of(server) if is_model(process)]


def short(calls):
    response = calls.post("/api/chat", json={**question("Hi", num_predict=2), "stream": False})
    return response.status_code, response.json()


def test_eight_chats_at_once_are_eight_answers(tmp_path, start):
    things = ["apples", "boats", "clouds", "dogs", "eagles", "forests", "gold", "houses"]
    requests = [{**question(f"Say something about {thing}.", num_predict=12), "stream": False} for thing in things]
    with start(tmp_path, OLLAMA_NUM_PARALLEL="8") as server, client(server.url) as calls:
        calls.post("/api/generate", json=LOAD)

        def ask(request):
            return calls.post("/api/chat", json=request)

        with ThreadPoolExecutor(len(requests)) as pool:
            pending = [pool.submit(ask, request) for request in requests]
            waited = []
            while not all(answer.done() for answer in pending):
                before = time.monotonic()
                assert calls.get("/api/version").status_code == 200
                waited.append(time.monotonic() - before)
                time.sleep(0.02)
            together = [answer.result().json() for answer in pending]
        assert len(waited) > 3  # it answered while they ran
        alone = [ask(request).json() for request in requests]
        assert len(models_of(server)) == 1
    assert [answer["message"]["content"] for answer in together] == [answer["message"]["content"] for answer in alone]
    assert [answer["prompt_eval_count"] for answer in together] == [answer["prompt_eval_count"] for answer in alone]
    assert len({answer["message"]["content"] for answer in together}) == len(things)


def queued(server, calls):
    """A request that waits in the queue; None if there was no place for it."""
    waiting = send(server.url, "/api/chat", question("Hi"))
    calls.get("/api/version")  # it is a moment later now, for the server too
    waiting.settimeout(0.5)
    try:
        refused = waiting.recv(12)
    except TimeoutError:
        waiting.settimeout(60)
        return waiting
    waiting.close()
    assert refused.endswith(b"503")
    return None


def test_a_full_queue_is_said_at_once(narrow, calls):
    with closing(send(narrow.url, "/api/chat", endless())) as running:
        next(received_lines(running))
        with closing(queued(narrow, calls)) as waiting:
            for body in (question("Hi"), {**question("Hi"), "stream": False}):
                refused = calls.post("/api/chat", json=body)
                assert (refused.status_code, refused.json()) == (503, {"error": BUSY})
            running.close()
            assert list(received_lines(waiting))[-1]["done"] is True
    assert short(calls)[0] == 200


def test_who_leaves_in_mid_stream_frees_the_sequence(narrow, calls):
    for _ in range(3):
        with closing(send(narrow.url, "/api/chat", endless())) as running:
            next(received_lines(running))
        assert short(calls)[0] == 200


def test_who_leaves_a_single_answer_frees_the_sequence(narrow, calls):
    with closing(send(narrow.url, "/api/chat", {**endless(), "stream": False})):
        until(lambda: calls.post("/api/show", json={"model": MODEL}).status_code == 200, "the server to have read it")
    assert short(calls)[0] == 200


def test_who_leaves_the_queue_frees_the_place(narrow, calls):
    with closing(send(narrow.url, "/api/chat", endless())) as running:
        next(received_lines(running))
        for _ in range(3):
            until(lambda: queued(narrow, calls), "a place in the queue").close()
        with closing(until(lambda: queued(narrow, calls), "a place in the queue")) as waiting:
            running.close()
            assert list(received_lines(waiting))[-1]["done"] is True


def test_who_leaves_while_the_model_is_loading_takes_the_load_along(narrow, calls):
    for context in (300, 301, 302):
        with closing(send(narrow.url, "/api/chat", question("Hi", num_ctx=context))):
            time.sleep(0.05)
    until(lambda: short(calls)[0] == 200, "the queue to be empty")
    until(lambda: len(models_of(narrow)) == 1, "one model process to be left")


def test_a_model_process_that_is_killed_ends_the_answer_with_an_error_and_no_other(narrow, calls):
    with closing(send(narrow.url, "/api/chat", endless())) as running:
        stream = received_lines(running)
        next(stream)
        (process,) = models_of(narrow)
        os.kill(process.pid, signal.SIGKILL)
        *_, last = stream
    assert last["error"].startswith(STOPPED)
    status, answer = short(calls)
    assert (status, answer["done"]) == (200, True)


def test_a_single_answer_of_a_killed_process_is_500(narrow, calls):
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(calls.post, "/api/chat", json={**endless(), "stream": False})
        (process,) = models_of(narrow)
        until(lambda: process.cpu_percent() > 20, "the model to compute")  # it is busy as soon as it answers
        os.kill(process.pid, signal.SIGKILL)
        response = pending.result()
    assert response.status_code == 500
    assert response.json()["error"].startswith(STOPPED)
    assert short(calls)[0] == 200


def test_a_model_that_cannot_be_loaded_is_an_error_with_the_reason(narrow, calls):
    data = gguf_bytes({"general.architecture": "nosuchthing", "general.name": "x"}, [("w", "F32", (32, 2))])
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    calls.post(f"/api/blobs/{digest}", content=data)
    made = calls.post("/api/create", json={"model": "strange", "files": {"x.gguf": digest}})
    assert lines(made)[-1] == {"status": "success"}
    for body in ({"model": "strange"}, {"model": "strange", "prompt": "Hi"}):
        response = calls.post("/api/generate", json=body)
        assert response.status_code == 500
        assert "llama runner process has terminated" in response.json()["error"]
        assert "unknown model architecture: 'nosuchthing'" in response.json()["error"]
    assert short(calls)[0] == 200
    assert [model["name"] for model in calls.get("/api/ps").json()["models"]] == [MODEL]


def test_creates_that_are_left_alone_leave_a_whole_store(narrow, calls):
    before = {model["name"] for model in calls.get("/api/tags").json()["models"]}
    for number in range(5):
        send(narrow.url, "/api/create", {"model": f"left-{number}", "from": MODEL, "system": "S"}).close()
    assert lines(calls.post("/api/create", json={"model": "left", "from": MODEL, "system": "S"}))[-1] == {
        "status": "success"
    }
    made = {model["name"] for model in calls.get("/api/tags").json()["models"]} - before
    assert "left:latest" in made
    # One that came about before its client was missed is whole.
    for name in made:
        assert calls.post("/api/show", json={"model": name}).json()["system"] == "S"


def running_under_load(server):
    """Connections on which one answer streams and more are wanted than can run."""
    connections = [send(server.url, "/api/chat", endless())]
    next(received_lines(connections[0]))
    return connections + [send(server.url, "/api/chat", endless()) for _ in range(2)]


def test_an_end_is_an_end_also_under_load(tmp_path, start):
    with start(tmp_path, OLLAMA_NUM_PARALLEL="2") as server:
        connections = running_under_load(server)
        processes = [psutil.Process(server.pid), *processes_of(server)]
        assert len(processes) > 1
        os.kill(server.pid, signal.SIGTERM)
        assert not psutil.wait_procs(processes, timeout=60)[1]
        assert not complaints(server)
        for connection in connections:
            connection.close()


def test_a_server_that_is_killed_leaves_no_model_behind(tmp_path, start):
    with start(tmp_path, OLLAMA_NUM_PARALLEL="2") as server:
        connections = running_under_load(server)
        processes = processes_of(server)
        assert processes
        os.kill(server.pid, signal.SIGKILL)
        assert not psutil.wait_procs(processes, timeout=60)[1]
        for connection in connections:
            connection.close()


def test_others_are_answered_while_a_long_request_is_read(api):
    body = b'{"model": "absent", "prompt": "x", "context": [' + b",".join([b"1"] * 1_000_000) + b"]}"
    answered = 0
    with ThreadPoolExecutor(1) as pool:
        long_one = pool.submit(api.post, "/api/generate", content=body)
        while not long_one.done():
            assert api.get("/api/version").status_code == 200
            answered += 1
        assert long_one.result().status_code == 404
    assert answered > 10
