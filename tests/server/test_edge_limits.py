from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
import time
from contextlib import ExitStack, closing

import pytest
from http_calls import (
    client,
    complaints,
    connect,
    endless,
    exchange,
    question,
    received_lines,
    request_head,
    send,
    until,
)

from ollama_nb.server import base
from ollama_nb.server.intake import LIMITS, Limits
from ollama_nb.server.listener import open_listener
from ollama_nb.service.runtime import Runtime
from ollama_nb.settings import Settings

TIGHT = Limits(body=1 << 20, linger=1 << 20, header_count=50, idle=2.0, stall=2.0, connections=6)


class _Thread(threading.Thread):
    """A listener with limits of its own, on a loop of its own in this process: nothing else stands in between."""

    def __init__(self, runtime, limits):
        super().__init__()
        self.runtime, self.limits = runtime, limits
        self.url = ""
        self._ready = threading.Event()

    def run(self):
        asyncio.run(self._serve())

    async def _serve(self):
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        await self.runtime.start()
        listener = open_listener(self.runtime, limits=self.limits)
        self.url = listener.url
        self._ready.set()
        await self._ended.wait()
        await self.runtime.close()
        await listener.close()

    def __enter__(self):
        self.start()
        self._ready.wait(60)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join()


@pytest.fixture
def tight(tmp_path, make_store):
    """The address of a listener with small limits."""
    chosen = {
        "host": "127.0.0.1:0",
        "models": make_store(tmp_path / "models"),
        "nb_home": tmp_path / "home",
        "context_length": 512,
    }
    with _Thread(Runtime(Settings.resolve({}, chosen)), TIGHT) as listener:
        yield listener.url


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def chunks(data, size):
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


# -- how much ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/chat", "/api/create", "/api/tags", "/nope", "/"])
def test_a_body_that_is_announced_too_long_is_refused_before_it_comes(server, path):
    length = str(LIMITS.body + 1)
    status, headers, body = exchange(server.url, request_head("POST", path, server.url, Content_Length=length))
    assert status == 413
    assert headers["connection"] == "close"
    assert json.loads(body) == {
        "error": "the request body is larger than 256 MiB",
        "hint": "files of models are sent to /api/blobs, which has no limit",
    }


@pytest.mark.parametrize("length", ["9" * 5000, "9" * 21, "0" * 4000 + "9" * 12])
@pytest.mark.parametrize("path", ["/api/chat", "/nope"])
def test_no_number_is_too_long_to_be_too_large(server, path, length):
    before = len(complaints(server))
    assert exchange(server.url, request_head("POST", path, server.url, Content_Length=length))[0] == 413
    assert len(complaints(server)) == before


def test_zeros_in_front_make_a_body_no_longer(server):
    head = request_head("POST", "/api/show", server.url, Content_Length="0" * 50 + "2", Connection="close")
    assert exchange(server.url, head + b"{}")[0] == 400


def test_who_asks_first_is_told_without_an_invitation(server):
    head = request_head("POST", "/api/chat", server.url, Content_Length="1000000000", Expect="100-continue")
    with closing(connect(server.url)) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_openai_clients_read_it_in_their_own_shape(server):
    head = request_head("POST", "/v1/chat/completions", server.url, Content_Length=str(LIMITS.body + 1))
    _, _, body = exchange(server.url, head)
    error = json.loads(body)["error"]
    assert error["message"] == "the request body is larger than 256 MiB"
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)


def test_a_page_that_may_call_can_read_it(server):
    head = request_head("POST", "/api/chat", server.url, Content_Length="1000000000", Origin="http://localhost")
    status, headers, _ = exchange(server.url, head)
    assert (status, headers["access-control-allow-origin"]) == (413, "http://localhost")


def test_the_door_comes_before_the_size(server):
    head = request_head("POST", "/api/chat", server.url, Content_Length="1000000000", Host="evil.test")
    assert exchange(server.url, head)[0] == 403


def test_a_body_up_to_the_limit_is_read_and_one_past_it_is_not(tight):
    with client(tight) as calls:
        padding = TIGHT.body - len(b'{"model":""}')
        fits = calls.post("/api/show", content=b'{"model":""}' + b" " * padding)
        past = calls.post("/api/show", content=b'{"model":""}' + b" " * (padding + 1))
    assert fits.status_code == 400
    assert past.status_code == 413


def test_a_body_in_chunks_is_counted_while_it_comes(tight):
    data = b'{"model":"' + b"x" * (TIGHT.body + TIGHT.linger // 2) + b'"}'
    head = request_head("POST", "/api/show", tight, Transfer_Encoding="chunked")
    status, headers, body = exchange(tight, head + b"".join(chunks(data, 60_000)) + b"0\r\n\r\n")
    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body)["error"] == "the request body is larger than 1 MiB"


def test_a_sender_that_does_not_stop_is_cut_off(tight):
    with closing(connect(tight)) as connection:
        connection.sendall(request_head("POST", "/api/show", tight, Content_Length=str(1 << 40)))
        sent = 0
        with pytest.raises(OSError, match=r"reset|Broken pipe|aborted"):
            while True:
                sent += connection.send(b"x" * 65536)
                assert sent < 1 << 30


def test_blobs_are_not_bounded_by_it(tight):
    data = b"b" * (3 * TIGHT.body)
    with client(tight) as calls:
        assert calls.post(f"/api/blobs/{digest_of(data)}", content=data).status_code == 201


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"model":' * 50_000, b'{"format":' + b"[" * 300 + b"]" * 300 + b"}"]
)
def test_json_that_is_nested_too_deeply_is_refused(api, body):
    reply = api.post("/api/chat", content=body)
    assert (reply.status_code, reply.json()["error"]) == (400, "exceeded max depth")


