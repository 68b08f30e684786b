from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from ollama_nb.client import discovery
from ollama_nb.client.discovery import (
    NoServerError,
    announce,
    announced_by,
    find_server,
    is_loopback,
    probe,
    withdraw,
)
from ollama_nb.wire.errors import ServerUnreachableError

CLOSED = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def nothing_at_ollamas_address(monkeypatch):
    monkeypatch.setattr(discovery, "_DEFAULT", CLOSED)


@pytest.fixture
def runtime(tmp_path):
    folder = tmp_path / "runtime"
    folder.mkdir()
    return folder


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_address_given_comes_first(server):
    found = find_server(server.url, {"OLLAMA_HOST": CLOSED})
    assert (found.url, found.source) == (server.url, "the address given")


@pytest.mark.parametrize("form", ["{url}", "{hostport}", " '{url}' ", "{url}/", "0.0.0.0:{port}", ":{port}"])
def test_ollama_host_is_read_as_ollama_reads_it(server, form):
    hostport = server.url.removeprefix("http://")
    text = form.format(url=server.url, hostport=hostport, port=hostport.partition(":")[2])
    found = find_server(environ={"OLLAMA_HOST": text, "OLLAMA_NB_ADDRESS": CLOSED})
    assert (found.url, found.source) == (server.url, "OLLAMA_HOST")


def test_then_what_the_extension_left_in_the_environment(server):
    found = find_server(environ={"OLLAMA_HOST": "", "OLLAMA_NB_ADDRESS": server.url})
    assert (found.url, found.source) == (server.url, "OLLAMA_NB_ADDRESS")


def test_then_the_announcement_of_a_live_server_the_newest_first(server, runtime):
    path = announce(server.url)
    older = runtime / "ollama_nb-1.json"
    older.write_text(json.dumps({"url": CLOSED, "pid": os.getpid()}))
    os.utime(older, (1, 1))
    found = find_server(environ={"OLLAMA_NB_ADDRESS": CLOSED})
    assert (found.url, found.source) == (server.url, f"announced by process {os.getpid()}")
    withdraw(path)
    with pytest.raises(NoServerError):
        find_server(environ={})


def test_then_ollamas_own_address(server, monkeypatch):
    monkeypatch.setattr(discovery, "_DEFAULT", server.url)
    assert find_server(environ={}).source == "Ollama's own address"


@pytest.mark.parametrize("order", ["argument", "variable"])
def test_an_order_that_cannot_be_met_ends_the_search(server, order):
    arguments = (CLOSED, {}) if order == "argument" else (None, {"OLLAMA_HOST": CLOSED})
    announce(server.url)
    with pytest.raises(ServerUnreachableError, match=CLOSED) as caught:
        find_server(*arguments)
    assert not isinstance(caught.value, NoServerError)
    assert "ollama-nb serve" in caught.value.hint


def test_an_address_that_is_none_is_an_error():
    with pytest.raises(ServerUnreachableError, match="the address given is no address"):
        find_server("ftp://example.com", {})


def test_the_error_lists_what_was_tried_and_why_it_failed(runtime):
    dead = ended_process()
    (runtime / "ollama_nb-2.json").write_text("{")
    (runtime / "ollama_nb-3.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": dead}))
    (runtime / "ollama_nb-4.json").write_text(json.dumps({"url": "file:///etc/passwd", "pid": os.getpid()}))
    (runtime / "ollama_nb-5.json").write_text("[]")
    with pytest.raises(NoServerError) as caught:
        find_server(environ={"OLLAMA_NB_ADDRESS": "127.0.0.1:9"})
    lines = caught.value.message.splitlines()
    assert lines[0] == "no server found; tried:"
    assert lines[1].startswith(f"  {CLOSED} (OLLAMA_NB_ADDRESS): ")
    assert f"  http://127.0.0.1:1 (announced by process {dead}): that process has ended" in lines
    assert sum("cannot be read" in line for line in lines) == 3
    assert lines[-1].startswith(f"  {CLOSED} (Ollama's own address): ")


def test_a_key_from_the_environment_is_not_shown_at_a_well_known_port(server, monkeypatch):
    monkeypatch.setattr(discovery, "_DEFAULT", server.url)
    environ = {"OLLAMA_API_KEY": "k"}
    assert find_server(environ=environ).token is None
    assert find_server(server.url, environ).token == "k"
    assert find_server(server.url, environ, token="t").token == "t"
    assert find_server(f"{server.url}/?token=q", environ).token == "q"


def test_only_the_user_can_read_an_announcement(server, runtime):
    path = announce(f"{server.url}/")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    value = json.loads(path.read_text())
    assert (value["url"], value["pid"]) == (server.url, os.getpid())
    assert set(value) == {"url", "pid", "version", "started"}
    assert announced_by(os.getpid()) == server.url
    assert announce(CLOSED) == path
    assert [entry.name for entry in runtime.iterdir()] == [path.name]
    withdraw(path)
    withdraw(path)
    assert announced_by(os.getpid()) is None


def test_a_key_that_a_server_has_left_for_its_user_is_shown_there_and_nowhere_else(server, runtime, monkeypatch):
    environ = {"OLLAMA_API_KEY": "k", "OLLAMA_NB_ADDRESS": server.url}
    path = announce(server.url, "left")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert find_server(server.url, environ).token == "left"
    assert find_server(environ=environ).token == "left"
    assert find_server(environ={}).token == "left"
    assert find_server(server.url, environ, token="t").token == "t"
    assert find_server(f"{server.url}/?token=q", environ).token == "q"
    assert find_server(f"{server.url}/base", environ).token == "k"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"pid": ended_process()}))
    assert find_server(server.url, environ).token == "k"


def test_a_probe_says_why_there_is_no_server(server, guarded):
    assert probe(server.url) is None
    assert probe(f"{server.url}/base") is None
    assert probe(f"{server.url}/elsewhere") == "something else answers there, not Ollama"
    assert probe(guarded.url) == "it asks for a login; give its token"
    assert probe(guarded.url, "sesame") is None


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:11434", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:80/x", True),
        ("http://localhost:8888", True),
        ("http://192.168.1.1", False),
        ("https://example.com", False),
        ("http://localhost.example.com", False),
    ],
)
def test_loopback_addresses_are_known(url, loopback):
    assert is_loopback(url) is loopback
