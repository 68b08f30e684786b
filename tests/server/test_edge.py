from __future__ import annotations

import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import psutil
import pytest
from http_calls import exchange, request_head

from ollama_nb.server.edge import DEFAULT_ORIGINS, check_origins, host_allowed, origin_allowed
from ollama_nb.wire.errors import ConflictError

# -- decisions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:11434", "LOCALHOST", "127.0.0.1", "127.0.0.1:11434", "127.8.9.1", "[::1]", "[::1]:80",
     "0.0.0.0:1", "[::]:1", "10.0.0.7", "192.168.1.2:8080", "172.16.0.1", "[fd00::1]", "x.localhost", "a.b.LOCALHOST:1",
     "printer.local", "host.docker.internal", "", ":11434", socket.gethostname(), "8.8.4.4", "8.8.4.4:80"],
)  # fmt: skip
def test_hosts_that_are_this_machine_are_let_in(host):
    assert host_allowed(host, lambda: {"8.8.4.4"})


@pytest.mark.parametrize(
    "host",
    ["evil.com", "evil.com:11434", "localhost.evil.com", "127.0.0.1.evil.com", "xlocalhost", "local", "internal",
     "localhost.", "8.8.8.8", "[2606:4700::1111]", "evil.com:80:localhost", "1.1.1.1:127", "[", "[evil.com",
     "[::1]evil.com", "[[::1]]", "localhost:1:2", "localhost:x", "localhost:1,evil.com", "localhost:1@evil.com"],
)  # fmt: skip
def test_other_hosts_are_not(host):
    assert not host_allowed(host, lambda: {"8.8.4.4"})


@pytest.mark.parametrize(
    "origin",
    ["http://localhost", "https://localhost", "http://localhost:3000", "https://127.0.0.1:8888", "http://0.0.0.0",
     "app://obsidian.md", "file://", "tauri://localhost", "vscode-webview://abc", "vscode-file://vscode-app"],
)  # fmt: skip
def test_pages_of_this_machine_may_call(origin):
    assert origin_allowed(origin, DEFAULT_ORIGINS)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.com", "https://localhost.evil.com", "http://localhost.evil.com:1", "null", "", "ftp://localhost",
     "chrome-extension://abc", "http://127.0.0.2", "HTTP://LOCALHOST", "http://[::1]"],
)  # fmt: skip
def test_pages_of_others_may_not(origin):
    assert not origin_allowed(origin, DEFAULT_ORIGINS)


@pytest.mark.parametrize(
    ("entry", "origin", "allowed"),
    [
        ("https://Example.COM", "https://example.com", True),
        ("https://example.com", "https://example.com:8443", False),
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("http://*", "http://evil.com", True),
        ("*", "chrome-extension://abc", True),
        ("chrome-extension://*", "chrome-extension://abc", True),
        ("ab*ba", "aba", False),
    ],
)
def test_an_entry_is_an_origin_or_a_pattern_with_one_star(entry, origin, allowed):
    assert origin_allowed(origin, [entry]) is allowed


@pytest.mark.parametrize(
    "entry",
    ["http://a.example", "HTTPS://a.example:8443", "chrome-extension://abc", "safari-extension://a", "moz-extension://a",
     "ms-browser-extension://a", "*", "safari-web-extension://*", "https://*.a.example", "app://*"],
)  # fmt: skip
def test_entries_that_are_origins_or_patterns_are_taken(entry):
    check_origins([entry])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("a.example", "origins must contain '*' or include http://, https://, chrome-extension://"),
        ("app://obsidian.md", "origins must contain '*' or include"),
        ("null", "origins must contain '*' or include"),
        ("https://*.a.*", "only one * is allowed"),
        ("**", "only one * is allowed"),
    ],
)
def test_entries_that_are_neither_are_refused(entry, said):
    with pytest.raises(ConflictError) as caught:
        check_origins(["http://fine.example", entry])
    assert caught.value.message.startswith(f'bad origin "{entry}" in OLLAMA_ORIGINS: ')
    assert said in caught.value.message
    assert "https://*.example.com" in caught.value.hint


