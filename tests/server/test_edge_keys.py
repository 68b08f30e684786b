from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx2
import ollama
import pytest
from http_calls import client, connect, exchange, request_head, until
from route_paths import VERBS, sample_path

from ollama_nb.client import Client
from ollama_nb.server.edge import Edge
from ollama_nb.server.routes import ROUTES
from ollama_nb.store.keys import KeyFile
from ollama_nb.wire.errors import OllamaError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The folder with the keys of the guarded server."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def key(home):
    """A key of the guarded server."""
    return KeyFile(home).create("the first")[0]


@pytest.fixture(scope="module")
def guarded(home, key, tmp_path_factory, start):
    """A server that has a key from its start."""
    with start(tmp_path_factory.mktemp("guarded"), OLLAMA_NB_HOME=str(home)) as server:
        yield server


@pytest.fixture
def ask(guarded):
    """Calls to the guarded server that bring no key of themselves."""
    with client(guarded.url) as calls:
        yield calls


# -- decisions ---------------------------------------------------------------------------------------------------------


class _Keys:
    """Stands for the key file, with one key or none."""

    def __init__(self, *keys):
        self._keys = keys

    def entries(self):
        return self._keys

    def known(self, key):
        return key in self._keys


def judged(keys, headers, *, method="POST", path="/api/chat", always=False):
    edge = Edge((), loopback=True, keys=keys, keys_always=always)
    return edge.judge(method, path, "localhost", httpx2.Headers(headers)).status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer k"}, None),
        ({"authorization": "bearer  k "}, None),
        ({"x-api-key": "k"}, None),
        ({"Authorization": "Bearer wrong", "X-Api-Key": "k"}, None),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "k"}, 401),
        ({"Authorization": "Basic k"}, 401),
        ({"X-Api-Key": ""}, 401),
        ({"Cookie": "key=k"}, 401),
    ],
)
def test_a_key_is_shown_as_a_bearer_token_or_in_a_header_of_its_own(headers, status):
    assert judged(_Keys("k"), headers) == status


def test_without_keys_nobody_is_asked_unless_one_is_always_needed():
    assert judged(_Keys(), {}) is None
    assert judged(None, {}) is None
    assert judged(_Keys(), {}, always=True) == 401
    assert judged(_Keys(), {"X-Api-Key": "anything"}, always=True) == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", None), ("HEAD", "/", None), ("OPTIONS", "/api/chat", 204), ("POST", "/", 401), ("GET", "//", 401),
     ("GET", "/api/version", 401), ("GET", "/.", 401), ("get", "/", 401)],
)  # fmt: skip
def test_only_the_sign_of_life_and_preflights_need_no_key(method, path, status):
    assert judged(_Keys("k"), {}, method=method, path=path) == status


def test_keys_that_cannot_be_read_let_nobody_in():
    class Broken(_Keys):
        def entries(self):
            raise OllamaError("cannot read the API keys: bad disk")

    assert judged(Broken(), {"X-Api-Key": "k"}) == 500


# -- at the door -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"OPTIONS"}))
@pytest.mark.parametrize("pattern", [pattern for pattern, _ in ROUTES] + ["/nope", "/api//tags"])
def test_every_route_asks_for_a_key(ask, pattern, verb):
    path = sample_path(pattern)
    status = ask.request(verb, path).status_code
    assert status == (200 if path == "/" and verb in ("GET", "HEAD") else 401)


def test_the_refusal_says_what_to_do(ask):
    reply = ask.post("/api/chat", json={"model": "x"})
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.json()["error"] == "this server asks for an API key"
    assert "Authorization: Bearer KEY" in reply.json()["hint"]
    wrong = ask.get("/api/tags", headers={"Authorization": "Bearer onb-wrong"}).json()
    assert wrong["error"] == "the API key is not one of this server's"


def test_openai_clients_read_it_in_their_own_shape(ask):
    reply = ask.get("/v1/models")
    assert reply.status_code == 401
    error = reply.json()["error"]
    assert "OLLAMA_API_KEY" in error.pop("hint")
    assert error == {
        "message": "this server asks for an API key",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }


