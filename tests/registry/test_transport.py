"""The HTTP client of pulls and pushes, against a real server on loopback that behaves badly where it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import threading
import time

import httpx2
import pytest
from certificates import Certificate
from hostile_registry import Answer, HostileRegistry, redirect, silent

from ollama_nb import __version__
from ollama_nb.registry.proxies import proxy_for
from ollama_nb.registry.source import LineError, Patience
from ollama_nb.registry.transport import Transport, user_agent
from ollama_nb.wire.errors import RegistryError

IMPATIENT = Patience(connect=5, stall=0.3, tries=2, first_wait=0.01, longest_wait=0.05)


@pytest.fixture
def registry():
    with HostileRegistry() as server:
        yield server


async def fetched(transport, url, **fields):
    """Status, headers and body."""
    async with transport.send("GET", url, **fields) as response:
        body = b"".join([chunk async for chunk in response.aiter_raw()])
        return response.status_code, response.headers, body


def fetch(url, patience=IMPATIENT, **fields):
    async def run():
        transport = Transport(patience)
        try:
            return await fetched(transport, url, **fields)
        finally:
            await transport.aclose()

    return asyncio.run(run())


def test_a_request_says_who_we_are_and_asks_for_plain_bytes(registry):
    registry.answers["/x"] = Answer(body=b"here")
    assert fetch(f"{registry.url}/x", headers={"Accept": "a/b"})[2] == b"here"
    headers = registry.asked[0].headers
    assert headers["user-agent"] == user_agent()
    assert headers["accept-encoding"] == "identity"
    assert headers["accept"] == "a/b"
    assert "cookie" not in headers


def test_we_introduce_ourselves_in_ollamas_form():
    pattern = rf"ollama/0\.10\.0 \([a-z0-9_]+ (linux|darwin|windows)\) Python/3\.\d+ ollama_nb/{re.escape(__version__)}"
    assert re.fullmatch(pattern, user_agent())


def test_connections_are_used_again_and_cookies_are_not_kept(registry):
    registry.answers["/x"] = Answer(body=b"x", headers={"Set-Cookie": "session=1; Path=/"})

    async def run():
        transport = Transport(IMPATIENT)
        for _ in range(3):
            await fetched(transport, f"{registry.url}/x")
        await transport.aclose()

    asyncio.run(run())
    assert len(registry.asked) == 3
    assert registry.accepted == 1
    assert all("cookie" not in asked.headers for asked in registry.asked)


def test_no_redirect_is_followed(registry):
    registry.answers["/x"] = redirect(f"{registry.url}/y")
    status, headers, _ = fetch(f"{registry.url}/x")
    assert (status, headers["location"]) == (307, f"{registry.url}/y")
    assert registry.paths() == ["GET /x"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, identity", "x-nonsense"])
def test_packed_answers_are_refused_before_they_are_read(registry, encoding):
    registry.answers["/x"] = Answer(body=b"\x1f\x8b", headers={"Content-Encoding": encoding})
    with pytest.raises(RegistryError, match="answers packed"):
        fetch(f"{registry.url}/x")


@pytest.mark.parametrize("encoding", ["identity", "", "Identity"])
def test_an_answer_that_says_it_is_plain_is_taken(registry, encoding):
    registry.answers["/x"] = Answer(body=b"x", headers={"Content-Encoding": encoding})
    assert fetch(f"{registry.url}/x")[2] == b"x"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def test_a_port_where_nobody_listens_is_a_line_error():
    with pytest.raises(LineError, match=r"127\.0\.0\.1:\d+ cannot be reached: Connection refused"):
        fetch(f"http://127.0.0.1:{closed_port()}/x")


def test_a_name_that_is_not_known_is_a_line_error_that_says_so(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LineError, match=r"the name no-such-host\.invalid is not known: ") as raised:
        fetch("http://no-such-host.invalid:5000/x")
    assert "HTTPS_PROXY" in raised.value.hint


@pytest.mark.parametrize("first", [b"", b"beginning"], ids=["from the start", "in the middle"])
def test_a_line_that_stands_still_is_a_line_error(registry, first):
    over = threading.Event()
    registry.answers["/x"] = lambda _: Answer(body=silent(over, first), length=100)
    with pytest.raises(LineError, match=r"127\.0\.0\.1:\d+ has been silent for too long"):
        fetch(f"{registry.url}/x")
    over.set()


@pytest.mark.parametrize(
    "piece", [b"X", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["a head that drips", "continue, continue"]
)
def test_an_answer_that_never_comes_to_its_point_is_a_line_error(piece):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                while True:
                    connection.sendall(piece)
                    time.sleep(0.05)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(LineError, match=r"127\.0\.0\.1:\d+ does not come to the point of its answer"):
            fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/x", Patience(connect=0.2, stall=0.5))
        thread.join()


def test_a_request_may_be_given_more_time_than_others(registry):
    over = threading.Event()

    def late(_asked):
        over.wait(0.6)
        return Answer(body=b"late")

    registry.answers["/x"] = late
    assert fetch(f"{registry.url}/x", timeout=30)[2] == b"late"


def test_a_body_that_ends_too_early_is_a_line_error(registry):
    registry.answers["/x"] = Answer(body=b"short", length=10)
    with pytest.raises(LineError, match=r"the connection to 127\.0\.0\.1:\d+ broke off"):
        fetch(f"{registry.url}/x")


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\xff" * 50, b""], ids=["ssh", "noise", "nothing"])
def test_what_is_not_http_is_a_line_error(said):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(LineError):
            fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/x")
        thread.join()


def test_a_body_is_sent(registry):
    async def pieces():
        yield b"one "
        yield b"two"

    async def run():
        transport = Transport(IMPATIENT)
        async with transport.send("PUT", f"{registry.url}/x", content=pieces()):
            pass
        async with transport.send("PUT", f"{registry.url}/x", content=b"three"):
            pass
        await transport.aclose()

    asyncio.run(run())
    assert [asked.body for asked in registry.asked] == [b"one two", b"three"]


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_urls_and_headers_stand_in_no_log(registry, caplog, level):
    headers = {"Location": "https://storage.example/x?signature=secret", "Set-Cookie": "secret"}
    registry.answers["/x"] = Answer(307, b"x", headers)
    with caplog.at_level(level):
        fetch(f"{registry.url}/x?signature=secret", headers={"Authorization": "Bearer secret"})
    assert "secret" not in caplog.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return Certificate.make(tmp_path_factory.mktemp("certificates"), "registry")


class TestCertificates:
    @pytest.fixture
    def secure(self, certificate):
        with HostileRegistry(certificate) as server:
            server.answers["/x"] = Answer(body=b"secure")
            yield server

    def test_one_that_is_not_trusted_is_an_error_that_says_what_to_do(self, secure):
        with pytest.raises(RegistryError) as raised:
            fetch(f"{secure.url}/x")
        assert raised.value.message.startswith("the certificate of 127.0.0.1 is not trusted: ")
        assert "SSL_CERT_FILE" in raised.value.hint
        assert not secure.asked

    def test_one_that_ssl_cert_file_names_is_trusted(self, secure, certificate, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
        assert fetch(f"{secure.url}/x")[2] == b"secure"

    def test_a_file_of_certificates_that_is_not_there_is_named(self, secure, monkeypatch, tmp_path):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        with pytest.raises(RegistryError, match="SSL_CERT_FILE"):
            fetch(f"{secure.url}/x")

    def test_a_host_that_speaks_plain_http_is_an_error_that_says_what_to_do(self, registry):
        with pytest.raises(RegistryError) as raised:
            fetch(f"https://{registry.host}/x")
        assert raised.value.message == f"{registry.host} does not speak https"
        assert '"insecure": true' in raised.value.hint


class TestProxies:
    @pytest.fixture(autouse=True)
    def _no_proxies(self, monkeypatch):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)

    def test_a_request_goes_through_the_proxy_that_the_environment_names(self, registry, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", registry.url)
        registry.answers["http://registry.example/v2/"] = Answer(body=b"through")
        assert fetch("http://registry.example/v2/")[2] == b"through"

    @pytest.mark.parametrize(
        ("status", "error"), [(404, RegistryError), (407, RegistryError), (429, LineError), (503, LineError)]
    )
    def test_https_asks_the_proxy_for_a_tunnel(self, registry, monkeypatch, status, error):
        monkeypatch.setenv("HTTPS_PROXY", registry.url)
        registry.answers["registry.example:443"] = Answer(status=status)
        with pytest.raises(error, match=rf"the proxy does not lead to registry\.example: {status}"):
            fetch("https://registry.example/v2/")
        assert registry.paths() == ["CONNECT registry.example:443"]

    @pytest.mark.parametrize(
        ("url", "environment", "expected"),
        [
            ("https://a.example/", {}, None),
            ("https://a.example/", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
            ("https://a.example/", {"https_proxy": "http://p:1"}, "http://p:1"),
            ("https://a.example/", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
            ("https://a.example/", {"HTTP_PROXY": "http://p:1"}, None),
            ("http://a.example/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
            ("https://a.example/", {"ALL_PROXY": "socks5://p:1"}, "socks5://p:1"),
            ("https://a.example/", {"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "http://q:2"),
            ("https://a.example/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "a.example"}, None),
            ("https://b.a.example/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "a.example"}, None),
            ("https://b.a.example/", {"ALL_PROXY": "http://p:1", "NO_PROXY": ".a.example"}, None),
            ("https://ba.example/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "a.example"}, "http://p:1"),
            ("https://a.example/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
            ("https://a.example:8443/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, None),
            ("https://a.example/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, "http://p:1"),
            ("https://10.1.2.3/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "x, 10.0.0.0/8"}, None),
            ("https://11.1.2.3/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "x, 10.0.0.0/8"}, "http://p:1"),
            ("https://[fd00::1]/", {"ALL_PROXY": "http://p:1", "NO_PROXY": "fd00::/8"}, None),
            ("http://127.0.0.1:5000/", {"ALL_PROXY": "http://p:1"}, None),
            ("http://127.9.9.9:5000/", {"ALL_PROXY": "http://p:1"}, None),
            ("http://[::1]:5000/", {"ALL_PROXY": "http://p:1"}, None),
            ("http://localhost:5000/", {"ALL_PROXY": "http://p:1"}, None),
        ],
    )
    def test_which_proxy_a_url_has(self, monkeypatch, url, environment, expected):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert proxy_for(httpx2.URL(url)) == expected

    @pytest.mark.parametrize("proxy", ["ftp://p:1", "http://p:no-port", "http://[::1"])
    def test_a_proxy_that_is_none_is_an_error_that_says_so(self, monkeypatch, proxy):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with pytest.raises(RegistryError) as raised:
            fetch("https://registry.example/v2/")
        assert "proxy" in raised.value.message
        assert "HTTPS_PROXY" in raised.value.hint
