from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from contextlib import closing, suppress

import httpx2
import pytest
from certificates import Certificate
from http_calls import connect

from ollama_nb.client import AsyncClient, Client
from ollama_nb.server.intake import Limits
from ollama_nb.server.listener import open_listener
from ollama_nb.server.tls import server_context
from ollama_nb.service.runtime import Runtime
from ollama_nb.settings import Settings
from ollama_nb.wire.errors import ConflictError, ServerUnreachableError


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """What the secured server shows."""
    return Certificate.make(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def trusting(certificate):
    """Clients of this module trust that certificate, as its owner would have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate.cert))
        yield


@pytest.fixture(scope="module")
def secured(certificate, trusting, tmp_path_factory, start):
    """A server that speaks TLS."""
    folder = tmp_path_factory.mktemp("secured")
    with start(folder, OLLAMA_NB_CERTFILE=str(certificate.cert), OLLAMA_NB_KEYFILE=str(certificate.key)) as server:
        yield server


# -- speaking ----------------------------------------------------------------------------------------------------------


def test_it_says_https_and_any_client_that_trusts_the_certificate_can_speak_to_it(secured, certificate):
    assert secured.url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=certificate.cert)
    with httpx2.Client(verify=context, trust_env=False) as calls:
        assert calls.get(f"{secured.url}/").text == "Ollama is running"
        assert calls.get(f"{secured.url.replace('127.0.0.1', 'localhost')}/api/tags").json()["models"]


def test_the_client_takes_https_addresses_from_the_environment(secured, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", secured.url)
    with Client() as calls:
        assert calls.server.url == secured.url
        assert calls.list()


async def _listed(url):
    async with AsyncClient(url) as calls:
        return await calls.list()


def test_so_does_the_client_for_asyncio(secured):
    assert asyncio.run(_listed(secured.url))


def test_the_command_line_does_too(secured):
    environ = {**os.environ, "OLLAMA_HOST": secured.url}
    ended = subprocess.run(
        [sys.executable, "-m", "ollama_nb", "ls"], env=environ, capture_output=True, text=True, check=True
    )
    assert "smollm2:135m" in ended.stdout


def test_a_client_that_does_not_trust_the_certificate_says_so_and_what_to_do(secured, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ServerUnreachableError, match="certificate") as caught:
        Client(secured.url)
    assert "SSL_CERT_FILE" in caught.value.message


def test_plain_http_is_not_answered_on_that_port(secured):
    with closing(connect(secured.url)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with suppress(ConnectionResetError):  # that is an answer too
            assert not connection.recv(65536).startswith(b"HTTP/")


def test_connections_past_the_limit_are_ended_although_nobody_shakes_hands(certificate, tmp_path):
    async def count() -> int:
        chosen = {"host": "127.0.0.1:0", "models": tmp_path / "models", "nb_home": tmp_path / "home",
                  "nb_certfile": certificate.cert, "nb_keyfile": certificate.key}  # fmt: skip
        runtime = Runtime(Settings.resolve({}, chosen))
        await runtime.start()
        listener = open_listener(runtime, limits=Limits(connections=2))
        host, port = listener.url.removeprefix("https://").split(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(5)]
        ends = [asyncio.create_task(reader.read()) for reader, _ in held]
        while sum(end.done() for end in ends) < 3:
            await asyncio.wait([end for end in ends if not end.done()], return_when=asyncio.FIRST_COMPLETED)
        ended = sum(end.done() for end in ends)
        await runtime.close()
        await listener.close()
        await asyncio.gather(*ends)
        for _, writer in held:
            writer.close()
        return ended

    assert asyncio.run(asyncio.wait_for(count(), 60)) == 3


def test_old_versions_of_the_protocol_are_not_spoken(secured, certificate):
    context = ssl.create_default_context(cafile=certificate.cert)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    with connect(secured.url) as plain, context.wrap_socket(plain, server_hostname="localhost") as secret:
        assert secret.version() in ("TLSv1.2", "TLSv1.3")


# -- certificates that cannot be ---------------------------------------------------------------------------------------


def test_without_files_there_is_no_tls():
    assert server_context(None, None) is None


def test_one_file_can_hold_both(certificate, tmp_path):
    both = tmp_path / "both.pem"
    both.write_text(certificate.cert.read_text() + certificate.key.read_text())
    assert server_context(both, None) is not None


def test_what_is_wrong_with_the_files_is_said(certificate, tmp_path):
    other = Certificate.make(tmp_path, "other")
    locked = Certificate.make(tmp_path, "locked", password="secret")
    text = tmp_path / "text.pem"
    text.write_text("this is no certificate")
    cases = [
        (None, certificate.key, "OLLAMA_NB_KEYFILE is set and OLLAMA_NB_CERTFILE is not"),
        (tmp_path / "absent.pem", None, f"cannot read OLLAMA_NB_CERTFILE={tmp_path / 'absent.pem'}: No such file"),
        (certificate.cert, tmp_path / "no.key", f"cannot read OLLAMA_NB_KEYFILE={tmp_path / 'no.key'}: No such file"),
        (tmp_path, certificate.key, f"cannot read OLLAMA_NB_CERTFILE={tmp_path}: Is a directory"),
        (text, certificate.key, f"cannot speak TLS with OLLAMA_NB_CERTFILE={text}"),
        (certificate.cert, text, "cannot speak TLS with"),
        (certificate.cert, None, "OLLAMA_NB_KEYFILE=(the same file)"),
        (certificate.cert, other.key, "cannot speak TLS with"),
        (locked.cert, locked.key, "cannot speak TLS with"),
    ]
    for cert, key, said in cases:
        with pytest.raises(ConflictError) as caught:
            server_context(cert, key)
        assert said in caught.value.message
        assert caught.value.hint


def test_a_server_does_not_start_with_them(tmp_path):
    command = [sys.executable, "-m", "ollama_nb", "serve", "--host", "127.0.0.1:0", "--nb-certfile", "absent.pem"]
    environ = {**os.environ, "OLLAMA_MODELS": str(tmp_path)}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "\nError: cannot read OLLAMA_NB_CERTFILE=absent.pem: No such file or directory\n" in ended.stderr
    assert "Traceback" not in ended.stderr
