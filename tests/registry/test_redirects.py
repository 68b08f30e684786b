"""Where a registry may send us, and what goes along: over loopback, with the real client."""

from __future__ import annotations

import socket

import pytest
from hostile_registry import Answer, blob, redirect
from httpcore2._backends.anyio import AnyIOStream
from one_repository import BLOB, CONTENT, DIGEST, challenge, read, reading

from ollama_nb.registry import site
from ollama_nb.registry.addresses import Reach, peer_reach
from ollama_nb.registry.client import Registry
from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import RegistryError


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_blob_may_be_kept_elsewhere(self, registry, elsewhere, talk, status):
        registry.answers[BLOB] = redirect(f"{elsewhere.url}/stored?sig=1", status)
        assert talk(reading(5, 9)) == (5, CONTENT[5:9])
        assert elsewhere.asked[0].target == "/stored?sig=1"
        assert elsewhere.asked[0].headers["range"] == "bytes=5-8"

    def test_where_it_is_kept_is_asked_for_once(self, registry, elsewhere, talk):
        registry.answers[BLOB] = redirect(f"{elsewhere.url}/stored")

        async def work(repository):
            source = repository.blob(DIGEST)
            for start in range(0, 50, 10):
                await read(source, start, start + 10)

        talk(work)
        assert registry.paths() == [f"GET {BLOB}"]
        assert elsewhere.paths() == ["GET /stored"] * 5

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
    def test_a_url_that_is_no_longer_good_is_asked_for_anew(self, registry, elsewhere, talk, status):
        urls = iter([f"{elsewhere.url}/old", f"{elsewhere.url}/stored"])
        registry.answers[BLOB] = lambda _asked: redirect(next(urls))
        elsewhere.answers["/old"] = blob(CONTENT)

        async def work(repository):
            source = repository.blob(DIGEST)
            await read(source, 0, 10)
            elsewhere.answers["/old"] = Answer(status, b"expired")
            return await read(source, 10, 20)

        assert talk(work) == (10, CONTENT[10:20])
        assert registry.paths() == [f"GET {BLOB}"] * 2

    @pytest.mark.parametrize(
        "trouble",
        [Answer(503), Answer(206, b"x", {"Content-Range": "bytes 10-19/2048"}, length=10)],
        ids=["503", "short"],
    )
    def test_after_trouble_there_the_registry_is_asked_anew(self, registry, elsewhere, talk, trouble):
        registry.answers[BLOB] = redirect(f"{elsewhere.url}/stored")

        async def work(repository):
            source = repository.blob(DIGEST)
            await read(source, 0, 10)
            elsewhere.answers["/stored"] = trouble
            with pytest.raises(LineError):
                await read(source, 10, 20)
            elsewhere.answers["/stored"] = blob(CONTENT)
            return await read(source, 10, 20)

        assert talk(work) == (10, CONTENT[10:20])
        assert registry.paths() == [f"GET {BLOB}"] * 2

    def test_the_token_goes_to_the_registry_and_to_nobody_else(self, registry, elsewhere, talk):
        guard = challenge(registry)
        registry.answers[BLOB] = guard(redirect(f"{elsewhere.url}/stored"))
        assert talk(reading())[1] == CONTENT
        assert registry.asked[-1].headers["authorization"] == "Bearer t"
        assert "authorization" not in elsewhere.asked[0].headers

    def test_within_the_registry_the_token_goes_along(self, registry, talk):
        guard = challenge(registry)
        registry.answers[BLOB] = guard(redirect("../../../../kept/here"))
        registry.answers["/kept/here"] = guard(blob(CONTENT))
        assert talk(reading(1, 3)) == (1, CONTENT[1:3])

    def test_a_challenge_of_somebody_else_is_not_answered(self, registry, elsewhere, talk):
        header = f'Bearer realm="{elsewhere.url}/token",service="s",scope="x"'
        elsewhere.answers["/stored"] = Answer(401, headers={"WWW-Authenticate": header})
        registry.answers[BLOB] = redirect(f"{elsewhere.url}/stored")
        with pytest.raises(RegistryError, match=r"^unauthorized: access denied$"):
            talk(reading())
        assert elsewhere.paths() == ["GET /stored"]

    @pytest.mark.parametrize(("steps", "works"), [(10, True), (11, False)])
    def test_ten_redirects_are_followed_and_no_more(self, registry, talk, steps, works):
        for number in range(steps):
            registry.answers[f"/step/{number}"] = redirect(f"/step/{number + 1}")
        registry.answers[f"/step/{steps}"] = Answer(body=b"{}")
        registry.offer("library/x", redirect("/step/1"))
        if works:
            assert talk(Registry.manifest) == b"{}"
        else:
            with pytest.raises(RegistryError, match=r"maximum redirects exceeded \(10\)"):
                talk(Registry.manifest)

    @pytest.mark.parametrize(
        ("location", "text"),
        [
            ("http://169.254.169.254/latest/meta-data/", "no registry keeps anything at such an address"),
            ("http://[::ffff:169.254.169.254]/", "no registry keeps anything at such an address"),
            ("http://0.0.0.0:80/", "no registry keeps anything at such an address"),
            ("file:///etc/passwd", "it is neither http nor https"),
            ("ftp://127.0.0.1/x", "it is neither http nor https"),
            ("http://ada:secret@127.0.0.1/x", "it has a user name in it"),
            ("http://127.0.0.1:99999/x", "names a URL that is none: there is no port 99999"),
            ("http://127.0.0.1:x/x", "names a URL that is none"),
            ("", "no Location header in response"),
        ],
    )
    def test_some_ways_are_not_gone(self, registry, talk, location, text):
        registry.offer("library/x", redirect(location), {DIGEST: redirect(location)})
        for work in (Registry.manifest, reading()):
            with pytest.raises(RegistryError) as raised:
                talk(work)
            assert text in raised.value.message
            assert "secret" not in raised.value.message


