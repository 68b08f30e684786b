from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ollama_nb.client.discovery import find_server, probe
from ollama_nb.client.local import start_server
from ollama_nb.wire.errors import ServerUnreachableError

# A stand-in for `ollama-nb serve --exit-on-stdin-close`: announces itself, answers, ends with its stdin.
SERVE = """
import os, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from ollama_nb.client.discovery import announce, withdraw

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"Ollama is running")

server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("asked to listen on", os.environ["OLLAMA_HOST"], flush=True)
path = announce(f"http://127.0.0.1:{server.server_port}")
sys.stdin.read()
withdraw(path)
"""
COMMAND = (sys.executable, "-c", SERVE)


@pytest.fixture(autouse=True)
def checkout_is_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_a_server_is_started_found_and_ended():
    with start_server(command=COMMAND) as server:
        assert probe(server.url) is None
        assert find_server(environ={}).url == server.url
        assert "asked to listen on 127.0.0.1:0" in server.log_tail()
        assert server.alive
    assert not server.alive
    assert probe(server.url) is not None
    assert not list(Path(os.environ["JUPYTER_RUNTIME_DIR"]).iterdir())
    server.stop()


def test_the_childs_environment_can_be_added_to():
    with start_server({"OLLAMA_HOST": "127.0.0.1:00"}, command=COMMAND) as server:
        assert "asked to listen on 127.0.0.1:00" in server.log_tail()


def test_a_child_that_fails_leaves_its_last_words():
    command = (sys.executable, "-c", "import sys; print('no such folder', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ServerUnreachableError, match=r"exit code 3 .*\n.*no such folder"):
        start_server(command=command)


def test_a_child_that_stays_silent_is_ended(tmp_path):
    pid_file = tmp_path / "pid"
    code = f"import os, sys; open({str(pid_file)!r}, 'w').write(str(os.getpid())); sys.stdin.read()"
    with pytest.raises(ServerUnreachableError, match="did not answer within 2 s"):
        start_server(command=(sys.executable, "-c", code), timeout=2)
    assert not psutil.pid_exists(int(pid_file.read_text()))


def test_a_child_that_does_not_want_to_end_is_made_to(monkeypatch):
    monkeypatch.setattr("ollama_nb.client.local.STOP_TIMEOUT", 0.2)
    stubborn = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVE}\ntime.sleep(600)"
    server = start_server(command=(sys.executable, "-c", stubborn))
    server.stop()
    assert not server.alive


def test_the_child_ends_even_if_its_parent_is_killed():
    parent = f"import time\nfrom ollama_nb.client.local import start_server\nprint(start_server(command={COMMAND!r}).pid, flush=True)\ntime.sleep(600)"  # noqa: E501
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive or child.status() == psutil.STATUS_ZOMBIE


def test_nothing_is_left_running_when_the_interpreter_ends():
    code = f"from ollama_nb.client.local import start_server\nprint(start_server(command={COMMAND!r}).pid)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(done.stdout))
