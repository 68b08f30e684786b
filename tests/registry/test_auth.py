"""How a challenge is read and answered: by a token that is fetched where the registry itself is, and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from hostile_registry import Answer, HostileRegistry
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.registry.auth import Challenge, parse_challenge, token_url
from ollama_nb.registry.client import Registry
from ollama_nb.registry.keys import KeyPair
from ollama_nb.registry.source import Patience
from ollama_nb.registry.transport import Transport
from ollama_nb.wire.errors import OllamaError, RegistryError
from ollama_nb.wire.names import Name

IMPATIENT = Patience(connect=5, stall=5, tries=2, first_wait=0.01, longest_wait=0.05)
ASKED = httpx2.URL("https://registry.example/v2/library/x/manifests/latest")
SCOPE = "repository:library/x:pull"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            [f'Bearer realm="https://r.example/token",service="r.example",scope="{SCOPE}"'],
            Challenge("https://r.example/token", "r.example", (SCOPE,)),
        ),
        (
            ['Bearer realm="https://r.example/t" , service="s", scope="repository:a:pull repository:b:pull,push"'],
            Challenge("https://r.example/t", "s", ("repository:a:pull", "repository:b:pull,push")),
        ),
        (["bearer REALM=https://r.example/t"], Challenge("https://r.example/t")),
        ([r'Bearer realm="https://r.example/\"q\"",service="a, b=c"'], Challenge('https://r.example/"q"', "a, b=c")),
        (
            ['Basic realm="user, please", Bearer realm="https://r.example/t",scope="x"'],
            Challenge("https://r.example/t", "", ("x",)),
        ),
        (['Basic realm="no"', 'Bearer realm="https://r.example/t"'], Challenge("https://r.example/t")),
        (['Negotiate, Bearer realm="https://r.example/t"'], Challenge("https://r.example/t")),
        (
            ['Bearer realm="https://r.example/t",error="invalid_token",scope=""'],
            Challenge("https://r.example/t"),
        ),
        (['Basic realm="user"'], None),
        (['Bearer service="s"'], None),
        (['Bearer realm=""'], None),
        (["Bearer"], None),
        ([""], None),
        ([], None),
        (['Bearer realm="never closed'], None),
    ],
)
def test_a_challenge_is_read_whatever_stands_around_it(headers, expected):
    assert parse_challenge(headers) == expected


@given(st.text(max_size=60))
def test_any_text_is_a_challenge_or_none(text):
    parse_challenge([text, f"Bearer {text}", f'Bearer realm="{text}'])


@given(
    st.text(st.characters(codec="latin-1"), min_size=1),
    st.text(st.characters(codec="latin-1")),
    st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1), max_size=4),
)
def test_what_is_quoted_comes_out_as_it_went_in(realm, service, scopes):
    def quoted(text):
        return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'

    header = f"Bearer realm={quoted(realm)},service={quoted(service)},scope={quoted(' '.join(scopes))}"
    assert parse_challenge([header]) == Challenge(realm, service, tuple(scopes))


def url_of(challenge, asked=ASKED):
    return token_url(challenge, asked, nonce=b"\x00\xff" * 8, now=1753747200)


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        (
            Challenge("https://registry.example/token", "registry.example", (SCOPE,)),
            (
                "https://registry.example/token?nonce=AP8A_wD_AP8A_wD_AP8A_w&scope=repository%3Alibrary%2Fx%3Apull"
                "&service=registry.example&ts=1753747200"
            ),
        ),
        (
            Challenge("https://registry.example/token", "a b", ("two:pull", "one:pull")),
            (
                "https://registry.example/token?nonce=AP8A_wD_AP8A_wD_AP8A_w&scope=two%3Apull&scope=one%3Apull"
                "&service=a+b&ts=1753747200"
            ),
        ),
        (
            Challenge("https://registry.example:443/token?zone=1&account=me"),
            "https://registry.example/token?account=me&nonce=AP8A_wD_AP8A_wD_AP8A_w&scope=&service=&ts=1753747200&zone=1",
        ),
    ],
)
def test_the_parameters_of_a_token_stand_in_alphabetical_order(challenge, expected):
    assert url_of(challenge) == expected


@pytest.mark.parametrize(
    ("realm", "text"),
    [
        ("https://evil.example/token", 'realm host "evil.example" does not match original host "registry.example"'),
        (
            "https://registry.example:8443/token",
            'realm host "registry.example:8443" does not match original host "registry.example"',
        ),
        (
            "http://registry.example/token",
            'realm host "http://registry.example" does not match original host "https://registry.example"',
        ),
        (
            "https://registry.example@evil.example/token",
            'realm host "evil.example" does not match original host "registry.example"',
        ),
        ("https://registry.example.evil.example/", 'realm host "registry.example.evil.example" does not match'),
        ("//evil.example/token", 'realm host "evil.example" does not match'),
        ("/token", 'realm host "" does not match original host "registry.example"'),
        ("file:///etc/passwd", 'realm host "" does not match original host "registry.example"'),
        ("https://me:secret@registry.example/token", "names a realm with a user name in it"),
        ("https://registry.example:port/", "names a realm that is no URL"),
        ("https://registry.example:" + "9" * 5000, "names a realm that is no URL"),
        ("https://[::/", "names a realm that is no URL"),
    ],
)
def test_a_realm_elsewhere_is_refused(realm, text):
    with pytest.raises(RegistryError) as raised:
        url_of(Challenge(realm, "s", (SCOPE,)))
    assert text in raised.value.message
    assert "secret" not in raised.value.message


class Guarded(HostileRegistry):
    """A registry that wants a token for everything, gives out ``token-1``, ``token-2`` and takes those in ``good``."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0
        self.good = {"token-1"}
        self.scope = "repository:library/x:pull"
        self.realm = f"http://{self.host}/token"
        self.answers["/token"] = self.give
        self.offer("library/x", self.guard)

    def give(self, _asked):
        self.given += 1
        return Answer(body=b'{"token": "token-%d"}' % self.given)

    def guard(self, asked):
        if asked.headers.get("authorization", "").removeprefix("Bearer ") in self.good:
            return Answer(body=b"{}")
        challenge = f'Bearer realm="{self.realm}",service="s",scope="{self.scope}"'
        return Answer(401, b"who?", {"WWW-Authenticate": challenge})