class TestMovingNames:
    """A registry that is public as far as its first answer goes.

    That a public name moves cannot be had on one machine: here it is the resolver that moves, and what answers at
    paths of the registry is taken for public.
    """

    @pytest.fixture(autouse=True)
    def _public_registry(self, monkeypatch):
        def seen(response):
            return Reach.PUBLIC if "/v2/" in str(response.request.url) else peer_reach(response)

        monkeypatch.setattr(site, "peer_reach", seen)

    @pytest.fixture
    def _moving(self, monkeypatch):
        """The system resolves ``moving.example`` to this machine."""
        genuine = socket.getaddrinfo

        def look_up(host, *arguments, **options):
            moved = host in ("moving.example", b"moving.example")
            return genuine("127.0.0.1" if moved else host, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setenv("NO_PROXY", "moving.example")

    def test_a_public_registry_may_not_send_us_to_this_machine(self, registry, elsewhere, talk):
        registry.answers[BLOB] = redirect(f"{elsewhere.url}/stored")
        with pytest.raises(RegistryError, match="its address is loopback, the registry's is public"):
            talk(reading())
        assert elsewhere.accepted == 0

    @pytest.mark.usefixtures("_moving")
    def test_a_name_that_resolves_to_this_machine_is_not_asked(self, registry, elsewhere, talk):
        registry.answers[BLOB] = redirect(f"http://moving.example:{elsewhere.port}/stored")
        with pytest.raises(RegistryError, match="its address is loopback, the registry's is public"):
            talk(reading())
        assert elsewhere.accepted == 0

    @pytest.mark.usefixtures("_moving")
    def test_a_name_that_resolves_differently_the_second_time_gains_nothing(self, registry, elsewhere, talk):
        async def resolver(host, port):
            return ["1.1.1.1"]

        registry.answers[BLOB] = redirect(f"http://moving.example:{elsewhere.port}/stored")
        with pytest.raises(RegistryError, match="its address is loopback, the registry's is public"):
            talk(reading(), resolver=resolver)
        assert elsewhere.paths() == ["GET /stored"]

    def test_one_who_has_hung_up_and_cannot_be_told_is_not_believed(self, registry, elsewhere, talk, monkeypatch):
        monkeypatch.setattr(site, "peer_reach", peer_reach)
        genuine = AnyIOStream.get_extra_info

        def forgetful(stream, info):
            peer = genuine(stream, info)
            return None if info == "server_addr" and peer[1] == elsewhere.port else peer

        monkeypatch.setattr(AnyIOStream, "get_extra_info", forgetful)
        registry.answers[BLOB] = redirect(f"{elsewhere.url}/stored")
        with pytest.raises(LineError, match="broke off"):
            talk(reading())

    def test_a_registry_that_becomes_this_machine_is_left(self, talk):
        async def work(registry):
            await registry.manifest()
            await registry.manifest()

        with pytest.raises(RegistryError, match="its address is loopback, the registry's is private"):
            talk(work)


class TestBehindAProxy:
    """The proxy is a server that answers for all names, as those do that resolve them."""

    @pytest.fixture(autouse=True)
    def _proxy(self, elsewhere, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", elsewhere.url)
        monkeypatch.delenv("NO_PROXY")

    def offer(self, proxy, answer):
        proxy.answers[f"http://registry.example{BLOB}"] = answer

    def test_a_registry_may_redirect_to_a_name(self, elsewhere, talk):
        self.offer(elsewhere, redirect("http://storage.example/stored"))
        elsewhere.answers["http://storage.example/stored"] = blob(CONTENT)
        assert talk(reading(5, 7), host="registry.example") == (5, CONTENT[5:7])

    @pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0x7f.1", "[::1]", "localhost."])
    def test_a_registry_may_not_redirect_to_an_address_inside(self, elsewhere, talk, host):
        self.offer(elsewhere, redirect(f"http://{host}/stored"))
        with pytest.raises(RegistryError, match="is refused"):
            talk(reading(), host="registry.example")
        assert len(elsewhere.asked) == 1

    def test_a_registry_at_a_private_address_may_redirect_to_another(self, elsewhere, talk):
        place = BLOB
        elsewhere.answers[f"http://10.0.0.1:5000{place}"] = redirect("http://10.0.0.2/stored")
        elsewhere.answers["http://10.0.0.2/stored"] = blob(CONTENT)
        assert talk(reading(5, 7), host="10.0.0.1:5000") == (5, CONTENT[5:7])