# -- at the door -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_to_example(tmp_path_factory, start):
    """A server with origins of its own."""
    folder = tmp_path_factory.mktemp("origins")
    with start(folder, OLLAMA_ORIGINS="https://example.com,https://*.example.org") as server:
        yield server.url


def asked(url, method="GET", path="/api/version", **headers):
    head = request_head(method, path, url, **{"Connection": "close", "Content_Length": "0", **headers})
    return exchange(url, head)


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags", "/api/chat", "/nope", "/api/blobs/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_name_that_was_bound_to_this_machine_by_others_is_refused(server, method, path):
    status, _, body = asked(server.url, method, path, Host="evil.com:11434")
    assert (status, body) == (403, b"")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:11434", "x.localhost", "me.local", "10.1.2.3"])
def test_names_of_this_machine_are_let_in(server, host):
    assert asked(server.url, Host=host)[0] == 200


def test_an_address_of_this_machine_is_let_in(server):
    (address, *_) = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET
    ]
    assert asked(server.url, Host=f"{address}:11434")[0] == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/tags"), ("POST", "/api/chat"), ("OPTIONS", "/api/chat")])
@pytest.mark.parametrize("origin", ["http://evil.com", "null"])
def test_a_page_of_others_is_refused_without_a_word(server, method, path, origin):
    status, headers, body = asked(server.url, method, path, Origin=origin)
    assert (status, body) == (403, b"")
    assert not any(name.startswith("access-control") for name in headers)


def test_a_page_of_this_machine_is_told_that_it_may(server):
    status, headers, _ = asked(server.url, Origin="http://localhost:3000")
    assert status == 200
    assert headers["access-control-allow-origin"] == "http://localhost:3000"
    assert headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in headers


def test_the_servers_own_page_needs_to_be_told_nothing(server):
    status, headers, _ = asked(server.url, Origin=server.url)
    assert (status, "access-control-allow-origin" in headers) == (200, False)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("POST", "/api/chat", 400), ("GET", "/api/chat", 405), ("GET", "/nope", 404), ("GET", "/api/tags/", 301)],
)
def test_every_other_answer_says_it_too_so_that_the_page_can_read_it(server, method, path, expected):
    status, headers, _ = asked(server.url, method, path, Origin="http://localhost")
    assert (status, headers["access-control-allow-origin"]) == (expected, "http://localhost")
    assert headers["vary"] == "Origin"


def test_a_request_with_an_empty_origin_comes_from_no_page(server):
    status, headers, _ = asked(server.url, Origin="")
    assert (status, "access-control-allow-origin" in headers) == (200, False)


@pytest.mark.parametrize("path", ["/api/chat", "/", "/anywhere", "/api/blobs/x", "/api/tags/"])
def test_a_preflight_is_answered_for_every_path(server, path):
    status, headers, body = asked(
        server.url, "OPTIONS", path, Origin="http://localhost:3000", Access_Control_Request_Method="POST"
    )
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == "http://localhost:3000"
    assert headers["access-control-allow-methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert headers["access-control-max-age"] == "43200"
    assert headers["access-control-allow-headers"].split(",")[:6] == [
        "Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With", "Openai-Beta",
    ]  # fmt: skip
    assert "X-Stainless-Runtime-Version" in headers["access-control-allow-headers"].split(",")
    assert headers["vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


def test_options_without_an_origin_is_no_preflight_but_polite(server):
    status, headers, body = asked(server.url, "OPTIONS", "/api/chat")
    assert (status, body) == (204, b"")
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://example.com", 200), ("https://a.example.org", 200), ("http://localhost", 200),
        ("https://example.org", 403), ("http://example.com", 403), ("https://a.example.org.evil.com", 403),
    ],
)  # fmt: skip
def test_origins_can_be_added(open_to_example, origin, status):
    assert asked(open_to_example, Origin=origin)[0] == status