@pytest.fixture
def guarded():
    with Guarded() as server:
        yield server


def talk(registry, work, key, patience=IMPATIENT):
    """What ``work`` gives for the repository ``library/x``."""

    async def run():
        transport = Transport(patience)
        try:
            name = Name(registry.host, "library", "x", "latest")
            return await work(Registry(name, transport, key, insecure=True))
        finally:
            await transport.aclose()

    return asyncio.run(run())


@pytest.fixture
def key(tmp_path):
    return KeyPair(tmp_path)


def test_a_challenge_is_answered_with_a_token_that_the_key_has_signed_for(guarded, key):
    assert talk(guarded, Registry.manifest, key) == b"{}"
    manifest = "GET /v2/library/x/manifests/latest"
    assert guarded.paths() == [manifest, "GET /token", manifest]
    first, token, second = guarded.asked
    assert "authorization" not in first.headers
    assert second.headers["authorization"] == "Bearer token-1"

    query = parse_qsl(urlsplit(token.target).query)
    assert [name for name, _ in query] == ["nonce", "scope", "service", "ts"]
    assert dict(query)["scope"] == "repository:library/x:pull"
    assert len(base64.urlsafe_b64decode(dict(query)["nonce"] + "==")) == 16

    name, _, signature = token.headers["authorization"].partition(":")
    assert name == key.public_text.split()[1]
    empty = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
    signed = f"GET,{guarded.url}{token.target},{empty}".encode()
    load_ssh_public_key(key.public_text.encode()).verify(base64.b64decode(signature), signed)


def test_every_token_has_a_nonce_of_its_own(guarded, key):
    guarded.good = set()
    for _ in range(2):
        with pytest.raises(RegistryError):
            talk(guarded, Registry.manifest, key)
    nonces = {
        dict(parse_qsl(urlsplit(asked.target).query))["nonce"] for asked in guarded.asked if asked.path == "/token"
    }
    assert len(nonces) == 2


def test_requests_at_once_fetch_one_token(guarded, key):
    async def work(registry):
        await asyncio.gather(*(registry.manifest() for _ in range(6)))
        await registry.manifest()

    talk(guarded, work, key)
    assert guarded.given == 1
    # The seventh showed its token at once.
    assert guarded.asked[-1].headers["authorization"] == "Bearer token-1"
    assert len(guarded.asked) <= 6 * 2 + 1 + 1


def test_a_token_that_is_no_longer_good_is_fetched_anew(guarded, key):
    async def work(registry):
        await registry.manifest()
        guarded.good = {"token-2"}
        await registry.manifest()
        await registry.manifest()

    talk(guarded, work, key)
    assert guarded.given == 2


def test_tokens_are_kept_for_each_scope(guarded, key):
    def guard(asked):
        guarded.scope = "repository:library/x:pull" if asked.method == "GET" else "repository:library/x:pull,push"
        return guarded.guard(asked)

    guarded.good = {"token-1", "token-2"}
    guarded.offer("library/x", guard)

    async def work(registry):
        for _ in range(2):
            await registry.manifest()
            await registry.put_manifest(b"{}")

    talk(guarded, work, key)
    scopes = [
        dict(parse_qsl(urlsplit(asked.target).query))["scope"] for asked in guarded.asked if asked.path == "/token"
    ]
    assert scopes == ["repository:library/x:pull", "repository:library/x:pull,push"]