@pytest.mark.parametrize("name", ["Authorization", "x-api-key"])
def test_with_the_key_everything_goes_on(ask, key, name):
    headers = {name: f"Bearer {key}" if name == "Authorization" else key}
    assert ask.get("/api/tags", headers=headers).json()["models"]
    assert ask.post("/api/chat", headers=headers).status_code == 400


def test_a_page_that_may_call_can_read_that_a_key_is_missing(ask):
    reply = ask.get("/api/tags", headers={"Origin": "http://localhost:3000"})
    assert reply.status_code == 401
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_a_key_opens_no_door_for_pages_of_others(ask, key):
    headers = {"Authorization": f"Bearer {key}", "Origin": "http://evil.test"}
    assert ask.get("/api/tags", headers=headers).status_code == 403
    assert ask.get("/api/tags", headers={"Authorization": f"Bearer {key}", "Host": "evil.test"}).status_code == 403


def test_a_preflight_needs_no_key_and_allows_to_send_one(ask):
    reply = ask.options("/api/chat", headers={"Origin": "http://localhost:3000"})
    assert reply.status_code == 204
    assert "Authorization" in reply.headers["access-control-allow-headers"].split(",")


def test_keys_are_noticed_when_they_are_made_and_when_they_are_revoked(ask, home):
    text, _ = KeyFile(home).create("for a while")
    headers = {"Authorization": f"Bearer {text}"}
    assert ask.get("/api/tags", headers=headers).status_code == 200
    KeyFile(home).revoke("for a while")
    assert ask.get("/api/tags", headers=headers).status_code == 401


def test_a_blob_is_not_taken_without_a_key(guarded, tmp_path_factory):
    digest = "sha256:" + "0" * 64
    head = request_head("POST", f"/api/blobs/{digest}", guarded.url, Content_Length="10", Connection="close")
    assert exchange(guarded.url, head + b"0123456789")[0] == 401


def test_who_is_refused_before_the_blob_was_read_is_told_that_the_connection_ends(ask):
    reply = ask.post("/api/blobs/sha256:" + "0" * 64, content=b"0123456789")
    assert (reply.status_code, reply.headers["connection"]) == (401, "close")


def test_the_body_of_who_is_refused_does_not_cost_the_server_its_memory(guarded):
    """The connection stays in step, and the next request on it is answered."""
    body = b"x" * 3_000_000
    refused = request_head("POST", "/api/chat", guarded.url, Content_Length=str(len(body))) + body
    better = request_head("GET", "/", guarded.url, Connection="close")
    status, _, rest = exchange(guarded.url, refused + better)
    assert status == 401
    assert rest.endswith(b"Ollama is running")


def test_a_damaged_key_file_closes_the_server_until_it_is_mended(start, tmp_path):
    with start(tmp_path, OLLAMA_NB_HOME=str(tmp_path)) as server, client(server.url) as calls:
        assert calls.get("/api/tags").status_code == 200
        file = KeyFile(tmp_path).path
        for damaged in ("{", "", "{}", "[]", '{"keys": null}'):
            file.write_text(damaged)
            reply = calls.get("/api/tags")
            assert (reply.status_code, reply.json()["error"]) == (500, "cannot read the API keys")
        # Where the user's files are is told to the user, not to whoever knocks.
        assert str(tmp_path) not in reply.text
        assert f"remove {file}" not in reply.text
        assert str(file) in _log(server)
        assert calls.get("/").status_code == 200
        file.unlink()
        assert calls.get("/api/tags").status_code == 200


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Clients of another user, who cannot read what a server leaves for its own."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "elsewhere"))


# -- clients -----------------------------------------------------------------------------------------------------------


def test_programs_of_the_servers_own_user_need_no_key(guarded):
    """As notebooks in a Jupyter of the same user: the server has left them one, which only they can read."""
    with Client(guarded.url) as calls:
        assert calls.list()


def test_a_notebook_that_shows_where_its_server_is_keeps_no_key(guarded):
    with Client(guarded.url) as calls:
        assert calls.server.token
        assert calls.server.token not in f"{calls.server} {calls.server!r} {vars(calls)}"