def test_a_star_lets_every_page_in(tmp_path, start):
    with start(tmp_path, OLLAMA_ORIGINS="*") as server:
        status, headers, _ = asked(server.url, Origin="https://anyone.example")
        assert (status, headers["access-control-allow-origin"]) == (200, "*")
        assert "vary" not in headers
        status, headers, _ = asked(server.url, "OPTIONS", Origin="null", Access_Control_Request_Method="POST")
        assert (status, headers["access-control-allow-origin"], "vary" in headers) == (204, "*", False)


@pytest.mark.parametrize("target", ["*", "http://evil.com/api/tags", "http://localhost/api/tags"])
def test_nothing_goes_around_the_door(server, target):
    assert asked(server.url, "OPTIONS", target, Origin="http://evil.com")[0] == 403
    assert asked(server.url, "GET", target, Host="evil.com")[0] == 403


def test_who_is_refused_may_ask_better_on_the_same_connection(server):
    body = b"x" * 100_000
    refused = request_head("POST", "/api/chat", server.url, Host="evil.com", Content_Length=str(len(body))) + body
    better = request_head("GET", "/", server.url, Connection="close")
    status, _, rest = exchange(server.url, refused + better)
    assert status == 403
    assert rest.startswith(b"HTTP/1.1 200 OK")
    assert rest.endswith(b"Ollama is running")


# -- where it listens --------------------------------------------------------------------------------------------------


def serve(host, **env):
    command = [sys.executable, "-m", "ollama_nb", "serve"]
    environ = {**os.environ, "OLLAMA_HOST": host, **env}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("host", "named"),
    [("0.0.0.0:0", "0.0.0.0: "), ("[::]:0", "::: "), (":0", "all interfaces: "), ("10.1.2.3:0", "10.1.2.3: ")],
)
def test_it_does_not_listen_beyond_this_machine_unasked(tmp_path, host, named):
    ended = serve(host, OLLAMA_MODELS=str(tmp_path))
    assert ended.returncode == 1
    assert f"refusing to listen on {named}" in ended.stderr
    assert "OLLAMA_NB_ALLOW_OPEN=1" in ended.stderr
    assert "ollama-nb key create" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_does_not_start_with_origins_that_are_none(tmp_path):
    ended = serve("127.0.0.1:0", OLLAMA_MODELS=str(tmp_path), OLLAMA_ORIGINS="https://a.example, b.example")
    assert ended.returncode == 1
    assert 'Error: bad origin "b.example" in OLLAMA_ORIGINS: ' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_listens_everywhere_when_told_to_and_then_takes_any_host(tmp_path, start):
    with start(tmp_path, OLLAMA_HOST="0.0.0.0:0", OLLAMA_NB_ALLOW_OPEN="1") as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert asked(server.url, Host="notebook.example.com")[0] == 200
        assert asked(server.url, Host="notebook.example.com", Origin="http://evil.com")[0] == 403


def test_a_port_that_is_taken_is_said_with_what_to_do(server, tmp_path):
    address = urlsplit(server.url).netloc
    ended = serve(address, OLLAMA_MODELS=str(tmp_path))
    assert ended.returncode == 1
    assert f"listen tcp {address}: bind: address already in use" in ended.stderr
    assert "OLLAMA_HOST=127.0.0.1:0" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_address_that_is_not_here_is_said(tmp_path):
    ended = serve("203.0.113.7:0", OLLAMA_MODELS=str(tmp_path), OLLAMA_NB_ALLOW_OPEN="1")
    assert ended.returncode == 1
    assert "cannot listen on 203.0.113.7:0" in ended.stderr


def test_an_address_that_can_be_none_is_said(tmp_path):
    ended = serve(f"{'a' * 70}:0", OLLAMA_MODELS=str(tmp_path), OLLAMA_NB_ALLOW_OPEN="1")
    assert ended.returncode == 1
    assert f"cannot listen on {'a' * 70}:0" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_ipv6_loopback_is_loopback(tmp_path, start):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    with start(tmp_path, OLLAMA_HOST="[::1]:0") as server:
        assert server.url.startswith("http://[::1]:")
        assert asked(server.url)[0] == 200
        assert asked(server.url, Host="evil.com")[0] == 403