def test_a_token_that_is_refused_is_not_tried_forever(guarded, key):
    guarded.good = set()
    with pytest.raises(RegistryError) as raised:
        talk(guarded, Registry.manifest, key)
    assert (raised.value.message, raised.value.status) == ("unauthorized: access denied", 403)
    assert guarded.given == 1


@pytest.mark.parametrize("challenge", ['Basic realm="x"', "", "Bearer"])
def test_who_asks_for_something_else_is_refused(guarded, key, challenge):
    guarded.offer("library/x", Answer(401, headers={"WWW-Authenticate": challenge}))
    with pytest.raises(RegistryError) as raised:
        talk(guarded, Registry.manifest, key)
    assert raised.value.message == "unauthorized: access denied"
    assert guarded.given == 0


def test_nothing_is_sent_to_the_realm_of_another_host(guarded, key):
    with HostileRegistry() as elsewhere:
        guarded.realm = f"{elsewhere.url}/token"
        with pytest.raises(RegistryError) as raised:
            talk(guarded, Registry.manifest, key)
    assert raised.value.message == f'realm host "{elsewhere.host}" does not match original host "{guarded.host}"'
    assert elsewhere.accepted == 0


def test_the_answer_with_the_token_is_not_sent_elsewhere_by_a_redirect(guarded, key):
    with HostileRegistry() as elsewhere:
        guarded.answers["/token"] = Answer(307, headers={"Location": f"{elsewhere.url}/token"})
        with pytest.raises(RegistryError, match="no token: 307"):
            talk(guarded, Registry.manifest, key)
    assert elsewhere.accepted == 0


@pytest.mark.parametrize("body", [b'{"token": "token-1"}', b'{"access_token": "token-1", "expires_in": 300}'])
def test_both_names_of_the_token_are_known(guarded, key, body):
    guarded.answers["/token"] = Answer(body=body)
    assert talk(guarded, Registry.manifest, key) == b"{}"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Answer(body=b"secret"), id="no JSON"),
        pytest.param(Answer(body=b"[]"), id="a list"),
        pytest.param(Answer(body=b'{"token": 17}'), id="a number"),
        pytest.param(Answer(body=b"{}"), id="none in it"),
        pytest.param(Answer(body=b'{"token": ""}'), id="empty"),
        pytest.param(Answer(body=b'{"token": "a\\r\\nX-Secret: b"}'), id="with a line break"),
        pytest.param(Answer(body='{"token": "sécret"}'.encode()), id="not ASCII"),
        pytest.param(Answer(body=b"[" * 100_000), id="nested"),
        pytest.param(Answer(body=b'{"token": "' + b"a" * 2_000_000 + b'"}'), id="two million bytes"),
        pytest.param(Answer(body=(b" " * 65536 for _ in range(10_000)), length=None), id="no end"),
        pytest.param(Answer(403, b"not you"), id="403"),
        pytest.param(Answer(500, b"down"), id="500"),
    ],
)
def test_a_reply_without_a_token_is_an_error_that_tells_nothing_of_it(guarded, key, reply):
    guarded.answers["/token"] = reply
    with pytest.raises(RegistryError) as raised:
        talk(guarded, Registry.manifest, key)
    assert "token" in raised.value.message
    assert "secret" not in raised.value.message.lower()


def test_a_key_that_cannot_be_used_is_said_and_nothing_is_sent(guarded, key):
    key.path.write_bytes(b"broken")
    with pytest.raises(OllamaError, match="cannot be used"):
        talk(guarded, Registry.manifest, key)
    assert guarded.given == 0


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("as_faults", [True, False], ids=["in Docker's format", "as text"])
def test_a_registry_that_repeats_what_it_was_shown_gives_nothing_away(guarded, key, caplog, status, as_faults):
    def repeat(asked):
        shown = asked.headers["authorization"]
        said = json.dumps({"errors": [{"message": f"you said {shown}"}]}) if as_faults else f"you said {shown}"
        return Answer(status, said.encode())

    def guard(asked):
        return repeat(asked) if "authorization" in asked.headers else guarded.guard(asked)

    with caplog.at_level(logging.DEBUG):
        guarded.offer("library/x", guard)
        with pytest.raises(RegistryError, match=r"you said Bearer \.\.\.$") as raised:
            talk(guarded, Registry.manifest, key)
        guarded.answers["/token"] = repeat
        with pytest.raises(RegistryError, match=r"you said \.\.\.$") as unsigned:
            talk(guarded, Registry.manifest, key)
    signature = guarded.asked[-1].headers["authorization"]
    for text in (raised.value.message, unsigned.value.message, caplog.text):
        assert "token-1" not in text
        assert signature not in text


def test_tokens_and_signatures_stand_in_no_log(guarded, key, caplog):
    guarded.good = {"token-2"}
    with caplog.at_level(logging.DEBUG), pytest.raises(RegistryError):
        talk(guarded, Registry.manifest, key)
    assert "token-1" not in caplog.text
    assert guarded.asked[1].headers["authorization"] not in caplog.text