def test_too_many_headers_are_refused(tight):
    def asked(count):
        lines = {f"X-{number}": "1" for number in range(count)}
        return exchange(tight, request_head("GET", "/api/version", tight, Connection="close", **lines))

    assert asked(TIGHT.header_count - 2)[0] == 200
    status, _, body = asked(TIGHT.header_count)
    assert (status, json.loads(body)) == (431, {"error": "too many headers"})


@pytest.mark.parametrize("path", ["/api/blobs/sha256:" + "0" * 64, "/v1/models/a/b", "/nope"])
def test_they_are_refused_on_every_route_before_anything_of_it_is_run(tight, path, tmp_path):
    lines = {f"X-{number}": "1" for number in range(TIGHT.header_count)}
    blobs = sorted((tmp_path / "models" / "blobs").iterdir())
    status, _, body = exchange(tight, request_head("POST", path, tight, Content_Length="3", **lines) + b"abc")
    assert (status, b"too many headers" in body) == (431, True)
    assert sorted((tmp_path / "models" / "blobs").iterdir()) == blobs


def test_a_head_past_its_limit_ends_the_connection(server):
    with closing(connect(server.url)) as connection:
        try:
            connection.sendall(request_head("GET", "/", server.url, X_Long="x" * LIMITS.header_size))
            assert connection.recv(65536) == b""
        except ConnectionError:  # cut off while it was still sending
            pass
    assert exchange(server.url, request_head("GET", "/", server.url, Connection="close"))[0] == 200


# -- how slowly --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-", id="half a head"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a whole request, then nothing"),
        pytest.param(b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{", id="half a body"),
        pytest.param(
            b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{  \r\n", id="chunks"
        ),
        pytest.param(
            b"POST /api/blobs/sha256:%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx" % (b"0" * 64),
            id="half a blob",
        ),
        pytest.param(
            b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\nx", id="half of too much"
        ),
    ],
)
def test_a_connection_on_which_nothing_moves_is_ended(tight, begun):
    with closing(connect(tight)) as connection:
        connection.sendall(begun)
        while connection.recv(65536):
            pass


def test_half_a_blob_that_was_given_up_leaves_no_file(tight, tmp_path):
    with closing(connect(tight)) as connection:
        head = request_head("POST", "/api/blobs/sha256:" + "0" * 64, tight, Content_Length="99")
        connection.sendall(head + b"x")
        blobs = tmp_path / "models" / "blobs"
        before = until(lambda: len(list(blobs.iterdir())) == 3 and list(blobs.iterdir()), "the upload has a file")
        assert connection.recv(65536) == b""
    until(lambda: len(list(blobs.iterdir())) < len(before), "the file is gone")


@pytest.mark.parametrize("path", ["/api/blobs/", "/api/show"])
def test_what_is_slow_but_moves_is_taken(tight, path):
    """All in all it takes longer than anything may stand still."""
    body = b'{"model": "smollm2:135m"}'
    target, status = (path + digest_of(body), 201) if "blobs" in path else (path, 200)
    with closing(connect(tight)) as connection:
        connection.sendall(request_head("POST", target, tight, Content_Length=str(len(body)), Connection="close"))
        began = time.monotonic()
        for start in range(0, len(body), 5):
            time.sleep(TIGHT.stall / 4)
            connection.sendall(body[start : start + 5])
        assert time.monotonic() - began > TIGHT.stall
        assert connection.recv(65536).startswith(f"HTTP/1.1 {status} ".encode())


def test_an_answer_may_take_as_long_as_it_likes_and_its_reader_too(tight):
    with closing(send(tight, "/api/chat", endless())) as connection:
        lines = received_lines(connection)
        assert not next(lines)["done"]
        time.sleep(TIGHT.idle + TIGHT.stall)
        for _ in range(20):
            assert not next(lines)["done"]


def test_a_reader_that_has_stopped_does_not_keep_the_model_for_ever(tight, monkeypatch):
    """The one place in the model goes to the next, long before the answer that nobody reads would be finished."""
    monkeypatch.setattr(base, "READER_PATIENCE", 1.0)
    # Every line is made long, since an answer of the model's own takes minutes to fill what the network holds.
    written = base.ApiHandler.stream_item
    monkeypatch.setattr(base.ApiHandler, "stream_item", lambda self, item: written(self, item).rjust(200_000))
    host, port = tight.removeprefix("http://").split(":")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        body = json.dumps(endless()).encode()
        deaf.sendall(request_head("POST", "/api/chat", tight, Content_Length=str(len(body))) + body)
        assert deaf.recv(15) == b"HTTP/1.1 200 OK"
        with closing(send(tight, "/api/chat", question("Hello", num_predict=1))) as connection:
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


# -- how many ----------------------------------------------------------------------------------------------------------


def test_one_connection_too_many_is_told_so_and_the_others_go_on(tight):
    alive = request_head("GET", "/", tight)
    with ExitStack() as stack:
        held = [stack.enter_context(closing(connect(tight))) for _ in range(TIGHT.connections)]
        for connection in held:
            connection.sendall(alive)
            assert b"200 OK" in connection.recv(65536)
        with closing(connect(tight)) as more:
            refused = b"".join(iter(lambda: more.recv(65536), b""))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert json.loads(refused.partition(b"\r\n\r\n")[2]) == {"error": "too many connections"}
        held[0].sendall(alive)
        assert b"200 OK" in held[0].recv(65536)
        held[1].shutdown(socket.SHUT_RDWR)
        until(lambda: _answers(tight, alive), "there is room again")


def _answers(url, head):
    with closing(connect(url)) as connection:
        try:
            connection.sendall(head)
            return b"200 OK" in connection.recv(65536)
        except ConnectionError:
            return False
