"""The redirect policy: which addresses and URLs a registry may send us to."""

from __future__ import annotations

import asyncio
import ipaddress

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.registry.addresses import Reach, check_redirect, check_url, origin_of, reach, resolve
from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import RegistryError

PUBLIC, PRIVATE, LOOPBACK, FORBIDDEN = Reach


def inside_ipv6(address: ipaddress.IPv4Address) -> list[ipaddress.IPv6Address]:
    """An IPv4 address in all disguises that IPv6 knows."""
    number = int(address)
    whole = {
        "::ffff:0:0": number,  # mapped
        "64:ff9b::": number,  # NAT64
        "2002::": number << 80,  # 6to4
        "2001::": number ^ 0xFFFFFFFF,  # Teredo has the client's address inverted
    }
    return [ipaddress.IPv6Address(int(ipaddress.IPv6Address(base)) | bits) for base, bits in whole.items()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.1.1.1", PUBLIC),
        ("172.15.255.255", PUBLIC),
        ("172.32.0.0", PUBLIC),
        ("192.167.255.255", PUBLIC),
        ("100.63.255.255", PUBLIC),
        ("2606:4700::1111", PUBLIC),
        ("64:ff9b::1.1.1.1", PUBLIC),
        ("10.0.0.1", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("172.31.255.255", PRIVATE),
        ("192.168.178.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("198.18.0.1", PRIVATE),
        ("192.0.0.8", PRIVATE),
        ("fc00::1", PRIVATE),
        ("fdff::1", PRIVATE),
        ("fec0::1", PRIVATE),
        ("127.0.0.1", LOOPBACK),
        ("127.255.255.254", LOOPBACK),
        ("::1", LOOPBACK),
        ("0.0.0.0", FORBIDDEN),  # noqa: S104 - an address to be refused
        ("0.1.2.3", FORBIDDEN),
        ("169.254.0.1", FORBIDDEN),
        ("169.254.169.254", FORBIDDEN),
        ("100.100.100.200", FORBIDDEN),
        ("168.63.129.16", FORBIDDEN),
        ("192.0.0.192", FORBIDDEN),
        ("192.0.2.1", FORBIDDEN),
        ("198.51.100.1", FORBIDDEN),
        ("203.0.113.1", FORBIDDEN),
        ("192.88.99.1", FORBIDDEN),
        ("224.0.0.1", FORBIDDEN),
        ("239.255.255.255", FORBIDDEN),
        ("240.0.0.1", FORBIDDEN),
        ("255.255.255.255", FORBIDDEN),
        ("::", FORBIDDEN),
        ("fe80::1", FORBIDDEN),
        ("ff02::1", FORBIDDEN),
        ("2001:db8::1", FORBIDDEN),
        ("3fff::1", FORBIDDEN),
        ("100::1", FORBIDDEN),
        ("4000::1", FORBIDDEN),
        ("fd00:ec2::254", FORBIDDEN),
        ("::ffff:127.0.0.1", LOOPBACK),
        ("::127.0.0.1", LOOPBACK),
        ("::2", FORBIDDEN),
        ("64:ff9b::169.254.169.254", FORBIDDEN),
        ("64:ff9b:1::a00:1", FORBIDDEN),
    ],
)
def test_every_address_has_its_reach(text, expected):
    assert reach(ipaddress.ip_address(text)) is expected


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_hidden_in_ipv6_is_judged_as_what_it_is(address):
    assert {reach(hidden) for hidden in inside_ipv6(address)} == {reach(address)}


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public_here(address):
    if not address.is_global and not (address.version == 6 and any(address in net for net in TRANSLATED)):
        assert reach(address) is not PUBLIC


TRANSLATED = [
    ipaddress.ip_network(text) for text in ("64:ff9b::/96", "2001::/32", "::ffff:0:0/96", "::/96", "2002::/16")
]
"""Prefixes behind which IPv4 is reached: what they are depends on what is inside."""


def resolver(table):
    async def look_up(host, port):
        if host not in table:
            raise LineError(f"the name {host} is not known")
        return table[host]

    return look_up


NAMES = {
    "public.example": ["1.1.1.1", "2606:4700::1111"],
    "home.example": ["192.168.1.2"],
    "here.example": ["127.0.0.1"],
    "half.example": ["1.1.1.1", "10.0.0.1"],
    "hidden.example": ["::ffff:10.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "zone.example": ["fe80::1%eth0"],
}


def check(url, own=PUBLIC):
    asyncio.run(check_url(httpx2.URL(url), own, resolver(NAMES)))


@pytest.fixture
def _no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _proxy(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


@pytest.mark.usefixtures("_no_proxy")
@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://public.example/x", PUBLIC),
        ("https://public.example/x", PRIVATE),
        ("https://public.example/x", LOOPBACK),
        ("https://home.example:8443/x", PRIVATE),
        ("https://home.example/x", LOOPBACK),
        ("https://half.example/x", PRIVATE),
        ("http://127.0.0.1:5000/x", LOOPBACK),
        ("http://[::1]:5000/x", LOOPBACK),
        ("https://1.1.1.1/x", PUBLIC),
    ],
)
def test_an_address_no_more_private_than_the_registrys_own_may_be_asked(url, own):
    check(url, own)


@pytest.mark.usefixtures("_no_proxy")
@pytest.mark.parametrize(
    ("url", "own", "why"),
    [
        ("https://home.example/x", PUBLIC, "its address is private, the registry's is public"),
        ("https://half.example/x", PUBLIC, "its address is private, the registry's is public"),
        ("https://hidden.example/x", PUBLIC, "its address is private, the registry's is public"),
        ("https://here.example/x", PUBLIC, "its address is loopback, the registry's is public"),
        ("https://here.example/x", PRIVATE, "its address is loopback, the registry's is private"),
        ("https://localhost/x", PUBLIC, "its address is loopback, the registry's is public"),
        ("https://a.localhost/x", PUBLIC, "its address is loopback, the registry's is public"),
        ("https://127.1/x", PUBLIC, "its address is loopback, the registry's is public"),
        ("https://0x7f.0.0.1/x", PUBLIC, "its address is loopback, the registry's is public"),
        ("https://2130706433/x", PUBLIC, "its address is loopback, the registry's is public"),
        ("https://017700000001/x", PUBLIC, "its address is loopback, the registry's is public"),
        ("https://[::ffff:127.0.0.1]/x", PUBLIC, "its address is loopback, the registry's is public"),
        ("https://metadata.example/x", LOOPBACK, "no registry keeps anything at such an address"),
        ("http://169.254.169.254/latest/meta-data/", LOOPBACK, "no registry keeps anything at such an address"),
        ("https://zone.example/x", LOOPBACK, "no registry keeps anything at such an address"),
        ("http://0/x", LOOPBACK, "no registry keeps anything at such an address"),
    ],
)
def test_a_more_private_address_is_refused(url, own, why):
    with pytest.raises(RegistryError) as raised:
        check(url, own)
    assert raised.value.message.endswith(f"which is refused: {why}")
    assert raised.value.message.startswith("the registry redirects to http")
    assert raised.value.hint


@pytest.mark.usefixtures("_proxy")
def test_behind_a_proxy_a_name_is_the_proxys_business():
    check("https://home.example/x", PUBLIC)


@pytest.mark.usefixtures("_proxy")
@pytest.mark.parametrize("host", ["10.0.0.1", "127.1", "[::1]", "169.254.169.254", "localhost"])
def test_behind_a_proxy_literal_addresses_are_judged_all_the_same(host):
    with pytest.raises(RegistryError, match="is refused"):
        check(f"https://{host}/x", PUBLIC)


@pytest.mark.usefixtures("_no_proxy")
def test_a_name_that_is_not_known_may_be_known_soon():
    with pytest.raises(LineError, match=r"the name nowhere\.example is not known"):
        check("https://nowhere.example/x")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("https://a.example/v2/", "https://b.example:8443/x?sig=1"),
        ("http://a.example/v2/", "https://b.example/x"),
        ("http://a.example/v2/", "http://b.example/x"),
    ],
)
def test_a_redirect_may_lead_to_another_host(source, target):
    check_redirect(httpx2.URL(target), httpx2.URL(source))


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("https://a.example/", "http://a.example/", "https must not become http"),
        ("https://a.example/", "file:///etc/passwd", "it is neither http nor https"),
        ("http://a.example/", "ftp://b.example/x", "it is neither http nor https"),
        ("http://a.example/", "gopher://b.example/x", "it is neither http nor https"),
        ("http://a.example/", "javascript:alert(1)", "it is neither http nor https"),
        ("http://a.example/", "http:///x", "it is neither http nor https"),
        ("https://a.example/", "https://ada:secret@b.example/", "it has a user name in it"),
        ("https://a.example/", "https://a.example@b.example/", "it has a user name in it"),
    ],
)
def test_what_is_no_proper_redirect_is_refused(source, target, why):
    with pytest.raises(RegistryError) as raised:
        check_redirect(httpx2.URL(target), httpx2.URL(source))
    assert raised.value.message.endswith(why)
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/x", "https://A.example:443/y?z", True),
        ("http://a.example", "http://a.example:80", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://a.example.evil.example", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one, other, same):
    assert (origin_of(httpx2.URL(one)) == origin_of(httpx2.URL(other))) is same


def test_the_systems_resolver_gives_addresses():
    assert "127.0.0.1" in asyncio.run(resolve("localhost", 80))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "..", "a..b"])
def test_what_the_systems_resolver_does_not_know_is_a_line_error(host):
    with pytest.raises(LineError, match="is not known"):
        asyncio.run(resolve(host, 80))