def test_what_a_server_has_left_for_its_user_opens_no_other_server(ask, home, start, tmp_path):
    with start(tmp_path, OLLAMA_NB_HOME=str(home)) as other, Client(other.url) as calls:
        assert calls.list()
        headers = {"Authorization": f"Bearer {calls.server.token}"}
    assert ask.get("/api/tags", headers=headers).status_code == 401


def test_the_client_sends_the_key_of_the_environment(guarded, key, monkeypatch, stranger):
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    with Client(guarded.url) as calls:
        assert calls.list()


def test_the_client_without_a_key_says_what_to_do(guarded, stranger):
    with Client(guarded.url) as calls, pytest.raises(OllamaError, match="asks for an API key") as caught:
        calls.list()
    assert caught.value.status == 401
    assert "OLLAMA_API_KEY" in caught.value.hint


def test_the_command_line_takes_the_key_from_the_environment(guarded, key, stranger):
    def listed(**env):
        environ = {**os.environ, "OLLAMA_HOST": guarded.url, **env}
        command = [sys.executable, "-m", "ollama_nb", "list"]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)

    refused, let_in = listed(), listed(OLLAMA_API_KEY=key)
    assert refused.returncode == 1
    assert "OLLAMA_API_KEY" in refused.stderr
    assert "smollm2:135m" in let_in.stdout


def test_ollamas_own_client_shows_its_key(guarded, key, monkeypatch):
    for shown, listed in ((None, False), (key, True)):
        monkeypatch.setenv("OLLAMA_API_KEY", shown or "")
        calls = ollama.Client(guarded.url)
        with calls._client:  # the library has no way of its own to end its connections
            if listed:
                assert calls.list().models
            else:
                with pytest.raises(ollama.ResponseError, match="asks for an API key"):
                    calls.list()


# -- where it listens --------------------------------------------------------------------------------------------------


def test_with_a_key_it_listens_beyond_loopback_and_stays_closed_when_the_last_one_is_revoked(start, tmp_path):
    keys = KeyFile(tmp_path)
    text, _ = keys.create("only")
    with (
        start(tmp_path, OLLAMA_NB_HOME=str(tmp_path), OLLAMA_HOST="0.0.0.0:0") as server,
        client(server.url) as calls,
    ):
        assert calls.get("/api/tags").status_code == 401
        assert calls.get("/api/tags", headers={"Authorization": f"Bearer {text}"}).status_code == 200
        keys.revoke("only")
        assert calls.get("/api/tags", headers={"Authorization": f"Bearer {text}"}).status_code == 401
        assert calls.get("/api/tags").status_code == 401


# -- the log -----------------------------------------------------------------------------------------------------------


def test_the_log_has_method_path_and_status_and_nothing_that_is_a_secret(guarded, key):
    secret = "do-not-write-me-down"
    body = json.dumps({"model": "absent", "prompt": secret}).encode()
    with client(guarded.url) as calls:
        calls.post(f"/api/generate?q={secret}", content=body, headers={"Authorization": f"Bearer {key}"})
        calls.get(f"/api/logged?{secret}", headers={"X-Api-Key": secret})
    broken = [
        request_head("GET", "/api/tags", guarded.url, Authorization=f"Bearer {secret}\x01"),
        request_head("GET", f"/api/tags?{secret}", guarded.url, Content_Length="-1"),
        request_head("BREW", f"/api/tags?{secret}", guarded.url, X_Api_Key=key),
        f"GET /api/tags?{secret} HTTP/1.1\r\nno colon {key}\r\n\r\n".encode(),
    ]
    for data in broken:
        with connect(guarded.url) as connection:
            connection.sendall(data)
            connection.recv(65536)
    log = until(lambda: text if "401 GET /api/logged" in (text := _log(guarded)) else "", "the log")
    assert " 404 POST /api/generate " in log
    assert secret not in log
    assert key not in log


def _log(server):
    server._log.seek(0)
    return server._log.read().decode()
